"""Overlap of boxes and the losses made of it, in torch.

Boxes here are `xyxy` (two corners) along the last axis. A network's `ltrb_px` map becomes boxes
relative to each cell's centre, which is all an overlap needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from siamtrack.errors import ConfigError
from siamtrack.losses.base import (
    PerPairLoss,
    TrackingOutput,
    TrackingTarget,
    at_least_float32,
    check_same_shape,
)


def ltrb_to_xyxy(ltrb: Tensor) -> Tensor:
    """(B, 4, R, R) distances to (B, R, R, 4) corners relative to each cell's centre."""
    left, top, right, bottom = ltrb.unbind(dim=1)
    return torch.stack([-left, -top, right, bottom], dim=-1)


def iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Intersection over union, pairwise along the last axis with broadcasting.

    Args:
        a_xyxy: (..., 4) float.
        b_xyxy: (..., 4) float, broadcastable to `a_xyxy`.

    Returns:
        (...) in [0, 1]. Boxes turned inside out count as without area; two boxes without area
        overlap by 0, with finite gradients.
    """
    inter, union = _intersection_and_union(a_xyxy, b_xyxy)
    return _safe_ratio(inter, union)


def giou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Generalised IoU (Rezatofighi et al. 2019, algorithm 1), shapes as in `iou`.

    Returns:
        (...) in (-1, 1]: the IoU less the part of the smallest enclosing box that neither covers.
        Unlike the IoU it has a gradient when the boxes are apart.
    """
    inter, union = _intersection_and_union(a_xyxy, b_xyxy)
    lowest = torch.minimum(a_xyxy[..., :2], b_xyxy[..., :2])
    highest = torch.maximum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    hull = (highest - lowest).clamp(min=0).prod(dim=-1)
    return _safe_ratio(inter, union) - _safe_ratio(hull - union, hull)


def _intersection_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    inter_wh = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    inter = inter_wh.clamp(min=0).prod(dim=-1)
    area_a = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(dim=-1)
    area_b = (b[..., 2:] - b[..., :2]).clamp(min=0).prod(dim=-1)
    return inter, area_a + area_b - inter


def _safe_ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Ratio of the two, and 0 with zero gradient where the whole is 0."""
    empty = whole <= 0
    return torch.where(empty, 0.0, part / torch.where(empty, 1.0, whole))


def boxes_at_positives(output: TrackingOutput, target: TrackingTarget) -> tuple[Tensor, Tensor]:
    """Predicted and true boxes of every cell, (B, R, R, 4) xyxy relative to the cell centre.

    Cells that are not positive hold the same unit box twice: whatever is computed from them is
    finite and has no gradient, so that they can be masked out afterwards.

    Raises:
        ConfigError: the network or the labels have no boxes.
        TrainingError: shapes do not fit.
    """
    if output.ltrb_px is None or target.ltrb_px is None:
        lacking = "network gives" if output.ltrb_px is None else "labels hold"
        raise ConfigError(
            f"this loss compares boxes and the {lacking} no ltrb_px; use a network with a box "
            "head and anchor-free labels, or take the loss out of the configuration"
        )
    check_same_shape("output.ltrb_px", output.ltrb_px, "target.ltrb_px", target.ltrb_px)
    check_same_shape(
        "output.ltrb_px of one side", output.ltrb_px[:, :1], "target.positive", target.positive
    )
    predicted = at_least_float32(output.ltrb_px)
    true = target.ltrb_px.to(predicted.dtype)
    predicted = torch.where(target.positive, predicted, 1.0)
    true = torch.where(target.positive, true, 1.0)
    return ltrb_to_xyxy(predicted), ltrb_to_xyxy(true)


def mean_positives(target: TrackingTarget, dtype: torch.dtype) -> Tensor:
    """Positive cells per pair, at least 1, as `TrackingTarget.positives_per_pair` describes."""
    given = target.positives_per_pair
    if given is None:
        given = target.positive.sum().to(dtype) / max(len(target.positive), 1)
    return torch.as_tensor(given, dtype=dtype, device=target.positive.device).clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class IoULoss(PerPairLoss):
    """1 - IoU summed over the positive cells, divided by the mean number of them per pair.

    A predicted box that misses the target entirely gets no gradient; see `GIoULoss`.
    """

    needs_boxes: ClassVar[bool] = True

    def per_pair(self, output: TrackingOutput, target: TrackingTarget) -> Tensor:
        """(B,) loss of each pair; 0 for a pair without positive cells."""
        overlap = iou(*boxes_at_positives(output, target))
        return _sum_of_gaps(overlap, target)


@dataclass(frozen=True, kw_only=True)
class GIoULoss(PerPairLoss):
    """1 - GIoU (Rezatofighi et al. 2019), normalised as `IoULoss`; pulls boxes that miss, too."""

    needs_boxes: ClassVar[bool] = True

    def per_pair(self, output: TrackingOutput, target: TrackingTarget) -> Tensor:
        """(B,) loss of each pair; 0 for a pair without positive cells."""
        overlap = giou(*boxes_at_positives(output, target))
        return _sum_of_gaps(overlap, target)


def _sum_of_gaps(overlap: Tensor, target: TrackingTarget) -> Tensor:
    gaps = torch.where(target.positive[:, 0], 1.0 - overlap, 0.0)
    return gaps.sum(dim=(1, 2)) / mean_positives(target, gaps.dtype)
