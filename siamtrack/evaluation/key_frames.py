"""What a key frame is worth: how many boxes a person must draw for every frame to be right.

The person is simulated: drawn boxes are the truth (or off by a share of their sides), and one more
is drawn until every frame that shows the target has an overlap of at least 0.5 with it. Frames are
filled by `siamtrack.tracking.track.resolve`, as the studio fills them. Marking where the target is
absent costs the same in every way of working and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from siamtrack.data.sequence import VideoSequence
from siamtrack.evaluation.calibration import GOOD_OVERLAP
from siamtrack.geometry import iou
from siamtrack.tracking.result import Result
from siamtrack.tracking.track import (
    CHECK_THRESHOLD,
    ROW,
    STATUSES,
    Choice,
    KeyFrame,
    Pick,
    ResolvedRows,
    TargetTrack,
    TrackingRun,
    candidates,
    resolve,
)
from siamtrack.tracking.tracker import Tracker, TrackState
from siamtrack.types import BoolArray, Box, FloatArray, IntArray

MIN_SIDE_PX = 2.0
DRAW_MODES = (
    "straight lines, best choice",
    "straight lines, worst frame next",
    "forward, where it first fails",
    "blended, first bad frame next",
    "blended, middle of the longest bad stretch",
    "blended, worst frame next",
    "blended, a run picked where it is right",
)
FILL_MODES = ("straight line", "forward only", "backward only", "blended")


@dataclass(frozen=True, slots=True)
class KeyFrameFigures:
    """Figures of sequences.

    Attributes:
        frames: that show their target.
        boxes: drawn, for each of `DRAW_MODES`.
        picks: key presses of the last mode.
        overlaps: for each of `FILL_MODES`, mean overlap of each sequence and share of its frames
            that are right, between key frames at equal distances.
        checked, bad, found: frames marked to be checked in the last of these modes, frames that are
            not right, and frames that are both; out of `between`.
        updates: of the tracker.
    """

    frames: int = 0
    boxes: tuple[int, ...] = (0,) * len(DRAW_MODES)
    picks: int = 0
    overlaps: tuple[tuple[tuple[float, float], ...], ...] = ((),) * len(FILL_MODES)
    between: int = 0
    checked: int = 0
    bad: int = 0
    found: int = 0
    updates: int = 0

    def __add__(self, other: KeyFrameFigures) -> KeyFrameFigures:
        return KeyFrameFigures(
            self.frames + other.frames,
            tuple(a + b for a, b in zip(self.boxes, other.boxes, strict=True)),
            self.picks + other.picks,
            tuple(a + b for a, b in zip(self.overlaps, other.overlaps, strict=True)),
            self.between + other.between,
            self.checked + other.checked,
            self.bad + other.bad,
            self.found + other.found,
            self.updates + other.updates,
        )

    def summary_lines(self, every: int) -> list[str]:
        """Both tables as text."""
        lines = [f"{self.frames} frames in view; boxes to draw, and per 1,000 frames:"]
        for mode, boxes in zip(DRAW_MODES, self.boxes, strict=True):
            if boxes:
                picks = f" (and {self.picks} picks)" if mode == DRAW_MODES[-1] else ""
                rate = 1000 * boxes / max(1, self.frames)
                lines.append(f"  {mode:44s} {boxes:5d} {rate:7.1f}{picks}")
        lines.append(
            f"a key frame every {every}; mean overlap between them, share of frames that are right:"
        )
        for mode, values in zip(FILL_MODES, self.overlaps, strict=True):
            if values:
                overlap, good = np.mean(values, axis=0)
                lines.append(f"  {mode:44s} {overlap:.4f} {good:.4f}")
        if self.between:
            share = 100 * self.checked / self.between
            caught = 100 * self.found / max(1, self.bad)
            lines.append(
                f"  to check: {share:.1f} % of the frames, with {caught:.0f} % of the "
                f"{self.bad} that are not right"
            )
        return [*lines, f"{self.updates} updates of the tracker"]


def measure_key_frames(
    tracker: Tracker,
    sequences: Iterable[VideoSequence],
    *,
    every: int = 50,
    jitter: float = 0.0,
    counts_boxes: bool = True,
    on_sequence: Callable[[str, KeyFrameFigures], object] = lambda name, figures: None,
) -> KeyFrameFigures:
    """Figures of all sequences with truth.

    Args:
        tracker: that fills frames.
        sequences: with truth; those that never show their target are left out.
        every: distance of key frames in the second table.
        jitter: how far drawn corners are off, as a share of the sides.
        counts_boxes: also make the first table, which takes most of the time.
        on_sequence: called with the name and the figures of each.
    """
    total = KeyFrameFigures()
    for sequence in sequences:
        if not sequence.visible.any():
            continue
        person = _Person(sequence, tracker, jitter)
        boxes, picks = person.count_boxes() if counts_boxes else ((0,) * len(DRAW_MODES), 0)
        filled = person.fill_every(every)
        figures = KeyFrameFigures(
            int(sequence.visible.sum()), boxes, picks, *filled, updates=person.updates
        )
        on_sequence(sequence.name, figures)
        total += figures
    return total


class _Person:
    """Works on one sequence, with all runs that were made so far."""

    def __init__(self, sequence: VideoSequence, tracker: Tracker, jitter: float) -> None:
        self._sequence, self._tracker = sequence, tracker
        self.updates = 0
        self._images = list(sequence.iter_frames())
        self.truth, self.seen = sequence.boxes, sequence.visible
        off = np.random.default_rng(7).uniform(-jitter, jitter, self.truth.shape)
        off *= self.truth[:, [2, 3, 2, 3]]
        self.drawn = self.truth.copy()
        self.drawn[:, :2] += off[:, :2]
        self.drawn[:, 2:] = np.maximum(MIN_SIDE_PX, self.drawn[:, 2:] + off[:, 2:] - off[:, :2])
        self._results: dict[tuple[int, int], list[Result]] = {}
        self._states: dict[tuple[int, int], TrackState | None] = {}

    @property
    def first(self) -> int:
        """The first frame that shows the target."""
        return int(np.argmax(self.seen))

    # -- Filling frames

    def box(self, frame: int) -> Box:
        """The box that is drawn in a frame."""
        x, y, w, h = self.drawn[frame].tolist()
        return x, y, w, h

    def run(self, frame: int, until: int) -> TrackingRun:
        """The run from a key frame to another frame; continued where it was made before."""
        direction = 1 if until > frame else -1
        key, tracker = (frame, direction), self._tracker
        count = abs(until - frame)
        results = self._results.setdefault(key, [])
        if len(results) < count:
            if results:
                tracker.set_state(self._states[key])
            else:
                tracker.init(self._images[frame], self.box(frame))
            while len(results) < count:
                at = frame + direction * (len(results) + 1)
                results.append(tracker.update(self._images[at]))
                self.updates += 1
            self._states[key] = tracker.state
        rows = np.zeros(count, ROW)
        rows["frame"] = frame + direction * (1 + np.arange(count))
        if count:
            rows["box"] = [result.box for result in results[:count]]
            rows["score"] = [result.score for result in results[:count]]
            rows["status"] = [STATUSES[result.status] for result in results[:count]]
        return TrackingRun(frame, self.box(frame), 1 if direction > 0 else -1, rows)

    def track(
        self, keys: Sequence[int], directions: Sequence[int] = (1, -1), picks: Sequence[Pick] = ()
    ) -> TargetTrack:
        """Key frames with the runs between them, and the forward run of the last one."""
        runs: list[TrackingRun] = []
        for before, after in pairwise(keys):
            runs += [self.run(before, after)] if 1 in directions else []
            runs += [self.run(after, before)] if -1 in directions else []
        last = len(self.seen) - 1
        if keys[-1] < last and directions:
            runs.append(self.run(keys[-1], last))
        return TargetTrack({k: KeyFrame(self.box(k)) for k in keys}, runs, picks)

    def fill(self, track: TargetTrack) -> tuple[ResolvedRows, FloatArray]:
        """Rows of all frames and their overlaps; 1 where nothing is asked for."""
        rows = resolve(track, 0, len(self.seen) - 1)
        boxes = rows.boxes.copy()
        last = max(track.keys)
        if not track.runs:  # a line ends at the last key frame, whose box stays
            boxes[last:] = boxes[last]
        overlaps = np.nan_to_num(iou(boxes, self.truth))
        overlaps[~self.seen] = 1.0
        overlaps[list(track.keys)] = 1.0
        return rows, overlaps

    def _lines(self, keys: Sequence[int]) -> TargetTrack:
        return self.track(keys, (), [Pick(0, len(self.seen), "line")])

    # -- Drawing until all is right

    def count_boxes(self) -> tuple[tuple[int, ...], int]:
        """Boxes drawn in each of `DRAW_MODES`, and picks of the last one."""
        ends = sorted({self.first, int(np.flatnonzero(self.seen)[-1])})
        picked, picks = self._pick()
        counts = (
            self._best_lines(),
            len(self._grow(ends, self._lines, _worst)),
            self._forward(),
            len(self._grow([self.first], self.track, _first)),
            len(self._grow([self.first], self.track, _middle)),
            len(self._grow([self.first], self.track, _worst)),
            picked,
        )
        return counts, picks

    def _grow(
        self,
        keys: list[int],
        fill: Callable[[list[int]], TargetTrack],
        choose: Callable[[FloatArray, IntArray], int],
    ) -> list[int]:
        """Draw one box after another until every frame is right."""
        while True:
            _, overlaps = self.fill(fill(keys))
            bad = np.flatnonzero(overlaps < GOOD_OVERLAP)
            if not len(bad):
                return keys
            keys = sorted({*keys, choose(overlaps, bad)})

    def _forward(self) -> int:
        """Track forward, and draw a box in the first frame that is not right."""
        key, count, last = self.first, 1, len(self.seen) - 1
        until = key
        while until < last:
            until = min(last, until + 25)
            rows = self.run(key, until).rows
            truth, seen = self.truth[key + 1 : until + 1], self.seen[key + 1 : until + 1]
            bad = np.flatnonzero(seen & ~(iou(rows["box"], truth) >= GOOD_OVERLAP))
            if len(bad):
                key = until = key + 1 + int(bad[0])
                count += 1
        return count

    def _best_lines(self) -> int:
        """Fewest key frames between which straight lines are right: no person can do better."""
        frames = np.flatnonzero(self.seen).tolist()
        needed = {frames[0]: 1}
        for k, end in enumerate(frames[1:], 1):
            needed[end] = 1 + min(
                needed[start] for start in frames[:k] if self._is_line_right(start, end)
            )
        return needed[frames[-1]]

    def _is_line_right(self, start: int, end: int) -> bool:
        share = np.linspace(0, 1, end - start + 1)[1:-1, None]
        line = (1 - share) * self.drawn[start] + share * self.drawn[end]
        seen = self.seen[start + 1 : end]
        overlaps = iou(line[seen], self.truth[start + 1 : end][seen])
        return bool((overlaps >= GOOD_OVERLAP).all())

    def _pick(self) -> tuple[int, int]:
        """Walk to the first bad stretch; pick a run that is right all through it, or draw a box."""
        keys, count = [self.first], 0
        picks: list[Pick] = []
        while True:
            track = self.track(keys, picks=picks)
            _, overlaps = self.fill(track)
            bad = np.flatnonzero(overlaps < GOOD_OVERLAP)
            if not len(bad):
                return len(keys), count
            part = _stretches(bad)[0]
            later = [key for key in keys if key > part[0]]
            if later:
                part = part[part < later[0]]
                choice = self._right_run(track, part)
                if choice is not None:
                    picks.append(Pick(int(part[0]), int(part[-1]), choice))
                    count += 1
                    continue
            # After the last key frame the first bad frame, between two the middle of the stretch.
            frame = int(part[len(part) // 2] if later else part[0])
            before = max(key for key in keys if key < frame)
            after = later[0] if later else len(self.seen)
            picks = [pick for pick in picks if not before < pick.first < after]
            keys = sorted({*keys, frame})

    def _right_run(self, track: TargetTrack, part: IntArray) -> Choice | None:
        found = candidates(track, int(part[0]), int(part[-1]))
        choices: tuple[Choice, ...] = ("forward", "backward")
        for choice in choices:
            overlaps = iou(found[choice].boxes, self.truth[part[0] : part[-1] + 1])
            if (np.nan_to_num(overlaps) >= GOOD_OVERLAP).all():
                return choice
        return None

    # -- A key frame every N frames

    def fill_every(
        self, every: int
    ) -> tuple[tuple[tuple[tuple[float, float], ...], ...], int, int, int, int]:
        """`overlaps`, `between`, `checked`, `bad` and `found` of `KeyFrameFigures`."""
        seen = np.flatnonzero(self.seen)
        wanted = [*range(int(seen[0]), len(self.seen), every), len(self.seen) - 1]
        keys = sorted({int(seen[np.argmin(np.abs(seen - frame))]) for frame in wanted})
        between: BoolArray = self.seen.copy()
        between[keys] = False
        if not between.any():
            return ((),) * len(FILL_MODES), 0, 0, 0, 0
        values: list[tuple[tuple[float, float], ...]] = []
        for track in (
            self._lines(keys),
            self.track(keys, (1,)),
            self.track(keys, (-1,)),
            self.track(keys),
        ):
            rows, overlaps = self.fill(track)
            good = overlaps[between] >= GOOD_OVERLAP
            values.append(((float(overlaps[between].mean()), float(good.mean())),))
        checked = np.fmin(rows.scores, rows.agreements)[between] < CHECK_THRESHOLD
        counts = int(between.sum()), int(checked.sum()), int((~good).sum())
        return tuple(values), *counts, int((checked & ~good).sum())


def _stretches(frames: IntArray) -> list[IntArray]:
    return np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)


def _first(overlaps: FloatArray, bad: IntArray) -> int:
    return int(bad[0])


def _middle(overlaps: FloatArray, bad: IntArray) -> int:
    longest = max(_stretches(bad), key=len)
    return int(longest[len(longest) // 2])


def _worst(overlaps: FloatArray, bad: IntArray) -> int:
    return int(bad[np.argmin(overlaps[bad])])
