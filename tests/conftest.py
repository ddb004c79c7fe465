"""What every test shares."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import settings

# Plots are drawn to files; a test must never need a screen because of matplotlib.
os.environ.setdefault("MPLBACKEND", "Agg")

# The tests run in a process per core already; threads beside them would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, and no verdict that depends on how busy the machine is.
settings.register_profile("siamtrack", derandomize=True, deadline=None, database=None)
settings.load_profile("siamtrack")

CLIP_WH = (64, 48)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(20160916)


@pytest.fixture
def write_picture() -> Callable[..., Path]:
    """Write a picture of one gray level, by default 64x48, making its folder."""

    def write(path: Path, *, wh: tuple[int, int] = CLIP_WH, gray: int = 128) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.full((wh[1], wh[0], 3), gray, np.uint8)
        suffix = path.suffix.lower().replace("jpeg", "jpg")
        path.write_bytes(cv2.imencode(suffix, picture)[1].tobytes())
        return path

    return write


@pytest.fixture
def write_pictures(write_picture: Callable[..., Path]) -> Callable[..., None]:
    """Write `count` pictures `pattern % number` into a folder; frame i has gray level 10 i."""

    def write(folder: Path, count: int, pattern: str = "%08d.jpg", first: int = 1) -> None:
        for index in range(count):
            write_picture(folder / (pattern % (first + index)), gray=10 * index % 250)

    return write


@pytest.fixture
def write_clip() -> Callable[..., Path]:
    """Write a clip whose frame i has gray level 20 + 10 i, with B-frames and several key frames.

    With `ramp` every frame gets brighter from left to right instead.
    """

    def write(path: Path, count: int = 20, *, codec: str = "libx264", ramp: bool = False) -> Path:
        width, height = CLIP_WH
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuv420p"
            stream.gop_size = 6
            stream.bit_rate = 4_000_000
            stream.thread_count = 1
            if codec == "libx264":
                stream.options = {"bf": "2"}
            if codec == "libvpx":
                stream.options = {"deadline": "realtime", "cpu-used": "8"}
            for index in range(count):
                picture = np.full((height, width, 3), 20 + 10 * index, np.uint8)
                if ramp:
                    picture[:] = np.linspace(0, 255, width)[:, None]
                frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """For tests that fork: a child that frees its parent's video frames waits for their threads."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
