"""Photometric augmentation of a pair, and pasted objects.

Shift, scale, aspect ratio, rotation and flip are drawn in `pairs`, because they move the box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from siamtrack.crops import crop_window
from siamtrack.types import Float32Array, FloatArray, Image
from siamtrack.utils.config import check_ranges, ranged

# Keys of `AugmentConfig` in configurations written before they became American.
OLD_NAMES = {"colour": "color", "colour_joint": "color_joint", "grey": "gray"}


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Strength and probability of each augmentation; per image unless it says per pair.

    Raising a probability makes the network tolerate that change better and distinguish objects by
    it less; 0 turns it off.

    Attributes:
        color: strength of brightness, contrast, saturation and hue changes, in log units; 0.25 is
            strong but natural. Raising it makes color a weaker cue; 0 turns it off.
        color_joint: fraction of the color change that both images of a pair share. Raising it
            makes color a stronger cue: at 1 the target keeps its color, at 0 both colors differ.
        gray: probability that a pair is gray. Raising it moves attention from color to texture.
        blur: probability of defocus or motion blur.
        downsample: probability of shrinking and enlarging again. Raising it trains small targets.
        jpeg: probability of JPEG artifacts.
        noise: probability of sensor noise.
        distractor: probability that another object is pasted beside the target in the search
            image. Raising it trains the choice between objects on less natural images.
        occluder: probability that an object covers part of the target in the search image.
            Raising it trains more on partly hidden targets.
    """

    color: float = ranged(0.25, 0.0, below=math.inf)
    color_joint: float = ranged(0.5, 0.0, 1.0)
    gray: float = ranged(0.15, 0.0, 1.0)
    blur: float = ranged(0.25, 0.0, 1.0)
    downsample: float = ranged(0.12, 0.0, 1.0)
    jpeg: float = ranged(0.2, 0.0, 1.0)
    noise: float = ranged(0.1, 0.0, 1.0)
    distractor: float = ranged(0.35, 0.0, 1.0)
    occluder: float = ranged(0.15, 0.0, 1.0)

    def __post_init__(self) -> None:
        check_ranges(self, "pairs.augment.")


def augment_pair(
    z: Image,
    x: Image,
    config: AugmentConfig,
    rng: Generator,
    memory: Sequence[Image] = (),
    memory_rng: Generator | None = None,
) -> tuple[Image, Image, list[Image]]:
    """Change the colors of a pair, partly alike, and degrade each image by itself.

    z is uint8 (S, S, 3) BGR, x (S', S', 3). The order of the draws defines the pairs of a seed, so
    further images of the same video, `memory`, draw from their own generator.
    """
    memory_rng = memory_rng or rng
    others = list(memory)

    # 1. Color: a change that both images share, then one of its own for each.
    if config.color > 0:
        shared = ColorJitter.draw(rng, config.color * config.color_joint)
        own = config.color * (1 - config.color_joint)
        z = ColorJitter.draw(rng, own).apply(shared.apply(z))
        x = ColorJitter.draw(rng, own).apply(shared.apply(x))
        others = [ColorJitter.draw(memory_rng, own).apply(shared.apply(m)) for m in others]

    # 2. Gray: all or none, since a video is gray as a whole.
    if rng.random() < config.gray:
        z, x, *others = map(to_gray, (z, x, *others))

    # 3. Degradations: independent, since sharpness changes within a video.
    z, x = degrade(z, config, rng), degrade(x, config, rng)
    return z, x, [degrade(image, config, memory_rng) for image in others]


@dataclass(frozen=True, slots=True)
class ColorJitter:
    """One color change as numbers, which several images can share."""

    gain: float  # contrast about the middle gray 128
    bias: float  # brightness, gray levels
    gamma: float  # exponent; above 1 darkens middle tones
    saturation: float  # 0 is gray, 1 leaves colors as they are
    tint_bgr: tuple[float, float, float]  # factor on each channel

    @classmethod
    def draw(cls, rng: Generator, strength: float) -> ColorJitter:
        """Draw a change; 0 is none, 0.25 is strong but natural."""
        s = strength
        blue, green, red = (1 + rng.uniform(-s, s, 3) * 0.4).tolist()
        return cls(
            gain=float(np.exp(rng.uniform(-s, s))),
            bias=float(rng.uniform(-s, s) * 80),
            gamma=float(np.exp(rng.uniform(-s, s))),
            saturation=float(np.exp(rng.uniform(-2 * s, s))),
            tint_bgr=(blue, green, red),
        )

    def apply(self, image: Image) -> Image:
        """Change uint8 (H, W, 3) BGR; the input stays as it is."""
        # Everything that looks at one channel at a time goes into one table.
        ramp = (np.arange(256) / 255.0) ** self.gamma * 255.0  # (256,)
        ramp = (ramp - 128) * self.gain + 128 + self.bias
        table = np.clip(ramp[:, None] * np.array(self.tint_bgr), 0, 255).astype(np.uint8)
        out = cv2.LUT(image, table[None])  # table: (1, 256, 3)

        # Saturation blends with gray; above 1 it extrapolates away from it.
        s = self.saturation
        return cv2.addWeighted(out, s, to_gray(out), 1 - s, 0)  # type: ignore[return-value, arg-type]


def to_gray(image: Image) -> Image:
    """Gray uint8 (H, W, 3) with three equal channels."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)  # type: ignore[return-value]


def degrade(image: Image, config: AugmentConfig, rng: Generator) -> Image:
    """Blur, downsample, add noise and compress a square image, each with its probability."""
    size = image.shape[0]

    # In the order in which a camera does it: optics, resolution, sensor, file.
    if rng.random() < config.blur:
        if rng.random() < 0.5:  # defocus
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 2.5))  # type: ignore[assignment]
        else:  # motion
            length = int(rng.integers(3, 16)) | 1  # odd, to have a middle
            image = blur_along(image, length, rng.uniform(0, np.pi))
    if rng.random() < config.downsample:
        small = max(16, int(size * rng.uniform(0.25, 0.7)))
        reduced = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        image = cv2.resize(reduced, (size, size), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    if rng.random() < config.noise:
        sigma = rng.uniform(2, 12)  # gray levels
        noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < config.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))]
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)  # type: ignore[assignment]
    return image


def blur_along(image: Image, length_px: int, angle_rad: float) -> Image:
    """Motion blur: the mean along a line of an odd length, clockwise from the x axis."""
    kernel: Float32Array = np.zeros((length_px, length_px), np.float32)
    half = length_px // 2
    dx, dy = half * np.cos(angle_rad), half * np.sin(angle_rad)
    start, end = (round(half - dx), round(half - dy)), (round(half + dx), round(half + dy))
    cv2.line(kernel, start, end, 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum())  # type: ignore[return-value]


def paste_object(
    x: Image,
    x_box: FloatArray,
    other: Image,
    other_box: FloatArray,
    rng: Generator,
    *,
    cover: bool,
) -> FloatArray | None:
    """Paste another object into x beside the target or, with `cover`, over an edge of it.

    Returns:
        (4,) xywh of what was pasted, in px of x; None when there was no room.
    """
    # 1. Size: comparable to the target's, with the object's own aspect ratio.
    side = float(np.sqrt(x_box[2] * x_box[3])) * rng.uniform(0.4, 0.7 if cover else 1.4)
    aspect = float(np.sqrt(np.clip(other_box[2] / other_box[3], 0.3, 3.0)))
    w, h = (int(np.clip(v, 6, 160)) for v in (side * aspect, side / aspect))

    # 2. The object, resampled to (h, w, 3).
    patch = cut_object(other, other_box, (w, h))

    # 3. Place: centered on a point of the target's outline, or where it leaves the target free.
    corner: tuple[int, int] | None
    if cover:
        outline = rng.uniform(-0.5, 0.5, 2)
        outline[int(rng.integers(2))] = rng.choice([-0.5, 0.5])
        center = x_box[:2] + x_box[2:] * (0.5 + outline)
        corner = (int(center[0] - w / 2), int(center[1] - h / 2))
    else:
        corner = place_beside(x_box, (w, h), x.shape[0], rng)
        if corner is None:
            return None
    paste(x, patch, corner, rng)
    return np.array([*corner, w, h], np.float64)


def cut_object(image: Image, box_xywh: FloatArray, size_wh: tuple[int, int]) -> Image:
    """An object with 5 % of its surroundings, resampled to (h, w, 3)."""
    margin = 1.05
    window = (*(box_xywh[:2] - box_xywh[2:] * (margin - 1) / 2), *(box_xywh[2:] * margin))
    return crop_window(image, window, size_wh, border=cv2.BORDER_REPLICATE)


def place_beside(
    box_xywh: FloatArray, size_wh: tuple[int, int], limit: int, rng: Generator
) -> tuple[int, int] | None:
    """Draw the left top corner of a patch that leaves a box nearly free, in a (limit, limit) crop.

    Places near the box are preferred: a distractor far away is easy to distinguish. None when six
    tries found no place with its center inside the crop.
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


def paste(
    image: Image,
    patch: Image,
    left_top_px: tuple[int, int],
    rng: Generator,
    *,
    elliptic: float = 0.6,
) -> None:
    """Blend a patch into an image in place; `elliptic` is the probability of a round outline.

    Other outlines are rectangles; both have soft edges.
    """
    height, width = patch.shape[:2]
    x, y = left_top_px
    x0, y0 = max(0, x), max(0, y)
    x1, y1 = min(image.shape[1], x + width), min(image.shape[0], y + height)
    if x0 >= x1 or y0 >= y1:
        return

    # Alpha mask of the whole patch. Its edge is blurred, or the network would learn the hard edge.
    mask = np.zeros((height, width), np.float32)
    if rng.random() < elliptic:
        axes = (max(1, int(width * 0.48)), max(1, int(height * 0.48)))
        cv2.ellipse(mask, (width // 2, height // 2), axes, 0, 0, 360, 1.0, -1)
    else:
        inset = max(1, min(width, height) // 16)
        mask[inset : height - inset, inset : width - inset] = 1.0
    soft = max(1, min(width, height) // 10) | 1

    # The part of mask and patch that lies inside the image.
    rows, columns = slice(y0 - y, y1 - y), slice(x0 - x, x1 - x)
    mask = cv2.blur(mask, (soft, soft))[rows, columns, None]  # type: ignore[assignment]
    under, over = image[y0:y1, x0:x1], patch[rows, columns]
    image[y0:y1, x0:x1] = (under * (1 - mask) + over * mask).astype(np.uint8)
