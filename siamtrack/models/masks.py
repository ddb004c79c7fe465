"""Share of each feature cell that a box covers."""

from __future__ import annotations

import torch
from torch import Tensor

from siamtrack.models.network import NetworkConfig


def coverage(boxes_xywh: Tensor, cells: int, stride: int) -> Tensor:
    """Rasterise boxes on a square grid of cells, exactly (areas, not samples).

    Args:
        boxes_xywh: (B, 4) float, px of the crop.
        cells: grid cells a side.
        stride: px from one cell to the next.

    Returns:
        (B, 1, cells, cells) float32 in [0, 1]: covered area of each cell over the cell's area.
    """
    edges = torch.arange(cells, dtype=torch.float32, device=boxes_xywh.device) * stride
    x, y, w, h = boxes_xywh.float().unbind(1)
    across = _overlap(edges, x, w, stride)
    down = _overlap(edges, y, h, stride)
    return (down[:, :, None] * across[:, None, :])[:, None]


def exemplar_mask(boxes_xywh: Tensor, config: NetworkConfig) -> Tensor:
    """The mask that `embed_exemplar` takes, for training and for every engine.

    Args:
        boxes_xywh: (B, 4) targets in px of their exemplar crop.
        config: of the network.
    """
    return coverage(boxes_xywh, config.exemplar_size_px // config.total_stride, config.total_stride)


def _overlap(edges: Tensor, start: Tensor, length: Tensor, stride: int) -> Tensor:
    """(B, cells) share of the intervals [edge, edge + stride) inside [start, start + length)."""
    low = torch.maximum(edges[None], start[:, None])
    high = torch.minimum(edges[None] + stride, (start + length)[:, None])
    return (high - low).clamp_min(0) / stride
