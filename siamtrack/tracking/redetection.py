"""Looking for a lost target all over the frame, a few windows at a time.

A frame that many windows are needed for is looked through in larger ones first, where the target is
smaller than the network likes it; the best place that they show is looked at closely in the next
frame, and only what is seen there counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from siamtrack.geometry import CropMap
from siamtrack.tracking.result import Status
from siamtrack.types import FloatArray

COARSENESS = 2.0
"""Side of a coarse window over that of a close one. On the development sequences the best cell of a
window is on the target in 97 of 100 close ones, 95 at 1.5, 83 at 2, 58 at 2.5 and 34 at 3; the
number of windows falls with the square."""

FEW_WINDOWS = 24
"""As many close windows are looked at without coarse ones before."""


def next_windows(
    centre_xy: FloatArray,
    side_px: float,
    frame_wh: tuple[int, int],
    *,
    scanned: int,
    nominee_xy: Sequence[float] | None,
    count: int,
) -> list[tuple[FloatArray, float]]:
    """The next windows of a scan that goes round and round.

    Args:
        centre_xy: (2,) where the target was last seen, frame px.
        side_px: side of a close window.
        frame_wh: frame size, px.
        scanned: windows of the grid that have been looked at.
        nominee_xy: the best place in the coarse windows of the last frame; None without one.
        count: windows at the most.

    Returns:
        Centre (2,) and side of each window, frame px; the close look at the nominee comes first.
    """
    if count <= 0:
        return []
    grid = scan_centres(centre_xy, side_px, frame_wh)
    side = side_px
    if len(grid) > FEW_WINDOWS:
        side *= COARSENESS
        grid = scan_centres(centre_xy, side, frame_wh)
    close = [] if nominee_xy is None else [(np.asarray(nominee_xy), side_px)]
    more = min(count - len(close), len(grid))
    return [*close, *((grid[(scanned + k) % len(grid)], side) for k in range(more))]


def count_close(near: CropMap, others: Sequence[CropMap]) -> int:
    """How many of a scan's windows are close, that is of the size of the one near the target."""
    limit = near.scale * (1.0 + COARSENESS) / 2
    return sum(other.scale < limit for other in others)


def scan_centres(
    centre_xy: FloatArray, side_px: float, frame_wh: tuple[int, int]
) -> list[FloatArray]:
    """Centres of windows that cover the frame, the nearest to a point first.

    Neighbours overlap by half, so that a target no larger than a quarter of a window is whole in
    one of them.

    Args:
        centre_xy: (2,) where the target was last seen, frame px.
        side_px: side of a window.
        frame_wh: frame size, px.
    """
    columns, rows = (list(_stops(side_px, length)) for length in frame_wh)
    grid = np.array([(x, y) for y in rows for x in columns])
    order = np.argsort(np.hypot(*(grid - centre_xy).T), kind="stable")
    return [grid[k] for k in order]


def _stops(side_px: float, length: int) -> Iterator[float]:
    """Window centres along one axis: evenly spread, half a window apart or less."""
    span = max(length - side_px, 0.0)
    count = int(np.ceil(span / (side_px / 2))) + 1
    first = length / 2 - span / 2
    for k in range(count):
        yield first + (span * k / (count - 1) if count > 1 else 0.0)


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

_COST_RATE = 0.2  # of the running means: about the last ten frames
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
    return before + _COST_RATE * (min(now, _SURPRISE * before) - before)
