"""How much of its time a run has used, for runs that end by themselves."""

from __future__ import annotations

import time

import torch

from siamtrack.training.distributed import ProcessGroup


class RunClock:
    """Seconds that a run took, with those before it was resumed; it starts when it is made.

    Attributes:
        before_s: seconds before the run was resumed.

    Args:
        max_minutes: limit of the whole run; 0 is none.
    """

    def __init__(self, max_minutes: float) -> None:
        self.max_minutes, self.before_s = max_minutes, 0.0
        self._started_s = time.monotonic()

    def seconds(self) -> float:
        """Seconds so far, in this process."""
        return self.before_s + time.monotonic() - self._started_s

    def share(self, group: ProcessGroup) -> float:
        """Part of the limit that is used up, 1 or more at the end; 0 without a limit.

        It is the mean over the processes, so that all of them end after the same step; all of them
        must call it.
        """
        if not self.max_minutes:
            return 0.0
        used = torch.tensor(self.seconds() / (60.0 * self.max_minutes))
        return group.mean(used).item()
