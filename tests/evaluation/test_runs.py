"""One tracker over one sequence: variants, corruptions, and what becomes of what it returns."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

import siamtrack
from siamtrack.errors import ConfigError, EvaluationError, InvalidFrameError
from siamtrack.evaluation.datasets import open_benchmark
from siamtrack.evaluation.runs import (
    CORRUPTIONS,
    FAMILIES,
    STRENGTHS,
    TimedTracker,
    corrupt,
    run_variant,
    variant_named,
    variants_of,
)
from siamtrack.tracking.tracker import StatusFilter


class Recorder:
    """Notes what it is given and answers with boxes of its own numbering."""

    def __init__(self, answers=None):
        self.given, self.frames, self.answers = None, [], answers

    def init(self, frame_bgr, box):
        self.given = box
        self.frames.append(frame_bgr)

    def update(self, frame_bgr):
        self.frames.append(frame_bgr)
        number = len(self.frames) - 1
        return self.answers if self.answers is not None else (number, 0.0, 5.0, 5.0)


class Clock:
    """Every call of a tracker takes as long as the list says."""

    def __init__(self, durations):
        self.now, self.durations, self.running = 0.0, iter(durations), False

    def __call__(self):
        if self.running:
            self.now += next(self.durations)
        self.running = not self.running
        return self.now


@pytest.fixture
def walk(clips):
    return open_benchmark("clips", clips({"walk": 8})).load("walk")


def run(tracker, sequence, variant="ope", **session):
    return run_variant(TimedTracker(tracker, **session), sequence, variant_named(variant))


def test_ope_gives_the_true_box_once_and_every_frame_in_order(walk):
    tracker, beats = Recorder(), []
    result = run(tracker, walk, heartbeat=beats.append)
    assert tracker.given == tuple(walk.boxes_xywh[0])
    assert all(type(value) is float for value in tracker.given)
    assert len(tracker.frames) == 8 and beats == list(range(8))
    np.testing.assert_array_equal(result.rows[0], walk.boxes_xywh[0])
    assert [row[0] for row in result.rows[1:]] == [1, 2, 3, 4, 5, 6, 7]
    brightest = [np.argmax(frame[..., 1].max(axis=0) > 150) for frame in tracker.frames]
    assert brightest == sorted(brightest) and brightest[0] < brightest[-1]


def test_only_the_tracker_is_timed(walk):
    result = run(Recorder(), walk, clock=Clock([0.5, *[0.125] * 7]))
    assert result.times_s == [0.5, *[0.125] * 7]


def test_rows_are_in_the_coordinates_of_the_annotation(otb):
    sequence = open_benchmark("otb100", otb()).load("Deer")
    tracker = Recorder()
    result = run(tracker, sequence)
    assert tracker.given == (7.0, 9.0, 16.0, 14.0)
    assert result.rows[0] == [8.0, 10.0, 16.0, 14.0]
    assert result.rows[1] == [2.0, 1.0, 5.0, 5.0]


def test_tre_starts_in_the_middle(walk):
    tracker = Recorder()
    result = run(tracker, walk, "tre-10")
    assert result.start == 4 and len(result.rows) == 4
    assert tracker.given == tuple(walk.boxes_xywh[4])


def test_sre_initializes_with_the_shifted_box(walk):
    tracker = Recorder()
    run(tracker, walk, "sre-right")
    assert tracker.given[0] == pytest.approx(walk.boxes_xywh[0][0] + 1.6)


def test_corrupted_frames_reach_the_tracker(walk):
    clean, dark = Recorder(), Recorder()
    run(clean, walk)
    run(dark, walk, "brightness-5")
    assert dark.frames[3].mean() < 0.3 * clean.frames[3].mean()


def test_realtime_fast_tracker_sees_every_frame(walk):
    result = run(Recorder(), walk, "realtime-10", clock=Clock([9.0, *[0.09] * 7]))
    assert [row[0] for row in result.rows[1:]] == [1, 2, 3, 4, 5, 6, 7]


def test_realtime_late_frame_keeps_the_last_box(walk):
    # At 10 fps frame i comes at i / 10 s. Frame 1 takes until 0.35 s: frames 1 and 2 keep the first
    # box, frame 3 is answered for at 0.4 s with the box of frame 1. At 0.35 s the newest frame is
    # frame 3, which takes until 0.4 s, in time for itself.
    tracker = Recorder()
    result = run(
        tracker, walk, "realtime-10", clock=Clock([0.0, 0.25, 0.05, 0.05, 0.05, 0.05, 0.05])
    )
    first = walk.boxes_xywh[0][0]
    assert [row[0] for row in result.rows] == [first, first, first, 2, 3, 4, 5, 6]
    assert np.isnan(result.times_s[2]) and not np.isnan(result.times_s[3])
    assert len(tracker.frames) == 7


def test_realtime_reports_a_finished_box_while_the_next_is_pending(walk):
    # Frame 1 is done at 0.35 s and frame 3 is taken up then, until 0.7 s: frames 3, 4 and 5 are
    # answered for with the box of frame 1, frame 6 just in time with that of frame 3.
    clock = Clock([0.0, 0.25, 0.35, 0.05])
    result = run(Recorder(), walk, "realtime-10", clock=clock)
    first = walk.boxes_xywh[0][0]
    assert [row[0] for row in result.rows] == [first, first, first, 1, 1, 1, 2, 3]


def test_realtime_slow_tracker_keeps_its_first_box(walk):
    result = run(Recorder(), walk, "realtime-10", clock=Clock([0.0, 5.0]))
    assert {row[0] for row in result.rows} == {walk.boxes_xywh[0][0]}


def walk_of(clips, frames, absent=()):
    """A sequence whose target is absent in some frames."""
    root = clips({"walk": frames})
    lines = (root / "walk.txt").read_text().splitlines()
    for frame in absent:
        lines[frame] = "nan,nan,nan,nan"
    (root / "walk.txt").write_text("\n".join(lines) + "\n")
    return open_benchmark("clips", root).load("walk")


class Scripted:
    """Has the true box except in the frames of `wrong`; notes its calls."""

    def __init__(self, sequence, wrong):
        self.truth, self.wrong = np.nan_to_num(sequence.boxes_xywh, nan=5.0), set(wrong)
        self.frame, self.calls = 0, []

    def init(self, frame_bgr, box):
        self.calls.append(("init", self.frame, box))

    def move_to(self, box):
        self.calls.append(("move_to", self.frame, tuple(box)))

    def update(self, frame_bgr):
        self.frame += 1
        self.calls.append(("update", self.frame))
        return self.truth[self.frame] + [60.0 * (self.frame in self.wrong), 0, 0, 0]


def test_a_failure_is_ten_frames_in_a_row_and_the_tracker_starts_anew(clips):
    walk = walk_of(clips, 40)
    # Nine wrong, one right, ten wrong: a failure on frame 20; then another ten, and nine.
    tracker = Scripted(walk, [*range(1, 10), *range(11, 21), *range(21, 31), *range(31, 40)])
    result = run(tracker, walk, "failures", clock=Clock([0.5] * 100))
    codes = {frame: row for frame, row in enumerate(result.rows) if len(row) == 1}
    assert codes == {0: [1.0], 20: [2.0], 30: [2.0]}
    starts = [call for call in tracker.calls if call[0] == "init"]
    assert starts == [("init", frame, tuple(walk.boxes_xywh[frame])) for frame in (0, 20, 30)]
    assert result.times_s[19:22] == [0.5, 1.0, 0.5]
    assert result.rows[10] == walk.boxes_xywh[10].tolist()


def test_absent_frames_neither_make_nor_end_a_failure(clips):
    walk = walk_of(clips, 20, absent=range(5, 9))
    result = run(Scripted(walk, range(1, 20)), walk, "failures")
    assert [frame for frame, row in enumerate(result.rows) if row == [2.0]] == [14]


def test_an_overlap_above_a_tenth_is_no_failure(clips):
    walk = walk_of(clips, 12)

    class Shifted(Scripted):
        def update(self, frame_bgr):
            box = super().update(frame_bgr)
            box[2] *= self.share  # a box inside the truth: its share is the overlap
            return box

    for share, failures in ((0.125, 0), (0.0625, 1)):
        tracker = Shifted(walk, [])
        tracker.share = share
        assert run(tracker, walk, "failures").rows.count([2.0]) == failures


def test_picks_start_from_the_truth_of_the_frame_before(clips):
    walk = walk_of(clips, 9, absent=[4])
    tracker = Scripted(walk, [])
    tracker.update = lambda frame_bgr: tracker.calls.append("update") or (1.0, 2.0, 3.0, 4.0)
    result = run(tracker, walk, "picks")
    moves = [call[2] for call in tracker.calls[1:] if call != "update"]
    # Frame 4 has nothing to pick, and nothing is known before frame 5.
    assert moves == [tuple(walk.boxes_xywh[frame - 1]) for frame in (1, 2, 3, 6, 7, 8)]
    assert [len(row) for row in result.rows] == [1, 4, 4, 4, 1, 1, 4, 4, 4]
    assert [result.rows[k] for k in (0, 4, 5)] == [[1.0], [0.0], [0.0]]
    assert np.isnan(result.times_s[4]) and result.times_s[3] > 0


def test_picks_of_our_tracker_are_those_of_a_tracker_moved_by_hand(clips):
    walk = walk_of(clips, 6)
    frames, truth = list(walk.frames.iterate(range(6))), walk.boxes_xywh
    rows = run(siamtrack.load(engine="torch"), walk, "picks").rows
    tracker = siamtrack.load(engine="torch")
    tracker.init(frames[0], truth[0])
    for frame in range(1, 6):
        state = dataclasses.replace(
            tracker.state, box_xywh=truth[frame - 1], status_filter=StatusFilter(), whole_frames=1
        )
        tracker.set_state(state)
        assert rows[frame] == list(tracker.update(frames[frame]).box)


class Broken:
    def __init__(self, error, where="update"):
        self.error, self.where = error, where

    def init(self, frame_bgr, box):
        if self.where == "init":
            raise self.error

    def update(self, frame_bgr):
        raise self.error


@pytest.mark.parametrize(
    ("tracker", "message"),
    [
        (Broken(ValueError("no idea")), "frame 1: update raised ValueError: no idea"),
        (Broken(InvalidFrameError("too small")), "frame 1: update: too small"),
        (Broken(KeyError("x"), "init"), "frame 0: init raised KeyError: 'x'"),
        (Recorder((1, np.nan, 2, 2)), r"frame 1: update returned the box \[1.0, nan"),
        (Recorder((1, 1, -2, 2)), "not negative"),
        (Recorder((1, 1, 2)), r"frame 1: update returned \(1, 1, 2\); it must return x, y, w, h"),
        (Recorder("left"), "it must return x, y, w, h"),
    ],
)
def test_tracker_errors_name_the_frame(tracker, message, walk):
    with pytest.raises(EvaluationError, match=message):
        run(tracker, walk)


BOX = np.array([100.0, 50.0, 40.0, 20.0])
SEEN = np.ones(100, dtype=bool)


@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("ope", [100, 50, 40, 20]),
        ("sre-left", [96, 50, 40, 20]),
        ("sre-down", [100, 52, 40, 20]),
        ("sre-up-right", [104, 48, 40, 20]),
        ("sre-scale-0.8", [104, 52, 32, 16]),
        ("sre-scale-1.2", [96, 48, 48, 24]),
    ],
)
def test_first_boxes_are_shifted_by_a_tenth_or_scaled_about_the_center(name, box):
    np.testing.assert_allclose(variant_named(name).first_box(BOX), box)


def test_sre_has_eight_shifts_and_four_scales_all_different():
    boxes = {tuple(variant.first_box(BOX)) for variant in variants_of("sre")}
    assert len(boxes) == 12 and tuple(BOX) not in boxes


def test_the_first_box_is_a_copy():
    variant_named("ope").first_box(BOX)[:] = 0
    assert BOX[0] == 100


def test_tre_starts_are_spread_over_the_sequence():
    starts = [variant.start_frame(SEEN) for variant in variants_of("tre")]
    assert starts == list(range(0, 100, 5))


def test_tre_starts_on_visible_frames_with_a_later_visible_frame():
    visible = SEEN.copy()
    visible[48:60] = False
    visible[80:] = False
    starts = {v.name: v.start_frame(visible) for v in variants_of("tre")}
    assert starts["tre-10"] == 60
    assert starts["tre-19"] == 78  # one visible frame must remain after it


def test_tre_needs_two_visible_frames():
    with pytest.raises(EvaluationError, match="two frames"):
        variant_named("tre-03").start_frame(np.arange(10) == 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_variants_are_found_by_name(family):
    for variant in variants_of(family, fps=29.97):
        assert variant_named(variant.name) == variant


def test_unknown_variants_and_families_are_rejected():
    with pytest.raises(ConfigError, match="did you mean 'sre-left'"):
        variant_named("sre-lefft")
    with pytest.raises(ConfigError, match="unknown protocol 'opa'; did you mean 'ope'"):
        variants_of("opa")
    with pytest.raises(ConfigError, match="positive rate"):
        variants_of("realtime", fps=0)


@pytest.fixture
def scene(rng):
    blocks = rng.integers(0, 255, (12, 16, 3)).astype(np.uint8)
    return cv2.resize(blocks, (160, 120), interpolation=cv2.INTER_NEAREST)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruption_grows_with_strength_and_copies_the_frame(kind, scene):
    before = scene.copy()
    damage = []
    for strength in range(1, STRENGTHS + 1):
        worse = corrupt(scene, kind, strength, "walk", 3)
        assert worse.dtype == np.uint8 and worse.shape == scene.shape
        damage.append(np.abs(worse.astype(float) - scene).mean())
    assert damage[0] > 0 and damage == sorted(damage)
    np.testing.assert_array_equal(scene, before)


def test_noise_depends_only_on_sequence_and_frame(scene):
    grain = [corrupt(scene, "noise", 2, name, frame) for name, frame in
             [("walk", 3), ("walk", 3), ("walk", 4), ("run", 3)]]  # fmt: skip
    np.testing.assert_array_equal(grain[0], grain[1])
    assert (grain[0] != grain[2]).any() and (grain[0] != grain[3]).any()
