"""IoU and GIoU losses of the predicted boxes.

Boxes are `xyxy` (two corners) along the last axis, relative to the center of their cell: an overlap
does not depend on where the cell is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from siamtrack.errors import ConfigError
from siamtrack.losses.base import (
    LossInput,
    LossTarget,
    PerPairLoss,
    at_least_float32,
    check_same_shape,
    check_tensor,
)


@dataclass(frozen=True, kw_only=True)
class IoULoss(PerPairLoss):
    """1 - IoU, summed over the positive cells (Yu et al. 2016, "UnitBox", with -ln IoU there).

    The sum is divided by the mean number of positive cells per pair. A predicted box that does not
    touch the true one gets no gradient; `GIoULoss` gives it one.
    """

    name: ClassVar[str] = "iou"

    def per_pair(self, output: LossInput, target: LossTarget) -> Tensor:
        """(B,) loss of each pair; 0 for a pair without positive cells."""
        return _sum_over_positives(1.0 - iou(*boxes_at_positives(output, target)), target)


@dataclass(frozen=True, kw_only=True)
class GIoULoss(PerPairLoss):
    """1 - GIoU (Rezatofighi et al. 2019, algorithm 1), summed and divided as in `IoULoss`."""

    name: ClassVar[str] = "giou"

    def per_pair(self, output: LossInput, target: LossTarget) -> Tensor:
        """(B,) loss of each pair; 0 for a pair without positive cells."""
        return _sum_over_positives(1.0 - giou(*boxes_at_positives(output, target)), target)


def iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Intersection over union, with broadcasting.

    Args:
        a_xyxy: (..., 4) float.
        b_xyxy: (..., 4) float, broadcastable to `a_xyxy`.

    Returns:
        (...) in [0, 1]. A box with x1 > x2 or y1 > y2 has area 0. The IoU of two boxes of area 0
        is 0, with finite gradients.
    """
    return _ratio_or_zero(*_intersection_and_union(a_xyxy, b_xyxy))


def giou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Generalized IoU (Rezatofighi et al. 2019, algorithm 1), shapes as in `iou`.

    GIoU = IoU - (|C| - |A u B|) / |C| in (-1, 1], where C is the smallest box that encloses A and
    B. Unlike the IoU it has a gradient when the boxes are apart.
    """
    intersection, union = _intersection_and_union(a_xyxy, b_xyxy)

    # Smallest enclosing box C.
    top_left = torch.minimum(a_xyxy[..., :2], b_xyxy[..., :2])
    bottom_right = torch.maximum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    enclosing = (bottom_right - top_left).clamp(min=0).prod(dim=-1)  # (...)

    return _ratio_or_zero(intersection, union) - _ratio_or_zero(enclosing - union, enclosing)


def _intersection_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(...) areas of the intersection and of the union."""
    wh = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    intersection = wh.clamp(min=0).prod(dim=-1)
    area_a = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(dim=-1)
    area_b = (b[..., 2:] - b[..., :2]).clamp(min=0).prod(dim=-1)
    return intersection, area_a + area_b - intersection


def _ratio_or_zero(part: Tensor, whole: Tensor) -> Tensor:
    """Part / whole, and 0 with zero gradient where the whole is 0."""
    # Both `where` are needed: the gradient of the branch not taken must be finite too.
    empty = whole <= 0
    return torch.where(empty, 0.0, part / torch.where(empty, 1.0, whole))


def ltrb_to_xyxy(ltrb: Tensor) -> Tensor:
    """(B, 4, R, R) distances to (B, R, R, 4) corners relative to the center of each cell."""
    left, top, right, bottom = ltrb.unbind(dim=1)
    return torch.stack([-left, -top, right, bottom], dim=-1)


def boxes_at_positives(output: LossInput, target: LossTarget) -> tuple[Tensor, Tensor]:
    """Predicted and true box of every cell, (B, R, R, 4) xyxy relative to the cell center.

    Cells that are not positive hold the same unit box in both. What is computed from them is finite
    and without gradient, so it can be masked out afterwards.
    """
    if output.ltrb_px is None or target.ltrb_px is None:
        lacking = "network gives" if output.ltrb_px is None else "labels hold"
        raise ConfigError(
            f"this loss compares boxes and the {lacking} no ltrb_px; use a network with a box "
            "head and anchor-free labels, or take the loss out of the configuration"
        )
    check_same_shape("output.ltrb_px", output.ltrb_px, "target.ltrb_px", target.ltrb_px)
    one_side = output.ltrb_px[:, :1]
    check_same_shape("output.ltrb_px of one side", one_side, "target.positive", target.positive)
    check_tensor("target.positive", target.positive, "(B, 1, R, R)", kind=torch.bool)

    # Distances at the positive cells, 1 px elsewhere.
    predicted = at_least_float32(output.ltrb_px)
    true = target.ltrb_px.to(predicted.dtype)
    predicted = torch.where(target.positive, predicted, 1.0)  # (B, 4, R, R)
    true = torch.where(target.positive, true, 1.0)
    return ltrb_to_xyxy(predicted), ltrb_to_xyxy(true)  # (B, R, R, 4)


def mean_positives(target: LossTarget, dtype: torch.dtype) -> Tensor:
    """`LossTarget.positives_per_pair`, or the mean of this batch; at least 1."""
    given = target.positives_per_pair
    if given is None:
        given = target.positive.sum().to(dtype) / max(len(target.positive), 1)
    return torch.as_tensor(given, dtype=dtype, device=target.positive.device).clamp(min=1)


def _sum_over_positives(values: Tensor, target: LossTarget) -> Tensor:
    """(B, R, R) values to the (B,) sum over positive cells per mean number of positive cells."""
    values = torch.where(target.positive[:, 0], values, 0.0)
    return values.sum(dim=(1, 2)) / mean_positives(target, values.dtype)
