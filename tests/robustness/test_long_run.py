"""Memory does not grow with the frames, and neither does the time for one of them.

CI runs a few hundred frames and judges memory alone. The soak runs 1,000,000, keeps what it
measured in build/soak/long_run.csv and draws it into long_run.png.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.options import BoxHeadOptions
from siamtrack.tracking.tracker import Tracker
from tests.robustness.common import BOX, FIGURES, FRAMES, SOAK, WH, check_result, scene

STATM = Path("/proc/self/statm")
SAMPLES = 200 if SOAK else 20  # of memory
ROUND, SECOND, BLACK = 400, slice(100, 140), slice(300, 330)
"""Frames of a round, those with a second target, and those that are black."""
GROWTH_MB = 16  # what allocators keep for themselves; a frame that is not freed is 20 kB


def memory_mb() -> float:
    """Resident memory of this process in 2**20 bytes."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not STATM.exists(), reason="reads /proc")
def test_memory_and_time_stay(engine: Any, note: Callable[..., None]) -> None:
    # 1. The square, which gets lost in black frames and is found again. For a part of every round
    #    there is a second target: a piece of ground, which the square covers.
    images = [scene(k) for k in range(1, ROUND + 1)]
    images[BLACK] = [np.zeros_like(image) for image in images[BLACK]]
    tracker = MultiTracker(lambda: Tracker(engine, BoxHeadOptions()))
    square = tracker.add(scene(0), BOX)

    # 2. Samples of memory, of the median time of the frames since the last sample, and of the mean
    #    of their CPU time, which other programs do not change.
    every, times_s = max(FRAMES // SAMPLES, 1), list[float]()
    rows: list[tuple[int, float, float, float]] = []
    cpu_s, ground, lost, found_again, was_lost = time.process_time(), -1, 0, 0, False
    for index in range(FRAMES):
        place = index % ROUND
        image = images[place]
        if place == SECOND.start:
            ground = tracker.add(image, (60, 30, 20, 20))
        elif place == SECOND.stop:
            tracker.remove(ground)
        started_s = time.perf_counter()
        results = tracker.update(image)
        times_s.append(time.perf_counter() - started_s)
        lost += results[square].status == "lost"
        found_again += was_lost and results[square].status == "tracked"
        was_lost = results[square].status == "lost"
        if (index + 1) % every == 0:
            for result in results.values():
                check_result(result, image)
            cpu_ms = 1e3 * (time.process_time() - cpu_s) / every
            gc.collect()
            rows.append((index + 1, memory_mb(), 1e3 * float(np.median(times_s)), cpu_ms))
            times_s.clear()
            if SOAK:
                keep(rows[-1], first=len(rows) == 1)
            cpu_s = time.process_time()

    # 3. The second half of the samples against the first, without the very first ones.
    warm = rows[len(rows) // 10 :]
    first, second = (np.array(half) for half in (warm[: len(warm) // 2], warm[len(warm) // 2 :]))
    growth_mb = float(second[:, 1].max() - first[:, 1].max())
    note(
        "long_run",
        frames=FRAMES,
        wh=WH,
        lost=lost,
        found_again=found_again,
        memory_mb=[rows[0][1], rows[-1][1]],
        growth_mb=growth_mb,
        median_ms=[float(np.median(half[:, 2])) for half in (first, second)],
        cpu_ms=[float(np.median(half[:, 3])) for half in (first, second)],
        python=sys.version.split()[0],
    )
    if SOAK:
        draw(rows)
    assert growth_mb < GROWTH_MB


def keep(row: tuple[int, float, float, float], *, first: bool) -> None:
    """Add a sample to the table, which grows with the run."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    with (FIGURES / "long_run.csv").open("w" if first else "a") as file:
        file.write("frame,memory_mb,median_ms,cpu_ms\n" if first else "")
        file.write(",".join(f"{value:.10g}" for value in row) + "\n")


def draw(rows: list[tuple[int, float, float, float]]) -> None:
    """Draw the samples."""
    from matplotlib.figure import Figure

    frame, memory, median, cpu = np.array(rows).T
    figure = Figure(figsize=(8, 5), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    above.plot(frame, memory)
    above.set(ylabel="resident memory, MB", ylim=(0, 1.2 * memory.max()))
    below.plot(frame, median, color="0.7", label="by the clock, median")
    below.plot(frame, cpu, label="CPU, mean")
    below.set(ylabel="ms per frame", xlabel="frame", ylim=(0, None))
    below.legend(loc="lower right")
    figure.savefig(FIGURES / "long_run.png", dpi=110)


def test_new_targets_and_trackers_leave_nothing_behind(engine: Any) -> None:
    """Adding and removing targets, and whole trackers, returns their memory."""
    multi = MultiTracker(lambda: Tracker(engine, BoxHeadOptions()))
    frame, rounds = scene(0), FRAMES // 20
    before = 0
    for index in range(rounds):
        target = multi.add(frame, BOX)
        multi.update(scene(1))
        multi.remove(target)
        if index == rounds // 2:
            gc.collect()
            before = len(gc.get_objects())
    gc.collect()
    assert multi.targets == ()
    assert len(gc.get_objects()) - before < 500
