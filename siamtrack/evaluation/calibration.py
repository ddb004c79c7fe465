"""Making the score a probability, and measuring how true it is.

The score says how probable it is that the box is on the target, by logistic regression over the
cues of `siamtrack.tracking.decode`. The regression belongs to the weights and is fitted on
sequences that they have not been trained on; how true it is elsewhere is seen by leaving out one
sequence after the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from siamtrack.data.sequence import VideoSequence
from siamtrack.engines.base import Engine
from siamtrack.errors import DatasetError
from siamtrack.evaluation.runs import track_sequence
from siamtrack.geometry import iou
from siamtrack.models.weights import find_weights, read_card, write_card
from siamtrack.tracking.decode import Prediction
from siamtrack.tracking.options import TrackerOptions
from siamtrack.tracking.result import Result
from siamtrack.tracking.tracker import Tracker
from siamtrack.types import FloatArray, Image

GOOD_OVERLAP = 0.5
"""A box is on the target when it overlaps the truth by more than this."""

_SOFTEST = 1e-4  # on squared weights of standardised cues, so that separable data have an end

_LEAST_GAIN = 0.01  # a higher peak is never worse news, nor are likeness and a lead


class Observations(NamedTuple):
    """Frames of several sequences.

    Attributes:
        cues: (N, 3) peak of the response, similarity and margin.
        good: (N,) bool, the box was on the target; False where the target was absent.
        weights: (N,) such that every sequence weighs the same, sum 1.
        sequences: (N,) number of the sequence.
    """

    cues: FloatArray
    good: NDArray[np.bool_]
    weights: FloatArray
    sequences: NDArray[np.int64]

    def part(self, chosen: NDArray[np.bool_]) -> Observations:
        """Some of the frames, their weights summing to 1 again."""
        weights = self.weights[chosen]
        return Observations(
            self.cues[chosen],
            self.good[chosen],
            weights / max(weights.sum(), 1e-300),
            self.sequences[chosen],
        )


class Calibration(NamedTuple):
    """Fields of `TrackerOptions` that make the score a probability."""

    score_gain: float
    score_offset: float
    score_similarity: float
    score_margin: float

    @classmethod
    def of(cls, options: TrackerOptions) -> Calibration:
        """The one that a tracker has."""
        return cls(*(getattr(options, name) for name in cls._fields))


class _Witness(Tracker):
    """A tracker that notes what each score was made of."""

    def __init__(self, engine: Engine, options: TrackerOptions) -> None:
        super().__init__(engine, options)
        self.seen: list[Prediction | None] = []

    def update(self, frame_bgr: Image) -> Result:
        result = super().update(frame_bgr)
        self.seen.append(None if self.state is None else self.state.last_prediction)
        return result


def observe(
    engine: Engine, options: TrackerOptions, sequences: Iterable[VideoSequence]
) -> Observations:
    """Track sequences once each and note the cues and whether the box was right.

    Args:
        engine: runs the weights.
        options: of the loop. Their calibration matters where a target is lost: it decides when the
            box stays and where it is looked for.
        sequences: with truth; those that are seen in fewer than two frames are left out.

    Raises:
        DatasetError: no sequence is left.
    """
    cues: list[list[tuple[float, float, float]]] = []
    good: list[NDArray[np.bool_]] = []
    for sequence in sequences:
        if sequence.visible.sum() < 2:
            continue
        tracker = _Witness(engine, options)
        first, (_, *results) = track_sequence(tracker, sequence)
        truth = sequence.boxes[first + 1 : first + 1 + len(results)]
        overlaps = np.nan_to_num(iou([r.box for r in results], truth))
        cues.append([(s.peak_logit, s.similarity, s.margin) for s in tracker.seen if s is not None])
        good.append(overlaps > GOOD_OVERLAP)
    if not cues:
        raise DatasetError("no sequence shows its target in two frames; give sequences with truth")
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in good])
    numbers = np.repeat(np.arange(len(good)), [len(part) for part in good])
    together = np.array([row for part in cues for row in part], dtype=np.float64)
    return Observations(together, np.concatenate(good), weights / weights.sum(), numbers)


def fit(seen: Observations) -> Calibration:
    """Fit the regression by weighted maximum likelihood.

    No cue counts against the target: weights that would are 0.

    Raises:
        DatasetError: all boxes were right, or none was; there is nothing to fit.
    """
    if seen.good.all() or not seen.good.any():
        kind = "right" if seen.good.all() else "wrong"
        raise DatasetError(f"every box was {kind}; calibration needs sequences with both kinds")
    mean = seen.weights @ seen.cues
    spread = np.sqrt(seen.weights @ (seen.cues - mean) ** 2) + 1e-9
    design = np.column_stack([(seen.cues - mean) / spread, np.ones(len(seen.cues))])
    sign = np.where(seen.good, 1.0, -1.0)
    soft = np.array([_SOFTEST] * 3 + [0.0])

    def cost(beta: FloatArray) -> tuple[float, FloatArray]:
        margins = sign * (design @ beta)
        value = -seen.weights @ log_expit(margins) + soft @ beta**2
        slope = -design.T @ (seen.weights * sign * expit(-margins)) + 2 * soft * beta
        return float(value), slope

    bounds = [(_LEAST_GAIN * spread[0], None), (0.0, None), (0.0, None), (None, None)]
    beta = minimize(cost, np.array([1.0, 0, 0, 0]), jac=True, method="L-BFGS-B", bounds=bounds).x
    gain, likeness, lead = (beta[:3] / spread).tolist()
    intercept = float(beta[3] - (beta[:3] / spread) @ mean)
    return Calibration(gain, -intercept / gain, likeness, lead)


def calibrate(
    engine: Engine, options: TrackerOptions, sequences: Iterable[VideoSequence], passes: int = 2
) -> tuple[Calibration, Observations]:
    """Fit the score of weights, and what it was fitted to.

    Args:
        engine: runs the weights.
        options: of the loop.
        sequences: see `observe`.
        passes: over the sequences. What a lost target's box does depends on the score, so the
            score is fitted once more to what is seen with the first fit.

    Raises:
        DatasetError: see `observe` and `fit`.
    """
    kept = list(sequences)
    for _ in range(passes):
        seen = observe(engine, options, kept)
        found = fit(seen)
        options = replace(options, **found._asdict())
    return found, seen


def probabilities(seen: Observations, found: Calibration) -> FloatArray:
    """(N,) scores that a tracker with this calibration gives."""
    peaks, similarities, margins = seen.cues.T
    x = found.score_gain * (peaks - found.score_offset)
    x = x + found.score_similarity * similarities + found.score_margin * margins
    scores: FloatArray = expit(x)
    return scores


def left_out(seen: Observations) -> FloatArray:
    """(N,) scores of every sequence's frames by a calibration fitted to the other sequences.

    Raises:
        DatasetError: there is one sequence only, or without one of them all boxes are right or
            wrong.
    """
    scores = np.empty(len(seen.good))
    numbers = np.unique(seen.sequences)
    if len(numbers) < 2:
        raise DatasetError("one sequence cannot be left out of one; give two or more")
    for number in numbers:
        own = seen.sequences == number
        scores[own] = probabilities(seen.part(own), fit(seen.part(~own)))
    return scores


def curves_of(
    engine: Engine, options: TrackerOptions, sequences: Iterable[VideoSequence], *, check: bool
) -> tuple[dict[str, FloatArray], Observations, Calibration]:
    """Scores to judge, by name, with what was seen and the calibration that they belong to.

    Args:
        engine: runs the weights.
        options: of the loop.
        sequences: see `observe`.
        check: judge the score that the options have, instead of fitting one.

    Raises:
        DatasetError: see `observe`, `fit` and `left_out`.
    """
    if check:
        present, seen = Calibration.of(options), observe(engine, options, sequences)
        return {"as it is": probabilities(seen, present)}, seen, present
    found, seen = calibrate(engine, options, sequences)
    return {"fitted": probabilities(seen, found), "left out": left_out(seen)}, seen, found


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


def error_of(scores: FloatArray, seen: Observations) -> float:
    """Expected calibration error of (N,) scores of frames that were seen."""
    return expected_calibration_error(scores, seen.good, seen.weights)


def write(weights: str, found: Calibration) -> None:
    """Put a calibration into the card of weights, where `siamtrack.load` takes it from.

    Raises:
        WeightsError: no such weights, or without a card.
        OutputError: the card cannot be written.
    """
    card = read_card(weights)
    card.tracker.update({name: round(value, 4) for name, value in found._asdict().items()})
    write_card(find_weights(weights), card)
