"""The default network: EfficientNet-Lite0 features, two correlations, an anchor-free box head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamtrack.models.config import Lite0Config, NetworkConfig
from siamtrack.models.correlation import depthwise_correlate, pixelwise_correlate
from siamtrack.models.depthwise import DepthwiseConv2d
from siamtrack.models.efficientnet import EfficientNetLite0
from siamtrack.models.network import NetworkOutput, SiameseNetwork


class Lite0Exemplar(NamedTuple):
    """Embedded exemplars.

    Attributes:
        cells: (B, neck, h, w) unit-length features of the exemplar cells.
        kernel: (B, neck, k, k) kernel of the depth-wise correlation.
        embedding: (B, neck) unit-length mean feature of the cells that the target covers.
    """

    cells: Tensor
    kernel: Tensor
    embedding: Tensor


class SiamTrackLite0(SiameseNetwork):
    """Anchor-free siamese tracker on EfficientNet-Lite0 features.

    Pixel-wise correlation (Yan et al. 2021, LightTrack) tells which part of the target matches
    where; depth-wise correlation (Li et al. 2019, SiamRPN++) tells how well the whole matches.
    Both are fused with the search features into a score tower and a box tower (FCOS, Tian et al.
    2019).
    """

    architecture: ClassVar[str] = "siamtrack-lite0"
    crop_fields: ClassVar[frozenset[str]] = SiameseNetwork.crop_fields | {"kernel_cells"}
    any_search_size: ClassVar[bool] = True
    config: Lite0Config

    def __init__(self, config: Lite0Config | None = None) -> None:
        config = config or Lite0Config()
        super().__init__(config)
        neck, head = config.neck_channels, config.head_channels
        self.search_branch = Branch(config)
        self.exemplar_branch = self.search_branch
        if config.pseudo_siamese:
            self.exemplar_branch = Branch(replace(config, filter_channels=0))
        self.target_code = nn.Parameter(torch.zeros(1, neck, 1, 1))
        self.match_scale = nn.Parameter(torch.tensor(5.0))
        self.fuse_pixelwise = conv_bn(config.exemplar_cells**2 + neck, head)
        self.fuse_depthwise = conv_bn(neck, head)
        self.score_tower = _tower(2 * head, head)
        self.box_tower = _tower(2 * head, head)
        self.score = nn.Conv2d(head, 1, 1)
        self.box = nn.Conv2d(head, 4, 1)
        _initialize_heads(self.score, self.box)

    def embed_exemplar(self, z: Tensor, target_mask: Tensor) -> Lite0Exemplar:
        """Embed the target; the mask tells its cells from the background's."""
        features, _ = self.exemplar_branch(self.normalize(z))  # (B, neck, h, w)
        mask = target_mask.to(features.dtype)  # (B, 1, h, w)

        # Appearance: mean feature of the target's cells, for the cosine similarity.
        weight = mask / mask.sum(dim=(2, 3), keepdim=True).clamp_min(1e-6)
        embedding = F.normalize((features * weight).sum(dim=(2, 3)), dim=1)  # (B, neck)

        # Mark the target's cells with a learned code, so that the correlations can tell them from
        # the background's.
        coded = features + self.target_code * mask

        # Kernel of the depth-wise correlation: the central patch, where the target is.
        k = self.config.kernel_cells
        start = (features.shape[-1] - k) // 2
        kernel = coded[:, :, start : start + k, start : start + k] / k**2  # (B, neck, k, k)
        return Lite0Exemplar(F.normalize(coded, dim=1), kernel, embedding)

    def embed_search(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) RGB in 0 to 255 to (B, neck + filter, R, R); R is S / total_stride.

        The features that are correlated, then those of the online filter, if it has its own.
        """
        neck, own = self.search_branch(self.normalize(x))
        return neck if own is None else torch.cat([neck, own], dim=1)

    def correlate(self, z: Lite0Exemplar, x: Tensor) -> NetworkOutput:
        """Correlate pixel-wise and depth-wise, then predict score and box of every cell."""
        filter_features = self.filter_features(x)
        x = x[:, : self.config.neck_channels]

        # 1. Pixel-wise correlation: cosine of every exemplar cell with every search cell.
        unit = F.normalize(x, dim=1)
        matches = pixelwise_correlate(z.cells, unit) * self.match_scale  # (B, h * w, R, R)
        parts = F.relu(self.fuse_pixelwise(torch.cat([matches, x], dim=1)))  # (B, head, R, R)

        # 2. Depth-wise correlation with the target patch. An even kernel has no central cell: pad
        #    by k // 2 and drop the surplus row and column.
        kernel = z.kernel
        whole = depthwise_correlate(kernel, x, padding=kernel.shape[-1] // 2)
        whole = whole[:, :, : x.shape[-2], : x.shape[-1]]  # (B, neck, R, R)
        whole = F.relu(self.fuse_depthwise(whole))  # (B, head, R, R)

        # 3. Score and box towers on both.
        fused = torch.cat([parts, whole], dim=1)  # (B, 2 head, R, R)
        logits = self.score(self.score_tower(fused))  # (B, 1, R, R)
        # exp keeps distances positive; the clamp keeps extreme ones finite in half precision.
        ltrb = self.box(self.box_tower(fused)).float().clamp(-6.0, 5.0).exp()  # (B, 4, R, R)
        return NetworkOutput(logits, ltrb * self.config.total_stride, unit, filter_features)

    def filter_features(self, x: Tensor) -> Tensor:
        """(B, F, R, R): those of its own, or the ones that are correlated."""
        if self.config.filter_channels:
            x = x[:, self.config.neck_channels :]
        return F.normalize(x, dim=1)

    def forward(self, z: Tensor, x: Tensor, target_mask: Tensor) -> NetworkOutput:
        """Embed and correlate pairs (z, x), for training."""
        return self.correlate(self.embed_exemplar(z, target_mask), self.embed_search(x))

    def exemplar_from_tensors(self, tensors: Sequence[Tensor]) -> Lite0Exemplar:
        """Rebuild the exemplar from the tensors of its fields, in order."""
        return Lite0Exemplar(*tensors)

    def similarity(self, z: Lite0Exemplar, output: NetworkOutput) -> Tensor | None:
        """(B, R, R) cosine of search cells and the mean feature of the target."""
        if output.embedding is None:
            return None
        return (output.embedding * z.embedding[:, :, None, None]).sum(dim=1)  # (B, R, R)

    def resized_state_dict(self, config: NetworkConfig) -> dict[str, Tensor]:
        """These weights for crops of another size; a starting point for training.

        The pixel-wise correlation has one channel per exemplar cell, so that an exemplar of another
        size needs other channels. Their weights are interpolated by the position of the cell.
        Features of the online filter may be left out, or come new.
        """
        if not isinstance(config, Lite0Config):
            return super().resized_state_dict(config)
        own, wanted = self.config.filter_channels, config.filter_channels
        rest = config if own and wanted else replace(config, filter_channels=own)
        state = super().resized_state_dict(rest)
        if own and not wanted:
            state = {name: value for name, value in state.items() if ".filter_neck." not in name}
        elif wanted and not own:
            # They start as the strongest directions of the neck.
            neck = self.search_branch.neck.weight.detach()[:, :, 0, 0]  # (neck, channels)
            directions = torch.linalg.svd(neck, full_matrices=False).Vh[:wanted]
            start = FilterNeck(neck.shape[1], wanted).state_dict()
            start["enter.weight"][: len(directions)] = directions[:, :, None, None]
            for branch in ("search_branch",) if config.pseudo_siamese else _BRANCHES:
                state |= {f"{branch}.filter_neck.{name}": value for name, value in start.items()}

        old, new = self.config.exemplar_cells, config.exemplar_cells
        if old != new:
            name = "fuse_pixelwise.0.weight"  # (head, old * old + neck, 1, 1)
            parts, rest = state[name].split([old**2, state[name].shape[1] - old**2], dim=1)
            grid = parts.reshape(-1, 1, old, old)
            grid = F.interpolate(grid, (new, new), mode="bilinear", align_corners=True)
            # The factor keeps the sum over all cells: with fewer cells, each one weighs more.
            parts = grid.reshape(len(parts), new**2, 1, 1) * (old / new) ** 2
            state = {**state, name: torch.cat([parts, rest], dim=1)}
        return state


_BRANCHES = ("search_branch", "exemplar_branch")  # two names of one branch unless pseudo-siamese

NECK_GAIN = 0.02
"""Variance gain of a new neck: backbone features have a standard deviation of about 7, the neck's
output one of 1."""


class Branch(nn.Module):
    """One siamese branch: backbone and neck, image to features at stride 16."""

    def __init__(self, config: Lite0Config) -> None:
        super().__init__()
        self.backbone = EfficientNetLite0(config.inner_channels)
        self.fine_detail = config.fine_detail
        channels = self.backbone.out_channels
        if config.fine_detail:
            channels += 4 * self.backbone.fine_channels
        # No batch norm here: exemplars and searches have different statistics but share the neck.
        self.neck = _projection(channels, config.neck_channels)
        self.filter_neck = None
        if config.filter_channels:
            self.filter_neck = FilterNeck(channels, config.filter_channels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, S, S) normalized RGB to (B, neck, R, R) features, and those of the filter."""
        fine, coarse = self.backbone(image)  # (B, 40, S / 8, S / 8), (B, 112, S / 16, S / 16)
        neck = self._project(self.neck, fine, coarse)
        if self.filter_neck is None:
            return neck, None
        return neck, self.filter_neck(self._project(self.filter_neck.enter, fine, coarse))

    def _project(self, conv: nn.Conv2d, fine: Tensor, coarse: Tensor) -> Tensor:
        """1 x 1 convolution of both kinds of features."""
        if self.fine_detail and torch.compiler.is_exporting():
            # The same sum without moving data: the four cells are a 2 x 2 convolution.
            width = coarse.shape[1]
            whole, detail = conv.weight[:, :width], conv.weight[:, width:]
            detail = detail.reshape(-1, fine.shape[1], 2, 2)
            return F.conv2d(coarse, whole, conv.bias) + F.conv2d(fine, detail, stride=2)
        if self.fine_detail:
            # Each stride-16 cell gets its 2 x 2 stride-8 cells as extra channels.
            coarse = torch.cat([coarse, F.pixel_unshuffle(fine, 2)], dim=1)  # (B, 272, ., .)
        features: Tensor = conv(coarse)
        return features


FILTER_HIDDEN = 96
"""Channels between the two 1 x 1 convolutions of `FilterNeck`."""


class FilterNeck(nn.Module):
    """Features of the online filter: a projection, plus what the cells around add to it.

    They are trained through the filter (`siamtrack.losses.online_filter`), those of the neck for
    the correlations: to tell this object from its surroundings, instead of any from background.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.enter = _projection(in_channels, out_channels + FILTER_HIDDEN)
        self.around = DepthwiseConv2d(FILTER_HIDDEN, 3)
        self.leave = nn.Conv2d(FILTER_HIDDEN, out_channels, 1)
        # It starts as the projection alone.
        nn.init.zeros_(self.leave.weight)
        if self.leave.bias is not None:
            nn.init.zeros_(self.leave.bias)

    def forward(self, entered: Tensor) -> Tensor:
        """(B, out + hidden, R, R) outputs of `enter` to (B, out, R, R)."""
        hidden = F.relu(entered[:, self.out_channels :])
        added: Tensor = self.leave(F.relu(self.around(hidden)))
        return entered[:, : self.out_channels] + added


def _projection(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 1)
    nn.init.normal_(conv.weight, std=(NECK_GAIN / in_channels) ** 0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class SeparableBlock(nn.Sequential):
    """Depth-wise then 1 x 1 convolution, batch norm and ReLU: the building block of the towers."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(
            DepthwiseConv2d(in_channels, kernel),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )


def conv_bn(in_channels: int, out_channels: int) -> nn.Sequential:
    """1 x 1 convolution and batch norm."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
    )


def _tower(in_channels: int, channels: int) -> nn.Sequential:
    """Three separable blocks; the first, 5 x 5, sees beyond the exemplar's own size."""
    return nn.Sequential(
        SeparableBlock(in_channels, channels, 5),
        SeparableBlock(channels, channels, 3),
        SeparableBlock(channels, channels, 3),
    )


def _initialize_heads(score: nn.Conv2d, box: nn.Conv2d) -> None:
    """Start at low scores (focal loss prior) and at boxes of about 4 cells, the typical target."""
    nn.init.normal_(score.weight, std=0.01)
    nn.init.normal_(box.weight, std=0.01)
    if score.bias is None or box.bias is None:
        raise TypeError("heads need biases")
    nn.init.constant_(score.bias, -3.0)
    nn.init.constant_(box.bias, 0.7)
