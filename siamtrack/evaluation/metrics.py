"""Overlaps, centre errors and the curves the field draws from them: pure numpy, nothing mutated.

Formulas follow the got10k toolkit 0.1.3 operation by operation, so that the same result files give
the same numbers to the last bit; where the toolkit does something a reader would not expect, the
function says so in its name. One-pass evaluation, success and precision: Wu, Lim and Yang, "Object
Tracking Benchmark", PAMI 2015, section 3. Average overlap and success rates: Huang, Zhao and Huang,
"GOT-10k", PAMI 2019, section 4.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from siamtrack.errors import DatasetError
from siamtrack.types import FloatArray

PRECISION_THRESHOLDS_PX = np.arange(51, dtype=np.float64)
"""Centre-error thresholds of a precision curve: 0, 1, ... 50 px."""

NORMALISED_THRESHOLDS = np.linspace(0.0, 0.5, 51)
"""Thresholds of a normalised precision curve, in widths and heights of the true box."""

PRECISION_INDEX_20PX = 20
SUCCESS_RATE_THRESHOLDS = (0.5, 0.75)


def overlap(boxes_xywh: ArrayLike, truth_xywh: ArrayLike) -> FloatArray:
    """Intersection over union, row by row, as the toolkit computes it without a bound.

    Differs from `siamtrack.geometry.iou` only by the machine epsilon in the denominator.

    Args:
        boxes_xywh: (N, 4) float px.
        truth_xywh: (N, 4) float px, in the same coordinates.

    Returns:
        (N,) in [0, 1]; NaN where a coordinate is NaN.

    Raises:
        DatasetError: the two have different numbers of rows.
    """
    boxes, truth = _pair(boxes_xywh, truth_xywh)
    left_top = np.maximum(boxes[:, :2], truth[:, :2])
    right_bottom = np.minimum(boxes[:, :2] + boxes[:, 2:], truth[:, :2] + truth[:, 2:])
    sides = np.maximum(right_bottom - left_top, 0)
    inter = np.prod(sides, axis=-1)
    union = np.prod(boxes[:, 2:], axis=-1) + np.prod(truth[:, 2:], axis=-1) - inter
    return np.clip(inter / (union + np.finfo(np.float64).eps), 0.0, 1.0)


def overlap_after_toolkit_clipping(
    boxes_xywh: ArrayLike, truth_xywh: ArrayLike, bound_wh: tuple[float, float]
) -> FloatArray:
    """Overlap of boxes clipped the way the toolkit clips them for GOT-10k.

    A negative left or top edge moves to 0 while the width or height stays what it was, so a box
    that hangs over the left or top border is shifted rather than cut: (-10, 20, 30, 40) becomes
    (0, 20, 30, 40) and overlaps the visible part (0, 20, 20, 40) by 2/3, not by 1. Published
    GOT-10k figures contain this. Unlike the toolkit's `rect_iou`, nothing given is changed.

    Args:
        boxes_xywh: (N, 4) float px.
        truth_xywh: (N, 4) float px, in the same coordinates.
        bound_wh: frame width and height in px.
    """
    boxes, truth = _pair(boxes_xywh, truth_xywh)
    return overlap(_toolkit_clip(boxes, bound_wh), _toolkit_clip(truth, bound_wh))


def _toolkit_clip(boxes: FloatArray, bound_wh: tuple[float, float]) -> FloatArray:
    bound = np.asarray(bound_wh, dtype=np.float64)
    corner = np.clip(boxes[:, :2], 0, bound)
    return np.concatenate([corner, np.clip(boxes[:, 2:], 0, bound - corner)], axis=1)


def centre_error(boxes_xywh: ArrayLike, truth_xywh: ArrayLike) -> FloatArray:
    """Distance between centres in px, (N,).

    The toolkit puts a centre at (w - 1) / 2 from the corner; the half pixel cancels in the
    difference, the rounding of the last bit does not.
    """
    boxes, truth = _pair(boxes_xywh, truth_xywh)
    return np.sqrt(np.sum(np.power(_centres(boxes) - _centres(truth), 2), axis=-1))


def normalised_centre_error(boxes_xywh: ArrayLike, truth_xywh: ArrayLike) -> FloatArray:
    """Centre error with each axis divided by the true width or height, (N,).

    Mueller et al., "TrackingNet", ECCV 2018, section 5.1. A truth without area gives infinity or
    NaN; callers mask such frames.
    """
    boxes, truth = _pair(boxes_xywh, truth_xywh)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = (_centres(boxes) - _centres(truth)) / truth[:, 2:]
    return np.sqrt(np.sum(np.power(scaled, 2), axis=-1))


def _centres(boxes: FloatArray) -> FloatArray:
    return boxes[:, :2] + (boxes[:, 2:] - 1) / 2


def success_thresholds(count: int) -> FloatArray:
    """Overlap thresholds from 0 to 1: 21 for OTB and its relatives, 101 for GOT-10k."""
    return np.linspace(0, 1, count)


def success_curve(overlaps: FloatArray, count: int) -> FloatArray:
    """Share of frames whose overlap is strictly above each threshold, (count,).

    Strictness makes the last point 0 even for a perfect tracker, and the first point the share of
    frames with any overlap at all, so the area below a perfect curve is (count - 1) / count.
    """
    return np.mean(overlaps[:, None] > success_thresholds(count)[None, :], axis=0)


def precision_curve(errors_px: FloatArray) -> FloatArray:
    """Share of frames whose centre error is at most 0, 1, ... 50 px, (51,)."""
    return np.mean(errors_px[:, None] <= PRECISION_THRESHOLDS_PX[None, :], axis=0)


def normalised_precision_curve(errors: FloatArray) -> FloatArray:
    """Share of frames whose normalised centre error is at most 0, 0.01, ... 0.5, (51,)."""
    return np.mean(errors[:, None] <= NORMALISED_THRESHOLDS[None, :], axis=0)


def mean_of_inverse_times(times_s: ArrayLike) -> float:
    """Frames per second as the toolkit reports them: the mean of 1 / time over frames.

    Always at least the true rate, which is frames over total time; a tracker that hesitates on a
    few frames looks faster than it is. Times that are not positive are left out.

    Returns:
        Frames per second, or NaN when no time is positive.
    """
    times = np.asarray(times_s, dtype=np.float64)
    times = times[times > 0]
    return float(np.mean(1.0 / times)) if len(times) else float("nan")


def frame_rate(times_s: ArrayLike) -> float:
    """Frames per second: number of timed frames over the total time; NaN without any."""
    times = np.asarray(times_s, dtype=np.float64)
    times = times[times > 0]
    return float(len(times) / times.sum()) if len(times) else float("nan")


def _pair(boxes_xywh: ArrayLike, truth_xywh: ArrayLike) -> tuple[FloatArray, FloatArray]:
    boxes = np.asarray(boxes_xywh, dtype=np.float64)
    truth = np.asarray(truth_xywh, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.shape != truth.shape:
        raise DatasetError(
            f"boxes of shape {boxes.shape} against truth of shape {truth.shape}; both must be "
            "(frames, 4), one x, y, w, h per frame"
        )
    return boxes, truth
