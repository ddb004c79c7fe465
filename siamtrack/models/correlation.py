"""Correlations between exemplar and search features, the core of a siamese tracker.

All are plain tensor algebra without parameters, batched over pairs: exemplar b meets search b, and
a single exemplar meets every search. B is the batch, C the channels; (h, w) is the size of the
exemplar, (H, W) that of the search.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_correlate(z: Tensor, x: Tensor) -> Tensor:
    """Slide each exemplar over its search region and sum over channels.

    SiamFC (Bertinetto et al. 2016), equation 1 without the bias: f(z, x) = z * x. From z
    (B or 1, C, h, w) and x (B, C, H, W) to (B, 1, H - h + 1, W - w + 1).
    """
    if torch.compiler.is_exporting():
        # ONNX fixes the number of groups of a convolution in the graph, and here it grows with the
        # batch. An exported correlation sums over the exemplar's cells instead.
        products = [cell.transpose(1, 2) @ view.flatten(2) for cell, view in _shifted_views(z, x)]
        size = (x.shape[-2] - z.shape[-2] + 1, x.shape[-1] - z.shape[-1] + 1)
        return torch.stack(products).sum(dim=0).unflatten(2, size)

    # One convolution with a group for each pair.
    z = _broadcast_exemplar(z, x)
    b, c, height, width = x.shape
    out = F.conv2d(x.reshape(1, b * c, height, width), z, groups=b)  # (1, B, H', W')
    return out.reshape(b, 1, out.shape[-2], out.shape[-1])


def depthwise_correlate(z: Tensor, x: Tensor, padding: int | tuple[int, int] = 0) -> Tensor:
    """Slide each channel of the exemplar over the same channel of the search region.

    SiamRPN++ (Li et al. 2019), section 3.3. From z (B or 1, C, h, w) and x (B, C, H, W), with
    `padding` zeros around it, to (B, C, H', W') with H' = H - h + 1 + 2 * padding.
    """
    if torch.compiler.is_exporting():
        left, up = (padding, padding) if isinstance(padding, int) else padding[::-1]
        return _as_matrix_products(z, F.pad(x, (left, left, up, up)))

    # One convolution with a group for each channel of each pair.
    z = _broadcast_exemplar(z, x)
    b, c, height, width = x.shape
    kernel = z.reshape(b * c, 1, z.shape[-2], z.shape[-1])
    out = F.conv2d(x.reshape(1, b * c, height, width), kernel, padding=padding, groups=b * c)
    return out.reshape(b, c, out.shape[-2], out.shape[-1])


def pixelwise_correlate(z: Tensor, x: Tensor) -> Tensor:
    """Compare every exemplar cell with every search cell: one map for each exemplar cell.

    LightTrack (Yan et al. 2021) and Alpha-Refine, equation 1: a matrix product. It keeps which part
    of the target matched, and costs little. From z (B or 1, C, h, w) and x (B, C, H, W) to
    (B, h * w, H, W); map k belongs to exemplar cell (k // w, k % w).
    """
    z = _broadcast_exemplar(z, x)
    product = z.flatten(2).transpose(1, 2) @ x.flatten(2)  # (B, h w, C) @ (B, C, H W)
    return product.reshape(x.shape[0], -1, x.shape[-2], x.shape[-1])


def _broadcast_exemplar(z: Tensor, x: Tensor) -> Tensor:
    """Repeat a single exemplar for every search; otherwise the batches must match."""
    if z.shape[1] != x.shape[1] or z.shape[0] not in (1, x.shape[0]):
        raise ValueError(
            f"exemplar features {tuple(z.shape)} and search features {tuple(x.shape)} do not pair: "
            "channels must be equal and exemplars one or as many as searches"
        )
    return z.expand(x.shape[0], -1, -1, -1)


def _shifted_views(z: Tensor, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Exemplar cells (B, C, 1), each with the search cells that it meets (B, C, H', W')."""
    height, width = (big - small + 1 for big, small in zip(x.shape[-2:], z.shape[-2:], strict=True))
    for i in range(z.shape[-2]):
        for j in range(z.shape[-1]):
            yield z[:, :, i, j, None], x[:, :, i : i + height, j : j + width]


def _as_matrix_products(z: Tensor, x: Tensor) -> Tensor:
    """Depth-wise correlation as two matrix products: a dozen graph nodes instead of a hundred.

    Sliding a row of the kernel along a row of the search is a product with a banded matrix. A
    kernel of h rows has h such matrices, stacked; the h shifted copies of the search's rows lie
    side by side.
    """
    (h, w), (height, width) = z.shape[-2:], x.shape[-2:]
    across = width - w + 1

    # Where each kernel value stands in the banded matrices: shifts[j] has ones where the search
    # column minus the output column is j.
    steps = torch.arange(width)[:, None] - torch.arange(across)
    shifts = (steps == torch.arange(w)[:, None, None]).to(z.dtype)  # (w, W, W')
    bands = torch.eye(h, dtype=z.dtype)[:, None, :, None, None] * shifts[None, :, None]

    # First product: the kernels' values in their places. Second: the correlation.
    banded = z.flatten(2) @ bands.reshape(h * w, -1)  # (B, C, h W W')
    rows = torch.cat([x[:, :, i : i + height - h + 1] for i in range(h)], dim=3)  # (B, C, H', h W)
    return rows @ banded.unflatten(2, (h * width, across))  # (B, C, H', W')
