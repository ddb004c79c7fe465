"""Which frames count under which protocol, and how sequences are averaged."""

from __future__ import annotations

import numpy as np
import pytest

from siamtrack.errors import ConfigError, EvaluationError
from siamtrack.evaluation import protocols
from siamtrack.evaluation.datasets import Truth
from siamtrack.evaluation.scores import counted_frames, score_sequence, summarize

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
