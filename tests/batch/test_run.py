"""A batch on this machine: the boxes of single runs, whatever stops, hangs or is damaged."""

from __future__ import annotations

import csv
import json
import os
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from siamtrack.batch.run import prepare_batch, read_records, run_batch
from siamtrack.cli import main
from siamtrack.errors import ConfigError, OutputError
from tests.batch.common import BOX, FRAMES, tables, write_clip

MODEL = ["--weights", "siamtrack-nano", "--engine", "onnx:int8"]
FAST = [*MODEL, "--set", "online_filter=false"]


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(config):
    """Run a batch; names of the clips in the order in which they finished."""
    batch, finished = prepare_batch(config), []
    run_batch(batch, lambda clip, record: finished.append(clip.name))
    return batch, finished


def test_tables_are_those_of_single_runs_with_any_number_of_workers(
    clips, whole, manifest, config, tmp_path
):
    two, _ = run(config(manifest(), "two", options={}, workers=2))
    assert two.counts() == {"done": 4}
    assert len(whole) == 5
    assert tables(two.config.out) == whole
    single = ["track", str(clips / "c.mp4"), "--box", ",".join(map(str, BOX)), "--no-display"]
    model = [*MODEL, "--csv", str(tmp_path / "single.csv")]
    assert main([*single, *model]) == 0
    assert (tmp_path / "single.csv").read_bytes() == whole["c.csv"]
    rows = read(two.config.out / "summary.csv")
    assert [row["name"] for row in rows] == list("abcd")
    assert {row["frames"] for row in rows} == {str(FRAMES)}


def test_a_stopped_batch_goes_on_where_it_was(whole, manifest, config):
    path = manifest()
    batch = prepare_batch(config(path, options={}))

    def stop(clip, record):
        if clip.name == "b":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_batch(batch, stop)
    out, records = batch.config.out, batch.config.out / "batch.jsonl"
    assert "d,pending,," in (out / "summary.csv").read_text()
    # What a kill leaves: a line that was cut off, and a table whose line is missing.
    lines = records.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2
    records.write_bytes(lines[0] + lines[1][:40])
    (out / "a.csv").unlink()
    again, finished = run(config(path, options={}))
    assert finished == ["a", "b", "c", "d"]
    assert again.counts() == {"done": 4}
    assert tables(out) == whole
    assert run(config(path, options={}))[1] == []


def test_what_boxes_depend_on_decides_what_is_run_again(clips, config, tmp_path):
    write_clip(tmp_path / "a.mp4", 0)
    path = tmp_path / "list.csv"

    def state(boxes="20,15,16,12", **options):
        path.write_text(f'clip,boxes\na.mp4,"{boxes}"\n')
        return dict(prepare_batch(config(path, **options)).counts())

    assert state() == {"pending": 1}
    run(config(path))
    assert state() == {"done": 1}
    assert state(workers=3, clip_timeout_s=5.0) == {"done": 1}
    assert state("20,15,16,13") == {"pending": 1}
    assert state(options={"window_influence": 0.3}) == {"pending": 1}
    assert state(engine="onnx") == {"pending": 1}
    os.utime(tmp_path / "a.mp4", (0, 0))
    assert state() == {"pending": 1}


@pytest.mark.parametrize("clip", ["pictures", "pictures/*.png", "pictures/%02d.png"])
def test_pictures_that_changed_are_tracked_anew(config, tmp_path, clip):
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        (tmp_path / f"pictures/{number:02d}.png").write_bytes(b"a picture")
    path = tmp_path / "list.csv"
    path.write_text(f'clip,boxes,name\n{clip},"20,15,16,12",x\n')

    def key():
        return prepare_batch(config(path)).keys["x"]

    before = key()
    assert key() == before
    os.utime(tmp_path / "pictures/01.png", (0, 0))
    changed = key()
    (tmp_path / "pictures/02.png").unlink()
    assert len({before, changed, key()}) == 3


def test_clips_that_hang_or_fail_cost_only_themselves(clips, manifest, config, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "damaged.mp4").write_bytes(b"no video")
    outside = {"clip": str(clips / "b.mp4"), "name": "outside", "boxes": [[500, 0, 9, 9]]}
    late = {**outside, "name": "late", "boxes": [list(BOX)], "start_frame": 99}
    rows = [{"clip": name, "boxes": [list(BOX)]} for name in ("pipe.mp4", "damaged.mp4")]
    path, out = manifest("a", *rows, outside, late), tmp_path / "out"
    arguments = ["batch", str(path), "--out", str(out), "--workers", "1", *FAST]
    assert main([*arguments, "--frame-timeout", "1"]) == 1
    said = capsys.readouterr().err
    assert "siamtrack: timeout: pipe: hung after frame 0: no answer for 1.5 s, killed" in said
    assert "siamtrack: failed: damaged: " in said
    assert "lies outside the 96x72 frame" in said
    assert "1 of 5 clips done, 3 failed, 1 timeout" in said
    assert len((out / "a.csv").read_text().splitlines()) == 1 + FRAMES
    # The clip is there now: it is tried again, and so are the others.
    os.unlink(tmp_path / "pipe.mp4")
    write_clip(tmp_path / "pipe.mp4", 9)
    assert main(arguments) == 1
    assert main([*arguments, "--status"]) == 0
    assert capsys.readouterr().out == "2 of 5 clips done, 3 failed\n"
    assert len((out / "batch.jsonl").read_text().splitlines()) == 9


def test_a_picture_of_another_shape_is_named(config, tmp_path):
    (tmp_path / "pictures").mkdir()
    ground = np.random.default_rng(1).integers(0, 255, (72, 96, 3), np.uint8)
    for number, picture in enumerate([ground, ground, np.rot90(ground)]):
        cv2.imwrite(str(tmp_path / f"pictures/{number:02d}.png"), picture)
    path = tmp_path / "list.csv"
    path.write_text('clip,boxes\npictures,"20,15,16,12"\n')
    batch, _ = run(config(path))
    assert batch.records["pictures"].error.startswith(
        "frame 2 02.png: frame is 72x96, target 0 is tracked in 96x72, which has another shape"
    )


def test_targets_may_begin_later_and_frames_be_left_out(clips, config, tmp_path):
    (tmp_path / "boxes.csv").write_text("frame,target,x,y,w,h\n0,0,20,15,16,12\n2,1,50,30,16,12\n")
    row = {"clip": str(clips / "a.mp4"), "boxes": "boxes.csv", "step": 2, "labels": "car"}
    path = tmp_path / "list.jsonl"
    never = {**row, "name": "never", "end_frame": 1, "step": 1, "boxes": [list(BOX)]}
    path.write_text(json.dumps(row) + "\n" + json.dumps({**never, "start_frame": 1}))
    batch, _ = run(config(path, formats=("csv", "json", "cvat", "yolo")))
    out = batch.config.out
    rows = read(out / "a.csv")
    found = [(row["frame"], row["target"]) for row in rows]
    assert found == [("0", "0"), ("2", "0"), ("2", "1")]
    assert len((out / "a.jsonl").read_text().splitlines()) == 2
    assert 'label="car"' in (out / "a.cvat" / "annotations.xml").read_text()
    assert (out / "a.yolo" / "data.yaml").exists()
    assert len((out / "never.csv").read_text().splitlines()) == 2


def test_what_cannot_be_run_is_refused_before_anything_runs(manifest, config, tmp_path, capsys):
    path = manifest("a")
    with pytest.raises(ConfigError, match="unknown format 'cvta'; did you mean 'cvat'"):
        prepare_batch(config(path, formats=("cvta",)))
    with pytest.raises(ConfigError, match="budget_ms makes boxes depend on"):
        prepare_batch(config(path, options={"budget_ms": 5}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"a\.csv exists and is of no batch"):
        prepare_batch(config(path))
    with pytest.raises(OutputError, match=r"list\.jsonl is a file; choose another folder"):
        prepare_batch(replace(config(path), out=path))
    assert main(["batch", str(manifest("ab", {"clip": "x"})), "--out", str(tmp_path / "new")]) == 3
    assert "list.jsonl: line 3: clip x does not exist" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_without_dask_a_batch_says_what_to_install(manifest, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    arguments = ["batch", str(manifest("a")), "--out", str(tmp_path / "out"), *FAST]
    assert main([*arguments, "--scheduler", "tcp://127.0.0.1:1"]) == 2
    assert "pip install dask distributed" in capsys.readouterr().err


def test_lines_of_other_versions_are_read(tmp_path):
    path = tmp_path / "batch.jsonl"
    path.write_text('{"name": "a", "key": "k", "status": "done", "new": 1}\nnull\n{"name": 3\n')
    (record,) = read_records(path).values()
    assert (record.name, record.status, record.frames) == ("a", "done", 0)


def test_a_folder_that_cannot_be_written_to_stops_the_batch(manifest, config, monkeypatch):
    batch = prepare_batch(config(manifest("a")))
    (batch.config.out / "a.csv").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"cannot write .*a\.csv"):
        run_batch(batch)
    batch = prepare_batch(config(manifest("a"), "other"))
    (batch.config.out / "batch.jsonl").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"cannot write to .*batch\.jsonl"):
        run_batch(batch)
