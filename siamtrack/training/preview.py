"""What a run would be shown, before it is started."""

from __future__ import annotations

from pathlib import Path

import cv2

from siamtrack.data.cache import CropCache
from siamtrack.data.show import draw_pairs
from siamtrack.files import write_atomically
from siamtrack.models.registry import build_network
from siamtrack.training.batches import pairs_of
from siamtrack.training.config import TrainConfig


def save_pairs_picture(config: TrainConfig, out: Path, *, first: int = 0, count: int = 64) -> None:
    """Write a PNG of the pairs that a run draws; see `draw_pairs`.

    Raises:
        ConfigError, DatasetError: the pairs are not to be had.
        OutputError: the picture cannot be written.
    """
    network = build_network(config.network.architecture, config.network.config)
    pairs = pairs_of(config, CropCache(Path(config.cache)), network.config, "train")
    picture = draw_pairs(pairs, first=first, count=count)
    write_atomically(out, cv2.imencode(".png", picture)[1].tobytes())
