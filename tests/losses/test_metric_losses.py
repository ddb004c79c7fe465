"""Metric losses against loops, paper and what they are for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from siamtrack.errors import ConfigError, TrainingError
from siamtrack.losses import (
    ContrastiveLoss,
    Distance,
    EuclideanLoss,
    Loss,
    Mining,
    TrackingOutput,
    TrackingTarget,
    TripletLoss,
)
from siamtrack.losses.mining import mine_triplets

DISTANCES = get_args(Distance)
MININGS = get_args(Mining)


def slow_distance(a: list[float], b: list[float], distance: str) -> float:
    if distance == "manhattan":
        return sum(abs(p - q) for p, q in zip(a, b, strict=True))
    if distance == "cosine":
        dot = sum(p * q for p, q in zip(a, b, strict=True))
        return 1 - dot / (math.hypot(*a) * math.hypot(*b))
    squared = sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
    return squared if distance == "squared" else math.sqrt(squared)


@pytest.fixture
def rows(rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
    """Anchors, others, more others (6, 3), and whether anchor and other are the same."""
    tables = (torch.from_numpy(rng.normal(0, 0.5, (6, 3))).requires_grad_() for _ in range(3))
    return (*tables, torch.tensor([True, False, True, False, False, True]))


@pytest.mark.parametrize("distance", DISTANCES)
def test_contrastive_pair_by_pair(rows: tuple[torch.Tensor, ...], distance: Distance) -> None:
    anchor, other, _, same = rows
    expected = []
    for a, b, equal in zip(anchor.tolist(), other.tolist(), same.tolist(), strict=True):
        d = slow_distance(a, b, distance)
        expected.append(0.5 * d**2 if equal else 0.5 * max(0.9 - d, 0) ** 2)
    loss = ContrastiveLoss(margin=0.9, distance=distance, reduction="none")
    assert loss.of_pairs(anchor, other, same).tolist() == pytest.approx(expected)
    mean = ContrastiveLoss(margin=0.9, distance=distance).of_pairs(anchor, other, same)
    assert mean.item() == pytest.approx(sum(expected) / 6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_euclidean_pair_by_pair(rows: tuple[torch.Tensor, ...], distance: Distance) -> None:
    anchor, other, _, same = rows
    expected = [
        (slow_distance(a, b, distance) - 0.4) ** 2
        for a, b, equal in zip(anchor.tolist(), other.tolist(), same.tolist(), strict=True)
        if equal
    ]
    loss = EuclideanLoss(alpha=0.4, distance=distance)
    assert loss.of_pairs(anchor, other, same).item() == pytest.approx(sum(expected) / 3)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("active_only", [False, True])
def test_triplet_by_triplet(
    rows: tuple[torch.Tensor, ...], distance: Distance, active_only: bool
) -> None:
    expected = []
    for a, p, n in zip(*(table.tolist() for table in rows[:3]), strict=True):
        to_positive, to_negative = slow_distance(a, p, distance), slow_distance(a, n, distance)
        expected.append(max(to_positive - to_negative + 0.05, 0))
    assert 0 in expected
    if active_only:
        expected = [value for value in expected if value > 0]
    loss = TripletLoss(margin=0.05, distance=distance, active_only=active_only)
    assert loss.of_triplets(*rows[:3]).item() == pytest.approx(sum(expected) / len(expected))


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradients_are_the_numeric_ones(rows: tuple[torch.Tensor, ...], distance: Distance) -> None:
    anchor, other, third, same = rows
    check = torch.autograd.gradcheck
    contrastive = ContrastiveLoss(distance=distance)
    euclidean = EuclideanLoss(alpha=0.4, distance=distance)
    triplet = TripletLoss(distance=distance, margin=0.7)
    assert check(lambda a, b: contrastive.of_pairs(a, b, same), (anchor, other))
    assert check(lambda a, b: euclidean.of_pairs(a, b, same), (anchor, other))
    assert check(triplet.of_triplets, (anchor, other, third))


def points(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None].requires_grad_()


SAME, DIFFERENT = torch.tensor([True]), torch.tensor([False])


@pytest.mark.parametrize(
    ("d", "same", "expected", "pull"),
    [
        (3.0, SAME, 4.5, 3.0),
        (0.0, SAME, 0.0, 0.0),
        (0.0, DIFFERENT, 2.0, 0.0),
        (0.5, DIFFERENT, 1.125, -1.5),
        (2.0, DIFFERENT, 0.0, 0.0),
        (2.5, DIFFERENT, 0.0, 0.0),
    ],
)
def test_contrastive_on_paper(d: float, same: torch.Tensor, expected: float, pull: float) -> None:
    anchor, other = points(0.0), points(d)
    value = ContrastiveLoss(margin=2.0).of_pairs(anchor, other, same)
    value.backward()
    assert value.item() == pytest.approx(expected)
    assert other.grad.item() == pytest.approx(pull)
    assert anchor.grad.item() == pytest.approx(-pull)


@pytest.mark.parametrize(("d", "expected", "pull"), [(3.0, 6.25, 5.0), (0.5, 0, 0), (0, 0.25, 0)])
def test_euclidean_on_paper(d: float, expected: float, pull: float) -> None:
    anchor, other = points(0.0), points(d)
    value = EuclideanLoss(alpha=0.5).of_pairs(anchor, other, SAME)
    value.backward()
    assert value.item() == pytest.approx(expected)
    assert other.grad.item() == pytest.approx(pull)


@pytest.mark.parametrize(
    ("positive", "negative", "expected", "pulls"),
    [
        (1.0, 2.0, 0.0, (0.0, 0.0)),  # 1 - 4 + 0.5 < 0
        (1.0, 1.0, 0.5, (2.0, -2.0)),
        (2.0, 1.0, 3.5, (4.0, -2.0)),
        (0.0, 0.0, 0.5, (0.0, 0.0)),
        (0.5, math.sqrt(0.75), 0.0, None),  # 1/4 - 3/4 + 1/2, exactly at the margin
    ],
)
def test_triplet_on_paper(
    positive: float, negative: float, expected: float, pulls: tuple[float, float] | None
) -> None:
    near, far = points(positive), points(negative)
    value = TripletLoss(margin=0.5).of_triplets(points(0.0), near, far)
    value.backward()
    assert value.item() == pytest.approx(expected, abs=1e-12)
    if pulls is not None:
        assert (near.grad.item(), far.grad.item()) == pytest.approx(pulls)


def test_triplet_exactly_at_the_margin_is_at_rest() -> None:
    near, far = points(1.0), points(1.5)
    loss = TripletLoss(margin=0.5, distance="euclidean", active_only=True)
    value = loss.of_triplets(points(0.0), near, far)
    value.backward()
    assert value.item() == 0
    assert near.grad.item() == far.grad.item() == 0


@pytest.mark.parametrize("distance", DISTANCES)
def test_collapsed_embeddings_have_finite_gradients(distance: Distance) -> None:
    for value in (0.0, 0.7):
        embeddings = torch.full((4, 8), value, requires_grad=True)
        same = torch.tensor([True, False])
        total = ContrastiveLoss(distance=distance).of_pairs(embeddings[:2], embeddings[2:], same)
        total = total + EuclideanLoss(distance=distance, alpha=0.1).of_pairs(
            embeddings[:2], embeddings[2:], same
        )
        total = total + TripletLoss(distance=distance).of_triplets(
            embeddings[:2], embeddings[1:3], embeddings[2:]
        )
        total.backward()
        assert torch.isfinite(total)
        assert torch.isfinite(embeddings.grad).all()


def test_weights_scale_each_pair(rows: tuple[torch.Tensor, ...]) -> None:
    anchor, other, third, same = rows
    weight = torch.tensor([2.0, 0.0, 1.0, 1.0, 0.5, 3.0])
    plain = ContrastiveLoss(reduction="none").of_pairs(anchor, other, same)
    weighted = ContrastiveLoss().of_pairs(anchor, other, same, weight)
    assert weighted.item() == pytest.approx(((plain * weight).sum() / 6).item())
    plain = EuclideanLoss(reduction="none").of_pairs(anchor, other, same)
    weighted = EuclideanLoss(reduction="sum").of_pairs(anchor, other, same, weight)
    assert weighted.item() == pytest.approx((plain * weight[same]).sum().item())
    plain = TripletLoss(reduction="none").of_triplets(anchor, other, third)
    active = plain > 0
    weighted = TripletLoss(active_only=True).of_triplets(anchor, other, third, weight)
    assert weighted.item() == pytest.approx((plain * weight)[active].mean().item())


def test_contrastive_takes_as_many_different_as_same_pairs_from_the_batch(
    output: TrackingOutput, target: TrackingTarget
) -> None:
    values = ContrastiveLoss(reduction="none")(output, target)
    assert len(values) == 2 * 4
    again = ContrastiveLoss(reduction="none")(output, target)
    other = ContrastiveLoss(reduction="none")(output, replace(target, seed=1))
    assert torch.equal(values, again)
    assert torch.equal(values[:4].sort()[0], other[:4].sort()[0])
    assert not torch.equal(values[4:].sort()[0], other[4:].sort()[0])


def test_euclidean_takes_all_same_pairs_of_the_batch(
    output: TrackingOutput, target: TrackingTarget
) -> None:
    e = output.embeddings
    pairs = [(0, 1), (0, 4), (1, 4), (2, 3)]
    expected = sum((e[i] - e[j]).square().sum() for i, j in pairs) / 4
    assert EuclideanLoss()(output, target).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("mining", MININGS)
def test_triplet_mines_the_batch(
    output: TrackingOutput, target: TrackingTarget, mining: Mining
) -> None:
    e = output.embeddings.detach()
    triplets = target.triplets
    if mining != "offline":
        squared = (e[:, None] - e[None]).square().sum(-1)
        triplets = mine_triplets(
            mining,
            squared,
            target.identities,
            margin=0.4,
            max_triplets=100,
            rng=np.random.default_rng(target.seed),
        )
    expected = [
        max(((e[a] - e[p]).square().sum() - (e[a] - e[n]).square().sum()).item() + 0.4, 0)
        for a, p, n in triplets.tolist()
    ]
    loss = TripletLoss(margin=0.4, mining=mining, reduction="none")
    assert loss(output, target).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    "loss",
    [
        ContrastiveLoss(),
        *(TripletLoss(mining=m) for m in MININGS if m not in ("offline", "semi-hard")),
        # Semi-hard mining skips what is already wrong, so it needs a band that starts at once.
        TripletLoss(mining="semi-hard", margin=2.0),
    ],
)
def test_training_pulls_targets_apart(loss: Loss, rng: np.random.Generator) -> None:
    identities = torch.arange(4).repeat_interleave(3)
    start = torch.from_numpy(rng.normal(0, 0.3, (12, 6))).float()
    embeddings = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([embeddings], lr=0.03)
    masks = torch.zeros(0, 1, 1, 1, dtype=torch.bool)
    for step in range(150):
        target = TrackingTarget(masks, masks, identities=identities, seed=step)
        optimiser.zero_grad()
        loss(TrackingOutput(torch.zeros(0, 1, 1, 1), embeddings=embeddings), target).backward()
        optimiser.step()

    def worst_margin(rows: torch.Tensor) -> float:
        d = (rows[:, None] - rows[None]).norm(dim=-1)
        same = identities[:, None] == identities[None]
        return (d[~same].min() - d[same].max()).item()

    assert worst_margin(start) < 0 < worst_margin(embeddings.detach())


def test_euclidean_alone_collapses(rng: np.random.Generator) -> None:
    one_point = torch.zeros(4, 3)
    assert EuclideanLoss().of_pairs(one_point, one_point, torch.ones(4, dtype=torch.bool)) == 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ContrastiveLoss(margin=-1), "margin of the contrastive loss is -1"),
        (lambda: TripletLoss(margin="wide"), "margin of the triplet loss is 'wide'"),
        (lambda: EuclideanLoss(alpha=float("inf")), "alpha of the euclidean loss is inf"),
        (lambda: TripletLoss(max_triplets=0), "max_triplets of the triplet loss is 0"),
        (lambda: TripletLoss(mining="hard"), "unknown mining 'hard'"),
        (lambda: TripletLoss(active_only="yes"), "active_only is 'yes'; give true or false"),
        (lambda: ContrastiveLoss(distance="l2"), "unknown distance 'l2'"),
        (lambda: ContrastiveLoss(reduction="avg"), "unknown reduction 'avg'"),
    ],
)
def test_options_that_make_no_sense_are_refused(build: type, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


@pytest.mark.parametrize("loss", [ContrastiveLoss(), EuclideanLoss(), TripletLoss()])
def test_missing_embeddings_are_reported(
    loss: Loss, output: TrackingOutput, target: TrackingTarget
) -> None:
    with pytest.raises(ConfigError, match="the network gives no embeddings"):
        loss(replace(output, embeddings=None), target)
    with pytest.raises(ConfigError, match="the batch names none"):
        loss(output, replace(target, identities=None))
    with pytest.raises(TrainingError, match=r"identities \(6,\)"):
        loss(output, replace(target, identities=torch.arange(6)))


def test_offline_triplets_must_come_with_the_data(
    output: TrackingOutput, target: TrackingTarget
) -> None:
    with pytest.raises(ConfigError, match="brings no triplets"):
        TripletLoss(mining="offline")(output, replace(target, triplets=None))


@pytest.mark.parametrize("same", [torch.tensor([1.0, 0.0]), torch.tensor([True])])
def test_same_must_say_yes_or_no_of_each_pair(same: torch.Tensor) -> None:
    for loss in (ContrastiveLoss(), EuclideanLoss()):
        with pytest.raises(TrainingError, match="one bool per pair"):
            loss.of_pairs(torch.zeros(2, 3), torch.zeros(2, 3), same)
