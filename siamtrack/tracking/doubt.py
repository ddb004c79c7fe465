"""What was found after a loss may be a look-alike: for a while it stays in doubt.

A target that is lost is looked for everywhere, and the first place that is good enough is taken. If
the target was not in the frame then, that place is something like it, and nothing about it alone
shows that. The target does when it comes back: it is more like itself. So the search goes on until
what was found has been followed for some time, and a better place takes the box over.
"""

from __future__ import annotations

from dataclasses import dataclass

from siamtrack.tracking.result import Status

_RATE = 0.1  # of the running mean: about the last ten frames


@dataclass(frozen=True, slots=True)
class Doubt:
    """How much longer, and what a better place has to beat.

    Attributes:
        frames: in which the search still goes on; 0 where there is no doubt.
        standing: running mean of the score since the target was found.
    """

    frames: int = 0
    standing: float = 0.0

    def after(
        self, before: Status, now: Status, score: float, *, jumped: bool, frames: int
    ) -> Doubt:
        """The doubt after one more frame.

        Args:
            before: status of the frame before.
            now: status of this frame.
            score: of this frame.
            jumped: whether a better place took the box over.
            frames: that doubt lasts.
        """
        if now == "lost":
            return NO_DOUBT
        if before == "lost" or jumped:
            return Doubt(frames, score)
        if not self.frames:
            return self
        return Doubt(self.frames - 1, self.standing + _RATE * (score - self.standing))


NO_DOUBT = Doubt()
