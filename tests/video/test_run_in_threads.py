"""Reading, tracking and writing in threads come to the same as one after the other."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress

import numpy as np
import pytest

from siamtrack.errors import InvalidFrameError, OutputError, VideoError
from siamtrack.tracking.result import Result
from siamtrack.video.frames import Frame
from siamtrack.video.run import DEPTH, BackgroundWriter, RunStats, first_frame_result, prefetch, run

BOX = (10.0, 10.0, 20.0, 10.0)
LONG_S = 20.0
"""How long a test waits for another thread before it fails."""


class Drift:
    """Boxes that move one px a frame; `trouble` is called before every update."""

    def __init__(self, trouble=lambda number: None) -> None:
        self.boxes: dict[int, tuple[float, ...]] = {}
        self.trouble = trouble

    @property
    def targets(self) -> tuple[int, ...]:
        return tuple(self.boxes)

    def add(self, frame_bgr: np.ndarray, box: Sequence[float]) -> int:
        self.boxes[0] = first_frame_result(box, frame_bgr).box
        return 0

    def reinit(self, target: int, frame_bgr: np.ndarray, box: Sequence[float]) -> None: ...

    def update(self, frame_bgr: np.ndarray) -> Mapping[int, Result]:
        self.trouble(int(frame_bgr[0, 0, 0]))
        x, y, w, h = self.boxes[0]
        self.boxes[0] = (x + 1, y, w, h)
        return {0: Result(self.boxes[0], 0.5, "tracked")}


class Journal:
    """A writer that keeps what it was given; `trouble` is called before."""

    def __init__(self, trouble=lambda number: None) -> None:
        self.rows: list[tuple[int, float, dict[int, Result]]] = []
        self.trouble = trouble

    def __call__(self, frame: Frame, results: Mapping[int, Result]) -> None:
        self.trouble(frame.index)
        self.rows.append((frame.index, frame.time_s, dict(results)))

    @property
    def indices(self) -> list[int]:
        return [index for index, _, _ in self.rows]


class Video:
    """Frames whose first pixel is their number; counts how many were taken."""

    def __init__(self, count: int, trouble=lambda number: None) -> None:
        self.count, self.taken, self.trouble = count, 0, trouble

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        if self.taken == self.count:
            raise StopIteration
        self.trouble(self.taken)
        k, self.taken = self.taken, self.taken + 1
        return Frame(np.full((48, 64, 3), k, np.uint8), k, k / 25)


def at(number: int, error: BaseException):
    def trouble(k: int) -> None:
        if k == number:
            raise error

    return trouble


def outcome(video, tracker, journal, *, overlap):
    """What a run leaves behind: rows, stats and error."""
    stats, caught = RunStats(), None
    with prefetch(video) if overlap else nullcontext(video) as frames:
        try:
            run(
                frames,
                tracker,
                boxes=[BOX],
                writers=[journal],
                stats=stats,
                write_in_background=overlap,
            )
        except (VideoError, OutputError, InvalidFrameError) as error:
            caught = error
    return journal.rows, stats.frames, stats.statuses, caught


ERRORS = {
    "none": (None, None),
    "reading": ("video", VideoError("the file is cut off")),
    "tracking": ("tracker", InvalidFrameError("another shape")),
    "writing": ("journal", OutputError("the disk is full")),
}


@pytest.mark.parametrize("number", [1, 5, 11])
@pytest.mark.parametrize("case", sorted(ERRORS))
def test_threads_change_nothing(case, number):
    where, error = ERRORS[case]

    def parts():
        trouble = {where: at(number, error)} if where else {}
        quiet = at(-1, ValueError())
        video = Video(12, trouble.get("video", quiet))
        return video, Drift(trouble.get("tracker", quiet)), Journal(trouble.get("journal", quiet))

    plain, threaded = (outcome(*parts(), overlap=overlap) for overlap in (False, True))
    assert threaded == plain
    assert threaded[3] is error
    assert threaded[1] == (number if error else 12)


def test_frames_are_tracked_while_others_are_written():
    tracked = threading.Event()

    def wait(number: int) -> None:
        if number == 0:
            assert tracked.wait(LONG_S), "frame 1 was not tracked before frame 0 was written"

    tracker = Drift(lambda number: tracked.set())
    run(Video(3), tracker, boxes=[BOX], writers=[Journal(wait)], write_in_background=True)


def test_frames_are_read_while_others_are_processed():
    video, read = Video(9), threading.Event()
    video.trouble = lambda number: read.set() if number == 1 else None
    with prefetch(video) as frames:
        assert next(frames).index == 0
        assert read.wait(LONG_S)


def test_no_more_is_read_than_the_queue_holds():
    video = Video(50)
    with prefetch(video) as frames:
        for frame in frames:
            # One was handed out, and as many wait as the queue holds, the one being read included.
            assert video.taken <= frame.index + 1 + DEPTH
            if frame.index == 20:
                break
    taken = video.taken
    assert taken <= 21 + DEPTH
    assert next(video).index == taken


def test_tracking_waits_for_writing_when_the_queue_is_full():
    """Every frame is held back until as many as the queue holds were tracked after it."""
    count, lags = 12, []
    reached = [threading.Event() for _ in range(count)]

    def hold(number: int) -> None:
        assert reached[min(number + DEPTH, count - 1)].wait(LONG_S), "the queue is too short"

    def note(number: int) -> None:
        lags.append(number - len(journal.rows))
        reached[number].set()

    journal = Journal(hold)
    run(Video(count), Drift(note), boxes=[BOX], writers=[journal], write_in_background=True)
    assert max(lags) == DEPTH
    assert journal.indices == list(range(count))


def test_nothing_is_written_after_a_write_that_failed():
    journal = Journal(at(2, OutputError("full")))
    behind = BackgroundWriter(journal)
    frames = list(Video(DEPTH))
    for frame in frames:
        behind(frame, {})
    with pytest.raises(OutputError, match="full"):
        behind.finish()
    assert journal.indices == [0, 1]


def test_the_earlier_error_is_raised_when_two_threads_fail():
    """Frame 3 cannot be tracked, but frame 2 could not be written before."""
    failing = Drift(at(3, InvalidFrameError("another shape")))
    journal = Journal(at(2, OutputError("full")))
    with pytest.raises(OutputError, match="full"):
        run(Video(9), failing, boxes=[BOX], writers=[journal], write_in_background=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_all_tracked_frames_are_written_after_an_interrupt(number):
    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def hit(k: int) -> None:
        if k == 6:
            signal.raise_signal(number)

    journal, stats = Journal(), RunStats()
    usual = signal.signal(number, stop)
    try:
        with prefetch(Video(99)) as frames, pytest.raises(KeyboardInterrupt):
            run(
                frames,
                Drift(hit),
                boxes=[BOX],
                writers=[journal],
                stats=stats,
                write_in_background=True,
            )
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, usual)
    assert journal.indices == list(range(6))
    assert stats.frames == 6


def test_the_time_of_the_last_writes_counts_as_work():
    ticks = iter(range(100))
    stats = run(
        Video(1), Drift(), boxes=[BOX], write_in_background=True, clock=lambda: float(next(ticks))
    )
    # Tracking, queueing and finishing: one tick each.
    assert stats.work_s == 3.0


def test_no_thread_is_left_behind():
    before = set(threading.enumerate())
    outcome(Video(5), Drift(), Journal(), overlap=True)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("error", [StopIteration(), VideoError("cut off")])
def test_a_source_that_ended_or_failed_is_not_asked_again(error):
    asked = []

    def trouble(number: int) -> None:
        asked.append(number)
        at(2, error)(number)

    with prefetch(Video(9, trouble)) as frames, suppress(VideoError):
        assert [frame.index for frame in frames] == [0, 1]
    assert asked == [0, 1, 2]
