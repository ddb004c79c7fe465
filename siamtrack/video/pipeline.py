"""Reading, tracking and writing at the same time: a thread each, with short queues between them.

What comes out is the same as without threads: frames keep their order, errors are raised as they
are and where their frame's turn is, and nothing is written after a write that failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from siamtrack.tracking.result import Result
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
