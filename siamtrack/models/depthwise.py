"""Depth-wise convolution whose backward pass is fast in bfloat16 on a CPU.

oneDNN has no bfloat16 kernel for two gradients of depth-wise convolutions and falls back to a
reference loop: weights of kernels above 3 x 3, and inputs of strided ones. On a two-core machine
these two took half of a training step (145 ms for one 5 x 5 layer of 672 channels). Here the first
is put together from 3 x 3 gradients, which have a kernel, and the second is done in float32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TILE = 3


class _Depthwise(torch.autograd.Function):
    """conv2d with groups = channels and a backward pass of its own; `grad` gives its gradients."""

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
        if ctx.needs_input_grad[0]:
            d_x = _input_gradient(grad, x, weight, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            d_weight = _weight_gradient(grad, x, weight, ctx.stride, ctx.padding)
        if ctx.has_bias and ctx.needs_input_grad[2]:
            wide = torch.promote_types(grad.dtype, torch.float32)
            d_bias = grad.sum(dim=(0, 2, 3), dtype=wide).to(grad.dtype)
        return d_x, d_weight, d_bias, None, None


def _input_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    # At least float32 where the low-precision kernel is missing.
    wide = grad.dtype if stride == 1 else torch.promote_types(grad.dtype, torch.float32)
    d_x = _conv_backward(grad.to(wide), x.to(wide), weight.to(wide), stride, padding, (True, False))
    return d_x[0].to(x.dtype)


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    kernel = weight.shape[-1]
    if kernel <= _TILE or stride != 1:
        return _conv_backward(grad, x, weight, stride, padding, (False, True))[1]
    tiles = -(-kernel // _TILE)
    surplus = tiles * _TILE - kernel
    padded = F.pad(x, (padding, padding + surplus, padding, padding + surplus))
    height, width = grad.shape[-2] + _TILE - 1, grad.shape[-1] + _TILE - 1
    small = weight[:, :, :_TILE, :_TILE].contiguous()
    rows = []
    for top in range(0, tiles * _TILE, _TILE):
        row = []
        for left in range(0, tiles * _TILE, _TILE):
            window = padded[:, :, top : top + height, left : left + width]
            window = window.contiguous(memory_format=torch.channels_last)
            row.append(_conv_backward(grad, window, small, 1, 0, (False, True))[1])
        rows.append(torch.cat(row, dim=3))
    return torch.cat(rows, dim=2)[:, :, :kernel, :kernel]


def _conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    d_x, d_weight, _ = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        None,
        [stride, stride],
        [padding, padding],
        [1, 1],
        False,
        [0, 0],
        x.shape[1],
        [*wanted, False],
    )
    return d_x, d_weight


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` with one filter a channel; same parameters, same output, faster training."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, padding=kernel // 2, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H / stride, W / stride)."""
        if not (torch.is_grad_enabled() and x.device.type == "cpu"):
            return super().forward(x)
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight = x.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        return _Depthwise.apply(x, weight, bias, self.stride[0], self.kernel_size[0] // 2)
