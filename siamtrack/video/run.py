"""The frame loop: read, track, show, write; reading and writing may run in threads of their own.

What comes out is the same with and without threads: frames keep their order, errors are raised
unchanged where their frame would come, and nothing is written after a failed write.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, TypeAlias

from siamtrack.errors import ConfigError, InvalidFrameError, VideoError
from siamtrack.geometry import parse_first_box
from siamtrack.tracking.result import Result
from siamtrack.types import Image
from siamtrack.video.frames import Frame

if TYPE_CHECKING:
    from siamtrack.tracking.multi import MultiTracker
    from siamtrack.tracking.redetection import TimeBudget

DEPTH = 3
"""Most frames that wait in a queue. Raising it evens out slow frames and costs memory: a 4K frame
is 25 MB."""

SAME_TIME_S = 5e-4
"""Times this close are one: containers round to 1 ms."""

RATE_WINDOW = 30
"""Frames over which the displayed frames per second are averaged."""

Writer: TypeAlias = Callable[[Frame, Mapping[int, Result]], None]
"""Called with every frame that has targets, and its results."""

FrameHook: TypeAlias = Callable[[Frame, dict[int, Result], float | None], bool]
"""Called with every frame before it is written, its results, which it may change, and the frames
per second. Returning False ends the run after this frame."""


@dataclass(slots=True)
class RunStats:
    """What a run has done so far; valid at any time, also after an error.

    Attributes:
        frames: frames with targets, which are the frames written.
        work_s: time spent reading, tracking and writing, without waiting for the user.
        statuses: by target, how many frames it had which status.
        budget: the tracker's time for one frame and how often it was exceeded; None for no limit.
    """

    frames: int = 0
    work_s: float = 0.0
    statuses: dict[int, Counter[str]] = field(default_factory=dict)
    budget: TimeBudget | None = None

    @property
    def fps(self) -> float:
        """Frames per second of work; 0 before the first frame."""
        return self.frames / self.work_s if self.work_s > 0 else 0.0

    def count(self, results: Mapping[int, Result]) -> None:
        """Count one written frame."""
        self.frames += 1
        for target, result in results.items():
            self.statuses.setdefault(target, Counter())[result.status] += 1


def run(
    frames: Iterable[Frame],
    tracker: MultiTracker,
    *,
    boxes: Sequence[Sequence[float]] = (),
    writers: Sequence[Writer] = (),
    on_frame: FrameHook | None = None,
    start_frame: int = 0,
    end_frame: int | None = None,
    start_s: float = 0.0,
    end_s: float = math.inf,
    stats: RunStats | None = None,
    write_in_background: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> RunStats:
    """Track through a video.

    Frames before the first target (those before `start_frame`, and those that the user skips before
    drawing a box) are neither tracked nor written. Ctrl-C raises `KeyboardInterrupt` between two
    frames, never while one is written.

    Args:
        frames: the video; an open source.
        tracker: without targets of its own.
        boxes: one target each, xywh px on the first frame that is tracked.
        writers: called in order with every frame that has targets.
        on_frame: shows frames in a window. Without one, `boxes` must not be empty.
        start_frame: index of the first frame to track.
        end_frame: index of the last frame; None for no limit.
        start_s: time of the first frame to track.
        end_s: time of the last one.
        stats: updated during the run, for a caller that needs it after an error too.
        write_in_background: write in a thread while the next frames are tracked, with the same
            outcome. However the run ends, everything tracked is written first.
        clock: seconds, monotonic.

    Raises:
        VideoError: the video ends before `start_frame` or `start_s`, or reading it fails.
        InvalidBoxError: a box that cannot be tracked.
        ConfigError: the end is before the start.
        InvalidFrameError: a frame of another shape than those before, with a note that names it.
        OutputError: a writer failed.
    """
    if end_s < start_s or (end_frame is not None and end_frame < start_frame):
        last = f"{end_s:g} s" if end_s < start_s else f"frame {end_frame}"
        raise ConfigError(f"the end, {last}, is before the start; give a later one")
    run_stats = RunStats() if stats is None else stats
    recent_s: deque[float] = deque(maxlen=RATE_WINDOW)
    frames_seen, has_started = 0, False

    def write(frame: Frame, results: Mapping[int, Result]) -> None:
        for writer in writers:
            writer(frame, results)
        run_stats.count(results)

    background = BackgroundWriter(write) if write_in_background else None
    try:
        started_s = clock()
        for frame in frames:  # 1. Read. The clock runs since the last frame was finished.
            frames_seen = frame.index + 1
            if frame.index < start_frame or frame.time_s < start_s - SAME_TIME_S:
                started_s = clock()
                continue
            if frame.time_s > end_s + SAME_TIME_S:
                break
            has_started = True

            # 2. Track the targets there are, and start those whose boxes were given.
            results = dict(_update(tracker, frame)) if tracker.targets else {}
            for box in boxes:
                results[tracker.add(frame.image, box)] = first_frame_result(box, frame.image)
            boxes = ()
            work_s = clock() - started_s

            # 3. Show the frame. The user may draw boxes, which changes the results; this time does
            #    not count as work.
            total_s = sum(recent_s)
            fps = len(recent_s) / total_s if total_s > 0 else None
            should_continue = on_frame is None or on_frame(frame, results, fps)
            started_s = clock()

            # 4. Write, or queue for writing.
            if results:
                with defer_interrupts():
                    (background or write)(frame, results)
                work_s += clock() - started_s
                recent_s.append(work_s)
                run_stats.work_s += work_s
            if not should_continue or frame.index == end_frame:
                return run_stats
            started_s = clock()
    finally:
        if background is not None:
            started_s = clock()
            with defer_interrupts():
                background.finish()
            run_stats.work_s += clock() - started_s
    if not has_started:
        start = f"frame {start_frame}" if start_s <= 0 else f"{start_s:g} s"
        raise VideoError(
            f"the video has {frames_seen} frames, so none can start at {start}; frames count from 0"
        )
    return run_stats


def _update(tracker: MultiTracker, frame: Frame) -> Mapping[int, Result]:
    """Track in one frame; an error about the frame gets its name as a note."""
    try:
        return tracker.update(frame.image)
    except InvalidFrameError as error:
        error.add_note(f"frame {frame.index} {frame.picture}".strip())
        raise


def first_frame_result(box: Sequence[float], image_bgr: Image) -> Result:
    """Result of the frame a box (xywh px) was given on: that box inside the frame, score 1.

    Raises:
        InvalidBoxError: not four finite numbers, without area, or outside the frame.
    """
    x, y, w, h = parse_first_box(box, (image_bgr.shape[1], image_bgr.shape[0])).tolist()
    return Result(box=(x, y, w, h), score=1.0, status="tracked")


class LaterTargets:
    """Targets that begin after the first frame of a `run`, whose `on_frame` it is.

    `starts` are frames and boxes, xywh px on that frame; the targets are added in this order.
    """

    def __init__(
        self, tracker: MultiTracker, starts: Sequence[tuple[int, Sequence[float]]]
    ) -> None:
        self._tracker, self._waiting = tracker, list(starts)

    def on_frame(self, frame: Frame, results: dict[int, Result], fps: float | None) -> bool:
        """Add the targets of this frame; see `FrameHook`."""
        for start in [start for start in self._waiting if start[0] == frame.index]:
            number = self._tracker.add(frame.image, start[1])
            results[number] = first_frame_result(start[1], frame.image)
            self._waiting.remove(start)
        return True

    def check_all_started(self) -> None:
        """Check at the end that all targets were seen.

        Raises:
            VideoError: there was no such frame.
        """
        if self._waiting:
            raise VideoError(
                f"a target begins at frame {self._waiting[0][0]}, which was not reached; frames "
                "count from 0"
            )


@contextmanager
def prefetch(frames: Iterable[Frame]) -> Iterator[Iterator[Frame]]:
    """Read frames in a thread while earlier ones are processed; an error keeps its place.

    Not for a live source, whose frames would age in the queue. After the block the thread no longer
    uses the source.
    """
    source, is_over = iter(frames), False

    def take() -> Frame | None:
        nonlocal is_over
        if is_over:
            return None
        is_over = True  # It stays so if this fails.
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


class BackgroundWriter:
    """Write frames in a thread and in order; `write` is not called again once it has failed."""

    def __init__(self, write: Writer) -> None:
        self._write_one = write
        self._waiting: deque[Future[None]] = deque()
        self._has_failed = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="siamtrack-write")

    def __call__(self, frame: Frame, results: Mapping[int, Result]) -> None:
        """Queue a frame, waiting while the queue is full; raises what an earlier write raised."""
        while len(self._waiting) >= DEPTH:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._write, frame, results))

    def finish(self) -> None:
        """Wait until everything is written; raises what writing a frame raised."""
        try:
            while self._waiting:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown()

    def _write(self, frame: Frame, results: Mapping[int, Result]) -> None:
        if self._has_failed:
            return
        self._has_failed = True  # It stays so if this fails.
        self._write_one(frame, results)
        self._has_failed = False


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Delay Ctrl-C, SIGTERM and SIGHUP until the end of the block.

    Outside the main thread, where Python never delivers signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[tuple[int, FrameType | None]] = []
    handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        handler = signal.getsignal(number)
        # What is not a function is a disposition of the system, which Python cannot delay.
        if callable(handler):
            handlers[number] = handler
            signal.signal(number, lambda number, frame: received.append((number, frame)))
    try:
        yield
    finally:
        for deferred, handler in handlers.items():
            signal.signal(deferred, handler)
    if received:
        first, where = received[0]
        handlers[first](first, where)
