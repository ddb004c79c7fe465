"""`siamtrack track` with a real window, real keys and a real mouse."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytestmark = [pytest.mark.display, pytest.mark.timeout(1800)]

FRAMES, WIDTH, HEIGHT = 20, 640, 480
SIDE = 60
TITLE = "siamtrack - clip"

# Follows a template by brute force, so that the test needs no weights, then runs the command.
TRACK = """
import sys
import cv2
import siamtrack
from siamtrack.cli import main
from siamtrack.tracking.result import Result
from siamtrack.video.run import first_frame_result


class Template:
    budget = None

    def __init__(self):
        self.templates = {}

    @property
    def targets(self):
        return tuple(self.templates)

    def reinit(self, target, frame, box):
        x, y, w, h = map(round, first_frame_result(box, frame).box)
        self.templates[target] = frame[y : y + h, x : x + w].copy()

    def add(self, frame, box):
        target = len(self.templates)
        self.reinit(target, frame, box)
        return target

    def update(self, frame):
        results = {}
        for target, template in self.templates.items():
            match = cv2.matchTemplate(frame, template, cv2.TM_SQDIFF)
            x, y = cv2.minMaxLoc(match)[2]
            h, w = template.shape[:2]
            results[target] = Result((float(x), float(y), float(w), float(h)), 0.9, "tracked")
        return results


siamtrack.load_multi = lambda **arguments: Template()
sys.exit(main(["--debug", "track", "clip.mp4", *sys.argv[1:]]))
"""


def square(k: int, which: int = 0) -> tuple[int, int, int, int]:
    """Where one of the two squares is in frame k: one moves right, the other one down."""
    return (100 + 6 * k, 100, SIDE, SIDE) if which == 0 else (400, 200 + 6 * k, SIDE, SIDE)


def make_clip(folder: Path, fps: int = 25, frames: int = FRAMES) -> None:
    """Noise, and on it two textured squares, each with its own texture and way, then at rest."""
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 120, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    background = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    textures = [
        cv2.resize(rng.integers(90, 255, (6, 6, 3), np.uint8), (SIDE, SIDE)) for _ in range(2)
    ]
    path = str(folder / "clip.mp4")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), fps, (WIDTH, HEIGHT))
    for k in range(frames):
        image = background.copy()
        for which, texture in enumerate(textures):
            x, y, w, h = square(min(k, FRAMES - 1), which)
            image[y : y + h, x : x + w] = texture
        writer.write(image)
    writer.release()


def read_boxes(path: Path) -> dict[tuple[int, int], tuple[float, ...]]:
    """Boxes by frame and target."""
    with path.open(newline="") as file:
        return {
            (int(row["frame"]), int(row["target"])): tuple(float(row[c]) for c in "xywh")
            for row in csv.DictReader(file)
        }


def corners(box: tuple[int, int, int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    x, y, w, h = box
    return (x, y), (x + w, y + h)


def test_drag_a_box_and_get_the_boxes_of_the_whole_clip(
    desk: Any, start: Callable[..., Any], tmp_path: Path
) -> None:
    make_clip(tmp_path)
    program = start("-c", TRACK, "--csv", "b.csv", "--save", "v.mp4")
    window = desk.find_listening_window(program, TITLE)
    top_left, bottom_right = corners(square(0))
    desk.drag(program, window, bottom_right, top_left)
    code, told = program.end()
    assert code == 0, told
    boxes = read_boxes(tmp_path / "b.csv")
    assert sorted(boxes) == [(k, 0) for k in range(FRAMES)]
    for (k, _), box in boxes.items():
        assert box == pytest.approx(square(k), abs=2)
    capture = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES


def test_every_key_does_what_the_banner_says(
    desk: Any, start: Callable[..., Any], tmp_path: Path
) -> None:
    make_clip(tmp_path)
    program = start("-c", TRACK, "--csv", "b.csv")
    window = desk.find_listening_window(program, TITLE)

    def press(key: str, told: str) -> None:
        desk.press(program, key, told)

    def drag(box: tuple[int, int, int, int]) -> None:
        desk.drag(program, window, *corners(box))

    press("space", "'space'): SELECT")  # hold the first frame for several boxes
    drag((500, 300, 1, 1))  # a click is no box
    drag(square(0, 0))
    press("a", "SELECT")
    drag(square(0, 1))
    press("n", "frame 0: Key(name='n'): PAUSED")
    press("n", "frame 1: Key(name='n'): PAUSED")
    press("s", "snapshot saved")
    press("r", "SELECT")
    press("0", "SELECT")
    drag(square(2, 1))  # target 0 is to follow the other square from here on
    press("n", "frame 2: Key(name='n'): PAUSED")
    press("r", "SELECT")
    press("Escape", "PAUSED")  # as it was
    press("n", "frame 3: Key(name='n'): PAUSED")
    press("q", "Key(name='q')")
    code, told = program.end()
    assert code == 0, told

    boxes = read_boxes(tmp_path / "b.csv")
    assert sorted(boxes) == [(k, target) for k in range(5) for target in (0, 1)]
    for (k, target), box in boxes.items():
        where = square(k, 0 if target == 0 and k < 2 else 1)
        assert box == pytest.approx(where, abs=2), (k, target)
    saved = cv2.imread(str(tmp_path / "clip-frame000002.png"))
    assert saved.shape == (HEIGHT, WIDTH, 3)


def test_a_given_box_is_shown_and_closing_the_window_ends_it(
    desk: Any, start: Callable[..., Any], tmp_path: Path
) -> None:
    count = 600  # at 1 frame per second the window would stay open for ten minutes
    make_clip(tmp_path, fps=1, frames=count)
    box = ",".join(map(str, square(0)))
    program = start("-c", TRACK, "--box", box, "--csv", "b.csv")
    window = desk.find_listening_window(program, TITLE)
    desk.press(program, "space", "PAUSED")
    desk.ask_to_close(window)
    code, told = program.end()
    assert code == 0, told
    frames = [k for k, _ in read_boxes(tmp_path / "b.csv")]
    assert frames == list(range(len(frames))) and 1 <= len(frames) < count
