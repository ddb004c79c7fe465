"""Labels of the response map: which cells are the target, which background, and their boxes.

Both functions take a batch of pairs and give a `TrackingTarget`; a negative pair, whose search
region does not show the exemplar's target, is background everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

from siamtrack.errors import InvalidBoxError, TrainingError
from siamtrack.losses.base import TrackingTarget, check_number

POSITIVE_PART = 0.25
"""Semi-axes of the ellipse of positive cells, as part of the box's width and height."""

MIN_RADIUS_PX = 10.0
"""The ellipse's semi-axes get no shorter than this, in search px."""


def disc_target(
    is_negative: Tensor,
    *,
    response_size: int = 17,
    total_stride: float = 8.0,
    radius_px: float = 16.0,
    offset_px: Tensor | None = None,
) -> TrackingTarget:
    """Labels of SiamFC: a disc of positives, everything else background.

    A cell at u is positive when total_stride * |u - c| <= radius_px (Bertinetto et al. 2016,
    eq. 4), where c is the response's centre, which stands for the centre of the search crop.

    Args:
        is_negative: (B,) bool, the target is not in the search crop; its device is used.
        response_size: R, cells along a side.
        total_stride: search px per cell.
        radius_px: raising it rewards rougher localisation.
        offset_px: (B, 2) x, y of the target's centre from the crop's centre in search px; None
            for a target in the middle of the crop, as SiamFC trains.

    Returns:
        Masks (B, 1, R, R), no boxes.

    Raises:
        ConfigError: the radius is negative or not a number.
        TrainingError: a tensor of the wrong shape or type.
    """
    check_number("radius_px", radius_px, 0.0)
    _check_is_negative(is_negative)
    if offset_px is None:
        offset_px = torch.zeros(len(is_negative), 2, device=is_negative.device)
    _check_columns("offset_px", offset_px, len(is_negative), 2)
    steps = torch.arange(response_size, device=is_negative.device) - (response_size - 1) / 2
    dx = steps * total_stride - offset_px[:, 0, None]
    dy = steps * total_stride - offset_px[:, 1, None]
    inside = dx[:, None, :] ** 2 + dy[:, :, None] ** 2 <= radius_px**2
    positive = (inside & ~is_negative[:, None, None]).unsqueeze(1)
    return TrackingTarget(positive=positive, background=~positive)


def box_target(
    boxes_xywh: Tensor,
    is_negative: Tensor,
    *,
    response_size: int = 16,
    total_stride: float = 16.0,
) -> TrackingTarget:
    """Anchor-free labels: an ellipse of positives inside the box, each with distances to its sides.

    The centre of cell i is at (i + 0.5) * total_stride px. Positive are the cells whose centre is
    in the ellipse around the box's centre with semi-axes of `POSITIVE_PART` of its width and
    height, at least `MIN_RADIUS_PX`, and the cell nearest to the box's centre whenever that centre
    is in the crop. The rest of the box is ignored, everything else is background.

    Args:
        boxes_xywh: (B, 4) box of the target in search px; rows of negative pairs are not read.
        is_negative: (B,) bool, the target is not in the search crop.
        response_size: R, cells along a side.
        total_stride: search px per cell.

    Returns:
        Masks (B, 1, R, R) and float32 `ltrb_px` (B, 4, R, R), on the device of the boxes.

    Raises:
        InvalidBoxError: the box of a pair that is not negative has no area or is not finite.
        TrainingError: a tensor of the wrong shape or type.
    """
    _check_is_negative(is_negative)
    _check_columns("boxes_xywh", boxes_xywh, len(is_negative), 4)
    boxes = torch.where(is_negative[:, None], 1.0, boxes_xywh.float())
    _check_boxes(boxes)
    x, y, w, h = boxes[:, :, None, None].unbind(dim=1)
    cells = (torch.arange(response_size, device=boxes.device) + 0.5) * total_stride
    cell_x, cell_y = cells[None, None, :], cells[None, :, None]

    from_centre_x, from_centre_y = cell_x - (x + w / 2), cell_y - (y + h / 2)
    radius_x = (POSITIVE_PART * w).clamp(min=MIN_RADIUS_PX)
    radius_y = (POSITIVE_PART * h).clamp(min=MIN_RADIUS_PX)
    in_ellipse = (from_centre_x / radius_x) ** 2 + (from_centre_y / radius_y) ** 2 <= 1
    nearest = _is_nearest(from_centre_x, total_stride) & _is_nearest(from_centre_y, total_stride)

    sides = torch.broadcast_tensors(cell_x - x, cell_y - y, x + w - cell_x, y + h - cell_y)
    ltrb_px = torch.stack(sides, dim=1)
    in_box = (ltrb_px >= 0).all(dim=1)
    present = ~is_negative[:, None, None]
    positive = ((in_ellipse | nearest) & present).unsqueeze(1)
    background = ~(in_box & present).unsqueeze(1) & ~positive
    return TrackingTarget(positive, background, torch.where(positive, ltrb_px, 0.0))


def _is_nearest(from_centre: Tensor, total_stride: float) -> Tensor:
    """Cells that hold the point the distances are measured from; half open, so one at most."""
    return (from_centre > -total_stride / 2) & (from_centre <= total_stride / 2)


def _check_is_negative(is_negative: Tensor) -> None:
    if is_negative.ndim != 1 or is_negative.dtype != torch.bool:
        raise TrainingError(
            f"is_negative has shape {tuple(is_negative.shape)} and type {is_negative.dtype}; "
            "give one bool per pair, shape (B,)"
        )


def _check_columns(name: str, tensor: Tensor, rows: int, columns: int) -> None:
    if tensor.shape != (rows, columns):
        raise TrainingError(
            f"{name} has shape {tuple(tensor.shape)}; give ({rows}, {columns}), one row per pair"
        )


def _check_boxes(boxes: Tensor) -> None:
    bad = ~(torch.isfinite(boxes).all(dim=1) & (boxes[:, 2:] > 0).all(dim=1))
    if bad.any():
        row = int(bad.nonzero()[0, 0])
        raise InvalidBoxError(
            f"box {boxes[row].tolist()} of pair {row} is not a box; give x, y, w, h in search px, "
            "finite and with positive w and h, or mark the pair as negative"
        )
