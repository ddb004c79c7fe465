"""What synthetic scenes are made from: background pictures and things cut out of pictures."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import DatasetError
from siamtrack.types import Image
from siamtrack.utils.images import IMAGE_SUFFIXES, read_image

_log = logging.getLogger(__name__)

_LONGEST_SIDE_PX = 1600  # larger pictures are reduced once, when they are read
_THING_SIDE_PX = 320
_FINER = 4
_MOST_OPAQUE = 0.98  # share of opaque pixels; above it an alpha channel cuts nothing out
_LEAST_CONTRAST = 14.0  # grey levels; a flatter cut has nothing to recognise it by


@dataclass(frozen=True, slots=True)
class Cutout:
    """A thing without its background.

    Attributes:
        image_bgr: uint8 (h, w, 3).
        alpha: float32 (h, w), 0 outside, 1 inside, the rim in between; never cut by the border.
    """

    image_bgr: Image
    alpha: NDArray[np.float32]


class Textures(Protocol):
    """Where scenes take their pictures from."""

    @property
    def fingerprint(self) -> str:
        """Text that changes when the pictures change."""
        ...

    def background(self, rng: np.random.Generator) -> Image:
        """Random picture to put behind everything, uint8 (H, W, 3) BGR, of any size."""
        ...

    def cutout(self, rng: np.random.Generator) -> Cutout:
        """Random thing to move about."""
        ...


class FolderTextures:
    """Pictures and alpha cut-outs of a folder and the folders inside it.

    PNG files with an alpha channel that leaves something out are cut-outs and used as they are.
    All other pictures serve as backgrounds, and smooth random shapes are cut out of them as
    things. Unreadable files are skipped with a warning.

    Args:
        folder: where to look.
        cutout_share: how often a thing is one of the cut-outs, if there are any, in [0, 1].
            Raising it makes things look real; lowering it makes them more varied.
        cache_size: decoded pictures that are kept. Raising it costs memory and saves reading.

    Raises:
        DatasetError: not a folder, or not a single picture for backgrounds in it.
    """

    def __init__(
        self, folder: str | Path, *, cutout_share: float = 0.5, cache_size: int = 24
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DatasetError(f"{self.folder} is not a folder; give a folder of pictures")
        files = sorted(
            path
            for path in self.folder.rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
        )
        self._cutouts = [path for path in files if _is_cutout(path)]
        self._pictures = [path for path in files if path not in set(self._cutouts)]
        if not self._pictures:
            raise DatasetError(
                f"{self.folder} has {len(self._cutouts)} cut-outs and no opaque picture; "
                f"backgrounds need at least one ({', '.join(sorted(IMAGE_SUFFIXES))})"
            )
        self._cutout_share = cutout_share
        self._cache_size = cache_size
        self._cache: OrderedDict[Path, Image] = OrderedDict()
        self._unreadable: set[Path] = set()

    @property
    def fingerprint(self) -> str:
        """Digest of the names and sizes of all files."""
        digest = hashlib.sha256(f"{self._cutout_share}".encode())
        for path in [*self._cutouts, *self._pictures]:
            name = path.relative_to(self.folder).as_posix()
            digest.update(f"{name}\0{path.stat().st_size}\n".encode())
        return digest.hexdigest()

    def background(self, rng: np.random.Generator) -> Image:
        """Random picture of the folder; see `Textures`."""
        return self._draw(rng, self._pictures)

    def cutout(self, rng: np.random.Generator) -> Cutout:
        """Random cut-out, or a random shape of a random picture; see `Textures`."""
        if self._cutouts and rng.random() < self._cutout_share:
            return _trim(self._draw(rng, self._cutouts))
        return cut_shape(self._draw(rng, self._pictures), rng)

    def _draw(self, rng: np.random.Generator, paths: list[Path]) -> Image:
        """Random readable picture out of `paths`.

        Unreadable ones stay in the draw and are drawn again, so that what comes out depends on
        the generator alone and not on what was read before.
        """
        while not self._unreadable.issuperset(paths):
            path = paths[int(rng.integers(len(paths)))]
            if path in self._unreadable:
                continue
            image = self._cache.pop(path, None)
            if image is None:
                image = _read(path, keep_alpha=paths is self._cutouts)
            if image is not None:
                self._cache[path] = image
                while len(self._cache) > self._cache_size:
                    self._cache.popitem(last=False)
                return image
            _log.warning("%s cannot be read as a picture; it is left out", path)
            self._unreadable.add(path)
        raise DatasetError(
            f"none of {len(paths)} pictures in {self.folder} can be read (first: {paths[0].name}); "
            "give a folder of pictures"
        )


class NoiseTextures:
    """Colourful patterns made of filtered noise: scenes without a single file.

    Args:
        side_px: side of a pattern.
    """

    def __init__(self, side_px: int = 256) -> None:
        self._side_px = side_px

    @property
    def fingerprint(self) -> str:
        """Name and size of the patterns."""
        return f"noise-{self._side_px}"

    def background(self, rng: np.random.Generator) -> Image:
        """Random pattern; see `Textures`."""
        side = self._side_px
        pattern = np.zeros((side, side, 3), np.float32)
        for cells, weight in ((4, 70.0), (12, 45.0), (48, 25.0)):
            coarse = rng.standard_normal((cells, cells, 3)).astype(np.float32)
            pattern += weight * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        return np.clip(pattern + rng.uniform(80, 170, 3), 0, 255).astype(np.uint8)

    def cutout(self, rng: np.random.Generator) -> Cutout:
        """Random shape of a random pattern; see `Textures`."""
        return cut_shape(self.background(rng), rng)


def blob_mask(
    size_wh: tuple[int, int], rng: np.random.Generator, *, roughness: float = 0.25
) -> NDArray[np.float32]:
    """Smooth random star-shaped blob that fills its rectangle up to a margin of 2 px.

    Args:
        size_wh: width and height in px.
        rng: source of randomness.
        roughness: 0 gives an ellipse; raising it grows lobes and dents.

    Returns:
        float32 (h, w), 1 inside, 0 outside, with a rim about 1 px wide.
    """
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    radius = np.ones_like(angle)
    for order in range(2, 8):
        swing = roughness * rng.normal() / order**0.8
        radius += swing * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.3, None)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    low, high = points.min(axis=0), points.max(axis=0)
    inner = np.array(size_wh) - 4.0
    points = (points - low) / (high - low) * inner + 2.0
    # Drawn large and reduced: OpenCV's own smooth outlines are half a pixel too wide.
    shape = np.rint(points * _FINER - 0.5).astype(np.int32)
    large = np.zeros((size_wh[1] * _FINER, size_wh[0] * _FINER), np.uint8)
    cv2.fillPoly(large, [shape], 255)
    mask = np.asarray(cv2.resize(large, size_wh, interpolation=cv2.INTER_AREA))
    return mask.astype(np.float32) / np.float32(255)


def cut_shape(picture_bgr: Image, rng: np.random.Generator) -> Cutout:
    """Cut a smooth random shape out of a place of `picture_bgr` that has some contrast."""
    height, width = picture_bgr.shape[:2]
    best, best_contrast = picture_bgr, -1.0
    for _ in range(8):
        aspect = np.exp(rng.normal(0, 0.35))
        side = rng.uniform(0.25, 0.8) * min(height, width)
        w = int(np.clip(side * np.sqrt(aspect), min(16, width), width))
        h = int(np.clip(side / np.sqrt(aspect), min(16, height), height))
        x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        patch = picture_bgr[y : y + h, x : x + w]
        contrast = float(patch.reshape(-1, 3).std(axis=0).mean())
        if contrast > best_contrast:
            best, best_contrast = patch, contrast
        if contrast >= _LEAST_CONTRAST:
            break
    scale = _THING_SIDE_PX / max(best.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = (max(16, round(best.shape[1] * scale)), max(16, round(best.shape[0] * scale)))
    image = np.asarray(cv2.resize(best, size, interpolation=how), dtype=np.uint8)
    return Cutout(image, blob_mask(size, rng))


def _is_cutout(path: Path) -> bool:
    """Whether a file is a PNG picture of which part, but not all, is transparent."""
    if path.suffix.lower() != ".png":
        return False
    with path.open("rb") as file:
        header = file.read(26)
    # The colour type: grey or colour, with alpha. Only such files are worth decoding here.
    if len(header) < 26 or header[25] not in (4, 6):
        return False
    image = _read(path, keep_alpha=True)
    if image is None or image.shape[2] != 4:
        return False
    inside = float((image[..., 3] > 127).mean())
    return 0 < inside < _MOST_OPAQUE


def _read(path: Path, *, keep_alpha: bool) -> Image | None:
    """Read as 8-bit BGR, or BGRA if there is alpha to keep; None if the file is not a picture."""
    try:
        image = read_image(path, upright=False, alpha=True)
    except DatasetError:
        return None
    if image.shape[2] == 4 and not keep_alpha:
        image = np.ascontiguousarray(image[..., :3])
    shrink = _LONGEST_SIDE_PX / max(image.shape[:2])
    if shrink < 1:
        size = (max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink)))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return image


def _trim(image_bgra: Image) -> Cutout:
    """Cut the empty rim off a cut-out, leaving 2 px."""
    alpha = image_bgra[..., 3].astype(np.float32) / 255
    rows, columns = (np.flatnonzero((alpha > 0.02).any(axis=axis)) for axis in (1, 0))
    inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    border = ((2, 2), (2, 2))
    image = np.pad(image_bgra[inside][..., :3], (*border, (0, 0)), mode="edge")
    return Cutout(image, np.pad(alpha[inside], border))
