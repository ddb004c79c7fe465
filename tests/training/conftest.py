"""A tiny run: real network at small crops, real cache, a few steps."""

import numpy as np
import pytest

from siamtrack.data.cache import CacheConfig, TrackFrames, build_cache
from siamtrack.training.config import stored_config


def _sources():
    rng = np.random.default_rng(0)
    for number in range(8):
        rows = []
        for frame in range(3):
            image = rng.integers(0, 60, (100, 100, 3), dtype=np.uint8)
            x, y = (int(v) for v in rng.integers(10, 60, 2))
            image[y : y + 24, x : x + 24] = rng.integers(80, 255, 3)
            rows.append((frame, image, np.array([x, y, 24, 24], float)))
        yield TrackFrames(f"clip{number}", "clips", "square", "", rows)


@pytest.fixture(scope="session")
def clips_cache(tmp_path_factory):
    return build_cache(
        _sources(), tmp_path_factory.mktemp("cache") / "clips", CacheConfig(), "clips"
    ).folder


@pytest.fixture
def small_run(clips_cache):
    """Make a configuration: small crops, four steps, exact arithmetic; sections may be changed."""

    def make(**sections):
        values = {
            "cache": str(clips_cache),
            "network": {
                "start": "random",
                "config": {"exemplar_size_px": 32, "search_size_px": 64, "neck_channels": 16,
                           "kernel_cells": 2,
                           "head_channels": 16},
            },
            "pairs": {"search_shift_px": 12.0, "exemplar_shift_px": 2.0},
            "optim": {"frozen_stages": 0, "warmup_steps": 2},
            "loop": {"steps": 4, "batch_size": 4, "workers": 0, "precision": "float32",
                     "log_every": 1, "checkpoint_every": 2, "threads": 1, "device": "cpu"},
            "validation": {"held_out": 0.3, "batches": 1},
        }  # fmt: skip
        for section, changes in sections.items():
            if isinstance(changes, dict):
                values[section] = {**values.get(section, {}), **changes}
            else:
                values[section] = changes
        return stored_config(values)

    return make
