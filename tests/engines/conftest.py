"""Weights with their graphs, and real crops."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from siamtrack.cli import main
from siamtrack.crops import crop_square
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.weights import save_network


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small network of the default architecture with graphs, made by the command."""
    torch.manual_seed(0)
    network = SiamTrackLite0(Lite0Config(exemplar_size_px=64, search_size_px=128))
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_network(network, path, training_data=["none"], license="none")
    assert main(["export", "--weights", str(path)]) == 0
    return path


@pytest.fixture(scope="session")
def photographs() -> list[np.ndarray]:
    """Three pictures of the world, BGR."""
    rgb = (skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee())
    return [np.ascontiguousarray(picture[..., ::-1]) for picture in rgb]


@pytest.fixture
def responses(photographs):
    """Response of an engine to real crops: `searches` of them against `targets` exemplars."""

    def crops(count, size_px, side_px, shift_px):
        found = []
        for picture in photographs[:count]:
            center = np.array(picture.shape[1::-1]) / 2 + shift_px
            found.append(crop_square(picture, center, side_px, size_px, fill_bgr=(90, 90, 90))[0])
        return found

    def respond(engine, targets, searches):
        config = engine.config
        size = config.exemplar_size_px
        boxes = np.tile(np.array([0.25, 0.25, 0.5, 0.5]) * size, (targets, 1))
        exemplar = engine.embed_exemplar(crops(targets, size, 120.0, 0.0), boxes)
        return engine.track(exemplar, crops(searches, config.search_size_px, 240.0, 9.0))

    return respond


@pytest.fixture(scope="session")
def quantized(exported: Path, photographs: list[np.ndarray], tmp_path_factory) -> Path:
    """The same weights with the quantized graph as well, made by the command."""
    pictures = tmp_path_factory.mktemp("pictures")
    for index, picture in enumerate(photographs):
        cv2.imwrite(str(pictures / f"{index}.png"), picture[:300, :300])
    arguments = ["export", "--weights", str(exported), "--int8", "--calibrate", str(pictures)]
    assert main(arguments) == 0
    return exported
