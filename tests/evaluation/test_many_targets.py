"""HOTA, MOTA and IDF1 of several targets, against figures worked out by hand and measured."""

from __future__ import annotations

import json
import math
import shutil
import sys

import cv2
import numpy as np
import pytest

from siamtrack.cli import main
from siamtrack.data.formats.tracks import ClipTracks
from siamtrack.errors import ConfigError, DatasetError, MissingPackageError
from siamtrack.evaluation.many_targets import MotSequence, evaluate_mot, open_mot, score_tracks
from siamtrack.evaluation.task import RunConfig
from siamtrack.evaluation.trackers import TrackerSpec
from siamtrack.geometry import iou
from siamtrack.video.tables import TableRow, read_table

pytest.importorskip("trackeval", reason="siamtrack[mot] is not installed")


def rows(length, label=""):
    """Two targets that never touch."""
    return [
        TableRow(frame, target, (10.0 + 2 * frame, 20.0 + 100 * target, 30.0, 40.0), label=label)
        for target in range(2)
        for frame in range(length)
    ]


def sequence(name, length, tmp_path, label=""):
    return MotSequence(name, tmp_path, ClipTracks.of(rows(length, label), name=name))


def missed(found):
    """Every fifth box of target 1 is missing."""
    return [row for row in found if row.target == 0 or row.frame % 5 != 4]


def swapped(found, frame):
    """The two exchange their numbers from a frame on."""
    return [
        TableRow(row.frame, 1 - row.target if row.frame >= frame else row.target, row.box)
        for row in found
    ]


def test_two_clips_worked_out_by_hand(tmp_path):
    sequences = [sequence("clipA", 20, tmp_path), sequence("clipB", 16, tmp_path)]
    found = {"clipA": missed(rows(20)), "clipB": swapped(missed(rows(16)), 8)}
    a, b, both = score_tracks("siamtrack", sequences, found)
    # 36 of 40 boxes are found, each exactly, by the same numbers throughout. Target 0 has 20 pairs
    # and misses none, target 1 has 16 and misses 4.
    association = (20 * 1.0 + 16 * 16 / 20) / 36
    assert (a.sequence, a.det_a) == ("clipA", pytest.approx(36 / 40))
    assert a.ass_a == pytest.approx(association)
    assert a.hota == pytest.approx(math.sqrt(36 / 40 * association))
    # The other figures are those that TrackEval's own command gave on two such clips.
    assert (round(a.mota, 3), a.id_switches, round(a.idf1, 3)) == (0.900, 0, 0.947)
    assert (round(b.mota, 3), b.id_switches, round(b.idf1, 3)) == (0.844, 2, 0.492)
    assert (round(both.mota, 3), both.id_switches, round(both.idf1, 3)) == (0.875, 2, 0.745)
    # Of the targets by their numbers: a missing or exchanged box has no overlap. The first box of
    # each was given and does not count.
    assert a.ao == pytest.approx((1 + 15 / 19) / 2)
    assert b.ao == pytest.approx((7 / 15 + 6 / 15) / 2)
    assert both.ao == pytest.approx((2 * a.ao + 2 * b.ao) / 4)


def test_lost_targets_have_no_box_but_an_overlap(tmp_path):
    one = sequence("clip", 10, tmp_path)
    found = [
        TableRow(r.frame, r.target, r.box, status="lost" if r.frame == 9 else "tracked")
        for r in rows(10)
    ]
    figures, _ = score_tracks("siamtrack", [one], {"clip": found})
    assert (figures.mota, figures.ao) == (pytest.approx(0.9), pytest.approx(1.0))


def test_labels_are_scored_apart_and_together(tmp_path):
    cars, mixed = sequence("a", 20, tmp_path, "car"), sequence("b", 16, tmp_path, "bus")
    found = {"a": missed(rows(20)), "b": rows(16)}
    scored = score_tracks("siamtrack", [cars, mixed], found)
    motas = {(one.sequence, one.label): round(one.mota, 3) for one in scored}
    assert motas[("combined", "car")] == motas[("a", "")] == 0.9
    assert motas[("combined", "bus")] == motas[("b", "")] == 1.0
    assert motas[("combined", "")] == round(1 - 4 / 72, 3)


@pytest.fixture(scope="module")
def mot(tmp_path_factory):
    """A sequence of two targets, one of which comes later, in MOTChallenge's layout."""
    folder = tmp_path_factory.mktemp("mot") / "walk"
    rng = np.random.default_rng(1)
    ground = cv2.resize(rng.integers(0, 120, (6, 8, 3), np.uint8), (160, 120))
    patches = [cv2.resize(rng.integers(60, 255, (3, 4, 3), np.uint8), (24, 20)) for _ in range(2)]
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    lines = []
    for frame in range(6):
        image = ground.copy()
        for target, patch in enumerate(patches):
            if frame < 2 * target:
                continue
            x, y = 20 + 2 * frame, 20 + 55 * target
            image[y : y + 20, x : x + 24] = patch
            lines.append(f"{frame + 1},{5 - target},{x},{y},24,20,1,1,1\n")
        lines.append(f"{frame + 1},9,1,1,10,10,0,1,1\n")  # not to be counted
        cv2.imwrite(str(folder / "img1" / f"{frame + 1:06d}.jpg"), image)
    (folder / "gt" / "gt.txt").write_text("".join(lines))
    return folder.parent


def test_a_data_set_is_tracked_from_given_boxes(mot, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["eval", "mot", "--root", str(mot), "--out", str(out), "--tracker"]
    assert main([*arguments, "siamtrack-nano@engine=onnx:int8"]) == 0
    said = capsys.readouterr()
    assert "| siamtrack-nano@engine=onnx:int8 | walk |" in said.out
    assert "not comparable with tables of detectors" in said.err
    walk, combined = json.loads((out / "mot.json").read_text())
    assert walk["hota"] > 0.7 and walk["mota"] == 1.0 and combined["sequence"] == "combined"
    # AO by the definition: per target, without its first box.
    (table,) = (out / "mot").glob("walk-*.csv")
    tracked = {(row.target, row.frame): row.box for row in read_table(table)}
    (truth,) = open_mot(mot)
    means = []
    for place, (first, _, target) in enumerate(truth.starts):
        true = {row.frame: row.box for row in truth.truth.targets[target]}
        pairs = [(tracked[place, frame], true[frame]) for frame in range(first + 1, 6)]
        means.append(np.mean([float(iou(ours, box)) for ours, box in pairs]))
    assert walk["ao"] == pytest.approx(np.mean(means))
    # The same command computes nothing again.
    before = table.stat().st_mtime_ns
    assert main([*arguments, "siamtrack-nano@engine=onnx:int8"]) == 0
    assert table.stat().st_mtime_ns == before
    assert main([*arguments, "siamtrack", "--protocol", "tre"]) == 2


def test_what_cannot_be_evaluated_is_said(mot, tmp_path, monkeypatch):
    def config(root, name="siamtrack", **more):
        return RunConfig("mot", root, tmp_path / "out", (TrackerSpec(name),), **more)

    with pytest.raises(ConfigError, match="identity follows one target"):
        evaluate_mot(config(mot, "identity"))
    with pytest.raises(DatasetError, match="has no sequence; give a folder of NAME/gt/gt"):
        evaluate_mot(config(tmp_path))
    with pytest.raises(DatasetError, match="has no sequence of that name"):
        evaluate_mot(config(mot, only=("run",)))
    with pytest.raises(DatasetError, match="gone is no folder; give a folder of NAME/gt/gt"):
        open_mot(tmp_path / "gone")
    empty = tmp_path / "set" / "none"
    (empty / "gt").mkdir(parents=True)
    (empty / "gt" / "gt.txt").write_text("1,1,0,0,9,9,0,1,1\n")
    with pytest.raises(DatasetError, match="none has no target that counts"):
        open_mot(tmp_path / "set")
    (empty / "gt" / "gt.txt").write_text("1,1,0,0,9,9,1,1,1\n")
    with pytest.raises(DatasetError, match="none has no folder img1"):
        open_mot(tmp_path / "set")
    (empty / "img1").mkdir()
    cv2.imwrite(str(empty / "img1" / "000001.png"), np.zeros((20, 30, 3), np.uint8))
    assert len(open_mot(tmp_path / "set")) == 1
    (empty / "gt" / "gt.txt").write_text("1,1,0,0,9,9,1,1,1\n2,1,0,0,9,9,1,1,1\n")
    with pytest.raises(DatasetError, match=r"boxes up to frame 2, but img1 has 1 picture"):
        open_mot(tmp_path / "set")
    for copy in ("a", "b"):
        shutil.copytree(mot, tmp_path / "twice" / copy)
    with pytest.raises(DatasetError, match="has two sequences named walk"):
        open_mot(tmp_path / "twice")
    monkeypatch.setitem(sys.modules, "trackeval", None)
    with pytest.raises(MissingPackageError, match="eval mot needs trackeval"):
        evaluate_mot(config(mot))


def test_a_sequence_that_fails_is_listed(mot, tmp_path, capsys):
    broken = tmp_path / "set" / "broken"
    (broken / "gt").mkdir(parents=True)
    (broken / "img1").mkdir()
    (broken / "gt" / "gt.txt").write_text("1,1,0,0,9,9,1,1,1\n")
    arguments = ["--root", str(tmp_path / "set"), "--out", str(tmp_path / "out")]
    assert main(["eval", "mot", *arguments, "--tracker", "siamtrack-nano"]) == 3
    assert "failed: siamtrack-nano on broken: " in capsys.readouterr().err
