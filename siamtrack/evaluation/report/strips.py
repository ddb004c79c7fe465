"""Pictures of the moments in which a tracker loses its target."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import EvaluationError, SiamTrackError
from siamtrack.evaluation.evaluate import Evaluation
from siamtrack.evaluation.scores import SequenceScore
from siamtrack.evaluation.scoring import TrackerScores
from siamtrack.evaluation.sequence import EvalSequence

FloatArray = NDArray[np.float64]
Image = NDArray[np.uint8]

COLLAPSED = 0.1
"""Overlap below which a tracker is on something else."""
LASTS = 5
"""Counted frames in a row for which it must stay there, so that a blink is no collapse."""
OFFSETS = (-10, -3, 0, 5, 20)
"""Frames shown, relative to the collapse."""
HEIGHT_PX = 150
JPEG_QUALITY = 82
TRUTH_BGR = (90, 220, 60)
BOX_BGR = (50, 60, 250)


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame of a strip: its number, overlap (None if it does not count), JPEG as data URL."""

    frame: int
    overlap: float | None
    url: str


@dataclass(frozen=True, slots=True)
class Strip:
    """One collapse of one tracker."""

    tracker: str
    sequence: str
    frame: int
    pictures: Sequence[Picture]


def collapse(overlaps: FloatArray) -> int | None:
    """First frame of the first lasting collapse, or None; see `collapses`."""
    return next((start for start, _ in collapses(overlaps)), None)


def collapses(overlaps: FloatArray) -> list[tuple[int, int]]:
    """Lasting collapses: the first frame and the number of counted frames of each.

    Args:
        overlaps: (N,) NaN where the frame does not count; such frames neither make nor break one.
    """
    counted = np.flatnonzero(~np.isnan(overlaps))
    low = np.concatenate([[False], overlaps[counted] < COLLAPSED, [False]])
    turns = np.flatnonzero(low[1:] != low[:-1])
    runs = zip(turns[::2], turns[1::2], strict=True)
    return [(int(counted[a]), int(b - a)) for a, b in runs if b - a >= LASTS]


def failure_strips(
    evaluation: Evaluation, trackers: Sequence[TrackerScores], limit: int
) -> list[Strip]:
    """Strips of every tracker's worst sequences, at most `limit` per tracker."""
    strips: list[Strip] = []
    for tracker in trackers:
        found = _collapses(tracker.sequences)
        for name, frame in found[:limit]:
            try:
                strips.append(_strip(evaluation, tracker, name, frame))
            except (SiamTrackError, OSError):
                # Frames that have gone since the run do not keep the figures from being reported.
                continue
    return strips


def _collapses(scores: Mapping[str, object]) -> list[tuple[str, int]]:
    found = []
    for name, score in scores.items():
        if isinstance(score, SequenceScore):
            frame = collapse(score.overlaps)
            if frame is not None:
                found.append((score.average_overlap, name, frame))
    return [(name, frame) for _, name, frame in sorted(found)]


def _strip(evaluation: Evaluation, tracker: TrackerScores, name: str, frame: int) -> Strip:
    variant = evaluation.variants[0]
    sequence = evaluation.sequences[name]
    store, key = evaluation.store, tracker.entrant.key
    run = store.read(variant.name, key, name)
    start = variant.start_frame(sequence.truth.visible)
    boxes = sequence.from_file(run.boxes(store.boxes_path(variant.name, key, name)))
    score = tracker.sequences[name]
    shown = sorted({int(np.clip(frame + offset, 0, len(boxes) - 1)) for offset in OFFSETS})
    images = sequence.frames.iterate([start + index for index in shown])
    pictures = [
        Picture(
            start + index,
            None if np.isnan(score.overlaps[index]) else float(score.overlaps[index]),
            _url(_drawn(image, sequence, start + index, boxes[index])),
        )
        for index, image in zip(shown, images, strict=True)
    ]
    return Strip(tracker.entrant.label, name, start + frame, pictures)


def _drawn(image: Image, sequence: EvalSequence, frame: int, box: FloatArray) -> Image:
    """Truth and box over the part of the frame around both, enlarged or shrunk to the strip."""
    truth = sequence.boxes_xywh[frame]
    seen = [b for b in (truth, box) if np.isfinite(b).all()]
    left, top, right, bottom = view_around(seen, (image.shape[1], image.shape[0]))
    scale = HEIGHT_PX / (bottom - top)
    size = (max(1, round((right - left) * scale)), HEIGHT_PX)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    made = cv2.resize(image[top:bottom, left:right], size, interpolation=method)
    for b, colour in ((truth, TRUTH_BGR), (box, BOX_BGR)):
        if np.isfinite(b).all():
            corner = (b[:2] - (left, top)) * scale
            far = corner + b[2:] * scale
            start, end = (tuple(int(v) for v in np.rint(p)) for p in (corner, far))
            cv2.rectangle(made, start, end, (0, 0, 0), 4, cv2.LINE_AA)
            cv2.rectangle(made, start, end, colour, 2, cv2.LINE_AA)
    return np.asarray(made, dtype=np.uint8)


def view_around(
    boxes: Sequence[FloatArray], frame_wh: tuple[int, int]
) -> tuple[int, int, int, int]:
    """4:3 window around `boxes` with room about them, at least a third of the frame, inside it."""
    width, height = frame_wh
    low = np.min([b[:2] for b in boxes], axis=0)
    high = np.max([b[:2] + b[2:] for b in boxes], axis=0)
    side = max(1.6 * (high[1] - low[1]), 1.2 * (high[0] - low[0]), height / 3)
    half_h = min(side, height) / 2
    half_w = min(half_h * 4 / 3, width / 2)
    centre = (low + high) / 2
    x = float(np.clip(centre[0], half_w, width - half_w))
    y = float(np.clip(centre[1], half_h, height - half_h))
    left, top = int(x - half_w), int(y - half_h)
    return left, top, max(left + 1, int(x + half_w)), max(top + 1, int(y + half_h))


def _url(image: Image) -> str:
    encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not encoded:
        raise EvaluationError("a picture of the report cannot be encoded")
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
