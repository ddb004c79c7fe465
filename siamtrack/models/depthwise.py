"""Depth-wise convolution with a backward pass that is fast in bfloat16 on a CPU.

oneDNN has no bfloat16 kernel for two gradients of depth-wise convolutions and falls back to a
reference loop: that of the weights if the kernel is larger than 3 x 3, and that of the input if the
convolution is strided. On a two-core machine these took half of a training step (145 ms for one
5 x 5 layer of 672 channels). Here the first is assembled from 3 x 3 gradients, which have a kernel,
and the second is computed in float32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TILE = 3  # the largest kernel whose weight gradient oneDNN computes in bfloat16


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` with one filter per channel: same parameters and output, faster training."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, padding=kernel // 2, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H / stride, W / stride)."""
        if not (torch.is_grad_enabled() and x.device.type == "cpu"):
            return super().forward(x)
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cpu"):
            # A function of one's own is not cast automatically.
            dtype = torch.get_autocast_dtype("cpu")
            x, weight = x.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        return _Depthwise.apply(x, weight, bias, self.stride[0], self.kernel_size[0] // 2)


class _Depthwise(torch.autograd.Function):
    """conv2d with groups = channels; `grad` is the gradient of the loss by its output."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.has_bias = stride, padding, bias is not None
        return F.conv2d(x, weight, bias, stride, padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        d_x = d_weight = d_bias = None

        # Input: at least float32 where the low-precision kernel is missing.
        if ctx.needs_input_grad[0]:
            strided = ctx.stride != 1
            wide = torch.promote_types(grad.dtype, torch.float32) if strided else grad.dtype
            tensors = grad.to(wide), x.to(wide), weight.to(wide)
            d_x = _conv_backward(*tensors, ctx.stride, ctx.padding, (True, False))[0].to(x.dtype)

        # Weights, and the bias as a sum in float32.
        if ctx.needs_input_grad[1]:
            d_weight = _weight_gradient(grad, x, weight, ctx.stride, ctx.padding)
        if ctx.has_bias and ctx.needs_input_grad[2]:
            wide = torch.promote_types(grad.dtype, torch.float32)
            d_bias = grad.sum(dim=(0, 2, 3), dtype=wide).to(grad.dtype)
        return d_x, d_weight, d_bias, None, None


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Gradient of a (C, 1, k, k) weight; x is (B, C, H, W), grad (B, C, H', W')."""
    kernel = weight.shape[-1]
    if kernel <= _TILE or stride != 1:
        return _conv_backward(grad, x, weight, stride, padding, (False, True))[1]

    # Each weight (i, j) sees the input shifted by (i, j). So the gradient of the 3 x 3 weights at
    # (top, left) is that of a 3 x 3 convolution of the input shifted by (top, left).
    tiles = -(-kernel // _TILE)  # a side, rounded up
    surplus = tiles * _TILE - kernel
    padded = F.pad(x, (padding, padding + surplus, padding, padding + surplus))
    height, width = grad.shape[-2] + _TILE - 1, grad.shape[-1] + _TILE - 1
    small = weight[:, :, :_TILE, :_TILE].contiguous()  # only its shape is used
    rows = []
    for top in range(0, tiles * _TILE, _TILE):
        row = []
        for left in range(0, tiles * _TILE, _TILE):
            window = padded[:, :, top : top + height, left : left + width]
            window = window.contiguous(memory_format=torch.channels_last)
            row.append(_conv_backward(grad, window, small, 1, 0, (False, True))[1])
        rows.append(torch.cat(row, dim=3))  # (C, 1, 3, 3 tiles)

    # The last tiles reach beyond the kernel.
    return torch.cat(rows, dim=2)[:, :, :kernel, :kernel]


def _conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Gradients by input and weight, those of them that are `wanted`."""
    d_x, d_weight, _ = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        None,  # sizes of the bias
        [stride, stride],
        [padding, padding],
        [1, 1],  # dilation
        False,  # transposed
        [0, 0],  # output padding
        x.shape[1],  # groups
        [*wanted, False],
    )
    return d_x, d_weight
