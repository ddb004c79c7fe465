"""Weighted sums of losses, from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from torch import Tensor

from siamtrack.errors import ConfigError
from siamtrack.losses.base import Loss, TrackingOutput, TrackingTarget, check_number
from siamtrack.losses.boxes import GIoULoss, IoULoss
from siamtrack.losses.metric import ContrastiveLoss, EuclideanLoss, TripletLoss
from siamtrack.losses.response import BalancedLogisticLoss, FocalLoss, IoUAwareLoss

LOSSES: Mapping[str, type[Any]] = MappingProxyType(
    {
        "logistic": BalancedLogisticLoss,
        "focal": FocalLoss,
        "iou_aware": IoUAwareLoss,
        "iou": IoULoss,
        "giou": GIoULoss,
        "contrastive": ContrastiveLoss,
        "triplet": TripletLoss,
        "euclidean": EuclideanLoss,
    }
)
"""Every loss by the name that the configuration knows it by."""


@dataclass(frozen=True, slots=True)
class Term:
    """One loss of a weighted sum."""

    name: str
    weight: float
    loss: Loss


@dataclass(frozen=True, slots=True)
class CombinedLoss:
    """Weighted sum of losses; itself callable like a loss."""

    terms: tuple[Term, ...]

    @property
    def needs_boxes(self) -> bool:
        """Whether a term uses predicted boxes."""
        return any(term.loss.needs_boxes for term in self.terms)

    @property
    def needs_embeddings(self) -> bool:
        """Whether a term uses embeddings, so that the trainer can do without them otherwise."""
        return any(term.loss.needs_embeddings for term in self.terms)

    def __call__(self, output: TrackingOutput, target: TrackingTarget) -> Tensor:
        """Scalar weighted sum."""
        return self.evaluate(output, target)[0]

    def evaluate(
        self, output: TrackingOutput, target: TrackingTarget
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum, and each term before its weight, detached, for the log."""
        values = {term.name: term.loss(output, target) for term in self.terms}
        weighted = [term.weight * values[term.name] for term in self.terms]
        total = weighted[0]
        for value in weighted[1:]:
            total = total + value
        return total, {name: value.detach() for name, value in values.items()}


def build_loss(config: Mapping[str, float | Mapping[str, Any]]) -> CombinedLoss:
    """Make a weighted sum of losses.

    Args:
        config: for each loss by name either its weight or a table of its weight (1 if not given)
            and options: `{"logistic": 1.0, "triplet": {"weight": 0.1, "margin": 0.3}}`. The
            options are the attributes of the classes in `LOSSES`. Weight 0 leaves a loss out.

    Raises:
        ConfigError: an unknown loss or option, a value out of range, or no loss left.
    """
    terms = []
    for name, given in config.items():
        if name not in LOSSES:
            raise ConfigError.unknown("loss", name, LOSSES)
        options = dict(given) if isinstance(given, Mapping) else {"weight": given}
        weight = options.pop("weight", 1.0)
        check_number(f"weight of the loss {name}", weight, 0.0)
        loss = _build_term(name, options)
        if weight > 0:
            terms.append(Term(name, float(weight), loss))
    if not terms:
        raise ConfigError(
            f"the losses {dict(config)!r} leave nothing to train on; give at least one loss a "
            f"positive weight, of {', '.join(LOSSES)}"
        )
    return CombinedLoss(tuple(terms))


def _build_term(name: str, options: dict[str, Any]) -> Loss:
    known = {field.name for field in fields(LOSSES[name])}
    for option in options:
        if option not in known:
            raise ConfigError.unknown(f"option of the loss {name}", option, {*known, "weight"})
    if options.get("reduction") == "none":
        raise ConfigError(
            f'the loss {name} has reduction "none" and a sum of losses needs one number; use '
            '"mean" or "sum"'
        )
    loss: Loss = LOSSES[name](**options)
    return loss
