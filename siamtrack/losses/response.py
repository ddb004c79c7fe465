"""Losses of the response map: is the target at this cell or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from siamtrack.losses.base import (
    PerPairLoss,
    TrackingOutput,
    TrackingTarget,
    at_least_float32,
    check_number,
    check_same_shape,
)
from siamtrack.losses.boxes import boxes_at_positives, iou, mean_positives

_CELLS = (1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class BalancedLogisticLoss(PerPairLoss):
    """SiamFC's loss: the mean of log(1 + exp(-y v)) over the response v.

    Bertinetto et al. 2016, eq. 1-2, where y is 1 at the target and -1 elsewhere.

    In each pair the positive cells together weigh as much as the background cells together. A
    pair with only one of the two, e.g. a negative pair, puts its whole weight on that one.
    """

    def per_pair(self, output: TrackingOutput, target: TrackingTarget) -> Tensor:
        """(B,) loss of each pair; 0 for a pair whose cells are all ignored."""
        logits = _logits(output, target)
        at_target = _masked_mean(-logsigmoid(logits), target.positive)
        at_background = _masked_mean(-logsigmoid(-logits), target.background)
        has_target = target.positive.flatten(1).any(dim=1)
        has_background = target.background.flatten(1).any(dim=1)
        return (at_target + at_background) * torch.where(has_target & has_background, 0.5, 1.0)


@dataclass(frozen=True, kw_only=True)
class FocalLoss(PerPairLoss):
    """Focal loss (Lin et al. 2017, eq. 5), divided by the mean number of positives per pair.

    Attributes:
        alpha: weight of the positive cells, 1 - alpha that of the background, in [0, 1].
        gamma: raising it takes weight from cells that are already right; 0 is cross-entropy.
    """

    alpha: float = 0.25
    gamma: float = 2.0

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_number("alpha of the focal loss", self.alpha, 0.0, 1.0)
        check_number("gamma of the focal loss", self.gamma, 0.0)

    def per_pair(self, output: TrackingOutput, target: TrackingTarget) -> Tensor:
        """(B,) loss of each pair."""
        logits = _logits(output, target)
        log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)
        # exp(gamma log p) keeps the gradient finite where p underflows and gamma < 1.
        at_target = -self.alpha * torch.exp(self.gamma * log_not_p) * log_p
        at_background = -(1 - self.alpha) * torch.exp(self.gamma * log_p) * log_not_p
        cells = _pick(at_target, target.positive) + _pick(at_background, target.background)
        return cells.sum(dim=_CELLS) / mean_positives(target, cells.dtype)


@dataclass(frozen=True, kw_only=True)
class IoUAwareLoss(PerPairLoss):
    """Varifocal loss (Zhang et al. 2021, eq. 2): the score learns the overlap of the cell's box.

    At a positive cell, cross-entropy towards the IoU q of the predicted with the true box, weighted
    by q; q is a constant here, the boxes learn from their own loss. At a background cell, the
    cross-entropy towards 0 weighted by alpha p^gamma. The sum over the cells is divided by the
    mean number of positives per pair.

    Attributes:
        alpha: weight of the background, at least 0; raising it lowers scores beside the target.
        gamma: raising it leaves only confident mistakes on the background any weight.
    """

    alpha: float = 0.75
    gamma: float = 2.0

    needs_boxes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_number("alpha of the iou_aware loss", self.alpha, 0.0)
        check_number("gamma of the iou_aware loss", self.gamma, 0.0)

    def per_pair(self, output: TrackingOutput, target: TrackingTarget) -> Tensor:
        """(B,) loss of each pair."""
        logits = _logits(output, target)
        with torch.no_grad():
            quality = iou(*boxes_at_positives(output, target)).unsqueeze(1).to(logits.dtype)
        log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)
        at_target = -quality * (quality * log_p + (1 - quality) * log_not_p)
        at_background = -self.alpha * torch.exp(self.gamma * log_p) * log_not_p
        cells = _pick(at_target, target.positive) + _pick(at_background, target.background)
        return cells.sum(dim=_CELLS) / mean_positives(target, cells.dtype)


def _logits(output: TrackingOutput, target: TrackingTarget) -> Tensor:
    check_same_shape("score_logits", output.score_logits, "target.positive", target.positive)
    check_same_shape("target.background", target.background, "target.positive", target.positive)
    return at_least_float32(output.score_logits)


def _pick(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, 0.0)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(B,) mean of the (B, 1, R, R) values where the mask is set, 0 where it is set nowhere."""
    return _pick(values, mask).sum(dim=_CELLS) / mask.sum(dim=_CELLS).clamp(min=1)
