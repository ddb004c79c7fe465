"""Frames by number, equal to those that reading in order gives.

Sections: `ClipIndex`, what is known of a clip before it is decoded; where decoding may begin;
`NumberedFrames`, frames of a clip (`ClipFrames`) or of pictures (`PictureFrames`) by number;
`Frames`, what data sets read: pictures of a folder (`ImageFrames`) or of
a clip (`VideoFile`).

A seek alone is not exact. Files lead behind the frame that was asked for (MPEG-TS), begin to decode
at a place where the picture is not whole yet (intra refresh), or have no time stamps at all. So
frames are told by their stamps, decoding begins only where the bit stream says that it may, and
what comes is compared with the index and, after a pass over the clip, with the fingerprints of its
frames. What disagrees sends the search further back, in the end to the start of the clip.
"""

from __future__ import annotations

import logging
import operator
import zlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, SupportsIndex

import av
import av.error
import numpy as np

from siamtrack.errors import DatasetError, FrameNumberError, NotNumberedError, VideoError, shown
from siamtrack.types import BoolArray, FloatArray, Image, IntArray
from siamtrack.utils.files import Closing
from siamtrack.utils.images import read_image, sample_pages
from siamtrack.utils.levels import Levels, RawImage
from siamtrack.utils.picture_files import PictureFile, open_picture_file
from siamtrack.video.cameras import ImagesReader
from siamtrack.video.decode import ContainerReader, FrameConverter, open_container, sample_clip
from siamtrack.video.frames import Frame
from siamtrack.video.times import BROKEN_STAMP_S, NEW_CLOCK_S, is_bare, may_restart, stated_rate

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_log = logging.getLogger(__name__)

CACHE_BYTES = 128 << 20
"""Decoded frames that are kept: 40 of 1920x1080 px. Raising it makes reading backwards faster in
clips whose key frames are further apart than that."""
UNKNOWN = -1
"""Fingerprint of a frame that was not decoded in order yet."""
INTRA_ONLY = frozenset("ffv1 ffvhuff huffyuv mjpeg png prores rawvideo utvideo v210".split())
"""Codecs whose frames are all complete and come in the order in which they are stored."""


# -- What is known of a clip


@dataclass(frozen=True)
class ClipIndex:
    """The frames of a clip in the order in which `open_source` delivers them.

    Attributes:
        stamps: (N,) presentation stamps, ascending; numbers where the clip has no usable ones.
        times_s: (N,) times from the start, as `Frame.time_s`.
        starts: numbers of the frames at which decoding may begin, ascending; 0 is the first.
        fingerprints: (N,) CRC-32 of the decoded frames, `UNKNOWN` where none was taken.
        is_searchable: frames are found by their stamps; else by counting from the start.
        unreadable: frames that were lost to damage; known only after a pass over the clip.
    """

    stamps: IntArray
    times_s: FloatArray
    starts: IntArray
    fingerprints: IntArray
    is_searchable: bool
    unreadable: int = 0

    def __len__(self) -> int:
        return len(self.stamps)


def index_by_stamps(reader: ContainerReader) -> ClipIndex | None:
    """Index a clip without decoding it; None where it has no usable stamps."""
    container, stream = reader.open_again()
    with container:
        try:
            found = _read_stamps(container, stream)
        except av.error.FFmpegError:
            found = None
        time_base = stream.time_base or Fraction(0)
    # A reader that came to damage counts fewer frames than there are stamps.
    if found is None or reader.unreadable:
        return None
    stamps, may_begin = found
    # What a clip that was cut anywhere holds before its first key frame is never shown.
    order = np.argsort(stamps)[np.count_nonzero(stamps < (reader.first_stamp or 0)) :]
    stamps, may_begin = stamps[order], may_begin[order]
    time_of = reader.make_times()
    return ClipIndex(
        stamps,
        times_s=np.array([time_of(float(stamp * time_base)) for stamp in stamps.tolist()]),
        starts=np.union1d([0], np.flatnonzero(may_begin)).astype(np.int64),
        fingerprints=np.full(len(stamps), UNKNOWN, np.int64),
        is_searchable=True,
    )


def _read_stamps(
    container: InputContainer, stream: VideoStream
) -> tuple[IntArray, BoolArray] | None:
    """Stamp of every frame and whether decoding may begin there; None for unusable stamps."""
    is_avi = container.format.name == "avi"
    # AVI has no presentation times: FFmpeg makes them up, in coding order.
    if is_bare(container) or (is_avi and stream.codec_context.name not in INTRA_ONLY):
        return None
    stamps: list[int] = []
    coded: list[int] = []
    may_begin: list[bool] = []
    for packet in container.demux(stream):
        if not packet.size or packet.is_discard or not _is_shown(packet, stream):
            continue
        if packet.pts is None or packet.is_corrupt:
            return None
        stamps.append(packet.pts)
        if packet.dts is not None:
            coded.append(packet.dts)
        may_begin.append(packet.is_keyframe and _may_begin_at(packet, stream))
    if len(set(stamps)) < len(stamps) or not stamps:
        return None
    # One clock for the whole clip.
    steps_s = np.diff(np.array(coded, np.int64)) * float(stream.time_base or 0)
    longest_s = NEW_CLOCK_S if may_restart(container) else BROKEN_STAMP_S
    if steps_s.size and not 0 <= steps_s.min() <= steps_s.max() <= longest_s:
        return None
    return np.array(stamps, np.int64), np.array(may_begin, np.bool_)


def count_frames(reader: ContainerReader) -> ClipIndex:
    """Index a clip by decoding it from the start to its end."""
    again = reader.reopen()
    with again:
        times_s, fingerprints = [], []
        for frame, time_s in again.decoded():
            times_s.append(time_s)
            fingerprints.append(fingerprint(frame))
        return ClipIndex(
            np.arange(len(times_s)),
            np.array(times_s),
            np.zeros(1, np.int64),
            np.array(fingerprints, np.int64),
            is_searchable=False,
            unreadable=again.unreadable,
        )


def fingerprint(frame: VideoFrame) -> int:
    """CRC-32 of the visible bytes of a decoded frame, without the padding of its rows."""
    crc = 0
    for number, plane in enumerate(frame.planes):
        parts = [c for c in frame.format.components if c.plane == number]
        bits = sum(8 * ((part.bits + 7) // 8) for part in parts)
        if len(frame.planes) == 1:
            bits = frame.format.padded_bits_per_pixel
        rows = np.frombuffer(memoryview(plane), np.uint8)
        if bits and plane.line_size > 0:
            rows = rows[: plane.line_size * plane.height].reshape(plane.height, plane.line_size)
            rows = rows[:, : (plane.width * bits + 7) // 8]
        crc = zlib.crc32(np.ascontiguousarray(rows).data, crc)
    return crc


# -- Where decoding may begin

_H264_IDR, _H264_SEI, _H264_SLICE = 5, 6, 1
_RECOVERY_POINT = 6
_HEVC_IRAP = range(16, 24)
_HEVC_SLICES = range(10)


def _is_shown(packet: Packet[VideoStream], stream: VideoStream) -> bool:
    """Whether a packet holds a picture; VP8 has some that are for reference alone."""
    return stream.codec_context.name != "vp8" or bool(bytes(packet)[0] & 0x10)


def _may_begin_at(packet: Packet[VideoStream], stream: VideoStream) -> bool:
    """Whether all frames shown from a key frame on are whole if decoding begins there.

    A key frame of H.264 may be a mere recovery point, whose picture is complete only some frames
    later (intra refresh). A frame of a GIF covers a part of the picture.
    """
    codec = stream.codec_context.name
    if codec == "gif":
        return False
    if codec not in ("h264", "hevc"):
        return True
    extra = stream.codec_context.extradata or b""
    length_bytes = 0
    if extra[:1] == b"\1":  # the header of MP4 and Matroska: units come with their lengths
        length_bytes = (extra[4 if codec == "h264" else 21] & 3) + 1
    for unit in _units(bytes(packet), length_bytes):
        if codec == "hevc":
            kind = unit[0] >> 1 & 63
            if kind in _HEVC_IRAP or kind in _HEVC_SLICES:
                return kind in _HEVC_IRAP
        elif unit[0] & 31 in (_H264_IDR, _H264_SLICE):
            return unit[0] & 31 == _H264_IDR
        elif unit[0] & 31 == _H264_SEI and _recovers_at_once(unit):
            return True
    return False


def _units(data: bytes, length_bytes: int) -> Iterator[bytes]:
    """NAL units, after their lengths or, where these have 0 bytes, after start codes."""
    if not length_bytes:
        yield from filter(None, data.split(b"\0\0\1")[1:])
        return
    at = 0
    while at + length_bytes < len(data):
        size = int.from_bytes(data[at : at + length_bytes], "big")
        at += length_bytes
        if size:
            yield data[at : at + size]
        at += size


def _recovers_at_once(unit: bytes) -> bool:
    """Whether an SEI unit is a recovery point that is exact from its own frame on (H.264 D.2.8)."""
    payloads = unit[1:].replace(b"\0\0\3", b"\0\0")
    at = 0
    while at + 2 < len(payloads):
        kind = size = 0
        while payloads[at] == 255 and at + 1 < len(payloads):
            kind, at = kind + 255, at + 1
        kind, at = kind + payloads[at], at + 1
        while payloads[at] == 255 and at + 1 < len(payloads):
            size, at = size + 255, at + 1
        size, at = size + payloads[at], at + 1
        if kind == _RECOVERY_POINT:
            # recovery_frame_cnt, ue(v), is 0: one bit that is set. Then exact_match_flag.
            return payloads[at : at + 1] >= b"\xc0"
        at += size
    return False


# -- Frames by number


class NumberedFrames(Closing, ABC):
    """Frames of a recording by number, as reading it in order delivers them.

    For one thread at a time.

    Attributes:
        name: of the recording, for messages.
        is_searchable: a frame is found without reading all frames before it.
    """

    name: str
    is_searchable: bool

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    @abstractmethod
    def times_s(self) -> FloatArray:
        """(N,) times of all frames from the start, as `Frame.time_s`, without decoding them."""

    @abstractmethod
    def _read(self, number: int) -> Frame: ...

    def __getitem__(self, number: SupportsIndex) -> Frame:
        """Read a frame; negative numbers count from the end.

        Raises:
            FrameNumberError: there is no such frame.
            NotNumberedError: this is no number.
            VideoError: it cannot be read.
        """
        return self._read(self._check(number))

    def _check(self, number: SupportsIndex) -> int:
        count = len(self)
        try:
            wanted = operator.index(number)
        except TypeError as error:
            raise NotNumberedError(
                f"{self.name}: {shown(number)} is no number of a frame; give one integer"
            ) from error
        if not -count <= wanted < count:
            raise FrameNumberError(
                f"there is no frame {wanted} in {self.name}; it has {count}, counted from 0"
            )
        return wanted % count


class ClipFrames(NumberedFrames):
    """Frames of a clip by number.

    Frame i is looked for in this order, until one is found that the index and the fingerprints
    agree with:

    1. decoding on, where no key frame lies between the last frame and this one;
    2. from the last key frame before it;
    3. from key frames 1, 3, 7, ... before that one, which is not begun at any more;
    4. from the start of the clip;
    5. by counting from the start, for good: the index was wrong.

    Decoded frames are kept up to `CACHE_BYTES`, so that reading backwards decodes a group of
    pictures once, if it fits.

    Args:
        reader: of the clip; it is only asked how to open the clip again.
        index: of the clip, if it is known from before.
        is_own: nobody else reads from `reader`, so it decodes, and is closed at the end.

    Attributes:
        kept_bytes: size of the decoded frames that are kept.
    """

    def __init__(
        self, reader: ContainerReader, index: ClipIndex | None = None, *, is_own: bool = False
    ) -> None:
        self.name = reader.info.name
        self._template = reader
        self._is_own = is_own
        self._reader = reader if is_own else None  # the one that decodes, when there is one
        self._index = index_by_stamps(reader) if index is None else index
        self._decoded: Iterator[tuple[int, VideoFrame]] = iter(())
        self._position = -1  # number of the frame decoded last
        self._kept: OrderedDict[int, VideoFrame] = OrderedDict()
        self.kept_bytes = 0

    @property
    def index(self) -> ClipIndex:
        """The index; it is replaced by a counted one when it turns out to be wrong.

        Where the clip has no usable stamps, the first use counts its frames by decoding them.
        """
        if self._index is None:
            self._index = count_frames(self._template)
        elif self._index.is_searchable and self._template.unreadable and not self._is_own:
            self._distrust_index()  # Reading in order came to damage meanwhile.
        return self._index

    @index.setter
    def index(self, index: ClipIndex) -> None:
        self._index = index

    @property
    def is_searchable(self) -> bool:  # type: ignore[override]
        """Whether frames are found by their stamps, as far as is known."""
        return self._index is not None and self.index.is_searchable

    @property
    def times_s(self) -> FloatArray:
        """Those of the index."""
        return self.index.times_s

    def close(self) -> None:
        """Close the clip and drop the frames that are kept; they can still be read again."""
        self._decoded, self._position = iter(()), -1
        self._kept.clear()
        self.kept_bytes = 0
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _read(self, number: int) -> Frame:
        frame = self._kept.get(number)
        if frame is None or not self._is_right(number, frame):
            frame = self._search(number)
        else:
            self._kept.move_to_end(number)
        image = self._template.to_image(frame)
        return Frame(image, number, float(self.index.times_s[number]))

    def _is_right(self, number: int, frame: VideoFrame) -> bool:
        known = self.index.fingerprints[number]
        return bool(known == UNKNOWN or known == fingerprint(frame))

    def _search(self, number: int) -> VideoFrame:
        """Decode a frame, step by step as the docstring of the class says."""
        # 1. Decode on.
        starts = self.index.starts
        start = int(starts[np.searchsorted(starts, number, side="right") - 1])
        if start - 1 <= self._position < number:
            frame = self._advance(number)
            if frame is not None:
                return frame

        # 2., 3. and 4. From a key frame before, and from the start.
        for start in _places_before(self.index.starts, number):
            self._decoded = self._decode(start)
            self._position = start - 1
            frame = self._advance(number)
            if frame is not None:
                return frame
            if start:
                trusted = self.index.starts[self.index.starts != start]
                self._index = replace(self.index, starts=trusted)

        # 5. Count.
        if self.index.is_searchable:
            self._distrust_index()
            if number < len(self):
                return self._search(number)
        raise VideoError(
            f"frame {number} of {self.name} cannot be decoded; the file has changed or is damaged: "
            "open it again"
        )

    def _distrust_index(self) -> None:
        """Count the frames by decoding all of them, where the index says what is not so."""
        self.close()
        listed = 0 if self._index is None else len(self._index)
        self._index = count_frames(self._template)
        _log.warning(
            "%s: its %d time stamps do not tell its %d frame(s) apart, so they are counted from "
            "the start; for faster access copy it: ffmpeg -i IN -c copy OUT.mkv",
            self.name,
            listed,
            len(self._index),
        )

    def _advance(self, number: int) -> VideoFrame | None:
        """Decode up to a frame; None where a frame is missing or another one comes."""
        for found, frame in self._decoded:
            if found != self._position + 1:
                break
            self._position = found
            self._keep(found, frame)
            if found == number:
                if self._is_right(number, frame):
                    return frame
                break
        self._decoded, self._position = iter(()), -1
        return None

    def _keep(self, number: int, frame: VideoFrame) -> None:
        if (old := self._kept.pop(number, None)) is not None:
            self.kept_bytes -= _size_of(old)
        self._kept[number] = frame
        self.kept_bytes += _size_of(frame)
        while self.kept_bytes > CACHE_BYTES and len(self._kept) > 1:
            self.kept_bytes -= _size_of(self._kept.popitem(last=False)[1])

    def _decode(self, start: int) -> Iterator[tuple[int, VideoFrame]]:
        """Frames with their numbers, from a key frame on or from the start of the clip."""
        if self._reader is None or (start == 0 and not self._reader.is_fresh):
            if self._reader is not None:
                self._reader.close()
            self._reader = self._template.reopen()
        reader = self._reader
        if start:
            with suppress(av.error.FFmpegError):
                frames = reader.decode_from(int(self.index.stamps[start]) - reader.margin)
                yield from self._number(frames, start)
            return
        frames = (frame for frame, _ in reader.decoded())
        if self.index.is_searchable:
            yield from self._number(frames, 0)
        else:
            yield from enumerate(frames)

    def _number(self, frames: Iterable[VideoFrame], start: int) -> Iterator[tuple[int, VideoFrame]]:
        """Give frames their numbers by their stamps; what comes before `start` is left out."""
        stamps = self.index.stamps
        for frame in frames:
            if frame.pts is None:
                return
            if frame.pts < stamps[start]:
                continue
            number = int(np.searchsorted(stamps, frame.pts))
            if number == len(stamps) or stamps[number] != frame.pts:
                return
            yield number, frame

    def take_fingerprints(self) -> Iterator[int]:
        """Decode the clip once from its start, with a reader of its own, and keep fingerprints.

        From then on every frame is compared with its fingerprint. Where the pass finds other frames
        than the index lists, the index is replaced by one that counts them. May run in a thread
        beside the one that reads.

        Yields:
            The number of frames passed, after each one; closing the generator stops the pass.
        """
        if not self.index.is_searchable:  # The index was made by such a pass.
            yield len(self)
            return
        index, passed = self.index, 0
        with self._template.reopen() as reader:
            for frame, _ in reader.decoded():
                if passed == len(index) or frame.pts != index.stamps[passed]:
                    break
                index.fingerprints[passed] = fingerprint(frame)
                passed += 1
                yield passed
            else:
                if passed == len(index):
                    return
        self._index = count_frames(self._template)
        yield len(self)


def _places_before(starts: IntArray, number: int) -> Iterator[int]:
    """Where to begin decoding for a frame: key frames 0, 1, 3, 7, ... back, and the start."""
    k = int(np.searchsorted(starts, number, side="right")) - 1
    step = 1
    while k > 0:
        yield int(starts[k])
        k, step = k - step, 2 * step
    yield 0


def _size_of(frame: VideoFrame) -> int:
    return sum(plane.buffer_size for plane in frame.planes)


class PictureFrames(NumberedFrames):
    """Pictures by number, as `ImagesReader` delivers them: those that cannot be read do not count.

    Args:
        reader: of the pictures; it is only asked for others like it.

    Attributes:
        is_checked: all that count can be read.
    """

    is_searchable = True

    def __init__(self, reader: ImagesReader) -> None:
        self.name = reader.info.name
        self._reader = reader.reopen()
        # Animations say how long their pictures are shown only where these are decoded.
        plain = self._reader.plain_times_s()
        self._places, self._times_s = list(range(len(plain or ()))), plain or []
        self.is_checked = False
        if plain is None or reader.unreadable:
            self._check_all()

    @property
    def times_s(self) -> FloatArray:
        """By the rate, or by the delays of an animation."""
        return np.array(self._times_s)

    def close(self) -> None:
        """Close the file that is open."""
        self._reader.close()

    def _read(self, number: int) -> Frame:
        try:
            image = self._reader.read_place(self._places[number])
        except DatasetError as error:
            _log.warning("%s: %s; it is left out, and those behind it move up", self.name, error)
            before = len(self)
            self._check_all()
            if len(self) == before or number >= len(self):
                raise VideoError(
                    f"frame {number} of {self.name} cannot be read: {error}"
                ) from error
            return self._read(number)
        return Frame(image, number, self._times_s[number], self._reader.picture)

    def check(self) -> Iterator[int]:
        """Read all pictures once, with a reader of its own; from then on the unreadable are out.

        Until then a picture counts that turns out to be unreadable when it is asked for. May run in
        a thread beside the one that reads.

        Yields:
            The number of pictures passed, after each one; closing the generator stops the pass.
        """
        places, times_s = [], []
        with self._reader.reopen() as reader:
            while (delivered := reader.read()) is not None:
                places.append(reader.place)
                times_s.append(delivered[1])
                yield reader.place + 1
        self._places, self._times_s, self.is_checked = places, times_s, True

    def _check_all(self) -> None:
        for _ in self.check():
            pass


# -- What data sets read


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


class VideoFile:
    """Frames of a clip by number in presentation order, upright.

    The clip is open only during a read, and is indexed at the first one.
    """

    def __init__(self, path: Path) -> None:
        self.file = path
        self._known: tuple[ClipIndex, float | None] | None = None  # and the frames per second
        self._to_image: FrameConverter | None = None

    def __len__(self) -> int:
        return len(self._index()[0])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_to_image": None}

    @property
    def fps(self) -> float | None:
        """Nominal frames per second; None when unknown."""
        return self._index()[1]

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
        with self._open() as frames:
            for index in indices:
                _check_index(index, len(frames), self.file)
                image = frames[index].image
                if frames.index.unreadable and self._index()[0].is_searchable:
                    # Numbers of annotations count the frames that are lost, too.
                    raise DatasetError(
                        f"clip {self.file} cannot be decoded near frame {index}: "
                        f"{frames.index.unreadable} of its frames are damaged; copy it again"
                    )
                yield image

    def _index(self) -> tuple[ClipIndex, float | None]:
        while self._known is None:
            with self._open():
                pass  # Opening it makes the index.
        return self._known

    @contextmanager
    def _open(self) -> Iterator[ClipFrames]:
        """Open the clip for one read, with errors of video turned into `DatasetError`."""
        try:
            container, stream = open_container(f"file:{self.file}", str(self.file))
            if self._to_image is None:
                name, place = self.file.name, (container.name, stream.index)
                levels = Levels(name, lambda: sample_clip(*place), log_level=logging.INFO)
                self._to_image = FrameConverter(name, levels)
            fps = stated_rate(container, stream)
            reader = ContainerReader(container, stream, str(self.file), to_image=self._to_image)
            with ClipFrames(reader, self._known and self._known[0], is_own=True) as frames:
                self._known = self._known or (frames.index, fps)
                yield frames
        except VideoError as error:
            raise DatasetError(f"clip {error}") from error


def _check_index(index: int, count: int, where: Path) -> None:
    if not 0 <= index < count:
        raise DatasetError(f"there is no frame {index} in {where}; it has {count}, from 0")
