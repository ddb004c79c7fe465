"""What the two ways to read a response have in common."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from siamtrack.engines.base import Response
from siamtrack.geometry import CropMap, FloatArray

APART = 0.3
"""Boxes that overlap by less lie on different things."""


class Candidate(NamedTuple):
    """Where the target seems to be.

    Attributes:
        box_xywh: (4,) frame px.
        peak_logit: the response where the target was found, before sigmoid.
        similarity: cosine between the embedding there, or in a neighbouring cell where that is more
            alike, and the exemplar's; 1 without embeddings.
        margin: how far the peak is above the best logit outside the target's neighbourhood.
    """

    box_xywh: FloatArray
    peak_logit: float
    similarity: float = 1.0
    margin: float = 0.0


class Localiser(Protocol):
    """Where to look, and what to read from what was seen there.

    Attributes:
        windows: how many `window_sides` there are.
        scan_crops: windows elsewhere that a lost target is looked for in, per frame.
        framing: share of the network's own way to draw boxes that is taken off them, see
            `siamtrack.tracking.framing`; 0 where the network draws none.
        doubt_frames: frames after a lost target was found in which it is looked for elsewhere
            all the same, see `siamtrack.tracking.doubt`.
    """

    windows: int
    scan_crops: int
    framing: float
    doubt_frames: int

    def window_sides(self, size_wh: FloatArray) -> list[float]:
        """Sides, in frame px, of the search windows around a target of this size."""
        ...

    def locate(self, response: Response, maps: list[CropMap], box_xywh: FloatArray) -> Candidate:
        """Find the target.

        Args:
            response: of the windows, in order. Nothing is found in cells of minus infinity.
            maps: of the windows, in order.
            box_xywh: (4,) where the target was, frame px.
        """
        ...

    def scan(
        self,
        response: Response,
        maps: list[CropMap],
        box_xywh: FloatArray,
        similarity: float = 0.0,
    ) -> Candidate | None:
        """Find the best place in windows anywhere in the frame, wherever in them it is.

        Args:
            response: of the windows, in order.
            maps: of the windows, in order; may be empty.
            box_xywh: (4,) the target as it was last, for its size.
            similarity: to the exemplar, that the target had while it was tracked.

        Returns:
            The candidate; None where none can be trusted, without windows, or where the loop cannot
            scan.
        """
        ...

    def nominate(self, response: Response, maps: list[CropMap]) -> tuple[float, float] | None:
        """The place in coarse windows that most deserves a close look.

        Args:
            response: of the windows, in order.
            maps: of the windows, in order; may be empty.

        Returns:
            x, y in frame px; None without windows, or where the loop cannot scan.
        """
        ...

    def trusts(self, found: Candidate, similarity: float) -> bool:
        """Whether a lost target's box may move to a candidate.

        Args:
            found: near or elsewhere.
            similarity: to the exemplar, that the target had while it was tracked.
        """
        ...

    def overrules(self, elsewhere: float, here: float) -> bool:
        """Whether a place elsewhere says that what was found was not the target.

        Args:
            elsewhere: score there.
            here: score of what was found, now or in the mean, whichever is higher.
        """
        ...
