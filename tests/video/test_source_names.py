"""Ways to name a source: numbers that are folders, patterns, brackets, pipes, several at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrack.errors import ConfigError, VideoError
from siamtrack.video.source import open_source


def save(path: Path, level: int, wh: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((wh[1], wh[0], 3), level, np.uint8))
    return path


Writer = Callable[..., Path]


def levels(source: object, **options: object) -> list[int]:
    with open_source(source, **options) as frames:
        return [round(float(frame.image.mean())) for frame in frames]


@pytest.mark.parametrize("name", ["001", "0003", "7"])
def test_a_folder_that_exists_is_no_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    save(tmp_path / name / "a.png", 70)
    monkeypatch.chdir(tmp_path)
    assert levels(name) == levels(Path(name)) == [70]
    assert ("7 is read, which exists here; camera 7 is not" in caplog.text) == (name == "7")


@pytest.mark.parametrize("source", ["001", Path("3")])
def test_a_path_that_does_not_exist_is_no_camera_either(source: object) -> None:
    with pytest.raises(VideoError, match=r"cannot be opened .No such file"):
        open_source(source)


@pytest.mark.parametrize("number", [-1, "-1", 2**31, "9" * 5000])
def test_a_camera_that_cannot_be(number: object) -> None:
    with pytest.raises(VideoError, match="does not exist; cameras are counted from 0"):
        open_source(number)


@pytest.mark.parametrize("source", [True, 1.5, None])
def test_what_names_no_source(source: object) -> None:
    with pytest.raises(ConfigError, match="give the number of a camera, a path or an address"):
        open_source(source)


def test_a_null_character_is_refused() -> None:
    with pytest.raises(VideoError, match="holds a null character"):
        open_source("clip\0.mp4")


@pytest.mark.parametrize("pattern", ["f_%d.png", "f_%02d.png", "100%%_%d.png"])
def test_patterns_with_a_number(tmp_path: Path, pattern: str) -> None:
    for k in (2, 10, 30):
        save(tmp_path / (pattern % k), k)
        save(tmp_path / f"other{k}.png", 200)
    save(tmp_path / "f_x.png", 200)
    assert levels(f"{tmp_path}/{pattern}") == [2, 10, 30]


def test_the_number_of_a_pattern_has_its_digits(tmp_path: Path) -> None:
    save(tmp_path / "1.png", 200)
    save(tmp_path / "0001.png", 10)
    assert levels(f"{tmp_path}/%04d.png") == [10]
    with pytest.raises(VideoError, match="no pictures"):
        open_source(f"{tmp_path}/%05d.png")


@pytest.mark.parametrize("pattern", ["*.png", "%d.png", "[12].png"])
def test_brackets_of_a_folder_that_exists_are_its_name(tmp_path: Path, pattern: str) -> None:
    for k in (1, 2):
        save(tmp_path / "clip[1]" / f"{k}.png", k)
        save(tmp_path / "clip1" / f"{k}.png", 200)
    assert levels(f"{tmp_path}/clip[1]/{pattern}") == [1, 2]


def test_brackets_in_the_names_of_pictures(tmp_path: Path) -> None:
    for k in (1, 2):
        save(tmp_path / f"shot[a]{k}.png", k)
    assert levels(f"{tmp_path}/shot[a]*.png") == [1, 2]


def test_frames_know_their_pictures(tmp_path: Path, write_clip: Writer) -> None:
    for k in (1, 2):
        save(tmp_path / f"f{k}.png", k)
    with open_source(tmp_path) as source:
        assert [frame.picture for frame in source] == ["f1.png", "f2.png"]
    with open_source(write_clip(tmp_path / "clip.mp4", 2)) as source:
        assert next(source).picture == ""


# Several sources


def test_several_videos_are_one(tmp_path: Path, write_clip: Writer) -> None:
    one, two = write_clip(tmp_path / "one.mp4", 8), write_clip(tmp_path / "two.mkv", 3)
    with open_source([one, str(two), one]) as source:
        assert (source.frame_count, source.frame_wh) == (19, (64, 48))
        frames = list(source)
    expected = [20 + 10 * k for k in (*range(8), *range(3), *range(8))]
    assert [float(frame.image.mean()) for frame in frames] == pytest.approx(expected, abs=4.5)
    assert [frame.index for frame in frames] == list(range(19))
    assert [frame.time_s for frame in frames] == pytest.approx([k / 25 for k in range(19)])
    with open_source([one, one], fps=60) as source:
        assert [f.time_s for f in source] == pytest.approx([k / 60 for k in range(16)])


def test_several_pictures_keep_their_order(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{k}.png", k) for k in (3, 1, 2)]
    assert levels(paths) == [3, 1, 2]
    assert levels(paths[:1]) == [3]


def test_several_sources_are_checked_before_the_first_frame(
    tmp_path: Path, write_clip: Writer
) -> None:
    clip = write_clip(tmp_path / "one.mp4", 2)
    with pytest.raises(VideoError, match=r"gone\.mp4 cannot be opened"):
        open_source([clip, tmp_path / "gone.mp4"])
    with pytest.raises(ConfigError, match="is empty"):
        open_source([])


def test_a_live_source_stands_alone(
    tmp_path: Path, write_clip: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Camera:
        def isOpened(self) -> bool:
            return True

        def read(self) -> tuple[bool, np.ndarray]:
            return True, np.zeros((4, 4, 3), np.uint8)

        def get(self, _: int) -> float:
            return 30.0

        def set(self, *_: object) -> bool:
            return True

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", lambda _: Camera())
    with pytest.raises(ConfigError, match="0 is live and never ends; give it alone"):
        open_source([write_clip(tmp_path / "one.mp4", 2), 0])


# Standard input


@pytest.mark.parametrize("name", ["-", "pipe:0"])
def test_a_video_on_standard_input(tmp_path: Path, write_clip: Writer, name: str) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 5)
    code = (
        "import sys; from siamtrack.video.source import open_source\n"
        f"with open_source({name!r}) as s: print(s.name, s.frame_count, len(list(s)), s.unreadable)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=clip.read_bytes(),
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout.decode().strip() in ("standard input 5 5 0", "standard input None 5 0")


def test_a_file_on_standard_input_is_searched(tmp_path: Path, write_clip: Writer) -> None:
    """The index of an MP4 is at its end, which a pipe cannot reach."""
    code = (
        "from siamtrack.video.source import open_source\n"
        "with open_source('-') as s: print(s.frame_count, len(list(s)))"
    )
    clip = write_clip(tmp_path / "clip.mp4", 5)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with clip.open("rb") as given:
        told = subprocess.check_output([sys.executable, "-c", code], stdin=given, env=environment)
    assert told.split() == [b"5", b"5"]


def test_a_terminal_is_no_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siamtrack.video.source.os.isatty", lambda _: True)
    with pytest.raises(VideoError, match="standard input is a terminal"):
        open_source("-")
