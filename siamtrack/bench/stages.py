"""Timed runs over a clip: trackers on engines, other trackers, many targets, the video itself.

Sections: the clip; timed runs; interleaving and summary; the physical limit.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

import siamtrack
from siamtrack.data.synthetic import small_scene
from siamtrack.engines.base import Engine, Exemplar, Response, takes_any_size
from siamtrack.errors import ConfigError, VideoError
from siamtrack.geometry import parse_first_box
from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.options import BoxHeadOptions, TrackerOptions
from siamtrack.tracking.result import Result
from siamtrack.tracking.tracker import Tracker
from siamtrack.types import Box, FloatArray, Image
from siamtrack.utils.files import Closing
from siamtrack.video.draw import draw_results
from siamtrack.video.video_writer import VideoSink

if TYPE_CHECKING:
    from siamtrack.models.network import SiameseNetwork

Clock = Callable[[], float]  # monotonic seconds
StageTimes = dict[str, float]  # seconds of one frame, by stage

CROP, PRE, NETWORK, POST, UPDATE = "crop", "pre-process", "network", "post-process", "update"
STAGES = (CROP, PRE, NETWORK, POST, UPDATE)
VIDEO_STAGES = ("decode", "draw", "encode")

# Counted frames in a row. With fewer, runs empty each other's caches; with more, a slow moment of
# the machine hits only one of them.
TURN_FRAMES = 15
WARM_FRAMES = 3  # frames at the beginning of every turn that are not counted

# Precisions whose peak can be measured, by torch's names; it has no public product of large int8
# matrices.
PEAK_DTYPES = {"f32": "float32", "bf16": "bfloat16"}


# -- The clip


class Clip:
    """Decoded frames and the target on the first one.

    Args:
        path: the file they come from; the stages of the video read it again.
        images: at least two, uint8 (H, W, 3) BGR.
        box: xywh px on the first.
    """

    def __init__(self, path: Path, images: Sequence[Image], box: Box) -> None:
        if len(images) < 2:
            raise VideoError(f"{path} has {len(images)} frame(s); a benchmark needs at least two")
        self.path, self.images, self.box = path, tuple(images), box

    @property
    def frame_wh(self) -> tuple[int, int]:
        """Width and height in px."""
        height, width = self.images[0].shape[:2]
        return width, height


def read_clip(path: Path, box: Sequence[float], frame_count: int) -> Clip:
    """Decode the first frames, at most `frame_count`, of a video or folder of pictures.

    Raises:
        VideoError: the video cannot be read, or has fewer than two frames.
        InvalidBoxError: the box cannot be tracked.
    """
    with siamtrack.open_source(path) as source:
        images = [frame.image for frame in islice(source, frame_count)]
    height, width = images[0].shape[:2]
    x, y, w, h = parse_first_box(np.asarray(box), (width, height)).tolist()
    return Clip(path, images, (x, y, w, h))


def make_clip(path: Path, frame_wh: tuple[int, int], frame_count: int) -> Clip:
    """Render an easy scene into an .mp4 file and read it back.

    Raises:
        ConfigError: a size that cannot be rendered (it must be even), or fewer than two frames.
        OutputError: the file cannot be written.
    """
    if frame_count < 2:
        raise ConfigError(f"{frame_count} frame(s) for the clip; give at least 2")
    scene = small_scene(frame_wh=frame_wh, frame_count=frame_count)
    with VideoSink(path, 30.0, frame_wh) as video:
        for frame in scene:
            video.write(frame.image_bgr)
    return read_clip(path, scene[0].box_xywh.tolist(), frame_count)


def parse_size(text: str) -> tuple[int, int]:
    """Parse a size in px such as "640x480"."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ConfigError(f"size {text!r} is not WIDTHxHEIGHT; give it in px, as in 640x480")
    return int(width), int(height)


# -- Timed runs


class TimedRun:
    """Any tracker in endless laps over the clip; only its update as a whole is timed.

    Args:
        name: as the tables show it.
        tracker: has `init(image, box)` and `update(image)`.
        clip: the frames.
        threads: CPU threads it may use.
        clock: read before and after every stage.
    """

    def __init__(
        self, name: str, tracker: Any, clip: Clip, *, threads: int, clock: Clock = time.perf_counter
    ) -> None:
        self.name, self.threads = name, threads
        self._tracker, self._clip, self._clock = tracker, clip, clock
        self._images = self._laps()

    def step(self) -> StageTimes:
        """Track one more frame."""
        image = next(self._images)
        started_s = self._clock()
        self._tracker.update(image)
        return {UPDATE: self._clock() - started_s}

    def _laps(self) -> Iterator[Image]:
        """Frames without end; the first one only starts the tracker, at every lap."""
        first, *others = self._clip.images
        while True:
            self._start(first)
            yield from others

    def _start(self, first_image: Image) -> None:
        self._tracker.init(first_image, self._clip.box)


class EngineRun(TimedRun):
    """Our tracker on one engine, with every stage of an update timed.

    The crop lasts until the engine is first called. What is neither that nor the engine's two
    halves is post-processing, and the stages add up to the update.
    """

    def __init__(
        self,
        engine: Engine,
        options: TrackerOptions,
        clip: Clip,
        *,
        threads: int,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.precision = engine.precision
        self._engine = TimedEngine(engine, clock)
        self._crops_px: list[int] = []
        tracker, name = Tracker(self._engine, options), run_name(engine)
        super().__init__(name, tracker, clip, threads=threads, clock=clock)

    def step(self) -> StageTimes:
        """Track one more frame."""
        image, engine = next(self._images), self._engine
        engine.clear()
        started_s = self._clock()
        self._tracker.update(image)
        ended_s = self._clock()
        self._crops_px.append(engine.crop_px)

        # A frame on which the engine is not called at all is spent on crops.
        update_s = ended_s - started_s
        crop_s = (ended_s if engine.first_call_s is None else engine.first_call_s) - started_s
        post_s = update_s - crop_s - engine.prepare_s - engine.infer_s
        stages = (crop_s, engine.prepare_s, engine.infer_s, post_s, update_s)
        return dict(zip(STAGES, stages, strict=True))

    @property
    def crop_share(self) -> float:
        """Area of the median search crop over that of a whole one: most are of near windows."""
        side = float(np.median(self._crops_px)) if self._crops_px else 0.0
        return (side / self._engine.config.search_size_px) ** 2


def run_name(engine: Engine) -> str:
    """Engine and precision, as the tables show them."""
    return f"{engine.name} {engine.precision}"


class TimedEngine:
    """An engine that adds up the time of the two halves of `track`."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.name, self.precision = engine.name, engine.precision
        self.device, self.architecture = engine.device, engine.architecture
        self.config, self.any_search_size = engine.config, takes_any_size(engine)
        self._engine, self._clock = engine, clock
        self.clear()

    def clear(self) -> None:
        """Set the sums back to zero."""
        self.first_call_s: float | None = None
        self.prepare_s = self.infer_s = 0.0
        self.crop_px = 0  # side of the last crop

    def embed_exemplar(self, crops: Sequence[Image], boxes_xywh: FloatArray) -> Exemplar:
        """Call the engine."""
        return self._engine.embed_exemplar(crops, boxes_xywh)

    def stack(self, exemplars: Sequence[Exemplar]) -> Exemplar:
        """Call the engine."""
        return self._engine.stack(exemplars)

    def prepare(self, crops: Sequence[Image]) -> Any:
        """Call the engine and add the time to `prepare_s`."""
        started_s = self._clock()
        if self.first_call_s is None:
            self.first_call_s = started_s
        batch = self._engine.prepare(crops)
        self.crop_px = len(crops[0])
        self.prepare_s += self._clock() - started_s
        return batch

    def infer(self, exemplar: Exemplar, batch: Any) -> Response:
        """Call the engine and add the time to `infer_s`."""
        started_s = self._clock()
        response = self._engine.infer(exemplar, batch)
        self.infer_s += self._clock() - started_s
        return response

    def track(self, exemplar: Exemplar, crops: Sequence[Image]) -> Response:
        """Both halves."""
        return self.infer(exemplar, self.prepare(crops))


class TargetsRun(TimedRun):
    """Many targets of the size of the clip's own, spread over the frame.

    Re-detection and the look around are off: they would add windows of lost targets to the work.
    """

    def __init__(
        self,
        engine: Engine,
        options: TrackerOptions,
        clip: Clip,
        *,
        targets: int,
        threads: int,
        clock: Clock = time.perf_counter,
    ) -> None:
        if isinstance(options, BoxHeadOptions):
            options = replace(options, redetect_windows=0, look_around_below=0.0)
        self.targets = targets
        self._boxes = spread_boxes(clip.box, clip.frame_wh, targets)
        tracker, name = MultiTracker(lambda: Tracker(engine, options)), run_name(engine)
        super().__init__(name, tracker, clip, threads=threads, clock=clock)

    def _start(self, first_image: Image) -> None:
        self._tracker.reset()
        for box in self._boxes:
            self._tracker.add(first_image, box)


def spread_boxes(box: Box, frame_wh: tuple[int, int], count: int) -> list[Box]:
    """The box, and others of its size in an even grid over the frame; `count` in all."""
    (width, height), (_, _, w, h) = frame_wh, box
    columns = max(round(math.sqrt(count * width / height)), 1)
    rows = math.ceil((count - 1) / columns) if count > 1 else 1
    xs = np.linspace(0, max(width - w, 0), columns).tolist()
    ys = np.linspace(0, max(height - h, 0), rows).tolist()
    return [box, *((x, y, w, h) for y in ys for x in xs)][:count]


class VideoRun(Closing):
    """What surrounds tracking: decode a frame, draw the clip's box on it, encode it into `written`.

    `threads` is for the table only; decoding and encoding choose their threads themselves.
    """

    name = "video"

    def __init__(
        self, clip: Clip, written: Path, *, threads: int, clock: Clock = time.perf_counter
    ) -> None:
        self.threads = threads
        self._clip, self._clock, self._frames_read = clip, clock, 0
        self._results = {0: Result(clip.box, 1.0, "tracked")}
        self._source = siamtrack.open_source(clip.path)
        self._sink = VideoSink(written, self._source.fps, clip.frame_wh)

    def step(self) -> StageTimes:
        """Decode, draw and encode one more frame."""
        if self._frames_read == len(self._clip.images):
            self._source.close()
            self._source, self._frames_read = siamtrack.open_source(self._clip.path), 0
        self._frames_read += 1

        times_s = [self._clock()]
        frame = next(self._source)
        times_s.append(self._clock())
        drawn = draw_results(frame.image, self._results)
        times_s.append(self._clock())
        self._sink.write(drawn)
        times_s.append(self._clock())
        return dict(zip(VIDEO_STAGES, np.diff(times_s).tolist(), strict=True))

    def close(self) -> None:
        """Close both files."""
        self._sink.close()
        self._source.close()


# -- Interleaving and summary


def run_interleaved(
    runs: Sequence[TimedRun | VideoRun], frames: int, on_turn: Callable[[], object] = lambda: None
) -> list[list[StageTimes]]:
    """Time every run on `frames` frames, a few at a time in turns.

    Every other round goes in reverse order: no run always follows the same one.

    Returns:
        For every run, in order, the times of every counted frame.
    """
    taken: list[list[StageTimes]] = [[] for _ in runs]
    for turn in range(turn_count(frames)):
        order = range(len(runs))
        for k in reversed(order) if turn % 2 else order:
            with cpu_threads(runs[k].threads):
                # The first frames refill the caches that the run before has emptied.
                for _ in range(WARM_FRAMES):
                    runs[k].step()
                counted = min(TURN_FRAMES, frames - len(taken[k]))
                taken[k] += [runs[k].step() for _ in range(counted)]
            on_turn()
    return taken


def turn_count(frames: int) -> int:
    """Turns of each run for so many counted frames."""
    return -(-frames // TURN_FRAMES)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let OpenCV, and torch where it is in use, use `count` threads while the block runs."""
    torch = sys.modules.get("torch")
    before = cv2.getNumThreads(), torch.get_num_threads() if torch else 0
    cv2.setNumThreads(count)
    if torch:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        if torch:
            torch.set_num_threads(before[1])


@dataclass(frozen=True, slots=True)
class Timing:
    """Time of a stage over all frames: the median, and what 95 of 100 frames stay below."""

    median_ms: float
    p95_ms: float


def summarize(taken: Sequence[StageTimes]) -> dict[str, Timing]:
    """Timing of every stage, from the times of every frame."""
    summary = {}
    for stage in taken[0]:
        median_s, p95_s = np.percentile([times[stage] for times in taken], (50, 95)).tolist()
        summary[stage] = Timing(1e3 * median_s, 1e3 * p95_s)
    return summary


# -- The physical limit


def count_macs(network: SiameseNetwork) -> int:
    """Multiply-accumulate operations (MACs) of the track graph for one whole search crop.

    Convolutions and matrix products are counted; everything else is thousands of times less.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from siamtrack.export.onnx import ExemplarGraph, TrackGraph

    config = network.config
    z, x = (
        torch.zeros(1, size_px, size_px, 3, dtype=torch.uint8)
        for size_px in (config.exemplar_size_px, config.search_size_px)
    )
    cells = config.exemplar_size_px // config.total_stride
    with torch.no_grad():
        exemplar = ExemplarGraph(network)(z, torch.ones(1, 1, cells, cells))
        with FlopCounterMode(display=False) as counter:
            TrackGraph(network)(x, exemplar)
    return counter.get_total_flops() // 2  # a MAC is two operations


def matmul_peak(
    precision: str,
    threads: int,
    *,
    size: int = 1024,
    repeats: int = 12,
    clock: Clock = time.perf_counter,
) -> float:
    """Measure the machine's peak in MAC/s: the fastest of several products of large matrices.

    Larger matrices (`size` rows and columns) come nearer to the peak until they leave the cache.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, size, size, generator=generator).to(getattr(torch, PEAK_DTYPES[precision]))
    times_s = []
    with cpu_threads(threads), torch.inference_mode():
        for _ in range(repeats):
            started_s = clock()
            torch.matmul(a, b)
            times_s.append(clock() - started_s)
    return size**3 / min(times_s)
