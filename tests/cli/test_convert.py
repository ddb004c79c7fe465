"""`siamtrack convert` on the command line; what it does is tested in tests/data/test_convert.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from siamtrack.cli import main

TABLE = """\
frame,time_s,target,x,y,w,h,score,status
0,0.000000,0,10.0000,12.0000,8.0000,6.0000,1.0000,tracked
1,0.033333,0,11.0000,12.5000,8.0000,6.0000,0.0300,lost
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("clip.csv").write_text(TABLE)
    return "clip.csv"


def test_both_ways_of_naming_the_output(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--to", "cvat", "--size", "64,48", "--labels", "ball")
    assert main(["convert", table, "a.xml", *options]) == 0
    assert main(["convert", table, "--out", "b.xml", *options]) == 0
    assert Path("a.xml").read_bytes() == Path("b.xml").read_bytes()
    printed = capsys.readouterr()
    assert "clip.csv: 1 row(s) of lost targets left out" in printed.err
    assert "a.xml: 1 boxes of 1 target(s) in 1 frames, from csv" in printed.err
    assert main(["convert", "a.xml", "back.jsonl", "--fps", "30"]) == 0
    assert Path("back.jsonl").read_text().startswith('{"frame": 0, "time_s": 0.0, "targets": [')


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--to", "cvat"], 2, "give OUT once"),
        (["o", "--out", "p", "--to", "cvat"], 2, "give OUT once"),
        (["o", "--to", "cvat"], 3, "frame size of clip is not known; give --size W,H or --clip"),
        (["o", "--to", "cvat", "--size", "64"], 2, "'64' is not W,H, such as 1280,720"),
        (["o", "--to", "cwat"], 2, "unknown format 'cwat'; did you mean 'cvat'"),
        (["o", "--to", "otb", "--strict"], 3, "holds more than otb can: scores"),
        (["o", "--to", "yolo", "--size", "5x5"], 3, "lies outside the 5x5 frame"),
        (["o", "--to", "mot", "--mot-origin", "2"], 2, "2 is not in the range"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    table: str,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    Path(table).write_text(TABLE.replace("1.0000,tracked", "0.9000,tracked"))
    assert main(["convert", table, *arguments]) == code
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not Path("o").exists()
