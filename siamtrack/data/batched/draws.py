"""Which crops a batch is made of: tracks, frames, negatives and other objects.

The rules are those of `PairDataset`; where it tries again and again until a draw is allowed, all
tries are made at once here and the first allowed one is taken.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from siamtrack.data.batched.dice import Dice
from siamtrack.data.cache import CropCache
from siamtrack.data.pairs import MAX_SHARED, MIN_SIDE_PX, MIN_VISIBLE, PairConfig
from siamtrack.errors import DatasetError
from siamtrack.types import BoolArray, FloatArray, IntArray

_TRIES = 8

DrawWindows = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Sizes and shifts of search windows about crops, as `windows.draw_windows` makes them."""


class CropDraws:
    """Draws crops by their number in a cache; all arguments and results are int64 on the CPU.

    Args:
        cache: what to draw from.
        config: of the pairs.
        weights: (tracks,) sampling weights; 0 leaves a track out.
        usable: (N,) bool, crops that may be drawn.
        size_wh: (N, 2) size of each crop, px.

    Raises:
        DatasetError: no usable crop has a weight.
    """

    def __init__(
        self,
        cache: CropCache,
        config: PairConfig,
        weights: FloatArray,
        usable: BoolArray,
        size_wh: Tensor,
    ) -> None:
        self.config, self.size_wh = config, size_wh
        self.boxes = torch.from_numpy(cache.boxes.astype(np.float64))  # (N, 4) xywh, crop px
        self._maps = torch.from_numpy(cache.maps)  # (N, 4)
        self._usable = torch.from_numpy(np.flatnonzero(usable))

        # 1. Usable crops by track, those of a track by frame number. A place is an index into this
        #    order.
        tracks = len(cache.tracks)
        track_of = np.zeros(len(cache), np.int64)
        for number, track in enumerate(cache.tracks):
            track_of[track.first : track.first + track.count] = number
        order = np.lexsort((cache.numbers, track_of))
        order = order[usable[order]]
        counts = np.bincount(track_of[order], minlength=tracks)  # (tracks,)
        firsts = np.cumsum(counts) - counts
        self.track_of = torch.from_numpy(track_of)  # (N,)
        self._order = torch.from_numpy(order)
        self._first, self._count = torch.from_numpy(firsts), torch.from_numpy(counts)

        # 2. Places of the frames near each place.
        low, high = _near(cache.numbers[order], firsts, counts, config.max_gap)
        self._low, self._high = torch.from_numpy(low), torch.from_numpy(high)

        # 3. A uniform number is looked up in here to draw a track.
        weights = np.where(counts > 0, weights, 0.0)
        if weights.sum() <= 0:
            raise DatasetError(
                f"no track of cache {cache.folder} is left to draw from; raise a weight in "
                "set_weights, or make the cache again if it is damaged"
            )
        self._cumulative = torch.from_numpy(np.cumsum(weights) / weights.sum())

        # 4. Tracks of the same class, for negatives; those of each image, for its other objects.
        labels = [track.label for track in cache.tracks]
        drawn = [number for number in range(tracks) if weights[number] > 0 and labels[number]]
        self._classes = _Groups(tracks, drawn, labels)
        images = [track.image for track in cache.tracks]
        stills = [n for n in range(tracks) if counts[n] > 0 and images[n]]
        self._images = _Groups(tracks, stills, images)

    def tracks(self, dice: Dice, count: int) -> Tensor:
        """(count,) tracks, each as often as its weight says."""
        drawn = dice.uniform(0.0, 1.0, count)
        found = torch.searchsorted(self._cumulative, drawn, right=True)
        return found.clamp_max(len(self._cumulative) - 1)

    def frames(self, dice: Dice, track: Tensor) -> tuple[Tensor, Tensor]:
        """Two crops of each track, at most `max_gap` frames apart; they may be the same."""
        z = self._first[track] + dice.below(self._count[track])
        low = self._low[z]
        x = low + dice.below(self._high[z] - low)
        return self._order[z], self._order[x]

    def any_crop(self, dice: Dice, count: int) -> Tensor:
        """(count,) crops of all that can be decoded, whatever their track."""
        return self._usable[dice.below(torch.full((count,), len(self._usable)))]

    def others(self, dice: Dice, track: Tensor) -> Tensor:
        """A crop of another object for each track: half of the time of its class, if there is one.

        It is of another image, unless all tries found none.
        """
        siblings = self._classes.count[track]  # (B,)
        size = (_TRIES, len(track))
        same = (dice.uniform(0.0, 1.0, *size) < 0.5) & (siblings > 1)
        sibling = self._classes.member(track, dice.below(siblings.expand(size)))
        other = torch.where(same, sibling, self.tracks(dice, _TRIES * len(track)).view(size))
        is_other = (other != track) & ~self._images.same(other, track)
        other = first_allowed(is_other, other)[0]
        return self._order[self._first[other] + dice.below(self._count[other])]

    def negatives(
        self, dice: Dice, z: Tensor, draw_windows: DrawWindows
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """A crop of another object for each exemplar z, and a window of it that leaves z's out."""
        # 1. Another object of the same image, if a window about it does not show the target.
        count, track = len(z), self.track_of[z]
        neighbors = self._images.count[track] - 1  # (B,), -1 for video
        wanted = dice.chance(self.config.same_picture, count) & (neighbors > 0)
        size = (_TRIES, count)
        place = dice.below(neighbors.clamp_min(0).expand(size))
        place = place + (place >= self._images.rank[track])  # all but the target itself
        neighbor = self._order[self._first[self._images.member(track, place)]]  # (tries, B)
        wh, shift = (v.unflatten(0, size) for v in draw_windows(neighbor.flatten()))
        box = self.boxes[neighbor]
        left_top = box[..., :2] + box[..., 2:] / 2 - wh / 2 - shift * wh
        window = torch.cat([left_top, wh], dim=-1)
        free = overlap_area(self.box_in_crop(z.expand(size), neighbor), window) == 0
        same_image, found = first_allowed(free & wanted, neighbor)
        chosen = (first_allowed(free, wh)[0], first_allowed(free, shift)[0])

        # 2. Otherwise an object of another image or clip.
        other = self.others(dice, track)
        windows = draw_windows(other)
        keep = found[:, None]
        sized, shifted = (torch.where(keep, a, b) for a, b in zip(chosen, windows, strict=True))
        return torch.where(found, same_image, other), (sized, shifted)

    def same_track(self, crop: Tensor, other: Tensor) -> Tensor:
        """(B,) bool, whether two crops show the same object."""
        return self.track_of[crop] == self.track_of[other]

    def box_in_crop(self, other: Tensor, crop: Tensor) -> Tensor:
        """(..., 4) boxes of other objects of the same image, in px of the crops `crop`."""
        theirs, ours, box = self._maps[other], self._maps[crop], self.boxes[other]
        left_top = theirs[..., :2] + box[..., :2] * theirs[..., 2:]
        left_top = (left_top - ours[..., :2]) / ours[..., 2:]
        return torch.cat([left_top, box[..., 2:] * theirs[..., 2:] / ours[..., 2:]], dim=-1)

    def nearest_in_window(self, crop: Tensor, x_box: Tensor, size_px: int) -> Tensor:
        """(B, 4) xywh in window px of the nearest other object in each window, or zeros.

        The windows of side `size_px` were cut from `crop`, whose own objects are at `x_box`.
        """
        none = torch.zeros(len(crop), 4, dtype=torch.float64)
        track = self.track_of[crop]
        most = int(self._images.count[track].max()) if len(crop) else 0
        if most < 2:
            return none

        # 1. All objects of the images, in px of the windows: (B, K, 4).
        rank = torch.arange(most).expand(len(crop), most)
        exists = rank < self._images.count[track][:, None]
        place = torch.where(exists, rank, 0)
        other = self._order[self._first[self._images.member(track[:, None], place)]]
        own = self.boxes[crop][:, None]  # (B, 1, 4)
        target = x_box[:, None]
        crops = crop[:, None].expand_as(other)
        box = transfer_box(self.box_in_crop(other, crops), own, target)

        # 2. Those large enough, mostly inside what the stored crop shows of the window, and apart
        #    from the crop's own.
        stored = torch.cat([torch.zeros(len(crop), 2), self.size_wh[crop]], dim=1)[:, None]
        window = torch.tensor([0.0, 0.0, size_px, size_px], dtype=torch.float64)
        shown = intersection(transfer_box(stored, own, target), window.expand(len(crop), 1, 4))
        area, own_area = box[..., 2:].prod(dim=-1), target[..., 2:].prod(dim=-1)
        is_distractor = (
            exists
            & (other != crops)
            & (box[..., 2:].amin(dim=-1) >= MIN_SIDE_PX)
            & (overlap_area(box, shown) >= MIN_VISIBLE * area)
            & (overlap_area(box, target) <= MAX_SHARED * torch.minimum(area, own_area))
        )

        # 3. The nearest of them.
        way = box[..., :2] + box[..., 2:] / 2 - target[..., :2] - target[..., 2:] / 2
        distance = torch.where(is_distractor, way.norm(dim=-1), torch.inf)  # (B, K)
        shortest, index = distance.min(dim=1)
        nearest = box.take_along_dim(index[:, None, None], dim=1)[:, 0]
        return torch.where(shortest.isfinite()[:, None], nearest, none)


class _Groups:
    """Tracks that have something in common: those of one class, or of one image.

    Attributes:
        count: (tracks,) members of each track's group, 0 for a track without one.
        rank: (tracks,) place of a track among the members of its group.
    """

    def __init__(self, tracks: int, members: Iterable[int], keys: Sequence[str]) -> None:
        by_key: dict[str, list[int]] = defaultdict(list)
        numbers: dict[str, int] = {}
        for member in members:
            by_key[keys[member]].append(member)
        self.rank = torch.zeros(tracks, dtype=torch.int64)
        start, flat = dict[str, int](), list[int]()
        for number, (key, group) in enumerate(by_key.items()):
            start[key], numbers[key] = len(flat), number
            flat += group
            self.rank[group] = torch.arange(len(group))
        # A track of the class counts its siblings also where it is not drawn itself.
        self.count = torch.tensor([len(by_key.get(key, ())) for key in keys])
        self._start = torch.tensor([start.get(key, 0) for key in keys])
        self._number = torch.tensor([numbers.get(key, -1) for key in keys])
        self._flat = torch.tensor(flat or [0])

    def member(self, track: Tensor, place: Tensor) -> Tensor:
        """Track at a place of a track's group; any track where the group is empty."""
        return self._flat[(self._start[track] + place).clamp_max(len(self._flat) - 1)]

    def same(self, track: Tensor, other: Tensor) -> Tensor:
        """Whether two tracks are in one group."""
        return (self._number[track] == self._number[other]) & (self._number[track] >= 0)


def _near(
    numbers: IntArray, firsts: IntArray, counts: IntArray, max_gap: int
) -> tuple[IntArray, IntArray]:
    """First and last + 1 place of the frames of a track that are near each place."""
    low, high = np.empty_like(numbers), np.empty_like(numbers)
    for first, count in zip(firsts.tolist(), counts.tolist(), strict=True):
        places = slice(first, first + count)
        of_track = numbers[places]
        low[places] = first + np.searchsorted(of_track, of_track - max_gap, "left")
        high[places] = first + np.searchsorted(of_track, of_track + max_gap, "right")
    return low, high


def first_allowed(allowed: Tensor, tries: Tensor) -> tuple[Tensor, Tensor]:
    """Take the first allowed of several tries for each of B, or the last; and whether it is one.

    `allowed` is (tries, B) bool, `tries` (tries, B, ...).
    """
    found = allowed.any(dim=0)  # (B,)
    first = torch.where(found, allowed.int().argmax(dim=0), len(allowed) - 1)
    return tries[first, torch.arange(allowed.shape[1])], found


# Boxes, (..., 4) xywh


def transfer_box(box: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Move boxes by the scaling and shift that turn `source` into `target`."""
    scale = target[..., 2:] / source[..., 2:]
    left_top = target[..., :2] + (box[..., :2] - source[..., :2]) * scale
    return torch.cat([left_top, box[..., 2:] * scale], dim=-1)


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """What two boxes have in common; width and height are 0 where nothing is."""
    left_top = torch.maximum(a[..., :2], b[..., :2])
    right_bottom = torch.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    return torch.cat([left_top, (right_bottom - left_top).clamp_min(0)], dim=-1)


def overlap_area(a: Tensor, b: Tensor) -> Tensor:
    """Area that two boxes have in common."""
    return intersection(a, b)[..., 2:].prod(dim=-1)
