"""Pictures that a phone stores turned: boxes are those of the picture as it is shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from siamtrack.data.check import check_dataset
from siamtrack.data.datasets import open_dataset

UPRIGHT_WH = (40, 24)
BOX = (6.0, 4.0, 20.0, 10.0)  # on the upright picture


def save_turned(path: Path, orientation: int) -> None:
    """A picture with a white box, stored so that it has to be turned."""
    width, height = UPRIGHT_WH
    shown = np.zeros((height, width), np.uint8)
    x, y, w, h = map(int, BOX)
    shown[y : y + h, x : x + w] = 255
    stored = {6: np.rot90(shown, 1), 8: np.rot90(shown, -1), 3: shown[::-1, ::-1], 1: shown}
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.ascontiguousarray(stored[orientation])).save(
        path, exif=exif, quality=100
    )


def write_set(root: Path, kind: str, box: tuple[float, ...], stated_wh: tuple[int, int]) -> str:
    """Write the annotation of the picture `0.jpg`; returns the name of the data set."""
    (x, y, w, h), (width, height) = box, stated_wh
    if kind == "yolo":
        line = f"0 {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height}\n"
        (root / "0.txt").write_text(line)
    elif kind == "coco":
        images = [{"id": 1, "file_name": "0.jpg", "width": width, "height": height}]
        objects = [{"id": 1, "image_id": 1, "bbox": list(box), "category_id": 1}]
        content = {"images": images, "annotations": objects, "categories": []}
        (root / "a.json").write_text(json.dumps(content))
    else:
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (x + 1, y + 1, x + w, y + h), strict=True)
        (root / "0.xml").write_text(
            f"<annotation><filename>0.jpg</filename><size><width>{width}</width>"
            f"<height>{height}</height></size><object><name>x</name><bndbox>"
            + "".join(f"<{name}>{value:g}</{name}>" for name, value in corners)
            + "</bndbox></object></annotation>"
        )
    return f"{kind}:{root}"


@pytest.mark.parametrize("kind", ["yolo", "coco", "voc"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_boxes_are_on_the_picture_as_it_is_shown(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    save_turned(tmp_path / "0.jpg", orientation)
    name = write_set(tmp_path, kind, BOX, UPRIGHT_WH)
    sequence = open_dataset(name)[0]
    image = sequence.read(0)
    assert image.shape == (*UPRIGHT_WH[::-1], 3)
    x, y, w, h = np.round(sequence.boxes[0]).astype(int)
    assert image[y : y + h, x : x + w].mean() > 250
    assert image.sum() / image[y : y + h, x : x + w].sum() < 1.03
    assert check_dataset(name) == check_dataset(name, quick=True) == []


@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_an_annotation_of_the_stored_size_is_on_the_stored_picture(
    tmp_path: Path, kind: str
) -> None:
    save_turned(tmp_path / "0.jpg", 6)
    sequence = open_dataset(write_set(tmp_path, kind, (4, 14, 10, 20), UPRIGHT_WH[::-1]))[0]
    image = sequence.read(0)
    assert image.shape == (*UPRIGHT_WH, 3)
    assert image[14:34, 4:14].mean() > 250


def test_a_picture_that_is_none_is_reported_and_not_raised(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_text("none")
    (problem,) = check_dataset(write_set(tmp_path, "coco", BOX, UPRIGHT_WH))
    assert problem.kind == "unreadable-picture"
