from __future__ import annotations

import csv
import json
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

import siamtrack
from siamtrack.cli import main
from siamtrack.data.formats.folder import read_track_csv
from siamtrack.errors import InvalidFrameError, OutputError, VideoError
from siamtrack.tracking.redetection import TimeBudget
from siamtrack.video.frames import Frame
from siamtrack.video.interactive import Event, Key, Mouse
from siamtrack.video.video_writer import VideoSink

BOX = "30,40,30,30"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def video_frames(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        ok, image = capture.read()
        if not ok:
            return frames
        frames.append(image)


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()[-1]


def test_writes_a_row_per_frame_and_target(
    clip: Any, tracker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "made" / "boxes.csv"
    arguments = ["track", str(clip.path), "--box", BOX, "--box", "-10,5,30.5,20", "--no-display"]
    assert main([*arguments, "--csv", str(table)]) == 0
    header = table.read_text().splitlines()[0]
    assert header == "frame,time_s,target,x,y,w,h,score,status"
    found = rows(table)
    assert [(int(r["frame"]), int(r["target"])) for r in found] == [
        (k, target) for k in range(clip.frames) for target in (0, 1)
    ]
    assert [float(r["time_s"]) for r in found[::2]] == pytest.approx(
        [k / clip.fps for k in range(clip.frames)], abs=0.002
    )
    given = [[float(r[c]) for c in "xywh"] + [float(r["score"]), r["status"]] for r in found[:2]]
    assert given == [[30, 40, 30, 30, 1, "tracked"], [0, 5, 20.5, 20, 1, "tracked"]]
    assert [float(r["x"]) for r in found[2::2]] == [31 + k for k in range(clip.frames - 1)]
    assert {r["status"] for r in found[2:]} == {"uncertain"}


def test_prints_a_summary_of_one_line(
    clip: Any, tracker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, video = tmp_path / "b.csv", tmp_path / "v.mp4"
    arguments = ["track", str(clip.path), "--box", BOX, "--no-display"]
    main([*arguments, "--csv", str(table), "--save", str(video)])
    line = last_line(capsys)
    assert line.startswith(f"siamtrack: {clip.frames} frames at ") and " fps" in line
    assert f"target 0: {clip.frames - 1} uncertain, 1 tracked" in line
    assert line.endswith(f"wrote {table}, {video}")
    assert "dropped" not in line and "unreadable" not in line


def test_a_budget_reaches_the_tracker_and_the_summary(
    clip: Any, tracker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker.budget = TimeBudget(0.0125)
    tracker.budget.frames, tracker.budget.exceeded = 8, 1
    arguments = ["track", str(clip.path), "--box", BOX, "--no-display", "--budget-ms", "12.5"]
    assert main([*arguments, "--csv", str(tmp_path / "b.csv")]) == 0
    assert tracker.arguments["budget_ms"] == 12.5
    assert "12.5 % of frames took longer than 12.5 ms" in last_line(capsys)
    assert main([*arguments[:-1], "0"]) == 2


def test_json_lines_say_the_same_as_the_table(clip: Any, tracker: Any, tmp_path: Path) -> None:
    table, lines = tmp_path / "b.csv", tmp_path / "b.jsonl"
    arguments = ["track", str(clip.path), "--box", BOX, "--no-display"]
    main([*arguments, "--csv", str(table), "--json", str(lines)])
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    found = rows(table)
    assert [entry["frame"] for entry in told] == [int(r["frame"]) for r in found]
    assert [entry["targets"][0]["box"] for entry in told] == [
        [float(r[c]) for c in "xywh"] for r in found
    ]


def test_saves_the_video_with_the_boxes_on_it(clip: Any, tracker: Any, tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    assert main(["track", str(clip.path), "--box", BOX, "--no-display", "--save", str(video)]) == 0
    before, after = video_frames(clip.path), video_frames(video)
    assert len(after) == len(before) == clip.frames
    assert {image.shape for image in after} == {(clip.wh[1], clip.wh[0], 3)}
    for k in range(clip.frames):
        column = after[k][45:65, 30 + k].astype(int).mean(axis=0)
        plain = before[k][45:65, 30 + k].astype(int).mean(axis=0)
        assert np.abs(column - plain).max() > 20, "the left edge of the box"


def test_start_frame(clip: Any, tracker: Any, tmp_path: Path) -> None:
    table, video = tmp_path / "b.csv", tmp_path / "v.mp4"
    arguments = ["track", str(clip.path), "--box", BOX, "--no-display", "--start-frame", "5"]
    assert main([*arguments, "--csv", str(table), "--save", str(video)]) == 0
    assert [int(r["frame"]) for r in rows(table)] == list(range(5, clip.frames))
    assert float(rows(table)[0]["time_s"]) == pytest.approx(5 / clip.fps, abs=0.002)
    assert rows(table)[0]["score"] == "1.0000"
    assert len(video_frames(video)) == clip.frames - 5


def test_a_start_frame_beyond_the_end_leaves_nothing_behind(
    clip: Any, tracker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["track", str(clip.path), "--box", BOX, "--no-display", "--start-frame", "99"]
    assert main([*arguments, "--csv", str(tmp_path / "b.csv")]) == 3
    assert f"{clip.frames} frames" in last_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_options_reach_the_tracker(clip: Any, tracker: Any) -> None:
    arguments = ["track", str(clip.path), "--box", BOX, "--no-display", "--weights", "siamfc"]
    arguments += ["--device", "cpu", "--engine", "torch", "--set", "window-influence=0.25"]
    arguments += ["--set", "steps=3", "--set", "mode=fast", "--set", "flip = false"]
    assert main(arguments) == 0
    assert tracker.arguments == {
        "weights": "siamfc",
        "device": "cpu",
        "engine": "torch",
        "window_influence": 0.25,
        "steps": 3,
        "mode": "fast",
        "flip": False,
    }


def test_defaults_reach_the_tracker(clip: Any, tracker: Any) -> None:
    assert main(["track", str(clip.path), "--box", BOX, "--no-display"]) == 0
    assert tracker.arguments == {"weights": None, "device": "auto", "engine": "auto"}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (["--set", "steps"], "option=value"),
        (["--set", "=3"], "option=value"),
        (["--set", "steps="], "option=value"),
        (["--set", "a=1", "--set", "a=2"], "given twice"),
        (["--set", "device=cpu"], "--device"),
    ],
)
def test_bad_settings(
    setting: list[str], told: str, clip: Any, tracker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["track", str(clip.path), "--box", BOX, "--no-display", *setting]) == 2
    assert told in last_line(capsys)


@pytest.mark.parametrize(
    ("box", "told", "code"),
    [
        ("1,2,3", "3 numbers", 2),
        ("1,2,3,4,5", "5 numbers", 2),
        ("", "0 numbers", 2),
        ("1,2,x,4", "not numeric", 2),
        ("10,10,0,5", "no area", 2),
        ("10,10,5,-5", "no area", 2),
        ("nan,1,5,5", "not finite", 2),
        ("1,inf,5,5", "not finite", 2),
        ("500,500,20,20", "160x120", 3),
        ("0.15,0.4,0.1,0.1", "fractions of the frame", 3),
        ("100,90,60,1", "at least 2 px a side", 3),
        ("-43.5,80,44,34", "only 0.5 x 34 px", 3),
    ],
)
def test_bad_boxes(
    box: str,
    told: str,
    code: int,
    clip: Any,
    tracker: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = tmp_path / "b.csv"
    arguments = ["track", str(clip.path), f"--box={box}", "--no-display", "--csv", str(table)]
    # What is no box is wrong usage; one that this video cannot show is input that cannot be used.
    assert main(arguments) == code
    line = last_line(capsys)
    assert line.startswith("siamtrack: error: ") and told in line
    assert not table.exists(), "nothing is left in the way of the next try"


@pytest.mark.parametrize("box", ["30,40,30,30", "30 40 30 30", "30, 40, 30, 30", "3e1,40.,30,30"])
def test_ways_to_write_a_box(box: str, clip: Any, tracker: Any, tmp_path: Path) -> None:
    table = tmp_path / "b.csv"
    arguments = ["track", str(clip.path), "--box", box, "--no-display", "--csv", str(table)]
    assert main(arguments) == 0
    assert [float(rows(table)[0][c]) for c in "xywh"] == [30, 40, 30, 30]


@pytest.mark.parametrize("option", ["--csv", "--json", "--save"])
def test_files_are_replaced_only_when_asked(
    option: str, clip: Any, tracker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.mp4"
    path.write_text("precious")
    arguments = ["track", str(clip.path), "--box", BOX, "--no-display", option, str(path)]
    assert main(arguments) == 3
    assert str(path) in last_line(capsys)
    assert path.read_text() == "precious" and tracker.updates == 0
    assert main([*arguments, "--overwrite"]) == 0
    assert path.read_bytes()[:8] != b"precious"


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_the_source_is_never_overwritten(
    overwrite: list[str],
    clip: Any,
    tracker: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clip.path.read_bytes())
    link = tmp_path / "link.mp4"
    link.symlink_to(copy)
    arguments = ["track", str(copy), "--box", BOX, "--no-display", "--save", str(link)]
    assert main([*arguments, *overwrite]) == 3
    assert "video to be read" in last_line(capsys)
    assert copy.read_bytes() == clip.path.read_bytes()


def test_two_outputs_cannot_share_a_file(
    clip: Any, tracker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["track", str(clip.path), "--box", BOX, "--no-display"]
    same = str(tmp_path / "x")
    assert main([*arguments, "--csv", same, "--json", str(tmp_path / "." / "x")]) == 3
    assert "two outputs" in last_line(capsys)


def test_a_video_that_cannot_be_made_leaves_no_table(
    clip: Any, tracker: Any, tmp_path: Path
) -> None:
    arguments = ["track", str(clip.path), "--box", BOX, "--no-display"]
    table = tmp_path / "b.csv"
    assert main([*arguments, "--csv", str(table), "--save", str(tmp_path / "v.docx")]) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_missing_video_is_exit_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["track", str(tmp_path / "no.mp4"), "--box", BOX, "--no-display"]) == 3
    assert "no.mp4" in last_line(capsys)


def test_without_outputs_it_says_that_nothing_will_be_written(
    clip: Any, tracker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["track", str(clip.path), "--box", BOX, "--no-display"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(lines) == 1 and "nothing will be written" in lines[0]


@pytest.mark.usefixtures("no_display")
def test_without_a_display_and_a_box_the_error_names_both_options(
    clip: Any, tracker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["track", str(clip.path), "--csv", str(tmp_path / "b.csv")]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "DISPLAY" in line and "--no-display --box x,y,w,h" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_display")
def test_without_a_display_but_with_a_box_it_goes_on(
    clip: Any, tracker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "b.csv"
    assert main(["track", str(clip.path), "--box", BOX, "--csv", str(table)]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1 and "no window" in warnings[0]
    assert len(rows(table)) == clip.frames


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_stopping_keeps_everything_up_to_then(
    number: signal.Signals,
    code: int,
    clip: Any,
    tracker: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(update: int) -> None:
        if update == 6:
            signal.raise_signal(number)

    tracker.on_update = stop
    table, lines, video = tmp_path / "b.csv", tmp_path / "b.jsonl", tmp_path / "v.mp4"
    arguments = ["track", str(clip.path), "--box", BOX, "--no-display", "--csv", str(table)]
    assert main([*arguments, "--json", str(lines), "--save", str(video)]) == code
    line = last_line(capsys)
    assert "stopped after 6 frames" in line and line.endswith(f"kept {table}, {lines}, {video}")
    assert [int(r["frame"]) for r in rows(table)] == list(range(6))
    assert [json.loads(text)["frame"] for text in lines.read_text().splitlines()] == list(range(6))
    assert len(video_frames(video)) == 6


def test_stopping_before_anything_was_tracked(
    clip: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def slow(**arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(siamtrack, "load_multi", slow, raising=False)
    arguments = ["track", str(clip.path), "--box", BOX, "--no-display"]
    assert main([*arguments, "--csv", str(tmp_path / "b.csv")]) == 130
    assert "stopped before anything was tracked" in last_line(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [VideoError("camera 0 is gone"), OutputError("disk full")])
def test_a_failure_keeps_what_was_tracked_and_prints_the_summary(
    error: Exception, clip: Any, tracker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(update: int) -> None:
        if update == 4:
            raise error

    tracker.on_update = fail
    table = tmp_path / "b.csv"
    arguments = ["track", str(clip.path), "--box", BOX, "--no-display", "--csv", str(table)]
    assert main(arguments) == 3
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == f"siamtrack: error: {error}"
    assert "stopped after 4 frames" in told[-2] and str(table) in told[-2]
    assert len(rows(table)) == 4


class Stream:
    """A live source that lost frames."""

    name, fps, frame_wh, frame_count, is_live = "camera 0", 30.0, (160, 120), None, True
    dropped, unreadable = 3, 2

    def __init__(self, count: int) -> None:
        self.frames = (Frame(np.zeros((120, 160, 3), np.uint8), k, k / 30) for k in range(count))

    def __iter__(self) -> Iterator[Frame]:
        return self.frames

    def __next__(self) -> Frame:
        return next(self.frames)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *args: object) -> None: ...

    def close(self) -> None: ...


def test_lost_frames_are_counted(
    tracker: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(siamtrack, "open_source", lambda *_, **__: Stream(1), raising=False)
    assert main(["track", "0", "--box", BOX, "--no-display"]) == 0
    line = last_line(capsys)
    assert "1 frame at" in line and "3 dropped; 2 unreadable" in line


class Person:
    """Stands in for the window: acts at given frames, whatever is shown."""

    turns: list[list[Event]]
    shown = 0

    def __init__(self, title: str) -> None:
        self.title = title

    def __enter__(self) -> Person:
        return self

    def __exit__(self, *args: object) -> None: ...

    def show(self, image_bgr: np.ndarray) -> None:
        type(self).shown += 1

    def poll(self, timeout_s: float) -> tuple[Event, ...]:
        return tuple(self.turns.pop(0)) if self.turns else ()


@contextmanager
def person(monkeypatch: pytest.MonkeyPatch, *turns: list[Event]) -> Iterator[type[Person]]:
    class Present(Person):
        pass

    Present.turns = list(turns)
    monkeypatch.setattr("siamtrack.video.window.Window", Present)
    monkeypatch.setattr("siamtrack.video.window.display_problem", lambda: None)
    yield Present


# The clip of 160x120 is shown four times as large.
DRAG: list[Event] = [Mouse("down", 120, 160), Mouse("move", 200, 200), Mouse("up", 240, 280)]


def test_a_box_drawn_in_the_window_is_tracked(
    clip: Any, tracker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, video = tmp_path / "b.csv", tmp_path / "v.mp4"
    with person(monkeypatch, [], DRAG) as present:
        arguments = ["track", str(clip.path), "--csv", str(table), "--save", str(video)]
        assert main(arguments) == 0
    assert present.shown >= clip.frames
    assert [int(r["frame"]) for r in rows(table)] == list(range(clip.frames))
    assert [float(rows(table)[0][c]) for c in "xywh"] == [30, 40, 30, 30]
    assert len(video_frames(video)) == clip.frames


def test_with_boxes_the_window_shows_them_and_q_ends_it(
    clip: Any,
    tracker: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = tmp_path / "b.csv"
    turns: list[list[Event]] = [[Key("space")], [Key("n")], [Key("n")], [Key("q")]]
    with person(monkeypatch, *turns):
        assert main(["track", str(clip.path), "--box", BOX, "--csv", str(table)]) == 0
    assert [int(r["frame"]) for r in rows(table)] == [0, 1, 2]
    line = last_line(capsys)
    assert "3 frames" in line and "stopped" not in line


def test_leaving_without_drawing_writes_nothing(
    clip: Any,
    tracker: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with person(monkeypatch, [Key("q")]):
        arguments = ["track", str(clip.path), "--csv", str(tmp_path / "b.csv")]
        assert main([*arguments, "--save", str(tmp_path / "v.mp4")]) == 0
    assert last_line(capsys) == "siamtrack: ended before anything was tracked"
    assert list(tmp_path.iterdir()) == []


def test_no_window_is_opened_with_no_display(
    clip: Any, tracker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with person(monkeypatch) as present:
        assert main(["track", str(clip.path), "--box", BOX, "--no-display"]) == 0
    assert present.shown == 0


def test_log_lines_go_above_the_progress_bar(
    clip: Any, tracker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn(update: int) -> None:
        if update == 5:
            logging.getLogger("siamtrack.test").warning("look here")

    tracker.on_update = warn
    main(["track", str(clip.path), "--box", BOX, "--no-display"])
    told = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert "siamtrack: warning: look here" in told
    assert any("fps" in line and f"/{clip.frames}" in line for line in told)


def pictures(folder: Path, *sizes: tuple[int, int]) -> Path:
    folder.mkdir()
    for k, (width, height) in enumerate(sizes):
        noise = np.random.default_rng(k).integers(0, 255, (height, width, 3), np.uint8)
        cv2.imwrite(str(folder / f"{k}.png"), noise)
    return folder


def test_a_folder_named_like_a_camera_is_that_folder(
    tracker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path / "0", (160, 120))
    monkeypatch.chdir(tmp_path)
    for name in ("0", "./0"):
        arguments = ["track", name, "--box", BOX, "--no-display", "--csv", "b.csv", "--overwrite"]
        assert main(arguments) == 0
        assert len(rows(Path("b.csv"))) == 1
        tracker.boxes = {}


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_pictures_of_other_sizes_are_fitted_into_the_video(
    tracker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    sizes = [(160, 120)] * 3 + [(240, 180)] * 2 + [(90, 120)] + [(160, 120)] * 2
    folder = pictures(tmp_path / "f", *sizes)
    table, video = tmp_path / "b.csv", tmp_path / f"o.{suffix}"
    arguments = ["track", str(folder), "--box", BOX, "--no-display", "--csv", str(table)]
    assert main([*arguments, "--save", str(video)]) == 0
    shown = video_frames(video)
    assert len(rows(table)) == len(shown) == len(sizes)
    assert {image.shape for image in shown} == {(120, 160, 3)}
    assert shown[5][:, :30].mean() < 10 < shown[5][:, 40:120].mean()  # upright, between bars
    told = [line for line in capsys.readouterr().err.splitlines() if "another size" in line]
    assert len(told) == 1 and "from frame 3 on" in told[0] and "240x180" in told[0]


def test_a_frame_that_cannot_be_tracked_is_named(
    tracker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(update: int) -> None:
        if update == 2:
            raise InvalidFrameError("frame is 90x120, which has another shape")

    tracker.on_update = refuse
    folder = pictures(tmp_path / "f", *[(160, 120)] * 4)
    table, video = tmp_path / "b.csv", tmp_path / "o.mp4"
    arguments = ["track", str(folder), "--box", BOX, "--no-display", "--csv", str(table)]
    assert main([*arguments, "--save", str(video)]) == 3
    assert "frame 2 2.png: frame is 90x120" in last_line(capsys)
    assert len(rows(table)) == len(video_frames(video)) == 2


def test_no_table_has_more_rows_than_the_video(
    clip: Any, tracker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = VideoSink.write

    def fail(self: VideoSink, *given: Any) -> None:
        if self.count == 4:
            raise OutputError("the disk is gone")
        write(self, *given)

    monkeypatch.setattr(VideoSink, "write", fail)
    table, video = tmp_path / "b.csv", tmp_path / "o.mkv"
    arguments = ["track", str(clip.path), "--box", BOX, "--no-display", "--csv", str(table)]
    assert main([*arguments, "--save", str(video)]) == 3
    assert len(rows(table)) == len(video_frames(video)) == 4


def test_the_names_of_pictures_on_request(tracker: Any, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "f", *[(160, 120)] * 2)
    (folder / "1.png").rename(folder / 'a, "b".png')
    table, lines = tmp_path / "b.csv", tmp_path / "b.jsonl"
    arguments = ["track", str(folder), "--box", BOX, "--no-display", "--csv", str(table)]
    assert main([*arguments, "--json", str(lines), "--picture-names"]) == 0
    names = ["0.png", 'a, "b".png']
    assert [row["picture"] for row in rows(table)] == names
    assert [json.loads(line)["picture"] for line in lines.read_text().splitlines()] == names
    assert list(read_track_csv(table)[0]) == [0, 1]


def test_several_sources_are_one_video(clip: Any, tracker: Any, tmp_path: Path) -> None:
    table = tmp_path / "b.csv"
    arguments = ["track", str(clip.path), str(clip.path), "--box", BOX, "--no-display"]
    assert main([*arguments, "--csv", str(table)]) == 0
    found = rows(table)
    assert [int(row["frame"]) for row in found] == list(range(2 * clip.frames))
    times = [k / clip.fps for k in range(2 * clip.frames)]
    assert [float(row["time_s"]) for row in found] == pytest.approx(times, abs=1e-3)


def test_a_rate_and_a_part_of_the_video(clip: Any, tracker: Any, tmp_path: Path) -> None:
    def tracked(*more: str) -> list[tuple[int, float]]:
        table = tmp_path / "b.csv"
        arguments = ["track", str(clip.path), "--box", BOX, "--no-display", "--csv", str(table)]
        assert main([*arguments, "--overwrite", *more]) == 0
        tracker.boxes = {}
        return [(int(row["frame"]), float(row["time_s"])) for row in rows(table)]

    assert tracked("--fps", "120")[-1] == (11, pytest.approx(11 / 120, abs=1e-6))
    assert [k for k, _ in tracked("--end-frame", "4")] == [0, 1, 2, 3, 4]
    assert [k for k, _ in tracked("--start-frame", "3", "--end-frame", "3")] == [3]
    assert [k for k, _ in tracked("--start-s", "0.12", "--end-s", "0.2")] == [3, 4, 5]


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (("--start-frame", "5", "--end-frame", "4"), "the end, frame 4, is before the start"),
        (("--start-s", "0.3", "--end-s", "0.2"), "the end, 0.2 s, is before the start"),
        (("--start-s", "99"), "none can start at 99 s"),
    ],
)
def test_a_part_that_is_not_there(
    clip: Any, tracker: Any, capsys: pytest.CaptureFixture[str], part: tuple[str, ...], told: str
) -> None:
    assert main(["track", str(clip.path), "--box", BOX, "--no-display", *part]) in (2, 3)
    assert told in last_line(capsys)


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1"])
@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_a_table_on_standard_output(
    clip: Any,
    tracker: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    option: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["track", str(clip.path), "--box", BOX, "--no-display", option, name]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == clip.frames + (option == "--csv")
    assert list(tmp_path.iterdir()) == []
    arguments = ["track", str(clip.path), "--box", BOX, "--no-display", "--csv", "-"]
    assert main([*arguments, "--json", "/dev/stdout"]) == 3  # two outputs in one


def test_a_table_into_a_pipe(clip: Any, tracker: Any) -> None:
    here, there = os.pipe()
    path = f"/dev/fd/{there}"
    assert main(["track", str(clip.path), "--box", BOX, "--no-display", "--csv", path]) == 0
    os.close(there)
    with os.fdopen(here) as pipe:
        assert len(pipe.readlines()) == clip.frames + 1


def test_a_pipe_that_nobody_reads(
    clip: Any, tracker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = os.pipe()
    os.close(here)
    path = f"/dev/fd/{there}"
    assert main(["track", str(clip.path), "--box", BOX, "--no-display", "--csv", path]) == 141
    os.close(there)
    assert "the program that reads it has ended" in last_line(capsys)
    assert main(["track", str(clip.path), "--box", BOX, "--no-display", "--csv", path]) == 3
    assert "is not open" in last_line(capsys)


@pytest.mark.parametrize("content", ["", "frame,time_s,target,x,y,w,h,score,status\n"])
def test_what_a_killed_run_left_is_not_in_the_way(
    clip: Any, tracker: Any, tmp_path: Path, content: str
) -> None:
    table, video = tmp_path / "b.csv", tmp_path / "o.mp4"
    table.write_text(content)
    video.touch()
    arguments = ["track", str(clip.path), "--box", BOX, "--no-display", "--csv", str(table)]
    assert main([*arguments, "--save", str(video)]) == 0
    assert len(rows(table)) == len(video_frames(video)) == clip.frames


def write_deep(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    values = np.linspace(29300, 30600, 64) * np.ones((48, 1))
    for k in range(count):
        cv2.imwrite(str(folder / f"{k}.png"), values.astype(np.uint16))
    return folder


def test_the_range_of_deep_pictures_is_said_in_one_line_and_can_be_given(
    tracker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_deep(tmp_path / "deep")
    common = ["track", str(folder), "--box", "5,5,20,20", "--no-display", "--save"]
    assert main([*common, str(tmp_path / "a.mp4")]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "29300" in line]
    assert len(told) == 1
    assert told[0].startswith("siamtrack: warning: deep: 16-bit values from 29300 to 30600")
    assert main([*common, str(tmp_path / "b.mp4"), "--range", "0,65535"]) == 0
    assert "29300" not in capsys.readouterr().err
    # The brightest columns: white, or where 30,600 of 65,535 is.
    shown, narrow = (video_frames(tmp_path / f"{name}.mp4")[0][:, -6:] for name in "ab")
    assert np.median(shown) > 225
    assert np.median(narrow) == pytest.approx(30600 / 257, abs=5)


@pytest.mark.parametrize("text", ["5", "5,4", "a,b", "1,2,3"])
def test_a_bad_range_is_wrong_usage(
    clip: Any, tracker: Any, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert main(["track", str(clip.path), "--box", BOX, "--range", text]) == 2
    assert "give the value that is black" in capsys.readouterr().err


def test_the_saved_video_has_the_shape_of_the_pixels_of_the_source(
    tracker: Any, tmp_path: Path
) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for _ in range(3):
            picture = np.zeros((48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    source, saved = str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")
    assert main(["track", source, "--box", "5,5,20,20", "--no-display", "--save", saved]) == 0
    with av.open(saved) as container:
        assert container.streams.video[0].display_aspect_ratio == Fraction(16, 9)


def test_decoders_say_nothing_of_their_own_about_damaged_pictures(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    for suffix in ("png", "jpg", "bmp", "jp2", "webp"):
        data = cv2.imencode(f".{suffix}", noise)[1].tobytes()
        (tmp_path / f"a.{suffix}").write_bytes(data[: len(data) // 2])
    (tmp_path / "a.tif").write_bytes(b"II*\0\xff\xff\xff\x0f")
    command = ["track", str(tmp_path / "a.*"), "--box", "5,5,20,20", "--no-display"]
    assert main(command) == 3
    (line,) = capfd.readouterr().err.splitlines()
    assert "none of its 6 picture(s) can be read" in line
