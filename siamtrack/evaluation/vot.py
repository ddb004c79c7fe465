"""VOT's accuracy and robustness of supervised runs, as the toolkit's `ExperimentVOT` reports them.

Accuracy is the mean overlap while the tracker follows, robustness the number of failures. Both are
taken per frame tag and averaged with the number of tagged frames as weights. Kristan et al., "A
Novel Performance Evaluation Methodology for Single-Target Trackers", PAMI 2016, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from siamtrack.errors import EvaluationError
from siamtrack.evaluation import metrics
from siamtrack.evaluation.datasets import EvalSequence
from siamtrack.evaluation.got10k_toolkit import toolkit_module
from siamtrack.evaluation.runs import VOT_FAILURE, VOT_INIT
from siamtrack.evaluation.statistics import Interval, bootstrap
from siamtrack.evaluation.store import StoredRun
from siamtrack.types import BoolArray, FloatArray, IntArray

BURN_IN = 10
"""Frames after (re-)initialization that are excluded from accuracy."""
TAGS = ("camera_motion", "illum_change", "occlusion", "size_change", "motion_change", "empty")
"""Frame tags that count; `empty` is a frame without any label at all."""


@dataclass(frozen=True, slots=True)
class VotScore:
    """One supervised run. The first four arrays, (T,), are per tag of `TAGS`.

    `overlaps` is (N,), NaN where a frame does not count. `figures` are accuracy (NaN if nothing
    counts) and robustness of the sequence, tags aside.
    """

    overlap_sum: FloatArray
    overlap_count: FloatArray
    failures: FloatArray
    frames: FloatArray
    overlaps: FloatArray
    figures: dict[str, float]
    fps: float


def score_supervised(sequence: EvalSequence, run: StoredRun, bound_wh: tuple[int, int]) -> VotScore:
    """Score a supervised run on frames of `bound_wh` px.

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
    # 1. Boxes count, except in the first frames after every start.
    counted = np.array([len(row) == 4 for row in rows])
    for start in (index for index, row in enumerate(rows) if row == [VOT_INIT]):
        counted[start : start + BURN_IN] = False
    failed = np.array([row == [VOT_FAILURE] for row in rows])

    # 2. Overlap with the annotated polygon.
    regions = sequence.truth.boxes_xywh if sequence.regions is None else sequence.regions
    poly_iou = toolkit_module("utils.metrics").poly_iou
    overlaps = np.full(len(rows), np.nan)
    for index in np.flatnonzero(counted):
        overlaps[index] = poly_iou(np.array(rows[index]), regions[index], bound_wh)[0]
    valid = overlaps[~np.isnan(overlaps)]

    # 3. Sums per tag, from which figures of many sequences are made.
    tagged = _tagged_frames(sequence)  # (T, N)
    return VotScore(
        overlap_sum=np.array([np.nansum(overlaps[mask]) for mask in tagged]),
        overlap_count=np.array([np.sum(~np.isnan(overlaps[mask])) for mask in tagged], dtype=float),
        failures=np.array([np.sum(failed[mask]) for mask in tagged], dtype=float),
        frames=tagged.sum(axis=1).astype(float),
        overlaps=overlaps,
        figures={
            "accuracy": float(valid.mean()) if len(valid) else float("nan"),
            "robustness": float(failed.sum()),
        },
        fps=metrics.frame_rate(run.times_s),
    )


def _tagged_frames(sequence: EvalSequence) -> BoolArray:
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

    Raises:
        EvaluationError: there are no scores.
    """
    if not scores:
        raise EvaluationError("no sequence was scored; see the list of failures")
    sums, counts, failures, frames = (  # each (S, T)
        np.stack([getattr(score, name) for score in scores])
        for name in ("overlap_sum", "overlap_count", "failures", "frames")
    )

    def weights(drawn: IntArray) -> FloatArray:
        tagged = frames[drawn].sum(axis=1)  # (B, S, T) to (B, T)
        return np.asarray(tagged / tagged.sum(axis=1, keepdims=True), dtype=np.float64)

    def accuracy(drawn: IntArray) -> FloatArray:
        total, count = sums[drawn].sum(axis=1), counts[drawn].sum(axis=1)
        mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        return np.asarray((mean * weights(drawn)).sum(axis=1), dtype=np.float64)

    def robustness(drawn: IntArray) -> FloatArray:
        return np.asarray((failures[drawn].sum(axis=1) * weights(drawn)).sum(axis=1))

    return {
        "accuracy": bootstrap(accuracy, len(scores), rng),
        "robustness": bootstrap(robustness, len(scores), rng),
    }
