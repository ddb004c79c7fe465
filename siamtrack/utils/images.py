"""Picture files: reading them, their sizes, and their order in a folder."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np

from siamtrack.errors import DatasetError
from siamtrack.types import Image
from siamtrack.utils.files import Stamp, stamp
from siamtrack.utils.levels import SAMPLES, Levels, RawImage
from siamtrack.utils.picture_files import (
    StackError,
    count_pictures,
    exif_orientation,
    kind_of_picture,
    open_picture_file,
    read_head,
)

_log = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    ".apng .avif .bmp .dib .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)
_JPEG_SUFFIXES = frozenset({".jpe", ".jpeg", ".jpg"})
_EXIF_ORIENTATION, _FIRST_SIDEWAYS = 0x0112, 5


def read_image(
    path: Path, *, upright: bool, alpha: bool = False, page: int = 0, levels: Levels | None = None
) -> Image:
    """Read a picture as uint8 (H, W, 3) BGR.

    Gray becomes three equal channels, what is transparent lies before black, and more than 8 bits
    are mapped to 8 by `levels`.

    Args:
        path: JPEG, PNG, WebP, AVIF, BMP, TIFF, JPEG 2000, netpbm, GIF or another format that
            OpenCV reads; its content decides, not its name.
        upright: turn the picture as its EXIF orientation says. Annotations that count pixels as
            they are stored need False. AVIF's own rotation is part of the picture and always done.
        alpha: keep transparency, as uint8 (H, W, 4) BGRA, where the file has it.
        page: number of the picture in a file that holds several.
        levels: those of the clip that the picture belongs to; None: it is by itself.

    Raises:
        DatasetError: missing, damaged, cut off, without such a page, or coded in an unknown way.
    """
    with open_picture_file(path, is_one=page == 0) as file:
        if page >= file.count:
            raise DatasetError(f"picture {path} has no page {page}; it has {file.count}, from 0")
        raw = file.read(page, upright=upright)
    levels = levels or Levels(path.name, log_level=logging.INFO)
    return levels.to_8_bits(raw, alpha=alpha)


def image_size(path: Path, *, upright: bool = False) -> tuple[int, int]:
    """Read width and height of a picture in px from its header; `upright` as in `read_image`."""
    # Only data sets ask for sizes; tracking does not wait for Pillow.
    import PIL.Image
    from PIL.TiffImagePlugin import TiffImageFile

    try:
        with PIL.Image.open(path) as picture:
            width, height = picture.size
            if isinstance(picture, TiffImageFile):  # whose size Pillow gives upright
                orientation = 1 if upright else picture.tag_v2.get(_EXIF_ORIENTATION, 1)
            elif picture.format == "AVIF":  # which is always turned
                orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
            else:
                orientation = exif_orientation(path.read_bytes()) if upright else 1
        return (height, width) if orientation >= _FIRST_SIDEWAYS else (width, height)
    except PIL.UnidentifiedImageError as error:
        # Pillow knows fewer kinds of TIFF, and no netpbm text of more than 8 bits.
        if kind_of_picture(read_head(path)) not in ("tiff", "netpbm", "jp2"):
            raise DatasetError(f"picture {path} cannot be read: {error}") from error
        with open_picture_file(path) as file:
            height, width = file.read(0, upright=upright).values.shape[:2]
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


_NUMBER_IN_NAME = re.compile(r"%0?\d*d")


def is_pattern(text: str) -> bool:
    """Whether a path is a pattern as `match_pictures` takes it."""
    return glob.has_magic(text) or _NUMBER_IN_NAME.search(Path(text).name) is not None


def match_pictures(pattern: Path) -> list[Path]:
    """Files of a pattern with wildcards (`*.png`) or a number (`%04d.png`, as FFmpeg has it)."""
    # Folders that exist are meant as they are, brackets included.
    count = len(pattern.parts) - 1
    while count and not Path(*pattern.parts[:count]).is_dir():
        count -= 1
    folder, rest = Path(*pattern.parts[:count]), pattern.parts[count:]
    if _NUMBER_IN_NAME.search(rest[-1]) and len(rest) == 1:
        pieces = re.split(r"%(0?\d*)d", rest[0])
        name = "".join(
            (rf"\d{{{int(piece)},}}" if piece.startswith("0") else r"\d+")
            if k % 2
            else re.escape(piece.replace("%%", "%"))
            for k, piece in enumerate(pieces)
        )
        return [path for path in folder.iterdir() if re.fullmatch(name, path.name)]
    below = os.path.join(*rest)
    for meant in (below, below.replace("[", "[[]")):
        found = glob.glob(os.path.join(glob.escape(str(folder)), meant), recursive=True)
        if found:
            return list(map(Path, found))
    return []


def stamp_source(source: Path) -> list[Stamp]:
    """Stamps of a file, of all that is in a folder, or of the files of a pattern."""
    files = [source] if source.exists() else match_pictures(source)
    if source.is_dir():
        files = list(source.iterdir())
    return sorted(map(stamp, files))


def choose_images(found: Iterable[Path]) -> list[Path]:
    """Choose the pictures among files, in natural order: by their names, else by their content.

    GIFs and files without a picture's suffix count where no others are: an animation often lies
    beside the pictures it was made of.
    """
    files = [path for path in found if not (path.name.startswith(".") or _is_device(path))]
    images = [path for path in files if is_image(path)]
    if not images:
        images = [p for p in files if p.is_file() and kind_of_picture(read_head(p)) is not None]
    return sorted(images, key=natural_key)


def _is_device(path: Path) -> bool:
    """Whether a file is a pipe, socket or device, which may never end."""
    return path.is_fifo() or path.is_socket() or path.is_char_device() or path.is_block_device()


def list_images(folder: Path) -> tuple[str, ...]:
    """List the names of the pictures in a folder in natural order, as `choose_images` does.

    Where all pictures of one format have the same names as those of another, as frames and their
    masks have, one of both is taken: JPEG, else that with more bytes. This is logged.
    """
    by_suffix: dict[str, dict[str, Path]] = defaultdict(dict)
    images = choose_images(folder.iterdir())
    _warn_of_series(folder, images)
    for path in images:
        by_suffix[path.suffix.lower()][path.stem] = path
    ranked = sorted(by_suffix, key=lambda suffix: _rank(suffix, by_suffix[suffix]))
    left_out: set[Path] = set()
    for k, kept in enumerate(ranked):
        for other in ranked[k + 1 :]:
            shared = by_suffix[kept].keys() & by_suffix[other].keys()
            if not shared:
                continue
            example = min(shared, key=natural_key)
            is_second = len(shared) == len(by_suffix[other])
            if is_second:
                left_out.update(by_suffix[other].values())
            _log.warning(
                "%s holds %s%s and %s%s, and %d such pairs: %s; choose by a pattern such as *%s",
                folder,
                example,
                kept,
                example,
                other,
                len(shared),
                f"the {other} pictures are left out" if is_second else "both are read",
                other if is_second else kept,
            )
    return tuple(path.name for path in images if path not in left_out)


def _warn_of_series(folder: Path, images: Iterable[Path]) -> None:
    """Warn of pictures with the same numbers in names that differ, as in 1.png and 1_mask.png."""
    by_name: dict[str, set[str]] = defaultdict(set)
    for path in images:
        numbers = re.findall(r"\d+", path.stem)
        by_name[re.sub(r"\d+", "#", path.stem)].add(" ".join(map(str, map(int, numbers))))
    several = sorted((name for name in by_name if len(by_name[name]) > 1), key=natural_key)
    if len(several) > 1 and by_name[several[0]] & by_name[several[1]]:
        _log.warning(
            "%s holds pictures called %s with the same numbers (#); all are read, one name after "
            "or between the other; choose by a pattern such as %s",
            folder,
            " and ".join(several[:3]),
            several[0].replace("#", "*") + "*",
        )


def _rank(suffix: str, files: dict[str, Path]) -> tuple[bool, int, str]:
    """Sort key of formats that share names: first what is more likely the pictures."""
    size_bytes = sum(path.stat().st_size for path in files.values() if path.is_file())
    return suffix not in _JPEG_SUFFIXES, -size_bytes, suffix


def list_pages(paths: Iterable[Path]) -> list[tuple[Path, int]]:
    """List the pictures in files, each as its file and its number there.

    Stacks (TIFF) and animations have several. A file that is alone is searched for more pictures
    one after the other, as cameras and pipes write JPEG and PNG; others are not read for that.

    Raises:
        StackError: a stack that is no film.
    """
    files = list(paths)
    pages: list[tuple[Path, int]] = []
    for path in files:
        count = 1
        if len(files) == 1:
            try:
                with open_picture_file(path) as file:
                    count = file.count
            except StackError:
                raise
            except DatasetError:
                pass  # Reading it says what is wrong.
        elif path.suffix.lower() not in _JPEG_SUFFIXES:
            count = count_pictures(path)
        pages += [(path, page) for page in range(count)]
    return pages


def sample_pages(pages: Sequence[tuple[Path, int]], *, upright: bool) -> Iterator[RawImage]:
    """Decode `SAMPLES` pictures spread over a list; those that cannot be read are left out."""
    chosen = {round(k) for k in np.linspace(0, len(pages) - 1, min(SAMPLES, len(pages)))}
    for path, page in (pages[number] for number in sorted(chosen)):
        try:
            with open_picture_file(path) as file:
                yield file.read(page, upright=upright)
        except DatasetError as error:
            _log.debug("%s", error)
