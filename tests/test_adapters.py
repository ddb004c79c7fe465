"""siamtrack in the shape of supervision, OpenCV and the got10k toolkit, and the public tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as pillow

import siamtrack
from siamtrack import adapters
from siamtrack.errors import ConfigError, DatasetError, NotInitializedError, OutputError
from siamtrack.evaluation.trackers import as_toolkit_tracker
from siamtrack.tracking.result import Result
from siamtrack.video.tables import CsvSink, JsonLinesSink, TableRow

HERE = Result((10.5, 20.0, 30.0, 40.25), 0.75, "tracked")
GONE = Result((1.0, 2.0, 3.0, 4.0), 0.05, "lost")


class Scripted:
    """Answers with given results; keeps what it was given."""

    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.given: Any = None
        self.frame: np.ndarray | None = None

    def init(self, frame_bgr: np.ndarray, box: Any) -> None:
        self.frame, self.given = frame_bgr, box

    def update(self, frame_bgr: np.ndarray) -> Any:
        self.frame = frame_bgr
        return self.results.pop(0)


# --- supervision


def test_detections_hold_corners_scores_targets_and_statuses() -> None:
    sv = pytest.importorskip("supervision")
    detections = siamtrack.to_supervision({3: HERE, 0: GONE})
    assert isinstance(detections, sv.Detections)
    assert detections.xyxy.tolist() == [[10.5, 20.0, 40.5, 60.25], [1.0, 2.0, 4.0, 6.0]]
    assert detections.tracker_id.tolist() == [3, 0]
    assert np.allclose(detections.confidence, [0.75, 0.05])
    seen = detections[detections.data["status"] != "lost"]
    assert seen.tracker_id.tolist() == [3]
    image = np.zeros((80, 60, 3), np.uint8)
    assert sv.BoxAnnotator().annotate(image.copy(), seen).any()
    assert len(siamtrack.to_supervision(HERE)) == 1
    assert len(siamtrack.to_supervision({})) == 0
    with pytest.raises(ConfigError, match="results is a tuple; give what update returned"):
        siamtrack.to_supervision((1, 2, 3, 4))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("supervision", lambda: siamtrack.to_supervision({})),
        ("got10k.trackers", lambda: siamtrack.to_got10k(Scripted())),
    ],
)
def test_a_library_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, package: str, call: Any
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=f"pip install {package.partition('.')[0]}"):
        call()


# --- OpenCV


def test_opencv_s_two_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Scripted(HERE, GONE)
    options: dict[str, Any] = {}
    monkeypatch.setattr(adapters, "load", lambda **given: options.update(given) or inner)
    tracker = siamtrack.OpenCVTracker(weights="siamfc")
    frame = np.zeros((80, 60, 3), np.uint8)
    assert tracker.init(frame, (1, 2, 30, 40)) is None
    assert options == {"weights": "siamfc"} and inner.given == (1, 2, 30, 40)
    ok, box = tracker.update(frame)
    # As of cv2's trackers: a tuple of int, which cv2.rectangle takes; edges 10.5, 40.5 and 60.25.
    assert ok is True and box == (10, 20, 30, 40) and tracker.result == HERE
    assert cv2.rectangle(frame, box, (200, 0, 0))[20, 10].tolist() == [200, 0, 0]
    ok, box = tracker.update(frame)
    assert ok is False and box == GONE.box


@pytest.mark.parametrize(
    ("box", "whole"),
    [
        ((1.6, 0.6, 8.3, 9.4), (2, 1, 8, 9)),  # sizes and places by themselves: 2 + 8, 1 + 9
        ((1.5, 2.5, 3.5, 3.5), (2, 2, 3, 4)),  # 2 + 4 would be beyond the frame of 5
        ((3.1, 4.1, 0.3, 0.2), (3, 4, 1, 1)),
    ],
)
def test_whole_pixels_stay_in_the_frame(
    monkeypatch: pytest.MonkeyPatch, box: Any, whole: Any
) -> None:
    inner = Scripted(Result(box, 0.9, "tracked"))
    monkeypatch.setattr(adapters, "load", lambda **given: inner)
    assert siamtrack.OpenCVTracker().update(np.zeros((80, 60, 3), np.uint8)) == (True, whole)


def test_opencv_s_calls_track_a_moving_square() -> None:
    tracker = siamtrack.OpenCVTracker(engine="onnx")
    ground = np.random.default_rng(1).integers(60, 120, (160, 200, 3), np.uint8)
    with pytest.raises(NotInitializedError):
        tracker.update(ground)
    square = np.random.default_rng(2).integers(0, 255, (40, 40, 3), np.uint8)
    for k in range(4):
        frame = ground.copy()
        frame[60:100, 50 + 3 * k : 90 + 3 * k] = square
        if k == 0:
            tracker.init(frame, (50, 60, 40, 40))
        else:
            ok, (x, y, w, h) = tracker.update(frame)
            assert ok and abs(x + w / 2 - (70 + 3 * k)) < 6 and abs(y + h / 2 - 80) < 6


# --- The got10k toolkit


def test_the_toolkit_gets_its_pictures_and_boxes(tmp_path: Path) -> None:
    from got10k.trackers import Tracker

    files = [str(tmp_path / f"{k}.png") for k in range(3)]
    for file in files:
        pillow.new("RGB", (64, 48), (200, 10, 30)).save(file)
    inner = Scripted(HERE, (1.0, 2.0, 3.0, 4.0))
    tracker = siamtrack.to_got10k(inner, "mine")
    assert isinstance(tracker, Tracker) and tracker.name == "mine"
    boxes, _ = tracker.track(files, np.array([11.0, 13.0, 16.0, 14.0]))
    assert inner.given == (10.0, 12.0, 16.0, 14.0)
    assert inner.frame is not None and inner.frame[0, 0].tolist() == [30, 10, 200]
    assert boxes.tolist() == [[11, 13, 16, 14], [11.5, 21, 30, 40.25], [2, 3, 3, 4]]
    inner = Scripted(HERE)
    boxes, _ = siamtrack.to_got10k(inner, first_pixel=0).track(
        files[:2], np.array([11, 13, 16, 14])
    )
    assert inner.given == (11, 13, 16, 14) and boxes[1].tolist() == list(HERE.box)
    with pytest.raises(ConfigError, match="first_pixel is 2; it is 0 or 1"):
        siamtrack.to_got10k(inner, first_pixel=2)
    with pytest.warns(FutureWarning, match="'as_toolkit_tracker' is now 'siamtrack.to_got10k'"):
        assert as_toolkit_tracker(inner, "old").name == "old"


# --- Tables


@pytest.mark.parametrize(("suffix", "sink_type"), [("csv", CsvSink), ("jsonl", JsonLinesSink)])
def test_what_track_writes_is_read_and_written_again_to_the_byte(
    tmp_path: Path, suffix: str, sink_type: type[CsvSink] | type[JsonLinesSink]
) -> None:
    first, again = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    with sink_type(first) as sink:
        sink.write(0, 0.0, {0: HERE, 2: GONE})
        sink.write(3, 3 / 30, {2: HERE, 0: GONE})
    rows = siamtrack.read_table(first)
    assert rows[0] == TableRow(0, 0, HERE.box, 0.0, 0.75, "tracked")
    assert [(row.frame, row.target, row.status) for row in rows] == [
        (0, 0, "tracked"),
        (0, 2, "lost"),
        (3, 2, "tracked"),
        (3, 0, "lost"),
    ]
    siamtrack.write_table(again, rows)
    assert again.read_bytes() == first.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        siamtrack.write_table(again, rows)
    siamtrack.write_table(again, [], overwrite=True)
    assert siamtrack.read_table(again) == []


def test_tables_of_other_programs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text(
        '\ufeff"","frame","target","x","y","w","h","status"\r\n'
        '"1",0.0,1.0,1,2,3,4,"uncertain"\r\n"2",1,1,,,,,"lost"\r\n"3",2,1,nan,nan,nan,nan,"lost"\r\n',
        encoding="utf-8",
    )
    assert siamtrack.read_table(path) == [TableRow(0, 1, (1, 2, 3, 4), None, 1.0, "uncertain")]
    with pytest.raises(DatasetError, match="frame 0 has no time_s; give one, as frame / fps"):
        siamtrack.write_table(tmp_path / "x.csv", siamtrack.read_table(path))
    twice = [TableRow(0, 1, (1, 2, 3, 4), 0.0)] * 2
    with pytest.raises(DatasetError, match="frame 0 of target 1 is there twice"):
        siamtrack.write_table(tmp_path / "x.csv", twice)


HEAD = "frame,time_s,target,x,y,w,h,score,status\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "0,0,0,1,2,3,4,1.5,tracked\n", "line 2: score 1.5 is outside 0..1"),
        (HEAD + "0,0,0,1,2,3,4,nan,tracked\n", "line 2: score nan is outside"),
        (HEAD + "0,0,0,1,nan,3,4,1,tracked\n", r"line 2: box \[1.0, nan, 3.0, 4.0\] is not"),
        (HEAD + "0,0,0,1,2,,4,1,tracked\n", "is not complete; give x, y, w, h, or none of them"),
        (HEAD + "0,inf,0,1,2,3,4,1,tracked\n", "line 2: time_s inf is not finite"),
        (HEAD + "0.5,0,0,1,2,3,4,1,tracked\n", "line 2: frame '0.5' is not a whole number"),
        (HEAD + ",0,0,1,2,3,4,1,tracked\n", "line 2: has no 'frame'"),
        (HEAD + "0,0,0,1,2,3,4,1,tracked,more\n", "line 2: has more cells than the 9"),
        (HEAD + "0,0,0,1,2,3,4,1\n", "line 2: has fewer cells than the 9"),
        ("a,b\n1,2\n", "lacks the column frame and target and x"),
        ("", "lacks the column frame"),
        ('{"frame": 0, "targets": [{"target": 0, "bo\n', "line 1: is not what siamtrack track"),
        ('{"frame": 0, "targets": [{"target": 0, "box": [1, 2, 3, 4]}, {"target": 0, "box": '
         "[1, 2, 3, 4]}]}\n", "line 1: frame 0 of target 0 is there twice"),
        ('{"frame": 0, "targets": 7}\n', "line 1: is not what"),
    ],
)  # fmt: skip
def test_a_damaged_table_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=message):
        siamtrack.read_table(path)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot be read as text: No such file.*; give a table"):
        siamtrack.read_table(tmp_path / "none.csv")


# --- Corners


def test_corners_become_a_box_and_back() -> None:
    assert siamtrack.box_from_corners((36, 150, 84, 210)) == (36, 150, 48, 60)
    assert siamtrack.box_from_corners(HERE.xyxy) == HERE.box
    # A detector's, which numpy does not take as it is.
    tensor = torch.tensor([36.0, 150, 84, 210], requires_grad=True)
    assert siamtrack.box_from_corners(tensor) == (36, 150, 48, 60)
    for corners in ((84, 150, 36, 210), (1, 2, np.nan, 4), (1, 2, 3), "abcd"):
        with pytest.raises(siamtrack.errors.InvalidBoxError, match="left, top, right, bottom"):
            siamtrack.box_from_corners(corners)
