"""From result files to figures: one sequence, then all sequences of a data set.

In order: `score_all`, `score_tracker`, `score_sequence` (under one protocol), `summarize`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from siamtrack.errors import DatasetError, EvaluationError
from siamtrack.evaluation import metrics, protocols
from siamtrack.evaluation.datasets import EvalSequence, Truth
from siamtrack.evaluation.evaluate import Evaluation
from siamtrack.evaluation.protocols import Protocol
from siamtrack.evaluation.runs import Variant
from siamtrack.evaluation.statistics import Interval, bootstrap_mean
from siamtrack.evaluation.trackers import TrackerEntry
from siamtrack.evaluation.vot import VotScore, accuracy_and_robustness, score_supervised
from siamtrack.types import BoolArray, FloatArray

SEED = 20160916
"""Of every bootstrap: the same results give the same intervals."""


@dataclass(frozen=True, slots=True)
class SequenceScore:
    """One tracker on one sequence.

    Attributes:
        frames: how many frames were counted.
        overlaps: (N,) per frame of the sequence, NaN where the frame does not count.
        figures: by name, as in `report.json`: success AUC (mean of the success curve), average
            overlap, success rates (share of overlaps above 0.5 and 0.75), precision at 20 px,
            normalized precision (mean of its curve).
        curves: by name: `success`, `precision`, `normalised_precision`; see `metrics`.
        fps: frames over the time spent in `init` and `update`; NaN if untimed.
        toolkit_fps: mean of 1 / time.
    """

    frames: int
    overlaps: FloatArray
    figures: Mapping[str, float]
    curves: Mapping[str, FloatArray]
    fps: float
    toolkit_fps: float


@dataclass(frozen=True, slots=True)
class Summary:
    """One tracker over all its sequences, averaged as the protocol averages.

    Attributes:
        figures: name to value with its bootstrap interval over sequences.
        curves: as in `SequenceScore`; none for supervised runs.
        frames: how many frames were counted.
    """

    figures: Mapping[str, Interval]
    curves: Mapping[str, FloatArray]
    frames: int


@dataclass(frozen=True, slots=True)
class TrackerScores:
    """One tracker in one variant.

    Attributes:
        entry: the tracker.
        sequences: name to score, in the data set's order.
        summary: over them; None without any score.
        missing: sequence to the reason why it has no score.
    """

    entry: TrackerEntry
    sequences: Mapping[str, SequenceScore | VotScore]
    summary: Summary | None
    missing: Mapping[str, str]


def score_all(evaluation: Evaluation) -> dict[str, list[TrackerScores]]:
    """Variant name to the scores of every tracker."""
    return {
        variant.name: [score_tracker(evaluation, variant, entry) for entry in evaluation.trackers]
        for variant in evaluation.variants
    }


def score_tracker(evaluation: Evaluation, variant: Variant, entry: TrackerEntry) -> TrackerScores:
    """Score everything one tracker has results for."""
    rng = np.random.default_rng(SEED)
    supervised, plain = dict[str, VotScore](), dict[str, SequenceScore]()
    missing: dict[str, str] = {}
    for name, sequence in evaluation.sequences.items():
        try:
            if variant.family == "supervised":
                supervised[name] = _score_supervised(evaluation, entry, sequence)
            else:
                plain[name] = _score_one(evaluation, variant, entry, sequence)
        except (EvaluationError, DatasetError) as error:
            missing[name] = str(error)
    summary = None
    if supervised:
        scores = list(supervised.values())
        frames = sum(len(score.overlaps) for score in scores)
        summary = Summary(accuracy_and_robustness(scores, rng), {}, frames)
    elif plain:
        protocol = protocol_for(evaluation.benchmark.protocol, variant)
        summary = summarize(protocol, list(plain.values()), rng)
    return TrackerScores(entry, supervised or plain, summary, missing)


def protocol_for(protocol: Protocol, variant: Variant) -> Protocol:
    """How runs of a variant are scored: VOT's protocol is for supervised runs alone."""
    if protocol.layout == "vot" and variant.family != "supervised":
        return replace(protocols.CLIPS, name="one pass on VOT", layout="vot")
    return protocol


def _score_one(
    evaluation: Evaluation, variant: Variant, entry: TrackerEntry, sequence: EvalSequence
) -> SequenceScore:
    store = evaluation.store
    run = store.read(variant.name, entry.key, sequence.name)
    path = store.boxes_path(variant.name, entry.key, sequence.name)
    truth = variant.view_of(sequence).truth
    start = variant.start_frame(truth.visible)
    truth = Truth(truth.boxes_xywh[start:], truth.visible[start:], truth.bound_wh)
    protocol = protocol_for(evaluation.benchmark.protocol, variant)
    return score_sequence(protocol, run.boxes(path), truth, run.times_s, name=str(path))


def _score_supervised(
    evaluation: Evaluation, entry: TrackerEntry, sequence: EvalSequence
) -> VotScore:
    run = evaluation.store.read("supervised", entry.key, sequence.name)
    height, width = sequence.frames.read(0).shape[:2]
    return score_supervised(sequence, run, (width, height))


def score_sequence(
    protocol: Protocol,
    boxes_xywh: FloatArray,
    truth: Truth,
    times_s: FloatArray | None = None,
    *,
    name: str = "sequence",
) -> SequenceScore:
    """Score the boxes a tracker gave for one sequence.

    Args:
        protocol: which frames count and how overlaps are taken.
        boxes_xywh: (N, 4) float px, in the coordinates of the annotation; the first row is
            replaced by the true box where the protocol counts it.
        truth: the annotation.
        times_s: (N,) seconds spent on each frame, or None.
        name: of the sequence, for messages.

    Raises:
        EvaluationError: the number of boxes is not the number of frames, a counted box is not
            finite, or no frame counts.
    """
    # 1. Which frames count, and whether their boxes can be scored.
    expected = truth.boxes_xywh.shape
    if boxes_xywh.shape != expected:
        raise EvaluationError(
            f"{name}: results of shape {boxes_xywh.shape} for a truth of shape {expected}; delete "
            "the result file and run the sequence again"
        )
    counted = counted_frames(protocol, truth)
    if not counted.any():
        raise EvaluationError(
            f"{name}: no frame has a box that counts; leave the sequence out or correct its "
            "ground truth"
        )
    boxes = boxes_xywh.copy()
    if protocol.given_box_counts:
        boxes[0] = truth.boxes_xywh[0]
    bad = np.flatnonzero(counted & ~np.isfinite(boxes).all(axis=1))
    if len(bad):
        raise EvaluationError(
            f"{name}: the box of frame {bad[0]} is {boxes[bad[0]].tolist()} "
            f"({len(bad)} such frames); boxes must be finite"
        )

    # 2. Overlaps and errors. A frame that counts without a true box is missed: overlap 0,
    #    infinitely far.
    boxes, goal = boxes[counted], truth.boxes_xywh[counted]  # (F, 4)
    if protocol.overlap == "toolkit_clipping" and truth.bound_wh is not None:
        overlaps = metrics.overlap_after_toolkit_clipping(boxes, goal, truth.bound_wh)
    else:
        overlaps = metrics.toolkit_overlap(boxes, goal)
    overlaps = np.nan_to_num(overlaps, nan=0.0)
    errors = np.nan_to_num(metrics.center_error(boxes, goal), nan=np.inf)
    normalized = np.nan_to_num(metrics.normalized_center_error(boxes, goal), nan=np.inf)

    # 3. Curves and figures.
    curves = {
        "success": metrics.success_curve(overlaps, protocol.success_points),
        "precision": metrics.precision_curve(errors),
        "normalised_precision": metrics.normalized_precision_curve(normalized),
    }
    figures = {
        "success_auc": float(np.mean(curves["success"])),
        "average_overlap": float(np.mean(overlaps)),
        "success_rate_50": float(np.mean(overlaps > 0.5)),
        "success_rate_75": float(np.mean(overlaps > 0.75)),
        "precision_20px": float(curves["precision"][20]),
        "normalised_precision": float(np.mean(curves["normalised_precision"])),
    }
    by_frame = np.full(len(counted), np.nan)
    by_frame[counted] = overlaps
    times = np.array([]) if times_s is None else times_s
    fps, toolkit_fps = metrics.frame_rate(times), metrics.mean_of_inverse_times(times)
    return SequenceScore(int(counted.sum()), by_frame, figures, curves, fps, toolkit_fps)


def counted_frames(protocol: Protocol, truth: Truth) -> BoolArray:
    """(N,) which frames enter the figures under `protocol`."""
    counted = np.ones(len(truth.boxes_xywh), dtype=bool)
    if not protocol.absent_frames_count:
        counted &= truth.visible
    if not protocol.given_box_counts:
        counted[0] = False
    return counted


def summarize(
    protocol: Protocol, scores: Sequence[SequenceScore], rng: np.random.Generator
) -> Summary:
    """Average sequences as `protocol` does, with bootstrap intervals.

    Raises:
        EvaluationError: there are no scores.
    """
    if not scores:
        raise EvaluationError("no sequence was scored; see the list of failures")
    frames = np.array([score.frames for score in scores], dtype=np.float64)
    weights = frames if protocol.pool_frames else np.ones(len(scores))
    figures = {
        name: bootstrap_mean([score.figures[name] for score in scores], rng, weights=weights)
        for name in scores[0].figures
    }
    curves = {
        name: np.average([score.curves[name] for score in scores], axis=0, weights=weights)
        for name in scores[0].curves
    }
    return Summary(figures, curves, int(frames.sum()))


def common_sequences(first: TrackerScores, second: TrackerScores) -> list[str]:
    """Sequences that both trackers have a score for, in order."""
    return [name for name in first.sequences if name in second.sequences]
