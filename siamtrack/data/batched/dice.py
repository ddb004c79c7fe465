"""Random numbers as tensors on the CPU, from one seed."""

from __future__ import annotations

import torch
from torch import Tensor


class Dice:
    """A generator of random tensors; the order of the draws defines what a seed makes.

    Args:
        seed: 0 or larger, below 2^63.
    """

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Float64 of this shape, evenly spread over [low, high)."""
        unit = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return low + (high - low) * unit

    def chance(self, probability: float, count: int) -> Tensor:
        """(count,) bool, each true with this probability."""
        return self.uniform(0.0, 1.0, count) < probability

    def below(self, limits: Tensor) -> Tensor:
        """Int64 of the shape of `limits`, each from 0 to its limit - 1; 0 for a limit of 0."""
        drawn = (self.uniform(0.0, 1.0, *limits.shape) * limits).long()
        return torch.minimum(drawn, (limits - 1).clamp_min(0))
