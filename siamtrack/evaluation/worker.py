"""The process in which trackers run: `python -m siamtrack.evaluation.worker`.

It reads one JSON object per line from standard input and answers on standard output. First comes a
`Setting`, then units; for each unit it says `{"beat": frame}` now and then and at last
`{"outcome": ...}`. Whatever trackers and their libraries print goes to standard error. The process
ends when its input does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO, cast

import cv2

from siamtrack.errors import SiamTrackError
from siamtrack.evaluation.datasets import Benchmark, open_benchmark
from siamtrack.evaluation.runs import Session, run_variant, variant_named
from siamtrack.evaluation.task import Outcome, Setting, Unit
from siamtrack.evaluation.trackers import EvaluatedTracker, TrackerSpec

BEAT_S = 0.2
"""Least time between two beats: often enough for a progress bar and a time-out, free of charge."""

GRACE_S = 1.0
"""Time to end by itself for a process without work whose input has ended."""


def run_unit(
    benchmark: Benchmark,
    unit: Unit,
    beat: Callable[[int], None] = lambda frame: None,
    kept: dict[str, Any] | None = None,
) -> Outcome:
    """Run one unit in this process; a tracker that fails is an outcome, not an error.

    Args:
        benchmark: the data set that `unit` names a sequence of.
        unit: what to run.
        beat: told the number of every frame before the tracker gets it.
        kept: trackers of ours that earlier units built, by name and options, and this one's too
            afterwards. They forget everything when they are reset, and compiling a network takes
            as long as tracking a hundred frames. Those of others are built anew for every unit.
    """
    kept = {} if kept is None else kept
    # OpenCV's trackers draw from one generator per process: without this, their boxes would depend
    # on what ran before.
    cv2.setRNGSeed(0)
    try:
        sequence = benchmark.load(unit.sequence)
        tracker = _tracker_for(TrackerSpec(unit.tracker, unit.options), kept)
        run = run_variant(Session(tracker, beat), sequence, variant_named(unit.variant))
    except SiamTrackError as error:
        return Outcome(unit, None, str(error))
    return Outcome(unit, run)


def _tracker_for(spec: TrackerSpec, kept: dict[str, Any]) -> EvaluatedTracker:
    """A tracker that knows of no target."""
    if not spec.is_ours:
        return spec.build()
    tracker: Any = kept.pop(str(spec), None) or spec.build()
    tracker.reset()
    if tracker.budget is None:  # which remembers how long frames took
        kept[str(spec)] = tracker
    return cast("EvaluatedTracker", tracker)


def serve(requests: Iterator[str], answers: TextIO) -> None:
    """Answer a setting and its units until there are no more.

    Args:
        requests: lines of JSON.
        answers: where lines of JSON go.
    """
    last = [0.0]

    def answer(message: dict[str, Any]) -> None:
        last[0] = time.monotonic()
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    def beat(frame: int) -> None:
        if time.monotonic() - last[0] >= BEAT_S:
            answer({"beat": frame})

    setting = Setting(**json.loads(next(requests)))
    cv2.setNumThreads(setting.threads)
    benchmark: Benchmark | None = None
    kept: dict[str, Any] = {}
    for line in requests:
        unit = Unit.from_json(json.loads(line))
        last[0] = 0.0  # the first beat tells that the start is over
        try:
            benchmark = benchmark or open_benchmark(setting.benchmark, Path(setting.root))
            outcome = run_unit(benchmark, unit, beat, kept)
        except SiamTrackError as error:
            outcome = Outcome(unit, None, str(error))
        answer({"outcome": outcome.to_json()})


def _lines_of_stdin() -> Iterator[str]:
    """Lines as they come; a parent that is gone ends the process, even in the middle of work."""
    lines: SimpleQueue[str | None] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put(None)
        time.sleep(GRACE_S)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while (line := lines.get()) is not None:
        yield line


def main() -> None:
    """Serve on standard input and output."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(_lines_of_stdin(), channel)


if __name__ == "__main__":
    main()
