"""Labels against loops over the cells, and special cases of boxes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from siamtrack.errors import ConfigError, InvalidBoxError, TrainingError
from siamtrack.losses import box_target, disc_target

PRESENT = torch.tensor([False])


def draw(target: object, pair: int = 0) -> list[str]:
    """The labels as text: + positive, - background, . ignored."""
    positive, background = target.positive[pair, 0], target.background[pair, 0]
    assert not (positive & background).any()
    return [
        "".join("+" if p else "-" if b else "." for p, b in zip(*rows, strict=True))
        for rows in zip(positive.tolist(), background.tolist(), strict=True)
    ]


def test_disc_is_that_of_siamfc() -> None:
    target = disc_target(PRESENT)
    assert target.positive.shape == target.background.shape == (1, 1, 17, 17)
    rows = draw(target)
    assert [row[6:11] for row in rows[6:11]] == ["--+--", "-+++-", "+++++", "-+++-", "--+--"]
    assert "".join(rows).count("+") == 13
    assert "".join(rows).count(".") == 0
    assert target.ltrb_px is None


@pytest.mark.parametrize("radius_px", [0.0, 7.9, 8.0, 11.4, 16.0, 24.0])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (8.0, -16.0), (-3.0, 5.5)])
def test_disc_cell_by_cell(radius_px: float, offset: tuple[float, float]) -> None:
    target = disc_target(
        PRESENT,
        response_size=9,
        total_stride=8,
        radius_px=radius_px,
        offset_px=torch.tensor([offset]),
    )
    for row in range(9):
        for column in range(9):
            dx, dy = (column - 4) * 8 - offset[0], (row - 4) * 8 - offset[1]
            inside = dx * dx + dy * dy <= radius_px**2
            assert target.positive[0, 0, row, column].item() is inside


def test_negative_pair_has_no_disc() -> None:
    target = disc_target(torch.tensor([True, False]))
    assert not target.positive[0].any()
    assert target.background[0].all()
    assert target.positive[1].sum() == 13


def test_box_labels_of_a_large_box() -> None:
    # 8 x 6 cells of 16 px; the ellipse has semi-axes of 32 and 24 px around (128, 112).
    target = box_target(torch.tensor([[64.0, 64.0, 128.0, 96.0]]), PRESENT)
    rows = draw(target)
    assert rows[3] == "-" * 16
    # Cells lie 8, 24 and 40 px from the center: (24/32)^2 + (8/24)^2 < 1, but 24/24 is the rim.
    assert rows[4] == rows[5] == rows[8] == rows[9] == "----........----"
    assert rows[6] == rows[7] == "----..++++..----"
    assert rows[10] == "-" * 16


def slow_box_target(box: list[float], size: int, stride: float) -> tuple[list[str], np.ndarray]:
    x, y, w, h = box
    rows, ltrb = [], np.zeros((4, size, size))
    for i in range(size):
        row = ""
        for j in range(size):
            cx, cy = (j + 0.5) * stride, (i + 0.5) * stride
            reach_x, reach_y = max(w / 4, 10), max(h / 4, 10)
            dx, dy = cx - (x + w / 2), cy - (y + h / 2)
            in_ellipse = math.hypot(dx / reach_x, dy / reach_y) <= 1
            holds_center = (
                j * stride <= x + w / 2 < (j + 1) * stride
                and i * stride <= y + h / 2 < (i + 1) * stride
            )
            if in_ellipse or holds_center:
                row += "+"
                ltrb[:, i, j] = cx - x, cy - y, x + w - cx, y + h - cy
            else:
                row += "." if x <= cx <= x + w and y <= cy <= y + h else "-"
        rows.append(row)
    return rows, ltrb


def test_box_labels_cell_by_cell(rng: np.random.Generator) -> None:
    centers, sizes = rng.uniform(-20, 276, (60, 2)), np.exp(rng.uniform(0.5, 5.3, (60, 2)))
    boxes = torch.from_numpy(np.concatenate([centers - sizes / 2, sizes], axis=1)).float()
    target = box_target(boxes, torch.zeros(60, dtype=torch.bool))
    for pair in range(60):
        rows, ltrb = slow_box_target(boxes[pair].tolist(), 16, 16.0)
        assert draw(target, pair) == rows
        np.testing.assert_allclose(target.ltrb_px[pair].numpy(), ltrb, atol=1e-3)


def test_every_target_centered_in_the_crop_has_a_positive_cell(rng: np.random.Generator) -> None:
    centers = rng.uniform(0, 256, (500, 2))
    boxes = torch.from_numpy(np.concatenate([centers - 1, np.full((500, 2), 2.0)], axis=1))
    target = box_target(boxes, torch.zeros(500, dtype=torch.bool))
    assert target.positive.flatten(1).any(dim=1).all()


def test_a_target_outside_the_crop_has_no_positive_cell() -> None:
    target = box_target(torch.tensor([[-60.0, 100.0, 30.0, 30.0]]), PRESENT)
    assert not target.positive.any()
    assert target.background.all()


def test_the_distances_give_the_box_back() -> None:
    box = [70.0, 90.0, 61.0, 47.0]
    target = box_target(torch.tensor([box]), PRESENT, response_size=32, total_stride=8.0)
    cells = target.positive[0, 0].nonzero()
    assert len(cells) > 1
    for i, j in cells.tolist():
        left, top, right, bottom = target.ltrb_px[0, :, i, j].tolist()
        x, y = (j + 0.5) * 8, (i + 0.5) * 8
        again = [x - left, y - top, left + right, top + bottom]
        assert again == pytest.approx(box)


def test_negative_pair_is_background_whatever_its_box_says() -> None:
    boxes = torch.tensor([[64.0, 64.0, 128.0, 96.0], [math.nan] * 4, [64.0, 64.0, 128.0, 96.0]])
    fine = box_target(boxes, torch.tensor([True] * 3), response_size=128, total_stride=2.0)
    assert fine.background.all()
    target = box_target(boxes, torch.tensor([True, True, False]))
    assert target.background[:2].all()
    assert not target.positive[:2].any()
    assert (target.ltrb_px[:2] == 0).all()
    assert target.positive[2].sum() == 8


def test_empty_batch() -> None:
    none = torch.zeros(0, dtype=torch.bool)
    assert box_target(torch.zeros(0, 4), none).ltrb_px.shape == (0, 4, 16, 16)
    assert disc_target(none).positive.shape == (0, 1, 17, 17)


@pytest.mark.parametrize(
    "box", [[1.0, 2.0, 0.0, 4.0], [1.0, 2.0, 4.0, -1.0], [math.nan, 2.0, 4.0, 4.0]]
)
def test_invalid_boxes_are_refused(box: list[float]) -> None:
    good = [10.0, 10.0, 20.0, 20.0]
    with pytest.raises(InvalidBoxError, match="of pair 1 is not a box"):
        box_target(torch.tensor([good, box]), torch.tensor([False, False]))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"give \(1, 4\)"):
        box_target(torch.zeros(2, 4), PRESENT)
    with pytest.raises(TrainingError, match=r"give \(1, 2\)"):
        disc_target(PRESENT, offset_px=torch.zeros(2))
    with pytest.raises(TrainingError, match="one bool per pair"):
        disc_target(torch.zeros(3))
    with pytest.raises(TrainingError, match="one bool per pair"):
        box_target(torch.ones(3, 4), torch.zeros(3, 1, dtype=torch.bool))


def test_negative_radius_is_refused() -> None:
    with pytest.raises(ConfigError, match="radius_px is -1"):
        disc_target(PRESENT, radius_px=-1.0)


def test_labels_of_lists_are_refused() -> None:
    with pytest.raises(TrainingError, match="is_negative is a list; give a tensor"):
        disc_target([False, True])  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="boxes_xywh is a list; give a tensor"):
        box_target([[1, 2, 3, 4]], torch.tensor([False]))  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="is_negative is a list; give a tensor"):
        box_target(torch.ones(1, 4), [False])  # type: ignore[arg-type]
