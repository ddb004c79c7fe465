"""Distances between embeddings, behind one `distance` argument."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from siamtrack.losses.signature import at_least_float32, check_choice

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
