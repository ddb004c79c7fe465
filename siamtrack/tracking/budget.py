"""Keeping the work on a frame within a time, by leaving out what can wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_RATE = 0.2  # of the running means: about the last ten frames
_SURPRISE = 3.0  # times the mean that one frame may count: a hiccup should not be believed
_FORGET = 0.98  # of what a window was thought to cost, when there was no room for one


class Budget:
    """Learns what a frame and one more search window take, and says how many windows fit.

    Looking around the last box is always done, also where that alone takes longer than the limit;
    the windows in which a lost target is looked for elsewhere get the time that is left. Where
    there is no room for any, the estimate of their cost shrinks from frame to frame, so that one is
    tried again now and then.

    Attributes:
        limit_s: time for one frame.
        frames: that were measured.
        over: of these, those that took longer than the limit.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        """Start without knowing anything.

        Args:
            limit_s: time for one frame; positive.
            clock: seconds, monotonic.
        """
        self.limit_s, self.frames, self.over = limit_s, 0, 0
        self._clock = clock
        self._frame_s: float | None = None
        self._window_s: float | None = None
        self._windows = 0

    def grant(self, wanted: int) -> int:
        """How many of the wanted windows fit into the frame that is being measured."""
        fitting = wanted
        if self._frame_s is not None and wanted:
            # One window costs no more than all of a frame.
            each_s = self._frame_s if self._window_s is None else self._window_s
            room = (self.limit_s - self._frame_s) / max(each_s, 1e-9)
            fitting = max(0, min(wanted, int(room) - self._windows))
            if room < 1.0:
                self._window_s = each_s * _FORGET
        self._windows += fitting
        return fitting

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Measure one frame; what was granted inside belongs to it."""
        self._windows = 0
        started_s = self._clock()
        yield
        took_s = self._clock() - started_s
        self.frames += 1
        self.over += took_s > self.limit_s
        if not self._windows:
            self._frame_s = _mean(self._frame_s, took_s)
        elif self._frame_s is not None:
            each_s = max(took_s - self._frame_s, 0.0) / self._windows
            before = self._frame_s if self._window_s is None else self._window_s
            # What did not fit should not be tried again at once.
            dearer = min(each_s, _SURPRISE * before)
            self._window_s = dearer if each_s > before else _mean(before, each_s)


def _mean(before: float | None, now: float) -> float:
    if before is None:
        return now
    return before + _RATE * (min(now, _SURPRISE * before) - before)
