"""What a tracker says about one target in one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["tracked", "uncertain", "lost"]
"""tracked: trust the box; uncertain: it may be off; lost: it is where the target was last seen."""


@dataclass(frozen=True, slots=True)
class Result:
    """Where one target is in one frame, and how far to believe it.

    Attributes:
        box: x, y, w, h in px of the frame, 0-based, inside the frame, never without area.
        score: calibrated probability in [0, 1] that the target is inside the box. The box a user
            gives counts as certain: score 1.
        status: the score with a memory, so that one bad frame does not lose a target and one good
            frame does not find it again.
    """

    box: tuple[float, float, float, float]
    score: float
    status: Status
