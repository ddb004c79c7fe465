"""Still pictures with boxes: COCO, Pascal VOC and YOLO, written here in each layout."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siamtrack.data.datasets import open_dataset
from siamtrack.errors import ConfigError, DatasetError

Writer = Callable[..., Path]


def found(error: DatasetError) -> list[tuple[str, str]]:
    return [(problem.kind, problem.path.name) for problem in error.problems]


# COCO


def coco(**changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "images": [
            {"id": 11, "file_name": "a.jpg", "width": 64, "height": 48},
            {"id": 12, "file_name": "b.jpg", "width": 64, "height": 48},
        ],
        "categories": [{"id": 3, "name": "cup"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {"image_id": 11, "bbox": [1.5, 2, 10, 12.25], "category_id": 3},
            {"image_id": 12, "bbox": [0, 0, 64, 48], "category_id": 5},
            {"image_id": 11, "bbox": [20, 5, 8, 9], "category_id": 9},
            {"image_id": 11, "bbox": [0, 0, 60, 40], "category_id": 3, "iscrowd": 1},
        ],
    }
    return {**content, **changes}


def write_coco(
    root: Path,
    write_picture: Writer,
    content: Any = None,
    where: str = "annotations/instances_val.json",
    pictures: str = "val",
) -> Path:
    for name in ("a.jpg", "b.jpg"):
        write_picture(root / pictures / name)
    path = root / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(coco() if content is None else content))
    return path


@pytest.mark.parametrize(
    ("where", "pictures"),
    [
        ("annotations/instances_val.json", "val"),
        ("annotations/instances_val.json", "images/val"),
        ("annotations/instances_val.json", "images"),
        ("train/_annotations.coco.json", "train"),
        ("boxes.json", "."),
    ],
)
def test_coco(tmp_path: Path, write_picture: Writer, where: str, pictures: str) -> None:
    write_coco(tmp_path, write_picture, where=where, pictures=pictures)
    dataset = open_dataset(f"coco:{tmp_path}")
    assert dataset.names == ("a.jpg#0", "a.jpg#1", "b.jpg#0")
    first, second, third = dataset
    assert first.boxes.tolist() == [[1.5, 2, 10, 12.25]]
    assert third.boxes.tolist() == [[0, 0, 64, 48]]
    assert [s.class_name for s in dataset] == ["cup", "", "dog"]
    assert {s.kind for s in dataset} == {"image"}
    assert first.image_key() == second.image_key() != third.image_key()
    assert first.read(0).shape == (48, 64, 3)
    assert first.meta["picture_wh"] == (64, 48)
    assert len(pickle.loads(pickle.dumps(dataset))) == 3


def test_coco_options(tmp_path: Path, write_picture: Writer) -> None:
    write_coco(tmp_path, write_picture)
    write_coco(tmp_path, write_picture, coco(annotations=coco()["annotations"][:1]), "other.json")
    with pytest.raises(ConfigError, match=r"annotations= one of .*_val\.json, other\.json"):
        open_dataset(f"coco:{tmp_path}")
    assert len(open_dataset(f"coco:{tmp_path}?annotations=other.json&pictures=val")) == 1
    with pytest.raises(DatasetError, match=r"third\.json: does not exist"):
        open_dataset(f"coco:{tmp_path}?annotations=third.json")
    with pytest.raises(DatasetError, match="nowhere: does not exist"):
        open_dataset(f"coco:{tmp_path}?annotations=other.json&pictures=nowhere")


def test_coco_lists_missing_pictures(tmp_path: Path, write_picture: Writer) -> None:
    write_coco(tmp_path, write_picture)
    (tmp_path / "val" / "b.jpg").unlink()
    with pytest.raises(DatasetError, match="names it as 12") as caught:
        open_dataset(f"coco:{tmp_path}")
    assert found(caught.value) == [("missing-picture", "b.jpg")]
    assert len(open_dataset(f"coco:{tmp_path}?partial=1")) == 2
    (tmp_path / "val" / "a.jpg").unlink()
    with pytest.raises(DatasetError) as caught:
        open_dataset(f"coco:{tmp_path}")
    assert found(caught.value) == [("missing-picture", "a.jpg"), ("missing-picture", "b.jpg")]


def test_coco_lists_annotations_that_are_none(tmp_path: Path, write_picture: Writer) -> None:
    wrong = [
        {"image_id": 99, "bbox": [1, 2, 3, 4]},
        {"image_id": 11},
        {"image_id": 11, "bbox": [1, 2, 3]},
        {"image_id": 11, "bbox": [1, 2, 3, "4"]},
        "nonsense",
    ]
    content = coco(annotations=coco()["annotations"] + wrong)
    write_coco(tmp_path, write_picture, content)
    with pytest.raises(DatasetError, match=r"annotations\[4\] = .* names no picture") as caught:
        open_dataset(f"coco:{tmp_path}")
    assert found(caught.value) == [("bad-annotation", "instances_val.json")] * 5
    assert "annotations[5] = {'image_id': 11} has no bbox of 4 numbers" in str(
        caught.value.problems[1]
    )


def test_boxes_without_area_are_left_out_and_told(
    tmp_path: Path, write_picture: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    flat = [{"image_id": 11, "bbox": [1, 2, 3, 0], "category_id": 3}]
    write_coco(tmp_path, write_picture, coco(annotations=coco()["annotations"] + flat))
    dataset = open_dataset(f"coco:{tmp_path}")
    assert len(dataset) == 3
    assert [p.kind for p in dataset.problems] == ["degenerate-box"]
    assert "left out 1 degenerate-box" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not readable JSON"),
        ("[]", "is not COCO"),
        ('{"images": []}', "is not COCO"),
        ('{"images": [], "annotations": {}}', "is not COCO"),
        ('{"images": [], "annotations": []}', "holds no sequence"),
    ],
)
def test_coco_must_be_coco(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DatasetError, match=message):
        open_dataset(f"coco:{tmp_path}")


def test_coco_needs_an_annotation(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no \.json file"):
        open_dataset(f"coco:{tmp_path}")


# Pascal VOC


def voc_xml(filename: str, objects: str, size: str = "<width>64</width><height>48</height>") -> str:
    return f"<annotation><filename>{filename}</filename><size>{size}</size>{objects}</annotation>"


def voc_object(corners: tuple[Any, ...], name: str = "cat", extra: str = "") -> str:
    pairs = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in pairs)
    return f"<object><name>{name}</name>{extra}<bndbox>{box}</bndbox></object>"


def write_voc(root: Path, write_picture: Writer) -> None:
    for stem in ("000001", "000002"):
        write_picture(root / "JPEGImages" / f"{stem}.jpg")
        write_picture(root / "SegmentationClass" / f"{stem}.png")
    (root / "Annotations").mkdir()
    whole = voc_object((1, 1, 64, 48), "bus")
    part = voc_object((11, 6, 20, 35), extra="<difficult>1</difficult><truncated>0</truncated>")
    (root / "Annotations" / "000001.xml").write_text(voc_xml("000001.jpg", whole + part))
    (root / "Annotations" / "000002.xml").write_text(
        voc_xml("000002.jpg", voc_object((2, 3, 2, 3)))
    )
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "val.txt").write_text("000002  1\n")


def test_voc_counts_pixels_from_1_and_includes_the_last(
    tmp_path: Path, write_picture: Writer
) -> None:
    write_voc(tmp_path, write_picture)
    dataset = open_dataset(f"voc:{tmp_path}")
    whole, part, pixel = dataset
    assert whole.boxes.tolist() == [[0, 0, 64, 48]]
    assert part.boxes.tolist() == [[10, 5, 10, 30]]
    assert pixel.boxes.tolist() == [[1, 2, 1, 1]]
    assert [s.class_name for s in dataset] == ["bus", "cat", "cat"]
    assert [s.meta["difficult"] for s in dataset] == [False, True, False]
    assert whole.image_key() == part.image_key() != pixel.image_key()
    assert whole.meta["picture_wh"] == (64, 48)
    assert dataset.names[0] == "JPEGImages/000001.jpg#0"


def test_voc_can_count_from_0(tmp_path: Path, write_picture: Writer) -> None:
    write_voc(tmp_path, write_picture)
    part = open_dataset(f"voc:{tmp_path}?first_pixel=0")[1]
    assert part.boxes.tolist() == [[11, 6, 9, 29]]


def test_voc_subset(tmp_path: Path, write_picture: Writer) -> None:
    write_voc(tmp_path, write_picture)
    assert open_dataset(f"voc:{tmp_path}?subset=val").names == ("JPEGImages/000002.jpg#0",)
    with pytest.raises(DatasetError, match=r"test\.txt: cannot be read"):
        open_dataset(f"voc:{tmp_path}?subset=test")
    (tmp_path / "Annotations" / "000002.xml").unlink()
    with pytest.raises(DatasetError, match="lists it") as caught:
        open_dataset(f"voc:{tmp_path}?subset=val")
    assert found(caught.value) == [("missing-annotation", "000002.xml")]


def test_voc_files_may_lie_together(tmp_path: Path, write_picture: Writer) -> None:
    write_picture(tmp_path / "room" / "x.png")
    text = voc_xml("C:\\photos\\x.png", voc_object((1, 1, 5, 5)), size="")
    (tmp_path / "room" / "x.xml").write_text(text)
    dataset = open_dataset(f"voc:{tmp_path}")
    assert dataset.names == ("room/x.png#0",)
    assert "picture_wh" not in dataset[0].meta


def test_voc_lists_all_that_is_wrong(tmp_path: Path, write_picture: Writer) -> None:
    write_voc(tmp_path, write_picture)
    folder = tmp_path / "Annotations"
    (folder / "3.xml").write_text("<annotation>")
    (folder / "4.xml").write_text(voc_xml("4.jpg", voc_object((1, 1, 5, 5))))
    (folder / "000002.xml").write_text(voc_xml("000002.jpg", "<object><name>x</name></object>"))
    text = voc_xml("000001.jpg", voc_object((1, "one", 5, 5)))
    (folder / "000001.xml").write_text(text)
    write_picture(tmp_path / "JPEGImages" / "bare.jpg")
    with pytest.raises(DatasetError) as caught:
        open_dataset(f"voc:{tmp_path}?partial=1")
    assert sorted(found(caught.value)) == [
        ("bad-annotation", "000001.xml"),
        ("bad-annotation", "000002.xml"),
        ("bad-annotation", "3.xml"),
        ("missing-picture", "4.jpg"),
        ("unannotated-picture", "bare.jpg"),
    ]
    assert "lacks one of xmin, ymin, xmax, ymax" in " ".join(map(str, caught.value.problems))


# YOLO


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("layout", ["images/train/{}.jpg", "train/images/{}.jpg", "{}.jpg"])
def test_yolo(tmp_path: Path, write_picture: Writer, layout: str) -> None:
    for stem in ("2", "10"):
        write_picture(tmp_path / layout.format(stem))
    labels = layout.replace("images", "labels").replace(".jpg", ".txt")
    put(tmp_path / labels.format("2"), "0 0.5 0.5 0.25 0.5\n\n1 0.25 0.5 0.5 1 0.87\n")
    put(tmp_path / labels.format("10"), "7 0.25 0.25 0.75 0.25 0.75 0.5 0.5 0.125\n")
    put(tmp_path / "classes.txt", "cup\ndog\n")
    dataset = open_dataset(f"yolo:{tmp_path}")
    two, second, ten = dataset
    assert two.name == layout.format("2") + "#0"
    np.testing.assert_allclose(two.boxes, [[24, 12, 16, 24]])
    np.testing.assert_allclose(second.boxes, [[0, 0, 32, 48]])
    np.testing.assert_allclose(ten.boxes, [[16, 6, 32, 18]])
    assert [s.class_name for s in dataset] == ["cup", "dog", "7"]
    assert two.image_key() == second.image_key() != ten.image_key()


def test_yolo_subset(tmp_path: Path, write_picture: Writer) -> None:
    for subset in ("train", "val"):
        write_picture(tmp_path / "images" / subset / "a.jpg")
        put(tmp_path / "labels" / subset / "a.txt", "0 0.5 0.5 0.25 0.5\n")
    assert open_dataset(f"yolo:{tmp_path}?subset=val").names == ("images/val/a.jpg#0",)
    with pytest.raises(DatasetError, match="has no folder 'test'"):
        open_dataset(f"yolo:{tmp_path}?subset=test")


def test_yolo_lists_all_that_is_wrong(tmp_path: Path, write_picture: Writer) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    wrong = {
        "pixels": "0 320 200 50 40",
        "few": "0 0.5 0.5 0.25",
        "text": "cup 0.5 0.5 0.25 0.5",
        "odd": "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4",
        "nan": "0 nan 0.5 0.25 0.5",
    }
    for stem, text in {**wrong, "good": "0 0.5 0.5 0.25 0.5", "empty": ""}.items():
        write_picture(images / f"{stem}.jpg")
        put(labels / f"{stem}.txt", text)
    write_picture(images / "bare.jpg")
    put(images / "broken.jpg", "no picture")
    put(labels / "broken.txt", "0 0.5 0.5 0.25 0.5")
    put(labels / "lonely.txt", "0 0.5 0.5 0.25 0.5")
    put(tmp_path / "notes.txt", "about these pictures")
    put(tmp_path / "stray.txt", "0 0.5 0.5 0.25 0.5")
    dataset = open_dataset(f"yolo:{tmp_path}?partial=1")
    assert dataset.names == ("images/good.jpg#0",)
    assert sorted((p.kind, p.path.name) for p in dataset.problems) == [
        *(("bad-annotation", f"{stem}.txt") for stem in sorted(wrong)),
        ("missing-picture", "lonely.txt"),
        ("missing-picture", "stray.txt"),
        ("unannotated-picture", "bare.jpg"),
        ("unreadable-picture", "broken.jpg"),
    ]
