"""Pooling and stacking of regions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from siamtrack.errors import TrainingError
from siamtrack.losses import pool_region, stack_regions


def test_pooling_averages_by_covered_area() -> None:
    cells = torch.arange(8.0).reshape(1, 2, 2, 2).requires_grad_()
    share = torch.tensor([[[[1.0, 0.5], [0.0, 0.0]]]])
    pooled = pool_region(cells, share)
    assert pooled.flatten().tolist() == pytest.approx([1 / 3, 4 + 1 / 3])
    pooled.sum().backward()
    assert cells.grad[0, 0].flatten().tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])


def test_pooling_nothing_gives_zeros() -> None:
    cells = torch.ones(1, 3, 2, 2, requires_grad=True)
    pooled = pool_region(cells, torch.zeros(1, 1, 2, 2))
    pooled.sum().backward()
    assert pooled.tolist() == [[0, 0, 0]]
    assert torch.isfinite(cells.grad).all()


def test_pooling_bfloat16_in_float32(rng: np.random.Generator) -> None:
    cells = torch.from_numpy(rng.normal(size=(2, 3, 4, 4))).bfloat16()
    share = torch.from_numpy(rng.uniform(size=(2, 1, 4, 4)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = pool_region(cells, share)
    assert pooled.dtype == torch.float32
    assert torch.allclose(pooled, pool_region(cells.double(), share).float(), atol=1e-6)


def test_pooling_refuses_a_share_of_another_size() -> None:
    with pytest.raises(TrainingError, match=r"share has shape \(1, 1, 3, 3\)"):
        pool_region(torch.ones(1, 3, 2, 2), torch.ones(1, 1, 3, 3))


def test_stacking_names_the_same_targets_alike() -> None:
    exemplar, search, distractor = (torch.full((3, 2), float(value)) for value in (1, 2, 3))
    embeddings, identities = stack_regions(
        exemplar,
        search,
        torch.tensor([True, True, False]),
        identities=torch.tensor([7, 7, 4]),
        distractor=distractor,
        has_distractor=torch.tensor([True, False, True]),
    )
    assert embeddings[:, 0].tolist() == [1, 1, 1, 2, 2, 2, 3, 3]
    ids = identities.tolist()
    assert ids[:3] == [7, 7, 4]
    assert ids[5] == 4
    strangers = [*ids[3:5], *ids[6:]]
    assert len({*strangers, 7, 4}) == 6


def test_stacking_takes_pairs_for_different_targets_by_default() -> None:
    same = torch.zeros(3, dtype=torch.bool)
    table = torch.zeros(3, 2)
    _, identities = stack_regions(table, table, same, distractor=table)
    assert identities[:3].tolist() == identities[3:6].tolist()
    assert len(set(identities.tolist())) == 6


def test_stacking_an_empty_batch() -> None:
    table = torch.zeros(0, 2)
    embeddings, identities = stack_regions(table, table, torch.zeros(0, dtype=torch.bool))
    assert embeddings.shape == (0, 2)
    assert identities.shape == (0,)
