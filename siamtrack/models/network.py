"""The interface of all networks, `SiameseNetwork`, and the mask that marks the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from siamtrack.errors import ConfigError
from siamtrack.models.config import NetworkConfig
from siamtrack.utils.config import renamed_attributes, renamed_method


class NetworkOutput(NamedTuple):
    """Output of `SiameseNetwork.correlate`; R is the response size in cells.

    Attributes:
        score_logits: (B, 1, R, R); the sigmoid is how well a cell matches the exemplar.
        ltrb_px: (B, 4, R, R) distances from the center of a cell to the left, top, right and
            bottom edge of the target, in px of the search crop; None for networks without a box
            head.
        embedding: (B, E, R, R) unit-length appearance vectors of the search cells, comparable
            with the exemplar's; None for networks without one.
        filter_features: (B, F, R, R) unit-length features that the online filter learns from; None
            for networks without.
    """

    score_logits: Tensor
    ltrb_px: Tensor | None = None
    embedding: Tensor | None = None
    filter_features: Tensor | None = None


class SiameseNetwork(nn.Module):
    """Base of all networks: `embed_exemplar`, `embed_search` and `correlate`.

    Inputs are RGB batches (B, 3, S, S) in 0 to 255, uint8 or float, which the network normalizes
    itself. A network never moves data between devices, computes no loss and keeps no state: any
    number of trackers share one instance.
    """

    architecture: ClassVar[str]
    crop_fields: ClassVar[frozenset[str]] = frozenset({"exemplar_size_px", "search_size_px"})
    """Fields of the configuration that may change under the same weights (see
    `resized_state_dict`): convolutions fit crops of any size."""

    any_search_size: ClassVar[bool] = False
    """Whether search crops may have any multiple of the total stride as their side, from that of
    the exemplar on, not only `search_size_px`."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        mean = torch.tensor(config.input_mean).reshape(1, 3, 1, 1)
        std = torch.tensor(config.input_std).reshape(1, 3, 1, 1)
        self.register_buffer("input_mean", mean, persistent=False)
        self.register_buffer("input_std", std, persistent=False)
        self.input_mean: Tensor
        self.input_std: Tensor

    def normalize(self, image: Tensor) -> Tensor:
        """RGB in 0 to 255 of any dtype to the float range that the backbone was trained on."""
        mean, std = self.input_mean, self.input_std
        if torch.compiler.is_exporting():
            # The same arithmetic on (B, S, S, 3). Graph engines merge the transpose into the first
            # convolution, and subtract one number faster than a vector of equal ones.
            pixels = image.permute(0, 2, 3, 1).to(mean.dtype)  # (B, S, S, 3)
            pixels = pixels - _single_value(self.config.input_mean, mean.flatten())
            pixels = pixels / _single_value(self.config.input_std, std.flatten())
            return pixels.permute(0, 3, 1, 2)  # (B, 3, S, S)
        return (image.to(mean.dtype) - mean) / std

    def embed_exemplar(self, z: Tensor, target_mask: Tensor) -> Any:
        """Embed the target; the result goes to `correlate`.

        `z` is (B, 3, S, S) RGB in 0 to 255, `target_mask` (B, 1, h, w) is that of `target_mask`.
        """
        raise NotImplementedError

    def embed_search(self, x: Tensor) -> Tensor:
        """Embed search crops, (B, 3, S, S) RGB in 0 to 255; see `any_search_size`."""
        raise NotImplementedError

    def correlate(self, z: Any, x: Tensor) -> NetworkOutput:
        """Match search features against exemplars: one for all, or as many as searches."""
        raise NotImplementedError

    def filter_features(self, x: Tensor) -> Tensor | None:
        """(B, F, R, R) unit-length features of the online filter, from those of `embed_search`."""
        return None

    def exemplar_from_tensors(self, tensors: Sequence[Tensor]) -> Any:
        """Rebuild the result of `embed_exemplar` from its tensors, in order.

        Engines store exemplars as flat tensors. Networks that return one tensor keep this default.
        """
        return tensors[0]

    def similarity(self, z: Any, output: NetworkOutput) -> Tensor | None:
        """(B, R, R) cosine similarity of search cells and exemplar; None without embeddings."""
        return None

    def resized_state_dict(self, config: NetworkConfig) -> dict[str, Tensor]:
        """These weights for the same network with crops of another size.

        Raises:
            ConfigError: `config` differs from this network's in more than `crop_fields`.
        """
        mine, other = asdict(self.config), asdict(config)
        differing = [k for k in mine | other if mine.get(k) != other.get(k)]
        fixed = sorted(set(differing) - self.crop_fields)
        if fixed or type(config) is not type(self.config):
            raise ConfigError(
                f"weights of {self.architecture} {self.config} do not fit {config}, which differs "
                f"in {', '.join(fixed) or 'its class'}; only {', '.join(sorted(self.crop_fields))} "
                "may"
            )
        return self.state_dict()

    exemplar_from = renamed_method("exemplar_from", "exemplar_from_tensors")
    state_at = renamed_method("state_at", "resized_state_dict")


def _single_value(values: tuple[float, ...], tensor: Tensor) -> float | Tensor:
    """The value that all channels share, or the tensor if they differ."""
    return values[0] if len(set(values)) == 1 else tensor


def target_mask(boxes_xywh: Tensor, config: NetworkConfig) -> Tensor:
    """Mask of the target for `SiameseNetwork.embed_exemplar`, in training.

    `boxes_xywh` (B, 4) are targets in px of their exemplar crop. Returns (B, 1, h, w) float32, the
    fraction of each exemplar cell that the target covers. Engines use `target_mask_array` of
    `siamtrack.engines.base`, which computes the same without torch.
    """
    return coverage(boxes_xywh, config.exemplar_cells, config.total_stride)


def coverage(boxes_xywh: Tensor, cells: int, stride: int) -> Tensor:
    """Fraction of each cell of a square grid that a box covers, computed from exact areas.

    `boxes_xywh` is (B, 4) float in px of the crop; cells begin every `stride` px. Returns
    (B, 1, cells, cells) float32 in [0, 1].
    """
    edges = torch.arange(cells, dtype=torch.float32, device=boxes_xywh.device) * stride
    x, y, w, h = boxes_xywh.float().unbind(1)

    # A box covers the product of what it covers of the cell's columns and of its rows.
    columns = _covered(edges, x, w, stride)  # (B, cells)
    rows = _covered(edges, y, h, stride)  # (B, cells)
    return (rows[:, :, None] * columns[:, None, :])[:, None]  # (B, 1, cells, cells)


def _covered(edges: Tensor, start: Tensor, length: Tensor, stride: int) -> Tensor:
    """(B, cells) fraction of each interval [edge, edge + stride) in [start, start + length)."""
    low = torch.maximum(edges[None], start[:, None])
    high = torch.minimum(edges[None] + stride, (start + length)[:, None])
    return (high - low).clamp_min(0) / stride


if not TYPE_CHECKING:  # a type checker would then accept any name
    __getattr__ = renamed_attributes(
        __name__, {"TrackerNetwork": "SiameseNetwork", "TrackerOutput": "NetworkOutput"}
    )
