"""A worker process seen from the parent: started when needed, killed when it hangs.

Trackers are other people's code. One that loops for ever in C cannot be interrupted from within,
and one that crashes takes its process along; so each runs in a process of its own kind, and only
its unit is lost with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Any, Protocol

from siamtrack.evaluation.task import Group, Outcome, Setting, Unit
from siamtrack.evaluation.trackers import PROCESS_BOUND

SLACK_S = 0.5
"""Beats are throttled, so that a frame's start is known to within this."""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
CLOSE_TIMEOUT_S = 10.0
LOG_TAIL = 300
"""Bytes at the end of a log among which the last line is looked for."""


class WorkerProcess:
    """Runs units, one at a time; to be used from one thread.

    Args:
        setting: data set, time-outs and threads.
        log: file for what trackers print.
    """

    def __init__(self, setting: Setting, log: Path):
        self._setting = setting
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self._retired = threading.Event()
        self._ran: set[str] = set()
        self._answers: Queue[str | None] = Queue()

    def run(self, unit: Unit, beat: Callable[[int], None] = lambda frame: None) -> Outcome:
        """Run one unit; hangs and crashes are outcomes too.

        Args:
            unit: what to run.
            beat: told how far it is, a few times a second.
        """
        try:
            self._send(unit)
            return self._receive(unit, beat)
        except OSError as error:
            self.kill()
            return Outcome(unit, None, f"the worker process cannot be used: {error}")

    def kill(self) -> None:
        """End the process at once; the next unit starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            _close(process)

    def retire(self) -> None:
        """Kill the process and let no other start; to be called from another thread."""
        self._retired.set()
        self.kill()

    def close(self) -> None:
        """Let the process end by itself."""
        process, self._process = self._process, None
        if process is not None:
            _close(process)

    def _send(self, unit: Unit) -> None:
        if unit.tracker in PROCESS_BOUND and unit.tracker in self._ran:
            self.close()
        if self._process is None or self._process.poll() is not None:
            self.kill()
            self._process = self._start()
            if self._retired.is_set():
                raise OSError("the evaluation was stopped")
            _write(self._process, asdict(self._setting))
        self._ran.add(unit.tracker)
        _write(self._process, unit.to_json())

    def _start(self) -> subprocess.Popen[str]:
        threads = str(self._setting.threads)
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, threads)}
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "siamtrack.evaluation.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
                encoding="utf-8",
                # Ctrl-C is for the parent, which then ends its workers.
                start_new_session=True,
            )
        answers: Queue[str | None] = Queue()
        self._answers = answers
        self._ran = set()
        threading.Thread(target=_pump, args=(process.stdout, answers), daemon=True).start()
        return process

    def _receive(self, unit: Unit, beat: Callable[[int], None]) -> Outcome:
        limit, where = self._setting.start_timeout_s, "before its first frame"
        while True:
            try:
                line = self._answers.get(timeout=limit)
            except Empty:
                self.kill()
                return Outcome(unit, None, f"hung {where}: no answer for {limit:g} s, killed")
            if line is None:
                return Outcome(unit, None, f"its process died {where}{self._post_mortem()}")
            answer = json.loads(line)
            if "outcome" in answer:
                return Outcome.from_json(answer["outcome"])
            limit, where = self._setting.frame_timeout_s + SLACK_S, f"after frame {answer['beat']}"
            beat(int(answer["beat"]))

    def _post_mortem(self) -> str:
        """How the process ended and the last thing it said."""
        code = self._process.wait() if self._process is not None else 0
        self.kill()
        words = [text.strip() for text in _tail(self._log).splitlines() if text.strip()]
        said = f": {words[-1]}" if words else ""
        return f" ({f'signal {-code}' if code < 0 else f'exit code {code}'}){said}"


def _write(process: subprocess.Popen[str], message: dict[str, Any]) -> None:
    if process.stdin is not None:
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()


def _pump(output: IO[str], answers: Queue[str | None]) -> None:
    """Pass lines on, then None: a queue can be waited on with a time-out on every system."""
    with output:
        for line in output:
            answers.put(line)
    answers.put(None)


def _close(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        process.wait(CLOSE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_TAIL))
        return file.read().decode(errors="replace")


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
