"""Search images made harder: what a tracker meets on video and stills do not show.

In a still with an unlike object pasted into it, the class of the target is enough to find it. On
video a tracker lets go for something else: another of its kind, what hides it, the place where it
was. Each change here has a switch, a probability, and all are 0 unless asked for.

`harden` comes first; the changes follow in its order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from siamtrack.crops import crop_window
from siamtrack.data.augment import blur_along, cut_object, paste, place_beside
from siamtrack.errors import ConfigError
from siamtrack.types import Float32Array, FloatArray, Image
from siamtrack.utils.config import check_number

SHOWN_UP_TO = 0.75
"""Fraction of the target that may be covered; with more of it hidden the pair is a negative."""
COVERED = (0.3, 0.9)
"""Fractions of the target that an occluder covers."""
TARGET_SIDE_PX = (6.0, 30.0)
"""Sides of tiny targets, in px of the video that the pair pretends to come from."""


@dataclass(frozen=True, slots=True)
class HardConfig:
    """How often a positive pair is made harder; each is a probability, 0 turns it off.

    Raising one trains that case more, and natural pairs less.

    Attributes:
        background: the target stands before another picture. Teaches to follow the target and not
            what was around it in the exemplar.
        absent: the target is taken out of its surroundings; the pair becomes a negative. Teaches
            that the place alone is not the target.
        old_place: another object, half of the time of the same class, lies in the middle of the
            search image, where the target was expected. It labels as a distractor.
        occluder: another object covers 30 to 90 % of the target from one side. Up to 75 % the
            target keeps its label, beyond the pair becomes a negative.
        motion_blur: the search image is blurred along the target's way from the middle, the more
            the farther it went.
        tiny: all images of the pair have the sharpness of a target of 6 to 30 px.
    """

    background: float = 0.0
    absent: float = 0.0
    old_place: float = 0.0
    occluder: float = 0.0
    motion_blur: float = 0.0
    tiny: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            check_number(f"pairs.hard.{name}", getattr(self, name), 0.0, 1.0)
        if self.absent == 1.0:
            raise ConfigError("pairs.hard.absent is 1, so that no pair shows its target; lower it")


@dataclass(slots=True)
class HardSearch:
    """A search image after `harden`.

    Attributes:
        image: uint8 (S, S, 3) BGR.
        shows_target: whether enough of the target is left to be found.
        distractor_xywh: (4,) box of an object that is not the target, or zeros: the one that was
            there, unless its background was swapped, or one in the target's old place.
    """

    image: Image
    shows_target: bool
    distractor_xywh: FloatArray


DrawObject = Callable[[], tuple[Image, FloatArray]]
"""Draws another object: an image that shows it, and its box in it, (4,) xywh."""


def harden(
    image: Image,
    box_xywh: FloatArray,
    distractor_xywh: FloatArray,
    config: HardConfig,
    draw: DrawObject,
    rng: Generator,
) -> HardSearch:
    """Change the search image of a positive pair, with the probabilities of `config`.

    Args:
        image: uint8 (S, S, 3) BGR; it is not changed.
        box_xywh: (4,) the target in it, px.
        distractor_xywh: (4,) another object in it, or zeros.
        config: which changes, how often.
        draw: draws the other objects.
        rng: of the draws; a change that is off draws nothing.
    """
    search = HardSearch(image.copy(), True, distractor_xywh)
    if config.background and rng.random() < config.background:
        search.image = swap_background(search.image, box_xywh, draw()[0], rng)
        search.distractor_xywh = np.zeros(4)
    if config.absent and rng.random() < config.absent:
        search.shows_target = not take_out(search.image, box_xywh, rng)
    if config.old_place and rng.random() < config.old_place:
        pasted = paste_in_old_place(search.image, box_xywh, *draw(), rng)
        search.distractor_xywh = search.distractor_xywh if pasted is None else pasted
    if search.shows_target and config.occluder and rng.random() < config.occluder:
        covered = float(rng.uniform(*COVERED))
        cover_from_side(search.image, box_xywh, covered, *draw(), rng)
        search.shows_target = covered <= SHOWN_UP_TO
    if config.motion_blur and rng.random() < config.motion_blur:
        way = box_xywh[:2] + box_xywh[2:] / 2 - image.shape[0] / 2
        length = round(float(np.hypot(*way)) * rng.uniform(0.1, 0.3)) | 1  # odd, to have a middle
        search.image = blur_along(search.image, length, float(np.arctan2(way[1], way[0])))
    return search


def swap_background(image: Image, box_xywh: FloatArray, other: Image, rng: Generator) -> Image:
    """Put the ellipse about a box, with a soft edge, onto a random square of another picture."""
    size = image.shape[0]
    side = min(other.shape[:2])
    x, y = (int(rng.integers(length - side + 1)) for length in other.shape[1::-1])
    behind = crop_window(other, (x, y, side, side), (size, size))

    mask: Float32Array = np.zeros((size, size), np.float32)
    center = tuple(round(float(v)) for v in box_xywh[:2] + box_xywh[2:] / 2)
    axes = tuple(max(1, round(float(v) * 0.56)) for v in box_xywh[2:])
    cv2.ellipse(mask, center, axes, 0, 0, 360, 1.0, -1)
    soft = max(1, int(min(box_xywh[2:]) / 8)) | 1
    mask = cv2.blur(mask, (soft, soft))[:, :, None]  # type: ignore[assignment]
    return (image * mask + behind * (1 - mask)).astype(np.uint8)


def take_out(image: Image, box_xywh: FloatArray, rng: Generator) -> bool:
    """Cover the target, in place, with a piece of what is beside it; False if there is no room."""
    w, h = (max(2, int(v * 1.15)) for v in box_xywh[2:])
    corner = place_beside(box_xywh, (w, h), image.shape[0], rng)
    if corner is None:
        return False
    patch = crop_window(image, (*corner, w, h), (w, h), border=cv2.BORDER_REFLECT_101)
    left_top = box_xywh[:2] + (box_xywh[2:] - (w, h)) / 2
    paste(image, patch, (round(left_top[0]), round(left_top[1])), rng, elliptic=0.0)
    return True


def paste_in_old_place(
    image: Image, box_xywh: FloatArray, other: Image, other_box: FloatArray, rng: Generator
) -> FloatArray | None:
    """Paste an object of the target's size into the middle; None if the target is still there.

    Returns:
        (4,) xywh of what was pasted, px.
    """
    side = float(np.sqrt(box_xywh[2] * box_xywh[3])) * rng.uniform(0.8, 1.25)
    aspect = float(np.sqrt(np.clip(other_box[2] / other_box[3], 0.3, 3.0)))
    wh = np.array([max(4, int(side * aspect)), max(4, int(side / aspect))])
    middle = image.shape[0] / 2
    away = np.abs(box_xywh[:2] + box_xywh[2:] / 2 - middle) / ((box_xywh[2:] + wh) / 2)
    if away.max() < 1:  # the two boxes would overlap
        return None
    patch = cut_object(other, other_box, (int(wh[0]), int(wh[1])))
    x, y = (int(middle - v / 2) for v in wh)
    paste(image, patch, (x, y), rng)
    return np.array([x, y, *wh], np.float64)


def cover_from_side(
    image: Image,
    box_xywh: FloatArray,
    fraction: float,
    other: Image,
    other_box: FloatArray,
    rng: Generator,
) -> None:
    """Cover a fraction of the target, in place, by an object that comes in from one side."""
    x, y, w, h = box_xywh.tolist()
    side, beyond = int(rng.integers(4)), float(rng.uniform(1.1, 1.6))
    if side < 2:  # from the left or the right
        size = np.array([w * (fraction + beyond - 1), h * beyond])
        left = x + w * fraction - size[0] if side == 0 else x + w * (1 - fraction)
        corner = (left, y + (h - size[1]) / 2)
    else:  # from the top or the bottom
        size = np.array([w * beyond, h * (fraction + beyond - 1)])
        top = y + h * fraction - size[1] if side == 2 else y + h * (1 - fraction)
        corner = (x + (w - size[0]) / 2, top)
    wh = (max(3, round(size[0])), max(3, round(size[1])))
    patch = crop_window(other, tuple(other_box.tolist()), wh, border=cv2.BORDER_REPLICATE)
    paste(image, patch, (round(corner[0]), round(corner[1])), rng, elliptic=0.0)


def as_tiny(images: list[Image], side_px: float, rng: Generator) -> list[Image]:
    """Images with the sharpness that they have if a target of `side_px` px is a tiny one.

    One size is drawn for all of them: they are frames of one video.
    """
    factor = float(np.exp(rng.uniform(*np.log(TARGET_SIDE_PX)))) / side_px
    if factor >= 1:
        return images
    out = []
    for image in images:
        size = image.shape[0]
        small = max(4, round(size * factor))
        reduced = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        out.append(cv2.resize(reduced, (size, size), interpolation=cv2.INTER_LINEAR))
    return out  # type: ignore[return-value]
