"""The demo: render the clip, track the balloon, compare with the ground truth, write files.

In this order: the result (`DemoReport`), the run (`run_demo`), figures of all frames
(`DemoHistory`), output files, and the drawing of the video's strip and the contact sheet.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import cv2
import numpy as np

import siamtrack
from siamtrack.data.synthetic.scene import SceneFrame
from siamtrack.demo.film import FPS, FRAME_WH, film
from siamtrack.errors import ConfigError, OutputError
from siamtrack.geometry import iou
from siamtrack.tracking.result import Result
from siamtrack.types import Box, Color, FloatArray, Image
from siamtrack.utils.files import Closing, atomic_write
from siamtrack.video.draw import STATUS_BGR, draw_results
from siamtrack.video.tables import CsvSink
from siamtrack.video.video_writer import VideoSink

if TYPE_CHECKING:
    from siamtrack.tracking.tracker import Tracker

DEFAULT_FRAMES = 360
TRUTH_HEADER = "frame,time_s,target,x,y,w,h,visible"
SUCCESS_IOU = 0.5
STRIP_PX = 84

_HIDDEN_BELOW = 0.5  # visible fraction of the target below which an episode begins
_MIN_EPISODE = 5  # frames; shorter ones are not reported


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Result of the demo.

    `mean_iou` and `success_rate` count the frames that show the target, without the first one,
    whose box is given.
    """

    frame_count: int
    mean_iou: float  # mean overlap with the ground truth, in [0, 1]
    success_rate: float  # fraction of the frames with an overlap above `SUCCESS_IOU`
    fps: float  # frames per second of the tracker's `update` alone
    episodes: tuple[str, ...]  # one line for each time the target was hidden or out of the frame
    first_box_xywh: Box  # box the tracker started from, px
    files: Mapping[str, Path]  # as in `demo_files`


def demo_files(out_dir: str | Path) -> dict[str, Path]:
    """Paths of the files that `run_demo` writes, by their names in `DemoReport.files`."""
    folder = Path(out_dir)
    return {
        "clip": folder / "clip.mp4",  # as it was tracked
        "video": folder / "tracked.mp4",  # annotated
        "boxes": folder / "boxes.csv",
        "truth": folder / "truth.csv",
        "sheet": folder / "contact_sheet.png",
    }


def run_demo(
    out_dir: str | Path,
    *,
    seed: int = 0,
    frames: int = DEFAULT_FRAMES,
    overwrite: bool = False,
    weights: str | Path | None = None,
    tracker: Tracker | None = None,
    on_frame: Callable[[int], object] | None = None,
) -> DemoReport:
    """Render the clip, track its balloon, and compare with the exact ground truth.

    After an interruption, the videos and tables hold all frames so far.

    Args:
        out_dir: folder to write to; created if missing.
        seed: varies flight, camera and noise.
        frames: length of the clip at 30 frames per second, at least 2. The flight takes all of
            them, so lowering it makes the balloon fast and hard to track.
        overwrite: replace files of an earlier run.
        weights: as for `siamtrack.load`.
        tracker: used instead of `siamtrack.load(weights)`.
        on_frame: called with the number of every finished frame, 0-based.

    Raises:
        ConfigError: fewer than 2 frames.
        OutputError: files exist and `overwrite` is False, or cannot be written.
        WeightsError: the weights cannot be used.
    """
    if frames < 2:
        raise ConfigError(f"frames = {frames}; give 2 or more, {DEFAULT_FRAMES} are usual")
    files = demo_files(out_dir)
    taken = [str(path) for path in files.values() if path.exists()]
    if taken and not overwrite:
        raise OutputError(
            f"{', '.join(taken)} exist(s); choose another folder, or allow replacement "
            "(--overwrite, overwrite=True)"
        )
    tracker = siamtrack.load(weights) if tracker is None else tracker
    history = DemoHistory()
    first_box: Box = (0.0, 0.0, 0.0, 0.0)
    with _Recording(files, frames, overwrite=overwrite) as recording:
        for index, frame in enumerate(film(frames, seed)):
            # Nothing else may run while the tracker is timed.
            recording.wait()
            if index == 0:
                first_box = _as_box(frame.box_xywh)
                history.add(frame, tracker.init(frame.image_bgr, first_box), None)
            else:
                start_s = time.perf_counter()
                result = tracker.update(frame.image_bgr)
                history.add(frame, result, time.perf_counter() - start_s)
            recording.write(index, frame, history)
            if on_frame is not None:
                on_frame(index)
        recording.wait()
    save_sheet(files["sheet"], recording.pictures, history, FPS)
    return DemoReport(
        frame_count=frames,
        mean_iou=history.mean_iou,
        success_rate=history.success_rate,
        fps=history.fps,
        episodes=tuple(history.episodes(FPS)),
        first_box_xywh=first_box,
        files=files,
    )


@dataclass(slots=True)
class DemoHistory:
    """Results and figures so far, one entry per frame."""

    # Overlap with the ground truth in [0, 1]; nan where the target is not visible.
    ious: list[float] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    # Visible fraction of the target in [0, 1].
    visible: list[float] = field(default_factory=list)
    # Duration of each `update`; the first frame has none.
    update_s: list[float] = field(default_factory=list)

    def add(self, frame: SceneFrame, result: Result, update_s: float | None) -> None:
        """Add one frame; `update_s` is None for the first one."""
        self.ious.append(float(iou(result.box, frame.box_xywh)))
        self.results.append(result)
        self.visible.append(frame.visible_fraction)
        if update_s is not None:
            self.update_s.append(update_s)

    @property
    def mean_iou(self) -> float:
        """Mean overlap after the first frame where the target is visible; nan if never."""
        counted = self._counted()
        return float(counted.mean()) if counted.size else float("nan")

    @property
    def success_rate(self) -> float:
        """Fraction of the same frames with an overlap above `SUCCESS_IOU`; nan if none."""
        counted = self._counted()
        return float((counted > SUCCESS_IOU).mean()) if counted.size else float("nan")

    def _counted(self) -> FloatArray:
        after_first = np.array(self.ious[1:], dtype=np.float64)
        return np.asarray(after_first[np.isfinite(after_first)])

    @property
    def fps(self) -> float:
        """Frames per second of the tracker alone; nan before the first update."""
        total_s = sum(self.update_s)
        return len(self.update_s) / total_s if total_s > 0 else float("nan")

    def episodes(self, fps: float) -> list[str]:
        """One line for each time when less than half of the target was visible."""
        lines = []
        rows = range(len(self.results))
        for is_hidden, group in groupby(rows, lambda k: self.visible[k] < _HIDDEN_BELOW):
            frames = list(group)
            if not is_hidden or len(frames) < _MIN_EPISODE:
                continue
            first, last = frames[0], frames[-1]
            when = f"{first / fps:.1f} to {last / fps:.1f} s"
            away = [k for k in frames if self.visible[k] == 0]
            if away:
                lines.append(f"out of the frame, {when}: {self._absence(away[0], last)}")
            else:
                share = 1 - min(self.visible[k] for k in frames)
                overlap = np.mean([self.ious[k] for k in frames])
                lines.append(f"hidden up to {share:.0%}, {when}: mean IoU {overlap:.2f}")
        return lines

    def _absence(self, first: int, last: int) -> str:
        """How the tracker reported an absence from frame `first` to `last`, and its recovery."""
        lost = [k for k in range(first, last + 1) if self.results[k].status == "lost"]
        report = f'"lost" after {lost[0] - first + 1} frame(s)' if lost else 'never called "lost"'
        if last + 1 == len(self.results):
            return report
        found = [k for k in range(last + 1, len(self.ious)) if self.ious[k] > SUCCESS_IOU]
        recovery = f"found again after {found[0] - last} frame(s)" if found else "not found again"
        return f"{report}, {recovery}"


class _Recording(Closing):
    """All files but the contact sheet, and the pictures for it.

    A thread draws and encodes a frame while the caller renders the next one.
    """

    _SHEET_PICTURES, _SHEET_WH = 12, (416, 234)

    def __init__(self, files: Mapping[str, Path], frame_count: int, *, overwrite: bool) -> None:
        width, height = FRAME_WH
        steps = np.linspace(0, frame_count - 1, self._SHEET_PICTURES)
        self._shown = set(np.rint(steps).astype(int).tolist())
        self._timeline = Timeline(frame_count, width)
        self.pictures: list[tuple[float, Image]] = []
        strip_wh = (width, height + STRIP_PX)
        with ExitStack() as stack:
            enter = stack.enter_context
            self._clip = enter(VideoSink(files["clip"], FPS, FRAME_WH, overwrite=overwrite))
            self._video = enter(VideoSink(files["video"], FPS, strip_wh, overwrite=overwrite))
            self._boxes = enter(CsvSink(files["boxes"], overwrite=overwrite))
            self._truth_path = files["truth"]
            with _explain_errors(self._truth_path):
                # Buffered by line: every row is written at once.
                file = self._truth_path.open("w", encoding="utf-8", buffering=1)
                self._truth: TextIO = enter(closing(file))
                self._truth.write(TRUTH_HEADER + "\n")
            self._thread = enter(ThreadPoolExecutor(1, "demo-recording"))
            self._sinks = stack.pop_all()
        self._pending: Future[None] | None = None

    def close(self) -> None:
        """Finish all files."""
        self._sinks.close()

    def write(self, index: int, frame: SceneFrame, history: DemoHistory) -> None:
        """Start to record the newest frame of the history, which must not change until `wait`."""
        self._pending = self._thread.submit(self._write, index, frame, history)

    def wait(self) -> None:
        """Wait until everything is recorded; raises the error of the thread."""
        if self._pending is not None:
            self._pending.result()

    def _write(self, index: int, frame: SceneFrame, history: DemoHistory) -> None:
        # 1. Tables, and the clip as it was tracked.
        result, time_s = history.results[-1], index / FPS
        box = ",".join(f"{value:g}" for value in frame.box_xywh)
        with _explain_errors(self._truth_path):
            self._truth.write(f"{index},{time_s:.6f},0,{box},{frame.visible_fraction:.4f}\n")
        self._boxes.write(index, time_s, {0: result})
        self._clip.write(frame.image_bgr, time_s)

        # 2. The annotated video: true box white, the tracker's in the color of its status.
        marked = frame.image_bgr.copy()
        if np.isfinite(frame.box_xywh).all():
            x, y, w, h = (round(value) for value in _as_box(frame.box_xywh))
            cv2.rectangle(marked, (x, y), (x + w - 1, y + h - 1), (255, 255, 255), 1)
        fps = history.fps if history.update_s else None
        marked = draw_results(marked, {0: result}, fps=fps)
        self._video.write(np.vstack([marked, self._timeline.draw(history)]), time_s)

        # 3. Pictures for the contact sheet.
        if index in self._shown:
            small = cv2.resize(marked, self._SHEET_WH, interpolation=cv2.INTER_AREA)
            self.pictures.append((time_s, np.asarray(small, dtype=np.uint8)))


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}); free some space or choose another folder"
        ) from error


# Drawing: the strip under the video, and the contact sheet.

_DARK_BGR: Color = (30, 27, 25)
_GRID_BGR: Color = (62, 58, 54)
_HIDDEN_BGR: Color = (84, 78, 70)
_TRUTH_BGR: Color = (245, 245, 245)
_TEXT_BGR: Color = (205, 200, 196)
_LEFT_PX, _RIGHT_PX, _TOP_PX, _BOTTOM_PX = 118, 132, 12, 12
_FRACTION_BITS = 4  # of the coordinates that OpenCV draws with
_CURVES_PX = 320  # height of the sheet's curves


class Timeline:
    """Score, overlap and hidden fraction over time: the strip under the video, the sheet's curves.

    `plot` is (height_px, width_px, 3) uint8 BGR, with the frames added so far.
    """

    def __init__(self, frame_count: int, width_px: int, height_px: int = STRIP_PX) -> None:
        self._frame_count = frame_count
        self.plot = np.full((height_px, width_px, 3), _DARK_BGR, np.uint8)
        for value in (0.0, 0.5, 1.0):
            _, y = self._point(0, value)
            cv2.line(self.plot, (_LEFT_PX, y), (width_px - _RIGHT_PX, y), _GRID_BGR, 1)
        legend = {"score": STATUS_BGR["tracked"], "overlap": _TRUTH_BGR, "hidden": _HIDDEN_BGR}
        for number, (text, color) in enumerate(legend.items()):
            y = 22 + 23 * number
            cv2.rectangle(self.plot, (16, y - 5), (30, y + 2), color, cv2.FILLED)
            _put_text(self.plot, text, (40, y + 3))

    def add(self, history: DemoHistory, index: int) -> None:
        """Draw what stays of a frame: hidden fraction as an area, overlap and score as lines."""
        result, before = history.results[index], max(index - 1, 0)
        hidden = 1 - history.visible[index]
        if hidden > 0.01 and index:
            x0, top = self._point(before, hidden)
            x1, bottom = self._point(index, 0.0)
            cv2.rectangle(self.plot, (x0, top), (max(x0, x1 - 1), bottom), _HIDDEN_BGR, cv2.FILLED)
        if index:
            self._line(index, history.ious[before], history.ious[index], _TRUTH_BGR, 1)
            color = STATUS_BGR[result.status]
            self._line(index, history.results[before].score, result.score, color, 2)

    def draw(self, history: DemoHistory) -> Image:
        """Draw the strip up to the newest frame, (`STRIP_PX`, W, 3) BGR; call it once per frame."""
        newest = len(history.results) - 1
        result, overlap = history.results[newest], history.ious[newest]
        color = STATUS_BGR[result.status]
        self.add(history, newest)

        # A cursor at the current frame, and its figures.
        strip = self.plot.copy()
        cv2.line(strip, self._point(newest, 1.0), self._point(newest, 0.0), _TRUTH_BGR, 1)
        dot = self._point(newest, result.score)
        cv2.circle(strip, dot, 4, color, cv2.FILLED, cv2.LINE_AA)
        left = strip.shape[1] - _RIGHT_PX + 16
        if np.isfinite(overlap):
            _put_text(strip, "overlap", (left, 25))
            _put_text(strip, f"{overlap:.2f}", (left, 66), 1.15, _TRUTH_BGR, 2)
        else:
            _put_text(strip, "out of view", (left, 25))
        return strip

    def _line(self, newest: int, before: float, now: float, color: Color, width: int) -> None:
        """Extend a curve by one frame; nothing where one of its ends is nan."""
        if np.isfinite([before, now]).all():
            ends = [self._exact(newest - 1, before), self._exact(newest, now)]
            start, end = [(round(x * 16), round(y * 16)) for x, y in ends]  # 2**_FRACTION_BITS
            cv2.line(self.plot, start, end, color, width, cv2.LINE_AA, _FRACTION_BITS)

    def _exact(self, frame: float, value: float) -> tuple[float, float]:
        span = self.plot.shape[1] - _LEFT_PX - _RIGHT_PX
        x = _LEFT_PX + span * max(frame, 0) / max(self._frame_count - 1, 1)
        height_px = self.plot.shape[0]
        return x, height_px - _BOTTOM_PX - value * (height_px - _TOP_PX - _BOTTOM_PX)

    def x_of(self, frame: float) -> int:
        """Column of a frame."""
        return round(self._exact(frame, 0.0)[0])

    def _point(self, frame: int, value: float) -> tuple[int, int]:
        x, y = self._exact(frame, value)
        return round(x), round(y)


def _put_text(
    image: Image,
    text: str,
    origin: tuple[int, int],
    size: float = 0.45,
    color: Color = _TEXT_BGR,
    width: int = 1,
) -> None:
    cv2.putText(image, text, origin, cv2.FONT_HERSHEY_SIMPLEX, size, color, width, cv2.LINE_AA)


def save_sheet(
    path: Path, pictures: Sequence[tuple[float, Image]], history: DemoHistory, fps: float
) -> None:
    """Write the contact sheet, a PNG: rows of four frames above the curves of the whole clip.

    Each picture comes with its time in s.

    Raises:
        OutputError: it cannot be written.
    """
    # 1. Pictures with their times, four in a row.
    columns, gap_px = 4, 6
    rows = -(-len(pictures) // columns)
    height, width = pictures[0][1].shape[:2]
    grid = np.full((rows * (height + gap_px), columns * (width + gap_px), 3), _DARK_BGR, np.uint8)
    for number, (time_s, image) in enumerate(pictures):
        row, column = divmod(number, columns)
        y, x = row * (height + gap_px), column * (width + gap_px)
        grid[y : y + height, x : x + width] = image
        _put_text(grid, f"{time_s:.1f} s", (x + width - 70, y + height - 10), 0.6, _TRUTH_BGR)

    # 2. Curves, under a line with the figures and above the times.
    curves = Timeline(len(history.results), grid.shape[1], _CURVES_PX)
    for index in range(len(history.results)):
        curves.add(history, index)
    title, times = np.full((2, 40, grid.shape[1], 3), _DARK_BGR, np.uint8)
    _put_text(
        title,
        f"mean IoU {history.mean_iou:.3f}, above {SUCCESS_IOU} in {history.success_rate:.0%} of "
        "the frames that show the target",
        (_LEFT_PX, 28), 0.6, _TRUTH_BGR,
    )  # fmt: skip
    for second in range(math.ceil(len(history.results) / fps)):
        _put_text(times, f"{second} s", (curves.x_of(second * fps) - 8, 20))
    sheet = np.vstack([grid, title, curves.plot, times])
    content = cv2.imencode(".png", sheet)[1].tobytes()
    atomic_write(path, content, "choose another folder")


def _as_box(box_xywh: FloatArray) -> Box:
    x, y, w, h = box_xywh.tolist()
    return x, y, w, h
