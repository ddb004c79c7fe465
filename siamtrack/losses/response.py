"""Losses of the score map: is the target at this cell or not.

Every loss gets logits v (B, 1, R, R) and two masks of the same shape, positive and background.
Cells in neither mask are ignored. p = sigmoid(v).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from siamtrack.losses.base import (
    LossInput,
    LossTarget,
    PerPairLoss,
    at_least_float32,
    check_same_shape,
    check_tensor,
)
from siamtrack.losses.boxes import boxes_at_positives, iou, mean_positives
from siamtrack.utils.config import ranged

_CELLS = (1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class BalancedLogisticLoss(PerPairLoss):
    """Logistic loss of SiamFC (Bertinetto et al. 2016, eq. 1 and 2), balanced.

    log(1 + exp(-y v)) with y = 1 at positive and -1 at background cells. The mean over the positive
    cells and the mean over the background cells each weigh one half. A pair with only one of the
    two, such as a negative pair, puts its whole weight on that one.
    """

    name: ClassVar[str] = "logistic"

    def per_pair(self, output: LossInput, target: LossTarget) -> Tensor:
        """(B,) loss; 0 for a pair whose cells are all ignored."""
        logits = _checked_logits(output, target)  # (B, 1, R, R)

        # log(1 + exp(-y v)) = -logsigmoid(y v), averaged over the cells of each label.
        on_positive = _masked_mean(-logsigmoid(logits), target.positive)  # (B,)
        on_background = _masked_mean(-logsigmoid(-logits), target.background)  # (B,)

        # Balance: half the weight each, all of it where only one kind of cell exists.
        has_positive = target.positive.flatten(1).any(dim=1)
        has_background = target.background.flatten(1).any(dim=1)
        weight = torch.where(has_positive & has_background, 0.5, 1.0)
        return (on_positive + on_background) * weight


@dataclass(frozen=True, kw_only=True)
class FocalLoss(PerPairLoss):
    """Focal loss (Lin et al. 2017, eq. 5).

    -alpha (1 - p)^gamma log p at positive cells, -(1 - alpha) p^gamma log(1 - p) at background
    cells. The sum over the cells is divided by the mean number of positive cells per pair.

    Attributes:
        alpha: weight of the positive cells, 1 - alpha that of the background, in [0, 1].
        gamma: raising it takes weight from cells that are already right; 0 is cross-entropy.
    """

    name: ClassVar[str] = "focal"

    alpha: float = ranged(0.25, 0.0, 1.0)
    gamma: float = ranged(2.0, 0.0, below=math.inf)

    def per_pair(self, output: LossInput, target: LossTarget) -> Tensor:
        """(B,) loss of each pair."""
        logits = _checked_logits(output, target)  # (B, 1, R, R)
        log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)

        # p^gamma as exp(gamma log p): its gradient stays finite where p underflows and gamma < 1.
        on_positive = -self.alpha * torch.exp(self.gamma * log_not_p) * log_p
        on_background = -(1 - self.alpha) * torch.exp(self.gamma * log_p) * log_not_p

        return _sum_per_positive(on_positive, on_background, target)


@dataclass(frozen=True, kw_only=True)
class IoUAwareLoss(PerPairLoss):
    """Varifocal loss (Zhang et al. 2021, eq. 2): the score learns the IoU q of the cell's box.

    -q (q log p + (1 - q) log(1 - p)) at positive cells, -alpha p^gamma log(1 - p) at background
    cells. No gradient flows through q: the boxes have their own loss. The sum over the cells is
    divided by the mean number of positive cells per pair.

    Attributes:
        alpha: weight of the background; raising it lowers scores beside the target.
        gamma: raising it takes weight from background cells whose score is already low.
    """

    name: ClassVar[str] = "iou_aware"

    alpha: float = ranged(0.75, 0.0, below=math.inf)
    gamma: float = ranged(2.0, 0.0, below=math.inf)

    def per_pair(self, output: LossInput, target: LossTarget) -> Tensor:
        """(B,) loss of each pair."""
        logits = _checked_logits(output, target)  # (B, 1, R, R)
        log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)

        # Label of the positive cells: IoU of the predicted box, taken as a constant.
        with torch.no_grad():
            quality = iou(*boxes_at_positives(output, target))  # (B, R, R)
            quality = quality.unsqueeze(1).to(logits.dtype)  # (B, 1, R, R)

        on_positive = -quality * (quality * log_p + (1 - quality) * log_not_p)
        on_background = -self.alpha * torch.exp(self.gamma * log_p) * log_not_p

        return _sum_per_positive(on_positive, on_background, target)


def _checked_logits(output: LossInput, target: LossTarget) -> Tensor:
    check_same_shape("score_logits", output.score_logits, "target.positive", target.positive)
    check_same_shape("target.background", target.background, "target.positive", target.positive)
    for name in ("positive", "background"):
        check_tensor(f"target.{name}", getattr(target, name), "(B, 1, R, R)", kind=torch.bool)
    return at_least_float32(output.score_logits)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(B,) mean of (B, 1, R, R) values where the mask is set; 0 where it is set nowhere."""
    total = torch.where(mask, values, 0.0).sum(dim=_CELLS)
    return total / mask.sum(dim=_CELLS).clamp(min=1)


def _sum_per_positive(on_positive: Tensor, on_background: Tensor, target: LossTarget) -> Tensor:
    """(B,) sum over the labelled cells, divided by the mean number of positive cells per pair."""
    cells = torch.where(target.positive, on_positive, 0.0)
    cells = cells + torch.where(target.background, on_background, 0.0)  # (B, 1, R, R)
    return cells.sum(dim=_CELLS) / mean_positives(target, cells.dtype)
