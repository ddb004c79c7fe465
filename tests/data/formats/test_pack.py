"""The siamtrack pack: one JSON file over pictures and clips."""

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


def image(file: str, box: Any, **more: Any) -> dict[str, Any]:
    return {"file": file, "box": box, "class": "cat", "set": "VOC", "label": "human", **more}


@pytest.fixture
def root(tmp_path: Path, write_picture: Writer, write_clip: Writer) -> Path:
    write_picture(tmp_path / "images" / "a.webp")
    write_picture(tmp_path / "images" / "b.webp")
    write_clip(tmp_path / "videos" / "c.mp4", 3)
    images = [
        image("images/a.webp", [1, 2, 3, 4]),
        image("images/b.webp", [5, 6, 7, 8], set="COCO", label="weak"),
        image("images/a.webp", [10.5, 20, 30, 20]),
    ]
    boxes = [[1, 2, 3, 4], None, [3, 4, 5, 6]]
    absent = [[None] * 4, [1, 2, 3, 4], [1, 2, 3, 4]]
    videos = [
        {"file": "videos/c.mp4", "boxes": boxes, "class": "dog", "set": "DAVIS", "label": "human"},
        {"file": "videos/c.mp4", "boxes": absent},
    ]
    (tmp_path / "tracks.json").write_text(json.dumps({"images": images, "videos": videos}))
    return tmp_path


def rewrite(root: Path, content: Any) -> None:
    (root / "tracks.json").write_text(content if isinstance(content, str) else json.dumps(content))


def test_pack(root: Path) -> None:
    dataset = open_dataset(f"pack:{root}")
    assert dataset.names == (
        "images/a.webp#0",
        "images/a.webp#1",
        "images/b.webp#0",
        "videos/c.mp4#0",
        "videos/c.mp4#1",
    )
    first, second, third, clip, other = dataset
    assert first.boxes.tolist() == [[1, 2, 3, 4]]
    assert second.boxes.tolist() == [[10.5, 20, 30, 20]]
    assert first.image_key() == second.image_key() != third.image_key()
    assert (third.set_name, third.class_name, third.meta["label"]) == ("COCO", "cat", "weak")
    assert clip.visible.tolist() == [True, False, True]
    assert other.visible.tolist() == [False, True, True]
    assert (clip.kind, clip.set_name, clip.class_name) == ("video", "DAVIS", "dog")
    assert (other.set_name, other.class_name, other.meta["label"]) == ("pack", "", "")
    assert clip.read(2).mean() == pytest.approx(40, abs=4.5)
    assert first.read(0).shape == (48, 64, 3)
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[3].boxes, clip.boxes)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ("only=images", 3),
        ("only=videos", 2),
        ("set=VOC,DAVIS", 3),
        ("without=VOC", 3),
        ("label=human", 3),
        ("set=VOC,COCO&label=weak", 1),
        ("only=both&without=VOC,COCO", 2),
    ],
)
def test_parts_can_be_taken(root: Path, options: str, count: int) -> None:
    assert len(open_dataset(f"pack:{root}?{options}")) == count


def test_parts_that_do_not_exist_are_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="unknown only of pack 'video'; did you mean 'videos'"):
        open_dataset(f"pack:{root}?only=video")
    with pytest.raises(ConfigError, match=r"unknown set of .* 'DAVIZ'; did you mean 'DAVIS'"):
        open_dataset(f"pack:{root}?without=DAVIZ")
    with pytest.raises(ConfigError, match=r"unknown label of .* 'humane'"):
        open_dataset(f"pack:{root}?label=humane")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not readable JSON"),
        ([], "is not a siamtrack pack"),
        ({}, "is not a siamtrack pack"),
        ({"images": {}}, "is not a siamtrack pack"),
        ({"images": []}, "holds no sequence"),
    ],
)
def test_a_pack_must_be_one(root: Path, content: Any, message: str) -> None:
    rewrite(root, content)
    with pytest.raises(DatasetError, match=message):
        open_dataset(f"pack:{root}")


def test_the_file_must_be_there(root: Path) -> None:
    (root / "tracks.json").unlink()
    with pytest.raises(DatasetError, match=r"tracks\.json: does not exist"):
        open_dataset(f"pack:{root}")


@pytest.mark.parametrize(
    "entry",
    [
        "nonsense",
        {"box": [1, 2, 3, 4]},
        {"file": 7, "box": [1, 2, 3, 4]},
        {"file": "images/a.webp"},
        {"file": "images/a.webp", "box": [1, 2, 3]},
        {"file": "images/a.webp", "box": [1, 2, 3, "x"]},
        {"file": "images/a.webp", "box": None},
    ],
)
def test_entries_that_are_no_object_are_named(root: Path, entry: Any) -> None:
    rewrite(root, {"images": [image("images/a.webp", [1, 2, 3, 4]), entry]})
    with pytest.raises(DatasetError, match=r"images\[1\] = .* needs 'file', a path, and 'box'"):
        open_dataset(f"pack:{root}")
    assert len(open_dataset(f"pack:{root}?partial=1")) == 1


@pytest.mark.parametrize("boxes", [None, [], [[1, 2, 3]], [1, 2, 3, 4], [[1, 2, 3, 4], [5]]])
def test_entries_that_are_no_video_are_named(root: Path, boxes: Any) -> None:
    rewrite(root, {"videos": [{"file": "videos/c.mp4", "boxes": boxes}]})
    with pytest.raises(DatasetError, match=r"videos\[0\] = .* needs 'file', a path, and 'boxes'"):
        open_dataset(f"pack:{root}")


def test_a_missing_file_is_named_once(root: Path) -> None:
    (root / "images" / "a.webp").unlink()
    (root / "videos" / "c.mp4").unlink()
    with pytest.raises(DatasetError, match=r"names it in images\[0\]") as caught:
        open_dataset(f"pack:{root}")
    found = [(p.kind, p.path.name) for p in caught.value.problems]
    assert found == [("missing-picture", "a.webp"), ("missing-picture", "c.mp4")]


def test_boxes_must_be_as_many_as_frames(root: Path) -> None:
    rewrite(root, {"videos": [{"file": "videos/c.mp4", "boxes": [[1, 2, 3, 4]] * 4}]})
    with pytest.raises(DatasetError, match=r"4 boxes .* for 3 frames"):
        open_dataset(f"pack:{root}")[0]


@pytest.mark.parametrize("outside", ["../secret.webp", "images/../../secret.webp", "{root}"])
def test_a_file_outside_of_the_pack_is_refused(
    root: Path, write_picture: Writer, outside: str
) -> None:
    secret = write_picture(root.parent / "secret.webp")
    rewrite(root, {"images": [image(outside.format(root=secret), [1, 2, 3, 4])]})
    with pytest.raises(DatasetError, match=r"images\[0\]; give a path below") as caught:
        open_dataset(f"pack:{root}")
    assert [p.kind for p in caught.value.problems] == ["bad-annotation"]


def test_a_name_that_no_file_can_have_is_a_missing_picture(root: Path) -> None:
    rewrite(root, {"images": [image("x" * 5000, [1, 2, 3, 4]), image("a\0b", [1, 2, 3, 4])]})
    with pytest.raises(DatasetError, match="names it in") as caught:
        open_dataset(f"pack:{root}")
    assert [p.kind for p in caught.value.problems] == ["missing-picture"] * 2
