"""A scene without files, what every result must be, and how much a soak does.

In CI everything takes less than a minute. `make soak` sets SIAMTRACK_SOAK=1: hypothesis draws new
examples, a thousand times as many, and the long runs have 1,000,000 frames. SIAMTRACK_SOAK_FRAMES
and SIAMTRACK_SOAK_EXAMPLES change these numbers.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from hypothesis import HealthCheck, settings

from siamtrack.tracking.result import Result
from siamtrack.types import Image

SOAK = bool(os.environ.get("SIAMTRACK_SOAK"))
FRAMES = int(os.environ.get("SIAMTRACK_SOAK_FRAMES", 1_000_000)) if SOAK else 200
FIGURES = Path(__file__).resolve().parents[2] / "build" / "soak"

robustness = settings(
    deadline=None,
    database=None,
    max_examples=int(os.environ.get("SIAMTRACK_SOAK_EXAMPLES", 20_000)) if SOAK else 12,
    derandomize=not SOAK,
    suppress_health_check=list(HealthCheck),
)

WH = (96, 72)
SIDE = 16
BOX = (20.0, 20.0, float(SIDE), float(SIDE))


def scene(index: int, wh: tuple[int, int] = WH) -> Image:
    """Frame of a textured square that circles over a textured ground, uint8 (H, W, 3) BGR."""
    width, height = wh
    ground, square = (np.random.default_rng(k).integers(0, 256, (height, width, 3), np.uint8)
                      for k in (1, 2))  # fmt: skip
    frame = cv2.blur(ground, (9, 9))
    x = round(20 + (width - 56) / 2 * (1 - np.cos(index / 40)))
    y = round(20 + (height - 56) / 2 * (1 - np.cos(index / 25)))
    frame[y : y + SIDE, x : x + SIDE] = cv2.blur(square, (3, 3))[:SIDE, :SIDE]
    return np.asarray(frame, np.uint8)


def check_result(result: Result, frame: Image) -> None:
    """A result is finite, inside the frame, at least 2 px large, and knows its status."""
    x, y, w, h = result.box
    height, width = frame.shape[:2]
    assert np.isfinite(result.box).all() and 0 <= result.score <= 1
    assert min(w, h) >= min(2, width, height) - 1e-6
    assert x >= -1e-6 and y >= -1e-6 and x + w <= width + 1e-6 and y + h <= height + 1e-6
    assert result.status in ("tracked", "uncertain", "lost")
