"""Which part of a crop an image shows, and what lies outside of the crop; see `data.pairs`."""

from __future__ import annotations

import torch
from torch import Tensor

from siamtrack.data.batched.crops import DeviceCrops, as_index, to_rows
from siamtrack.data.batched.dice import Dice
from siamtrack.data.batched.draws import CropDraws
from siamtrack.data.pairs import PairConfig

CropWindows = tuple[Tensor, Tensor]
"""(B, 2) width and height in crop px, and (B, 2) offset of the object from the center / that."""


def context_sides(boxes: Tensor) -> Tensor:
    """(B,) sides of the square windows around boxes (B, 4), as `siamtrack.geometry` has them."""
    context = boxes[:, 2:].sum(dim=1, keepdim=True) / 2
    return (boxes[:, 2:] + context).prod(dim=1).sqrt()


def draw_exemplar_windows(
    boxes: Tensor, config: PairConfig, exemplar_size_px: int, dice: Dice
) -> CropWindows:
    """Squares with context about boxes (B, 4), a little off."""
    count = len(boxes)
    scale = torch.exp(dice.uniform(-1, 1, count) * config.exemplar_scale)
    side = context_sides(boxes) * scale
    shift = dice.uniform(-1, 1, count, 2) * config.exemplar_shift_px / exemplar_size_px
    return side[:, None].expand(count, 2), shift


def draw_search_windows(
    boxes: Tensor, config: PairConfig, exemplar_size_px: int, search_size_px: int, dice: Dice
) -> CropWindows:
    """Search windows about boxes (B, 4): off in scale, aspect ratio and position."""
    count = len(boxes)
    # Both windows have the same scale, so the search window is larger by the ratio of sizes.
    side = search_size_px / exemplar_size_px * context_sides(boxes)
    side = side * torch.exp(dice.uniform(-1, 1, count) * config.search_scale)
    stretch = torch.exp(dice.uniform(-1, 1, count) * config.search_aspect / 2)
    shift = dice.uniform(-1, 1, count, 2) * config.search_shift_px / search_size_px
    return torch.stack([side * stretch, side / stretch], dim=1), shift


def draw_turns(boxes: Tensor, config: PairConfig, dice: Dice) -> tuple[Tensor, Tensor]:
    """(B,) angles by which crops are turned about boxes, 0 for most; and the boxes after that.

    A new box is that of the turned ellipse in the old one, as in `rotate_about_box`.
    """
    count = len(boxes)
    turned = dice.chance(config.rotation, count)
    angle = torch.deg2rad(dice.uniform(-1, 1, count) * config.rotation_deg) * turned
    cos, sin = angle.cos(), angle.sin()
    w, h = boxes[:, 2], boxes[:, 3]
    wh = torch.stack([torch.hypot(w * cos, h * sin), torch.hypot(w * sin, h * cos)], dim=1)
    return angle, torch.cat([boxes[:, :2] + boxes[:, 2:] / 2 - wh / 2, wh], dim=1)


def cut_windows(
    crops: DeviceCrops,
    draws: CropDraws,
    crop: Tensor,
    box: Tensor,
    windows: CropWindows,
    size_px: int,
    dice: Dice,
    angle: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Cut windows around objects to (B, S, S, 3); returns the objects' boxes in them too.

    Outside of the crop lies its mean color, its border or another crop, for the reason that
    `PairDataset` gives.

    Args:
        crops: the pixels.
        draws: draws the crops that lie outside.
        crop: (B,) which crops.
        box: (B, 4) xywh of the object in each, after turning, crop px.
        windows: size and offset of each.
        size_px: side S of the output.
        dice: of the fillings.
        angle: (B,) radians by which each crop is turned about its object first.
    """
    c, count = draws.config, len(crop)
    window_wh, shift = windows
    center = box[:, :2] + box[:, 2:] / 2
    origin = center - window_wh / 2 - shift * window_wh
    pixels, inside = crops.sample(
        crop, origin, window_wh / size_px, size_px, angle=angle, pivot_xy=center
    )

    # 1. Outside the mean color, or the repeated border. One draw decides between three fillings.
    draw = dice.uniform(0, 1, count)
    repeated = to_rows(draw < c.fill_replicate, crops.device)
    mean = crops.mean_rgb[as_index(crop, crops.device)][:, None, None]  # (B, 1, 1, 3)
    out = torch.where(repeated, pixels, torch.lerp(mean.expand_as(pixels), pixels, inside))

    # 2. What lies inside the crop, onto a random square of another crop.
    scale = size_px / window_wh  # (B, 2) output px per crop px
    first = torch.round(-origin * scale)
    last = torch.round((crops.size_wh[crop] - origin) * scale)
    photo = (draw >= c.fill_replicate) & (draw < c.fill_replicate + c.fill_photo)
    photo &= ((first > 0) | (last < size_px)).any(dim=1)
    rows = photo.nonzero()[:, 0]
    other = draws.any_crop(dice, count)
    squares = draw_squares(crops.size_wh[other], dice)
    if len(rows):
        behind = cut_squares(crops, other[rows], squares[rows], size_px)
        along = torch.arange(size_px)
        shown = (along >= first[rows, :, None]) & (along < last[rows, :, None])
        shown = as_index(shown, crops.device)  # (R, 2, S)
        shown = (shown[:, 0, None, :] & shown[:, 1, :, None])[..., None]
        on_device = as_index(rows, crops.device)
        out[on_device] = torch.where(shown, out[on_device], behind)
    return out, torch.cat([(box[:, :2] - origin) * scale, box[:, 2:] * scale], dim=1)


def draw_squares(size_wh: Tensor, dice: Dice) -> Tensor:
    """(B, 3) left, top and side of the largest square at a random place of images of this size."""
    side = size_wh.amin(dim=1, keepdim=True)
    left_top = dice.below((size_wh - side + 1).long())
    return torch.cat([left_top, side], dim=1)


def cut_squares(crops: DeviceCrops, crop: Tensor, squares: Tensor, size_px: int) -> Tensor:
    """Squares (B, 3) of crops, resampled to (B, S, S, 3)."""
    step = (squares[:, 2:] / size_px).expand(len(crop), 2)
    return crops.sample(crop, squares[:, :2], step, size_px)[0]
