"""Configuration of an evaluation, the unit of work sent to a worker, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siamtrack.evaluation.trackers import TrackerSpec


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What to evaluate, on what and how: one record from the command line to the report.

    Attributes:
        dataset: a name that `datasets.open_benchmark` takes.
        root: its folder; on a cluster the same path on every machine.
        out: folder for results and report.
        trackers: they take turns on every sequence.
        protocols: names of `protocols.FAMILIES`; empty for `ope`, or `supervised` on VOT.
        realtime_fps: rate at which frames come in `realtime`.
        views: names of `views.VIEWS`; every sequence is run in each of them.
        max_frames: of every view; 0 for all.
        only: patterns of sequence names; empty for all.
        partial: evaluate the complete sequences of an incomplete data set.
        workers: processes on this machine.
        scheduler: address of a Dask scheduler to run on instead; empty for this machine.
        threads: computing threads of one tracker.
        frame_timeout_s: longest time for a frame before the tracker is killed as hung.
        start_timeout_s: the same for opening the data set and building the tracker.
    """

    dataset: str
    root: Path
    out: Path
    trackers: tuple[TrackerSpec, ...]
    protocols: tuple[str, ...] = ()
    realtime_fps: float = 25.0
    views: tuple[str, ...] = ("start",)
    max_frames: int = 0
    only: tuple[str, ...] = ()
    partial: bool = False
    workers: int = 1
    scheduler: str = ""
    threads: int = 1
    frame_timeout_s: float = 60.0
    start_timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Task:
    """One tracker over one sequence in one variant; plain data that any machine can run.

    `key` and `label` are those of the `TrackerEntry`; `frames` is the length of the
    sequence's view.
    """

    sequence: str
    variant: str
    tracker: TrackerSpec
    key: str
    label: str
    frames: int

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Task:
        """Back from `dataclasses.asdict`, or from JSON."""
        return cls(**{**data, "tracker": TrackerSpec(**data["tracker"])})

    def __str__(self) -> str:
        variant = "" if self.variant == "ope" else f" ({self.variant})"
        return f"{self.label} on {self.sequence}{variant}"


TaskGroup = tuple[Task, ...]
"""Tasks of one worker, one after another: every tracker on the same sequence, so that a drift of
the machine's speed affects all trackers alike."""


@dataclass(frozen=True, slots=True)
class SequenceRun:
    """What a tracker did on one sequence.

    Attributes:
        rows: per frame a box in the coordinates of the annotation or, in VOT's supervised runs, a
            single code.
        times_s: seconds spent in the tracker per frame; NaN where it was not called.
        start: frame of the sequence that the first row belongs to.
    """

    rows: list[list[float]]
    times_s: list[float]
    start: int = 0


@dataclass(frozen=True, slots=True)
class TaskResult:
    """A run, or the reason why there is none."""

    task: Task
    run: SequenceRun | None
    error: str = ""

    def as_failure(self) -> dict[str, str]:
        """Entry of `failures.json`."""
        return {
            "tracker": self.task.label,
            "sequence": self.task.sequence,
            "variant": self.task.variant,
            "reason": self.error,
        }
