"""The client's side of a Dask cluster: the same tasks as `workers.WorkerPool`, on other machines.

Every worker of the cluster keeps one process per thread of its own (`cluster_worker`), which runs
one task after another as a local worker would. Results come back to the client. When a worker of
the cluster dies, Dask gives its tasks to another.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from queue import Empty, Queue
from typing import Any, TypeVar

from siamtrack._version import __version__
from siamtrack.errors import ClusterError, ConfigError
from siamtrack.utils.files import Closing
from siamtrack.utils.workers import TaskFailure

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 30
GROUPS_PER_SLOT = 4
"""Groups that wait at the scheduler for each thread of the cluster: its memory is not ours."""
LOOK_S = 5.0
"""After so long without a result, the scheduler is asked whether it has workers at all."""
NO_WORKERS_S = 120.0
"""How long a run waits for a worker when there is none left."""

Waited = TypeVar("Waited")


class ClusterPool(Closing):
    """Tasks on the workers of a Dask cluster.

    Args:
        target: see `WorkerPool`.
        setup: see `WorkerPool`. If there are files, a dict, and its "folder" becomes the folder
            that they lie in on the worker.
        address: of the scheduler.
        name: of this run on the cluster. One that was killed leaves its processes there until a
            run of the same name takes their place.
        files: contents by name, sent to every worker.
        retries: how often a task whose process died is tried again, on any worker.
        **options: further arguments of the `WorkerPool` of every worker; plain data or functions.

    Raises:
        ConfigError: Dask is not installed.
        ClusterError: no scheduler or worker answers, or one has another siamtrack.
    """

    def __init__(
        self,
        target: str,
        setup: Any,
        address: str,
        name: str,
        *,
        files: Mapping[str, bytes] | None = None,
        retries: int = 0,
        **options: Any,
    ) -> None:
        try:
            from distributed import Client
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"--scheduler needs Dask ({error}); pip install dask distributed"
            ) from error
        from siamtrack.utils.cluster_worker import ProcessPlugin, installed_version

        self._address, self._retries = address, retries
        digest = hashlib.sha256(f"{socket.gethostname()}:{name}".encode()).hexdigest()
        self._name = f"siamtrack-{digest[:16]}"
        try:
            self._client = Client(address, timeout=CONNECT_TIMEOUT_S)
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"no Dask scheduler answers at {address} ({error}); start one with dask scheduler"
            ) from error
        try:
            # 1. Workers, all with this siamtrack.
            try:
                self._client.wait_for_workers(1, timeout=CONNECT_TIMEOUT_S)
            except TimeoutError as error:
                raise ClusterError(
                    f"the scheduler at {address} has no workers; start some with dask worker "
                    f"{address}"
                ) from error
            try:
                versions = self._client.run(installed_version, on_error="return")
                # One that dies just now says nothing; those that join are asked by their tasks.
                versions = {k: v for k, v in versions.items() if not isinstance(v, OSError)}
                for version in versions.values():
                    if isinstance(version, Exception):
                        raise version
            except Exception as error:  # whatever importing siamtrack raised there
                raise ClusterError(
                    f"a worker of the cluster cannot import siamtrack ({error}); install "
                    f"siamtrack {__version__} there"
                ) from error
            for worker, version in versions.items():
                if version != __version__:
                    raise ClusterError(
                        f"worker {worker} has siamtrack {version}, this is {__version__}; install "
                        "the same version on both"
                    )
            # 2. What every worker needs, also those that join later.
            plugin = ProcessPlugin(self._name, target, setup, dict(files or {}), options)
            self._client.register_plugin(plugin, name=self._name)
        except BaseException:
            self._client.close()
            raise

    @property
    def slots(self) -> int:
        """Number of tasks that the cluster runs at a time; workers may come and go."""
        return max(1, self._count_threads())

    def run(
        self,
        groups: Iterable[Sequence[Any]],
        on_result: Callable[[Any, Any, TaskFailure | None, str], object],
    ) -> None:
        """Run all tasks; returns when the last one is finished.

        Args:
            groups: tasks that are sent to a worker together and run one after another; the next
                group is taken when the cluster has room for it.
            on_result: called with a task, its result and None, or None and why there is none, and
                the address of the worker. What it raises stops the run.

        Raises:
            ClusterError: the cluster has lost its scheduler, or all workers for `NO_WORKERS_S`.
        """
        from distributed import KilledWorker

        from siamtrack.utils.cluster_worker import run_group

        waiting = iter(groups)
        sent: dict[Any, tuple[Sequence[Any], int]] = {}  # group and attempt of every future
        ended: Queue[Any] = Queue()

        def send(group: Sequence[Any], attempt: int) -> None:
            future = self._client.submit(run_group, self._name, group, pure=False)
            sent[future] = group, attempt
            future.add_done_callback(ended.put)

        def fill() -> None:
            room = GROUPS_PER_SLOT * self.slots - len(sent)
            for _, group in zip(range(room), waiting, strict=False):
                send(group, 1)

        fill()
        try:
            while sent:
                future = self._wait(lambda seconds: ended.get(timeout=seconds))
                group, attempt = sent.pop(future)
                # Not its status: a result that died with its worker is lost, and soon there again.
                error = self._wait(future.exception)
                if isinstance(error, CancelledError):
                    raise self._gone() from error
                if error is None:
                    results, worker = self._wait(future.result)
                elif len(group) > 1:
                    # One of them may be what ends every worker that gets it.
                    for task in group:
                        send([task], attempt)
                    continue
                else:
                    # It may have waited for a worker that another task ended, so it is tried again.
                    reason = f"the cluster gave up: {error!r}"
                    if isinstance(error, KilledWorker):
                        reason = (
                            f"{error.allowed_failures + 1} worker(s) of the cluster died with it, "
                            f"the last one {error.last_worker.address}; see their logs, and "
                            "whether their memory is enough"
                        )
                    failure = TaskFailure("died", reason)
                    results, worker = [(None, failure)], ""
                for task, (result, failure) in zip(group, results, strict=True):
                    died = failure is not None and failure.kind == "died"
                    if died and attempt <= self._retries:
                        send([task], attempt + 1)
                    else:
                        on_result(task, result, failure, worker)
                future.release()
                fill()
        finally:
            with suppress(Exception):  # Dask's errors without a scheduler have no common class
                self._client.cancel(list(sent))

    def _wait(self, take: Callable[[float], Waited]) -> Waited:
        """What `take(seconds)` returns, for as long as the cluster can still give it.

        Raises:
            ClusterError: there has been no worker for `NO_WORKERS_S`, or the scheduler is gone.
        """
        alone_since_s: float | None = None
        while True:
            try:
                return take(LOOK_S)
            except CancelledError as error:
                raise self._gone() from error
            except (Empty, TimeoutError):
                pass
            if self._count_threads():
                alone_since_s = None
            elif alone_since_s is None:
                alone_since_s = time.monotonic()
                _log.warning(
                    "the cluster at %s has no worker left; waiting %.0f s for one: dask worker %s",
                    *(self._address, NO_WORKERS_S, self._address),
                )
            elif time.monotonic() - alone_since_s >= NO_WORKERS_S:
                raise ClusterError(
                    f"the cluster at {self._address} has had no worker for {NO_WORKERS_S:.0f} s; "
                    f"see why they ended, start some with dask worker {self._address}, and give "
                    "the same command again: it goes on where it was"
                )

    def _count_threads(self) -> int:
        """Threads of all workers that there are.

        Raises:
            ClusterError: the scheduler does not answer.
        """
        try:
            return sum(self._client.nthreads().values())
        except Exception as error:  # Dask's errors without a scheduler have no common class
            raise self._gone() from error

    def _gone(self) -> ClusterError:
        return ClusterError(
            f"the scheduler at {self._address} ended, or forgot its tasks; start it again and give "
            "the same command again: it goes on where it was"
        )

    def close(self) -> None:
        """End the processes on all workers, and leave the cluster."""
        try:
            with suppress(Exception):  # the cluster is gone, and with it the processes
                self._client.unregister_worker_plugin(self._name)
        finally:
            self._client.close()
