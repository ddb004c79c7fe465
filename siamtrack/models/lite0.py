"""The default network: EfficientNet-Lite0 features, two correlations, an anchor-free box head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamtrack.errors import ConfigError
from siamtrack.models.correlation import depthwise_correlate, pixelwise_correlate
from siamtrack.models.depthwise import DepthwiseConv2d
from siamtrack.models.efficientnet import EfficientNetLite0
from siamtrack.models.network import NetworkConfig, TrackerNetwork, TrackerOutput


@dataclass(frozen=True, slots=True)
class Lite0Config(NetworkConfig):
    """Geometry and widths of `SiamTrackLite0`.

    Attributes:
        neck_channels: width of the features that are correlated. Raising it separates more
            look-alikes and costs time in every correlation and tower.
        head_channels: width of the two towers.
        kernel_cells: side, in exemplar cells, of the target patch used by the depth-wise
            correlation; the target covers about half of the exemplar's side.
        fine_detail: fold the stride-8 features into the neck, which helps small targets and
            look-alikes that differ in texture.
    """

    neck_channels: int = 96
    head_channels: int = 96
    kernel_cells: int = 4
    fine_detail: bool = True

    def __post_init__(self) -> None:
        for name in ("exemplar_size_px", "search_size_px"):
            size = getattr(self, name)
            if size <= 0 or size % 16:
                raise ConfigError(f"{name} is {size}; it must be a positive multiple of 16")
        if self.total_stride != 16:
            raise ConfigError(f"total_stride is {self.total_stride}; this network's is 16")
        if not 1 <= self.kernel_cells <= self.exemplar_size_px // 16:
            raise ConfigError(
                f"kernel_cells is {self.kernel_cells}; the exemplar has "
                f"{self.exemplar_size_px // 16} cells a side"
            )


class Lite0Exemplar(NamedTuple):
    """What the tracker keeps of a target.

    Attributes:
        cells: (B, neck, h, w) unit-length features of the exemplar cells.
        kernel: (B, neck, k, k) kernel of the depth-wise correlation.
        embedding: (B, neck) unit-length mean feature of the cells that the target covers.
    """

    cells: Tensor
    kernel: Tensor
    embedding: Tensor


NECK_GAIN = 0.02
"""Variance kept by a new neck: backbone features have a spread of about 7, the neck's of 1."""


class SeparableBlock(nn.Sequential):
    """Depth-wise then 1x1 convolution, batch norm and ReLU: the towers' brick."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(
            DepthwiseConv2d(in_channels, kernel),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )


def conv_bn(in_channels: int, out_channels: int) -> nn.Sequential:
    """1x1 convolution and batch norm."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
    )


class Branch(nn.Module):
    """One siamese branch: backbone and neck, image to features at stride 16."""

    def __init__(self, config: Lite0Config) -> None:
        super().__init__()
        self.backbone = EfficientNetLite0()
        self.fine_detail = config.fine_detail
        channels = self.backbone.out_channels
        if config.fine_detail:
            channels += 4 * self.backbone.fine_channels
        # No batch norm here: exemplars and searches have different statistics but share the neck.
        self.neck = nn.Conv2d(channels, config.neck_channels, 1)
        nn.init.normal_(self.neck.weight, std=(NECK_GAIN / channels) ** 0.5)
        if self.neck.bias is not None:
            nn.init.zeros_(self.neck.bias)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) normalised RGB to (B, neck, S / 16, S / 16)."""
        fine, coarse = self.backbone(image)
        if self.fine_detail and torch.compiler.is_exporting():
            # The same sum without moving anything: the four cells are a 2 x 2 convolution.
            width = coarse.shape[1]
            whole, detail = self.neck.weight[:, :width], self.neck.weight[:, width:]
            detail = detail.reshape(-1, fine.shape[1], 2, 2)
            return F.conv2d(coarse, whole, self.neck.bias) + F.conv2d(fine, detail, stride=2)
        if self.fine_detail:
            # Each stride-16 cell gets its 2 x 2 stride-8 cells as extra channels.
            coarse = torch.cat([coarse, F.pixel_unshuffle(fine, 2)], dim=1)
        features: Tensor = self.neck(coarse)
        return features


class SiamTrackLite0(TrackerNetwork):
    """Anchor-free siamese tracker on EfficientNet-Lite0 features.

    Pixel-wise correlation (Yan et al. 2021, LightTrack) tells which part of the target matches
    where; depth-wise correlation (Li et al. 2019, SiamRPN++) tells how well the whole matches.
    Both are fused with the search features into a class and a box tower (FCOS, Tian et al. 2019).
    """

    architecture: ClassVar[str] = "siamtrack-lite0"
    crop_fields: ClassVar[frozenset[str]] = TrackerNetwork.crop_fields | {"kernel_cells"}
    config: Lite0Config

    def __init__(self, config: Lite0Config | None = None) -> None:
        config = config or Lite0Config()
        super().__init__(config)
        neck, head = config.neck_channels, config.head_channels
        self.search_branch = Branch(config)
        self.exemplar_branch = Branch(config) if config.pseudo_siamese else self.search_branch
        exemplar_cells = (config.exemplar_size_px // config.total_stride) ** 2
        self.target_code = nn.Parameter(torch.zeros(1, neck, 1, 1))
        self.match_scale = nn.Parameter(torch.tensor(5.0))
        self.fuse_pixelwise = conv_bn(exemplar_cells + neck, head)
        self.fuse_depthwise = conv_bn(neck, head)
        self.score_tower = _tower(2 * head, head)
        self.box_tower = _tower(2 * head, head)
        self.score = nn.Conv2d(head, 1, 1)
        self.box = nn.Conv2d(head, 4, 1)
        _initialise_heads(self.score, self.box)

    def embed_exemplar(self, z: Tensor, target_mask: Tensor) -> Lite0Exemplar:
        """Describe the target.

        Args:
            z: (B, 3, exemplar_size_px, exemplar_size_px) RGB in 0..255.
            target_mask: (B, 1, h, w) share of each exemplar cell that the target's box covers,
                see `siamtrack.models.masks.coverage`; it tells target from background.
        """
        features = self.exemplar_branch(self.normalise(z))
        mask = target_mask.to(features.dtype)
        weight = mask / mask.sum(dim=(2, 3), keepdim=True).clamp_min(1e-6)
        embedding = F.normalize((features * weight).sum(dim=(2, 3)), dim=1)
        coded = features + self.target_code * mask
        k = self.config.kernel_cells
        start = (features.shape[-1] - k) // 2
        kernel = coded[:, :, start : start + k, start : start + k] / k**2
        return Lite0Exemplar(F.normalize(coded, dim=1), kernel, embedding)

    def embed_search(self, x: Tensor) -> Tensor:
        """(B, 3, search_size_px, search_size_px) RGB in 0..255 to (B, neck, R, R) features."""
        features: Tensor = self.search_branch(self.normalise(x))
        return features

    def correlate(self, z: Lite0Exemplar, x: Tensor) -> TrackerOutput:
        """Match search features against exemplars (B of them, or one for all searches)."""
        unit = F.normalize(x, dim=1)
        matches = pixelwise_correlate(z.cells, unit) * self.match_scale
        parts = F.relu(self.fuse_pixelwise(torch.cat([matches, x], dim=1)))
        kernel = z.kernel
        # An even kernel has no middle cell: pad k // 2 and drop the surplus row and column.
        whole = depthwise_correlate(kernel, x, padding=kernel.shape[-1] // 2)
        whole = whole[:, :, : x.shape[-2], : x.shape[-1]]
        whole = F.relu(self.fuse_depthwise(whole))
        fused = torch.cat([parts, whole], dim=1)
        logits = self.score(self.score_tower(fused))
        # exp keeps distances positive; the clamp keeps a wild one finite in half precision.
        ltrb = self.box(self.box_tower(fused)).float().clamp(-6.0, 5.0).exp()
        return TrackerOutput(logits, ltrb * self.config.total_stride, unit)

    def exemplar_from(self, tensors: Sequence[Tensor]) -> Lite0Exemplar:
        """See `TrackerNetwork.exemplar_from`."""
        return Lite0Exemplar(*tensors)

    def state_at(self, config: NetworkConfig) -> dict[str, Tensor]:
        """See `TrackerNetwork.state_at`; what the parts of an exemplar weigh is interpolated.

        Pixel-wise correlation has a channel for each exemplar cell, so that another exemplar has
        other channels; a part of the target keeps its weight wherever its cells are. A beginning
        for training, not the end of it.
        """
        state = super().state_at(config)
        old, new = (c.exemplar_size_px // c.total_stride for c in (self.config, config))
        if old != new:
            name = "fuse_pixelwise.0.weight"
            parts, rest = state[name].split([old**2, state[name].shape[1] - old**2], dim=1)
            grid = parts.reshape(-1, 1, old, old)
            grid = F.interpolate(grid, (new, new), mode="bilinear", align_corners=True)
            # Fewer cells each count more, so that the sum over all of them stays.
            parts = grid.reshape(len(parts), new**2, 1, 1) * (old / new) ** 2
            state = {**state, name: torch.cat([parts, rest], dim=1)}
        return state

    def similarity(self, z: Lite0Exemplar, output: TrackerOutput) -> Tensor | None:
        """See `TrackerNetwork.similarity`."""
        if output.embedding is None:
            return None
        return (output.embedding * z.embedding[:, :, None, None]).sum(dim=1)

    def forward(self, z: Tensor, x: Tensor, target_mask: Tensor) -> TrackerOutput:
        """Embed and correlate pairs (z, x): what training runs."""
        return self.correlate(self.embed_exemplar(z, target_mask), self.embed_search(x))


def _tower(in_channels: int, channels: int) -> nn.Sequential:
    """Three separable blocks; the first, 5 x 5, sees past the exemplar's own size."""
    return nn.Sequential(
        SeparableBlock(in_channels, channels, 5),
        SeparableBlock(channels, channels, 3),
        SeparableBlock(channels, channels, 3),
    )


def _initialise_heads(score: nn.Conv2d, box: nn.Conv2d) -> None:
    """Start from 'no target here' and from boxes of about 4 cells, a typical target's size."""
    nn.init.normal_(score.weight, std=0.01)
    nn.init.normal_(box.weight, std=0.01)
    if score.bias is None or box.bias is None:
        raise TypeError("heads need biases")
    nn.init.constant_(score.bias, -3.0)
    nn.init.constant_(box.bias, 0.7)
