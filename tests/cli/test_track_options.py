"""`siamtrack track`: parts of a video, boxes on any frame, and what else it writes."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from siamtrack.cli import main
from siamtrack.data.convert import convert
from siamtrack.video.sound import Sound
from siamtrack.video.source import open_source
from siamtrack.video.video_writer import VideoSink

BOX = "30,40,30,30"
HEADER = "frame,target,x,y,w,h"


@pytest.fixture
def track(clip: Any, tracker: Any, tmp_path: Path) -> Callable[..., list[tuple[Any, ...]]]:
    """Track the clip by the command; returns frame, target, x, score of every row."""

    def run(*arguments: str, code: int = 0, source: Path = clip.path) -> list[tuple[Any, ...]]:
        table = tmp_path / "out.csv"
        line = ["track", str(source), "--no-display", "--csv", str(table), "--overwrite"]
        assert main([*line, *arguments]) == code
        tracker.boxes = {}
        if code:
            return []
        with table.open() as file:
            return [
                (int(row["frame"]), int(row["target"]), float(row["x"]), float(row["score"]))
                for row in csv.DictReader(file)
            ]

    return run


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_every_and_reverse_choose_frames_that_keep_their_numbers(
    clip: Any, track: Any, tmp_path: Path
) -> None:
    assert [row[0] for row in track("--box", BOX, "--every", "5")] == [0, 5, 10]
    video = tmp_path / "back.mp4"
    rows = track("--box", BOX, "--reverse", "--start-frame", "4", "--save", str(video))
    assert [row[0] for row in rows] == list(range(clip.frames - 1, 3, -1))
    assert rows[0][2:] == (30.0, 1.0)  # the box is on the last frame
    with open_source(video) as saved, open_source(clip.path) as source:
        assert len(saved) == clip.frames - 4
        assert [frame.time_s for frame in saved] == pytest.approx(
            [k / clip.fps for k in range(clip.frames - 4)], abs=1e-3
        )
        assert np.abs(saved[0].image[100:].astype(int) - source[-1].image[100:]).mean() < 6


def test_a_table_of_boxes_starts_targets_and_corrects_them(track: Any, tmp_path: Path) -> None:
    table = tmp_path / "boxes.csv"
    table.write_text(f"{HEADER}\n0,0,30,40,30,30\n4,7,10,10,20,20\n6,0,50,41,30,30\n")
    rows = track("--boxes", str(table), "--end-frame", "8")
    of_first = [(frame, x, score) for frame, target, x, score in rows if target == 0]
    # The tracker of this test moves boxes by one px a frame.
    assert of_first[:7] == [(0, 30, 1), *((k, 30 + k, 0.75) for k in range(1, 6)), (6, 50, 1)]
    assert of_first[7:] == [(7, 51, 0.75), (8, 52, 0.75)]
    assert [row[0] for row in rows if row[1] == 7] == [4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("content", "arguments", "code", "told"),
    [
        ("0,0,30,40,30,30\n0,0,31,40,30,30", (), 3, "line 3: frame 0 of target 0 is there twice"),
        ("1,0,30,40,30,30\n\n1,0,31,40,30,30", (), 3, "there twice, in line 2 before"),
        ("0,0,30,40,0,30", (), 3, "line 2: box [30.0, 40.0, 0.0, 30.0] has no area"),
        ("", (), 3, "boxes.csv holds no box"),
        ("0,0,30,40,30,30", ("--box", BOX), 2, "--box and --boxes are both given"),
        ("0,0,30,40,30,30", ("--start-frame", "2"), 3, "a box on frame 0, which is not among"),
        ("0,0,30,40,30,30\n3,0,30,40,30,30", ("--every", "2"), 3, "a box on frame 3, which is not"),
        ("0,0,30,40,30,30\n99,0,9,9,9,9", (), 3, "boxes were given for frame 99, which was not"),
        ("0,0,30,40,30,30\n2,0,999,9,9,9", (), 3, "frame 2: box"),
    ],
)  # fmt: skip
def test_tables_of_boxes_that_cannot_be_followed(
    content: str, arguments: tuple[str, ...], code: int, told: str,
    track: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    table = tmp_path / "boxes.csv"
    table.write_text(f"{HEADER}\n{content}\n")
    track("--boxes", str(table), *arguments, code=code)
    assert told in last_line(capsys)


def test_mot_results_and_crops_are_written(
    clip: Any, track: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mot, crops = tmp_path / "mot.txt", tmp_path / "crops"
    arguments = ("--box", "30.4,40,30,30.2", "--end-frame", "2", "--mot", str(mot), "--crops")
    track(*arguments, str(crops))
    assert "mot.txt" in (said := last_line(capsys)) and "crops" in said
    assert mot.read_text().splitlines()[1] == "2,1,31.40,40.00,30.00,30.20,0.75,-1,-1,-1"
    convert(tmp_path / "out.csv", tmp_path / "same.txt", to="mot-results", overwrite=True)
    assert mot.read_text() == (tmp_path / "same.txt").read_text()
    names = sorted(path.relative_to(crops).as_posix() for path in crops.rglob("*.png"))
    assert names == [f"target_0/frame_{k:06d}.png" for k in range(3)]
    with open_source(clip.path) as source:
        crop = cv2.imread(str(crops / names[2]))
        assert (crop == source[2].image[40:71, 32:63]).all()
    # A second run does not mix with the first.
    line = ["track", str(clip.path), "--box", BOX, "--no-display", "--crops"]
    assert main([*line, str(crops)]) == 3
    assert "has files in it; choose another folder" in last_line(capsys)
    assert main([*line, str(mot)]) == 3
    assert "is a file; give the name of a folder" in last_line(capsys)
    assert main([*line, str(crops), "--end-frame", "0", "--overwrite"]) == 0
    assert "holds 3 crop(s) of an earlier run" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["", "*.png", "%03d.png"])
def test_a_picture_to_be_read_is_not_written(
    given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "000.png"
    cv2.imwrite(str(picture), np.full((120, 160, 3), 90, np.uint8))
    before, line = picture.read_bytes(), ["track", str(tmp_path / given), "--box", BOX]
    assert main([*line, "--no-display", "--overwrite", "--csv", str(picture)]) == 3
    assert "000.png is a picture to be read; write to another file" in last_line(capsys)
    assert picture.read_bytes() == before


def test_reconnecting_to_a_file_is_wrong_usage(
    track: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    track("--box", BOX, "--reconnect", "5", code=2)
    assert "is no stream or camera that never ends" in last_line(capsys)


# Sound


def with_sound(path: Path, codec: str = "aac", rate: int = 48000) -> Path:
    """Two seconds of pictures whose gray level is their number, and a tone that rises in steps."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        sound: Any = container.add_stream(codec, rate=rate, layout="mono")
        for number in range(50):
            picture = np.full((120, 160, 3), 2 * number, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "bgr24")))
            time_s = (number + np.arange(rate // 25) / (rate // 25)) / 25
            wave = np.sin(2 * np.pi * 400 * time_s) * np.ceil(2 * time_s) / 4
            samples = av.AudioFrame.from_ndarray(
                (wave[None] * 20000).astype(np.int16), "s16", "mono"
            )
            samples.rate, samples.pts = rate, number * rate // 25
            container.mux(sound.encode(samples))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def loudness(path: Path) -> list[float]:
    """Root mean square of every quarter of a second of sound; [] without sound."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        parts = [
            (frame.pts * frame.time_base, frame.to_ndarray().astype(float).ravel(), frame.rate)
            for frame in container.decode(audio=0)
        ]
        scale = 1.0 if container.streams.audio[0].format.name.startswith("flt") else 1 / 32768
    rate = parts[0][2]
    wave = np.zeros(round((parts[-1][0] + 1) * rate))
    for start_s, samples, _ in parts:
        begin = max(0, round(start_s * rate))
        wave[begin : begin + len(samples)] = samples * scale
    end = round(parts[-1][0] * rate) + len(parts[-1][1])
    quarter = rate // 4
    return [float(np.sqrt((wave[k : k + quarter] ** 2).mean())) for k in range(0, end, quarter)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_the_sound_of_what_was_tracked_is_kept(track: Any, tmp_path: Path, name: str) -> None:
    source, saved = with_sound(tmp_path / "source.mp4"), tmp_path / name
    track("--box", BOX, "--save", str(saved), source=source)
    whole = loudness(saved)
    assert whole == pytest.approx(loudness(source), abs=0.03)
    assert whole[6] > 1.5 * whole[1]
    # From 0.6 s to 1.4 s: the part where it becomes louder lies earlier by 0.6 s.
    track(
        "--box", BOX, "--save", str(saved), "--start-frame", "15", "--end-s", "1.4", source=source
    )
    part = loudness(saved)
    assert 3 <= len(part) <= 5
    assert part[0] == pytest.approx(whole[3], abs=0.05)
    assert part[2] == pytest.approx(whole[4], abs=0.05)
    with open_source(saved) as video:
        assert len(video) == 21


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("a.webm", (), ".webm files do not hold aac; write .mkv"),
        ("a.mp4", ("--reverse",), "the video is played backwards"),
        ("a.mp4", ("--fps", "50"), "the rate was given, so the sound would not fit"),
    ],
)
def test_sound_that_cannot_be_kept_is_left_out_and_said(
    track: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    name: str, arguments: tuple[str, ...], told: str,
) -> None:  # fmt: skip
    source, saved = with_sound(tmp_path / "source.mp4"), tmp_path / name
    track("--box", BOX, "--save", str(saved), "--every", "10", *arguments, source=source)
    assert told in capsys.readouterr().err
    assert loudness(saved) == []


def test_of_several_recordings_the_sound_is_left_out(
    tracker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(with_sound(tmp_path / "source.mp4"))
    saved = tmp_path / "a.mp4"
    line = ["track", source, source, "--box", BOX, "--no-display", "--end-frame", "3", "--save"]
    assert main([*line, str(saved)]) == 0
    assert "is several recordings, whose sound cannot be copied" in capsys.readouterr().err


def test_a_video_that_is_cut_off_while_sound_is_written_can_be_played(tmp_path: Path) -> None:
    source = with_sound(tmp_path / "source.mp4")
    saved = tmp_path / "a.mp4"
    with open_source(source) as video:
        sink = VideoSink(saved, 25, video.frame_wh, sound=video.open_sound())
        assert isinstance(sink._sound, Sound)
        for number in range(40):
            sink.write(video[number].image, video[number].time_s)
        copy = tmp_path / "killed.mp4"
        copy.write_bytes(saved.read_bytes())  # what a kill leaves
        sink.close()
    with open_source(copy) as killed:
        assert len(list(killed)) >= 38
