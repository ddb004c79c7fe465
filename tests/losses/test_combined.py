"""Sums of losses from the configuration, and properties of every loss."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch

from siamtrack.errors import ConfigError, TrainingError
from siamtrack.losses import (
    LOSSES,
    LossInput,
    LossTarget,
    TripletLoss,
    box_target,
    build_loss,
)

EVERY = sorted(LOSSES)
PER_PAIR = ["focal", "giou", "iou", "iou_aware", "logistic"]
PER_CELL_SUM = ["focal", "giou", "iou", "iou_aware"]


def leaves(output: LossInput) -> tuple[torch.Tensor, ...]:
    return output.score_logits, output.ltrb_px, output.embeddings, output.filter_features


@pytest.mark.parametrize("name", EVERY)
def test_gradient_is_the_numeric_one(name: str, output: LossInput, target: LossTarget) -> None:
    learns = {"iou": "ltrb_px", "giou": "ltrb_px", "filter": "filter_features"}.get(
        name, "score_logits" if name in PER_PAIR else "embeddings"
    )

    def loss(tensor: torch.Tensor) -> torch.Tensor:
        return LOSSES[name]()(replace(output, **{learns: tensor}), target)

    assert torch.autograd.gradcheck(loss, (getattr(output, learns),))


@pytest.mark.parametrize("name", EVERY)
def test_autocast_and_bfloat16_change_nothing_but_the_inputs(
    name: str, output: LossInput, target: LossTarget
) -> None:
    coarse = [tensor.detach().bfloat16().requires_grad_() for tensor in leaves(output)]
    loss = LOSSES[name]()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(LossInput(*coarse), target)
        value.backward()
    exact = loss(LossInput(*(tensor.detach().float() for tensor in coarse)), target)
    assert value.dtype == torch.float32
    assert torch.equal(value, exact)
    assert value.item() > 0
    assert all(t.grad is None or torch.isfinite(t.grad).all() for t in coarse)


@pytest.mark.parametrize("name", EVERY)
def test_empty_batch_has_zero_loss_and_a_gradient(name: str) -> None:
    logits, ltrb = torch.zeros(0, 1, 5, 5), torch.zeros(0, 4, 5, 5)
    embeddings, features = torch.zeros(0, 4), torch.zeros(0, 3, 2, 5, 5)
    for tensor in (logits, ltrb, embeddings, features):
        tensor.requires_grad_()
    masks = torch.zeros(0, 1, 5, 5, dtype=torch.bool)
    target = LossTarget(
        masks, masks, torch.zeros(0, 4, 5, 5), torch.zeros(0).long(),
        filter_centers_xy=torch.zeros(0, 3, 2),
    )  # fmt: skip
    value = LOSSES[name]()(LossInput(logits, ltrb, embeddings, features), target)
    value.backward()
    assert value.item() == 0


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("kind", ["only negatives", "only positives", "all ignored"])
def test_batches_of_one_kind_are_finite(
    name: str, kind: str, output: LossInput, target: LossTarget
) -> None:
    full, none = torch.ones_like(target.positive), torch.zeros_like(target.positive)
    positive = full if kind == "only positives" else none
    background = full if kind == "only negatives" else none
    true = torch.full_like(output.ltrb_px.detach(), 9.0)
    alone = torch.zeros(7, dtype=torch.int64) if kind == "only positives" else torch.arange(7)
    odd = LossTarget(positive, background, true, alone, filter_centers_xy=target.filter_centers_xy)
    value = LOSSES[name]()(output, odd)
    value.backward()
    assert torch.isfinite(value)
    assert all(t.grad is None or torch.isfinite(t.grad).all() for t in leaves(output))
    idle = {
        "only negatives": {"iou", "giou", "contrastive", "euclidean", "triplet"},
        "only positives": {"contrastive", "triplet"},
        "all ignored": set(EVERY),
    }
    assert (value.item() == 0) is (name in idle[kind])


@pytest.mark.parametrize("name", PER_PAIR)
def test_ignored_cells_have_no_gradient(name: str, output: LossInput, target: LossTarget) -> None:
    LOSSES[name]()(output, target).backward()
    ignored = ~target.positive & ~target.background
    assert ignored.sum() == 5
    for tensor in (output.score_logits, output.ltrb_px):
        if tensor.grad is not None:
            assert (tensor.grad[ignored.expand_as(tensor)] == 0).all()


@pytest.mark.parametrize("name", PER_PAIR)
def test_pair_weights_and_reductions(name: str, output: LossInput, target: LossTarget) -> None:
    values = LOSSES[name](reduction="none")(output, target)
    assert values.shape == (3,)
    assert LOSSES[name]()(output, target).item() == pytest.approx(values.mean().item())
    weighted = replace(target, pair_weight=torch.tensor([2.0, 0.5, 0.0]))
    expected = 2 * values[0] + 0.5 * values[1]
    total = LOSSES[name](reduction="sum")(output, weighted)
    assert total.item() == pytest.approx(expected.item())
    mean = LOSSES[name]()(output, weighted)
    assert mean.item() == pytest.approx(expected.item() / 3)


def test_weights_of_another_length_are_refused(output: LossInput, target: LossTarget) -> None:
    with pytest.raises(TrainingError, match=r"weight has shape \(2,\)"):
        LOSSES["focal"]()(output, replace(target, pair_weight=torch.ones(2)))


@pytest.mark.parametrize("name", PER_PAIR)
def test_halves_of_a_batch_average_to_the_whole(
    name: str, output: LossInput, target: LossTarget
) -> None:
    def part(rows: list[int], positives: float | None) -> torch.Tensor:
        return LOSSES[name]()(
            LossInput(output.score_logits[rows], output.ltrb_px[rows]),
            LossTarget(
                target.positive[rows],
                target.background[rows],
                target.ltrb_px[rows],
                positives_per_pair=positives,
            ),
        )

    whole = part([0, 1, 2, 2], None)
    halves = (part([0, 1], 8 / 4) + part([2, 2], 8 / 4)) / 2
    assert halves.item() == pytest.approx(whole.item())
    if name in PER_CELL_SUM:
        apart = (part([0, 1], None) + part([2, 2], None)) / 2
        assert apart.item() != pytest.approx(whole.item())


def test_few_positives_do_not_blow_up_the_background(output: LossInput, target: LossTarget) -> None:
    none = torch.zeros_like(target.positive)
    bare = LossTarget(none, target.background)
    given = LOSSES["focal"]()(output, bare)
    for count in (0.01, torch.tensor(0.5), 1):
        assert LOSSES["focal"]()(output, replace(bare, positives_per_pair=count)) == given


def test_sum_weighs_its_terms(output: LossInput, target: LossTarget) -> None:
    loss = build_loss({"logistic": 1.0, "contrastive": 0.1, "giou": 2})
    total, parts = loss.evaluate(output, target)
    assert list(parts) == ["logistic", "contrastive", "giou"]
    for name, value in parts.items():
        assert value.item() == pytest.approx(LOSSES[name]()(output, target).item())
        assert not value.requires_grad
    expected = parts["logistic"] + 0.1 * parts["contrastive"] + 2 * parts["giou"]
    assert total.item() == pytest.approx(expected.item())
    assert loss(output, target).item() == total.item()
    total.backward()
    assert all(tensor.grad is not None for tensor in leaves(output)[:3])


def test_options_come_in_a_table(output: LossInput, target: LossTarget) -> None:
    options = {"margin": 0.7, "mining": "batch-hard", "distance": "cosine"}
    loss = build_loss({"triplet": {"weight": 0.5, **options}})
    expected = 0.5 * TripletLoss(**options)(output, target)
    assert loss(output, target).item() == pytest.approx(expected.item())
    assert build_loss({"triplet": options}).terms[0].weight == 1.0


def test_weight_zero_leaves_a_loss_out() -> None:
    loss = build_loss({"logistic": 1.0, "contrastive": 0, "giou": {"weight": 0.0}})
    assert [term.name for term in loss.terms] == ["logistic"]
    assert not loss.needs_embeddings


@pytest.mark.parametrize("name", EVERY)
def test_sum_knows_what_it_needs(name: str, output: LossInput, target: LossTarget) -> None:
    loss = build_loss({name: 1.0})
    embeddings = output.embeddings if loss.needs_embeddings else None
    features = output.filter_features if loss.needs_filter else None
    given = LossInput(output.score_logits, output.ltrb_px, embeddings, features)
    assert torch.isfinite(loss(given, target))


def test_sum_can_be_sent_to_another_process(output: LossInput, target: LossTarget) -> None:
    loss = build_loss({"iou_aware": 1.0, "triplet": 0.1})
    again = pickle.loads(pickle.dumps(loss))
    assert again == loss
    assert again(output, target).item() == loss(output, target).item()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"logistics": 1.0}, "unknown loss 'logistics'; did you mean 'logistic'"),
        ({"zzz": 1.0}, "unknown loss 'zzz'; use one of contrastive"),
        ({"triplet": {"margn": 0.2}}, "unknown option of the loss triplet 'margn'.*'margin'"),
        ({"triplet": {"margin": -0.2}}, "loss.triplet.margin is -0.2; give a value of at least 0"),
        ({"logistic": -1.0}, "weight of the loss logistic is -1.0"),
        ({"logistic": True}, "weight of the loss logistic is True"),
        ({"logistic": "1"}, "weight of the loss logistic is '1'"),
        ({"logistic": {"weight": float("nan")}}, "weight of the loss logistic is nan"),
        ({"focal": {"reduction": "none"}}, "a sum of losses needs one number"),
        ({}, "leave nothing to train on"),
        ({"focal": 0.0}, "leave nothing to train on"),
        ({"focal": 0.0, "triplet": {"weight": 0, "minning": "x"}}, "did you mean 'mining'"),
    ],
)
def test_invalid_configuration_is_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_loss(config)  # type: ignore[arg-type]


def test_a_tracker_can_be_fitted_to_one_pair() -> None:
    boxes = torch.tensor([[60.0, 80.0, 90.0, 50.0], [0.0, 0.0, 1.0, 1.0]])
    target = box_target(boxes, torch.tensor([False, True]))
    logits = torch.zeros(2, 1, 16, 16, requires_grad=True)
    log_ltrb = torch.zeros(2, 4, 16, 16, requires_grad=True)
    loss = build_loss({"iou_aware": 1.0, "giou": 1.5})
    optimizer = torch.optim.Adam([logits, log_ltrb], lr=0.1)
    first = None
    for _ in range(120):
        optimizer.zero_grad()
        value = loss(LossInput(logits, 16 * log_ltrb.exp()), target)
        first = first or value.item()
        value.backward()
        optimizer.step()
    assert value.item() < first / 20
    probability = logits.sigmoid()
    assert probability[target.positive].min() > 0.9
    assert probability[target.background].max() < 0.2
    assert (16 * log_ltrb.exp() - target.ltrb_px)[
        target.positive.expand(-1, 4, -1, -1)
    ].abs().max() < 2
