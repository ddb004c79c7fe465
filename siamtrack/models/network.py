"""What every tracker network is: three pure parts and a description of its geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from siamtrack.errors import ConfigError


class TrackerOutput(NamedTuple):
    """What `correlate` returns.

    Attributes:
        score_logits: (B, 1, R, R); sigmoid gives how well each cell matches the exemplar.
        ltrb_px: (B, 4, R, R) distances from the cell's centre to the left, top, right and bottom
            edge of the target, in px of the search crop; None for networks without a box head.
        embedding: (B, E, R, R) unit-length appearance vectors of the search cells, comparable
            with the exemplar's; None for networks without one.
    """

    score_logits: Tensor
    ltrb_px: Tensor | None = None
    embedding: Tensor | None = None


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Geometry shared by all architectures; sizes in px of the crop.

    Attributes:
        exemplar_size_px: side of the exemplar crop z.
        search_size_px: side of the search crop x. Raising it sees faster motion and costs time.
        total_stride: search px from one response cell to the next.
        context_amount: background around the target in the exemplar; see `context_side`.
        pseudo_siamese: give exemplar and search branches weights of their own.
        input_mean: RGB mean in 0..255 that is taken off.
        input_std: RGB scale that is divided by.
    """

    exemplar_size_px: int = 128
    search_size_px: int = 256
    total_stride: int = 16
    context_amount: float = 0.5
    pseudo_siamese: bool = False
    input_mean: tuple[float, float, float] = (127.0, 127.0, 127.0)
    input_std: tuple[float, float, float] = (128.0, 128.0, 128.0)

    @property
    def search_scale(self) -> float:
        """Side of the search window over the side of the exemplar window."""
        return self.search_size_px / self.exemplar_size_px

    @property
    def response_size(self) -> int:
        """Cells a side of the response, for networks that keep the size of their input."""
        return self.search_size_px // self.total_stride


class TrackerNetwork(nn.Module):
    """Base of all networks: `embed_exemplar`, `embed_search` and `correlate`, nothing else.

    Inputs are RGB batches (B, 3, S, S) in 0..255, uint8 or float; networks normalise them. The
    network never moves data between devices, computes no loss and keeps no state, so that one
    instance serves any number of trackers.
    """

    architecture: ClassVar[str]
    crop_fields: ClassVar[frozenset[str]] = frozenset({"exemplar_size_px", "search_size_px"})
    """Fields of the configuration that weights outlive: what is convolutional fits any crop."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        mean = torch.tensor(config.input_mean).reshape(1, 3, 1, 1)
        std = torch.tensor(config.input_std).reshape(1, 3, 1, 1)
        self.register_buffer("input_mean", mean, persistent=False)
        self.register_buffer("input_std", std, persistent=False)
        self.input_mean: Tensor
        self.input_std: Tensor

    def normalise(self, image: Tensor) -> Tensor:
        """RGB in 0..255 of any dtype to the float range that the backbone was trained on."""
        mean, std = self.input_mean, self.input_std
        if torch.compiler.is_exporting():
            # Graph engines take a transpose right before the first convolution for nothing, and
            # go through pixels faster where all channels have one mean.
            pixels = image.permute(0, 2, 3, 1).to(mean.dtype)
            pixels = pixels - _lone(self.config.input_mean, mean.flatten())
            pixels = pixels / _lone(self.config.input_std, std.flatten())
            return pixels.permute(0, 3, 1, 2)
        return (image.to(mean.dtype) - mean) / std

    def embed_exemplar(self, z: Tensor, target_mask: Tensor) -> Any:
        """Describe targets; what comes back is for `correlate`.

        Args:
            z: (B, 3, S, S) RGB in 0..255.
            target_mask: (B, 1, h, w) share of each exemplar cell that the target covers.
        """
        raise NotImplementedError

    def embed_search(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) RGB in 0..255 to search features."""
        raise NotImplementedError

    def correlate(self, z: Any, x: Tensor) -> TrackerOutput:
        """Match search features against exemplars: one for all, or as many as searches."""
        raise NotImplementedError

    def exemplar_from(self, tensors: Sequence[Tensor]) -> Any:
        """Rebuild what `embed_exemplar` returned from its tensors, in order.

        Engines keep exemplars as flat tensors; networks that return one tensor need no more.
        """
        return tensors[0]

    def state_at(self, config: NetworkConfig) -> dict[str, Tensor]:
        """These weights for the same network at other sizes of crop.

        Args:
            config: differs from this network's in `crop_fields` at the most.

        Raises:
            ConfigError: it differs in more.
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

    def similarity(self, z: Any, output: TrackerOutput) -> Tensor | None:
        """(B, R, R) cosine between each search cell and the exemplar; None without embeddings."""
        return None


def _lone(values: tuple[float, ...], tensor: Tensor) -> float | Tensor:
    """The value that all channels have, or else the tensor of them."""
    return values[0] if len(set(values)) == 1 else tensor


def coverage(boxes_xywh: Tensor, cells: int, stride: int) -> Tensor:
    """Rasterise boxes on a square grid of cells, exactly (areas, not samples).

    Args:
        boxes_xywh: (B, 4) float, px of the crop.
        cells: grid cells a side.
        stride: px from one cell to the next.

    Returns:
        (B, 1, cells, cells) float32 in [0, 1]: covered area of each cell over the cell's area.
    """
    edges = torch.arange(cells, dtype=torch.float32, device=boxes_xywh.device) * stride
    x, y, w, h = boxes_xywh.float().unbind(1)
    across = _overlap(edges, x, w, stride)
    down = _overlap(edges, y, h, stride)
    return (down[:, :, None] * across[:, None, :])[:, None]


def exemplar_mask(boxes_xywh: Tensor, config: NetworkConfig) -> Tensor:
    """The mask that `embed_exemplar` takes, for training and for every engine.

    Args:
        boxes_xywh: (B, 4) targets in px of their exemplar crop.
        config: of the network.
    """
    return coverage(boxes_xywh, config.exemplar_size_px // config.total_stride, config.total_stride)


def _overlap(edges: Tensor, start: Tensor, length: Tensor, stride: int) -> Tensor:
    """(B, cells) share of the intervals [edge, edge + stride) inside [start, start + length)."""
    low = torch.maximum(edges[None], start[:, None])
    high = torch.minimum(edges[None] + stride, (start + length)[:, None])
    return (high - low).clamp_min(0) / stride
