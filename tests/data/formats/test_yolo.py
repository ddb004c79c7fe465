"""YOLO: layouts, outlines, and everything that is wrong at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from siamtrack.data.datasets import open_dataset
from siamtrack.errors import DatasetError

Writer = Callable[..., Path]


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
    write_picture(images / "background.jpg")
    write_picture(tmp_path / "bare" / "images" / "a.jpg")
    write_picture(images / "good.png")
    put(images / "broken.jpg", "no picture")
    put(labels / "broken.txt", "0 0.5 0.5 0.25 0.5")
    put(labels / "lonely.txt", "0 0.5 0.5 0.25 0.5")
    put(tmp_path / "notes.txt", "about these pictures")
    put(tmp_path / "stray.txt", "0 0.5 0.5 0.25 0.5")
    dataset = open_dataset(f"yolo:{tmp_path}?partial=1")
    assert dataset.names == ("images/good.jpg#0",)
    assert sorted((p.kind, p.path.name.replace("images", "bare")) for p in dataset.problems) == [
        *(("bad-annotation", f"{stem}.txt") for stem in sorted(wrong)),
        ("missing-picture", "lonely.txt"),
        ("missing-picture", "stray.txt"),
        ("unannotated-picture", "bare"),
        ("unannotated-picture", "good.png"),
        ("unreadable-picture", "broken.jpg"),
    ]


NAMES = [
    "names:\n  0: person\n  1: wine glass\n",
    "path: .\nnames:  # two\n\n- person   # first\n- 'wine glass'\nnc: 2\n",
    "names: ['person', \"wine glass\"]\n",
    "nc: 2\nnames: [ person, # first\n  wine glass ]  # all\nkeypoints: [1, 2]\n",
    "names: {0: person, 1: 'wine glass'}\n",
    'names:\n  "0": "person"\n  "1": wine glass\ntrain: x\n',
]


@pytest.mark.parametrize("text", NAMES)
def test_names_of_classes_come_from_the_yaml(
    tmp_path: Path, write_picture: Writer, text: str
) -> None:
    write_picture(tmp_path / "images" / "a.jpg")
    put(tmp_path / "labels" / "a.txt", "".join(f"{n} 0.5 0.5 0.25 0.5\n" for n in (1, 0, 2)))
    put(tmp_path / "aaa.yaml", "download: none\n")
    put(tmp_path / "data.yaml", text)
    dataset = open_dataset(f"yolo:{tmp_path}")
    assert [s.class_name for s in dataset] == ["wine glass", "person", "2"]


def test_background_pictures_are_no_problem(tmp_path: Path, write_picture: Writer) -> None:
    for stem in "abc":
        write_picture(tmp_path / "images" / "train" / f"{stem}.jpg")
    put(tmp_path / "labels" / "train" / "a.txt", "0 0.5 0.5 0.25 0.5\n")
    dataset = open_dataset(f"yolo:{tmp_path}")
    assert len(dataset) == 1 and dataset.problems == ()
