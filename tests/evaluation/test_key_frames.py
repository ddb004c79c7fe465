"""Boxes to draw, with a tracker whose mistakes are known."""

from __future__ import annotations

import numpy as np
import pytest

from siamtrack.cli import main
from siamtrack.data.sequence import VideoSequence
from siamtrack.evaluation.key_frames import KeyFrameFigures, measure_key_frames
from siamtrack.tracking.result import Result

COUNT = 20
AWAY = (500.0, 500.0, 10.0, 10.0)


class Pictures:
    """Frames that hold their own number."""

    def __len__(self) -> int:
        return COUNT

    def iterate(self, indices):
        return (np.full((4, 4, 3), k, np.uint8) for k in indices)


class KnownTracker:
    """Right everywhere but in some frames, in each direction; the frame tells which one it is."""

    def __init__(self, truth, bad_forward, bad_backward, wrong_score) -> None:
        self.truth, self.bad = truth, {1: set(bad_forward), -1: set(bad_backward)}
        self.wrong_score, self.state = wrong_score, None

    def init(self, image, box) -> None:
        self.state = int(image[0, 0, 0])

    def set_state(self, state) -> None:
        self.state = state

    def update(self, image) -> Result:
        frame = int(image[0, 0, 0])
        direction, self.state = frame - self.state, frame
        assert direction in (1, -1)
        wrong = frame in self.bad[direction]
        box = AWAY if wrong else tuple(self.truth[frame])
        return Result(box, self.wrong_score if wrong else 0.9, "tracked")


def figures(
    bad_forward=(), bad_backward=(), *, curved=False, hidden=(), wrong_score=0.3, **options
):
    truth = np.tile([0.0, 0.0, 30.0, 30.0], (COUNT, 1))
    truth[:, 0] = 3.0 * np.arange(COUNT)
    if curved:  # up to the middle, then back
        truth[COUNT // 2 :, 0] = truth[: COUNT // 2, 0][::-1]
        truth[:, 0] *= 3
    shown = truth.copy()
    shown[list(hidden)] = np.nan
    sequence = VideoSequence("one", "video", Pictures(), shown)
    tracker = KnownTracker(truth, bad_forward, bad_backward, wrong_score)
    return measure_key_frames(tracker, [sequence], every=10, **options)


def test_a_tracker_without_mistakes_needs_one_box_and_lines_as_many_as_they_have_corners() -> None:
    assert figures().boxes == (2, 2, 1, 1, 1, 1, 1)
    # From the middle on the target goes back: one corner in between, which the greedy way misses.
    best, greedy, tracked = figures(curved=True).boxes[:3]
    assert best == 3 < greedy and tracked == 1


def test_every_frame_where_it_fails_forward_costs_a_box() -> None:
    found = figures(bad_forward=[6, 7, 8], bad_backward=[6, 7, 8])
    assert found.boxes[2:4] == (4, 4) and found.picks == 0
    # What nobody sees is not asked for.
    assert figures([6, 7, 8], [6, 7, 8], hidden=[6, 7, 8]).boxes[2:] == (1,) * 5


def test_a_run_that_is_right_is_picked_instead_of_drawing() -> None:
    # Frame 12 must be drawn. From there back, 3 to 9 are wrong and as sure as the forward run, so
    # the nearer half of them is spoiled: another box each, or one key press for all.
    found = figures([12], range(3, 10), wrong_score=0.9)
    assert (found.boxes[2], found.boxes[6], found.picks) == (2, 2, 1) and found.boxes[3] > 2


def test_frames_between_key_frames() -> None:
    found = figures(bad_forward=[4], bad_backward=[4, 5], counts_boxes=False)
    # Key frames 0, 10 and 19; 17 frames between.
    assert (found.frames, found.between) == (20, 17) and found.boxes == (0,) * 7
    lines, forward, backward, blended = (values[0] for values in found.overlaps)
    assert lines == pytest.approx((1, 1))
    assert forward == pytest.approx((16 / 17, 16 / 17))
    assert backward[0] < forward[0]
    # In frame 5 the forward run is the surer one; in frame 4 both are wrong, and sure of nothing.
    assert blended == pytest.approx((16 / 17, 16 / 17))
    assert (found.checked, found.bad, found.found) == (2, 1, 1)
    assert found.updates == 2 * 19


def test_jitter_makes_drawn_boxes_differ_from_the_truth() -> None:
    assert figures(jitter=0.05, counts_boxes=False).overlaps[0][0][0] < 1


def test_the_summary_adds_up() -> None:
    both = figures(bad_forward=[6, 7]) + figures()
    assert both.frames == 40 and both.boxes[2] == 4
    text = "\n".join(both.summary_lines(10))
    assert "forward, where it first fails" in text and "100.0" in text
    assert "a key frame every 10" in text and len(KeyFrameFigures().summary_lines(5)) == 3


def test_an_unknown_sequence_is_named(tmp_path, write_clip, capsys) -> None:
    write_clip(tmp_path / "dog.mp4", 3)
    (tmp_path / "dog.txt").write_text("1,1,20,20\n" * 3)
    arguments = ["key-frames", "siamtrack-lite0", f"folder:{tmp_path}", "--only", "dgo"]
    assert main(arguments) == 2
    assert "did you mean 'dog'" in capsys.readouterr().err
