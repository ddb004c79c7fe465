"""Run groups of tasks on other machines, through `utils.cluster`.

A worker of the cluster needs siamtrack installed and the data set under the same path. Results
come back to the client, which alone writes files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from siamtrack.evaluation.task import RunConfig, SequenceRun, Task, TaskGroup, TaskResult
from siamtrack.evaluation.worker import pool_options
from siamtrack.utils.cluster import ClusterPool
from siamtrack.utils.workers import TaskFailure


def run_on_cluster(
    groups: Sequence[TaskGroup], config: RunConfig, on_result: Callable[[TaskResult], None]
) -> None:
    """Run `groups` on the workers of the Dask cluster at `config.scheduler`.

    `on_result` is called with every result as it comes; returns when all groups are done.

    Raises:
        ConfigError: Dask is not installed.
        ClusterError: no scheduler answers at the address, or its workers cannot be used.
    """
    # A worker has a folder of its own, in which relative paths lead nowhere.
    config = replace(config, trackers=tuple(t.with_full_paths() for t in config.trackers))
    tasks = {_identity(task): task for group in groups for task in group}

    def receive(
        task: Task, run: Mapping[str, Any] | None, failure: TaskFailure | None, worker: str
    ) -> None:
        own = tasks[_identity(task)]
        on_result(TaskResult(own, None if run is None else SequenceRun(**run), str(failure or "")))

    with ClusterPool(
        "siamtrack.evaluation.worker:run_task",
        config,
        config.scheduler,
        str(config.out.resolve()),
        **pool_options(config),
    ) as pool:
        pool.run(map(_with_full_paths, groups), receive)


def _with_full_paths(group: TaskGroup) -> TaskGroup:
    return tuple(replace(task, tracker=task.tracker.with_full_paths()) for task in group)


def _identity(task: Task) -> tuple[str, str, str]:
    return task.variant, task.key, task.sequence
