"""Between formats of tracks: the files of each, round trips, what is lost, and bad input.

The expected texts are the examples that the readers of `test_track_readers.py` accepted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from siamtrack.data.convert import FORMATS, convert, detect_format, read_tracks
from siamtrack.data.formats.tracks import ClipTracks
from siamtrack.errors import ConfigError, DatasetError, OutputError
from siamtrack.video.tables import TableRow, read_table, write_table

TABLE = """\
frame,time_s,target,x,y,w,h,score,status
0,0.000000,0,10.0000,12.0000,8.0000,6.0000,1.0000,tracked
0,0.000000,1,30.5000,20.2500,12.0000,10.0000,1.0000,tracked
1,0.033333,0,11.0000,12.5000,8.0000,6.0000,0.9300,tracked
1,0.033333,1,32.0000,20.5000,12.0000,10.0000,0.4100,uncertain
2,0.066667,0,11.0000,12.5000,8.0000,6.0000,0.0500,lost
2,0.066667,1,33.0000,21.0000,12.0000,10.0000,1.0000,tracked
"""
PRESENT = [line for line in TABLE.splitlines() if not line.endswith("lost")]
SIZE = (64, 48)
READ = [name for name, known in FORMATS.items() if known.read]
WRITTEN = [name for name in FORMATS if name not in ("csv", "json")]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "clip.csv"
    path.write_text(TABLE)
    return path


def converted(table: Path, to: str, **options: object) -> Path:
    out = table.parent / f"out-{to}{'.csv' if to == 'csv' else '.jsonl' if to == 'json' else ''}"
    given = {"frame_wh": SIZE, "labels": ("ball", "car"), **options}
    convert(table, out, to, **given)  # type: ignore[arg-type]
    return out


def text_of(folder: Path, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")


# --- What each format looks like


def test_cvat_ends_a_track_with_an_outside_box(table: Path) -> None:
    text = text_of(converted(table, "cvat"), "annotations.xml")
    box = '<box frame="{}" keyframe="1" outside="{}" occluded="0" xtl="{}" ytl="{}" xbr="{}" '
    first, second = text.split("<track ")[1:]
    assert 'id="0" label="ball"' in first and 'id="1" label="car"' in second
    assert [line.strip().split(" ybr")[0] + " " for line in first.splitlines()[1:4]] == [
        box.format(0, 0, "10.00", "12.00", "18.00"),
        box.format(1, 0, "11.00", "12.50", "19.00"),
        box.format(2, 1, "11.00", "12.50", "19.00"),
    ]
    assert second.count("<box ") == 3 and 'outside="1"' not in second
    assert "<original_size><width>64</width><height>48</height></original_size>" in text
    assert "<stop_frame>2</stop_frame>" in text


def test_mot_counts_frames_and_ids_from_one_and_leaves_pixels_alone(table: Path) -> None:
    folder = converted(table, "mot", ignore_uncertain=True)
    assert text_of(folder, "gt/gt.txt") == (
        "1,1,10.00,12.00,8.00,6.00,1,1,1\n"
        "1,2,30.50,20.25,12.00,10.00,1,2,1\n"
        "2,1,11.00,12.50,8.00,6.00,1,1,1\n"
        "2,2,32.00,20.50,12.00,10.00,0,2,1\n"
        "3,2,33.00,21.00,12.00,10.00,1,2,1\n"
    )
    assert text_of(folder, "gt/labels.txt") == "ball\ncar\n"
    assert text_of(folder, "seqinfo.ini") == (
        "[Sequence]\nname=clip\nimDir=img1\nframeRate=30\nseqLength=3\nimWidth=64\nimHeight=48\n"
        "imExt=.jpg\n"
    )


def test_mot_results_and_detections_have_ten_columns(table: Path) -> None:
    results = text_of(converted(table, "mot-results", first_pixel=1), "results.txt")
    detections = text_of(converted(table, "mot-det"), "det/det.txt")
    assert results.splitlines()[2] == "2,1,12.00,13.50,8.00,6.00,0.93,-1,-1,-1"
    assert detections.splitlines()[3] == "2,-1,32.00,20.50,12.00,10.00,0.41,-1,-1,-1"


def test_coco_holds_everything(table: Path) -> None:
    content = json.loads(text_of(converted(table, "coco"), "annotations.json"))
    (video,) = content["videos"]
    assert (video["length"], video["fps"], video["width"]) == (3, 30.0, 64)
    assert [(i["id"], i["frame_index"], i["file_name"]) for i in content["images"]] == [
        (frame + 1, frame, f"frame_{frame:06d}.jpg") for frame in range(3)
    ]
    entry = content["annotations"][3]
    assert entry["bbox"] == [32, 20.5, 12, 10] and entry["area"] == 120
    assert (entry["image_id"], entry["track_id"], entry["category_id"]) == (2, 2, 2)
    assert entry["score"] == 0.41 and entry["attributes"]["status"] == "uncertain"


def test_yolo_has_centers_as_fractions(table: Path) -> None:
    folder = converted(table, "yolo")
    assert text_of(folder, "labels/train/frame_000001.txt") == (
        "0 0.234375 0.322917 0.125000 0.125000\n1 0.593750 0.531250 0.187500 0.208333\n"
    )
    assert text_of(folder, "data.yaml").endswith("names:\n  0: ball\n  1: car\n")
    assert text_of(converted(table, "yolo-tracks"), "labels/train/frame_000001.txt") == (
        "0 0.234375 0.322917 0.125000 0.125000 0.930000 1\n"
        "1 0.593750 0.531250 0.187500 0.208333 0.410000 2\n"
    )


def test_voc_counts_pixels_from_one_and_its_last_corner_belongs_to_the_box(table: Path) -> None:
    text = text_of(converted(table, "voc"), "Annotations/frame_000000.xml")
    assert "<xmin>11</xmin><ymin>13</ymin><xmax>18</xmax><ymax>18</ymax>" in text
    assert "<name>track_id</name><value>1</value>" in text


def test_label_studio_disables_the_last_box_before_an_absence(table: Path) -> None:
    (task,) = json.loads(text_of(converted(table, "label-studio"), "tasks.json"))
    ball, car = task["annotations"][0]["result"]
    assert ball["value"]["labels"] == ["ball"] and ball["value"]["framesCount"] == 3
    shown = [(i["frame"], i["enabled"], i["x"], i["y"]) for i in ball["value"]["sequence"]]
    assert shown == [(1, True, 15.625, 25.0), (2, False, 17.1875, 26.041667)]
    assert [i["enabled"] for i in car["value"]["sequence"]] == [True] * 3
    assert car["meta"]["uncertain"] == [2]


def test_lines_of_boxes_say_absence_in_their_own_ways(table: Path) -> None:
    vot = converted(table, "vot")
    assert text_of(vot, "groundtruth_000.txt") == (
        "10.0000,12.0000,8.0000,6.0000\n11.0000,12.5000,8.0000,6.0000\nnan,nan,nan,nan\n"
    )
    otb = converted(table, "otb")
    assert text_of(otb, "groundtruth_rect.1.txt") == "11,13,8,6\n12,13.5,8,6\n0,0,0,0\n"
    got = converted(table, "got10k") / "val"
    assert text_of(got, "list.txt") == "clip.0\nclip.1\n"
    assert text_of(got, "clip.0/groundtruth.txt") == (
        "10.0000,12.0000,8.0000,6.0000\n" + "11.0000,12.5000,8.0000,6.0000\n" * 2
    )
    assert text_of(got, "clip.0/absence.label") == "0\n0\n1\n"
    assert text_of(got, "clip.0/cover.label") == "8\n8\n0\n"
    assert text_of(got, "clip.0/cut_by_image.label") == "0\n0\n0\n"
    convert(table, table.parent / "o", "otb", first_pixel=0)
    assert text_of(table.parent / "o", "groundtruth_rect.1.txt").startswith("10,12,8,6\n")


def test_one_file_is_written_where_the_output_has_its_suffix(table: Path, tmp_path: Path) -> None:
    for name, to in (
        ("a.xml", "cvat"),
        ("b.json", "coco"),
        ("c.txt", "mot"),
        ("d.json", "datumaro"),
    ):
        convert(table, tmp_path / name, to, frame_wh=SIZE)
        assert detect_format(tmp_path / name) == to
    with pytest.raises(ConfigError, match="otb has a file for each of the 2 targets"):
        convert(table, tmp_path / "e.txt", "otb")


# --- Round trips


def rows_of(path: Path, name: str, **options: object) -> dict[tuple[int, int], TableRow]:
    tracks = read_tracks(path, name, **options)  # type: ignore[arg-type]
    return {(row.frame, row.target): row for row in tracks.rows}


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_yolo_fractions_are_of_the_upright_picture(tmp_path: Path, suffix: str) -> None:
    """As tools show the pictures of phones, which store them turned."""
    for name in ("images/train", "labels/train"):
        (tmp_path / name).mkdir(parents=True)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    stored = PIL.Image.new("RGB", (60, 100))
    stored.save(tmp_path / f"images/train/frame_000000.{suffix}", exif=exif)
    (tmp_path / "labels/train/frame_000000.txt").write_text("0 0.5 0.5 0.2 0.5\n")
    (row,) = read_tracks(tmp_path, "yolo").rows
    assert row.box == pytest.approx((40, 15, 20, 30))


@pytest.mark.parametrize("to", [name for name in READ if name != "yolo"])
def test_there_and_back_again(table: Path, tmp_path: Path, to: str) -> None:
    out = converted(table, to)
    assert detect_format(out) in (to, "yolo" if to == "yolo-tracks" else to)
    back = tmp_path / "back.csv"
    done = convert(out, back, fps=30.0, frame_wh=None if to != "yolo-tracks" else SIZE)
    assert done.source_format in (to, "yolo")
    found = back.read_text().splitlines()
    if to in ("csv", "json"):
        assert found == TABLE.splitlines()
        return
    keeps = FORMATS[to].keeps
    for line, row in zip(PRESENT[1:], found[1:], strict=True):
        was, now = line.split(","), row.split(",")
        assert [*was[:1], was[2]] == [*now[:1], now[2]]
        assert np.allclose([float(v) for v in was[3:7]], [float(v) for v in now[3:7]], atol=0.005)
        assert "scores" not in keeps or was[7] == now[7]
        assert "uncertain" not in keeps or was[8] == now[8]
    again = tmp_path / "again"
    if to not in ("vot", "otb"):  # without labels
        convert(out, again, to, frame_wh=SIZE, fps=30.0, keep_lost=True)
        names = {p.relative_to(out) for p in out.rglob("*") if p.is_file()}
        for name in names:
            assert (again / name).read_bytes().replace(b'"out-', b'"') == (
                (out / name).read_bytes()
            ) or name.name in (
                "seqinfo.ini",
                "annotations.xml",
                "annotations.json",
                "tasks.json",
                "project.json",
            )


LABELS = st.sampled_from(["car", "a,b <&\"c'", "Fußgänger 人", ""])


@st.composite
def clips(draw: st.DrawFn) -> ClipTracks:
    """Targets with gaps and boxes up to all borders, in a frame of 64x48."""
    rows = []
    for target in range(draw(st.integers(1, 3))):
        label = draw(LABELS)
        for frame in sorted(draw(st.sets(st.integers(0, 9), min_size=1))):
            x, y = draw(st.sampled_from([0.0, 3.25, 7.1234])), draw(st.floats(0, 20))
            right, bottom = draw(st.sampled_from([64.0, 50.5])), draw(st.floats(21, 48))
            occluded, uncertain = draw(st.booleans()), draw(st.booleans())
            rows.append(
                TableRow(
                    frame,
                    target,
                    (x, y, right - x, bottom - y),
                    score=draw(st.sampled_from([1.0, 0.25])),
                    status="uncertain" if uncertain else "tracked",
                    label=label,
                    occluded=occluded,
                )
            )
    return ClipTracks.of(rows, name="clip", frame_wh=SIZE, frame_count=12, fps=25.0)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clip=clips())
@pytest.mark.parametrize("to", [name for name in WRITTEN if FORMATS[name].read and name != "yolo"])
def test_random_tracks_survive_each_format(tmp_path: Path, to: str, clip: ClipTracks) -> None:
    known = FORMATS[to]
    assert known.write is not None
    folder = tmp_path / to
    for old in sorted(folder.rglob("*"), reverse=True):
        old.unlink() if old.is_file() else old.rmdir()
    for name, content in known.write(clip, first_pixel=known.first_pixel).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    found = read_tracks(folder, to, frame_wh=SIZE)
    want, have = clip.targets, found.targets
    assert len(want) == len(have)
    for of_target, back in zip(want.values(), have.values(), strict=True):
        assert [row.frame for row in of_target] == [row.frame for row in back]
        off = np.array([r.box for r in of_target]) - np.array([r.box for r in back])
        assert np.abs(off).max() <= 0.01
        if "occluded" in known.keeps:
            assert [row.occluded for row in of_target] == [row.occluded for row in back]
        if "uncertain" in known.keeps:
            assert [row.status for row in of_target] == [row.status for row in back]
        if "scores" in known.keeps:
            assert [row.score for row in of_target] == [row.score for row in back]
        if "labels" in known.keeps:
            assert {row.label for row in of_target} == {r.label for r in back}


def test_no_targets_at_all_are_written_and_read(tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text(TABLE.splitlines()[0] + "\n")
    for to in ("cvat", "coco", "mot", "datumaro", "label-studio"):
        convert(empty, tmp_path / to, to, frame_wh=SIZE, frame_count=4)
        assert not rows_of(tmp_path / to, to)


# --- Lines between key frames


@pytest.mark.parametrize(("tolerance", "most"), [(1.0, 6), (0.9, 8)])
@pytest.mark.parametrize("to", ["cvat", "label-studio"])
def test_thinned_key_frames_stay_within_the_tolerance(
    tmp_path: Path, to: str, tolerance: float, most: int
) -> None:
    table = tmp_path / "t.csv"
    rows = [TableRow(k, 0, (9 + 8 * float(np.sin(k / 8)), 2.0, 10.0, 8.0)) for k in range(40)]
    lines = [f"{r.frame},{r.frame / 25},0,{','.join(map(str, r.box))},1,tracked" for r in rows]
    table.write_text("\n".join([TABLE.splitlines()[0], *lines]))
    convert(table, tmp_path / "thin", to, frame_wh=SIZE, tolerance=tolerance)
    text = next(p for p in (tmp_path / "thin").iterdir()).read_text()
    keys = text.count("<box ") if to == "cvat" else text.count('"enabled"')
    assert 3 <= keys <= most
    back = rows_of(tmp_path / "thin", to)
    for row in rows:
        x, left = row.box[0], back[row.frame, 0].box[0]
        shared = 10 - abs(x - left)
        assert abs(x - left) <= 1.01 if tolerance == 1.0 else shared / (20 - shared) >= 0.899


def test_cvat_s_own_sparse_key_frames_are_filled_by_lines_and_held_to_the_end(
    tmp_path: Path,
) -> None:
    box = '<box frame="{}" keyframe="1" outside="{}" xtl="{}" ytl="2" xbr="{}" ybr="9"/>'
    boxes = [(0, 0, 0, 8), (4, 0, 8, 16), (6, 1, 12, 20), (8, 0, 1, 9)]
    (tmp_path / "a.xml").write_text(
        "<annotations><version>1.1</version><meta><job><size>10</size><stop_frame>9</stop_frame>"
        "</job></meta><track id='3' label='dog'>"
        + "".join(box.format(*values) for values in boxes)
        + "</track><track id='4' label='dog'><polygon frame='0' points='1,1;2,2;3,1'/></track>"
        "</annotations>"
    )
    found = rows_of(tmp_path / "a.xml", "cvat")
    lefts = {frame: row.box[0] for (frame, _), row in found.items()}
    assert lefts == {0: 0, 1: 2, 2: 4, 3: 6, 4: 8, 5: 10, 8: 1, 9: 1}
    assert {target for _, target in found} == {3}
    assert read_tracks(tmp_path / "a.xml", "cvat").notes == ("1 track(s) of polygon left out",)


def test_turned_boxes_become_the_upright_ones_around_them(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(
        "<annotations><track id='0' label='a'><box frame='0' outside='0' xtl='10' ytl='10' "
        "xbr='30' ybr='20' rotation='90'/></track></annotations>"
    )
    tracks = read_tracks(tmp_path / "a.xml", "cvat")
    assert np.allclose(tracks.rows[0].box, (15, 5, 10, 20))
    assert tracks.notes == ("1 turned box(es) became upright",)


def test_key_frames_alone(table: Path, tmp_path: Path) -> None:
    coco = converted(table, "coco") / "annotations.json"
    content = json.loads(coco.read_text())
    for entry in content["annotations"]:
        entry["attributes"]["key"] = entry["image_id"] == 1
    coco.write_text(json.dumps(content))
    convert(coco, tmp_path / "keys.csv", keys_only=True)
    assert [line.split(",")[0] for line in (tmp_path / "keys.csv").read_text().split()[1:]] == [
        "0",
        "0",
    ]
    with pytest.raises(DatasetError, match="marks no key frames"):
        convert(table, tmp_path / "none", "cvat", frame_wh=SIZE, keys_only=True)


def test_gaps_are_filled_when_asked(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("1,1,0,0,9,9,1,-1,-1,-1\n5,1,8,4,9,9,1,-1,-1,-1\n")
    convert(tmp_path / "r.txt", tmp_path / "r.csv", interpolate=True, fps=10)
    rows = [line.split(",") for line in (tmp_path / "r.csv").read_text().split()[1:]]
    assert [(float(r[1]), float(r[3]), float(r[4])) for r in rows] == [
        (0.0, 0.0, 0.0),
        (0.1, 2.0, 1.0),
        (0.2, 4.0, 2.0),
        (0.3, 6.0, 3.0),
        (0.4, 8.0, 4.0),
    ]


# --- Lost, uncertain, and what a format does not hold


def test_lost_and_uncertain_boxes_can_be_kept_or_dropped(table: Path) -> None:
    keys = set(rows_of(converted(table, "coco"), "coco"))
    assert keys == {(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)}
    kept = rows_of(converted(table, "datumaro", keep_lost=True), "datumaro")
    assert (2, 0) in kept
    dropped = rows_of(converted(table, "mot", drop_uncertain=True), "mot")
    assert set(dropped) == {(0, 0), (0, 1), (1, 0), (2, 1)}
    ignored = rows_of(converted(table, "mot-results"), "mot-results")
    assert ignored[1, 1].score == 0.41


def test_what_is_lost_is_said_with_counts(
    table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "siamtrack"):
        done = convert(table, tmp_path / "m", "mot-results", labels=("ball", "car"))
    assert done.lost == (
        "labels: 5 boxes, not kept by mot-results",
        "uncertain: 1 box, not kept by mot-results",
    )
    assert (done.frames, done.targets, done.boxes) == (3, 2, 5)
    assert f"{table}: 1 row(s) of lost targets left out" in caplog.messages
    done = convert(table, tmp_path / "y", "yolo", frame_wh=SIZE)
    assert "track ids: 5 boxes, not kept by yolo" in done.lost
    with pytest.raises(DatasetError, match="holds more than vot can: uncertain: 1"):
        convert(table, tmp_path / "v", "vot", strict=True)
    assert not (tmp_path / "v").exists()


def test_boxes_beyond_the_frame_are_cut_for_yolo_and_said(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("1,1,-4,-2,10,10,1,-1,-1,-1\n2,1,60,40,10,10,1,-1,-1,-1\n")
    done = convert(tmp_path / "r.txt", tmp_path / "y", "yolo", frame_wh=SIZE)
    assert "parts outside the frame: 2 boxes, cut at its border for yolo" in done.lost
    rows = rows_of(tmp_path / "y", "yolo", frame_wh=SIZE)
    assert np.allclose(rows[0, 0].box, (0, 0, 6, 8), atol=1e-3)
    assert np.allclose(rows[1, 0].box, (60, 40, 4, 8), atol=1e-3)


def test_times_of_a_variable_rate_are_lost_and_a_missing_rate_is_said(tmp_path: Path) -> None:
    times = [0, 0.04, 0.2, 0.24]
    lines = [f"{k},{t},0,1,1,9,9,1,tracked" for k, t in enumerate(times)]
    (tmp_path / "t.csv").write_text("\n".join([TABLE.splitlines()[0], *lines]))
    lost = convert(tmp_path / "t.csv", tmp_path / "m", "mot").lost
    assert lost == ("times: 2 boxes, not kept by mot",)
    (tmp_path / "r.txt").write_text("1,1,0,0,9,9,1,-1,-1,-1\n2,1,0,0,9,9,1,-1,-1,-1\n")
    (lost,) = convert(tmp_path / "r.txt", tmp_path / "r.csv").lost
    assert lost.startswith("times: no frame rate is known, 30 assumed")
    assert (tmp_path / "r.csv").read_text().splitlines()[2].startswith("1,0.033333,0,")


def test_what_stands_for_nothing_is_no_loss_on_the_way_back(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("1,1,1,2,9,9,1,-1,-1,-1\n2,1,1,2,9,9,1,-1,-1,-1\n")
    for to in ("cvat", "mot", "coco", "label-studio", "voc"):
        convert(tmp_path / "r.txt", tmp_path / to, to, frame_wh=SIZE, fps=25.0, strict=True)
        convert(tmp_path / to, tmp_path / f"{to}.csv", fps=25.0, strict=True)


# --- The clip


def test_the_clip_gives_size_frames_rate_and_pictures(
    tmp_path: Path, write_clip: Callable[..., Path], table: Path
) -> None:
    clip = write_clip(tmp_path / "c" / "clip.mp4", 5)
    done = convert(table, tmp_path / "m", "mot", clip=clip, images=True)
    assert done.frames == 5
    assert "frameRate=25\nseqLength=5\nimWidth=64" in text_of(tmp_path / "m", "seqinfo.ini")
    names = sorted(p.name for p in (tmp_path / "m" / "img1").iterdir())
    assert names == [f"{k:06d}.jpg" for k in range(1, 6)]
    convert(tmp_path / "m", tmp_path / "back.csv", clip=clip)
    assert [line.split(",")[1] for line in (tmp_path / "back.csv").read_text().split()[1:4]] == [
        "0.000000",
        "0.000000",
        "0.040000",
    ]
    convert(table, tmp_path / "g", "got10k", clip=clip, images=True)
    assert len(list((tmp_path / "g" / "val").glob("clip.*/*.jpg"))) == 10


def test_a_file_of_another_clip_is_refused(
    tmp_path: Path, write_clip: Callable[..., Path], table: Path
) -> None:
    coco = converted(table, "coco")
    with pytest.raises(DatasetError, match="is of a clip with frames of 64x48, not 128x96"):
        convert(coco, tmp_path / "x", "mot", frame_wh=(128, 96))
    with pytest.raises(DatasetError, match="has boxes up to frame 2, but the clip has 2 frames"):
        convert(table, tmp_path / "x", "mot", clip=write_clip(tmp_path / "c" / "a.mp4", 2))
    with pytest.raises(DatasetError, match="target 1 in frame 0 lies outside the 20x20 frame"):
        convert(table, tmp_path / "x", "mot", frame_wh=(20, 20))
    with pytest.raises(ConfigError, match=r"--size says 20x20, but .* has 64x48"):
        convert(table, tmp_path / "x", "mot", frame_wh=(20, 20), clip=tmp_path / "c" / "a.mp4")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("to", ["cvat", "coco", "yolo", "voc", "label-studio"])
def test_a_missing_frame_size_is_asked_for(table: Path, tmp_path: Path, to: str) -> None:
    with pytest.raises(DatasetError, match=r"frame size of clip is not known; give --size W,H"):
        convert(table, tmp_path / "out", to)


def test_boxes_in_parts_of_the_frame_need_its_size(table: Path) -> None:
    yolo = converted(table, "yolo")
    with pytest.raises(DatasetError, match="fractions and no pictures; give --size W,H"):
        read_tracks(yolo, "yolo")
    tasks = converted(table, "label-studio") / "tasks.json"
    content = json.loads(tasks.read_text())
    for result in content[0]["annotations"][0]["result"]:
        del result["original_width"]
    tasks.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="percent and no frame size; give --size W,H"):
        read_tracks(tasks, "label-studio")
    assert len(rows_of(tasks, "label-studio", frame_wh=SIZE)) == 5


# --- Bad input

BROKEN = [
    ("mot", "r.txt", "1,1,10,12,8\n", "line 1 is .* frame,id,left,top,w,h are needed"),
    ("mot", "r.txt", "1,1,a,12,8,9,1,-1,-1,-1\n", "a cell of line 1 is 'a', which is not a number"),
    ("mot", "r.txt", "1.5,1,9,12,8,9,1,-1,-1,-1\n", "frame in line 1 is 1.5, .* not a whole"),
    ("mot", "r.txt", "0,1,9,12,8,9,1,-1,-1,-1\n", "box in frame -1, before the first one"),
    ("mot", "r.txt", "1,1,9,9,8,9,1,-1,-1,-1\n" * 2, "target 0 has two boxes in frame 0"),
    ("mot", "r.txt", "1,-1,9,9,8,9,1,-1,-1,-1\n", "id -1, which are detections"),
    ("mot", "r.txt", "1,1,9,9,0,9,1,-1,-1,-1\n", "of target 0 in frame 0 has no area"),
    ("cvat", "a.xml", "<annotations><image/></annotations>", "is CVAT for images"),
    ("cvat", "a.xml", "<annotations><track id='0'><box frame='0' xtl='1'/></track></annotations>",
     "ytl of track 0 in frame 0 is None"),
    ("cvat", "a.xml", "<annotations><track", "is not usable as cvat: "),
    ("cvat", "a.xml", "<annotations><track task_id='1'/><track task_id='2'/></annotations>",
     "holds several tasks"),
    ("cvat", "a.xml", "<annotations><track id='0'>" + "<box frame='0' xtl='1' ytl='1' xbr='9' "
     "ybr='9'/>" * 2 + "</track></annotations>", "track 0 has two boxes in frame 0"),
    ("coco", "c.json", '{"images": []}', "lacks 'annotations'"),
    ("coco", "c.json", '{"images": [], "annotations": [{"id": 7, "image_id": 3}]}',
     "names image 3"),
    ("coco", "c.json", '{"images": [{"id": 3, "file_name": "a"}], "annotations": [{"id": 7, '
     '"image_id": 3, "bbox": [1]}]}', "annotation 7 has no bbox of four"),
    ("coco", "c.json", '{"videos": [{}, {}], "images": [], "annotations": []}', "holds 2 videos"),
    ("coco", "c.json", '{"images": [', "not readable JSON"),
    ("coco", "c.json", '{"images": [{"id": 1, "file_name": "a", "width": 1, "height": 1}, {"id": 2,'
     ' "file_name": "b", "width": 2, "height": 1}], "annotations": []}', "images of 2 sizes"),
    ("datumaro", "d.json", '{"items": [{"id": "a", "annotations": []}], "categories": {"label": '
     '{"labels": []}}}', "'a' has no frame number at its end"),
    ("datumaro", "d.json", "[]", "is not usable as datumaro"),
    ("label-studio", "t.json", "[{}, {}]", "holds 2 tasks"),
    ("otb", "groundtruth_rect.txt", "1,2,3\n", "line 1 is '1,2,3'; x,y,w,h are needed"),
    ("otb", "groundtruth_rect.txt", "1,2,3,x\n", "line 1: could not convert"),
    ("otb", "groundtruth_rect.txt", "", "is empty"),
    ("json", "a.jsonl", '{"frame": 0, "targets": [{"target": 0, "box": [1, 2, 3]}]}\n',
     "line 1: is not what siamtrack track --json writes"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "text", "message"), BROKEN)
def test_a_damaged_file_is_refused_with_the_place(
    tmp_path: Path, name: str, file: str, text: str, message: str
) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_tracks(tmp_path / file, name)


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("yolo", {"a.txt": "0 .5 .5 .1 .1\n"}, "no frame number at its end"),
        ("yolo", {"a_1.txt": "0 .5 .5 .1\n"}, "a_1.txt line 1 has 4 numbers"),
        ("yolo", {"a_1.txt": "0 5 5 2 2\n"}, "numbers outside 0..1"),
        ("yolo", {"a_1.txt": "0 .5 .5 .1 .1\n" * 2}, "ids, and frame 0 has 2 boxes of '0'"),
        ("yolo", {"a_1.txt": "0 .5 .5 .1 .1 .9 2\n0 .5 .5 .1 .1 .9\n"}, "1 of 2 boxes"),
        ("yolo", {"a.md": ""}, "holds no label files"),
        ("voc", {"a.txt": ""}, "holds no XML files"),
        ("voc", {"a_1.xml": "<annotation"}, "a_1.xml is not readable XML"),
        ("voc", {"a_1.xml": "<annotation><object/></annotation>"}, "xmin in a_1.xml is None"),
        ("got10k", {"list.txt": "a\nb\n"}, "lists 2 sequences, which are different clips"),
        ("got10k", {"groundtruth.txt": "1,2,3,4\n", "absence.label": "0\n1\n"}, "2 lines"),
        ("vot", {"groundtruth_000.txt": "1,2,3,4\n", "groundtruth_001.txt": "1,2,3,4\n" * 2},
         "different numbers of lines"),
        ("vot", {"a.txt": ""}, "holds no groundtruth.txt"),
        ("mot", {"gt.txt": "1,1,1,1,9,9,1,1,1\n", "seqinfo.ini": "nothing"}, "is no seqinfo.ini"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_refused_with_the_place(
    tmp_path: Path, name: str, files: dict[str, str], message: str
) -> None:
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    path = tmp_path / "gt.txt" if name == "mot" else tmp_path
    with pytest.raises(DatasetError, match=message):
        read_tracks(path, name, frame_wh=SIZE)


def test_formats_that_look_the_same_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "groundtruth.txt"
    path.write_text("1,2,3,4\n")
    with pytest.raises(DatasetError, match="vot and got10k count from 0 and otb from 1; say which"):
        detect_format(path)
    rows = {name: rows_of(path, name)[0, 0].box for name in ("vot", "got10k", "otb")}
    assert rows == {"vot": (1, 2, 3, 4), "got10k": (1, 2, 3, 4), "otb": (0, 1, 3, 4)}
    assert rows_of(path, "got10k", first_pixel=1)[0, 0].box == (0, 1, 3, 4)
    path.write_text("1,2,3,4\nnan,nan,nan,nan\n")
    assert detect_format(path) == "vot"
    path.write_text("hello\n")
    with pytest.raises(DatasetError, match="not recognized as a format of tracks; give --from"):
        detect_format(path)
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(DatasetError, match="not recognized"):
        detect_format(tmp_path / "x.json")
    with pytest.raises(DatasetError, match="does not exist"):
        detect_format(tmp_path / "nothing")
    (tmp_path / "x.bin").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DatasetError, match="cannot be read as text"):
        detect_format(tmp_path / "x.bin")


@pytest.mark.parametrize(
    ("to", "options", "message"),
    [
        ("coca", {}, "unknown format 'coca'; did you mean 'coco'"),
        (None, {}, "does not say its format; give --to"),
        ("otb", {"source_format": "mot-det"}, "mot-det holds no tracks"),
        ("otb", {"source_first_pixel": 1}, "csv counts pixels from 0 always"),
        ("coco", {"first_pixel": 1}, "coco counts pixels from 0 always"),
        ("coco", {"ignore_uncertain": True}, "--ignore-uncertain is for mot"),
        ("coco", {"images": True}, "--images needs --clip"),
        ("mot-results", {"images": True, "clip": "x"}, "--images is not for mot-results"),
        ("coco", {"tolerance": 1}, "--thin is for cvat and label-studio"),
        ("cvat", {"tolerance": 0}, "--thin 0 is no tolerance"),
        ("cvat", {"tolerance": 1, "keys_only": True}, "--thin chooses key frames itself"),
        ("otb", {"labels": ("a", "b", "c")}, "--labels gives 3 labels for 2 targets"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    table: Path, tmp_path: Path, to: str | None, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        convert(table, tmp_path / "out", to, **options)  # type: ignore[arg-type]


def test_nothing_is_overwritten_unasked(table: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken.csv"
    taken.write_text("mine")
    with pytest.raises(OutputError, match="exists; choose another name"):
        convert(table, taken)
    with pytest.raises(OutputError, match="is what is to be read"):
        convert(table, table, overwrite=True)
    with pytest.raises(OutputError, match="is a folder; give the name of a file"):
        convert(table, tmp_path, "csv")
    with pytest.raises(OutputError, match="is a folder with files in it; remove it"):
        convert(table, tmp_path, "vot", overwrite=True)
    with pytest.raises(OutputError, match="is a file, but yolo needs a folder"):
        convert(table, taken, "yolo", frame_wh=SIZE, overwrite=True)
    with pytest.raises(ConfigError, match="--images needs a folder"):
        convert(table, tmp_path / "a.xml", "cvat", clip="clip.mp4", images=True)
    assert taken.read_text() == "mine"
    convert(table, taken, overwrite=True)
    assert taken.read_text() == TABLE


def test_a_name_in_a_file_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(
        '{"videos": [{"file_name": "../../evil/.."}], "images": [{"id": 1, "file_name": "a1"}], '
        '"annotations": [{"id": 1, "image_id": 1, "track_id": 1, "bbox": [1, 1, 5, 5]}]}'
    )
    convert(tmp_path / "c.json", tmp_path / "g", "got10k")
    assert (tmp_path / "g" / "val" / "clip" / "groundtruth.txt").is_file()


# --- As other programs write them


def test_targets_without_track_ids_are_in_the_order_of_the_classes(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: ['dog', cat, \"a: b\"]\n")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "frame_000000.txt").write_text("2 0.5 0.5 0.1 0.1\n")
    (tmp_path / "labels" / "frame_000001.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    rows = rows_of(tmp_path, "yolo", frame_wh=SIZE)
    assert {key: row.label for key, row in rows.items()} == {(1, 0): "dog", (0, 1): "a: b"}


def test_files_of_ultralytics_are_numbered_from_one(tmp_path: Path) -> None:
    for number in (1, 2, 10):  # class, box, track
        (tmp_path / f"clip_{number}.txt").write_text(
            f"0 0.5 0.5 0.25 0.5 {number}\n1 0.25 0.5 0.25 0.5 33\n"
        )
    assert detect_format(tmp_path) == "yolo"
    rows = rows_of(tmp_path, "yolo", frame_wh=SIZE)
    assert sorted(rows) == [(0, 0), (0, 32), (1, 1), (1, 32), (9, 9), (9, 32)]
    assert rows[0, 0].box == (24, 12, 16, 24)


def test_coco_without_frame_numbers_takes_the_images_in_natural_order(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"f{n}.png"} for i, n in ((7, 10), (8, 9), (9, 2))]
    entries = [
        {"id": i, "image_id": i, "bbox": [i, 1, 5, 5], "attributes": {"track_id": 0}}
        for i in (7, 8, 9)
    ]
    path = tmp_path / "instances_default.json"
    path.write_text(json.dumps({"images": images, "annotations": entries}))
    rows = rows_of(path, detect_format(path))
    assert {key: row.box[0] for key, row in rows.items()} == {(0, 0): 9, (1, 0): 8, (2, 0): 7}


def test_label_studio_s_own_export_is_drawn_between_its_items(tmp_path: Path) -> None:
    def item(frame: int, x: float, enabled: bool) -> dict[str, object]:
        box = {"x": x, "y": 10, "width": 10, "height": 20, "rotation": 0}
        return {"frame": frame, "enabled": enabled, "time": frame / 10, **box}

    sequence = [item(1, 0, True), item(3, 50, False), item(7, 10, True)]
    result = {
        "type": "videorectangle",
        "value": {"sequence": sequence, "framesCount": 8},
        "id": "x",
    }
    tasks = [{"data": {"video": "/up/a.mp4"}, "annotations": [{"result": [result, {"type": "x"}]}]}]
    (tmp_path / "t.json").write_text(json.dumps(tasks))
    tracks = read_tracks(tmp_path / "t.json", "label-studio", frame_wh=(100, 100))
    lefts = {row.frame: row.box[0] for row in tracks.rows}
    assert lefts == {0: 0, 1: 25, 2: 50, 6: 10, 7: 10}
    assert tracks.name == "a.mp4" and tracks.notes == ("1 result(s) that are no boxes left out",)


def test_polygons_of_vot_become_upright_boxes(tmp_path: Path) -> None:
    (tmp_path / "groundtruth.txt").write_text("1,2,5,1,6,7,2,8\n0,0,0,0\n")
    rows = rows_of(tmp_path, "vot")
    assert {key: row.box for key, row in rows.items()} == {(0, 0): (1, 1, 5, 7)}


def test_pictures_and_semicolons_of_tables(tmp_path: Path) -> None:
    header = TABLE.splitlines()[0] + ",picture\n"
    (tmp_path / "p.csv").write_text(
        header + '4,0.100000,0,1.0000,2.0000,3.0000,4.0000,0.5000,lost,"a,""b"".png"\n'
    )
    convert(tmp_path / "p.csv", tmp_path / "p.jsonl")
    convert(tmp_path / "p.jsonl", tmp_path / "q.csv")
    assert (tmp_path / "q.csv").read_text() == (tmp_path / "p.csv").read_text()
    (tmp_path / "s.csv").write_text(
        "frame;target;x;y;w;h;score\n0;0;1,5;2;3;4;0,25\n"  # a spreadsheet's
    )
    assert detect_format(tmp_path / "s.csv") == "csv"
    (row,) = rows_of(tmp_path / "s.csv", "csv").values()
    assert (row.box, row.score) == ((1.5, 2, 3, 4), 0.25)


def test_long_numbers_of_targets_keep_their_last_digit(tmp_path: Path) -> None:
    """Two neighbors that are one and the same float."""
    numbers = 2**53, 2**53 + 1
    table, coco = tmp_path / "ids.csv", tmp_path / "ids.json"
    lines = [f"{frame},{number},1,2,3,4\n" for frame, number in enumerate(numbers)]
    table.write_text("frame,target,x,y,w,h\n" + "".join(lines))
    assert {row.target for row in read_table(table)} == set(numbers)
    convert(table, coco, to="coco", frame_wh=SIZE)
    assert {target for _, target in rows_of(coco, "coco")} == set(numbers)
    (tmp_path / "r.txt").write_text(f"1,{numbers[1]},9,9,8,9,1,-1,-1,-1\n")
    with pytest.raises(DatasetError, match=r"id in line 1 is .* not a whole number"):
        read_tracks(tmp_path / "r.txt", "mot-results")


@pytest.mark.parametrize(
    ("more", "told"),
    [({"score": 7.0}, "score 7"), ({"status": "gone"}, "status 'gone'"), ({"box": (1, 2, 3)}, ""),
     ({"frame": -1}, "negative"), ({"frame": 0.5}, "not a whole number")],
)  # fmt: skip
def test_what_could_not_be_read_again_is_not_written(
    tmp_path: Path, more: dict[str, Any], told: str
) -> None:
    row = TableRow(np.int64(0), np.int64(1), (1.0, 2.0, 3.0, 4.0), 0.5)
    for name in ("a.csv", "a.jsonl"):
        write_table(tmp_path / name, [row])
        assert read_table(tmp_path / name) == [TableRow(0, 1, (1, 2, 3, 4), 0.5)]
        with pytest.raises(DatasetError, match=f"^row of frame .*{told}"):
            write_table(tmp_path / name, [replace(row, **more)], overwrite=True)
        assert len(read_table(tmp_path / name)) == 1


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "twice.csv"
    table.write_text("frame,target,x, x,y,w,h,note,note\n0,0,20,99,40,30,24,a,b\n")
    with pytest.raises(DatasetError, match=r"twice\.csv has the column x twice; leave the one"):
        read_table(table)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mot-results", "1000000000000,1,1,1,9,9,1,-1,-1,-1\n"),
        ("mot-results", "1,1,1,1,9,1e400,1,-1,-1,-1\n"),
        ("csv", TABLE.splitlines()[0] + "\n99999999999,0,0,1,2,3,4,1,tracked\n"),
        ("cvat", "<annotations><meta><stop_frame>99999999999</stop_frame></meta><track id='0'>"
         "<box frame='0' outside='0' xtl='1' ytl='1' xbr='9' ybr='9'/></track></annotations>"),
        ("cvat", "<annotations><track id='0'><box frame='0' xtl='1' ytl='1' xbr='9' ybr='9'/>"
         "<box frame='99999999999' xtl='1' ytl='1' xbr='9' ybr='9'/></track></annotations>"),
        ("coco", '{"images": [{"id": 1, "file_name": "a", "frame_index": ' + "9" * 400 + "}], "
         '"annotations": []}'),
        ("coco", "[" * 100_000),
        ("json", '{"frame": ' + "[" * 100_000),
        ("json", '{"frame": 0, "targets": [{"target": 0, "box": [' + "9" * 400 + ", 1, 1, 1]}]}"),
        ("datumaro", '{"items": 5, "categories": {"label": {"labels": []}}}'),
        ("label-studio", '[{"annotations": [{"result": ["x"]}]}]'),
    ],
)  # fmt: skip
def test_absurd_numbers_and_shapes_end_in_words(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(DatasetError):
        read_tracks(tmp_path / "file", name)
