"""Evaluate trackers on a data set: check, plan, run, note what failed."""

from __future__ import annotations

import io
import json
import logging
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self, TextIO

from tqdm import tqdm

from siamtrack.errors import ConfigError, DatasetError, EvaluationError
from siamtrack.evaluation.cluster import run_on_cluster
from siamtrack.evaluation.datasets import Benchmark, EvalSequence, open_benchmark
from siamtrack.evaluation.runs import Variant, variants_of
from siamtrack.evaluation.store import ResultStore
from siamtrack.evaluation.task import Entrant, Group, Outcome, Setting, Unit, enter, plan
from siamtrack.evaluation.trackers import TrackerSpec
from siamtrack.utils.files import atomic_write
from siamtrack.utils.workers import Watcher, run_here

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is evaluated on what.

    Attributes:
        benchmark: the data set.
        sequences: those that take part, by name.
        entrants: the trackers.
        variants: ways of running.
        store: where results are.
        out: the output folder.
        left_out: what is wrong with the data set, where the user accepted that.
    """

    benchmark: Benchmark
    sequences: Mapping[str, EvalSequence]
    entrants: Sequence[Entrant]
    variants: Sequence[Variant]
    store: ResultStore
    out: Path
    left_out: Sequence[str] = ()

    def pending(self) -> list[Group]:
        """What has no result yet."""
        lengths = {name: len(sequence) for name, sequence in self.sequences.items()}
        return plan(self.benchmark, lengths, self.entrants, self.variants, self.store)


def prepare(
    dataset: str,
    root: Path,
    trackers: Sequence[TrackerSpec],
    out: Path,
    *,
    families: Sequence[str] = (),
    fps: float = 25.0,
    only: Sequence[str] = (),
    partial: bool = False,
) -> Evaluation:
    """Check everything that can be checked before the first frame.

    Args:
        dataset: a name of `benchmarks.benchmark_names`.
        root: its folder.
        trackers: what to evaluate.
        out: folder for results and report.
        families: protocols to run; `ope`, or `supervised` for VOT, when empty.
        fps: frame rate of `realtime`.
        only: patterns of sequence names; all when empty.
        partial: evaluate what is there although parts of the data set are missing or broken.

    Raises:
        ConfigError: unknown data set, tracker, option, protocol or sequence.
        DatasetError: the data set is missing or incomplete; everything that is wrong is listed.
        EvaluationError: a tracker that cannot be built.
        WeightsError: weights that are missing or damaged.
    """
    benchmark = open_benchmark(dataset, root)
    usual = "supervised" if benchmark.protocol.layout == "vot" else "ope"
    wanted = list(dict.fromkeys(families or [usual]))
    variants = [variant for family in wanted for variant in variants_of(family, fps=fps)]
    _refuse_impossible(benchmark, wanted)
    usable, problems = benchmark.check(benchmark.select(only))
    if problems and not partial:
        raise DatasetError(
            f"{dataset} at {root} is incomplete; --partial evaluates what is there. "
            f"{len(problems)} found: {'; '.join(problems)}"
        )
    if not usable:
        raise DatasetError(f"{dataset} at {root} has no usable sequence: {'; '.join(problems)}")
    entrants = enter(trackers)
    store = ResultStore(out, benchmark)
    return Evaluation(benchmark, usable, entrants, variants, store, out, problems)


def _refuse_impossible(benchmark: Benchmark, families: Sequence[str]) -> None:
    if "supervised" in families and benchmark.protocol.layout != "vot":
        raise ConfigError(
            f"supervised is VOT's protocol and {benchmark.name} is none of its data sets; use ope"
        )
    if benchmark.protocol.truth_withheld and set(families) != {"ope"}:
        raise ConfigError(
            f"the truth of {benchmark.name} is withheld, so it can only be run with ope"
        )


@dataclass(frozen=True, slots=True)
class Running:
    """How to run.

    Attributes:
        workers: processes on this machine.
        scheduler: address of a Dask scheduler; empty for this machine.
        threads: of one tracker.
        frame_timeout_s: a frame that takes longer is a hang.
        start_timeout_s: the same for building a tracker.
    """

    workers: int = 1
    scheduler: str = ""
    threads: int = 1
    frame_timeout_s: float = 60.0
    start_timeout_s: float = 300.0


class Recorder:
    """Stores results as they come, and remembers failures.

    Args:
        evaluation: what runs.
        watcher: is told too, after a result is safe.
    """

    def __init__(self, evaluation: Evaluation, watcher: Watcher | None = None):
        self._evaluation = evaluation
        self._watcher = watcher
        self.failures: list[Outcome] = []

    def on_frame(self, worker: int, unit: Unit, frame: int) -> None:
        """Pass on."""
        if self._watcher is not None:
            self._watcher.on_frame(worker, unit, frame)

    def on_outcome(self, worker: int, outcome: Outcome) -> None:
        """Store a run, or note a failure."""
        unit = outcome.unit
        if outcome.run is not None:
            self._evaluation.store.write(unit.variant, unit.key, unit.sequence, outcome.run)
        else:
            logger.debug("%s failed: %s", unit, outcome.error)
            self.failures.append(outcome)
            self.save()
        if self._watcher is not None:
            self._watcher.on_outcome(worker, outcome)

    def save(self) -> None:
        """Write the list of failures, empty or not."""
        listed = [failure.as_failure() for failure in self.failures]
        atomic_write(self._evaluation.out / "failures.json", json.dumps(listed, indent=2))


def run(evaluation: Evaluation, running: Running, watcher: Watcher | None = None) -> list[Outcome]:
    """Run everything that has no result yet; finished sequences are safe whenever this stops.

    Args:
        evaluation: from `prepare`.
        running: where and how.
        watcher: is told of progress.

    Returns:
        Units that failed; the others have results.

    Raises:
        OutputError: results cannot be written.
        EvaluationError: the cluster does not answer.
    """
    for entrant in evaluation.entrants:
        for variant in evaluation.variants:
            evaluation.store.describe(variant.name, entrant.key, dict(entrant.identity))
    recorder = Recorder(evaluation, watcher)
    recorder.save()
    setting = Setting(
        evaluation.benchmark.name,
        str(evaluation.benchmark.root.resolve()),
        running.frame_timeout_s,
        running.start_timeout_s,
        running.threads,
    )
    groups = evaluation.pending()
    if running.scheduler:
        run_on_cluster(groups, setting, recorder, scheduler=running.scheduler)
    elif groups:
        workers = min(running.workers, len(groups))
        run_here(groups, setting, recorder, workers=workers, logs=evaluation.out / "logs")
    return recorder.failures


FILE_INTERVAL_S = 10.0
"""A log that stderr goes to gets a line now and then rather than moving bars."""


class BarsWatcher:
    """Shows progress; a `Watcher` and a context manager that leaves the last state behind.

    Args:
        groups: everything that is to be run.
        workers: how many processes take part here; 0 when they are elsewhere.
        stream: where to show it, stderr by default.
    """

    def __init__(self, groups: Sequence[Group], workers: int, stream: TextIO | None = None) -> None:
        stream = sys.stderr if stream is None else stream
        units = [unit for group in groups for unit in group]
        moving = stream.isatty()
        self._failed = 0
        self._done = dict.fromkeys(range(workers), 0)
        self._total: tqdm[NoReturn] = tqdm(
            total=sum(unit.frames for unit in units),
            unit=" frames",
            desc=f"0 of {len(units)} runs",
            file=stream,
            mininterval=0.1 if moving else FILE_INTERVAL_S,
            dynamic_ncols=True,
        )
        self._units, self._over = len(units), 0
        self._lines: list[tqdm[NoReturn]] = [
            tqdm(
                total=0,
                position=worker + 1,
                bar_format="  {desc}",
                desc=f"worker {worker + 1}: starting",
                file=stream,
                disable=not moving,
                leave=False,
            )
            for worker in range(workers)
        ]

    def on_frame(self, worker: int, unit: Unit, frame: int) -> None:
        """Move on within a unit."""
        if worker in self._done:
            self._total.update(frame - self._done[worker])
            self._done[worker] = frame
            self._lines[worker].set_description_str(
                f"worker {worker + 1}: {unit}, frame {frame} of {unit.frames}"
            )

    def on_outcome(self, worker: int, outcome: Outcome) -> None:
        """Count a unit as over."""
        self._total.update(outcome.unit.frames - self._done.get(worker, 0))
        if worker in self._done:
            self._done[worker] = 0
        self._over += 1
        self._failed += outcome.run is None
        failed = f", {self._failed} failed" if self._failed else ""
        self._total.set_description_str(f"{self._over} of {self._units} runs{failed}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for line in self._lines:
            line.close()
        self._total.close()


FIXED_TIME = (1980, 1, 1, 0, 0, 0)
"""Of every member, so that the same results give the same archive."""


def write_submission(evaluation: Evaluation, entrant: Entrant) -> Path:
    """Write `OUT/submission-KEY.zip` for the server of a data set whose truth is withheld.

    GOT-10k's holds a folder per sequence with boxes and times, as the toolkit's `report` packs it;
    TrackingNet's holds a file of boxes per sequence.

    Args:
        evaluation: of that data set.
        entrant: the tracker.

    Returns:
        The archive.

    Raises:
        EvaluationError: a sequence has no result; servers refuse incomplete archives.
        OutputError: the archive cannot be written.
    """
    store, key = evaluation.store, entrant.key
    absent = [name for name in evaluation.benchmark.names if not store.has("ope", key, name)]
    if absent:
        raise EvaluationError(
            f"{entrant.label} has no result for {len(absent)} of "
            f"{len(evaluation.benchmark.names)} sequences, first {absent[0]}; a submission needs "
            "all of them"
        )
    folder = store.tracker_folder("ope", key)
    files = []
    for name in evaluation.benchmark.names:
        files.append(store.boxes_path("ope", key, name))
        if evaluation.benchmark.protocol.layout == "got10k":
            files.append(store.times_path("ope", key, name))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            member = zipfile.ZipInfo(path.relative_to(folder).as_posix(), FIXED_TIME)
            archive.writestr(member, path.read_bytes(), zipfile.ZIP_DEFLATED)
    target = evaluation.out / f"submission-{key}.zip"
    atomic_write(target, packed.getvalue())
    return target
