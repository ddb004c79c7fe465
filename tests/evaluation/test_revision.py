"""Boxes of the default tracker on a small sequence: what `TRACKING_REVISION` stands for."""

from __future__ import annotations

import numpy as np

import siamtrack
from siamtrack.evaluation.trackers import TRACKING_REVISION

FRAMES = 26
HIDDEN = range(9, 20)  # long enough for the target to count as lost
TARGET_WH = (48, 40)

# x, y, w, h in px of every second frame, by TRACKING_REVISION.
BOXES = {
    8: [[24.0, 36.0, 48.0, 40.0], [36.08, 41.88, 47.83, 39.81], [48.37, 48.19, 47.66, 39.69],
        [60.45, 54.16, 47.6, 39.66], [72.39, 60.07, 47.61, 39.69], [55.8, 62.64, 47.61, 39.69],
        [50.7, 64.59, 47.6, 39.69], [54.79, 66.63, 47.59, 39.69], [57.71, 67.58, 47.59, 39.69],
        [57.71, 67.58, 47.59, 39.69], [40.03, 20.82, 47.4, 39.68], [47.88, 21.73, 47.69, 39.8],
        [55.74, 23.85, 47.95, 39.93]],
}  # fmt: skip


def corner_xy(frame: int) -> tuple[int, int]:
    """Left and top of the target: it walks, is hidden, and comes back somewhere else."""
    return (24 + 6 * frame, 36 + 3 * frame) if frame < HIDDEN.start else (4 * frame - 40, frame)


def film():
    """(240, 360, 3) frames of a gradient with a checkered disc; exact on every machine."""
    rows, columns = np.mgrid[:240, :360]
    background = np.stack([60 + rows // 4, 90 + columns // 6, 110 - rows // 5], axis=-1)
    w, h = TARGET_WH
    y, x = np.mgrid[:h, :w]
    disc = ((2 * x - w + 1) / w) ** 2 + ((2 * y - h + 1) / h) ** 2 <= 1
    squares = ((x // 8 + y // 8) % 2)[..., None] == 0
    target = np.where(squares, (30, 40, 220), (230, 220, 40))
    for frame in range(FRAMES):
        image = background.astype(np.uint8)
        left, top = corner_xy(frame)
        if frame not in HIDDEN:
            image[top : top + h, left : left + w][disc] = target[disc]
        yield image


def test_boxes_have_not_changed_since_the_revision():
    tracker = siamtrack.load("siamtrack-lite0", engine="torch", device="cpu")
    boxes, statuses = [], []
    for frame, image in enumerate(film()):
        if frame == 0:
            result = tracker.init(image, (*corner_xy(0), *TARGET_WH))
        else:
            result = tracker.update(image)
        boxes.append(result.box)
        statuses.append(result.status)
    # The sequence passes through every part of the loop: tracking, loss, search and recovery.
    assert statuses[HIDDEN.start - 1] == "tracked" and "lost" in statuses
    assert statuses[-1] == "tracked"
    np.testing.assert_allclose(
        boxes[::2],
        BOXES.get(TRACKING_REVISION, np.nan),
        rtol=0,
        # Other CPUs differ in the last bits of a box, other methods by more than this.
        atol=0.05,
        err_msg="Weights, options and frames now give other boxes than at "
        f"TRACKING_REVISION {TRACKING_REVISION}. If that is intended, raise the revision in "
        "siamtrack/evaluation/trackers.py and store the boxes above for the new one: "
        f"{np.round(boxes[::2], 2).tolist()}",
    )
