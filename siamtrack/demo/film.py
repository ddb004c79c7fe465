"""The demo's clip: a balloon over a field of dandelions, with its exact boxes.

A photograph is the background. The balloon, a cut-out with alpha, is a planar layer of
`siamtrack.data.synthetic` in front of it. On its way it

- passes the round flowers in the back, which look a little like it,
- is hidden behind the large dandelion, up to about 70 %,
- leaves the frame on the left, and comes back in front of everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from siamtrack.data.synthetic.curves import cubic_spline, monotone_spline
from siamtrack.data.synthetic.render import (
    Canvas,
    Patch,
    PlanarLayer,
    Track,
    exposure_times,
    ground_truth,
    translation,
)
from siamtrack.data.synthetic.scene import SceneFrame, smooth_noise
from siamtrack.data.synthetic.textures import Cutout
from siamtrack.types import Float32Array, FloatArray
from siamtrack.utils.images import read_image

FRAME_WH = (960, 540)
FPS = 30.0

_PICTURES = Path(__file__).with_name("pictures")
_SHUTTER = 0.5
_LIGHT = 1.12  # factor on the balloon's colors
_GRAIN = 1.6  # standard deviation of the sensor noise, of 255
_HAND_PX = (5.0, 4.0)  # standard deviation of the camera's motion
_FOLLOW_PX = 60.0  # how far the camera follows the balloon sideways

# Columns: fraction of the clip, x and y of the center in photograph px, size in px.
_FLIGHT = np.array(
    [
        [0.00, 800, 430, 150],
        [0.10, 960, 360, 135],
        [0.20, 1000, 215, 115],
        [0.30, 830, 140, 100],
        [0.38, 650, 250, 98],
        [0.45, 500, 345, 102],
        [0.52, 352, 368, 108],
        [0.60, 240, 310, 112],
        [0.63, 150, 270, 115],
        [0.66, -100, 240, 118],
        [0.71, -120, 330, 120],
        [0.76, 90, 430, 124],
        [0.86, 330, 450, 135],
        [0.93, 580, 380, 150],
        [1.00, 760, 330, 170],
    ]
)
_BEHIND = (0.38, 0.70)  # fraction of the clip in which the dandelion is in front


def film(frame_count: int, seed: int) -> Iterator[SceneFrame]:
    """Render the clip.

    Args:
        frame_count: the flight takes all of them, so fewer make it faster.
        seed: varies flight, camera and noise.

    Yields:
        Frames of `FRAME_WH` px at `FPS` with the exact box of the balloon.
    """
    rng = np.random.default_rng(seed)
    photograph = read_image(_PICTURES / "dandelions.jpg", upright=False).astype(np.float32)
    mask = read_image(_PICTURES / "dandelion-mask.png", upright=False)[..., 0]
    foreground = mask.astype(np.float32) / np.float32(255)  # (H, W)
    picture = read_image(_PICTURES / "balloon.webp", upright=False, alpha=True)
    cutout = Cutout(picture[..., :3], picture[..., 3].astype(np.float32) / np.float32(255))
    flight, camera = _flight(frame_count, rng), _camera(frame_count, rng)
    balloon = PlanarLayer(cutout, flight, perspective=0.25)
    noise = [rng.normal(0, _GRAIN, (FRAME_WH[1], FRAME_WH[0], 1)) for _ in range(5)]
    for index in range(frame_count):
        # 1. Background: the part of the photograph in the camera's view.
        view = translation(*-camera[index])
        background = _crop_view(photograph, view)
        canvas = Canvas(background.copy())

        # 2. Balloon, with motion blur.
        speed = float(np.hypot(*(flight.at(index + 0.5)[0] - flight.at(index - 0.5)[0])))
        times = exposure_times(index, _SHUTTER, speed * _SHUTTER)
        patch = balloon.render([balloon.homography(t, view) for t in times], np.full(3, _LIGHT))
        if patch is not None:
            canvas.draw(patch)

        # 3. The dandelion in front, while the balloon is behind it.
        front: list[Patch] = []
        if _BEHIND[0] <= index / max(frame_count - 1, 1) <= _BEHIND[1]:
            alpha = _crop_view(foreground, view)
            front = [Patch(0, 0, background * alpha[..., None], alpha, alpha > 0.5)]
            canvas.draw(front[0])

        # 4. Sensor noise and ground truth.
        image = np.rint(canvas.pixels + noise[index % len(noise)]).clip(0, 255).astype(np.uint8)
        yield SceneFrame(image, *ground_truth(patch, front, FRAME_WH))


def _crop_view(picture: Float32Array, view: FloatArray) -> Float32Array:
    """Part of a picture in the camera's view: (540, 960) or (540, 960, 3)."""
    return np.asarray(cv2.warpAffine(picture, view[:2], FRAME_WH, borderMode=cv2.BORDER_REPLICATE))


def _flight(frame_count: int, rng: np.random.Generator) -> Track:
    """Track of the balloon: a smooth curve through `_FLIGHT` that sways and turns a little."""
    keys = _FLIGHT.copy()
    keys[1:, 1:3] += rng.normal(0, 3, keys[1:, 1:3].shape)
    share = np.linspace(0, 1, frame_count)
    center = cubic_spline(keys[:, 0], keys[:, 1:3], share)
    size = monotone_spline(keys[:, 0], keys[:, 3], share)
    time_s = np.arange(frame_count) / FPS
    drift = smooth_noise(rng, frame_count, 3, 1 / FPS, 0.9) * [0.08, 0.06, 0.05]
    yaw = 0.62 * np.sin(2 * np.pi * time_s / 5.2) + drift[:, 0]
    roll = 0.20 * np.sin(2 * np.pi * time_s / 3.7) + drift[:, 2]
    return Track(center, size, roll, np.stack([yaw, drift[:, 1]], axis=1))


def _camera(frame_count: int, rng: np.random.Generator) -> FloatArray:
    """Top-left corner of the frame in the photograph, (frame_count, 2) px: a hand-held camera."""
    share = np.linspace(0, 1, frame_count)
    aside = np.interp(share, _FLIGHT[:, 0], _FLIGHT[:, 1]).clip(0, 1200) / 1200 - 0.5
    kernel = np.hanning(max(3, frame_count // 4))
    padded = np.pad(aside, len(kernel), mode="edge")
    smooth = np.convolve(padded, kernel / kernel.sum(), mode="same")[len(kernel) : -len(kernel)]
    hand = smooth_noise(rng, frame_count, 2, 1 / FPS, 0.5) * _HAND_PX
    return np.stack([120 + 2 * _FOLLOW_PX * smooth, np.full(frame_count, 68.0)], axis=1) + hand
