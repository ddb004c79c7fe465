"""What the importers of foreign SiamFC checkpoints share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from siamtrack.errors import WeightsError
from siamtrack.models.siamfc import SiamFC, SiamFCConfig
from siamtrack.models.weights import state_problems

_STRIDE_OF_WIDTH = {256: 8, 32: 4}


class Imported(NamedTuple):
    """A checkpoint in our terms.

    Attributes:
        state: tensors under the names of `SiamFC`.
        config: the configuration that they need.
        layout: where they come from, in words.
    """

    state: dict[str, Tensor]
    config: SiamFCConfig
    layout: str


def config_of_width(out_channels: int, bn_eps: float) -> SiamFCConfig:
    """Configuration of the published network whose last convolution is so wide.

    A width that no published network has gives the paper's, whose shapes then do not match.
    """
    if out_channels not in _STRIDE_OF_WIDTH:
        return SiamFCConfig(bn_eps=bn_eps)
    stride = _STRIDE_OF_WIDTH[out_channels]
    return SiamFCConfig(total_stride=stride, out_channels=out_channels, bn_eps=bn_eps)


def backbone_shapes(config: SiamFCConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the backbone, by its name in `SiamFC`."""
    with torch.device("meta"):
        state = SiamFC(config).state_dict()
    return {k: tuple(v.shape) for k, v in state.items() if k.startswith("backbone.")}


def check_shapes(
    expected: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]], path: Path
) -> None:
    """Compare tensors with what a SiamFC needs, both under the names that the file uses.

    Raises:
        WeightsError: tensors are missing, of another shape or unexpected; all are listed.
    """
    problems = state_problems(expected, given)
    if problems:
        raise WeightsError(
            f"{path} does not hold a SiamFC: {'; '.join(problems)}; give a checkpoint of the "
            "AlexNet tracker"
        )
