"""The child process that tracks, see `siamtrack.utils.workers`: a crash or a hang is its alone.

It appends the rows of each run to the run's file as they come; the parent reads them there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from siamtrack.api import load
from siamtrack.errors import OutputError
from siamtrack.studio.store import SYNC_ROWS, write_all
from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.result import Result
from siamtrack.tracking.track import ROW, STATUSES
from siamtrack.tracking.tracker import Tracker
from siamtrack.video.source import Source, open_source


@dataclass(slots=True, eq=False)
class _RunAtWork:
    """One run: from a key frame to the frame `last`.

    Attributes:
        frame, box: of the key frame.
        last: the frame to end with.
        at_last: why it ends there.
        lost_limit: end when lost for so many frames; None: never.
        file: its rows.
        number: of the target in the tracker, once it has begun.
        reason: why it ended; "" while it goes on.
    """

    frame: int
    box: Sequence[float]
    last: int
    at_last: str
    lost_limit: int | None
    file: FileIO
    number: int | None = None
    reason: str = ""
    rows: int = 0
    lost_from: int | None = None


def run_task(
    setup: Mapping[str, Any], task: Mapping[str, Any], heartbeat: Callable[[int], None]
) -> dict[str, Any]:
    """Track the runs of one task.

    Args:
        setup: arguments of `siamtrack.load`.
        task: clip; stop, a file that ends the task once it exists; step; passes over the clip, each
            with its direction and runs: path, frame, box, last, at_last, lost_limit.
        heartbeat: called after every frame.

    Returns:
        Why each run ended, in the order of the task, and what tracked.
    """
    tracker = _load(json.dumps(setup, sort_keys=True))
    multi = MultiTracker(partial(Tracker, tracker.engine, tracker.options))
    reasons: list[str] = []
    with ExitStack() as stack:
        video = stack.enter_context(open_source(task["clip"], live=False))
        for one in task["passes"]:
            runs = [
                _RunAtWork(
                    **{name: value for name, value in run.items() if name != "path"},
                    file=stack.enter_context(FileIO(run["path"], "a")),
                )
                for run in one["runs"]
            ]
            stop = Path(task["stop"])
            _track(multi, video, runs, one["direction"], task["step"], stop, heartbeat)
            multi.reset()
            reasons += [run.reason for run in runs]
    return {"reasons": reasons, **_identity(tracker)}


@lru_cache(maxsize=1)
def _load(setup: str) -> Tracker:
    """Kept from task to task: compiling a network takes as long as tracking a hundred frames."""
    options = json.loads(setup)
    return load(**{**options.pop("options"), **options})


def _identity(tracker: Tracker) -> dict[str, str]:
    """What tracked, as far as boxes depend on it."""
    options = hashlib.sha256(repr(tracker.options).encode()).hexdigest()[:16]
    engine = tracker.engine
    return {"engine": f"{engine.name}:{engine.precision}", "options": options}


def _track(
    multi: MultiTracker,
    video: Source,
    runs: Sequence[_RunAtWork],
    direction: int,
    step: int,
    stop: Path,
    heartbeat: Callable[[int], None],
) -> None:
    """One pass over the clip for all runs of a direction."""
    # 1. The frames that are looked at: every `step`-th one, and both ends of every run.
    starts, lasts = [run.frame for run in runs], [run.last for run in runs]
    begin, end = (min(starts), max(lasts)) if direction > 0 else (max(starts), min(lasts))
    wanted = {*range(begin, end + direction, step * direction), *starts, *lasts}
    for frame in sorted(wanted, reverse=direction < 0):
        running = {run.number: run for run in runs if run.number is not None and not run.reason}
        beginning = [run for run in runs if run.frame == frame]
        if not running and not beginning:
            continue
        if stop.exists():
            for run in runs:
                run.reason = run.reason or "stopped"
            return

        # 2. Track the runs there are, and start those whose key frame this is.
        image = video[frame].image
        for number, result in (multi.update(image) if running else {}).items():
            run = running[number]
            _append(run, frame, result)
            if run.reason:
                multi.remove(number)
        for run in beginning:
            run.number = multi.add(image, run.box)
        # Afterwards: the first frame compiles the network, which takes as long as it takes.
        heartbeat(frame)
    for run in runs:
        run.reason = run.reason or run.at_last


def _append(run: _RunAtWork, frame: int, result: Result) -> None:
    """Write a row, and decide whether the run ends with it."""
    row = np.zeros(1, ROW)
    row["frame"], row["box"], row["score"] = frame, result.box, result.score
    row["status"] = STATUSES[result.status]
    try:
        write_all(run.file, row.tobytes())
        run.rows += 1
        if run.rows % SYNC_ROWS == 0:
            os.fsync(run.file.fileno())
    except OSError as error:
        raise OutputError(
            f"the rows of the run cannot be written ({error.strerror}); free some space"
        ) from error
    if result.status != "lost":
        run.lost_from = None
    elif run.lost_from is None:
        run.lost_from = frame
    if frame == run.last:
        run.reason = run.at_last
    elif run.lost_limit is not None and run.lost_from is not None:
        if abs(frame - run.lost_from) + 1 >= run.lost_limit:
            run.reason = "lost"
