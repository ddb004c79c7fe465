"""Which pairs and triplets of rows a metric loss uses.

Rows of equal identity show the same target. Offline, pairs and triplets are drawn from the
identities of a whole data set. Online, they are mined from the identities of a batch and the
distances between its embeddings.

Candidates are numbered and not enumerated: the k-th triplet is computed from k. A data set may have
more triplets than fit into memory.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from siamtrack.errors import TrainingError
from siamtrack.losses.base import check_tensor
from siamtrack.types import BoolArray, IntArray
from siamtrack.utils.config import check_choice, check_number

Mining = Literal["random", "batch-all", "batch-hard", "semi-hard", "offline"]


def mine_triplets(
    mining: Mining,
    distances: Tensor,
    identities: Tensor,
    margin: float,
    max_triplets: int,
    rng: np.random.Generator,
) -> Tensor:
    """Choose the triplets of a batch.

    Args:
        mining: "batch-all" takes every triplet. "random" draws as many as there are (anchor,
            positive) pairs. "batch-hard" takes for each anchor its farthest positive and nearest
            negative (Hermans et al. 2017, eq. 5). "semi-hard" takes for each (anchor, positive) the
            nearest negative that is farther than the positive by less than the margin, and nothing
            where there is none (Schroff et al. 2015, section 3.2).
        distances: (N, N) between the embeddings of the batch; no gradient is followed.
        identities: (N,) int64.
        margin: width of the semi-hard band, in the unit of the distances.
        max_triplets: of more triplets than this, as many are drawn at random.
        rng: for "random" and for that draw.

    Returns:
        (T, 3) int64 rows: anchor, positive, negative, on the device of the distances; T may be 0.
    """
    check_choice("mining", mining, get_args(Mining)[:-1])
    check_tensor("distances", distances, "shape (N, N)")
    check_tensor("identities", identities, "shape (N,)")
    if distances.shape != (*identities.shape, *identities.shape):
        raise TrainingError(
            f"identities have shape {tuple(identities.shape)} and distances "
            f"{tuple(distances.shape)}; give (N,) and (N, N)"
        )

    # Mining that needs no distances is drawn from the identities alone.
    if mining in ("random", "batch-all"):
        ids = identities.cpu().numpy()
        count = max_triplets
        if mining == "random":
            count = max(min(count, int(_SortedRows(ids).same.sum())), 1)
        return torch.from_numpy(sample_triplets(ids, count, rng)).to(distances.device)

    # Another row of the same target, and a row of another target.
    equal = identities[:, None] == identities[None]  # (N, N)
    itself = torch.eye(len(identities), dtype=torch.bool, device=identities.device)
    same, different = equal & ~itself, ~equal

    distances = distances.detach()
    if mining == "batch-hard":
        triplets = _batch_hard(distances, same, different)
    else:
        triplets = _semi_hard(distances, same, different, margin)
    if len(triplets) > max_triplets:
        kept = torch.from_numpy(_draw(len(triplets), max_triplets, rng))
        triplets = triplets[kept.to(triplets.device)]
    return triplets


def _batch_hard(distances: Tensor, same: Tensor, different: Tensor) -> Tensor:
    """Farthest positive and nearest negative of each anchor; all arguments (N, N)."""
    # Anchors need a positive and a negative.
    anchors = (same.any(dim=1) & different.any(dim=1)).nonzero()[:, 0]  # (T,)
    if len(anchors) == 0:
        return anchors.new_empty(0, 3)

    positives = torch.where(same, distances, -torch.inf)[anchors].argmax(dim=1)
    negatives = torch.where(different, distances, torch.inf)[anchors].argmin(dim=1)
    return torch.stack([anchors, positives, negatives], dim=1)  # (T, 3)


def _semi_hard(distances: Tensor, same: Tensor, different: Tensor, margin: float) -> Tensor:
    """Nearest negative with d(a, p) < d(a, n) < d(a, p) + margin for each anchor and positive."""
    # All P pairs of an anchor and another view of its target.
    anchors, positives = same.nonzero(as_tuple=True)  # (P,) each
    if len(anchors) == 0:
        return anchors.new_empty(0, 3)

    # The band of each pair, and the nearest negative in it.
    d_positive = distances[anchors, positives][:, None]  # (P, 1)
    d_others = distances[anchors]  # (P, N)
    in_band = different[anchors] & (d_others > d_positive) & (d_others < d_positive + margin)
    negatives = torch.where(in_band, d_others, torch.inf).argmin(dim=1)  # (P,)

    # Pairs with an empty band are left out.
    return torch.stack([anchors, positives, negatives], dim=1)[in_band.any(dim=1)]  # (T, 3)


def sample_pairs(
    identities: ArrayLike, count: int | None, rng: np.random.Generator
) -> tuple[IntArray, BoolArray]:
    """Draw equally many pairs of the same target and of different targets.

    A contrastive loss that sees one kind more often favors a trivial embedding. Identities that
    lack either kind therefore give no pairs at all.

    Args:
        identities: (N,) one per row.
        count: most pairs, both kinds together; None for as many as the rarer kind has.
        rng: draws without replacement; a pair (i, j) is not also drawn as (j, i).

    Returns:
        (M, 2) rows of each pair, and (M,) bool, whether both are the same target.
    """
    if count is not None:
        check_number("count of pairs", count, 1, integer=True)
    rows = _SortedRows(identities)
    positions = np.arange(len(rows.order))

    # 1. Number of partners of each row. Only later positions count: then every pair exists once.
    later_same = rows.end - positions - 1  # (N,)
    later_different = len(rows.order) - rows.end  # (N,)

    # 2. As many of each kind as the rarer one has.
    each = int(min(later_same.sum(), later_different.sum()))
    if count is not None:
        each = min(each, count // 2)

    # 3. Draw numbers of pairs; each number stands for a first position and a rank after it.
    first, rank = _locate(later_same, _draw(int(later_same.sum()), each, rng))
    same = np.stack([first, first + 1 + rank], axis=1)  # (each, 2)
    first, rank = _locate(later_different, _draw(int(later_different.sum()), each, rng))
    different = np.stack([first, rows.end[first] + rank], axis=1)  # (each, 2)

    # 4. Positions in the sorted order to rows.
    pairs: IntArray = rows.order[np.concatenate([same, different])]
    return pairs, np.arange(2 * each) < each


def count_triplets(identities: ArrayLike) -> int:
    """Number of triplets (anchor, positive, negative) that the rows can form."""
    rows = _SortedRows(identities)
    return int((rows.same * rows.different).sum())


def sample_triplets(identities: ArrayLike, count: int, rng: np.random.Generator) -> IntArray:
    """Draw distinct triplets with equal probability; all of them if there are at most `count`.

    Returns:
        (T, 3) rows: anchor, positive of the same target, negative of another.
    """
    check_number("count of triplets", count, 1, integer=True)
    rows = _SortedRows(identities)

    # 1. Draw numbers of triplets. An anchor with s positives and d negatives has s * d of them.
    per_anchor = rows.same * rows.different  # (N,)
    total = int(per_anchor.sum())
    chosen = np.arange(total) if total <= count else _draw(total, count, rng)  # (T,)

    # 2. Number to anchor, rank of the positive, rank of the negative.
    anchor, rest = _locate(per_anchor, chosen)
    positive_rank, negative_rank = np.divmod(rest, np.maximum(rows.different[anchor], 1))

    # 3. Positive: position in the anchor's group, without the anchor itself.
    positive = rows.start[anchor] + positive_rank
    positive += positive >= anchor

    # 4. Negative: position outside the anchor's group.
    in_front = negative_rank < rows.start[anchor]
    group_size = rows.end[anchor] - rows.start[anchor]
    negative = negative_rank + np.where(in_front, 0, group_size)

    triplets: IntArray = rows.order[np.stack([anchor, positive, negative], axis=1)]
    return triplets


class _SortedRows:
    """Rows sorted by identity: the rows of one target form a group of neighbors.

    All arrays are (N,), one value for each position in the sorted order.
    """

    def __init__(self, identities: ArrayLike) -> None:
        try:
            ids = np.asarray(identities)
            if ids.ndim == 1 and (ids != ids).any():
                raise ValueError("some are not a number")
            order = np.argsort(ids, kind="stable")
        except (TypeError, ValueError, RuntimeError) as error:
            raise TrainingError(
                f"identities cannot be compared ({error}); give one integer per row, shape (N,)"
            ) from error
        if ids.ndim != 1:
            raise TrainingError(f"identities have shape {ids.shape}; give one per row, shape (N,)")
        self.order: IntArray = order  # row at the position
        in_order = ids[self.order]
        # First position of its group, and position after the last one of the group.
        self.start: IntArray = np.searchsorted(in_order, in_order, side="left")
        self.end: IntArray = np.searchsorted(in_order, in_order, side="right")
        # Numbers of other rows with the same identity, and of rows with another identity.
        self.same = self.end - self.start - 1
        self.different = len(ids) - (self.end - self.start)


def _draw(total: int, count: int, rng: np.random.Generator) -> IntArray:
    """`count` different numbers below `total` in random order, in memory of order `count`."""
    return rng.choice(total, size=count, replace=False) if count else np.zeros(0, np.int64)


def _locate(counts: IntArray, numbers: IntArray) -> tuple[IntArray, IntArray]:
    """Bin of each running number, for bins of the given sizes, and its rank in the bin."""
    ends = np.cumsum(counts)
    position = np.searchsorted(ends, numbers, side="right")
    return position, numbers - (ends - counts)[position]
