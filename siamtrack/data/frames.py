"""Where the frames of a sequence come from: picture files, or a video clip.

Both give the same frame for the same number however it is reached: one by one, in order, or from a
worker process that received a pickled copy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeAlias

import av
import cv2
import numpy as np
import PIL.Image
from av.container import InputContainer
from numpy.typing import NDArray

from siamtrack.crops import Image
from siamtrack.errors import DatasetError

PICTURE_SUFFIXES = frozenset(
    ".avif .bmp .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)
VIDEO_SUFFIXES = frozenset(".avi .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ts .webm .wmv".split())

_Decoded: TypeAlias = Iterator[tuple[int, av.VideoFrame]]

_EXIF_ORIENTATION, _FIRST_SIDEWAYS = 0x0112, 5


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


def read_picture(path: Path, *, upright: bool = False) -> Image:
    """Read a picture as uint8 (H, W, 3) BGR; grey is repeated and alpha dropped.

    Args:
        path: JPEG, PNG, WebP, BMP or TIFF.
        upright: obey the orientation a camera noted in the file. Annotations usually count pixels
            as they are stored, so the default does not.

    Raises:
        DatasetError: missing, damaged or cut off.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"picture {path} cannot be read: {error.strerror or error}") from error
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        # Not imread, which takes half a JPEG for a whole one.
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise DatasetError(f"picture {path} cannot be decoded: {error.err}") from error
    if picture is None:
        raise DatasetError(
            f"picture {path} ({len(data)} bytes) cannot be decoded; copy or extract it again"
        )
    return picture  # type: ignore[return-value]


def picture_wh(path: Path, *, upright: bool = False) -> tuple[int, int]:
    """Width and height of a picture in px from its header alone.

    Args:
        path: see `read_picture`.
        upright: see `read_picture`.

    Raises:
        DatasetError: missing, or without a header that says so.
    """
    try:
        with PIL.Image.open(path) as picture:
            width, height = picture.size
            if upright and picture.getexif().get(_EXIF_ORIENTATION, 1) >= _FIRST_SIDEWAYS:
                return height, width
            return width, height
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise DatasetError(f"picture {path} cannot be read: {error}") from error


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sorting key that puts 2.jpg before 10.jpg, whatever the case of letters."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts], name


def list_pictures(folder: Path) -> tuple[str, ...]:
    """Names of the pictures in a folder, in natural order; hidden files are no pictures."""
    names = (p.name for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
    return tuple(sorted((n for n in names if not n.startswith(".")), key=natural_key))


def _check_number(index: int, count: int, where: Path) -> None:
    if not 0 <= index < count:
        raise DatasetError(f"there is no frame {index} in {where}; it has {count}, from 0")


@dataclass(frozen=True)
class ImageFrames:
    """Picture files of one folder.

    Attributes:
        folder: where they are.
        names: file names in frame order.
        upright: see `read_picture`.
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
        return read_picture(self.path(index), upright=self.upright)

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
