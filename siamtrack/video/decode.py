"""Decoding video with FFmpeg (PyAV), in order or by frame number.

Sections: opening; `ContainerReader`, which reads a file or a stream in order and skips damage;
`Frames`, pictures by number, of a folder (`ImageFrames`) or of a clip (`VideoFile`).
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

import av
import av.error
import cv2
import numpy as np
from av.container import InputContainer

from siamtrack.errors import DatasetError, VideoError
from siamtrack.types import Image, IntArray
from siamtrack.utils.images import read_image
from siamtrack.video.frames import DEFAULT_FPS, MAX_FPS, Reader, SourceInfo

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(".avi .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ts .webm .wmv".split())
MAX_FAILURES = 100
"""Consecutive failed reads after which the rest of a file is given up."""
SHORT_TAIL_S = 0.25
"""A file without a frame count may end this much before its duration and still count as whole."""
ROTATIONS = {
    90: cv2.ROTATE_90_COUNTERCLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_CLOCKWISE,
}


# Opening


def open_container(
    location: str, shown: str, *, timeout_s: float | None = None, low_latency: bool = False
) -> tuple[InputContainer, VideoStream]:
    """Open a file or an address; returns the container and its main video stream.

    Args:
        location: what FFmpeg opens.
        shown: what messages call it.
        timeout_s: limit for connecting and for every read; None waits forever, as files may.
        low_latency: keep FFmpeg's buffers as short as possible.

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
        advice = "it is damaged, unfinished or not a video: see whether a player opens it"
        if timeout_s is not None:
            advice = "check the address and the connection"
        raise VideoError(
            f"{shown} cannot be opened as a video ({_reason(error)}); {advice}"
        ) from error
    stream = _find_video(container)
    if stream is not None and getattr(stream, "codec_context", None) is not None:
        return container, stream
    container.close()
    if stream is not None:
        raise VideoError(
            f"{shown} is coded in a way this machine has no decoder for; convert it to H.264"
        )
    raise VideoError(
        f"{shown} holds no video; give a video file, a folder of pictures, a stream address or the "
        "number of a camera"
    )


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


def _to_image(frame: VideoFrame) -> Image:
    """Convert to (H, W, 3) BGR, turned upright as the display matrix says."""
    image = np.ascontiguousarray(frame.to_ndarray(format="bgr24"), dtype=np.uint8)
    rotation = ROTATIONS.get(frame.rotation % 360)
    return image if rotation is None else np.asarray(cv2.rotate(image, rotation), dtype=np.uint8)


# Reading in order


class ContainerReader(Reader):
    """Decode the main video stream of a container, upright, with its own time stamps.

    Damage is skipped and counted: packets that are cut off or do not decode, and frames missing at
    the end, where the container records how many frames or seconds it should have.

    Args:
        container: from `open_container`; the reader closes it.
        stream: from `open_container`.
        shown: what messages call it: the path, or the address without password.
        is_stream: it comes over a network, where the end of reading may be a failure.
        low_latency: decode each frame as it comes rather than several at a time.
        fps: rate to assume where the container records none.

    Raises:
        VideoError: no frame can be decoded.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        shown: str,
        *,
        is_stream: bool = False,
        low_latency: bool = False,
        fps: float | None = None,
    ) -> None:
        self._container = container
        self._stream = stream
        stream.thread_type = "SLICE" if low_latency else "AUTO"
        self._shown = shown
        self._is_stream = is_stream
        rates = (stream.average_rate, stream.guessed_rate)
        self._fps = next((float(rate) for rate in rates if rate and 0 < rate <= MAX_FPS), fps)
        self._origin_s = 0.0  # time stamp that is shown as time 0
        self._last_s: float | None = None
        self.unreadable = 0
        # Counted while reading, to find out at the end whether something is missing.
        self._packets_seen = self._discarded = self._decoded = 0
        self._end_s = 0.0
        self._read_failed = False
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
        name = shown if is_stream else Path(shown).name
        self.info = SourceInfo(name, self._fps, (width, height), counted or by_duration or None)

    def close(self) -> None:
        """Close the file or the connection."""
        self._frames.close()
        self._container.close()

    def _read_next(self) -> tuple[Image, float] | None:
        frame = next(self._frames, None)
        if frame is None:
            return None
        self._decoded += 1
        return _to_image(frame), self._time_of(_to_seconds(self._stream, frame.pts))

    def _time_of(self, stamp_s: float | None) -> float:
        """Turn a time stamp, if there is one, into a time from 0 that never goes back."""
        interval_s = 1 / (self._fps or DEFAULT_FPS)
        if self._last_s is None:
            start_s = (
                None if self._is_stream else _to_seconds(self._stream, self._stream.start_time)
            )
            self._origin_s = min((s for s in (start_s, stamp_s) if s is not None), default=0.0)
            time_s = 0.0 if stamp_s is None else stamp_s - self._origin_s
        elif stamp_s is None:
            time_s = self._last_s + interval_s
        else:
            time_s = stamp_s - self._origin_s
            if time_s < self._last_s:
                # The sender started over: continue from here.
                time_s = self._last_s + interval_s
                self._origin_s = stamp_s - time_s
        self._last_s = time_s
        return time_s

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
        self.unreadable = max(self.unreadable, self._count_missing(), int(self._read_failed))

    def _packets(self) -> Iterator[Packet[Stream] | None]:
        """Packets in order, then None, which makes the decoder return what it still holds."""
        failures = 0
        broke_off: VideoError | None = None
        while failures < MAX_FAILURES and broke_off is None:
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
                    broke_off = VideoError(
                        f"{self._shown} broke off after {self._decoded} frame(s) "
                        f"({_reason(error)}); check the sender and the connection"
                    )
                    broke_off.__cause__ = error
        yield None
        if broke_off is not None:
            raise broke_off

    def _expected_frames(self) -> tuple[int, int]:
        """Frames by the container's own count, and by its duration; 0 where unknown."""
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
        tail_s = duration_s - (self._last_s or 0.0) - 1 / self._fps
        return self.unreadable + max(0, round(tail_s * self._fps))


# Reading by frame number


class Frames(Protocol):
    """Pictures by number, uint8 (H, W, 3) BGR; unreadable or missing ones raise `DatasetError`."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Image:
        """Decode one frame."""

    def iterate(self, indices: Iterable[int]) -> Iterator[Image]:
        """Decode several frames, efficiently when `indices` ascend."""

    def path(self, index: int) -> Path:
        """File that holds the frame."""

    def key(self, index: int) -> str:
        """Identity of the picture, equal for equal frames in all sequences."""


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

    def read(self, index: int) -> Image:
        """Decode one frame."""
        return read_image(self.path(index), upright=self.upright)

    def iterate(self, indices: Iterable[int]) -> Iterator[Image]:
        """Decode several frames in the order given."""
        return map(self.read, indices)

    def path(self, index: int) -> Path:
        """File of the frame."""
        _check_index(index, len(self.names), self.folder)
        return self.folder / self.names[index]

    def key(self, index: int) -> str:
        """Path of the file."""
        return str(self.path(index))


class _ClipIndex(NamedTuple):
    """Presentation times of all frames in order, and the numbers of those to start decoding at."""

    times: IntArray
    starts: IntArray
    fps: float | None
    is_timed: bool


_Numbered: TypeAlias = Iterator[tuple[int, "VideoFrame"]]
"""Decoded frames with their numbers."""


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
        """Nominal frames per second; None when unknown."""
        return self._index.fps

    def path(self, index: int) -> Path:
        """The clip, for every frame."""
        return self.file

    def key(self, index: int) -> str:
        """Path of the clip and number of the frame."""
        return f"{self.file}#{index}"

    def read(self, index: int) -> Image:
        """Decode one frame, starting at the key frame before it."""
        return next(self.iterate([index]))

    def iterate(self, indices: Iterable[int]) -> Iterator[Image]:
        """Decode several frames, seeking over what is not needed."""
        decoded: _Numbered = iter(())
        position, image = -1, np.empty(0, np.uint8)
        for index in indices:
            _check_index(index, len(self), self.file)
            if index != position:
                starts = self._index.starts
                start = int(starts[np.searchsorted(starts, index, side="right") - 1])
                # Seek backwards, and forwards only over a key frame: else decode on.
                if position < 0 or index < position or start > position + 1:
                    decoded = self._decode(start)
                decoded, image = self._advance(decoded, index)
                position = index
            yield image.copy()

    def _advance(self, decoded: _Numbered, index: int) -> tuple[_Numbered, Image]:
        """Decode up to a frame; from the beginning where seeking led beyond it."""
        for frames in (decoded, self._decode(0)):
            for number, frame in frames:
                if number == index:
                    return frames, _to_image(frame)
                if number > index:
                    break
        raise DatasetError(f"frame {index} of clip {self.file} cannot be decoded; copy it again")

    def _decode(self, start: int) -> _Numbered:
        """Frames with their numbers, from a key frame on, or from wherever seeking led instead."""
        times, _, _, is_timed = self._index
        with self._open() as (container, stream):
            if start:
                container.seek(int(times[start]), stream=stream)
            for count, frame in enumerate(container.decode(stream)):
                has_time = is_timed and frame.pts is not None
                yield int(np.searchsorted(times, frame.pts or 0)) if has_time else count, frame

    @cached_property
    def _index(self) -> _ClipIndex:
        with self._open() as (container, stream):
            fps = float(stream.average_rate) if stream.average_rate else None
            packets = [p for p in container.demux(stream) if p.size and not p.is_discard]
            # AVI has no presentation times: FFmpeg makes them up, in coding order.
            if container.format.name != "avi" and all(p.pts is not None for p in packets):
                times = np.sort(np.array([p.pts for p in packets], np.int64))
                key_times = np.array([p.pts for p in packets if p.is_keyframe], np.int64)
                starts = np.union1d([0], np.searchsorted(times, key_times))
                return _ClipIndex(times, starts, fps, is_timed=True)
        # Without times, count the frames by decoding, and always start at the first.
        with self._open() as (container, stream):
            times = np.arange(sum(1 for _ in container.decode(stream)))
        return _ClipIndex(times, np.zeros(1, np.int64), fps, is_timed=False)

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


def _check_index(index: int, count: int, where: Path) -> None:
    if not 0 <= index < count:
        raise DatasetError(f"there is no frame {index} in {where}; it has {count}, from 0")
