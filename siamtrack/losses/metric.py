"""Metric losses: what lies near what in the space of embeddings.

Each loss has two doors. `of_pairs` or `of_triplets` take the embeddings themselves. Called like any
other loss, on output and target, it first chooses pairs or triplets from the batch's regions.

With several processes, each chooses among the regions of its own part of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

import numpy as np
import torch
from torch import Tensor

from siamtrack.errors import ConfigError, TrainingError
from siamtrack.losses.distances import Distance, all_distances, pair_distance
from siamtrack.losses.mining import Mining, mine_triplets, sample_pairs
from siamtrack.losses.signature import (
    Reduction,
    TrackingOutput,
    TrackingTarget,
    check_choice,
    check_count,
    check_number,
    reduce_values,
)


@dataclass(frozen=True, kw_only=True)
class _MetricLoss:
    """Options of all metric losses.

    Attributes:
        distance: see `pair_distance`.
        reduction: "mean" over the pairs or triplets, "sum", or "none".
    """

    distance: Distance = "euclidean"
    reduction: Reduction = "mean"

    needs_boxes: ClassVar[bool] = False
    needs_embeddings: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the options."""
        check_choice("distance", self.distance, get_args(Distance))
        check_choice("reduction", self.reduction, get_args(Reduction))


@dataclass(frozen=True, kw_only=True)
class ContrastiveLoss(_MetricLoss):
    """Same targets together, different ones at least a margin apart.

    1/2 d^2 for a pair of the same target, 1/2 max(margin - d, 0)^2 for one of different targets
    (Hadsell, Chopra and LeCun 2006, eq. 4).

    Attributes:
        margin: raising it pushes different targets farther apart; positive, in the unit of the
            distance. Unit vectors are at most 2 apart.
    """

    margin: float = 1.0

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_number("margin of the contrastive loss", self.margin, 0.0)

    def of_pairs(
        self, anchor: Tensor, other: Tensor, same: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Loss of given pairs.

        Args:
            anchor: (M, D).
            other: (M, D).
            same: (M,) bool, True where anchor and other show the same target.
            weight: (M,) factor on each pair.
        """
        _check_same_flags(same, anchor)
        d = pair_distance(anchor, other, self.distance)
        values = torch.where(same, d, (self.margin - d).clamp(min=0)).square() / 2
        return reduce_values(values, weight, self.reduction)

    def __call__(self, output: TrackingOutput, target: TrackingTarget) -> Tensor:
        """Loss of as many pairs of the same as of different targets, drawn from the batch."""
        embeddings, identities = _regions(output, target)
        rng = np.random.default_rng(target.seed)
        pairs, same = sample_pairs(identities.cpu().numpy(), None, rng)
        anchor, other = _take(embeddings, torch.from_numpy(pairs))
        return self.of_pairs(anchor, other, torch.from_numpy(same).to(embeddings.device))


@dataclass(frozen=True, kw_only=True)
class EuclideanLoss(_MetricLoss):
    """(d - alpha)^2 over the pairs of the same target.

    Nothing in it keeps different targets apart: alone it is best served by one constant embedding,
    so it belongs beside another loss.

    Attributes:
        alpha: distance that two views of one target are meant to have; 0 makes them the same.
    """

    alpha: float = 0.0

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_number("alpha of the euclidean loss", self.alpha, 0.0)

    def of_pairs(
        self, anchor: Tensor, other: Tensor, same: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Loss of those of the given pairs that are the same; arguments as `ContrastiveLoss`."""
        _check_same_flags(same, anchor)
        d = pair_distance(anchor[same], other[same], self.distance)
        kept = None if weight is None else weight[same]
        return reduce_values((d - self.alpha).square(), kept, self.reduction)

    def __call__(self, output: TrackingOutput, target: TrackingTarget) -> Tensor:
        """Loss of all pairs of the same target in the batch."""
        embeddings, identities = _regions(output, target)
        first, second = torch.triu_indices(
            len(identities), len(identities), offset=1, device=embeddings.device
        )
        same = identities[first] == identities[second]
        return self.of_pairs(embeddings[first], embeddings[second], same)


@dataclass(frozen=True, kw_only=True)
class TripletLoss(_MetricLoss):
    """max(d(a, p) - d(a, n) + margin, 0): FaceNet's (Schroff et al. 2015, eq. 3), d squared there.

    Attributes:
        margin: how much farther another target must be than another view of the same one;
            positive, in the unit of the distance.
        mining: see `mine_triplets`; or "offline", the triplets that come with the target.
        max_triplets: of more triplets than this in a batch, as many are drawn at random.
        active_only: average over the triplets that violate the margin instead of all of them.
            With "batch-all" most triplets are soon in order and would drown the rest (Hermans et
            al. 2017, section 2).
    """

    distance: Distance = "squared"
    margin: float = 0.2
    mining: Mining = "semi-hard"
    max_triplets: int = 4096
    active_only: bool = False

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_number("margin of the triplet loss", self.margin, 0.0)
        check_count("max_triplets of the triplet loss", self.max_triplets)
        check_choice("mining", self.mining, get_args(Mining))
        if not isinstance(self.active_only, bool):
            raise ConfigError(f"active_only is {self.active_only!r}; give true or false")

    def of_triplets(
        self, anchor: Tensor, positive: Tensor, negative: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Loss of given triplets.

        Args:
            anchor: (T, D).
            positive: (T, D), the same target as the anchor.
            negative: (T, D), another target.
            weight: (T,) factor on each triplet.
        """
        to_positive = pair_distance(anchor, positive, self.distance)
        to_negative = pair_distance(anchor, negative, self.distance)
        values = (to_positive - to_negative + self.margin).relu()
        if self.active_only:
            active = values > 0
            values, weight = values[active], None if weight is None else weight[active]
        return reduce_values(values, weight, self.reduction)

    def __call__(self, output: TrackingOutput, target: TrackingTarget) -> Tensor:
        """Loss of the triplets that the mining chooses from the batch."""
        embeddings, identities = _regions(output, target)
        if self.mining == "offline":
            triplets = target.triplets
            if triplets is None:
                raise ConfigError(
                    'the triplet loss has mining = "offline" and the data brings no triplets; '
                    "sample them with the data, or mine from the batch with another mining"
                )
        else:
            with torch.no_grad():
                distances = all_distances(embeddings, self.distance)
            triplets = mine_triplets(
                self.mining,
                distances,
                identities,
                margin=self.margin,
                max_triplets=self.max_triplets,
                rng=np.random.default_rng(target.seed),
            )
        return self.of_triplets(*_take(embeddings, triplets))


def _regions(output: TrackingOutput, target: TrackingTarget) -> tuple[Tensor, Tensor]:
    if output.embeddings is None or target.identities is None:
        lacking = "network gives no embeddings" if output.embeddings is None else "batch names none"
        raise ConfigError(
            f"a metric loss compares embeddings of regions with known identities and the {lacking};"
            " use a network with embeddings, or take the loss out of the configuration"
        )
    if output.embeddings.ndim != 2 or target.identities.shape != output.embeddings.shape[:1]:
        raise TrainingError(
            f"embeddings have shape {tuple(output.embeddings.shape)} and identities "
            f"{tuple(target.identities.shape)}; give (N, D) and (N,)"
        )
    return output.embeddings, target.identities


def _take(embeddings: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
    """Embeddings of each column of an (M, k) table of rows: k tensors (M, D)."""
    return tuple(embeddings[column] for column in rows.to(embeddings.device).unbind(dim=1))


def _check_same_flags(same: Tensor, anchor: Tensor) -> None:
    if same.dtype != torch.bool or same.shape != anchor.shape[:1]:
        raise TrainingError(
            f"same has type {same.dtype} and shape {tuple(same.shape)}; give one bool per pair, "
            f"shape {tuple(anchor.shape[:1])}, True for two views of one target"
        )
