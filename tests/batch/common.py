"""What the tests of batches share."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

FRAMES = 4
BOX = (20, 15, 16, 12)


def write_clip(path: Path, seed: int) -> None:
    """A patch that moves over noise."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.integers(0, 120, (6, 8, 3), np.uint8), (96, 72))
    patch = cv2.resize(rng.integers(60, 255, (3, 4, 3), np.uint8), BOX[2:])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (96, 72))
    for k in range(FRAMES):
        image = ground.copy()
        image[BOX[1] + k : BOX[1] + BOX[3] + k, BOX[0] + k : BOX[0] + BOX[2] + k] = patch
        writer.write(image)
    writer.release()


def tables(folder: Path) -> dict[str, bytes]:
    """Everything in a folder of results that says nothing of times and processes."""
    skipped = {"batch.jsonl"}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in skipped and "logs" not in path.parts
    }
