"""Decoding video with FFmpeg (PyAV).

Sections: opening; `FrameConverter`, from decoded frames to what is shown; `ContainerReader`, which
reads a file or a stream in order and skips damage. By number: `siamtrack.video.random_access`.
"""

from __future__ import annotations

import errno
import logging
import re
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from heapq import heappop, heappush
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.error
import av.sidedata.sidedata
import cv2
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from siamtrack.errors import ConfigError, VideoError
from siamtrack.types import Image
from siamtrack.utils.levels import SAMPLES, Levels, RawImage, ValueRange
from siamtrack.video.frames import Reader, SourceInfo
from siamtrack.video.times import (
    BARE_FPS,
    BROKEN_STAMP_S,
    NEW_CLOCK_S,
    ArrivalTimes,
    CountedTimes,
    StampTimes,
    has_time_stamps,
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
UNREADABLE_TEXT = "replace"
"""What becomes of bytes in titles and other tags that are no UTF-8, as older programs write."""
LOOK_PACKETS = 300
"""Packets read to tell a film from a still, where a file has several video streams."""
JPEG_END, JPEG_TAIL_BYTES = b"\xff\xd9", 64
"""The marker at the end of a JPEG picture, and how far from the end it may be."""
TS_PACKET_BYTES = 188
"""Size of a packet of MPEG-TS. Every frame takes one at least."""
EARLIER_S = 1.0
"""How much earlier a seek aims in MPEG-TS and MPEG-PS, which have no index and lead too far."""
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


def _name_side_data(kinds: Any, value: int) -> Any:
    """A member for a kind of side data that PyAV has no name for.

    PyAV 18 raises for all side data of a frame where one piece is of such a kind: the EXIF data of
    a JPEG, the view of a stereo film. The display matrix would be lost with it.
    """
    member = object.__new__(kinds)
    member._name_, member._value_ = f"KIND_{value}", value
    return member


av.sidedata.sidedata.Type._missing_ = classmethod(_name_side_data)  # type: ignore[assignment]

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
        container = av.open(
            location, "r", options=options, timeout=timeout_s, metadata_errors=UNREADABLE_TEXT
        )
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
    with (
        suppress(av.error.FFmpegError),
        av.open(location, metadata_errors=UNREADABLE_TEXT) as container,
    ):
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
        # `frame.side_data` is the same, but a cycle with the frame, which then holds its room until
        # the garbage collector runs: hundreds of frames later.
        side_data: Any = SideDataContainer
        matrix = side_data(frame).get("DISPLAYMATRIX")
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
        return RawImage(_to_array(frame, wide), _white_of(depth))
    if depth > 8 and name.startswith("gbrp"):
        wide = "gbrpf32le" if is_float else f"gbrp{depth}le"
        return RawImage(_to_array(frame, wide)[..., ::-1], _white_of(depth))
    # 10 bits are those of cameras and films, which FFmpeg scales; more are those of instruments.
    if depth >= 12 or (depth > 8 and name.startswith(("rgb", "bgr", "gbrap"))):
        return RawImage(_to_array(frame, "rgb48le")[..., ::-1])
    has_alpha = name.startswith(("rgba", "bgra", "argb", "abgr", "yuva", "gbrap", "ya", "pal8"))
    return RawImage(_to_array(frame, "bgra" if has_alpha else "bgr24"))


def _to_array(frame: VideoFrame, pixels: str) -> NDArray[Any]:
    """Convert a frame, which may be kept, by something that is not.

    `frame.to_ndarray(format=...)` gives the frame a converter for life, with a thread for each CPU.
    """
    return VideoReformatter().reformat(frame, format=pixels).to_ndarray()


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


def sample_clip(location: str, index: int) -> Iterator[RawImage]:
    """Decode `SAMPLES` frames spread over a stream of a file, fewer where it cannot be searched."""
    if not location.startswith("file:"):
        return  # Behind an address or a pipe nothing can be looked at twice.
    with (
        suppress(av.FFmpegError, OSError),
        av.open(location, metadata_errors=UNREADABLE_TEXT) as container,
    ):
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
        to_image: converter to share with another reader of the same clip; None for one of its own.

    Attributes:
        to_image: turns decoded frames into pictures as they are shown.
        first_stamp: of the first frame; None where it has none.

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
        to_image: FrameConverter | None = None,
    ) -> None:
        self._container = container
        self._stream = stream
        self._number = container.streams.video.index(stream)
        if to_image is None:
            samples = sample_clip(container.name, stream.index)
            to_image = FrameConverter(shown, Levels(shown, lambda: samples, given=value_range))
        self.to_image = to_image
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
        # AVI: chunks so far, stored or repeating the frame before, the fewest repeats between two
        # that are stored, and the stamps of those stored that were not shown yet. It has stamps in
        # coding order only.
        self._chunks, self._least_repeats = 0, sys.maxsize
        self._coded_stamps: list[int] = []
        self._read_failed = False
        self._ends_whole = False  # by the last packet
        self._frames = self._decode()
        self._first_decoded: tuple[VideoFrame, float] | None = None
        try:
            self._first_decoded = self._next_decoded()
            if self._first_decoded is not None:
                self._first = self.to_image(self._first_decoded[0]), self._first_decoded[1]
                self.first_stamp = self._first_decoded[0].pts
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
            1 / aspect if self.to_image.is_sideways else aspect,
        )

    def close(self) -> None:
        """Close the file or the connection; it can be opened again, but not read."""
        self._frames.close()
        self._container.close()
        # With the last reference to its stream the decoder goes, and the room of all its frames.
        vars(self).pop("_stream", None)

    @property
    def can_reopen(self) -> bool:
        """Whether this is a file, which can be opened again and searched."""
        return self._container.name.startswith("file:") and not self._is_stream

    def open_again(self) -> tuple[InputContainer, VideoStream]:
        """Open the same stream of the same file once more; the caller closes the container."""
        return open_container(self._container.name, self._shown, number=self._number)

    def reopen(self) -> ContainerReader:
        """Make another reader of the same file that delivers the same, from the start."""
        # A rate that was assumed is given, so that it is not warned of again.
        fps = None if self.keeps_stamps else self._fps
        return ContainerReader(*self.open_again(), self._shown, fps=fps, to_image=self.to_image)

    def make_times(self) -> StampTimes:
        """What gives frames of this file their times, from the first one on."""
        fps = None if self.keeps_stamps else self._fps
        return self._choose_times(fps, is_live=False)

    @property
    def has_sound(self) -> bool:
        """Whether there is sound beside the pictures."""
        return bool(self._container.streams.audio)

    @property
    def keeps_stamps(self) -> bool:
        """Whether times are those of the file, rather than counted by a rate."""
        return not isinstance(self._time_of, CountedTimes)

    @property
    def origin_s(self) -> float:
        """Stamp that is shown as time 0."""
        return self._time_of.origin_s

    @property
    def is_fresh(self) -> bool:
        """Whether nothing was read since it was opened."""
        return self._first_decoded is not None

    @property
    def margin(self) -> int:
        """How much earlier than a key frame a seek has to aim, in ticks of the stamps."""
        has_index = self._container.format.name not in ("mpeg", "mpegts")
        return 0 if has_index else round(EARLIER_S / float(self._stream.time_base or 1))

    def decoded(self) -> Iterator[tuple[VideoFrame, float]]:
        """Frames before conversion and their times in s, from the start: instead of `read`."""
        pair, self._first_decoded = self._first_decoded, None
        while pair is not None:
            yield pair
            pair = self._next_decoded()

    def decode_from(self, stamp: int) -> Iterator[VideoFrame]:
        """Seek to the key frame before a stamp and decode on, without times.

        Raises:
            av.FFmpegError: the file cannot be searched.
        """
        self._first_decoded = None
        self._frames.close()
        self._container.seek(stamp, stream=self._stream)
        self._frames = self._decode()
        return self._frames

    def _read_next(self) -> tuple[Image, float] | None:
        self._first_decoded = None  # It was delivered, and is not kept.
        pair = self._next_decoded()
        return None if pair is None else (self.to_image(pair[0]), pair[1])

    def _next_decoded(self) -> tuple[VideoFrame, float] | None:
        frame = next(self._frames, None)
        if frame is None:
            return None
        self._decoded += 1
        stamp = heappop(self._coded_stamps) if self._coded_stamps else frame.pts
        return frame, self._time_of(_to_seconds(self._stream, stamp))

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
                            if self._packets_seen > 1:
                                repeats = packet.dts - self._chunks
                                self._least_repeats = min(self._least_repeats, repeats)
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
            # Of repeats at the end nothing comes. Where all frames are repeated, the last one is.
            at_end = max(0, min(counted - self._chunks, self._least_repeats))
            at_end = at_end if self._chunks and self._packets_seen > 2 else 0
            counted -= max(0, self._chunks - self._packets_seen) + at_end
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
