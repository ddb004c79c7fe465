"""Fit the score to be a probability, and measure how well calibrated it is.

The score is the probability that the box is on the target: logistic regression over the cues of
`siamtrack.tracking.decode`. It belongs to the weights and is fitted on sequences that they were
not trained on. Leaving out one sequence after the other shows how well it holds elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from siamtrack.data.sequence import VideoSequence
from siamtrack.engines.base import Engine
from siamtrack.errors import DatasetError
from siamtrack.evaluation.runs import start_sequence
from siamtrack.geometry import iou
from siamtrack.models.weights import NOT_CALIBRATED, find_weights, read_card, write_card
from siamtrack.tracking.options import BoxHeadOptions, TrackerOptions
from siamtrack.tracking.tracker import Tracker
from siamtrack.types import BoolArray, FloatArray, IntArray

GOOD_OVERLAP = 0.5
"""A box is on the target when it overlaps the truth by more than this."""

_L2_PENALTY = 1e-4  # on squared weights of standardized cues: separable data have a finite fit
_MIN_GAIN = 0.01  # a higher peak never lowers the score


class Observations(NamedTuple):
    """Frames of several sequences."""

    cues: FloatArray  # (N, 3) peak of the response, similarity and margin
    good: BoolArray  # (N,) the box was on the target; False where the target was absent
    weights: FloatArray  # (N,) every sequence weighs the same, sum 1
    sequences: IntArray  # (N,) number of the sequence

    def select(self, chosen: BoolArray) -> Observations:
        """Some of the frames, their weights summing to 1 again."""
        weights = self.weights[chosen] / max(self.weights[chosen].sum(), 1e-300)
        return Observations(self.cues[chosen], self.good[chosen], weights, self.sequences[chosen])


class Calibration(NamedTuple):
    """The fields of `TrackerOptions` that make the score a probability.

    With an online filter they are its `filter_score_` fields, and similarity has no weight.
    """

    score_gain: float
    score_offset: float
    score_similarity: float
    score_margin: float

    @classmethod
    def from_options(cls, options: TrackerOptions) -> Calibration:
        """The calibration that a tracker with these options uses."""
        if _has_filter(options):
            names = ("gain", "offset", "margin")
            gain, offset, margin = (getattr(options, f"filter_score_{name}") for name in names)
            return cls(gain, offset, 0.0, margin)
        return cls(*(getattr(options, name) for name in cls._fields))

    def to_options(self, options: TrackerOptions) -> dict[str, Any]:
        """The fields of `options` that it sets, by name."""
        values: dict[str, float] = self._asdict()
        if not _has_filter(options):
            return values
        del values["score_similarity"]
        return {f"filter_{name}": value for name, value in values.items()}


def _has_filter(options: TrackerOptions) -> bool:
    return isinstance(options, BoxHeadOptions) and options.online_filter


def observe(
    engine: Engine, options: TrackerOptions, sequences: Iterable[VideoSequence]
) -> Observations:
    """Track sequences once each; record the cues and whether the box was right.

    Sequences that show the target in fewer than two frames are left out. The calibration in
    `options` matters while a target is lost: the score decides where the tracker searches.

    Raises:
        DatasetError: no sequence is left.
    """
    cues: list[tuple[float, float, float]] = []
    good: list[BoolArray] = []
    for sequence in sequences:
        if sequence.visible.sum() < 2:
            continue
        tracker = Tracker(engine, options)
        first, images, _ = start_sequence(tracker, sequence)
        boxes = []
        for image in images:
            boxes.append(tracker.update(image).box)
            if tracker.state is not None and (found := tracker.state.last_prediction) is not None:
                similarity = 0.0 if _has_filter(options) else found.similarity
                cues.append((found.peak_logit, similarity, found.margin))
        overlaps = iou(boxes, sequence.boxes[first + 1 : first + 1 + len(boxes)])
        good.append(np.nan_to_num(overlaps) > GOOD_OVERLAP)
    if not good:
        raise DatasetError("no sequence shows its target in two frames; give sequences with truth")
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in good])
    numbers = np.repeat(np.arange(len(good)), [len(part) for part in good])
    return Observations(np.array(cues), np.concatenate(good), weights / weights.sum(), numbers)


def fit(observed: Observations) -> Calibration:
    """Fit the regression by weighted maximum likelihood; no cue gets a negative weight.

    Raises:
        DatasetError: all boxes were right, or none was; there is nothing to fit.
    """
    if observed.good.all() or not observed.good.any():
        kind = "right" if observed.good.all() else "wrong"
        raise DatasetError(f"every box was {kind}; calibration needs sequences with both kinds")
    # 1. Standardize the cues; the last column is the intercept.
    mean = observed.weights @ observed.cues  # (3,)
    spread = np.sqrt(observed.weights @ (observed.cues - mean) ** 2) + 1e-9
    design = np.column_stack([(observed.cues - mean) / spread, np.ones(len(observed.cues))])
    sign = np.where(observed.good, 1.0, -1.0)
    penalty = np.array([_L2_PENALTY] * 3 + [0.0])

    # 2. Minimize the weighted negative log-likelihood; a bound keeps each weight positive.
    def cost(beta: FloatArray) -> tuple[float, FloatArray]:
        margins = sign * (design @ beta)  # (N,)
        value = -observed.weights @ log_expit(margins) + penalty @ beta**2
        slope = -design.T @ (observed.weights * sign * expit(-margins)) + 2 * penalty * beta
        return float(value), slope

    bounds = [(_MIN_GAIN * spread[0], None), (0.0, None), (0.0, None), (None, None)]
    beta = minimize(cost, np.array([1.0, 0, 0, 0]), jac=True, method="L-BFGS-B", bounds=bounds).x

    # 3. Back to the units of the cues: gain * (peak - offset) + similarity and margin terms.
    gain, similarity, margin = (beta[:3] / spread).tolist()
    intercept = float(beta[3] - (beta[:3] / spread) @ mean)
    return Calibration(gain, -intercept / gain, similarity, margin)


def calibrate(
    engine: Engine, options: TrackerOptions, sequences: Iterable[VideoSequence], passes: int = 2
) -> tuple[Calibration, Observations]:
    """Fit the score of weights; returns also the observations that it was fitted to.

    The box of a lost target depends on the score, so each of the `passes` over the sequences
    tracks with the fit of the one before.

    Raises:
        DatasetError: see `observe` and `fit`.
    """
    kept = list(sequences)
    for _ in range(passes):
        observed = observe(engine, options, kept)
        calibration = fit(observed)
        options = replace(options, **calibration.to_options(options))
    return calibration, observed


def probabilities(observed: Observations, calibration: Calibration) -> FloatArray:
    """(N,) scores that a tracker with this calibration gives."""
    peaks, similarities, margins = observed.cues.T
    x = calibration.score_gain * (peaks - calibration.score_offset)
    x = x + calibration.score_similarity * similarities + calibration.score_margin * margins
    scores: FloatArray = expit(x)
    return scores


def log_loss(scores: FloatArray, observed: Observations) -> float:
    """Mean negative log-likelihood of (N,) scores; scores of 0 and 1 count as almost that."""
    likely = np.where(observed.good, scores, 1.0 - scores)
    return float(-observed.weights @ np.log(np.clip(likely, 1e-6, 1.0)))


def leave_one_out(observed: Observations) -> FloatArray:
    """(N,) scores of every sequence's frames by a calibration fitted to the other sequences.

    Raises:
        DatasetError: there is one sequence only; see also `fit`.
    """
    scores = np.empty(len(observed.good))
    numbers = np.unique(observed.sequences)
    if len(numbers) < 2:
        raise DatasetError("one sequence cannot be left out of one; give two or more")
    for number in numbers:
        own = observed.sequences == number
        scores[own] = probabilities(observed.select(own), fit(observed.select(~own)))
    return scores


def calibration_curves(
    engine: Engine, options: TrackerOptions, sequences: Iterable[VideoSequence], *, check: bool
) -> tuple[dict[str, FloatArray], Observations, Calibration]:
    """(N,) scores by name, with the observations and the calibration that they belong to.

    With `check` the scores are those of the calibration in `options`, and none is fitted.

    Raises:
        DatasetError: see `observe`, `fit` and `leave_one_out`.
    """
    if check:
        present = Calibration.from_options(options)
        observed = observe(engine, options, sequences)
        return {"as it is": probabilities(observed, present)}, observed, present
    found, observed = calibrate(engine, options, sequences)
    curves = {"fitted": probabilities(observed, found), "left out": leave_one_out(observed)}
    return curves, observed, found


def reliability(
    scores: ArrayLike, good: ArrayLike, weights: ArrayLike, bins: int = 10
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Predicted against observed share of good boxes, in bins of equal width.

    Takes (N,) scores in [0, 1], flags and weights (sum 1). Returns weight, mean score and share of
    good boxes of each bin, (bins,); NaN in empty ones.
    """
    scores, good, weights = (np.asarray(v, np.float64) for v in (scores, good, weights))
    number = np.minimum((scores * bins).astype(int), bins - 1)
    mass = np.bincount(number, weights, bins).astype(np.float64)
    safe = np.where(mass > 0, mass, np.nan)
    predicted = np.bincount(number, weights * scores, bins) / safe
    found = np.bincount(number, weights * good, bins) / safe
    return mass, predicted, found


def expected_calibration_error(
    scores: ArrayLike, good: ArrayLike, weights: ArrayLike, bins: int = 10
) -> float:
    """Mean distance of predicted and observed share over bins (Naeini et al. 2015, equation 3)."""
    mass, predicted, found = reliability(scores, good, weights, bins)
    return float(np.nansum(mass * np.abs(predicted - found)))


def write_calibration(weights: str, calibration: Calibration, options: TrackerOptions) -> None:
    """Put a calibration into the card of weights, where `siamtrack.load` takes it from.

    Raises:
        WeightsError: no such weights, or without a card.
        OutputError: the card cannot be written.
    """
    card = read_card(weights)
    fields = calibration.to_options(options)
    card.tracker.update({name: round(value, 4) for name, value in fields.items()})
    notes = card.notes.replace(NOT_CALIBRATED, "The score is calibrated for these weights.")
    write_card(find_weights(weights), replace(card, notes=notes))
