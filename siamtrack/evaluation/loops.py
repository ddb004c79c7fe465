"""Run one tracker over one sequence and measure it: `init` and `update` are called from here.

Only these calls are timed. Pictures are decoded, and corrupted where asked, before the clock
starts; the toolkit's own loop hands out lazily opened pictures, so its times contain decoding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import EvaluationError, SiamTrackError
from siamtrack.evaluation.corruptions import corrupt
from siamtrack.evaluation.rivals import Box, EvaluatedTracker, box_of
from siamtrack.evaluation.sequence import EvalSequence
from siamtrack.evaluation.variants import Variant

FloatArray = NDArray[np.float64]
Image = NDArray[np.uint8]
Beat = Callable[[int], None]

VOT_SKIP = 5
"""Frames between a failure and the restart, Kristan et al., VOT challenges 2013 to 2019."""
VOT_INIT, VOT_FAILURE, VOT_SKIPPED = 1.0, 2.0, 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """What a tracker did.

    Attributes:
        rows: per frame a box of four numbers in the coordinates of the annotation, or, for VOT's
            supervised runs, a single code.
        times_s: seconds spent in the tracker per frame; NaN where it was not called.
        start: frame of the sequence that the first row belongs to.
    """

    rows: list[list[float]]
    times_s: list[float]
    start: int = 0


class Session:
    """A tracker at work: calls it, times it, and turns whatever it raises into one error.

    Args:
        tracker: freshly built.
        beat: told the number of every frame before the tracker gets it.
        clock: monotonic time in s.
    """

    def __init__(
        self,
        tracker: EvaluatedTracker,
        beat: Beat = lambda frame: None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._tracker = tracker
        self._beat = beat
        self._clock = clock

    def init(self, frame: int, image: Image, box: FloatArray) -> float:
        """Start; returns the seconds it took."""
        x, y, w, h = box.tolist()
        given: Box = (x, y, w, h)
        return self._call(frame, "init", lambda: self._tracker.init(image, given))[1]

    def update(self, frame: int, image: Image) -> tuple[FloatArray, float]:
        """Follow; returns the box and the seconds it took.

        Raises:
            EvaluationError: the tracker raised, or its box is not finite or has a negative size.
        """
        output, spent = self._call(frame, "update", lambda: self._tracker.update(image))
        try:
            box = box_of(output)
        except EvaluationError as error:
            raise EvaluationError(f"frame {frame}: {error}") from error
        if not np.isfinite(box).all() or (box[2:] < 0).any():
            raise EvaluationError(
                f"frame {frame}: update returned the box {box.tolist()}; it must be finite, with "
                "a width and height that are not negative"
            )
        return box, spent

    def _call(self, frame: int, name: str, call: Callable[[], object]) -> tuple[object, float]:
        self._beat(frame)
        start = self._clock()
        try:
            output = call()
        except SiamTrackError as error:
            raise EvaluationError(f"frame {frame}: {name}: {error}") from error
        except Exception as error:
            raise EvaluationError(
                f"frame {frame}: {name} raised {type(error).__name__}: {error}"
            ) from error
        return output, self._clock() - start


def run_variant(session: Session, sequence: EvalSequence, variant: Variant) -> Run:
    """Run one variant over one sequence.

    Raises:
        EvaluationError: the tracker failed, or pictures are missing.
    """
    if variant.family == "supervised":
        return _supervised(session, sequence)
    if variant.family == "realtime":
        return _real_time(session, sequence, variant)
    return _one_pass(session, sequence, variant)


def _decoded(sequence: EvalSequence, start: int = 0) -> Iterator[Image]:
    return sequence.frames.iterate(range(start, len(sequence)))


def _images(sequence: EvalSequence, variant: Variant, start: int = 0) -> Iterator[Image]:
    for frame, image in enumerate(_decoded(sequence, start), start=start):
        if variant.corruption is None:
            yield image
        else:
            yield corrupt(image, *variant.corruption, sequence.name, frame)


def _one_pass(session: Session, sequence: EvalSequence, variant: Variant) -> Run:
    start = variant.start_frame(sequence.truth.visible)
    boxes, times = [], []
    for frame, image in enumerate(_images(sequence, variant, start), start=start):
        if frame == start:
            box = variant.first_box(sequence.boxes_xywh[start])
            spent = session.init(frame, image, box)
        else:
            box, spent = session.update(frame, image)
        boxes.append(box)
        times.append(spent)
    return Run(_file_rows(sequence, boxes), times, start)


def _real_time(session: Session, sequence: EvalSequence, variant: Variant) -> Run:
    """Frames arrive every 1 / fps seconds; the tracker's own measured time decides what it sees.

    Frame i arrives at i / fps and is answered for at (i + 1) / fps, with the newest box finished by
    then: a late frame keeps the old box. A tracker that becomes free takes the newest frame that
    has arrived and never sees the ones between. `init` is free of charge.
    """
    period = 1.0 / variant.fps
    boxes: list[FloatArray] = []
    times: list[float] = []
    current = pending = sequence.boxes_xywh[0].copy()
    free_at, next_frame = 0.0, 1
    for frame, image in enumerate(_images(sequence, variant)):
        if frame == 0:
            times.append(session.init(frame, image, current))
            boxes.append(current)
            continue
        spent = float("nan")
        if frame == next_frame:
            # What was being worked on is finished before anything newer is taken up.
            current = pending
            pending, spent = session.update(frame, image)
            free_at = max(free_at, frame * period) + spent
            next_frame = max(frame + 1, math.floor(free_at * variant.fps + 1e-9))
        if free_at <= (frame + 1) * period + 1e-9:
            current = pending
        boxes.append(current)
        times.append(spent)
    return Run(_file_rows(sequence, boxes), times)


def _supervised(session: Session, sequence: EvalSequence) -> Run:
    """VOT's supervised experiment: a frame without overlap is a failure, restarted 5 frames on."""
    from siamtrack.evaluation.toolkit.loading import toolkit_module

    poly_iou = toolkit_module("utils.metrics").poly_iou
    regions = sequence.truth.boxes_xywh if sequence.regions is None else sequence.regions
    rows: list[list[float]] = []
    times: list[float] = []
    restart: int | None = 0
    for frame, image in enumerate(_decoded(sequence)):
        spent = float("nan")
        if restart == frame:
            spent = session.init(frame, image, sequence.boxes_xywh[frame])
            restart = None
            rows.append([VOT_INIT])
        elif restart is not None:
            rows.append([VOT_SKIPPED])
        else:
            box, spent = session.update(frame, image)
            row = sequence.to_file(box[None])[0]
            height, width = image.shape[:2]
            if float(poly_iou(regions[frame], row, bound=(width, height))[0]) <= 0.0:
                restart = frame + VOT_SKIP
                rows.append([VOT_FAILURE])
            else:
                rows.append(row.tolist())
        times.append(spent)
    return Run(rows, times)


def _file_rows(sequence: EvalSequence, boxes: list[FloatArray]) -> list[list[float]]:
    if not boxes:
        raise EvaluationError(f"{sequence.name} has no frames")
    rows: list[list[float]] = sequence.to_file(np.array(boxes)).tolist()
    return rows
