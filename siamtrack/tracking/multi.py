"""Many targets on one engine; two targets that look alike do not end on one object.

`MultiTracker` runs one `Tracker` per target and the network on the crops of all of them. Where two
targets claim one object, `assign_boxes` assigns the boxes anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import starmap

import numpy as np
from numpy.typing import ArrayLike

from siamtrack.crops import check_frame
from siamtrack.engines.base import Exemplar, Response, track_each
from siamtrack.errors import ConfigError, NotInitializedError
from siamtrack.geometry import CropMap, iou
from siamtrack.tracking.decode import decode_ltrb
from siamtrack.tracking.redetection import SEPARATE_IOU, TimeBudget
from siamtrack.tracking.result import Result
from siamtrack.tracking.tracker import Tracker, TrackState
from siamtrack.types import Box, FloatArray, Image

SAME_OBJECT_IOU = 0.6
"""Boxes that overlap by more lie on one object."""

# Costs are negative logs of probabilities.
_SHARE_COST = math.log(2.0)  # an object in front of another is half as probable
_KEEP_COST = math.log(4.0)  # no response at the last box: a quarter of a certain one
_MOTION_COST = 0.5  # per squared step in target sizes: a normal distribution of one size
_MIN_SCORE = 1e-6
_IMPOSSIBLE = 1e6


class MultiTracker:
    """Follows any number of targets, which may be added and removed between any two frames.

    They share the network, and they exclude each other: targets that were apart do not end on one
    object, however alike they are. Unless two claim one object, the results are those of separate
    trackers. All search crops of a frame go through the network together: in one batch or, with
    OpenVINO, concurrently, each as soon as it is cut.
    """

    def __init__(
        self, make_tracker: Callable[[], Tracker], budget: TimeBudget | None = None
    ) -> None:
        """Make a tracker without targets; `siamtrack.load_multi` is the short way.

        Args:
            make_tracker: returns new trackers, all on one engine and with this budget.
            budget: limits the time for one frame; None for no limit.
        """
        self._make, self.budget = make_tracker, budget
        self._trackers: dict[int, Tracker] = {}
        self._next = 0
        # Pairs that overlap from the start. They are left alone until they have been apart once.
        self._overlapping_pairs: set[frozenset[int]] = set()

    @property
    def targets(self) -> tuple[int, ...]:
        """Numbers of the targets, in the order in which they were added."""
        return tuple(self._trackers)

    def add(self, frame_bgr: Image, box: Sequence[float] | ArrayLike) -> int:
        """Start on one more target, as `Tracker.init` does, and return its number.

        Numbers are never reused.

        Raises:
            InvalidFrameError, InvalidBoxError: see `Tracker.init`; nothing is added then.
        """
        tracker = self._make()
        first = tracker.init(frame_bgr, box)
        target, self._next = self._next, self._next + 1
        self._trackers[target] = tracker
        self._note_overlaps(target, first.box)
        return target

    def reinit(self, target: int, frame_bgr: Image, box: Sequence[float] | ArrayLike) -> Result:
        """Start a target anew under its number, as `Tracker.init` does.

        Raises:
            ConfigError: there is no such target.
            InvalidFrameError, InvalidBoxError: see `Tracker.init`; the target stays as it was.
        """
        first = self._tracker(target).init(frame_bgr, box)
        self._note_overlaps(target, first.box)
        return first

    def remove(self, target: int) -> None:
        """Forget a target.

        Raises:
            ConfigError: there is no such target (any more).
        """
        self._tracker(target)
        self._overlapping_pairs = {p for p in self._overlapping_pairs if target not in p}
        del self._trackers[target]

    def reset(self) -> None:
        """Forget all targets and count from 0 again."""
        self._trackers.clear()
        self._overlapping_pairs.clear()
        self._next = 0

    def update(self, frame_bgr: Image) -> dict[int, Result]:
        """Find all targets in the next frame; returns the results by the targets' numbers.

        Raises:
            InvalidFrameError: see `Tracker.update`.
        """
        if not self._trackers:
            return {}
        with self.budget.frame() if self.budget else nullcontext():
            return self._update(check_frame(frame_bgr))  # checked once for all targets

    def _update(self, frame: Image) -> dict[int, Result]:
        maps: list[list[CropMap]] = []

        # 1. Cut the search windows of every target, lazily: the engine may start on the first.
        def jobs() -> Iterator[tuple[Exemplar, Sequence[Image]]]:
            for tracker in self._trackers.values():
                crops, crop_maps = tracker.crop_search_windows(frame)
                maps.append(crop_maps)
                yield tracker.exemplar, crops

        # 2. Run the network. A single target gets all threads.
        engine = next(iter(self._trackers.values())).engine
        single = len(self._trackers) == 1
        responses = starmap(engine.track, jobs()) if single else track_each(engine, jobs())

        # 3. Update every tracker by itself, then resolve duplicates.
        updates: dict[int, TargetUpdate] = {}
        for k, (response, target) in enumerate(zip(responses, self._trackers, strict=True)):
            updates[target] = update_target(self._trackers[target], response, maps[k])
        return self._resolve_duplicates(updates)

    def _resolve_duplicates(self, updates: Mapping[int, TargetUpdate]) -> dict[int, Result]:
        """Return one result per target, and set the trackers' states to match."""
        results = {target: update.result for target, update in updates.items()}
        if len(updates) < 2:
            return results
        numbers = list(updates)
        boxes = np.array([result.box for result in results.values()])  # (N, 4)
        overlaps = iou(boxes[:, None], boxes[None])  # (N, N)

        # Pairs that overlapped from the start and are apart now count from here on.
        for pair in list(self._overlapping_pairs):
            i, j = (numbers.index(target) for target in pair)
            if overlaps[i, j] < SEPARATE_IOU:
                self._overlapping_pairs.remove(pair)

        # Pairs that claim one object, gathered to groups; each group is assigned by itself.
        same = np.argwhere(np.triu(overlaps > SAME_OBJECT_IOU, 1)).tolist()
        pairs = [(numbers[i], numbers[j]) for i, j in same]
        duplicates = [
            pair
            for pair in pairs
            if frozenset(pair) not in self._overlapping_pairs
            and all(updates[target].claims_box for target in pair)
        ]
        for group in connected_groups(duplicates):
            results |= assign_boxes(group, updates)
        return results

    def _note_overlaps(self, target: int, box: Box) -> None:
        """Note which other targets a new box overlaps."""
        for other, tracker in self._trackers.items():
            pair = frozenset((target, other))
            self._overlapping_pairs.discard(pair)
            if other != target and iou(box, _state_of(tracker).box_xywh) >= SEPARATE_IOU:
                self._overlapping_pairs.add(pair)

    def _tracker(self, target: int) -> Tracker:
        if target not in self._trackers:
            known = ", ".join(map(str, self._trackers)) or "none"
            raise ConfigError(f"target {target} does not exist; the targets are: {known}")
        return self._trackers[target]


@dataclass(frozen=True, slots=True)
class TargetUpdate:
    """One target's step from a frame to the next, by itself."""

    tracker: Tracker
    before: TrackState
    response: Response  # to the tracker's windows
    maps: Sequence[CropMap]
    after: TrackState
    result: Result

    @property
    def claims_box(self) -> bool:
        """Whether it may be on an object: a lost target that stays where it was is not."""
        return self.result.status != "lost" or self.result.box != tuple(self.before.box_xywh)

    @property
    def cost(self) -> float:
        """Negative log of the probability of the result, given the target's last box."""
        # Step of the center in target sizes, under a normal distribution.
        x, y, w, h = self.before.box_xywh
        now_x, now_y, now_w, now_h = self.result.box
        step_x, step_y = now_x + now_w / 2 - (x + w / 2), now_y + now_h / 2 - (y + h / 2)
        step = float(np.hypot(step_x, step_y)) / math.sqrt(float(w * h))
        return _MOTION_COST * step**2 - math.log(max(self.result.score, _MIN_SCORE))


def update_target(tracker: Tracker, response: Response, maps: Sequence[CropMap]) -> TargetUpdate:
    """Update a tracker from the response to its windows, and keep both states."""
    before = _state_of(tracker)
    result = tracker.update_from_response(response, maps)
    return TargetUpdate(tracker, before, response, maps, _state_of(tracker), result)


def assign_boxes(group: list[int], updates: Mapping[int, TargetUpdate]) -> dict[int, Result]:
    """Assign boxes to targets that claim one object (assignment problem, Kuhn 1955).

    Each target may have its box, its best box away from all others, share its box with another
    target (if they did not move onto each other suddenly: objects do occlude each other), or keep
    its last box. The sum of costs is least.
    """
    # 1. Boxes that every target may have; boxes on one object are one column.
    others = [u.result.box for k, u in updates.items() if k not in group and u.claims_box]
    taken = np.array([*others, *(updates[target].result.box for target in group)])
    objects: list[Box] = []
    choices: list[list[tuple[int, TargetUpdate]]] = []  # (column, update) per target
    for target in group:
        update = updates[target]
        choices.append([])
        for one in (update, *_best_alternative(update, taken)):
            box = one.result.box
            known = (k for k, other in enumerate(objects) if iou(other, box) > SAME_OBJECT_IOU)
            column = next(known, len(objects))
            if column == len(objects):
                objects.append(box)
            choices[-1].append((column, one))

    # 2. Costs: a column per object, then one per target for sharing and one for its last box.
    size = len(group)
    costs = np.full((size, len(objects) + 2 * size), _IMPOSSIBLE)
    for row, target in enumerate(group):
        update = updates[target]
        for column, one in choices[row]:
            costs[row, column] = min(costs[row, column], one.cost)
        before = np.array([updates[k].before.box_xywh for k in group])
        if (iou(update.before.box_xywh, before) >= SEPARATE_IOU).all():  # one occludes the other
            costs[row, len(objects) + row] = update.cost + _SHARE_COST
        costs[row, len(objects) + size + row] = _KEEP_COST

    # 3. Assign, and set the trackers to the states of their boxes.
    from scipy.optimize import linear_sum_assignment  # here: takes long to import, seldom needed

    results = {}
    for row, column in np.transpose(linear_sum_assignment(costs)).tolist():
        update = updates[group[row]]
        chosen = next((one for number, one in choices[row] if number == column), update)
        if column >= len(objects) + size:
            chosen = _keep_last_box(update)
        update.tracker.set_state(chosen.after)
        results[group[row]] = chosen.result
    return results


def _best_alternative(update: TargetUpdate, taken_xywh: FloatArray) -> list[TargetUpdate]:
    """The update if no object were at the taken boxes; empty if no other place is left."""
    logits = update.response.score_logits.copy()  # (B, R, R)
    ltrb_px = update.before.box_correction.apply(update.response).ltrb_px  # (B, 4, R, R)
    # Exclude cells whose boxes overlap a taken one. Scale pyramids interpolate between cells, so
    # they get the lowest logit instead of -inf.
    lowest = -np.inf if ltrb_px is not None else float(logits.min())
    for k, crop_map in enumerate(update.maps):
        if ltrb_px is not None:
            ltrb = np.nan_to_num(ltrb_px[k])  # (4, R, R)
        else:  # boxes of the last size
            half_wh = update.before.box_xywh[2:] / crop_map.scale / 2
            ltrb = np.tile(np.reshape([half_wh] * 2, (4, 1, 1)), logits.shape[1:])
        boxes = decode_ltrb(ltrb, update.tracker.engine.config.total_stride, crop_map)
        overlaps = iou(boxes[..., None, :], taken_xywh)  # (R, R, N)
        logits[k][(overlaps > SEPARATE_IOU).any(axis=-1)] = lowest
    if np.isneginf(logits[0]).all():
        return []
    logits[np.isneginf(logits).all(axis=(1, 2))] = update.response.score_logits.min()

    # Repeat the update from the state before, with what is left.
    update.tracker.set_state(update.before)
    masked = replace(update.response, score_logits=logits)
    found = update_target(update.tracker, masked, update.maps)
    return [] if (iou(found.result.box, taken_xywh) > SEPARATE_IOU).any() else [found]


def _keep_last_box(update: TargetUpdate) -> TargetUpdate:
    """The update that keeps the last box, with a score below `tracked_above` and `lost_below`."""
    options = update.tracker.options
    limit = min(options.lost_below, math.nextafter(options.tracked_above, 0.0))
    score = min(update.result.score, limit)
    status_filter = update.before.status_filter.step(score, options)
    after = replace(update.before, status_filter=status_filter)
    result = Result(tuple(after.box_xywh.tolist()), score, status_filter.status)
    return replace(update, after=after, result=result)


def connected_groups(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Numbers that are connected by pairs, sorted.

    Example:
        >>> connected_groups([(0, 1), (4, 5), (1, 2)])
        [[4, 5], [0, 1, 2]]
    """
    groups: list[set[int]] = []
    for pair in pairs:
        touched = [group for group in groups if group & set(pair)]
        groups = [group for group in groups if group not in touched]
        groups.append(set(pair).union(*touched))
    return [sorted(group) for group in groups]


def _state_of(tracker: Tracker) -> TrackState:
    if tracker.state is None:
        raise NotInitializedError("a tracker has no target yet; call init(frame, box) first")
    return tracker.state
