"""Tasks of an evaluation in worker processes of this machine; see `utils.workers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import cv2

from siamtrack.evaluation.datasets import Benchmark, open_benchmark
from siamtrack.evaluation.runs import TimedTracker, run_variant, variant_named
from siamtrack.evaluation.task import RunConfig, SequenceRun, Task, TaskGroup, TaskResult
from siamtrack.evaluation.trackers import EvaluatedTracker, TrackerSpec
from siamtrack.utils.workers import TaskFailure, WorkerPool


def run_groups(
    groups: Sequence[TaskGroup],
    config: RunConfig,
    *,
    workers: int,
    logs: Path,
    on_frame: Callable[[int, Task, int], object] = lambda worker, task, frame: None,
    on_result: Callable[[int, TaskResult], object],
) -> None:
    """Run all tasks in `workers` processes, each with a log in the folder `logs`.

    The callbacks get the number of a worker first; see `evaluate.run`.
    """

    def receive(
        worker: int, task: Task, run: Mapping[str, Any] | None, failure: TaskFailure | None
    ) -> None:
        done = None if run is None else SequenceRun(**run)
        on_result(worker, TaskResult(task, done, str(failure or "")))

    with WorkerPool(
        "siamtrack.evaluation.worker:run_task",
        config,
        workers=workers,
        logs=logs,
        **pool_options(config),
    ) as pool:
        pool.run(groups, on_frame, receive)


def pool_options(config: RunConfig) -> dict[str, Any]:
    """Arguments of the pool, here or on a cluster."""
    return {
        "start_timeout_s": config.start_timeout_s,
        "task_timeout_s": config.frame_timeout_s,
        "threads": config.threads,
        "fresh": lambda task: task.tracker.needs_fresh_process,
    }


def run_task(
    setup: Mapping[str, Any], task: Mapping[str, Any], heartbeat: Callable[[int], None]
) -> SequenceRun:
    """Run one task in a worker process; setup and task are a `RunConfig` and a `Task` from JSON."""
    runner = _task_runner(setup["dataset"], setup["root"], setup["threads"])
    return runner.run(Task.from_plain(task), heartbeat)


@lru_cache(maxsize=1)
def _task_runner(dataset: str, root: str, threads: int) -> TaskRunner:
    """Kept from task to task: all tasks of a process share one setup."""
    cv2.setNumThreads(threads)
    return TaskRunner(open_benchmark(dataset, Path(root)))


class TaskRunner:
    """Runs tasks on one data set in this process."""

    def __init__(self, benchmark: Benchmark) -> None:
        self._benchmark = benchmark
        # Trackers of ours forget everything on `reset`, and compiling a network takes as long as
        # tracking a hundred frames. Those of others are built anew for every task.
        self._compiled: dict[str, Any] = {}

    def run(self, task: Task, heartbeat: Callable[[int], None] = lambda frame: None) -> SequenceRun:
        """Run one task; `heartbeat` gets the number of every frame before the tracker does."""
        # OpenCV's trackers draw from one generator per process. Without this, their boxes would
        # depend on what ran before.
        cv2.setRNGSeed(0)
        sequence = self._benchmark.load(task.sequence)
        tracker = TimedTracker(self._tracker(task.tracker), heartbeat)
        return run_variant(tracker, sequence, variant_named(task.variant))

    def _tracker(self, spec: TrackerSpec) -> EvaluatedTracker:
        if not spec.is_ours:
            return spec.build()
        # Taken out while it runs: one that raises is not used again.
        tracker: Any = self._compiled.pop(str(spec), None) or spec.build()
        tracker.reset()
        if tracker.budget is None:  # a time budget remembers how long frames took
            self._compiled[str(spec)] = tracker
        return cast("EvaluatedTracker", tracker)
