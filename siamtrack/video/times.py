"""When the frames of a video are shown: the rate that it states, and times from 0.

FFmpeg gives every stream a rate and mostly time stamps. Some of them are invented: those of a bare
stream (.h264, .mjpeg, a camera behind HTTP) are 1/25 s apart, whatever the camera did.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from siamtrack.video.frames import DEFAULT_FPS, MAX_FPS

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_log = logging.getLogger(__name__)

BARE_FPS = 25.0
"""Rate assumed for a bare stream whose header states none; FFmpeg and players assume it, too."""
NEW_CLOCK_S = 10.0
"""A longer step between two frames is a new clock, where recordings may be joined as bytes
(MPEG-TS). FFmpeg's dts_delta_threshold."""
BROKEN_STAMP_S = 30 * 3600.0
"""The same elsewhere, where a long step may be a pause. FFmpeg's dts_error_threshold."""
_BARE, _JOINED = 0x0080, 0x0200  # AVFMT_NOTIMESTAMPS and AVFMT_TS_DISCONT of FFmpeg
_STAMPED_BY_HEADER = frozenset({"m4v", "mpegvideo"})
"""Bare streams whose parser makes time stamps from the rate in the header."""


def has_time_stamps(container: InputContainer) -> bool:
    """Whether the container records when its frames are shown."""
    return not is_bare(container) or container.format.name in _STAMPED_BY_HEADER


def is_bare(container: InputContainer) -> bool:
    """Whether this is a stream without a container, whose rate and stamps FFmpeg makes up."""
    return bool(container.format.flags & _BARE) or container.format.name.endswith("_pipe")


def is_endless(container: InputContainer) -> bool:
    """Whether nothing tells where it ends: a camera, rather than a recording behind an address."""
    return container.duration is None and container.size <= 0


def may_restart(container: InputContainer) -> bool:
    """Whether recordings of this format are joined as bytes, so that its clock may start anew."""
    return bool(container.format.flags & _JOINED)


def stated_rate(container: InputContainer, stream: VideoStream) -> float | None:
    """Nominal frames per second by the container or the stream's header; None where unknown."""
    rates = [stream.average_rate, stream.guessed_rate]
    if is_bare(container):  # where both are FFmpeg's 25, whatever the header says
        rates = [stream.codec_context.framerate]
    return next((float(rate) for rate in rates if rate and 0 < rate <= MAX_FPS), None)


def warn_of_assumed_rate(name: str, fps: float) -> None:
    """Say that the times of a source are a guess."""
    _log.warning(
        "%s states no frame rate; %g frames per second are assumed for its times (give the rate "
        "with --fps, in Python with fps=)",
        name,
        fps,
    )


class StampTimes:
    """Turns time stamps into times from 0 that never go back.

    Args:
        fps: nominal rate; None when unknown. Frames without a stamp follow at this rate.
        start_s: stamp at which the video begins; None: that of the first frame.
        new_clock_s: a step forward beyond this many s is a clock that started anew.

    Attributes:
        origin_s: stamp that is shown as time 0.
        last_s: time of the last frame; None before the first.
    """

    def __init__(
        self, fps: float | None, start_s: float | None = None, *, new_clock_s: float
    ) -> None:
        self._interval_s = 1 / (fps or DEFAULT_FPS)
        self._start_s = start_s
        self._new_clock_s = new_clock_s
        self.origin_s = 0.0
        self._stamp_s = 0.0  # the last one
        self.last_s: float | None = None

    def __call__(self, stamp_s: float | None) -> float:
        """Time of the next frame in s, by its stamp if it has one."""
        if self.last_s is None:
            time_s = self._begin(stamp_s)
        elif stamp_s is None or stamp_s == self._stamp_s:  # none, or one rounded to that before
            time_s = self.last_s + self._interval_s
        elif self._stamp_s <= stamp_s <= self._stamp_s + self._new_clock_s:
            time_s = max(stamp_s - self.origin_s, self.last_s)
        else:
            # The sender started over: continue from here.
            time_s = self.last_s + self._interval_s
            self.origin_s = stamp_s - time_s
        self._stamp_s = self._stamp_s if stamp_s is None else stamp_s
        self.last_s = time_s
        return time_s

    def _begin(self, stamp_s: float | None) -> float:
        if stamp_s is None:
            self.origin_s = self._start_s or 0.0
            return 0.0
        # Frames lost at the beginning leave a gap; the start of another clock says nothing.
        start_s = stamp_s if self._start_s is None else self._start_s
        is_near = 0 <= stamp_s - start_s <= self._new_clock_s
        self.origin_s = start_s if is_near else stamp_s
        return stamp_s - self.origin_s


class CountedTimes(StampTimes):
    """Times by the number of the frame, for videos whose stamps are missing or not wanted."""

    def __init__(self, fps: float) -> None:
        super().__init__(fps, new_clock_s=BROKEN_STAMP_S)
        self._fps = fps
        self._count = 0

    def __call__(self, stamp_s: float | None) -> float:
        """Time of the next frame in s; the stamp is ignored."""
        self.last_s = self._count / self._fps
        self._count += 1
        return self.last_s


class ArrivalTimes(StampTimes):
    """Times of arrival, for live sources that send no stamps; `clock` in s, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(None, new_clock_s=BROKEN_STAMP_S)
        self._clock = clock

    def __call__(self, stamp_s: float | None) -> float:
        """Time in s since the first frame; the stamp is ignored."""
        now_s = self._clock()
        if self.last_s is None:
            self.origin_s = now_s
        self.last_s = now_s - self.origin_s
        return self.last_s
