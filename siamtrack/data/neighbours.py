"""Objects that share a picture: natural look-alikes, and where they are in each other's crops."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from siamtrack.data.cache import CropCache
from siamtrack.geometry import FloatArray

_LEAST_SHARE = 0.6
"""Share of an object that must be in sight for it to count as shown."""
_MOST_SHARED = 0.25
"""Share of the smaller of two boxes that both may cover: a wheel is no distractor of its car."""
_LEAST_SIDE_PX = 8.0


class Neighbours:
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
        stored = carry(np.array([0.0, 0.0, *crop_wh]), own, x_box)
        seen = _common(stored, np.array([0.0, 0.0, size_px, size_px]))
        boxes = [carry(self.box_in(other, crop), own, x_box) for other in self.of(crop)]
        found = [box for box in boxes if _is_beside(box, x_box, seen)]
        middle = x_box[:2] + x_box[2:] / 2
        distance = [float(np.hypot(*(box[:2] + box[2:] / 2 - middle))) for box in found]
        return found[int(np.argmin(distance))] if found else None


def carry(box: FloatArray, source: FloatArray, target: FloatArray) -> FloatArray:
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
