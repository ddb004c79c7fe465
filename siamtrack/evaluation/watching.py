"""Our own tracker followed with open eyes: what it saw and what the network answered, per frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from siamtrack.crops import Image
from siamtrack.data.sequence import Sequence
from siamtrack.engines.base import Float32Array
from siamtrack.evaluation.once import begin, overlaps_of, success_auc
from siamtrack.geometry import CropMap, FloatArray
from siamtrack.models.network import NetworkConfig
from siamtrack.tracking.result import Result
from siamtrack.tracking.tracker import Tracker

_CENTRED = 0.5
"""Distance of a box from the target, in sizes of the target, up to which it is on it."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a tracker saw in one frame.

    Attributes:
        logits: (W, R, R) response of every window that was looked at, before sigmoid.
        maps: of the windows.
    """

    logits: Float32Array
    maps: tuple[CropMap, ...]

    def scores(self, number: int) -> FloatArray:
        """(R, R) response of a window between 0 and 1, as the network gave it."""
        return expit(self.logits[number].astype(np.float64))

    def deciding(self, box_xywh: FloatArray) -> int:
        """Number of the window with the highest peak of those that hold the centre of a box."""
        centre = box_xywh[:2] + box_xywh[2:] / 2
        holding = [k for k, crop_map in enumerate(self.maps) if holds(crop_map, centre)]
        return max(holding or [0], key=lambda k: float(self.logits[k].max()))


@dataclass(frozen=True, slots=True)
class Watched:
    """One pass over a sequence.

    Attributes:
        sequence: that was followed.
        first: frame that it was begun on.
        results: (N,) from that frame on.
        overlaps: (N,) NaN on the first frame and where the target is absent.
        sights: (N,) None on the first frame.
        fill_bgr: colour that the network saw outside the frame.
    """

    sequence: Sequence
    first: int
    results: list[Result]
    overlaps: FloatArray
    sights: list[Sight | None]
    fill_bgr: tuple[float, float, float]

    @property
    def success_auc(self) -> float:
        """See `siamtrack.evaluation.once.success_auc`."""
        return success_auc(self.overlaps)

    @property
    def average_overlap(self) -> float:
        """Mean over the frames that count."""
        return float(np.nanmean(self.overlaps))

    def box(self, index: int) -> FloatArray:
        """(4,) xywh px that the tracker gave for result number `index`."""
        return np.array(self.results[index].box)

    def truth(self, index: int) -> FloatArray:
        """(4,) true xywh px for result number `index`; NaN where the target is absent."""
        return self.sequence.boxes[self.first + index]


def watch(tracker: Tracker, sequence: Sequence, max_frames: int = 0) -> Watched:
    """Follow as `siamtrack.evaluation.once.follow` does, and keep what the tracker saw.

    Args:
        tracker: whatever it tracked before is forgotten.
        sequence: shows its target at least once.
        max_frames: frames that are tracked, the first included; 0 for all.
    """
    first, images, begun = begin(tracker, sequence, max_frames)
    results = [begun]
    sights: list[Sight | None] = [None]
    for image in images:
        result, sight = _update(tracker, image)
        results.append(result)
        sights.append(sight)
    fill_bgr = tracker.state.fill_bgr if tracker.state else (0.0, 0.0, 0.0)
    overlaps = overlaps_of(sequence, first, results)
    return Watched(sequence, first, results, overlaps, sights, fill_bgr)


def _update(tracker: Tracker, image: Image) -> tuple[Result, Sight]:
    """`Tracker.update` in its two halves."""
    crops, maps = tracker.look(image)
    response = tracker.engine.track(tracker.exemplar, crops)
    sight = Sight(np.array(response.score_logits), tuple(maps))
    return tracker.conclude(response, maps), sight


def holds(crop_map: CropMap, point_xy: FloatArray) -> bool:
    """Whether a point of the frame is inside a window."""
    inside = (point_xy - np.array(crop_map.origin_xy)) / crop_map.scale
    return bool(((inside >= 0) & (inside < crop_map.size_px)).all())


def cell_at(
    point_xy: FloatArray, crop_map: CropMap, cells: int, config: NetworkConfig
) -> tuple[int, int]:
    """Row and column of the response's cell nearest to a point of the frame."""
    inside = (point_xy - np.array(crop_map.origin_xy)) / crop_map.scale
    number = (inside - crop_map.size_px / 2) / config.total_stride + (cells - 1) / 2
    column, row = np.clip(np.rint(number), 0, cells - 1).astype(int).tolist()
    return row, column


def explain(watched: Watched, index: int, config: NetworkConfig) -> str:
    """What went wrong in a frame, as far as numbers say.

    The target is out of sight, something else responds more, the box did not follow the peak (the
    cosine window, penalties or `hold_below` had more to say), or the box has the wrong size.

    Args:
        watched: one pass.
        index: number of a result; the target is there and it is not the first.
        config: of the tracker's network.
    """
    sight, truth, box = watched.sights[index], watched.truth(index), watched.box(index)
    if sight is None or not np.isfinite(truth).all():
        return "there is nothing to compare with"
    number = sight.deciding(box)
    crop_map, scores = sight.maps[number], sight.scores(number)
    centre = truth[:2] + truth[2:] / 2
    away = float((np.abs(centre - box[:2] - box[2:] / 2) / truth[2:]).max())
    if not holds(crop_map, centre):
        return f"the target is outside the search window, {away:.1f} of its sizes away"
    row, column = cell_at(centre, crop_map, len(scores), config)
    near = scores[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    there, here = float(scores.max()), float(near.max())
    if here < there:
        return f"the response is {there:.2f} elsewhere and {here:.2f} on the target"
    if away > _CENTRED:
        return f"the peak is on the target ({here:.2f}), the box {away:.1f} of its sizes away"
    size = box[2] * box[3] / (truth[2] * truth[3])
    return f"the peak is on the target ({here:.2f}); the box has {size:.2f} of its area"
