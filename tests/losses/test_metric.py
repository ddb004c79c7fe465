"""Distances against SciPy, metric losses against loops and hand calculation, regions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from siamtrack.errors import ConfigError, TrainingError
from siamtrack.losses import (
    ContrastiveLoss,
    Distance,
    EuclideanLoss,
    Loss,
    LossInput,
    LossTarget,
    Mining,
    TripletLoss,
    all_distances,
    pair_distance,
    pool_region,
    stack_regions,
)
from siamtrack.losses.mining import mine_triplets

DISTANCES = get_args(Distance)
MININGS = get_args(Mining)
IN_SCIPY = {"euclidean": "euclidean", "squared": "sqeuclidean", "manhattan": "cityblock"}


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
    assert loss.pair_loss(anchor, other, same).tolist() == pytest.approx(expected)
    mean = ContrastiveLoss(margin=0.9, distance=distance).pair_loss(anchor, other, same)
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
    assert loss.pair_loss(anchor, other, same).item() == pytest.approx(sum(expected) / 3)


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
    assert loss.triplet_loss(*rows[:3]).item() == pytest.approx(sum(expected) / len(expected))


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradients_are_the_numeric_ones(rows: tuple[torch.Tensor, ...], distance: Distance) -> None:
    anchor, other, third, same = rows
    check = torch.autograd.gradcheck
    contrastive = ContrastiveLoss(distance=distance)
    euclidean = EuclideanLoss(alpha=0.4, distance=distance)
    triplet = TripletLoss(distance=distance, margin=0.7)
    assert check(lambda a, b: contrastive.pair_loss(a, b, same), (anchor, other))
    assert check(lambda a, b: euclidean.pair_loss(a, b, same), (anchor, other))
    assert check(triplet.triplet_loss, (anchor, other, third))


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
    value = ContrastiveLoss(margin=2.0).pair_loss(anchor, other, same)
    value.backward()
    assert value.item() == pytest.approx(expected)
    assert other.grad.item() == pytest.approx(pull)
    assert anchor.grad.item() == pytest.approx(-pull)


@pytest.mark.parametrize(("d", "expected", "pull"), [(3.0, 6.25, 5.0), (0.5, 0, 0), (0, 0.25, 0)])
def test_euclidean_on_paper(d: float, expected: float, pull: float) -> None:
    anchor, other = points(0.0), points(d)
    value = EuclideanLoss(alpha=0.5).pair_loss(anchor, other, SAME)
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
    value = TripletLoss(margin=0.5).triplet_loss(points(0.0), near, far)
    value.backward()
    assert value.item() == pytest.approx(expected, abs=1e-12)
    if pulls is not None:
        assert (near.grad.item(), far.grad.item()) == pytest.approx(pulls)


def test_triplet_exactly_at_the_margin_has_no_gradient() -> None:
    near, far = points(1.0), points(1.5)
    loss = TripletLoss(margin=0.5, distance="euclidean", active_only=True)
    value = loss.triplet_loss(points(0.0), near, far)
    value.backward()
    assert value.item() == 0
    assert near.grad.item() == far.grad.item() == 0


@pytest.mark.parametrize("distance", DISTANCES)
def test_collapsed_embeddings_have_finite_gradients(distance: Distance) -> None:
    for value in (0.0, 0.7):
        embeddings = torch.full((4, 8), value, requires_grad=True)
        same = torch.tensor([True, False])
        total = ContrastiveLoss(distance=distance).pair_loss(embeddings[:2], embeddings[2:], same)
        total = total + EuclideanLoss(distance=distance, alpha=0.1).pair_loss(
            embeddings[:2], embeddings[2:], same
        )
        total = total + TripletLoss(distance=distance).triplet_loss(
            embeddings[:2], embeddings[1:3], embeddings[2:]
        )
        total.backward()
        assert torch.isfinite(total)
        assert torch.isfinite(embeddings.grad).all()


def test_weights_scale_each_pair(rows: tuple[torch.Tensor, ...]) -> None:
    anchor, other, third, same = rows
    weight = torch.tensor([2.0, 0.0, 1.0, 1.0, 0.5, 3.0])
    plain = ContrastiveLoss(reduction="none").pair_loss(anchor, other, same)
    weighted = ContrastiveLoss().pair_loss(anchor, other, same, weight)
    assert weighted.item() == pytest.approx(((plain * weight).sum() / 6).item())
    plain = EuclideanLoss(reduction="none").pair_loss(anchor, other, same)
    weighted = EuclideanLoss(reduction="sum").pair_loss(anchor, other, same, weight)
    assert weighted.item() == pytest.approx((plain * weight[same]).sum().item())
    plain = TripletLoss(reduction="none").triplet_loss(anchor, other, third)
    active = plain > 0
    weighted = TripletLoss(active_only=True).triplet_loss(anchor, other, third, weight)
    assert weighted.item() == pytest.approx((plain * weight)[active].mean().item())


def test_contrastive_takes_as_many_different_as_same_pairs_from_the_batch(
    output: LossInput, target: LossTarget
) -> None:
    values = ContrastiveLoss(reduction="none")(output, target)
    assert len(values) == 2 * 4
    again = ContrastiveLoss(reduction="none")(output, target)
    other = ContrastiveLoss(reduction="none")(output, replace(target, seed=1))
    assert torch.equal(values, again)
    assert torch.equal(values[:4].sort()[0], other[:4].sort()[0])
    assert not torch.equal(values[4:].sort()[0], other[4:].sort()[0])


def test_euclidean_takes_all_same_pairs_of_the_batch(output: LossInput, target: LossTarget) -> None:
    e = output.embeddings
    pairs = [(0, 1), (0, 4), (1, 4), (2, 3)]
    expected = sum((e[i] - e[j]).square().sum() for i, j in pairs) / 4
    assert EuclideanLoss()(output, target).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("mining", MININGS)
def test_triplet_mines_the_batch(output: LossInput, target: LossTarget, mining: Mining) -> None:
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
    optimizer = torch.optim.Adam([embeddings], lr=0.03)
    masks = torch.zeros(0, 1, 1, 1, dtype=torch.bool)
    for step in range(150):
        target = LossTarget(masks, masks, identities=identities, seed=step)
        optimizer.zero_grad()
        loss(LossInput(torch.zeros(0, 1, 1, 1), embeddings=embeddings), target).backward()
        optimizer.step()

    def worst_margin(rows: torch.Tensor) -> float:
        d = (rows[:, None] - rows[None]).norm(dim=-1)
        same = identities[:, None] == identities[None]
        return (d[~same].min() - d[same].max()).item()

    assert worst_margin(start) < 0 < worst_margin(embeddings.detach())


def test_euclidean_alone_collapses(rng: np.random.Generator) -> None:
    one_point = torch.zeros(4, 3)
    assert EuclideanLoss().pair_loss(one_point, one_point, torch.ones(4, dtype=torch.bool)) == 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ContrastiveLoss(margin=-1), "loss.contrastive.margin is -1"),
        (lambda: TripletLoss(margin="wide"), "loss.triplet.margin is 'wide'"),
        (lambda: EuclideanLoss(alpha=float("inf")), "loss.euclidean.alpha is inf"),
        (lambda: TripletLoss(max_triplets=0), "loss.triplet.max_triplets is 0"),
        (lambda: TripletLoss(mining="hard"), "unknown mining 'hard'"),
        (lambda: TripletLoss(active_only="yes"), "active_only is 'yes'; give true or false"),
        (lambda: ContrastiveLoss(distance="l2"), "unknown distance 'l2'"),
        (lambda: ContrastiveLoss(reduction="avg"), "unknown reduction 'avg'"),
    ],
)
def test_invalid_options_are_refused(build: type, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


@pytest.mark.parametrize("loss", [ContrastiveLoss(), EuclideanLoss(), TripletLoss()])
def test_missing_embeddings_are_reported(loss: Loss, output: LossInput, target: LossTarget) -> None:
    with pytest.raises(ConfigError, match="the network gives no embeddings"):
        loss(replace(output, embeddings=None), target)
    with pytest.raises(ConfigError, match="the batch names none"):
        loss(output, replace(target, identities=None))
    with pytest.raises(TrainingError, match=r"identities \(6,\)"):
        loss(output, replace(target, identities=torch.arange(6)))


def test_offline_triplets_must_come_with_the_data(output: LossInput, target: LossTarget) -> None:
    with pytest.raises(ConfigError, match="contain no triplets"):
        TripletLoss(mining="offline")(output, replace(target, triplets=None))


@pytest.mark.parametrize("same", [torch.tensor([1.0, 0.0]), torch.tensor([True])])
def test_same_must_be_one_bool_per_pair(same: torch.Tensor) -> None:
    for loss in (ContrastiveLoss(), EuclideanLoss()):
        with pytest.raises(TrainingError, match="one bool per pair"):
            loss.pair_loss(torch.zeros(2, 3), torch.zeros(2, 3), same)


@pytest.mark.parametrize("distance", DISTANCES)
def test_all_distances_equal_those_of_scipy(distance: Distance, rng: np.random.Generator) -> None:
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


def test_near_neighbors_far_from_the_origin_are_told_apart() -> None:
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


def offline(triplets: object) -> torch.Tensor:
    """Loss of triplets of four rows, the first two of one target and the others of another."""
    none = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    identities = torch.tensor([0, 0, 1, 1])
    target = LossTarget(none, none, identities=identities, triplets=triplets)  # type: ignore[arg-type]
    return TripletLoss(mining="offline")(LossInput(none.float(), None, torch.eye(4)), target)


@pytest.mark.parametrize(
    ("triplets", "says"),
    [
        ([[0, 1, 2]], "triplets is a list; give a tensor"),
        (torch.tensor([[0.0, 1.0, 2.0]]), "type torch.float32; give torch.int64"),
        (torch.tensor([[0, 1]]), r"shape \(1, 2\)"),
        (torch.tensor([0, 1, 2]), r"shape \(3,\)"),
        (torch.tensor([[0, 1, 2], [0, 1, 4]]), r"triplet \[0, 1, 4\] names a row"),
        (torch.tensor([[0, 1, -1]]), "names a row"),
        (torch.tensor([[0, 2, 3]]), "their identities say otherwise"),
        (torch.tensor([[2, 3, 2]]), "their identities say otherwise"),
    ],
)
def test_offline_triplets_that_are_none_are_refused(triplets: object, says: str) -> None:
    assert offline(torch.tensor([[0, 1, 2]])).item() == pytest.approx(0.2)
    with pytest.raises(TrainingError, match=says):
        offline(triplets)


@pytest.mark.parametrize("loss", [ContrastiveLoss(), EuclideanLoss()])
def test_pairs_that_are_no_tensors_of_one_shape_are_refused(
    loss: ContrastiveLoss | EuclideanLoss,
) -> None:
    eye, same = torch.eye(4), torch.ones(4, dtype=torch.bool)
    with pytest.raises(TrainingError, match="same is a list; give a tensor, one bool per pair"):
        loss.pair_loss(eye, eye, [True] * 4)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match=r"other has shape \(4, 2\)"):
        loss.pair_loss(eye, eye[:, :2], same)
    with pytest.raises(TrainingError, match="other is a ndarray"):
        loss.pair_loss(eye, np.eye(4), same)  # type: ignore[arg-type]


def test_regions_and_triplets_that_do_not_fit_are_refused() -> None:
    eye = torch.eye(4)
    with pytest.raises(TrainingError, match=r"negative has shape \(4, 2\)"):
        TripletLoss().triplet_loss(eye, eye, eye[:, :2])
    with pytest.raises(TrainingError, match="search has shape"):
        stack_regions(eye, eye[:3], torch.zeros(4, dtype=torch.bool))
    with pytest.raises(TrainingError, match="is_negative is a list"):
        stack_regions(eye, eye, [False] * 4)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="share is a list"):
        pool_region(torch.ones(1, 2, 3, 3), [1.0])  # type: ignore[arg-type]
