"""Training pairs (exemplar z, search x, box in x): which two crops, and how they are cut.

Every pair is a pure function of (seed, index): any number of workers yields the same pairs, and a
run resumes in the middle of an epoch by starting from the next index.

`PairDataset` comes first and is read from top to bottom. Below it are `SameImageObjects`, the
other annotated objects of a still image, and functions on boxes.
"""

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
import torch.utils.data
from numpy.random import Generator
from torch import Tensor

from siamtrack.crops import crop_window, to_network
from siamtrack.data.augment import AugmentConfig, augment_pair, paste_object
from siamtrack.data.cache import CachedTrack, CropCache
from siamtrack.data.hard_pairs import HardConfig, as_tiny, harden
from siamtrack.errors import ConfigError, DatasetError
from siamtrack.geometry import context_side
from siamtrack.types import BoolArray, FloatArray, Image
from siamtrack.utils.config import check_ranges, ranged
from siamtrack.utils.files import to_bytes

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 20
"""Damaged images in a row after which a pair is given up."""
MIN_SIDE_PX = 8.0
"""Objects narrower or lower than this, in search px, are no distractors."""
MIN_VISIBLE = 0.6
"""Fraction of a distractor that must be inside the window."""
FIRST_FRAME_WINDOWS = 2
"""Memory windows that are cut from the exemplar's frame; further ones are of other frames."""
_HARD = 1 << 20  # tells the generator of step 4 from that of the memory, whose number is small
FEW_CLIPS = 20
"""Below this number exactly the fraction that is asked for is held out."""
MAX_SHARED = 0.25
"""Largest common fraction of the smaller of two boxes: a wheel is no distractor of its car."""


@dataclass(frozen=True, slots=True)
class PairConfig:
    """Which pairs are drawn, and how far their windows are off; lengths in crop px.

    Attributes:
        set_weights: sampling weight of ONE track of a set, by set name. Raising one draws more
            pairs from that set; 0 leaves it out.
        other_weight: weight of a track of a set that is not named.
        max_gap: largest distance in frames between the images of a video pair. Raising it trains
            larger changes of appearance.
        negative: fraction of pairs whose search image does not show the target. Raising it lowers
            the scores of other objects, and those of doubtful targets with them.
        same_picture: fraction of the negatives that show another object of the exemplar's image,
            where one lies away from the target. Half of the others show an object of the same
            class, where there is one. Raising it trains look-alikes in the same light.
        exemplar_shift_px: exemplar windows are off-center by up to this, as users' boxes are.
            Raising it tolerates less exact boxes and localizes less exactly.
        exemplar_scale: largest error of the exemplar window's log scale. As for the shift.
        search_shift_px: search windows are off-center by up to this: how far a target may move
            between two frames. Too low and the network learns that targets are in the middle.
        search_scale: largest error of the search window's log scale. Raising it follows faster
            changes of size.
        search_aspect: largest log of the stretch between the axes of the search window. Raising
            it follows faster changes of shape.
        rotation: probability that the search image is rotated about its target. Raising it
            tolerates rolling targets, while boxes of upright ones become less tight.
        rotation_deg: largest rotation to either side, degrees.
        flip: probability that both images are mirrored.
        fill_replicate: probability that the border pixels are repeated outside the image.
        fill_photo: probability that another image fills the outside; else the mean color does.
            Raising either hides where the image ends.
        memory: further windows of each pair that the filter loss solves its filter on: of the
            exemplar's frame, and from the third on of frames near it. They are drawn as search
            windows are. Raising it is closer to run time, and costs a pass of the backbone each.
        augment: changes of color and sharpness, pasted objects.
        hard: search images made harder, see `siamtrack.data.hard_pairs`.
    """

    set_weights: Mapping[str, float] = field(default_factory=dict)
    other_weight: float = 1.0
    max_gap: int = ranged(100, 0)
    negative: float = ranged(0.08, 0.0, 1.0)
    same_picture: float = ranged(0.5, 0.0, 1.0)
    exemplar_shift_px: float = ranged(8.0, 0.0, below=math.inf)
    exemplar_scale: float = ranged(0.08, 0.0, below=math.inf)
    search_shift_px: float = ranged(72.0, 0.0, below=math.inf)
    search_scale: float = ranged(0.3, 0.0, below=math.inf)
    search_aspect: float = ranged(0.08, 0.0, below=math.inf)
    rotation: float = ranged(0.25, 0.0, 1.0)
    rotation_deg: float = ranged(40.0, 0.0, below=math.inf)
    flip: float = ranged(0.5, 0.0, 1.0)
    fill_replicate: float = ranged(0.1, 0.0, 1.0)
    fill_photo: float = ranged(0.4, 0.0, 1.0)
    memory: int = ranged(0, 0)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    hard: HardConfig = field(default_factory=HardConfig)

    def __post_init__(self) -> None:
        check_ranges(self, "pairs.")


class Pair(TypedDict):
    """One training example; boxes are float32 (4,) xywh in px of their crop."""

    z: Tensor  # uint8 (3, exemplar, exemplar) RGB
    z_box: Tensor  # the target in z
    x: Tensor  # uint8 (3, search, search) RGB
    x_box: Tensor  # the object in x: the target, or another one in a negative
    positive: Tensor  # bool (), whether x shows z's target
    distractor_box: Tensor  # another object in x, annotated or pasted; zeros without one
    has_distractor: Tensor  # bool ()
    memory: Tensor  # uint8 (M, 3, search, search) RGB, windows that show the target
    memory_box: Tensor  # (M, 4), the target in each
    index: int  # of the pair, for error messages
    skipped: int  # attempts before this one, each ended by a damaged image


CropWindow = tuple[FloatArray, FloatArray]
"""(2,) width and height in crop px, and (2,) offset of its object from the center / that size."""
Part = Literal["all", "train", "held_out"]


class PairDataset(torch.utils.data.Dataset[Pair]):
    """The endless sequence of pairs that `seed` defines; item i is pair i.

    Part "train" leaves out the tracks that part "held_out" has, a fraction `held_out` of the images
    and clips. Objects of one image are always in the same part.

    Raises:
        DatasetError: every track has weight 0.
        ConfigError: a weight is negative.
    """

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
        self.cache, self.config = cache, config
        self.exemplar_size_px, self.search_size_px = exemplar_size_px, search_size_px
        self.seed = seed
        self._same_image = SameImageObjects(cache)

        weights = part_weights(cache, config, part, held_out)
        # A uniform number is looked up in here to draw a track.
        self._cumulative = np.cumsum(weights) / weights.sum()  # (tracks,)

        # Tracks of each class, for negatives of the same class.
        self._by_class: dict[str, list[int]] = defaultdict(list)
        for number, track in enumerate(cache.tracks):
            if weights[number] > 0 and track.label:
                self._by_class[track.label].append(number)

    def __getitem__(self, index: int) -> Pair:
        """Make pair `index`, or another one in its place when an image cannot be decoded.

        Raises:
            DatasetError: one attempt after the other met a damaged image.
        """
        for attempt in range(MAX_ATTEMPTS):
            try:
                # Each attempt has its own generator: a pair never depends on another one.
                pair = self._make(index, np.random.default_rng((self.seed, index, attempt)))
            except DatasetError as error:
                logger.warning("pair %d: %s; another pair is taken", index, error)
            else:
                pair["skipped"] = attempt
                return pair
        raise DatasetError(
            f"pair {index}: {MAX_ATTEMPTS} crops in a row cannot be decoded; "
            f"cache {self.cache.folder} is damaged, remove it and make it again"
        )

    def _make(self, index: int, rng: Generator) -> Pair:
        """Make a pair; the order of the draws from `rng` defines the pairs of a seed."""
        c = self.config

        # 1. Two crops of one track, or for a negative an exemplar and another object.
        track = self._draw_track(rng)
        z_crop, x_crop = self._draw_frames(track, rng)
        positive = bool(rng.random() >= c.negative)
        if positive:
            window = self._draw_window(x_crop, rng)
        else:
            x_crop, window = self._draw_negative(z_crop, track, rng)
        flip = bool(rng.random() < c.flip)

        # 2. Exemplar: a square with context about the target, a little off.
        image, box = self.cache.read(z_crop)
        side = context_side(box[2], box[3]) * np.exp(rng.uniform(-1, 1) * c.exemplar_scale)
        shift = rng.uniform(-1, 1, 2) * c.exemplar_shift_px / self.exemplar_size_px
        z_window = np.array([side, side]), shift
        z, z_box = self._cut_window(image, box, z_window, self.exemplar_size_px, rng)
        # z: (S, S, 3) BGR, z_box: (4,) xywh

        # 3. Search image, with a distractor in some.
        x, x_box, distractor = self._search_image(x_crop, window, track, rng)
        # x: (S', S', 3) BGR, x_box and distractor: (4,) xywh

        # 4. Harder, if it shows the target. This has a generator of its own, as the next step: what
        #    is off changes no pair.
        hard_rng = np.random.default_rng((self.seed, index, _HARD, z_crop))
        if positive:

            def draw_object() -> tuple[Image, FloatArray]:
                return self.cache.read(self._draw_other(track, hard_rng))

            harder = harden(x, x_box, distractor, c.hard, draw_object, hard_rng)
            x, positive, distractor = harder.image, harder.shows_target, harder.distractor_xywh

        # 5. Windows of the online filter's memory.
        memory_rng = np.random.default_rng((self.seed, index, c.memory, z_crop))
        windows = [
            self._memory_window(track, z_crop if k < FIRST_FRAME_WINDOWS else None, memory_rng)
            for k in range(c.memory)
        ]

        memory = [image for image, _ in windows]

        # 6. Colors and sharpness; flip both or neither.
        if c.hard.tiny and hard_rng.random() < c.hard.tiny:
            side_px = float(np.sqrt(z_box[2] * z_box[3]))  # the target has this size in all crops
            z, x, *memory = as_tiny([z, x, *memory], side_px, hard_rng)
        z, x, memory = augment_pair(z, x, c.augment, rng, memory, memory_rng)
        memory_box = np.array([box for _, box in windows]).reshape(-1, 4)
        for k in np.flatnonzero(memory_rng.random(len(memory)) < c.flip):
            memory[k] = np.ascontiguousarray(memory[k][:, ::-1])
            memory_box[k] = flip_box(memory_box[k], self.search_size_px)
        if flip:
            z, x = (np.ascontiguousarray(image[:, ::-1]) for image in (z, x))
            z_box = flip_box(z_box, z.shape[1])
            x_box, distractor = (flip_box(box, x.shape[1]) for box in (x_box, distractor))

        return {
            "z": to_network([z])[0],  # (S, S, 3) BGR to (3, S, S) RGB
            "z_box": torch.from_numpy(z_box.astype(np.float32)),
            "x": to_network([x])[0],
            "x_box": torch.from_numpy(x_box.astype(np.float32)),
            "positive": torch.tensor(positive),
            "distractor_box": torch.from_numpy(distractor.astype(np.float32)),
            "has_distractor": torch.tensor(bool(distractor[2] > 0)),
            "memory": _stack(memory, self.search_size_px),
            "memory_box": torch.from_numpy(memory_box.astype(np.float32)),
            "index": index,
            "skipped": 0,
        }

    def _memory_window(
        self, track: CachedTrack, crop: int | None, rng: Generator
    ) -> tuple[Image, FloatArray]:
        """A search window that shows the target, in this crop or any of its track, and its box."""
        if crop is None:
            _, crop = self._draw_frames(track, rng)
        image, box, _ = self._search_image(crop, self._draw_window(crop, rng), track, rng)
        return image, box

    def _draw_track(self, rng: Generator) -> CachedTrack:
        return self.cache.tracks[int(np.searchsorted(self._cumulative, rng.random(), "right"))]

    def _draw_frames(self, track: CachedTrack, rng: Generator) -> tuple[int, int]:
        """Two crops of a track, at most `max_gap` frames apart; they may be the same."""
        z = track.first + int(rng.integers(track.count))
        # By frame number: stored frames may be far apart.
        numbers = self.cache.numbers[track.first : track.first + track.count]
        near = np.flatnonzero(np.abs(numbers - self.cache.numbers[z]) <= self.config.max_gap)
        return z, track.first + int(rng.choice(near))

    def _draw_window(self, crop: int, rng: Generator) -> CropWindow:
        """Search window about a crop's object: off in scale, aspect ratio and position."""
        c = self.config
        box = self.cache.boxes[crop].astype(np.float64)
        # Both windows have the same scale, so the search window is larger by the ratio of sizes.
        ratio = self.search_size_px / self.exemplar_size_px
        side = ratio * context_side(box[2], box[3]) * np.exp(rng.uniform(-1, 1) * c.search_scale)
        stretch = np.exp(rng.uniform(-1, 1) * c.search_aspect / 2)
        shift = rng.uniform(-1, 1, 2) * c.search_shift_px / self.search_size_px
        return np.array([side * stretch, side / stretch]), shift

    def _draw_negative(
        self, z: int, z_track: CachedTrack, rng: Generator
    ) -> tuple[int, CropWindow]:
        """A crop of another object, and a window of it that does not show z's target."""
        # Another object of the same image, if a window about it leaves the target out.
        others = self._same_image.others(z)
        if others and rng.random() < self.config.same_picture:
            for _ in range(8):
                other = others[int(rng.integers(len(others)))]
                wh, shift = self._draw_window(other, rng)
                box = self.cache.boxes[other].astype(np.float64)
                window = np.concatenate([box[:2] + box[2:] / 2 - wh / 2 - shift * wh, wh])
                if overlap_area(self._same_image.box_in_crop(z, other), window) == 0:
                    return other, (wh, shift)

        # Otherwise an object of another image or clip.
        other = self._draw_other(z_track, rng)
        return other, self._draw_window(other, rng)

    def _draw_other(self, track: CachedTrack, rng: Generator) -> int:
        """A crop of another object: of the same class half of the time, if there is one."""
        siblings = self._by_class.get(track.label, [])
        # A few tries suffice, unless there is no other image to draw from.
        for _ in range(8):
            if len(siblings) > 1 and rng.random() < 0.5:
                other = self.cache.tracks[siblings[int(rng.integers(len(siblings)))]]
            else:
                other = self._draw_track(rng)
            same_image = track.image and other.image == track.image
            if other.first != track.first and not same_image:
                break
        return other.first + int(rng.integers(other.count))

    def _search_image(
        self, crop: int, window: CropWindow, z_track: CachedTrack, rng: Generator
    ) -> tuple[Image, FloatArray, FloatArray]:
        """The search crop, its object's box, and a distractor's box (zeros without one)."""
        a, size = self.config.augment, self.search_size_px
        image, box = self.cache.read(crop)

        # 1. Rotate about the object, then cut the window.
        rotated = rng.random() < self.config.rotation
        if rotated:
            angle = np.deg2rad(rng.uniform(-1, 1) * self.config.rotation_deg)
            image, box = rotate_about_box(image, box, angle)
        x, x_box = self._cut_window(image, box, window, size, rng)

        # 2. Annotated distractor: the nearest other object in sight. The boxes of other objects
        #    were not rotated, so a rotated image has none.
        found = None
        if not rotated:
            crop_wh = (image.shape[1], image.shape[0])
            found = self._same_image.nearest_in_window(crop, crop_wh, x_box, size)

        # 3. Pasted distractor, which replaces the annotated one. If it shows the search image's
        #    own object, it is pasted but labels nothing.
        if rng.random() < a.distractor:
            other = self._draw_other(z_track, rng)
            pasted = paste_object(x, x_box, *self.cache.read(other), rng, cover=False)
            if pasted is not None and not self._same_image.same_track(other, crop):
                found = pasted

        # 4. Pasted occluder.
        if rng.random() < a.occluder:
            other = self._draw_other(z_track, rng)
            paste_object(x, x_box, *self.cache.read(other), rng, cover=True)
        return x, x_box, np.zeros(4) if found is None else found

    def _cut_window(
        self, image: Image, box: FloatArray, window: CropWindow, size: int, rng: Generator
    ) -> tuple[Image, FloatArray]:
        """Cut a window around an object to (size, size, 3); returns the object's box in it too.

        Outside the image lies the mean color, its border or another image. Stored crops are often
        smaller than the search window: if the outside always had the mean color, the network would
        learn that the target is in the middle of the rest.
        """
        # 1. Cut, with the mean color or the repeated border outside. One draw decides between the
        #    three fillings.
        c = self.config
        window_wh, shift = window
        origin = box[:2] + box[2:] / 2 - window_wh / 2 - shift * window_wh
        draw = rng.random()
        border = cv2.BORDER_REPLICATE if draw < c.fill_replicate else cv2.BORDER_CONSTANT
        fill, size_wh = cv2.mean(image)[:3], (size, size)
        out = crop_window(image, (*origin, *window_wh), size_wh, fill_bgr=fill, border=border)
        scale = size / window_wh  # (2,) output px per image px

        # 2. Put what lies inside the image onto a random square of another crop.
        if c.fill_replicate <= draw < c.fill_replicate + c.fill_photo:
            # Edges of the image in the output, px.
            x0, y0 = np.rint(-origin * scale).astype(int)
            x1, y1 = np.rint((np.array(image.shape[1::-1]) - origin) * scale).astype(int)
            if x0 > 0 or y0 > 0 or x1 < size or y1 < size:
                other, _ = self.cache.read(int(rng.integers(len(self.cache))))
                side = min(other.shape[:2])
                x, y = (int(rng.integers(length - side + 1)) for length in other.shape[1::-1])
                inside, out = out, crop_window(other, (x, y, side, side), size_wh)
                x0, y0, x1, y1 = np.clip((x0, y0, x1, y1), 0, size)
                out[y0:y1, x0:x1] = inside[y0:y1, x0:x1]
        return out, np.concatenate([(box[:2] - origin) * scale, box[2:] * scale])


def _stack(images: list[Image], size_px: int) -> Tensor:
    """(M, 3, S, S) RGB, also for no image."""
    return to_network(images) if images else torch.zeros(0, 3, size_px, size_px, dtype=torch.uint8)


def track_weights(cache: CropCache, config: PairConfig) -> FloatArray:
    """(tracks,) sampling weight of each track; names of sets that the cache lacks change nothing.

    Raises:
        ConfigError: a weight is negative or not finite.
    """
    weights = np.array(
        [config.set_weights.get(track.set_name, config.other_weight) for track in cache.tracks]
    )
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ConfigError("set_weights must be finite and not negative; 0 leaves a set out")
    return weights


def part_weights(cache: CropCache, config: PairConfig, part: Part, held_out: float) -> FloatArray:
    """(tracks,) sampling weight of each track, 0 for those of the other part.

    Raises:
        DatasetError: every track has weight 0.
        ConfigError: a weight is negative or not finite.
    """
    weights = track_weights(cache, config)
    if part != "all":
        out = held_out_tracks(cache, weights, held_out)
        weights = np.where(out == (part == "held_out"), weights, 0.0)
    if weights.sum() <= 0:
        raise DatasetError(
            f"no track of cache {cache.folder} is left to draw from ({part}); raise a weight "
            "in set_weights, or change the share that is held out"
        )
    return weights


def held_out_tracks(cache: CropCache, weights: FloatArray, share: float) -> BoolArray:
    """(tracks,) bool: a fraction `share` of the images and clips, by a hash of their name.

    Adding data moves no track to the other part. Few clips are an exception, and where the hash
    would choose none or all: then those with the smallest hashes are held out, as many as the
    fraction rounds to and not all of them. Of three clips a small fraction is none.
    """
    names = [to_bytes(track.image or track.name) for track in cache.tracks]
    hashes = np.array([zlib.crc32(name) for name in names]) / 2**32
    drawn = np.unique(hashes[weights > 0])  # images and clips that pairs are drawn from
    one_sided = (drawn < share).all() == (drawn < share).any()
    if 0 < len(drawn) and (one_sided or len(drawn) < FEW_CLIPS):
        count = min(round(share * len(drawn)), len(drawn) - 1)
        return hashes < drawn[count]
    return hashes < share


class SameImageObjects:
    """The other annotated objects of a still image, found in crops of one object each."""

    def __init__(self, cache: CropCache) -> None:
        self.cache = cache
        self._first = np.array([track.first for track in cache.tracks])
        self._by_image: dict[str, list[int]] = defaultdict(list)
        for track in cache.tracks:
            if track.image:
                self._by_image[track.image].append(track.first)

    def _track_of(self, crop: int) -> int:
        return int(np.searchsorted(self._first, crop, "right")) - 1

    def same_track(self, crop: int, other: int) -> bool:
        """Whether two crops show the same object."""
        return self._track_of(crop) == self._track_of(other)

    def others(self, crop: int) -> list[int]:
        """Crops of the other objects of a crop's image; none for video."""
        image = self.cache.tracks[self._track_of(crop)].image
        return [other for other in self._by_image.get(image, []) if other != crop]

    def box_in_crop(self, other: int, crop: int) -> FloatArray:
        """Box of another object of the same image, (4,) xywh in px of the crop `crop`."""
        # Crop px of the other to image px to crop px of this one; a map is (left, top, sx, sy).
        theirs, ours = self.cache.maps[other], self.cache.maps[crop]
        box = self.cache.boxes[other].astype(np.float64)
        left_top = theirs[:2] + box[:2] * theirs[2:]
        return np.concatenate([(left_top - ours[:2]) / ours[2:], box[2:] * theirs[2:] / ours[2:]])

    def nearest_in_window(
        self, crop: int, crop_wh: tuple[int, int], x_box: FloatArray, size_px: int
    ) -> FloatArray | None:
        """(4,) xywh in window px of the nearest other object in a window; None without one.

        The window of side `size_px` was cut from `crop`, whose own object is at `x_box` in it.
        """
        # The window shows the part of itself that the stored crop covers.
        own = self.cache.boxes[crop].astype(np.float64)
        stored = transfer_box(np.array([0.0, 0.0, *crop_wh]), own, x_box)
        shown = _intersection(stored, np.array([0.0, 0.0, size_px, size_px]))

        # Objects large enough, mostly inside, and apart from the crop's own; the nearest of them.
        own_area = float(np.prod(x_box[2:]))
        center = x_box[:2] + x_box[2:] / 2
        nearest, shortest = None, math.inf
        for other in self.others(crop):
            box = transfer_box(self.box_in_crop(other, crop), own, x_box)
            area = float(np.prod(box[2:]))
            is_distractor = (
                min(box[2:]) >= MIN_SIDE_PX
                and overlap_area(box, shown) >= MIN_VISIBLE * area
                and overlap_area(box, x_box) <= MAX_SHARED * min(area, own_area)
            )
            distance = float(np.hypot(*(box[:2] + box[2:] / 2 - center)))
            if is_distractor and distance < shortest:
                nearest, shortest = box, distance
        return nearest


def rotate_about_box(image: Image, box: FloatArray, angle: float) -> tuple[Image, FloatArray]:
    """Rotate uint8 (H, W, 3) about the center of a box; border pixels are repeated outside.

    The angle is in radians, clockwise as seen on the screen. The new box is that of the rotated
    ellipse in the old one. Objects fill the ellipse better than the corners; the box of the
    rotated corners would be half as large again at 45 degrees.
    """
    # Rotation, and the translation that keeps the center where it is.
    cos, sin = math.cos(angle), math.sin(angle)
    center = box[:2] + box[2:] / 2
    matrix = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])  # (2, 3)
    # Pixel i covers [i, i + 1), while OpenCV counts from pixel centers.
    fixed = center - 0.5
    matrix[:, 2] = fixed - matrix[:, :2] @ fixed
    size_wh = (image.shape[1], image.shape[0])
    rotated = cv2.warpAffine(
        image, matrix, size_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    # Extent of an ellipse with half-axes a, b, rotated: hypot(a cos, b sin) along x.
    w, h = box[2:]
    wh = np.array([math.hypot(w * cos, h * sin), math.hypot(w * sin, h * cos)])
    return rotated, np.concatenate([center - wh / 2, wh])  # type: ignore[return-value]


def flip_box(box: FloatArray, width: int) -> FloatArray:
    """Box (4,) xywh in the mirrored image of this width."""
    return np.array([width - box[0] - box[2], *box[1:]])


def transfer_box(box: FloatArray, source: FloatArray, target: FloatArray) -> FloatArray:
    """Move a box by the scaling and shift that turn `source` into `target`, all (4,) xywh."""
    scale = target[2:] / source[2:]
    return np.concatenate([target[:2] + (box[:2] - source[:2]) * scale, box[2:] * scale])


def overlap_area(a: FloatArray, b: FloatArray) -> float:
    """Area that two boxes (4,) xywh have in common."""
    return float(np.prod(_intersection(a, b)[2:]))


def _intersection(a: FloatArray, b: FloatArray) -> FloatArray:
    left_top = np.maximum(a[:2], b[:2])
    right_bottom = np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    return np.concatenate([left_top, np.maximum(right_bottom - left_top, 0.0)])
