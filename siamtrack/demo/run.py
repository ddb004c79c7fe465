"""What happened in the demo so far, frame by frame."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

import siamtrack
from siamtrack.data.synthetic.scene import SceneFrame
from siamtrack.demo.film import FPS, FRAME_WH, film
from siamtrack.errors import ConfigError, OutputError
from siamtrack.geometry import iou
from siamtrack.tracking.result import Result
from siamtrack.types import Color, FloatArray, Image
from siamtrack.video.draw import STATUS_BGR, draw_results
from siamtrack.video.tables import CsvSink
from siamtrack.video.video_writer import VideoSink

SUCCESS_IOU = 0.5


@dataclass(slots=True)
class History:
    """Grows by one entry per frame.

    Attributes:
        ious: overlap with the truth in [0, 1]; nan where the target cannot be seen.
        results: what the tracker said.
        visible: share of the target that can be seen.
        update_s: time that `update` took; nothing for the first frame, whose box is given.
    """

    ious: list[float] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    visible: list[float] = field(default_factory=list)
    update_s: list[float] = field(default_factory=list)

    def add(self, frame: SceneFrame, result: Result, update_s: float | None) -> None:
        """Note one frame.

        Args:
            frame: image and truth.
            result: what the tracker said.
            update_s: time it took; None for the first frame.
        """
        self.ious.append(float(iou(result.box, frame.box_xywh)))
        self.results.append(result)
        self.visible.append(frame.visible_fraction)
        if update_s is not None:
            self.update_s.append(update_s)

    @property
    def scores(self) -> list[float]:
        """The tracker's score in every frame."""
        return [result.score for result in self.results]

    @property
    def _judged(self) -> FloatArray:
        """Overlaps after the first frame, where there is a truth."""
        after = np.array(self.ious[1:], dtype=np.float64)
        return np.asarray(after[np.isfinite(after)])

    @property
    def mean_iou(self) -> float:
        """Mean overlap with the truth, the given first frame left out; nan if nothing is left."""
        return float(self._judged.mean()) if self._judged.size else float("nan")

    @property
    def success_rate(self) -> float:
        """Share of the same frames with an overlap above `SUCCESS_IOU`; nan if nothing is left."""
        return float((self._judged > SUCCESS_IOU).mean()) if self._judged.size else float("nan")

    @property
    def fps(self) -> float:
        """Frames per second of the tracker alone; nan before the first update."""
        total_s = sum(self.update_s)
        return len(self.update_s) / total_s if total_s > 0 else float("nan")


_COLUMNS = 4
_WIDTH_IN, _CURVES_IN = 15.0, 3.0
_GROUND, _INK = "#191b1e", "#e8e8e6"


def save_sheet(
    path: Path, pictures: Sequence[tuple[float, Image]], history: History, fps: float
) -> None:
    """Write the contact sheet as PNG; an older file is replaced only by a whole new one.

    Args:
        path: where to.
        pictures: time in seconds and uint8 (H, W, 3) BGR frame, in the order of the film.
        history: what the curves show.
        fps: frames per second of the film.

    Raises:
        OutputError: it cannot be written.
    """
    rows = -(-len(pictures) // _COLUMNS)
    height, width = pictures[0][1].shape[:2]
    pictures_in = rows * _WIDTH_IN / _COLUMNS * height / width
    total_in = pictures_in + _CURVES_IN
    figure = Figure(figsize=(_WIDTH_IN, total_in), facecolor=_GROUND)
    cell_w, cell_h = 1 / _COLUMNS, pictures_in / total_in / rows
    for number, (time_s, image) in enumerate(pictures):
        row, column = divmod(number, _COLUMNS)
        corner = column * cell_w + 0.002, 1 - (row + 1) * cell_h + 0.002
        cell = figure.add_axes((*corner, cell_w - 0.004, cell_h - 0.004))
        cell.axis("off")
        cell.imshow(image[..., ::-1], interpolation="antialiased")
        cell.text(
            0.985, 0.03, f"{time_s:.1f} s", transform=cell.transAxes, ha="right", color=_INK,
            fontsize=9, bbox={"facecolor": "#00000099", "edgecolor": "none", "pad": 2.5},
        )  # fmt: skip
    share = _CURVES_IN / total_in
    _plot(figure.add_axes((0.045, 0.2 * share, 0.94, 0.62 * share)), history, fps)
    part_path = path.with_name(f".{path.name}.part")
    try:
        figure.savefig(part_path, format="png", dpi=110, facecolor=_GROUND)
        os.replace(part_path, path)
    except OSError as error:
        part_path.unlink(missing_ok=True)
        raise OutputError(
            f"{path} cannot be written ({error.strerror}); choose another folder"
        ) from error


def _plot(axes: Axes, history: History, fps: float) -> None:
    """Overlap, score and hidden share over time."""
    time_s = np.arange(len(history.ious)) / fps
    axes.set_facecolor(_GROUND)
    hidden = 1 - np.array(history.visible)
    axes.fill_between(
        time_s, hidden, color="#5a5f66", linewidth=0, label="hidden share of the target"
    )
    axes.plot(time_s, history.ious, color=_INK, linewidth=1.3, label="overlap with the truth (IoU)")
    tracked = "#{2:02x}{1:02x}{0:02x}".format(*STATUS_BGR["tracked"])
    axes.plot(time_s, history.scores, color=tracked, linewidth=1.8, label="score of the tracker")
    axes.set(xlim=(0, max(time_s[-1], 1 / fps)), ylim=(0, 1.03), xlabel="time in s")
    axes.set_title(
        f"mean IoU {history.mean_iou:.3f}, above 0.5 in {history.success_rate:.0%} of the frames",
        color=_INK, loc="left", fontsize=12,
    )  # fmt: skip
    axes.legend(
        ncols=3, loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, labelcolor=_INK
    )
    axes.tick_params(colors=_INK)
    axes.xaxis.label.set_color(_INK)
    axes.grid(alpha=0.15)
    for spine in axes.spines.values():
        spine.set_color("#5a5f66")


STRIP_PX = 84

_LINE_GROUND: Color = (30, 27, 25)
_GRID: Color = (62, 58, 54)
_HIDDEN: Color = (84, 78, 70)
_TRUTH: Color = (245, 245, 245)
_LINE_INK: Color = (205, 200, 196)
_LEFT_PX, _RIGHT_PX, _TOP_PX, _BOTTOM_PX = 118, 132, 12, 12
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FINE = 4  # fractional bits of the coordinates that OpenCV draws with


class Timeline:
    """Draws the strip; what was drawn once stays.

    Args:
        frame_count: length of the whole film.
        width_px: width of the strip.
    """

    def __init__(self, frame_count: int, width_px: int) -> None:
        self._frame_count = frame_count
        self._plot = np.full((STRIP_PX, width_px, 3), _LINE_GROUND, np.uint8)
        for value in (0.0, 0.5, 1.0):
            y = self._y(value)
            cv2.line(self._plot, (_LEFT_PX, y), (width_px - _RIGHT_PX, y), _GRID, 1)
        marks = (("score", STATUS_BGR["tracked"]), ("overlap", _TRUTH), ("hidden", _HIDDEN))
        for number, (text, colour) in enumerate(marks):
            y = 22 + 23 * number
            cv2.rectangle(self._plot, (16, y - 5), (30, y + 1 if text != "hidden" else y + 3),
                          colour, cv2.FILLED)  # fmt: skip
            _write(self._plot, text, (40, y + 3))

    def draw(self, history: History) -> Image:
        """Strip with everything up to the newest frame of a history: (`STRIP_PX`, W, 3) BGR.

        To be called once for every frame.
        """
        newest = len(history.results) - 1
        self._extend(history, newest)
        strip = self._plot.copy()
        x = self._x(newest)
        cv2.line(strip, (x, self._y(1.0)), (x, self._y(0.0)), _TRUTH, 1)
        colour = STATUS_BGR[history.results[newest].status]
        cv2.circle(
            strip, (x, self._y(history.results[newest].score)), 4, colour, cv2.FILLED, cv2.LINE_AA
        )
        left = strip.shape[1] - _RIGHT_PX + 16
        overlap = history.ious[newest]
        _write(strip, "overlap" if np.isfinite(overlap) else "out of view", (left, 25))
        if np.isfinite(overlap):
            cv2.putText(strip, f"{overlap:.2f}", (left, 66), _FONT, 1.15, _TRUTH, 2, cv2.LINE_AA)
        return strip

    def _extend(self, history: History, newest: int) -> None:
        x0, x1 = self._x(newest - 1), self._x(newest)
        hidden = 1 - history.visible[newest]
        if hidden > 0.01 and newest:
            top = (x0, self._y(hidden))
            cv2.rectangle(self._plot, top, (max(x0, x1 - 1), self._y(0.0)), _HIDDEN, cv2.FILLED)
        if newest == 0:
            return
        colour = STATUS_BGR[history.results[newest].status]
        scores = [result.score for result in history.results[newest - 1 :]]
        for pair, bgr, width in ((history.ious[newest - 1 :], _TRUTH, 1), (scores, colour, 2)):
            if np.isfinite(pair).all():
                self._line((newest - 1, pair[0]), (newest, pair[1]), bgr, width)

    def _line(
        self, start: tuple[int, float], end: tuple[int, float], colour: Color, width: int
    ) -> None:
        scale = 2**_FINE
        points = [
            (round(self._exact_x(frame) * scale), round(self._exact_y(value) * scale))
            for frame, value in (start, end)
        ]
        cv2.line(self._plot, points[0], points[1], colour, width, cv2.LINE_AA, _FINE)

    def _exact_x(self, frame: int) -> float:
        span = self._plot.shape[1] - _LEFT_PX - _RIGHT_PX
        return _LEFT_PX + span * max(frame, 0) / max(self._frame_count - 1, 1)

    def _exact_y(self, value: float) -> float:
        return STRIP_PX - _BOTTOM_PX - value * (STRIP_PX - _TOP_PX - _BOTTOM_PX)

    def _x(self, frame: int) -> int:
        return round(self._exact_x(frame))

    def _y(self, value: float) -> int:
        return round(self._exact_y(value))


def _write(image: Image, text: str, origin: tuple[int, int]) -> None:
    cv2.putText(image, text, origin, _FONT, 0.45, _LINE_INK, 1, cv2.LINE_AA)


DEFAULT_FRAMES = 360
TRUTH_HEADER = "frame,time_s,x,y,w,h,visible"

_SHEET_PICTURES = 12
_SHEET_SHRINK = 0.6
_TRUTH_BGR = (255, 255, 255)


class SingleTracker(Protocol):
    """The part of `siamtrack.Tracker` that the demo uses."""

    def init(self, frame: Image, box: Sequence[float]) -> Result:
        """Start on a box."""
        ...

    def update(self, frame: Image) -> Result:
        """Find it in the next frame."""
        ...


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What came out.

    Attributes:
        frame_count: frames of the film.
        mean_iou: mean overlap of the tracker's boxes with the truth, in [0, 1], over all frames
            but the first, whose box is given.
        success_rate: share of these frames with an overlap above 0.5.
        fps: frames per second of the tracker's `update` alone.
        first_box_xywh: box the tracker started from, in px.
        files: what was written, by what it is: "clip" (the film as it was tracked), "video"
            (annotated), "boxes" and "truth" (CSV), "sheet" (PNG).
    """

    frame_count: int
    mean_iou: float
    success_rate: float
    fps: float
    first_box_xywh: tuple[float, float, float, float]
    files: Mapping[str, Path]


def demo_files(out_dir: str | Path) -> dict[str, Path]:
    """Paths of the files that `run_demo` writes, by what they are; see `DemoReport`."""
    folder = Path(out_dir)
    return {
        "clip": folder / "clip.mp4",
        "video": folder / "tracked.mp4",
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
    tracker: SingleTracker | None = None,
    on_frame: Callable[[int], object] | None = None,
) -> DemoReport:
    """Track a balloon in a film that is made on the spot, and compare with the exact truth.

    The balloon goes once around a motorcycle: it moves, turns, changes size and is partly hidden
    for a while. If it is interrupted, the videos and tables hold everything up to then.

    Args:
        out_dir: folder to write to; made if it is missing.
        seed: varies the flight and the camera's motion.
        frames: length of the film at 30 frames per second, at least 2. The balloon takes all of
            them for its way, so lowering it makes the film fast and hard.
        overwrite: replace files of an earlier run.
        weights: what to track with; see `siamtrack.load`.
        tracker: tracks in place of `siamtrack.load(weights)`.
        on_frame: called with the number of every finished frame, 0-based.

    Raises:
        ConfigError: fewer than 2 frames.
        OutputError: files exist and `overwrite` is False, or cannot be written.
        WeightsError: the weights cannot be used.
        DatasetError: scikit-image was installed without its pictures.
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
    history = History()
    with _Recording(files, frames, overwrite=overwrite) as recording:
        for index, frame in enumerate(film(frames, seed)):
            # Nothing else may run while the tracker is timed.
            recording.settle()
            history.add(frame, *_track(tracker, index, frame))
            recording.write(index, frame, history)
            if on_frame is not None:
                on_frame(index)
        recording.settle()
    save_sheet(files["sheet"], recording.pictures, history, FPS)
    return DemoReport(
        frame_count=frames,
        mean_iou=history.mean_iou,
        success_rate=history.success_rate,
        fps=history.fps,
        first_box_xywh=recording.first_box_xywh,
        files=files,
    )


def _track(tracker: SingleTracker, index: int, frame: SceneFrame) -> tuple[Result, float | None]:
    """What the tracker says about a frame and how long it took; no time for the first one."""
    if index == 0:
        return tracker.init(frame.image_bgr, _numbers(frame.box_xywh)), None
    start_s = time.perf_counter()
    result = tracker.update(frame.image_bgr)
    return result, time.perf_counter() - start_s


class _Recording:
    """All files of the demo but the contact sheet, and the pictures for that.

    One frame is drawn and encoded while the caller renders the next one.
    """

    def __init__(self, files: Mapping[str, Path], frame_count: int, *, overwrite: bool) -> None:
        width, height = FRAME_WH
        steps = np.linspace(0, frame_count - 1, _SHEET_PICTURES)
        self._shown = set(np.rint(steps).astype(int).tolist())
        self._timeline = Timeline(frame_count, width)
        self.pictures: list[tuple[float, Image]] = []
        self.first_box_xywh = (0.0, 0.0, 0.0, 0.0)
        with ExitStack() as stack:
            self._clip = stack.enter_context(
                VideoSink(files["clip"], FPS, FRAME_WH, overwrite=overwrite)
            )
            self._video = stack.enter_context(
                VideoSink(files["video"], FPS, (width, height + STRIP_PX), overwrite=overwrite)
            )
            self._boxes = stack.enter_context(CsvSink(files["boxes"], overwrite=overwrite))
            self._truth = stack.enter_context(_TruthTable(files["truth"]))
            self._worker = stack.enter_context(ThreadPoolExecutor(1, "demo-recording"))
            self._sinks = stack.pop_all()
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sinks.__exit__(kind, error, trace)

    def write(self, index: int, frame: SceneFrame, history: History) -> None:
        """Begin to record one frame, the newest one of the history, which must not change yet."""
        self._pending = self._worker.submit(self._write, index, frame, history)

    def settle(self) -> None:
        """Wait until everything so far is recorded; raises what went wrong with it."""
        if self._pending is not None:
            self._pending.result()

    def _write(self, index: int, frame: SceneFrame, history: History) -> None:
        result = history.results[-1]
        if index == 0:
            self.first_box_xywh = _numbers(frame.box_xywh)
        self._truth.write(index, frame)
        self._boxes.write(index, index / FPS, {0: result})
        self._clip.write(frame.image_bgr, index / FPS)
        marked = frame.image_bgr.copy()
        if np.isfinite(frame.box_xywh).all():
            x, y, w, h = (round(value) for value in _numbers(frame.box_xywh))
            cv2.rectangle(marked, (x, y), (x + w - 1, y + h - 1), _TRUTH_BGR, 1)
        fps = history.fps if history.update_s else None
        marked = draw_results(marked, {0: result}, fps=fps)
        if index in self._shown:
            size = (round(FRAME_WH[0] * _SHEET_SHRINK), round(FRAME_WH[1] * _SHEET_SHRINK))
            small = cv2.resize(marked, size, interpolation=cv2.INTER_AREA)
            self.pictures.append((index / FPS, np.asarray(small, dtype=np.uint8)))
        self._video.write(np.vstack([marked, self._timeline.draw(history)]), index / FPS)


class _TruthTable:
    """True boxes as CSV, one line per frame, each on the disk as soon as it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise self._error(error) from error
        self._append(TRUTH_HEADER)

    def write(self, index: int, frame: SceneFrame) -> None:
        """Write one frame; nan where nothing of the target can be seen."""
        box = ",".join(f"{value:g}" for value in frame.box_xywh)
        self._append(f"{index},{index / FPS:.6f},{box},{frame.visible_fraction:.4f}")

    def _append(self, line: str) -> None:
        try:
            self._file.write(line + "\n")
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self._path} cannot be written ({error.strerror}); free some space or choose "
            "another folder"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _numbers(box_xywh: NDArray[np.float64]) -> tuple[float, float, float, float]:
    x, y, w, h = (float(value) for value in box_xywh)
    return x, y, w, h
