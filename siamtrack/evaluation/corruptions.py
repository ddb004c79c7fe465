"""Pictures made worse on purpose, at five strengths, the same way in every run."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

STRENGTHS = 5
NOISE_SIGMA = (8.0, 16.0, 26.0, 40.0, 60.0)
"""Standard deviation of Gaussian noise, in grey levels."""
BLUR_SIGMA_PX = (1.0, 2.0, 3.0, 4.5, 6.0)
"""Standard deviation of the Gaussian kernel, in px of the frame."""
JPEG_QUALITY = (50, 30, 18, 10, 6)
BRIGHTNESS_FACTOR = (0.7, 0.5, 0.35, 0.25, 0.15)
"""What every grey level is multiplied by: dusk to night."""


def _noise(image: Image, strength: int, rng: np.random.Generator) -> Image:
    grain = rng.normal(0.0, NOISE_SIGMA[strength - 1], image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def _blur(image: Image, strength: int, rng: np.random.Generator) -> Image:
    return cv2.GaussianBlur(image, (0, 0), BLUR_SIGMA_PX[strength - 1]).astype(np.uint8, copy=False)


def _jpeg(image: Image, strength: int, rng: np.random.Generator) -> Image:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY[strength - 1]])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)


def _brightness(image: Image, strength: int, rng: np.random.Generator) -> Image:
    return np.rint(image * BRIGHTNESS_FACTOR[strength - 1]).astype(np.uint8)


CORRUPTIONS: Mapping[str, Callable[[Image, int, np.random.Generator], Image]] = {
    "noise": _noise,
    "blur": _blur,
    "jpeg": _jpeg,
    "brightness": _brightness,
}


def corrupt(image: Image, kind: str, strength: int, sequence: str, frame: int) -> Image:
    """A corrupted copy of a frame.

    Args:
        image: uint8 (H, W, 3).
        kind: a key of `CORRUPTIONS`.
        strength: 1 (mild) to 5.
        sequence: name of the sequence; with `frame` it seeds the noise, so that every tracker
            sees the same grain whatever process it runs in.
        frame: 0-based.
    """
    rng = np.random.default_rng([zlib.crc32(sequence.encode()), frame, strength])
    return CORRUPTIONS[kind](image, strength, rng)
