"""One tracker over one sequence: the ways of running, and the loops over frames.

In order: `corrupt`, `Variant` (the ways of running), `TimedTracker`, `run_variant` (results for
files), `track_sequence` (results of our tracker in memory, for tuning and calibration).
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from siamtrack.data.sequence import VideoSequence
from siamtrack.errors import ConfigError, EvaluationError, SiamTrackError
from siamtrack.evaluation.datasets import EvalSequence
from siamtrack.evaluation.got10k_toolkit import toolkit_module
from siamtrack.evaluation.metrics import success_curve
from siamtrack.evaluation.protocols import FAMILIES
from siamtrack.evaluation.task import SequenceRun
from siamtrack.evaluation.trackers import EvaluatedTracker, box_of
from siamtrack.evaluation.views import (
    PLAIN,
    parse_views,
    shows_target,
    view_frames,
    view_of_benchmark,
)
from siamtrack.geometry import MIN_SIDE_PX, clip_to_frame, iou, keep_in_frame
from siamtrack.tracking.result import Result
from siamtrack.tracking.tracker import Tracker
from siamtrack.types import BoolArray, FloatArray, Image, IntArray
from siamtrack.utils.files import to_bytes

# --- Corruptions ----------------------------------------------------------------------------------

CORRUPTIONS: Mapping[str, tuple[float, ...]] = {
    "noise": (8, 16, 26, 40, 60),  # standard deviation of Gaussian noise, in gray levels
    "blur": (1, 2, 3, 4.5, 6),  # standard deviation of the Gaussian kernel, in px of the frame
    "jpeg": (50, 30, 18, 10, 6),  # quality
    "brightness": (0.7, 0.5, 0.35, 0.25, 0.15),  # factor on every gray level: dusk to night
}
"""Kinds of corruption, and the parameter of each at strengths 1 (mild) to 5."""
STRENGTHS = 5


def corrupt(image: Image, kind: str, strength: int, sequence: str, frame: int) -> Image:
    """A corrupted copy of a uint8 (H, W, 3) frame, the same in every run.

    Name of the sequence and number of the frame seed the noise: every tracker sees the same noise,
    whatever process it runs in.
    """
    level = CORRUPTIONS[kind][strength - 1]
    if kind == "noise":
        # crc32, because Python's own hash of a string differs from process to process.
        rng = np.random.default_rng([zlib.crc32(to_bytes(sequence)), frame, strength])
        return np.clip(image + rng.normal(0.0, level, image.shape), 0, 255).astype(np.uint8)
    if kind == "blur":
        return cv2.GaussianBlur(image, (0, 0), level).astype(np.uint8, copy=False)
    if kind == "jpeg":
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(level)])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.rint(image * level).astype(np.uint8)


# --- Variants -------------------------------------------------------------------------------------

SHIFTS_XY: dict[str, tuple[float, float]] = {
    "left": (-0.1, 0.0),
    "right": (0.1, 0.0),
    "up": (0.0, -0.1),
    "down": (0.0, 0.1),
    "up-left": (-0.1, -0.1),
    "up-right": (0.1, -0.1),
    "down-left": (-0.1, 0.1),
    "down-right": (0.1, 0.1),
}
"""Shifts of the first box, in widths and heights of the target."""
SCALES = (0.8, 0.9, 1.1, 1.2)
SEGMENTS = 20
_FIRST = "first"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of running.

    Attributes:
        family: one of `FAMILIES`.
        name: unique; names the folder of its results.
        shift_xy: of the first box, in its widths and heights (SRE).
        scale: of the first box, about its center (SRE).
        segment: which of `SEGMENTS` starts (TRE); 0 is the first frame.
        fps: rate at which frames come (realtime).
        corruption: kind and strength, or None.
        view: of the sequence, one of `VIEWS`.
        max_frames: of the view; 0 for all.
    """

    family: str
    name: str
    shift_xy: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    segment: int = 0
    fps: float = 0.0
    corruption: tuple[str, int] | None = None
    view: str = PLAIN
    max_frames: int = 0

    def with_view(self, view: str, max_frames: int = 0) -> Variant:
        """The same way of running on a view of every sequence."""
        parts = [self.name]
        if view != PLAIN:
            parts.append(view)
        if max_frames:
            parts.append(f"{_FIRST}{max_frames}")
        return replace(self, name="+".join(parts), view=view, max_frames=max_frames)

    @property
    def is_whole(self) -> bool:
        """Whether it runs on sequences as they are."""
        return self.view == PLAIN and not self.max_frames

    def view_of(self, sequence: EvalSequence) -> EvalSequence:
        """What is run and scored in place of a sequence."""
        return view_of_benchmark(sequence, self.view, self.max_frames)

    def view_frames(self, sequence: EvalSequence) -> IntArray:
        """Numbers of the frames of `view_of`, without decoding anything."""
        if self.is_whole:
            return np.arange(len(sequence))
        return view_frames(self.view, shows_target(sequence), self.max_frames)

    def first_box(self, box_xywh: FloatArray) -> FloatArray:
        """(4,) the box the tracker is given, from the true one."""
        if self.scale == 1.0 and self.shift_xy == (0.0, 0.0):
            return box_xywh.copy()
        # The size is scaled about the center, which moves by a share of the unscaled size.
        size = box_xywh[2:] * self.scale
        center = box_xywh[:2] + box_xywh[2:] / 2 + np.array(self.shift_xy) * box_xywh[2:]
        return np.concatenate([center - size / 2, size])

    def start_frame(self, visible: BoolArray) -> int:
        """Frame to start on: the first usable one from the start of the segment on.

        A frame is usable if the target is visible and is seen again later. Without a usable frame
        after the segment's start, the last one before it is taken. `visible` is (N,).
        """
        if self.segment == 0:
            return 0
        # The last visible frame is left out: after it there is nothing to score.
        usable = np.flatnonzero(visible)[:-1]
        if len(usable) == 0:
            raise EvaluationError(
                f"{self.name} needs two frames in which the target is visible; leave the sequence "
                "out of tre"
            )
        start = self.segment * len(visible) // SEGMENTS
        later = usable[usable >= start]
        return int(later[0] if len(later) else usable[-1])


def variants_of(
    family: str, *, fps: float = 25.0, views: Sequence[str] = (PLAIN,), max_frames: int = 0
) -> tuple[Variant, ...]:
    """All variants of one of the `FAMILIES`, on each of the `views`.

    `fps` is the rate of `realtime`, `max_frames` the most frames of a view (0 for all).
    """
    if max_frames < 0:
        raise ConfigError(f"max_frames is {max_frames}; give 0 (all frames) or more")
    plain = _plain_variants(family, fps)
    return tuple(v.with_view(view, max_frames) for view in parse_views(views) for v in plain)


def _plain_variants(family: str, fps: float) -> tuple[Variant, ...]:
    """All variants of a family on whole sequences.

    SRE and TRE are the spatial and temporal robustness evaluation of Wu, Lim and Yang, "Object
    Tracking Benchmark", PAMI 2015, section 5.
    """
    if family in ("ope", "failures", "picks", "supervised"):
        return (Variant(family, family),)
    # Spatial robustness: 8 shifts and 4 scales of the first box.
    if family == "sre":
        shifted = [Variant("sre", f"sre-{name}", shift_xy=s) for name, s in SHIFTS_XY.items()]
        scaled = [Variant("sre", f"sre-scale-{s:g}", scale=s) for s in SCALES]
        return (*shifted, *scaled)
    # Temporal robustness: 20 starts, spread evenly over the sequence.
    if family == "tre":
        return tuple(Variant("tre", f"tre-{k:02d}", segment=k) for k in range(SEGMENTS))
    if family == "realtime":
        if not fps > 0:
            raise ConfigError(f"realtime at {fps} frames per second; give a positive rate")
        return (Variant("realtime", f"realtime-{fps:g}", fps=fps),)
    if family == "corruptions":
        return tuple(
            Variant("corruptions", f"{kind}-{strength}", corruption=(kind, strength))
            for kind in CORRUPTIONS
            for strength in range(1, STRENGTHS + 1)
        )
    raise ConfigError.unknown("protocol", family, FAMILIES)


def variant_named(name: str) -> Variant:
    """Find a variant by its name."""
    name, *parts = name.split("+")
    view, max_frames = PLAIN, 0
    for part in parts:
        count = part.removeprefix(_FIRST)
        if count != part and count.isdigit():
            max_frames = int(count)
        else:
            (view,) = parse_views([part])
    # The rate of realtime is free, so it is read from the name; all others are listed.
    rate = name.removeprefix("realtime-")
    if rate != name and rate.replace(".", "", 1).isdigit():
        return variants_of("realtime", fps=float(rate))[0].with_view(view, max_frames)
    fixed = {v.name: v for f in FAMILIES if f != "realtime" for v in variants_of(f)}
    if name not in fixed:
        raise ConfigError.unknown("variant", name, [*fixed, "realtime-25"])
    return fixed[name].with_view(view, max_frames)


# --- Loops over the frames of a sequence ----------------------------------------------------------


class TimedTracker:
    """Calls a tracker, times it, and turns whatever it raises into an `EvaluationError`.

    `heartbeat` is called with the number of every frame before the tracker gets it.
    """

    def __init__(
        self,
        tracker: EvaluatedTracker,
        heartbeat: Callable[[int], None] = lambda frame: None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._tracker = tracker
        self._heartbeat = heartbeat
        self._clock = clock

    def init(self, frame: int, image: Image, box: FloatArray) -> float:
        """Start; returns the seconds it took.

        Of a box that is too small for a tracker, or hardly inside the frame, data sets mean the
        place: it is made as large as the smallest one that can be tracked.
        """
        frame_wh = (image.shape[1], image.shape[0])
        visible = clip_to_frame(box, frame_wh)
        if (visible[2:] > 0).all() and (visible[2:] < MIN_SIDE_PX).any():
            box = keep_in_frame(visible, frame_wh)
        x, y, w, h = box.tolist()
        return self._call(frame, "init", lambda: self._tracker.init(image, (x, y, w, h)))[1]

    def update(self, frame: int, image: Image) -> tuple[FloatArray, float]:
        """Return the (4,) box and the seconds it took; refuses one that is not finite."""
        output, seconds = self._call(frame, "update", lambda: self._tracker.update(image))
        try:
            box = box_of(output)
        except EvaluationError as error:
            raise EvaluationError(f"frame {frame}: {error}") from error
        if not np.isfinite(box).all() or (box[2:] < 0).any():
            raise EvaluationError(
                f"frame {frame}: update returned the box {box.tolist()}; it must be finite, with "
                "a width and height that are not negative"
            )
        return box, seconds

    def move_to(self, frame: int, box: FloatArray) -> None:
        """Set the box that the tracker has of the last frame; the time of it does not count."""
        tracker: Any = self._tracker
        size = np.maximum(box[2:], MIN_SIDE_PX)
        target = np.concatenate([box[:2] + (box[2:] - size) / 2, size])
        self._call(frame, "move_to", lambda: tracker.move_to(target))

    def _call(self, frame: int, name: str, call: Callable[[], object]) -> tuple[object, float]:
        self._heartbeat(frame)
        # The clock covers the call alone: neither decoding nor the heartbeat before it.
        start = self._clock()
        try:
            output = call()
        except SiamTrackError as error:
            raise EvaluationError(f"frame {frame}: {name}: {error}") from error
        except Exception as error:  # other people's trackers may raise anything
            raise EvaluationError(
                f"frame {frame}: {name} raised {type(error).__name__}: {error}"
            ) from error
        return output, self._clock() - start


VOT_SKIP = 5
"""Frames from a failure to the restart, Kristan et al., VOT challenges 2013 to 2019."""
VOT_INIT, VOT_FAILURE, VOT_SKIPPED = 1.0, 2.0, 0.0
"""Codes that stand in the place of a box, as the VOT toolkit writes them."""

RESET_OVERLAP = 0.1
"""Overlap up to which a box is on something else."""
RESET_FRAMES = 10
"""Frames in a row on something else that are a failure; a tracker often finds back from fewer."""


def run_variant(tracker: TimedTracker, sequence: EvalSequence, variant: Variant) -> SequenceRun:
    """Run one variant over one sequence; EvaluationError if the tracker or a frame fails.

    The frames of the run, and of its result, are those of the variant's view of the sequence.
    """
    sequence = variant.view_of(sequence)
    if variant.family == "supervised":
        return _supervised(tracker, sequence)
    if variant.family == "realtime":
        return _real_time(tracker, sequence, variant.fps)
    if variant.family == "failures":
        return _with_resets(tracker, sequence)
    if variant.family == "picks":
        return _picks(tracker, sequence)
    return _one_pass(tracker, sequence, variant)


def _one_pass(tracker: TimedTracker, sequence: EvalSequence, variant: Variant) -> SequenceRun:
    """OPE, and with another start, box or pictures TRE, SRE and corruptions."""
    start = variant.start_frame(sequence.truth.visible)
    boxes: list[FloatArray] = []
    times: list[float] = []
    for frame, image in _decoded(sequence, start):
        # 1. The picture, corrupted the same way for every tracker.
        if variant.corruption is not None:
            image = corrupt(image, *variant.corruption, sequence.name, frame)
        # 2. Initialize, then track. The first row is the box that was given.
        if frame == start:
            box = variant.first_box(sequence.boxes_xywh[start])
            seconds = tracker.init(frame, image, box)
        else:
            box, seconds = tracker.update(frame, image)
        boxes.append(box)
        times.append(seconds)
    return SequenceRun(sequence.to_file(np.array(boxes)).tolist(), times, start)


def _real_time(tracker: TimedTracker, sequence: EvalSequence, fps: float) -> SequenceRun:
    """Frames arrive every 1 / fps seconds; the tracker's measured time decides which it sees.

    Frame i arrives at i / fps. Its box is due at (i + 1) / fps: the newest box finished by then,
    so a late frame keeps the old box. A tracker that becomes free takes the newest frame that has
    arrived and never sees the ones between. The time of `init` does not count.
    """
    # `current` is the newest finished box, `pending` the one that is finished at `free_at` (s).
    # `next_frame` is the first frame that the tracker sees once it is free.
    period = 1.0 / fps
    boxes: list[FloatArray] = []
    times: list[float] = []
    current = pending = sequence.boxes_xywh[0].copy()
    free_at, next_frame = 0.0, 1
    for frame, image in _decoded(sequence):
        if frame == 0:
            times.append(tracker.init(frame, image, current))
            boxes.append(current)
            continue
        # 1. If the tracker is free at this frame, it works on it until `free_at`.
        seconds = float("nan")
        if frame == next_frame:
            current = pending  # the frame before this one was finished first
            pending, seconds = tracker.update(frame, image)
            free_at = max(free_at, frame * period) + seconds
            # 1e-9: a tracker that is free exactly when a frame arrives takes it.
            next_frame = max(frame + 1, math.floor(free_at * fps + 1e-9))
        # 2. A box that is finished when this frame's is due counts.
        if free_at <= (frame + 1) * period + 1e-9:
            current = pending
        boxes.append(current)
        times.append(seconds)
    return SequenceRun(sequence.to_file(np.array(boxes)).tolist(), times)


def _supervised(tracker: TimedTracker, sequence: EvalSequence) -> SequenceRun:
    """VOT's supervised experiment: a frame without overlap is a failure, restarted 5 frames on."""
    poly_iou = toolkit_module("utils.metrics").poly_iou
    regions = sequence.truth.boxes_xywh if sequence.regions is None else sequence.regions
    rows: list[list[float]] = []
    times: list[float] = []
    restart: int | None = 0
    for frame, image in _decoded(sequence):
        seconds = float("nan")
        # 1. (Re-)initialize with the true box.
        if restart == frame:
            seconds = tracker.init(frame, image, sequence.boxes_xywh[frame])
            restart = None
            rows.append([VOT_INIT])
        # 2. After a failure, skip frames until the restart.
        elif restart is not None:
            rows.append([VOT_SKIPPED])
        # 3. Track; the overlap is that of the areas inside the image.
        else:
            box, seconds = tracker.update(frame, image)
            row = sequence.to_file(box[None])[0]
            height, width = image.shape[:2]
            if float(poly_iou(regions[frame], row, bound=(width, height))[0]) <= 0.0:
                restart = frame + VOT_SKIP
                rows.append([VOT_FAILURE])
            else:
                rows.append(row.tolist())
        times.append(seconds)
    return SequenceRun(rows, times)


def _with_resets(tracker: TimedTracker, sequence: EvalSequence) -> SequenceRun:
    """Failures: a tracker on something else for `RESET_FRAMES` in a row is reset on the truth.

    Frames without a visible target neither count nor end a row. The reset is on the last frame of
    the row, in place of whose box stands `VOT_FAILURE`.
    """
    truth, visible = sequence.boxes_xywh, shows_target(sequence)
    rows: list[list[float]] = []
    times: list[float] = []
    bad = 0
    for frame, image in _decoded(sequence):
        if frame == 0:
            times.append(tracker.init(frame, image, truth[0]))
            rows.append([VOT_INIT])
            continue
        # 1. Track, and count the frames in a row that are bad.
        box, seconds = tracker.update(frame, image)
        if visible[frame]:
            bad = bad + 1 if float(iou(box, truth[frame])) <= RESET_OVERLAP else 0
        # 2. After too many of them, start again on this frame.
        if bad == RESET_FRAMES:
            seconds += tracker.init(frame, image, truth[frame])
            rows.append([VOT_FAILURE])
            bad = 0
        else:
            rows.append(sequence.to_file(box[None])[0].tolist())
        times.append(seconds)
    return SequenceRun(rows, times)


def _picks(tracker: TimedTracker, sequence: EvalSequence) -> SequenceRun:
    """Perfect windows: before every frame the tracker's box is set to the truth of the last one.

    What it picks then shows its ranking and its box alone, without the drift of its own. Frames
    that are not preceded by a visible target, or show none, are skipped (`VOT_SKIPPED`).
    """
    truth, visible = sequence.boxes_xywh, shows_target(sequence)
    rows, times = [[VOT_INIT]], []
    for frame, image in _decoded(sequence):
        if frame == 0:
            times.append(tracker.init(frame, image, truth[0]))
        elif visible[frame - 1] and visible[frame]:
            tracker.move_to(frame, truth[frame - 1])
            box, seconds = tracker.update(frame, image)
            rows.append(sequence.to_file(box[None])[0].tolist())
            times.append(seconds)
        else:
            rows.append([VOT_SKIPPED])
            times.append(float("nan"))
    return SequenceRun(rows, times)


def _decoded(sequence: EvalSequence, start: int = 0) -> Iterator[tuple[int, Image]]:
    frames = range(start, len(sequence))
    return zip(frames, sequence.frames.iterate(frames), strict=True)


# --- Runs of our own tracker in memory ------------------------------------------------------------


def track_sequence(
    tracker: Tracker, sequence: VideoSequence, max_frames: int = 0
) -> tuple[int, list[Result]]:
    """Start on the first frame that shows the target, and track to the end without a restart.

    Returns the number of that frame and the results from it on, at most `max_frames` (0 for all).
    """
    first, images, result = start_sequence(tracker, sequence, max_frames)
    return first, [result, *(tracker.update(image) for image in images)]


def start_sequence(
    tracker: Tracker, sequence: VideoSequence, max_frames: int = 0
) -> tuple[int, Iterator[Image], Result]:
    """As `track_sequence`, but only start: first frame, images of the others, first result."""
    # The first frame that shows the target; no frame before it is decoded.
    first = int(np.flatnonzero(sequence.visible)[0])
    stop = min(len(sequence), first + max_frames) if max_frames else len(sequence)
    images = sequence.iter_frames(range(first, stop))
    return first, images, tracker.init(next(images), sequence.boxes[first])


def overlaps_of(sequence: VideoSequence, first: int, results: list[Result]) -> FloatArray:
    """(N,) IoU of `track_sequence`'s results; NaN on the first frame and where truth is absent."""
    truth = sequence.boxes[first : first + len(results)]
    overlaps = iou([result.box for result in results], truth)
    overlaps[0] = np.nan  # its box was given
    return overlaps


def success_auc(overlaps: FloatArray) -> float:
    """Mean of the success curve of (N,) overlaps at OTB's thresholds 0, 0.05, ..., 1.

    Frames whose overlap is NaN do not count.
    """
    return float(success_curve(overlaps[~np.isnan(overlaps)], 21).mean())
