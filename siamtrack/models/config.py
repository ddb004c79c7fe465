"""Configuration of the networks: sizes of crops, strides, widths. Importable without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from siamtrack.errors import ConfigError

_NEAR_SCALE = 1.125  # side of a near search crop over that of the exemplar


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Geometry shared by all networks; sizes in px of the crop.

    Attributes:
        exemplar_size_px: side of the exemplar crop z.
        search_size_px: side of the search crop x. Raising it follows faster motion and costs time.
        total_stride: search px from one response cell to the next.
        context_amount: background around the target in the exemplar; see `context_side`.
        pseudo_siamese: give the exemplar and the search branch separate weights.
        input_mean: RGB mean, 0 to 255, subtracted from the pixels.
        input_std: RGB scale, divides the pixels.
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
        """Side of the search window divided by the side of the exemplar window."""
        return self.search_size_px / self.exemplar_size_px

    @property
    def near_size_px(self) -> int:
        """Side of the search crop for a steady target (see `siamtrack.tracking.near_window`).

        It is 1/8 larger than the exemplar's, so that a target of the usual size moves by a quarter
        of it and still lies inside; its cells are the middle ones of the whole crop.
        """
        cells = math.ceil(_NEAR_SCALE * self.exemplar_size_px / self.total_stride)
        cells += (self.response_size - cells) % 2
        return min(cells * self.total_stride, self.search_size_px)

    @property
    def exemplar_cells(self) -> int:
        """Side of the exemplar in cells of the network's stride; also the side of its mask."""
        return self.exemplar_size_px // self.total_stride

    @property
    def response_size(self) -> int:
        """Side of the response in cells, for networks that pad their convolutions."""
        return self.search_size_px // self.total_stride


_MAX_SIZE_PX = 2048
_MAX_CHANNELS = 1024
"""Bounds of what weights may ask for: a damaged file must not fill the memory."""


def _check_bounds(config: NetworkConfig, widths: tuple[str, ...]) -> None:
    for name in ("exemplar_size_px", "search_size_px"):
        if getattr(config, name) > _MAX_SIZE_PX:
            raise ConfigError(
                f"{name} is {getattr(config, name)}; give at most {_MAX_SIZE_PX}, the crop's side "
                "in px"
            )
    for name in widths:
        if not 1 <= getattr(config, name) <= _MAX_CHANNELS:
            raise ConfigError(f"{name} is {getattr(config, name)}; give 1 to {_MAX_CHANNELS}")
    finite = math.isfinite(config.context_amount) and all(map(math.isfinite, config.input_mean))
    if not finite or config.context_amount < 0:
        raise ConfigError(
            f"context_amount is {config.context_amount} and input_mean {config.input_mean}; give "
            "finite numbers, the amount not negative"
        )
    if not all(0 < scale < math.inf for scale in config.input_std):
        raise ConfigError(f"input_std is {config.input_std}; give positive numbers")


LITE0_BLOCKS = 11
"""Blocks of EfficientNet-Lite0 up to stride 16."""


@dataclass(frozen=True, slots=True)
class Lite0Config(NetworkConfig):
    """Geometry and widths of `SiamTrackLite0`.

    Attributes:
        neck_channels: width of the correlated features. Raising it separates more distractors and
            costs time in every correlation and tower.
        head_channels: width of the score tower and the box tower.
        kernel_cells: side of the target patch that the depth-wise correlation uses, in exemplar
            cells; the target covers about half of the exemplar's side.
        fine_detail: feed the stride-8 features into the neck, which helps with small targets and
            with distractors that differ in texture.
        filter_channels: width of the features of the online filter; 0 gives it those that are
            correlated. Raising it separates more distractors; the filter's time and memory grow
            with its square.
        inner_channels: channels that the first blocks of the backbone filter, one number a block,
            that of the stem first; the blocks that are not named have those of EfficientNet-Lite0
            (32, 96, 144, 144, 240, ...). Lowering them saves time at the largest resolutions;
            `siamtrack slim` makes weights for it.
    """

    neck_channels: int = 96
    head_channels: int = 96
    kernel_cells: int = 4
    fine_detail: bool = True
    filter_channels: int = 0
    inner_channels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_bounds(self, ("neck_channels", "head_channels"))
        inner = self.inner_channels
        if len(inner) > LITE0_BLOCKS or not all(1 <= width <= _MAX_CHANNELS for width in inner):
            raise ConfigError(
                f"inner_channels is {inner}; give at most {LITE0_BLOCKS} numbers from 1 to "
                f"{_MAX_CHANNELS}, one for each block of the backbone"
            )
        for name in ("exemplar_size_px", "search_size_px"):
            size = getattr(self, name)
            if size <= 0 or size % 16:
                raise ConfigError(f"{name} is {size}; it must be a positive multiple of 16")
        if self.total_stride != 16:
            raise ConfigError(f"total_stride is {self.total_stride}; this network's is 16")
        if not 1 <= self.kernel_cells <= self.exemplar_cells:
            raise ConfigError(
                f"kernel_cells is {self.kernel_cells}; the exemplar has {self.exemplar_cells} "
                "cells a side"
            )
        if not 0 <= self.filter_channels <= self.neck_channels:
            raise ConfigError(
                f"filter_channels is {self.filter_channels}; give 0 to neck_channels, "
                f"{self.neck_channels}"
            )


_RECEPTIVE_FIELD_PX = {8: 87, 4: 63}  # of SiamFC's AlexNet, by its total stride


@dataclass(frozen=True, slots=True)
class SiamFCConfig(NetworkConfig):
    """Geometry and constants of `SiamFC`; the defaults are those of the paper.

    Attributes:
        total_stride: 8 in the paper. 4 is the later baseline of the same authors (CFNet, Valmadre
            et al. 2017), whose last pooling has stride 1: a finer response, about four times the
            cost after that layer.
        input_mean: 0, since all published SiamFC weights take RGB in 0 to 255 as it is.
        input_std: 1, for the same reason.
        out_channels: width of the correlated features: 256 in the paper, 32 with stride 4. Raising
            it makes the correlation slower.
        response_scale: factor on the correlation, 1e-3 in the paper. It keeps the sum of some 9000
            products in the range where the logistic loss has a gradient.
        bn_eps: added to the variance in batch norm: 1e-6 in the PyTorch port, 1e-4 in MatConvNet.
        bn_momentum: weight of the newest batch in the running statistics. Raising it adapts faster
            and is noisier.
    """

    exemplar_size_px: int = 127
    search_size_px: int = 255
    total_stride: int = 8
    input_mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    input_std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    out_channels: int = 256
    response_scale: float = 1e-3
    bn_eps: float = 1e-6
    bn_momentum: float = 0.05

    def __post_init__(self) -> None:
        _check_bounds(self, ("out_channels",))
        if self.total_stride not in _RECEPTIVE_FIELD_PX:
            raise ConfigError(
                f"total_stride is {self.total_stride}; this network's is 8 (the paper) or 4"
            )
        field, stride = self.receptive_field_px, self.total_stride
        for name in ("exemplar_size_px", "search_size_px"):
            size = getattr(self, name)
            if size < field or (size - field) % stride:
                # Any other size drops pixels on one side only, and the response is off center.
                raise ConfigError(
                    f"{name} is {size}; it must be {field} plus a multiple of {stride}, for "
                    f"example {field + 5 * stride}"
                )
        if self.search_size_px < self.exemplar_size_px:
            raise ConfigError(
                f"search_size_px is {self.search_size_px}; it must be at least exemplar_size_px, "
                f"{self.exemplar_size_px}"
            )
        if self.out_channels < 2 or self.out_channels % 2:
            raise ConfigError(
                f"out_channels is {self.out_channels}; it must be positive and even, because the "
                "last convolution has two groups"
            )

    @property
    def receptive_field_px(self) -> int:
        """Side of the square of input px that one feature cell sees."""
        return _RECEPTIVE_FIELD_PX[self.total_stride]

    def feature_size(self, size_px: int) -> int:
        """Side, in cells, of the features of a crop of `size_px`."""
        return (size_px - self.receptive_field_px) // self.total_stride + 1

    @property
    def response_size(self) -> int:
        """Side of the response in cells: 17 in the paper, 33 with stride 4."""
        return self.feature_size(self.search_size_px) - self.feature_size(self.exemplar_size_px) + 1
