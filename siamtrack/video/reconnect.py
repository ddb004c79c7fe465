"""Streams and cameras that break off and come back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from siamtrack.errors import VideoError
from siamtrack.types import Image
from siamtrack.video.frames import Reader

_log = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
"""Waits before the tries to connect again: each is twice as long as the one before, up to this."""


class ReconnectingReader(Reader):
    """Read a source that has no end, and connect again when it breaks off, stalls or ends.

    Times go on by the clock, so what was missed is a gap in them.

    Args:
        reader: of the source, open.
        reopen: opens it again; raises `VideoError` where it cannot be reached.
        give_up_s: how long to try before giving up.
        clock: seconds, monotonic.
        wait: waits some seconds; returns True at once when reading is to end. None: a real wait,
            which `interrupt` ends.
    """

    def __init__(
        self,
        reader: Reader,
        reopen: Callable[[], Reader],
        *,
        give_up_s: float,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._reader, self._reopen = reader, reopen
        self._give_up_s = give_up_s
        self._clock = clock
        self._stopping = threading.Event()
        self._wait = wait or self._stopping.wait
        self._before = 0  # unreadable frames of connections that are over
        self._offset_s = self._last_s = 0.0
        self._last_clock_s = clock()
        self.info = reader.info
        self.unreadable = reader.unreadable

    def _read_next(self) -> tuple[Image, float] | None:
        try:
            delivered = self._reader.read()
            reason = VideoError(f"{self.info.name} has ended")
        except VideoError as error:
            delivered, reason = None, error
        if delivered is None:
            delivered = self._come_back(reason)
            if delivered is None:
                return None
            # The clock goes on from the last frame.
            gap_s = self._clock() - self._last_clock_s
            self._offset_s = self._last_s + gap_s - delivered[1]
        image, time_s = delivered
        self.unreadable = self._before + self._reader.unreadable
        self._last_s, self._last_clock_s = self._offset_s + time_s, self._clock()
        return image, self._last_s

    def _come_back(self, reason: VideoError) -> tuple[Image, float] | None:
        """Connect again; returns the first frame, or None if reading is to end."""
        self._reader.close()
        self._before = self.unreadable
        _log.warning("%s; connecting again, for up to %g s", reason, self._give_up_s)
        started_s, wait_s, failure = self._clock(), FIRST_WAIT_S, reason
        while self._clock() - started_s + wait_s <= self._give_up_s:
            if self._wait(wait_s):
                return None
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            try:
                self._reader = self._reopen()
                delivered = self._reader.read()
            except VideoError as error:
                failure = error
                continue
            if delivered is not None:
                gap_s = self._clock() - self._last_clock_s
                missed = f", about {gap_s * self.info.fps:.0f} frame(s)" if self.info.fps else ""
                _log.warning(
                    "%s is back; %.1f s are missed%s, and tracking goes on from the last boxes",
                    self.info.name,
                    gap_s,
                    missed,
                )
                return delivered
        raise VideoError(
            f"{self.info.name} did not come back within {self._give_up_s:g} s ({failure}); check "
            "the sender and the connection, or wait longer with a greater --reconnect"
        ) from failure

    def interrupt(self) -> None:
        """End a wait in progress; for another thread than the one that reads."""
        self._stopping.set()

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()
