"""Reading the pictures of a video file or a network stream, damage and all."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import av
import av.error
import cv2
import numpy as np

from siamtrack.errors import VideoError
from siamtrack.video.containers import frame_rate, reason, seconds
from siamtrack.video.frames import Footage, Image

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_log = logging.getLogger(__name__)

DEFAULT_FPS = 30.0
MAX_FAILURES = 100
"""Reads in a row that may fail before the rest of a file is given up."""
SHORT_TAIL_S = 0.25
"""How much earlier than its header says a file without a frame count may end and still be whole."""
QUARTER_TURNS = {
    1: cv2.ROTATE_90_COUNTERCLOCKWISE,
    2: cv2.ROTATE_180,
    3: cv2.ROTATE_90_CLOCKWISE,
}


class _Clock:
    """Presentation times that start at 0 and never go back."""

    def __init__(self, start_s: float | None, interval_s: float) -> None:
        self._start_s = start_s
        self._origin_s = 0.0
        self._interval_s = interval_s
        self.last_s: float | None = None

    def at(self, stamp_s: float | None) -> float:
        """Time of the next frame, whose time stamp this is."""
        if self.last_s is None:
            known = [stamp for stamp in (self._start_s, stamp_s) if stamp is not None]
            self._origin_s = min(known, default=0.0)
            time_s = 0.0 if stamp_s is None else stamp_s - self._origin_s
        elif stamp_s is None:
            time_s = self.last_s + self._interval_s
        else:
            time_s = stamp_s - self._origin_s
            if time_s < self.last_s:
                # The sender began anew: go on from here.
                time_s = self.last_s + self._interval_s
                self._origin_s = stamp_s - time_s
        self.last_s = time_s
        return time_s


class ContainerReader:
    """Decodes the best video stream of a container, upright, with its own time stamps.

    Damage is skipped and counted: packets that are cut off or that do not decode, and, where the
    container tells how many frames or seconds it should have, what is missing at its end.

    Args:
        container: from `open_container`; the reader closes it.
        stream: from `open_container`.
        name: short name of the source.
        shown: what messages call it.
        is_stream: it comes over a network, so that the end of reading may be a failure.
        low_latency: decode each frame as it comes rather than several at a time.
        fps: rate to assume where the container tells none.

    Raises:
        VideoError: not one frame can be decoded.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        *,
        name: str,
        shown: str,
        is_stream: bool = False,
        low_latency: bool = False,
        fps: float | None = None,
    ) -> None:
        self._container = container
        self._stream = stream
        stream.thread_type = "SLICE" if low_latency else "AUTO"
        self._shown = shown
        self._is_stream = is_stream
        self._fps = frame_rate(stream) or fps
        self._clock = _Clock(
            None if is_stream else seconds(stream, stream.start_time),
            1 / (self._fps or DEFAULT_FPS),
        )
        self._end_s = 0.0
        self._packets_seen = self._discarded = self._decoded = 0
        self._read_failed = False
        self.unreadable = 0
        self._failure: VideoError | None = None
        self._frames = self._decode()
        self._first: tuple[Image, float] | None = None
        try:
            self._first = self.read()
        finally:
            if self._first is None:
                container.close()
        if self._first is None:
            raise VideoError(
                f"{shown} holds no frame that can be read; it is empty or damaged: see whether a "
                "player shows it"
            )
        height, width = self._first[0].shape[:2]
        self.footage = Footage(name, self._fps, (width, height), self._count())

    def read(self) -> tuple[Image, float] | None:
        """Next picture; see `Reader.read`."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        frame = next(self._frames, None)
        if frame is None:
            return None
        self._decoded += 1
        return _picture(frame), self._clock.at(seconds(self._stream, frame.pts))

    def close(self) -> None:
        """Close the file or the connection."""
        self._frames.close()
        self._container.close()

    def _decode(self) -> Generator[VideoFrame, None, None]:
        for packet in self._packets():
            if packet is not None and packet.is_corrupt:
                self.unreadable += 1
                continue
            try:
                frames = self._stream.decode(packet)
            except av.error.FFmpegError as error:
                _log.debug("%s: %s", self._shown, error)
                self.unreadable += 1
                continue
            yield from frames
        if self._failure is not None:
            raise self._failure
        self.unreadable = max(self.unreadable, self._missing(), int(self._read_failed))

    def _packets(self) -> Iterator[Packet[Stream] | None]:
        """Packets in order, then None, which lets the decoder give out what it still holds."""
        failures = 0
        while failures < MAX_FAILURES and self._failure is None:
            try:
                for packet in self._container.demux():
                    if not packet.size:
                        continue
                    failures = 0
                    self._note_end(packet)
                    if packet.stream.index == self._stream.index:
                        self._packets_seen += 1
                        self._discarded += packet.is_discard
                        yield packet
                break
            except av.error.FFmpegError as error:
                failures += 1
                if self._is_stream and not isinstance(error, av.error.InvalidDataError):
                    self._failure = self._broken_off(error)
                self._read_failed = True
        yield None

    def _note_end(self, packet: Packet[Stream]) -> None:
        if packet.pts is not None and packet.time_base is not None:
            end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            self._end_s = max(self._end_s, end_s - (self._container.start_time or 0) / av.time_base)

    def _broken_off(self, error: av.error.FFmpegError) -> VideoError:
        failure = VideoError(
            f"{self._shown} broke off after {self._decoded} frame(s) ({reason(error)}); check "
            "the sender and the connection"
        )
        failure.__cause__ = error
        return failure

    def _expected(self) -> tuple[int, int]:
        """Frames by the container's own count, and by its duration; 0 where it does not tell."""
        by_duration = round((self._duration_s() or 0.0) * (self._fps or 0.0))
        counted = self._stream.frames
        # The count of a file that was never finished covers its first piece only.
        return (counted if 2 * counted >= by_duration else 0), by_duration

    def _count(self) -> int | None:
        counted, by_duration = self._expected()
        return counted or by_duration or None

    def _duration_s(self) -> float | None:
        own_s = seconds(self._stream, self._stream.duration)
        if own_s is None and self._container.duration is not None:
            return self._container.duration / av.time_base
        return own_s

    def _missing(self) -> int:
        """Frames that should have come and did not, at the end of reading."""
        counted, _ = self._expected()
        if counted:
            # A frame may take two packets, or none may be shown for one: only where packets are
            # missing or damaged do fewer frames than counted mean a loss.
            whole = self._packets_seen >= counted and not self.unreadable
            return (
                0
                if whole and not self._read_failed
                else max(0, counted - self._discarded - self._decoded)
            )
        if self._container.duration is None or self._fps is None:
            return 0
        # Sound may well last longer than the pictures; only a file cut off ends early with both.
        duration_s = self._container.duration / av.time_base
        if duration_s - self._end_s < SHORT_TAIL_S:
            return 0
        tail_s = duration_s - (self._clock.last_s or 0.0) - 1 / self._fps
        return self.unreadable + max(0, round(tail_s * self._fps))


def _picture(frame: VideoFrame) -> Image:
    """BGR pixels, turned upright as the frame's display matrix says."""
    image = np.ascontiguousarray(frame.to_ndarray(format="bgr24"), dtype=np.uint8)
    quarters, rest = divmod(frame.rotation, 90)
    turn = QUARTER_TURNS.get(quarters % 4)
    if rest or turn is None:
        return image
    return np.asarray(cv2.rotate(image, turn), dtype=np.uint8)
