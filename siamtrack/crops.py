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
from numpy.typing import NDArray

from siamtrack.errors import InvalidBoxError, InvalidFrameError
from siamtrack.geometry import CropMap, FloatArray

if TYPE_CHECKING:
    from torch import Tensor

Image = NDArray[np.uint8]

_MARGIN_PX = 2  # source pixels kept around a window so that interpolation never reads the fill


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

    Shrinking averages areas (no aliasing); enlarging interpolates linearly. Sub-pixel window
    positions are honoured: output pixel i shows the centre `(i + 0.5) * w / size` of the window.

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
    x, y, w, h = (float(v) for v in window_xywh)
    if not (math.isfinite(x + y + w + h) and w > 0 and h > 0):
        raise InvalidBoxError(f"crop window {(x, y, w, h)} needs finite x, y and positive w, h")
    axes = [
        _axis(x, w, size_wh[0], image.shape[1]),
        _axis(y, h, size_wh[1], image.shape[0]),
    ]
    if any(a is None for a in axes):
        if border == cv2.BORDER_CONSTANT:
            out = np.empty((size_wh[1], size_wh[0], 3), np.uint8)
            out[:] = np.clip(np.rint(fill_bgr), 0, 255).astype(np.uint8)
            return out
        axes = [
            a or (0, limit, 1.0, 0.0)
            for a, limit in zip(axes, (image.shape[1], image.shape[0]), strict=True)
        ]
    (x0, x1, fx, _), (y0, y1, fy, _) = axes  # type: ignore[misc]
    patch = image[y0:y1, x0:x1]
    if fx > 1.0 or fy > 1.0:
        reduced_wh = (max(1, round((x1 - x0) / fx)), max(1, round((y1 - y0) / fy)))
        patch = cv2.resize(patch, reduced_wh, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
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


def _axis(
    start: float, length: float, size: int, limit: int
) -> tuple[int, int, float, float] | None:
    """Pixels [lo, hi) of one axis that a window needs, and how much they shrink; None if none."""
    factor = max(1.0, length / size)
    margin = math.ceil(_MARGIN_PX * factor)
    lo = max(0, math.floor(start) - margin)
    hi = min(limit, math.ceil(start + length) + margin)
    return (lo, hi, factor, 0.0) if lo < hi else None


def crop_square(
    image: Image,
    centre_xy: Sequence[float] | FloatArray,
    side_px: float,
    size_px: int,
    *,
    fill_bgr: Sequence[float] = (0.0, 0.0, 0.0),
) -> tuple[Image, CropMap]:
    """Cut the square window of `side_px` around a point and resample it to `size_px`.

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
    crop_map = CropMap.around(centre_xy, side_px, size_px)
    window = (*crop_map.origin_xy, side_px, side_px)
    return crop_window(image, window, (size_px, size_px), fill_bgr=fill_bgr), crop_map


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
