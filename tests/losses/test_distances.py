"""Distances against scipy, and where they have kinks."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from siamtrack.errors import ConfigError
from siamtrack.losses import Distance, all_distances, pair_distance

DISTANCES = get_args(Distance)
IN_SCIPY = {"euclidean": "euclidean", "squared": "sqeuclidean", "manhattan": "cityblock"}


@pytest.mark.parametrize("distance", DISTANCES)
def test_all_distances_are_scipys(distance: Distance, rng: np.random.Generator) -> None:
    rows = rng.normal(size=(6, 5))
    expected = cdist(rows, rows, IN_SCIPY.get(distance, distance))
    got = all_distances(torch.from_numpy(rows), distance).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("distance", "expected"),
    [("euclidean", 5.0), ("squared", 25.0), ("manhattan", 7.0), ("cosine", 1 - 24 / 25)],
)
def test_hand_worked_distance(distance: Distance, expected: float) -> None:
    a, b = torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])
    if distance != "cosine":
        b = torch.zeros(2)
    assert pair_distance(a, b, distance).item() == pytest.approx(expected)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("value", [0.0, 1e-30, 1.0, -3.0])
def test_identical_inputs_are_at_zero_with_finite_gradients(
    distance: Distance, value: float
) -> None:
    a = torch.full((2, 3), value, requires_grad=True)
    b = torch.full((2, 3), value, requires_grad=True)
    d = pair_distance(a, b, distance)
    d.sum().backward()
    at_zero = 1.0 if distance == "cosine" and abs(value) < 1e-20 else 0.0
    assert d.tolist() == pytest.approx([at_zero] * 2, abs=1e-6)
    assert torch.isfinite(a.grad).all()
    assert torch.isfinite(b.grad).all()


def test_nearly_identical_inputs_keep_the_euclidean_gradient_of_length_one() -> None:
    a = torch.tensor([1e-12, 0.0], requires_grad=True)
    pair_distance(a, torch.zeros(2)).backward()
    assert a.grad.tolist() == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradient_is_the_numeric_one(distance: Distance, rng: np.random.Generator) -> None:
    a, b = (torch.from_numpy(rng.normal(size=(4, 3))).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(lambda x, y: pair_distance(x, y, distance), (a, b))


def test_rounding_makes_no_cosine_distance_negative(rng: np.random.Generator) -> None:
    rows = torch.from_numpy(rng.normal(size=(500, 16))).float()
    assert (pair_distance(rows, 3 * rows, "cosine") >= 0).all()


def test_near_neighbours_far_from_the_origin_are_told_apart() -> None:
    rows = torch.tensor([[1000.0, 1000.0], [1000.001, 1000.0]])
    assert all_distances(rows)[0, 1].item() == pytest.approx(0.001, rel=0.05)


@pytest.mark.parametrize("distance", DISTANCES)
def test_bfloat16_is_computed_in_float32(distance: Distance, rng: np.random.Generator) -> None:
    rows = torch.from_numpy(rng.normal(size=(6, 32))).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = all_distances(rows, distance)
    assert got.dtype == torch.float32
    assert torch.equal(got, all_distances(rows.float(), distance))


@pytest.mark.parametrize("distance", DISTANCES)
def test_nothing_to_compare(distance: Distance) -> None:
    assert all_distances(torch.zeros(0, 4), distance).shape == (0, 0)


def test_unknown_distance_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown distance 'euclidian'; did you mean 'euclidean'"):
        pair_distance(torch.zeros(1, 2), torch.zeros(1, 2), "euclidian")  # type: ignore[arg-type]
