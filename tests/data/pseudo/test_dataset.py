from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest

import siamtrack
from siamtrack.cli import main
from siamtrack.data.check import check_dataset
from siamtrack.data.datasets import open_dataset
from siamtrack.data.pseudo import PseudoLabelConfig, find_clips, pseudo_label
from siamtrack.data.pseudo.dataset import draw_sheet
from siamtrack.errors import ConfigError, DatasetError, OutputError
from siamtrack.geometry import iou
from siamtrack.video.random_access import ImageFrames

CONFIG = PseudoLabelConfig(samples=4, max_boxes=2)


@pytest.fixture
def label(tmp_path, template_tracker):
    """Label clips into `tmp_path / "out"` with a template tracker."""

    def run(*clips, tracker=None, config=CONFIG, **arguments):
        found = find_clips(map(str, clips))
        tracker = template_tracker() if tracker is None else tracker
        return pseudo_label(found, tmp_path / "out", tracker, config, **arguments)

    return run


def read_report(out, name):
    return json.loads((out / "reports" / f"{name}.json").read_text())


def test_labels_of_a_moving_patch_open_as_a_data_set(label, write_scene, tmp_path) -> None:
    truth = write_scene(tmp_path / "patch")
    report = label(tmp_path / "patch")
    assert (report.clips, report.labeled_clips, report.targets) == (1, 1, 1)
    spec = f"folder:{tmp_path / 'out'}"
    assert check_dataset(spec) == []
    dataset = open_dataset(spec)
    assert dataset.names == ("patch",)
    boxes = dataset["patch"].boxes
    kept = dataset["patch"].visible
    assert kept.sum() == report.kept_frames >= 25
    assert (iou(boxes[kept], truth[kept]) > 0.5).all()


def test_what_was_tried_and_kept_is_reported(label, write_scene, tmp_path) -> None:
    write_scene(tmp_path / "patch")
    total = label(tmp_path / "patch")
    report = read_report(tmp_path / "out", "patch")
    assert (report["result"], report["frames"]) == ("labeled", 30)
    first = report["start_boxes"][0]
    assert (first["cue"], first["targets"], first["tracked"]) == ("motion", [0], 30)
    assert first["kept"] == sum(end - begin + 1 for begin, end in first["runs"])
    assert first["agreement"] > 0.9 and first["support"] == 1.0
    with (tmp_path / "out/reports/report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["clip"] for row in rows] == ["patch"] * total.start_boxes
    assert rows[0]["kept"] == str(first["kept"])


def test_a_clip_that_changed_is_labeled_anew(label, write_scene, tmp_path, caplog) -> None:
    write_scene(tmp_path / "patch")
    label(tmp_path / "patch")
    out, before = tmp_path / "out", read_report(tmp_path / "out", "patch")
    label(tmp_path / "patch")
    assert read_report(out, "patch") == before and not caplog.records
    still = (tmp_path / "patch/0.png").read_bytes()
    for picture in (tmp_path / "patch").iterdir():
        picture.write_bytes(still)
    report = label(tmp_path / "patch")
    assert "has changed since it was labeled" in caplog.text
    assert report.labeled_clips == 0 and not (out / "patch.csv").exists()
    assert not (out / "patch").exists() and not list((out / "sheets").iterdir())


def test_a_contact_sheet_shows_the_boxes(label, write_scene, tmp_path) -> None:
    write_scene(tmp_path / "patch")
    label(tmp_path / "patch")
    sheet = cv2.imread(str(tmp_path / "out/sheets/patch.0.jpg"))
    assert sheet.shape == (480, 1280, 3)
    tiles = [sheet[r : r + 240, c : c + 320] for r in (0, 240) for c in range(0, 1280, 320)]
    for tile in tiles:
        green = (tile[..., 1] > 180) & (tile[..., 0] < 90) & (tile[..., 2] < 90)
        assert green.sum() > 100


def test_a_sheet_of_few_frames_has_empty_tiles(write_scene, tmp_path) -> None:
    truth = write_scene(tmp_path / "patch", frames=3)
    frames = ImageFrames(tmp_path / "patch", ("0.png", "1.png", "2.png"))
    sheet = draw_sheet(frames, {0: truth[0], 2: truth[2]}, "patch")
    assert sheet[:224, :640].any(axis=(1, 2)).all() and not sheet[:, 640:].any()


def test_a_tracker_that_drifts_gives_no_labels(
    label, write_scene, template_tracker, tmp_path
) -> None:
    write_scene(tmp_path / "patch")
    report = label(tmp_path / "patch", tracker=template_tracker(slide_px=3.0))
    assert report.results == {"nothing kept": 1}
    assert report.kept_frames == 0
    assert not (tmp_path / "out/patch").exists() and not (tmp_path / "out/patch.csv").exists()


@pytest.mark.parametrize("frames", [1, 2, 30])
def test_a_clip_in_which_nothing_moves_gives_no_labels(
    frames, label, write_scene, tmp_path
) -> None:
    write_scene(tmp_path / "still", frames=frames, camera_px=0.0, patch_px=(0.0, 0.0))
    assert label(tmp_path / "still").results == {"no motion": 1}


def test_every_run_of_agreeing_frames_is_a_target(
    label, write_scene, template_tracker, tmp_path
) -> None:
    write_scene(tmp_path / "patch")
    one_box = PseudoLabelConfig(samples=6, max_boxes=1)
    label(tmp_path / "patch", tracker=template_tracker(doubts=[14, 15]), config=one_box)
    dataset = open_dataset(f"folder:{tmp_path / 'out'}")
    kept = [np.flatnonzero(sequence.visible).tolist() for sequence in dataset]
    assert kept == [list(range(14)), list(range(16, 30))]
    (tried,) = read_report(tmp_path / "out", "patch")["start_boxes"]
    assert (tried["targets"], tried["runs"]) == ([0, 1], [[0, 13], [16, 29]])


def test_every_second_frame_has_a_box_when_asked(label, write_scene, tmp_path) -> None:
    write_scene(tmp_path / "patch")
    label(tmp_path / "patch", config=PseudoLabelConfig(samples=4, max_boxes=1, every=2))
    kept = open_dataset(f"folder:{tmp_path / 'out'}")["patch"].visible
    assert len({int(n) % 2 for n in np.flatnonzero(kept)}) == 1 and kept.sum() >= 10


def test_a_box_is_followed_no_farther_than_asked(label, write_scene, tmp_path) -> None:
    write_scene(tmp_path / "patch")
    label(tmp_path / "patch", config=PseudoLabelConfig(samples=6, max_boxes=1, max_frames=8))
    (tried,) = read_report(tmp_path / "out", "patch")["start_boxes"]
    assert tried["tracked"] == 17


def test_large_frames_are_tracked_smaller_and_labeled_in_their_px(
    label, write_scene, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("siamtrack.data.pseudo.dataset._TRACK_SIDE_PX", 150)  # of 200
    truth = write_scene(tmp_path / "large")
    label(tmp_path / "large")
    sequence = open_dataset(f"folder:{tmp_path / 'out'}")["large"]
    kept = sequence.visible
    assert kept.sum() >= 10 and (iou(sequence.boxes[kept], truth[kept]) > 0.5).all()


# -- Runs that are stopped, repeated or told something else


def test_a_run_that_was_stopped_is_continued(
    label, write_scene, template_tracker, tmp_path
) -> None:
    write_scene(tmp_path / "a")
    write_scene(tmp_path / "b", seed=4)

    def stop(name, result):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label(tmp_path / "a", tmp_path / "b", on_clip=stop)
    assert open_dataset(f"folder:{tmp_path / 'out'}").names == ("a",)
    first = (tmp_path / "out/a.csv").read_bytes()

    tracker = template_tracker(lost=range(256))  # keeps nothing of what it labels
    report = label(tmp_path / "a", tmp_path / "b", tracker=tracker)
    assert (tmp_path / "out/a.csv").read_bytes() == first
    assert report.results == {"labeled": 1, "nothing kept": 1}


def test_other_settings_are_refused(label, write_scene, tmp_path) -> None:
    write_scene(tmp_path / "a")
    label(tmp_path / "a", settings={"weights": "one"})
    with pytest.raises(OutputError, match="another weights"):
        label(tmp_path / "a", settings={"weights": "two"})


def test_a_folder_of_something_else_is_refused(label, write_scene, tmp_path) -> None:
    write_scene(tmp_path / "a")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/letter.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds something else"):
        label(tmp_path / "a")


def test_a_file_is_refused(label, write_scene, tmp_path) -> None:
    write_scene(tmp_path / "a")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        label(tmp_path / "a")


@pytest.mark.parametrize(("text", "says"), [("{", "cannot be read"), ("{}", "not of pseudo")])
def test_settings_of_something_else_are_refused(label, write_scene, tmp_path, text, says) -> None:
    write_scene(tmp_path / "a")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/settings.json").write_text(text)
    with pytest.raises(OutputError, match=says):
        label(tmp_path / "a")


def test_the_same_name_for_another_clip_is_refused(label, write_scene, tmp_path) -> None:
    write_scene(tmp_path / "one/a", frames=3)
    write_scene(tmp_path / "two/a", frames=3)
    label(tmp_path / "one/a")
    with pytest.raises(OutputError, match="is that of"):
        label(tmp_path / "two/a")


def test_a_damaged_report_is_named(label, write_scene, tmp_path) -> None:
    write_scene(tmp_path / "a", frames=3)
    label(tmp_path / "a")
    (tmp_path / "out/reports/a.json").write_text("[]")
    with pytest.raises(OutputError, match=r"a\.json cannot be read"):
        label(tmp_path / "a")


def test_an_unreadable_clip_is_left_out_and_tried_again(
    label, write_scene, tmp_path, caplog
) -> None:
    write_scene(tmp_path / "good")
    write_scene(tmp_path / "bad")
    picture = (tmp_path / "bad/8.png").read_bytes()
    for number in range(30):
        (tmp_path / f"bad/{number}.png").write_bytes(b"")
    report = label(tmp_path / "bad", tmp_path / "good")
    assert report.results == {"labeled": 1, "unreadable": 1}
    assert "clip bad is left out" in caplog.text
    assert open_dataset(f"folder:{tmp_path / 'out'}").names == ("good",)

    for number in range(30):
        (tmp_path / f"bad/{number}.png").write_bytes(picture)
    assert label(tmp_path / "bad", tmp_path / "good").results == {"labeled": 1, "no motion": 1}


def test_clips_are_copied_where_links_are_refused(
    label, write_scene, tmp_path, monkeypatch
) -> None:
    def refuse(*paths):
        raise OSError("no links here")

    monkeypatch.setattr("os.symlink", refuse)
    write_scene(tmp_path / "a")
    label(tmp_path / "a")
    copy = tmp_path / "out/a/0.png"
    assert copy.read_bytes() == (tmp_path / "a/0.png").read_bytes() and not copy.is_symlink()


def test_a_clip_among_its_labels_is_not_replaced(write_scene, template_tracker, tmp_path) -> None:
    write_scene(tmp_path / "first")
    out = tmp_path / "out"
    pseudo_label({"first": tmp_path / "first"}, out, template_tracker(), CONFIG)
    write_scene(out / "mine")
    pseudo_label({"mine": out / "mine"}, out, template_tracker(), CONFIG)
    assert (out / "mine/0.png").is_file() and not (out / "mine/0.png").is_symlink()


@pytest.mark.parametrize("option", ["max_boxes", "max_frames", "every", "samples", "min_run"])
def test_options_out_of_range_are_refused(option) -> None:
    with pytest.raises(ConfigError, match=option):
        PseudoLabelConfig(**{option: 0})


# -- Which clips


def test_clips_are_found_in_folders_and_by_patterns(write_scene, write_clip, tmp_path) -> None:
    write_scene(tmp_path / "in/deep/pictures", frames=2)
    write_clip(tmp_path / "in/a.mp4", 2)
    write_clip(tmp_path / "in/b.mp4", 2)
    assert sorted(find_clips([str(tmp_path / "in")])) == ["a", "b", "pictures"]
    assert sorted(find_clips([str(tmp_path / "in/*.mp4")])) == ["a", "b"]
    assert list(find_clips([str(tmp_path / "in/a.mp4")] * 2)) == ["a"]


def test_labels_among_the_clips_are_no_clips(write_scene, write_clip, tmp_path) -> None:
    write_clip(tmp_path / "a.mp4", 2)
    write_scene(tmp_path / "out/a", frames=2)
    assert list(find_clips([str(tmp_path)], tmp_path / "out")) == ["a"]
    with pytest.raises(DatasetError, match="matches no clip"):
        find_clips([str(tmp_path / "out")], tmp_path / "out")


@pytest.mark.parametrize("pattern", ["none.mp4", "*.mp4", "empty", "notes.txt"])
def test_what_matches_no_clip_is_named(pattern, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no clip")
    with pytest.raises(DatasetError, match="matches no clip"):
        find_clips([str(tmp_path / pattern)])


def test_two_clips_of_one_name_are_refused(write_clip, tmp_path) -> None:
    write_clip(tmp_path / "one/a.mp4", 2)
    write_clip(tmp_path / "two/a.mp4", 2)
    with pytest.raises(DatasetError, match="same name"):
        find_clips([str(tmp_path / "one"), str(tmp_path / "two")])


def test_names_of_the_labels_own_folders_are_refused(write_scene, tmp_path) -> None:
    write_scene(tmp_path / "reports", frames=2)
    with pytest.raises(DatasetError, match="name that the labels need"):
        find_clips([str(tmp_path / "reports")])


# -- The command


def test_the_command_says_what_was_kept(
    write_scene, template_tracker, tmp_path, monkeypatch, capsys
) -> None:
    asked = []

    def load(*weights, **options):
        asked.append((weights, options))
        return template_tracker()

    monkeypatch.setattr(siamtrack, "load", load, raising=False)
    write_scene(tmp_path / "patch")
    out = tmp_path / "out"
    arguments = ["pseudo-label", str(tmp_path / "patch"), "--out", str(out), "--engine", "onnx"]
    assert main([*arguments, "--set", "min_peak=0.2", "--max-boxes", "1"]) == 0
    assert asked == [((None,), {"device": "auto", "engine": "onnx", "min_peak": 0.2})]
    said = capsys.readouterr().out
    kept = read_report(out, "patch")["start_boxes"][0]["kept"]
    assert "1 clips (1 labeled); 1 of 1 start boxes kept, as 1 targets" in said
    assert f"{kept} of 30 tracked frames" in said
    assert json.loads((out / "settings.json").read_text())["weights"] == "siamtrack-lite0"


def test_the_command_refuses_clips_that_are_not_there(tmp_path, capsys) -> None:
    assert main(["pseudo-label", str(tmp_path / "x.mp4"), "--out", str(tmp_path / "out")]) == 3
    assert "matches no clip" in capsys.readouterr().err
