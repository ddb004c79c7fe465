"""From feature maps to the table of regions that the metric losses compare."""

from __future__ import annotations

import torch
from torch import Tensor

from siamtrack.errors import TrainingError
from siamtrack.losses.signature import at_least_float32


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
