"""`siamtrack compare` from the command line, and its panels."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
import pytest

from siamtrack.cli import main
from siamtrack.errors import InvalidBoxError
from siamtrack.evaluation.compare import draw_panels, panels_wh, run_side_by_side
from siamtrack.evaluation.trackers import TrackerSpec, resolve_trackers
from siamtrack.video.interactive import Closed, Key

TRACKERS = """
class Walks:
    def init(self, frame_bgr, box):
        self.box = box
    def update(self, frame_bgr):
        x, y, w, h = self.box
        self.box = (x + 2, y, w, h)
        return self.box

class GivesUp(Walks):
    def update(self, frame_bgr):
        raise ValueError("lost my glasses")
"""
FRAMES = 8


@pytest.fixture
def pictures(tmp_path):
    """A target that walks two px per frame, with its truth."""
    folder = tmp_path / "walk"
    folder.mkdir()
    rows = []
    for number in range(FRAMES):
        image = np.full((60, 100, 3), 60, np.uint8)
        image[20:34, 10 + 2 * number : 26 + 2 * number] = (240, 240, 240)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        rows.append(f"{10 + 2 * number},20,16,14")
    (tmp_path / "walk.txt").write_text("\n".join(rows) + "\n")
    (tmp_path / "trackers.py").write_text(TRACKERS)
    return folder


def arguments(pictures, *trackers):
    names = [
        f"--tracker={t.replace('@', str(pictures.parent / 'trackers.py') + ':')}" for t in trackers
    ]
    return ["compare", str(pictures), *names, "--no-display"]


def test_the_table_has_speed_and_overlap(pictures, capsys):
    truth = str(pictures.parent / "walk.txt")
    assert main([*arguments(pictures, "@Walks", "identity"), "--truth", truth]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "| tracker | fps | frames | overlap |"
    assert rows[2].startswith("| trackers.py:Walks |") and rows[2].endswith("| 8 | 1.000 |")
    # The given box proves nothing: frames 1 to 7, each two px further from where it stays.
    overlaps = [(16 - 2 * k) / (16 + 2 * k) for k in range(1, FRAMES)]
    assert float(rows[3].split("|")[4]) == pytest.approx(np.mean(overlaps), abs=6e-4)


def test_the_panels_are_saved(pictures, tmp_path, capsys):
    saved = tmp_path / "made" / "panels.mp4"
    call = [
        *arguments(pictures, "@Walks", "identity"),
        "--box",
        "10,20,16,14",
        "--save",
        str(saved),
    ]
    assert main(call) == 0
    capture = cv2.VideoCapture(str(saved))
    shapes = set()
    while (read := capture.read())[0]:
        shapes.add(read[1].shape)
    width, height = panels_wh(2, (100, 60))
    assert shapes == {(height, width, 3)}
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES
    assert main(call) == 3 and "exists" in capsys.readouterr().err.splitlines()[-1]
    assert main([*call, "--overwrite"]) == 0


def test_a_tracker_that_fails_keeps_its_box_and_the_others_go_on(pictures, capsys):
    call = [*arguments(pictures, "@GivesUp", "@Walks"), "--box", "10,20,16,14"]
    assert main(call) == 3
    printed = capsys.readouterr()
    assert "| trackers.py:GivesUp |" in printed.out and "| 1 | - |" in printed.out
    assert printed.err.splitlines()[-1] == (
        "siamtrack: failed: trackers.py:GivesUp: frame 1: update raised ValueError: lost my glasses"
    )


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        ([], 2, "give --box x,y,w,h or --truth"),
        (["--box", "500,500,5,5"], 3, "lies outside"),
        (["--box", "1,1,5"], 2, "has 3 numbers"),
        (["--truth", "gone.txt"], 3, "gone.txt cannot be read"),
        (["--box", "1,1,5,5", "--tracker", "opencv:nothing"], 2, "no OpenCV tracker"),
    ],
)
def test_bad_input_is_one_line(more, code, message, pictures, capsys):
    assert main([*arguments(pictures, "identity"), *more]) == code
    assert message in capsys.readouterr().err.splitlines()[-1]


class FakeWindow:
    """Shows nothing and answers with the events it was made with, one turn each."""

    turns: ClassVar[list[tuple[object, ...]]] = []
    shown: ClassVar[list[tuple[int, ...]]] = []

    def __init__(self, title):
        self.title = title

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def show(self, image):
        self.shown.append(image.shape)

    def poll(self, timeout_s):
        return self.turns.pop(0) if self.turns else ()


@pytest.mark.parametrize(
    ("turns", "frames"),
    [
        ([], FRAMES),
        ([(), (Key("q"),)], 2),
        ([(Closed(),)], 1),
        ([(Key("space"),), (), (), (Key("space"),), (Key("esc"),)], 2),
        ([(Key("space"),), (), (Key("q"),)], 1),
    ],
)
def test_the_window_can_be_paused_and_closed(turns, frames, pictures, monkeypatch, capsys):
    monkeypatch.setattr("siamtrack.video.window.display_problem", lambda: None)
    monkeypatch.setattr("siamtrack.video.window.Window", FakeWindow)
    monkeypatch.setattr(FakeWindow, "turns", list(turns))
    monkeypatch.setattr(FakeWindow, "shown", [])
    call = [*arguments(pictures, "@Walks"), "--box", "10,20,16,14"]
    call.remove("--no-display")
    assert main(call) == 0
    assert len(FakeWindow.shown) == frames


def test_boxes_are_drawn_where_the_trackers_say(pictures):
    trackers = resolve_trackers(
        [TrackerSpec("identity"), TrackerSpec(f"{pictures.parent}/trackers.py:Walks")]
    )
    images = [cv2.imread(str(pictures / f"{number}.png")) for number in range(FRAMES)]
    truth = np.full((3, 4), np.nan)
    frames = [
        (f, draw_panels(f)) for f in run_side_by_side(trackers, images, (10, 20, 16, 14), truth)
    ]
    assert frames[-1][0].truth is None and not frames[-1][0].runs[0].overlaps
    panel = frames[-1][1]
    assert panel.shape[1::-1] == panels_wh(2, (100, 60))
    half, scale = panel.shape[1] // 2, panel.shape[1] / 2 / 100
    for left, x in ((0, 10), (half, 24)):
        column = panel[30 + int(27 * scale), left + round(x * scale)]
        assert column.max() > 180 and column.min() < 90  # neither target nor background


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 2, 2), (5, 3, 2)]
)
def test_panels_are_laid_out_for_a_screen(count, columns, rows):
    one = panels_wh(1, (1280, 720))
    assert one[0] == 640
    assert panels_wh(count, (1280, 720)) == (one[0] * columns, one[1] * rows)


def test_boxes_that_cannot_be_tracked_are_refused():
    trackers = resolve_trackers([TrackerSpec("identity")])
    with pytest.raises(InvalidBoxError):
        list(run_side_by_side(trackers, [np.zeros((20, 20, 3), np.uint8)], (1, 1, -5, 5)))


def test_the_truth_may_be_a_table(pictures, capsys):
    header, rows = "frame,target,x,y,w,h", []
    for number in range(FRAMES):
        rows.append(f"{number},3,{10 + 2 * number},20,16,14")
    table = pictures.parent / "walk.csv"
    table.write_text("\n".join([header, *rows[:5], *rows[6:]]) + "\n")  # absent in frame 5
    assert main([*arguments(pictures, "@Walks"), "--truth", str(table)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("| 1.000 |")
    table.write_text("\n".join([header, *rows, "0,4,1,1,5,5"]) + "\n")
    assert main([*arguments(pictures, "@Walks"), "--truth", str(table)]) == 3
    assert "has 2 targets (3, 4); give the boxes of one" in capsys.readouterr().err
