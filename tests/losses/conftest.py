"""A small batch with every kind of cell, pair and region in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from siamtrack.losses import LossInput, LossTarget

CELLS = 5


@pytest.fixture
def output(rng: np.random.Generator) -> LossInput:
    """Three pairs, seven regions and two memory windows a pair, float64, gradients wanted."""
    logits = torch.from_numpy(rng.normal(0, 2, (3, 1, CELLS, CELLS)))
    ltrb = torch.from_numpy(rng.uniform(2, 40, (3, 4, CELLS, CELLS)))
    embeddings = torch.from_numpy(rng.normal(0, 0.5, (7, 4)))
    features = torch.nn.functional.normalize(
        torch.from_numpy(rng.normal(0.3, 1, (3, 3, 2, CELLS, CELLS))), dim=2
    )
    for tensor in (logits, ltrb, embeddings, features):
        tensor.requires_grad_()
    return LossInput(logits, ltrb, embeddings, features)


@pytest.fixture
def target(rng: np.random.Generator) -> LossTarget:
    """Pair 0 has six positives and ignored cells, pair 1 is negative, pair 2 has one positive."""
    positive = torch.zeros(3, 1, CELLS, CELLS, dtype=torch.bool)
    positive[0, 0, 1:3, 1:4] = True
    positive[2, 0, 4, 0] = True
    ignored = torch.zeros_like(positive)
    ignored[0, 0, 3] = True
    true = torch.from_numpy(rng.uniform(2, 40, (3, 4, CELLS, CELLS)))
    return LossTarget(
        positive=positive,
        background=~positive & ~ignored,
        ltrb_px=torch.where(positive, true, 0.0),
        identities=torch.tensor([4, 4, 9, 9, 4, 2, 7]),
        triplets=torch.tensor([[0, 1, 2], [2, 3, 5], [4, 0, 6]]),
        filter_centers_xy=torch.from_numpy(rng.uniform(1, 3, (3, 3, 2))),
    )
