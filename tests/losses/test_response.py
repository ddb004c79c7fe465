"""Response losses against loops over the cells and against values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from siamtrack.errors import ConfigError, TrainingError
from siamtrack.losses import (
    BalancedLogisticLoss,
    FocalLoss,
    IoUAwareLoss,
    Loss,
    LossInput,
    LossTarget,
)


def sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v))


def overlap(a: list[float], b: list[float]) -> float:
    """IoU of two boxes given as distances to the four sides from one and the same point."""
    left, top, right, bottom = (min(p, q) for p, q in zip(a, b, strict=True))
    inter = max(left + right, 0) * max(top + bottom, 0)
    return inter / ((a[0] + a[2]) * (a[1] + a[3]) + (b[0] + b[2]) * (b[1] + b[3]) - inter)


def cells_of(target: LossTarget, pair: int, mask: torch.Tensor) -> list[tuple[int, int]]:
    size = mask.shape[-1]
    return [(i, j) for i in range(size) for j in range(size) if mask[pair, 0, i, j]]


def average_positives(target: LossTarget) -> float:
    pairs = len(target.positive)
    return max(sum(len(cells_of(target, b, target.positive)) for b in range(pairs)) / pairs, 1)


def slow_logistic(output: LossInput, target: LossTarget, pair: int) -> float:
    means = []
    for mask, y in ((target.positive, 1), (target.background, -1)):
        cells = cells_of(target, pair, mask)
        if cells:
            v = [output.score_logits[pair, 0, i, j].item() for i, j in cells]
            means.append(sum(math.log(1 + math.exp(-y * value)) for value in v) / len(v))
    return sum(means) / len(means) if means else 0.0


def slow_focal(
    output: LossInput, target: LossTarget, pair: int, alpha: float, gamma: float
) -> float:
    total = 0.0
    for i, j in cells_of(target, pair, target.positive):
        p = sigmoid(output.score_logits[pair, 0, i, j].item())
        total -= alpha * (1 - p) ** gamma * math.log(p)
    for i, j in cells_of(target, pair, target.background):
        p = sigmoid(output.score_logits[pair, 0, i, j].item())
        total -= (1 - alpha) * p**gamma * math.log(1 - p)
    return total / average_positives(target)


def slow_iou_aware(
    output: LossInput, target: LossTarget, pair: int, alpha: float, gamma: float
) -> float:
    total = 0.0
    for i, j in cells_of(target, pair, target.positive):
        p = sigmoid(output.score_logits[pair, 0, i, j].item())
        q = overlap(output.ltrb_px[pair, :, i, j].tolist(), target.ltrb_px[pair, :, i, j].tolist())
        total -= q * (q * math.log(p) + (1 - q) * math.log(1 - p))
    for i, j in cells_of(target, pair, target.background):
        p = sigmoid(output.score_logits[pair, 0, i, j].item())
        total -= alpha * p**gamma * math.log(1 - p)
    return total / average_positives(target)


@pytest.mark.parametrize(
    ("loss", "slow"),
    [
        (BalancedLogisticLoss(reduction="none"), slow_logistic),
        (FocalLoss(reduction="none"), lambda o, t, b: slow_focal(o, t, b, 0.25, 2.0)),
        (
            FocalLoss(alpha=0.6, gamma=0.5, reduction="none"),
            lambda o, t, b: slow_focal(o, t, b, 0.6, 0.5),
        ),
        (IoUAwareLoss(reduction="none"), lambda o, t, b: slow_iou_aware(o, t, b, 0.75, 2.0)),
        (
            IoUAwareLoss(alpha=1.5, gamma=1.0, reduction="none"),
            lambda o, t, b: slow_iou_aware(o, t, b, 1.5, 1.0),
        ),
    ],
    ids=["logistic", "focal", "focal, other options", "iou_aware", "iou_aware, other options"],
)
def test_matches_a_loop_over_the_cells(
    output: LossInput,
    target: LossTarget,
    loss: Loss,
    slow: Callable[[LossInput, LossTarget, int], float],
) -> None:
    expected = [slow(output, target, pair) for pair in range(3)]
    assert loss(output, target).tolist() == pytest.approx(expected, rel=1e-10)


def three_cells(logits: list[float], kinds: str) -> tuple[LossInput, LossTarget]:
    """One pair with a response of a single row; kinds are + positive, - background, 0 ignored."""
    count = len(logits)
    output = LossInput(
        torch.tensor(logits, dtype=torch.float64).reshape(1, 1, 1, count),
        torch.full((1, 4, 1, count), 2.0, dtype=torch.float64),
    )
    true = torch.tensor([2.0, 2.0, 2.0, 6.0], dtype=torch.float64)
    target = LossTarget(
        torch.tensor([kind == "+" for kind in kinds]).reshape(1, 1, 1, count),
        torch.tensor([kind == "-" for kind in kinds]).reshape(1, 1, 1, count),
        true[None, :, None, None].expand(1, 4, 1, count),
    )
    return output, target


LN2 = math.log(2)


@pytest.mark.parametrize(
    ("loss", "logits", "kinds", "expected"),
    [
        (BalancedLogisticLoss(), [0.0, 0.0, 0.0], "+--", LN2),
        # The positive cell weighs as much as both background cells: (ln 4/3 + ln 2) / 2.
        (BalancedLogisticLoss(), [math.log(3), 0.0, 0.0], "+--", (math.log(4 / 3) + LN2) / 2),
        (BalancedLogisticLoss(), [math.log(3), 0.0, 0.0], "0--", LN2),
        (BalancedLogisticLoss(), [math.log(3), 0.0, 0.0], "+00", math.log(4 / 3)),
        (BalancedLogisticLoss(), [5.0, 0.0, 0.0], "000", 0.0),
        # (1/4)(1/2)^2 ln 2 at the target, (3/4)(1/2)^2 ln 2 at each of two background cells.
        (FocalLoss(), [0.0, 0.0, 0.0], "+--", 7 / 16 * LN2),
        (FocalLoss(alpha=0.5, gamma=0.0), [0.0, 0.0, 0.0], "++0", LN2 / 2),
        # The box of 4x4 px covers half of the true 4x8 px, so the target is 0.5.
        (IoUAwareLoss(), [0.0, 0.0, 0.0], "+00", 0.5 * LN2),
        (IoUAwareLoss(), [0.0, 0.0, 0.0], "+--", 0.5 * LN2 + 2 * 0.75 * 0.25 * LN2),
        (IoUAwareLoss(), [0.0, 0.0, 0.0], "---", 3 * 0.75 * 0.25 * LN2),
    ],
)
def test_hand_worked_value(loss: Loss, logits: list[float], kinds: str, expected: float) -> None:
    assert loss(*three_cells(logits, kinds)).item() == pytest.approx(expected, abs=1e-12)


def test_balanced_logistic_gives_both_kinds_of_cells_the_same_gradient() -> None:
    output, target = three_cells([0.0, 0.0, 0.0, 0.0, 0.0], "+----")
    logits = output.score_logits.requires_grad_()
    BalancedLogisticLoss()(LossInput(logits), target).backward()
    pull = logits.grad.flatten()
    assert pull[0].item() == pytest.approx(-0.25)
    assert pull[1:].tolist() == pytest.approx([0.25 / 4] * 4)


def test_iou_aware_has_no_gradient_when_the_score_is_the_iou() -> None:
    output, target = three_cells([0.0, 1.0, -1.0], "+++")
    logits = output.score_logits.requires_grad_()
    IoUAwareLoss()(LossInput(logits, output.ltrb_px), target).backward()
    at_overlap, too_sure, too_shy = logits.grad.flatten().tolist()
    assert at_overlap == pytest.approx(0, abs=1e-12)
    assert too_sure > 0 > too_shy


def test_iou_aware_does_not_move_the_boxes(output: LossInput, target: LossTarget) -> None:
    IoUAwareLoss()(output, target).backward()
    assert output.ltrb_px.grad is None
    assert output.score_logits.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "loss", [BalancedLogisticLoss(), FocalLoss(), FocalLoss(gamma=0.5), IoUAwareLoss()]
)
def test_gradients_stay_finite_for_extreme_logits(loss: Loss) -> None:
    output, target = three_cells([-1e4, 1e4, 1e4, -1e4], "++--")
    logits = output.score_logits.float().requires_grad_()
    value = loss(LossInput(logits, output.ltrb_px), target)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


def test_focal_loss_weighs_correct_cells_less() -> None:
    output, target = three_cells([3.0], "+")
    plain = FocalLoss(gamma=0.0)(output, target)
    assert FocalLoss(gamma=2.0)(output, target) < 0.01 * plain


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FocalLoss(alpha=1.1), "loss.focal.alpha is 1.1; give a value from 0 to 1"),
        (lambda: FocalLoss(gamma=-1.0), "loss.focal.gamma is -1.0; give a value of at least 0"),
        (lambda: FocalLoss(gamma=float("nan")), "loss.focal.gamma is nan"),
        (lambda: FocalLoss(gamma=float("inf")), "loss.focal.gamma is inf"),
        (lambda: IoUAwareLoss(alpha=-0.1), "loss.iou_aware.alpha is -0.1"),
        (lambda: IoUAwareLoss(gamma="2"), "loss.iou_aware.gamma is '2'; give a number"),
    ],
)
def test_options_out_of_range_are_refused(build: Callable[[], Loss], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


def test_unknown_reduction_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mean'"):
        BalancedLogisticLoss(reduction="meen")  # type: ignore[arg-type]


def test_labels_of_another_size_are_refused(output: LossInput, target: LossTarget) -> None:
    larger = LossInput(torch.zeros(3, 1, 6, 6))
    with pytest.raises(TrainingError, match=r"\(3, 1, 6, 6\)"):
        BalancedLogisticLoss()(larger, target)


def test_masks_of_different_size_are_refused(target: LossTarget) -> None:
    odd = LossTarget(target.positive, target.background[:, :, 1:])
    with pytest.raises(TrainingError, match="background"):
        BalancedLogisticLoss()(LossInput(torch.zeros(3, 1, 5, 5)), odd)


def test_iou_aware_without_a_box_head_is_refused(target: LossTarget) -> None:
    with pytest.raises(ConfigError, match="network gives no ltrb_px"):
        IoUAwareLoss()(LossInput(torch.zeros(3, 1, 5, 5)), target)


def test_masks_that_are_no_bools_are_refused(output: LossInput, target: LossTarget) -> None:
    counted = replace(target, positive=target.positive.float())
    with pytest.raises(TrainingError, match=r"target.positive has type torch.float32"):
        FocalLoss()(output, counted)
    with pytest.raises(TrainingError, match="score_logits is a list"):
        FocalLoss()(replace(output, score_logits=[0.0]), target)  # type: ignore[arg-type]
