"""What a project of the studio holds: targets, key frames, picks, runs, labels.

It is changed by edits, each of which sets one thing. Edits are plain JSON, so the journal of a
project keeps them as they are, and those that set everything back are its undo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from siamtrack.tracking.track import KeyFrame, Pick, Rows, TargetTrack, TrackingRun, fill_steps
from siamtrack.types import Box

Edit: TypeAlias = list[Any]
"""["target", id, {...}], ["key", id, frame, [box, occluded, by]], ["picks", id, [[first, last,
choice], ...]], ["run", run, {...}] or ["labels", [...]]; None at the end removes."""

COLORS = 12
"""Colors of targets, which the page has by number."""
MAX_TEXT = 200
"""Characters of a name or a label."""


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """What a target is called and how it is shown."""

    name: str
    label: str = ""
    color: int = 0
    hidden: bool = False
    locked: bool = False


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run of the tracker; its rows are in a file.

    Attributes:
        target: that it is of.
        frame, box: of the key frame it started from.
        direction: 1 or -1.
        step: every so many frames were tracked.
        file: that holds its rows; several runs may share one.
        reason: why it ended.
        weights, engine, options: what tracked: hash of the weights, name, hash of the options.
        stale: tracked in another file than the clip is now.
        last: the rows of the file up to this frame are its; None: all.
    """

    target: int
    frame: int
    box: Box
    direction: Literal[1, -1]
    step: int
    file: str
    reason: str = ""
    weights: str = ""
    engine: str = ""
    options: str = ""
    stale: bool = False
    last: int | None = None


@dataclass(slots=True)
class ProjectState:
    """Everything of a project but the rows of its runs; changed by `apply_edits` alone.

    Attributes:
        targets: by number, in the order in which they were made.
        keys, picks: by target.
        runs: by their name, oldest first.
        labels: for completion.
        next_target, next_run: numbers are never used again.
    """

    targets: dict[int, TargetInfo] = field(default_factory=dict)
    keys: dict[int, dict[int, KeyFrame]] = field(default_factory=dict)
    picks: dict[int, tuple[Pick, ...]] = field(default_factory=dict)
    runs: dict[str, RunInfo] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    next_target: int = 0
    next_run: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data for the snapshot."""
        return {
            "labels": list(self.labels),
            "targets": [[number, asdict(info)] for number, info in self.targets.items()],
            "keys": [
                [number, frame, key_to_json(key)]
                for number, keys in self.keys.items()
                for frame, key in sorted(keys.items())
            ],
            "picks": [[number, picks_to_json(picks)] for number, picks in self.picks.items()],
            "runs": [[name, asdict(run)] for name, run in self.runs.items()],
            "next": [self.next_target, self.next_run],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ProjectState:
        """The state of a snapshot; `KeyError`, `TypeError` or `ValueError` where it is damaged."""
        state = cls()
        edits: list[Edit] = [["labels", content["labels"]]]
        edits += [["target", *entry] for entry in content["targets"]]
        edits += [["key", *entry] for entry in content["keys"]]
        edits += [["picks", *entry] for entry in content["picks"]]
        edits += [["run", *entry] for entry in content["runs"]]
        apply_edits(state, edits)
        state.next_target, state.next_run = map(int, content["next"])
        return state


def apply_edits(state: ProjectState, edits: Sequence[Edit]) -> list[Edit]:
    """Change the state; returns the edits that change it back."""
    inverse: list[Edit] = []
    for edit in edits:
        inverse.append(_APPLY[edit[0]](state, *edit[1:]))
    return inverse[::-1]


def _apply_target(state: ProjectState, number: int, info: Mapping[str, Any] | None) -> Edit:
    before = state.targets.get(number)
    if info is None:
        state.targets.pop(number, None)
        for kept in (state.keys, state.picks):
            if not kept.get(number):
                kept.pop(number, None)
    else:
        state.targets[number] = TargetInfo(**info)
        # A target that comes back is where it was before.
        state.targets = dict(sorted(state.targets.items()))
        state.keys.setdefault(number, {})
        state.next_target = max(state.next_target, number + 1)
    return ["target", number, before and asdict(before)]


def _apply_key(state: ProjectState, number: int, frame: int, key: Sequence[Any] | None) -> Edit:
    keys = state.keys.setdefault(number, {})
    before = keys.get(frame)
    if key is None:
        keys.pop(frame, None)
    else:
        keys[frame] = _key_from_json(key)
    return ["key", number, frame, before and key_to_json(before)]


def _apply_picks(state: ProjectState, number: int, picks: Sequence[Sequence[Any]]) -> Edit:
    before = state.picks.get(number, ())
    state.picks[number] = tuple(Pick(*pick) for pick in picks)
    return ["picks", number, picks_to_json(before)]


def _apply_run(state: ProjectState, name: str, run: Mapping[str, Any] | None) -> Edit:
    before = state.runs.get(name)
    if run is None:
        state.runs.pop(name, None)
    else:
        state.runs[name] = RunInfo(**{**run, "box": _box(run["box"])})
        state.runs = dict(sorted(state.runs.items()))
        state.next_run = max(state.next_run, int(name) + 1)
    return ["run", name, before and asdict(before)]


def _apply_labels(state: ProjectState, labels: Sequence[str]) -> Edit:
    before, state.labels = state.labels, tuple(labels)
    return ["labels", list(before)]


_APPLY: dict[str, Callable[..., Edit]] = {
    "target": _apply_target,
    "key": _apply_key,
    "picks": _apply_picks,
    "run": _apply_run,
    "labels": _apply_labels,
}


def key_to_json(key: KeyFrame) -> list[Any]:
    """A key frame as edits have it."""
    return [None if key.box is None else list(key.box), key.occluded, key.by]


def _key_from_json(key: Sequence[Any]) -> KeyFrame:
    box, occluded, by = key
    return KeyFrame(None if box is None else _box(box), bool(occluded), by)


def _box(numbers: Sequence[float]) -> Box:
    x, y, w, h = map(float, numbers)
    return x, y, w, h


def picks_to_json(picks: Sequence[Pick]) -> list[list[Any]]:
    """Picks as edits have them."""
    return [[pick.first, pick.last, pick.choice] for pick in picks]


# --- Tracks of the state -------------------------------------------------------------------------


def cut_run(info: RunInfo, rows: Rows) -> TrackingRun:
    """A run with its rows, one for every frame.

    Args:
        info: of the run.
        rows: of its file, which may hold those of other runs as well.
    """
    ahead = (rows["frame"] - info.frame) * info.direction
    most = ahead.max(initial=0) if info.last is None else abs(info.last - info.frame)
    rows = rows[(ahead > 0) & (ahead <= most)]
    return fill_steps(TrackingRun(info.frame, info.box, info.direction, rows, info.stale))


def track_of(
    state: ProjectState, target: int, run_of: Callable[[RunInfo], TrackingRun]
) -> TargetTrack:
    """Key frames, runs and picks of a target.

    Args:
        state: that holds it.
        target: its number.
        run_of: a run with its rows.
    """
    runs = [run_of(run) for run in state.runs.values() if run.target == target]
    return TargetTrack(state.keys.get(target, {}), runs, state.picks.get(target, ()))
