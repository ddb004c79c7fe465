"""Decoding video with FFmpeg (PyAV), in order or by frame number.

Sections: opening; `ContainerReader`, which reads a file or a stream in order and skips damage;
`Frames`, pictures by number, of a folder (`ImageFrames`) or of a clip (`VideoFile`).
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from heapq import heappop, heappush
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import av
import av.error
import cv2
import numpy as np
from av.container import InputContainer

from siamtrack.errors import ConfigError, DatasetError, VideoError
from siamtrack.types import Image, IntArray
from siamtrack.utils.images import read_image, sample_pages
from siamtrack.utils.levels import SAMPLES, Levels, RawImage, ValueRange
from siamtrack.utils.picture_files import PictureFile, open_picture_file
from siamtrack.video.frames import Reader, SourceInfo
from siamtrack.video.times import (
    BARE_FPS,
    BROKEN_STAMP_S,
    NEW_CLOCK_S,
    ArrivalTimes,
    CountedTimes,
    StampTimes,
    has_time_stamps,
    is_bare,
    is_endless,
    may_restart,
    stated_rate,
    warn_of_assumed_rate,
)

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(".avi .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ts .webm .wmv".split())
MAX_FAILURES = 100
"""Consecutive failed reads after which the rest of a file is given up."""
LOOK_PACKETS = 300
"""Packets read to tell a film from a still, where a file has several video streams."""
JPEG_END, JPEG_TAIL_BYTES = b"\xff\xd9", 64
"""The marker at the end of a JPEG picture, and how far from the end it may be."""
TS_PACKET_BYTES = 188
"""Size of a packet of MPEG-TS. Every frame takes one at least."""
SHORT_TAIL_S = 0.25
"""A file without a frame count may end this much before its duration and still count as whole."""
_STILL = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
_DURATIONS_FROM_ZERO = frozenset({"avi", "matroska,webm", "nut"})
"""Formats whose duration counts from time stamp 0, however late the first frame is."""
_DURATION_TAG = re.compile(r"(\d+):(\d+):(\d+(?:\.\d*)?)")
"""Duration of a stream in Matroska, such as 00:00:01.600000000."""
COMB_LEVELS = 10
"""How much a row must differ from both rows beside it, in the same direction, to belong to another
moment. Raising it leaves combs at the edges of moving things; lowering it blurs fine patterns."""


# Opening


def open_container(
    location: str,
    shown: str,
    *,
    timeout_s: float | None = None,
    low_latency: bool = False,
    number: int | None = None,
) -> tuple[InputContainer, VideoStream]:
    """Open a file or an address; returns the container and its main video stream.

    Args:
        location: what FFmpeg opens.
        shown: what messages call it.
        timeout_s: limit for connecting and for every read; None waits forever, as files may.
        low_latency: keep FFmpeg's buffers as short as possible.
        number: which of several video streams, from 0; None for the main one.

    Raises:
        VideoError: not found, not reachable or not a video.
        ConfigError: there is no stream of that number.
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
        elif location.startswith("pipe:"):
            advice += "; MP4 can be read from a pipe only if its index comes first (faststart)"
        raise VideoError(
            f"{shown} cannot be opened as a video ({_reason(error)}); {advice}"
        ) from error
    try:
        stream = find_video(container, location, shown, number)
    except ConfigError:
        container.close()
        raise
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


def find_video(
    container: InputContainer, location: str, shown: str, number: int | None = None
) -> VideoStream | None:
    """Choose the video stream to read; text (ANSI art to FFmpeg) is none.

    FFmpeg's choice, unless that is a still: the cover of a song, a preview of one picture.

    Args:
        container: open.
        location: where to open it again for a look at its streams.
        shown: what messages call it.
        number: of the stream among all video streams, from 0; None to choose.

    Raises:
        ConfigError: there is no stream of that number.
    """
    streams = () if container.format.name == "tty" else container.streams.video
    if number is not None:
        if not 0 <= number < len(streams):
            raise ConfigError(
                f"{shown} has no video stream {number}; it has {len(streams)}, counted from 0"
            )
        return streams[number]
    films = [stream for stream in streams if not stream.disposition & _STILL]
    if len(films) > 1:
        counts = _count_frames(films, location)
        films = [film for film in films if counts[film.index] > 1] or films
    best = container.streams.best("video")
    chosen = next((film for film in films if best is not None and film.index == best.index), None)
    if chosen is None:
        default = av.stream.Disposition.default
        films.sort(key=lambda s: (bool(s.disposition & default), s.width * s.height))
        chosen = films[-1] if films else None
    if chosen is not None and len(films) > 1:
        listed = ", ".join(
            f"{streams.index(s)} ({s.codec.name}, {s.width}x{s.height})" for s in films
        )
        _log.warning(
            "%s has several video streams: %s; %d is read (choose with --stream, in Python with "
            "stream=)",
            shown,
            listed,
            streams.index(chosen),
        )
    return chosen


def _count_frames(streams: Sequence[VideoStream], location: str) -> dict[int, int]:
    """Frames of each stream by its index, at least whether there are more than one."""
    counts = {stream.index: stream.frames for stream in streams}
    if all(counts.values()) or not location.startswith("file:"):
        # Behind an address or a pipe nothing can be looked at twice.
        return {index: count or LOOK_PACKETS for index, count in counts.items()}
    counts = dict.fromkeys(counts, 0)
    with suppress(av.error.FFmpegError), av.open(location) as container:
        for packet in islice(container.demux(list(counts)), LOOK_PACKETS):
            counts[packet.stream.index] += bool(packet.size)
    return counts


def _reason(error: av.error.FFmpegError) -> str:
    if isinstance(error, av.error.ExitError):
        return "timed out"
    return error.strerror or type(error).__name__


def _to_seconds(stream: VideoStream, ticks: int | None) -> float | None:
    return None if ticks is None or stream.time_base is None else float(ticks * stream.time_base)


class FrameConverter:
    """Turn decoded frames into (H, W, 3) BGR of 8 bits, as they are shown.

    Gray and RGB of more than 8 bits, and YUV of 12 and more, keep their full depth until `levels`
    maps it. What is transparent lies before black. Rows of the second
    field of an interlaced frame are replaced where they show another moment than the first, and the
    display matrix turns and mirrors.

    Args:
        shown: what messages call the video.
        levels: of the video; also applied to its 8 bits where the user gave a range.

    Attributes:
        is_sideways: the frame converted last was turned by a quarter.
    """

    def __init__(self, shown: str, levels: Levels) -> None:
        self._shown = shown
        self._levels = levels
        self._said_interlaced = False
        self.is_sideways = False

    def __call__(self, frame: VideoFrame) -> Image:
        """Convert one frame."""
        image = self._levels.to_8_bits(_to_raw(frame))
        if frame.interlaced_frame:
            if not self._said_interlaced:
                self._said_interlaced = True
                _log.warning("%s is interlaced; one field of each frame is shown", self._shown)
            image = _remove_comb(image)
        return self._turn(image, frame)

    def _turn(self, image: Image, frame: VideoFrame) -> Image:
        """Turn by quarters and mirror as the display matrix of the frame says."""
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return image
        a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).tolist()
        # x' = a x + c y and y' = b x + d y, in px of the picture as it is stored.
        self.is_sideways = max(abs(a), abs(d)) < min(abs(b), abs(c))
        if self.is_sideways:
            image = np.swapaxes(image, 0, 1)
            a, d = c, b
        return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _to_raw(frame: VideoFrame) -> RawImage:
    """Return a frame in BGR of 8 bits, or in gray or BGR of the depth it has."""
    name = frame.format.name
    depth = max((component.bits for component in frame.format.components), default=8)
    is_float = "f" in name[4:6]
    if depth > 8 and name.startswith(("gray", "ya")):
        wide = "grayf32le" if is_float else f"gray{depth}le"
        return RawImage(frame.to_ndarray(format=wide), _white_of(depth))
    if depth > 8 and name.startswith("gbrp"):
        wide = "gbrpf32le" if is_float else f"gbrp{depth}le"
        return RawImage(frame.to_ndarray(format=wide)[..., ::-1], _white_of(depth))
    # 10 bits are those of cameras and films, which FFmpeg scales; more are those of instruments.
    if depth >= 12 or (depth > 8 and name.startswith(("rgb", "bgr", "gbrap"))):
        return RawImage(frame.to_ndarray(format="rgb48le")[..., ::-1])
    has_alpha = name.startswith(("rgba", "bgra", "argb", "abgr", "yuva", "gbrap", "ya", "pal8"))
    return RawImage(frame.to_ndarray(format="bgra" if has_alpha else "bgr24"))


def _white_of(depth: int) -> ValueRange | None:
    """Black and white of a format of 9 to 15 bits, which is wider than they are."""
    return (0.0, 2.0**depth - 1) if depth < 16 else None


def _remove_comb(image: Image) -> Image:
    """Replace rows of the lower field by those around them where both fields differ.

    Rows 1, 3, 5, ... of an interlaced frame were taken half a frame later than rows 0, 2, 4, ...:
    at the edges of what moves they stand out from the rows above and below, both the same way.
    """
    above = image[:-1:2].astype(np.int16)  # (rows, W, 3)
    between = image[1::2].astype(np.int16)
    below = image[2::2].astype(np.int16)
    if len(below) < len(between):
        below = np.concatenate([below, above[-1:]])
    product = (above - between).astype(np.int32) * (below - between)
    is_comb = (product > COMB_LEVELS**2).any(axis=2)
    # Where one row of a moving thing stands out, its neighbors are of another moment too.
    near = np.ones((3, 5), np.uint8)
    is_comb = np.asarray(cv2.dilate(np.asarray(is_comb, dtype=np.uint8), near), dtype=bool)
    result = image.copy()
    result[1::2] = np.where(is_comb[..., None], (above + below + 1) // 2, between)
    return result


def _sample_clip(location: str, index: int) -> Iterator[RawImage]:
    """Decode `SAMPLES` frames spread over a stream of a file, fewer where it cannot be searched."""
    if not location.startswith("file:"):
        return  # Behind an address or a pipe nothing can be looked at twice.
    with suppress(av.FFmpegError, OSError), av.open(location) as container:
        stream = container.streams[index]
        if not isinstance(stream, av.VideoStream) or not stream.time_base:
            return
        length_s = float((stream.duration or 0) * stream.time_base)
        length_s = length_s or (container.duration or 0) / av.time_base
        last, has_index = -1, True
        for number in range(SAMPLES):
            wanted = int(length_s * number / SAMPLES / float(stream.time_base))
            wanted += stream.start_time or 0
            if number and has_index:
                container.seek(wanted, stream=stream)
            for k, frame in enumerate(container.decode(stream)):
                pts = frame.pts or 0
                # Where seeking leads back, all frames from here on are decoded.
                has_index &= k > 0 or pts > last
                if pts >= wanted:
                    yield _to_raw(frame)
                    last = pts
                    break


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
        fps: frames per second instead of those that the container records; None for its own. The
            times of a live source stay those that were sent, or of arrival.
        value_range: the values shown as black and white; None: see `Levels`.

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
        value_range: ValueRange | None = None,
    ) -> None:
        self._container = container
        self._stream = stream
        samples = _sample_clip(container.name, stream.index)
        self._to_image = FrameConverter(shown, Levels(shown, lambda: samples, given=value_range))
        stream.thread_type = "SLICE" if low_latency else "AUTO"
        self._shown = shown
        self._is_stream = is_stream
        self._stated_fps = stated_rate(container, stream)
        self._fps = fps or self._stated_fps
        self._time_of = self._choose_times(fps, is_live=low_latency)
        self.unreadable = 0
        # Counted while reading, to find out at the end whether something is missing.
        self._packets_seen = self._discarded = self._decoded = 0
        self._end_s = 0.0
        # AVI: chunks so far, stored or repeating the frame before, and the stamps of those stored
        # that were not shown yet. It has stamps in coding order only.
        self._chunks = 0
        self._coded_stamps: list[int] = []
        self._read_failed = False
        self._ends_whole = False  # by the last packet
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
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        aspect = Fraction(aspect) if aspect and aspect > 0 else Fraction(1)
        self.info = SourceInfo(
            name,
            self._fps,
            (width, height),
            counted or by_duration or None,
            1 / aspect if self._to_image.is_sideways else aspect,
        )

    def close(self) -> None:
        """Close the file or the connection."""
        self._frames.close()
        self._container.close()

    def _read_next(self) -> tuple[Image, float] | None:
        frame = next(self._frames, None)
        if frame is None:
            return None
        self._decoded += 1
        stamp = heappop(self._coded_stamps) if self._coded_stamps else frame.pts
        return self._to_image(frame), self._time_of(_to_seconds(self._stream, stamp))

    def _choose_times(self, fps: float | None, *, is_live: bool) -> StampTimes:
        """What times the frames have: by stamps, by arrival, or by a rate."""
        is_timed = has_time_stamps(self._container)
        is_live |= self._is_stream and not is_timed and is_endless(self._container)
        if is_live and not is_timed:
            return ArrivalTimes()
        if fps is not None and not is_live:
            return CountedTimes(fps)
        if not is_timed:
            if self._fps is None:
                self._fps = BARE_FPS
                warn_of_assumed_rate(self._shown, self._fps)
            return CountedTimes(self._fps)
        start_s = _to_seconds(self._stream, self._stream.start_time)
        new_clock_s = NEW_CLOCK_S if may_restart(self._container) else BROKEN_STAMP_S
        start_s = None if self._is_stream else start_s
        return StampTimes(self._fps, start_s, new_clock_s=new_clock_s)

    def _decode(self) -> Generator[VideoFrame, None, None]:
        """Decode packet by packet; damaged ones are skipped and counted."""
        doubted: set[int | None] = set()
        for packet in self._packets():
            if packet is not None and packet.is_corrupt:
                if self._is_cut_off(packet):
                    self.unreadable += 1
                    continue
                # Packets before it are missing. It may be whole: the decoder will tell.
                doubted.add(packet.pts)
            try:
                frames = self._stream.decode(packet)
            except av.error.FFmpegError as error:
                _log.debug("%s: %s", self._shown, error)
                self.unreadable += 1
                if self._coded_stamps:
                    heappop(self._coded_stamps)
                continue
            for frame in frames:
                if frame.is_corrupt and frame.pts in doubted:
                    self.unreadable += 1
                else:
                    yield frame
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
                        self._ends_whole = not self._is_cut_off(packet)
                        if self._container.format.name == "avi" and packet.dts is not None:
                            self._chunks = packet.dts + 1
                            heappush(self._coded_stamps, packet.dts)
                        self._discarded += packet.is_discard
                        yield packet
                if self._container.format.name != "mpjpeg" or self._ends_whole:
                    break
                broke_off = self._broke_off("it ended within a picture")
            except av.error.FFmpegError as error:
                if self._has_ended(error):
                    break
                failures += 1
                self._read_failed, self._ends_whole = True, False
                if self._is_stream and not isinstance(error, av.error.InvalidDataError):
                    broke_off = self._broke_off(_reason(error))
                    broke_off.__cause__ = error
        yield None
        if broke_off is not None:
            raise broke_off

    def _broke_off(self, reason: str) -> VideoError:
        return VideoError(
            f"{self._shown} broke off after {self._decoded} frame(s) ({reason}); check the sender "
            "and the connection"
        )

    def _has_ended(self, error: av.error.FFmpegError) -> bool:
        """Whether an error of reading is the end of a multipart stream, after a whole picture."""
        is_multipart = self._container.format.name == "mpjpeg"
        return is_multipart and error.errno == errno.EIO and self._ends_whole

    def _is_cut_off(self, packet: Packet[Stream]) -> bool:
        """Whether a part of a packet is missing; other packets are flagged for what is around."""
        if self._container.format.name == "mpjpeg":
            return packet.is_corrupt and JPEG_END not in bytes(packet)[-JPEG_TAIL_BYTES:]
        return packet.is_corrupt and not may_restart(self._container)

    def _expected_frames(self) -> tuple[int, int]:
        """Frames by the container's own count, and by its duration; 0 where unknown."""
        duration_s = self._stream_duration_s()
        by_duration = round((duration_s or 0.0) * (self._stated_fps or self._fps or 0.0))
        # A stamp of another clock at the end makes a duration that the file is too small for.
        size = self._container.size
        if may_restart(self._container) and 0 < size < by_duration * TS_PACKET_BYTES:
            by_duration = 0
        counted = self._stream.frames
        # The count of a file that was never finished covers its first piece only.
        return (counted if 2 * counted >= by_duration else 0), by_duration

    def _stream_duration_s(self) -> float | None:
        """Duration of the video stream, not of sound or subtitles; None when unknown."""
        if self._stream.duration is not None:
            return _to_seconds(self._stream, self._stream.duration)
        tag = _DURATION_TAG.fullmatch(self._stream.metadata.get("DURATION", ""))
        if tag:
            hours, minutes, seconds = map(float, tag.groups())
            return 3600 * hours + 60 * minutes + seconds - self._counted_from_s()
        if len(self._container.streams) > 1 or self._container.duration is None:
            return None
        return self._container.duration / av.time_base - self._counted_from_s()

    def _counted_from_s(self) -> float:
        """Time before the first stamp that durations in this container include."""
        is_included = self._container.format.name in _DURATIONS_FROM_ZERO
        return (self._container.start_time or 0) / av.time_base if is_included else 0.0

    def _count_missing(self) -> int:
        """Count the frames that should have come and did not, at the end of reading."""
        counted, _ = self._expected_frames()
        if counted:
            # A frame may take two packets, and some packets show no frame. So fewer frames than
            # counted mean a loss only where packets are missing or damaged.
            counted -= max(0, self._chunks - self._packets_seen)
            is_whole = self._packets_seen >= counted and not self.unreadable
            if is_whole and not self._read_failed:
                return 0
            return max(0, counted - self._discarded - self._decoded)
        if self._container.duration is None or self._fps is None:
            return 0
        # Pictures may end before the sound. Only a file that was cut off ends early with both.
        duration_s = self._container.duration / av.time_base - self._counted_from_s()
        if duration_s - self._end_s < SHORT_TAIL_S:
            return 0
        tail_s = duration_s - (self._time_of.last_s or 0.0) - 1 / self._fps
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
    """Pictures of one folder.

    Attributes:
        folder: where they are.
        names: file names in frame order; a file that holds several pictures is there several times.
        upright: turn them as their EXIF orientation says.
        pages: number of each picture in its file; None: every file holds one.
    """

    folder: Path
    names: tuple[str, ...]
    upright: bool = False
    pages: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_levels"}

    @cached_property
    def _levels(self) -> Levels:
        return Levels(self.folder.name, self._sample, log_level=logging.INFO)

    def _sample(self) -> Iterator[RawImage]:
        places = [(self.folder / name, self._page(k)) for k, name in enumerate(self.names)]
        return sample_pages(places, upright=self.upright)

    def _page(self, index: int) -> int:
        return self.pages[index] if self.pages is not None else 0

    def read(self, index: int) -> Image:
        """Decode one frame."""
        path = self.path(index)
        return read_image(path, upright=self.upright, page=self._page(index), levels=self._levels)

    def iterate(self, indices: Iterable[int]) -> Iterator[Image]:
        """Decode several frames in the order given; a stack stays open from one to the next."""
        file: PictureFile | None = None
        try:
            for index in indices:
                path = self.path(index)
                if file is None or file.path != path:
                    if file is not None:
                        file.close()
                    file = None
                    file = open_picture_file(path, is_one=self.pages is None)
                raw = file.read(self._page(index), upright=self.upright)
                yield self._levels.to_8_bits(raw)
        finally:
            if file is not None:
                file.close()

    def path(self, index: int) -> Path:
        """File of the frame."""
        _check_index(index, len(self.names), self.folder)
        return self.folder / self.names[index]

    def key(self, index: int) -> str:
        """Path of the file, with the number of the picture where it holds several."""
        path = str(self.path(index))
        return path if self.pages is None else f"{path}#{self._page(index)}"


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
        self._stream_number: int | None = None  # chosen when the clip is first opened

    def __len__(self) -> int:
        return len(self._index.times)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_to_image"}

    @cached_property
    def _to_image(self) -> FrameConverter:
        with self._open() as (container, stream):
            location, index = container.name, stream.index
        return FrameConverter(
            self.file.name,
            Levels(self.file.name, lambda: _sample_clip(location, index), log_level=logging.INFO),
        )

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
                    return frames, self._to_image(frame)
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
            fps = stated_rate(container, stream)
            packets = [p for p in container.demux(stream) if p.size and not p.is_discard]
            if _tell_frames_apart(packets, container):
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
                stream = find_video(
                    container, f"file:{self.file}", str(self.file), self._stream_number
                )
                if stream is None:
                    raise DatasetError(f"clip {self.file} holds no video; give a video file")
                self._stream_number = container.streams.video.index(stream)
                yield container, stream
        except (av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DatasetError(
                f"clip {self.file} cannot be decoded: {reason}; copy it again"
            ) from error


def _tell_frames_apart(packets: Sequence[Packet[VideoStream]], container: InputContainer) -> bool:
    """Whether every frame has a time stamp of its own, by one clock for the whole clip."""
    # AVI has no presentation times: FFmpeg makes them up, in coding order.
    if container.format.name == "avi" or is_bare(container):
        return False
    times = [p.pts for p in packets if p.pts is not None]
    if len(set(times)) < len(packets):
        return False
    coded = np.array([p.dts for p in packets if p.dts is not None], np.int64)
    steps_s = np.diff(coded) * float(packets[0].time_base or 0) if packets else np.zeros(0)
    longest_s = NEW_CLOCK_S if may_restart(container) else BROKEN_STAMP_S
    return bool(((steps_s >= 0) & (steps_s <= longest_s)).all())


def _check_index(index: int, count: int, where: Path) -> None:
    if not 0 <= index < count:
        raise DatasetError(f"there is no frame {index} in {where}; it has {count}, from 0")
