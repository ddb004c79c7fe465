"""Which frames of a video are looked at, and in which order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from siamtrack.errors import ConfigError, VideoError, shown
from siamtrack.utils.config import plain_number
from siamtrack.video.frames import Frame
from siamtrack.video.random_access import NumberedFrames
from siamtrack.video.source import Source

SAME_TIME_S = 5e-4
"""Times this close are one: containers round to 1 ms."""
JUMP_FRAMES, JUMP_S = 50, 2.0
"""A start that is further away is looked for in the index; a nearer one is reached by reading on,
which costs less than making the index."""


@dataclass(frozen=True)
class Stretch:
    """A part of a video: the frames from a start to an end, all or some, forwards or backwards.

    Frames keep their numbers and times. Where it saves time, and the recording allows it, frames
    are read by number, without decoding what lies before the start.

    Attributes:
        start_frame: number of the first frame, from 0.
        end_frame: number of the last frame, included; None for the last there is.
        start_s: time of the first frame; the later one of both starts counts.
        end_s: time of the last frame, included.
        every: take one of so many frames, beginning with the first one looked at.
        reverse: from the end to the start; needs a recording whose frames can be read by number.

    Raises:
        ConfigError: a value that makes no sense, or an end before the start.
    """

    start_frame: int = 0
    end_frame: int | None = None
    start_s: float = 0.0
    end_s: float = math.inf
    every: int = 1
    reverse: bool = False

    def __post_init__(self) -> None:
        counted = {"start_frame": 0, "every": 1}
        if self.end_frame is not None:
            counted["end_frame"] = 0
        for name, least in counted.items():
            value = plain_number(getattr(self, name))
            if type(value) is not int or value < least:
                raise ConfigError(f"{name} is {shown(value)}; give a whole number from {least}")
        for name in ("start_s", "end_s"):
            value = plain_number(getattr(self, name))
            if type(value) not in (int, float) or not value >= 0:
                raise ConfigError(f"{name} is {shown(value)}; give seconds, from 0")
        is_frame = self.end_frame is not None and self.end_frame < self.start_frame
        if is_frame or self.end_s < self.start_s:
            last = f"frame {self.end_frame}" if is_frame else f"{self.end_s:g} s"
            raise ConfigError(f"the end, {last}, is before the start; give a later one")

    def frames_of(self, source: Source | Iterable[Frame]) -> Iterator[Frame]:
        """Deliver the frames of this part.

        Args:
            source: an open source, or any frames in order.

        Raises:
            VideoError: the video ends before the start, no frame is between start and end, or
                reading it fails.
            NotNumberedError: backwards, and the frames come in order only.
        """
        numbered = self._numbered(source)
        if numbered is not None:
            return (numbered[number] for number in self.numbers_in(numbered))
        return self._in_order(source)

    def count_in(self, source: Source) -> int | None:
        """How many frames will be delivered, at most; None when unknown."""
        numbered = self._numbered(source)
        if numbered is not None:
            return len(self.numbers_in(numbered))
        if source.frame_count is None:
            return None
        last = source.frame_count if self.end_frame is None else self.end_frame + 1
        return len(range(self.start_frame, min(last, source.frame_count), self.every))

    def may_hold(self, frame: int) -> bool:
        """Whether a frame is looked at, as far as that can be told without the video."""
        is_inside = self.start_frame <= frame
        is_inside &= self.end_frame is None or frame <= self.end_frame
        # Backwards or from a time, the first frame is not known yet.
        is_known = not self.reverse and self.start_s <= 0
        return is_inside and (not is_known or (frame - self.start_frame) % self.every == 0)

    def numbers_in(self, frames: NumberedFrames) -> range:
        """Numbers of the frames of this part, in the order in which they are looked at.

        Raises:
            VideoError: the video ends before the start, or no frame is between start and end.
        """
        count = len(frames)
        by_time = np.searchsorted(frames.times_s, self.start_s - SAME_TIME_S)
        first = max(self.start_frame, int(by_time))
        last = int(np.searchsorted(frames.times_s, self.end_s + SAME_TIME_S, side="right")) - 1
        last = last if self.end_frame is None else min(last, self.end_frame)
        if first >= count:
            raise self._begins_too_late(count)
        if last < first:
            raise self._falls_between()
        if self.reverse:
            return range(last, first - 1, -self.every)
        return range(first, last + 1, self.every)

    def _numbered(self, source: Source | Iterable[Frame]) -> NumberedFrames | None:
        """The frames by number, where they have to be or it saves time."""
        if not isinstance(source, Source):
            return None
        if self.reverse:
            return source.numbered
        is_far = self.start_frame >= JUMP_FRAMES or self.start_s >= JUMP_S
        return source.searchable if is_far or self.every > 1 else None

    def _in_order(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        seen, first = 0, None
        for frame in frames:
            seen = frame.index + 1
            # The last one may be missing, or lie before the time of the start.
            is_after = self.end_frame is not None and frame.index > self.end_frame
            if is_after or frame.time_s > self.end_s + SAME_TIME_S:
                break
            if frame.index < self.start_frame or frame.time_s < self.start_s - SAME_TIME_S:
                continue
            first = frame.index if first is None else first
            if (frame.index - first) % self.every == 0:
                yield frame
            if frame.index == self.end_frame:
                return
        else:
            if first is None:
                raise self._begins_too_late(seen)
        if first is None:
            raise self._falls_between()

    def _falls_between(self) -> VideoError:
        ends = [f"{self.end_s:g} s"] if self.end_s < math.inf else []
        ends += [] if self.end_frame is None else [f"frame {self.end_frame}"]
        return VideoError(
            f"no frame of the video lies between the start and the end, {' and '.join(ends)}; give "
            "a later end"
        )

    def _begins_too_late(self, count: int) -> VideoError:
        start = f"frame {self.start_frame}" if self.start_s <= 0 else f"{self.start_s:g} s"
        return VideoError(
            f"the video has {count} frames, so none can start at {start}; frames count from 0"
        )
