"""Checking a data set: everything that is wrong is reported at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from siamtrack.cli import main
from siamtrack.data.check import check_dataset
from siamtrack.data.datasets import open_dataset
from siamtrack.errors import ConfigError, Problem

Writer = Callable[..., Path]


def found(problems: list[Problem]) -> list[tuple[str, str]]:
    return sorted((problem.kind, problem.path.name) for problem in problems)


@pytest.fixture
def got10k(tmp_path: Path, write_pictures: Writer) -> Path:
    """A data set with one problem of every kind, each in its own sequence, and a good one."""
    folder = tmp_path / "val"
    good = "1,1,10,10\n11,11,10,10\n21,21,10,10\n"
    boxes = {
        "good": good,
        "degenerate": "1,1,10,10\n1,1,10,0\n1,1,0,0\n",
        "outside": "1,1,10,10\n65,1,10,10\n-9,1,10,10\n",
        "partly": "-8,1,10,10\n64,48,10,10\n1,1,500,500\n",
        "never": "1,1,0,0\n" * 3,
        "broken": good,
        "half": good,
        "short": good,
        "text": "hello\n" * 3,
        "unannotated": "",
    }
    for name, text in boxes.items():
        write_pictures(folder / name, 2 if name == "short" else 3)
        (folder / name / "groundtruth.txt").write_text(text)
    (folder / "broken" / "00000002.jpg").write_text("no picture")
    half = folder / "half" / "00000003.jpg"
    half.write_bytes(half.read_bytes()[:-20])
    (folder / "unannotated" / "groundtruth.txt").unlink()
    (folder / "list.txt").write_text("\n".join([*boxes, "gone"]))
    return tmp_path


EXPECTED = [
    ("bad-annotation", "text"),
    ("box-outside", "outside"),
    ("count-differs", "short"),
    ("degenerate-box", "degenerate"),
    ("missing-annotation", "gone"),
    ("missing-annotation", "unannotated"),
    ("missing-folder", "val"),
    ("no-target", "never"),
    ("unreadable-picture", "broken"),
    ("unreadable-picture", "half"),
]


def test_every_kind_of_problem_is_found_at_once(got10k: Path) -> None:
    problems = check_dataset(f"got10k:{got10k}?subset=val")
    assert sorted((p.kind, p.path.parent.name) for p in problems) == EXPECTED
    told = {p.kind: p.message for p in problems}
    assert told["box-outside"] == (
        "outside: the box is outside the 64x48 picture in frame 1, 2; the first is "
        "[64.0, 0.0, 10.0, 10.0]"
    )
    assert "is not positive in frame 1" in told["degenerate-box"]
    assert "never: the target is visible in no frame" in told["no-target"]
    assert "3 boxes" in told["count-differs"]
    assert "2 pictures" in told["count-differs"]


def test_quick_does_not_decode(got10k: Path) -> None:
    problems = check_dataset(f"got10k:{got10k}?subset=val", quick=True)
    seen = sorted((p.kind, p.path.parent.name) for p in problems)
    assert seen == [e for e in EXPECTED if e != ("unreadable-picture", "half")]


def test_a_good_dataset_has_no_problem(
    tmp_path: Path, write_clip: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(tmp_path / "dog.mp4", 3)
    (tmp_path / "dog.txt").write_text("1,2,3,4\nnan,nan,nan,nan\n1,2,3,4\n")
    assert check_dataset(f"folder:{tmp_path}") == []
    assert check_dataset(open_dataset(f"folder:{tmp_path}"), quick=True) == []
    assert capsys.readouterr() == ("", "")


def test_clips_are_decoded_to_the_end(tmp_path: Path, write_clip: Writer) -> None:
    path = write_clip(tmp_path / "dog.mp4", 20)
    (tmp_path / "dog.txt").write_text("1,2,3,4\n" * 19 + "64,2,3,4\n")
    assert found(check_dataset(f"folder:{tmp_path}")) == [("box-outside", "dog.txt")]
    data = bytearray(path.read_bytes())
    start, stop = data.index(b"mdat") + 900, data.index(b"moov")
    data[start:stop] = bytes(stop - start)
    path.write_bytes(data)
    problems = check_dataset(f"folder:{tmp_path}")
    assert found(problems) == [("unreadable-picture", "dog.mp4")]
    assert "of 20 frames can be decoded" in problems[0].message
    assert check_dataset(f"folder:{tmp_path}", quick=True) == []


def test_a_file_that_is_no_video_is_reported(tmp_path: Path) -> None:
    (tmp_path / "dog.mp4").write_text("no video")
    (tmp_path / "dog.txt").write_text("1,2,3,4\n")
    (problem,) = check_dataset(f"folder:{tmp_path}")
    assert problem.kind == "bad-annotation"
    assert "dog.mp4 cannot be opened as a video" in problem.message


def test_pictures_are_compared_with_their_annotation_and_reported_once(
    tmp_path: Path, write_picture: Writer
) -> None:
    write_picture(tmp_path / "a.jpg", wh=(40, 30))
    (tmp_path / "b.jpg").write_text("no picture")
    sides = {"width": 30, "height": 40}
    images = [{"id": n, "file_name": name, **sides} for n, name in enumerate(("a.jpg", "b.jpg"))]
    boxes = [(0, [1, 2, 3, 4]), (0, [5, 6, 7, 8]), (0, [41, 2, 3, 4]), (1, [1, 2, 3, 4])]
    annotations = [{"image_id": n, "bbox": box} for n, box in [*boxes, boxes[3]]]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    problems = check_dataset(f"coco:{tmp_path}")
    assert found(problems) == [
        ("box-outside", "boxes.json"),
        ("size-differs", "boxes.json"),
        ("unreadable-picture", "b.jpg"),
    ]
    told = {p.kind: p.message for p in problems}
    assert told["size-differs"].endswith("a.jpg is 40x30 px, the annotation says 30x40")


def test_pictures_removed_after_opening_are_reported(tmp_path: Path, write_picture: Writer) -> None:
    write_picture(tmp_path / "a.jpg")
    content = {"images": [{"file": "a.jpg", "box": [1, 2, 3, 4]}]}
    (tmp_path / "tracks.json").write_text(json.dumps(content))
    dataset = open_dataset(f"pack:{tmp_path}")
    (tmp_path / "a.jpg").unlink()
    assert found(check_dataset(dataset)) == [("missing-picture", "a.jpg")]


def test_a_dataset_that_cannot_be_opened_is_a_problem(tmp_path: Path) -> None:
    (problem,) = check_dataset(f"otb:{tmp_path}/nowhere")
    assert (problem.kind, problem.path) == ("missing-folder", tmp_path / "nowhere")
    (problem,) = check_dataset(f"folder:{tmp_path}")
    assert problem.kind == "no-target"
    with pytest.raises(ConfigError, match="unknown kind"):
        check_dataset(f"fodler:{tmp_path}")


# The command


def test_the_command_lists_problems_and_returns_3(
    got10k: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-dataset", f"got10k:{got10k}?subset=val"]) == 3
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == len(EXPECTED)
    line = next(line for line in out.splitlines() if "[missing-folder]" in line)
    assert line == f"{got10k}/val/gone: does not exist; gone needs it [missing-folder]"
    assert f"{len(EXPECTED)} problem(s)" in err
    assert "sequence" in err  # the progress bar


def test_the_command_checks_several_sets_and_returns_0_when_all_is_well(
    tmp_path: Path, write_clip: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write_clip(tmp_path / name / "dog.mp4", 1)
        (tmp_path / name / "dog.txt").write_text("1,2,3,4\n")
    assert main(["check-dataset", f"folder:{tmp_path}/a", f"folder:{tmp_path}/b", "--quick"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("no problem(s)") == 2


def test_the_command_returns_2_for_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-dataset", f"fodler:{tmp_path}"]) == 2
    assert "siamtrack: error: unknown kind of data set 'fodler'" in capsys.readouterr().err
    assert main(["check-dataset"]) == 2


def test_boxes_in_fractions_are_a_problem_in_every_format(
    tmp_path: Path, write_picture: Writer, write_clip: Writer
) -> None:
    write_picture(tmp_path / "a.jpg")
    entry = {"file": "a.jpg", "box": [0.1, 0.2, 0.3, 0.4]}
    (tmp_path / "tracks.json").write_text(json.dumps({"images": [entry]}))
    write_clip(tmp_path / "clips" / "dog.mp4", 2)
    (tmp_path / "clips" / "dog.txt").write_text("0.1,0.2,0.3,0.4\n" * 2)
    for spec, name in (
        (f"pack:{tmp_path}", "tracks.json"),
        (f"folder:{tmp_path}/clips", "dog.txt"),
    ):
        problems = check_dataset(spec)
        assert found(problems) == [("bad-annotation", name)]
        assert "fractions" in problems[0].message and "pixels" in problems[0].message
