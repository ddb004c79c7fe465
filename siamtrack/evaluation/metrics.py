"""Overlaps, center errors and the curves that the field draws from them: pure numpy.

The formulas follow the got10k toolkit 0.1.3 operation by operation: the same result files give the
same numbers to the last bit. Where the toolkit does something unexpected, the function's name says
so. Success and precision: Wu, Lim and Yang, "Object Tracking Benchmark", PAMI 2015, section 3.
Average overlap and success rates: Huang, Zhao and Huang, "GOT-10k", PAMI 2019, section 4.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from siamtrack.errors import DatasetError
from siamtrack.types import FloatArray

PRECISION_THRESHOLDS_PX = np.arange(51, dtype=np.float64)
"""Center-error thresholds of a precision curve: 0, 1, ... 50 px."""

NORMALIZED_THRESHOLDS = np.linspace(0.0, 0.5, 51)
"""Thresholds of a normalized precision curve, in widths and heights of the true box."""


def toolkit_overlap(boxes_xywh: ArrayLike, truth_xywh: ArrayLike) -> FloatArray:
    """Intersection over union of (N, 4) boxes, row by row, as the toolkit computes it unclipped.

    Differs from `siamtrack.geometry.iou` only by the machine epsilon in the denominator.

    Returns:
        (N,) in [0, 1]; NaN where a coordinate is NaN.

    Raises:
        DatasetError: the two have different numbers of rows.
    """
    boxes, truth = _as_pair(boxes_xywh, truth_xywh)
    # Corners of the intersection; an empty one has no area.
    left_top = np.maximum(boxes[:, :2], truth[:, :2])
    right_bottom = np.minimum(boxes[:, :2] + boxes[:, 2:], truth[:, :2] + truth[:, 2:])
    inter = np.prod(np.maximum(right_bottom - left_top, 0), axis=-1)  # (N,)
    union = np.prod(boxes[:, 2:], axis=-1) + np.prod(truth[:, 2:], axis=-1) - inter
    return np.clip(inter / (union + np.finfo(np.float64).eps), 0.0, 1.0)


def overlap_after_toolkit_clipping(
    boxes_xywh: ArrayLike, truth_xywh: ArrayLike, bound_wh: tuple[float, float]
) -> FloatArray:
    """Overlap of boxes clipped to a frame of `bound_wh` px as the toolkit clips them for GOT-10k.

    A negative left or top edge moves to 0 while the width or height stays. A box that hangs over
    the left or top border is shifted, not cut: (-10, 20, 30, 40) becomes (0, 20, 30, 40), which
    overlaps the visible part (0, 20, 20, 40) by 2/3, not by 1. Published GOT-10k figures contain
    this. Unlike the toolkit's `rect_iou`, the arguments are not changed.
    """
    boxes, truth = _as_pair(boxes_xywh, truth_xywh)
    return toolkit_overlap(_toolkit_clip(boxes, bound_wh), _toolkit_clip(truth, bound_wh))


def _toolkit_clip(boxes: FloatArray, bound_wh: tuple[float, float]) -> FloatArray:
    bound = np.asarray(bound_wh, dtype=np.float64)
    corner = np.clip(boxes[:, :2], 0, bound)
    return np.concatenate([corner, np.clip(boxes[:, 2:], 0, bound - corner)], axis=1)


def center_error(boxes_xywh: ArrayLike, truth_xywh: ArrayLike) -> FloatArray:
    """Distance between the centers of (N, 4) boxes in px, (N,)."""
    boxes, truth = _as_pair(boxes_xywh, truth_xywh)
    return np.sqrt(np.sum(np.power(_centers(boxes) - _centers(truth), 2), axis=-1))


def normalized_center_error(boxes_xywh: ArrayLike, truth_xywh: ArrayLike) -> FloatArray:
    """Center error with each axis divided by the true width or height, (N,).

    Mueller et al., "TrackingNet", ECCV 2018, section 5.1. A truth without area gives infinity or
    NaN; callers mask such frames.
    """
    boxes, truth = _as_pair(boxes_xywh, truth_xywh)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = (_centers(boxes) - _centers(truth)) / truth[:, 2:]
    return np.sqrt(np.sum(np.power(scaled, 2), axis=-1))


def _centers(boxes: FloatArray) -> FloatArray:
    # The toolkit's center: in a difference the half pixel cancels, the rounding does not.
    return boxes[:, :2] + (boxes[:, 2:] - 1) / 2


def _as_pair(boxes_xywh: ArrayLike, truth_xywh: ArrayLike) -> tuple[FloatArray, FloatArray]:
    boxes = np.asarray(boxes_xywh, dtype=np.float64)
    truth = np.asarray(truth_xywh, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.shape != truth.shape:
        raise DatasetError(
            f"boxes of shape {boxes.shape} against truth of shape {truth.shape}; both must be "
            "(frames, 4), one x, y, w, h per frame"
        )
    return boxes, truth


def success_thresholds(count: int) -> FloatArray:
    """Overlap thresholds from 0 to 1: 21 for OTB and its relatives, 101 for GOT-10k."""
    return np.linspace(0, 1, count)


def success_curve(overlaps: FloatArray, count: int) -> FloatArray:
    """Share of frames whose overlap is strictly above each threshold, (count,).

    Because of "strictly", the last point is 0 even for a perfect tracker: the area below a perfect
    curve is (count - 1) / count. The first point is the share of frames with any overlap.
    """
    return np.mean(overlaps[:, None] > success_thresholds(count)[None, :], axis=0)


def precision_curve(errors_px: FloatArray) -> FloatArray:
    """Share of frames whose center error is at most 0, 1, ... 50 px, (51,)."""
    return np.mean(errors_px[:, None] <= PRECISION_THRESHOLDS_PX[None, :], axis=0)


def normalized_precision_curve(errors: FloatArray) -> FloatArray:
    """Share of frames whose normalized center error is at most 0, 0.01, ... 0.5, (51,)."""
    return np.mean(errors[:, None] <= NORMALIZED_THRESHOLDS[None, :], axis=0)


def mean_of_inverse_times(times_s: ArrayLike) -> float:
    """Frames per second as the toolkit reports them: mean of 1 / time; NaN without a time.

    Never below the true rate: a tracker that is slow on a few frames looks faster than it is.
    """
    times = _positive(times_s)
    return float(np.mean(1.0 / times)) if len(times) else float("nan")


def frame_rate(times_s: ArrayLike) -> float:
    """Frames per second: number of timed frames over the total time; NaN without any."""
    times = _positive(times_s)
    return float(len(times) / times.sum()) if len(times) else float("nan")


def _positive(times_s: ArrayLike) -> FloatArray:
    times = np.asarray(times_s, dtype=np.float64)
    return times[times > 0]  # NaN: the tracker was not called
