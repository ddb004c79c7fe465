"""Two targets that look alike must not end on one thing.

Targets that were apart and whose boxes now lie on each other are given places by assignment: every
target may have the place that it found, the best one that it sees away from the others, stay where
it was, or, where it came to the other gradually, share the place, for things do pass in front of
each other. A cost tells how improbable each of these is, and the least sum of costs wins (the
assignment problem, Kuhn 1955).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import starmap

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from siamtrack.crops import check_frame
from siamtrack.engines.base import Exemplar, Response, track_each
from siamtrack.errors import ConfigError, NotInitializedError
from siamtrack.geometry import CropMap, centre_distance, iou
from siamtrack.tracking.decode import APART, cell_boxes
from siamtrack.tracking.redetection import Budget
from siamtrack.tracking.result import Result
from siamtrack.tracking.tracker import Tracker, TrackState
from siamtrack.types import FloatArray, Image

SAME_PLACE = 0.6
"""Boxes that overlap by more lie on one thing."""

_SHARING = math.log(2.0)  # a place that has to be shared is half as probable
_STAYING = math.log(4.0)  # a place without a response is a quarter as probable as a certain one
_MOVING = 0.5  # per squared distance in sizes of the target, as if steps of one size were usual
_LEAST_SCORE = 1e-6
_NEVER = 1e6


@dataclass(frozen=True, slots=True)
class Sight:
    """What one target saw in a frame, and what it made of it alone.

    Attributes:
        tracker: of the target, already past the frame.
        before: its state before the frame.
        response: to its windows.
        maps: of its windows.
        after: its state after the frame.
        result: what it says.
    """

    tracker: Tracker
    before: TrackState
    response: Response
    maps: list[CropMap]
    after: TrackState
    result: Result

    @classmethod
    def of(cls, tracker: Tracker, response: Response, maps: list[CropMap]) -> Sight:
        """Let a tracker conclude from what it sees; see `Tracker.conclude`."""
        before = _state_of(tracker)
        result = tracker.conclude(response, maps)
        return cls(tracker, before, response, maps, _state_of(tracker), result)

    @property
    def took(self) -> bool:
        """Whether it claims a place; a lost target that stays where it was does not."""
        return self.result.status != "lost" or self.result.box != tuple(self.before.box_xywh)

    @property
    def cost(self) -> float:
        """Negative log of how probable the result is, coming from where the target was."""
        size = math.sqrt(float(np.prod(self.before.box_xywh[2:])))
        step = float(centre_distance(self.result.box, self.before.box_xywh)) / size
        return _MOVING * step**2 - math.log(max(self.result.score, _LEAST_SCORE))


class Exclusion:
    """Settles what targets claim.

    Targets that lie on each other from the start, because somebody wanted it so, are left alone
    until they have been apart once.
    """

    def __init__(self) -> None:
        self._tied: set[frozenset[int]] = set()

    def begin(self, target: int, box: Sequence[float], others: Mapping[int, FloatArray]) -> None:
        """Take note of a target that starts.

        Args:
            target: its number.
            box: xywh px.
            others: boxes of the other targets.
        """
        self.forget(target)
        self._tied |= {frozenset((target, k)) for k, b in others.items() if iou(box, b) >= APART}

    def forget(self, target: int) -> None:
        """Take note of a target that goes."""
        self._tied = {pair for pair in self._tied if target not in pair}

    def settle(self, sights: Mapping[int, Sight]) -> dict[int, Result]:
        """Results without two targets on one thing; the trackers' states go with them.

        Where no two targets claim one place, these are the results that are given.
        """
        results = {target: sight.result for target, sight in sights.items()}
        if len(sights) < 2:
            return results
        numbers = list(sights)
        overlaps = _overlaps([sight.result.box for sight in sights.values()])
        for pair in list(self._tied):
            i, j = (numbers.index(target) for target in pair)
            if overlaps[i, j] < APART:
                self._tied.remove(pair)
        claims = [
            (numbers[i], numbers[j])
            for i, j in np.argwhere(np.triu(overlaps > SAME_PLACE, 1)).tolist()
            if frozenset((numbers[i], numbers[j])) not in self._tied
        ]
        claims = [(i, j) for i, j in claims if sights[i].took and sights[j].took]
        for group in _groups(claims):
            results |= _assign(group, sights)
        return results


def _assign(group: list[int], sights: Mapping[int, Sight]) -> dict[int, Result]:
    """Give the targets of a group their places, and set their trackers to them."""
    others = [s.result.box for k, s in sights.items() if k not in group and s.took]
    taken = np.array([*others, *(sights[target].result.box for target in group)])
    places: list[tuple[float, ...]] = []
    choices: list[list[tuple[int, Sight]]] = []
    for target in group:
        sight = sights[target]
        found = [sight, *_away(sight, taken)]
        choices.append([(_place(places, one.result.box), one) for one in found])
    size = len(group)
    # One column for every place, one for every target's sharing, one for every target's staying.
    costs = np.full((size, len(places) + 2 * size), _NEVER)
    for row, (target, found_in) in enumerate(zip(group, choices, strict=True)):
        for column, one in found_in:
            costs[row, column] = min(costs[row, column], one.cost)
        if all(_near(sights[target], sights[k]) for k in group):
            costs[row, len(places) + row] = sights[target].cost + _SHARING
        costs[row, len(places) + size + row] = _STAYING
    results = {}
    for row, column in np.transpose(linear_sum_assignment(costs)).tolist():
        sight = sights[group[row]]
        chosen = next((one for place, one in choices[row] if place == column), sight)
        if column >= len(places) + size:
            chosen = _stay(sight)
        sight.tracker.resume(chosen.after)
        results[group[row]] = chosen.result
    return results


def _near(one: Sight, other: Sight) -> bool:
    """Whether two targets were not apart before, so that one may pass in front of the other."""
    return bool(iou(one.before.box_xywh, other.before.box_xywh) >= APART)


def _place(places: list[tuple[float, ...]], box: tuple[float, ...]) -> int:
    """Number of the place that a box is on, a new one if it is on none."""
    for number, place in enumerate(places):
        if iou(place, box) > SAME_PLACE:
            return number
    places.append(box)
    return len(places) - 1


def _away(sight: Sight, taken_xywh: FloatArray) -> list[Sight]:
    """What the target would say if nothing could be on the boxes given; none if nothing is left."""
    logits = sight.response.score_logits.copy()
    lowest = -np.inf if sight.response.ltrb_px is not None else float(logits.min())
    for k, crop_map in enumerate(sight.maps):
        boxes = _cell_boxes(sight, k, crop_map)
        logits[k][(iou(boxes[..., None, :], taken_xywh) > APART).any(axis=-1)] = lowest
    if np.isneginf(logits[0]).all():
        return []
    logits[np.isneginf(logits).all(axis=(1, 2))] = sight.response.score_logits.min()
    sight.tracker.resume(sight.before)
    masked = replace(sight.response, score_logits=logits)
    found = Sight.of(sight.tracker, masked, sight.maps)
    return [] if (iou(found.result.box, taken_xywh) > APART).any() else [found]


def _cell_boxes(sight: Sight, k: int, crop_map: CropMap) -> FloatArray:
    """(R, R, 4) boxes in frame px that the cells of window k stand for."""
    ltrb = sight.before.framing.undone(sight.response[k : k + 1]).ltrb_px
    if ltrb is None:
        half_w, half_h = (sight.before.box_xywh[2:] / crop_map.scale / 2).tolist()
        halves = np.array([half_w, half_h] * 2).reshape(4, 1, 1)
        ltrb = np.tile(halves, sight.response.score_logits.shape[-2:])[None]
    stride_px = sight.tracker.engine.config.total_stride
    return cell_boxes(np.nan_to_num(ltrb[0]), stride_px, crop_map)


def _stay(sight: Sight) -> Sight:
    """The target where it was, in doubt."""
    options = sight.tracker.options
    score = min(sight.result.score, options.lost_below, math.nextafter(options.tracked_above, 0.0))
    presence = sight.before.presence.after(score, options)
    x, y, w, h = sight.before.box_xywh.tolist()
    after = replace(sight.before, presence=presence)
    return replace(sight, after=after, result=Result((x, y, w, h), score, presence.status))


def _overlaps(boxes: Sequence[tuple[float, ...]]) -> FloatArray:
    """(N, N) overlaps of boxes with each other."""
    together = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return iou(together[:, None], together[None])


def _groups(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Numbers that pairs connect, sorted."""
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


class MultiTracker:
    """Follows any number of targets.

    They share the network, and they exclude each other: targets that were apart do not end on one
    thing, however alike they are (see `siamtrack.tracking.exclusion`). Where none claims the place
    of another, the results are those of separate trackers.

    All search crops of a frame go through the network together: in one batch or, in OpenVINO, side
    by side, each as soon as it is cut. Targets may be added, started anew and removed between any
    two frames; numbers are never used twice.
    """

    def __init__(self, make_tracker: Callable[[], Tracker], budget: Budget | None = None) -> None:
        """Make a tracker without targets; `siamtrack.load_multi` is the short way.

        Args:
            make_tracker: returns new trackers, all on one engine and with this budget.
            budget: time for one frame; None for no limit.
        """
        self._make, self.budget = make_tracker, budget
        self._trackers: dict[int, Tracker] = {}
        self._exclusion = Exclusion()
        self._next = 0

    @property
    def targets(self) -> tuple[int, ...]:
        """Numbers of the targets, in the order in which they were added."""
        return tuple(self._trackers)

    def add(self, frame_bgr: Image, box: Sequence[float] | ArrayLike) -> int:
        """Start on one more target.

        Args:
            frame_bgr: see `Tracker.init`.
            box: see `Tracker.init`.

        Returns:
            The target's number.

        Raises:
            InvalidFrameError, InvalidBoxError: see `Tracker.init`; nothing is added then.
        """
        tracker = self._make()
        first = tracker.init(frame_bgr, box)
        target, self._next = self._next, self._next + 1
        self._exclusion.begin(target, first.box, self._boxes())
        self._trackers[target] = tracker
        return target

    def reinit(self, target: int, frame_bgr: Image, box: Sequence[float] | ArrayLike) -> Result:
        """Start a target anew under its number.

        Raises:
            ConfigError: there is no such target.
            InvalidFrameError, InvalidBoxError: see `Tracker.init`; the target stays as it was.
        """
        first = self._tracker(target).init(frame_bgr, box)
        others = {number: b for number, b in self._boxes().items() if number != target}
        self._exclusion.begin(target, first.box, others)
        return first

    def remove(self, target: int) -> None:
        """Forget a target.

        Raises:
            ConfigError: there is no such target (any more).
        """
        self._tracker(target)
        self._exclusion.forget(target)
        del self._trackers[target]

    def reset(self) -> None:
        """Forget all targets and count from 0 again."""
        self._trackers.clear()
        self._exclusion = Exclusion()
        self._next = 0

    def update(self, frame_bgr: Image) -> dict[int, Result]:
        """Find all targets in the next frame.

        Returns:
            A result for every target, by its number; empty without targets.

        Raises:
            InvalidFrameError: see `Tracker.update`.
        """
        if not self._trackers:
            return {}
        with self.budget.frame() if self.budget else nullcontext():
            return self._update(frame_bgr)

    def _update(self, frame_bgr: Image) -> dict[int, Result]:
        frame = check_frame(frame_bgr)  # here, so that a grey frame is converted only once
        maps: list[list[CropMap]] = []

        def looks() -> Iterator[tuple[Exemplar, Sequence[Image]]]:
            for tracker in self._trackers.values():
                crops, own = tracker.look(frame)
                maps.append(own)
                yield tracker.exemplar, crops

        engine = next(iter(self._trackers.values())).engine
        sights: dict[int, Sight] = {}
        alone = len(self._trackers) == 1  # then all threads work on its crop
        responses = starmap(engine.track, looks()) if alone else track_each(engine, looks())
        for k, (response, target) in enumerate(zip(responses, self._trackers, strict=True)):
            sights[target] = Sight.of(self._trackers[target], response, maps[k])
        return self._exclusion.settle(sights)

    def _boxes(self) -> dict[int, FloatArray]:
        """Where the targets were last, xywh px."""
        states = {target: tracker.state for target, tracker in self._trackers.items()}
        return {target: state.box_xywh for target, state in states.items() if state is not None}

    def _tracker(self, target: int) -> Tracker:
        if target not in self._trackers:
            known = ", ".join(map(str, self._trackers)) or "none"
            raise ConfigError(f"target {target} does not exist; the targets are: {known}")
        return self._trackers[target]
