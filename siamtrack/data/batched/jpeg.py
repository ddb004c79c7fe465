"""What JPEG compression does to images, as operations on a batch (ITU-T T.81, annexes A and K)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from siamtrack.data.batched.crops import to_device

# Annex K.1: quantization tables of quality 50.
_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)  # fmt: skip


def compress(images: Tensor, quality: Tensor) -> Tensor:
    """Images (B, H, W, 3) RGB after JPEG compression of this quality (B,), 1 to 100.

    As libjpeg does it by default: colors at half the resolution, and linear interpolation of them
    when they are read.
    """
    _, height, width, _ = images.shape
    planes = images.permute(0, 3, 1, 2)  # (B, 3, H, W)
    padding = (0, -width % 16, 0, -height % 16)
    planes = F.pad(planes, padding, mode="replicate")
    red, green, blue = planes.unbind(dim=1)

    # 1. Brightness and two color differences (JFIF), around 0; the colors averaged over 2 x 2 px.
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    blueness, redness = (blue - luminance) / 1.772, (red - luminance) / 1.402
    colors = F.avg_pool2d(torch.stack([blueness, redness], dim=1), 2)

    # 2. Quantize the cosine transform of 8 x 8 blocks.
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).to(images)
    luminance = _quantize(luminance[:, None] - 128, _LUMINANCE, scale) + 128
    colors = _quantize(colors, _CHROMINANCE, scale)

    # 3. Back.
    colors = F.interpolate(colors, scale_factor=2, mode="bilinear", align_corners=False)
    blueness, redness = colors.unbind(dim=1)
    luminance = luminance[:, 0]
    red, blue = luminance + 1.402 * redness, luminance + 1.772 * blueness
    green = (luminance - 0.299 * red - 0.114 * blue) / 0.587
    out = torch.stack([red, green, blue], dim=-1)[:, :height, :width]
    return out.round().clamp(0, 255)


def _quantize(planes: Tensor, table: tuple[int, ...], scale: Tensor) -> Tensor:
    """Planes (B, C, H, W) after rounding the coefficients of their blocks."""
    basis = _cosines(planes.device)  # (8, 8)
    step = to_device(torch.tensor(table), planes.device).view(8, 8)
    step = ((step * scale[:, None, None] + 50) / 100).floor().clamp(1, 255)
    step = step[:, None, None, None]  # (B, 1, 1, 1, 8, 8)
    blocks = planes.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
    coefficients = basis @ blocks @ basis.T  # (B, C, H / 8, W / 8, 8, 8)
    coefficients = (coefficients / step).round() * step
    blocks = basis.T @ coefficients @ basis
    return blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3)


def _cosines(device: torch.device) -> Tensor:
    """(8, 8) orthonormal cosine transform: row k has frequency k."""
    k = torch.arange(8, device=device)[:, None]
    n = torch.arange(8, device=device)[None]
    basis = torch.cos(math.pi * (n + 0.5) * k / 8) / 2
    return torch.where(k == 0, basis / math.sqrt(2), basis)
