"""Overlaps and box losses against values worked out by hand and in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from siamtrack import geometry
from siamtrack.errors import ConfigError, TrainingError
from siamtrack.losses import GIoULoss, IoULoss, LossInput, LossTarget
from siamtrack.losses.boxes import giou, iou, ltrb_to_xyxy

PAIRS_OF_BOXES = [
    # a, b, IoU, GIoU
    ((0, 0, 2, 2), (0, 0, 2, 2), 1.0, 1.0),
    ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7, 1 / 7 - 2 / 9),
    ((0, 0, 1, 1), (2, 0, 3, 1), 0.0, -1 / 3),
    ((0, 0, 1, 1), (1, 0, 2, 1), 0.0, 0.0),
    ((0, 0, 4, 4), (1, 1, 3, 3), 1 / 4, 1 / 4),
    ((1, 1, 1, 1), (0, 0, 2, 2), 0.0, 0.0),
    ((1, 1, 1, 1), (1, 1, 1, 1), 0.0, 0.0),
    ((3, 3, 1, 1), (0, 0, 4, 4), 0.0, 0.0),
]


@pytest.mark.parametrize(("a", "b", "expected_iou", "expected_giou"), PAIRS_OF_BOXES)
def test_hand_worked_overlap(
    a: tuple[float, ...], b: tuple[float, ...], expected_iou: float, expected_giou: float
) -> None:
    first, second = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    for one, other in ((first, second), (second, first)):
        assert iou(one, other).item() == pytest.approx(expected_iou)
        assert giou(one, other).item() == pytest.approx(expected_giou)


@pytest.mark.parametrize(("a", "b", "_iou", "_giou"), PAIRS_OF_BOXES)
def test_overlap_has_finite_gradients(
    a: tuple[float, ...], b: tuple[float, ...], _iou: float, _giou: float
) -> None:
    for overlap in (iou, giou):
        first = torch.tensor(a, dtype=torch.float32, requires_grad=True)
        overlap(first, torch.tensor(b, dtype=torch.float32)).backward()
        assert torch.isfinite(first.grad).all()


sides = st.floats(0.5, 60)
corner = st.floats(-40, 40)
boxes = st.tuples(corner, corner, sides, sides)


def corners(xywh: tuple[float, ...]) -> np.ndarray:
    x, y, w, h = xywh
    return np.array([x, y, x + w, y + h])


@given(boxes, boxes)
def test_iou_is_that_of_the_numpy_geometry(
    a_xywh: tuple[float, ...], b_xywh: tuple[float, ...]
) -> None:
    a, b = (torch.from_numpy(corners(box)) for box in (a_xywh, b_xywh))
    assert iou(a, b).item() == pytest.approx(float(geometry.iou(a_xywh, b_xywh)), abs=1e-9)


@given(boxes, boxes)
def test_giou_subtracts_the_empty_part_of_the_enclosing_box(
    a_xywh: tuple[float, ...], b_xywh: tuple[float, ...]
) -> None:
    a, b = corners(a_xywh), corners(b_xywh)
    hull = math.prod(np.maximum(a, b)[2:] - np.minimum(a, b)[:2])
    overlap = float(geometry.iou(a_xywh, b_xywh))
    areas = a_xywh[2] * a_xywh[3] + b_xywh[2] * b_xywh[3]
    union = areas / (1 + overlap)
    got = giou(torch.from_numpy(a), torch.from_numpy(b)).item()
    assert got == pytest.approx(overlap - (hull - union) / hull, abs=1e-9)
    assert -1 < got <= overlap + 1e-12


def test_overlaps_broadcast() -> None:
    a, b = torch.rand(5, 1, 4).cumsum(-1), torch.rand(3, 4).cumsum(-1)
    assert iou(a, b).shape == giou(a, b).shape == (5, 3)


def test_disjoint_boxes_have_a_gradient_in_giou_and_none_in_iou() -> None:
    far = torch.tensor([10.0, 0, 11, 1], dtype=torch.float64)
    for overlap, pulled in ((iou, False), (giou, True)):
        box = torch.tensor([0.0, 0, 1, 1], dtype=torch.float64, requires_grad=True)
        overlap(box, far).backward()
        assert bool(box.grad.abs().sum() > 0) is pulled


def test_ltrb_becomes_corners_around_the_cell() -> None:
    ltrb = torch.arange(1.0, 5.0).reshape(1, 4, 1, 1)
    assert ltrb_to_xyxy(ltrb).flatten().tolist() == [-1, -2, 3, 4]


@pytest.mark.parametrize(("loss", "overlap"), [(IoULoss, iou), (GIoULoss, giou)])
def test_loss_sums_the_gaps_at_positives(
    output: LossInput, target: LossTarget, loss: type, overlap: object
) -> None:
    expected = []
    for pair in range(3):
        total = 0.0
        for i in range(5):
            for j in range(5):
                if target.positive[pair, 0, i, j]:
                    p, t = output.ltrb_px[pair, :, i, j], target.ltrb_px[pair, :, i, j]
                    signs = torch.tensor([-1, -1, 1, 1])
                    total += 1 - overlap(p * signs, t * signs).item()
        expected.append(total / (7 / 3))
    got = loss(reduction="none")(output, target)
    assert got.tolist() == pytest.approx(expected)
    assert got[1] == 0
    assert got[0] > 0 < got[2]


@pytest.mark.parametrize("loss", [IoULoss(), GIoULoss()])
def test_exact_boxes_have_zero_loss(target: LossTarget, loss: IoULoss) -> None:
    output = LossInput(torch.zeros(3, 1, 5, 5), target.ltrb_px)
    assert loss(output, target).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("loss", [IoULoss(), GIoULoss()])
def test_boxes_of_other_cells_do_not_count(
    output: LossInput, target: LossTarget, loss: IoULoss
) -> None:
    wild = output.ltrb_px.detach().clone()
    wild[~target.positive.expand_as(wild)] = torch.inf
    wild.requires_grad_()
    value = loss(LossInput(output.score_logits, wild), target)
    value.backward()
    assert value.item() == pytest.approx(loss(output, target).item())
    assert torch.isfinite(wild.grad).all()
    assert (wild.grad[~target.positive.expand_as(wild)] == 0).all()


def test_labels_without_boxes_are_refused(output: LossInput, target: LossTarget) -> None:
    bare = LossTarget(target.positive, target.background)
    with pytest.raises(ConfigError, match="labels hold no ltrb_px"):
        GIoULoss()(output, bare)


def test_boxes_of_another_size_are_refused(target: LossTarget) -> None:
    with pytest.raises(TrainingError, match=r"\(3, 4, 6, 6\)"):
        IoULoss()(LossInput(torch.zeros(3, 1, 5, 5), torch.ones(3, 4, 6, 6)), target)


def test_boxes_that_do_not_fit_the_masks_are_refused(target: LossTarget) -> None:
    wide = torch.ones(3, 4, 6, 6)
    odd = LossTarget(target.positive, target.background, wide)
    with pytest.raises(TrainingError, match=r"target\.positive"):
        IoULoss()(LossInput(torch.zeros(3, 1, 5, 5), wide), odd)
