"""Boxes, context windows and crop coordinates. Pure numpy; arguments are never changed.

One convention everywhere: a box is `xywh`, float64, in pixels of the image it belongs to. (x, y)
is the top-left corner, 0-based; pixel i covers the interval [i, i + 1). A frame of width W spans
[0, W], so the box (0, 0, W, H) is the whole frame and its center is (W / 2, H / 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from siamtrack.errors import InvalidBoxError, shown
from siamtrack.types import FloatArray

MIN_SIDE_PX = 2.0
"""Minimum width and height of a tracked box; a smaller target leaves nothing to correlate."""

_ROUNDING_PX = 1e-3
_NO_COORDINATES = (
    bool, complex, np.bool_, np.complexfloating, np.datetime64, np.timedelta64, np.ma.MaskedArray,
)  # fmt: skip

_NEAR_BORDER = 0.05  # of its length: nearer to the border, a box may reach out of the frame


def parse_box(box: Sequence[float] | ArrayLike) -> FloatArray:
    """Turn x, y, w, h (px, 0-based) into a (4,) float64 box.

    Booleans, complex numbers, times and masked values are no coordinates, although NumPy would
    make numbers of them.

    Raises:
        InvalidBoxError: not four finite numbers, or a width or height that is not positive.
    """
    array = _four_numbers(box, "box", "give four numbers x, y, w, h in pixels")
    if array[2] <= 0 or array[3] <= 0:
        raise InvalidBoxError(
            f"box {array.tolist()} has no area; width and height (the last two numbers) must be "
            "positive"
        )
    return array


def _four_numbers(values: Sequence[float] | ArrayLike, name: str, need: str) -> FloatArray:
    """(4,) float64 of four finite numbers of any library, or an error that names them."""
    given: Any = values
    try:
        if hasattr(given, "detach"):  # a tensor; its gradient does not matter
            given = given.detach().cpu()
        if isinstance(given, list | tuple) and any(isinstance(v, _NO_COORDINATES) for v in given):
            raise TypeError("a value of another kind")
        array = np.asanyarray(given)
        elements = array.flat if array.dtype == object else ()
        if array.dtype.kind in "bcmM" or any(isinstance(v, _NO_COORDINATES) for v in elements):
            raise TypeError("values of another kind")
        if np.ma.getmaskarray(array).any():
            raise TypeError("masked values")
        with np.errstate(over="ignore"):
            array = np.array(array, dtype=np.float64)
    except Exception as error:  # arrays and tensors of other libraries raise anything
        raise InvalidBoxError(f"{name} {shown(values)} is not numeric; {need}") from error
    if array.shape != (4,):
        raise InvalidBoxError(f"{name} {shown(values)} has shape {array.shape}; {need}")
    if not np.isfinite(array).all():
        raise InvalidBoxError(f"{name} {array.tolist()} is not finite; {need}")
    return array


def box_from_corners(corners: Sequence[float] | ArrayLike) -> tuple[float, float, float, float]:
    """Turn left, top, right, bottom (px, 0-based, edges) into x, y, w, h.

    Tensors are taken as well, on any device.

    Example:
        >>> box_from_corners((36, 150, 84, 210))
        (36.0, 150.0, 48.0, 60.0)

    Raises:
        InvalidBoxError: not four finite numbers, or right and bottom are not beyond left and top.
    """
    need = "give left, top, right, bottom in pixels, the last two beyond the first two"
    left, top, right, bottom = _four_numbers(corners, "box of corners", need).tolist()
    if right <= left or bottom <= top:
        raise InvalidBoxError(
            f"box of corners {[left, top, right, bottom]} encloses nothing; {need}"
        )
    return left, top, right - left, bottom - top


def parse_first_box(box: Sequence[float] | ArrayLike, frame_wh: tuple[int, int]) -> FloatArray:
    """Check the box that a tracker starts from and clip it to the frame (width, height).

    Returns:
        (4,) xywh px inside the frame, at least `MIN_SIDE_PX` wide and high.

    Raises:
        InvalidBoxError: see `parse_box`; or the box lies outside the frame, or what lies inside is
            less than `MIN_SIDE_PX` wide or high.
    """
    given = parse_box(box)
    frame = f"{frame_wh[0]}x{frame_wh[1]} frame"
    clipped = clip_to_frame(given, frame_wh)
    if clipped[2] <= 0 or clipped[3] <= 0:
        raise InvalidBoxError(
            f"box {given.tolist()} lies outside the {frame}; give a box that overlaps it (x, y, w, "
            "h, 0-based pixels)"
        )
    check_sides(given, frame_wh)
    if _is_too_small(clipped, frame_wh):
        raise InvalidBoxError(
            f"only {clipped[2]:g} x {clipped[3]:g} px of the box {given.tolist()} are inside the "
            f"{frame}; give a box with at least {MIN_SIDE_PX:g} px a side inside it"
        )
    return keep_in_frame(clipped, frame_wh)


def check_sides(box_xywh: FloatArray, frame_wh: tuple[int, int]) -> None:
    """Refuse a box whose sides are shorter than `MIN_SIDE_PX`, or than the frame's if it is tiny.

    Raises:
        InvalidBoxError: it is too small, as is every box in fractions of the frame.
    """
    if not _is_too_small(box_xywh, frame_wh):
        return
    fractions = "; are these fractions of the frame? Multiply them by its size"
    raise InvalidBoxError(
        f"box {box_xywh.tolist()} is {box_xywh[2]:g} x {box_xywh[3]:g} px; a target has at least "
        f"{MIN_SIDE_PX:g} px a side, give pixels of the {frame_wh[0]}x{frame_wh[1]} frame"
        f"{fractions if (box_xywh <= 1).all() else ''}"
    )


def _is_too_small(box_xywh: FloatArray, frame_wh: tuple[int, int]) -> bool:
    return bool((box_xywh[2:] < np.minimum(MIN_SIDE_PX, frame_wh) - _ROUNDING_PX).any())


def clip_to_frame(box_xywh: ArrayLike, frame_wh: tuple[int, int]) -> FloatArray:
    """Intersect one box with the frame; width and height are 0 outside, never negative.

    Example:
        >>> clip_to_frame((-10, 20, 30, 40), (640, 480)).tolist()
        [0.0, 20.0, 20.0, 40.0]
    """
    # Plain floats: for four numbers they take a tenth of the time of arrays.
    x, y, w, h = np.asarray(box_xywh, dtype=np.float64).tolist()
    left, right = _clamp(x, frame_wh[0]), _clamp(x + w, frame_wh[0])
    top, bottom = _clamp(y, frame_wh[1]), _clamp(y + h, frame_wh[1])
    return np.array([left, top, right - left, bottom - top])


def _clamp(value: float, high: float) -> float:
    return min(max(value, 0.0), float(high))


def keep_in_frame(box_xywh: ArrayLike, frame_wh: tuple[int, int]) -> FloatArray:
    """Clip a tracked box to the frame, but keep at least `MIN_SIDE_PX` of it on each axis.

    A box that left the frame stays at the edge where it left.

    Example:
        >>> keep_in_frame((700, 100, 40, 30), (640, 480)).tolist()
        [638.0, 100.0, 2.0, 30.0]
    """
    box = clip_to_frame(box_xywh, frame_wh).tolist()
    for axis in (0, 1):
        least = min(MIN_SIDE_PX, float(frame_wh[axis]))
        if box[2 + axis] < least:
            center = box[axis] + box[2 + axis] / 2
            box[axis] = _clamp(center - least / 2, frame_wh[axis] - least)
            box[2 + axis] = least
    return np.array(box)


def keep_hidden_part(
    box_xywh: FloatArray, last_wh: FloatArray, frame_wh: tuple[int, int]
) -> FloatArray:
    """A tracked box that reaches out of the frame where its target does.

    Along an axis on which only one end of the box is inside the frame, the box stays as long as it
    was: else a target that leaves slowly would shrink to a sliver, and could not be found again.
    The center stays inside the frame, and the box at least `MIN_SIDE_PX` long.

    Example:
        >>> keep_hidden_part(np.array([90.0, 20, 10, 30]), np.array([40.0, 30]), (100, 80)).tolist()
        [80.0, 20.0, 40.0, 30.0]
    """
    box: FloatArray = box_xywh.copy()
    for axis in (0, 1):
        end = float(frame_wh[axis])
        low, high = _clamp(box[axis], end), _clamp(box[axis] + box[2 + axis], end)
        near = _NEAR_BORDER * last_wh[axis]  # boxes are not exact
        hidden_before, hidden_after = low <= near, high >= end - near
        length = max(high - low, min(MIN_SIDE_PX, end))
        if hidden_before != hidden_after:
            length = max(length, float(last_wh[axis]))
            low = high - length if hidden_before else low
        middle = low + length / 2
        box[axis], box[2 + axis] = low + _clamp(middle, end) - middle, length
    return box


def iou(a_xywh: ArrayLike, b_xywh: ArrayLike) -> FloatArray:
    """Intersection over union of (..., 4) boxes, with broadcasting over the leading axes.

    Returns:
        (...) in [0, 1]. Two boxes without area overlap by 0; NaN coordinates give NaN.

    Example:
        >>> iou([[0, 0, 10, 10], [50, 50, 10, 10]], [5, 0, 10, 10]).round(2).tolist()
        [0.33, 0.0]
    """
    a, b = np.asarray(a_xywh, dtype=np.float64), np.asarray(b_xywh, dtype=np.float64)
    left_top = np.maximum(a[..., :2], b[..., :2])
    right_bottom = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    inter = np.prod(np.clip(right_bottom - left_top, 0.0, None), axis=-1)
    union = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - inter
    return np.where(union == 0, 0.0, inter / np.where(union == 0, 1.0, union))


def center_step(last_xywh: ArrayLike, now_xywh: ArrayLike) -> float:
    """Distance between the centers of two boxes, in their unit.

    Example:
        >>> center_step([10, 10, 20, 20], [13, 14, 20, 20])
        5.0
    """
    # Plain floats, which take a third of the time of arrays in every frame.
    x, y, w, h = np.asarray(last_xywh, dtype=np.float64).tolist()
    now_x, now_y, now_w, now_h = np.asarray(now_xywh, dtype=np.float64).tolist()
    return math.hypot(now_x + now_w / 2 - (x + w / 2), now_y + now_h / 2 - (y + h / 2))


def relative_step(last_xywh: ArrayLike, now_xywh: ArrayLike) -> float:
    """`center_step` in sides of a square of the last box's area; infinite if that has none.

    Example:
        >>> relative_step([10, 10, 80, 20], [30, 10, 80, 20])
        0.5
    """
    _, _, w, h = np.asarray(last_xywh, dtype=np.float64).tolist()
    side = math.sqrt(w * h)
    return center_step(last_xywh, now_xywh) / side if side else math.inf


def context_side(w: ArrayLike, h: ArrayLike, context_amount: float = 0.5) -> FloatArray:
    """Side of the square window around a target of size w x h with its context, in their unit.

    side = sqrt((w + p) (h + p)) with p = context_amount * (w + h): SiamFC (Bertinetto et al.
    2016), section 2.5, where the context amount is 1/2 and p is written (w + h) / 4 per side.
    Raising the context amount shows the network more background and a smaller target.

    Example:
        >>> float(context_side(40, 40))
        80.0
    """
    sides: tuple[Any, Any] = w, h
    if not (isinstance(sides[0], float) and isinstance(sides[1], float)):
        sides = np.asarray(w, dtype=np.float64), np.asarray(h, dtype=np.float64)
    width, height = sides  # two numbers need no arrays
    p = context_amount * (width + height)
    return np.sqrt((width + p) * (height + p))


@dataclass(frozen=True, slots=True)
class CropMap:
    """Affine map between a square crop and the frame it was cut from, both in px.

    Crop coordinate u is frame coordinate origin + u * scale, on each axis. Both use the pixel
    intervals of this module, so a crop of `size_px` covers [0, size_px].

    Example:
        >>> crop_map = CropMap.around((100, 80), side_px=50, size_px=25)
        >>> crop_map.to_frame([0, 0, 25, 25]).tolist()
        [75.0, 55.0, 50.0, 50.0]
    """

    origin_xy: tuple[float, float]  # frame coordinates of the crop's top-left corner
    scale: float  # frame px per crop px
    size_px: int  # side of the crop

    @classmethod
    def around(
        cls, center_xy: Sequence[float] | FloatArray, side_px: float, size_px: int
    ) -> CropMap:
        """Map of the square window of `side_px` frame px around `center_xy`."""
        half = side_px / 2
        origin = (float(center_xy[0]) - half, float(center_xy[1]) - half)
        return cls(origin, float(side_px) / size_px, size_px)

    def to_frame(self, boxes_xywh: ArrayLike) -> FloatArray:
        """(..., 4) xywh in crop px to xywh in frame px."""
        b = np.asarray(boxes_xywh, dtype=np.float64) * self.scale
        return b + np.array([*self.origin_xy, 0.0, 0.0])

    def to_crop(self, boxes_xywh: ArrayLike) -> FloatArray:
        """(..., 4) xywh in frame px to xywh in crop px."""
        b = np.asarray(boxes_xywh, dtype=np.float64) - np.array([*self.origin_xy, 0.0, 0.0])
        return b / self.scale
