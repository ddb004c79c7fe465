"""Boxes, context windows and coordinate maps: pure numpy, nothing here mutates its arguments.

One convention everywhere: a box is `xywh`, float64, in pixels of the picture it belongs to. (x, y)
is the top-left corner, 0-based; pixel i covers the interval [i, i + 1). A frame of width W spans
[0, W], so the box (0, 0, W, H) is the whole frame and its centre is (W / 2, H / 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from siamtrack.errors import InvalidBoxError
from siamtrack.types import FloatArray

MIN_SIDE_PX = 2.0
"""No tracked box gets narrower or lower than this; below it nothing is left to correlate."""


def parse_box(box: Sequence[float] | ArrayLike) -> FloatArray:
    """Turn four numbers into a box, refusing everything that is not one.

    Args:
        box: x, y, w, h in px, 0-based.

    Returns:
        (4,) float64, xywh.

    Raises:
        InvalidBoxError: not four finite numbers, or a width or height that is not positive.
    """
    try:
        array = np.asarray(box, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidBoxError(
            f"box {box!r} is not numeric; give four numbers x, y, w, h in pixels"
        ) from error
    if array.shape != (4,):
        raise InvalidBoxError(
            f"box {box!r} has shape {array.shape}; give four numbers x, y, w, h in pixels"
        )
    if not np.isfinite(array).all():
        raise InvalidBoxError(f"box {array.tolist()} is not finite; give four numbers x, y, w, h")
    if array[2] <= 0 or array[3] <= 0:
        raise InvalidBoxError(
            f"box {array.tolist()} has no area; width and height (the last two numbers) must be "
            "positive"
        )
    return array.copy()


def clip_to_frame(box_xywh: ArrayLike, frame_wh: tuple[int, int]) -> FloatArray:
    """Intersect one box with the frame; width and height may come out as 0, never negative.

    Args:
        box_xywh: (4,) px.
        frame_wh: frame width and height in px.
    """
    # Plain floats: for four numbers they take a tenth of the time of arrays.
    x, y, w, h = np.asarray(box_xywh, dtype=np.float64).tolist()
    left, right = _limited(x, frame_wh[0]), _limited(x + w, frame_wh[0])
    top, bottom = _limited(y, frame_wh[1]), _limited(y + h, frame_wh[1])
    return np.array([left, top, right - left, bottom - top])


def _limited(value: float, most: float) -> float:
    return min(max(value, 0.0), float(most))


def parse_first_box(box: Sequence[float] | ArrayLike, frame_wh: tuple[int, int]) -> FloatArray:
    """Validate the box a tracker starts from and clip it to the frame.

    Args:
        box: x, y, w, h in px, 0-based; may stick out of the frame, not lie wholly outside it.
        frame_wh: frame width and height in px.

    Returns:
        (4,) float64 xywh inside the frame, at least `MIN_SIDE_PX` wide and high.

    Raises:
        InvalidBoxError: see `parse_box`, or nothing of the box is inside the frame.
    """
    given = parse_box(box)
    clipped = clip_to_frame(given, frame_wh)
    if clipped[2] <= 0 or clipped[3] <= 0:
        raise InvalidBoxError(
            f"box {given.tolist()} lies outside the {frame_wh[0]}x{frame_wh[1]} frame; give a box "
            "that overlaps it (x, y, w, h, 0-based pixels)"
        )
    return keep_in_frame(clipped, frame_wh)


def keep_in_frame(box_xywh: ArrayLike, frame_wh: tuple[int, int]) -> FloatArray:
    """Clip a tracked box to the frame but keep at least `MIN_SIDE_PX` of it on each axis.

    A box that left the frame is reported at the edge it left by. Frames smaller than the minimum
    get a box of the whole axis.
    """
    box = clip_to_frame(box_xywh, frame_wh).tolist()
    for axis in (0, 1):
        least = min(MIN_SIDE_PX, float(frame_wh[axis]))
        if box[2 + axis] < least:
            centre = box[axis] + box[2 + axis] / 2
            box[axis] = _limited(centre - least / 2, frame_wh[axis] - least)
            box[2 + axis] = least
    return np.array(box)


def xywh_to_cxcywh(boxes: ArrayLike) -> FloatArray:
    """(..., 4) top-left boxes to centre boxes."""
    b = np.asarray(boxes, dtype=np.float64)
    return np.concatenate([b[..., :2] + b[..., 2:] / 2, b[..., 2:]], axis=-1)


def cxcywh_to_xywh(boxes: ArrayLike) -> FloatArray:
    """(..., 4) centre boxes to top-left boxes."""
    b = np.asarray(boxes, dtype=np.float64)
    return np.concatenate([b[..., :2] - b[..., 2:] / 2, b[..., 2:]], axis=-1)


def xywh_to_xyxy(boxes: ArrayLike) -> FloatArray:
    """(..., 4) top-left and size to two corners."""
    b = np.asarray(boxes, dtype=np.float64)
    return np.concatenate([b[..., :2], b[..., :2] + b[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes: ArrayLike) -> FloatArray:
    """(..., 4) two corners to top-left and size."""
    b = np.asarray(boxes, dtype=np.float64)
    return np.concatenate([b[..., :2], b[..., 2:] - b[..., :2]], axis=-1)


def iou(a_xywh: ArrayLike, b_xywh: ArrayLike) -> FloatArray:
    """Intersection over union of boxes, pairwise along the last axis with broadcasting.

    Args:
        a_xywh: (..., 4) px.
        b_xywh: (..., 4) px, broadcastable to `a_xywh`.

    Returns:
        (...) in [0, 1]. Two boxes without area overlap by 0; NaN coordinates give NaN.
    """
    a, b = np.asarray(a_xywh, dtype=np.float64), np.asarray(b_xywh, dtype=np.float64)
    left_top = np.maximum(a[..., :2], b[..., :2])
    right_bottom = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    inter = np.prod(np.clip(right_bottom - left_top, 0.0, None), axis=-1)
    union = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - inter
    return np.where(union == 0, 0.0, inter / np.where(union == 0, 1.0, union))


def centre_distance(a_xywh: ArrayLike, b_xywh: ArrayLike) -> FloatArray:
    """Euclidean distance between box centres in px, (...)."""
    a, b = np.asarray(a_xywh, dtype=np.float64), np.asarray(b_xywh, dtype=np.float64)
    delta = (a[..., :2] + a[..., 2:] / 2) - (b[..., :2] + b[..., 2:] / 2)
    return np.hypot(delta[..., 0], delta[..., 1])


def context_side(w: ArrayLike, h: ArrayLike, context_amount: float = 0.5) -> FloatArray:
    """Side of the square context window around a w x h target, in the unit of w and h.

    side = sqrt((w + p) (h + p)) with p = context_amount * (w + h): SiamFC (Bertinetto et al.
    2016), section 2.5, where the context amount is 1/2 and p is written (w + h) / 4 per side.

    Args:
        w: width(s).
        h: height(s).
        context_amount: raising it shows the network more background and a smaller target.
    """
    w, h = np.asarray(w, dtype=np.float64), np.asarray(h, dtype=np.float64)
    p = context_amount * (w + h)
    return np.sqrt((w + p) * (h + p))


@dataclass(frozen=True, slots=True)
class CropMap:
    """Affine map between a square crop and the frame it was cut from, both in px.

    Crop coordinate u corresponds to frame coordinate origin + u * scale, on each axis; both use
    the pixel-interval convention of this module, so a crop of `size_px` covers [0, size_px].

    Attributes:
        origin_xy: frame coordinates of the crop's top-left corner.
        scale: frame px per crop px.
        size_px: side of the crop in crop px.
    """

    origin_xy: tuple[float, float]
    scale: float
    size_px: int

    @classmethod
    def around(
        cls, centre_xy: Sequence[float] | FloatArray, side_px: float, size_px: int
    ) -> CropMap:
        """Map for the square window of `side_px` frame px centred at `centre_xy`."""
        half = side_px / 2
        origin = (float(centre_xy[0]) - half, float(centre_xy[1]) - half)
        return cls(origin, float(side_px) / size_px, size_px)

    def to_frame(self, boxes_xywh: ArrayLike) -> FloatArray:
        """(..., 4) xywh in crop px to xywh in frame px."""
        b = np.asarray(boxes_xywh, dtype=np.float64) * self.scale
        return b + np.array([*self.origin_xy, 0.0, 0.0])

    def to_crop(self, boxes_xywh: ArrayLike) -> FloatArray:
        """(..., 4) xywh in frame px to xywh in crop px."""
        b = np.asarray(boxes_xywh, dtype=np.float64) - np.array([*self.origin_xy, 0.0, 0.0])
        return b / self.scale
