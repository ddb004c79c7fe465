"""The ten benchmarks, each in its layout, written here from known boxes.

`TRUTH` holds the boxes, counting pixels from 0; every writer stores them as the benchmark does. The
got10k toolkit reads the same files as a reference wherever it works at all.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from got10k import datasets as toolkit

from siamtrack.data.datasets import open_dataset
from siamtrack.data.formats.benchmarks import otb_folders
from siamtrack.data.sequence import Dataset, VideoSequence
from siamtrack.errors import ConfigError, DatasetError

Writer = Callable[..., None]

NAN = (np.nan,) * 4
TRUTH = np.array(
    [[0, 0, 10, 12], [4, 6, 11, 12], [9, 7, 10, 13], [14, 9, 10, 12], [20, 9, 9, 9]], float
)


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, in which no reader may leave anything."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return elsewhere


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def put(path: Path, rows: np.ndarray, *, base: int, separator: str = ",") -> None:
    """Write boxes, counting from `base`."""
    shifted = np.asarray(rows, float) + np.array([base, base, 0, 0])
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (separator.join(f"{v:g}" for v in row) for row in shifted)
    path.write_text("\n".join(lines) + "\n")


def only(dataset: Dataset) -> VideoSequence:
    assert len(dataset) == 1
    return dataset[0]


def toolkit_reads(
    cls: type, root: Path, index: int = 0, **options: object
) -> tuple[list[str], np.ndarray]:
    """Files and rows of the toolkit's own reader."""
    with contextlib.redirect_stdout(io.StringIO()):
        return cls(str(root), **options)[index]


def assert_same_as_toolkit(
    sequence: VideoSequence, files: list[str], rows: np.ndarray, base: int
) -> None:
    assert [str(sequence.frames.path(i)) for i in range(len(sequence))] == list(files)
    seen = sequence.visible
    moved = sequence.boxes + np.array([base, base, 0, 0])
    np.testing.assert_allclose(moved[seen], np.asarray(rows)[seen])


def kinds(error: DatasetError) -> list[str]:
    return [problem.kind for problem in error.problems]


# GOT-10k


def write_got10k(root: Path, write_pictures: Writer, subset: str = "val", rows=TRUTH) -> Path:
    folder = root / subset / "GOT-10k_Val_000001"
    write_pictures(folder, len(TRUTH))
    put(folder / "groundtruth.txt", rows, base=1)
    (folder / "meta_info.ini").write_text("[METAINFO]\nobject_class: brown bear\nresolution: x\n")
    (root / subset / "list.txt").write_text(f"{folder.name}\n")
    return folder


def test_got10k(root: Path, write_pictures: Writer) -> None:
    folder = write_got10k(root, write_pictures)
    (folder / "absence.label").write_text("0\n0\n1\n0\n0\n")
    (folder / "cover.label").write_text("8\n7\n0\n0\n1\n")
    (folder / "cut_by_image.label").write_text("0\n" * 5)
    sequence = only(open_dataset(f"got10k:{root}?subset=val"))
    assert sequence.visible.tolist() == [True, True, False, False, True]
    np.testing.assert_allclose(sequence.boxes[[0, 1, 4]], TRUTH[[0, 1, 4]])
    assert np.isnan(sequence.boxes[2:4]).all()
    assert (sequence.class_name, sequence.fps, sequence.set_name) == ("brown bear", 10.0, "got10k")
    assert sequence.read(2).mean() == pytest.approx(20, abs=1)
    assert_same_as_toolkit(sequence, *toolkit_reads(toolkit.GOT10k, root, subset="val"), base=1)


def test_got10k_without_flags_goes_by_the_boxes(root: Path, write_pictures: Writer) -> None:
    rows = TRUTH.copy()
    rows[3] = -2, -2, -1, -1
    folder = write_got10k(root, write_pictures, rows=rows)
    (folder / "meta_info.ini").unlink()
    sequence = only(open_dataset(f"got10k:{root}?subset=val"))
    assert sequence.visible.tolist() == [True, True, True, False, True]
    assert sequence.class_name == ""


def test_got10k_test_has_one_box(root: Path, write_pictures: Writer) -> None:
    write_got10k(root, write_pictures, "test", TRUTH[:1])
    sequence = only(open_dataset(f"got10k:{root}?subset=test"))
    assert len(sequence) == 5
    assert sequence.visible.tolist() == [True] + [False] * 4
    assert sequence.meta["first_box_only"]


def test_boxes_can_be_declared_to_count_from_0(root: Path, write_pictures: Writer) -> None:
    write_got10k(root, write_pictures)
    sequence = only(open_dataset(f"got10k:{root}?subset=val&first_pixel=0"))
    np.testing.assert_allclose(sequence.boxes[:, :2], TRUTH[:, :2] + 1)
    with pytest.raises(ConfigError, match="unknown first_pixel of got10k '2'"):
        open_dataset(f"got10k:{root}?subset=val&first_pixel=2")


def test_got10k_needs_its_list(root: Path, write_pictures: Writer) -> None:
    write_got10k(root, write_pictures)
    with pytest.raises(DatasetError, match=r"train/list\.txt: does not exist"):
        open_dataset(f"got10k:{root}")
    (root / "val" / "list.txt").write_text("\n")
    with pytest.raises(DatasetError, match=r"val/list\.txt: lists no sequence"):
        open_dataset(f"got10k:{root}?subset=val")


def test_all_missing_sequences_are_listed_at_once(root: Path, write_pictures: Writer) -> None:
    folder = write_got10k(root, write_pictures)
    bare = root / "val" / "bare"
    bare.mkdir()
    (root / "val" / "list.txt").write_text(f"{folder.name}\ngone\nbare\n")
    with pytest.raises(DatasetError) as caught:
        open_dataset(f"got10k:{root}?subset=val")
    assert [(p.kind, p.path) for p in caught.value.problems] == [
        ("missing-folder", root / "val" / "gone"),
        ("missing-annotation", root / "val" / "gone" / "groundtruth.txt"),
        ("missing-annotation", bare / "groundtruth.txt"),
    ]
    assert open_dataset(f"got10k:{root}?subset=val&partial=1").names == (folder.name,)


def test_flags_must_match_the_boxes(root: Path, write_pictures: Writer) -> None:
    folder = write_got10k(root, write_pictures)
    (folder / "absence.label").write_text("0\n" * 4)
    with pytest.raises(DatasetError, match="4 flags of visibility beside it for 5 boxes") as caught:
        only(open_dataset(f"got10k:{root}?subset=val"))
    assert kinds(caught.value) == ["count-differs"]
    (folder / "cover.label").write_text("8\n" * 5)
    with pytest.raises(DatasetError, match=r"cover\.label has 5 flags, 4 are needed"):
        only(open_dataset(f"got10k:{root}?subset=val"))
    (folder / "cover.label").write_text("eight\n")
    with pytest.raises(DatasetError, match="eight"):
        only(open_dataset(f"got10k:{root}?subset=val"))


def test_numbers_of_images_and_boxes_are_reported(root: Path, write_pictures: Writer) -> None:
    folder = write_got10k(root, write_pictures)
    (folder / "00000003.jpg").unlink()
    with pytest.raises(DatasetError, match=r"has 5 boxes; .* has 4 pictures") as caught:
        only(open_dataset(f"got10k:{root}?subset=val"))
    assert kinds(caught.value) == ["count-differs"]
    for picture in folder.glob("*.jpg"):
        picture.unlink()
    with pytest.raises(DatasetError, match="has 0 pictures"):
        only(open_dataset(f"got10k:{root}?subset=val"))


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "is empty"), ("1,2,3,x\n" * 5, "cannot be understood"), ("1,2,3\n" * 5, "as many")],
)
def test_broken_boxes_are_reported(
    root: Path, write_pictures: Writer, text: str, message: str
) -> None:
    folder = write_got10k(root, write_pictures)
    (folder / "groundtruth.txt").write_text(text)
    with pytest.raises(DatasetError, match=message) as caught:
        only(open_dataset(f"got10k:{root}?subset=val"))
    assert caught.value.problems[0].path == folder / "groundtruth.txt"


# OTB


def write_otb(root: Path, write_pictures: Writer) -> None:
    for name in otb_folders(2013):
        loaded = name in ("Basketball", "Boy", "Jogging")
        count = 76 if name == "Football1" else 5 if loaded else 1
        write_pictures(root / name / "img", count, "%04d.jpg")
        boxes = np.tile(TRUTH, (16, 1))[: min(count, 74)]
        put(root / name / "groundtruth_rect.txt", boxes, base=1)
    for name in ("David", "Freeman3", "Freeman4"):
        # Their frame ranges are long; these tests do without them.
        (root / name / "groundtruth_rect.txt").write_text("\n")
    put(root / "Boy" / "groundtruth_rect.txt", TRUTH, base=1, separator="\t")
    (root / "Jogging" / "groundtruth_rect.txt").unlink()
    put(root / "Jogging" / "groundtruth_rect.1.txt", TRUTH, base=1)
    put(root / "Jogging" / "groundtruth_rect.2.txt", TRUTH[::-1], base=1)


def test_otb(root: Path, write_pictures: Writer) -> None:
    write_otb(root, write_pictures)
    with pytest.raises(DatasetError, match="David: has no groundtruth_rect"):
        open_dataset(f"otb:{root}?version=2013")
    dataset = open_dataset(f"otb:{root}?version=2013&partial=1")
    assert len(dataset) == 50 + 1 - 3
    with contextlib.redirect_stdout(io.StringIO()):
        reference = toolkit.OTB(str(root), 2013, download=False)
    for name in ("Basketball", "Boy", "Football1", "Jogging.1", "Jogging.2"):
        assert_same_as_toolkit(dataset[name], *reference[name], base=1)
    np.testing.assert_allclose(dataset["Boy"].boxes, TRUTH)
    np.testing.assert_allclose(dataset["Jogging.2"].boxes, TRUTH[::-1])
    assert len(dataset["Football1"]) == 74
    assert len(dataset["Bolt"]) == 1  # the toolkit takes four numbers for four boxes


def test_otb_lists_what_is_missing_and_downloads_nothing(
    root: Path, write_pictures: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("went to the network")

    monkeypatch.setattr("wget.download", forbidden)
    write_pictures(root / "Boy" / "img", 5)
    put(root / "Boy" / "groundtruth_rect.txt", TRUTH, base=1)
    with pytest.raises(DatasetError) as caught:
        open_dataset(f"otb:{root}")
    assert kinds(caught.value) == ["missing-folder"] * 97
    assert root / "Skating2" in {p.path for p in caught.value.problems}
    assert open_dataset(f"otb:{root}?partial=1").names == ("Boy",)
    with pytest.raises(ConfigError, match="unknown version of otb 'tb10'; did you mean 'tb100'"):
        open_dataset(f"otb:{root}?version=tb10")


# VOT


@pytest.mark.parametrize("color", ["", "color"])
def test_vot(root: Path, write_pictures: Writer, color: str) -> None:
    write_pictures(root / "bag" / color, 3)
    corners = ["30,10,40,20,30,30,20,20", "nan," * 7 + "nan", "1.5,2,4,2,4,7.5,1.5,7.5"]
    (root / "bag" / "groundtruth.txt").write_text("\n".join(corners))
    (root / "list.txt").write_text("bag\n")
    sequence = only(open_dataset(f"vot:{root}"))
    expected = np.array([[20, 10, 20, 20], NAN, [1.5, 2, 2.5, 5.5]])
    np.testing.assert_allclose(sequence.boxes, expected)
    assert sequence.visible.tolist() == [True, False, True]
    assert sequence.read(1).mean() == pytest.approx(10, abs=1)


def test_vot_with_rectangles(root: Path, write_pictures: Writer) -> None:
    write_pictures(root / "bag", 5)
    put(root / "bag" / "groundtruth.txt", TRUTH, base=0)
    (root / "list.txt").write_text("bag\n")
    sequence = only(open_dataset(f"vot:{root}"))
    np.testing.assert_allclose(sequence.boxes, TRUTH)
    assert_same_as_toolkit(sequence, *toolkit_reads(toolkit.VOT, root, download=False), base=0)
    (root / "list.txt").unlink()
    with pytest.raises(DatasetError, match=r"list\.txt: does not exist"):
        open_dataset(f"vot:{root}")


# LaSOT


@pytest.mark.parametrize("nested", [True, False])
def test_lasot(root: Path, write_pictures: Writer, nested: bool) -> None:
    folder = root / "airplane" / "airplane-10" if nested else root / "airplane-10"
    write_pictures(folder / "img", 5)
    rows = TRUTH.copy()
    rows[4] = 0, 0, 0, 0
    put(folder / "groundtruth.txt", rows, base=1)
    (folder / "full_occlusion.txt").write_text("0,1,0,0,0")
    (folder / "out_of_view.txt").write_text("0,0,1,0,0")
    with pytest.raises(DatasetError) as caught:
        open_dataset(f"lasot:{root}")
    assert kinds(caught.value) == ["missing-folder", "missing-annotation"] * 1119
    sequence = only(open_dataset(f"lasot:{root}?partial=1"))
    assert sequence.name == "airplane-10"
    assert sequence.class_name == "airplane"
    assert sequence.visible.tolist() == [True, False, False, True, False]
    np.testing.assert_allclose(sequence.boxes[[0, 3]], TRUTH[[0, 3]])
    with pytest.raises(DatasetError, match="airplane-1"):
        open_dataset(f"lasot:{root}?subset=test")


# TrackingNet


def test_trackingnet(root: Path, write_pictures: Writer) -> None:
    write_pictures(root / "TRAIN_0" / "frames" / "abc_0", 12, "%d.jpg", first=0)
    boxes = np.tile(TRUTH, (3, 1))[:12] + 0.25
    put(root / "TRAIN_0" / "anno" / "abc_0.txt", boxes, base=0)
    with pytest.raises(DatasetError, match="TRAIN_1/anno: does not exist") as caught:
        open_dataset(f"trackingnet:{root}")
    assert kinds(caught.value) == ["missing-folder"] * 22
    sequence = only(open_dataset(f"trackingnet:{root}?partial=1"))
    np.testing.assert_allclose(sequence.boxes, boxes)
    assert sequence.frames.path(9).name == "9.jpg"
    assert sequence.frames.path(10).name == "10.jpg"


def test_trackingnet_test_has_one_box(root: Path, write_pictures: Writer) -> None:
    write_pictures(root / "TEST" / "frames" / "abc_0", 3, "%d.jpg", first=0)
    put(root / "TEST" / "anno" / "abc_0.txt", TRUTH[:1], base=0)
    sequence = only(open_dataset(f"trackingnet:{root}?subset=test"))
    assert sequence.visible.tolist() == [True, False, False]
    (root / "TEST" / "frames" / "def_0").mkdir()
    with pytest.raises(DatasetError, match="def_0: is a sequence without a file of boxes"):
        open_dataset(f"trackingnet:{root}?subset=test")


# ImageNet-VID


def write_snippet(folder: Path, frames: list[dict[int, np.ndarray]]) -> None:
    folder.mkdir(parents=True)
    for number, objects in enumerate(frames):
        parts = []
        for track, (x, y, w, h) in objects.items():
            corners = zip(
                ("xmin", "ymin", "xmax", "ymax"), (x, y, x + w - 1, y + h - 1), strict=True
            )
            box = "".join(f"<{name}>{value:g}</{name}>" for name, value in corners)
            parts.append(
                f"<object><trackid>{track}</trackid><name>n0208{track}</name>"
                f"<bndbox>{box}</bndbox></object>"
            )
        (folder / f"{number:06d}.xml").write_text(f"<annotation>{''.join(parts)}</annotation>")


@pytest.mark.parametrize(
    ("subset", "inside"),
    [("train", "ILSVRC2015_VID_train_0000/ILSVRC2015_a"), ("val", "ILSVRC2015_val_0")],
)
def test_vid(
    root: Path, write_pictures: Writer, subset: str, inside: str, somewhere_else: Path
) -> None:
    a, b, _, c, d = TRUTH
    frames = [{0: a}, {0: b, 1: d}, {1: c}, {0: c}, {5: a}]
    write_snippet(root / "Annotations" / "VID" / subset / inside, frames)
    write_pictures(root / "Data" / "VID" / subset / inside, 5, "%06d.JPEG", first=0)
    dataset = open_dataset(f"vid:{root}?subset={subset}")
    name = Path(inside).name
    assert dataset.names == (f"{name}.0", f"{name}.1")
    first, second = dataset
    np.testing.assert_allclose(first.boxes, np.array([TRUTH[0], TRUTH[1], NAN, TRUTH[3]]))
    np.testing.assert_allclose(second.boxes, TRUTH[[4, 3]])
    assert (first.class_name, second.class_name) == ("n02080", "n02081")
    assert first.read(3).mean() == pytest.approx(30, abs=1)
    assert second.image_key(0) == first.image_key(1)
    assert list(somewhere_else.iterdir()) == []
    files, rows = toolkit_reads(toolkit.ImageNetVID, root, subset=subset)
    assert [Path(f).name for f in files] == ["000000.JPEG", "000001.JPEG", "000003.JPEG"]
    np.testing.assert_allclose(rows, np.array([a, b, c]))
    assert_same_as_toolkit(
        second, *toolkit_reads(toolkit.ImageNetVID, root, 1, subset=subset), base=0
    )


def test_vid_names_annotations_it_cannot_read(root: Path, write_pictures: Writer) -> None:
    folder = root / "Annotations" / "VID" / "val" / "ILSVRC2015_val_0"
    write_snippet(folder, [{0: TRUTH[0]}, {0: TRUTH[1]}, {0: TRUTH[2]}, {0: TRUTH[2]}])
    (folder / "000002.xml").write_text("<annotation>")
    (folder / "000003.xml").write_text("<a><object><name>x</name></object></a>")
    with pytest.raises(DatasetError) as caught:
        open_dataset(f"vid:{root}?subset=val")
    found = {(p.kind, p.path.name) for p in caught.value.problems}
    assert ("bad-annotation", "000002.xml") in found
    assert ("bad-annotation", "000003.xml") in found
    assert ("missing-folder", "val") in found
    assert ("missing-folder", "ILSVRC2015_val_0") in found
    assert "an object lacks trackid" in " ".join(map(str, caught.value.problems))


# NfS


def put_vatic(path: Path, rows: np.ndarray, lost: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f'0 {x:g} {y:g} {x + w:g} {y + h:g} {n} {lost[n]} 0 0 "ball"'
        for n, (x, y, w, h) in enumerate(rows)
    ]
    path.write_text("\n".join(lines) + "\n")


def test_nfs(root: Path, write_pictures: Writer) -> None:
    write_pictures(root / "ball" / "240" / "ball", 5, "%05d.jpg")
    put_vatic(root / "ball" / "240" / "ball.txt", TRUTH, [0, 0, 1, 0, 0])
    sequence = only(open_dataset(f"nfs:{root}"))
    assert sequence.visible.tolist() == [True, True, False, True, True]
    assert_same_as_toolkit(sequence, *toolkit_reads(toolkit.NfS, root, fps=240), base=0)
    np.testing.assert_allclose(sequence.boxes[[0, 4]], TRUTH[[0, 4]])
    assert sequence.fps == 240


def test_nfs_at_30_fps_takes_every_eighth_row(root: Path, write_pictures: Writer) -> None:
    write_pictures(root / "ball" / "30" / "ball", 5, "%05d.jpg")
    rows = np.repeat(TRUTH, 8, axis=0)[:38]
    lost = [0] * 16 + [1] * 8 + [0] * 14
    put_vatic(root / "ball" / "30" / "ball.txt", rows, lost)
    sequence = only(open_dataset(f"nfs:{root}?fps=30"))
    assert sequence.visible.tolist() == [True, True, False, True, True]
    np.testing.assert_allclose(sequence.boxes[[0, 1, 3, 4]], TRUTH[[0, 1, 3, 4]])
    assert sequence.fps == 30
    (root / "dog" / "30" / "dog").mkdir(parents=True)
    with pytest.raises(DatasetError, match="dog: is a sequence without a file of boxes"):
        open_dataset(f"nfs:{root}?fps=30")


# UAV123


def test_uav123(root: Path, write_pictures: Writer) -> None:
    ranges = json.loads(Path(toolkit.__file__).with_name("uav123.json").read_text())["UAV123"]
    later = min(
        (n for n in ranges if ranges[n]["start_frame"] > 1),
        key=lambda n: ranges[n]["end_frame"] - ranges[n]["start_frame"],
    )
    expected = {}
    for name in ("uav6", later):
        first, last = ranges[name]["start_frame"], ranges[name]["end_frame"]
        folder = root / "data_seq" / "UAV123" / ranges[name]["folder_name"]
        write_pictures(folder, last - first + 1, "%06d.jpg", first=first)
        boxes = np.tile(TRUTH, (400, 1))[: last - first + 1].copy()
        boxes[7] = NAN
        put(root / "anno" / "UAV123" / f"{name}.txt", boxes, base=1)
        expected[name] = boxes
    put(root / "anno" / "UAV123" / "notes.txt", TRUTH, base=1)
    dataset = open_dataset(f"uav123:{root}?partial=1")
    assert dataset.names == tuple(sorted(expected))
    for name, boxes in expected.items():
        np.testing.assert_allclose(dataset[name].boxes, boxes)
        assert not dataset[name].visible[7]
    assert dataset[later].frames.path(0).name == f"{ranges[later]['start_frame']:06d}.jpg"
    (root / "data_seq" / "UAV123" / "uav6" / "000050.jpg").unlink()
    (root / "data_seq" / "UAV123" / "uav6" / "000052.jpg").unlink()
    with pytest.raises(DatasetError, match=r"000050\.jpg: does not exist; .*000052") as caught:
        dataset["uav6"]
    assert kinds(caught.value) == ["missing-picture"] * 2
    with pytest.raises(DatasetError) as caught:
        open_dataset(f"uav123:{root}?version=UAV20L")
    assert kinds(caught.value).count("missing-annotation") == 20


# DTB70 and TColor128


def test_dtb70(root: Path, write_pictures: Writer) -> None:
    write_pictures(root / "Animal1" / "img", 5, "%05d.jpg")
    put(root / "Animal1" / "groundtruth_rect.txt", TRUTH, base=1)
    sequence = only(open_dataset(f"dtb70:{root}"))
    np.testing.assert_allclose(sequence.boxes, TRUTH)
    assert_same_as_toolkit(sequence, *toolkit_reads(toolkit.DTB70, root), base=1)
    (root / "Animal2").mkdir()
    with pytest.raises(DatasetError, match="Animal2: is a sequence without a file of boxes"):
        open_dataset(f"dtb70:{root}")


def test_tcolor128(root: Path, write_pictures: Writer) -> None:
    folder = root / "Ball_ce"
    write_pictures(folder / "img", 8, "%04d.jpg")
    put(folder / "Ball_ce_gt.txt", TRUTH, base=1)
    (folder / "Ball_ce_frames.txt").write_text("3,7\n")
    sequence = only(open_dataset(f"tcolor128:{root}"))
    np.testing.assert_allclose(sequence.boxes, TRUTH)
    assert sequence.frames.path(0).name == "0003.jpg"
    assert_same_as_toolkit(
        sequence, *toolkit_reads(toolkit.TColor128, root, download=False), base=1
    )
    (folder / "Ball_ce_frames.txt").unlink()
    with pytest.raises(DatasetError, match="the range of annotated frames"):
        open_dataset(f"tcolor128:{root}")
    with pytest.raises(DatasetError, match="cannot be understood"):
        only(open_dataset(f"tcolor128:{root}?partial=1"))


# All of them


def test_a_benchmark_can_be_pickled(root: Path, write_pictures: Writer) -> None:
    write_got10k(root, write_pictures)
    copy = pickle.loads(pickle.dumps(open_dataset(f"got10k:{root}?subset=val")))
    np.testing.assert_allclose(copy[0].boxes, TRUTH)


def test_nothing_is_printed_or_left_behind(
    root: Path, write_pictures: Writer, capsys: pytest.CaptureFixture[str], somewhere_else: Path
) -> None:
    write_otb(root, write_pictures)
    assert len(open_dataset(f"otb:{root}?version=2013&partial=1")["Boy"]) == 5
    assert capsys.readouterr() == ("", "")
    assert list(somewhere_else.iterdir()) == []


def test_the_toolkit_is_imported_only_for_its_tables() -> None:
    code = (
        "import sys, siamtrack.data.datasets, siamtrack.data.formats.benchmarks as b\n"
        "assert 'got10k' not in sys.modules\n"
        "assert len(b.otb_folders(2013)) == 50 and 'got10k' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_listed_name_that_leads_out_of_the_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "list.txt").write_text("a\n../../secret\n")
    with pytest.raises(DatasetError, match=r"names '../../secret', which is no folder below"):
        open_dataset(f"got10k:{tmp_path}?subset=val")
