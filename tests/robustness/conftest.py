"""Fixtures of the battery; `common` has what its tests import."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import siamtrack
from siamtrack.engines.base import Engine
from siamtrack.video.video_writer import VideoSink
from tests.robustness.common import FIGURES, SOAK, WH, scene


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Of the smallest network: what is tested here is not its accuracy."""
    return siamtrack.load("siamtrack-nano", device="cpu", engine="onnx:int8", threads=1).engine


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of the scene."""
    path = tmp_path_factory.mktemp("robustness") / "clip.mp4"
    with VideoSink(path, 25.0, WH) as sink:
        for index in range(12):
            sink.write(scene(index))
    return path


@pytest.fixture(scope="session")
def note() -> Callable[..., None]:
    """Keep figures of a soak in build/soak/NAME.json; CI only prints them."""

    def write(name: str, **figures: object) -> None:
        print(f"{name}: {figures}")
        if SOAK:
            FIGURES.mkdir(parents=True, exist_ok=True)
            (FIGURES / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")

    return write
