"""How a network's boxes differ from the one that was given, learnt from the first frame.

Data sets draw boxes in different ways, with the tail or without, around the head or the whole deer,
and so do users. A network draws them as its training data did. What it makes of the first frame,
where the box is known, tells the difference, which all later boxes are then rid of.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from siamtrack.crops import crop_square
from siamtrack.engines.base import Engine, Exemplar, Response
from siamtrack.geometry import CropMap
from siamtrack.tracking.decode import cell_boxes, cell_middles
from siamtrack.types import Float32Array, FloatArray, Image

SHIFTS = ((0.0, 0.0), (0.12, 0.05), (-0.12, -0.05), (0.05, -0.12), (-0.05, 0.12))
"""Where windows on the first frame are, in sides off the target: in other cells each time."""

_FARTHEST_CELLS = 1.5  # a cell that far off the target's middle may still speak for it
_LEAST_LOGIT = 0.0  # of a cell that speaks for the target
_MOST_GROWTH = math.log(1.5)
_MOST_SHIFT = 0.3


class Framing(NamedTuple):
    """How the network frames the target, against the box that was given.

    Attributes:
        shift_x: by how much its box is too far right, in its own widths.
        shift_y: by how much it is too far down, in its own heights.
        grown_w: log of its width over the true one.
        grown_h: log of its height over the true one.
    """

    shift_x: float = 0.0
    shift_y: float = 0.0
    grown_w: float = 0.0
    grown_h: float = 0.0

    @classmethod
    def between(cls, drawn_xywh: FloatArray, given_xywh: FloatArray, share: float) -> Framing:
        """What to take off, from what was seen.

        Args:
            drawn_xywh: (N, 4) boxes of the network, frame px; their median counts.
            given_xywh: (4,) the true one.
            share: of the difference, in [0, 1].
        """
        # A network may return anything.
        if not len(drawn_xywh) or not np.isfinite(drawn_xywh).all() or drawn_xywh[:, 2:].min() <= 0:
            return cls()
        centre, size = drawn_xywh[:, :2] + drawn_xywh[:, 2:] / 2, drawn_xywh[:, 2:]
        off = (centre - (given_xywh[:2] + given_xywh[2:] / 2)) / size
        grown = np.log(size / given_xywh[2:])
        off = np.clip(np.median(off, axis=0), -_MOST_SHIFT, _MOST_SHIFT) * share
        grown = np.clip(np.median(grown, axis=0), -_MOST_GROWTH, _MOST_GROWTH) * share
        return cls(*off.tolist(), *grown.tolist())

    def undone(self, response: Response) -> Response:
        """The response with boxes as they are meant."""
        if response.ltrb_px is None or not any(self):
            return response
        left, top, right, bottom = response.ltrb_px.swapaxes(0, 1)
        width, height = left + right, top + bottom
        x = (right - left) / 2 - self.shift_x * width
        y = (bottom - top) / 2 - self.shift_y * height
        half_w = width * (math.exp(-self.grown_w) / 2)
        half_h = height * (math.exp(-self.grown_h) / 2)
        ltrb = np.stack([half_w - x, half_h - y, half_w + x, half_h + y], axis=1)
        return replace(response, ltrb_px=ltrb.astype(np.float32, copy=False))


NEUTRAL = Framing()
"""Boxes are taken as they come."""


def box_about(
    response: Response, crop_map: CropMap, centre_xy: FloatArray, stride_px: int
) -> FloatArray | None:
    """The box that the surest cell near a known place predicts.

    Args:
        response: to one window.
        crop_map: of the window.
        centre_xy: the place, frame px.
        stride_px: from cell to cell, px of the crop.

    Returns:
        (4,) xywh frame px; None where no cell there speaks for a target.
    """
    if response.ltrb_px is None:
        return None
    logits: Float32Array = response.score_logits[0]
    middles = cell_middles(len(logits), stride_px, crop_map.size_px)
    x, y = crop_map.to_crop(np.array([*centre_xy, 0.0, 0.0]))[:2]
    reach = _FARTHEST_CELLS * stride_px
    near = (np.abs(middles - y) <= reach)[:, None] & (np.abs(middles - x) <= reach)
    row, column = divmod(int(np.where(near, logits, -np.inf).argmax()), len(logits))
    if not logits[row, column] > _LEAST_LOGIT:
        return None
    return cell_boxes(response.ltrb_px[0], stride_px, crop_map)[row, column]


def framing_of(
    engine: Engine,
    exemplar: Exemplar,
    frame: Image,
    given_xywh: FloatArray,
    *,
    side_px: float,
    fill_bgr: tuple[float, float, float],
    share: float,
) -> Framing:
    """Look at the first frame a few times.

    Nothing is learnt along an axis on which the given box reaches the border: what it leaves out
    there is out of sight, and not left out on purpose.

    Args:
        engine: runs the network.
        exemplar: the target.
        frame: uint8 (H, W, 3) BGR.
        given_xywh: (4,) the target, frame px.
        side_px: of the search windows, frame px.
        fill_bgr: colour outside the frame.
        share: see `Framing.between`.
    """
    centre = given_xywh[:2] + given_xywh[2:] / 2
    drawn: list[FloatArray] = []
    for shift in SHIFTS:
        middle = centre + np.array(shift) * side_px
        size = engine.config.search_size_px
        crop, crop_map = crop_square(frame, middle, side_px, size, fill_bgr=fill_bgr)
        response = engine.track(exemplar, [crop])
        box = box_about(response, crop_map, centre, engine.config.total_stride)
        if box is not None:
            drawn.append(box)
    found = Framing.between(np.array(drawn).reshape(-1, 4), given_xywh, share)
    (x, y, w, h), (height, width) = given_xywh.tolist(), frame.shape[:2]
    if x <= 0 or x + w >= width:
        found = found._replace(shift_x=0.0, grown_w=0.0)
    if y <= 0 or y + h >= height:
        found = found._replace(shift_y=0.0, grown_h=0.0)
    return found
