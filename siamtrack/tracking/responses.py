"""What is read off a response map, and the cosine window it is weighed against."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from siamtrack.engines.base import Float32Array
from siamtrack.geometry import CropMap, FloatArray


def cell_middles(cells: int, stride_px: int, crop_px: int) -> FloatArray:
    """(cells,) where the cells of a response lie along either axis of the crop, px."""
    return (np.arange(cells, dtype=np.float64) - (cells - 1) / 2) * stride_px + crop_px / 2


def cell_boxes(ltrb_px: Float32Array | FloatArray, stride_px: int, crop_map: CropMap) -> FloatArray:
    """The box that every cell of one window draws.

    Args:
        ltrb_px: (4, R, R) see `Response.ltrb_px`.
        stride_px: from cell to cell, px of the crop.
        crop_map: of the window.

    Returns:
        (R, R, 4) xywh frame px.
    """
    left, top, right, bottom = ltrb_px.astype(np.float64)
    x, y = np.meshgrid(*[cell_middles(len(left), stride_px, crop_map.size_px)] * 2)
    return crop_map.to_frame(np.stack([x - left, y - top, left + right, top + bottom], axis=-1))


def margin_of(logits: Float32Array, cell: tuple[int, int], reach: Iterable[float]) -> float:
    """How far a peak is above the best logit outside its neighbourhood (its side lobe).

    Args:
        logits: (R, R).
        cell: row and column of the peak.
        reach: cells that the neighbourhood extends left, up, right and down; at least one each.
    """
    row, column = cell
    # A network may return anything; comparisons with not-a-number are false.
    most = len(logits)
    left, up, right, down = (int(min(r, most)) if r > 1 else 1 for r in reach)
    rest = logits.copy()
    rest[max(row - up, 0) : row + down + 1, max(column - left, 0) : column + right + 1] = -np.inf
    best = rest.max()
    if best == -np.inf:  # the neighbourhood is all there is
        best = logits[logits > -np.inf].min(initial=max(float(logits[cell]), -1e9))
    return float(logits[cell] - best)


def best_about(similarity: Float32Array, cell: tuple[int, int]) -> float:
    """The best of a cell and its neighbours: a target's middle is rarely that of a cell."""
    row, column = cell
    return float(similarity[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].max())


@lru_cache(maxsize=8)
def cosine_window(size: int) -> Float32Array:
    """(size, size) outer product of Hann windows without their zero ends; read-only, shared."""
    hann = np.hanning(size + 2)[1:-1]
    window = np.outer(hann, hann).astype(np.float32)
    window.flags.writeable = False
    return window


def sigmoid(x: Float32Array) -> Float32Array:
    """Logistic function; large negative inputs do not overflow."""
    return (0.5 * (1.0 + np.tanh(0.5 * x))).astype(np.float32, copy=False)
