"""The result of one target in one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from siamtrack.types import Box

Status = Literal["tracked", "uncertain", "lost"]
"""tracked: the box is probably right; uncertain: it may be off; lost: a guess."""


@dataclass(frozen=True, slots=True)
class Result:
    """Where one target is in one frame, and how certain that is.

    Attributes:
        box: x, y, w, h in frame px, 0-based; inside the frame, at least 2 px wide and high.
        score: calibrated probability in [0, 1] that the target is inside the box; 1 for the box
            that the user gave.
        status: the score with hysteresis: one bad frame does not lose the target, one good frame
            does not recover it.
    """

    box: Box
    score: float
    status: Status

    @property
    def xyxy(self) -> Box:
        """Left, top, right and bottom in frame px.

        Example:
            >>> Result((10.0, 20.0, 5.0, 5.0), 0.9, "tracked").xyxy
            (10.0, 20.0, 15.0, 25.0)
        """
        x, y, w, h = self.box
        return x, y, x + w, y + h

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the column names of the CSV table.

        Example:
            >>> Result((10.0, 20.0, 5.0, 5.0), 0.9, "tracked").to_dict()
            {'x': 10.0, 'y': 20.0, 'w': 5.0, 'h': 5.0, 'score': 0.9, 'status': 'tracked'}
        """
        x, y, w, h = self.box
        return {"x": x, "y": y, "w": w, "h": h, "score": self.score, "status": self.status}
