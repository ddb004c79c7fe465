"""Trackers of OpenCV and what `update` may return."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from siamtrack.errors import ConfigError, EvaluationError
from siamtrack.evaluation.trackers import (
    CLASSIC,
    IdentityTracker,
    OpenCvTracker,
    box_of,
    opencv_tracker,
)


class FakeOpenCv:
    """Notes what OpenCV would be given; finds the target every second time."""

    def __init__(self):
        self.given, self.calls = None, 0

    def init(self, image, box):
        self.given = box

    def update(self, image):
        self.calls += 1
        return self.calls % 2 == 1, (self.calls, 2, 3, 4)


FRAME = np.zeros((20, 20, 3), np.uint8)


def test_opencv_gets_whole_pixels_and_keeps_its_box_when_it_fails():
    made = []
    tracker = OpenCvTracker(lambda: made.append(FakeOpenCv()) or made[-1])
    tracker.init(FRAME, (1.6, 2.4, 0.2, 7.5))
    assert made[0].given == (2, 2, 1, 8)
    assert tracker.update(FRAME) == (1.0, 2.0, 3.0, 4.0)
    assert tracker.update(FRAME) == (1.0, 2.0, 3.0, 4.0)
    assert tracker.update(FRAME) == (3.0, 2.0, 3.0, 4.0)


def test_every_init_makes_a_fresh_opencv_tracker():
    made = []
    tracker = OpenCvTracker(lambda: made.append(FakeOpenCv()) or made[-1])
    tracker.init(FRAME, (1, 1, 5, 5))
    tracker.init(FRAME, (1, 1, 5, 5))
    assert len(made) == 2


def test_the_opencv_that_is_installed_tracks(rng):
    scene = cv2.resize(rng.integers(0, 255, (12, 16, 3)).astype(np.uint8), (160, 120))
    tracker = opencv_tracker("mil", {})
    tracker.init(scene, (60.0, 40.0, 30.0, 30.0))
    box = np.array(tracker.update(scene))
    assert np.abs(box - [60, 40, 30, 30]).max() <= 4


@pytest.mark.parametrize("name", CLASSIC)
def test_trackers_of_another_opencv_package_name_the_package(name, monkeypatch):
    monkeypatch.delattr(cv2, CLASSIC[name], raising=False)
    monkeypatch.delattr(cv2, "legacy", raising=False)
    with pytest.raises(EvaluationError, match="opencv-contrib-python"):
        opencv_tracker(name, {})


@pytest.mark.parametrize("name", CLASSIC)
def test_trackers_in_the_legacy_module_are_found(name, monkeypatch):
    monkeypatch.delattr(cv2, CLASSIC[name], raising=False)
    legacy = SimpleNamespace(**{CLASSIC[name]: FakeOpenCv})
    monkeypatch.setattr(cv2, "legacy", legacy, raising=False)
    tracker = opencv_tracker(name, {})
    tracker.init(FRAME, (1, 1, 5, 5))
    assert tracker.update(FRAME) == (1.0, 2.0, 3.0, 4.0)


def test_model_files_are_asked_for_by_their_flags(tmp_path):
    with pytest.raises(ConfigError, match=r"--backbone FILE.onnx --head FILE.onnx"):
        opencv_tracker("nano", {})
    there = tmp_path / "backbone.onnx"
    there.write_bytes(b"not a network")
    with pytest.raises(EvaluationError, match=r"head.onnx of opencv:nano does not exist"):
        opencv_tracker("nano", {"backbone": str(there), "head": str(tmp_path / "head.onnx")})


@pytest.mark.parametrize(("name", "options"), [("nano", ("backbone", "head")), ("vit", ("net",))])
def test_model_files_that_are_no_networks_are_refused(name, options, tmp_path):
    path = tmp_path / "network.onnx"
    path.write_bytes(b"not a network")
    tracker = opencv_tracker(name, dict.fromkeys(options, str(path)))
    with pytest.raises(EvaluationError, match=f"cannot make opencv:{name} from"):
        tracker.init(FRAME, (1, 1, 5, 5))


def test_unknown_names_and_options_are_refused():
    with pytest.raises(ConfigError, match=r"no OpenCV tracker named 'cssrt'.*csrt"):
        opencv_tracker("cssrt", {})
    with pytest.raises(ConfigError, match="has no option speed; it takes none"):
        opencv_tracker("mil", {"speed": 3})


@pytest.mark.parametrize(
    "output",
    [
        (1, 2, 3, 4),
        [1.0, 2, 3, 4],
        np.array([1, 2, 3, 4]),
        SimpleNamespace(box=(1, 2, 3, 4), score=0.3),
        (True, (1, 2, 3, 4)),
    ],
)
def test_boxes_are_found_in_what_trackers_return(output):
    np.testing.assert_array_equal(box_of(output), [1, 2, 3, 4])


@pytest.mark.parametrize("output", [None, 3, "box", (1, 2, 3), (True, None), {"box": 1}])
def test_what_holds_no_box_is_refused(output):
    with pytest.raises(EvaluationError, match="must return x, y, w, h"):
        box_of(output)


def test_the_identity_tracker_stays():
    tracker = IdentityTracker()
    tracker.init(FRAME, (1.5, 2, 3, 4))
    assert tracker.update(FRAME) == (1.5, 2, 3, 4)
