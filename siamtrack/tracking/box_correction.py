"""Correction of the network's box bias, measured on the first frame.

Annotators draw boxes differently: with or without the tail, around the head or the whole deer. A
network draws them as its training data did. On the first frame the box is known, so the difference
is measured there; it is removed from all later boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from siamtrack.engines.base import Response
from siamtrack.geometry import CropMap
from siamtrack.tracking.decode import cell_centers, decode_ltrb
from siamtrack.types import FloatArray

SHIFTS = ((0.0, 0.0), (0.12, 0.05), (-0.12, -0.05), (0.05, -0.12), (-0.05, 0.12))
"""Displacements of the windows on the first frame, in window sides: other cells show the target."""

_MAX_CELLS = 1.5  # distance from the target's center at which a cell may still predict its box
_MIN_LOGIT = 0.0  # of such a cell
_MAX_LOG_SCALE = math.log(1.5)
_MAX_SHIFT = 0.3


class BoxCorrection(NamedTuple):
    """Bias of the network's boxes against the given box."""

    shift_x: float = 0.0  # how far they are too far right, in their widths
    shift_y: float = 0.0  # how far they are too far down, in their heights
    log_scale_w: float = 0.0  # log of their width over the given one
    log_scale_h: float = 0.0  # log of their height over the given one

    @classmethod
    def from_boxes(
        cls, predicted_xywh: FloatArray, given_xywh: FloatArray, share: float
    ) -> BoxCorrection:
        """`share` of the median bias of (N, 4) boxes, limited to 0.3 sizes and a factor of 1.5.

        No boxes, or broken ones, give no correction.
        """
        usable = len(predicted_xywh) > 0 and np.isfinite(predicted_xywh).all()
        if not usable or predicted_xywh[:, 2:].min() <= 0:
            return cls()
        # Shift in sizes of the predicted boxes and log scale, for each; then the limited medians.
        center, size = predicted_xywh[:, :2] + predicted_xywh[:, 2:] / 2, predicted_xywh[:, 2:]
        shift = (center - (given_xywh[:2] + given_xywh[2:] / 2)) / size  # (N, 2)
        scale = np.log(size / given_xywh[2:])  # (N, 2)
        shift = np.clip(np.median(shift, axis=0), -_MAX_SHIFT, _MAX_SHIFT) * share
        scale = np.clip(np.median(scale, axis=0), -_MAX_LOG_SCALE, _MAX_LOG_SCALE) * share
        return cls(*shift.tolist(), *scale.tolist())

    def apply(self, response: Response) -> Response:
        """The response with the bias removed from its boxes."""
        return correct_boxes(response, [self] * len(response.score_logits))


NO_CORRECTION = BoxCorrection()


def correct_boxes(response: Response, corrections: Sequence[BoxCorrection]) -> Response:
    """A response with the bias removed from the boxes of its B crops, each by its own correction.

    Boxes without a bias stay as they are, to the bit.
    """
    unbiased = [k for k, correction in enumerate(corrections) if not any(correction)]
    if response.ltrb_px is None or len(unbiased) == len(corrections):
        return response
    biases = np.array(corrections)[..., None, None]  # (B, 4, 1, 1)
    shift = biases[:, :2].astype(np.float32)
    half_scale = (np.exp(-biases[:, 2:]) / 2).astype(np.float32)

    before, after = response.ltrb_px[:, :2], response.ltrb_px[:, 2:]  # (B, 2, R, R)
    sides = before + after
    center = (after - before) / 2 - shift * sides  # from that of the cell
    half = sides * half_scale
    ltrb = np.concatenate([half - center, half + center], axis=1, dtype=np.float32)
    if unbiased:
        ltrb[unbiased] = response.ltrb_px[unbiased]
    return replace(response, ltrb_px=ltrb)


def measure_box_correction(
    response: Response,
    maps: Sequence[CropMap],
    given_xywh: FloatArray,
    frame_wh: tuple[int, int],
    *,
    stride_px: int,
    share: float,
) -> BoxCorrection:
    """Compare the boxes predicted in windows on the first frame with the given one.

    `response` and `maps` are those of windows displaced by `SHIFTS`; `share` of the bias is removed
    later.
    """
    # 1. Predict the box in every window.
    center = given_xywh[:2] + given_xywh[2:] / 2
    found = [
        box_near(response[k : k + 1], crop_map, center, stride_px)
        for k, crop_map in enumerate(maps)
    ]
    predicted = np.array([box for box in found if box is not None]).reshape(-1, 4)

    # 2. The bias. A box that reaches the border is cut there, so that axis is not corrected.
    correction = BoxCorrection.from_boxes(predicted, given_xywh, share)
    (x, y, w, h), (width, height) = given_xywh.tolist(), frame_wh
    if x <= 0 or x + w >= width:
        correction = correction._replace(shift_x=0.0, log_scale_w=0.0)
    if y <= 0 or y + h >= height:
        correction = correction._replace(shift_y=0.0, log_scale_h=0.0)
    return correction


def box_near(
    response: Response, crop_map: CropMap, center_xy: FloatArray, stride_px: int
) -> FloatArray | None:
    """(4,) xywh frame px of the cell with the highest response near a known center.

    `response` is that of one window; None if no cell near the center responds.
    """
    if response.ltrb_px is None:
        return None
    logits = response.score_logits[0]  # (R, R)
    centers = cell_centers(len(logits), stride_px, crop_map.size_px)  # (R,)
    x, y = crop_map.to_crop(np.array([*center_xy, 0.0, 0.0]))[:2]
    reach = _MAX_CELLS * stride_px
    near = (np.abs(centers - y) <= reach)[:, None] & (np.abs(centers - x) <= reach)  # (R, R)
    row, column = divmod(int(np.where(near, logits, -np.inf).argmax()), len(logits))
    if not logits[row, column] > _MIN_LOGIT:
        return None
    return decode_ltrb(response.ltrb_px[0], stride_px, crop_map)[row, column]
