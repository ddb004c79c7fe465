"""Picture files: reading them, their sizes, and their order in a folder."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

import cv2
import numpy as np

from siamtrack.errors import DatasetError
from siamtrack.types import Image

IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .dib .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)

_EXIF_ORIENTATION, _FIRST_SIDEWAYS = 0x0112, 5


def read_image(path: Path, *, upright: bool, alpha: bool = False) -> Image:
    """Read a picture as uint8 (H, W, 3) BGR.

    Gray becomes three equal channels, transparency is dropped, and of 16 bits the upper 8 are kept.

    Args:
        path: JPEG, PNG, WebP, BMP, TIFF or another format that OpenCV reads.
        upright: turn the picture as its EXIF orientation says. Annotations usually count pixels as
            they are stored and need False.
        alpha: keep transparency, as uint8 (H, W, 4) BGRA where the file has it. 16 bits are then
            rounded down after division by 257, which maps white to 255. Excludes `upright`.

    Raises:
        DatasetError: missing, damaged, cut off, or more than 16 bits.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"picture {path} cannot be read: {error.strerror or error}") from error
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    if alpha:
        flags = cv2.IMREAD_UNCHANGED
    try:
        # Not imread: it takes half a JPEG for a whole one, and on some systems it cannot open every
        # name that Python can.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise DatasetError(f"picture {path} cannot be decoded: {error.err}") from error
    if image is None:
        raise DatasetError(
            f"picture {path} ({len(data)} bytes) cannot be decoded; copy or extract it again"
        )
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise DatasetError(f"picture {path} has {image.dtype} values; convert it to 8 or 16 bits")
    if image.ndim == 2 or image.shape[2] == 1:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    return np.asarray(image, dtype=np.uint8)


def image_size(path: Path, *, upright: bool = False) -> tuple[int, int]:
    """Read width and height of a picture in px from its header; `upright` as in `read_image`."""
    # Only data sets ask for sizes; tracking does not wait for Pillow.
    import PIL.Image

    try:
        with PIL.Image.open(path) as picture:
            width, height = picture.size
            if upright and picture.getexif().get(_EXIF_ORIENTATION, 1) >= _FIRST_SIDEWAYS:
                return height, width
            return width, height
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise DatasetError(f"picture {path} cannot be read: {error}") from error


def natural_key(path: str | PurePath) -> tuple[list[list[str | int]], str]:
    """Sort key that puts frame2 before frame10 and ignores case; paths compare folder by folder.

    >>> sorted(["a10.jpg", "A2.jpg"], key=natural_key)
    ['A2.jpg', 'a10.jpg']
    """
    parts = path.parts if isinstance(path, PurePath) else (path,)
    return [
        [int(piece) if k % 2 else piece for k, piece in enumerate(re.split(r"(\d+)", part))]
        for part in map(str.casefold, parts)
    ], str(path)


def is_image(path: PurePath) -> bool:
    """Whether a name is that of a picture. Hidden files do not count: macOS adds `._` copies."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def list_images(folder: Path) -> tuple[str, ...]:
    """List the names of the pictures in a folder in natural order."""
    return tuple(sorted((p.name for p in folder.iterdir() if is_image(p)), key=natural_key))
