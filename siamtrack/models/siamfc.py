"""SiamFC: Bertinetto et al. 2016, "Fully-Convolutional Siamese Networks for Object Tracking".

An AlexNet without padding embeds exemplar and search crop, and the response is their
cross-correlation (equation 2, table 1). Module names follow the common PyTorch port, so that its
state dicts fit as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from siamtrack.errors import ConfigError
from siamtrack.models.correlation import cross_correlate
from siamtrack.models.network import NetworkConfig, TrackerNetwork, TrackerOutput

_STRIDE_BEFORE_LAST_POOL = 4
_RECEPTIVE_FIELD_PX = {8: 87, 4: 63}


@dataclass(frozen=True, slots=True)
class SiamFCConfig(NetworkConfig):
    """Geometry and constants of `SiamFC`; the defaults are those of the paper.

    Attributes:
        total_stride: 8 in the paper; 4 is the later baseline of the same authors (CFNet, Valmadre
            et al. 2017), whose last pooling has stride 1: a finer response at about four times
            the cost after it.
        input_mean: 0, and
        input_std: 1: all published SiamFC weights take RGB in 0..255 as it is.
        out_channels: width of the features that are correlated; 256 in the paper, 32 with
            stride 4. Raising it makes the correlation costlier.
        response_scale: factor on the correlation, 1e-3 in the paper, which keeps the sum over
            some 9000 products in the range where the logistic loss has a slope.
        bn_eps: added to the variance in batch norm: 1e-6 in the PyTorch port, 1e-4 in MatConvNet.
        bn_momentum: weight of the newest batch in the running statistics. Raising it follows the
            data faster and more noisily.
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
        if self.total_stride not in _RECEPTIVE_FIELD_PX:
            raise ConfigError(
                f"total_stride is {self.total_stride}; this network's is 8 (the paper) or 4"
            )
        field, stride = self.receptive_field_px, self.total_stride
        for name in ("exemplar_size_px", "search_size_px"):
            size = getattr(self, name)
            if size < field or (size - field) % stride:
                # Any other size drops pixels on one side only, and the response is off centre.
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
        """Cells a side of the features of a crop of `size_px`."""
        return (size_px - self.receptive_field_px) // self.total_stride + 1

    @property
    def response_size(self) -> int:
        """Cells a side of the response: 17 in the paper, 33 with stride 4."""
        return self.feature_size(self.search_size_px) - self.feature_size(self.exemplar_size_px) + 1


class AlexNet(nn.Module):
    """The embedding of table 1: five convolutions, no padding, (B, 3, S, S) to (B, C, s, s)."""

    def __init__(self, config: SiamFCConfig) -> None:
        super().__init__()
        last_pool_stride = config.total_stride // _STRIDE_BEFORE_LAST_POOL

        def norm(channels: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(channels, eps=config.bn_eps, momentum=config.bn_momentum)

        self.conv1 = nn.Sequential(
            nn.Conv2d(3, 96, 11, stride=2), norm(96), nn.ReLU(), nn.MaxPool2d(3, stride=2)
        )
        self.conv2 = nn.Sequential(
            nn.Conv2d(96, 256, 5, groups=2),
            norm(256),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=last_pool_stride),
        )
        self.conv3 = nn.Sequential(nn.Conv2d(256, 384, 3), norm(384), nn.ReLU())
        self.conv4 = nn.Sequential(nn.Conv2d(384, 384, 3, groups=2), norm(384), nn.ReLU())
        self.conv5 = nn.Sequential(nn.Conv2d(384, config.out_channels, 3, groups=2))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # The "improved Xavier" start of section 3.2, He et al. 2015.
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Embed a normalised batch."""
        for block in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            image = block(image)
        return image


class SiamFC(TrackerNetwork):
    """The paper's tracker network: exemplar 127 px, search 255 px, response 17 x 17 cells.

    It has no box head: the tracker reads the position from the response and the size from
    searching at several scales. Fully convolutional: crops of other sizes give responses of
    other sizes.
    """

    architecture: ClassVar[str] = "siamfc"
    config: SiamFCConfig

    def __init__(self, config: SiamFCConfig | None = None) -> None:
        config = config or SiamFCConfig()
        super().__init__(config)
        self.backbone = AlexNet(config)
        self.search_backbone = AlexNet(config) if config.pseudo_siamese else None
        self.response_bias = nn.Parameter(torch.zeros(1))

    def embed_exemplar(self, z: Tensor, target_mask: Tensor | None = None) -> Tensor:
        """Embed the exemplar.

        Args:
            z: (B, 3, exemplar_size_px, exemplar_size_px) RGB in 0..255.
            target_mask: taken, and not looked at, so that all networks are called alike; SiamFC
                correlates with the whole exemplar.

        Returns:
            (B, out_channels, h, w) features, 6 x 6 cells in the paper.
        """
        features: Tensor = self.backbone(self.normalise(z))
        return features

    def embed_search(self, x: Tensor) -> Tensor:
        """(B, 3, search_size_px, search_size_px) RGB in 0..255 to (B, out_channels, H, W)."""
        backbone = self.backbone if self.search_backbone is None else self.search_backbone
        features: Tensor = backbone(self.normalise(x))
        return features

    def correlate(self, z: Tensor, x: Tensor) -> TrackerOutput:
        """Response of search features to exemplars (B of them, or one for all searches).

        Equation 2, f(z, x) = phi(z) * phi(x) + b, with the correlation scaled as the authors'
        code does.
        """
        response = cross_correlate(z, x)
        return TrackerOutput(response * self.config.response_scale + self.response_bias)

    def forward(self, z: Tensor, x: Tensor, target_mask: Tensor | None = None) -> TrackerOutput:
        """Embed and correlate pairs (z, x): what training runs."""
        return self.correlate(self.embed_exemplar(z, target_mask), self.embed_search(x))
