"""What a person can do to the targets of one clip.

An operation becomes a list of edits of the `ProjectState`, and those that set everything back.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias, cast, get_args

import numpy as np

from siamtrack.data.project_state import (
    COLORS,
    MAX_TEXT,
    Edit,
    ProjectState,
    RunInfo,
    TargetInfo,
    apply_edits,
    cut_run,
    key_to_json,
    picks_to_json,
    track_of,
)
from siamtrack.errors import SiamTrackError, shown
from siamtrack.tracking.track import (
    BACKWARD,
    BLEND,
    FORWARD,
    LINE,
    ROW,
    Choice,
    KeyFrame,
    Pick,
    ResolvedRows,
    Rows,
    TargetTrack,
    TrackingRun,
    resolve,
)
from siamtrack.types import Box

MIN_SIDE_PX = 2.0
BOX_DIGITS = 2
MAX_LABELS = 1000
RUNS_BYTES = 64 << 20
"""Rows of runs that are kept in memory, of four hours; others are read from their files again."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_FLAGS = ("hidden", "locked")
_SOURCE_OF: dict[int, Choice] = {
    FORWARD: "forward",
    BACKWARD: "backward",
    BLEND: "blend",
    LINE: "line",
}


class RefusedError(SiamTrackError, ValueError):
    """An operation that makes no sense as things are."""


class MalformedError(SiamTrackError, ValueError):
    """A request with a part missing, unknown or of the wrong type."""


class UnknownNumberError(SiamTrackError, LookupError):
    """There is no target, frame, job or export of that number."""


def without(picks: Sequence[Pick], first: float, last: float) -> list[Pick]:
    """Picks with the frames `first` to `last` taken out of them."""
    left: list[Pick] = []
    for pick in picks:
        if pick.first < first:
            left.append(replace(pick, last=int(min(pick.last, first - 1))))
        if pick.last > last:
            left.append(replace(pick, first=int(max(pick.first, last + 1))))
    return sorted(left, key=lambda pick: pick.first)


# --- Operations ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Outcome:
    """What operations did: edits in both directions, new targets, a text for the undo button."""

    edits: list[Edit]
    inverse: list[Edit]
    created: list[int]
    text: str


class Project:
    """The targets of one clip with the rows of their runs.

    Args:
        state: of the snapshot and the journal.
        frame_count: number of frames of the clip.
        frame_wh: width and height of a frame in px.
        read_rows: the rows of a file of a run.
        write_rows: keep rows and return the name of their file.
    """

    def __init__(
        self,
        state: ProjectState,
        frame_count: int,
        frame_wh: tuple[int, int],
        read_rows: Callable[[str], Rows],
        write_rows: Callable[[Rows], str],
    ) -> None:
        self.state = state
        self.frame_count, self.frame_wh = frame_count, frame_wh
        # Runs of an import share a file.
        self._read_rows, self.write_rows = lru_cache(maxsize=1)(read_rows), write_rows
        self._runs: OrderedDict[RunInfo, TrackingRun] = OrderedDict()  # those used last
        self._runs_bytes = 0
        self._lasts: dict[RunInfo, int] = {}

    def track(self, target: int) -> TargetTrack:
        """Key frames, runs and picks of a target."""
        self.target(target)
        return track_of(self.state, target, self.run)

    def run(self, info: RunInfo) -> TrackingRun:
        """A run with its rows, one for every frame."""
        key = _rows_of(info)
        if key in self._runs:
            self._runs.move_to_end(key)
            return self._runs[key]
        run = self._runs[key] = cut_run(info, self._read_rows(info.file))
        self._lasts[key] = run.last
        self._runs_bytes += run.rows.nbytes
        while self._runs_bytes > RUNS_BYTES and len(self._runs) > 1:
            self._runs_bytes -= self._runs.popitem(last=False)[1].rows.nbytes
        return run

    def last_of(self, info: RunInfo) -> int:
        """The frame that a run went to."""
        key = _rows_of(info)
        return self._lasts[key] if key in self._lasts else self.run(info).last

    def is_valid(self, info: RunInfo) -> bool:
        """Whether a run holds, see `siamtrack.tracking.track.TargetTrack`."""
        return TargetTrack(self.state.keys.get(info.target, {})).is_valid(info)

    def target(self, number: object) -> TargetInfo:
        """What is known of a target.

        Raises:
            UnknownNumberError: there is none of that number.
        """
        if type(number) is not int or number not in self.state.targets:
            raise UnknownNumberError(f"there is no target {shown(number)}; it may be deleted")
        return self.state.targets[number]

    def resolve(self, target: int, first: int, last: int, threshold: float) -> ResolvedRows:
        """Where a target is, see `siamtrack.tracking.track.resolve`."""
        return resolve(self.track(target), first, last, threshold)

    def perform(self, operations: Sequence[Any]) -> Outcome:
        """Perform operations one after another, all or none of them.

        Raises:
            MalformedError: one is unknown, lacks a field or has one of the wrong type.
            UnknownNumberError: it names a target that is not there.
            RefusedError: it makes no sense as things are.
        """
        done = Outcome([], [], [], "")
        counters = self.state.next_target, self.state.next_run
        try:
            for operation in operations:
                if not isinstance(operation, dict) or operation.get("op") not in _OPERATIONS:
                    name = operation.get("op") if isinstance(operation, dict) else operation
                    raise MalformedError(
                        f"operation {shown(name)} is unknown; use one of {', '.join(_OPERATIONS)}"
                    )
                fields = _Fields(operation, done.created)
                edits, text = _OPERATIONS[operation["op"]](self, fields, done.created)
                fields.check_all_used()
                done.inverse = [*apply_edits(self.state, edits), *done.inverse]
                done.edits += edits
                # The last one says it best: "new target", then its box.
                done.text = text
        except (SiamTrackError, OSError):
            apply_edits(self.state, done.inverse)
            self.state.next_target, self.state.next_run = counters
            raise
        return done

    # -- What the operations below share

    def free_target(self, fields: _Fields, name: str = "target") -> int:
        """The target of an operation, which is not locked."""
        number = fields.target(name)
        if self.target(number).locked:
            raise RefusedError(f"{self.name_of(number)} is locked; unlock it first")
        return number

    def name_of(self, number: int) -> str:
        """The name that messages call a target by."""
        info = self.state.targets[number]
        return info.name or info.label or f"target {number}"

    def frame(self, fields: _Fields, name: str = "frame") -> int:
        """A frame of the clip."""
        return self.check_frame(fields.whole(name))

    def check_frame(self, frame: int) -> int:
        """Check that the clip has a frame."""
        if not 0 <= frame < self.frame_count:
            raise UnknownNumberError(
                f"there is no frame {frame}; the clip has {self.frame_count}, from 0"
            )
        return frame

    def frames(self, fields: _Fields) -> tuple[int, int]:
        """First and last frame of an operation."""
        first, last = self.frame(fields, "first"), self.frame(fields, "last")
        if last < first:
            raise RefusedError(f"frames {first} to {last} are none; give the first one first")
        return first, last

    def place_box(self, box: Sequence[float]) -> Box:
        """A drawn box, inside the frame and rounded."""
        x, y, w, h = box
        too_small = f"draw one of at least {MIN_SIDE_PX:g} x {MIN_SIDE_PX:g}"
        if min(abs(w), abs(h)) < MIN_SIDE_PX:
            raise RefusedError(f"the box is {abs(w):g} x {abs(h):g} px; {too_small}")
        width, height = self.frame_wh
        left, top = max(0.0, min(x, x + w)), max(0.0, min(y, y + h))
        right, bottom = min(float(width), max(x, x + w)), min(float(height), max(y, y + h))
        if right <= left or bottom <= top:
            raise RefusedError(
                f"the box {shown(list(box))} lies outside the {width}x{height} frame; draw it on "
                "the picture"
            )
        x, y = round(left, BOX_DIGITS), round(top, BOX_DIGITS)
        w, h = round(right - x, BOX_DIGITS), round(bottom - y, BOX_DIGITS)
        if w < MIN_SIDE_PX or h < MIN_SIDE_PX:
            raise RefusedError(f"only {w:g} x {h:g} px of the box are in the frame; {too_small}")
        return x, y, w, h

    def picks_beside(self, target: int, frame: int) -> list[Edit]:
        """Drop the picks of the gaps on both sides of a key frame: they were of other boxes."""
        keys = self.state.keys.get(target, {})
        first = max((k for k in keys if k < frame), default=-math.inf)
        last = min((k for k in keys if k > frame), default=math.inf)
        before = self.state.picks.get(target, ())
        left = without(before, first, last)
        return [["picks", target, picks_to_json(left)]] if left != list(before) else []

    def copy_into(
        self, source: int, number: int, info: TargetInfo, keys: Mapping[int, KeyFrame]
    ) -> list[Edit]:
        """A new target with some key frames of another one, and with their runs."""
        edits: list[Edit] = [["target", number, asdict(info)]]
        edits += [["key", number, frame, key_to_json(key)] for frame, key in keys.items()]
        next_run = self.state.next_run
        for run in list(self.state.runs.values()):
            if run.target == source and run.frame in keys:
                edits.append(["run", f"{next_run:06d}", asdict(replace(run, target=number))])
                next_run += 1
        return edits

    def remove_all_of(self, target: int) -> list[Edit]:
        """Delete a target and all that belongs to it."""
        state = self.state
        edits: list[Edit] = [
            ["run", name, None] for name, run in state.runs.items() if run.target == target
        ]
        edits += [["picks", target, []]] if state.picks.get(target) else []
        edits += [["key", target, frame, None] for frame in state.keys.get(target, {})]
        return [*edits, ["target", target, None]]


def _rows_of(info: RunInfo) -> RunInfo:
    """A run as far as its rows depend on it."""
    return replace(info, target=0, reason="")


class _Fields:
    """The fields of one operation, checked as they are asked for."""

    def __init__(self, content: Mapping[str, Any], created: Sequence[int]) -> None:
        self._content, self._created = content, created
        self._used = {"op"}

    def __contains__(self, name: str) -> bool:
        return name in self._content

    def get(self, name: str) -> Any:
        if name not in self._content:
            raise MalformedError(f"{self._content['op']} lacks {name}")
        self._used.add(name)
        return self._content[name]

    def whole(self, name: str) -> int:
        value = self.get(name)
        if type(value) is not int:
            raise MalformedError(f"{name} is {shown(value)}; give a whole number")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.get(name) if name in self else default
        if not isinstance(value, bool):
            raise MalformedError(f"{name} is {shown(value)}; give true or false")
        return value

    def target(self, name: str = "target") -> int:
        value = self.get(name)
        if value == "new" and self._created:
            return self._created[-1]
        if type(value) is not int:
            raise MalformedError(f"{name} is {shown(value)}; give the number of a target")
        return value

    def text(self, name: str) -> str:
        return check_text(name, self.get(name))

    def choice(self, name: str, allowed: Sequence[Any]) -> Any:
        value = self.get(name)
        if value not in allowed:
            listed = ", ".join(map(str, allowed))
            raise MalformedError(f"{name} is {shown(value)}; give one of {listed}")
        return value

    def box(self, name: str) -> list[float]:
        value = self.get(name)
        numbers: list[Any] = value if isinstance(value, list) and len(value) == 4 else [None]
        if not all(type(v) in (int, float) and abs(v) < 1e9 for v in numbers):  # not NaN either
            raise MalformedError(f"{name} is {shown(value)}; give four numbers x, y, w, h")
        return [float(v) for v in numbers]

    def check_all_used(self) -> None:
        if unknown := sorted(set(self._content) - self._used):
            raise MalformedError(f"{self._content['op']} has no field {', '.join(unknown)}")


def check_text(name: str, value: object) -> str:
    """A short text of one line."""
    if not isinstance(value, str) or len(value) > MAX_TEXT or _CONTROL.search(value):
        raise MalformedError(
            f"{name} is {shown(value)}; give a text of one line, of at most {MAX_TEXT} characters"
        )
    return value.strip()


_Made: TypeAlias = tuple[list[Edit], str]


def _info_of(fields: _Fields, info: TargetInfo) -> TargetInfo:
    changes: dict[str, Any] = {}
    for name in ("name", "label"):
        if name in fields:
            changes[name] = fields.text(name)
    if "color" in fields:
        changes["color"] = fields.choice("color", range(COLORS))
    for name in _FLAGS:
        if name in fields:
            changes[name] = fields.flag(name)
    return replace(info, **changes)


def _add_target(project: Project, fields: _Fields, created: list[int]) -> _Made:
    number = project.state.next_target
    info = _info_of(fields, TargetInfo(f"target {number}", color=number % COLORS))
    created.append(number)
    return [["target", number, asdict(info)]], f"new {info.label or info.name}"


def _update_target(project: Project, fields: _Fields, created: list[int]) -> _Made:
    number = fields.target()
    info = _info_of(fields, project.target(number))
    return [["target", number, asdict(info)]], f"change of {project.name_of(number)}"


def _delete_target(project: Project, fields: _Fields, created: list[int]) -> _Made:
    number = project.free_target(fields)
    return project.remove_all_of(number), f"deletion of {project.name_of(number)}"


def _duplicate_target(project: Project, fields: _Fields, created: list[int]) -> _Made:
    source = fields.target()
    number, info = project.state.next_target, project.target(source)
    created.append(number)
    copied = replace(info, name=f"{info.name} copy"[:MAX_TEXT], color=number % COLORS, locked=False)
    edits = project.copy_into(source, number, copied, project.state.keys.get(source, {}))
    picks = project.state.picks.get(source, ())
    edits += [["picks", number, picks_to_json(picks)]] if picks else []
    return edits, f"copy of {project.name_of(source)}"


def _split_target(project: Project, fields: _Fields, created: list[int]) -> _Made:
    source, frame = project.free_target(fields), project.frame(fields)
    keys = project.state.keys.get(source, {})
    rows = project.resolve(source, frame, project.frame_count - 1, 0.0)
    has_box = bool(rows.present[0])
    if not rows.present.any() or not any(k < frame for k in keys):
        raise RefusedError(
            f"{project.name_of(source)} is not there both before and after frame {frame}; split it "
            "where it goes on"
        )
    # 1. The new target has the later key frames, and begins with what is shown in this frame.
    number, info = project.state.next_target, project.target(source)
    created.append(number)
    name = f"{info.name} 2"[:MAX_TEXT]
    later = {k: key for k, key in keys.items() if k >= frame}
    moved = dict(later)
    if has_box and frame not in moved:
        x, y, w, h = np.round(rows.boxes[0], BOX_DIGITS).tolist()
        moved[frame] = KeyFrame((x, y, w, h), bool(rows.occluded[0]))
    edits = project.copy_into(
        source, number, replace(info, name=name, color=number % COLORS), moved
    )
    edits += [
        ["picks", number, picks_to_json(after)]
        for after in [without(project.state.picks.get(source, ()), -math.inf, frame)]
        if after
    ]
    # 2. What was shown up to its next key frame goes with it as a run of its first one.
    if frame not in later and has_box:
        run = _shown_run(project, rows, min(later, default=project.frame_count))
        if len(run):
            name = f"{project.state.next_run + sum(e[0] == 'run' for e in edits):06d}"
            info_of_run = RunInfo(
                number,
                frame,
                cast("Box", moved[frame].box),
                1,
                1,
                project.write_rows(run),
                "split",
            )
            edits.append(["run", name, asdict(info_of_run)])
    # 3. The old one ends here.
    gone = [["key", source, k, None] for k in later]
    ended = ["key", source, frame, key_to_json(KeyFrame(None))]
    runs = [
        ["run", name, None]
        for name, run in project.state.runs.items()
        if run.target == source and run.frame in later
    ]
    left = without(project.state.picks.get(source, ()), frame, math.inf)
    return (
        [*edits, *runs, *gone, ended, ["picks", source, picks_to_json(left)]],
        f"split of {project.name_of(source)} at frame {frame}",
    )


def _shown_run(project: Project, rows: ResolvedRows, end: int) -> Rows:
    """Rows after the first one, up to `end` or where there is none, as a run has them."""
    there = rows.present[1 : end - rows.first]
    count = len(there) if there.all() else int(np.argmin(there))
    run = np.zeros(count, ROW)
    run["frame"] = rows.first + 1 + np.arange(count)
    run["box"], run["score"] = rows.boxes[1 : count + 1], rows.scores[1 : count + 1]
    run["status"] = rows.statuses[1 : count + 1]
    return run


def _merge_targets(project: Project, fields: _Fields, created: list[int]) -> _Made:
    target, other = project.free_target(fields), project.free_target(fields, "other")
    if target == other:
        raise RefusedError("a target cannot be merged with itself; choose another one")
    state, last = project.state, project.frame_count - 1
    both = (
        project.resolve(target, 0, last, 0.0).present & project.resolve(other, 0, last, 0.0).present
    )
    if both.any():
        raise RefusedError(
            f"{project.name_of(target)} and {project.name_of(other)} are both there in frame "
            f"{int(np.argmax(both))}; mark one as outside there first"
        )
    own = state.keys.get(target, {})
    edits = [
        ["key", target, frame, key_to_json(key)]
        for frame, key in state.keys.get(other, {}).items()
        if not (key.outside and frame in own)
    ]
    next_run = state.next_run
    for run in state.runs.values():
        if run.target == other:
            edits.append(["run", f"{next_run:06d}", asdict(replace(run, target=target))])
            next_run += 1
    picks = sorted(
        (*state.picks.get(target, ()), *state.picks.get(other, ())), key=lambda pick: pick.first
    )
    edits.append(["picks", target, picks_to_json(picks)])
    text = f"merge of {project.name_of(other)} into {project.name_of(target)}"
    return [*edits, *project.remove_all_of(other)], text


def _set_key(project: Project, fields: _Fields, created: list[int]) -> _Made:
    target, frame = project.free_target(fields), project.frame(fields)
    outside, occluded = fields.flag("outside"), fields.flag("occluded")
    box: Box | None = None
    if "box" not in fields and not outside:
        rows = project.resolve(target, frame, frame, 0.0)
        if not rows.present[0]:
            raise RefusedError(
                f"{project.name_of(target)} has no box in frame {frame} to keep; draw one"
            )
        box = project.place_box(rows.boxes[0].tolist())
    elif "box" in fields and fields.get("box") is not None:
        box = project.place_box(fields.box("box"))
    if (box is None) != outside:
        raise MalformedError("a key frame has a box, or no box and outside: true")
    key = KeyFrame(box, occluded)
    what = "outside" if outside else "box"
    return (
        [["key", target, frame, key_to_json(key)], *project.picks_beside(target, frame)],
        f"{what} of {project.name_of(target)} in frame {frame}",
    )


def _delete_key(project: Project, fields: _Fields, created: list[int]) -> _Made:
    target, frame = project.free_target(fields), project.frame(fields)
    if frame not in project.state.keys.get(target, {}):
        raise RefusedError(f"{project.name_of(target)} has no key frame in frame {frame}")
    return (
        [["key", target, frame, None], *project.picks_beside(target, frame)],
        f"deletion of the key frame of {project.name_of(target)} in frame {frame}",
    )


def _pick(project: Project, fields: _Fields, created: list[int]) -> _Made:
    target, (first, last) = project.free_target(fields), project.frames(fields)
    choice = fields.choice("choice", (*get_args(Choice), None))
    picks = without(project.state.picks.get(target, ()), first, last)
    if choice is not None:
        picks = sorted([*picks, Pick(first, last, choice)], key=lambda pick: pick.first)
    where = f"of {project.name_of(target)} in frames {first} to {last}"
    return [["picks", target, picks_to_json(picks)]], f"choice {where}"


def _accept(project: Project, fields: _Fields, created: list[int]) -> _Made:
    target, (first, last) = project.free_target(fields), project.frames(fields)
    rows = project.resolve(target, first, last, 0.0)
    picks = without(project.state.picks.get(target, ()), first, last)
    starts = np.flatnonzero(np.diff(rows.sources, prepend=np.uint8(255)))
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        choice = _SOURCE_OF.get(int(rows.sources[start]))
        if choice is not None:
            picks.append(Pick(first + int(start), first + int(end) - 1, choice))
    picks.sort(key=lambda pick: pick.first)
    where = f"{project.name_of(target)} in frames {first} to {last}"
    return [["picks", target, picks_to_json(picks)]], f"acceptance of {where}"


def _set_labels(project: Project, fields: _Fields, created: list[int]) -> _Made:
    labels = fields.get("labels")
    if not isinstance(labels, list) or len(labels) > MAX_LABELS:
        raise MalformedError(f"labels is {shown(labels)}; give a list of at most {MAX_LABELS}")
    checked = [check_text("label", label) for label in labels]
    return [["labels", list(dict.fromkeys(filter(None, checked)))]], "change of the labels"


_OPERATIONS: dict[str, Callable[[Project, _Fields, list[int]], _Made]] = {
    "add_target": _add_target,
    "update_target": _update_target,
    "delete_target": _delete_target,
    "duplicate_target": _duplicate_target,
    "split_target": _split_target,
    "merge_targets": _merge_targets,
    "set_key": _set_key,
    "delete_key": _delete_key,
    "pick": _pick,
    "accept": _accept,
    "set_labels": _set_labels,
}
