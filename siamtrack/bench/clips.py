"""Whole clips as users run them: the start, every frame, lost ones too; decoding apart.

In order: one tracker over a clip, the same in a process of its own, all trackers in turns, the
report and its tables.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from siamtrack.api import DEFAULT_WEIGHTS
from siamtrack.bench.report import BenchConfig, OnTurn, align, given_threads
from siamtrack.bench.stages import Clock, cpu_threads, run_name
from siamtrack.data.datasets import KINDS, open_dataset
from siamtrack.data.sequence import VideoSequence
from siamtrack.errors import DatasetError, EvaluationError
from siamtrack.evaluation.runs import TimedTracker
from siamtrack.evaluation.trackers import EvaluatedTracker, OpenCvTracker, TrackerSpec
from siamtrack.evaluation.views import PLAIN, view_of
from siamtrack.tracking.tracker import Tracker
from siamtrack.types import Image
from siamtrack.utils.files import Closing
from siamtrack.utils.workers import TaskFailure, WorkerPool

FOLLOWED, UNCERTAIN, VERIFIED, LOST = "followed", "uncertain", "verified", "lost"
FRAME_KINDS = (FOLLOWED, UNCERTAIN, VERIFIED, LOST)

TURN_FRAMES = 30
"""Frames of a clip in a row of one tracker: a slow moment of the machine hits all trackers, and
the first frame of a turn, which finds the caches empty, is one of many."""

_CONFIDENCE = 0.95


# -- One tracker


@dataclass(slots=True)
class ClipTimes:
    """Seconds that one tracker took on one clip."""

    init_s: float = 0.0
    frames_s: list[float] = field(default_factory=list)  # of every update
    kinds: list[str] = field(default_factory=list)  # of these frames; empty for other trackers

    @property
    def fps(self) -> float:
        """Frames per second, the start of the clip included."""
        return (1 + len(self.frames_s)) / max(self.init_s + sum(self.frames_s), 1e-9)


class Run(Protocol):
    """One tracker on clip after clip, in turns of `TURN_FRAMES` frames."""

    name: str
    threads: int
    times: ClipTimes

    def start(self, sequence: VideoSequence) -> None:
        """Be ready for a clip; what that takes, such as reading a rival's files, is not timed."""

    def turn(self) -> None:
        """Track the next frames of the clip."""


class ClipRun:
    """A `Run` in this process.

    Args:
        name: as the tables show it.
        tracker: one of ours, or what builds another anew for every clip.
        threads: CPU threads it may use.
        clock: read before and after every call.
    """

    def __init__(
        self,
        name: str,
        tracker: Tracker | TrackerSpec,
        *,
        threads: int,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.name, self.threads, self.times = name, threads, ClipTimes()
        self._given, self._clock = tracker, clock
        self._tracker: EvaluatedTracker | None = None
        self._frame = 0

    def start(self, sequence: VideoSequence) -> None:
        """See `Run`."""
        self._sequence, self._frame = sequence, 0
        self._images = iter(sequence.iter_frames())
        self.times = ClipTimes()
        with cpu_threads(self.threads):  # some choose their threads when they are built
            given = self._given
            self._tracker = given.build() if isinstance(given, TrackerSpec) else given
            if isinstance(self._tracker, OpenCvTracker):
                self._tracker.prepare()
        self._timed = TimedTracker(self._tracker, clock=self._clock)

    def turn(self) -> None:
        """See `Run`."""
        images = list(islice(self._images, TURN_FRAMES))  # decoded before anything is timed
        with cpu_threads(self.threads):
            self.step(images)

    def step(self, images: Iterable[Image]) -> None:
        """Track the next frames; the first one of a clip starts the tracker on the true box.

        Raises:
            EvaluationError: the tracker fails, or returns no box.
        """
        tracker, times = self._tracker, self.times
        ours = tracker if isinstance(tracker, Tracker) else None
        try:
            for image in images:
                if self._frame == 0:
                    first = self._sequence.boxes[0]
                    times.init_s = self._timed.init(0, image, first)
                else:
                    searching = _searching(ours)
                    times.frames_s.append(self._timed.update(self._frame, image)[1])
                    if ours is not None:
                        times.kinds.append(searching or _kind_now(ours))
                self._frame += 1
        except EvaluationError as error:
            raise EvaluationError(f"{self.name} on {self._sequence.name}: {error}") from error


def _searching(tracker: Tracker | None) -> str:
    """Whether the next frame is searched elsewhere: "lost", "verified", or "" if not."""
    state = tracker.state if tracker else None
    if state is None:
        return ""
    if state.status_filter.status == "lost":
        return LOST
    return VERIFIED if state.verification is not None else ""


def _kind_now(tracker: Tracker) -> str:
    state = tracker.state
    return UNCERTAIN if state and state.status_filter.status != "tracked" else FOLLOWED


# -- One tracker in a process of its own


@dataclass(frozen=True, slots=True)
class ProcessSetup:
    """What a process is told of its tracker and of the clips."""

    name: str
    tracker: TrackerSpec
    threads: int
    dataset: str
    most_frames: int | None


class ProcessRun(Closing):
    """A `Run` in a process of its own, as users run trackers.

    In one process they are slowed down by each other: OpenCV's threads, for one, wait for the next
    frame by spinning, and take a fifth of the speed of whatever comes next.
    """

    def __init__(self, setup: ProcessSetup) -> None:
        self.name, self.threads, self.times = setup.name, setup.threads, ClipTimes()
        self._pool = WorkerPool(
            "siamtrack.bench.clips:run_turn", setup, workers=1, threads=None,
            start_timeout_s=None, task_timeout_s=None,
        )  # fmt: skip

    def start(self, sequence: VideoSequence) -> None:
        """See `Run`."""
        self._clip, self._starts = sequence.name, True

    def turn(self) -> None:
        """See `Run`."""
        task = {"clip": self._clip, "starts": self._starts}
        self._pool.run([[task]], on_result=self._keep)
        self._starts = False

    def close(self) -> None:
        """End the process."""
        self._pool.close()

    def _keep(self, worker: int, task: Any, result: Any, failure: TaskFailure | None) -> None:
        if failure is not None:
            reason = str(failure)
            # What the tracker itself raised names tracker and clip.
            told = failure.kind == "error"
            raise EvaluationError(reason if told else f"{self.name} on {self._clip}: {reason}")
        self.times = ClipTimes(**result)


def run_turn(
    setup: Mapping[str, Any], task: Mapping[str, Any], heartbeat: Callable[[int], None]
) -> ClipTimes:
    """One turn in the process of a `ProcessRun`: the times of the clip so far."""
    heartbeat(0)
    run, clips = _run_of(json.dumps(setup))
    if task["starts"]:
        run.start(clips[task["clip"]])
    run.turn()
    return run.times


@lru_cache(maxsize=1)
def _run_of(setup_json: str) -> tuple[ClipRun, dict[str, VideoSequence]]:
    """The run of this process and its clips, kept from turn to turn."""
    plain = json.loads(setup_json)
    setup = ProcessSetup(**{**plain, "tracker": TrackerSpec(**plain["tracker"])})
    spec = setup.tracker
    # Of ours the network is compiled once; others are built anew for every clip.
    built = spec.build() if spec.is_ours else None
    tracker = built if isinstance(built, Tracker) else spec
    clips = {clip.name: clip for clip in read_clips(setup.dataset, setup.most_frames)}
    return ClipRun(setup.name, tracker, threads=setup.threads), clips


# -- All trackers in turns


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and 95th percentile in ms, of so many calls."""

    calls: int
    median_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median over clips of a tracker's speed over the first one's, with its 95 % interval.

    `low` and `high` are None of fewer clips than an interval needs.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class ClipsRow:
    """Result of one tracker."""

    name: str
    threads: int
    fps: float  # median over clips
    ratio: Ratio
    init: Spread
    update: Spread
    kinds: dict[str, Spread]  # updates by kind of frame; none of other trackers
    clips_fps: dict[str, float]  # by clip


@dataclass(frozen=True, slots=True)
class ClipsReport:
    """Results on a data set of clips."""

    dataset: str
    frames: dict[str, int]  # by clip
    rows: list[ClipsRow]


def benchmark_clips(
    config: BenchConfig,
    dataset: str,
    *,
    most_frames: int | None = None,
    on_turn: OnTurn = lambda total: None,
) -> ClipsReport:
    """Time engines and other trackers in turns over all clips of a data set.

    Args:
        config: weights, engines (the one that `auto` chooses if none is named), threads, trackers.
        dataset: a folder of clips with their boxes beside them, or KIND:ROOT.
        most_frames: of a clip that are tracked; None for all.
        on_turn: is called after every turn.

    Raises:
        SiamTrackError: the weights, an engine or a tracker cannot be used, or a clip cannot be
            read.
    """
    clips = read_clips(dataset, most_frames)
    setups = [
        ProcessSetup(name, spec, threads, dataset, most_frames)
        for name, spec, threads in name_trackers(config)
    ]
    with ExitStack() as processes:
        runs = [processes.enter_context(ProcessRun(setup)) for setup in setups]
        return take_turns(runs, dataset, clips, on_turn)


def take_turns(
    runs: Sequence[Run],
    dataset: str,
    clips: Sequence[VideoSequence],
    on_turn: OnTurn = lambda total: None,
) -> ClipsReport:
    """Let every run track every clip, in turns, while the others wait."""
    parts = [math.ceil(len(clip) / TURN_FRAMES) for clip in clips]
    turns = sum(parts) * len(runs)
    taken: list[list[ClipTimes]] = [[] for _ in runs]
    number = 0
    for clip, count in zip(clips, parts, strict=True):
        for run in runs:
            run.start(clip)
        for _ in range(count):
            # Every other turn goes in reverse order: no tracker always follows the same one.
            for run in reversed(runs) if number % 2 else runs:
                run.turn()
                on_turn(turns)
            number += 1
        for times, run in zip(taken, runs, strict=True):
            times.append(run.times)
    return ClipsReport(dataset, {clip.name: len(clip) for clip in clips}, _rows(runs, taken, clips))


def read_clips(dataset: str, most_frames: int | None = None) -> list[VideoSequence]:
    """The clips of a data set from the first frame with a box on, which must be its first.

    Raises:
        ConfigError: not a data set's name.
        DatasetError: the data set cannot be read, or holds no clip of two frames to track.
    """
    spec = dataset if dataset.partition(":")[0] in KINDS else f"folder:{dataset}"
    sequences = open_dataset(spec)
    clips = [_trackable(sequences[name], most_frames) for name in sequences.names]
    usable = [clip for clip in clips if clip is not None]
    if not usable:
        raise DatasetError(
            f"{spec} holds no clip of at least two frames with a box to start from; give clips "
            "with their boxes beside them"
        )
    return usable


def _trackable(sequence: VideoSequence, most_frames: int | None) -> VideoSequence | None:
    """The frames of a clip from its first box on; None if these are fewer than two."""
    if sequence.kind != "video":
        return None
    part = view_of(sequence, PLAIN, most_frames or 0)
    return part if len(part) > 1 else None


def name_trackers(config: BenchConfig) -> list[tuple[str, TrackerSpec, int]]:
    """Name, tracker and threads of every run: ours on every engine, then the others.

    Each is built once, because only then is known which engine `auto` is, and what is missing.

    Raises:
        SiamTrackError: the weights, an engine or a tracker cannot be used.
    """
    weights = str(DEFAULT_WEIGHTS if config.weights is None else config.weights)
    named = []
    for engine in config.engines or ("auto",):
        for threads in config.threads:
            options: dict[str, str | int] = {
                "engine": engine, "device": config.device, "threads": threads,
            }  # fmt: skip
            spec = TrackerSpec(weights, options).with_full_paths()
            name = f"{Path(weights).stem} {_engine_of(spec.build())}"
            named.append((name, spec, threads))
    for spec in config.trackers:
        for threads in config.threads:
            given = given_threads(spec, threads).with_full_paths()
            engine = _engine_of(given.build())
            named.append((f"{spec.label} {engine}" if engine else spec.label, given, threads))
    return named


def _engine_of(tracker: EvaluatedTracker) -> str:
    """Engine and precision of one of our trackers; "" for others."""
    return run_name(tracker.engine) if isinstance(tracker, Tracker) else ""


# -- The report


def _rows(
    runs: Sequence[Run], taken: Sequence[Sequence[ClipTimes]], clips: Sequence[VideoSequence]
) -> list[ClipsRow]:
    rows = []
    for run, times in zip(runs, taken, strict=True):
        fps = [one.fps for one in times]
        over_first = [one.fps / first.fps for one, first in zip(times, taken[0], strict=True)]
        updates = [(s, kind) for one in times for s, kind in zip_longest(one.frames_s, one.kinds)]
        by_kind = {kind: [s for s, k in updates if k == kind] for kind in FRAME_KINDS}
        rows.append(
            ClipsRow(
                run.name,
                run.threads,
                float(np.median(fps)),
                median_interval(over_first),
                _spread([one.init_s for one in times]),
                _spread([s for s, _ in updates]),
                {kind: _spread(some) for kind, some in by_kind.items() if some},
                dict(zip((clip.name for clip in clips), fps, strict=True)),
            )
        )
    return rows


def _spread(times_s: Sequence[float]) -> Spread:
    median_s, p95_s = np.percentile(times_s, (50, 95)).tolist()
    return Spread(len(times_s), 1e3 * median_s, 1e3 * p95_s)


def median_interval(values: Sequence[float]) -> Ratio:
    """Median with its 95 % interval: between two of the values (the sign test's).

    The median lies below the k-th lowest of n values with the probability of fewer than k heads
    in n throws of a coin. It needs no assumption on how the values are distributed.

    Example:
        >>> median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        Ratio(value=3.5, low=1.0, high=6.0)
    """
    ordered, count = sorted(values), len(values)
    outside, k = 0.0, 0
    while (outside := outside + math.comb(count, k) / 2**count) <= (1 - _CONFIDENCE) / 2:
        k += 1
    value = float(np.median(ordered))
    return Ratio(value, None, None) if k == 0 else Ratio(value, ordered[k - 1], ordered[-k])


def clips_text(report: ClipsReport) -> str:
    """Tables for people."""
    total = sum(report.frames.values())
    columns = ["init", *FRAME_KINDS]
    rows = [["tracker", "threads", "fps", "times the first", *columns]]
    for row in report.rows:
        low, high = row.ratio.low, row.ratio.high
        interval = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
        spreads = [row.init, *(row.kinds.get(kind) for kind in FRAME_KINDS)]
        if not row.kinds:  # which frames are lost, other trackers do not say
            spreads[1] = row.update
        ratio = f"{row.ratio.value:.2f}{interval}"
        rows.append([row.name, str(row.threads), f"{row.fps:.0f}", ratio, *map(_cell, spreads)])
    names = [f"{row.name}, {row.threads}" for row in report.rows]
    clips = [["clip", "frames", *names]]
    for name, frames in report.frames.items():
        clips.append([name, str(frames), *(f"{row.clips_fps[name]:.0f}" for row in report.rows)])
    return "\n".join(
        [
            f"{len(report.frames)} clips, {total} frames, in turns; median / p95 in ms",
            "fps: median over clips, init included and decoding not",
            "",
            *align(rows),
            "",
            *align(clips),
        ]
    )


def _cell(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread.median_ms:.2f} / {spread.p95_ms:.2f}"


def clips_to_dict(report: ClipsReport) -> dict[str, Any]:
    """The report, ready for JSON."""
    return {
        "dataset": report.dataset,
        "frames": report.frames,
        "trackers": [asdict(row) for row in report.rows],
    }
