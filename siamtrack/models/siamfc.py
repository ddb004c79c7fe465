"""SiamFC: Bertinetto et al. 2016, "Fully-Convolutional Siamese Networks for Object Tracking".

An AlexNet without padding embeds exemplar and search crop, and the response is their
cross-correlation (equation 2, table 1). Module names follow the common PyTorch port, whose state
dicts fit without renaming.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from siamtrack.models.config import SiamFCConfig
from siamtrack.models.correlation import cross_correlate
from siamtrack.models.network import NetworkOutput, SiameseNetwork


class SiamFC(SiameseNetwork):
    """The paper's network: exemplar 127 px, search 255 px, response 17 x 17 cells.

    It has no box head: the tracker reads the position from the response, and the size from
    searching at several scales. Crops of other sizes give responses of other sizes.
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
        """(B, 3, exemplar_size_px, exemplar_size_px) RGB in 0 to 255 to (B, out_channels, h, w).

        The features have 6 x 6 cells in the paper. The mask is ignored: SiamFC correlates with the
        whole exemplar.
        """
        features: Tensor = self.backbone(self.normalize(z))
        return features

    def embed_search(self, x: Tensor) -> Tensor:
        """(B, 3, search_size_px, search_size_px) RGB in 0 to 255 to (B, out_channels, H, W)."""
        backbone = self.backbone if self.search_backbone is None else self.search_backbone
        features: Tensor = backbone(self.normalize(x))
        return features

    def correlate(self, z: Tensor, x: Tensor) -> NetworkOutput:
        """Response of search features to exemplars (B of them, or one for all searches).

        Equation 2, f(z, x) = phi(z) * phi(x) + b, with the correlation scaled as in the authors'
        code.
        """
        response = cross_correlate(z, x)  # (B, 1, R, R)
        return NetworkOutput(response * self.config.response_scale + self.response_bias)

    def forward(self, z: Tensor, x: Tensor, target_mask: Tensor | None = None) -> NetworkOutput:
        """Embed and correlate pairs (z, x), for training."""
        return self.correlate(self.embed_exemplar(z, target_mask), self.embed_search(x))


class AlexNet(nn.Module):
    """The embedding of table 1: five convolutions, no padding, (B, 3, S, S) to (B, C, s, s)."""

    def __init__(self, config: SiamFCConfig) -> None:
        super().__init__()
        # Strides before the last pooling: 2 (conv1) times 2 (pool1).
        last_pool_stride = config.total_stride // 4

        def norm(channels: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(channels, eps=config.bn_eps, momentum=config.bn_momentum)

        # Sizes of an exemplar of 127 px and a search of 255 px after each block.
        self.conv1 = nn.Sequential(  # 29, 61
            nn.Conv2d(3, 96, 11, stride=2), norm(96), nn.ReLU(), nn.MaxPool2d(3, stride=2)
        )
        self.conv2 = nn.Sequential(  # 12, 28
            nn.Conv2d(96, 256, 5, groups=2),
            norm(256),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=last_pool_stride),
        )
        self.conv3 = nn.Sequential(nn.Conv2d(256, 384, 3), norm(384), nn.ReLU())  # 10, 26
        self.conv4 = nn.Sequential(nn.Conv2d(384, 384, 3, groups=2), norm(384), nn.ReLU())  # 8, 24
        self.conv5 = nn.Sequential(nn.Conv2d(384, config.out_channels, 3, groups=2))  # 6, 22
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # "Improved Xavier" initialization of section 3.2, He et al. 2015.
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Embed a normalized batch."""
        for block in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            image = block(image)
        return image
