"""Pascal VOC: first pixel, subsets, and everything that is wrong at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siamtrack.data.datasets import open_dataset
from siamtrack.errors import DatasetError

Writer = Callable[..., Path]


def found(error: DatasetError) -> list[tuple[str, str]]:
    return [(problem.kind, problem.path.name) for problem in error.problems]


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


def test_a_listed_stem_that_leads_out_of_the_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("/etc/a 1\n")
    with pytest.raises(DatasetError, match="names '/etc/a', which is no file below"):
        open_dataset(f"voc:{tmp_path}?subset=train")
