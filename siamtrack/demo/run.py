"""Make a film, track the balloon in it, compare with the truth, and leave something to look at."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

import siamtrack
from siamtrack.data.synthetic.scene import SceneFrame
from siamtrack.demo.film import FPS, FRAME_WH, film
from siamtrack.demo.history import History
from siamtrack.demo.sheet import save_sheet
from siamtrack.demo.timeline import STRIP_PX, Timeline
from siamtrack.errors import ConfigError, OutputError
from siamtrack.tracking.result import Result
from siamtrack.video.draw import draw_results
from siamtrack.video.sinks import CsvSink, VideoSink

Image = NDArray[np.uint8]

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
