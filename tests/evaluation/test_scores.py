"""Which frames count under which protocol, and how sequences are averaged."""

from __future__ import annotations

import numpy as np
import pytest

from siamtrack.errors import ConfigError, EvaluationError
from siamtrack.evaluation import protocols
from siamtrack.evaluation.datasets import EvalSequence, Truth
from siamtrack.evaluation.groups import SequenceGroup
from siamtrack.evaluation.protocols import AUC_FRAMES
from siamtrack.evaluation.scores import (
    TrackerScores,
    counted_frames,
    mean_over_runs,
    score_coded_run,
    score_sequence,
    summarize,
)
from siamtrack.evaluation.store import StoredRun

TRUTH = np.array([[0, 0, 10, 10], [2, 0, 10, 10], [np.nan] * 4, [4, 0, 10, 10]], dtype=float)
VISIBLE = np.array([True, True, False, True])
BOXES = np.array([[9, 9, 10, 10], [2, 0, 10, 10], [0, 0, 1, 1], [9, 0, 10, 10]], dtype=float)


def truth(boxes=TRUTH, visible=VISIBLE, bound=None):
    return Truth(boxes, visible, bound)


@pytest.mark.parametrize(
    ("protocol", "counted"),
    [
        (protocols.OTB, [True, True, True, True]),
        (protocols.UAV, [True, True, False, True]),
        (protocols.GOT10K, [False, True, False, True]),
        (protocols.CLIPS, [False, True, False, True]),
    ],
)
def test_frames_that_count(protocol, counted):
    assert counted_frames(protocol, truth()).tolist() == counted


def test_the_given_box_is_a_hit_under_otb_and_nothing_elsewhere():
    otb = score_sequence(protocols.OTB, BOXES, truth())
    assert otb.overlaps[0] == pytest.approx(1.0)
    assert np.isnan(score_sequence(protocols.CLIPS, BOXES, truth()).overlaps[0])


def test_an_absent_frame_is_a_miss_only_where_it_counts():
    otb, uav = (score_sequence(p, BOXES, truth()) for p in (protocols.OTB, protocols.UAV))
    assert (otb.frames, uav.frames) == (4, 3)
    assert otb.overlaps[2] == 0.0
    for curve in ("success", "precision", "normalised_precision"):
        assert otb.curves[curve].max() == pytest.approx(3 / 4)  # infinitely far, too
        assert uav.curves[curve].max() == pytest.approx(1.0)


def test_figures_of_a_sequence_worked_by_hand():
    score = score_sequence(
        protocols.CLIPS, BOXES, truth(), np.array([0.5, 0.1, 0.1, 0.3]), name="walk"
    )
    overlaps = np.array([1.0, 50 / 150])
    assert score.figures == pytest.approx(
        {
            "average_overlap": overlaps.mean(),
            "success_rate_50": 0.5,
            "success_rate_75": 0.5,
            # Thresholds 0 to 0.3 are below both, 0.35 to 0.95 below one of them, 1 below none.
            "success_auc": (7 * 1.0 + 13 * 0.5) / 21,
            "precision_20px": 1.0,
            # The second error is half a width: only the last of 51 thresholds is as high.
            "normalised_precision": (50 * 0.5 + 1.0) / 51,
            # A sequence of two frames that count is its own beginning.
            **{f"success_auc_{count}": (7 * 1.0 + 13 * 0.5) / 21 for count in AUC_FRAMES},
        }
    )
    assert score.curves["precision"][4] == 0.5
    normalized = score.curves["normalised_precision"]
    assert normalized[49] == 0.5 and normalized[50] == 1.0
    assert score.fps == pytest.approx(4.0)


def test_sequences_weigh_alike_unless_frames_are_pooled(rng):
    long = Truth(np.tile([0.0, 0, 10, 10], (31, 1)), np.ones(31, bool), (50, 50))
    short = Truth(np.tile([0.0, 0, 10, 10], (11, 1)), np.ones(11, bool), (50, 50))
    right, wrong = long.boxes_xywh, short.boxes_xywh + np.array([30, 0, 0, 0])
    for protocol, expected in ((protocols.CLIPS, 0.5), (protocols.GOT10K, 0.75)):
        scores = [score_sequence(protocol, right, long), score_sequence(protocol, wrong, short)]
        summary = summarize(protocol, scores, rng)
        assert summary.figures["average_overlap"].value == pytest.approx(expected)
        assert summary.curves["success"][0] == pytest.approx(expected)
        assert summary.frames == 40


def test_results_of_another_length_are_refused():
    with pytest.raises(EvaluationError, match=r"walk: results of shape \(3, 4\)"):
        score_sequence(protocols.OTB, BOXES[:3], truth(), name="walk")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_boxes_that_are_not_finite_are_refused_where_they_count(bad):
    boxes = BOXES.copy()
    boxes[3, 1] = bad
    with pytest.raises(EvaluationError, match="box of frame 3"):
        score_sequence(protocols.CLIPS, boxes, truth())
    boxes[3], boxes[2, 1] = BOXES[3], bad
    score_sequence(protocols.CLIPS, boxes, truth())


def test_a_sequence_without_a_frame_that_counts_is_refused():
    with pytest.raises(EvaluationError, match="no frame"):
        score_sequence(protocols.CLIPS, BOXES, truth(visible=np.zeros(4, bool)))


def test_nothing_scored_is_said(rng):
    with pytest.raises(EvaluationError, match="list of failures"):
        summarize(protocols.OTB, [], rng)


def test_scoring_changes_no_argument():
    boxes, goal = BOXES.copy() - [20, 0, 0, 0], TRUTH.copy()
    score_sequence(protocols.GOT10K, boxes, truth(goal, bound=(30, 30)))
    np.testing.assert_array_equal(boxes, BOXES - [20, 0, 0, 0])
    np.testing.assert_array_equal(goal, TRUTH)


def test_headings_are_known():
    assert protocols.heading("success_auc") == "AUC"
    with pytest.raises(ConfigError, match="no figure named 'beauty'"):
        protocols.heading("beauty")


def test_auc_by_length_shows_a_late_loss():
    goal = np.tile([0.0, 0, 10, 10], (301, 1))
    boxes, visible = goal.copy(), np.ones(301, bool)
    boxes[201:, 0] = 100  # 200 frames that count are right, then 100 wrong
    visible[50:100], boxes[50:100] = False, np.nan  # 50 of the right ones are absent
    figures = score_sequence(protocols.CLIPS, boxes, Truth(goal, visible)).figures
    assert figures["success_auc"] == pytest.approx(20 / 21 * 150 / 250)
    assert figures["success_auc_100"] == pytest.approx(20 / 21)
    assert figures["success_auc_250"] == figures["success_auc_1000"] == figures["success_auc"]


def coded(rows, visible=None):
    """A sequence whose target stands still at (0, 0, 10, 10), and a run with those rows."""
    seen = np.ones(len(rows), bool) if visible is None else np.array(visible)
    truth = Truth(np.where(seen[:, None], [0.0, 0, 10, 10], np.nan), seen)
    return EvalSequence("a", None, truth), StoredRun(rows, np.full(len(rows), 0.5))


RIGHT, WRONG, HALF = [0.0, 0, 10, 10], [50.0, 0, 10, 10], [0.0, 0, 10, 4]


def test_failures_per_1000_frames_that_count():
    rows = [[1], RIGHT, WRONG, WRONG, [2], RIGHT, RIGHT, [2], RIGHT]
    visible = [True] * 5 + [False] + [True] * 3
    score = score_coded_run("failures", *coded(rows, visible))
    assert score.frames == 7  # without the first, and the one that is absent
    assert score.figures["failures_per_1000"] == pytest.approx(2000 / 7)
    assert score.figures["average_overlap"] == pytest.approx(3 / 7)
    assert np.isnan(score.overlaps[[0, 5]]).all() and score.overlaps[4] == 0
    assert score.fps == pytest.approx(2.0)


def test_picks_that_are_wrong_and_poor():
    score = score_coded_run("picks", *coded([[1], RIGHT, HALF, [0], WRONG, HALF, RIGHT]))
    assert score.frames == 5
    assert score.figures["wrong_picks_per_1000"] == pytest.approx(1000 / 5)
    assert score.figures["poor_picks_per_1000"] == pytest.approx(3000 / 5)
    # 0.4 is above thresholds 0 to 0.35, 1 above 0 to 0.95.
    assert score.figures["success_auc"] == pytest.approx((20 + 8 + 0 + 8 + 20) / 21 / 5)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1], RIGHT], "2 rows for 3 frames"),
        ([[1], RIGHT, [1, 2]], "neither a box nor a code"),
        ([[1], RIGHT, [np.nan] * 4], "neither a box nor a code"),
        ([[1], [0], [0]], "no frame has a box that counts"),
    ],
)
def test_coded_runs_that_cannot_be_scored_are_refused(rows, message):
    sequence, _ = coded([[1], RIGHT, RIGHT])
    with pytest.raises(EvaluationError, match=message):
        score_coded_run("picks", sequence, StoredRun(rows, np.array([])))


def test_few_events_are_pooled_over_frames_and_auc_is_not(rng):
    long = score_coded_run("picks", *coded([[1], *[RIGHT] * 29, WRONG]))
    short = score_coded_run("picks", *coded([[1], *[WRONG] * 10]))
    figures = summarize(protocols.PICKS, [long, short], rng).figures
    assert figures["wrong_picks_per_1000"].value == pytest.approx(11_000 / 40)
    assert figures["success_auc"].value == pytest.approx((29 / 30 + 0) / 2 * 20 / 21)


GROUPS = {"a": SequenceGroup("one"), "b": SequenceGroup("one"), "c": SequenceGroup("two")}


def runs_of(*aucs, missing=()):
    """A tracker's scores in several runs; `aucs` has figures of a, b and c for each run."""
    made = []
    for number, figures in enumerate(aucs):
        scores = {
            name: score_coded_run("picks", *coded([[1], *[RIGHT] * right, *[WRONG] * (10 - right)]))
            for name, right in zip("abc", figures, strict=True)
            if (name, number) not in missing
        }
        reasons = {name: "hung" for name, run in missing if run == number}
        made.append(TrackerScores(None, scores, None, reasons))
    return made


def test_runs_of_a_sequence_are_averaged_before_sequences():
    mean = mean_over_runs(protocols.PICKS, runs_of([10, 5, 0], [0, 5, 10]), GROUPS)
    for name in "abc":
        figures = mean.sequences[name].figures
        assert figures["success_auc"] == pytest.approx(0.5 * 20 / 21)
        assert figures["wrong_picks_per_1000"] == pytest.approx(500)
    interval = mean.summary.figures["success_auc"]
    assert (interval.low, interval.high) == pytest.approx((0.5 * 20 / 21, 0.5 * 20 / 21))
    assert mean.sequences["a"].frames == 20 and not mean.missing


def test_the_interval_is_over_groups():
    figures = mean_over_runs(protocols.PICKS, runs_of([10, 10, 0]), GROUPS).summary.figures
    interval = figures["success_auc"]
    # Two groups are drawn twice: both times the first, the second, or one of each.
    assert (interval.low, interval.high) == pytest.approx((0, 20 / 21))
    assert interval.value == pytest.approx(2 / 3 * 20 / 21)


def test_a_sequence_counts_if_all_its_runs_have_a_score():
    runs = runs_of([10, 5, 0], [0, 5, 10], missing={("a", 1)})
    mean = mean_over_runs(protocols.PICKS, runs, GROUPS)
    assert list(mean.sequences) == ["b", "c"] and mean.missing == {"a": "hung"}
    nothing = runs_of([10, 5, 0], missing={("a", 0), ("b", 0), ("c", 0)})
    assert mean_over_runs(protocols.PICKS, nothing, GROUPS).summary is None
