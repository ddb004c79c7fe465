"""Labels of the response map: positive cells, background cells and the distances to the box sides.

A pair whose search crop does not show the exemplar's target is negative: background everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

from siamtrack.errors import InvalidBoxError, TrainingError
from siamtrack.losses.base import LossTarget, check_tensor
from siamtrack.utils.config import check_number

POSITIVE_PART = 0.25  # semi-axes of the ellipse of positive cells over the box's width and height
MIN_RADIUS_PX = 10.0  # shortest semi-axis, in search px


def disc_target(
    is_negative: Tensor,
    *,
    response_size: int = 17,
    total_stride: float = 8.0,
    radius_px: float = 16.0,
    offset_px: Tensor | None = None,
) -> LossTarget:
    """Labels of SiamFC: a disc of positive cells, everything else background; no boxes.

    A cell u is positive if total_stride * |u - c| <= radius_px (Bertinetto et al. 2016, eq. 4),
    where c is the target's center. The response's center is the search crop's center.

    Args:
        is_negative: (B,) bool, the target is not in the search crop; its device is used.
        response_size: R, cells along a side.
        total_stride: search px per cell.
        radius_px: raising it rewards less precise localization.
        offset_px: (B, 2) x, y of the target's center from the crop's center in search px; None
            for targets in the middle of the crop, as SiamFC trains.

    Raises:
        ConfigError: the radius is negative or not a number.
        TrainingError: a tensor of the wrong shape or type.
    """
    check_number("radius_px", radius_px, 0.0)
    _check_is_negative(is_negative)
    if offset_px is None:
        offset_px = torch.zeros(len(is_negative), 2, device=is_negative.device)
    _check_columns("offset_px", offset_px, len(is_negative), 2)

    # Distance of each cell to the target's center, in search px.
    cells = torch.arange(response_size, device=is_negative.device) - (response_size - 1) / 2  # (R,)
    dx = cells * total_stride - offset_px[:, 0, None]  # (B, R) of each column
    dy = cells * total_stride - offset_px[:, 1, None]  # (B, R) of each row
    in_disc = dx[:, None, :] ** 2 + dy[:, :, None] ** 2 <= radius_px**2  # (B, R, R)

    positive = (in_disc & ~is_negative[:, None, None]).unsqueeze(1)  # (B, 1, R, R)
    return LossTarget(positive=positive, background=~positive)


def box_target(
    boxes_xywh: Tensor, is_negative: Tensor, *, response_size: int = 16, total_stride: float = 16.0
) -> LossTarget:
    """Anchor-free labels: an ellipse of positive cells, each with its distances to the box sides.

    The distances are the regression targets of FCOS (Tian et al. 2019, eq. 1). The ellipse is the
    inner one of SiamBAN (Chen et al. 2020). Cell i has its center at (i + 0.5) * total_stride px.
    Positive are

    - cells whose center is in the ellipse around the box center with semi-axes `POSITIVE_PART` of
      its width and height, but at least `MIN_RADIUS_PX`;
    - the cell that contains the box center, if the center is in the crop.

    Other cells whose center is in the box are ignored. Everything else is background.

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
    bad = ~(torch.isfinite(boxes).all(dim=1) & (boxes[:, 2:] > 0).all(dim=1))
    if bad.any():
        row = int(bad.nonzero()[0, 0])
        raise InvalidBoxError(
            f"box {boxes[row].tolist()} of pair {row} is not a box; give x, y, w, h in search px, "
            "finite and with positive w and h, or mark the pair as negative"
        )
    x, y, w, h = boxes[:, :, None, None].unbind(dim=1)  # (B, 1, 1) each

    # Cell centers in search px, and their distance to the box center.
    cells = (torch.arange(response_size, device=boxes.device) + 0.5) * total_stride  # (R,)
    cell_x, cell_y = cells[None, None, :], cells[None, :, None]  # (1, 1, R), (1, R, 1)
    dx, dy = cell_x - (x + w / 2), cell_y - (y + h / 2)  # (B, 1, R), (B, R, 1)

    # Positive: the ellipse, and the cell of the box center.
    radius_x, radius_y = ((POSITIVE_PART * side).clamp(min=MIN_RADIUS_PX) for side in (w, h))
    in_ellipse = (dx / radius_x) ** 2 + (dy / radius_y) ** 2 <= 1  # (B, R, R)
    half = total_stride / 2
    # Half-open intervals: at most one cell contains the box center.
    has_center = (dx > -half) & (dx <= half) & (dy > -half) & (dy <= half)  # (B, R, R)

    # Distances to the left, top, right and bottom side.
    sides = torch.broadcast_tensors(cell_x - x, cell_y - y, x + w - cell_x, y + h - cell_y)
    ltrb_px = torch.stack(sides, dim=1)  # (B, 4, R, R)
    in_box = (ltrb_px >= 0).all(dim=1)  # (B, R, R)

    # A negative pair has no positive and no ignored cells.
    present = ~is_negative[:, None, None]
    positive = ((in_ellipse | has_center) & present).unsqueeze(1)  # (B, 1, R, R)
    background = ~(in_box & present).unsqueeze(1) & ~positive
    return LossTarget(positive, background, torch.where(positive, ltrb_px, 0.0))


def _check_is_negative(is_negative: Tensor) -> None:
    check_tensor("is_negative", is_negative, "one bool per pair, shape (B,)")
    if is_negative.ndim != 1 or is_negative.dtype != torch.bool:
        raise TrainingError(
            f"is_negative has shape {tuple(is_negative.shape)} and type {is_negative.dtype}; "
            "give one bool per pair, shape (B,)"
        )


def _check_columns(name: str, tensor: Tensor, rows: int, columns: int) -> None:
    check_tensor(name, tensor, f"shape ({rows}, {columns})")
    if tensor.shape != (rows, columns):
        raise TrainingError(
            f"{name} has shape {tuple(tensor.shape)}; give ({rows}, {columns}), one row per pair"
        )
