"""Pictures for synthetic scenes: backgrounds, and cut-outs as objects."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from siamtrack.errors import DatasetError
from siamtrack.types import Float32Array, Image
from siamtrack.utils.files import walk_files
from siamtrack.utils.images import IMAGE_SUFFIXES, read_image

_log = logging.getLogger(__name__)

_MAX_PICTURE_PX = 1600  # longest side; larger pictures are shrunk once, when they are read
_OBJECT_PX = 320  # longest side of a shape that is cut out
_SUPERSAMPLING = 4
_MAX_OPAQUE = 0.98  # fraction of opaque pixels; a picture with more of them is no cut-out
_MIN_CONTRAST = 14.0  # gray levels; a flatter texture cannot be recognized


@dataclass(frozen=True, slots=True)
class Cutout:
    """An object without its background."""

    image_bgr: Image  # uint8 (h, w, 3)
    alpha: Float32Array  # (h, w), 0 outside to 1 inside; 0 at the border


class Textures(Protocol):
    """Where scenes take their pictures from."""

    @property
    def fingerprint(self) -> str:
        """Text that changes when the pictures change."""

    def background(self, rng: np.random.Generator) -> Image:
        """Draw a background, uint8 (H, W, 3) BGR of any size."""

    def cutout(self, rng: np.random.Generator) -> Cutout:
        """Draw an object."""


class FolderTextures:
    """Pictures and alpha cut-outs of a folder and its subfolders.

    PNG files with transparent parts are cut-outs. All other pictures are backgrounds, and random
    smooth shapes of them are objects, too. Unreadable files are skipped with a warning.

    Args:
        folder: where to look.
        cutout_share: probability that an object is a cut-out, if there are any. Raising it makes
            objects look real, lowering it makes them more varied.
        cache_size: decoded pictures to keep. Raising it costs memory and saves reading.

    Raises:
        DatasetError: not a folder, or it has no picture for backgrounds.
    """

    def __init__(
        self, folder: str | Path, *, cutout_share: float = 0.5, cache_size: int = 24
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DatasetError(f"{self.folder} is not a folder; give a folder of pictures")
        files = sorted(
            path for path in walk_files(self.folder) if path.suffix.lower() in IMAGE_SUFFIXES
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
        """Hash of the names and sizes of all files."""
        digest = hashlib.sha256(f"{self._cutout_share}".encode())
        for path in [*self._cutouts, *self._pictures]:
            name = path.relative_to(self.folder).as_posix()
            digest.update(f"{name}\0{path.stat().st_size}\n".encode())
        return digest.hexdigest()

    def background(self, rng: np.random.Generator) -> Image:
        """Draw a picture of the folder."""
        return self._draw(rng, self._pictures)

    def cutout(self, rng: np.random.Generator) -> Cutout:
        """Draw a cut-out, or cut a random shape out of a picture."""
        if self._cutouts and rng.random() < self._cutout_share:
            return _trim(self._draw(rng, self._cutouts))
        return cut_shape(self._draw(rng, self._pictures), rng)

    def _draw(self, rng: np.random.Generator, paths: list[Path]) -> Image:
        """Draw a readable picture."""
        # Unreadable files stay in the list. The result thus depends on the generator alone, not on
        # what was read before.
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


@dataclass
class NoiseTextures:
    """Colored noise: textures without any file."""

    side_px: int = 256

    @property
    def fingerprint(self) -> str:
        """Name and size of the textures."""
        return f"noise-{self.side_px}"

    def background(self, rng: np.random.Generator) -> Image:
        """Draw noise with three scales."""
        side = self.side_px
        pattern = np.zeros((side, side, 3), np.float32)
        for cells, weight in ((4, 70.0), (12, 45.0), (48, 25.0)):
            coarse = rng.standard_normal((cells, cells, 3)).astype(np.float32)
            pattern += weight * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        return np.clip(pattern + rng.uniform(80, 170, 3), 0, 255).astype(np.uint8)

    def cutout(self, rng: np.random.Generator) -> Cutout:
        """Cut a random shape out of noise."""
        return cut_shape(self.background(rng), rng)


def cut_shape(picture_bgr: Image, rng: np.random.Generator) -> Cutout:
    """Cut a smooth random shape out of a place of the picture that has some contrast."""
    # 1. The first rectangle with enough contrast, or the best of eight.
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
        if contrast >= _MIN_CONTRAST:
            break

    # 2. Scale it to a fixed size and give it a random outline.
    scale = _OBJECT_PX / max(best.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size_wh = (max(16, round(best.shape[1] * scale)), max(16, round(best.shape[0] * scale)))
    image = np.asarray(cv2.resize(best, size_wh, interpolation=how), dtype=np.uint8)
    return Cutout(image, blob_mask(size_wh, rng))


def blob_mask(
    size_wh: tuple[int, int], rng: np.random.Generator, *, roughness: float = 0.25
) -> Float32Array:
    """Draw a smooth star-shaped blob that fills its rectangle up to a margin of 2 px.

    (h, w), 1 inside, 0 outside, with a rim about 1 px wide. A `roughness` of 0 gives an ellipse;
    raising it adds lobes and dents.
    """
    # 1. Outline in polar coordinates: a circle plus harmonics with random phases.
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    radius = np.ones_like(angle)
    for order in range(2, 8):
        amplitude = roughness * rng.normal() / order**0.8
        radius += amplitude * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.3, None)

    # 2. Stretch it to the rectangle.
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)  # (180, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - low) / (high - low) * (np.array(size_wh) - 4.0) + 2.0

    # 3. Draw it large and shrink it: OpenCV's own smooth outlines are half a pixel too wide.
    shape = np.rint(points * _SUPERSAMPLING - 0.5).astype(np.int32)
    large = np.zeros((size_wh[1] * _SUPERSAMPLING, size_wh[0] * _SUPERSAMPLING), np.uint8)
    cv2.fillPoly(large, [shape], 255)
    mask = np.asarray(cv2.resize(large, size_wh, interpolation=cv2.INTER_AREA))
    return mask.astype(np.float32) / np.float32(255)


def _is_cutout(path: Path) -> bool:
    """Whether a file is a PNG picture that is partly transparent."""
    if path.suffix.lower() != ".png":
        return False
    with path.open("rb") as file:
        header = file.read(26)
    # PNG color types 4 and 6 have alpha; only such files are decoded here.
    if len(header) < 26 or header[25] not in (4, 6):
        return False
    image = _read(path, keep_alpha=True)
    if image is None or image.shape[2] != 4:
        return False
    inside = float((image[..., 3] > 127).mean())
    return 0 < inside < _MAX_OPAQUE


def _read(path: Path, *, keep_alpha: bool) -> Image | None:
    """Read as BGR, or BGRA with `keep_alpha`; None if the file is not a picture."""
    try:
        image = read_image(path, upright=False, alpha=True)
    except DatasetError:
        return None
    if image.shape[2] == 4 and not keep_alpha:
        image = np.ascontiguousarray(image[..., :3])
    shrink = _MAX_PICTURE_PX / max(image.shape[:2])
    if shrink < 1:
        size = (max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink)))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return image


def _trim(image_bgra: Image) -> Cutout:
    """Crop a cut-out to its opaque part plus 2 px."""
    alpha = image_bgra[..., 3].astype(np.float32) / 255
    rows, columns = (np.flatnonzero((alpha > 0.02).any(axis=axis)) for axis in (1, 0))
    inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    border = ((2, 2), (2, 2))
    image = np.pad(image_bgra[inside][..., :3], (*border, (0, 0)), mode="edge")
    return Cutout(image, np.pad(alpha[inside], border))
