"""Colors and sharpness of a batch; the rules are those of `siamtrack.data.augment`.

Images are float32 (B, S, S, 3) RGB in 0 to 255 on the device; what is drawn lies on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from siamtrack.data.augment import AugmentConfig
from siamtrack.data.batched.crops import as_index, to_device, to_rows
from siamtrack.data.batched.dice import Dice
from siamtrack.data.batched.jpeg import compress


@dataclass(frozen=True, slots=True)
class ColorChanges:
    """Color changes of B images as numbers, (B,) each and (B, 3) the tint; see `ColorJitter`."""

    gain: Tensor
    bias: Tensor
    gamma: Tensor
    saturation: Tensor
    tint_rgb: Tensor

    @classmethod
    def draw(cls, dice: Dice, strength: float, count: int) -> ColorChanges:
        """Draw changes; 0 is none, 0.25 is strong but natural."""
        s = strength
        return cls(
            gain=dice.uniform(-s, s, count).exp(),
            bias=dice.uniform(-s, s, count) * 80,
            gamma=dice.uniform(-s, s, count).exp(),
            saturation=dice.uniform(-2 * s, s, count).exp(),
            tint_rgb=1 + dice.uniform(-s, s, count, 3) * 0.4,
        )

    def of(self, rows: Tensor) -> ColorChanges:
        """The changes of these images, (R,) int64; a row may be there several times."""
        return ColorChanges(
            self.gain[rows],
            self.bias[rows],
            self.gamma[rows],
            self.saturation[rows],
            self.tint_rgb[rows],
        )

    def apply(self, images: Tensor) -> Tensor:
        """Change images (B, S, S, 3)."""
        device = images.device
        gain, bias, gamma, saturation = (
            to_rows(values, device)
            for values in (self.gain, self.bias, self.gamma, self.saturation)
        )
        tint = to_device(self.tint_rgb, device)[:, None, None]  # (B, 1, 1, 3)
        ramp = (images / 255).pow(gamma) * 255
        out = (((ramp - 128) * gain + 128 + bias) * tint).clamp(0, 255).floor()
        # Saturation blends with gray; above 1 it extrapolates away from it.
        return torch.lerp(to_gray(out).expand_as(out), out, saturation).round().clamp(0, 255)


def to_gray(images: Tensor) -> Tensor:
    """Gray (B, S, S, 1)."""
    red, green, blue = images.unbind(dim=-1)
    return (0.299 * red + 0.587 * green + 0.114 * blue).round()[..., None]


def turn_gray(images: Tensor, rows: Tensor) -> None:
    """Take the color from rows of images, in place."""
    if len(rows):
        rows = as_index(rows, images.device)
        gray = to_gray(images.index_select(0, rows))
        images.index_copy_(0, rows, gray.expand(-1, -1, -1, 3).contiguous())


def degrade(images: Tensor, config: AugmentConfig, dice: Dice) -> None:
    """Blur, downsample, add noise and compress images, each with its probability, in place."""
    count, size = len(images), images.shape[1]

    # In the order in which a camera does it: optics, resolution, sensor, file.
    blurred, defocus = dice.chance(config.blur, count), dice.chance(0.5, count)
    sigma = dice.uniform(0.6, 2.5, count)
    rows = (blurred & defocus).nonzero()[:, 0]
    if len(rows):
        blur(images, rows, gaussian_kernels(sigma[rows]))
    length = (3 + dice.below(torch.full((count,), 13))) | 1  # odd, to have a middle
    angle = dice.uniform(0, torch.pi, count)
    rows = (blurred & ~defocus).nonzero()[:, 0]
    if len(rows):
        blur(images, rows, line_kernels(length[rows], angle[rows]))

    small = (size * dice.uniform(0.25, 0.7, count)).long().clamp_min(16)
    rows = dice.chance(config.downsample, count).nonzero()[:, 0]
    resample_through(images, rows, small[rows])

    sigma = dice.uniform(2, 12, count)
    rows = dice.chance(config.noise, count).nonzero()[:, 0]
    seed = int(dice.below(torch.tensor([2**62])))
    if len(rows):
        add_noise(images, rows, sigma[rows], seed)

    quality = 15 + dice.below(torch.full((count,), 55))
    rows = dice.chance(config.jpeg, count).nonzero()[:, 0]
    if len(rows):
        on_device = as_index(rows, images.device)
        compressed = compress(
            images.index_select(0, on_device), to_device(quality[rows], images.device)
        )
        images.index_copy_(0, on_device, compressed)


def add_noise(images: Tensor, rows: Tensor, sigma: Tensor, seed: int) -> None:
    """Add noise of this standard deviation (R,), gray levels, to rows of images, in place."""
    generator = torch.Generator(images.device).manual_seed(seed)
    noise = torch.randn((len(rows), *images.shape[1:]), generator=generator, device=images.device)
    rows = as_index(rows, images.device)
    noisy = images.index_select(0, rows) + noise * to_rows(sigma, images.device)
    images.index_copy_(0, rows, noisy.clamp(0, 255).floor())


def blur(images: Tensor, rows: Tensor, kernels: Tensor) -> None:
    """Blur rows of images with a kernel each, (R, K, K), in place; the border is mirrored."""
    device, radius = images.device, kernels.shape[-1] // 2
    on_device = as_index(rows, device)
    planes = images.index_select(0, on_device).permute(0, 3, 1, 2)  # (R, 3, S, S)
    planes = F.pad(planes, (radius,) * 4, mode="reflect").flatten(0, 1)[None]  # (1, R * 3, ...)
    weights = to_device(kernels, device).repeat_interleave(3, dim=0)[:, None]
    blurred = F.conv2d(planes, weights, groups=len(weights))[0]
    blurred = blurred.unflatten(0, (len(rows), 3)).permute(0, 2, 3, 1)
    images.index_copy_(0, on_device, blurred.round().clamp(0, 255).contiguous())


def gaussian_kernels(sigma: Tensor) -> Tensor:
    """(B, 17, 17) Gaussians, cut off where OpenCV does: beyond about three sigma."""
    along = torch.arange(-8, 9, dtype=torch.float64)
    radius = ((sigma * 6 + 1).round().long() | 1) // 2
    values = torch.exp(-0.5 * (along / sigma[:, None]) ** 2)  # (B, 17)
    values = values * (along.abs() <= radius[:, None])
    values = values / values.sum(dim=1, keepdim=True)
    return values[:, :, None] * values[:, None, :]


def line_kernels(length_px: Tensor, angle_rad: Tensor) -> Tensor:
    """(B, K, K) means along lines of odd lengths, clockwise from the x axis: motion blur."""
    half = length_px // 2
    reach = int(half.max())
    # The ends in whole px, and one pixel for each step along the longer axis between them.
    end_x = (half * angle_rad.cos()).round()
    end_y = (half * angle_rad.sin()).round()
    steps = torch.maximum(end_x.abs(), end_y.abs()).clamp_min(1)  # (B,)
    place = torch.arange(-reach, reach + 1)  # (K,)
    share = place / steps[:, None]  # (B, K), -1 to 1 on the line
    x = (share * end_x[:, None]).round().long() + reach
    y = (share * end_y[:, None]).round().long() + reach
    on_line = place.abs() <= torch.maximum(end_x.abs(), end_y.abs())[:, None]
    index = torch.where(on_line, y * len(place) + x, reach * len(place) + reach)
    kernels = torch.zeros(len(half), len(place) ** 2, dtype=torch.float64)
    kernels.scatter_(1, index, 1.0)
    kernels = kernels / kernels.sum(dim=1, keepdim=True)
    return kernels.unflatten(1, (len(place), len(place)))


def resample_through(images: Tensor, rows: Tensor, small_px: Tensor) -> None:
    """Shrink rows of images to a side (R,) by area and enlarge them again linearly, in place."""
    if not len(rows):
        return
    size, device = images.shape[1], images.device
    matrix = _there_and_back(size, small_px, device)  # (R, S, S)
    on_device = as_index(rows, device)
    planes = images.index_select(0, on_device)  # (R, S, S, 3)
    planes = (matrix @ planes.flatten(2)).unflatten(2, (size, 3))  # rows
    planes = torch.einsum("rij,rhjc->rhic", matrix, planes)  # columns
    images.index_copy_(0, on_device, planes.round().clamp(0, 255).contiguous())


def _there_and_back(size_px: int, small_px: Tensor, device: torch.device) -> Tensor:
    """(B, S, S) what shrinking an axis to `small_px` (B,) and enlarging it again does."""
    most = int(small_px.max())
    small = to_device(small_px, device)[:, None, None]  # (B, 1, 1)
    factor = size_px / small
    pixel = torch.arange(size_px, device=device).float()
    cell = torch.arange(most, device=device).float()[:, None]  # (most, 1)

    # 1. A small pixel is the mean of what it covers: (B, most, S).
    low, high = torch.maximum(pixel, cell * factor), torch.minimum(pixel + 1, (cell + 1) * factor)
    down = (high - low).clamp_min(0) / factor

    # 2. Linear interpolation between small pixels: (B, S, most).
    center = ((pixel[:, None] + 0.5) / factor - 0.5).clamp_min(0)
    center = torch.minimum(center, small - 1)
    up = (1 - (center - cell.T).abs()).clamp_min(0)
    return up @ down
