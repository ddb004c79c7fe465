"""Your own clips: videos and folders of pictures with text files of boxes beside them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from siamtrack.data.datasets import open_dataset
from siamtrack.errors import ConfigError, DatasetError

Writer = Callable[..., Path]

HEADER = "frame,time_s,target,x,y,w,h,score,status\n"


def found(error: DatasetError) -> list[tuple[str, str]]:
    return [(problem.kind, problem.path.name) for problem in error.problems]


def test_a_clip_with_lines_of_boxes(tmp_path: Path, write_clip: Writer) -> None:
    write_clip(tmp_path / "pets" / "dog.mp4", 4)
    (tmp_path / "pets" / "dog.txt").write_text("1,2,3,4\nnan,nan,nan,nan\n5.5 6 7 8\n\t9;8;7;6\n\n")
    (sequence,) = open_dataset(f"folder:{tmp_path}")
    assert sequence.name == "pets/dog"
    assert sequence.kind == "video"
    assert sequence.fps == pytest.approx(25)
    assert sequence.visible.tolist() == [True, False, True, True]
    assert sequence.boxes[[0, 2, 3]].tolist() == [[1, 2, 3, 4], [5.5, 6, 7, 8], [9, 8, 7, 6]]
    grays = [frame.mean() for frame in sequence.iter_frames([1, 3])]
    assert grays == pytest.approx([30, 50], abs=4.5)


@pytest.mark.parametrize("name", ["boats.txt", "boats/boats.txt", "boats/groundtruth.txt"])
def test_a_folder_of_images(tmp_path: Path, write_pictures: Writer, name: str) -> None:
    write_pictures(tmp_path / "boats", 11, "%d.png", first=0)
    (tmp_path / name).write_text("".join(f"{n},0,5,5\n" for n in range(11)))
    (sequence,) = open_dataset(f"folder:{tmp_path}")
    assert sequence.name == "boats"
    assert sequence.read(10).mean() == 100
    assert sequence.boxes[10, 0] == 10
    assert sequence.fps is None


def test_the_root_may_be_the_folder_of_images_or_a_file(
    tmp_path: Path, write_pictures: Writer, write_clip: Writer
) -> None:
    write_pictures(tmp_path / "boats", 2)
    (tmp_path / "boats.txt").write_text("1,2,3,4\n" * 2)
    write_clip(tmp_path / "dog.mp4", 3)
    (tmp_path / "dog.txt").write_text("1,2,3,4\n" * 3)
    write_clip(tmp_path / "dog2.mp4", 3)
    for root, name in (
        ("boats", "boats"),
        ("boats.txt", "boats"),
        ("dog.mp4", "dog"),
        ("dog.txt", "dog"),
    ):
        assert open_dataset(f"folder:{tmp_path / root}").names == (name,)


def test_images_are_upright(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a").mkdir()
    PIL.Image.new("RGB", (20, 10)).save(tmp_path / "a" / "1.jpg", exif=exif)
    (tmp_path / "a.txt").write_text("1,2,3,4")
    assert open_dataset(f"folder:{tmp_path}")[0].read(0).shape == (20, 10, 3)


def test_thumbnails_beside_clips_are_no_frames(
    tmp_path: Path, write_clip: Writer, write_picture: Writer
) -> None:
    write_clip(tmp_path / "dog.mp4", 2)
    (tmp_path / "dog.txt").write_text("1,2,3,4\n" * 2)
    write_picture(tmp_path / "dog.jpg")
    (tmp_path / "README.txt").write_text("my clips")
    (tmp_path / "prices.csv").write_text("name,price\ndog,1\n")
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00")
    assert open_dataset(f"folder:{tmp_path}").names == ("dog",)


def test_contact_sheets_are_no_clip_unless_they_have_boxes(
    tmp_path: Path, write_pictures: Writer
) -> None:
    for name in ("dog", "sheets"):
        write_pictures(tmp_path / name, 2)
    (tmp_path / "dog.txt").write_text("1,2,3,4\n" * 2)
    assert open_dataset(f"folder:{tmp_path}").names == ("dog",)
    (tmp_path / "sheets.txt").write_text("1,2,3,4\n" * 2)
    assert open_dataset(f"folder:{tmp_path}").names == ("dog", "sheets")


# The table that siamtrack track writes


def test_every_target_of_a_table_is_a_sequence(tmp_path: Path, write_clip: Writer) -> None:
    write_clip(tmp_path / "dog.mp4", 5)
    rows = [
        "0,0.000,0,1,2,3,4,1.0000,tracked",
        "0,0.000,1,10,20,30,20,1.0000,tracked",
        "1,0.040,0,2,2,3,4,0.9000,uncertain",
        "1,0.040,1,11,20,30,20,0.1000,lost",
        "3,0.120,0,3,2,3,4,0.8000,tracked",
    ]
    (tmp_path / "dog.csv").write_text(HEADER + "\n".join(rows) + "\n")
    dataset = open_dataset(f"folder:{tmp_path}")
    assert dataset.names == ("dog.0", "dog.1")
    first, second = dataset
    assert first.visible.tolist() == [True, True, False, True, False]
    assert first.boxes[[0, 1, 3]].tolist() == [[1, 2, 3, 4], [2, 2, 3, 4], [3, 2, 3, 4]]
    assert second.visible.tolist() == [True, False, False, False, False]
    assert first.image_key(1) == second.image_key(1) != first.image_key(2)
    warier = open_dataset(f"folder:{tmp_path}?uncertain=absent")[0]
    assert warier.visible.tolist() == [True, False, False, True, False]
    with pytest.raises(ConfigError, match="unknown uncertain of folder 'drop'"):
        open_dataset(f"folder:{tmp_path}?uncertain=drop")


def test_a_table_of_one_target_in_another_order_of_columns(
    tmp_path: Path, write_pictures: Writer
) -> None:
    write_pictures(tmp_path / "boats", 3)
    text = "\ufefftarget,x,y,w,h,frame,note\n7,1,2,3,4,2,good\n7,5,6,7,8,0,\n7,nan,nan,nan,nan,1,\n"
    (tmp_path / "boats.csv").write_text(text, encoding="utf-8")
    dataset = open_dataset(f"folder:{tmp_path}")
    assert dataset.names == ("boats",)
    expected = [[5, 6, 7, 8], [np.nan] * 4, [1, 2, 3, 4]]
    np.testing.assert_array_equal(dataset[0].boxes, expected)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("frame,x,y,w,h\n0,1,2,3,4\n", "lacks the column target"),
        (HEADER + "0,0,0,1,2,3,4,1,happy\n", "line 2: status 'happy' is none of tracked"),
        (HEADER + "0,0,0,1,2,3,x,1,tracked\n", "line 2: could not convert"),
        (HEADER + "0,0,0,1,2,inf,3,1,tracked\n", "line 2: box .* is not finite"),
        (HEADER + "zero,0,0,1,2,3,4,1,tracked\n", "line 2: frame 'zero' is not a whole number"),
        (HEADER + "0,0,0\n", "line 2: has fewer cells than the 9"),
        (HEADER + "-1,0,0,1,2,3,4,1,tracked\n", "frame -1 is negative"),
        (HEADER + "0,0,0,1,2,3,4,1,tracked\n" * 2, "line 3: frame 0 of target 0 is there twice"),
    ],
)
def test_a_broken_table_says_where(
    tmp_path: Path, write_clip: Writer, rows: str, message: str
) -> None:
    write_clip(tmp_path / "dog.mp4", 2)
    (tmp_path / "dog.csv").write_text(rows)
    with pytest.raises(DatasetError, match=message) as caught:
        open_dataset(f"folder:{tmp_path}")
    assert found(caught.value) == [("bad-annotation", "dog.csv")]


def test_a_row_beyond_the_clip_is_reported(tmp_path: Path, write_clip: Writer) -> None:
    write_clip(tmp_path / "dog.mp4", 2)
    (tmp_path / "dog.csv").write_text(HEADER + "2,0,0,1,2,3,4,1,tracked\n")
    with pytest.raises(DatasetError, match="row for frame 2, but the clip has 2") as caught:
        open_dataset(f"folder:{tmp_path}")[0]
    assert found(caught.value) == [("count-differs", "dog.csv")]


# What can be wrong


def test_boxes_must_be_as_many_as_frames(tmp_path: Path, write_clip: Writer) -> None:
    write_clip(tmp_path / "dog.mp4", 3)
    (tmp_path / "dog.txt").write_text("1,2,3,4\n" * 2)
    dataset = open_dataset(f"folder:{tmp_path}")
    with pytest.raises(DatasetError, match=r"2 boxes .* for 3 frames") as caught:
        dataset[0]
    assert found(caught.value) == [("count-differs", "dog.txt")]


@pytest.mark.parametrize("line", ["1,2,3", "1,2,3,4,5", "a,b,c,d", "1,2,inf,4", ""])
def test_a_line_that_is_no_box_is_reported(tmp_path: Path, write_clip: Writer, line: str) -> None:
    write_clip(tmp_path / "dog.mp4", 3)
    (tmp_path / "dog.txt").write_text(f"1,2,3,4\n{line}\n1,2,3,4\n")
    with pytest.raises(DatasetError, match=r"dog\.txt line 2 is .*; give x,y,w,h for every"):
        open_dataset(f"folder:{tmp_path}")[0]


def test_boxes_must_be_text(tmp_path: Path, write_clip: Writer) -> None:
    write_clip(tmp_path / "dog.mp4", 1)
    (tmp_path / "dog.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="cannot be read as text"):
        open_dataset(f"folder:{tmp_path}")[0]


def test_all_that_does_not_match_is_listed(
    tmp_path: Path, write_clip: Writer, write_pictures: Writer
) -> None:
    write_clip(tmp_path / "bare.mp4", 1)
    write_clip(tmp_path / "both.mp4", 1)
    (tmp_path / "both.txt").write_text("1,2,3,4\n")
    (tmp_path / "both.csv").write_text(HEADER)
    (tmp_path / "lonely.txt").write_text("1,2,3,4\n")
    (tmp_path / "alone.csv").write_text(HEADER)
    write_pictures(tmp_path / "pictures", 2)
    with pytest.raises(DatasetError) as caught:
        open_dataset(f"folder:{tmp_path}")
    assert sorted(found(caught.value)) == [
        ("bad-annotation", "both.mp4"),
        ("missing-annotation", "bare.mp4"),
        ("missing-annotation", "pictures"),
        ("missing-picture", "alone.csv"),
        ("missing-picture", "lonely.txt"),
    ]
    text = " ".join(map(str, caught.value.problems))
    assert "has boxes in both.csv and both.txt; keep one of them" in text
    assert "no pictures.txt or pictures.csv" in text


@pytest.mark.parametrize("name", ["dog.txt", "dog.csv"])
def test_boxes_in_fractions_are_refused(tmp_path: Path, write_clip: Writer, name: str) -> None:
    write_clip(tmp_path / "dog.mp4", 3)
    lines = ["0.117,0.411,0.172,0.177\n", "nan,nan,nan,nan\n", "0.12,0.4,0.172,1.0\n"]
    if name == "dog.csv":
        rows = (f"{n},0,0,{line.strip()},1,tracked\n" for n, line in enumerate(lines))
        lines = [HEADER, *(row for row in rows if "nan" not in row)]
    (tmp_path / name).write_text("".join(lines))
    with pytest.raises(DatasetError, match=r"fractions.*\(0.117, 0.411.*pixels.*64x48") as caught:
        open_dataset(f"folder:{tmp_path}")[0]
    assert found(caught.value) == [("bad-annotation", name)]


def test_one_small_box_among_others_is_no_fraction(tmp_path: Path, write_clip: Writer) -> None:
    write_clip(tmp_path / "dog.mp4", 2)
    (tmp_path / "dog.txt").write_text("0.5,0.5,0.9,0.9\n1,2,3,4\n")
    assert len(open_dataset(f"folder:{tmp_path}")[0]) == 2


@pytest.mark.parametrize(
    "line", ["30,25;79,5;44,0;34", "30,25 79,5 44,0 34", "30.25;79.5;44;34", "30.25\t79.5\t44\t34"]
)
def test_decimal_commas_and_other_separators(tmp_path: Path, write_clip: Writer, line: str) -> None:
    write_clip(tmp_path / "dog.mp4", 2)
    (tmp_path / "dog.txt").write_text(f"{line}\nnan;nan;nan;nan\n")
    boxes = open_dataset(f"folder:{tmp_path}")["dog"].boxes
    np.testing.assert_array_equal(boxes, [[30.25, 79.5, 44, 34], [np.nan] * 4])


@pytest.mark.parametrize("separator", [";", "\t", "; "])
def test_a_table_that_a_spreadsheet_saved(
    tmp_path: Path, write_clip: Writer, separator: str
) -> None:
    write_clip(tmp_path / "dog.mp4", 2)
    rows = ["frame,time_s,target,x,y,w,h,score,status".replace(",", separator)]
    rows += [f"{k}|0,04|0|30,25|79,5|44|34,0|0,95|tracked".replace("|", separator) for k in (0, 1)]
    (tmp_path / "dog.csv").write_text("\n".join(rows) + "\n")
    dataset = open_dataset(f"folder:{tmp_path}")
    assert not dataset.problems
    np.testing.assert_array_equal(dataset["dog"].boxes, [[30.25, 79.5, 44, 34]] * 2)
    (tmp_path / "dog.csv").write_text("\n".join([*rows[:2], "1" + separator + "0"]) + "\n")
    with pytest.raises(DatasetError, match=r"dog\.csv line 3"):
        open_dataset(f"folder:{tmp_path}")


def test_linked_folders_are_clips(
    tmp_path: Path, write_pictures: Writer, write_clip: Writer
) -> None:
    write_pictures(tmp_path / "store" / "x", 3)
    write_clip(tmp_path / "store" / "y.mp4", 2)
    root = tmp_path / "set"
    root.mkdir()
    (root / "dog").symlink_to(tmp_path / "store" / "x")
    (root / "cat.mp4").symlink_to(tmp_path / "store" / "y.mp4")
    (root / "dog.txt").write_text("1,2,3,4\n" * 3)
    (root / "cat.txt").write_text("1,2,3,4\n" * 2)
    dataset = open_dataset(f"folder:{root}")
    assert (dataset.names, dataset.problems) == (("cat", "dog"), ())
    assert [len(sequence) for sequence in dataset] == [2, 3]


def test_stacks_and_animations_with_boxes_are_clips(tmp_path: Path) -> None:
    pictures = [PIL.Image.new("L", (20, 10), 20 * k + 10) for k in range(5)]
    for name in ("a.tif", "b.webp", "c/c.gif", "d/stack.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pictures[0].save(
            tmp_path / name, save_all=True, append_images=pictures[1:], duration=40, lossless=True
        )
    for name in ("a", "b", "c/c", "d"):
        (tmp_path / f"{name}.txt").write_text("1,2,3,4\n" * 5)
    dataset = open_dataset(f"folder:{tmp_path}")
    assert dataset.names == ("a", "b", "c/c", "d")
    for sequence in dataset:
        assert [round(frame.mean()) for frame in sequence.iter_frames()] == [10, 30, 50, 70, 90]
        assert round(sequence.read(3).mean()) == 70
        assert sequence.image_key(3) != sequence.image_key(2)
    assert open_dataset(f"folder:{tmp_path / 'a.tif'}").names == ("a",)
    assert open_dataset(f"folder:{tmp_path / 'a.txt'}").names == ("a",)


def test_deep_pictures_have_one_range_whichever_is_read_first(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for k in range(3):
        values = np.linspace(1000, 1000 + 100 * (k + 1), 60) * np.ones((40, 1))
        PIL.Image.fromarray(values.astype(np.uint16)).save(tmp_path / "a" / f"{k}.png")
    (tmp_path / "a.txt").write_text("1,2,3,4\n" * 3)
    first = open_dataset(f"folder:{tmp_path}")[0]
    last = pickle.loads(pickle.dumps(open_dataset(f"folder:{tmp_path}")[0]))
    brightest = [int(frame.max()) for frame in first.iter_frames()]
    assert brightest == pytest.approx([85, 170, 255], abs=8)
    assert [int(last.read(k).max()) for k in (2, 0, 1)] == [brightest[k] for k in (2, 0, 1)]
