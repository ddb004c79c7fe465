"""Search images made harder, for a batch; what each change is for says `data.hard_pairs`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from siamtrack.data.batched.colors import blur, line_kernels, resample_through
from siamtrack.data.batched.crops import DeviceCrops, as_index, to_device
from siamtrack.data.batched.dice import Dice
from siamtrack.data.batched.draws import CropDraws
from siamtrack.data.batched.objects import (
    ELLIPTIC,
    Patches,
    blend,
    ellipse_alpha,
    paste_objects,
    patch_alpha,
    place_beside,
    with_aspect,
)
from siamtrack.data.batched.windows import cut_squares, draw_squares
from siamtrack.data.hard_pairs import COVERED, SHOWN_UP_TO, TARGET_SIDE_PX, HardConfig


@dataclass(slots=True)
class HardSearches:
    """What `harden` changed besides the images.

    Attributes:
        shows_target: (B,) bool, whether enough of the target is left to be found.
        distractors: (B, 4) xywh of an object that is not the target, or zeros.
    """

    shows_target: Tensor
    distractors: Tensor


def harden(
    images: Tensor,
    boxes: Tensor,
    distractors: Tensor,
    positive: Tensor,
    track: Tensor,
    config: HardConfig,
    crops: DeviceCrops,
    draws: CropDraws,
    dice: Dice,
) -> HardSearches:
    """Change search images (B, S, S, 3), in place, with the probabilities of `config`.

    Args:
        images: on the device.
        boxes: (B, 4) the target in each.
        distractors: (B, 4) another object in each, or zeros.
        positive: (B,) bool; the images of other pairs stay as they are.
        track: (B,) of the target; the other objects are of other tracks.
        config: which changes, how often.
        crops: the pixels.
        draws: draws the other objects.
        dice: of the draws; a change that is off draws nothing.
    """
    count, size = len(images), images.shape[1]
    shows, distractors = positive.clone(), distractors.clone()

    # 1. Another background behind the target.
    if config.background:
        rows = (positive & dice.chance(config.background, count)).nonzero()[:, 0]
        other = draws.others(dice, track[rows])
        swap_backgrounds(images, rows, boxes[rows], crops, draws, other, dice)
        distractors[rows] = 0.0

    # 2. The target is covered with a piece of what is beside it.
    if config.absent:
        rows = (positive & dice.chance(config.absent, count)).nonzero()[:, 0]
        shows[rows] &= ~take_out(images, rows, boxes[rows], dice)

    # 3. Another object where the target was expected.
    if config.old_place:
        rows = (positive & dice.chance(config.old_place, count)).nonzero()[:, 0]
        other = draws.others(dice, track[rows])
        patches, free = draw_in_old_place(boxes[rows], draws.boxes[other], size, dice)
        rows = rows[free]
        paste_objects(images, rows, crops, draws, other[free], patches.of(free))
        distractors[rows] = patches.boxes[free]

    # 4. Another object comes in from a side.
    if config.occluder:
        rows = (shows & dice.chance(config.occluder, count)).nonzero()[:, 0]
        covered = dice.uniform(*COVERED, len(rows))
        other = draws.others(dice, track[rows])
        patches = draw_from_side(boxes[rows], covered, dice)
        windows = draws.boxes[other]
        paste_objects(images, rows, crops, draws, other, patches, windows=windows)
        shows[rows] &= covered <= SHOWN_UP_TO

    # 5. Blur along the target's way from the middle.
    if config.motion_blur:
        rows = (positive & dice.chance(config.motion_blur, count)).nonzero()[:, 0]
        way = boxes[rows, :2] + boxes[rows, 2:] / 2 - size / 2
        length = (way.norm(dim=1) * dice.uniform(0.1, 0.3, len(rows))).round().long() | 1
        if len(rows):
            blur(images, rows, line_kernels(length, torch.atan2(way[:, 1], way[:, 0])))
    return HardSearches(shows, distractors)


def swap_backgrounds(
    images: Tensor,
    rows: Tensor,
    boxes: Tensor,
    crops: DeviceCrops,
    draws: CropDraws,
    other: Tensor,
    dice: Dice,
) -> None:
    """Put the ellipses about boxes (R, 4) onto random squares of other crops, in place."""
    if not len(rows):
        return
    size, device = images.shape[1], images.device
    squares = draw_squares(draws.size_wh[other], dice)
    behind = cut_squares(crops, other, squares, size)
    center = to_device((boxes[:, :2] + boxes[:, 2:] / 2).round(), device)
    axes = to_device((boxes[:, 2:] * 0.56).round().clamp_min(1), device)
    soft = (boxes[:, 2:].amin(dim=1) / 8).trunc().clamp_min(1).long() | 1
    mask = ellipse_alpha(center, axes, to_device(soft, device), size)[..., None]
    blend(images, rows, behind, 1 - mask)


def take_out(images: Tensor, rows: Tensor, boxes: Tensor, dice: Dice) -> Tensor:
    """Cover targets, in place, with a piece of what is beside them; (R,) whether there was room."""
    size = images.shape[1]
    wh = (boxes[:, 2:] * 1.15).trunc().clamp_min(2)
    corner, found = place_beside(boxes, wh, size, dice)
    rows, boxes, wh, corner = (v[found] for v in (rows, boxes, wh, corner))
    if len(rows):
        # What lies at `corner` is moved to `left_top`; beyond the edge the image is mirrored.
        left_top = (boxes[:, :2] + (boxes[:, 2:] - wh) / 2).round()
        way = (corner - left_top).long()
        along = torch.arange(size)
        source = as_index(_mirror(along + way[..., None], size), images.device)  # (R, 2, S)
        image = as_index(rows, images.device)[:, None, None]
        over = images[image, source[:, 1, :, None], source[:, 0, None, :]]
        patches = Patches(left_top, wh, torch.zeros(len(rows), dtype=torch.bool))
        blend(images, rows, over, patch_alpha(patches, size, images.device))
    return found


def _mirror(position: Tensor, size: int) -> Tensor:
    """Positions mirrored at the first and the last pixel, once and again."""
    period = 2 * (size - 1)
    position = position.remainder(period)
    return torch.minimum(position, period - position)


def draw_in_old_place(
    boxes: Tensor, other_boxes: Tensor, size_px: int, dice: Dice
) -> tuple[Patches, Tensor]:
    """Patches of the targets' size in the middle; and (B,) whether the target has left it."""
    count, middle = len(boxes), size_px / 2
    side = boxes[:, 2:].prod(dim=1).sqrt() * dice.uniform(0.8, 1.25, count)
    wh = with_aspect(side, other_boxes).trunc().clamp_min(4)
    way = (boxes[:, :2] + boxes[:, 2:] / 2 - middle).abs()
    free = (way / ((boxes[:, 2:] + wh) / 2)).amax(dim=1) >= 1
    corner = (middle - wh / 2).trunc()
    return Patches(corner, wh, dice.chance(ELLIPTIC, count)), free


def draw_from_side(boxes: Tensor, covered: Tensor, dice: Dice) -> Patches:
    """Patches that cover a fraction (B,) of boxes (B, 4) from the left, right, top or bottom."""
    count = len(boxes)
    side = dice.below(torch.full((count,), 4))
    beyond = dice.uniform(1.1, 1.6, count)
    corners = torch.empty(4, count, 2, dtype=torch.float64)
    sizes = torch.empty(4, count, 2, dtype=torch.float64)
    for number in range(4):
        axis, far = divmod(number, 2)  # of the direction; from its far end
        start, length = boxes[:, axis], boxes[:, 2 + axis]
        across, breadth = boxes[:, 1 - axis], boxes[:, 3 - axis]
        sizes[number, :, axis] = length * (covered + beyond - 1)
        sizes[number, :, 1 - axis] = breadth * beyond
        corners[number, :, axis] = start + (
            length * (1 - covered) if far else length * covered - sizes[number, :, axis]
        )
        corners[number, :, 1 - axis] = across + (breadth - sizes[number, :, 1 - axis]) / 2
    every = torch.arange(count)
    size = sizes[side, every].round().clamp_min(3)
    return Patches(corners[side, every].round(), size, torch.zeros(count, dtype=torch.bool))


def draw_tiny(boxes: Tensor, probability: float, dice: Dice) -> tuple[Tensor, Tensor]:
    """Which of B pairs get the sharpness of tiny targets, (B,) bool; and (B,) by which factor.

    `boxes` are those of the exemplars, whose targets have the same size in all images of a pair.
    """
    low, high = torch.tensor(TARGET_SIDE_PX, dtype=torch.float64).log().tolist()
    side = dice.uniform(low, high, len(boxes)).exp()
    factor = side / boxes[:, 2:].prod(dim=1).sqrt()
    return dice.chance(probability, len(boxes)) & (factor < 1), factor


def as_tiny(images: Tensor, rows: Tensor, factor: Tensor) -> None:
    """Take sharpness from rows of images (B, S, S, 3), in place."""
    small = (images.shape[1] * factor).round().clamp_min(4).long()
    resample_through(images, rows, small)
