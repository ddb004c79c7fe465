"""What is to be tracked, one job after another, in one child process.

A job is what a person asked for at once: one run for each target and direction. Its rows grow in
files of the project, where they are read from here for the page. A job that is stopped, or whose
process dies or hangs, keeps the rows it has.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from siamtrack.data.project_files import read_rows
from siamtrack.data.project_state import RunInfo
from siamtrack.errors import SiamTrackError
from siamtrack.studio.project import UnknownNumberError
from siamtrack.tracking.track import Rows
from siamtrack.utils.files import Closing, TemporaryFolder
from siamtrack.utils.workers import TaskFailure, WorkerPool

LOST_FRAMES = 60
"""A run ends when its target was lost for so many frames, where that is asked for."""
HANG_S = 10.0
"""Longest time for a frame before the process is killed."""
START_S = 300.0
"""Longest time to load the weights and to find the first frame."""
TELL_EVERY_S = 0.1
STOP_GRACE_S = 0.12
"""How long a job that is to stop may go on with its frame before its process is killed."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run to be made: from a key frame to the frame `last`, and why it ends there."""

    info: RunInfo
    last: int
    at_last: str
    lost_limit: int | None

    @property
    def length(self) -> int:
        """Rows it has if nothing ends it."""
        return -(-abs(self.last - self.info.frame) // self.info.step)


class TrackedClip:
    """What a job needs of the clip that it tracks in; `siamtrack.studio.session` has it."""

    number: int
    location: str

    def begin_run(self, info: RunInfo) -> tuple[str, Path]:
        """Name and path of a file for the rows of a run."""
        raise NotImplementedError

    def finish_runs(self, runs: Mapping[str, RunInfo]) -> dict[str, Any]:
        """Keep the rows of runs, by the name of their files; returns revision and changes."""
        raise NotImplementedError


@dataclass(slots=True, eq=False)
class TrackingJob:
    """Runs that a person asked for at once.

    Attributes:
        number: of the job.
        clip: to track in.
        direction: "forward", "backward" or "both".
        runs: forward ones first.
        done: rows that there are.
        stopping: somebody wants it to end.
    """

    number: int
    clip: TrackedClip
    direction: str
    runs: tuple[PlannedRun, ...]
    done: int = 0
    is_running: bool = False
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def total(self) -> int:
        """Rows it has if nothing ends it earlier."""
        return sum(run.length for run in self.runs)

    def to_json(self) -> dict[str, Any]:
        """What the page shows of it."""
        return {
            "job": self.number,
            "clip": self.clip.number,
            "state": "running" if self.is_running else "waiting",
            "targets": list(dict.fromkeys(run.info.target for run in self.runs)),
            "direction": self.direction,
            "done": self.done,
            "total": self.total,
        }


class JobQueue(Closing):
    """Runs jobs one after another in a thread and a child process.

    Args:
        setup: arguments of `siamtrack.load`, for the child.
        scratch: for the output of the child.
        tell: called with every event, from the queue's thread.
    """

    def __init__(
        self,
        setup: Mapping[str, Any],
        scratch: TemporaryFolder,
        tell: Callable[[dict[str, Any]], object],
    ) -> None:
        self._setup, self._scratch, self._tell = dict(setup), scratch, tell
        self._jobs: list[TrackingJob] = []  # the running one first
        self._next = 1
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="studio-jobs", daemon=True)
        self._thread.start()

    @cached_property
    def _pool(self) -> WorkerPool:
        """The child; whoever only looks has none."""
        return WorkerPool(
            "siamtrack.studio.worker:run_task",
            self._setup,
            workers=1,
            logs=self._scratch.path,
            start_timeout_s=START_S,
            task_timeout_s=HANG_S,
            threads=None,  # sums depend on it: the boxes are to be those of `siamtrack track`
        )

    @property
    def is_running(self) -> bool:
        """Whether a job is being tracked or waits."""
        return bool(self._jobs)

    def add(self, clip: TrackedClip, direction: str, runs: Sequence[PlannedRun]) -> int:
        """Queue a job; returns its number."""
        with self._changed:
            job = TrackingJob(self._next, clip, direction, tuple(runs))
            self._next += 1
            self._jobs.append(job)
            self._changed.notify()
        self._tell({"type": "queue", "jobs": self.to_json()})
        return job.number

    def stop(self, number: int) -> None:
        """Stop a job, or take it from the queue.

        Raises:
            UnknownNumberError: there is none of that number.
        """
        with self._changed:
            job = self._find(number)
            job.stopping.set()
            if not job.is_running:
                self._jobs.remove(job)
        self._tell({"type": "queue", "jobs": self.to_json()})

    def stop_from(self, clip: TrackedClip, starts: set[tuple[int, int]]) -> None:
        """Stop jobs with a run from one of these key frames (target, frame), which changed."""
        with self._changed:
            jobs = [
                job
                for job in self._jobs
                if job.clip is clip
                and any((run.info.target, run.info.frame) in starts for run in job.runs)
            ]
        for job in jobs:
            self.stop(job.number)

    def move(self, number: int, position: int) -> None:
        """Move a waiting job to a position among those that wait.

        Raises:
            UnknownNumberError: none of that number waits.
        """
        with self._changed:
            job = self._find(number)
            if job.is_running:
                raise UnknownNumberError(f"job {number} is running; stop it instead")
            self._jobs.remove(job)
            first = sum(other.is_running for other in self._jobs)
            self._jobs.insert(first + max(0, position), job)
        self._tell({"type": "queue", "jobs": self.to_json()})

    def to_json(self) -> list[dict[str, Any]]:
        """All jobs, in their order."""
        with self._changed:
            return [job.to_json() for job in self._jobs]

    def close(self) -> None:
        """Stop all; the rows there are are kept."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                job.stopping.set()
            self._changed.notify()
        self._thread.join()
        if "_pool" in self.__dict__:
            self._pool.close()

    def _find(self, number: int) -> TrackingJob:
        for job in self._jobs:
            if job.number == number:
                return job
        raise UnknownNumberError(f"there is no job {number}; it may have ended")

    # -- The thread

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return
                job = self._jobs[0]
                job.is_running = True
            self._tell({"type": "queue", "jobs": self.to_json()})
            ended = self._run(job)
            with self._changed:
                self._jobs.remove(job)
            self._tell(ended)
            self._tell({"type": "queue", "jobs": self.to_json()})

    def _run(self, job: TrackingJob) -> dict[str, Any]:
        """Track; returns the event that says how it ended."""
        event: dict[str, Any] = {"type": "done", "job": job.number, "clip": job.clip.number}
        begun: dict[str, RunInfo] = {}
        try:
            # 1. Files for the rows.
            paths: list[Path] = []
            for run in job.runs:
                name, path = job.clip.begin_run(run.info)
                begun[name] = run.info
                paths.append(path)

            # 2. Track, and tell of new rows as they come.
            stop = paths[0].with_suffix(".stop")
            stop.unlink(missing_ok=True)
            outcome = self._track(job, paths, stop)
            stop.unlink(missing_ok=True)
            answer, failure = outcome or (None, None)

            # 3. Keep the rows.
            reasons = answer["reasons"] if answer else [""] * len(paths)
            found = {name: answer[name] for name in ("engine", "options")} if answer else {}
            reason, message = reasons[-1], None
            if job.stopping.is_set():
                reason = "stopped"
            elif not answer:
                reason = "hung" if failure is not None and failure.kind == "hung" else "failed"
                message = f"tracking ended: {failure}; the rows up to there are kept"
            kept = {
                name: replace(info, reason=why or reason, **found)
                for (name, info), why in zip(begun.items(), reasons, strict=True)
            }
            return {**event, "reason": reason, "message": message, **job.clip.finish_runs(kept)}
        except (SiamTrackError, OSError) as error:
            return {**event, "reason": "failed", "message": str(error), "changes": None}

    def _track(
        self, job: TrackingJob, paths: Sequence[Path], stop: Path
    ) -> tuple[dict[str, Any] | None, TaskFailure | None] | None:
        """The worker's answer or the reason why there is none; None if the job was stopped."""
        passes = []
        for direction in (1, -1):
            runs = [
                {
                    "path": path,
                    "frame": run.info.frame,
                    "box": run.info.box,
                    "last": run.last,
                    "at_last": run.at_last,
                    "lost_limit": run.lost_limit,
                }
                for run, path in zip(job.runs, paths, strict=True)
                if run.info.direction == direction
            ]
            if runs:
                passes.append({"direction": direction, "runs": runs})
        task = {
            "clip": job.clip.location,
            "stop": stop,
            "step": job.runs[0].info.step,
            "passes": passes,
        }
        pool = self._pool
        answers: list[tuple[dict[str, Any] | None, TaskFailure | None]] = []

        def keep(
            worker: int, task: Any, answer: dict[str, Any] | None, failure: TaskFailure | None
        ) -> None:
            answers.append((answer, failure))

        def work() -> None:
            pool.run([[task]], on_result=keep)

        thread = threading.Thread(target=work, name="studio-track", daemon=True)
        thread.start()
        seen = [0] * len(paths)
        since_s = time.monotonic()
        while thread.is_alive():
            if job.stopping.wait(TELL_EVERY_S):
                stop.touch()
                thread.join(STOP_GRACE_S)
                if thread.is_alive():
                    pool.kill()
                    thread.join()
                break
            self._tell_rows(job, paths, seen, since_s)
        thread.join()
        self._tell_rows(job, paths, seen, since_s)
        return None if job.stopping.is_set() and not answers else answers[0]

    def _tell_rows(
        self, job: TrackingJob, paths: Sequence[Path], seen: list[int], since_s: float
    ) -> None:
        """Tell of the rows that are new since the last time."""
        found: list[dict[str, Any]] = []
        for k, (run, path) in enumerate(zip(job.runs, paths, strict=True)):
            rows = read_rows(path, seen[k])
            if len(rows):
                found.append(
                    {
                        "target": run.info.target,
                        "direction": run.info.direction,
                        **rows_to_json(rows),
                    }
                )
                seen[k] += len(rows)
        if not found:
            return
        job.done = sum(seen)
        seconds = time.monotonic() - since_s
        self._tell(
            {
                "type": "progress",
                "job": job.number,
                "clip": job.clip.number,
                "done": job.done,
                "total": job.total,
                "fps": round(job.done / seconds, 1) if seconds else None,
                "rows": found,
            }
        )


def rows_to_json(rows: Rows) -> dict[str, list[Any]]:
    """Columns of rows."""
    return {
        "frame": rows["frame"].tolist(),
        **{name: rows["box"][:, k].round(2).tolist() for k, name in enumerate("xywh")},
        "score": rows["score"].round(4).tolist(),
        "status": rows["status"].tolist(),
    }
