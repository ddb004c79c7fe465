"""Worker processes for tasks that may hang or crash, such as other people's trackers.

A tracker that loops forever in C cannot be interrupted from within, and one that crashes ends its
process. `concurrent.futures` can neither kill one hung task nor survive one crash.

`WorkerPool` is the parent's side. The child is `python -m siamtrack.utils.workers` (`main`, at the
end). They exchange one JSON object per line: the parent sends target and setup once, then tasks;
the child sends `{"heartbeat": frame}` now and then, and `{"result": ...}` or `{"error": ...}` last.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Any, Literal

from siamtrack.errors import SiamTrackError, with_notes
from siamtrack.utils.files import Closing

HEARTBEAT_INTERVAL_S = 0.2  # least time between two: enough for a progress bar
HEARTBEAT_SLACK_S = 0.5  # added to the time-out of a frame, because heartbeats are throttled
CLOSE_TIMEOUT_S = 10.0
ORPHAN_GRACE_S = 1.0  # for an idle child to end by itself once its input has ended
LOG_TAIL_BYTES = 300  # end of a log in which the last line is looked for
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """Why a task has no result.

    Attributes:
        kind: "error": its function said why; "died": its process ended or could not be used;
            "hung": it took too long and was killed.
        reason: for the user.
    """

    kind: Literal["error", "died", "hung"]
    reason: str

    def __str__(self) -> str:
        return self.reason


class WorkerPool(Closing):
    """Processes that run tasks; a task that hangs or crashes costs only itself.

    A process starts with its first task and serves until `close`, so the target's module can keep
    compiled networks and decoded frames from one task to the next.

    Example:
        >>> with WorkerPool("package.module:render", {"seed": 1}, workers=2) as pool:
        ...     pool.run([[0, 1], [2]], on_result=store)  # doctest: +SKIP
    """

    def __init__(
        self,
        target: str,
        setup: Any,
        *,
        workers: int,
        logs: Path | None = None,
        start_timeout_s: float | None = 300.0,
        task_timeout_s: float | None = 60.0,
        total_timeout_s: float | None = None,
        threads: int | None = 1,
        retries: int = 0,
        fresh: Callable[[Any], bool] = lambda task: False,
    ) -> None:
        """Describe the processes; none is started yet.

        Setup, tasks and results travel as JSON: plain data, or dataclasses of plain data and
        paths, which arrive as dicts and strings.

        Args:
            target: "package.module:function", called as `function(setup, task, heartbeat)`. It
                calls `heartbeat(frame)` before each frame of its work.
            setup: what all tasks share.
            workers: number of processes, at least 1.
            logs: folder for their output, `worker-1.log` and so on; None for standard error.
            start_timeout_s: longest time from a task to its first heartbeat; None for no limit.
            task_timeout_s: longest time between two heartbeats; None for no limit.
            total_timeout_s: longest time from the first heartbeat of a task to its end; None for
                no limit.
            threads: computing threads of each process; None for what the environment says, so that
                numbers are those of a command started here, to the last digit.
            retries: how often a task whose process died is tried again, in another process.
            fresh: whether a task needs a process that has run nothing before.
        """
        self.greeting = {"target": target, "setup": setup}
        self.start_timeout_s, self.task_timeout_s = start_timeout_s, task_timeout_s
        self.total_timeout_s, self.retries = total_timeout_s, retries
        self.threads, self.fresh = threads, fresh
        files = [logs and logs / f"worker-{number}.log" for number in range(1, workers + 1)]
        self._processes = [_WorkerProcess(self, log) for log in files]

    def run(
        self,
        groups: Sequence[Sequence[Any]],
        on_progress: Callable[[int, Any, int], object] = lambda worker, task, frame: None,
        on_result: Callable[[int, Any, Any, TaskFailure | None], object] = lambda *result: None,
        *,
        pinned: bool = False,
    ) -> None:
        """Run all tasks; returns when the last one is finished. May be called again.

        The callbacks are never called from two threads at once. What they raise stops the run,
        ends all processes and is raised here; so does Ctrl-C, which the children never see.

        Args:
            groups: tasks that one worker runs one after another.
            on_progress: called with worker number (from 0), task and the frame of a heartbeat.
            on_result: called with worker number, task, the function's result and None, or None and
                why there is none.
            pinned: worker k always gets groups k, k + workers, ...; otherwise a worker that is
                free takes the next one.
        """
        # 1. A queue for each worker, or one for all.
        used = self._processes[: len(groups)]
        shared = deque(groups)
        queues = [deque(groups[k :: len(used)]) if pinned else shared for k in range(len(used))]
        lock, stopped = threading.Lock(), threading.Event()

        def progress(worker: int, task: Any, frame: int) -> None:
            with lock:
                on_progress(worker, task, frame)

        def work(worker: int) -> None:
            while True:
                try:
                    group = queues[worker].popleft()
                except IndexError:
                    return
                for task in group:
                    for _ in range(1 + self.retries):
                        result, failure = used[worker].run(task, partial(progress, worker, task))
                        if stopped.is_set():
                            return
                        if failure is None or failure.kind != "died":
                            break
                    with lock:
                        on_result(worker, task, result, failure)

        # 2. One thread per process. It waits for its process, so plain threads will do.
        with ThreadPoolExecutor(max(1, len(used)), thread_name_prefix="workers") as threads:
            futures = [threads.submit(work, worker) for worker in range(len(used))]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                for future in futures:
                    if future.done():
                        future.result()
            except BaseException:
                # Killing the processes ends the waiting of their threads.
                stopped.set()
                for process in used:
                    process.stop()
                raise

    def kill(self) -> None:
        """End the processes at once, from another thread; what they run has no result."""
        for process in self._processes:
            process.end(kill=True)

    def close(self) -> None:
        """Let the processes end; the next `run` would start others."""
        for process in self._processes:
            process.end(kill=False)


class _WorkerProcess:
    """One process, seen from the parent: started when needed, killed when it hangs."""

    def __init__(self, pool: WorkerPool, log: Path | None) -> None:
        self._pool = pool
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self._answers: Queue[str | None] = Queue()
        self._is_unused = True
        self._stopped = threading.Event()

    def run(self, task: Any, on_progress: Callable[[int], None]) -> tuple[Any, TaskFailure | None]:
        """Run one task: its result and None, or None and why there is none."""
        try:
            # 1. A process that can take the task: alive, and unused if the task needs that.
            if self._pool.fresh(task) and not self._is_unused:
                self.end(kill=False)
            if self._process is None or self._process.poll() is not None:
                self.end(kill=True)
                self._process = self._start()
                if self._stopped.is_set():  # meanwhile, by another thread
                    raise OSError("the run was stopped")
                _write_line(self._process.stdin, self._pool.greeting)
            # 2. The task, and what comes of it.
            self._is_unused = False
            _write_line(self._process.stdin, task)
            return self._receive(on_progress)
        except OSError as error:
            self.end(kill=True)
            return None, TaskFailure("died", f"the worker process cannot be used: {error}")

    def stop(self) -> None:
        """Kill the process and start no other; for use by another thread."""
        self._stopped.set()
        self.end(kill=True)

    def end(self, *, kill: bool) -> None:
        """End the process, at once or by closing its input; the next task starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            process.wait(CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self) -> subprocess.Popen[str]:
        if self._log is not None:
            self._log.parent.mkdir(parents=True, exist_ok=True)
        threads = self._pool.threads
        limits = dict.fromkeys(THREAD_VARIABLES, str(threads)) if threads is not None else {}
        with self._log.open("ab") if self._log is not None else contextlib.nullcontext() as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "siamtrack.utils.workers"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **limits},
                text=True,
                encoding="utf-8",
                # Ctrl-C goes to the parent only, which then ends its workers.
                start_new_session=True,
            )
        # A thread passes lines on, because a pipe cannot be read with a time-out everywhere.
        self._answers = Queue()
        arguments = (process.stdout, self._answers)
        threading.Thread(target=_pass_lines, args=arguments, daemon=True).start()
        self._is_unused = True
        return process

    def _receive(self, on_progress: Callable[[int], None]) -> tuple[Any, TaskFailure | None]:
        # Start-up has a limit of its own; every heartbeat then starts that of a frame anew.
        limit, position = self._pool.start_timeout_s, "before its first frame"
        total, deadline_s = self._pool.total_timeout_s, math.inf
        while True:
            left_s = deadline_s - time.monotonic()
            try:
                line = self._answers.get(timeout=_least(limit, max(left_s, 0.0)))
            except Empty:
                self.end(kill=True)
                if limit is None or left_s < limit:
                    reason = f"not finished within {total:g} s, killed {position}"
                else:
                    reason = f"hung {position}: no answer for {limit:g} s, killed"
                return None, TaskFailure("hung", reason)
            if line is None:
                how = f"its process died {position}{self._exit_reason()}"
                return None, TaskFailure("died", how)
            answer = json.loads(line)
            if "error" in answer:
                return None, TaskFailure("error", answer["error"])
            if "heartbeat" not in answer:
                return answer["result"], None
            if total is not None and deadline_s == math.inf:
                deadline_s = time.monotonic() + total
            limit, position = self._pool.task_timeout_s, f"after frame {answer['heartbeat']}"
            if limit is not None:
                limit += HEARTBEAT_SLACK_S
            on_progress(int(answer["heartbeat"]))

    def _exit_reason(self) -> str:
        """How the process ended and the last line it printed."""
        code = self._process.wait() if self._process is not None else 0
        self.end(kill=True)
        how = f" (signal {-code})" if code < 0 else f" (exit code {code})"
        if self._log is None:
            return how
        with self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return f"{how}: {lines[-1].strip()}" if lines else how


def _least(limit_s: float | None, left_s: float) -> float | None:
    """The shorter of two times to wait, None for no end."""
    if limit_s is None:
        return None if left_s == math.inf else left_s
    return min(limit_s, left_s)


def _pass_lines(stream: IO[str], queue: Queue[str | None]) -> None:
    """Put every line into the queue, then None."""
    with stream:
        for line in stream:
            queue.put(line)
    queue.put(None)


def _write_line(stream: IO[str] | None, message: Any) -> None:
    if stream is not None:
        stream.write(json.dumps(message, default=_to_plain) + "\n")
        stream.flush()


def _to_plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else asdict(value)


def main() -> None:
    """The child: answer lines of JSON, target and setup first, then tasks.

    A `SiamTrackError` is an answer; any other error ends the process.
    """
    # Keep stdout for answers, and let file descriptor 1, which C libraries print to, be stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # Target and setup.
    requests = _lines_of_stdin()
    greeting = json.loads(next(requests))
    module, _, name = greeting["target"].partition(":")
    function = getattr(importlib.import_module(module), name)
    last_heartbeat_s = 0.0

    def heartbeat(frame: int) -> None:
        nonlocal last_heartbeat_s
        if time.monotonic() - last_heartbeat_s >= HEARTBEAT_INTERVAL_S:
            last_heartbeat_s = time.monotonic()
            _write_line(answers, {"heartbeat": frame})

    for line in requests:
        last_heartbeat_s = 0.0  # the first heartbeat always goes out: the start is over
        try:
            answer = {"result": function(greeting["setup"], json.loads(line), heartbeat)}
        except SiamTrackError as error:
            answer = {"error": with_notes(error)}
        _write_line(answers, answer)


def _lines_of_stdin() -> Iterator[str]:
    """Lines as they arrive. The worker exits when its parent dies, even in the middle of a task."""
    lines: Queue[str | None] = Queue()

    def read() -> None:
        _pass_lines(sys.stdin, lines)
        time.sleep(ORPHAN_GRACE_S)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while (line := lines.get()) is not None:
        yield line


if __name__ == "__main__":
    main()
