"""What a batch of tiny clips costs beside its tracking.

    python tests/batch_cost.py [CLIPS] [FRAMES]

Makes the clips (10,000 of ten frames) in build/batch-cost, tracks them in this process and sums the
CPU time of the tracker's calls alone, then runs `siamtrack batch` over them in two processes and
takes the CPU time of all of it: start, opening, decoding, files. CPU time, because a busy machine
lengthens both clocks differently. The ratio must be at most 1.5.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from siamtrack.utils.workers import THREAD_VARIABLES

# As in the processes of a batch; read when numpy is imported. Other threads would wait and count.
os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))

import cv2
import numpy as np

import siamtrack

ROOT = Path(__file__).resolve().parents[1]
WH = (320, 240)
BOX = (80, 60, 53, 48)
SAMPLE = 50  # clips of which the tracking alone is measured
MOST = 1.5


def write_clip(path: Path, seed: int, frames: int) -> None:
    """A patch that moves over a smooth background."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), WH, interpolation=2)
    patch = cv2.resize(rng.integers(0, 255, (6, 5, 3), np.uint8), BOX[2:], interpolation=0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, WH)
    for k in range(frames):
        image = ground.copy()
        y, x = BOX[1] + k, BOX[0] + 2 * k
        image[y : y + BOX[3], x : x + BOX[2]] = patch
        writer.write(image)
    writer.release()


def cpu_s(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def main(clips: int, frames: int) -> None:
    folder = ROOT / "build" / "batch-cost"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = [f"clip-{number:05d}" for number in range(clips)]
    for number, name in enumerate(names):
        write_clip(folder / f"{name}.mp4", number, frames)
    rows = [f'{name}.mp4,"{",".join(map(str, BOX))}"' for name in names]
    (folder / "clips.csv").write_text("\n".join(["clip,boxes", *rows, ""]))
    # 1. The tracker's calls alone.
    cv2.setNumThreads(1)
    tracker = siamtrack.load_multi(threads=1)
    sample, alone_s = names[: min(clips, SAMPLE)], 0.0
    for turn, name in enumerate([sample[0], *sample]):
        tracker.reset()
        with siamtrack.open_source(folder / f"{name}.mp4") as source:
            images = [frame.image for frame in source]
        begun_s = time.process_time()
        tracker.add(images[0], BOX)
        for image in images[1:]:
            tracker.update(image)
        if turn:  # the first clip prepares the network
            alone_s += time.process_time() - begun_s
    alone_s *= clips / len(sample)
    # 2. The whole batch.
    before_s, begun_s = cpu_s(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "siamtrack", "batch", "clips.csv", "--out", "out"]
    subprocess.run([*command, "--workers", "2"], cwd=folder, check=True)
    wall_s = time.monotonic() - begun_s
    whole_s = cpu_s(resource.RUSAGE_CHILDREN) - before_s
    ratio = whole_s / alone_s
    print(
        f"batch-cost: {clips} clips of {frames} frames: tracker alone {alone_s:.1f} s CPU, batch "
        f"{whole_s:.1f} s CPU ({wall_s:.1f} s on the clock), ratio {ratio:.2f}"
    )
    sys.exit(ratio > MOST)


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    main(*(given + [10_000, 10][len(given) :]))
