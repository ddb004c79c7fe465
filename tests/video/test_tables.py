"""CSV and JSON lines: what is in them, and what is left of them when something goes wrong."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from siamtrack.errors import OutputError
from siamtrack.tracking.result import Result
from siamtrack.video.tables import CSV_HEADER, CsvSink, JsonLinesSink

GIVEN = Result((10.0, 20.5, 30.25, 40.125), 1.0, "tracked")
LATER = Result((11.00004, 0.0, 2.0, 2.00006), 0.123456, "lost")
SINKS = pytest.mark.parametrize("sink_of", [CsvSink, JsonLinesSink])
SinkOf = Callable[..., CsvSink | JsonLinesSink]


def write_frames(sink: CsvSink | JsonLinesSink, frames: int) -> None:
    for k in range(frames):
        sink.write(k, k / 30, {0: GIVEN})


def frames_in(path: Path) -> list[int]:
    """Frame numbers of a file of either kind; fails when a row is not whole."""
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    if text.startswith(CSV_HEADER):
        rows = list(csv.DictReader(text.splitlines()))
        assert all(row["status"] == "tracked" for row in rows)
        return [int(row["frame"]) for row in rows]
    return [json.loads(line)["frame"] for line in text.splitlines()]


def test_csv_has_one_row_per_frame_and_target(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    with CsvSink(path) as sink:
        sink.write(0, 0.0, {0: GIVEN})
        sink.write(1, 1 / 30, {0: LATER, 3: GIVEN})
        sink.write(2, 2 / 30, {})
        assert sink.count == 3
    assert path.read_text() == (
        "frame,time_s,target,x,y,w,h,score,status\n"
        "0,0.000000,0,10.0000,20.5000,30.2500,40.1250,1.0000,tracked\n"
        "1,0.033333,0,11.0000,0.0000,2.0000,2.0001,0.1235,lost\n"
        "1,0.033333,3,10.0000,20.5000,30.2500,40.1250,1.0000,tracked\n"
    )


def test_json_lines_say_the_same_as_the_csv(tmp_path: Path) -> None:
    frames = [(0, 0.0, {0: GIVEN}), (1, 1 / 30, {0: LATER, 3: GIVEN})]
    with CsvSink(tmp_path / "a.csv") as table, JsonLinesSink(tmp_path / "a.jsonl") as lines:
        for frame in frames:
            table.write(*frame)
            lines.write(*frame)
    objects = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [o["frame"] for o in objects] == [0, 1]
    flat = [
        [o["frame"], o["time_s"], t["target"], *t["box"], t["score"], t["status"]]
        for o in objects
        for t in o["targets"]
    ]
    rows = list(csv.reader((tmp_path / "a.csv").read_text().splitlines()))[1:]
    assert [[*map(float, row[:-1]), row[-1]] for row in rows] == flat


def test_a_frame_without_targets_is_a_json_object_too(tmp_path: Path) -> None:
    with JsonLinesSink(tmp_path / "a.jsonl") as sink:
        sink.write(7, 0.5, {})
    assert json.loads((tmp_path / "a.jsonl").read_text()) == {
        "frame": 7,
        "time_s": 0.5,
        "targets": [],
    }


@SINKS
def test_a_missing_folder_is_made(tmp_path: Path, sink_of: SinkOf) -> None:
    path = tmp_path / "new" / "er" / "out"
    with sink_of(path) as sink:
        write_frames(sink, 2)
    assert frames_in(path) == [0, 1]


@SINKS
def test_a_file_that_exists_is_refused(tmp_path: Path, sink_of: SinkOf) -> None:
    path = tmp_path / "out"
    path.write_text("precious")
    with pytest.raises(OutputError, match=r"out exists; choose another name, or .*--overwrite"):
        sink_of(path)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


@SINKS
def test_an_old_file_stays_until_there_is_a_row_to_replace_it(
    tmp_path: Path, sink_of: SinkOf
) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    with sink_of(path, overwrite=True) as sink:
        assert path.read_text() == "old"
        write_frames(sink, 1)
        assert frames_in(path) == [0]
    assert list(tmp_path.iterdir()) == [path]


@SINKS
def test_a_run_that_fails_before_its_first_row_leaves_all_as_it_was(
    tmp_path: Path, sink_of: SinkOf
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old")
    for path in (old, new):
        with pytest.raises(RuntimeError), sink_of(path, overwrite=True):
            raise RuntimeError
    assert old.read_text() == "old"
    assert list(tmp_path.iterdir()) == [old]


def test_a_run_without_rows_that_ends_well_leaves_the_header(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    with CsvSink(path, overwrite=True):
        pass
    assert path.read_text() == CSV_HEADER + "\n"


@SINKS
def test_a_link_stays_a_link(tmp_path: Path, sink_of: SinkOf) -> None:
    (tmp_path / "real").write_text("old")
    link = tmp_path / "link"
    link.symlink_to("real")
    with sink_of(link, overwrite=True) as sink:
        write_frames(sink, 1)
    assert link.is_symlink()
    assert frames_in(tmp_path / "real") == [0]


@SINKS
def test_rows_are_in_the_file_as_soon_as_written(tmp_path: Path, sink_of: SinkOf) -> None:
    path = tmp_path / "out"
    with sink_of(path) as sink:
        for k in range(3):
            sink.write(k, 0.0, {0: GIVEN})
            assert frames_in(path) == list(range(k + 1))


@SINKS
def test_a_killed_program_leaves_whole_rows(tmp_path: Path, sink_of: SinkOf) -> None:
    path = tmp_path / "out"
    program = (
        "import os, signal, sys\n"
        f"from siamtrack.video.tables import {sink_of.__name__} as Sink\n"
        "from siamtrack.tracking.result import Result\n"
        "sink = Sink(sys.argv[1])\n"
        "for k in range(50):\n"
        "    sink.write(k, k / 30, {0: Result((1.0, 2.0, 3.0, 4.0), 1.0, 'tracked')})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == -9
    assert frames_in(path) == list(range(50))


def test_a_full_disk_is_an_error_of_one_line() -> None:
    with pytest.raises(OutputError, match=r"/dev/full could not .*No space left.*free some space"):
        CsvSink("/dev/full", overwrite=True)
    sink = JsonLinesSink("/dev/full")
    with pytest.raises(OutputError, match="nothing is kept in it") as caught:
        write_frames(sink, 1)
    assert "\n" not in str(caught.value)
    with pytest.raises(OutputError, match="closed"):
        write_frames(sink, 1)


@SINKS
def test_a_disk_that_fills_up_keeps_the_whole_rows(
    tmp_path: Path, sink_of: SinkOf, file_size_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    with file_size_limit(2000), pytest.raises(OutputError, match="kept in it") as caught:
        with sink_of(path, overwrite=True) as sink:
            write_frames(sink, 1000)
    frames = frames_in(path)
    assert frames == list(range(len(frames)))
    assert 10 < len(frames) < 100
    assert f"{len(frames)} frame(s) are kept in it" in str(caught.value)
    assert sink.count == len(frames)


@SINKS
def test_a_disk_that_is_full_from_the_start_keeps_the_old_file(
    tmp_path: Path, sink_of: SinkOf, file_size_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    with file_size_limit(5), pytest.raises(OutputError, match="nothing is kept"):
        with sink_of(path, overwrite=True) as sink:
            write_frames(sink, 1)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_or_device_needs_no_overwrite() -> None:
    with CsvSink("/dev/null") as sink:
        write_frames(sink, 3)
    assert Path("/dev/null").is_char_device()


@SINKS
def test_a_folder_is_refused(tmp_path: Path, sink_of: SinkOf) -> None:
    with pytest.raises(OutputError, match="is a folder; give the name of a file in it"):
        sink_of(tmp_path, overwrite=True)


@SINKS
def test_a_file_where_a_folder_is_needed(tmp_path: Path, sink_of: SinkOf) -> None:
    (tmp_path / "file").write_text("")
    for path in ("file/out", "file/more/out"):
        with pytest.raises(OutputError, match=r"out.* (is a file, not a folder|cannot be written)"):
            sink_of(tmp_path / path)


@SINKS
def test_a_place_that_cannot_be_written(
    tmp_path: Path, sink_of: SinkOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OutputError, match=r"cannot be written \(Permission denied\); choose"):
        sink_of(tmp_path / "out")


@SINKS
def test_a_write_protected_file_is_not_replaced(
    tmp_path: Path, sink_of: SinkOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda *_: False)  # the superuser may write anything
    with pytest.raises(OutputError, match="write-protected; choose another name"):
        sink_of(path, overwrite=True)
    assert path.read_text() == "old"


@SINKS
def test_a_system_that_cannot_rename_open_files_replaces_at_the_end(
    tmp_path: Path, sink_of: SinkOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    sink = sink_of(path, overwrite=True)
    rename = os.replace

    def refuse(*_: object) -> None:
        raise PermissionError(13, "The process cannot access the file")

    monkeypatch.setattr(os, "replace", refuse)
    write_frames(sink, 2)
    assert path.read_text() == "old"
    with pytest.raises(OutputError, match=r"cannot be replaced .*the new file is kept as .*part"):
        sink.close()
    (part,) = tmp_path.glob(".out.*.part")
    assert frames_in(part) == [0, 1]
    part.unlink()
    sink = sink_of(path, overwrite=True)
    write_frames(sink, 2)
    monkeypatch.setattr(os, "replace", rename)
    sink.close()
    assert frames_in(path) == [0, 1]


@SINKS
def test_nothing_is_written_after_closing(tmp_path: Path, sink_of: SinkOf) -> None:
    sink = sink_of(tmp_path / "out")
    write_frames(sink, 1)
    sink.close()
    sink.close()
    with pytest.raises(OutputError, match="closed"):
        write_frames(sink, 1)
    assert frames_in(tmp_path / "out") == [0]
