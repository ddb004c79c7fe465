"""The frame loop: read, track, show, write; reading and writing may run in threads of their own.

What comes out is the same with and without threads: frames keep their order, errors are raised
unchanged where their frame would come, and nothing is written after a failed write.
"""

from __future__ import annotations

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

from siamtrack.errors import InvalidBoxError, InvalidFrameError, SiamTrackError
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


def follow(
    frames: Iterable[Frame],
    tracker: MultiTracker,
    boxes: Sequence[Sequence[float]] = (),
    later_boxes: Mapping[int, Mapping[int, Sequence[float]]] | None = None,
) -> Iterator[tuple[Frame, dict[int, Result]]]:
    """Track through frames; yields each with its results, which are empty before the first target.

    Args:
        frames: in the order in which they are tracked.
        tracker: without targets of its own.
        boxes: one target each, xywh px on the first frame.
        later_boxes: by the frame's number and the target's: the first box of a target, or a
            correction of one that is tracked already.

    Raises:
        VideoError: reading fails.
        InvalidBoxError: a box that cannot be tracked, with a note that names the frame.
        InvalidFrameError: a frame of another shape than those before, with a note that names it.
            Also raised at the end, for a frame with boxes that did not come.
    """
    waiting = dict(later_boxes or {})
    for frame in frames:
        results = dict(_update(tracker, frame)) if tracker.targets else {}
        for box in boxes:
            results[tracker.add(frame.image, box)] = first_frame_result(box, frame.image)
        boxes = ()
        for target, box in waiting.pop(frame.index, {}).items():
            with _noting(frame, InvalidBoxError):
                if target in tracker.targets:
                    tracker.reinit(target, frame.image, box)
                else:
                    tracker.add(frame.image, box, target=target)
                results[target] = first_frame_result(box, frame.image)
        yield frame, results
    if waiting:
        missing = ", ".join(map(str, sorted(waiting)[:5])) + ", ..." * (len(waiting) > 5)
        raise InvalidBoxError(
            f"boxes were given for frame {missing}, which was not among the frames tracked; give "
            "boxes on frames between the start and the end"
        )


def run(
    frames: Iterable[Frame],
    tracker: MultiTracker,
    *,
    boxes: Sequence[Sequence[float]] = (),
    later_boxes: Mapping[int, Mapping[int, Sequence[float]]] | None = None,
    writers: Sequence[Writer] = (),
    on_frame: FrameHook | None = None,
    stats: RunStats | None = None,
    write_in_background: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> RunStats:
    """Track through a video.

    Frames before the first target are neither tracked nor written. Ctrl-C raises
    `KeyboardInterrupt` between two frames, never while one is written.

    Args:
        frames: the video, or a part of it: an open source, or `Stretch.frames_of`.
        tracker: without targets of its own.
        boxes: one target each, xywh px on the first frame.
        later_boxes: boxes on other frames; see `follow`.
        writers: called in order with every frame that has targets.
        on_frame: shows frames in a window. Without one, there must be boxes.
        stats: updated during the run, for a caller that needs it after an error too.
        write_in_background: write in a thread while the next frames are tracked, with the same
            outcome. However the run ends, everything tracked is written first.
        clock: seconds, monotonic.

    Raises:
        OutputError: a writer failed.
        SiamTrackError: reading or tracking failed; see `follow`.
    """
    run_stats = RunStats() if stats is None else stats
    recent_s: deque[float] = deque(maxlen=RATE_WINDOW)

    def write(frame: Frame, results: Mapping[int, Result]) -> None:
        for writer in writers:
            writer(frame, results)
        run_stats.count(results)

    background = BackgroundWriter(write) if write_in_background else None
    try:
        started_s = clock()
        # 1. Read and track. The clock runs since the last frame was finished.
        for frame, results in follow(frames, tracker, boxes, later_boxes):
            work_s = clock() - started_s

            # 2. Show the frame. The user may draw boxes, which changes the results; this time does
            #    not count as work.
            total_s = sum(recent_s)
            fps = len(recent_s) / total_s if total_s > 0 else None
            should_continue = on_frame is None or on_frame(frame, results, fps)
            started_s = clock()

            # 3. Write, or queue for writing.
            if results:
                with defer_interrupts():
                    (background or write)(frame, results)
                work_s += clock() - started_s
                recent_s.append(work_s)
                run_stats.work_s += work_s
            if not should_continue:
                break
            started_s = clock()
    finally:
        if background is not None:
            started_s = clock()
            with defer_interrupts():
                background.finish()
            run_stats.work_s += clock() - started_s
    return run_stats


def _update(tracker: MultiTracker, frame: Frame) -> Mapping[int, Result]:
    """Track in one frame; an error about the frame gets its name as a note."""
    with _noting(frame, InvalidFrameError):
        return tracker.update(frame.image)


@contextmanager
def _noting(frame: Frame, kind: type[SiamTrackError]) -> Iterator[None]:
    """Add the name of the frame to an error that is raised meanwhile."""
    try:
        yield
    except kind as error:
        error.add_note(f"frame {frame.index} {frame.picture}".strip())
        raise


def first_frame_result(box: Sequence[float], image_bgr: Image) -> Result:
    """Result of the frame a box (xywh px) was given on: that box inside the frame, score 1.

    Raises:
        InvalidBoxError: not four finite numbers, without area, or outside the frame.
    """
    x, y, w, h = parse_first_box(box, (image_bgr.shape[1], image_bgr.shape[0])).tolist()
    return Result(box=(x, y, w, h), score=1.0, status="tracked")


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
