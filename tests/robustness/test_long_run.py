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
GROWTH_MB = 16  # what allocators keep for themselves; a frame that is not freed is 20 kB


def memory_mb() -> float:
    """Resident memory of this process in 2**20 bytes."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not STATM.exists(), reason="reads /proc")
def test_memory_and_time_stay(engine: Any, note: Callable[..., None]) -> None:
    # 1. Two targets: the square, and a piece of ground that gets lost where the square covers it.
    images = [scene(k) for k in range(1, 401)]
    images[300:] = [
        np.zeros_like(image) for image in images[300:]
    ]  # everything is lost, then found
    tracker = MultiTracker(lambda: Tracker(engine, BoxHeadOptions()))
    tracker.add(scene(0), BOX)
    tracker.add(scene(0), (60, 30, 20, 20))

    # 2. Samples of memory, and of the median time of the frames since the last sample.
    every, times_s = max(FRAMES // SAMPLES, 1), list[float]()
    rows: list[tuple[int, float, float]] = []
    for index in range(FRAMES):
        image = images[index % len(images)]
        started_s = time.perf_counter()
        results = tracker.update(image)
        times_s.append(time.perf_counter() - started_s)
        if (index + 1) % every == 0:
            for result in results.values():
                check_result(result, image)
            gc.collect()
            rows.append((index + 1, memory_mb(), 1e3 * float(np.median(times_s))))
            times_s.clear()
            if SOAK:
                keep(rows[-1], first=len(rows) == 1)

    # 3. The second half of the samples against the first, without the very first ones.
    warm = rows[len(rows) // 10 :]
    first, second = (np.array(half) for half in (warm[: len(warm) // 2], warm[len(warm) // 2 :]))
    growth_mb = float(second[:, 1].max() - first[:, 1].max())
    note(
        "long_run",
        frames=FRAMES,
        wh=WH,
        memory_mb=[rows[0][1], rows[-1][1]],
        growth_mb=growth_mb,
        median_ms=[float(np.median(half[:, 2])) for half in (first, second)],
        python=sys.version.split()[0],
    )
    if SOAK:
        draw(rows)
    assert growth_mb < GROWTH_MB


def keep(row: tuple[int, float, float], *, first: bool) -> None:
    """Add a sample to the table, which grows with the run."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    with (FIGURES / "long_run.csv").open("w" if first else "a") as file:
        file.write("frame,memory_mb,median_ms\n" if first else "")
        file.write(",".join(f"{value:.10g}" for value in row) + "\n")


def draw(rows: list[tuple[int, float, float]]) -> None:
    """Draw the samples."""
    from matplotlib.figure import Figure

    frame, memory, median = np.array(rows).T
    figure = Figure(figsize=(8, 5), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    above.plot(frame, memory)
    above.set(ylabel="resident memory, MB", ylim=(0, None))
    below.plot(frame, median)
    below.set(ylabel="median ms per frame", xlabel="frame", ylim=(0, None))
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
