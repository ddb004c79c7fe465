"""The demo from end to end with trackers of known quality."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

import siamtrack
from siamtrack.data.synthetic import SceneFrame
from siamtrack.demo import run
from siamtrack.demo.film import FPS, FRAME_WH, film
from siamtrack.demo.run import (
    STRIP_PX,
    DemoHistory,
    DemoReport,
    Timeline,
    demo_files,
    run_demo,
    save_sheet,
)
from siamtrack.errors import ConfigError, OutputError
from siamtrack.tracking.result import Result, Status
from siamtrack.video.tables import CSV_HEADER, read_table

FRAMES = 14


class Scripted:
    """Answers with given boxes, and remembers what it was asked."""

    def __init__(self, boxes: Sequence[Sequence[float]]) -> None:
        self._boxes = iter(boxes)
        self.first: tuple[float, ...] = ()
        self.sizes: list[tuple[int, ...]] = []

    def init(self, frame: np.ndarray, box: Sequence[float]) -> Result:
        self.first = tuple(box)
        next(self._boxes)
        return self._result(frame, self.first, 1.0, "tracked")

    def update(self, frame: np.ndarray) -> Result:
        status: Status = ("tracked", "uncertain", "lost")[len(self.sizes) % 3]
        return self._result(frame, next(self._boxes), 0.6, status)

    def _result(
        self, frame: np.ndarray, box: Sequence[float], score: float, status: Status
    ) -> Result:
        self.sizes.append(frame.shape)
        x, y, w, h = map(float, box)
        return Result((x, y, w, h), score, status)


@pytest.fixture(scope="module")
def truth() -> list[SceneFrame]:
    return list(film(FRAMES, seed=3))


@pytest.fixture(autouse=True)
def film_once(truth: list[SceneFrame], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering is tested elsewhere; here the same film is shown every time."""

    def replay(frames: int, seed: int) -> Iterator[SceneFrame]:
        assert seed == 3
        return iter(truth[:frames])

    monkeypatch.setattr(run, "film", replay)


def true_boxes(truth: list[SceneFrame]) -> list[np.ndarray]:
    """The true boxes; while the target is away, the last one."""
    boxes = [truth[0].box_xywh]
    for frame in truth[1:]:
        boxes.append(frame.box_xywh if frame.visible_fraction else boxes[-1])
    return boxes


def perfect(truth: list[SceneFrame]) -> Scripted:
    return Scripted(true_boxes(truth))


def demo(out: Path, tracker: Any, **options: Any) -> DemoReport:
    return run_demo(out, seed=3, frames=options.pop("frames", FRAMES), tracker=tracker, **options)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_perfect_tracker_scores_one(truth: list[SceneFrame], tmp_path: Path) -> None:
    tracker = perfect(truth)
    report = demo(tmp_path / "new" / "folder", tracker)
    assert (report.mean_iou, report.success_rate) == (pytest.approx(1.0), 1.0)
    assert report.frame_count == FRAMES
    assert report.fps > 0
    assert report.first_box_xywh == tracker.first == tuple(truth[0].box_xywh)
    assert tracker.sizes == [(FRAME_WH[1], FRAME_WH[0], 3)] * FRAMES
    assert report.files == demo_files(tmp_path / "new" / "folder")
    assert all(path.stat().st_size > 100 for path in report.files.values())
    # Beside the clip, the truth is an annotation as it is.
    shown = {k: frame.box_xywh.tolist() for k, frame in enumerate(truth) if frame.visible_fraction}
    assert {r.frame: list(r.box) for r in read_table(report.files["truth"])} == shown


def test_figures_are_those_of_the_boxes(truth: list[SceneFrame], tmp_path: Path) -> None:
    boxes = [box.copy() for box in true_boxes(truth)]
    for box in boxes[1::2]:
        box[2] *= 0.4  # overlap 0.4
    report = demo(tmp_path, Scripted(boxes))
    # Odd frames overlap by 0.4, the others wholly; the first and those without target do not count.
    counted = [k for k in range(1, FRAMES) if truth[k].visible_fraction > 0]
    assert 0 < len(counted) < FRAMES - 1
    good = sum(k % 2 == 0 for k in counted)
    assert report.mean_iou == pytest.approx((0.4 * (len(counted) - good) + good) / len(counted))
    assert report.success_rate == pytest.approx(good / len(counted))


def test_tables_hold_every_frame(truth: list[SceneFrame], tmp_path: Path) -> None:
    report = demo(tmp_path, perfect(truth))
    assert report.files["boxes"].read_text().splitlines()[0] == CSV_HEADER
    boxes, exact = rows_of(report.files["boxes"]), rows_of(report.files["truth"])
    assert len(boxes) == len(exact) == FRAMES
    for index, (row, true, frame) in enumerate(zip(boxes, exact, truth, strict=True)):
        assert int(row["frame"]) == int(true["frame"]) == index
        assert float(true["time_s"]) == pytest.approx(index / FPS, abs=1e-6)
        expected = list(frame.box_xywh)
        assert [float(true[side]) for side in "xywh"] == pytest.approx(expected, nan_ok=True)
        if frame.visible_fraction:
            assert [float(row[side]) for side in "xywh"] == pytest.approx(expected)
        assert float(true["visible"]) == pytest.approx(frame.visible_fraction, abs=1e-4)


@pytest.mark.parametrize(("name", "extra_px"), [("clip", 0), ("video", STRIP_PX)])
def test_videos_play_whole(
    truth: list[SceneFrame], tmp_path: Path, name: str, extra_px: int
) -> None:
    report = demo(tmp_path, perfect(truth))
    with av.open(str(report.files[name])) as container:
        images = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
        assert float(container.streams.video[0].average_rate or 0) == pytest.approx(FPS)
    assert len(images) == FRAMES
    assert images[0].shape == (FRAME_WH[1] + extra_px, FRAME_WH[0], 3)
    below_tags = np.s_[FRAME_WH[1] - 40 : FRAME_WH[1], 300:]
    difference = images[4][below_tags].astype(float) - truth[4].image_bgr[below_tags]
    assert np.abs(difference).mean() < 8


def test_truth_and_box_are_drawn_in_the_video(truth: list[SceneFrame], tmp_path: Path) -> None:
    boxes = [box + np.array([40, 0, 0, 0]) for box in true_boxes(truth)]
    report = demo(tmp_path, Scripted(boxes))
    video = cv2.VideoCapture(str(report.files["video"]))
    image = np.array([video.read()[1] for _ in range(4)][-1]).astype(int)
    plain = truth[3].image_bgr.astype(int)
    x, y, _, h = (int(value) for value in truth[3].box_xywh)
    left = image[y + h // 2 - 10 : y + h // 2 + 10, x]
    assert (left.mean(axis=0) > plain[y + h // 2 - 10 : y + h // 2 + 10, x].mean(axis=0) + 20).all()
    green = image[y + h // 2 - 10 : y + h // 2 + 10, x + 40]
    assert green[:, 1].mean() > green[:, 2].mean() + 40


def test_progress_is_reported(truth: list[SceneFrame], tmp_path: Path) -> None:
    told: list[int] = []
    demo(tmp_path, perfect(truth), frames=5, on_frame=told.append)
    assert told == [0, 1, 2, 3, 4]


def test_contact_sheet_is_a_picture(truth: list[SceneFrame], tmp_path: Path) -> None:
    report = demo(tmp_path, perfect(truth))
    sheet = cv2.imread(str(report.files["sheet"]))
    assert sheet is not None
    assert min(sheet.shape[:2]) > 600
    assert sheet.std() > 30
    assert not list(tmp_path.glob(".*"))


def test_two_frames_are_enough(truth: list[SceneFrame], tmp_path: Path) -> None:
    assert demo(tmp_path, perfect(truth), frames=2).frame_count == 2


@pytest.mark.parametrize("frames", [1, 0, -5])
def test_fewer_than_two_frames_are_refused(tmp_path: Path, frames: int) -> None:
    with pytest.raises(ConfigError, match=f"frames = {frames}; give 2 or more"):
        run_demo(tmp_path / "out", frames=frames)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["clip", "video", "boxes", "truth", "sheet"])
def test_files_of_an_earlier_run_are_kept_unless_allowed(
    truth: list[SceneFrame], tmp_path: Path, name: str
) -> None:
    earlier = demo_files(tmp_path)[name]
    earlier.write_text("earlier")
    with pytest.raises(OutputError, match=r"exist.*--overwrite"):
        demo(tmp_path, perfect(truth))
    assert [path.name for path in tmp_path.iterdir()] == [earlier.name]
    assert earlier.read_text() == "earlier"
    demo(tmp_path, perfect(truth), frames=3, overwrite=True)
    assert earlier.read_bytes()[:7] != b"earlier"


def test_file_in_place_of_the_folder_is_refused(truth: list[SceneFrame], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="out"):
        demo(tmp_path / "out", perfect(truth))


class Interrupted(Scripted):
    """Somebody presses Ctrl-C in the sixth frame."""

    def update(self, frame: np.ndarray) -> Result:
        if len(self.sizes) == 5:
            raise KeyboardInterrupt
        return super().update(frame)


def test_interrupted_run_leaves_what_it_had(truth: list[SceneFrame], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        demo(tmp_path, Interrupted(true_boxes(truth)))
    files = demo_files(tmp_path)
    assert len(rows_of(files["boxes"])) == len(rows_of(files["truth"])) == 5
    for name in ("clip", "video"):
        with av.open(str(files[name])) as container:
            assert sum(1 for _ in container.decode(video=0)) == 5
    assert not files["sheet"].exists()


def test_default_tracker_is_loaded_with_the_weights(
    truth: list[SceneFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def load(weights: object) -> Scripted:
        asked.append(weights)
        return perfect(truth)

    monkeypatch.setattr(siamtrack, "load", load, raising=False)
    run_demo(tmp_path, seed=3, frames=2, weights="mine.safetensors")
    assert asked == ["mine.safetensors"]


class FullDisk:
    """A text file on a disk that fills up."""

    def __init__(self, lines_left: int) -> None:
        self._lines_left = lines_left

    def write(self, text: str) -> None:
        self._lines_left -= 1
        if self._lines_left < 0:
            raise OSError(28, "No space left on device")

    def close(self) -> None:
        pass


@pytest.mark.parametrize("lines_left", [0, 1, 3, FRAMES])
def test_full_disk_is_reported(
    truth: list[SceneFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines_left: int
) -> None:
    real = Path.open

    def full(self: Path, *args: Any, **options: Any) -> Any:
        return FullDisk(lines_left) if self.name == "truth.csv" else real(self, *args, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OutputError, match=r"truth\.csv cannot be written \(No space left"):
        demo(tmp_path, perfect(truth))


def test_nothing_is_recorded_while_the_tracker_is_timed(
    truth: list[SceneFrame], tmp_path: Path
) -> None:
    rows: list[int] = []

    class Watching(Scripted):
        def update(self, frame: np.ndarray) -> Result:
            rows.append(len(rows_of(tmp_path / "boxes.csv")))
            return super().update(frame)

    demo(tmp_path, Watching(true_boxes(truth)))
    assert rows == list(range(1, FRAMES))


def history(count: int, change: Callable[[int], tuple[float, float]] | None = None) -> DemoHistory:
    made = DemoHistory()
    for k in range(count):
        overlap, visible = (1.0, 1.0) if change is None else change(k)
        box = np.array([0.0, 0.0, 10.0, 10.0]) if visible else np.full(4, np.nan)
        frame = SceneFrame(np.zeros((4, 4, 3), np.uint8), box, visible)
        made.add(
            frame, Result((0.0, 0.0, 10.0 * overlap, 10.0), 0.5, "tracked"), 0.25 if k else None
        )
    return made


def test_history_leaves_out_the_first_frame_and_those_without_a_truth() -> None:
    overlaps = [1.0, 0.8, 0.5, 0.2]
    made = history(5, lambda k: (overlaps[min(k, 3)], 1.0 if k < 4 else 0.0))
    assert made.mean_iou == pytest.approx((0.8 + 0.5 + 0.2) / 3)
    assert made.success_rate == pytest.approx(1 / 3)  # 0.5 is not above 0.5
    assert made.fps == pytest.approx(4.0)
    assert np.isnan(made.ious[4])


def test_history_without_counted_frames_is_nan() -> None:
    made = history(1)
    assert np.isnan([made.mean_iou, made.success_rate, made.fps]).all()


def test_timeline_grows_to_the_right() -> None:
    timeline = Timeline(10, 640)
    strips = []
    made = DemoHistory()
    for k in range(10):
        box = np.array([0.0, 0, 10, 10]) if k != 5 else np.full(4, np.nan)
        visible = 1.0 if k < 4 else 0.3 if k != 5 else 0.0
        made.add(
            SceneFrame(np.zeros((4, 4, 3), np.uint8), box, visible),
            Result((0.0, 0.0, 8.0, 10.0), 0.9, "tracked" if k < 7 else "lost"),
            0.1,
        )
        strips.append(timeline.draw(made).astype(int))
    assert strips[0].shape == (STRIP_PX, 640, 3)
    left, right = 118, 640 - 132
    for before, after in itertools.pairwise(strips):
        changed = np.flatnonzero(np.abs(after - before).max(axis=(0, 2))[left:right]) + left
        assert changed.size
    middle = left + (right - left) // 2
    first_half, ahead = strips[4][:, left : middle - 30], strips[4][:, middle + 10 : right]
    empty = strips[0][:, middle + 10 : right]
    assert np.array_equal(ahead, empty)
    assert not np.array_equal(first_half, strips[0][:, left : middle - 30])


def test_sheet_that_cannot_be_written(tmp_path: Path) -> None:
    pictures = [(0.0, np.zeros((27, 48, 3), np.uint8))]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*sheet\.png.*another folder"):
        save_sheet(tmp_path / "file" / "sheet.png", pictures, history(2), 30.0)


def episodes(visible: Sequence[float], statuses: str, overlaps: Sequence[float]) -> list[str]:
    """What is told of a made-up clip at 10 frames per second; statuses by their first letter."""
    made = DemoHistory()
    words: dict[str, Status] = {"t": "tracked", "u": "uncertain", "l": "lost"}
    for share, letter, overlap in zip(visible, statuses, overlaps, strict=True):
        made.visible.append(share)
        made.results.append(Result((0.0, 0.0, 1.0, 1.0), 0.5, words[letter]))
        made.ious.append(overlap if share else float("nan"))
    return list(made.episodes(10.0))


def test_episodes_describe_occlusions_and_absences() -> None:
    visible = [1.0] * 5 + [0.3] * 6 + [1.0] * 3 + [0.2] + [0.0] * 6 + [0.6] * 4
    statuses = "t" * 5 + "u" * 6 + "t" * 6 + "l" * 4 + "l" * 2 + "t" * 2
    overlaps = [0.9] * 5 + [0.6] * 6 + [0.9] * 4 + [0.0] * 6 + [0.0] * 2 + [0.8] * 2
    assert episodes(visible, statuses, overlaps) == [
        "hidden up to 70%, 0.5 to 1.0 s: mean IoU 0.60",
        'out of the frame, 1.4 to 2.0 s: "lost" after 3 frame(s), found again after 3 frame(s)',
    ]


def test_episodes_report_failures() -> None:
    away = [1.0] * 2 + [0.0] * 6
    assert episodes([*away, 1.0], "t" * 9, [1.0] * 2 + [0.0] * 7) == [
        'out of the frame, 0.2 to 0.7 s: never called "lost", not found again'
    ]
    assert episodes(away, "t" * 8, [1.0] * 2 + [0.0] * 6) == [
        'out of the frame, 0.2 to 0.7 s: never called "lost"'
    ]
    assert episodes([1.0] + [0.0] * 4 + [1.0], "t" * 6, [1.0] * 6) == []
