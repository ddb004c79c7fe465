"""Metric losses: views of one target close together, different targets apart.

They compare embeddings of regions: `pool_region` makes an embedding from a map and a region,
`stack_regions` puts those of a batch into one table (N, D) with an identity per row. A loss then
takes pairs or triplets of rows, chosen by `siamtrack.losses.mining`. Below, d is `pair_distance`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from siamtrack.errors import ConfigError, TrainingError
from siamtrack.losses.base import (
    Loss,
    LossInput,
    LossTarget,
    at_least_float32,
    check_same_shape,
    check_tensor,
    reduce_values,
)
from siamtrack.losses.mining import Mining, mine_triplets, sample_pairs
from siamtrack.utils.config import check_choice, ranged

Distance = Literal["euclidean", "squared", "manhattan", "cosine"]


@dataclass(frozen=True, kw_only=True)
class MetricLoss(Loss):
    """Base of the losses of embeddings; `distance` is that of `pair_distance`."""

    needs_embeddings: ClassVar[bool] = True

    distance: Distance = "euclidean"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("distance", self.distance, get_args(Distance))


@dataclass(frozen=True, kw_only=True)
class ContrastiveLoss(MetricLoss):
    """Contrastive loss with margin m (Hadsell, Chopra and LeCun 2006, eq. 4).

    d^2 / 2 for a pair of one target, max(m - d, 0)^2 / 2 for a pair of different targets.

    Attributes:
        margin: raising it pushes different targets farther apart; in the unit of the distance. Unit
            vectors are at most 2 apart.
    """

    name: ClassVar[str] = "contrastive"

    margin: float = ranged(1.0, 0.0, below=math.inf)

    def pair_loss(
        self, anchor: Tensor, other: Tensor, same: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Loss of given pairs.

        Args:
            anchor: (M, D) embeddings.
            other: (M, D) embeddings.
            same: (M,) bool, True where anchor and other show the same target.
            weight: (M,) factor on each pair.
        """
        _check_same_flags(same, anchor, other)
        d = pair_distance(anchor, other, self.distance)  # (M,)
        values = torch.where(same, d, (self.margin - d).clamp(min=0)).square() / 2
        return reduce_values(values, weight, self.reduction)

    def __call__(self, output: LossInput, target: LossTarget) -> Tensor:
        """Loss of random pairs of the batch, as many of the same as of different targets."""
        embeddings, identities = _embeddings_and_identities(output, target)
        rng = np.random.default_rng(target.seed)
        pairs, same = sample_pairs(identities.cpu().numpy(), None, rng)  # (M, 2), (M,)
        anchor, other = _gather(embeddings, torch.from_numpy(pairs))  # (M, D) each
        return self.pair_loss(anchor, other, torch.from_numpy(same).to(embeddings.device))


@dataclass(frozen=True, kw_only=True)
class EuclideanLoss(MetricLoss):
    """(d - alpha)^2 over pairs of the same target.

    Alone it collapses to one constant embedding, because it never pushes different targets apart.
    Use it beside another loss.

    Attributes:
        alpha: desired distance of two views of one target; 0 makes them equal.
    """

    name: ClassVar[str] = "euclidean"

    alpha: float = ranged(0.0, 0.0, below=math.inf)

    def pair_loss(
        self, anchor: Tensor, other: Tensor, same: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Loss of the pairs with `same` set; arguments as `ContrastiveLoss.pair_loss`."""
        _check_same_flags(same, anchor, other)
        d = pair_distance(anchor[same], other[same], self.distance)  # (pairs of the same target,)
        weight = None if weight is None else weight[same]
        return reduce_values((d - self.alpha).square(), weight, self.reduction)

    def __call__(self, output: LossInput, target: LossTarget) -> Tensor:
        """Loss of all pairs of the same target in the batch."""
        embeddings, identities = _embeddings_and_identities(output, target)
        count, device = len(identities), embeddings.device
        first, second = torch.triu_indices(count, count, offset=1, device=device)  # N (N - 1) / 2
        same = identities[first] == identities[second]
        return self.pair_loss(embeddings[first], embeddings[second], same)


@dataclass(frozen=True, kw_only=True)
class TripletLoss(MetricLoss):
    """Triplet loss of FaceNet with margin m (Schroff et al. 2015, eq. 3): max(d_ap - d_an + m, 0).

    d_ap is the distance of an anchor to another view of its target, d_an that to another target.
    FaceNet's distance is the squared one.

    Attributes:
        margin: how much farther another target must be, in the unit of the distance; raising it
            spreads targets more and makes more triplets count.
        mining: as for `mine_triplets`; or "offline", the triplets of `LossTarget.triplets`.
        max_triplets: if a batch has more triplets, this many are drawn at random.
        active_only: average over the triplets that violate the margin instead of all of them. With
            "batch-all" most triplets soon have loss 0 and would dominate the mean (Hermans et al.
            2017, section 2).
    """

    name: ClassVar[str] = "triplet"

    distance: Distance = "squared"
    margin: float = ranged(0.2, 0.0, below=math.inf)
    mining: Mining = "semi-hard"
    max_triplets: int = ranged(4096, 1)
    active_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("mining", self.mining, get_args(Mining))
        if not isinstance(self.active_only, bool):
            raise ConfigError(f"active_only is {self.active_only!r}; give true or false")

    def triplet_loss(
        self, anchor: Tensor, positive: Tensor, negative: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Loss of given triplets: (T, D) embeddings, and a (T,) factor on each triplet."""
        check_same_shape("positive", positive, "anchor", anchor)
        check_same_shape("negative", negative, "anchor", anchor)
        d_positive = pair_distance(anchor, positive, self.distance)  # (T,)
        d_negative = pair_distance(anchor, negative, self.distance)
        values = (d_positive - d_negative + self.margin).relu()
        if self.active_only:
            active = values > 0
            values, weight = values[active], None if weight is None else weight[active]
        return reduce_values(values, weight, self.reduction)

    def __call__(self, output: LossInput, target: LossTarget) -> Tensor:
        """Loss of the triplets that the mining chooses from the batch."""
        embeddings, identities = _embeddings_and_identities(output, target)

        # 1. Triplets (T, 3): those of the data, or mined from the distances in the batch.
        if self.mining == "offline":
            triplets = target.triplets
            if triplets is None:
                raise ConfigError(
                    'the triplet loss has mining = "offline" and the batches contain no triplets; '
                    "sample them with the data, or mine from the batch with another mining"
                )
            _check_triplets(triplets, identities)
        else:
            rng = np.random.default_rng(target.seed)
            with torch.no_grad():
                distances = all_distances(embeddings, self.distance)  # (N, N)
            triplets = mine_triplets(
                self.mining, distances, identities, self.margin, self.max_triplets, rng
            )

        # 2. Their loss, with gradient.
        return self.triplet_loss(*_gather(embeddings, triplets))


def pair_distance(a: Tensor, b: Tensor, distance: Distance = "euclidean") -> Tensor:
    """Distance of (..., D) embeddings along the last axis, with broadcasting over the others.

    Gradients are finite everywhere. At identical inputs, where the Euclidean and the Manhattan
    distance have a kink, the gradient is 0.

    Args:
        a: embeddings of any float dtype.
        b: embeddings, broadcastable to `a`.
        distance: "euclidean" |a - b|, "squared" |a - b|^2, "manhattan" sum of |a_i - b_i|, or
            "cosine" 1 - cos(a, b) in [0, 2]; a zero vector is at 1 from everything.

    Returns:
        (...) float32 (float64 if given), not negative.
    """
    check_choice("distance", distance, get_args(Distance))
    a, b = at_least_float32(a), at_least_float32(b)
    if distance == "cosine":
        norms = _length(a) * _length(b)
        cosine = (a * b).sum(dim=-1) / torch.where(norms > 0, norms, 1.0)
        return (1.0 - cosine).clamp(min=0)  # rounding can bring the cosine above 1
    difference = a - b
    if distance == "manhattan":
        return difference.abs().sum(dim=-1)
    if distance == "squared":
        return difference.square().sum(dim=-1)
    return _length(difference)


def all_distances(embeddings: Tensor, distance: Distance = "euclidean") -> Tensor:
    """(N, D) embeddings to the (N, N) distances between all of them."""
    # Not |a|^2 + |b|^2 - 2 a b: that is inexact between near neighbors, which mining compares, and
    # autocast would run its matrix product in bfloat16.
    return pair_distance(embeddings[:, None], embeddings[None], distance)


def _length(vectors: Tensor) -> Tensor:
    """Euclidean norm along the last axis; its gradient at the zero vector is 0, not NaN."""
    squared = vectors.square().sum(dim=-1)
    is_zero = squared == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, squared).sqrt())


def pool_region(embedding_map: Tensor, share: Tensor) -> Tensor:
    """(B, D) mean embedding of a region: cells weighted by the fraction that the region covers.

    Args:
        embedding_map: (B, D, R, R).
        share: (B, 1, R, R) in [0, 1], from `coverage`; where it is 0 everywhere, so is the mean.
    """
    check_tensor("embedding_map", embedding_map, "shape (B, D, R, R)")
    check_tensor("share", share, "shape (B, 1, R, R)")
    if share.shape != (len(embedding_map), 1, *embedding_map.shape[2:]):
        raise TrainingError(
            f"share has shape {tuple(share.shape)} and the embedding map "
            f"{tuple(embedding_map.shape)}; give (B, 1, R, R) for a map (B, D, R, R)"
        )
    embedding_map = at_least_float32(embedding_map)
    share = share.to(embedding_map.dtype)
    total = share.sum(dim=(2, 3))  # (B, 1)
    weighted = (embedding_map * share).sum(dim=(2, 3))  # (B, D)
    return weighted / torch.where(total > 0, total, 1.0)


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
        exemplar: (B, D) target in the exemplar.
        search: (B, D) boxed object in the search crop.
        is_negative: (B,) bool, that object is not the exemplar's target and gets a new identity.
        identities: (B,) int64 of the exemplars' targets; None: all different.
        distractor: (B, D) another object in the search crop.
        has_distractor: (B,) bool, which pairs have one; None: all.

    Returns:
        (N, D) embeddings and (N,) int64 identities: exemplars, then search regions, then
        distractors.
    """
    check_same_shape("search", search, "exemplar", exemplar)
    check_tensor("is_negative", is_negative, "one bool per pair, shape (B,)", kind=torch.bool)
    batch, device = len(exemplar), exemplar.device
    exemplar_ids = torch.arange(batch, device=device) if identities is None else identities

    # New identities: the first B for objects of negative pairs, the next B for distractors.
    next_id = exemplar_ids.max() + 1 if batch else 0
    new_ids = torch.arange(2 * batch, device=device) + next_id  # (2 B,)

    search_ids = torch.where(is_negative, new_ids[:batch], exemplar_ids)
    rows, ids = [exemplar, search], [exemplar_ids, search_ids]
    if distractor is not None:
        present = slice(None) if has_distractor is None else has_distractor
        rows.append(distractor[present])
        ids.append(new_ids[batch:][present])
    return torch.cat(rows), torch.cat(ids)


def _embeddings_and_identities(output: LossInput, target: LossTarget) -> tuple[Tensor, Tensor]:
    """(N, D) and (N,), checked."""
    if output.embeddings is None or target.identities is None:
        lacking = "network gives no embeddings" if output.embeddings is None else "batch names none"
        raise ConfigError(
            f"a metric loss compares embeddings of regions with known identities and the {lacking};"
            " use a network with embeddings, or take the loss out of the configuration"
        )
    check_tensor("embeddings", output.embeddings, "shape (N, D)")
    check_tensor("identities", target.identities, "shape (N,)")
    if output.embeddings.ndim != 2 or target.identities.shape != output.embeddings.shape[:1]:
        raise TrainingError(
            f"embeddings have shape {tuple(output.embeddings.shape)} and identities "
            f"{tuple(target.identities.shape)}; give (N, D) and (N,)"
        )
    return output.embeddings, target.identities


def _gather(embeddings: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
    """Embeddings of each column of an (M, k) table of rows: k tensors (M, D)."""
    return tuple(embeddings[column] for column in rows.to(embeddings.device).unbind(dim=1))


def _check_triplets(triplets: Tensor, identities: Tensor) -> None:
    """Rows of (anchor, positive, negative): two of one target, the third of another."""
    need = "(T, 3) int64 rows of the embeddings"
    check_tensor("triplets", triplets, need, kind=torch.int64)
    if triplets.ndim != 2 or triplets.shape[1] != 3:
        raise TrainingError(f"triplets have shape {tuple(triplets.shape)}; give {need}")
    outside = ((triplets < 0) | (triplets >= len(identities))).any(dim=1)
    if outside.any():
        row = triplets[outside][0].tolist()
        raise TrainingError(
            f"triplet {row} names a row that is none of the {len(identities)} embeddings, from 0"
        )
    anchor, positive, negative = identities.to(triplets.device)[triplets].unbind(dim=1)  # (T,)
    wrong = (anchor != positive) | (anchor == negative)
    if wrong.any():
        row = triplets[wrong][0].tolist()
        raise TrainingError(
            f"triplet {row} is not of an anchor, a view of the same target and one of another; "
            "their identities say otherwise"
        )


def _check_same_flags(same: Tensor, anchor: Tensor, other: Tensor) -> None:
    check_same_shape("other", other, "anchor", anchor)
    check_tensor("same", same, "one bool per pair")
    if same.dtype != torch.bool or same.shape != anchor.shape[:1]:
        raise TrainingError(
            f"same has type {same.dtype} and shape {tuple(same.shape)}; give one bool per pair, "
            f"shape {tuple(anchor.shape[:1])}, True for two views of one target"
        )
