"""Decoding video with FFmpeg (PyAV), in order or by frame number.

Sections: opening; `ContainerReader`, which reads a file or a stream in order and copes with damage;
`Frames`, pictures by number, of a clip (`VideoFile`) or of a folder (`ImageFrames`).
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import av
import av.error
import cv2
import numpy as np
from av.container import InputContainer

from siamtrack.errors import DatasetError, VideoError
from siamtrack.types import Image, IntArray
from siamtrack.utils.images import read_image
from siamtrack.video.frames import Reader, SourceInfo

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(".avi .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ts .webm .wmv".split())
MAX_FPS = 1000.0
DEFAULT_FPS = 30.0
"""Rate by which time goes on where neither frames nor container tell."""
MAX_FAILURES = 100
"""Consecutive failed reads after which the rest of a file is given up."""
SHORT_TAIL_S = 0.25
"""A file without a frame count may end this much before its duration and still count as whole."""
QUARTER_TURNS = {
    1: cv2.ROTATE_90_COUNTERCLOCKWISE,
    2: cv2.ROTATE_180,
    3: cv2.ROTATE_90_CLOCKWISE,
}


def open_container(
    location: str, shown: str, *, timeout_s: float | None = None, low_latency: bool = False
) -> tuple[InputContainer, VideoStream]:
    """Open a file or an address and find the video in it.

    Args:
        location: what FFmpeg opens.
        shown: what messages call it.
        timeout_s: bound on connecting and on every read; None waits forever, as files may.
        low_latency: keep FFmpeg's buffers as short as possible.

    Returns:
        The container and its main video stream.

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
            f"{shown} cannot be opened as a video ({_reason(error)}); "
            + (
                "check the address and the connection"
                if timeout_s is not None
                else "it is damaged, unfinished or not a video: see whether a player opens it"
            )
        ) from error
    stream = _find_video(container)
    if stream is None:
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


def _find_video(container: InputContainer) -> VideoStream | None:
    """Return the main video stream; the cover of a song and text (ANSI art to FFmpeg) are none."""
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or container.format.name == "tty":
        return None
    is_cover = bool(stream.disposition & av.stream.Disposition.attached_pic)
    return None if is_cover else stream


def _reason(error: av.error.FFmpegError) -> str:
    if isinstance(error, av.error.ExitError):
        return "timed out"
    return error.strerror or type(error).__name__


def _to_seconds(stream: VideoStream, ticks: int | None) -> float | None:
    return None if ticks is None or stream.time_base is None else float(ticks * stream.time_base)


def _frame_rate(stream: VideoStream) -> float | None:
    """Frames per second; None where the container tells none or an absurd one."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= MAX_FPS:
            return float(rate)
    return None


def _to_image(frame: VideoFrame) -> Image:
    """Convert to (H, W, 3) BGR, turned upright as the display matrix says."""
    image = np.ascontiguousarray(frame.to_ndarray(format="bgr24"), dtype=np.uint8)
    quarters, rest = divmod(frame.rotation, 90)
    turn = QUARTER_TURNS.get(quarters % 4)
    if rest or turn is None:
        return image
    return np.asarray(cv2.rotate(image, turn), dtype=np.uint8)


# Reading in order


class ContainerReader(Reader):
    """Decodes the main video stream of a container, upright, with its own time stamps.

    Damage is skipped and counted: packets that are cut off or do not decode, and frames missing at
    the end, where the container tells how many frames or seconds it should have.

    Args:
        container: from `open_container`; the reader closes it.
        stream: from `open_container`.
        name: short name of the source.
        shown: what messages call it.
        is_stream: it comes over a network, where the end of reading may be a failure.
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
        self._fps = _frame_rate(stream) or fps
        self._clock = _PresentationClock(
            None if is_stream else _to_seconds(stream, stream.start_time),
            1 / (self._fps or DEFAULT_FPS),
        )
        self.unreadable = 0
        # What was seen of the file, for judging at its end whether something is missing.
        self._packets_seen = self._discarded = self._decoded = 0
        self._end_s = 0.0
        self._read_failed = False
        self._failure: VideoError | None = None
        self._frames = self._decode()
        try:
            self._first = self._read_next()
        finally:
            if self._first is None:
                container.close()
        if self._first is None:
            raise VideoError(
                f"{shown} holds no frame that can be read; it is empty or damaged: see whether a "
                "player shows it"
            )
        height, width = self._first[0].shape[:2]
        counted, by_duration = self._expected_frames()
        self.info = SourceInfo(name, self._fps, (width, height), counted or by_duration or None)

    def _read_next(self) -> tuple[Image, float] | None:
        frame = next(self._frames, None)
        if frame is None:
            return None
        self._decoded += 1
        return _to_image(frame), self._clock.time_of(_to_seconds(self._stream, frame.pts))

    def close(self) -> None:
        """Close the file or the connection."""
        self._frames.close()
        self._container.close()

    def _decode(self) -> Generator[VideoFrame, None, None]:
        """Decode packet by packet; damaged ones are skipped and counted."""
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
        self.unreadable = max(self.unreadable, self._count_missing(), int(self._read_failed))

    def _packets(self) -> Iterator[Packet[Stream] | None]:
        """Packets in order, then None, which makes the decoder return what it still holds."""
        failures = 0
        while failures < MAX_FAILURES and self._failure is None:
            try:
                for packet in self._container.demux():
                    if not packet.size:
                        continue
                    failures = 0
                    # Packets of sound count too: sound may last longer than the pictures.
                    if packet.pts is not None and packet.time_base is not None:
                        end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                        start_s = (self._container.start_time or 0) / av.time_base
                        self._end_s = max(self._end_s, end_s - start_s)
                    if packet.stream.index == self._stream.index:
                        self._packets_seen += 1
                        self._discarded += packet.is_discard
                        yield packet
                break
            except av.error.FFmpegError as error:
                failures += 1
                self._read_failed = True
                if self._is_stream and not isinstance(error, av.error.InvalidDataError):
                    self._failure = VideoError(
                        f"{self._shown} broke off after {self._decoded} frame(s) "
                        f"({_reason(error)}); check the sender and the connection"
                    )
                    self._failure.__cause__ = error
        yield None

    def _expected_frames(self) -> tuple[int, int]:
        """Frames by the container's own count, and by its duration; 0 where it does not tell."""
        duration_s = _to_seconds(self._stream, self._stream.duration)
        if duration_s is None and self._container.duration is not None:
            duration_s = self._container.duration / av.time_base
        by_duration = round((duration_s or 0.0) * (self._fps or 0.0))
        counted = self._stream.frames
        # The count of a file that was never finished covers its first piece only.
        return (counted if 2 * counted >= by_duration else 0), by_duration

    def _count_missing(self) -> int:
        """Count the frames that should have come and did not, at the end of reading."""
        counted, _ = self._expected_frames()
        if counted:
            # A frame may take two packets, and some packets show no frame. So fewer frames than
            # counted mean a loss only where packets are missing or damaged.
            is_whole = self._packets_seen >= counted and not self.unreadable
            if is_whole and not self._read_failed:
                return 0
            return max(0, counted - self._discarded - self._decoded)
        if self._container.duration is None or self._fps is None:
            return 0
        # Pictures may end before the sound. Only a file that was cut off ends early with both.
        duration_s = self._container.duration / av.time_base
        if duration_s - self._end_s < SHORT_TAIL_S:
            return 0
        tail_s = duration_s - (self._clock.last_s or 0.0) - 1 / self._fps
        return self.unreadable + max(0, round(tail_s * self._fps))


class _PresentationClock:
    """Turns time stamps into times that start at 0 and never go back."""

    def __init__(self, start_s: float | None, interval_s: float) -> None:
        self._start_s = start_s
        self._origin_s = 0.0
        self._interval_s = interval_s
        self.last_s: float | None = None

    def time_of(self, stamp_s: float | None) -> float:
        """Return the time of the next frame, given its time stamp if it has one."""
        if self.last_s is None:
            known = [stamp for stamp in (self._start_s, stamp_s) if stamp is not None]
            self._origin_s = min(known, default=0.0)
            time_s = 0.0 if stamp_s is None else stamp_s - self._origin_s
        elif stamp_s is None:
            time_s = self.last_s + self._interval_s
        else:
            time_s = stamp_s - self._origin_s
            if time_s < self.last_s:
                # The sender started over: continue from here.
                time_s = self.last_s + self._interval_s
                self._origin_s = stamp_s - time_s
        self.last_s = time_s
        return time_s


# Reading by frame number


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


@dataclass(frozen=True)
class ImageFrames:
    """Picture files of one folder.

    Attributes:
        folder: where they are.
        names: file names in frame order.
        upright: turn them as their EXIF orientation says.
    """

    folder: Path
    names: tuple[str, ...]
    upright: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """File of the frame."""
        _check_index(index, len(self.names), self.folder)
        return self.folder / self.names[index]

    def key(self, index: int) -> str:
        """Path of the file."""
        return str(self.path(index))

    def read(self, index: int) -> Image:
        """Decode one frame."""
        return read_image(self.path(index), upright=self.upright)

    def iterate(self, indices: Iterable[int]) -> Iterator[Image]:
        """Decode several frames in the order given."""
        return map(self.read, indices)


_Numbered: TypeAlias = Iterator[tuple[int, "VideoFrame"]]
"""Decoded frames with their numbers."""


@dataclass(frozen=True)
class _ClipIndex:
    """Presentation times of all frames in order, and the numbers of the key frames."""

    times: IntArray
    starts: IntArray
    fps: float | None
    timed: bool = True


class VideoFile:
    """Frames of a clip by number in presentation order, upright.

    A frame is found by its time stamp: number 57 is the same picture whether it was reached by
    decoding everything before it or by seeking. The clip is open only during a read, and is indexed
    without decoding at the first one.
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
        """Decode one frame, starting at the key frame before it."""
        return next(self.iterate([index]))

    def iterate(self, indices: Iterable[int]) -> Iterator[Image]:
        """Decode several frames, seeking over what is not needed.

        Raises:
            DatasetError: the clip is damaged, or there is no such frame.
        """
        decoded: _Numbered = iter(())
        position, image = -1, np.empty(0, np.uint8)
        for index in indices:
            _check_index(index, len(self), self.file)
            if index != position:
                start = self._key_frame_before(index)
                # Seek backwards, and forwards only over a key frame: else decode on.
                if position < 0 or index < position or start > position + 1:
                    decoded = self._decode(start)
                decoded, image = self._advance(decoded, index)
                position = index
            yield image.copy()

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        """Open the clip for one read, with FFmpeg's errors turned into `DatasetError`."""
        try:
            with av.open(f"file:{self.file}") as container:
                stream = _find_video(container)
                if stream is None:
                    raise DatasetError(f"clip {self.file} holds no video; give a video file")
                yield container, stream
        except (av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DatasetError(
                f"clip {self.file} cannot be decoded: {reason}; copy it again"
            ) from error

    @cached_property
    def _index(self) -> _ClipIndex:
        with self._open() as (container, stream):
            fps = float(stream.average_rate) if stream.average_rate else None
            packets = [p for p in container.demux(stream) if p.size and not p.is_discard]
            # AVI has no presentation times: FFmpeg makes them up, in coding order.
            if container.format.name != "avi" and all(p.pts is not None for p in packets):
                times = np.sort(np.array([p.pts for p in packets], np.int64))
                keys = np.sort(np.array([p.pts for p in packets if p.is_keyframe], np.int64))
                return _ClipIndex(times, np.searchsorted(times, keys), fps)
        # Without times, count the frames by decoding, and always start at the first.
        count = sum(1 for _ in self._frames_from(None))
        return _ClipIndex(np.arange(count), np.zeros(1, np.int64), fps, timed=False)

    def _key_frame_before(self, index: int) -> int:
        before = np.searchsorted(self._index.starts, index, side="right") - 1
        return int(self._index.starts[before]) if before >= 0 else 0

    def _frames_from(self, time: int | None) -> Iterator[VideoFrame]:
        """Decode from the key frame before a presentation time, or from the beginning."""
        with self._open() as (container, stream):
            if time is not None:
                container.seek(time, stream=stream)
            yield from container.decode(stream)

    def _decode(self, start: int) -> _Numbered:
        """Frames with their numbers, from a key frame on, or from wherever seeking led instead."""
        clip = self._index
        for count, frame in enumerate(self._frames_from(int(clip.times[start]) if start else None)):
            is_timed = clip.timed and frame.pts is not None
            yield int(np.searchsorted(clip.times, frame.pts or 0)) if is_timed else count, frame

    def _advance(self, decoded: _Numbered, index: int) -> tuple[_Numbered, Image]:
        """Decode up to a frame; from the beginning where seeking led beyond it."""
        for frames in (decoded, self._decode(0)):
            for number, frame in frames:
                if number == index:
                    return frames, _to_image(frame)
                if number > index:
                    break
        raise DatasetError(f"frame {index} of clip {self.file} cannot be decoded; copy it again")


def _check_index(index: int, count: int, where: Path) -> None:
    if not 0 <= index < count:
        raise DatasetError(f"there is no frame {index} in {where}; it has {count}, from 0")
