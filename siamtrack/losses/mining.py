"""Which pairs and triplets a metric loss looks at.

Rows are told apart by their identity: rows with the same one show the same target. Offline, pairs
and triplets are drawn from the identities of a whole data set; online, from those of a batch and
the distances between its embeddings. What is drawn is numbered, not enumerated: the k-th triplet
is computed from k, so a data set may have more triplets than fit anywhere.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from siamtrack.errors import TrainingError
from siamtrack.losses.base import check_choice, check_count
from siamtrack.types import IntArray

Mining = Literal["random", "batch-all", "batch-hard", "semi-hard", "offline"]


class _SortedRows:
    """Rows sorted by identity, so that the rows of one target are neighbours.

    Attributes:
        order: (N,) row at each position of the sorted order.
        start: (N,) first position of the same identity.
        end: (N,) position after the last of the same identity.
    """

    def __init__(self, identities: ArrayLike) -> None:
        ids = np.asarray(identities)
        if ids.ndim != 1:
            raise TrainingError(f"identities have shape {ids.shape}; give one per row, shape (N,)")
        self.order: IntArray = np.argsort(ids, kind="stable")
        in_order = ids[self.order]
        self.start: IntArray = np.searchsorted(in_order, in_order, side="left")
        self.end: IntArray = np.searchsorted(in_order, in_order, side="right")

    @property
    def same(self) -> IntArray:
        """(N,) number of other rows with the identity of each position."""
        return self.end - self.start - 1

    @property
    def different(self) -> IntArray:
        """(N,) number of rows with another identity."""
        return len(self.order) - (self.end - self.start)


def sample_pairs(
    identities: ArrayLike, count: int | None, rng: np.random.Generator
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Draw equally many pairs of the same target and of different targets.

    A metric loss that sees one kind more often is best served by a trivial embedding, so a set
    that lacks either kind gives no pairs at all.

    Args:
        identities: (N,) one per row.
        count: how many pairs at most, both kinds together; None for as many as the rarer kind has.
        rng: draws without replacement; a pair (i, j) is not also drawn as (j, i).

    Returns:
        (M, 2) rows of each pair, and (M,) bool, whether both are the same target.
    """
    if count is not None:
        check_count("count of pairs", count)
    rows = _SortedRows(identities)
    positions = np.arange(len(rows.order))
    # Partners later in the order only, so that every pair exists once.
    later_same, later_different = rows.end - positions - 1, len(rows.order) - rows.end
    each = int(min(later_same.sum(), later_different.sum()))
    if count is not None:
        each = min(each, count // 2)
    first, skip = _locate(later_same, _draw(int(later_same.sum()), each, rng))
    same = np.stack([first, first + 1 + skip], axis=1)
    first, skip = _locate(later_different, _draw(int(later_different.sum()), each, rng))
    different = np.stack([first, rows.end[first] + skip], axis=1)
    pairs: IntArray = rows.order[np.concatenate([same, different])]
    return pairs, np.arange(2 * each) < each


def count_triplets(identities: ArrayLike) -> int:
    """Number of triplets (anchor, positive, negative) that the rows can form."""
    rows = _SortedRows(identities)
    return int((rows.same * rows.different).sum())


def sample_triplets(identities: ArrayLike, count: int, rng: np.random.Generator) -> IntArray:
    """Draw different triplets, all equally likely; all of them if there are no more than `count`.

    Args:
        identities: (N,) one per row.
        count: how many triplets at most.
        rng: draws without replacement.

    Returns:
        (T, 3) rows: anchor, positive of the same target, negative of another.
    """
    check_count("count of triplets", count)
    rows = _SortedRows(identities)
    per_anchor = rows.same * rows.different
    total = int(per_anchor.sum())
    chosen = np.arange(total) if total <= count else _draw(total, count, rng)
    anchor, rest = _locate(per_anchor, chosen)
    nth_same, nth_different = np.divmod(rest, np.maximum(rows.different[anchor], 1))
    positive = rows.start[anchor] + nth_same
    positive += positive >= anchor
    in_front = nth_different < rows.start[anchor]
    size = rows.end[anchor] - rows.start[anchor]
    negative = nth_different + np.where(in_front, 0, size)
    triplets: IntArray = rows.order[np.stack([anchor, positive, negative], axis=1)]
    return triplets


def mine_triplets(
    mining: Mining,
    distances: Tensor,
    identities: Tensor,
    *,
    margin: float,
    max_triplets: int,
    rng: np.random.Generator,
) -> Tensor:
    """Choose the triplets of a batch.

    "batch-all" takes every triplet; "random" draws as many as there are (anchor, positive) pairs;
    "batch-hard" takes for each anchor its farthest positive and nearest negative (Hermans et al.
    2017, eq. 5); "semi-hard" takes for each (anchor, positive) the nearest negative that is farther
    than the positive by less than the margin, and nothing where there is none (Schroff et al.
    2015, section 3.2).

    Args:
        mining: one of these four names.
        distances: (N, N) between the embeddings of the batch; no gradient is followed.
        identities: (N,) int64.
        margin: width of the semi-hard band, in the unit of the distances.
        max_triplets: more than this many are thinned out at random.
        rng: for "random" and for thinning out.

    Returns:
        (T, 3) int64 rows: anchor, positive, negative, on the device of the distances; T may be 0.

    Raises:
        ConfigError: no such mining.
        TrainingError: identities and distances do not fit.
    """
    check_choice("mining", mining, get_args(Mining)[:-1])
    if distances.shape != (*identities.shape, *identities.shape):
        raise TrainingError(
            f"identities have shape {tuple(identities.shape)} and distances "
            f"{tuple(distances.shape)}; give (N,) and (N, N)"
        )
    if mining in ("random", "batch-all"):
        ids = identities.cpu().numpy()
        wanted = max_triplets
        if mining == "random":
            wanted = max(min(wanted, int(_SortedRows(ids).same.sum())), 1)
        return torch.from_numpy(sample_triplets(ids, wanted, rng)).to(distances.device)
    with torch.no_grad():
        if mining == "batch-hard":
            triplets = _batch_hard(distances.detach(), identities)
        else:
            triplets = _semi_hard(distances.detach(), identities, margin)
    if len(triplets) > max_triplets:
        kept = torch.from_numpy(_draw(len(triplets), max_triplets, rng))
        triplets = triplets[kept.to(triplets.device)]
    return triplets


def _batch_hard(distances: Tensor, identities: Tensor) -> Tensor:
    same, different = _masks(identities)
    anchors = (same.any(dim=1) & different.any(dim=1)).nonzero()[:, 0]
    farthest = torch.where(same, distances, -torch.inf)[anchors]
    nearest = torch.where(different, distances, torch.inf)[anchors]
    if len(anchors) == 0:
        return anchors.new_empty(0, 3)
    return torch.stack([anchors, farthest.argmax(dim=1), nearest.argmin(dim=1)], dim=1)


def _semi_hard(distances: Tensor, identities: Tensor, margin: float) -> Tensor:
    same, different = _masks(identities)
    anchors, positives = same.nonzero(as_tuple=True)
    if len(anchors) == 0:
        return anchors.new_empty(0, 3)
    to_positive = distances[anchors, positives][:, None]
    to_others = distances[anchors]
    in_band = different[anchors] & (to_others > to_positive) & (to_others < to_positive + margin)
    negatives = torch.where(in_band, to_others, torch.inf).argmin(dim=1)
    return torch.stack([anchors, positives, negatives], dim=1)[in_band.any(dim=1)]


def _masks(identities: Tensor) -> tuple[Tensor, Tensor]:
    """(N, N) bool: another row of the same target, and a row of another target."""
    equal = identities[:, None] == identities[None]
    itself = torch.eye(len(identities), dtype=torch.bool, device=identities.device)
    return equal & ~itself, ~equal


def _draw(total: int, count: int, rng: np.random.Generator) -> IntArray:
    """`count` different numbers below `total` in random order, in memory of order `count`."""
    return rng.choice(total, size=count, replace=False) if count else np.zeros(0, np.int64)


def _locate(counts: IntArray, numbers: IntArray) -> tuple[IntArray, IntArray]:
    """Position of each running number in bins of the given sizes, and its rank in its bin."""
    ends = np.cumsum(counts)
    position = np.searchsorted(ends, numbers, side="right")
    return position, numbers - (ends - counts)[position]
