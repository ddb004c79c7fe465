"""The one function that cuts pixels, and the one place where BGR becomes RGB.

Training, evaluation and the webcam all come through here, so that the network never sees two
kinds of crop. Only the part of the frame that the window covers is touched: the cost depends on
the window, not on the frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from siamtrack.errors import InvalidBoxError, InvalidFrameError
from siamtrack.geometry import CropMap
from siamtrack.types import FloatArray, Image

if TYPE_CHECKING:
    from torch import Tensor


_MARGIN_PX = 2  # source pixels kept around a window so that interpolation never reads the fill

# Sides of the windows of which every pixel is read. Reading takes longer than everything else in
# larger ones, and their pixels have far more neighbours that say the same.
_MOST_READ_PX = 768

# OpenCV gives larger outputs to several threads, which go on spinning when they have nothing left
# to do: the network, which comes next, takes a fifth longer beside them.
_MOST_PX_AT_ONCE = 1 << 16


def check_frame(image: object) -> Image:
    """Return `image` as a uint8 (H, W, 3) BGR frame, converting what is unambiguous.

    Grey pictures (H, W) or (H, W, 1) are repeated over three channels and the alpha of BGRA ones
    is dropped; anything else is refused, because guessing a range or an order would make the
    tracker silently worse.

    Raises:
        InvalidFrameError: not an array, no pixels, not uint8, or not 1, 3 or 4 channels.
    """
    need = "a uint8 BGR array of shape (H, W, 3), as OpenCV reads it"
    if not isinstance(image, np.ndarray):
        raise InvalidFrameError(f"frame is {type(image).__name__}; give {need}")
    if image.ndim not in (2, 3) or image.size == 0:
        raise InvalidFrameError(f"frame has shape {image.shape}; give {need}")
    if image.dtype != np.uint8:
        hint = "; for 16-bit pictures use (image / 257).astype('uint8')"
        raise InvalidFrameError(
            f"frame has dtype {image.dtype}; give {need}{hint if image.dtype == np.uint16 else ''}"
        )
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 3:
        return image
    if channels == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)  # type: ignore[return-value]
    if channels == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)  # type: ignore[return-value]
    raise InvalidFrameError(f"frame has {channels} channels (shape {image.shape}); give {need}")


def crop_window(
    image: Image,
    window_xywh: Sequence[float] | FloatArray,
    size_wh: tuple[int, int],
    *,
    fill_bgr: Sequence[float] = (0.0, 0.0, 0.0),
    border: int = cv2.BORDER_CONSTANT,
) -> Image:
    """Resample a rectangle of an image, which may lie partly or wholly outside it.

    Shrinking by two or more first averages blocks of 2, 4, 8... pixels, which keeps stripes from
    aliasing at a fraction of the time of exact averages; the rest is linear interpolation.
    Sub-pixel window positions are honoured: output pixel i shows the centre `(i + 0.5) * w / size`
    of the window. Windows of whole pixels take less than half the time of others.

    Args:
        image: uint8 (H, W, 3).
        window_xywh: window in image px; width and height positive.
        size_wh: output width and height in px.
        fill_bgr: colour outside the image when `border` is `cv2.BORDER_CONSTANT`.
        border: an OpenCV border mode; anything but constant extrapolates the visible part.

    Returns:
        uint8 (size_h, size_w, 3), newly allocated.

    Raises:
        InvalidBoxError: the window is not finite or has no area.
    """
    x, y, w, h = _checked(window_xywh)
    blocks = _block(w, size_wh[0]), _block(h, size_wh[1])
    axes = [
        _axis(x, w, blocks[0], image.shape[1]),
        _axis(y, h, blocks[1], image.shape[0]),
    ]
    if any(a is None for a in axes):
        if border == cv2.BORDER_CONSTANT:
            out = np.empty((size_wh[1], size_wh[0], 3), np.uint8)
            out[:] = np.clip(np.rint(fill_bgr), 0, 255).astype(np.uint8)
            return out
        axes = [a or (0, n) for a, n in zip(axes, image.shape[1::-1], strict=True)]
    if border == cv2.BORDER_CONSTANT and all(v.is_integer() for v in (x, y, w, h)):
        window = (int(x), int(y), int(w), int(h))
        aligned = _averaged(_padded(image, window, fill_bgr), blocks)
        return cv2.resize(aligned, size_wh, interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]
    (x0, x1), (y0, y1) = axes  # type: ignore[misc]
    patch = _averaged(image[y0:y1, x0:x1], blocks)
    # Scale of the (reduced) patch against the frame, exact because the sizes were rounded.
    rx, ry = (x1 - x0) / patch.shape[1], (y1 - y0) / patch.shape[0]
    step_x, step_y = w / size_wh[0] / rx, h / size_wh[1] / ry
    to_patch = np.array(
        [
            [step_x, 0.0, (x - x0) / rx + 0.5 * step_x - 0.5],
            [0.0, step_y, (y - y0) / ry + 0.5 * step_y - 0.5],
        ]
    )
    return cv2.warpAffine(  # type: ignore[return-value]
        patch,
        to_patch,
        size_wh,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=border,
        borderValue=tuple(float(v) for v in fill_bgr),
    )


def _checked(window_xywh: Sequence[float] | FloatArray) -> tuple[float, float, float, float]:
    x, y, w, h = (float(v) for v in window_xywh)
    if not (math.isfinite(x + y + w + h) and w > 0 and h > 0):
        raise InvalidBoxError(f"crop window {(x, y, w, h)} needs finite x, y and positive w, h")
    return x, y, w, h


def _block(length: float, size: int) -> int:
    """Pixels that are averaged along an axis: the power of two that leaves a factor under two."""
    return 1 << max(0, math.floor(math.log2(max(length / size, 1.0))))


def _axis(start: float, length: float, block: int, limit: int) -> tuple[int, int] | None:
    """Pixels [lo, hi) of one axis that a window needs; None if it needs none."""
    margin = _MARGIN_PX * block
    lo = max(0, math.floor(start) - margin)
    hi = min(limit, math.ceil(start + length) + margin)
    if lo >= hi:
        return None
    return lo, min(limit, lo + math.ceil((hi - lo) / block) * block)  # whole blocks, if it can be


def _averaged(patch: Image, blocks: tuple[int, int]) -> Image:
    """Shrink by averaging blocks of pixels."""
    width, height = (max(1, round(patch.shape[1 - k] / blocks[k])) for k in (0, 1))
    # OpenCV averages two by two at sight; four by four in one go take ten times as long.
    left = blocks
    while left != (1, 1):
        left = max(1, left[0] // 2), max(1, left[1] // 2)
        patch = _shrunk(patch, (width * left[0], height * left[1]), cv2.INTER_AREA)
    return patch


def _shrunk(patch: Image, size_wh: tuple[int, int], interpolation: int) -> Image:
    """Resize, in strips where they are whole pixels of both pictures."""
    width, height = size_wh
    factor = len(patch) // height
    if factor * height != len(patch):
        return cv2.resize(patch, size_wh, interpolation=interpolation)  # type: ignore[return-value]
    out = np.empty((height, width, 3), np.uint8)
    rows = max(1, _MOST_PX_AT_ONCE // width)
    for top in range(0, height, rows):
        strip = out[top : top + rows]
        source = patch[top * factor : (top + len(strip)) * factor]
        cv2.resize(source, (width, len(strip)), dst=strip, interpolation=interpolation)
    return out


def _padded(image: Image, window: tuple[int, int, int, int], fill_bgr: Sequence[float]) -> Image:
    """Cut whole pixels, a view where the window is inside of the image."""
    x, y, w, h = window
    left, top = max(0, -x), max(0, -y)
    right, bottom = max(0, x + w - image.shape[1]), max(0, y + h - image.shape[0])
    inside = image[y + top : y + h - bottom, x + left : x + w - right]
    if not (left or top or right or bottom):
        return inside
    fill = tuple(float(v) for v in fill_bgr)
    return cv2.copyMakeBorder(  # type: ignore[return-value]
        inside, top, bottom, left, right, cv2.BORDER_CONSTANT, value=fill
    )


def crop_square(
    image: Image,
    centre_xy: Sequence[float] | FloatArray,
    side_px: float,
    size_px: int,
    *,
    fill_bgr: Sequence[float] = (0.0, 0.0, 0.0),
) -> tuple[Image, CropMap]:
    """Cut the square window of about `side_px` around a point and resample it to `size_px`.

    The window is moved and sized to whole pixels, by half a pixel or, where several pixels are
    averaged into one, half of those: such windows are cut fastest. The map is that of the window
    that was cut, so that coordinates lose nothing. Of windows wider than 768 px only every
    second, fourth... pair of rows and columns is read, so that a target that fills a 4K frame
    costs little more than one that fills a webcam's.

    Args:
        image: uint8 (H, W, 3) BGR.
        centre_xy: centre of the window in image px.
        side_px: side of the window in image px.
        size_px: side of the crop.
        fill_bgr: colour of what lies outside the image; SiamFC uses the frame's mean.

    Returns:
        uint8 (size_px, size_px, 3) BGR, and the map between crop and image coordinates.

    Raises:
        InvalidBoxError: the window is not finite or has no area.
    """
    x, y = CropMap.around(centre_xy, side_px, size_px).origin_xy
    _checked((x, y, side_px, side_px))  # before rounding, which knows no infinity
    block = _block(side_px, size_px)
    pixel = _thinning(side_px, block)
    side = max(1, round(side_px / block)) * block
    shift = (side_px - side) / 2
    left, top = (round((at + shift) / pixel) for at in (x, y))
    crop_map = CropMap((float(left * pixel), float(top * pixel)), side / size_px, size_px)
    window, size_wh = (left, top, side // pixel, side // pixel), (size_px, size_px)
    if pixel > 1:
        image, window = _thinned(image, window, pixel)
    return crop_window(image, window, size_wh, fill_bgr=fill_bgr), crop_map


def _thinning(side_px: float, block: int) -> int:
    """Side of the squares of pixels of which a window of this side reads the middle four."""
    if side_px <= _MOST_READ_PX:
        return 1
    return min(block, 2 << math.ceil(math.log2(side_px / _MOST_READ_PX)))


def _thinned(
    image: Image, window: tuple[int, int, int, int], pixel: int
) -> tuple[Image, tuple[int, int, int, int]]:
    """What a window sees of an image that is `pixel` times as small, and the window in that.

    Halfway between the middle four pixels of a square, linear interpolation is their mean. What
    is left over at the right and the bottom of the image counts as outside.
    """
    x, y, side, _ = window
    (x0, x1), (y0, y1) = (
        (min(max(at, 0), count // pixel), min(max(at + side, 0), count // pixel))
        for at, count in ((x, image.shape[1]), (y, image.shape[0]))
    )
    seen = image[y0 * pixel : y1 * pixel, x0 * pixel : x1 * pixel]
    if seen.size:
        seen = _shrunk(seen, (x1 - x0, y1 - y0), cv2.INTER_LINEAR)
    return seen, (x - x0, y - y0, side, side)


def stack_rgb(crops_bgr: Sequence[Image]) -> Image:
    """Stack BGR crops into one RGB batch: the only BGR to RGB step.

    Args:
        crops_bgr: B pictures, uint8 (S, S, 3) BGR, of one size.

    Returns:
        uint8 (B, S, S, 3) RGB.
    """
    out = np.empty((len(crops_bgr), *crops_bgr[0].shape), np.uint8)
    for rgb, bgr in zip(out, crops_bgr, strict=True):
        cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=rgb)
    return out


def to_network(crops_bgr: Sequence[Image]) -> Tensor:
    """Stack BGR crops into the uint8 RGB batch that networks take.

    Args:
        crops_bgr: B pictures, uint8 (S, S, 3) BGR, of one size.

    Returns:
        uint8 (B, 3, S, S) RGB in 0..255; the network normalises. Memory order is channels-last,
        which is what CPU convolutions like best.
    """
    import torch  # not above: what only cuts pictures need not pay for it

    return torch.from_numpy(stack_rgb(crops_bgr)).permute(0, 3, 1, 2)
