"""What every loss takes and gives: one signature for response, box and metric losses.

A loss is called as `loss(output, target)` and returns a scalar. Nothing in a target is a number
whose meaning has to be remembered: positive cells, background cells and identities each have a
field of their own.

All losses compute in float32 (float64 if given) whatever the network computed in, and use no
operation that autocast would lower, so they can be called inside or outside of an autocast block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Protocol, get_args

import torch
from torch import Tensor

from siamtrack.errors import ConfigError, TrainingError

Reduction = Literal["mean", "sum", "none"]


@dataclass(frozen=True, slots=True)
class TrackingOutput:
    """What the network said about a batch of B pairs, and the embeddings of the regions in it.

    Attributes:
        score_logits: (B, 1, R, R) logit that the target is at the cell.
        ltrb_px: (B, 4, R, R) distances from the cell centre to the left, top, right and bottom
            of the box in search px, all positive; None for a network without a box head.
        embeddings: (N, D) one row per target region, any number of regions per pair; None when no
            metric loss is used.
    """

    score_logits: Tensor
    ltrb_px: Tensor | None = None
    embeddings: Tensor | None = None


@dataclass(frozen=True, slots=True)
class TrackingTarget:
    """The truth about a batch of B pairs. A cell neither positive nor background is ignored.

    Attributes:
        positive: (B, 1, R, R) bool, the target is at the cell. None are in a negative pair.
        background: (B, 1, R, R) bool, the target is not at the cell.
        ltrb_px: (B, 4, R, R) true distances at the positive cells in search px, 0 elsewhere.
            Negative where a positive cell's centre lies outside a very small box.
        identities: (N,) int64, one per row of `TrackingOutput.embeddings`: rows with equal
            identity show the same target.
        triplets: (T, 3) int64 rows of the embeddings (anchor, positive, negative), for a triplet
            loss whose triplets were sampled together with the data.
        pair_weight: (B,) factor on each pair in the response and box losses; 0 removes a pair.
        positives_per_pair: mean number of positive cells per pair, by which summed losses are
            divided. None: that of this batch. With several processes, the mean over all of them
            makes the averaged gradient that of one process with the joined batch.
        seed: for whatever a loss draws at random from this batch, so that a resumed run draws the
            same; the step number does, plus the rank where there are several processes.
    """

    positive: Tensor
    background: Tensor
    ltrb_px: Tensor | None = None
    identities: Tensor | None = None
    triplets: Tensor | None = None
    pair_weight: Tensor | None = None
    positives_per_pair: Tensor | float | None = None
    seed: int = 0

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> TrackingTarget:
        """Copy all tensors to a device; see `torch.Tensor.to` for `non_blocking`."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                moved[field.name] = value.to(device, non_blocking=non_blocking)
        return replace(self, **moved)


class Loss(Protocol):
    """A term of the training objective.

    Attributes:
        needs_boxes: uses `ltrb_px` of output and target.
        needs_embeddings: uses `embeddings` of the output and `identities` of the target.
    """

    needs_boxes: ClassVar[bool]
    needs_embeddings: ClassVar[bool]

    def __call__(self, output: TrackingOutput, target: TrackingTarget) -> Tensor:
        """Scalar loss of the batch, float32 or float64, differentiable also when it is 0."""
        ...


@dataclass(frozen=True, kw_only=True)
class PerPairLoss:
    """Base of the losses that give one value per pair: response and box losses.

    Attributes:
        reduction: "mean" over the pairs of the batch, "sum", or "none" for the (B,) values.
    """

    reduction: Reduction = "mean"

    needs_boxes: ClassVar[bool] = False
    needs_embeddings: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the options."""
        check_choice("reduction", self.reduction, get_args(Reduction))

    def per_pair(self, output: TrackingOutput, target: TrackingTarget) -> Tensor:
        """(B,) loss of each pair, before `pair_weight` and the reduction."""
        raise NotImplementedError

    def __call__(self, output: TrackingOutput, target: TrackingTarget) -> Tensor:
        """Weighted and reduced loss of the batch."""
        return reduce_values(self.per_pair(output, target), target.pair_weight, self.reduction)


def reduce_values(values: Tensor, weight: Tensor | None, reduction: Reduction) -> Tensor:
    """Weight and reduce the values of pairs or triplets.

    Args:
        values: (N,), N may be 0.
        weight: (N,) factors or None for all 1.
        reduction: "mean" divides by N, not by the sum of weights, so that the mean over equal
            parts of a batch is the mean over the batch; the mean of nothing is 0. "sum" or "none".

    Returns:
        Scalar, or (N,) for "none".
    """
    check_choice("reduction", reduction, get_args(Reduction))
    if weight is not None:
        check_same_shape("weight", weight, "values", values)
        values = values * weight.to(values.dtype)
    if reduction == "none":
        return values
    total = values.sum()
    return total / max(values.numel(), 1) if reduction == "mean" else total


def at_least_float32(tensor: Tensor) -> Tensor:
    """Give float64 back as it is and everything else as float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ConfigError with the nearest spelling unless `value` is one of `choices`."""
    if value not in choices:
        raise ConfigError.unknown(name, value, choices)


def check_number(
    name: str, value: object, least: float = -math.inf, most: float = math.inf
) -> None:
    """Raise ConfigError unless `value` is a finite number in [least, most]."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not least <= value <= most:  # type: ignore[arg-type, operator]
        raise ConfigError(f"{name} is {value!r}; give a finite number in [{least:g}, {most:g}]")


def check_count(name: str, value: object) -> None:
    """Raise ConfigError unless `value` is a whole number, at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} is {value!r}; give a whole number, at least 1")


def check_same_shape(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Raise TrainingError unless both tensors have the same shape."""
    if tensor.shape != other.shape:
        raise TrainingError(
            f"{name} has shape {tuple(tensor.shape)} and {other_name} {tuple(other.shape)}; "
            "both must be the same, so labels must be made for this network's response size"
        )
