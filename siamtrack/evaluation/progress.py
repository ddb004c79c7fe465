"""How far an evaluation is, on stderr: a bar over all frames and a line per worker."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import NoReturn, Self, TextIO

from tqdm import tqdm

from siamtrack.evaluation.plan import Group, Outcome, Unit

FILE_INTERVAL_S = 10.0
"""A log that stderr goes to gets a line now and then rather than moving bars."""


class BarsWatcher:
    """Shows progress; a `Watcher` and a context manager that leaves the last state behind.

    Args:
        groups: everything that is to be run.
        workers: how many processes take part here; 0 when they are elsewhere.
        stream: where to show it, stderr by default.
    """

    def __init__(self, groups: Sequence[Group], workers: int, stream: TextIO | None = None) -> None:
        stream = sys.stderr if stream is None else stream
        units = [unit for group in groups for unit in group]
        moving = stream.isatty()
        self._failed = 0
        self._done = dict.fromkeys(range(workers), 0)
        self._total: tqdm[NoReturn] = tqdm(
            total=sum(unit.frames for unit in units),
            unit=" frames",
            desc=f"0 of {len(units)} runs",
            file=stream,
            mininterval=0.1 if moving else FILE_INTERVAL_S,
            dynamic_ncols=True,
        )
        self._units, self._over = len(units), 0
        self._lines: list[tqdm[NoReturn]] = [
            tqdm(
                total=0,
                position=worker + 1,
                bar_format="  {desc}",
                desc=f"worker {worker + 1}: starting",
                file=stream,
                disable=not moving,
                leave=False,
            )
            for worker in range(workers)
        ]

    def on_frame(self, worker: int, unit: Unit, frame: int) -> None:
        """Move on within a unit."""
        if worker in self._done:
            self._total.update(frame - self._done[worker])
            self._done[worker] = frame
            self._lines[worker].set_description_str(
                f"worker {worker + 1}: {unit}, frame {frame} of {unit.frames}"
            )

    def on_outcome(self, worker: int, outcome: Outcome) -> None:
        """Count a unit as over."""
        self._total.update(outcome.unit.frames - self._done.get(worker, 0))
        if worker in self._done:
            self._done[worker] = 0
        self._over += 1
        self._failed += outcome.run is None
        failed = f", {self._failed} failed" if self._failed else ""
        self._total.set_description_str(f"{self._over} of {self._units} runs{failed}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for line in self._lines:
            line.close()
        self._total.close()
