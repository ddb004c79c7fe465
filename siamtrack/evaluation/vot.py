"""VOT's accuracy and robustness of supervised runs, as the toolkit's `ExperimentVOT` reports them.

Accuracy is the mean overlap of frames that a tracker still follows, robustness the number of
failures; both are taken per frame tag and averaged with the number of tagged frames as weights.
The ten frames after every start are left out of the accuracy. Kristan et al., "A Novel Performance
Evaluation Methodology for Single-Target Trackers", PAMI 2016, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import EvaluationError
from siamtrack.evaluation import metrics
from siamtrack.evaluation.datasets import EvalSequence
from siamtrack.evaluation.got10k_toolkit import toolkit_module
from siamtrack.evaluation.runs import VOT_FAILURE, VOT_INIT
from siamtrack.evaluation.statistics import Interval, bootstrap
from siamtrack.evaluation.store import StoredRun
from siamtrack.types import FloatArray

BURN_IN = 10
"""Frames after a start whose overlap is still owed to the given box."""

TAGS = ("camera_motion", "illum_change", "occlusion", "size_change", "motion_change", "empty")
"""Frame tags that count; `empty` is a frame without any label at all."""


@dataclass(frozen=True, slots=True)
class VotScore:
    """One supervised run, per tag of `TAGS`.

    Attributes:
        overlap_sum: (T,) sum of counted overlaps.
        overlap_count: (T,) how many overlaps were counted.
        failures: (T,) failures.
        frames: (T,) tagged frames.
        overlaps: (N,) per frame, NaN where not counted.
        fps: frames over time, skipped frames left out.
    """

    overlap_sum: FloatArray
    overlap_count: FloatArray
    failures: FloatArray
    frames: FloatArray
    overlaps: FloatArray
    failure_count: int
    fps: float

    @property
    def accuracy(self) -> float:
        """Mean counted overlap of the sequence, tags aside; NaN if nothing was counted."""
        counted = self.overlaps[~np.isnan(self.overlaps)]
        return float(counted.mean()) if len(counted) else float("nan")

    @property
    def robustness(self) -> float:
        """Failures in the sequence, tags aside."""
        return float(self.failure_count)


def score_supervised(sequence: EvalSequence, run: StoredRun, bound_wh: tuple[int, int]) -> VotScore:
    """Score a supervised run.

    Args:
        sequence: with regions and tags.
        run: rows of boxes and codes.
        bound_wh: size of the first frame in px.

    Raises:
        EvaluationError: the number of rows is not the number of frames, or a row is neither a box
            nor a code.
    """
    rows = run.rows
    if len(rows) != len(sequence) or any(len(row) not in (1, 4) for row in rows):
        raise EvaluationError(
            f"{sequence.name}: {len(rows)} rows for {len(sequence)} frames, or rows that are "
            "neither a box nor a code; delete the result file and run the sequence again"
        )
    regions = sequence.truth.boxes_xywh if sequence.regions is None else sequence.regions
    counted = np.array([len(row) == 4 for row in rows])
    for start in (index for index, row in enumerate(rows) if row == [VOT_INIT]):
        counted[start : start + BURN_IN] = False
    poly_iou = toolkit_module("utils.metrics").poly_iou
    overlaps = np.full(len(rows), np.nan)
    for index in np.flatnonzero(counted):
        overlaps[index] = poly_iou(np.array(rows[index]), regions[index], bound_wh)[0]
    failed = np.array([row == [VOT_FAILURE] for row in rows])
    tagged = _tagged(sequence)
    return VotScore(
        overlap_sum=np.array([np.nansum(overlaps[mask]) for mask in tagged]),
        overlap_count=np.array([np.sum(~np.isnan(overlaps[mask])) for mask in tagged], dtype=float),
        failures=np.array([np.sum(failed[mask]) for mask in tagged], dtype=float),
        frames=tagged.sum(axis=1).astype(float),
        overlaps=overlaps,
        failure_count=int(failed.sum()),
        fps=metrics.frame_rate(run.times_s),
    )


def _tagged(sequence: EvalSequence) -> NDArray[np.bool_]:
    """(T, N) frames of every tag."""
    masks = np.zeros((len(TAGS), len(sequence)), dtype=bool)
    for index, tag in enumerate(TAGS):
        if tag in sequence.tags:
            masks[index] = sequence.tags[tag]
    labels = [mask for name, mask in sequence.tags.items() if "practical" not in name]
    any_label = np.any(labels, axis=0) if labels else np.zeros(len(sequence), dtype=bool)
    masks[TAGS.index("empty")] = ~any_label
    return masks


def accuracy_and_robustness(
    scores: Sequence[VotScore], rng: np.random.Generator
) -> dict[str, Interval]:
    """Both figures over all sequences, with bootstrap intervals over sequences.

    Args:
        scores: one per sequence.
        rng: source of the bootstrap.

    Raises:
        EvaluationError: there are no scores.
    """
    if not scores:
        raise EvaluationError("no sequence was scored; see the list of failures")
    sums, counts, failures, frames = (
        np.stack([getattr(score, name) for score in scores])
        for name in ("overlap_sum", "overlap_count", "failures", "frames")
    )

    def weights(drawn: NDArray[np.int64]) -> FloatArray:
        tagged = frames[drawn].sum(axis=1)
        return np.asarray(tagged / tagged.sum(axis=1, keepdims=True), dtype=np.float64)

    def accuracy(drawn: NDArray[np.int64]) -> FloatArray:
        total, count = sums[drawn].sum(axis=1), counts[drawn].sum(axis=1)
        mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        return np.asarray((mean * weights(drawn)).sum(axis=1), dtype=np.float64)

    def robustness(drawn: NDArray[np.int64]) -> FloatArray:
        return np.asarray((failures[drawn].sum(axis=1) * weights(drawn)).sum(axis=1))

    return {
        "accuracy": bootstrap(accuracy, len(scores), rng),
        "robustness": bootstrap(robustness, len(scores), rng),
    }
