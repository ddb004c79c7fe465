"""Crops of frames: the one function that cuts pixels, and the one place where BGR becomes RGB.

Training, evaluation and live tracking all use these functions, so that the network always sees the
same kind of crop. Only the part of the frame inside the window is read: the cost depends on the
window, not on the frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from siamtrack.errors import InvalidBoxError, InvalidFrameError
from siamtrack.geometry import CropMap
from siamtrack.types import Box, FloatArray, Image

if TYPE_CHECKING:
    from torch import Tensor

# Every pixel is read in windows up to this side. In larger ones, reading would take longest, and
# neighboring pixels are nearly equal.
_MAX_FULLY_READ_PX = 768

# OpenCV splits larger outputs over several threads, which keep spinning afterwards: the network,
# which comes next, takes a fifth longer beside them.
_MAX_PX_PER_CALL = 1 << 16

_MARGIN_PX = 2  # around a window that is interpolated, averaged px


def check_frame(image: object) -> Image:
    """Return `image` as a uint8 (H, W, 3) BGR frame, converting what is unambiguous.

    Gray images (H, W) or (H, W, 1) are repeated over three channels; the alpha of BGRA is dropped.

    Raises:
        InvalidFrameError: not an array, no pixels, not uint8, or not 1, 3 or 4 channels.
    """
    need = "a uint8 BGR array of shape (H, W, 3), as OpenCV reads it"
    if not isinstance(image, np.ndarray):
        raise InvalidFrameError(f"frame is {type(image).__name__}; give {need}")
    if image.ndim not in (2, 3) or image.size == 0:
        raise InvalidFrameError(f"frame has shape {image.shape}; give {need}")
    if image.dtype != np.uint8:
        sixteen = "; for 16-bit pictures use (image / 257).astype('uint8')"
        hint = sixteen if image.dtype == np.uint16 else ""
        raise InvalidFrameError(f"frame has dtype {image.dtype}; give {need}{hint}")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 3:
        return image
    conversions = {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR}
    if channels not in conversions:
        raise InvalidFrameError(f"frame has {channels} channels (shape {image.shape}); give {need}")
    return cv2.cvtColor(image, conversions[channels])  # type: ignore[return-value]


def crop_square(
    image: Image,
    center_xy: Sequence[float] | FloatArray,
    side_px: float,
    size_px: int,
    *,
    fill_bgr: Sequence[float] = (0.0, 0.0, 0.0),
) -> tuple[Image, CropMap]:
    """Cut the square window of about `side_px` around a point and resample it to `size_px`.

    The window is moved and sized to whole pixels, which are cut fastest; the returned map is that
    of the window that was cut. In windows wider than 768 px only some of the pixels are read: a
    target that fills a 4K frame costs little more than one in a webcam's.

    The image is uint8 (H, W, 3) BGR, `center_xy` and `side_px` are in its pixels. `fill_bgr` is
    the color outside the image; SiamFC uses the frame's mean.

    Returns:
        uint8 (size_px, size_px, 3) BGR, and the map between crop and image.

    Raises:
        InvalidBoxError: the window is not finite or has no area.

    Example:
        >>> image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
        >>> crop, crop_map = crop_square(image, (1, 1), 2, 2)
        >>> np.array_equal(crop, image), crop_map
        (True, CropMap(origin_xy=(0.0, 0.0), scale=1.0, size_px=2))
    """
    x, y = CropMap.around(center_xy, side_px, size_px).origin_xy
    _check_window((x, y, side_px, side_px))  # before rounding, which fails at infinity

    # 1. Round the window to whole blocks of pixels. `step` is the side of the squares that are
    #    read as one pixel: 1 is every pixel.
    block = _block_side(side_px, size_px)
    step = 1
    if side_px > _MAX_FULLY_READ_PX:
        step = min(block, 2 << math.ceil(math.log2(side_px / _MAX_FULLY_READ_PX)))
    side = max(1, round(side_px / block)) * block
    shift = (side_px - side) / 2
    left, top = round((x + shift) / step), round((y + shift) / step)  # in steps
    crop_map = CropMap((float(left * step), float(top * step)), side / size_px, size_px)

    # 2. Reduce the visible part by `step`. Linear interpolation at the middle of a square is the
    #    mean of its middle four pixels; the others are not read. A remainder at the right and
    #    bottom of the image counts as outside.
    side //= step
    if step > 1:
        height, width = image.shape[0] // step, image.shape[1] // step
        x0, x1 = np.clip((left, left + side), 0, width).tolist()
        y0, y1 = np.clip((top, top + side), 0, height).tolist()
        image = image[y0 * step : y1 * step, x0 * step : x1 * step]
        if image.size:
            image = _shrink(image, (x1 - x0, y1 - y0), cv2.INTER_LINEAR)
        left, top = left - x0, top - y0

    # 3. Resample the window.
    window, size_wh = (left, top, side, side), (size_px, size_px)
    return crop_window(image, window, size_wh, fill_bgr=fill_bgr), crop_map


def crop_window(
    image: Image,
    window_xywh: Sequence[float] | FloatArray,
    size_wh: tuple[int, int],
    *,
    fill_bgr: Sequence[float] = (0.0, 0.0, 0.0),
    border: int = cv2.BORDER_CONSTANT,
) -> Image:
    """Resample a rectangle of an image, which may lie partly or wholly outside it.

    Shrinking by two or more first averages blocks of 2, 4, 8... pixels, which avoids aliasing in a
    fraction of the time of exact averages; the rest is linear interpolation. Output pixel i shows
    the point `(i + 0.5) * w / size` of the window. Windows of whole pixels are twice as fast.

    The image is uint8 (H, W, 3). Outside it lies `fill_bgr` if `border` is `cv2.BORDER_CONSTANT`;
    OpenCV's other border modes extrapolate the visible part.

    Raises:
        InvalidBoxError: the window is not finite or has no area.
    """
    x, y, w, h = _check_window(window_xywh)
    height, width = image.shape[:2]
    blocks = _block_side(w, size_wh[0]), _block_side(h, size_wh[1])
    fill = tuple(float(v) for v in fill_bgr)
    constant = border == cv2.BORDER_CONSTANT
    whole = constant and all(v.is_integer() for v in (x, y, w, h))

    # 1. Pixels that are needed, with a margin so that interpolation never reads the fill. A window
    #    outside the image shows the fill, or extrapolates the image.
    margin = 0 if whole else _MARGIN_PX
    columns = _needed_pixels(x, w, margin, blocks[0], width)
    rows = _needed_pixels(y, h, margin, blocks[1], height)
    if constant and (columns is None or rows is None):
        return np.full((size_wh[1], size_wh[0], 3), np.clip(np.rint(fill_bgr), 0, 255), np.uint8)

    # 2. Windows of whole pixels: cut, pad, average, resize.
    if whole:
        left, top, right, bottom = int(x), int(y), int(x + w), int(y + h)
        patch = image[max(top, 0) : bottom, max(left, 0) : right]
        pads = [max(pad, 0) for pad in (-top, bottom - height, -left, right - width)]
        if any(pads):
            patch = cv2.copyMakeBorder(patch, *pads, cv2.BORDER_CONSTANT, value=fill)  # type: ignore[call-overload]
        patch = _average_blocks(patch, blocks)
        return cv2.resize(patch, size_wh, interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]

    # 3. Other windows: average, then an affine map from output pixels to averaged pixels.
    (x0, x1), (y0, y1) = columns or (0, width), rows or (0, height)
    patch = _average_blocks(image[y0:y1, x0:x1], blocks)
    rx, ry = (x1 - x0) / patch.shape[1], (y1 - y0) / patch.shape[0]  # exact: sizes were rounded
    step_x, step_y = w / size_wh[0] / rx, h / size_wh[1] / ry
    shift_x, shift_y = (x - x0) / rx + 0.5 * step_x - 0.5, (y - y0) / ry + 0.5 * step_y - 0.5
    return cv2.warpAffine(  # type: ignore[return-value]
        patch, np.array([[step_x, 0.0, shift_x], [0.0, step_y, shift_y]]), size_wh,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=border, borderValue=fill,
    )  # fmt: skip


def stack_rgb(crops_bgr: Sequence[Image]) -> Image:
    """Stack B (S, S, 3) BGR crops to uint8 (B, S, S, 3) RGB: the only BGR to RGB step.

    Example:
        >>> stack_rgb([np.uint8([[[1, 2, 3]]])]).tolist()
        [[[[3, 2, 1]]]]
    """
    out = np.empty((len(crops_bgr), *crops_bgr[0].shape), np.uint8)
    for rgb, bgr in zip(out, crops_bgr, strict=True):
        cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=rgb)
    return out


def to_network(crops_bgr: Sequence[Image]) -> Tensor:
    """Stack B (S, S, 3) BGR crops to the uint8 (B, 3, S, S) RGB batch that networks take.

    Memory order is channels-last, the fastest for convolutions on CPUs.
    """
    import torch  # here: cutting crops does not need it

    return torch.from_numpy(stack_rgb(crops_bgr)).permute(0, 3, 1, 2)


def _check_window(window_xywh: Sequence[float] | FloatArray) -> Box:
    x, y, w, h = (float(v) for v in window_xywh)
    if not (math.isfinite(x + y + w + h) and w > 0 and h > 0):
        raise InvalidBoxError(f"crop window {(x, y, w, h)} needs finite x, y and positive w, h")
    return x, y, w, h


def _block_side(length: float, size: int) -> int:
    """Pixels averaged along an axis: the power of two that leaves a factor below two."""
    return 1 << max(0, math.floor(math.log2(max(length / size, 1.0))))


def _needed_pixels(
    start: float, length: float, margin: int, block: int, limit: int
) -> tuple[int, int] | None:
    """Pixels [lo, hi) of one axis that a window needs, in whole blocks if possible, or None."""
    lo = max(0, math.floor(start) - margin * block)
    hi = min(limit, math.ceil(start + length) + margin * block)
    if lo >= hi:
        return None
    return lo, min(limit, lo + math.ceil((hi - lo) / block) * block)


def _average_blocks(patch: Image, blocks: tuple[int, int]) -> Image:
    """Shrink by averaging blocks of (width, height) pixels, powers of two."""
    width, height = (max(1, round(patch.shape[1 - k] / blocks[k])) for k in (0, 1))
    # Two by two has a fast path in OpenCV; four by four in one step takes ten times as long.
    left = blocks
    while left != (1, 1):
        left = max(1, left[0] // 2), max(1, left[1] // 2)
        patch = _shrink(patch, (width * left[0], height * left[1]), cv2.INTER_AREA)
    return patch


def _shrink(patch: Image, size_wh: tuple[int, int], interpolation: int) -> Image:
    """Resize, in strips of `_MAX_PX_PER_CALL` if the factor is an integer."""
    width, height = size_wh
    factor = len(patch) // height
    if factor * height != len(patch):
        return cv2.resize(patch, size_wh, interpolation=interpolation)  # type: ignore[return-value]
    out = np.empty((height, width, 3), np.uint8)
    rows = max(1, _MAX_PX_PER_CALL // width)
    for top in range(0, height, rows):
        strip = out[top : top + rows]
        source = patch[top * factor : (top + len(strip)) * factor]
        cv2.resize(source, (width, len(strip)), dst=strip, interpolation=interpolation)
    return out
