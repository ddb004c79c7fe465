"""Many targets on one engine; two targets that look alike do not end on one object.

`MultiTracker` runs one `Tracker` per target and the network on the crops of all of them. Where two
targets claim one object, `assign_boxes` assigns the boxes anew. Targets that crossed are told apart
by `crossings`.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import starmap

import numpy as np
from numpy.typing import ArrayLike

from siamtrack.crops import check_frame
from siamtrack.engines.base import Engine, Exemplar, Response, track_each
from siamtrack.errors import ConfigError, InvalidFrameError, NotInitializedError, shown
from siamtrack.geometry import CropMap, iou, keep_in_frame, relative_step
from siamtrack.tracking.crossings import (
    DOUBT_FRAMES,
    HISTORY,
    TOUCH_IOU,
    Crossing,
    exchange_boxes,
    prefers_own_box,
    start_crossing,
)
from siamtrack.tracking.decode import decode_ltrb
from siamtrack.tracking.look_alikes import MOST_LOOK_ALIKES, SharedFrame
from siamtrack.tracking.reading import read_each
from siamtrack.tracking.redetection import SEPARATE_IOU, TimeBudget
from siamtrack.tracking.result import Result
from siamtrack.tracking.tracker import Tracker, TrackState, is_same_shape, rescale_state
from siamtrack.types import Box, FloatArray, Image
from siamtrack.utils.config import plain_number

SAME_OBJECT_IOU = 0.6
"""Boxes that overlap by more lie on one object."""

# Costs are negative logs of probabilities.
_SHARE_COST = math.log(2.0)  # an object in front of another is half as probable
_KEEP_COST = math.log(4.0)  # no response at the last box: a quarter of a certain one
_MOTION_COST = 0.5  # per squared step in target sizes: a normal distribution of one size
_MIN_SCORE = 1e-6
_IMPOSSIBLE = 1e6


@dataclass(frozen=True, slots=True)
class MultiState:
    """Everything a `MultiTracker` remembers, as of one frame; never changed.

    The attributes are those of the tracker.
    """

    trackers: Mapping[int, TrackState]  # by the target's number
    next_target: int
    overlapping_pairs: frozenset[frozenset[int]]
    crossings: Mapping[tuple[int, int], Crossing]
    centers: Mapping[int, tuple[FloatArray, ...]]
    frame_shape: tuple[int, ...]


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
        # Pairs (first < second) that touch or crossed, and the last centers of targets not lost.
        self._crossings: dict[tuple[int, int], Crossing] = {}
        self._centers: dict[int, deque[FloatArray]] = {}
        self._frame_shape: tuple[int, ...] = ()

    @property
    def state(self) -> MultiState:
        """A snapshot for `set_state`, which later frames do not change; it can be pickled."""
        return MultiState(
            {target: _state_of(tracker) for target, tracker in self._trackers.items()},
            self._next,
            frozenset(self._overlapping_pairs),
            dict(self._crossings),
            {target: tuple(centers) for target, centers in self._centers.items()},
            self._frame_shape,
        )

    def set_state(self, state: MultiState) -> None:
        """Continue from an earlier state of this tracker, or of one with the same network.

        Raises:
            ConfigError: not a state, or one of other weights, of another engine or device; the
                targets stay as they were.
        """
        need = "give what `state` of a MultiTracker returned"
        if not isinstance(state, MultiState):
            raise ConfigError(f"state {shown(state)} is not a MultiTracker's; {need}")
        trackers: dict[int, Tracker] = {}
        try:
            for target, one in state.trackers.items():
                trackers[target] = self._make()
                if one is None:
                    raise TypeError(f"target {target} has no state")
                trackers[target].set_state(one)
            named = {*state.centers, *itertools.chain(*state.overlapping_pairs, *state.crossings)}
            numbered = all(0 <= target < state.next_target for target in trackers)
            if not numbered or not named <= trackers.keys():
                raise ValueError("its targets do not fit together")
            centers = {k: deque(v, maxlen=HISTORY) for k, v in state.centers.items()}
            pairs, crossings = set(state.overlapping_pairs), dict(state.crossings)
            frame_shape = tuple(state.frame_shape)
        except ConfigError:
            raise
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigError(
                f"the state is damaged or of another version ({error}); {need}"
            ) from error
        self._trackers, self._next = trackers, state.next_target
        self._overlapping_pairs, self._crossings = pairs, crossings
        self._centers, self._frame_shape = centers, frame_shape

    @property
    def targets(self) -> tuple[int, ...]:
        """Numbers of the targets, in the order in which they were added."""
        return tuple(self._trackers)

    def add(
        self, frame_bgr: Image, box: Sequence[float] | ArrayLike, *, target: int | None = None
    ) -> int:
        """Start on one more target, as `Tracker.init` does, and return its number.

        Numbers that are not the caller's are never reused.

        Args:
            frame_bgr: the frame that the box is on.
            box: x, y, w, h in px.
            target: its number, where the caller has numbers of its own; None for the next one.

        Raises:
            ConfigError: there is a target of that number, or it is no number from 0.
            InvalidFrameError: not a frame, or one of another aspect than those that the other
                targets are tracked in; nothing is added then.
            InvalidBoxError: see `Tracker.init`; nothing is added then.
        """
        number = self._next if target is None else plain_number(target)
        if type(number) is not int or number < 0 or number in self._trackers:
            raise ConfigError(
                f"target {shown(target)} cannot be added; give a number from 0 that no target has"
            )
        frame = check_frame(frame_bgr)
        self._check_shape(
            frame, "add it on a frame of their shape, or reset() and add all of them on this one"
        )
        tracker = self._make()
        first = tracker.init(frame, box)
        target, self._next = number, max(self._next, number + 1)
        self._trackers[target] = tracker
        self._note_overlaps(target, first.box)
        return target

    def reinit(self, target: int, frame_bgr: Image, box: Sequence[float] | ArrayLike) -> Result:
        """Start a target anew under its number, as `Tracker.init` does.

        On a frame of another aspect than the others' it is the first one to go there: the others
        must follow before the next `update`.

        Raises:
            ConfigError: there is no such target.
            InvalidFrameError, InvalidBoxError: see `Tracker.init`; the target stays as it was.
        """
        first = self._tracker(target).init(frame_bgr, box)
        self._forget_motion(target)
        self._note_overlaps(target, first.box)
        return first

    def remove(self, target: int) -> None:
        """Forget a target.

        Raises:
            ConfigError: there is no such target (any more).
        """
        self._tracker(target)
        self._overlapping_pairs = {p for p in self._overlapping_pairs if target not in p}
        self._forget_motion(target)
        del self._trackers[target]

    def reset(self) -> None:
        """Forget all targets and count from 0 again."""
        self._trackers.clear()
        self._overlapping_pairs.clear()
        self._crossings.clear()
        self._centers.clear()
        self._frame_shape = ()
        self._next = 0

    def update(self, frame_bgr: Image) -> dict[int, Result]:
        """Find all targets in the next frame; returns the results by the targets' numbers.

        Raises:
            InvalidFrameError: not a frame, or one of another aspect than a target was tracked in;
                all targets stay as they were.
        """
        if not self._trackers:
            return {}
        with self.budget.frame() if self.budget else nullcontext():
            return self._update(check_frame(frame_bgr))  # checked once for all targets

    def _update(self, frame: Image) -> dict[int, Result]:
        self._check_shape(frame, "give frames of one size, or reinit all targets on this one")
        maps: list[list[CropMap]] = []
        shared = SharedFrame(frame)

        trackers = list(self._trackers.values())

        # 1. Cut the search windows of every target, lazily: the engine may start on the first.
        def jobs() -> Iterator[tuple[Exemplar, Sequence[Image]]]:
            for tracker, others in zip(trackers, _boxes_of_others(trackers), strict=True):
                near = tracker.may_look_near(others)
                crops, crop_maps = tracker.crop_search_windows(frame, shared, near=near)
                maps.append(crop_maps)
                yield tracker.exemplar, crops

        # 2. Run the network. A single target gets all threads.
        engine = trackers[0].engine
        single = len(trackers) == 1
        responses = list(starmap(engine.track, jobs()) if single else track_each(engine, jobs()))

        # 3. Read all responses at once; look again where the filters do not see enough: in the
        #    whole window instead of the near one, then around it, then closer.
        readings = read_each([t.unread(responses[k], maps[k]) for k, t in enumerate(trackers)])
        for tracker, response, reading in zip(trackers, responses, readings, strict=True):
            tracker.take_reading(response, reading)
        whole = [t.crop_whole_window(frame, responses[k], maps[k]) for k, t in enumerate(trackers)]
        for k, response in _track_crops(engine, trackers, whole):
            responses[k], maps[k] = response, whole[k][1]
        for crop_more in (Tracker.crop_second_look, Tracker.crop_third_look):
            more = [crop_more(t, frame, responses[k], maps[k]) for k, t in enumerate(trackers)]
            for k, response in _track_crops(engine, trackers, more):
                responses[k] += response
                maps[k] += more[k][1]

        # 4. Exclude the places of look-alikes to which a box would jump.
        _exclude_look_alikes(engine, trackers, responses, maps)

        # 5. Update every tracker by itself; its filter learns to reject the others' last boxes.
        others = _boxes_of_others(trackers)
        updates = {
            target: update_target(trackers[k], responses[k], maps[k], others[k])
            for k, target in enumerate(self._trackers)
        }

        # 6. Resolve duplicates, then tell targets apart that crossed.
        results = self._resolve_duplicates(updates)
        if frame.shape != self._frame_shape:  # positions are in px of one size
            self._frame_shape = frame.shape
            self._crossings.clear()
            self._centers.clear()
        self._follow_crossings(updates, results)
        return results

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

    def _follow_crossings(
        self, updates: Mapping[int, TargetUpdate], results: dict[int, Result]
    ) -> None:
        """Tell targets apart that crossed, and set their states and `results` to match."""
        # 1. Pairs that begin to touch. Those without centers were lost until now.
        states = {target: _state_of(update.tracker) for target, update in updates.items()}
        boxes = np.array([state.box_xywh for state in states.values()])  # (N, 4)
        numbers, overlaps = list(states), iou(boxes[:, None], boxes[None])  # (N, N)
        for i, j in np.argwhere(np.triu(overlaps > TOUCH_IOU, 1)).tolist():
            one, other = numbers[i], numbers[j]
            apart_before = frozenset((one, other)) not in self._overlapping_pairs
            known = all(self._centers.get(target) for target in (one, other))
            if (one, other) not in self._crossings and apart_before and known:
                self._crossings[one, other] = start_crossing(
                    (updates[one].before, updates[other].before),
                    (self._centers[one], self._centers[other]),
                )

        # 2. Pairs that are apart again.
        for pair in sorted(self._crossings):
            crossing = self._decide_crossing(pair, updates, results)
            if crossing is None:
                del self._crossings[pair]
            else:
                self._crossings[pair] = crossing

        # 3. Remember the centers.
        for target, result in results.items():
            centers = self._centers.setdefault(target, deque(maxlen=HISTORY))
            if result.status == "lost":
                centers.clear()
            else:
                box = _state_of(updates[target].tracker).box_xywh
                centers.append(box[:2] + box[2:] / 2)

    def _decide_crossing(
        self,
        pair: tuple[int, int],
        updates: Mapping[int, TargetUpdate],
        results: dict[int, Result],
    ) -> Crossing | None:
        """Return the crossing one frame later, or None if it is over; see `_follow_crossings`."""
        trackers = self._trackers[pair[0]], self._trackers[pair[1]]
        states = _state_of(trackers[0]), _state_of(trackers[1])
        boxes = states[0].box_xywh, states[1].box_xywh
        overlap = float(iou(*boxes))
        claimed = float(iou(*(updates[target].result.box for target in pair)))
        crossing = self._crossings[pair].step(max(overlap, claimed))
        if overlap > TOUCH_IOU:
            return crossing
        if not crossing.mixed_up:
            return None
        if "lost" in (results[target].status for target in pair):
            return crossing

        # Decide by appearance and motion.
        looks = [
            prefers_own_box(
                before.online_filter, updates[target].response, updates[target].maps[0],
                own, other, trackers[0].engine.config,
            )
            for target, before, own, other in zip(
                pair, crossing.before, boxes, reversed(boxes), strict=True
            )
        ]  # fmt: skip
        crossing = crossing.apart(looks)
        offset = boxes[0][:2] + boxes[0][2:] / 2 - boxes[1][:2] - boxes[1][2:] / 2
        verdict = crossing.verdict(offset)
        if verdict == "same":
            return None
        if verdict == "swapped":
            for tracker, state in zip(
                trackers, exchange_boxes(states, crossing.before), strict=True
            ):
                tracker.set_state(state)
            results[pair[0]], results[pair[1]] = results[pair[1]], results[pair[0]]
            for target in pair:
                self._centers[target].clear()
            return None
        for target in pair:
            results[target] = call_uncertain(self._trackers[target], results[target])
        return crossing if crossing.frames_apart < DOUBT_FRAMES else None

    def _note_overlaps(self, target: int, box: Box) -> None:
        """Note which other targets a new box overlaps; theirs may be of another resolution."""
        frame_wh = _state_of(self._trackers[target]).frame_wh
        for other, tracker in self._trackers.items():
            pair, state = frozenset((target, other)), _state_of(tracker)
            self._overlapping_pairs.discard(pair)
            if other == target or not is_same_shape(frame_wh, state.frame_wh):
                continue
            if iou(box, rescale_state(state, frame_wh).box_xywh) >= SEPARATE_IOU:
                self._overlapping_pairs.add(pair)

    def _check_shape(self, frame: Image, advice: str) -> None:
        """Raise `InvalidFrameError` for a frame of another aspect than a target was tracked in."""
        frame_wh = (frame.shape[1], frame.shape[0])
        for target, tracker in self._trackers.items():
            was_wh = _state_of(tracker).frame_wh
            if frame_wh != was_wh and not is_same_shape(frame_wh, was_wh):
                raise InvalidFrameError(
                    f"frame is {frame_wh[0]}x{frame_wh[1]}, target {target} is tracked in "
                    f"{was_wh[0]}x{was_wh[1]}, which has another shape; {advice}"
                )

    def _forget_motion(self, target: int) -> None:
        """Forget where a target was and what it crossed."""
        self._centers.pop(target, None)
        self._crossings = {pair: c for pair, c in self._crossings.items() if target not in pair}

    def _tracker(self, target: int) -> Tracker:
        target = plain_number(target)
        if not isinstance(target, int) or target not in self._trackers:
            known = ", ".join(map(str, self._trackers)) or "none"
            raise ConfigError(f"target {shown(target)} does not exist; the targets are: {known}")
        return self._trackers[target]


@dataclass(frozen=True, slots=True)
class TargetUpdate:
    """One target's step from a frame to the next, by itself."""

    tracker: Tracker
    before: TrackState
    response: Response  # to the tracker's windows
    maps: Sequence[CropMap]
    others_xywh: FloatArray  # (M, 4) last boxes of the other targets
    after: TrackState
    result: Result

    @property
    def claims_box(self) -> bool:
        """Whether it may be on an object: a lost one is not while its box stays or is a guess."""
        moved = bool((self.after.box_xywh != self.before.box_xywh).any())
        return self.result.status != "lost" or (moved and not self.after.is_guess)

    @property
    def cost(self) -> float:
        """Negative log of the probability of the result, given the target's last box."""
        # Step of the center in target sizes, under a normal distribution.
        step = relative_step(self.before.box_xywh, self.result.box)
        return _MOTION_COST * step**2 - math.log(max(self.result.score, _MIN_SCORE))


def update_target(
    tracker: Tracker,
    response: Response,
    maps: Sequence[CropMap],
    others_xywh: FloatArray,
) -> TargetUpdate:
    """Update a tracker from the response to its windows, and keep both states."""
    before = _state_of(tracker)
    result = tracker.update_from_response(response, maps, others_xywh)
    after = _state_of(tracker)
    return TargetUpdate(tracker, before, response, maps, others_xywh, after, result)


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
    results = {}
    for row, column in enumerate(cheapest_columns(costs)):
        update = updates[group[row]]
        chosen = next((one for number, one in choices[row] if number == column), update)
        if column >= len(objects) + size:
            chosen = _keep_last_box(update)
        update.tracker.set_state(chosen.after)
        results[group[row]] = chosen.result
    return results


def cheapest_columns(costs: FloatArray) -> list[int]:
    """A column for every row, each taken once, with the least total cost.

    `costs` is (N, M), finite, with N <= M. The Hungarian method, one row after the other along the
    shortest augmenting path (Kuhn 1955; Jonker and Volgenant 1987).
    """
    rows, columns = costs.shape
    row_of = [-1] * columns  # the row that has a column, -1 if it is free
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    for new in range(rows):
        # 1. From the new row, visit columns in the order of their reduced path cost.
        path_cost = np.full(columns, np.inf)
        came_from = np.full(columns, -1)  # column before, -1 for the new row itself
        visited = np.zeros(columns, np.bool_)
        row, column, so_far = new, -1, 0.0
        while row >= 0:
            reduced = so_far + costs[row] - row_price[row] - column_price
            shorter = ~visited & (reduced < path_cost)
            path_cost[shorter], came_from[shorter] = reduced[shorter], column
            column = int(np.where(visited, np.inf, path_cost).argmin())
            so_far, row = float(path_cost[column]), row_of[column]
            visited[column] = True

        # 2. Prices under which the path costs nothing.
        row_price[new] += so_far
        for taken in np.flatnonzero(visited & (path_cost < so_far)).tolist():
            row_price[row_of[taken]] += so_far - path_cost[taken]
            column_price[taken] -= so_far - path_cost[taken]

        # 3. Along the path, every row moves on to the next column.
        while column >= 0:
            before = int(came_from[column])
            row_of[column] = new if before < 0 else row_of[before]
            column = before
    column_of = {row: column for column, row in enumerate(row_of)}
    return [column_of[row] for row in range(rows)]


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
    found = update_target(update.tracker, masked, update.maps, update.others_xywh)
    return [] if (iou(found.result.box, taken_xywh) > SEPARATE_IOU).any() else [found]


def _keep_last_box(update: TargetUpdate) -> TargetUpdate:
    """The update that keeps the last box, with a score below `tracked_above` and `lost_below`."""
    options = update.tracker.options
    limit = min(options.lost_below, math.nextafter(options.tracked_above, 0.0))
    score = min(update.result.score, limit)
    status_filter = update.before.status_filter.step(score, options)
    after = replace(update.before, status_filter=status_filter, refused=())
    shown = keep_in_frame(after.box_xywh, after.frame_wh)
    result = Result(tuple(shown.tolist()), score, status_filter.status)
    return replace(update, after=after, result=result)


def call_uncertain(tracker: Tracker, result: Result) -> Result:
    """Lower the score of a result below `tracked_above`, and set the tracker's status to match."""
    state = _state_of(tracker)
    score = min(result.score, math.nextafter(tracker.options.tracked_above, 0.0))
    status_filter = replace(state.status_filter, status="uncertain", high_frames=0)
    tracker.set_state(replace(state, status_filter=status_filter))
    return replace(result, score=score, status="uncertain")


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


def _boxes_of_others(trackers: Sequence[Tracker]) -> list[FloatArray]:
    """For each target the last boxes of the others that are not lost, (M, 4)."""
    states = [_state_of(tracker) for tracker in trackers]
    boxes = np.array([state.box_xywh for state in states])  # (N, 4)
    seen = np.array([state.status_filter.status != "lost" for state in states])
    return [boxes[seen & (np.arange(len(boxes)) != k)] for k in range(len(boxes))]


def _track_crops(
    engine: Engine, trackers: Sequence[Tracker], cut: Sequence[tuple[list[Image], list[CropMap]]]
) -> Iterator[tuple[int, Response]]:
    """Responses of the trackers that crops were cut for, with their places in `trackers`."""
    chosen = [k for k, (crops, _) in enumerate(cut) if crops]
    if chosen:
        jobs = [(trackers[k].exemplar, cut[k][0]) for k in chosen]
        yield from zip(chosen, track_each(engine, jobs), strict=True)


def _exclude_look_alikes(
    engine: Engine,
    trackers: Sequence[Tracker],
    responses: list[Response],
    maps: Sequence[Sequence[CropMap]],
) -> None:
    """Replace the responses in which a box would jump to a look-alike, see `Tracker.search`."""
    jumping = list(range(len(trackers)))
    for _ in range(MOST_LOOK_ALIKES):
        earlier = [
            tracker.crop_earlier_frames(responses[k], maps[k]) if k in jumping else ([], [])
            for k, tracker in enumerate(trackers)
        ]
        jumping = []
        for k, seen in _track_crops(engine, trackers, earlier):
            cleared = trackers[k].without_look_alike(responses[k], maps[k], seen, earlier[k][1])
            if cleared is not responses[k]:
                responses[k] = cleared
                jumping.append(k)


def _state_of(tracker: Tracker) -> TrackState:
    if tracker.state is None:
        raise NotInitializedError("a tracker has no target yet; call init(frame, box) first")
    return tracker.state
