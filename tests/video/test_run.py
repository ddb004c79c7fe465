from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, MutableMapping, Sequence

import numpy as np
import pytest

from siamtrack.errors import InvalidBoxError, OutputError, VideoError
from siamtrack.tracking.result import Result
from siamtrack.video.frames import Frame
from siamtrack.video.run import RunStats, defer_interrupts, first_frame_result, run
from siamtrack.video.stretch import Stretch

FRAME_WH = (64, 48)
BOX = (10.0, 10.0, 20.0, 10.0)


class Drift:
    """A tracker whose boxes move one px to the right per frame; lost from the fourth on."""

    def __init__(self) -> None:
        self.boxes: dict[int, tuple[float, ...]] = {}
        self.seen: list[int] = []

    @property
    def targets(self) -> tuple[int, ...]:
        return tuple(self.boxes)

    def add(self, frame_bgr: np.ndarray, box: Sequence[float]) -> int:
        target = len(self.boxes)
        self.boxes[target] = first_frame_result(box, frame_bgr).box
        return target

    def reinit(self, target: int, frame_bgr: np.ndarray, box: Sequence[float]) -> None:
        self.boxes[target] = first_frame_result(box, frame_bgr).box

    def update(self, frame_bgr: np.ndarray) -> Mapping[int, Result]:
        self.seen.append(int(frame_bgr[0, 0, 0]))
        self.boxes = {k: (x + 1, y, w, h) for k, (x, y, w, h) in self.boxes.items()}
        status = "lost" if len(self.seen) > 3 else "tracked"
        return {k: Result(box, 0.5, status) for k, box in self.boxes.items()}  # type: ignore[arg-type]


class Journal:
    """A writer that keeps what it was given."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float, dict[int, Result]]] = []

    def __call__(self, frame: Frame, results: Mapping[int, Result]) -> None:
        self.rows.append((frame.index, frame.time_s, dict(results)))

    @property
    def indices(self) -> list[int]:
        return [index for index, _, _ in self.rows]


def video(count: int) -> Iterator[Frame]:
    """Frames whose first pixel is their number, 25 a second."""
    for k in range(count):
        yield Frame(np.full((FRAME_WH[1], FRAME_WH[0], 3), k, np.uint8), k, k / 25)


def test_every_frame_is_tracked_and_written_once_and_in_order() -> None:
    tracker, journal = Drift(), Journal()
    run(video(6), tracker, boxes=[BOX], writers=[journal])
    assert journal.indices == list(range(6))
    assert [time_s for _, time_s, _ in journal.rows] == [k / 25 for k in range(6)]
    assert tracker.seen == [1, 2, 3, 4, 5]
    assert [results[0].box[0] for *_, results in journal.rows] == [10, 11, 12, 13, 14, 15]


def test_the_first_frame_has_the_given_boxes_inside_the_frame_and_certain() -> None:
    journal = Journal()
    run(video(1), Drift(), boxes=[BOX, (50.0, -5.0, 30.0, 20.0)], writers=[journal])
    assert journal.rows[0][2] == {
        0: Result(BOX, 1.0, "tracked"),
        1: Result((50.0, 0.0, 14.0, 15.0), 1.0, "tracked"),
    }


def test_every_writer_gets_every_frame() -> None:
    first, second = Journal(), Journal()
    run(video(3), Drift(), boxes=[BOX], writers=[first, second])
    assert first.rows == second.rows and len(first.rows) == 3


def test_start_frame_begins_later_with_its_own_number_and_time() -> None:
    tracker, journal = Drift(), Journal()
    run(Stretch(start_frame=4).frames_of(video(6)), tracker, boxes=[BOX], writers=[journal])
    assert [(index, time_s) for index, time_s, _ in journal.rows] == [(4, 0.16), (5, 0.2)]
    assert journal.rows[0][2][0].box == BOX
    assert tracker.seen == [5]


@pytest.mark.parametrize(("count", "start"), [(6, 6), (3, 99)])
def test_a_video_too_short_for_the_start_frame_is_an_error(count: int, start: int) -> None:
    with pytest.raises(VideoError, match=f"{count} frames.*frame {start}"):
        run(Stretch(start_frame=start).frames_of(video(count)), Drift(), boxes=[BOX])


def test_a_box_outside_the_frame_is_an_error() -> None:
    with pytest.raises(InvalidBoxError, match="outside"):
        run(video(3), Drift(), boxes=[(100.0, 100.0, 5.0, 5.0)])


def test_stats_counts_frames_and_statuses() -> None:
    stats = run(video(6), Drift(), boxes=[BOX, BOX])
    assert stats.frames == 6
    assert {k: dict(v) for k, v in stats.statuses.items()} == {
        0: {"tracked": 4, "lost": 2},
        1: {"tracked": 4, "lost": 2},
    }


class Person:
    """A window hook that draws a box on one frame, redraws on another, and leaves at a third."""

    def __init__(self, tracker: Drift, *, add_at: int, redraw_at: int, quit_at: int) -> None:
        self.tracker = tracker
        self.add_at, self.redraw_at, self.quit_at = add_at, redraw_at, quit_at
        self.seen: list[int] = []

    def on_frame(
        self, frame: Frame, results: MutableMapping[int, Result], fps: float | None = None
    ) -> bool:
        self.seen.append(frame.index)
        if frame.index == self.add_at:
            results[self.tracker.add(frame.image, BOX)] = first_frame_result(BOX, frame.image)
        if frame.index == self.redraw_at:
            self.tracker.reinit(0, frame.image, (0.0, 0.0, 8.0, 8.0))
            results[0] = first_frame_result((0.0, 0.0, 8.0, 8.0), frame.image)
        return frame.index != self.quit_at


def test_what_a_person_draws_on_a_frame_is_what_is_written_of_it() -> None:
    tracker, journal = Drift(), Journal()
    person = Person(tracker, add_at=2, redraw_at=4, quit_at=5)
    stats = run(video(9), tracker, writers=[journal], on_frame=person.on_frame)
    assert person.seen == [0, 1, 2, 3, 4, 5]
    assert journal.indices == [2, 3, 4, 5], "nothing to write before there is a target"
    assert [results[0].box[0] for *_, results in journal.rows] == [10, 11, 0, 1]
    assert [results[0].score for *_, results in journal.rows] == [1.0, 0.5, 1.0, 0.5]
    assert stats.frames == 4


def test_quitting_before_a_box_is_drawn_is_no_error() -> None:
    tracker, journal = Drift(), Journal()
    stats = run(
        video(9),
        tracker,
        writers=[journal],
        on_frame=Person(tracker, add_at=99, redraw_at=99, quit_at=1).on_frame,
    )
    assert (stats.frames, stats.fps, journal.rows) == (0, 0.0, [])


def test_fps_counts_work_and_not_the_time_a_person_takes() -> None:
    now = 0.0

    class Slow(Drift):
        def update(self, frame_bgr: np.ndarray) -> Mapping[int, Result]:
            nonlocal now
            now += 0.25
            return super().update(frame_bgr)

    class Thinker:
        rates: list[float | None] = []  # noqa: RUF012

        def on_frame(
            self, frame: Frame, results: MutableMapping[int, Result], fps: float | None = None
        ) -> bool:
            nonlocal now
            now += 1000.0
            self.rates.append(fps)
            return True

    def write(frame: Frame, results: Mapping[int, Result]) -> None:
        nonlocal now
        now += 0.25

    thinker = Thinker()
    stats = run(
        video(5), Slow(), boxes=[BOX], writers=[write], on_frame=thinker.on_frame, clock=lambda: now
    )
    # Frame 0 is written only, the other four are tracked and written.
    assert stats.work_s == pytest.approx(0.25 + 4 * 0.5)
    assert stats.fps == pytest.approx(5 / 2.25)
    assert thinker.rates[0] is None
    assert thinker.rates[1:] == pytest.approx([4.0, 2 / 0.75, 3 / 1.25, 4 / 1.75])


def test_a_failing_writer_ends_the_run_and_leaves_the_stats() -> None:
    def full(frame: Frame, results: Mapping[int, Result]) -> None:
        if frame.index == 2:
            raise OutputError("the disk is full")

    stats = RunStats()
    with pytest.raises(OutputError, match="full"):
        run(video(5), Drift(), boxes=[BOX], writers=[full], stats=stats)
    assert stats.frames == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_until_the_frame_is_written(number: signal.Signals) -> None:
    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def hit(frame: Frame, results: Mapping[int, Result]) -> None:
        if frame.index == 2:
            signal.raise_signal(number)

    before, after, stats = Journal(), Journal(), RunStats()
    usual = signal.signal(number, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(video(9), Drift(), boxes=[BOX], writers=[before, hit, after], stats=stats)
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, usual)
    assert before.indices == after.indices == [0, 1, 2]
    assert stats.frames == 3


def test_a_run_in_another_thread_works() -> None:
    """Signals can only be set in the main thread."""
    journal = Journal()
    thread = threading.Thread(
        target=run, args=(video(3), Drift()), kwargs={"boxes": [BOX], "writers": [journal]}
    )
    thread.start()
    thread.join()
    assert journal.indices == [0, 1, 2]


def test_signals_without_a_python_handler_are_left_alone() -> None:
    usual = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with defer_interrupts():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, usual)
