"""Pasted objects: where they lie, how they are cut out, and how they blend in.

The rules are those of `paste_object` in `siamtrack.data.augment`. Everything is computed on the
whole canvas of an image, so that objects of any size are one operation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from siamtrack.data.batched.crops import DeviceCrops, as_index, to_device
from siamtrack.data.batched.dice import Dice
from siamtrack.data.batched.draws import CropDraws, first_allowed

_MARGIN = 1.05  # of what is cut out, over the object
_PLACES = 6  # tried for an object beside another one
ELLIPTIC = 0.6
"""Probability of a round outline; other outlines are rectangles, and both have soft edges."""


@dataclass(frozen=True, slots=True)
class Patches:
    """B patches: what they show and where they lie.

    Attributes:
        corner_xy: (B, 2) whole px of the image, may be outside of it.
        size_wh: (B, 2) whole px.
        elliptic: (B,) bool, round or rectangular.
    """

    corner_xy: Tensor
    size_wh: Tensor
    elliptic: Tensor

    @property
    def boxes(self) -> Tensor:
        """(B, 4) xywh."""
        return torch.cat([self.corner_xy, self.size_wh], dim=1)

    def of(self, which: Tensor) -> Patches:
        """Some of them: a mask (B,) bool, or rows (R,) int64."""
        return Patches(self.corner_xy[which], self.size_wh[which], self.elliptic[which])


def draw_beside(
    boxes: Tensor, other_boxes: Tensor, size_px: int, dice: Dice
) -> tuple[Patches, Tensor]:
    """Patches for other objects beside boxes, (B, 4) each; and (B,) whether there was room."""
    size_wh = _draw_sizes(boxes, other_boxes, 1.4, dice)
    corner, found = place_beside(boxes, size_wh, size_px, dice)
    return Patches(corner, size_wh, dice.chance(ELLIPTIC, len(boxes))), found


def draw_on_outline(boxes: Tensor, other_boxes: Tensor, dice: Dice) -> Patches:
    """Patches for other objects, each centered on a point of the outline of a box (B, 4)."""
    count = len(boxes)
    size_wh = _draw_sizes(boxes, other_boxes, 0.7, dice)
    point = dice.uniform(-0.5, 0.5, count, 2)
    edge = torch.where(dice.chance(0.5, count), -0.5, 0.5).double()
    on_x = dice.chance(0.5, count)
    point = torch.where(torch.stack([on_x, ~on_x], dim=1), edge[:, None], point)
    center = boxes[:, :2] + boxes[:, 2:] * (0.5 + point)
    corner = (center - size_wh / 2).trunc()
    return Patches(corner, size_wh, dice.chance(ELLIPTIC, count))


def _draw_sizes(boxes: Tensor, other_boxes: Tensor, largest: float, dice: Dice) -> Tensor:
    """(B, 2) sizes comparable to those of boxes, with the aspect ratio of other ones."""
    side = boxes[:, 2:].prod(dim=1).sqrt() * dice.uniform(0.4, largest, len(boxes))
    return with_aspect(side, other_boxes).clamp(6, 160).trunc()


def with_aspect(side: Tensor, boxes: Tensor) -> Tensor:
    """(B, 2) width and height with the area side^2 and about the aspect ratio of boxes (B, 4)."""
    aspect = (boxes[:, 2] / boxes[:, 3]).clamp(0.3, 3.0).sqrt()
    return torch.stack([side * aspect, side / aspect], dim=1)


def place_beside(
    boxes: Tensor, size_wh: Tensor, limit_px: int, dice: Dice
) -> tuple[Tensor, Tensor]:
    """Draw left top corners (B, 2) of patches that leave boxes (B, 4) nearly free.

    Also returns (B,) whether there is a place with its center inside the image, of side `limit_px`.
    See `siamtrack.data.augment.place_beside`.
    """
    count = len(boxes)
    center = boxes[:, :2] + boxes[:, 2:] / 2
    reach = (boxes[:, 2:] + size_wh) / 2
    angle = dice.uniform(0, 2 * torch.pi, _PLACES, count)
    far = dice.uniform(0.95, 1.9, _PLACES, count)
    direction = torch.stack([angle.cos(), angle.sin()], dim=-1)  # (tries, B, 2)
    touch = (reach / direction.abs().clamp_min(1e-6)).amin(dim=-1)
    place = center + direction * (touch * far)[..., None]
    inside = ((place >= 0) & (place < limit_px)).all(dim=-1)
    chosen, found = first_allowed(inside, place)
    return (chosen - size_wh / 2).trunc(), found


def object_windows(boxes: Tensor) -> Tensor:
    """(B, 4) objects with 5 % of their surroundings, to be cut out."""
    margin = boxes[:, 2:] * (_MARGIN - 1) / 2
    return torch.cat([boxes[:, :2] - margin, boxes[:, 2:] * _MARGIN], dim=1)


def paste_objects(
    images: Tensor,
    rows: Tensor,
    crops: DeviceCrops,
    draws: CropDraws,
    other: Tensor,
    patches: Patches,
    *,
    windows: Tensor | None = None,
) -> None:
    """Paste the objects of other crops into images (B, S, S, 3), in place.

    Args:
        images: on the device.
        rows: (R,) which images.
        crops: the pixels.
        draws: knows the boxes.
        other: (R,) the crops whose objects are pasted.
        patches: R places.
        windows: (R, 4) what is cut out, crop px; None for objects with their surroundings.
    """
    if not len(rows):
        return
    if windows is None:
        windows = object_windows(draws.boxes[other])
    step = windows[:, 2:] / patches.size_wh
    origin = windows[:, :2] - patches.corner_xy * step
    over, _ = crops.sample(other, origin, step, images.shape[1])
    blend(images, rows, over, patch_alpha(patches, images.shape[1], images.device))


def blend(images: Tensor, rows: Tensor, over: Tensor, alpha: Tensor) -> None:
    """Put R images over rows of images (B, S, S, 3), in place, where alpha (R, S, S, 1) is 1."""
    on_device = as_index(rows, images.device)
    under = images.index_select(0, on_device)
    images.index_copy_(0, on_device, torch.lerp(under, over, alpha).floor())


def patch_alpha(patches: Patches, size_px: int, device: torch.device) -> Tensor:
    """Alpha masks of patches, (B, S, S, 1) float32: 1 inside, with soft edges."""
    corner, wh = to_device(patches.corner_xy, device), to_device(patches.size_wh, device)
    along = torch.arange(size_px, device=device)
    pixel = along - corner[..., None]  # (B, 2, S) px of the patch, in x and y
    inside = (pixel >= 0) & (pixel < wh[..., None])
    soft = (wh.amin(dim=1) / 10).floor().clamp_min(1)
    soft = soft + (soft + 1) % 2  # the next odd number

    # 1. Rectangles: the mean over `soft` px of an inset one, which mirrors at the patch's edge.
    inset = (wh.amin(dim=1) / 16).floor().clamp_min(1)[:, None, None]
    radius = ((soft - 1) / 2)[:, None, None]
    last = wh[..., None] - 1 - pixel  # px from the right and the lower edge
    low = torch.maximum(pixel - radius, inset)
    high = torch.minimum(pixel + radius + 1, wh[..., None] - inset)
    mirrored = (radius - torch.minimum(pixel, last) - inset + 1).clamp_min(0)
    ramp = ((high - low).clamp_min(0) + mirrored) / soft[:, None, None]  # (B, 2, S)
    rectangle = ramp[:, 1, :, None] * ramp[:, 0, None, :]  # (B, S, S)

    # 2. Ellipses.
    center, axes = corner + (wh / 2).floor(), (wh * 0.48).floor().clamp_min(1)
    ellipse = ellipse_alpha(center, axes, soft, size_px)

    # 3. Nothing outside of the patch.
    elliptic = as_index(patches.elliptic, device)[:, None, None]
    alpha = torch.where(elliptic, ellipse, rectangle)
    return (alpha * inside[:, 1, :, None] * inside[:, 0, None, :])[..., None]


def ellipse_alpha(center_xy: Tensor, axes: Tensor, soft_px: Tensor, size_px: int) -> Tensor:
    """Masks (B, S, S) of ellipses whose edge is blurred over `soft_px` (B,), all in px."""
    along = torch.arange(size_px, device=center_xy.device)
    x = (along - center_xy[:, :1])[:, None, :]  # (B, 1, S)
    y = (along - center_xy[:, 1:])[:, :, None]
    a, b = axes[:, 0, None, None] + 0.5, axes[:, 1, None, None] + 0.5
    # Distance to the edge, to first order: (1 - q) / |grad q| with q = 1 on the edge.
    q = ((x / a) ** 2 + (y / b) ** 2).sqrt().clamp_min(1e-3)
    slope = ((x / a**2) ** 2 + (y / b**2) ** 2).sqrt().clamp_min(1e-6) / q
    return (0.5 + (1 - q) / slope / soft_px[:, None, None]).clamp(0, 1)
