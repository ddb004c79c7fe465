"""A program with the calls of OpenCV's sample `tracker.py`, and siamtrack as its tracker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytestmark = [pytest.mark.display, pytest.mark.timeout(1800)]

FRAMES, STEP, SIDE = 8, 3, 40

# OpenCV's calls in the order of its sample. What a person drags is given: a click first, which is
# no box and is asked for again, then the square.
PROGRAM = """
import cv2 as cv
import siamtrack

dragged = iter([(0, 0, 0, 0), (50, 60, 40, 40)])
cv.selectROI = lambda window, image: next(dragged)


class App:
    def choose(self, image):
        while True:
            tracker = siamtrack.OpenCVTracker(engine="onnx")
            roi = cv.selectROI("tracking", image)
            try:
                tracker.init(image, roi)
            except Exception as error:
                print("again:", error)
                continue
            return tracker

    def run(self):
        camera = cv.VideoCapture("clip.avi")
        ok, image = camera.read()
        cv.namedWindow("tracking")
        tracker = self.choose(image)
        while camera.isOpened():
            ok, image = camera.read()
            if not ok:
                break
            ok, box = tracker.update(image)
            print("box:", ok, *box)
            if ok:
                cv.rectangle(image, box, (200, 0, 0))
            cv.imshow("tracking", image)
            key = cv.waitKey(1)
            if key == 32:
                tracker = self.choose(image)
            if key == 27:
                break


App().run()
cv.destroyAllWindows()
"""


def test_the_calls_of_opencvs_sample(start: Callable[..., Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    ground = rng.integers(60, 120, (160, 200, 3), np.uint8)
    square = rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    writer = cv2.VideoWriter(
        str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (200, 160)
    )
    for k in range(FRAMES):
        image = ground.copy()
        image[60 : 60 + SIDE, 50 + STEP * k : 50 + STEP * k + SIDE] = square
        writer.write(image)
    writer.release()
    code, told = start("-c", PROGRAM).end()
    assert code == 0, told
    assert sum(line.startswith("again: box [0.0, 0.0, 0.0, 0.0] has no area") for line in told) == 1
    boxes = [line.split()[1:] for line in told if line.startswith("box:")]
    assert len(boxes) == FRAMES - 1
    for k, (ok, *box) in enumerate(boxes, 1):
        x, y, w, h = map(int, box)  # whole numbers
        assert ok == "True"
        assert abs(x + w / 2 - (70 + STEP * k)) < 6 and abs(y + h / 2 - 80) < 6
