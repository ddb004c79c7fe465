"""Turning the peak of the response into a probability, and measuring how true it is.

The score says how probable it is that the box is on the target, by a logistic curve over the
peak's logit (Platt 1999). The curve belongs to the weights and is fitted on sequences that they
have not been trained on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

from siamtrack.data.sequence import Sequence
from siamtrack.engines.base import Engine
from siamtrack.errors import DatasetError
from siamtrack.evaluation.once import follow
from siamtrack.geometry import FloatArray, iou
from siamtrack.tracking.options import TrackerOptions
from siamtrack.tracking.tracker import Tracker

GOOD_OVERLAP = 0.5
"""A box is on the target when it overlaps the truth by more than this."""

_SOFTEST = 1e-3  # added to the squared slope, so that separable data have a finite curve

_BOUNDS = ((-3.0, 3.0), (-50.0, 50.0))  # log slope, intercept: a higher peak is never worse news


class Observations(NamedTuple):
    """Frames of several sequences.

    Attributes:
        logits: (N,) peak of the response.
        good: (N,) bool, the box was on the target; False where the target was absent.
        weights: (N,) such that every sequence weighs the same, sum 1.
    """

    logits: FloatArray
    good: np.ndarray[tuple[int], np.dtype[np.bool_]]
    weights: FloatArray


def observe(engine: Engine, options: TrackerOptions, sequences: Iterable[Sequence]) -> Observations:
    """Track sequences once each and note the peaks and whether the box was right.

    Args:
        engine: runs the weights.
        options: of the loop; its calibration is not used.
        sequences: with truth; those that are seen in fewer than two frames are left out.

    Raises:
        DatasetError: no sequence is left.
    """
    tracker = Tracker(engine, replace(options, score_gain=1.0, score_offset=0.0))
    logits: list[FloatArray] = []
    good: list[np.ndarray[tuple[int], np.dtype[np.bool_]]] = []
    for sequence in sequences:
        if sequence.visible.sum() < 2:
            continue
        first, (_, *results) = follow(tracker, sequence)
        truth = sequence.boxes[first + 1 : first + 1 + len(results)]
        scores = np.clip([r.score for r in results], 1e-9, 1 - 1e-9)
        overlaps = np.nan_to_num(iou([r.box for r in results], truth))
        logits.append(logit(scores))
        good.append(overlaps > GOOD_OVERLAP)
    if not logits:
        raise DatasetError("no sequence shows its target in two frames; give sequences with truth")
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in logits])
    return Observations(np.concatenate(logits), np.concatenate(good), weights / weights.sum())


def fit(seen: Observations) -> tuple[float, float]:
    """Fit the curve by weighted maximum likelihood.

    Returns:
        `score_gain` and `score_offset` of `TrackerOptions`.

    Raises:
        DatasetError: all boxes were right, or none was; there is no curve to fit.
    """
    if seen.good.all() or not seen.good.any():
        kind = "right" if seen.good.all() else "wrong"
        raise DatasetError(f"every box was {kind}; calibration needs sequences with both kinds")
    sign = np.where(seen.good, 1.0, -1.0)

    def cost(parameters: FloatArray) -> float:
        slope, intercept = np.exp(parameters[0]), parameters[1]
        likelihood = log_expit(sign * (slope * seen.logits + intercept))
        return float(-(seen.weights * likelihood).sum() + _SOFTEST * slope**2)

    best = minimize(cost, np.array([0.0, 0.0]), method="Nelder-Mead", bounds=_BOUNDS).x
    gain = float(np.exp(best[0]))
    return gain, float(-best[1] / gain)


def probabilities(seen: Observations, gain: float, offset: float) -> FloatArray:
    """(N,) scores that a tracker with this calibration gives."""
    scores: FloatArray = expit(gain * (seen.logits - offset))
    return scores


def reliability(
    scores: ArrayLike, good: ArrayLike, weights: ArrayLike, bins: int = 10
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Reliability diagram: what was promised against what was so, in bins of equal width.

    Args:
        scores: (N,) in [0, 1].
        good: (N,) bool.
        weights: (N,) sum 1.
        bins: how many.

    Returns:
        Weight, mean score and share of good boxes of each bin, (bins,); NaN in empty ones.
    """
    scores, good, weights = (np.asarray(v, np.float64) for v in (scores, good, weights))
    number = np.minimum((scores * bins).astype(int), bins - 1)
    mass = np.bincount(number, weights, bins).astype(np.float64)
    safe = np.where(mass > 0, mass, np.nan)
    promised = np.bincount(number, weights * scores, bins) / safe
    found = np.bincount(number, weights * good, bins) / safe
    return mass, promised, found


def expected_calibration_error(
    scores: ArrayLike, good: ArrayLike, weights: ArrayLike, bins: int = 10
) -> float:
    """Mean distance between promise and truth over bins (Naeini et al. 2015, equation 3)."""
    mass, promised, found = reliability(scores, good, weights, bins)
    return float(np.nansum(mass * np.abs(promised - found)))
