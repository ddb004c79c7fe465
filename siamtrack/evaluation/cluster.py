"""Run groups of tasks on other machines, through Dask's `distributed`.

A worker of the cluster needs siamtrack installed and the data set under the same path. It runs
trackers in a process of their own, as this machine would. Results come back to the client, which
alone writes files. When a worker of the cluster dies, Dask gives its groups to another.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from siamtrack.errors import ConfigError, EvaluationError
from siamtrack.evaluation.task import RunConfig, Task, TaskGroup, TaskResult
from siamtrack.evaluation.worker import run_groups

CONNECT_TIMEOUT_S = 30


def run_on_cluster(
    groups: Sequence[TaskGroup], config: RunConfig, on_result: Callable[[TaskResult], None]
) -> None:
    """Run `groups` on the workers of the Dask cluster at `config.scheduler`.

    `on_result` is called with every result as it comes; returns when all groups are done.

    Raises:
        ConfigError: Dask is not installed.
        EvaluationError: no scheduler answers at the address.
    """
    try:
        from distributed import Client, as_completed
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--scheduler needs Dask ({error}); pip install 'siamtrack[distributed]'"
        ) from error
    try:
        client = Client(config.scheduler, timeout=CONNECT_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f"no Dask scheduler answers at {config.scheduler} ({error}); start one with "
            "dask scheduler"
        ) from error
    with client:
        # A worker has a folder of its own, in which relative paths lead nowhere.
        config = replace(config, trackers=tuple(t.with_full_paths() for t in config.trackers))
        futures = {
            client.submit(run_group, config, _with_full_paths(group), pure=False): group
            for group in groups
        }
        for future in as_completed(futures):
            for result in _results(future, futures[future]):
                on_result(result)
            future.release()


def run_group(config: RunConfig, group: TaskGroup) -> list[TaskResult]:
    """Run one group; called on a worker of the cluster."""
    results: list[TaskResult] = []
    with tempfile.TemporaryDirectory(prefix="siamtrack-") as logs:
        run_groups(
            [group],
            config,
            workers=1,
            logs=Path(logs),
            on_result=lambda _, result: results.append(result),
        )
    return results


def _with_full_paths(group: TaskGroup) -> TaskGroup:
    return tuple(replace(task, tracker=task.tracker.with_full_paths()) for task in group)


def _results(future: Any, group: TaskGroup) -> list[TaskResult]:
    """Results of a group as it was given; if the cluster dropped it, all its tasks have failed."""
    # Not its status: a result that died with its worker is lost, and soon there again.
    error = future.exception()
    if error is not None:
        return [TaskResult(task, None, f"the cluster gave up: {error!r}") for task in group]
    given = {_identity(task): task for task in group}
    return [replace(result, task=given[_identity(result.task)]) for result in future.result()]


def _identity(task: Task) -> tuple[str, str, str]:
    return task.variant, task.key, task.sequence
