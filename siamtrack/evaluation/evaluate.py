"""Evaluate trackers on a data set: check, plan, run, note what failed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from siamtrack.errors import ConfigError, DatasetError
from siamtrack.evaluation.benchmarks import open_benchmark
from siamtrack.evaluation.cluster import run_on_cluster
from siamtrack.evaluation.files import write_atomically
from siamtrack.evaluation.plan import Entrant, Group, Outcome, Setting, Unit, enter, plan
from siamtrack.evaluation.pool import Watcher, run_here
from siamtrack.evaluation.sequence import Benchmark, EvalSequence
from siamtrack.evaluation.specs import TrackerSpec
from siamtrack.evaluation.store import ResultStore
from siamtrack.evaluation.variants import Variant, variants_of

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
        write_atomically(self._evaluation.out / "failures.json", json.dumps(listed, indent=2))


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
