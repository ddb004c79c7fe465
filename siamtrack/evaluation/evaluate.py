"""Evaluate trackers on a data set: check everything, run what has no result yet, list failures.

In order: `prepare` and the `Evaluation` it returns, `run`, `EvaluationProgress` (bars), and
`write_submission` for data sets whose truth is withheld.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn, TextIO

from tqdm import tqdm

from siamtrack.errors import ConfigError, DatasetError, EvaluationError
from siamtrack.evaluation.cluster import run_on_cluster
from siamtrack.evaluation.datasets import Benchmark, EvalSequence, open_benchmark
from siamtrack.evaluation.groups import SequenceGroup
from siamtrack.evaluation.runs import Variant, variants_of
from siamtrack.evaluation.store import OUT_ADVICE, ResultStore
from siamtrack.evaluation.task import RunConfig, Task, TaskGroup, TaskResult
from siamtrack.evaluation.trackers import TrackerEntry, resolve_trackers
from siamtrack.evaluation.views import shows_target
from siamtrack.evaluation.worker import run_groups
from siamtrack.utils.files import Closing, atomic_write
from siamtrack.utils.progress import FILE_INTERVAL_S, TERMINAL_INTERVAL_S

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A `RunConfig` with its data set opened and its trackers resolved.

    `sequences` are those that take part, `groups` says which of them belong together; `left_out`
    says what is wrong with the data set, where the user accepted that. `states` are those of the
    sequences, by name: results of another state are not used.
    """

    config: RunConfig
    benchmark: Benchmark
    sequences: Mapping[str, EvalSequence]
    groups: Mapping[str, SequenceGroup]
    trackers: Sequence[TrackerEntry]
    variants: Sequence[Variant]
    store: ResultStore
    left_out: Sequence[str] = ()
    states: Mapping[str, str] = field(default_factory=dict)

    def pending(self) -> list[TaskGroup]:
        """Tasks without a result, long sequences first: no worker ends with a long one alone."""
        groups = []
        for name, sequence in sorted(self.sequences.items(), key=lambda item: -len(item[1])):
            for variant in self.variants:
                frames = len(variant.view_frames(sequence))
                group = tuple(
                    Task(name, variant.name, t.spec, t.key, t.label, frames)
                    for t in self.trackers
                    if not self.store.has(variant.name, t.key, name, self.states.get(name, ""))
                )
                if group:
                    groups.append(group)
        return groups

    def changed(self) -> list[str]:
        """Sequences whose pictures or truth are others than when their results were made."""
        return [
            name
            for name, state in self.states.items()
            if any(
                self.store.has(v.name, t.key, name)
                and not self.store.has(v.name, t.key, name, state)
                for v in self.variants
                for t in self.trackers
            )
        ]


def prepare(config: RunConfig) -> Evaluation:
    """Check everything that can be checked before the first frame.

    Raises:
        ConfigError: unknown data set, tracker, option, protocol or sequence.
        DatasetError: the data set is missing or incomplete; everything that is wrong is listed.
        EvaluationError: a tracker that cannot be built.
        WeightsError: weights that are missing or damaged.
    """
    # 1. The data set, and the variants that it allows.
    benchmark = open_benchmark(config.dataset, config.root)
    is_vot = benchmark.protocol.layout == "vot"
    families = list(dict.fromkeys(config.protocols or ["supervised" if is_vot else "ope"]))
    variants = [
        variant
        for name in families
        for variant in variants_of(
            name, fps=config.realtime_fps, views=config.views, max_frames=config.max_frames
        )
    ]
    is_whole = all(variant.is_whole for variant in variants)
    if "supervised" in families and not is_vot:
        raise ConfigError(
            f"supervised is VOT's protocol and {benchmark.name} is none of its data sets; use ope"
        )
    if "supervised" in families and not is_whole:
        raise ConfigError(
            "supervised is VOT's figure of whole sequences; leave views and max_frames out, or "
            "give another protocol, such as ope or failures"
        )
    if benchmark.protocol.truth_withheld and not (families == ["ope"] and is_whole):
        raise ConfigError(
            f"the truth of {benchmark.name} is withheld, so it can only be run with ope, whole "
            "sequences from the start"
        )
    # 2. Its sequences; everything that is wrong with them is listed at once. Their groups.
    place = f"{config.dataset} at {config.root}"
    groups = benchmark.groups
    usable, problems = benchmark.check(benchmark.select(config.only))
    if not is_whole:
        usable, short = _shown_in_all_views(usable, variants)
        problems += short
    if problems and not config.partial:
        raise DatasetError(
            f"{place} is incomplete; --partial evaluates the complete sequences. "
            f"{len(problems)} found: {'; '.join(problems)}"
        )
    if not usable:
        raise DatasetError(f"{place} has no usable sequence: {'; '.join(problems)}")
    # 3. The trackers, each built once.
    trackers = resolve_trackers(config.trackers, for_picks="picks" in families)
    store = ResultStore(config.out, benchmark)
    chosen = {name: groups[name] for name in usable}
    states = {name: sequence.state() for name, sequence in usable.items()}
    evaluation = Evaluation(
        config, benchmark, usable, chosen, trackers, variants, store, problems, states
    )
    if changed := evaluation.changed():
        logger.warning(
            "%s: pictures or boxes of %d sequence(s) have changed since their results were made, "
            "first of %s; a run makes them anew",
            place, len(changed), changed[0],
        )  # fmt: skip
    return evaluation


def _shown_in_all_views(
    sequences: Mapping[str, EvalSequence], variants: Sequence[Variant]
) -> tuple[dict[str, EvalSequence], list[str]]:
    """Sequences whose target is seen twice in every view, and what is wrong with the others."""
    usable, problems = {}, []
    for name, sequence in sequences.items():
        seen = shows_target(sequence)
        short = {v.view for v in variants if seen[v.view_frames(sequence)].sum() < 2}
        if short:
            views = ", ".join(sorted(short))
            problems.append(f"{name}: the target is seen in fewer than two frames of {views}")
        else:
            usable[name] = sequence
    return usable, problems


def run(
    evaluation: Evaluation,
    on_frame: Callable[[int, Task, int], object] = lambda worker, task, frame: None,
    on_result: Callable[[int, TaskResult], object] = lambda worker, result: None,
) -> list[TaskResult]:
    """Run everything that has no result yet; finished sequences are safe whenever this stops.

    Args:
        evaluation: from `prepare`.
        on_frame: called with the number of a worker, its task and its frame, a few times a second;
            not for tasks on a cluster.
        on_result: called with every result once it is stored. What it raises stops the run.

    Returns:
        The tasks that failed; the others have results.

    Raises:
        OutputError: results cannot be written.
        ClusterError: the cluster does not answer or cannot be used.
    """
    config, store = evaluation.config, evaluation.store
    failures: list[TaskResult] = []

    def write_failures() -> None:
        listed = [failure.as_failure() for failure in failures]
        atomic_write(config.out / "failures.json", json.dumps(listed, indent=2), OUT_ADVICE)

    def record(worker: int, result: TaskResult) -> None:
        task = result.task
        if result.run is not None:
            state = evaluation.states.get(task.sequence, "")
            store.write(task.variant, task.key, task.sequence, result.run, state)
        else:
            logger.debug("%s failed: %s", task, result.error)
            failures.append(result)
            write_failures()
        on_result(worker, result)

    # 1. Notes beside the results.
    for tracker in evaluation.trackers:
        for variant in evaluation.variants:
            store.describe(variant.name, tracker.key, tracker.identity)
        first = evaluation.variants[0].name
        for older in store.older_keys(first, tracker):
            logger.warning(
                "%s: results of an older siamtrack stay in %s and are not used; this version "
                "computes its own (--no-run reports on the older ones)",
                tracker.label,
                store.tracker_folder(first, older),
            )
    write_failures()

    # 2. Whatever has no result yet, here or on a cluster, whose machines need a full path.
    groups = evaluation.pending()
    absolute = replace(config, root=evaluation.benchmark.root.resolve())
    if config.scheduler:
        run_on_cluster(groups, absolute, lambda result: record(0, result))
    elif groups:
        run_groups(
            groups,
            absolute,
            workers=min(config.workers, len(groups)),
            logs=config.out / "logs",
            on_frame=on_frame,
            on_result=record,
        )
    return failures


def with_older_results(evaluation: Evaluation) -> Evaluation:
    """For a report only: a tracker without results gets those of an older siamtrack.

    They are taken where there is one set of them with the same weights and options.
    """
    trackers = []
    for tracker in evaluation.trackers:
        older = evaluation.store.older_keys(evaluation.variants[0].name, tracker)
        if len(older) == 1:
            logger.warning("%s: results of an older siamtrack, %s", tracker.label, older[0])
            tracker = replace(tracker, key=older[0])
        trackers.append(tracker)
    return replace(evaluation, trackers=trackers)


class EvaluationProgress(Closing):
    """Progress bars on stderr: frames of all runs, and on a terminal a line for each worker.

    `workers` are the processes on this machine, 0 when tasks run on a cluster.
    """

    def __init__(
        self, groups: Sequence[TaskGroup], workers: int, stream: TextIO | None = None
    ) -> None:
        stream = sys.stderr if stream is None else stream
        is_terminal = stream.isatty()
        tasks = [task for group in groups for task in group]
        self._tasks, self._finished, self._failed = len(tasks), 0, 0
        self._frames_done = dict.fromkeys(range(workers), 0)
        self._total: tqdm[NoReturn] = tqdm(
            total=sum(task.frames for task in tasks),
            unit=" frames",
            desc=f"0 of {len(tasks)} runs",
            file=stream,
            mininterval=TERMINAL_INTERVAL_S if is_terminal else FILE_INTERVAL_S,
            dynamic_ncols=True,
        )
        self._lines: list[tqdm[NoReturn]] = [
            tqdm(
                total=0,
                position=worker + 1,
                bar_format="  {desc}",
                desc=f"worker {worker + 1}: starting",
                file=stream,
                disable=not is_terminal,
                leave=False,
            )
            for worker in range(workers)
        ]

    def on_frame(self, worker: int, task: Task, frame: int) -> None:
        """Advance within a task; see `run`."""
        if worker in self._frames_done:
            self._total.update(frame - self._frames_done[worker])
            self._frames_done[worker] = frame
            self._lines[worker].set_description_str(
                f"worker {worker + 1}: {task}, frame {frame} of {task.frames}"
            )

    def on_result(self, worker: int, result: TaskResult) -> None:
        """Count a task as finished; see `run`."""
        self._total.update(result.task.frames - self._frames_done.get(worker, 0))
        if worker in self._frames_done:
            self._frames_done[worker] = 0
        self._finished += 1
        self._failed += result.run is None
        failed = f", {self._failed} failed" if self._failed else ""
        self._total.set_description_str(f"{self._finished} of {self._tasks} runs{failed}")

    def close(self) -> None:
        """Remove the workers' lines and leave the total on the screen."""
        for line in self._lines:
            line.close()
        self._total.close()


FIXED_TIME = (1980, 1, 1, 0, 0, 0)
"""Date of every file in an archive: the same results give the same bytes."""


def write_submission(evaluation: Evaluation, tracker: TrackerEntry) -> Path:
    """Write `OUT/submission-KEY.zip` for the server of a data set whose truth is withheld.

    GOT-10k's holds a folder per sequence with boxes and times, as the toolkit's `report` packs it;
    TrackingNet's holds a file of boxes per sequence.

    Raises:
        EvaluationError: a sequence has no result; servers refuse incomplete archives.
        OutputError: the archive cannot be written.
    """
    store, key, names = evaluation.store, tracker.key, evaluation.benchmark.names
    absent = [name for name in names if not store.has("ope", key, name)]
    if absent:
        raise EvaluationError(
            f"{tracker.label} has no result for {len(absent)} of {len(names)} sequences, first "
            f"{absent[0]}; a submission needs all of them"
        )
    # Paths inside the archive are those of the store, below the tracker's folder.
    has_times = evaluation.benchmark.protocol.layout == "got10k"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            times = [store.times_path("ope", key, name)] if has_times else []
            for path in (store.boxes_path("ope", key, name), *times):
                inside = path.relative_to(store.tracker_folder("ope", key)).as_posix()
                member = zipfile.ZipInfo(inside, FIXED_TIME)
                archive.writestr(member, path.read_bytes(), zipfile.ZIP_DEFLATED)
    target = evaluation.config.out / f"submission-{key}.zip"
    atomic_write(target, packed.getvalue(), OUT_ADVICE)
    return target
