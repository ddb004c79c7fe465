"""The resolver: which box a target has in a frame, from key frames, runs and picks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamtrack.tracking import track as track_module
from siamtrack.tracking.track import (
    BACKWARD,
    BLEND,
    FORWARD,
    KEY,
    LINE,
    LOST,
    NO_SOURCE,
    NOTHING,
    OUTSIDE,
    ROW,
    STALE,
    TRACKED,
    UNCERTAIN,
    KeyFrame,
    Pick,
    TargetTrack,
    TrackingRun,
    candidates,
    fill_steps,
    resolve,
    stretches_to_check,
)

BOX = (10.0, 20.0, 30.0, 40.0)


def run(start, direction, boxes, scores=None, statuses=None, box=BOX, step=1):
    """A run with a row for each box, beginning one step after its key frame."""
    rows = np.zeros(len(boxes), ROW)
    rows["frame"] = start + direction * step * (1 + np.arange(len(boxes)))
    rows["box"], rows["score"] = boxes, 0.9 if scores is None else scores
    rows["status"] = TRACKED if statuses is None else statuses
    return TrackingRun(start, box, direction, rows)


def moved(dx, dy=0.0, box=BOX):
    return (box[0] + dx, box[1] + dy, box[2], box[3])


def overlap(a, b):
    """IoU by hand."""
    w = max(0.0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    return w * h / (a[2] * a[3] + b[2] * b[3] - w * h)


def oracle(start, end, box_a, box_b, ahead, back, scores_f, scores_b):
    """The blend of two runs, frame by frame and number by number.

    `ahead[k]` is the forward box of frame start + 1 + k up to `end`, `back[k]` the backward box of
    frame start + k up to end - 1.
    """
    rows = []
    for frame in range(start + 1, end):
        t = (frame - start) / (end - start)
        f, b = ahead[frame - start - 1], back[frame - start]
        s_f, s_b = scores_f[frame - start - 1], scores_b[frame - start]
        agreement = overlap(f, b)
        if overlap(ahead[-1], box_b) >= 0.5:
            f = [v + t * (e - w) for v, e, w in zip(f, box_b, ahead[-1], strict=True)]
        if overlap(back[0], box_a) >= 0.5:
            b = [v + (1 - t) * (e - w) for v, e, w in zip(b, box_a, back[0], strict=True)]
        w_f, w_b = s_f**2 * (1 - t) + 1e-6, s_b**2 * t + 1e-6
        share = w_f / (w_f + w_b)
        if agreement >= 0.5:
            box = [share * v + (1 - share) * w for v, w in zip(f, b, strict=True)]
        else:
            box = f if share >= 0.5 else b
        score = max(s_f, s_b) * min(1.0, agreement / 0.5)
        rows.append((box, score, agreement))
    return rows


def test_after_the_last_key_frame_its_run_and_before_the_first_one_its_backward_run() -> None:
    track = TargetTrack(
        {5: KeyFrame(BOX)},
        [run(5, 1, [moved(1), moved(2)], scores=[0.8, 0.7]), run(5, -1, [moved(-1)])],
    )
    rows = resolve(track, 3, 8)
    assert rows.sources.tolist() == [NO_SOURCE, BACKWARD, KEY, FORWARD, FORWARD, NO_SOURCE]
    assert rows.boxes[1:5].tolist() == [list(b) for b in (moved(-1), BOX, moved(1), moved(2))]
    assert rows.scores[2:5].tolist() == [1, 0.8, 0.7]
    assert np.isnan(rows.boxes[[0, 5]]).all() and not rows.present[[0, 5]].any()
    assert {k: r.box for k, r in rows.results().items()} == {
        4: moved(-1), 5: BOX, 6: moved(1), 7: moved(2)
    }  # fmt: skip


@given(
    st.lists(st.floats(-15, 15), min_size=12, max_size=12),
    st.lists(st.floats(-15, 15), min_size=12, max_size=12),
    st.lists(st.floats(0.05, 1), min_size=12, max_size=12),
    st.floats(-20, 20),
)
def test_between_two_key_frames_both_runs_are_blended(offsets_f, offsets_b, scores, shift) -> None:
    end_box = moved(shift)
    ahead = [moved(d, d / 2) for d in offsets_f]  # frames 3 to 14
    back = [moved(shift + d, -d) for d in offsets_b]  # frames 2 to 13
    track = TargetTrack(
        {2: KeyFrame(BOX), 14: KeyFrame(end_box)},
        [
            run(2, 1, ahead, scores=scores),
            run(14, -1, back[::-1], scores=scores[::-1], box=end_box),
        ],
    )
    rows = resolve(track, 0, 20)
    wanted = oracle(2, 14, BOX, end_box, ahead, back, scores, scores)
    for k, (box, score, agreement) in enumerate(wanted):
        assert rows.agreements[3 + k] == pytest.approx(agreement, abs=1e-9)
        if abs(agreement - 0.5) > 1e-9:
            assert rows.boxes[3 + k].tolist() == pytest.approx(box, abs=1e-6)
        assert rows.scores[3 + k] == pytest.approx(score, abs=1e-9)
        assert rows.checks[3 + k] == (min(score, agreement) < 0.5)
    assert (rows.sources[3:14] == BLEND).all()
    # The key frames are as they were drawn, and a part of the range gives the same.
    assert rows.boxes[[2, 14]].tolist() == [list(BOX), list(end_box)]
    assert resolve(track, 6, 9).boxes.tobytes() == rows.boxes[6:10].tobytes()


@pytest.mark.parametrize("part", [1, 4, 7])
def test_a_long_clip_is_resolved_in_parts_that_join(part, monkeypatch) -> None:
    steps = np.sin(np.arange(12)).tolist()
    track = TargetTrack(
        {2: KeyFrame(BOX), 14: KeyFrame(moved(3))},
        [
            run(2, 1, [moved(9 * d) for d in steps], scores=[0.5 + d / 3 for d in steps]),
            run(14, -1, [moved(3 + 9 * d, d) for d in steps], box=moved(3)),
            run(14, 1, [moved(d) for d in steps], box=moved(3)),
        ],
        [Pick(6, 11, "backward")],
    )
    whole = resolve(track, 0, 30)
    monkeypatch.setattr(track_module, "_PART", part)
    again = resolve(track, 0, 30)
    for name in ("boxes", "scores", "agreements", "statuses", "sources", "checks", "picked"):
        assert getattr(again, name).tobytes() == getattr(whole, name).tobytes()


def test_a_run_that_arrives_is_stretched_to_the_key_frame() -> None:
    # The forward run is 4 px too far to the right when it arrives, the backward one is right.
    ahead = [moved(1), moved(2), moved(3), moved(4)]
    track = TargetTrack(
        {0: KeyFrame(BOX), 4: KeyFrame(BOX)},
        [run(0, 1, ahead), run(4, -1, [BOX] * 4)],
    )
    # One, two and three quarters of the 4 px are taken off: nothing is left of its error.
    assert resolve(track, 1, 3).boxes[:, 0].tolist() == pytest.approx([10, 10, 10])


def test_one_run_alone_is_taken_as_it_is() -> None:
    keys = {0: KeyFrame(BOX), 4: KeyFrame(BOX)}
    only = TargetTrack(keys, [run(0, 1, [moved(1), moved(2), moved(3), moved(4)])])
    assert resolve(only, 1, 3).boxes[:, 0].tolist() == [11, 12, 13]
    assert (resolve(only, 1, 3).sources == FORWARD).all()
    assert (resolve(TargetTrack(keys), 1, 3).sources == NO_SOURCE).all()


def test_outside_holds_up_to_the_next_key_frame_and_occluded_as_well() -> None:
    track = TargetTrack(
        {
            1: KeyFrame(BOX, occluded=True),
            3: KeyFrame(None),
            6: KeyFrame(BOX),
        },
        [run(1, 1, [BOX] * 8), run(6, -1, [BOX] * 6)],
    )
    rows = resolve(track, 0, 7)
    assert rows.sources.tolist() == [0, KEY, FORWARD, KEY, OUTSIDE, OUTSIDE, KEY, 0]
    assert rows.occluded.tolist() == [False, True, True, False, False, False, False, False]
    assert rows.statuses[3:6].tolist() == [NOTHING] * 3
    assert sorted(rows.results()) == [1, 2, 6]


def test_a_run_of_a_key_frame_that_changed_is_stale_and_never_exported() -> None:
    old = run(0, 1, [moved(1), moved(2)], box=moved(9))
    track = TargetTrack({0: KeyFrame(BOX)}, [old])
    rows = resolve(track, 0, 3)
    assert rows.sources.tolist() == [KEY, STALE, STALE, NO_SOURCE]
    assert list(rows.results()) == [0] and not rows.checks.any()
    # Its key frame is gone, or the clip is another one.
    assert (resolve(TargetTrack({}, [old]), 1, 2).sources == STALE).all()
    elsewhere = TrackingRun(0, BOX, 1, old.rows, stale=True)
    assert (resolve(TargetTrack({0: KeyFrame(BOX)}, [elsewhere]), 1, 2).sources == STALE).all()


def test_the_newest_run_counts_and_older_ones_beyond_its_end() -> None:
    track = TargetTrack(
        {0: KeyFrame(BOX)},
        [run(0, 1, [moved(1), moved(1), moved(1)]), run(0, 1, [moved(5)])],
    )
    assert resolve(track, 1, 3).boxes[:, 0].tolist() == [15, 11, 11]


def apart() -> TargetTrack:
    """Two key frames whose runs are on different things."""
    return TargetTrack(
        {0: KeyFrame(BOX), 4: KeyFrame(BOX)},
        [
            run(0, 1, [moved(100)] * 4, scores=[0.9] * 4),
            run(4, -1, [BOX] * 4, scores=[0.8] * 4, statuses=[UNCERTAIN] * 4),
        ],
    )


def test_runs_that_disagree_are_never_averaged_and_are_to_be_checked() -> None:
    rows = resolve(apart(), 1, 3)
    assert rows.boxes[:, 0].tolist() == [110, 110, 10]
    assert rows.statuses.tolist() == [TRACKED, TRACKED, UNCERTAIN]
    assert rows.scores.tolist() == [0, 0, 0] and rows.checks.all()
    [stretch] = stretches_to_check(rows)
    assert (stretch.first, stretch.last, stretch.value) == (1, 3, 0)


@pytest.mark.parametrize(
    ("choice", "x", "source"),
    [("forward", 110, FORWARD), ("backward", 10, BACKWARD), ("line", 10, LINE)],
)
def test_what_a_person_picks_comes_first(choice, x, source) -> None:
    track = apart()
    picked = TargetTrack(track.keys, track.runs, [Pick(2, 3, choice)])
    rows = resolve(picked, 1, 3)
    assert rows.boxes[1:, 0].tolist() == [x, x] and rows.sources.tolist()[1:] == [source] * 2
    assert rows.checks.tolist() == [True, False, False]
    assert rows.picked.tolist() == [False, True, True]
    assert candidates(track, 2, 3)[choice].boxes[:, 0].tolist() == [x, x]


def test_a_pick_of_what_is_not_there_changes_nothing() -> None:
    track = TargetTrack({0: KeyFrame(BOX)}, [run(0, 1, [moved(1)])], [Pick(0, 9, "backward")])
    rows = resolve(track, 0, 2)
    assert rows.sources.tolist() == [KEY, FORWARD, NO_SOURCE] and not rows.picked.any()
    assert np.isnan(candidates(track, 0, 2)["backward"].boxes).all()


def test_stretches_to_check_are_told_apart_by_frames_that_are_well() -> None:
    scores = [0.4, 0.2, 0.9, 0.3, 0.9]
    track = TargetTrack({0: KeyFrame(BOX)}, [run(0, 1, [BOX] * 5, scores=scores)])
    found = stretches_to_check(resolve(track, 0, 9))
    assert [(s.first, s.last, s.frame, s.value) for s in found] == [(1, 2, 2, 0.2), (4, 4, 4, 0.3)]
    assert len(stretches_to_check(resolve(track, 0, 9, threshold=0.25))) == 1
    assert stretches_to_check(resolve(track, 0, 9, threshold=0.0)) == []


def test_between_tracked_frames_a_run_with_steps_has_straight_lines() -> None:
    made = run(10, -1, [moved(4), moved(8)], [0.5, 0.9], [TRACKED, LOST], step=2)
    filled = fill_steps(made)
    assert filled.rows["frame"].tolist() == [9, 8, 7, 6] and filled.last == 6
    assert filled.rows["box"][:, 0].tolist() == [12, 14, 16, 18]
    assert filled.rows["score"].tolist() == pytest.approx([0.75, 0.5, 0.7, 0.9])
    # Between a frame where it was seen and one where it was lost, nobody saw it.
    assert filled.rows["status"].tolist() == [TRACKED, TRACKED, LOST, LOST]
    dense = run(10, 1, [BOX])
    assert fill_steps(dense) is dense and fill_steps(run(3, 1, np.zeros((0, 4)))).last == 3
    assert math.isnan(resolve(TargetTrack(), 0, 0).scores[0])
