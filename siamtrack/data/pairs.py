"""Cutting windows from stored pictures, and what is shown outside of them."""

from __future__ import annotations

import logging
import math
import zlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypedDict

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

from siamtrack.crops import crop_window, to_network
from siamtrack.data import augment
from siamtrack.data.augment import AugmentConfig
from siamtrack.data.cache import CachedTrack, CropCache
from siamtrack.errors import ConfigError, DatasetError
from siamtrack.geometry import context_side
from siamtrack.types import FloatArray, Image

logger = logging.getLogger(__name__)


def rotate_about_box(picture: Image, box: FloatArray, angle: float) -> tuple[Image, FloatArray]:
    """Turn a picture about the middle of a box; what comes from outside repeats the edge.

    Objects fill the ellipse in their box better than its corners, so that the new box is that of
    the turned ellipse: the box of the turned corners would be half as large again at 45 degrees.

    Args:
        picture: uint8 (H, W, 3).
        box: (4,) xywh px.
        angle: radians, clockwise as seen on the screen.

    Returns:
        uint8 (H, W, 3) and (4,) xywh px in it.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    centre = box[:2] + box[2:] / 2
    matrix = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
    # Pixel i covers [i, i + 1), while OpenCV counts from pixel centres.
    middle = centre - 0.5
    matrix[:, 2] = middle - matrix[:, :2] @ middle
    size_wh = (picture.shape[1], picture.shape[0])
    turned = cv2.warpAffine(
        picture, matrix, size_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    w, h = box[2:]
    wh = np.array([math.hypot(w * cos, h * sin), math.hypot(w * sin, h * cos)])
    return turned, np.concatenate([centre - wh / 2, wh])  # type: ignore[return-value]


def flip_box(box: FloatArray, width: int) -> FloatArray:
    """Box (4,) xywh in the mirrored picture of this width."""
    return np.array([width - box[0] - box[2], *box[1:]])


class WindowSampler:
    """Cuts windows; outside of the picture lies the mean colour, its edge or another photograph.

    Stored pictures are often smaller than the search window. Were the outside always the mean
    colour, the network would learn that the target is in the middle of what is not.
    """

    def __init__(self, cache: CropCache, replicate: float, photo: float) -> None:
        """Take probabilities.

        Args:
            cache: where other photographs come from.
            replicate: probability that the outside repeats the edge pixels.
            photo: probability that it is another photograph; else it is the mean colour.
        """
        self.cache, self.replicate, self.photo = cache, replicate, photo

    def sample(
        self,
        picture: Image,
        box: FloatArray,
        window_wh: FloatArray,
        shift: FloatArray,
        size: int,
        rng: Generator,
    ) -> tuple[Image, FloatArray]:
        """Cut a window around a target.

        Args:
            picture: uint8 (H, W, 3) BGR.
            box: (4,) xywh of the target, px of the picture.
            window_wh: size of the window, px of the picture.
            shift: (2,) how far, as shares of the window, the target is off its middle.
            size: side of the crop.
            rng: decides what is outside.

        Returns:
            uint8 (size, size, 3) and the target's box in its px.
        """
        origin = box[:2] + box[2:] / 2 - window_wh / 2 - shift * window_wh
        window = (*origin, *window_wh)
        draw = rng.random()
        border, fill = cv2.BORDER_CONSTANT, cv2.mean(picture)[:3]
        if draw < self.replicate:
            border = cv2.BORDER_REPLICATE
        out = crop_window(picture, window, (size, size), fill_bgr=fill, border=border)
        scale = size / window_wh
        if self.replicate <= draw < self.replicate + self.photo:
            x0, y0 = np.rint(-origin * scale).astype(int)
            x1, y1 = np.rint((np.array(picture.shape[1::-1]) - origin) * scale).astype(int)
            if x0 > 0 or y0 > 0 or x1 < size or y1 < size:
                out = self._onto_photo(out, (x0, y0, x1, y1), rng)
        return out, np.concatenate([(box[:2] - origin) * scale, box[2:] * scale])

    def _onto_photo(self, crop: Image, inside: tuple[int, int, int, int], rng: Generator) -> Image:
        """Replace what lies outside the rectangle `inside` by another photograph."""
        other, _ = self.cache.read(int(rng.integers(len(self.cache))))
        size = crop.shape[0]
        side = min(other.shape[:2])
        x, y = (int(rng.integers(length - side + 1)) for length in other.shape[1::-1])
        out = crop_window(other, (x, y, side, side), (size, size))
        x0, y0, x1, y1 = np.clip(inside, 0, size)
        out[y0:y1, x0:x1] = crop[y0:y1, x0:x1]
        return out


_LEAST_SHARE = 0.6
"""Share of an object that must be in sight for it to count as shown."""
_MOST_SHARED = 0.25
"""Share of the smaller of two boxes that both may cover: a wheel is no distractor of its car."""
_LEAST_SIDE_PX = 8.0


class SameImageObjects:
    """The other objects of a still picture, from crops that were cut one object at a time."""

    def __init__(self, cache: CropCache) -> None:
        """Index a cache."""
        self.cache = cache
        self._first = np.array([track.first for track in cache.tracks])
        self._together: dict[str, list[int]] = defaultdict(list)
        for track in cache.tracks:
            if track.picture:
                self._together[track.picture].append(track.first)

    def same_track(self, one: int, other: int) -> bool:
        """Whether two crops show the same object."""
        return self._track_of(one) == self._track_of(other)

    def _track_of(self, crop: int) -> int:
        return int(np.searchsorted(self._first, crop, "right")) - 1

    def of(self, crop: int) -> list[int]:
        """Crops of the other objects of a crop's picture; none for video."""
        picture = self.cache.tracks[self._track_of(crop)].picture
        return [other for other in self._together.get(picture, []) if other != crop]

    def box_in(self, other: int, crop: int) -> FloatArray:
        """Box of another object of the same picture, (4,) xywh in px of the crop `crop`."""
        theirs, ours = self.cache.maps[other], self.cache.maps[crop]
        box = self.cache.boxes[other].astype(np.float64)
        left_top = theirs[:2] + box[:2] * theirs[2:]
        return np.concatenate([(left_top - ours[:2]) / ours[2:], box[2:] * theirs[2:] / ours[2:]])

    def shown_beside(
        self, crop: int, crop_wh: tuple[int, int], x_box: FloatArray, size_px: int
    ) -> FloatArray | None:
        """Nearest neighbour of a crop's object that a window cut from the crop shows.

        Args:
            crop: what the window was cut from.
            crop_wh: its width and height in px.
            x_box: (4,) xywh of the crop's own object in the window, px.
            size_px: side of the window.

        Returns:
            (4,) xywh in px of the window; None when no other annotated object is in sight, or
            only such that overlap the crop's own.
        """
        own = self.cache.boxes[crop].astype(np.float64)
        stored = transfer_box(np.array([0.0, 0.0, *crop_wh]), own, x_box)
        seen = _common(stored, np.array([0.0, 0.0, size_px, size_px]))
        boxes = [transfer_box(self.box_in(other, crop), own, x_box) for other in self.of(crop)]
        found = [box for box in boxes if _is_beside(box, x_box, seen)]
        middle = x_box[:2] + x_box[2:] / 2
        distance = [float(np.hypot(*(box[:2] + box[2:] / 2 - middle))) for box in found]
        return found[int(np.argmin(distance))] if found else None


def transfer_box(box: FloatArray, source: FloatArray, target: FloatArray) -> FloatArray:
    """Move a box by the scaling and shift that turn `source` into `target`, all (4,) xywh."""
    scale = target[2:] / source[2:]
    return np.concatenate([target[:2] + (box[:2] - source[:2]) * scale, box[2:] * scale])


def overlap_area(a: FloatArray, b: FloatArray) -> float:
    """Area that two boxes have in common."""
    return float(np.prod(_common(a, b)[2:]))


def _common(a: FloatArray, b: FloatArray) -> FloatArray:
    left_top = np.maximum(a[:2], b[:2])
    right_bottom = np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    return np.concatenate([left_top, np.maximum(right_bottom - left_top, 0.0)])


def _is_beside(box: FloatArray, x_box: FloatArray, seen: FloatArray) -> bool:
    area, own = float(np.prod(box[2:])), float(np.prod(x_box[2:]))
    return (
        min(box[2:]) >= _LEAST_SIDE_PX
        and overlap_area(box, seen) >= _LEAST_SHARE * area
        and overlap_area(box, x_box) <= _MOST_SHARED * min(area, own)
    )


_MOST_SKIPPED = 20


@dataclass(frozen=True, slots=True)
class PairConfig:
    """Which pairs are drawn and how windows are jittered; lengths are in crop px.

    Attributes:
        set_weights: sampling weight of ONE track of a set; sets not named get `other_weight`.
            0 leaves a set out.
        other_weight: weight of a track of a set that is not named.
        max_gap: largest distance between the two frames of a video pair.
        negative: share of pairs whose search does not show the target. Raising it makes the score
            warier.
        same_picture: share of the negatives that show another object of the exemplar's picture,
            where it has one away from the target. Half of the others show an object of the same
            class, where there is one. Raising it dwells on look-alikes in one light.
        exemplar_shift_px: exemplar windows are off-centre by up to this, as users' boxes are.
        exemplar_scale: largest log-scale error of the exemplar window.
        search_shift_px: search windows are off-centre by up to this: how far a target may move
            from one frame to the next. Too small teaches that the target is in the middle.
        search_scale: largest log-scale error of the search window.
        search_aspect: largest log of the stretch between the axes of the search window.
        rotation: probability that the search picture is turned about its target, by at most
            `rotation_deg`. Raising it bears with rolling targets and loosens upright boxes.
        rotation_deg: see `rotation`.
        flip: probability that both pictures are mirrored.
        fill_replicate: probability that the outside repeats the edge pixels.
        fill_photo: probability that it is another photograph; else it is the mean colour.
    """

    set_weights: Mapping[str, float] = field(default_factory=dict)
    other_weight: float = 1.0
    max_gap: int = 100
    negative: float = 0.08
    same_picture: float = 0.5
    exemplar_shift_px: float = 8.0
    exemplar_scale: float = 0.08
    search_shift_px: float = 72.0
    search_scale: float = 0.3
    search_aspect: float = 0.08
    rotation: float = 0.25
    rotation_deg: float = 40.0
    flip: float = 0.5
    fill_replicate: float = 0.1
    fill_photo: float = 0.4
    augment: AugmentConfig = field(default_factory=AugmentConfig)


class Pair(TypedDict):
    """One training example.

    Keys:
        z: uint8 (3, exemplar, exemplar) RGB.
        z_box: float32 (4,) xywh of the target in z, px.
        x: uint8 (3, search, search) RGB.
        x_box: float32 (4,) xywh of the target in x, px; meaningless for negatives.
        positive: bool, whether x shows z's target.
        distractor_box: float32 (4,) xywh of an object in x that is neither z's target nor that of
            x_box: another object of the picture, or one that was pasted. Zeros without one.
        has_distractor: bool, whether there is one.
        index: the pair's index, its identity in error messages.
        skipped: stored pictures that could not be decoded and were replaced by others.
    """

    z: Tensor
    z_box: Tensor
    x: Tensor
    x_box: Tensor
    positive: Tensor
    distractor_box: Tensor
    has_distractor: Tensor
    index: int
    skipped: int


Window = tuple[FloatArray, FloatArray]
"""Size of a window in crop px, and how far its object is off its middle as shares of it."""
Part = Literal["all", "train", "held_out"]


class PairDataset(Dataset[Pair]):
    """The endless sequence of pairs that `seed` defines; item i is pair i."""

    def __init__(
        self,
        cache: CropCache,
        config: PairConfig,
        *,
        exemplar_size_px: int = 128,
        search_size_px: int = 256,
        seed: int = 0,
        part: Part = "all",
        held_out: float = 0.0,
    ) -> None:
        """Index the cache once.

        Args:
            cache: the pictures.
            config: which pairs, and how they are cut.
            exemplar_size_px: side of z.
            search_size_px: side of x.
            seed: another one gives other pairs.
            part: "train" leaves out the tracks that "held_out" has. Objects of one picture are
                always in the same part.
            held_out: share of the pictures and clips that are held out.

        Raises:
            DatasetError: every track has weight 0.
            ConfigError: a weight is negative or names a set that the cache does not hold.
        """
        self.cache, self.config = cache, config
        self.exemplar_size_px, self.search_size_px = exemplar_size_px, search_size_px
        self.seed = seed
        self.neighbours = SameImageObjects(cache)
        self._windows = WindowSampler(cache, config.fill_replicate, config.fill_photo)
        known = {t.set_name for t in cache.tracks}
        unknown = sorted(set(config.set_weights) - known)
        if unknown:
            raise ConfigError(f"set_weights names {unknown}; the cache holds {sorted(known)}")
        weights = np.array(
            [config.set_weights.get(t.set_name, config.other_weight) for t in cache.tracks]
        )
        if part != "all":
            out = np.array([_is_held_out(t, held_out) for t in cache.tracks])
            weights = np.where(out == (part == "held_out"), weights, 0.0)
        if (weights < 0).any():
            raise ConfigError("set_weights must not be negative; 0 leaves a set out")
        if weights.sum() <= 0:
            raise DatasetError(
                f"no track of cache {cache.folder} is left to draw from ({part}); raise a weight "
                "in set_weights, or change the share that is held out"
            )
        self._cumulative = np.cumsum(weights) / weights.sum()
        self._by_class: dict[str, list[int]] = defaultdict(list)
        for number, track in enumerate(cache.tracks):
            if weights[number] > 0 and track.label:
                self._by_class[track.label].append(number)

    def __getitem__(self, index: int) -> Pair:
        """Make pair `index`, or another one in its place when a picture cannot be decoded.

        Raises:
            DatasetError: one try after the other met a damaged picture.
        """
        for attempt in range(_MOST_SKIPPED):
            try:
                pair = self._make(index, np.random.default_rng((self.seed, index, attempt)))
            except DatasetError as error:
                logger.warning("pair %d: %s; another pair is taken", index, error)
            else:
                pair["skipped"] = attempt
                return pair
        raise DatasetError(
            f"pair {index}: {_MOST_SKIPPED} tries in a row met pictures that cannot be decoded; "
            f"cache {self.cache.folder} is damaged, remove it and make it again"
        )

    def _make(self, index: int, rng: Generator) -> Pair:
        z_track = self._draw_track(rng)
        z_number, x_number = self._draw_frames(z_track, rng)
        positive = bool(rng.random() >= self.config.negative)
        if positive:
            window = self._draw_window(x_number, rng)
        else:
            x_number, window = self._draw_negative(z_number, z_track, rng)
        flip = bool(rng.random() < self.config.flip)
        z, z_box = self._exemplar(z_number, rng)
        x, x_box, distractor = self._search(x_number, window, z_track, rng)
        z, x = augment.augment_pair(z, x, self.config.augment, rng)
        if flip:
            z, x = (np.ascontiguousarray(image[:, ::-1]) for image in (z, x))
            z_box = flip_box(z_box, z.shape[1])
            x_box, distractor = (flip_box(box, x.shape[1]) for box in (x_box, distractor))
        return {
            "z": to_network([z])[0],
            "z_box": torch.from_numpy(z_box.astype(np.float32)),
            "x": to_network([x])[0],
            "x_box": torch.from_numpy(x_box.astype(np.float32)),
            "positive": torch.tensor(positive),
            "distractor_box": torch.from_numpy(distractor.astype(np.float32)),
            "has_distractor": torch.tensor(bool(distractor[2] > 0)),
            "index": index,
            "skipped": 0,
        }

    def _draw_track(self, rng: Generator) -> CachedTrack:
        return self.cache.tracks[int(np.searchsorted(self._cumulative, rng.random(), "right"))]

    def _draw_frames(self, track: CachedTrack, rng: Generator) -> tuple[int, int]:
        """Two crops of a track, at most `max_gap` frames apart."""
        z = track.first + int(rng.integers(track.count))
        numbers = self.cache.numbers[track.first : track.first + track.count]
        near = np.flatnonzero(np.abs(numbers - self.cache.numbers[z]) <= self.config.max_gap)
        return z, track.first + int(rng.choice(near))

    def _draw_other(self, track: CachedTrack, rng: Generator) -> int:
        """A crop of another object: of the same class half of the time, if there is one."""
        siblings = self._by_class.get(track.label, [])
        for _ in range(8):
            if len(siblings) > 1 and rng.random() < 0.5:
                other = self.cache.tracks[siblings[int(rng.integers(len(siblings)))]]
            else:
                other = self._draw_track(rng)
            same_picture = track.picture and other.picture == track.picture
            if other.first != track.first and not same_picture:
                break
        return other.first + int(rng.integers(other.count))

    def _draw_window(self, crop: int, rng: Generator) -> Window:
        c = self.config
        box = self.cache.boxes[crop].astype(np.float64)
        ratio = self.search_size_px / self.exemplar_size_px
        side = ratio * context_side(box[2], box[3]) * np.exp(rng.uniform(-1, 1) * c.search_scale)
        stretch = np.exp(rng.uniform(-1, 1) * c.search_aspect / 2)
        shift = rng.uniform(-1, 1, 2) * c.search_shift_px / self.search_size_px
        return np.array([side * stretch, side / stretch]), shift

    def _draw_negative(self, z: int, z_track: CachedTrack, rng: Generator) -> tuple[int, Window]:
        """A crop of another object, and a window of it that does not show z's target."""
        beside = self.neighbours.of(z)
        if beside and rng.random() < self.config.same_picture:
            for _ in range(8):
                other = beside[int(rng.integers(len(beside)))]
                wh, shift = self._draw_window(other, rng)
                box = self.cache.boxes[other].astype(np.float64)
                window = np.concatenate([box[:2] + box[2:] / 2 - wh / 2 - shift * wh, wh])
                if overlap_area(self.neighbours.box_in(z, other), window) == 0:
                    return other, (wh, shift)
        other = self._draw_other(z_track, rng)
        return other, self._draw_window(other, rng)

    def _exemplar(self, crop: int, rng: Generator) -> tuple[Image, FloatArray]:
        c = self.config
        picture, box = self.cache.read(crop)
        side = context_side(box[2], box[3]) * np.exp(rng.uniform(-1, 1) * c.exemplar_scale)
        shift = rng.uniform(-1, 1, 2) * c.exemplar_shift_px / self.exemplar_size_px
        return self._windows.sample(
            picture, box, np.array([side, side]), shift, self.exemplar_size_px, rng
        )

    def _search(
        self, crop: int, window: Window, z_track: CachedTrack, rng: Generator
    ) -> tuple[Image, FloatArray, FloatArray]:
        """The search crop, its object's box, and a distractor's (without area: there is none)."""
        a, size = self.config.augment, self.search_size_px
        picture, box = self.cache.read(crop)
        turned = rng.random() < self.config.rotation
        if turned:
            angle = np.deg2rad(rng.uniform(-1, 1) * self.config.rotation_deg)
            picture, box = rotate_about_box(picture, box, angle)
        x, x_box = self._windows.sample(picture, box, *window, size, rng)
        crop_wh = (picture.shape[1], picture.shape[0])
        # The boxes of neighbours were not turned.
        found = None if turned else self.neighbours.shown_beside(crop, crop_wh, x_box, size)
        if rng.random() < a.distractor:
            other = self._draw_other(z_track, rng)
            pasted = augment.paste_object(x, x_box, *self.cache.read(other), rng, cover=False)
            if pasted is not None and not self.neighbours.same_track(other, crop):
                found = pasted
        if rng.random() < a.occluder:
            other = self._draw_other(z_track, rng)
            augment.paste_object(x, x_box, *self.cache.read(other), rng, cover=True)
        return x, x_box, np.zeros(4) if found is None else found


def _is_held_out(track: CachedTrack, share: float) -> bool:
    """Decide by a hash of the picture or clip, so that it does not depend on what else there is."""
    return zlib.crc32((track.picture or track.name).encode()) / 2**32 < share
