"""The weighted sum of losses that section [loss] of a configuration describes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from torch import Tensor

from siamtrack.errors import ConfigError
from siamtrack.losses.base import Loss, LossInput, LossTarget
from siamtrack.losses.boxes import GIoULoss, IoULoss
from siamtrack.losses.metric import ContrastiveLoss, EuclideanLoss, TripletLoss
from siamtrack.losses.online_filter import FilterLoss
from siamtrack.losses.response import BalancedLogisticLoss, FocalLoss, IoUAwareLoss
from siamtrack.utils.config import build, check_number

_RESPONSE_AND_BOXES = (BalancedLogisticLoss, FocalLoss, IoUAwareLoss, IoULoss, GIoULoss)
_METRIC = (ContrastiveLoss, TripletLoss, EuclideanLoss)
LOSSES: Mapping[str, type[Loss]] = MappingProxyType(
    {loss.name: loss for loss in (*_RESPONSE_AND_BOXES, *_METRIC, FilterLoss)}
)
"""Every loss by its name in a configuration."""


@dataclass(frozen=True, slots=True)
class Term:
    """One loss of a weighted sum."""

    name: str
    weight: float
    loss: Loss


@dataclass(frozen=True, slots=True)
class CombinedLoss:
    """Weighted sum of losses; callable like one loss."""

    terms: tuple[Term, ...]

    @property
    def needs_embeddings(self) -> bool:
        """Whether a term reads embeddings; the training step computes them only then."""
        return any(term.loss.needs_embeddings for term in self.terms)

    @property
    def needs_filter(self) -> bool:
        """Whether a term reads the features of the online filter."""
        return any(term.loss.needs_filter for term in self.terms)

    def __call__(self, output: LossInput, target: LossTarget) -> Tensor:
        """Scalar weighted sum."""
        return self.evaluate(output, target)[0]

    def evaluate(self, output: LossInput, target: LossTarget) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum, and for the log each term before its weight, detached."""
        values = {term.name: term.loss(output, target) for term in self.terms}
        first, *others = (term.weight * values[term.name] for term in self.terms)
        return sum(others, start=first), {name: value.detach() for name, value in values.items()}


def build_loss(config: Mapping[str, float | Mapping[str, Any]]) -> CombinedLoss:
    """Make a weighted sum of losses.

    Args:
        config: for each loss by name either its weight or a table of its weight (1 if not given)
            and options: `{"logistic": 1.0, "triplet": {"weight": 0.1, "margin": 0.3}}`. The
            options are the fields of the classes in `LOSSES`. Weight 0 leaves a loss out.

    Raises:
        ConfigError: an unknown loss or option, a value out of range, or no loss left.
    """
    terms = []
    for name, given in config.items():
        if name not in LOSSES:
            raise ConfigError.unknown("loss", name, LOSSES)
        options = dict(given) if isinstance(given, Mapping) else {"weight": given}

        # 1. The options must be those of the loss.
        known = {"weight", *(field.name for field in fields(LOSSES[name]))}
        for option in options:
            if option not in known:
                raise ConfigError.unknown(f"option of the loss {name}", option, known)
        if options.get("reduction") == "none":
            raise ConfigError(
                f'the loss {name} has reduction "none" and a sum of losses needs one number; use '
                '"mean" or "sum"'
            )

        # 2. Check the weight and every option, also of losses that weight 0 leaves out.
        weight = options.pop("weight", 1.0)
        check_number(f"weight of the loss {name}", weight, 0.0, below=math.inf)
        loss = build(LOSSES[name], options, where=f"loss.{name}")
        if weight > 0:
            terms.append(Term(name, float(weight), loss))
    if not terms:
        raise ConfigError(
            f"the losses {dict(config)!r} leave nothing to train on; give at least one loss a "
            f"positive weight, of {', '.join(LOSSES)}"
        )
    return CombinedLoss(tuple(terms))
