"""From result files to figures: one sequence, then all sequences of a data set.

In order: `score_all`, `score_tracker`, `score_sequence` (under one protocol), `score_coded_run`
(failures and picks), `summarize`, `mean_over_runs` (of several views or starts of a sequence).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from siamtrack.errors import DatasetError, EvaluationError
from siamtrack.evaluation import metrics, protocols
from siamtrack.evaluation.datasets import EvalSequence, Truth
from siamtrack.evaluation.evaluate import Evaluation
from siamtrack.evaluation.groups import SequenceGroup
from siamtrack.evaluation.protocols import AUC_FRAMES, PER_1000, Protocol
from siamtrack.evaluation.runs import VOT_FAILURE, Variant
from siamtrack.evaluation.statistics import Interval, bootstrap_mean
from siamtrack.evaluation.store import StoredRun
from siamtrack.evaluation.trackers import TrackerEntry
from siamtrack.evaluation.views import shows_target
from siamtrack.evaluation.vot import VotScore, accuracy_and_robustness, score_supervised
from siamtrack.types import BoolArray, FloatArray

SEED = 20160916
"""Of every bootstrap: the same results give the same intervals."""

_CODED = {"failures": protocols.FAILURES, "picks": protocols.PICKS}


@dataclass(frozen=True, slots=True)
class SequenceScore:
    """One tracker on one sequence.

    Attributes:
        frames: how many frames were counted.
        overlaps: (N,) per frame of the sequence, NaN where the frame does not count.
        figures: by name, as in `report.json`: success AUC (mean of the success curve), average
            overlap, success rates (share of overlaps above 0.5 and 0.75), precision at 20 px,
            normalized precision (mean of its curve), success AUC over the first frames that count
            (`AUC_FRAMES`). Those of failures and picks: see `score_coded_run`.
        curves: by name: `success`, `precision`, `normalised_precision`; see `metrics`. None for
            failures and picks.
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
        figures: name to value with its bootstrap interval over groups of sequences.
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
        groups = [evaluation.groups[name].group for name in plain]
        summary = summarize(protocol, list(plain.values()), rng, groups)
    return TrackerScores(entry, supervised or plain, summary, missing)


def protocol_for(protocol: Protocol, variant: Variant) -> Protocol:
    """How runs of a variant are scored: VOT's protocol is for supervised runs alone.

    Failures and picks are scored alike on all data sets.
    """
    if variant.family in _CODED:
        return replace(_CODED[variant.family], layout=protocol.layout)
    if protocol.layout == "vot" and variant.family != "supervised":
        return replace(protocols.CLIPS, name="one pass on VOT", layout="vot")
    return protocol


def _score_one(
    evaluation: Evaluation, variant: Variant, entry: TrackerEntry, sequence: EvalSequence
) -> SequenceScore:
    store = evaluation.store
    run = store.read(variant.name, entry.key, sequence.name)
    path = store.boxes_path(variant.name, entry.key, sequence.name)
    view = variant.view_of(sequence)
    if variant.family in _CODED:
        return score_coded_run(variant.family, view, run, name=str(path))
    start, truth = variant.start_frame(view.truth.visible), view.truth
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
        **{
            f"success_auc_{count}": _success_auc(overlaps[:count], protocol.success_points)
            for count in AUC_FRAMES
        },
    }
    by_frame = np.full(len(counted), np.nan)
    by_frame[counted] = overlaps
    times = np.array([]) if times_s is None else times_s
    fps, toolkit_fps = metrics.frame_rate(times), metrics.mean_of_inverse_times(times)
    return SequenceScore(int(counted.sum()), by_frame, figures, curves, fps, toolkit_fps)


def _success_auc(overlaps: FloatArray, points: int) -> float:
    return float(np.mean(metrics.success_curve(overlaps, points)))


def score_coded_run(
    family: str, sequence: EvalSequence, run: StoredRun, *, name: str = "run"
) -> SequenceScore:
    """Score a run in whose rows codes stand in the place of some boxes.

    All frames that show the target count but the first, whose box was given; of picks those alone
    that were not skipped. The figures of `failures` are failures per 1,000 of them and average
    overlap (0 on the last frame of a failure), those of `picks` per 1,000 of them the boxes with an
    overlap below 0.1 (wrong) and 0.5 (poor), success AUC and average overlap.

    Args:
        family: `failures` or `picks`.
        sequence: that was run.
        run: its rows are boxes in the coordinates of the annotation, or codes.
        name: of the run, for errors.

    Raises:
        EvaluationError: the number of rows is not the number of frames, a row is neither a box nor
            a code, or no frame counts.
    """
    rows, truth = run.rows, sequence.truth.boxes_xywh
    if len(rows) != len(truth) or not all(
        len(row) in (1, 4) and np.isfinite(row).all() for row in rows
    ):
        raise EvaluationError(
            f"{name}: {len(rows)} rows for {len(truth)} frames, or rows that are neither a box nor "
            "a code; delete the result file and run the sequence again"
        )
    # 1. Frames that count: boxes, and the last frames of failures.
    has_box = np.array([len(row) == 4 for row in rows])
    failed = np.array([row == [VOT_FAILURE] for row in rows])
    counted = shows_target(sequence) & (has_box | failed)
    if not counted.any():
        raise EvaluationError(
            f"{name}: no frame has a box that counts; leave the sequence out or correct its "
            "ground truth"
        )
    # 2. Overlaps, NaN where a frame does not count.
    boxes = np.array([row if len(row) == 4 else [0.0] * 4 for row in rows])
    overlaps = np.where(counted, metrics.toolkit_overlap(boxes, truth), np.nan)
    overlaps[failed] = 0.0
    frames, scored = int(counted.sum()), overlaps[counted]
    # 3. Figures.
    figures = {"average_overlap": float(scored.mean())}
    if family == "failures":
        figures["failures_per_1000"] = 1000 * int(failed.sum()) / frames
    else:
        figures["wrong_picks_per_1000"] = 1000 * float(np.mean(scored < 0.1))
        figures["poor_picks_per_1000"] = 1000 * float(np.mean(scored < 0.5))
        figures["success_auc"] = _success_auc(scored, protocols.PICKS.success_points)
    rates = metrics.frame_rate(run.times_s), metrics.mean_of_inverse_times(run.times_s)
    return SequenceScore(frames, overlaps, figures, {}, *rates)


def counted_frames(protocol: Protocol, truth: Truth) -> BoolArray:
    """(N,) which frames enter the figures under `protocol`."""
    counted = np.ones(len(truth.boxes_xywh), dtype=bool)
    if not protocol.absent_frames_count:
        counted &= truth.visible
    if not protocol.given_box_counts:
        counted[0] = False
    return counted


def summarize(
    protocol: Protocol,
    scores: Sequence[SequenceScore],
    rng: np.random.Generator,
    groups: Sequence[str] | None = None,
) -> Summary:
    """Average sequences as `protocol` does, with bootstrap intervals.

    `groups` names the group of every sequence, see `bootstrap_mean`.

    Raises:
        EvaluationError: there are no scores.
    """
    if not scores:
        raise EvaluationError("no sequence was scored; see the list of failures")
    frames = np.array([score.frames for score in scores], dtype=np.float64)
    alike = np.ones(len(scores))
    figures = {
        name: bootstrap_mean(
            [score.figures[name] for score in scores],
            rng,
            weights=frames if pools_frames(protocol, name) else alike,
            groups=groups,
        )
        for name in scores[0].figures
    }
    weights = frames if protocol.pool_frames else alike
    curves = {
        name: np.average([score.curves[name] for score in scores], axis=0, weights=weights)
        for name in scores[0].curves
    }
    return Summary(figures, curves, int(frames.sum()))


def pools_frames(protocol: Protocol, figure: str) -> bool:
    """Whether a figure is a mean over frames rather than over sequences."""
    return protocol.pool_frames or figure in PER_1000


def mean_over_runs(
    protocol: Protocol,
    runs: Sequence[TrackerScores],
    sequences: Mapping[str, SequenceGroup],
) -> TrackerScores:
    """One tracker's scores on `sequences` as means over several runs of each of them.

    A sequence counts if all its runs have a score: some views are easier than others.
    """
    means: dict[str, SequenceScore | VotScore] = {}
    missing: dict[str, str] = {}
    for name in sequences:
        reasons = [run.missing[name] for run in runs if name in run.missing]
        if reasons:
            missing[name] = reasons[0]
        else:
            means[name] = _mean_score(protocol, [run.sequences[name] for run in runs])
    summary = runs[0].summary  # of VOT's supervised runs: they have neither views nor groups
    plain = {name: score for name, score in means.items() if isinstance(score, SequenceScore)}
    if plain:
        groups = [sequences[name].group for name in plain]
        summary = summarize(protocol, list(plain.values()), np.random.default_rng(SEED), groups)
    elif not means:
        summary = None
    return TrackerScores(runs[0].entry, means, summary, missing)


def _mean_score(
    protocol: Protocol, scores: Sequence[SequenceScore | VotScore]
) -> SequenceScore | VotScore:
    several = [score for score in scores if isinstance(score, SequenceScore)]
    if len(scores) == 1 or len(several) < len(scores):
        return scores[0]
    frames = [score.frames for score in several]
    figures = {
        name: float(
            np.average(
                [score.figures[name] for score in several],
                weights=frames if pools_frames(protocol, name) else None,
            )
        )
        for name in several[0].figures
    }
    curves = {
        name: np.average(
            [score.curves[name] for score in several],
            axis=0,
            weights=frames if protocol.pool_frames else None,
        )
        for name in several[0].curves
    }
    overlaps = np.concatenate([score.overlaps for score in several])
    fps, toolkit_fps = (
        float(np.mean([getattr(score, name) for score in several]))
        for name in ("fps", "toolkit_fps")
    )
    return SequenceScore(sum(frames), overlaps, figures, curves, fps, toolkit_fps)


def common_sequences(first: TrackerScores, second: TrackerScores) -> list[str]:
    """Sequences that both trackers have a score for, in order."""
    return [name for name in first.sequences if name in second.sequences]
