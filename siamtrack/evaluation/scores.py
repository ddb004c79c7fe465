"""From boxes to figures: one sequence, then all sequences of a data set, under one protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from siamtrack.errors import EvaluationError
from siamtrack.evaluation import metrics, protocols
from siamtrack.evaluation.datasets import EvalSequence, Truth
from siamtrack.evaluation.protocols import Protocol
from siamtrack.evaluation.runs import Variant
from siamtrack.evaluation.statistics import Interval, bootstrap_mean
from siamtrack.evaluation.store import ResultStore
from siamtrack.evaluation.trackers import TrackerEntry
from siamtrack.evaluation.vot import VotScore, accuracy_and_robustness, score_supervised
from siamtrack.types import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class SequenceScore:
    """Figures of one tracker on one sequence.

    Attributes:
        frames: how many frames were counted.
        overlaps: (N,) per frame of the sequence, NaN where the frame does not count.
        errors_px: (N,) centre errors, NaN likewise.
        success_curve: share of frames above each overlap threshold.
        precision_curve: share of frames within 0, 1, ... 50 px.
        normalised_curve: share of frames within 0, 0.01, ... 0.5 target sizes.
        fps: frames over the time spent in `init` and `update`, decoding excluded; NaN if untimed.
        toolkit_fps: mean of 1 / time, the toolkit's figure.
    """

    frames: int
    overlaps: FloatArray
    errors_px: FloatArray
    success_curve: FloatArray
    precision_curve: FloatArray
    normalised_curve: FloatArray
    fps: float
    toolkit_fps: float

    @property
    def counted_overlaps(self) -> FloatArray:
        """(frames,) the overlaps that count."""
        return self.overlaps[~np.isnan(self.overlaps)]

    @property
    def average_overlap(self) -> float:
        """Mean overlap."""
        return float(np.mean(self.counted_overlaps))

    @property
    def success_rate_50(self) -> float:
        """Share of frames with an overlap above 0.5."""
        return float(np.mean(self.counted_overlaps > 0.5))

    @property
    def success_rate_75(self) -> float:
        """Share of frames with an overlap above 0.75."""
        return float(np.mean(self.counted_overlaps > 0.75))

    @property
    def success_auc(self) -> float:
        """Mean of the success curve."""
        return float(np.mean(self.success_curve))

    @property
    def precision_20px(self) -> float:
        """Share of frames with a centre error of at most 20 px."""
        return float(self.precision_curve[metrics.PRECISION_INDEX_20PX])

    @property
    def normalised_precision(self) -> float:
        """Mean of the normalised precision curve."""
        return float(np.mean(self.normalised_curve))


ACCURACY_FIGURES = (
    "success_auc",
    "average_overlap",
    "success_rate_50",
    "success_rate_75",
    "precision_20px",
    "normalised_precision",
)


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
    expected = truth.boxes_xywh.shape
    if boxes_xywh.shape != expected:
        raise EvaluationError(
            f"{name}: results of shape {boxes_xywh.shape} for a truth of shape {expected}; delete "
            "the result file and run the sequence again"
        )
    counted = counted_frames(protocol, truth)
    if not counted.any():
        raise EvaluationError(
            f"{name}: no frame has a box that counts; leave the sequence out or mend its truth"
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
    boxes, goal = boxes[counted], truth.boxes_xywh[counted]
    # A frame that counts without a true box is missed: overlap 0, infinitely far.
    hits = np.nan_to_num(_overlaps(protocol, boxes, goal, truth.bound_wh), nan=0.0)
    errors = np.nan_to_num(metrics.centre_error(boxes, goal), nan=np.inf)
    normalised = np.nan_to_num(metrics.normalised_centre_error(boxes, goal), nan=np.inf)
    times = np.array([]) if times_s is None else times_s
    return SequenceScore(
        frames=int(counted.sum()),
        overlaps=_spread(hits, counted),
        errors_px=_spread(errors, counted),
        success_curve=metrics.success_curve(hits, protocol.success_points),
        precision_curve=metrics.precision_curve(errors),
        normalised_curve=metrics.normalised_precision_curve(normalised),
        fps=metrics.frame_rate(times),
        toolkit_fps=metrics.mean_of_inverse_times(times),
    )


def counted_frames(protocol: Protocol, truth: Truth) -> BoolArray:
    """(N,) which frames enter the figures under `protocol`."""
    counted = np.ones(len(truth.boxes_xywh), dtype=bool)
    if not protocol.absent_frames_count:
        counted &= truth.visible
    if not protocol.given_box_counts:
        counted[0] = False
    return counted


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of one tracker over all its sequences.

    Attributes:
        figures: name to value with its bootstrap interval over sequences.
        success_curve: averaged as the protocol averages.
        precision_curve: likewise.
        normalised_curve: likewise.
        fps: median over sequences of frames per second.
        sequences: how many were scored.
        frames: how many frames were counted.
    """

    figures: Mapping[str, Interval]
    success_curve: FloatArray
    precision_curve: FloatArray
    normalised_curve: FloatArray
    fps: float
    sequences: int
    frames: int


def summarise(
    protocol: Protocol, scores: Sequence[SequenceScore], rng: np.random.Generator
) -> Summary:
    """Average sequences as `protocol` does, with intervals.

    Args:
        protocol: whether frames or sequences are averaged.
        scores: one per sequence.
        rng: source of the bootstrap.

    Raises:
        EvaluationError: there are no scores.
    """
    if not scores:
        raise EvaluationError("no sequence was scored; see the list of failures")
    frames = np.array([score.frames for score in scores], dtype=np.float64)
    weights = frames if protocol.pool_frames else np.ones(len(scores))
    figures = {
        name: bootstrap_mean([getattr(s, name) for s in scores], rng, weights=weights)
        for name in ACCURACY_FIGURES
    }
    rates = [score.fps for score in scores if np.isfinite(score.fps)]
    return Summary(
        figures=figures,
        success_curve=_mean_curve([s.success_curve for s in scores], weights),
        precision_curve=_mean_curve([s.precision_curve for s in scores], weights),
        normalised_curve=_mean_curve([s.normalised_curve for s in scores], weights),
        fps=float(np.median(rates)) if rates else float("nan"),
        sequences=len(scores),
        frames=int(frames.sum()),
    )


def _overlaps(
    protocol: Protocol,
    boxes: FloatArray,
    truth: FloatArray,
    bound_wh: tuple[float, float] | None,
) -> FloatArray:
    if protocol.overlap == "toolkit_clipping" and bound_wh is not None:
        return metrics.overlap_after_toolkit_clipping(boxes, truth, bound_wh)
    return metrics.overlap(boxes, truth)


def _spread(values: FloatArray, counted: BoolArray) -> FloatArray:
    spread = np.full(len(counted), np.nan)
    spread[counted] = values
    return spread


def _mean_curve(curves: Sequence[FloatArray], weights: FloatArray) -> FloatArray:
    return np.average(np.stack(curves), axis=0, weights=weights)


SEED = 20160916
"""Of every bootstrap: the same results give the same intervals."""


@dataclass(frozen=True, slots=True)
class TrackerScores:
    """One tracker in one variant.

    Attributes:
        entry: the tracker.
        sequences: name to score, in the data set's order; sequences without a result are missing.
        summary: over them; None for supervised runs or without any score.
        supervised: accuracy and robustness of supervised runs, else empty.
        missing: sequence to the reason why it has no score.
    """

    entry: TrackerEntry
    sequences: Mapping[str, SequenceScore | VotScore]
    summary: Summary | None
    supervised: Mapping[str, Interval]
    missing: Mapping[str, str]


def protocol_for(protocol: Protocol, variant: Variant) -> Protocol:
    """How runs of a variant are scored: VOT's protocol is for supervised runs alone."""
    if protocol.layout == "vot" and variant.family != "supervised":
        return replace(protocols.CLIPS, name="one pass on VOT", layout="vot")
    return protocol


def score_tracker(
    entry: TrackerEntry,
    sequences: Mapping[str, EvalSequence],
    protocol: Protocol,
    variant: Variant,
    store: ResultStore,
) -> TrackerScores:
    """Score everything one tracker has results for.

    Args:
        entry: the tracker.
        sequences: those that were to be run.
        protocol: of the data set.
        variant: which runs.
        store: where the results are.
    """
    rng = np.random.default_rng(SEED)
    scores: dict[str, SequenceScore | VotScore] = {}
    missing: dict[str, str] = {}
    for name, sequence in sequences.items():
        try:
            if variant.family == "supervised":
                scores[name] = _supervised(entry, sequence, store)
            else:
                scores[name] = _one(entry, sequence, protocol, variant, store)
        except EvaluationError as error:
            missing[name] = str(error)
    if variant.family == "supervised":
        vot = [score for score in scores.values() if isinstance(score, VotScore)]
        figures = accuracy_and_robustness(vot, rng) if vot else {}
        return TrackerScores(entry, scores, None, figures, missing)
    plain = [score for score in scores.values() if isinstance(score, SequenceScore)]
    summary = summarise(protocol_for(protocol, variant), plain, rng) if plain else None
    return TrackerScores(entry, scores, summary, {}, missing)


def _one(
    entry: TrackerEntry,
    sequence: EvalSequence,
    protocol: Protocol,
    variant: Variant,
    store: ResultStore,
) -> SequenceScore:
    run = store.read(variant.name, entry.key, sequence.name)
    path = store.boxes_path(variant.name, entry.key, sequence.name)
    start = variant.start_frame(sequence.truth.visible)
    truth = Truth(
        sequence.truth.boxes_xywh[start:], sequence.truth.visible[start:], sequence.truth.bound_wh
    )
    rules = protocol_for(protocol, variant)
    return score_sequence(rules, run.boxes(path), truth, run.times_s, name=str(path))


def _supervised(entry: TrackerEntry, sequence: EvalSequence, store: ResultStore) -> VotScore:
    run = store.read("supervised", entry.key, sequence.name)
    height, width = sequence.frames.read(0).shape[:2]
    return score_supervised(sequence, run, (width, height))


def common_sequences(trackers: Sequence[TrackerScores]) -> list[str]:
    """Sequences that every tracker has a score for, in order: what comparisons are made on."""
    if not trackers:
        return []
    first = trackers[0].sequences
    return [name for name in first if all(name in other.sequences for other in trackers)]
