"""Picture files and the pictures in them, by content and not by suffix.

Sections: what a file is; `PictureFile`, which reads the pictures of one file; TIFF (tifffile);
animations (Pillow); pictures one after the other in one file, and single ones (OpenCV); netpbm.
"""

from __future__ import annotations

import io
import logging
import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import DatasetError, explain_missing
from siamtrack.utils.files import Closing
from siamtrack.utils.levels import RawImage

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

_log = logging.getLogger(__name__)

HEAD_BYTES = 4096
"""Of a file, to find out what it is and whether it is animated."""

# --- What a file is ------------------------------------------------------------------------------

_PNG = b"\x89PNG\r\n\x1a\n"
_SIGNATURES = {
    "jpeg": rb"\xff\xd8\xff",
    "png": re.escape(_PNG),
    "tiff": rb"II[*+]\0|MM\0[*+]",
    "webp": rb"RIFF....WEBP",
    "gif": rb"GIF8[79]a",
    "bmp": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "avif": rb"....ftyp(?:avif|avis|mif1.{4,60}avif)",
    "jp2": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "netpbm": rb"P[1-6]\s+[#\d]",
}
_KINDS = re.compile(
    b"|".join(b"(?P<%s>%s)" % (kind.encode(), sign) for kind, sign in _SIGNATURES.items()), re.S
)


def kind_of_picture(head: bytes) -> str | None:
    """Name the format of a picture file by its first bytes; None for what is no picture."""
    found = _KINDS.match(head)
    return found.lastgroup if found else None


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file, fewer than `HEAD_BYTES` of a short one.

    Raises:
        DatasetError: it cannot be opened.
    """
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise DatasetError(f"picture {path} cannot be read: {error.strerror or error}") from error


class StackError(DatasetError):
    """A file holds a stack of more than one axis, which is no film."""


# --- Files ---------------------------------------------------------------------------------------


class PictureFile(Closing, ABC):
    """The pictures of one file, by number; not for several threads at once.

    Attributes:
        path: of the file.
        count: number of its pictures; thumbnails, smaller versions and masks are none.
    """

    path: Path
    count: int

    @abstractmethod
    def read(self, number: int, *, upright: bool) -> RawImage:
        """Decode a picture; `upright` turns it as its EXIF orientation says.

        Raises:
            DatasetError: damaged, cut off, or in a way that nothing here can decode.
        """

    def delay_s(self, number: int) -> float | None:
        """How long a picture that was read is shown; None where the file does not say."""
        return None

    def close(self) -> None:
        """Close the file."""


def open_picture_file(path: Path, *, is_one: bool = False) -> PictureFile:
    """Open a picture file of any format that `kind_of_picture` knows or OpenCV reads.

    Args:
        path: of the file.
        is_one: only its first picture is wanted: do not look for others one after the other.

    Raises:
        DatasetError: it cannot be opened, or its structure is damaged or not that of a film.
    """
    head = read_head(path)
    kind = kind_of_picture(head)
    if kind == "tiff":
        return _Tiff(path)
    if kind == "gif" or _is_animated(kind, head):
        return _Animation(path)
    return _Pictures(path, kind, is_one=is_one)


def count_pictures(path: Path) -> int:
    """Count the pictures of a file from its structure; 1 for what cannot be opened.

    JPEG and PNG are not searched for further pictures, which would mean reading all of the file.

    Raises:
        StackError: the file holds a stack that is no film.
    """
    try:
        kind = kind_of_picture(head := read_head(path))
        if kind not in ("tiff", "gif", "bmp", "netpbm") and not _is_animated(kind, head):
            return 1
        if kind == "tiff" and not _has_second_page(path):
            return 1
        with open_picture_file(path) as file:
            return file.count
    except StackError:
        raise
    except DatasetError:
        return 1


def is_animation(path: Path) -> bool:
    """Whether a file says how long its pictures are shown; False for what cannot be opened."""
    try:
        kind = kind_of_picture(head := read_head(path))
    except DatasetError:
        return False
    return kind == "gif" or _is_animated(kind, head)


def _is_animated(kind: str | None, head: bytes) -> bool:
    if kind == "png":
        return b"acTL" in head.split(b"IDAT")[0]
    if kind == "webp":
        return head[12:16] == b"VP8X" and bool(head[20] & 2)
    return kind == "avif" and b"avis" in head[8:64]


def _damaged(path: Path, error: object = None) -> DatasetError:
    because = f": {error}" if error else ""
    size = path.stat().st_size if path.exists() else 0
    return DatasetError(
        f"picture {path} ({size} bytes) cannot be decoded{because}; copy or extract it again"
    )


# --- TIFF ----------------------------------------------------------------------------------------

_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE = range(4)  # PhotometricInterpretation
_UNASSOCIATED = 2  # ExtraSamples: alpha that the colors are not multiplied with
_ORIENTATION = 274
_SLIDES = frozenset({"svs", "scn", "ndpi", "bif", "qpi", "philips", "avs"})
"""Formats of slide scanners: one picture in several sizes, with others of its label."""


def _has_second_page(path: Path) -> bool:
    """Whether a TIFF goes on after its first page, or is an ImageJ stack, which may not tell."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        first = _read_offset(file, 8 if _is_big(head) else 4, head)
        return b"ImageJ=" in head or _next_page(file, first, head) != 0


def _is_big(head: bytes) -> bool:
    return b"+" in head[2:4]


def _read_offset(file: IO[bytes], at: int, head: bytes) -> int:
    """Read an offset of a TIFF whose file begins with `head`; 0 where the file is cut off."""
    file.seek(at)
    return int.from_bytes(file.read(8 if _is_big(head) else 4), _order(head))


def _order(head: bytes) -> Literal["little", "big"]:
    return "little" if head[:2] == b"II" else "big"


def _next_page(file: IO[bytes], at: int, head: bytes) -> int:
    """Where the page after the one at an offset is said to be; 0 after the last."""
    count_bytes, entry_bytes = (8, 20) if _is_big(head) else (2, 12)
    file.seek(at)
    entries = int.from_bytes(file.read(count_bytes), _order(head))
    return _read_offset(file, at + count_bytes + entry_bytes * entries, head)


class _Tiff(PictureFile):
    """Pages of a TIFF or of what is one: BigTIFF, LSM, STK, ImageJ. Channels make one picture."""

    def __init__(self, path: Path) -> None:
        with explain_missing(f"reading {path}"):
            import tifffile

        self.path = path
        try:
            self._file: TiffFile = tifffile.TiffFile(path)
        except Exception as error:
            raise _damaged(path, error) from error
        try:
            self._series, self._planes = self._find_planes()
        except DatasetError:
            self._file.close()
            raise
        except Exception as error:
            self._file.close()
            raise _damaged(path, error) from error
        if self._is_cut_off():
            self._planes.append(())
        self.count = len(self._planes)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _is_cut_off(self) -> bool:
        """Whether the file names a page after the last that it holds."""
        pages = self._file.pages
        with self.path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            offset = _next_page(file, pages[len(pages) - 1].offset, head)
        is_listed = len(self._planes) <= len(pages)
        return is_listed and offset >= self._file.filehandle.size

    def _find_planes(self) -> tuple[TiffPageSeries | None, list[tuple[Any, ...]]]:
        """The planes of each picture: pages, or numbers in an ImageJ stack that lists one page."""
        pages = list(self._file.pages)
        if not pages:
            raise _damaged(self.path)
        main = [p for p in pages if not getattr(p, "subfiletype", 0) & (_REDUCED | _MASK)] or pages
        series = self._file.series[0] if self._file.series else None
        if series is None or series.kind in ("generic", "uniform") or "Y" not in series.axes:
            return None, [(page,) for page in main]
        # 1. The axes before the rows of a page: channels make one picture, another is the time.
        leading = series.axes[: series.axes.index("Y")]
        if series.keyframe.planarconfig == 2 and leading.endswith("S"):
            leading = leading[:-1]
        sizes = {axis: n for axis, n in enumerate(series.shape[: len(leading)]) if n > 1}
        times = [axis for axis in sizes if leading[axis] not in "CS"]
        if len(times) > 1:
            named = " x ".join(f"{leading[axis]}={sizes[axis]}" for axis in times)
            raise StackError(
                f"{self.path} is a stack of {named} pictures, which is no film; save one of these "
                "axes as a stack of its own"
            )
        # 2. The planes in the order of the file, and from there those of every picture. Writers
        #    that add page by page describe each for itself.
        total = int(np.prod(series.shape[: len(leading)], dtype=np.int64))
        if total < len(main) and series.kind not in _SLIDES:
            return None, [(page,) for page in main]
        numbers = np.arange(total).reshape(series.shape[: len(leading)])
        if times:
            numbers = np.moveaxis(numbers, times[0], 0)
        groups = numbers.reshape(sizes[times[0]] if times else 1, -1)
        if len(series.pages) == total and all(page is not None for page in series.pages):
            return None, [tuple(series.pages[int(n)] for n in group) for group in groups]
        if series.dataoffset is None:
            return None, [(page,) for page in main]
        return series, [tuple(map(int, group)) for group in groups]

    def read(self, number: int, *, upright: bool) -> RawImage:
        """Decode a picture."""
        planes = self._planes[number]
        if not planes:
            raise _damaged(self.path, "its last pages are cut off")
        if len(planes) > 3:
            _log.info("%s: the first 3 of %d channels are read", self.path, len(planes))
        try:
            raw = self._read_plane(planes[0], upright)
            if len(planes) == 1:
                return raw
            rgb = [raw.values, *(self._read_plane(p, upright).values for p in planes[1:3])]
        except DatasetError:
            raise
        except Exception as error:
            raise _damaged(self.path, error) from error
        rgb += [np.zeros_like(rgb[0])] * (3 - len(rgb))
        return RawImage(np.stack(rgb[::-1], axis=2))

    def _read_plane(self, plane: Any, upright: bool) -> RawImage:
        if self._series is not None:  # a stack of which the file lists one page only
            page: Any = self._series.keyframe
            count = int(np.prod(page.shape))
            self._file.filehandle.seek(
                self._series.dataoffset + plane * count * page.dtype.itemsize
            )
            dtype = page.dtype.newbyteorder(self._file.byteorder)
            values = self._file.filehandle.read_array(dtype, count).reshape(page.shape)
            return self._finish(values.astype(page.dtype), page, upright)
        page = plane.aspage() if hasattr(plane, "aspage") else plane
        _check_extent(page, self._file.filehandle.size)
        is_plain = page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
        is_single = len(self._file.pages) == 1
        if is_plain and not (is_single and page.dtype == np.uint8):
            try:
                return self._finish(page.asarray(), page, upright)
            except (ValueError, KeyError) as error:  # compressed in a way that tifffile cannot
                _log.debug("%s: %s", self.path, error)
        return self._decode_by_opencv(page, upright)

    def _finish(self, values: NDArray[Any], page: TiffPage, upright: bool) -> RawImage:
        """Order and invert channels as everything else here has them."""
        values = np.squeeze(values) if values.ndim > 3 else values
        if values.ndim == 3 and page.planarconfig == 2:
            values = np.moveaxis(values, 0, -1)
        if values.dtype.kind == "u" and 8 < page.bitspersample < 16:
            values = values.astype(np.uint16)
        if values.dtype == np.uint8 and page.bitspersample < 8:
            white = 2**page.bitspersample - 1
            values = (values.astype(np.uint16) * 255 // white).astype(np.uint8)
        if page.photometric == _WHITE_IS_ZERO:
            values = ~values if values.dtype.kind in "bu" else -values
        if values.ndim == 3:
            colors = 3 if page.photometric == _RGB and values.shape[2] >= 3 else 1
            has_alpha = page.extrasamples[:1] == (_UNASSOCIATED,) and values.shape[2] > colors
            if colors == 1:
                values = values[..., 0]
            else:
                order = [2, 1, 0, 3] if has_alpha else [2, 1, 0]
                values = values[..., order]
        tag = page.tags.get(_ORIENTATION)
        return RawImage(turn(values, int(tag.value)) if upright and tag is not None else values)

    def _decode_by_opencv(self, page: TiffPage, upright: bool) -> RawImage:
        """What tifffile has no codec for (LZW, JPEG) and colors that need converting."""
        is_deep = page.dtype is None or page.dtype != np.uint8
        data = np.frombuffer(self.path.read_bytes(), np.uint8)
        flags = cv2.IMREAD_UNCHANGED if is_deep else cv2.IMREAD_COLOR
        if len(self._file.pages) == 1:
            image: Any = cv2.imdecode(data, flags)
        else:
            first = page.index if isinstance(page.index, int) else page.index[0]
            _, images = cv2.imdecodemulti(data, flags, None, (first, first + 1))
            image = images[0] if images else None
        if image is None:
            raise _damaged(self.path)
        tag = page.tags.get(_ORIENTATION)
        if tag is not None and not upright:  # TIFFs are turned whatever the flags say
            orientation = int(tag.value)
            image = turn(image, _BACK.get(orientation, orientation))
        return RawImage(image)


def _check_extent(page: TiffPage, size_bytes: int) -> None:
    """Refuse a page that is cut off: some decoders fill up what is missing."""
    ends = [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if ends and max(ends) > size_bytes:
        raise DatasetError(
            f"picture {page.parent.filehandle.path} is cut off after {size_bytes} bytes; copy or "
            "extract it again"
        )


# --- Animations ----------------------------------------------------------------------------------


class _Animation(PictureFile):
    """Frames of an animated PNG, WebP, AVIF or GIF, composed as they are shown."""

    def __init__(self, path: Path) -> None:
        with explain_missing(f"reading {path}"):
            import PIL.Image

        self.path = path
        try:
            self._image = PIL.Image.open(path)
            frames = int(getattr(self._image, "n_frames", 1))
        except Exception as error:
            raise _damaged(path, error) from error
        # An animated PNG may have a picture besides for those who cannot show it moving.
        self._first = int(frames > 1 and bool(getattr(self._image, "default_image", False)))
        self.count = frames - self._first
        self._delays_s: dict[int, float] = {}

    def close(self) -> None:
        """Close the file."""
        self._image.close()

    def read(self, number: int, *, upright: bool) -> RawImage:
        """Decode a picture, and those before it where that was not done."""
        try:
            self._image.seek(number + self._first)
            values = _of_pillow(self._image, upright)
        except Exception as error:
            raise _damaged(self.path, error) from error
        if delay_ms := self._image.info.get("duration"):
            self._delays_s[number] = float(delay_ms) / 1e3
        return RawImage(values)

    def delay_s(self, number: int) -> float | None:
        """How long a picture that was read is shown."""
        return self._delays_s.get(number)


def _of_pillow(image: Any, upright: bool) -> NDArray[Any]:
    """Pixels of a Pillow image, in the order of channels that OpenCV has."""
    import PIL.ImageOps

    if upright:
        image = PIL.ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return np.array(image)
    is_clear = image.mode in ("LA", "PA", "La", "RGBa", "RGBA") or "transparency" in image.info
    rgb = np.array(image.convert("RGBA" if is_clear else "RGB"))
    return np.ascontiguousarray(rgb[..., [2, 1, 0, 3] if is_clear else [2, 1, 0]])


# --- One picture, or several one after the other -------------------------------------------------


class _Pictures(PictureFile):
    """Pictures one after the other in a file: usually one; dumps of cameras and pipes hold more."""

    def __init__(self, path: Path, kind: str | None, *, is_one: bool) -> None:
        self.path, self._kind = path, kind
        self._data: bytes | None = None
        try:
            self._file = path.open("rb")
            split = None if is_one else _SPLITTERS.get(kind or "")
            if split and kind in ("jpeg", "png"):
                # Read once. Most hold one picture, which a second signature would contradict.
                self._data = self._file.read()
                if self._data.find(_PNG if kind == "png" else b"\xff\xd8\xff", 1) < 0:
                    split = None
            content = self._file if self._data is None else io.BytesIO(self._data)
            self._places = list(split(content)) if split else []
            size = self._file.seek(0, io.SEEK_END)
        except OSError as error:
            raise DatasetError(
                f"picture {path} cannot be read: {error.strerror or error}"
            ) from error
        if len(self._places) < 2:
            self._places = [(0, size)]
        self.count = len(self._places)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, number: int, *, upright: bool) -> RawImage:
        """Decode a picture."""
        start, size = self._places[number]
        try:
            if self._data is not None:
                data = self._data[start : start + size]
            else:
                self._file.seek(start)
                data = self._file.read(size)
        except OSError as error:
            raise _damaged(self.path, error) from error
        try:
            if self._kind == "netpbm":
                return _decode_netpbm(data)
            raw = _decode(data, self._kind, upright)
        except (ValueError, IndexError, cv2.error) as error:
            reason = error.err if isinstance(error, cv2.error) else error
            raise _damaged(self.path, reason) from error
        if raw is None:
            raise _damaged(self.path)
        return raw


def _decode(data: bytes, kind: str | None, upright: bool) -> RawImage | None:
    """Decode one picture; None where that fails."""
    if kind == "avif" and re.search(rb"irot|imir|auxC", data[:HEAD_BYTES]):
        return _decode_by_pillow(data)  # OpenCV neither turns it nor keeps its transparency.
    # Turned below: which formats OpenCV turns depends on its version.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    if _is_deep_or_clear(data, kind):
        flags = cv2.IMREAD_UNCHANGED
    # Not imread: it takes half a JPEG for a whole one, and on some systems it cannot open every
    # name that Python can.
    values: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if values is None:
        return _decode_by_pillow(data) if kind == "avif" else None
    if upright and kind in _HAVE_EXIF:
        values = turn(values, exif_orientation(data))
    return RawImage(values, _precision_of_jp2(data) if kind == "jp2" else None)


def _is_deep_or_clear(data: bytes, kind: str | None) -> bool:
    """Whether a picture has more than 8 bits or transparency, which `IMREAD_COLOR` drops."""
    if kind == "png":
        deep, colors = data[24:25] == b"\x10", data[25:26]
        return deep or colors in (b"\x04", b"\x06") or b"tRNS" in data[:HEAD_BYTES]
    if kind == "webp":
        lossless_with_alpha = data[12:16] == b"VP8L" and data[24] & 0x10
        return bool((data[12:16] == b"VP8X" and data[20] & 0x10) or lossless_with_alpha)
    return kind == "jp2"


def _decode_by_pillow(data: bytes) -> RawImage | None:
    with explain_missing("reading this AVIF picture"):
        import PIL.Image

    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            return RawImage(_of_pillow(image, upright=True))
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError):
        return None


def _precision_of_jp2(data: bytes) -> tuple[float, float] | None:
    """Black and white of a JPEG 2000 picture of 9 to 15 bits; None of others."""
    at = data.find(b"\xff\x4f\xff\x51")
    bits = (data[at + 42] & 0x7F) + 1 if 0 <= at < len(data) - 42 else 0
    return (0.0, 2.0**bits - 1) if 8 < bits < 16 else None


_HAVE_EXIF = frozenset({"jpeg", "png", "webp"})
"""Formats that `exif_orientation` looks into; TIFF and AVIF say it in ways of their own."""
_EXIF = re.compile(rb"(?:eXIf|EXIF....|Exif\0\0)(?:Exif\0\0)?(?=II\*\0|MM\0\*)", re.S)
"""What stands before the EXIF data of a PNG, WebP or JPEG, which have the structure of a TIFF."""


def exif_orientation(data: bytes) -> int:
    """Find the EXIF orientation in a JPEG, PNG or WebP file, 1 (as it is stored) to 8."""
    found = _EXIF.search(data, 0, _scan_of_jpeg(data) if data[:2] == b"\xff\xd8" else len(data))
    if not found:
        return 1
    tiff = data[found.end() :]
    order = _order(tiff)

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    first = number(4, 4)
    for at in range(first + 2, first + 2 + 12 * number(first, 2), 12):
        if number(at, 2) == _ORIENTATION:
            orientation = number(at + 8, 2)
            return orientation if 1 <= orientation <= 8 else 1
    return 1


def _scan_of_jpeg(data: bytes) -> int:
    """Where the pixels of a JPEG begin: what hangs on behind them has orientations of its own."""
    at = 2
    while found := _JPEG_MARKER.search(data, at):
        at = found.end()
        if found[0][1] == 0xDA:  # start of scan
            break
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return at


_BACK = {6: 8, 8: 6}
"""Orientations that undo others; the rest undo themselves."""


def turn(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror an image as an EXIF orientation of 1 to 8 says."""
    if orientation >= 5:
        values = np.swapaxes(values, 0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def _split_jpeg(file: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Places of JPEGs of the same size; what phones hang on to theirs (depth, film) is none."""
    data = file.read()
    start, wh = 0, None
    while start >= 0:
        end, size_wh, is_first_of_several = _end_of_jpeg(data, start)
        if is_first_of_several or (wh is not None and size_wh != wh):
            return
        yield start, end - start
        wh = size_wh
        start = data.find(b"\xff\xd8\xff", end, end + HEAD_BYTES)


_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.S)


def _end_of_jpeg(data: bytes, start: int) -> tuple[int, bytes, bool]:
    """Where a JPEG ends, the bytes of its size, and whether it says that others belong to it."""
    at, wh, has_parts = start + 2, b"", False
    while found := _JPEG_MARKER.search(data, at):
        marker, at = found[0][1], found.end()
        if marker == 0xD9:  # end of image
            return at, wh, has_parts
        length = int.from_bytes(data[at : at + 2], "big")
        if marker in (0xC0, 0xC1, 0xC2, 0xC3):  # start of frame
            wh = data[at + 3 : at + 7]
        has_parts |= marker == 0xE2 and data[at + 2 : at + 6] == b"MPF\0"
        at += max(2, length)
    return len(data), wh, has_parts


def _split_png(file: IO[bytes]) -> Iterator[tuple[int, int]]:
    start = 0
    while file.read(8) == _PNG:
        kind = b""
        while kind != b"IEND":
            header = file.read(8)
            if len(header) < 8:  # cut off; reading it will tell
                yield start, file.tell() - start
                return
            length, kind = struct.unpack(">I4s", header)
            end = file.seek(length + 4, io.SEEK_CUR)
        yield start, end - start
        start = end


def _split_by_size(sign: bytes, extra: int) -> Callable[[IO[bytes]], Iterator[tuple[int, int]]]:
    """For formats whose size follows on their signature, without `extra` bytes of it."""

    def split(file: IO[bytes]) -> Iterator[tuple[int, int]]:
        start = 0
        while (head := file.read(len(sign) + 4)).startswith(sign) and len(head) == len(sign) + 4:
            size = int.from_bytes(head[len(sign) :], "little") + extra
            if size <= len(head):
                return
            yield start, size
            start = file.seek(start + size)

    return split


# --- netpbm --------------------------------------------------------------------------------------


def _netpbm_header(data: bytes) -> tuple[int, int, int, int, int]:
    """Kind (1 to 6), width, height, maxval and where the pixels begin; ValueError if damaged."""
    kind = data[1:2]
    numbers = 2 if kind in b"14" else 3
    pattern = rb"P[1-6]" + numbers * rb"(?:\s|#[^\n]*\n)+(\d{1,9})" + rb"(?:#[^\n]*\n)?\s"
    found = re.match(pattern, data)
    if not found:
        raise ValueError("its header is damaged")
    width, height = int(found[1]), int(found[2])
    maxval = int(found[3]) if numbers == 3 else 1
    if not (0 < maxval < 2**16 and 0 < width * height < 2**31):
        raise ValueError(f"its header says {width}x{height} px up to {maxval}")
    return int(kind), width, height, maxval, found.end()


def _netpbm_bytes(kind: int, width: int, height: int, maxval: int) -> int:
    if kind == 4:
        return (width + 7) // 8 * height
    return width * height * (3 if kind == 6 else 1) * (2 if maxval > 255 else 1)


def _split_netpbm(file: IO[bytes]) -> Iterator[tuple[int, int]]:
    start = 0
    while (head := file.read(HEAD_BYTES))[:2] in (b"P4", b"P5", b"P6"):
        try:
            *what, offset = _netpbm_header(head)
        except ValueError:
            return
        size = offset + _netpbm_bytes(*what)
        yield start, size
        start = file.seek(start + size)


def _decode_netpbm(data: bytes) -> RawImage:
    """Decode PBM, PGM or PPM, as text (P1 to P3) or bytes (P4 to P6), with its maxval."""
    kind, width, height, maxval, offset = _netpbm_header(data)
    channels = 3 if kind in (3, 6) else 1
    count = width * height * channels
    values: NDArray[Any]
    if kind <= 3:
        text = re.sub(rb"#[^\n]*", b"", data[offset:])
        text = (
            b" ".join(text.replace(b"0", b" 0").replace(b"1", b" 1").split()) if kind == 1 else text
        )
        values = np.array(text.split()[:count], dtype=np.int64)
    elif kind == 4:
        rows = np.frombuffer(data, np.uint8, _netpbm_bytes(4, width, height, 1), offset)
        values = np.unpackbits(rows.reshape(height, -1), axis=1)[:, :width].ravel()
    else:
        values = np.frombuffer(data, ">u2" if maxval > 255 else np.uint8, count, offset)
    if len(values) < count:
        raise ValueError(f"it has {len(values)} of {count} values")
    if kind in (1, 4):
        values = 1 - values  # 1 is black
    pixels = values.astype(np.uint16 if maxval > 255 else np.uint8)
    pixels = pixels.reshape((height, width, 3) if channels == 3 else (height, width))
    # 65,535 is what programs write when they know no better, and 255 is what 8 bits are anyway.
    stated = None if maxval in (255, 65535) else (0.0, float(maxval))
    return RawImage(pixels[..., ::-1] if channels == 3 else pixels, stated)


_SPLITTERS: dict[str, Callable[[IO[bytes]], Iterator[tuple[int, int]]]] = {
    "jpeg": _split_jpeg,
    "png": _split_png,
    "bmp": _split_by_size(b"BM", 0),
    "webp": _split_by_size(b"RIFF", 8),
    "netpbm": _split_netpbm,
}
