"""A crop cache of smooth random pictures, in which every place looks different."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from siamtrack.data.batched.crops import DeviceCrops
from siamtrack.data.cache import CacheConfig, TrackFrames, build_cache

CPU = torch.device("cpu")


def picture(rng, height=300, width=340):
    """Blurred noise with full contrast, uint8 BGR."""
    noise = cv2.GaussianBlur(rng.random((height, width, 3), np.float32), (0, 0), 6)
    low, high = noise.min(), noise.max()
    return ((noise - low) / (high - low) * 255).astype(np.uint8)


def textured(videos=4, stills=8, frames=6, seed=1):
    """Clips with a frame every 30 numbers, and stills of two objects each."""
    rng = np.random.default_rng(seed)
    for number in range(videos):
        rows = []
        for frame in range(frames):
            x, y = rng.uniform(60, 180, 2)
            w, h = rng.uniform(30, 90, 2)
            rows.append((30 * frame, picture(rng), np.array([x, y, w, h])))
        yield TrackFrames(f"clip{number}", "clips", f"kind{number % 2}", "", rows)
    for number in range(stills // 2):
        image = picture(rng)
        for part, x in enumerate((30.0, 200.0)):
            box = np.array([x, 100.0, *rng.uniform(40, 70, 2)])
            label = f"kind{number % 2}" if part else ""
            yield TrackFrames(
                f"still{number}.{part}", "stills", label, f"image{number}", [(0, image, box)]
            )


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """The cache: 4 clips of 6 frames, and 4 stills of 2 objects."""
    folder = tmp_path_factory.mktemp("cache") / "pictures"
    return build_cache(textured(), folder, CacheConfig(), ["pictures"])


@pytest.fixture(scope="session")
def on_device(pictures):
    return DeviceCrops(pictures, CPU)
