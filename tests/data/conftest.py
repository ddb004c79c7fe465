"""Tiny images and clips for the formats' tests, and a small crop cache of colored squares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from siamtrack.data.cache import CacheConfig, TrackFrames, build_cache

WH = (64, 48)


@pytest.fixture
def write_picture() -> Callable[..., Path]:
    """Write a picture of one grey level, by default 64x48, making its folder."""

    def write(path: Path, *, wh: tuple[int, int] = WH, grey: int = 128) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.full((wh[1], wh[0], 3), grey, np.uint8)
        suffix = path.suffix.lower().replace("jpeg", "jpg")
        path.write_bytes(cv2.imencode(suffix, picture)[1].tobytes())
        return path

    return write


@pytest.fixture
def write_pictures(write_picture: Callable[..., Path]) -> Callable[..., None]:
    """Write `count` pictures `pattern % number` into a folder; frame i has grey level 10 i."""

    def write(folder: Path, count: int, pattern: str = "%08d.jpg", first: int = 1) -> None:
        for index in range(count):
            write_picture(folder / (pattern % (first + index)), grey=10 * index % 250)

    return write


@pytest.fixture
def write_clip() -> Callable[..., Path]:
    """Write a clip whose frame i has grey level 20 + 10 i, with B-frames and several key frames.

    With `ramp` every frame gets brighter from left to right instead.
    """

    def write(path: Path, count: int = 20, *, codec: str = "libx264", ramp: bool = False) -> Path:
        width, height = WH
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


def square_scene(number, rng):
    """A picture with a bright square, and the square's box."""
    image = rng.integers(0, 60, (120, 160, 3), dtype=np.uint8)
    x, y, side = int(rng.integers(20, 90)), int(rng.integers(20, 60)), 30
    color = np.array([40 * (number % 5) + 60, 250 - 30 * (number % 6), 90 + 20 * (number % 7)])
    image[y : y + side, x : x + side] = color
    return image, np.array([x, y, side, side], float)


def sources(videos=4, stills=6, frames=5, seed=0):
    rng = np.random.default_rng(seed)
    for number in range(videos):
        rows = [(i * 10, *square_scene(number, rng)) for i in range(frames)]
        yield TrackFrames(f"clip{number}", "clips", "square", "", rows)
    for number in range(stills):
        rows = [(0, *square_scene(number + videos, rng))]
        picture = f"picture{number // 2}"
        yield TrackFrames(f"still{number}", "stills", f"kind{number % 3}", picture, rows)


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "squares"
    return build_cache(sources(), folder, CacheConfig(), ["squares"])
