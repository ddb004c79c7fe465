"""The track of one target: key frames drawn by a person, runs of the tracker between them.

`resolve` is the one definition of which box a target has in a frame. It is a pure function of key
frames, runs and picks; no run ever changes a key frame.

- In a frame with a key frame: its box. After one that says "outside", none up to the next one.
- Between two key frames a < b that both have a run: their blend, see `resolve`; with one run, it.
- After the last key frame its forward run, before the first one its backward run.
- Where a person picked a run or the straight line: that.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from siamtrack.geometry import iou
from siamtrack.tracking.result import Result, Status
from siamtrack.types import BoolArray, Box, FloatArray

Choice = Literal["forward", "backward", "blend", "line"]

NOTHING, TRACKED, UNCERTAIN, LOST = range(4)
"""Status of a row; 0 where the target has no box."""
STATUSES: dict[Status, int] = {"tracked": TRACKED, "uncertain": UNCERTAIN, "lost": LOST}

NO_SOURCE, KEY, FORWARD, BACKWARD, BLEND, LINE, OUTSIDE, STALE = range(8)
"""What a row is from. `STALE`: a run whose key frame has another box now, or is gone."""

AGREEING_IOU = 0.5
"""Two boxes that overlap by this much are on the same object: they may be averaged, and a run that
arrives so at the next key frame has followed the target. Raising it averages less and marks more
frames to check."""
CHECK_THRESHOLD = 0.5
"""Rows whose score, or agreement of the two directions, is below this are to be checked."""
_MIN_WEIGHT = 1e-6
_PART = 50_000
"""Frames that are resolved at once; 20 MB."""

ROW = np.dtype([("frame", "<i4"), ("box", "<f8", 4), ("score", "<f8"), ("status", "u1")])
"""One frame of a run; `box` is x, y, w, h in px."""

Rows: TypeAlias = NDArray[Any]
"""(N,) of `ROW`."""


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """What a person says of a target in one frame.

    Attributes:
        box: x, y, w, h in px; None where the target is outside.
        occluded: partly hidden, up to the next key frame.
        by: "hand", or "import" for boxes from a file.
    """

    box: Box | None
    occluded: bool = False
    by: Literal["hand", "import"] = "hand"

    @property
    def outside(self) -> bool:
        """Whether the target is absent up to the next key frame."""
        return self.box is None


@dataclass(frozen=True, slots=True, eq=False)
class TrackingRun:
    """What the tracker found from one key frame on; never changed.

    Attributes:
        frame: of the key frame.
        box: the one it started with.
        direction: 1 or -1.
        rows: of the frames tracked, in their order, without that of the key frame.
        stale: it was tracked in another clip, and holds no more.
    """

    frame: int
    box: Box
    direction: Literal[1, -1]
    rows: Rows
    stale: bool = False

    @property
    def last(self) -> int:
        """The frame it went to; that of the key frame for a run without rows."""
        return int(self.rows["frame"][-1]) if len(self.rows) else self.frame


class RunStart(Protocol):
    """What is known of a run without its rows, as in `TrackingRun`."""

    @property
    def frame(self) -> int:
        """Of the key frame."""

    @property
    def box(self) -> Box:
        """Of the key frame as it was then."""

    @property
    def stale(self) -> bool:
        """Whether it was tracked in another clip."""


@dataclass(frozen=True, slots=True)
class Pick:
    """What a person chose for the frames `first` to `last`."""

    first: int
    last: int
    choice: Choice


@dataclass(frozen=True, slots=True)
class TargetTrack:
    """All that is known of where one target is.

    Attributes:
        keys: key frames by frame.
        runs: oldest first.
        picks: they do not overlap.
    """

    keys: Mapping[int, KeyFrame] = field(default_factory=dict)
    runs: Sequence[TrackingRun] = ()
    picks: Sequence[Pick] = ()

    def is_valid(self, run: RunStart) -> bool:
        """Whether the key frame of a run still has exactly the box that it started with."""
        key = self.keys.get(run.frame)
        return key is not None and key.box == run.box and not run.stale


@dataclass(frozen=True, slots=True, eq=False)
class ResolvedRows:
    """Where a target is in the frames `first`, `first` + 1, ...

    Attributes:
        first: number of the first frame.
        boxes: (N, 4) x, y, w, h in px; NaN where there is none.
        scores: (N,) in [0, 1]; NaN where there is no box.
        agreements: (N,) overlap of the forward and the backward run; NaN where there are not both.
        statuses, sources: (N,) see `TRACKED` and `FORWARD`.
        checks: (N,) a person should look.
        occluded: (N,) a person said so.
        picked: (N,) a person picked or accepted the source.
    """

    first: int
    boxes: FloatArray
    scores: FloatArray
    agreements: FloatArray
    statuses: NDArray[np.uint8]
    sources: NDArray[np.uint8]
    checks: BoolArray
    occluded: BoolArray
    picked: BoolArray

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def present(self) -> BoolArray:
        """(N,) where the target has a box that may be exported, lost ones included."""
        return cast("BoolArray", (self.statuses > NOTHING) & (self.sources != STALE))

    def results(self) -> dict[int, Result]:
        """What is exported, by frame."""
        names = {code: name for name, code in STATUSES.items()}
        found: dict[int, Result] = {}
        for k in np.flatnonzero(self.present).tolist():
            x, y, w, h = self.boxes[k].tolist()
            score, status = float(self.scores[k]), names[int(self.statuses[k])]
            found[self.first + k] = Result((x, y, w, h), score, status)
        return found


@dataclass(frozen=True, slots=True)
class CheckStretch:
    """Frames `first` to `last` that a person should look at, and the worst of them."""

    first: int
    last: int
    frame: int
    value: float


# --- Resolving -----------------------------------------------------------------------------------


def resolve(
    track: TargetTrack, first: int, last: int, threshold: float = CHECK_THRESHOLD
) -> ResolvedRows:
    """Find where a target is in the frames `first` to `last`.

    Between key frames a and b that both have a run, with t from 0 at a to 1 at b:

    1. The agreement is the IoU of the two runs F and B as they are.
    2. A run that arrives at the other key frame with an IoU of at least `AGREEING_IOU` followed
       the target; what it is off there is taken off it linearly ("rubber band").
    3. Weights are score^2 (1 - t) for F and score^2 t for B. Where the two agree, their mean; else
       the one of larger weight: never the mean of two different things.
    4. The score is the better one, lowered by the share of agreement that is missing.
    """
    count = last - first + 1
    out = ResolvedRows(
        first,
        np.full((count, 4), np.nan),
        np.full(count, np.nan),
        np.full(count, np.nan),
        np.zeros(count, np.uint8),
        np.zeros(count, np.uint8),
        np.zeros(count, bool),
        np.zeros(count, bool),
        np.zeros(count, bool),
    )
    frames = sorted(track.keys)
    bounds: list[int | None] = [None, *frames, None]
    for before, after in pairwise(bounds[bisect_right(frames, first) :]):
        if before is not None and before > last:
            break
        if before is not None and before >= first:
            _place_key(out, before, track.keys[before])
        gap = _Gap.of(track, before, after, first, last)
        for part in gap.parts() if gap is not None else ():
            part.write(out, threshold)
    return out


def stretches_to_check(rows: ResolvedRows) -> list[CheckStretch]:
    """Frames to check, joined where they follow each other without a key frame between them."""
    at = np.flatnonzero(rows.checks)
    if not len(at):
        return []
    values = np.fmin(rows.scores, rows.agreements)
    found = []
    for part in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1):
        worst = int(part[np.argmin(values[part])])
        ends = rows.first + int(part[0]), rows.first + int(part[-1])
        found.append(CheckStretch(*ends, rows.first + worst, float(values[worst])))
    return found


def candidates(track: TargetTrack, first: int, last: int) -> dict[Choice, ResolvedRows]:
    """What can be picked in the frames `first` to `last`: both runs and the straight line.

    The runs are those that are blended, after the rubber band; nothing where there is none.
    """
    choices: tuple[Choice, ...] = ("forward", "backward", "line")
    picks = {choice: [Pick(first, last, choice)] for choice in choices}
    found: dict[Choice, ResolvedRows] = {}
    for choice, wanted in picks.items():
        rows = resolve(TargetTrack(track.keys, track.runs, wanted), first, last)
        rows.boxes[~rows.picked], rows.scores[~rows.picked] = np.nan, np.nan
        found[choice] = rows
    return found


def fill_steps(run: TrackingRun) -> TrackingRun:
    """A run over every n-th frame with straight lines between them: a row for every frame."""
    rows, start = run.rows, np.zeros(1, ROW)
    start["frame"], start["box"], start["score"], start["status"] = run.frame, run.box, 1, TRACKED
    known = np.concatenate([start, rows])
    along = (known["frame"] - run.frame) * run.direction  # 0, n, 2n, ...
    if not len(rows) or along[-1] == len(rows):
        return run
    every = np.arange(1, along[-1] + 1)
    filled = np.zeros(len(every), ROW)
    filled["frame"] = run.frame + run.direction * every
    for k in range(4):
        filled["box"][:, k] = np.interp(every, along, known["box"][:, k])
    filled["score"] = np.interp(every, along, known["score"])
    after = np.searchsorted(along, every)
    before = np.searchsorted(along, every, side="right") - 1
    filled["status"] = np.maximum(known["status"][before], known["status"][after])
    return TrackingRun(run.frame, run.box, run.direction, filled, run.stale)


def _place_key(out: ResolvedRows, frame: int, key: KeyFrame) -> None:
    k = frame - out.first
    out.sources[k] = KEY
    out.occluded[k] = key.occluded
    if key.box is not None:
        out.boxes[k], out.scores[k], out.statuses[k] = key.box, 1.0, TRACKED


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """A run in the frames of a gap: NaN and 0 where it has none."""

    boxes: FloatArray
    scores: FloatArray
    statuses: NDArray[np.uint8]

    @property
    def known(self) -> BoolArray:
        return self.statuses > NOTHING


@dataclass(frozen=True, slots=True, eq=False)
class _Gap:
    """The frames `low` to `high` of those between the key frames `before` and `after`."""

    track: TargetTrack
    before: int | None
    after: int | None
    low: int
    high: int

    @classmethod
    def of(
        cls, track: TargetTrack, before: int | None, after: int | None, first: int, last: int
    ) -> _Gap | None:
        """The part of a gap in `first` to `last`; None where there is none."""
        low = first if before is None else max(first, before + 1)
        high = last if after is None else min(last, after - 1)
        return cls(track, before, after, low, high) if low <= high else None

    def parts(self) -> Iterator[_Gap]:
        """The gap in parts: a frame does not depend on the others, and columns need room."""
        for low in range(self.low, self.high + 1, _PART):
            yield replace(self, low=low, high=min(low + _PART - 1, self.high))

    def write(self, out: ResolvedRows, threshold: float) -> None:
        """Resolve the gap into its part of the rows."""
        part = slice(self.low - out.first, self.high - out.first + 1)
        start = None if self.before is None else self.track.keys[self.before]
        if start is not None:
            out.occluded[part] = start.occluded
            if start.outside:
                out.sources[part] = OUTSIDE
                return

        # 1. The runs of both key frames.
        forward = self._columns(self.before, 1)
        backward = self._columns(self.after, -1)
        both = forward.known & backward.known
        agreements = np.full(len(both), np.nan)
        agreements[both] = iou(forward.boxes[both], backward.boxes[both])
        out.agreements[part] = agreements

        # 2. Where there are both: rubber band, then the blend. Else the one there is.
        if both.any():
            forward = self._stretch(forward, self.before, self.after, both)
            backward = self._stretch(backward, self.after, self.before, both)
        source = np.select(
            [both, forward.known, backward.known], [BLEND, FORWARD, BACKWARD], NO_SOURCE
        ).astype(np.uint8)

        # 3. What a person picked comes before it.
        line = self._line()
        picked = np.zeros(len(both), bool)
        for pick in self.track.picks:
            chosen = np.zeros(len(both), bool)
            chosen[max(0, pick.first - self.low) : max(0, pick.last - self.low + 1)] = True
            codes = {"forward": FORWARD, "backward": BACKWARD, "blend": BLEND, "line": LINE}
            there = {
                "forward": forward.known,
                "backward": backward.known,
                "blend": both,
                "line": line.known,
            }
            chosen &= there[pick.choice]
            source[chosen], picked[chosen] = codes[pick.choice], True
        out.picked[part] = picked

        # 4. The boxes.
        blend = self._blend(forward, backward, agreements)
        stale = self._stale()
        source[(source == NO_SOURCE) & stale.known] = STALE
        columns = {FORWARD: forward, BACKWARD: backward, BLEND: blend, LINE: line, STALE: stale}
        for code, known in columns.items():
            where = source == code
            out.boxes[part][where] = known.boxes[where]
            out.scores[part][where] = known.scores[where]
            out.statuses[part][where] = known.statuses[where]
        out.sources[part] = source

        # 5. What a person should look at.
        worst = np.fmin(out.scores[part], agreements)
        doubtful = np.isin(source, (FORWARD, BACKWARD, BLEND)) & ~picked
        out.checks[part] = doubtful & (worst < threshold)

    def _empty(self) -> _Columns:
        count = self.high - self.low + 1
        return _Columns(
            np.full((count, 4), np.nan), np.full(count, np.nan), np.zeros(count, np.uint8)
        )

    def _columns(self, frame: int | None, direction: int) -> _Columns:
        """The valid runs of a key frame in one direction, the newest where there are several."""
        columns = self._empty()
        for run in self.track.runs:
            if (run.frame, run.direction) == (frame, direction) and self.track.is_valid(run):
                _place_run(columns, run, self.low)
        return columns

    def _stale(self) -> _Columns:
        """Runs whose key frame changed."""
        columns = self._empty()
        for run in self.track.runs:
            if not self.track.is_valid(run):
                _place_run(columns, run, self.low)
        return columns

    def _stretch(
        self, columns: _Columns, start: int | None, end: int | None, both: BoolArray
    ) -> _Columns:
        """Take off a run what it is off at the key frame it leads to, if it arrived there."""
        if start is None or end is None:
            return columns
        target = self.track.keys[end].box
        direction = 1 if end > start else -1
        arrived = _Gap(self.track, start, end, end, end)._columns(start, direction)
        if target is None or not arrived.known[0] or iou(arrived.boxes[0], target) < AGREEING_IOU:
            return columns
        share = (np.arange(self.low, self.high + 1) - start) / (end - start)
        boxes = columns.boxes.copy()
        off = np.array(target) - arrived.boxes[0]
        boxes[both] += share[both, None] * off
        return _Columns(boxes, columns.scores, columns.statuses)

    def _line(self) -> _Columns:
        """The straight line between the two key frames, where both have a box."""
        columns = self._empty()
        if self.before is None or self.after is None:
            return columns
        start, end = self.track.keys[self.before].box, self.track.keys[self.after].box
        if start is None or end is None:
            return columns
        frames = np.arange(self.low, self.high + 1)
        share = ((frames - self.before) / (self.after - self.before))[:, None]
        columns.boxes[:] = (1 - share) * np.array(start) + share * np.array(end)
        columns.scores[:], columns.statuses[:] = 1.0, TRACKED
        return columns

    def _blend(self, forward: _Columns, backward: _Columns, agreements: FloatArray) -> _Columns:
        if self.before is None or self.after is None:
            return self._empty()
        frames = np.arange(self.low, self.high + 1)
        t = (frames - self.before) / (self.after - self.before)
        ahead, back = forward.scores**2 * (1 - t), backward.scores**2 * t
        weight = (ahead + _MIN_WEIGHT) / (ahead + back + 2 * _MIN_WEIGHT)
        agree, first = agreements >= AGREEING_IOU, weight >= 0.5
        mean = weight[:, None] * forward.boxes + (1 - weight)[:, None] * backward.boxes
        one = np.where(first[:, None], forward.boxes, backward.boxes)
        boxes = np.where(agree[:, None], mean, one)
        better = np.minimum(forward.statuses, backward.statuses)
        status = np.where(agree, better, np.where(first, forward.statuses, backward.statuses))
        score = np.maximum(forward.scores, backward.scores)
        score = score * np.where(agree, 1.0, agreements / AGREEING_IOU)
        return _Columns(boxes, score, status.astype(np.uint8))


def _place_run(columns: _Columns, run: TrackingRun, low: int) -> None:
    """Write the rows of a run into columns that begin at frame `low`."""
    if not len(run.rows):
        return
    count, at = len(columns.scores), run.rows["frame"] - low
    rows = run.rows[(at >= 0) & (at < count)]
    at = rows["frame"] - low
    columns.boxes[at], columns.scores[at] = rows["box"], rows["score"]
    columns.statuses[at] = rows["status"]
