"""The side of a Dask worker: keeps worker processes and runs groups of tasks in them.

A task of a Dask worker can be neither interrupted nor killed alone, and may not start a process by
`multiprocessing`; `workers.WorkerPool` does all that.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from distributed import Worker, WorkerPlugin, get_worker

from siamtrack._version import __version__
from siamtrack.errors import ClusterError
from siamtrack.utils.files import atomic_write
from siamtrack.utils.workers import TaskFailure, WorkerPool


class ProcessPlugin(WorkerPlugin):
    """A pool of one process for every task that the worker runs at the same time.

    Args:
        name: of the plugin.
        target: see `WorkerPool`.
        setup: see `ClusterPool`.
        files: contents by name.
        options: further arguments of the pools.
    """

    def __init__(
        self, name: str, target: str, setup: Any, files: dict[str, bytes], options: dict[str, Any]
    ) -> None:
        self.name, self._version = name, __version__
        self._target, self._task_setup, self._files = target, setup, files
        self._options = options

    def setup(self, worker: Worker) -> None:
        """Write the files, on a worker that joins; processes start with their first task."""
        # Not in the constructor: the plugin travels as a pickle.
        self._lock, self._idle = threading.Lock(), list[WorkerPool]()
        self._pools = list[WorkerPool]()
        self._folder = Path(tempfile.mkdtemp(prefix="siamtrack-", dir=worker.local_directory))
        for name, content in self._files.items():
            atomic_write(self._folder / name, content)
        if self._files:
            self._task_setup = {**self._task_setup, "folder": str(self._folder)}

    def teardown(self, worker: Worker) -> None:
        """End all processes."""
        for pool in self._pools:
            pool.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, group: Sequence[Any]) -> list[tuple[Any, TaskFailure | None]]:
        """Run tasks one after another in a process that is free; results in their order."""
        if self._version != __version__:
            raise ClusterError(
                f"this worker has siamtrack {__version__}, the client {self._version}; install "
                "the same version on both"
            )
        with self._lock:
            if not self._idle:
                number = len(self._pools)
                made = WorkerPool(
                    self._target,
                    self._task_setup,
                    workers=1,
                    logs=self._folder / f"logs-{number}",
                    **self._options,
                )
                self._pools.append(made)
                self._idle.append(made)
            pool = self._idle.pop()
        results: list[tuple[Any, TaskFailure | None]] = []
        try:
            pool.run([group], on_result=lambda _, task, *result: results.append(result))
        finally:
            with self._lock:
                self._idle.append(pool)
        return results


def run_group(name: str, group: Sequence[Any]) -> tuple[list[tuple[Any, Any]], str]:
    """Run a group in the processes of the plugin `name`; returns the address of the worker too."""
    worker = get_worker()
    plugin = cast(ProcessPlugin, worker.plugins[name])
    return plugin.run(group), worker.address


def installed_version() -> str:
    """The siamtrack of a worker."""
    return __version__
