"""COCO: boxes, options, and everything that is wrong at once."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siamtrack.data.datasets import open_dataset
from siamtrack.errors import ConfigError, DatasetError

Writer = Callable[..., Path]


def found(error: DatasetError) -> list[tuple[str, str]]:
    return [(problem.kind, problem.path.name) for problem in error.problems]


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


def test_coco_lists_missing_images(tmp_path: Path, write_picture: Writer) -> None:
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


def test_boxes_without_area_are_left_out_and_reported(
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


@pytest.mark.parametrize("outside", ["../b.jpg", "val/../../b.jpg", "{root}/b.jpg"])
def test_a_picture_outside_of_the_folder_is_refused(
    tmp_path: Path, write_picture: Writer, outside: str
) -> None:
    root = tmp_path / "set"
    write_picture(tmp_path / "b.jpg")
    images = coco()["images"]
    images[1]["file_name"] = outside.format(root=tmp_path)
    write_coco(root, write_picture, coco(images=images))
    with pytest.raises(DatasetError, match="give a path below") as caught:
        open_dataset(f"coco:{root}")
    assert found(caught.value) == [("bad-annotation", "instances_val.json")]
