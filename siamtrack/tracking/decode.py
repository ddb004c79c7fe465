"""From a response map to a box: box heads (SiamRPN style) and scale pyramids (SiamFC).

Both read the response of square search windows around the last box, weigh it against a cosine
window and return a `Prediction` in frame coordinates. R is the side of the response in cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from siamtrack.engines.base import Response
from siamtrack.geometry import CropMap, context_side
from siamtrack.models.config import NetworkConfig
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions, TrackerOptions
from siamtrack.types import Float32Array, FloatArray

if TYPE_CHECKING:
    from siamtrack.tracking.online_filter import FilterResponse

_MAX_REACH = 4.0  # cells that a target's neighborhood extends at most
_CLIMB_STEPS = 2  # cells from the best place, with its cosine window, to the peak
_LEAST_RESPONSE = 0.02  # has a logarithm


class Prediction(NamedTuple):
    """Predicted box, and the cues of its score."""

    box_xywh: FloatArray  # (4,) frame px
    peak_logit: float  # response at the peak, before the sigmoid
    similarity: float = 1.0  # cosine, to the exemplar, around the peak; 1 without embeddings
    margin: float = 0.0  # peak logit minus the best logit outside the target's neighborhood
    # With an online filter, similarity and margin are those of the response of its first frame's
    # weights: they cannot have learned an occluder.
    cell: tuple[int, int] = (0, 0)  # row and column of the peak
    window: int = 0  # its search window
    filter_peak: float = 0.0  # response of the online filter at the peak


def calibrated_score(prediction: Prediction, options: TrackerOptions) -> float:
    """Probability that the box is on the target: logistic regression over the cues.

    sigmoid(gain (peak - offset) + w_s similarity + w_m margin); with both weights 0 this is Platt
    scaling (Platt 1999) of the peak. With an online filter it is that of the peak and the margin
    of the filter's first weights.

    Example:
        >>> calibrated_score(Prediction(np.zeros(4), 2.0), ScalePyramidOptions(score_offset=2.0))
        0.5
    """
    if isinstance(options, BoxHeadOptions) and options.online_filter:
        x = options.filter_score_gain * (prediction.peak_logit - options.filter_score_offset)
        x += options.filter_score_margin * prediction.margin
        return sigmoid(x)
    x = options.score_gain * (prediction.peak_logit - options.score_offset)
    x += options.score_similarity * prediction.similarity + options.score_margin * prediction.margin
    return sigmoid(x)


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), which never overflows."""
    return 0.5 * (1.0 + math.tanh(0.5 * logit))


def window_sides(
    size_wh: FloatArray, config: NetworkConfig, options: TrackerOptions
) -> list[float]:
    """Sides of the local search windows, frame px: one, or one per scale, smallest first."""
    side = float(context_side(size_wh[0], size_wh[1], config.context_amount))
    if isinstance(options, ScalePyramidOptions):
        return [float(f) * config.search_scale * side for f in scale_factors(options)]
    return [config.search_scale * side]


class RankedCells(NamedTuple):
    """How good the cells of search windows are: of B of them, (B, R, R), or of one, (R, R)."""

    score: Float32Array  # the network's, from 0 to 1
    ltrb_px: Float32Array  # (B, 4, R, R) or (4, R, R): predicted distances, see `Response`
    penalty: Float32Array  # on changes of size and aspect
    ranked: Float32Array  # the best cell has the highest; -inf is excluded

    def of(self, window: int) -> RankedCells:
        """Those of one of the windows."""
        return RankedCells(*(values[window] for values in self))


def rank_cells(
    logits: Float32Array,
    ltrb_px: Float32Array | None,
    last_wh_px: Float32Array,
    options: BoxHeadOptions,
    mixed: Float32Array | None = None,
    response_size: int = 0,
) -> RankedCells:
    """Rank the cells of B windows, of one target or of many (SiamRPN, section 4.4).

    Args:
        logits: (B, R, R), see `Response`.
        ltrb_px: (B, 4, R, R), see `Response`.
        last_wh_px: (B, 2) last width and height of each window's target, crop px.
        options: of all targets.
        mixed: (B, R, R) response of the online filters, which ranks the cells instead of the
            network's score.
        response_size: of the whole search window, in cells, if this is the middle of it; 0 if it is
            the whole one.
    """
    if ltrb_px is None:
        raise TypeError("this network has no box head; give ScalePyramidOptions")
    sides = ltrb_px[:, :2] + ltrb_px[:, 2:]
    score = (0.5 * (1.0 + np.tanh(0.5 * logits))).astype(np.float32, copy=False)  # sigmoid

    # Penalize changes of size and aspect, then add the cosine window.
    penalty = shape_penalty(sides, last_wh_px, options.shape_penalty)
    window, influence = cosine_window(logits.shape[-1], response_size), options.window_influence
    ranked = (score if mixed is None else mixed) * penalty
    ranked = ranked * (1.0 - influence) + window * influence  # (B, R, R)
    ranked[logits == -np.inf] = -np.inf  # the window has lifted excluded cells too
    return RankedCells(score, ltrb_px, penalty, ranked)


def decode(
    response: Response,
    maps: Sequence[CropMap],
    last_xywh: FloatArray,
    config: NetworkConfig,
    options: BoxHeadOptions | ScalePyramidOptions,
    filtered: FilterResponse | None = None,
    cells: RankedCells | None = None,
) -> Prediction:
    """Decode the windows around the last box, those of `window_sides` in order.

    The class of the options selects the method. Cells of -inf in the response are excluded.
    `filtered` is the online filter's response to the one window of a box head, and `cells` are the
    cells of this window; None to rank them here.
    """
    if isinstance(options, ScalePyramidOptions):
        return decode_scale_pyramid(response, maps, last_xywh, config, options)
    return decode_box_head(response, maps[0], last_xywh, config, options, filtered, cells)


def decode_box_head(
    response: Response,
    crop_map: CropMap,
    last_xywh: FloatArray,
    config: NetworkConfig,
    options: BoxHeadOptions,
    filtered: FilterResponse | None = None,
    cells: RankedCells | None = None,
) -> Prediction:
    """Take the box predicted at the best cell of one window; the arguments are those of `decode`.

    The network's score ranks the cells, or the online filter's response, if there is one.
    """
    last_wh = crop_size(last_xywh, crop_map)
    if cells is None:
        mixed = None if filtered is None else filtered.mixed[None]
        here = response[:1]
        cells = rank_cells(
            here.score_logits, here.ltrb_px, last_wh[None], options, mixed, config.response_size
        ).of(0)
    logits = response.score_logits[0]  # (R, R)
    score, ltrb, penalty, ranked = cells

    # Best cell.
    row, column = best = divmod(int(ranked.argmax()), ranked.shape[1])
    around = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)

    # Cues of the score. Targets are seldom centered on a cell: take the best similarity around it.
    peak, logit, similarity, filter_peak = float(score[best]), float(logits[best]), 1.0, 0.0
    if filtered is not None:
        other = second_peak(filtered.first, best, last_wh / config.total_stride)
        similarity = float(filtered.first[best])
        # Where all cells are excluded, nothing responds.
        filter_peak = float(filtered.mixed[best]) if logit > -math.inf else -math.inf
        margin = similarity - float(filtered.first[other])
    else:
        if response.similarity is not None:
            similarity = float(response.similarity[0][around].max())
        margin = peak_margin(logits, best, (ltrb[:, *best] / config.total_stride).tolist())
    found = Prediction(last_xywh, logit, similarity, margin, best, filter_peak=filter_peak)
    if peak < options.min_peak:
        return found

    # Box: that of the peak. The filter's peak is coarse: the network's best box is beside it.
    if filtered is not None:
        near = np.full_like(score, -1.0)
        near[around] = score[around]
        row, column = divmod(int(near.argmax()), len(near))
    # Center from the four distances, size smoothed with a rate of penalty, certainty and size_lr.
    left, top, right, bottom = ltrb[:, row, column]
    centers = cell_centers(len(logits), config.total_stride, crop_map.size_px)
    centers = centers.astype(np.float32)
    center_x = float(centers[column] + (right - left) / 2)
    center_y = float(centers[row] + (bottom - top) / 2)
    # The filter's peak tells the center, too. The two are wrong in different ways: take both.
    if filtered is not None and filter_peak >= options.filter_min_peak:
        share, possible = options.filter_center, np.where(logits > -np.inf, filtered.mixed, 0.0)
        if (between := peak_between_cells(possible, best)) is not None:
            peak_x, peak_y = (float(centers[0]) + config.total_stride * place for place in between)
            center_x += share * (peak_x - center_x)
            center_y += share * (peak_y - center_y)
    sure = max(float(score[row, column]), min(filter_peak, 1.0))  # whichever of both is surer
    rate = float(penalty[row, column]) * sure * options.size_lr
    size = last_wh * (1.0 - rate) + np.array([left + right, top + bottom]) * rate
    box = np.array([center_x - size[0] / 2, center_y - size[1] / 2, *size])
    return found._replace(box_xywh=crop_map.to_frame(box))


def peak_between_cells(response: Float32Array, cell: tuple[int, int]) -> tuple[float, float] | None:
    """The highest point near a cell of a (R, R) response, x and y in cells; None at the border.

    Through the peak's cell and its neighbors goes a parabola in the logarithm, along each axis: the
    label of the online filter is a Gaussian, for which that is exact.

    Example:
        >>> along = np.exp(-0.5 * (np.arange(5) - 2.2) ** 2)
        >>> x, y = peak_between_cells(np.outer(along[::-1], along), (2, 3))
        >>> round(x, 2), round(y, 2)
        (2.2, 1.8)
    """
    # Climb to the peak's cell.
    row, column = cell
    for _ in range(_CLIMB_STEPS):
        top, left = max(row - 1, 0), max(column - 1, 0)
        around = response[top : row + 2, left : column + 2]
        down, right = divmod(int(around.argmax()), around.shape[1])
        row, column = top + down, left + right
    last = len(response) - 1
    if not (0 < row < last and 0 < column < last):
        return None
    x = column + _vertex(response[row, column - 1 : column + 2].tolist())
    y = row + _vertex(response[row - 1 : row + 2, column].tolist())
    return x, y


def _vertex(values: list[float]) -> float:
    """Place of the vertex of the parabola through three logarithms, from the middle one."""
    before, peak, after = (math.log(max(value, _LEAST_RESPONSE)) for value in values)
    bend = before - 2 * peak + after
    return min(max(0.5 * (before - after) / bend, -0.5), 0.5) if bend < -1e-6 else 0.0


def crop_size(box_xywh: FloatArray, crop_map: CropMap) -> Float32Array:
    """(2,) width and height of a box of the frame, crop px."""
    return (box_xywh[2:] / crop_map.scale).astype(np.float32)


def shape_penalty(sides: Float32Array, last_wh: Float32Array, k: float) -> Float32Array:
    """(B, R, R) exp(-k (s r - 1)): s and r are the relative changes of size and aspect, both >= 1.

    `sides` are the predicted width and height, (B, 2, R, R), `last_wh` the last ones in the same
    unit, (B, 2).

    Example:
        >>> same = np.full((1, 2, 1, 1), 40, np.float32)
        >>> shape_penalty(same, np.float32([[40, 40]]), k=0.1).tolist()
        [[[1.0]]]
        >>> round(shape_penalty(2 * same, np.float32([[40, 40]]), k=0.1).item(), 3)  # exp(-0.1)
        0.905
    """
    width, height = sides[:, 0], sides[:, 1]
    last_w, last_h = last_wh[:, 0, None, None], last_wh[:, 1, None, None]
    pad = (width + height) * 0.5
    size = np.sqrt((width + pad) * (height + pad))
    size /= context_side(last_w, last_h).astype(np.float32)
    aspect = width / height * (last_h / last_w)
    change = np.maximum(size, 1 / size) * np.maximum(aspect, 1 / aspect)
    return np.exp((1.0 - change) * np.float32(k))


def decode_scale_pyramid(
    response: Response,
    maps: Sequence[CropMap],
    last_xywh: FloatArray,
    config: NetworkConfig,
    options: ScalePyramidOptions,
) -> Prediction:
    """Search a few scales and keep the aspect (SiamFC, section 3.2, "Tracking")."""
    # Upsample the responses: (17, 17) to (272, 272), one per scale.
    up = options.response_up
    size = (response.score_logits.shape[2] * up, response.score_logits.shape[1] * up)
    upsampled = [cv2.resize(r, size, interpolation=cv2.INTER_CUBIC) for r in response.score_logits]

    # Choose the scale. The penalty is a factor, so shift the responses to be non-negative first:
    # scaling a negative peak down would favor the change of scale that it is meant to discourage.
    floor = min(float(r.min()) for r in upsampled)
    factors = scale_factors(options)
    penalties = np.full(len(factors), options.scale_penalty, np.float32)
    penalties[len(factors) // 2] = 1.0
    peaks = [float(r.max() - floor) * p for r, p in zip(upsampled, penalties, strict=True)]
    scale = int(np.argmax(peaks))

    # Normalize to sum 1, add the cosine window, take the peak.
    chosen = upsampled[scale] - upsampled[scale].min()
    chosen = chosen / max(float(chosen.sum()), 1e-12)
    window, influence = cosine_window(len(chosen)), options.window_influence
    ranked = (1 - influence) * chosen + influence * window / window.sum()
    row, column = np.unravel_index(int(np.argmax(ranked)), ranked.shape)

    # Move by the peak's displacement from the middle of the map; a cell is `step` frame px.
    step = config.total_stride / up * maps[scale].scale
    offset = (np.array((column, row), dtype=np.float64) - (len(chosen) - 1) / 2) * step
    center = last_xywh[:2] + last_xywh[2:] / 2 + offset

    # Take on part of the change of scale.
    rate = options.scale_lr
    new_wh = last_xywh[2:] * ((1 - rate) + rate * float(factors[scale]))
    box = np.concatenate([center - new_wh / 2, new_wh])

    # The target spans half of the exemplar crop, so its neighborhood reaches a quarter of it.
    reach = config.exemplar_size_px / 4 / config.total_stride
    cell = int(row) // up, int(column) // up
    margin = peak_margin(response.score_logits[scale], cell, [reach] * 4)
    return Prediction(box, float(upsampled[scale][row, column]), margin=margin)


def scale_factors(options: ScalePyramidOptions) -> FloatArray:
    """(scale_num,) factors on the window's side, 1 in the middle.

    Example:
        >>> scale_factors(ScalePyramidOptions(scale_num=3, scale_step=2.0)).tolist()
        [0.5, 1.0, 2.0]
    """
    steps = np.arange(options.scale_num, dtype=np.float64) - options.scale_num // 2
    return np.power(options.scale_step, steps)


@lru_cache(maxsize=8)
def cell_centers(cells: int, stride_px: int, crop_px: int) -> FloatArray:
    """(cells,) centers of the response cells along either axis of the crop, px; read-only.

    Example:
        >>> cell_centers(3, 8, 100).tolist()
        [42.0, 50.0, 58.0]
    """
    centers = (np.arange(cells, dtype=np.float64) - (cells - 1) / 2) * stride_px + crop_px / 2
    centers.flags.writeable = False
    return centers


def to_cells(
    points_px: FloatArray | list[FloatArray], cells: int, stride_px: int, crop_px: int
) -> FloatArray:
    """(..., 2) points of the crop, px, in response cells: (0, 0) is the middle of the first cell.

    Example:
        >>> to_cells(np.array([50.0, 54.0]), 3, 8, 100).tolist()
        [1.0, 1.5]
    """
    return (np.array(points_px) - cell_centers(cells, stride_px, crop_px)[0]) / stride_px


def decode_ltrb(
    ltrb_px: Float32Array | FloatArray, stride_px: int, crop_map: CropMap
) -> FloatArray:
    """(4, R, R) distances in crop px to (R, R, 4) boxes, xywh frame px.

    Example:
        >>> crop_map = CropMap(origin_xy=(10.0, 20.0), scale=2.0, size_px=100)
        >>> decode_ltrb(np.float32([5, 5, 5, 5]).reshape(4, 1, 1), 8, crop_map).tolist()
        [[[100.0, 110.0, 20.0, 20.0]]]
    """
    left, top, right, bottom = ltrb_px.astype(np.float64)
    x, y = np.meshgrid(*[cell_centers(len(left), stride_px, crop_map.size_px)] * 2)
    return crop_map.to_frame(np.stack([x - left, y - top, left + right, top + bottom], axis=-1))


def peak_margin(logits: Float32Array, cell: tuple[int, int], reach: Iterable[float]) -> float:
    """Peak logit minus the best logit outside its neighborhood (peak to side lobe).

    `cell` is the row and column of the peak in (R, R) logits, `reach` the cells that its
    neighborhood extends left, up, right and down, at least one each.

    Example:
        >>> logits = np.float32([[5, 4, 0, 3]])
        >>> peak_margin(logits, (0, 0), [1, 1, 1, 1])
        2.0
    """
    row, column = cell
    # NaN compares false, so a broken network gives a reach of 1.
    left, up, right, down = (int(min(r, len(logits))) if r > 1 else 1 for r in reach)
    rest = logits.copy()
    rest[max(row - up, 0) : row + down + 1, max(column - left, 0) : column + right + 1] = -np.inf
    best = rest.max()
    if best == -np.inf:  # the neighborhood covers the whole map
        best = logits[logits > -np.inf].min(initial=max(float(logits[cell]), -1e9))
    return float(logits[cell] - best)


def second_peak(
    response: Float32Array, cell: tuple[int, int], size_cells: Float32Array | FloatArray
) -> tuple[int, int]:
    """Row and column of the highest response half a target or more away from the peak.

    `cell` is the row and column of the peak in the (R, R) response, `size_cells` width and height
    of the target.

    Example:
        >>> second_peak(np.float32([[5, 4, 0, 3]]), (0, 0), np.float32([2, 2]))
        (0, 3)
    """
    row, column = cell
    across, down = (max(1, round(min(float(v) / 2, _MAX_REACH))) for v in size_cells)
    rest = response.copy()
    rest[
        max(row - down, 0) : row + down + 1, max(column - across, 0) : column + across + 1
    ] = -np.inf
    return divmod(int(rest.argmax()), response.shape[1])


@lru_cache(maxsize=8)
def cosine_window(size: int, whole: int = 0) -> Float32Array:
    """(size, size) outer product of Hann windows without their zero ends; read-only.

    With `whole` above `size`, the middle of the (whole, whole) one.

    Example:
        >>> cosine_window(3).round(2).tolist()
        [[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]]
    """
    whole = max(size, whole)
    hann = np.hanning(whole + 2)[1:-1][(whole - size) // 2 :][:size]
    window = np.outer(hann, hann).astype(np.float32)
    window.flags.writeable = False
    return window
