"""A small crop cache of colored squares."""

from __future__ import annotations

import numpy as np
import pytest

from siamtrack.data.cache import CacheConfig, TrackFrames, build_cache


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
