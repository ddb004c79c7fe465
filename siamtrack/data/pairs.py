"""Training pairs (exemplar z, search x, box in x): which two pictures, and how they are cut.

Every pair is a pure function of (seed, index): any number of workers yields the same pairs, and a
run resumes in the middle of an epoch by starting from the next index.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

from siamtrack.crops import Image, crop_window, to_network
from siamtrack.data import augment
from siamtrack.data.augment import AugmentConfig, ColourChange
from siamtrack.data.cache import CropCache, TrackInfo
from siamtrack.errors import ConfigError, DatasetError
from siamtrack.geometry import FloatArray, context_side


@dataclass(frozen=True, slots=True)
class PairConfig:
    """Which pairs are drawn and how windows are jittered; lengths are in crop px.

    Attributes:
        set_weights: sampling weight of ONE track of a set; sets not named get `other_weight`.
            0 leaves a set out.
        other_weight: weight of a track of a set that is not named.
        max_gap: largest distance between the two frames of a video pair.
        negative: share of pairs whose search does not show the target; half of them show an
            object of the same class, where there is one. Raising it makes the score warier.
        exemplar_shift_px: exemplar windows are off-centre by up to this, as users' boxes are.
        exemplar_scale: largest log-scale error of the exemplar window.
        search_shift_px: search windows are off-centre by up to this: how far a target may move
            from one frame to the next. Too small teaches that the target is in the middle.
        search_scale: largest log-scale error of the search window.
        search_aspect: largest log of the stretch between the axes of the search window.
        flip: probability that both pictures are mirrored.
        fill_replicate: probability that the outside repeats the edge pixels. (Mirroring would show
            the target a second time, labelled as background.)
        fill_photo: probability that the outside is another photograph; otherwise it is the
            mean colour, as in the running tracker.
    """

    set_weights: Mapping[str, float] = field(default_factory=dict)
    other_weight: float = 1.0
    max_gap: int = 100
    negative: float = 0.08
    exemplar_shift_px: float = 8.0
    exemplar_scale: float = 0.08
    search_shift_px: float = 72.0
    search_scale: float = 0.3
    search_aspect: float = 0.08
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
        index: the pair's index, its identity in error messages.
    """

    z: Tensor
    z_box: Tensor
    x: Tensor
    x_box: Tensor
    positive: Tensor
    index: int


class PairDataset(Dataset[Pair]):
    """Pairs [start, stop) of the endless sequence that `seed` defines."""

    def __init__(
        self,
        cache: CropCache,
        config: PairConfig,
        *,
        exemplar_size_px: int = 128,
        search_size_px: int = 256,
        seed: int = 0,
        start: int = 0,
        stop: int = 1_000_000,
    ) -> None:
        """Index the cache once.

        Raises:
            DatasetError: every track has weight 0.
            ConfigError: a weight is negative or names a set that the cache does not hold.
        """
        self.cache, self.config = cache, config
        self.exemplar_size_px, self.search_size_px = exemplar_size_px, search_size_px
        self.seed, self.start, self.stop = seed, start, stop
        known = {t.set_name for t in cache.tracks}
        unknown = sorted(set(config.set_weights) - known)
        if unknown:
            raise ConfigError(f"set_weights names {unknown}; the cache holds {sorted(known)}")
        weights = np.array(
            [config.set_weights.get(t.set_name, config.other_weight) for t in cache.tracks]
        )
        if (weights < 0).any():
            raise ConfigError("set_weights must not be negative; 0 leaves a set out")
        if weights.sum() <= 0:
            raise DatasetError("every track has weight 0: raise a weight in set_weights")
        self._cumulative = np.cumsum(weights) / weights.sum()
        self._by_class: dict[str, list[int]] = defaultdict(list)
        for number, track in enumerate(cache.tracks):
            if weights[number] > 0 and track.label:
                self._by_class[track.label].append(number)

    def __len__(self) -> int:
        """Number of pairs from `start` to `stop`."""
        return self.stop - self.start

    def __getitem__(self, item: int) -> Pair:
        """Make pair `start + item`."""
        index = self.start + item
        rng = np.random.default_rng((self.seed, index))
        z_track = self._draw_track(rng)
        z_number, x_number = self._draw_frames(z_track, rng)
        positive = bool(rng.random() >= self.config.negative)
        if not positive:
            x_number = self._draw_other(z_track, rng)
        flip = bool(rng.random() < self.config.flip)
        z, z_box = self._exemplar(z_number, rng)
        x, x_box = self._search(x_number, z_track, rng)
        z, x = self._colour(z, x, rng)
        if flip:
            z, z_box = _mirror(z, z_box)
            x, x_box = _mirror(x, x_box)
        return {
            "z": to_network([z])[0],
            "z_box": torch.from_numpy(z_box.astype(np.float32)),
            "x": to_network([x])[0],
            "x_box": torch.from_numpy(x_box.astype(np.float32)),
            "positive": torch.tensor(positive),
            "index": index,
        }

    def _draw_track(self, rng: Generator) -> TrackInfo:
        return self.cache.tracks[int(np.searchsorted(self._cumulative, rng.random(), "right"))]

    def _draw_frames(self, track: TrackInfo, rng: Generator) -> tuple[int, int]:
        """Two crops of a track, at most `max_gap` frames apart."""
        z = track.first + int(rng.integers(track.count))
        numbers = self.cache.numbers[track.first : track.first + track.count]
        near = np.flatnonzero(np.abs(numbers - self.cache.numbers[z]) <= self.config.max_gap)
        return z, track.first + int(rng.choice(near))

    def _draw_other(self, track: TrackInfo, rng: Generator) -> int:
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

    def _exemplar(self, crop: int, rng: Generator) -> tuple[Image, FloatArray]:
        c = self.config
        picture, box = self.cache.read(crop)
        side = context_side(box[2], box[3]) * np.exp(rng.uniform(-1, 1) * c.exemplar_scale)
        shift = rng.uniform(-1, 1, 2) * c.exemplar_shift_px / self.exemplar_size_px
        return self._cut(picture, box, np.array([side, side]), shift, self.exemplar_size_px, rng)

    def _search(self, crop: int, z_track: TrackInfo, rng: Generator) -> tuple[Image, FloatArray]:
        c = self.config
        picture, box = self.cache.read(crop)
        ratio = self.search_size_px / self.exemplar_size_px
        side = ratio * context_side(box[2], box[3]) * np.exp(rng.uniform(-1, 1) * c.search_scale)
        stretch = np.exp(rng.uniform(-1, 1) * c.search_aspect / 2)
        shift = rng.uniform(-1, 1, 2) * c.search_shift_px / self.search_size_px
        window_wh = np.array([side * stretch, side / stretch])
        x, x_box = self._cut(picture, box, window_wh, shift, self.search_size_px, rng)
        if rng.random() < c.augment.distractor:
            self._paste_other(x, x_box, z_track, rng, cover=False)
        if rng.random() < c.augment.occluder:
            self._paste_other(x, x_box, z_track, rng, cover=True)
        return x, x_box

    def _cut(
        self,
        picture: Image,
        box: FloatArray,
        window_wh: FloatArray,
        shift: FloatArray,
        size: int,
        rng: Generator,
    ) -> tuple[Image, FloatArray]:
        """Cut a window off-centre by `shift` (share of the window); fill what is outside."""
        origin = box[:2] + box[2:] / 2 - window_wh / 2 - shift * window_wh
        window = (*origin, *window_wh)
        draw = rng.random()
        border, fill = cv2.BORDER_CONSTANT, cv2.mean(picture)[:3]
        if draw < self.config.fill_replicate:
            border = cv2.BORDER_REPLICATE
        out = crop_window(picture, window, (size, size), fill_bgr=fill, border=border)
        scale = size / window_wh
        if self.config.fill_replicate <= draw < self.config.fill_replicate + self.config.fill_photo:
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

    def _paste_other(
        self, x: Image, x_box: FloatArray, z_track: TrackInfo, rng: Generator, *, cover: bool
    ) -> None:
        """Paste another object beside the target, or over a part of it, in place."""
        other, box = self.cache.read(self._draw_other(z_track, rng))
        area = float(np.sqrt(x_box[2] * x_box[3])) * rng.uniform(0.4, 0.7 if cover else 1.4)
        aspect = float(np.sqrt(np.clip(box[2] / box[3], 0.3, 3.0)))
        w, h = (int(np.clip(v, 6, 160)) for v in (area * aspect, area / aspect))
        margin = 1.05
        window = (*(box[:2] - box[2:] * (margin - 1) / 2), *(box[2:] * margin))
        patch = crop_window(other, window, (w, h), border=cv2.BORDER_REPLICATE)
        if cover:
            side = rng.uniform(-0.5, 0.5, 2)
            side[int(rng.integers(2))] = rng.choice([-0.5, 0.5])
            centre = x_box[:2] + x_box[2:] * (0.5 + side)
            corner = (int(centre[0] - w / 2), int(centre[1] - h / 2))
        else:
            found = augment.place_beside(x_box, (w, h), x.shape[0], rng)
            if found is None:
                return
            corner = found
        augment.paste(x, patch, corner, rng)

    def _colour(self, z: Image, x: Image, rng: Generator) -> tuple[Image, Image]:
        a = self.config.augment
        if a.colour > 0:
            joint = ColourChange.draw(rng, a.colour * a.colour_joint)
            own = a.colour * (1 - a.colour_joint)
            z = ColourChange.draw(rng, own).apply(joint.apply(z))
            x = ColourChange.draw(rng, own).apply(joint.apply(x))
        if rng.random() < a.grey:
            z, x = augment.to_grey(z), augment.to_grey(x)
        return augment.degrade(z, a, rng), augment.degrade(x, a, rng)


def _mirror(image: Image, box: FloatArray) -> tuple[Image, FloatArray]:
    out = box.copy()
    out[0] = image.shape[1] - box[0] - box[2]
    return np.ascontiguousarray(image[:, ::-1]), out
