"""Photometric changes and pasted pictures: what happens to a crop after it has been cut.

Geometry (shift, scale, aspect, flip) is decided by the pair sampler, because it moves the box.
Everything here keeps boxes where they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from siamtrack.crops import crop_window
from siamtrack.types import FloatArray, Image


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """How much pictures of a pair are changed; probabilities are per picture unless said.

    Attributes:
        colour: strength of brightness, contrast, saturation and hue changes; 0 turns them off.
        colour_joint: share of the colour change that both pictures of a pair have in common. At
            1 colour is a perfect cue, at 0 a worthless one.
        grey: probability that a pair is grey; some videos are.
        blur: probability of defocus or motion blur.
        downsample: probability of being shrunk and enlarged, as small targets are.
        jpeg: probability of compression artefacts.
        noise: probability of sensor noise.
        distractor: probability that another object is pasted beside the target in the search.
        occluder: probability that part of the target in the search is covered.
    """

    colour: float = 0.25
    colour_joint: float = 0.5
    grey: float = 0.15
    blur: float = 0.25
    downsample: float = 0.12
    jpeg: float = 0.2
    noise: float = 0.1
    distractor: float = 0.35
    occluder: float = 0.15


@dataclass(frozen=True, slots=True)
class ColorJitter:
    """A colour change as numbers, so that two pictures can share it."""

    gain: float
    bias: float
    gamma: float
    saturation: float
    tint_bgr: tuple[float, float, float]

    @classmethod
    def draw(cls, rng: Generator, strength: float) -> ColorJitter:
        """Draw a change; 0.25 is strong but natural."""
        s = strength
        tint = 1 + rng.uniform(-s, s, 3) * 0.4
        return cls(
            gain=float(np.exp(rng.uniform(-s, s))),
            bias=float(rng.uniform(-s, s) * 80),
            gamma=float(np.exp(rng.uniform(-s, s))),
            saturation=float(np.exp(rng.uniform(-2 * s, s))),
            tint_bgr=(float(tint[0]), float(tint[1]), float(tint[2])),
        )

    def apply(self, image: Image) -> Image:
        """Return the changed picture."""
        ramp = (np.arange(256) / 255.0) ** self.gamma * 255.0
        ramp = (ramp - 128) * self.gain + 128 + self.bias
        table = np.clip(ramp[:, None] * np.array(self.tint_bgr), 0, 255).astype(np.uint8)
        out = cv2.LUT(image, table[None])
        grey = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        return cv2.addWeighted(out, self.saturation, grey, 1 - self.saturation, 0)  # type: ignore[return-value]


def degrade(image: Image, config: AugmentConfig, rng: Generator) -> Image:
    """Blur, shrink, compress and add noise, each with its probability."""
    size = image.shape[0]
    if rng.random() < config.blur:
        image = _blur(image, rng)
    if rng.random() < config.downsample:
        small = max(16, int(size * rng.uniform(0.25, 0.7)))
        reduced = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        image = cv2.resize(reduced, (size, size), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    if rng.random() < config.noise:
        spread = rng.uniform(2, 12)
        noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(spread)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < config.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))]
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)  # type: ignore[assignment]
    return image


def _blur(image: Image, rng: Generator) -> Image:
    if rng.random() < 0.5:
        sigma = rng.uniform(0.6, 2.5)
        return cv2.GaussianBlur(image, (0, 0), sigma)  # type: ignore[return-value]
    length = int(rng.integers(3, 16)) | 1
    kernel: NDArray[Any] = np.zeros((length, length), np.float32)
    angle, half = rng.uniform(0, np.pi), length // 2
    dx, dy = half * np.cos(angle), half * np.sin(angle)
    start = (round(half - dx), round(half - dy))
    cv2.line(kernel, start, (round(half + dx), round(half + dy)), 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum())  # type: ignore[return-value]


def augment_pair(z: Image, x: Image, config: AugmentConfig, rng: Generator) -> tuple[Image, Image]:
    """Change the colours of a pair, partly alike, and degrade each picture by itself."""
    if config.colour > 0:
        joint = ColorJitter.draw(rng, config.colour * config.colour_joint)
        own = config.colour * (1 - config.colour_joint)
        z = ColorJitter.draw(rng, own).apply(joint.apply(z))
        x = ColorJitter.draw(rng, own).apply(joint.apply(x))
    if rng.random() < config.grey:
        z, x = to_gray(z), to_gray(x)
    return degrade(z, config, rng), degrade(x, config, rng)


def to_gray(image: Image) -> Image:
    """Grey picture with three equal channels."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)  # type: ignore[return-value]


def paste(image: Image, patch: Image, left_top_px: tuple[int, int], rng: Generator) -> None:
    """Blend a patch into an image in place, with a soft round or rectangular outline."""
    height, width = patch.shape[:2]
    x, y = left_top_px
    x0, y0 = max(0, x), max(0, y)
    x1, y1 = min(image.shape[1], x + width), min(image.shape[0], y + height)
    if x0 >= x1 or y0 >= y1:
        return
    mask = np.zeros((height, width), np.float32)
    if rng.random() < 0.6:
        axes = (max(1, int(width * 0.48)), max(1, int(height * 0.48)))
        cv2.ellipse(mask, (width // 2, height // 2), axes, 0, 0, 360, 1.0, -1)
    else:
        inset = max(1, min(width, height) // 16)
        mask[inset : height - inset, inset : width - inset] = 1.0
    soft = max(1, min(width, height) // 10) | 1
    mask = cv2.blur(mask, (soft, soft))[y0 - y : y1 - y, x0 - x : x1 - x, None]  # type: ignore[assignment]
    under = image[y0:y1, x0:x1]
    over = patch[y0 - y : y1 - y, x0 - x : x1 - x]
    image[y0:y1, x0:x1] = (under * (1 - mask) + over * mask).astype(np.uint8)


def paste_object(
    x: Image,
    x_box: FloatArray,
    other: Image,
    other_box: FloatArray,
    rng: Generator,
    *,
    cover: bool,
) -> FloatArray | None:
    """Paste another object beside the target, or over a part of it, in place.

    Args:
        x: uint8 (S, S, 3) search crop, changed.
        x_box: (4,) xywh of the target in it.
        other: uint8 (H, W, 3) picture of the other object.
        other_box: (4,) xywh of the object in it.
        rng: decides size, place and outline.
        cover: paste over an edge of the target instead of beside it.

    Returns:
        (4,) xywh of what was pasted, in px of x; None when there was no room.
    """
    area = float(np.sqrt(x_box[2] * x_box[3])) * rng.uniform(0.4, 0.7 if cover else 1.4)
    aspect = float(np.sqrt(np.clip(other_box[2] / other_box[3], 0.3, 3.0)))
    w, h = (int(np.clip(v, 6, 160)) for v in (area * aspect, area / aspect))
    margin = 1.05
    window = (*(other_box[:2] - other_box[2:] * (margin - 1) / 2), *(other_box[2:] * margin))
    patch = crop_window(other, window, (w, h), border=cv2.BORDER_REPLICATE)
    corner: tuple[int, int] | None
    if cover:
        side = rng.uniform(-0.5, 0.5, 2)
        side[int(rng.integers(2))] = rng.choice([-0.5, 0.5])
        centre = x_box[:2] + x_box[2:] * (0.5 + side)
        corner = (int(centre[0] - w / 2), int(centre[1] - h / 2))
    else:
        corner = place_beside(x_box, (w, h), x.shape[0], rng)
        if corner is None:
            return None
    paste(x, patch, corner, rng)
    return np.array([*corner, w, h], np.float64)


def place_beside(
    box_xywh: FloatArray, size_wh: tuple[int, int], limit: int, rng: Generator
) -> tuple[int, int] | None:
    """Find a corner for a patch that leaves the box nearly free; None when there is no room.

    Near places are tried first: a look-alike far away is no danger.
    """
    cx, cy = box_xywh[:2] + box_xywh[2:] / 2
    reach = (box_xywh[2:] + np.array(size_wh)) / 2
    for _ in range(6):
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.95, 1.9)
        direction = np.array([np.cos(angle), np.sin(angle)])
        # Push out until the boxes touch on one axis; `far` leaves a gap or a slight overlap.
        touch = float(np.min(reach / np.maximum(np.abs(direction), 1e-6)))
        px, py = np.array([cx, cy]) + direction * touch * far
        if 0 <= px < limit and 0 <= py < limit:
            return int(px - size_wh[0] / 2), int(py - size_wh[1] / 2)
    return None
