"""Reading, tracking and writing at the same time: a thread each, with short queues between them.

What comes out is the same as without threads: frames keep their order, errors are raised as they
are and where their frame's turn is, and nothing is written after a write that failed.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import NamedTuple, Protocol

from siamtrack.errors import VideoError
from siamtrack.geometry import parse_first_box
from siamtrack.tracking.redetection import Budget
from siamtrack.tracking.result import Result
from siamtrack.types import Image
from siamtrack.video.frames import Frame

DEPTH = 3
"""Frames that wait in a queue at the most. More smooth out slower moments, and take memory: a 4K
frame is 25 MB."""


@contextmanager
def read_ahead(frames: Iterable[Frame]) -> Iterator[Iterator[Frame]]:
    """Read frames in a thread of its own while others are worked on.

    Not for a live source, whose frames would grow old in the queue.

    Args:
        frames: an open source; the thread has left it alone when the block ends.

    Returns:
        The same frames; an error comes after the last frame before it.
    """
    source, is_over = iter(frames), False

    def take() -> Frame | None:
        nonlocal is_over
        if is_over:
            return None
        is_over = True  # which stays if this fails
        frame = next(source, None)
        is_over = frame is None
        return frame

    def taken() -> Iterator[Frame]:
        waiting = deque(pool.submit(take) for _ in range(DEPTH))
        while (frame := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(take))
            yield frame

    pool = ThreadPoolExecutor(1, thread_name_prefix="siamtrack-read")
    try:
        yield taken()
    finally:
        pool.shutdown(cancel_futures=True)


class WriteBehind:
    """Writes frames in a thread of its own while the next ones are tracked.

    Args:
        write: called with every frame in order; after it has failed, never again.
    """

    def __init__(self, write: Callable[[Frame, Mapping[int, Result]], None]) -> None:
        self._write_one = write
        self._waiting: deque[Future[None]] = deque()
        self._has_failed = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="siamtrack-write")

    def __call__(self, frame: Frame, results: Mapping[int, Result]) -> None:
        """Queue a frame; waits while the queue is full.

        Raises:
            Exception: what writing an earlier frame raised.
        """
        while len(self._waiting) >= DEPTH:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._work, frame, results))

    def finish(self) -> None:
        """Wait until everything is written.

        Raises:
            Exception: what writing a frame raised.
        """
        try:
            while self._waiting:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown()

    def _work(self, frame: Frame, results: Mapping[int, Result]) -> None:
        if self._has_failed:
            return
        self._has_failed = True
        self._write_one(frame, results)
        self._has_failed = False


RATE_WINDOW = 30
"""Frames over which the shown frames per second are averaged."""


class Targets(Protocol):
    """What is needed of a tracker; `siamtrack.MultiTracker` is one."""

    @property
    def targets(self) -> tuple[int, ...]:
        """Numbers of the targets being followed."""

    def add(self, frame_bgr: Image, box: Sequence[float]) -> int:
        """Follow one more target; returns its number."""

    def reinit(self, target: int, frame_bgr: Image, box: Sequence[float]) -> object:
        """Start a target anew from a box."""

    def update(self, frame_bgr: Image) -> Mapping[int, Result]:
        """Find every target in the next frame."""


class Visitor(Protocol):
    """Sees every frame before it is written; `siamtrack.video.interactive.Interaction` is one."""

    def visit(
        self, frame: Frame, results: MutableMapping[int, Result], fps: float | None = None
    ) -> bool:
        """Look at a frame, maybe change its results; False ends the run after this frame."""


Handler = Callable[[int, FrameType | None], object]

Writer = Callable[[Frame, Mapping[int, Result]], None]
"""Takes every frame that has targets, with its results."""


@dataclass(slots=True)
class Tally:
    """What a run has done so far; true at any time, also after an error.

    Attributes:
        frames: frames with targets, which are the frames written.
        work_s: time spent reading, tracking and writing, without waiting for a person.
        statuses: by target, how many frames it had which status.
        budget: the tracker's time for one frame, with what came of it; None for no limit.
    """

    frames: int = 0
    work_s: float = 0.0
    statuses: dict[int, Counter[str]] = field(default_factory=dict)
    budget: Budget | None = None

    @property
    def fps(self) -> float:
        """Frames per second of work; 0 before the first frame."""
        return self.frames / self.work_s if self.work_s > 0 else 0.0

    def count(self, results: Mapping[int, Result]) -> None:
        """Count one written frame."""
        self.frames += 1
        for target, result in results.items():
            self.statuses.setdefault(target, Counter())[result.status] += 1


def given_result(box: Sequence[float], image_bgr: Image) -> Result:
    """The result of the frame a box was given on: that box inside the frame, certainly.

    Args:
        box: xywh px, may stick out of the frame.
        image_bgr: the frame, (H, W, 3).

    Raises:
        InvalidBoxError: see `siamtrack.geometry.parse_first_box`.
    """
    x, y, w, h = parse_first_box(box, (image_bgr.shape[1], image_bgr.shape[0])).tolist()
    return Result(box=(x, y, w, h), score=1.0, status="tracked")


def run(
    frames: Iterable[Frame],
    tracker: Targets,
    *,
    boxes: Sequence[Sequence[float]] = (),
    writers: Sequence[Writer] = (),
    visitor: Visitor | None = None,
    start_frame: int = 0,
    tally: Tally | None = None,
    overlap: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> Tally:
    """Track through a video.

    Frames before the first target (those before `start_frame`, and those a person lets pass
    before drawing a box) are neither tracked nor written. Ctrl-C between two frames ends the run
    by `KeyboardInterrupt` and never cuts a frame's writing in two.

    Args:
        frames: the video; an open source.
        tracker: without targets of its own.
        boxes: one target each, xywh px on frame `start_frame`.
        writers: called in order with every frame that has targets.
        visitor: the window, if there is one. Without one, `boxes` must not be empty.
        start_frame: index of the first frame to look at.
        tally: filled in as the run goes on, for a caller that wants it after an error too.
        overlap: write in a thread of its own while the next frames are tracked, with the same
            outcome. Whatever ends the run, all that was tracked is written first.
        clock: seconds, monotonic.

    Returns:
        The tally.

    Raises:
        VideoError: the video ends before `start_frame`, or fails on the way.
        InvalidBoxError: a box that cannot be tracked.
        OutputError: a writer failed.
    """
    tally = Tally() if tally is None else tally

    def deliver(frame: Frame, results: Mapping[int, Result]) -> None:
        for write in writers:
            write(frame, results)
        tally.count(results)

    job = _Job(tracker, boxes, visitor, start_frame, tally, clock)
    if not overlap:
        _loop(frames, job, deliver)
        return tally
    behind = WriteBehind(deliver)
    try:
        _loop(frames, job, behind)
    finally:
        started_s = clock()
        with interrupts_held():
            behind.finish()
        tally.work_s += clock() - started_s
    return tally


class _Job(NamedTuple):
    """Arguments of `run`."""

    tracker: Targets
    boxes: Sequence[Sequence[float]]
    visitor: Visitor | None
    start_frame: int
    tally: Tally
    clock: Callable[[], float]


def _loop(frames: Iterable[Frame], job: _Job, deliver: Writer) -> None:
    clock, visitor, boxes = job.clock, job.visitor, job.boxes
    rate, reached = _Rate(), -1
    started_s = clock()
    for frame in frames:
        reached = frame.index
        if frame.index >= job.start_frame:
            results = _track(job.tracker, frame, boxes)
            boxes = ()
            work_s = clock() - started_s
            go_on = visitor is None or visitor.visit(frame, results, rate.fps)
            started_s = clock()
            if results:
                with interrupts_held():
                    deliver(frame, results)
                work_s += clock() - started_s
                rate.add(work_s)
                job.tally.work_s += work_s
            if not go_on:
                return
        started_s = clock()
    if reached < job.start_frame:
        raise VideoError(
            f"the video has {reached + 1} frames, so none can start at frame {job.start_frame}; "
            "frames count from 0"
        )


def _track(tracker: Targets, frame: Frame, boxes: Sequence[Sequence[float]]) -> dict[int, Result]:
    """Results of the targets there are, and of those that start here from `boxes`."""
    results = dict(tracker.update(frame.image)) if tracker.targets else {}
    for box in boxes:
        results[tracker.add(frame.image, box)] = given_result(box, frame.image)
    return results


class _Rate:
    """Frames per second over the last `RATE_WINDOW` frames."""

    def __init__(self) -> None:
        self._times_s: list[float] = []

    def add(self, work_s: float) -> None:
        self._times_s = [*self._times_s[-(RATE_WINDOW - 1) :], work_s]

    @property
    def fps(self) -> float | None:
        total_s = sum(self._times_s)
        return len(self._times_s) / total_s if total_s > 0 else None


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block, which writes what belongs together.

    Outside the main thread, where Python never delivers signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[tuple[int, FrameType | None]] = []
    usual: dict[int, Handler] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        # What is not a function is a disposition of the system, which Python cannot hold back.
        if callable(handler):
            usual[number] = handler
            signal.signal(number, lambda number, frame: waiting.append((number, frame)))
    try:
        yield
    finally:
        for held, handler in usual.items():
            signal.signal(held, handler)
    if waiting:
        received, where = waiting[0]
        usual[received](received, where)
