"""The crops of a cache on the device, and the sampling of windows of them.

This is the second function that resamples crops. `siamtrack.crops.crop_window`, the first, cuts one
window of one image on the CPU, which a GPU would wait for. The rules are the same: output pixel i
shows the point `(i + 0.5) * w / size` of the window, shrinking by two or more first averages blocks
of 2, 4, 8... pixels, the rest is linear interpolation, and outside of the image lies a color or the
repeated border. `tests/data/batched/test_crops.py` holds the two equal.

They differ by less than a gray level on average: OpenCV rounds positions to 1/32 px and colors to
whole numbers, and its blocks start at the window, while those here start at the image.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siamtrack.crops import stack_rgb
from siamtrack.data.cache import CropCache
from siamtrack.errors import DatasetError, TrainingError
from siamtrack.types import BoolArray, Image

logger = logging.getLogger(__name__)

LEVELS = 6
"""Sizes in which every crop is there: as it is, averaged over 2 x 2 px, 4 x 4 px, ..."""


class DeviceCrops:
    """All crops of a cache, decoded, on one device.

    A pixel is one int32 of red, green, blue and nothing, so that it is read at once. All pixels lie
    one after the other; crops have the sizes they have, none is padded.

    Attributes:
        device: where they are.
        usable: (N,) bool, False for crops that cannot be decoded.
        size_wh: (N, 2) float64 width and height of each crop, px, on the CPU.
        mean_rgb: (N, 3) float32 mean color of each crop, on the device.

    Args:
        cache: what to decode.
        device: where to put it.
        threads: that decode.

    Raises:
        DatasetError: not one crop can be decoded.
        TrainingError: the device has too little memory.
    """

    def __init__(self, cache: CropCache, device: torch.device, *, threads: int = 1) -> None:
        self.device = device

        # 1. Decode. Threads suffice: OpenCV does not hold Python's lock.
        count = len(cache)
        sizes = np.ones((LEVELS, count, 2), np.int64)  # width and height
        means = np.zeros((count, 3), np.float32)
        self.usable: BoolArray = np.zeros(count, bool)
        with ThreadPoolExecutor(threads) as pool:
            levels = list(pool.map(lambda crop: _decode(cache, crop), range(count)))
        for crop, images in enumerate(levels):
            if images:
                self.usable[crop] = True
                sizes[:, crop] = [(image.shape[1], image.shape[0]) for image in images]
                means[crop] = images[0].mean(axis=(0, 1))
        if not self.usable.any():
            raise DatasetError(
                f"no crop of cache {cache.folder} can be decoded; remove it and make it again"
            )
        if left_out := count - int(self.usable.sum()):
            logger.warning("%d of %d crops are left out", left_out, count)

        # 2. Where each starts: all levels of the first crop, of the second, ...
        areas = np.where(self.usable, sizes.prod(axis=2), 0).T.ravel()  # (N * LEVELS,)
        ends = np.cumsum(areas)
        starts = (ends - areas).reshape(count, LEVELS).T

        # 3. Upload.
        gigabytes = 4 * ends[-1] / 1e9
        try:
            self._pixels = torch.empty(int(ends[-1]), dtype=torch.int32, device=device)
            for crop, images in enumerate(levels):
                start = int(starts[0, crop])
                for image in images:
                    words = torch.from_numpy(_to_words(image))
                    self._pixels[start : start + len(words)].copy_(words)
                    start += len(words)
        except RuntimeError as error:  # also torch.OutOfMemoryError
            raise TrainingError(
                f"the {count} crops of {cache.folder} take {gigabytes:.1f} GB decoded, and "
                f"{device} has not as much memory ({str(error).splitlines()[0]}); pack fewer with "
                "siamtrack pack-cache, or set loop.device_pairs=false"
            ) from error
        self.size_wh = torch.from_numpy(sizes[0].astype(np.float64))
        self.mean_rgb = torch.from_numpy(means).to(device)
        self._starts = torch.from_numpy(starts.copy()).to(device)  # (LEVELS, N)
        self._sizes = torch.from_numpy(sizes).to(device)  # (LEVELS, N, 2)

    def sample(
        self,
        crop: Tensor,
        origin_xy: Tensor,
        step_xy: Tensor,
        size_px: int,
        *,
        angle: Tensor | None = None,
        pivot_xy: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Resample a square of B crops, each at its own place and scale.

        Output pixel i shows the point `origin + (i + 0.5) * step` of the crop, on each axis.

        Args:
            crop: (B,) number of each crop.
            origin_xy: (B, 2) left top corner of the square, crop px.
            step_xy: (B, 2) crop px per output px.
            size_px: side S of the output.
            angle: (B,) radians by which each crop is first turned about its pivot, clockwise as
                seen on the screen, within its own frame; the border is repeated.
            pivot_xy: (B, 2) crop px.

        Returns:
            float32 (B, S, S, 3) RGB, with the border repeated outside of the crop, and (B, S, S, 1)
            the part of each pixel that lies in the crop, 0 to 1.
        """
        # 1. The level whose pixels are smaller than those of the output, and those of it.
        level = torch.log2(step_xy.amin(dim=1).clamp_min(1.0)).floor().long()
        level = as_index(level.clamp_max(LEVELS - 1), self.device)
        crop = as_index(crop, self.device)
        start = self._starts[level, crop][:, None, None]  # (B, 1, 1)
        size = self._sizes[level, crop]  # (B, 2)
        width, height = size[:, 0, None, None], size[:, 1, None, None]
        ratio = size / self._sizes[0, crop]

        # 2. Position of each output pixel in pixels of the level, counted from their centers.
        along = torch.arange(size_px, device=self.device) + 0.5  # (S,)
        origin = to_device(origin_xy, self.device) * ratio  # (B, 2)
        step = to_device(step_xy, self.device) * ratio
        x = (origin[:, :1] + along * step[:, :1] - 0.5)[:, None, :]  # (B, 1, S)
        y = (origin[:, 1:] + along * step[:, 1:] - 0.5)[:, :, None]  # (B, S, 1)

        # 3. Part inside: linear interpolation fades into what is outside over one pixel.
        inside = _part_inside(x, width) * _part_inside(y, height)  # (B, S, S)
        last_x, last_y = (width - 1).float(), (height - 1).float()
        x, y = _clamp(x, last_x), _clamp(y, last_y)

        # 4. Turn: the turned crop shows at a point what the crop shows at the point turned back.
        if angle is not None and pivot_xy is not None:
            cos, sin = (
                to_device(part, self.device)[:, None, None] for part in (angle.cos(), angle.sin())
            )
            pivot = to_device(pivot_xy, self.device) * ratio - 0.5
            px, py = pivot[:, 0, None, None], pivot[:, 1, None, None]
            dx, dy = x - px, y - py
            x, y = (
                _clamp(px + cos * dx + sin * dy, last_x),
                _clamp(py - sin * dx + cos * dy, last_y),
            )

        # 5. Linear interpolation between four pixels.
        left, top = x.floor(), y.floor()
        fx, fy = (x - left)[..., None], (y - top)[..., None]
        left, top = left.long(), top.long()
        right, below = torch.minimum(left + 1, width - 1), torch.minimum(top + 1, height - 1)
        upper, lower = start + top * width, start + below * width  # (B, S, 1 or S)
        first = torch.lerp(self._read(upper + left), self._read(upper + right), fx)
        second = torch.lerp(self._read(lower + left), self._read(lower + right), fx)
        return torch.lerp(first, second, fy)[..., :3], inside[..., None]

    def _read(self, address: Tensor) -> Tensor:
        """Pixels as float32 (..., 4)."""
        words = self._pixels[address]
        return words.view(torch.uint8).unflatten(-1, (words.shape[-1], 4)).float()


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Numbers as float32 on a device, without waiting for what it is at."""
    return values.float().to(device, non_blocking=True)


def as_index(rows: Tensor, device: torch.device) -> Tensor:
    """Rows or masks on a device, without waiting for what it is at."""
    return rows.to(device, non_blocking=True)


def to_rows(values: Tensor, device: torch.device) -> Tensor:
    """A value for each of B images, (B,), to (B, 1, 1, 1) on their device."""
    if values.dtype == torch.float64:
        values = values.float()
    return values.to(device, non_blocking=True)[:, None, None, None]


def _part_inside(position: Tensor, count: Tensor) -> Tensor:
    """How much of a pixel at this position between pixel centers lies on an axis of `count`."""
    return torch.minimum(position + 1, count - position).clamp(0, 1)


def _clamp(position: Tensor, last: Tensor) -> Tensor:
    return torch.minimum(position.clamp_min(0), last)


def _decode(cache: CropCache, crop: int) -> list[Image]:
    """RGB of a crop in all levels, or nothing if it cannot be decoded."""
    try:
        image = stack_rgb([cache.read(crop)[0]])[0]
    except DatasetError as error:
        logger.warning("%s", error)
        return []
    levels, (height, width) = [image], image.shape[:2]
    for level in range(1, LEVELS):
        size_wh = max(1, round(width / 2**level)), max(1, round(height / 2**level))
        levels.append(cv2.resize(levels[-1], size_wh, interpolation=cv2.INTER_AREA))
    return levels


def _to_words(image: Image) -> NDArray[np.int32]:
    """(h, w, 3) RGB to (h * w,) int32."""
    words = np.zeros((*image.shape[:2], 4), np.uint8)
    words[..., :3] = image
    return words.reshape(-1).view(np.int32)
