"""Options of the tracking loop, with what raising and lowering each of them does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from siamtrack.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerOptions:
    """What all loops share.

    Attributes:
        window_influence: weight of the cosine window against the response, in [0, 1]. Raising it
            trusts that the target moves little: fewer jumps to look-alikes, worse at fast motion.
        score_gain: slope of the score over the peak of the response. This and the next three make
            the score a probability that the box is right, see `calibrated_score`; they belong to
            the weights and are fitted by tools/calibrate.py.
        score_offset: the peak at which the score is 1/2 when the next two are 0.
        score_similarity: weight of the embedding's similarity to the exemplar. Raising it doubts
            things that respond strongly and look different; 0 leaves it out.
        score_margin: weight of the peak's lead over the rest of the window. Raising it doubts
            peaks that are no higher than others; 0 leaves it out.
        tracked_above: score from which a target counts as tracked. Raising it says "uncertain"
            more often.
        lost_below: score under which a frame speaks for loss. Raising it says "lost" sooner and
            more often wrongly.
        lost_after: frames in a row that must speak for loss.
        found_after: frames in a row that must speak for the target before a lost one is found.
        budget_ms: time for one frame, of all targets together; 0 for no limit. Lowering it looks
            for lost targets in fewer places per frame, and makes results depend on the machine.
    """

    window_influence: float = 0.4
    score_gain: float = 1.0
    score_offset: float = 0.0
    score_similarity: float = 0.0
    score_margin: float = 0.0
    tracked_above: float = 0.5
    lost_below: float = 0.2
    lost_after: int = 8
    found_after: int = 2
    budget_ms: float = 0.0

    def __post_init__(self) -> None:
        self._check("window_influence", 0.0, 1.0)
        self._check("score_gain", 1e-6, math.inf)
        self._check("score_offset", -math.inf, math.inf)
        self._check("score_similarity", 0.0, math.inf)
        self._check("score_margin", 0.0, math.inf)
        self._check("tracked_above", 0.0, 1.0)
        self._check("lost_below", 0.0, self.tracked_above)
        self._check("lost_after", 1, math.inf)
        self._check("found_after", 1, math.inf)
        self._check("budget_ms", 0.0, math.inf)

    def _check(self, name: str, low: float, high: float) -> None:
        value: float = getattr(self, name)
        integer = isinstance(next(f for f in fields(self) if f.name == name).default, int)
        kind: type | tuple[type, ...] = int if integer else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind):
            raise ConfigError(
                f"{name} is {value!r}; give {'an integer' if integer else 'a number'}"
            )
        if not low <= value <= high:
            raise ConfigError(f"{name} is {value}; give a value from {low:g} to {high:g}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Make options from keywords.

        Raises:
            ConfigError: an unknown option (with the nearest spelling), or a bad value.
        """
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                raise ConfigError.unknown("tracker option", name, known)
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxHeadOptions(TrackerOptions):
    """Options for networks that predict a box.

    Attributes:
        shape_penalty: cost of a change in size or aspect between frames. Raising it steadies the
            box and slows it where the target really changes.
        size_rate: share of the predicted size that the box takes on in one frame, before it is
            reduced by penalty and score. Raising it follows size changes faster and jitters more.
        framing: share of the difference between the network's box and the given one, measured on
            the first frame, that is taken off all later boxes. Raising it draws boxes as the first
            one was drawn, and bears with a careless one less well; 0 leaves the network's boxes as
            they are and saves five network passes at the start.
        hold_below: peaks of the response under this, in [0, 1], do not move the box. Raising it
            waits where the target was instead of following a weak peak elsewhere.
        scan_crops: search windows elsewhere in the frame that a lost target is looked for in, per
            frame, coarsely first where the frame is large; 0 turns looking off. Raising it finds a
            target sooner that comes back far from where it was lost, at the cost of as many network
            passes while it is lost.
        found_above: score that a place elsewhere must have before the box jumps there. Raising it
            jumps to fewer look-alikes and finds fewer targets.
        found_similarity: share of the similarity to the exemplar that the target had while it was
            tracked, which such a place must have too.
        doubt_frames: frames after a lost target was found in which it is looked for elsewhere all
            the same. Raising it comes back more often from a look-alike that was taken for the
            target, at the cost of the network passes; 0 believes what was found.
        overruled_above: score that a place elsewhere must have, besides a higher one than what was
            found, before the box jumps there. Raising it jumps less, to the target and from it.
    """

    shape_penalty: float = 0.05
    size_rate: float = 0.35
    framing: float = 0.7
    hold_below: float = 0.0
    scan_crops: int = 3
    found_above: float = 0.6
    found_similarity: float = 0.8
    doubt_frames: int = 60
    overruled_above: float = 0.9

    def __post_init__(self) -> None:
        # Not super(): a slotted dataclass is a new class, which zero-argument super() misses.
        TrackerOptions.__post_init__(self)
        self._check("shape_penalty", 0.0, math.inf)
        self._check("size_rate", 0.0, 1.0)
        self._check("framing", 0.0, 1.0)
        self._check("hold_below", 0.0, 1.0)
        self._check("scan_crops", 0, 64)
        self._check("found_above", 0.0, 1.0)
        self._check("found_similarity", 0.0, 1.0)
        self._check("doubt_frames", 0, math.inf)
        self._check("overruled_above", 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePyramidOptions(TrackerOptions):
    """Options of SiamFC's loop; the defaults are the paper's three-scale tracker.

    Attributes:
        window_influence: 0.176 in the authors' code.
        scale_count: scales searched, odd. 5 gains little and costs two thirds more.
        scale_step: ratio of neighbouring scales. Raising it follows faster changes, coarsely.
        scale_penalty: factor on the response of all scales but the present one. Lowering it keeps
            the size steadier.
        scale_rate: share of the winning scale change that is taken on in one frame.
        response_upsampling: factor by which the response is enlarged, bicubically, before the peak
            is taken: 16 makes the step half a pixel of the search crop.
    """

    window_influence: float = 0.176
    scale_count: int = 3
    scale_step: float = 1.0375
    scale_penalty: float = 0.9745
    scale_rate: float = 0.59
    response_upsampling: int = 16

    def __post_init__(self) -> None:
        TrackerOptions.__post_init__(self)
        self._check("scale_count", 1, 15)
        self._check("scale_step", 1.0, 2.0)
        self._check("scale_penalty", 0.0, 1.0)
        self._check("scale_rate", 0.0, 1.0)
        self._check("response_upsampling", 1, 64)
        if self.scale_count % 2 == 0:
            raise ConfigError(f"scale_count is {self.scale_count}; give an odd number")
