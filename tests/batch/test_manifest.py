"""Which clips with which boxes; everything wrong with a manifest is found at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from siamtrack.batch.manifest import BatchClip, read_manifest
from siamtrack.errors import DatasetError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with clips of which only the names matter here."""
    for name in ("a.mp4", "b.mp4", "frames/0001.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def write(folder: Path, text: str, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def findings(path: Path) -> list[str]:
    with pytest.raises(DatasetError) as caught:
        read_manifest(path)
    return [problem.message for problem in caught.value.problems] or [str(caught.value)]


def test_rows_of_a_table(folder: Path) -> None:
    text = (
        "clip,boxes,name,start_frame,end_frame,step,labels\n"
        'a.mp4,"1,2,3,4;5 6 7 8",,10,,2,car;bus\n'
        '"frames/%04d.jpg","1,2,3,4",,,,,\n'
        'rtsp://host/live/cam.mp4?x=1,"1.5,2,3,4",gate,,9,,car\n'
    )
    assert read_manifest(write(folder, text)) == [
        BatchClip(
            "a",
            str(folder / "a.mp4"),
            ((10, (1.0, 2.0, 3.0, 4.0)), (10, (5.0, 6.0, 7.0, 8.0))),
            start_frame=10,
            step=2,
            labels=("car", "bus"),
        ),
        BatchClip("%04d", str(folder / "frames/%04d.jpg"), ((0, (1.0, 2.0, 3.0, 4.0)),)),
        BatchClip(
            "gate",
            "rtsp://host/live/cam.mp4?x=1",
            ((0, (1.5, 2.0, 3.0, 4.0)),),
            end_frame=9,
            labels=("car",),
        ),
    ]


def test_json_lines_and_semicolons_say_the_same(folder: Path) -> None:
    row = {"clip": "a.mp4", "boxes": [[1, 2, 3, 4], [5, 6, 7, 8]], "labels": ["car"]}
    lines = write(folder, json.dumps(row) + "\n\n", "list.jsonl")
    table = write(folder, 'clip;boxes;labels\na.mp4;"1,2,3,4;5,6,7,8";car\n')
    assert read_manifest(lines) == read_manifest(table)
    single = write(folder, '{"clip": "a.mp4", "boxes": [1, 2, 3, 4]}', "one.jsonl")
    assert read_manifest(single)[0].starts == ((0, (1.0, 2.0, 3.0, 4.0)),)


def test_names_of_clips(folder: Path) -> None:
    """# begins no fragment in a path, and a missing file is found however it is written."""
    (folder / "clip #1.mp4").touch()
    text = f'clip,boxes\n{folder / "clip #1.mp4"},"1,2,3,4"\n'
    assert [clip.name for clip in read_manifest(write(folder, text))] == ["clip #1"]
    text = f'clip,boxes\n{folder / "gone.mp4"},"1,2,3,4"\n'
    (finding,) = findings(write(folder, text))
    assert "gone.mp4 does not exist" in finding


def test_first_boxes_come_from_a_table(folder: Path) -> None:
    table = "frame,target,x,y,w,h\n4,0,1,2,3,4\n5,0,9,9,9,9\n7,3,5,6,7,8\n"
    write(folder, table, "boxes.csv")
    (clip,) = read_manifest(write(folder, "clip,boxes\na.mp4,boxes.csv\n"))
    assert clip.starts == ((4, (1.0, 2.0, 3.0, 4.0)), (7, (5.0, 6.0, 7.0, 8.0)))
    assert clip.start_frame == 4


def test_everything_wrong_is_named_with_its_line(folder: Path) -> None:
    text = (
        "clip,boxes,name,start_frame,end_frame,step,color\n"
        'none.mp4,"1,2,3,4",,,,,\n'
        'a.mp4,"1,2,0,4",,,,,\n'
        'a.mp4,"1,2,3",x,,,,\n'
        'a.mp4,"1,2,3,4",B,,,,red\n'
        'b.mp4,"1,2,3,4",,,,,\n'
        'b.mp4,"-9,2,3,4",c,5,4,0,\n'
        "b.mp4,,d,,,,\n"
        ',"1,2,3,4",,,,,\n'
        "a.mp4,1,2,3,4,5,6,7,8\n"
        'a.mp4,"1,2,3,4",../up,,,,\n'
        'a.mp4,"1,2,3,4",f,-1,,,\n'
        "a.mp4,none.csv,g,,,,\n"
    )
    found = findings(write(folder, text))
    starts = [
        "line 2: clip none.mp4 does not exist",
        "line 3: box [1.0, 2.0, 0.0, 4.0]",
        "line 4: box [1.0, 2.0, 3.0]",
        "line 5: unknown column 'color'",
        "line 6: the name 'b' is that of line 5 too",
        "line 7: end_frame 4 is before start_frame 5",
        "line 7: step is 0",
        "line 7: box [-9.0, 2.0, 3.0, 4.0] lies outside every frame",
        "line 7: a box is on frame 5, which is not tracked",
        "line 8: no boxes are given",
        "line 9: no clip is given",
        "line 10: has more cells",
        "line 11: '../up' is no name for a file",
        "line 12: start_frame is '-1'",
        "line 13: ",
    ]
    assert len(found) == len(starts)
    for text, start in zip(found, starts, strict=True):
        assert text.startswith(start)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lacks the column clip"),
        ("clip,boxes\n", "has no rows"),
        ("clip,box\na.mp4,1\n", "lacks the column boxes"),
        ("clip,boxes,boxes \na.mp4,1 2 3 4,5 6 7 8\n", "has the column boxes twice"),
        ('{"clip": "a.mp4"', "line 1: is not JSON"),
        ('{"clip": "a.mp4", "boxes": [[1,2,3,4]]}\n[1]\n', "line 2: is [1]; give an object"),
        ('{"clip": "a.mp4", "boxes": ["1,2,3,x"]}', "line 1: box"),
        ('{"clip": "a.mp4", "boxes": [[1,2,3,4]], "labels": 3}', "line 1: labels are 3"),
        ('clip,boxes,labels\na.mp4,"1,2,3,4",a;b\n', "line 2: 2 labels for 1 boxes"),
        ("clip,boxes\na.mp4,1.2.3\n", "line 2: box 1.2.3 is not numeric"),
        ("clip,boxes\na.mp4,empty.csv\n", "line 2: empty.csv holds no boxes"),
        ('clip,boxes\na.mp4,"1\n', "line 2"),
        ('clip,boxes\na.mp4,"nan,1,1,1"\n', "line 2: box [nan, 1.0, 1.0, 1.0]"),
        ("clip,boxes,name\na.mp4,1 2 3 4,summary\n", "line 2: 'summary' is no name"),
    ],
)
def test_a_manifest_that_says_too_little(folder: Path, text: str, said: str) -> None:
    write(folder, "frame,target,x,y,w,h\n", "empty.csv")
    (found,) = findings(write(folder, text))
    assert said in found


def test_a_manifest_that_cannot_be_read(folder: Path) -> None:
    (folder / "list.csv").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read as text" in findings(folder / "list.csv")[0]
    assert "cannot be read as text" in findings(folder / "nothing.csv")[0]
