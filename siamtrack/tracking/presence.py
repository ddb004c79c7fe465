"""An honest word on whether the target is still there: a calibrated score and a status."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from siamtrack.tracking.options import TrackerOptions
from siamtrack.tracking.result import Status


class Cues(Protocol):
    """What speaks for a place and against it.

    Attributes:
        peak_logit: the response there, before sigmoid.
        similarity: cosine between the embedding there, or next to it, and the exemplar's.
        margin: how far the peak is above the best logit outside the target's neighbourhood;
            negative where something else in the window responds more.
    """

    @property
    def peak_logit(self) -> float: ...  # noqa: D102
    @property
    def similarity(self) -> float: ...  # noqa: D102
    @property
    def margin(self) -> float: ...  # noqa: D102


def calibrated_score(cues: Cues, options: TrackerOptions) -> float:
    """Probability that the box is on the target, by logistic regression over three cues.

    score = sigmoid(gain (peak - offset) + w_s similarity + w_m margin), which is Platt scaling
    (Platt 1999) of the peak when both weights are 0. All three come with the response, at no cost.
    """
    x = options.score_gain * (cues.peak_logit - options.score_offset)
    x += options.score_similarity * cues.similarity + options.score_margin * cues.margin
    return 0.5 * (1.0 + math.tanh(0.5 * x))


@dataclass(frozen=True, slots=True)
class Presence:
    """The score's memory: hysteresis between tracked, uncertain and lost.

    Attributes:
        status: what the last frame was called.
        against: frames in a row, up to now, whose score spoke for loss.
        in_favour: frames in a row, up to now, whose score spoke for the target.
    """

    status: Status = "tracked"
    against: int = 0
    in_favour: int = 0

    def after(self, score: float, options: TrackerOptions) -> Presence:
        """The state after one more frame."""
        against = self.against + 1 if score < options.lost_below else 0
        in_favour = self.in_favour + 1 if score >= options.tracked_above else 0
        return Presence(self._status(against, in_favour, options), against, in_favour)

    def _status(self, against: int, in_favour: int, options: TrackerOptions) -> Status:
        if self.status == "lost":
            return "tracked" if in_favour >= options.found_after else "lost"
        if against >= options.lost_after:
            return "lost"
        return "tracked" if in_favour > 0 else "uncertain"
