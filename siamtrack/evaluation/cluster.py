"""Run groups of units on other machines, through Dask's `distributed`.

A worker of the cluster needs siamtrack installed and the data set under the same path; it runs
trackers in processes of their own, exactly like `pool`. Results come back to the client, which
alone writes files. When a worker of the cluster dies, Dask gives its groups to another.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from siamtrack.errors import ConfigError, EvaluationError
from siamtrack.evaluation.task import Group, Outcome, Setting, Unit
from siamtrack.utils.workers import Watcher, WorkerProcess

CONNECT_TIMEOUT_S = 30


def run_on_cluster(
    groups: Sequence[Group], setting: Setting, watcher: Watcher, *, scheduler: str
) -> None:
    """Run `groups` on the workers of a Dask cluster; returns when all are over.

    Args:
        groups: one task each.
        setting: shared by all units; its root is read by the cluster's workers.
        watcher: told of every outcome, not of frames.
        scheduler: address such as `tcp://10.0.0.1:8786`.

    Raises:
        ConfigError: Dask is not installed.
        EvaluationError: nobody answers at `scheduler`.
    """
    try:
        from distributed import Client, as_completed
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--scheduler needs Dask ({error}); pip install 'siamtrack[distributed]'"
        ) from error
    try:
        client = Client(scheduler, timeout=CONNECT_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f"no Dask scheduler answers at {scheduler} ({error}); start one with dask scheduler"
        ) from error
    with client:
        tasks = {
            client.submit(
                run_group, asdict(setting), [unit.to_json() for unit in group], pure=False
            ): group
            for group in groups
        }
        for task in as_completed(tasks):
            for outcome in _outcomes(task, tasks[task]):
                watcher.on_outcome(0, outcome)
            task.release()


def _outcomes(task: Any, group: Group) -> list[Outcome]:
    """What came back; a task that the cluster gave up on fails all its units."""
    # Not its status: a result that died with its worker is lost, and soon there again.
    error = task.exception()
    if error is not None:
        reason = f"the cluster gave up: {error!r}"
        return [Outcome(unit, None, reason) for unit in group]
    return [Outcome.from_json(data) for data in task.result()]


def run_group(setting: Mapping[str, Any], units: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Run one group on the machine this is called on.

    Args:
        setting: a `Setting` as plain data.
        units: `Unit`s as plain data.

    Returns:
        An `Outcome` as plain data for each unit.
    """
    with tempfile.TemporaryDirectory(prefix="siamtrack-") as folder:
        process = WorkerProcess(Setting(**setting), Path(folder) / "worker.log")
        try:
            return [process.run(Unit.from_json(unit)).to_json() for unit in units]
        finally:
            process.close()
