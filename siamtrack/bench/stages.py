"""What takes turns in a benchmark: trackers on engines, other trackers, and the video itself."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

import siamtrack
from siamtrack.data.synthetic import small_scene
from siamtrack.engines.base import Engine, Exemplar, Response
from siamtrack.errors import ConfigError, VideoError
from siamtrack.evaluation.trackers import EvaluatedTracker
from siamtrack.export.onnx import ExemplarGraph, TrackGraph
from siamtrack.geometry import parse_first_box
from siamtrack.models.network import TrackerNetwork
from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.options import BoxHeadOptions, TrackerOptions
from siamtrack.tracking.result import Result
from siamtrack.tracking.tracker import Tracker
from siamtrack.types import Box, FloatArray, Image
from siamtrack.video.draw import draw_results
from siamtrack.video.video_writer import VideoSink

Clock = Callable[[], float]
Times = dict[str, float]

CROP, PRE, NETWORK, POST, UPDATE = "crop", "pre-process", "network", "post-process", "update"
STAGES = (CROP, PRE, NETWORK, POST, UPDATE)
DECODE, DRAW, ENCODE = "decode", "draw", "encode"
VIDEO_STAGES = (DECODE, DRAW, ENCODE)


class Clip:
    """Decoded frames and the target on the first one.

    Args:
        path: the file they are from, which the video's own stages read again.
        images: at least two, uint8 (H, W, 3) BGR.
        box: xywh px on the first.

    Raises:
        VideoError: fewer than two frames.
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


class Contestant(Protocol):
    """Takes one frame after the other, and starts anew at the end of the clip.

    Attributes:
        name: as it is shown.
        threads: CPU threads it may use.
    """

    name: str
    threads: int

    def step(self) -> Times:
        """Work on one more frame; seconds by stage."""
        ...


class TimedEngine:
    """An engine that adds up the time of its two halves of `track`."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.name, self.precision = engine.name, engine.precision
        self.device, self.architecture = engine.device, engine.architecture
        self.config = engine.config
        self._engine, self._clock = engine, clock
        self.called_s: float | None = None
        self.prepare_s = self.infer_s = 0.0

    def clear(self) -> None:
        """Forget what was added up."""
        self.called_s = None
        self.prepare_s = self.infer_s = 0.0

    def embed_exemplar(self, crops: Sequence[Image], boxes_xywh: FloatArray) -> Exemplar:
        """See `Engine.embed_exemplar`."""
        return self._engine.embed_exemplar(crops, boxes_xywh)

    def stack(self, exemplars: Sequence[Exemplar]) -> Exemplar:
        """See `Engine.stack`."""
        return self._engine.stack(exemplars)

    def prepare(self, crops: Sequence[Image]) -> Any:
        """See `Engine.prepare`."""
        started_s = self._clock()
        if self.called_s is None:
            self.called_s = started_s
        batch = self._engine.prepare(crops)
        self.prepare_s += self._clock() - started_s
        return batch

    def infer(self, exemplar: Exemplar, batch: Any) -> Response:
        """See `Engine.infer`."""
        started_s = self._clock()
        response = self._engine.infer(exemplar, batch)
        self.infer_s += self._clock() - started_s
        return response

    def track(self, exemplar: Exemplar, crops: Sequence[Image]) -> Response:
        """See `Engine.track`."""
        return self.infer(exemplar, self.prepare(crops))


class EngineContestant:
    """The tracker of this package on one engine.

    The time before the network is first called is the crop's, and what is neither that nor the
    network's two halves is post-processing, so that the stages add up to the update.
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
        self.threads, self.precision = threads, engine.precision
        self.name = f"{engine.name} {engine.precision}"
        self._engine, self._clock = TimedEngine(engine, clock), clock
        self._tracker = Tracker(self._engine, options)
        self._images = _laps(clip, self._start)

    def _start(self, image: Image, box: Box) -> None:
        self._tracker.init(image, box)

    def step(self) -> Times:
        """See `Contestant.step`."""
        image, engine = next(self._images), self._engine
        engine.clear()
        started_s = self._clock()
        self._tracker.update(image)
        ended_s = self._clock()
        update_s = ended_s - started_s
        crop_s = (ended_s if engine.called_s is None else engine.called_s) - started_s
        post_s = update_s - crop_s - engine.prepare_s - engine.infer_s
        stages = (crop_s, engine.prepare_s, engine.infer_s, post_s, update_s)
        return dict(zip(STAGES, stages, strict=True))


class ManyContestant:
    """Many targets, of the size of the clip's own, spread over the frame.

    Lost ones are not looked for, or the work would be that of more targets than there are.
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
            options = replace(options, redetect_windows=0)
        self.name, self.threads, self.targets = (
            f"{engine.name} {engine.precision}",
            threads,
            targets,
        )
        self._boxes, self._clock = spread_boxes(clip.box, clip.frame_wh, targets), clock
        self._tracker = MultiTracker(lambda: Tracker(engine, options))
        self._images = _laps(clip, self._start)

    def _start(self, image: Image, box: Box) -> None:
        self._tracker.reset()
        for place in self._boxes:
            self._tracker.add(image, place)

    def step(self) -> Times:
        """See `Contestant.step`."""
        image = next(self._images)
        started_s = self._clock()
        self._tracker.update(image)
        return {UPDATE: self._clock() - started_s}


def spread_boxes(box: Box, frame_wh: tuple[int, int], count: int) -> list[Box]:
    """The box, and others of its size in a grid over the frame, as even as it can be."""
    (width, height), (_, _, w, h) = frame_wh, box
    columns = max(round(math.sqrt(count * width / height)), 1)
    rows = math.ceil((count - 1) / columns) if count > 1 else 1
    xs = np.linspace(0, max(width - w, 0), columns).tolist()
    ys = np.linspace(0, max(height - h, 0), rows).tolist()
    return [box, *((x, y, w, h) for y in ys for x in xs)][:count]


class RivalContestant:
    """Any other tracker; only its update as a whole can be timed."""

    def __init__(
        self,
        name: str,
        tracker: EvaluatedTracker,
        clip: Clip,
        *,
        threads: int,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.name, self.threads = name, threads
        self._tracker, self._clock = tracker, clock
        self._images = _laps(clip, tracker.init)

    def step(self) -> Times:
        """See `Contestant.step`."""
        image = next(self._images)
        started_s = self._clock()
        self._tracker.update(image)
        return {UPDATE: self._clock() - started_s}


class VideoContestant:
    """What surrounds tracking: decoding a frame, drawing one result on it, encoding it.

    A context manager, for it reads one file and writes another.

    Args:
        clip: the video, and the box to be drawn.
        written: .mp4 to write.
        threads: told in the table; decoding and encoding have threads of their own.
        clock: seconds, monotonic.
    """

    name = "video"

    def __init__(
        self, clip: Clip, written: Path, *, threads: int, clock: Clock = time.perf_counter
    ) -> None:
        self.threads = threads
        self._clip, self._clock, self._count = clip, clock, 0
        self._results = {0: Result(clip.box, 1.0, "tracked")}
        self._files = ExitStack()
        self._source = siamtrack.open_source(clip.path)
        self._files.callback(lambda: self._source.close())
        self._sink = self._files.enter_context(VideoSink(written, self._source.fps, clip.frame_wh))

    def __enter__(self) -> Self:
        """Return the contestant itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close both files."""
        self._files.__exit__(kind, error, trace)

    def step(self) -> Times:
        """See `Contestant.step`."""
        if self._count == len(self._clip.images):
            self._source.close()
            self._source, self._count = siamtrack.open_source(self._clip.path), 0
        self._count += 1
        times_s = [self._clock()]
        frame = next(self._source)
        times_s.append(self._clock())
        drawn = draw_results(frame.image, self._results)
        times_s.append(self._clock())
        self._sink.write(drawn)
        times_s.append(self._clock())
        return dict(zip(VIDEO_STAGES, np.diff(times_s).tolist(), strict=True))


def _laps(clip: Clip, start: Callable[[Image, Box], object]) -> Iterator[NDArray[np.uint8]]:
    """Frames without end: all but the first, on which `start` is called before every lap."""
    while True:
        start(clip.images[0], clip.box)
        yield from clip.images[1:]


_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
PEAK_PRECISIONS = tuple(_DTYPES)  # torch has no public product of large int8 matrices


def count_macs(network: TrackerNetwork) -> int:
    """Multiplications (each with its addition) of the track graph for one search crop.

    Convolutions and matrix products are counted; all else is thousands of times less.
    """
    config = network.config
    z = torch.zeros(1, config.exemplar_size_px, config.exemplar_size_px, 3, dtype=torch.uint8)
    x = torch.zeros(1, config.search_size_px, config.search_size_px, 3, dtype=torch.uint8)
    cells = config.exemplar_size_px // config.total_stride
    with torch.no_grad():
        exemplar = ExemplarGraph(network)(z, torch.ones(1, 1, cells, cells))
        with FlopCounterMode(display=False) as counter:
            TrackGraph(network)(x, exemplar)
    return counter.get_total_flops() // 2


def matmul_peak(
    precision: str,
    threads: int,
    *,
    size: int = 1024,
    repeats: int = 12,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Measure how many multiplications a second the machine does in its best discipline.

    Args:
        precision: "f32" or "bf16".
        threads: CPU threads.
        size: rows and columns of the square matrices; larger ones come nearer to the peak until
            they leave the cache.
        repeats: products; the fastest one counts.
        clock: seconds, monotonic.

    Returns:
        MAC/s.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(size, size, generator=generator).to(_DTYPES[precision]) for _ in range(2))
    times_s = []
    with cpu_threads(threads), torch.inference_mode():
        for _ in range(repeats):
            started_s = clock()
            torch.matmul(a, b)
            times_s.append(clock() - started_s)
    return size**3 / min(times_s)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let torch and OpenCV compute in so many threads inside the block."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


TURN_FRAMES = 15
"""Frames in a row. Fewer, and contestants empty each other's caches; more, and a slow moment of
the machine meets only one of them."""

WARM_FRAMES = 3
"""Frames at the beginning of every turn that are not counted."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a stage takes.

    Attributes:
        median_ms: of all frames.
        p95_ms: 95 of 100 frames take no longer.
    """

    median_ms: float
    p95_ms: float

    @classmethod
    def of(cls, times_s: Sequence[float]) -> Timing:
        """Summarise times in seconds."""
        median_s, p95_s = np.percentile(times_s, (50, 95)).tolist()
        return cls(1e3 * median_s, 1e3 * p95_s)


def turn_count(frames: int) -> int:
    """Turns that each contestant takes for so many counted frames."""
    return -(-frames // TURN_FRAMES)


def take_turns(
    contestants: Sequence[Contestant],
    frames: int,
    on_turn: Callable[[], object] = lambda: None,
) -> list[list[Times]]:
    """Time every contestant on `frames` frames.

    Every other round goes in reverse order, so that nobody always follows the same neighbour.

    Args:
        contestants: who takes part.
        frames: counted frames of each.
        on_turn: called after every turn, for a progress bar.

    Returns:
        For every contestant, in order, the times of every frame.
    """
    taken: list[list[Times]] = [[] for _ in contestants]
    for turn in range(turn_count(frames)):
        order = range(len(contestants))
        for k in reversed(order) if turn % 2 else order:
            with cpu_threads(contestants[k].threads):
                for _ in range(WARM_FRAMES):
                    contestants[k].step()
                counted = min(TURN_FRAMES, frames - len(taken[k]))
                taken[k] += [contestants[k].step() for _ in range(counted)]
            on_turn()
    return taken


def summarise(taken: Sequence[Times]) -> dict[str, Timing]:
    """Timing of every stage."""
    by_stage: dict[str, list[float]] = defaultdict(list)
    for times in taken:
        for stage, time_s in times.items():
            by_stage[stage].append(time_s)
    return {stage: Timing.of(times_s) for stage, times_s in by_stage.items()}


_FPS = 30.0


def parse_size(text: str) -> tuple[int, int]:
    """Read "640x480".

    Raises:
        ConfigError: not two whole numbers of px.
    """
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ConfigError(f"size {text!r} is not WIDTHxHEIGHT; give it in px, as in 640x480")
    return int(width), int(height)


def make_clip(path: Path, frame_wh: tuple[int, int], frame_count: int) -> Clip:
    """Render an easy scene into a file and read it back.

    Args:
        path: .mp4 to write.
        frame_wh: width and height in px, both even.
        frame_count: at least two.

    Raises:
        ConfigError: a size that cannot be rendered, or too few frames.
        OutputError: the file cannot be written.
    """
    if frame_count < 2:
        raise ConfigError(f"{frame_count} frame(s) for the clip; give at least 2")
    scene = small_scene(frame_wh=frame_wh, frame_count=frame_count)
    with VideoSink(path, _FPS, frame_wh) as video:
        for frame in scene:
            video.write(frame.image_bgr)
    return read_clip(path, scene[0].box_xywh.tolist(), frame_count)


def read_clip(path: Path, box: list[float], frame_count: int) -> Clip:
    """Decode the beginning of a video.

    Args:
        path: video file, or folder of pictures.
        box: xywh px on the first frame.
        frame_count: frames to take at the most.

    Raises:
        VideoError: the video cannot be read, or has fewer than two frames.
        InvalidBoxError: the box cannot be tracked.
    """
    with siamtrack.open_source(path) as source:
        images = [frame.image for frame in islice(source, frame_count)]
    height, width = images[0].shape[:2]
    x, y, w, h = parse_first_box(np.asarray(box), (width, height)).tolist()
    first: Box = (x, y, w, h)
    return Clip(path, images, first)
