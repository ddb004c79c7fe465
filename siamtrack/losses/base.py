"""The interface of all losses: `loss(output, target)` is a scalar.

Positive cells, background cells and identities have a field each, so no label is a magic number.
Losses compute in float32 (float64 if given) whatever the network computed in. They use no operation
that autocast lowers, so they give the same value inside and outside of an autocast block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from siamtrack.errors import TrainingError
from siamtrack.utils.config import check_choice, check_ranges

Reduction = Literal["mean", "sum", "none"]


@dataclass(frozen=True, slots=True)
class LossInput:
    """The network's output for a batch of B pairs.

    Attributes:
        score_logits: (B, 1, R, R) logit that the target is at the cell.
        ltrb_px: (B, 4, R, R) distances from the cell center to the left, top, right and bottom
            of the box in search px, all positive; None for a network without a box head.
        embeddings: (N, D) one row per region, any number of regions per pair; None when no
            metric loss is used.
        filter_features: (B, M + 1, C, R, R) unit-length features of the M memory windows of each
            pair and, last, of its search crop; None when no loss of the online filter is used.
    """

    score_logits: Tensor
    ltrb_px: Tensor | None = None
    embeddings: Tensor | None = None
    filter_features: Tensor | None = None


@dataclass(frozen=True, slots=True)
class LossTarget:
    """The labels of a batch of B pairs. A cell neither positive nor background is ignored.

    Attributes:
        positive: (B, 1, R, R) bool, the target is at the cell. A negative pair has none.
        background: (B, 1, R, R) bool, the target is not at the cell.
        ltrb_px: (B, 4, R, R) true distances at the positive cells in search px, 0 elsewhere.
            Negative where the center of a positive cell lies outside a very small box.
        identities: (N,) int64, one per row of `LossInput.embeddings`: rows of equal identity show
            the same target.
        triplets: (T, 3) int64 rows of the embeddings (anchor, positive, negative), for a triplet
            loss with "offline" mining.
        pair_weight: (B,) factor on each pair in the response and box losses; 0 removes a pair.
        positives_per_pair: mean number of positive cells per pair, by which summed losses are
            divided; None takes that of this batch. With the mean over several processes their
            averaged gradient is that of one process with the joined batch.
        seed: of the random draws of a loss; one that depends on the step alone makes a resumed run
            draw the same.
        filter_centers_xy: (B, M + 1, 2) centers of the targets in `LossInput.filter_features`, in
            cells: (0, 0) is the middle of the first cell.
    """

    positive: Tensor
    background: Tensor
    ltrb_px: Tensor | None = None
    identities: Tensor | None = None
    triplets: Tensor | None = None
    pair_weight: Tensor | None = None
    positives_per_pair: Tensor | float | None = None
    seed: int = 0
    filter_centers_xy: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Base of all losses: options are fields, checked by `check_ranges`.

    Attributes:
        name: key of the loss in section [loss] of a configuration.
        needs_embeddings: whether it reads `embeddings` of the output, `identities` of the target.
        needs_filter: whether it reads `filter_features` of the output and `filter_centers_xy` of
            the target.
        reduction: "mean" over pairs or triplets, "sum", or "none" for one value each.
    """

    name: ClassVar[str]
    needs_embeddings: ClassVar[bool] = False
    needs_filter: ClassVar[bool] = False

    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        check_ranges(self, f"loss.{self.name}.")
        check_choice("reduction", self.reduction, get_args(Reduction))

    def __call__(self, output: LossInput, target: LossTarget) -> Tensor:
        """Scalar loss of the batch, float32 or float64, differentiable even where it is 0."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class PerPairLoss(Loss):
    """Base of the response and box losses, which give one value per pair."""

    def per_pair(self, output: LossInput, target: LossTarget) -> Tensor:
        """(B,) loss of each pair, before `pair_weight` and the reduction."""
        raise NotImplementedError

    def __call__(self, output: LossInput, target: LossTarget) -> Tensor:
        """Weighted and reduced loss of the batch."""
        return reduce_values(self.per_pair(output, target), target.pair_weight, self.reduction)


def reduce_values(values: Tensor, weight: Tensor | None, reduction: Reduction) -> Tensor:
    """Weight and reduce the (N,) values of pairs or triplets; the mean of nothing is 0."""
    if weight is not None:
        check_same_shape("weight", weight, "values", values)
        values = values * weight.to(values.dtype)
    if reduction == "none":
        return values
    total = values.sum()
    # Not divided by the sum of weights: the mean over equal parts of a batch is that of the batch.
    return total / max(values.numel(), 1) if reduction == "mean" else total


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor as float32; float64 stays float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def check_tensor(name: str, value: object, need: str, *, kind: torch.dtype | None = None) -> None:
    """Raise TrainingError unless a value is a tensor, of type `kind` where that is given."""
    if not isinstance(value, Tensor):
        raise TrainingError(f"{name} is a {type(value).__name__}; give a tensor, {need}")
    if kind is not None and value.dtype != kind:
        raise TrainingError(f"{name} has type {value.dtype}; give {kind}, {need}")


def check_same_shape(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Raise TrainingError unless both are tensors of the same shape."""
    check_tensor(name, tensor, f"of the shape of {other_name}")
    check_tensor(other_name, other, f"of the shape of {name}")
    if tensor.shape != other.shape:
        raise TrainingError(
            f"{name} has shape {tuple(tensor.shape)} and {other_name} {tuple(other.shape)}; "
            "both must be the same, so labels must be made for this network's response size"
        )
