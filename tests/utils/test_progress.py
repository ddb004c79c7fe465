"""The progress bar: where it goes and what it says."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator

import numpy as np
import pytest

from siamtrack.types import Image
from siamtrack.utils.progress import FrameProgress
from siamtrack.video.frames import Frame, SourceInfo
from siamtrack.video.source import LiveSource, Source


class FakeReader:
    def __init__(self, frames: int, frame_count: int | None) -> None:
        self.info = SourceInfo("clip.mp4", 10.0, (4, 4), frame_count)
        self.unreadable, self.picture = 0, ""
        self._left = iter([(np.zeros((4, 4, 3), np.uint8), k / 10) for k in range(frames)])

    def read(self) -> tuple[Image, float] | None:
        return next(self._left, None)

    def close(self) -> None:
        pass


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def last_line(shown: str) -> str:
    return re.split(r"[\r\n]", shown.rstrip())[-1]


def test_all_frames_pass_and_stderr_shows_progress_and_fps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = Source(FakeReader(5, 8))
    with FrameProgress(source, source.name, source.frame_count) as progress:
        frames: Iterator[Frame] = iter(progress)
        assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    out, err = capsys.readouterr()
    assert out == ""
    assert re.match(r"clip.mp4: +62%.* 5/8 frames, [\d.]+ fps, ETA \d\d:\d\d", last_line(err))


def test_without_a_known_length_there_is_no_eta() -> None:
    stream = Terminal()
    source = Source(FakeReader(5, None))
    list(FrameProgress(source, source.name, None, stream=stream))
    assert re.match(r"clip.mp4: 5 frames in 00:00, [\d.]+ fps", last_line(stream.getvalue()))


def test_it_can_be_switched_off() -> None:
    stream = Terminal()
    source = Source(FakeReader(5, 5))
    assert len(list(FrameProgress(source, "clip", 5, enabled=False, stream=stream))) == 5
    assert stream.getvalue() == ""


def test_a_log_file_gets_fewer_lines_than_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def lines(stream: io.StringIO) -> int:
        ticks = itertools.count(step=0.05)
        monkeypatch.setattr("tqdm.std.time", lambda: next(ticks))
        list(FrameProgress(range(2000), "clip", 2000, stream=stream))
        return stream.getvalue().count("\r")

    assert 2 <= lines(io.StringIO()) < lines(Terminal()) / 5


def test_dropped_frames_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    source = LiveSource(FakeReader(1, None), timeout_s=30)
    monkeypatch.setattr(source, "dropped", 3)
    list(FrameProgress(source, source.name, None, dropped=lambda: source.dropped, stream=stream))
    assert last_line(stream.getvalue()).startswith("clip.mp4 (3 dropped): 1 frames")


def test_leaving_early_closes_the_bar() -> None:
    stream = Terminal()
    for frame in FrameProgress(range(5), "clip", 5, stream=stream):
        if frame == 2:
            break
    assert stream.getvalue().endswith("\n")


def test_a_count_that_was_too_low_is_given_up() -> None:
    stream = Terminal()
    source = Source(FakeReader(5, 3))
    list(FrameProgress(source, source.name, 3, stream=stream))
    assert "None" not in stream.getvalue()
    assert re.match(r"clip.mp4: 5 frames in 00:00, [\d.]+ fps", last_line(stream.getvalue()))
