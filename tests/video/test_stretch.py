"""Parts of a video: from a start to an end, every so many frames, forwards and backwards."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siamtrack.errors import ConfigError, NotNumberedError, VideoError
from siamtrack.video import stretch
from siamtrack.video.frames import Frame
from siamtrack.video.random_access import ClipFrames
from siamtrack.video.source import open_source
from siamtrack.video.stretch import Stretch

COUNT = 24  # of 25 a second


@pytest.fixture
def clip(tmp_path: Path, write_clip: Callable[..., Path]) -> Path:
    return write_clip(tmp_path / "a.mp4", COUNT)


@pytest.mark.parametrize(
    ("part", "numbers"),
    [
        ({}, range(COUNT)),
        ({"start_frame": 3, "end_frame": 7}, range(3, 8)),
        ({"start_s": 0.2, "end_s": 0.4}, range(5, 11)),
        ({"start_s": 0.2, "start_frame": 9, "end_s": 0.6, "end_frame": 11}, range(9, 12)),
        ({"start_frame": 2, "every": 5}, range(2, COUNT, 5)),
        ({"reverse": True}, range(COUNT - 1, -1, -1)),
        ({"reverse": True, "start_frame": 4, "end_frame": 15, "every": 3}, range(15, 3, -3)),
        ({"reverse": True, "end_s": 0.2}, range(5, -1, -1)),
        ({"end_frame": 99}, range(COUNT)),
    ],
)
def test_a_part_has_the_frames_that_lie_in_it(
    clip: Path, part: dict[str, Any], numbers: range
) -> None:
    with open_source(clip) as source:
        every = {frame.index: frame for frame in source}
    chosen = Stretch(**part)
    with open_source(clip) as source:
        # What ends at a time is not counted before it is read: then it is all of them.
        assert chosen.count_in(source) in (len(numbers), COUNT)
        found = list(chosen.frames_of(source))
    assert [frame.index for frame in found] == list(numbers)
    assert all(frame.time_s == every[frame.index].time_s for frame in found)
    assert all((frame.image == every[frame.index].image).all() for frame in found)
    assert all(chosen.may_hold(number) for number in numbers)
    if "start_frame" in part and not part.get("reverse"):
        assert not chosen.may_hold(part["start_frame"] - 1)
    # The same of frames that only come in order.
    if not chosen.reverse:
        assert [f.index for f in chosen.frames_of(iter(every.values()))] == list(numbers)


def test_a_start_far_away_is_not_reached_by_decoding_all_before_it(
    tmp_path: Path, write_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "a.mp4", COUNT)
    monkeypatch.setattr(stretch, "JUMP_FRAMES", 14)
    decoded: list[int] = []
    keep = ClipFrames._keep
    monkeypatch.setattr(
        ClipFrames, "_keep", lambda self, n, frame: (decoded.append(n), keep(self, n, frame))
    )
    with open_source(path) as source:
        found = [frame.index for frame in Stretch(start_frame=15).frames_of(source)]
        # Nothing was read in order.
        assert next(source).index == 0
    assert found == list(range(15, COUNT))
    assert min(decoded) == 12  # a key frame


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("start", "told"),
    [({"start_frame": 99}, "start at frame 99"), ({"start_s": 9.0}, "start at 9 s")],
)
def test_a_start_beyond_the_end_is_an_error(
    clip: Path, start: dict[str, Any], told: str, reverse: bool
) -> None:
    with open_source(clip) as source, pytest.raises(VideoError, match=f"{COUNT} frames.*{told}"):
        list(Stretch(**start, reverse=reverse).frames_of(source))


def test_backwards_needs_numbers() -> None:
    pictures = iter([np.zeros((20, 30, 3), np.uint8)] * 3)
    with open_source(pictures) as source, pytest.raises(NotNumberedError, match="in order only"):
        Stretch(reverse=True).frames_of(source)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"every": 0}, "every is 0; give a whole number from 1"),
        ({"start_frame": -1}, "start_frame is -1; give a whole number from 0"),
        ({"end_frame": 2.5}, "end_frame is 2.5; give a whole number from 0"),
        ({"end_s": math.nan}, "end_s is nan; give seconds, from 0"),
        ({"start_frame": 5, "end_frame": 4}, "the end, frame 4, is before the start"),
        ({"start_s": 5, "end_s": 4}, "the end, 4 s, is before the start"),
    ],
)
def test_parts_that_make_no_sense_are_refused(part: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Stretch(**part)


@pytest.mark.parametrize("more", [{}, {"every": 2}, {"reverse": True}])
@pytest.mark.parametrize(
    ("part", "end"),
    [({"start_s": 0.41, "end_s": 0.43}, "0.43 s"), ({"start_s": 0.41, "end_frame": 3}, "frame 3")],
)
def test_a_part_that_holds_no_frame_is_an_error(
    clip: Path, part: dict[str, Any], end: str, more: dict[str, Any]
) -> None:
    with (
        open_source(clip) as source,
        pytest.raises(VideoError, match=f"no frame of the video lies between .* {end}; give a"),
    ):
        list(Stretch(**part, **more).frames_of(source))


def test_a_last_frame_that_is_missing_ends_the_part_too() -> None:
    """Any frames in order are taken, also some of a video."""
    image = np.zeros((2, 2, 3), np.uint8)
    frames = [Frame(image, index, index / 25) for index in (0, 1, 3, 4)]
    assert [frame.index for frame in Stretch(end_frame=2).frames_of(frames)] == [0, 1]
