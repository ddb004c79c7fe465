"""Opening video files and network streams with FFmpeg, through PyAV."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import av
import av.error
import cv2
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from siamtrack.errors import DatasetError, VideoError
from siamtrack.types import Image
from siamtrack.utils.images import read_image
from siamtrack.video.frames import Footage

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


_log = logging.getLogger(__name__)

MAX_FPS = 1000.0


def open_container(
    location: str, shown: str, *, timeout_s: float | None = None, low_latency: bool = False
) -> tuple[InputContainer, VideoStream]:
    """Open a file or an address and make sure that there is video in it.

    Args:
        location: what FFmpeg opens.
        shown: what messages call it.
        timeout_s: bound on connecting and on every read; None waits for ever, as files may.
        low_latency: let FFmpeg hold back as little as possible.

    Returns:
        The container and the video stream in it that matters most.

    Raises:
        VideoError: not found, not reachable or not a video.
    """
    options = {"fflags": "nobuffer"} if low_latency else {}
    if location.startswith("rtsp"):
        # Over UDP, the default, lost packets turn into torn pictures.
        options["rtsp_flags"] = "prefer_tcp"
    try:
        container = av.open(location, "r", options=options, timeout=timeout_s)
    except av.error.FFmpegError as error:
        raise VideoError(
            f"{shown} cannot be opened as a video ({reason(error)}); "
            + (
                "check the address and the connection"
                if timeout_s is not None
                else "it is damaged, unfinished or not a video: see whether a player opens it"
            )
        ) from error
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or not _is_footage(container, stream):
        problem = (
            "holds no video; give a video file, a folder of pictures, a stream address or the "
            "number of a camera"
        )
    elif getattr(stream, "codec_context", None) is None:
        problem = "is coded in a way this machine has no decoder for; convert it to H.264"
    else:
        return container, stream
    container.close()
    raise VideoError(f"{shown} {problem}")


def _is_footage(container: InputContainer, stream: VideoStream) -> bool:
    """False for the cover of a song and for text, which FFmpeg takes for ANSI art."""
    cover = bool(stream.disposition & av.stream.Disposition.attached_pic)
    return not cover and container.format.name != "tty"


def reason(error: av.error.FFmpegError) -> str:
    """Why, in FFmpeg's words where they say it."""
    if isinstance(error, av.error.ExitError):
        return "timed out"
    return error.strerror or type(error).__name__


def seconds(stream: VideoStream, ticks: int | None) -> float | None:
    """Ticks of the stream's time base in s."""
    return None if ticks is None or stream.time_base is None else float(ticks * stream.time_base)


def frame_rate(stream: VideoStream) -> float | None:
    """Frames per second, None where the container tells none or something absurd."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= MAX_FPS:
            return float(rate)
    return None


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


VIDEO_SUFFIXES = frozenset(".avi .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ts .webm .wmv".split())

_Decoded: TypeAlias = Iterator[tuple[int, av.VideoFrame]]


class Frames(Protocol):
    """Pictures by number, uint8 (H, W, 3) BGR."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Image:
        """Decode one frame.

        Raises:
            DatasetError: it is missing or cannot be decoded, or there is no such frame.
        """

    def iterate(self, indices: Iterable[int]) -> Iterator[Image]:
        """Decode several frames, efficiently when `indices` ascend."""

    def path(self, index: int) -> Path:
        """File that holds the frame."""

    def key(self, index: int) -> str:
        """Identity of the picture: equal for equal frames of whatever sequence."""


def _check_number(index: int, count: int, where: Path) -> None:
    if not 0 <= index < count:
        raise DatasetError(f"there is no frame {index} in {where}; it has {count}, from 0")


@dataclass(frozen=True)
class ImageFrames:
    """Picture files of one folder.

    Attributes:
        folder: where they are.
        names: file names in frame order.
        upright: see `siamtrack.utils.images.read_image`.
    """

    folder: Path
    names: tuple[str, ...]
    upright: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """File of the frame."""
        _check_number(index, len(self.names), self.folder)
        return self.folder / self.names[index]

    def key(self, index: int) -> str:
        """Path of the file."""
        return str(self.path(index))

    def read(self, index: int) -> Image:
        """Decode one frame; see `Frames.read`."""
        return read_image(self.path(index), upright=self.upright)

    def iterate(self, indices: Iterable[int]) -> Iterator[Image]:
        """Decode several frames in the order given."""
        return map(self.read, indices)


@dataclass(frozen=True)
class _ClipIndex:
    """Presentation times of all frames in order, and which of them decoding can start at."""

    times: NDArray[np.int64]
    starts: NDArray[np.int64]
    fps: float | None
    timed: bool = True


class VideoFrames:
    """Frames of a video clip, upright, numbered in presentation order.

    A frame is found by its time stamp, so that number 57 is the same picture whether it was
    reached by decoding everything before it or by jumping. The clip is opened for the duration of
    a read and indexed (without decoding) at the first.
    """

    def __init__(self, path: Path) -> None:
        self.file = path

    def __len__(self) -> int:
        return len(self._index.times)

    @property
    def fps(self) -> float | None:
        """Nominal frames per second, None when the clip does not tell."""
        return self._index.fps

    def path(self, index: int) -> Path:
        """The clip, whatever the frame."""
        return self.file

    def key(self, index: int) -> str:
        """Path of the clip and number of the frame."""
        return f"{self.file}#{index}"

    def read(self, index: int) -> Image:
        """Decode one frame, starting at the key frame before it; see `Frames.read`."""
        return next(self.iterate([index]))

    def iterate(self, indices: Iterable[int]) -> Iterator[Image]:
        """Decode several frames, jumping over what is not needed.

        Raises:
            DatasetError: the clip is damaged, or there is no such frame.
        """
        decoded: _Decoded = iter(())
        position, picture = -1, np.empty(0, np.uint8)
        try:
            for index in indices:
                _check_number(index, len(self), self.file)
                if index != position:
                    start = self._start_before(index)
                    if position < 0 or index < position or start > position + 1:
                        decoded = self._decode(start)
                    decoded, picture = self._advance(decoded, index)
                    position = index
                yield picture.copy()
        except (av.FFmpegError, OSError) as error:
            raise self._damaged(error) from error

    @cached_property
    def _index(self) -> _ClipIndex:
        try:
            with av.open(str(self.file)) as container:
                stream = _video_of(container, self.file)
                rate = stream.average_rate
                fps = float(rate) if rate else None
                packets = [p for p in container.demux(stream) if p.size and not p.is_discard]
                # AVI invents times, in coding order.
                if container.format.name == "avi" or any(p.pts is None for p in packets):
                    numbers = np.arange(_count(self.file))
                    return _ClipIndex(numbers, np.zeros(1, np.int64), fps, timed=False)
                times = np.sort(np.array([p.pts for p in packets], np.int64))
                keys = np.sort(np.array([p.pts for p in packets if p.is_keyframe], np.int64))
                return _ClipIndex(times, np.searchsorted(times, keys), fps)
        except (av.FFmpegError, OSError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> DatasetError:
        reason = getattr(error, "strerror", None) or error
        return DatasetError(f"clip {self.file} cannot be decoded: {reason}; copy it again")

    def _start_before(self, index: int) -> int:
        before = np.searchsorted(self._index.starts, index, side="right") - 1
        return int(self._index.starts[before]) if before >= 0 else 0

    def _decode(self, start: int) -> _Decoded:
        """Frames with their numbers, from a key frame on (or from where jumping led instead)."""
        clip = self._index
        with av.open(str(self.file)) as container:
            stream = _video_of(container, self.file)
            if start:
                container.seek(int(clip.times[start]), stream=stream)
            for counted, frame in enumerate(container.decode(stream)):
                timed = clip.timed and frame.pts is not None
                yield int(np.searchsorted(clip.times, frame.pts or 0)) if timed else counted, frame

    def _advance(self, decoded: _Decoded, index: int) -> tuple[_Decoded, Image]:
        """Decode up to a frame; from the beginning where jumping led beyond it."""
        for frames in (decoded, self._decode(0)):
            for number, frame in frames:
                if number == index:
                    return frames, _upright(frame)
                if number > index:
                    break
        raise DatasetError(f"frame {index} of clip {self.file} cannot be decoded; copy it again")


def _video_of(container: InputContainer, path: Path) -> av.VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream):
        raise DatasetError(f"clip {path} holds no video; give a video file")
    return stream


def _count(path: Path) -> int:
    """Number of frames of a clip whose packets carry no times, by decoding it."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(_video_of(container, path)))


def _upright(frame: av.VideoFrame) -> Image:
    picture = frame.to_ndarray(format="bgr24")
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)), dtype=np.uint8)
