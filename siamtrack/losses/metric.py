"""Distances between embeddings, behind one `distance` argument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from siamtrack.errors import ConfigError, TrainingError
from siamtrack.losses.base import (
    Reduction,
    TrackingOutput,
    TrackingTarget,
    at_least_float32,
    check_choice,
    check_count,
    check_number,
    reduce_values,
)
from siamtrack.losses.mining import Mining, mine_triplets, sample_pairs

Distance = Literal["euclidean", "squared", "manhattan", "cosine"]


def pair_distance(a: Tensor, b: Tensor, distance: Distance = "euclidean") -> Tensor:
    """Distance along the last axis, with broadcasting over the others.

    Gradients are finite everywhere: where the Euclidean or the Manhattan distance has a kink, at
    identical inputs, it is 0.

    Args:
        a: (..., D) embeddings of any float dtype.
        b: (..., D), broadcastable to `a`.
        distance: "euclidean" |a - b|, "squared" |a - b|^2, "manhattan" sum of |a_i - b_i|, or
            "cosine" 1 - cos(a, b) in [0, 2], where a vector of zeros is at 1 from everything.

    Returns:
        (...) float32 (float64 if given), not negative.

    Raises:
        ConfigError: no such distance.
    """
    check_choice("distance", distance, get_args(Distance))
    a, b = at_least_float32(a), at_least_float32(b)
    if distance == "cosine":
        norms = _length(a) * _length(b)
        cosine = (a * b).sum(dim=-1) / torch.where(norms > 0, norms, 1.0)
        return (1.0 - cosine).clamp(min=0)
    difference = a - b
    if distance == "manhattan":
        return difference.abs().sum(dim=-1)
    if distance == "squared":
        return difference.square().sum(dim=-1)
    return _length(difference)


def all_distances(embeddings: Tensor, distance: Distance = "euclidean") -> Tensor:
    """(N, D) embeddings to the (N, N) distances between all of them.

    Differences are formed one by one: the usual shortcut over a matrix product is inexact where
    it matters, between near neighbours, and autocast would make it coarser still.
    """
    return pair_distance(embeddings[:, None], embeddings[None], distance)


def _length(vectors: Tensor) -> Tensor:
    """Euclidean norm along the last axis, its gradient 0 at the vector of zeros."""
    squared = vectors.square().sum(dim=-1)
    is_zero = squared == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, squared).sqrt())


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


def pool_region(embedding_map: Tensor, share: Tensor) -> Tensor:
    """Mean embedding of a region, cells weighted by how much of them the region covers.

    Args:
        embedding_map: (B, D, R, R).
        share: (B, 1, R, R) in [0, 1], e.g. of `siamtrack.models.masks.coverage`.

    Returns:
        (B, D); zeros where the region covers nothing.
    """
    if share.shape != (len(embedding_map), 1, *embedding_map.shape[2:]):
        raise TrainingError(
            f"share has shape {tuple(share.shape)} and the embedding map "
            f"{tuple(embedding_map.shape)}; give (B, 1, R, R) for a map (B, D, R, R)"
        )
    embedding_map = at_least_float32(embedding_map)
    share = share.to(embedding_map.dtype)
    total = share.sum(dim=(2, 3))
    summed = (embedding_map * share).sum(dim=(2, 3))
    return summed / torch.where(total > 0, total, 1.0)


def stack_regions(
    exemplar: Tensor,
    search: Tensor,
    is_negative: Tensor,
    *,
    identities: Tensor | None = None,
    distractor: Tensor | None = None,
    has_distractor: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Put the regions of a batch of pairs into one table with their identities.

    Args:
        exemplar: (B, D) embedding of the target in the exemplar.
        search: (B, D) embedding of the boxed object in the search crop.
        is_negative: (B,) bool, that object is not the exemplar's target. It then counts as a target
            of its own.
        identities: (B,) int64 of the exemplars' targets, where several pairs may show the same
            one; None: all different.
        distractor: (B, D) embedding of another object in the search crop.
        has_distractor: (B,) bool, which pairs have one; None: all.

    Returns:
        (N, D) embeddings and (N,) int64 identities, for `TrackingOutput` and `TrackingTarget`.
    """
    batch, device = len(exemplar), exemplar.device
    ids = torch.arange(batch, device=device) if identities is None else identities
    own = torch.arange(2 * batch, device=device) + (ids.max() + 1 if batch else 0)
    tables, names = [exemplar, search], [ids, torch.where(is_negative, own[:batch], ids)]
    if distractor is not None:
        there = slice(None) if has_distractor is None else has_distractor
        tables.append(distractor[there])
        names.append(own[batch:][there])
    return torch.cat(tables), torch.cat(names)
