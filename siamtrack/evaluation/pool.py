"""Run groups of units in worker processes on this machine."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

from siamtrack.evaluation.plan import Group, Outcome, Setting, Unit
from siamtrack.evaluation.process import WorkerProcess


class Watcher(Protocol):
    """Is told how an evaluation goes; never from two threads at once."""

    def on_frame(self, worker: int, unit: Unit, frame: int) -> None:
        """Worker number `worker` got as far as `frame` of `unit`."""

    def on_outcome(self, worker: int, outcome: Outcome) -> None:
        """A unit is over."""


def run_here(
    groups: Sequence[Group],
    setting: Setting,
    watcher: Watcher,
    *,
    workers: int,
    logs: Path,
) -> None:
    """Run `groups` in `workers` processes; returns when all are over.

    Args:
        groups: taken from the front as workers become free; one worker runs one group.
        setting: shared by all units.
        watcher: told of every outcome; what it raises stops the run and is raised here.
        workers: number of processes.
        logs: folder for what trackers print, a file per worker.

    Raises:
        OutputError: from the watcher, when results cannot be stored.
    """
    queue: deque[Group] = deque(groups)
    lock = threading.Lock()
    stopped = threading.Event()
    processes = [WorkerProcess(setting, logs / f"worker-{k + 1}.log") for k in range(workers)]

    def work(worker: int, process: WorkerProcess) -> None:
        report = _locked(lock, watcher.on_outcome)
        while not stopped.is_set():
            try:
                group = queue.popleft()
            except IndexError:
                return
            for unit in group:
                beat = _beat(lock, watcher, worker, unit)
                outcome = process.run(unit, beat)
                if stopped.is_set():
                    return
                report(worker, outcome)

    with ThreadPoolExecutor(workers, thread_name_prefix="evaluation") as pool:
        futures = [pool.submit(work, k, process) for k, process in enumerate(processes)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future.done():
                    future.result()
        finally:
            stopped.set()
            for process, future in zip(processes, futures, strict=True):
                process.close() if future.done() else process.retire()


def _locked(
    lock: threading.Lock, call: Callable[[int, Outcome], None]
) -> Callable[[int, Outcome], None]:
    def locked(worker: int, outcome: Outcome) -> None:
        with lock:
            call(worker, outcome)

    return locked


def _beat(lock: threading.Lock, watcher: Watcher, worker: int, unit: Unit) -> Callable[[int], None]:
    def beat(frame: int) -> None:
        with lock:
            watcher.on_frame(worker, unit, frame)

    return beat
