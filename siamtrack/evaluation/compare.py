"""Several trackers side by side on one video: `run_side_by_side`, and the panels that show it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from siamtrack.errors import EvaluationError
from siamtrack.evaluation.metrics import frame_rate
from siamtrack.evaluation.runs import TimedTracker
from siamtrack.evaluation.trackers import TrackerEntry
from siamtrack.geometry import iou, parse_first_box
from siamtrack.types import Color, FloatArray, Image
from siamtrack.video.draw import draw_outlines

PANEL_WIDTH_PX = 640
TITLE_PX = 30
TITLE_BGR: Color = (30, 28, 28)
TEXT_BGR: Color = (245, 245, 245)
TRUTH_BGR: Color = (90, 220, 60)
COLORS_BGR: tuple[Color, ...] = ((50, 60, 250), (240, 150, 30), (40, 200, 250), (210, 90, 200),
                                 (40, 140, 255), (210, 200, 40))  # fmt: skip


@dataclass(slots=True)
class TrackerRun:
    """One tracker up to the present frame."""

    label: str
    tracker: TimedTracker
    box: FloatArray  # (4,) the last one it gave, xywh px
    times_s: list[float] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)  # with the truth, first frame excluded
    failure: str = ""  # why it is no longer called

    @property
    def fps(self) -> float:
        """Frames per second of `init` and `update`."""
        return frame_rate(self.times_s)

    @property
    def average_overlap(self) -> float:
        """Mean overlap with the truth; NaN without one."""
        return float(np.mean(self.overlaps)) if self.overlaps else float("nan")

    def step(self, number: int, image: Image) -> None:
        """Track one frame. A tracker that fails keeps its last box and is not called again."""
        if self.failure:
            return
        try:
            if number == 0:
                seconds = self.tracker.init(number, image, self.box)
            else:
                self.box, seconds = self.tracker.update(number, image)
            self.times_s.append(seconds)
        except EvaluationError as error:
            self.failure = str(error)


@dataclass(frozen=True, slots=True)
class ComparedFrame:
    """One frame of a comparison; `truth` is None where it is not known."""

    image: Image
    runs: Sequence[TrackerRun]
    truth: FloatArray | None


def run_side_by_side(
    trackers: Sequence[TrackerEntry],
    images: Iterable[Image],
    box: Sequence[float],
    truth: FloatArray | None = None,
) -> Iterator[ComparedFrame]:
    """Run every tracker over the same frames, one after another on each.

    All start with `box`, xywh px, on the first image. `truth` is (N, 4), NaN where the target is
    absent; it may end before the images do.

    Raises:
        InvalidBoxError: a box that cannot be tracked.
        EvaluationError: a tracker that cannot be built.
    """
    runs: list[TrackerRun] = []
    for number, image in enumerate(images):
        if number == 0:
            first = parse_first_box(box, (image.shape[1], image.shape[0]))
            runs = [
                TrackerRun(t.label, TimedTracker(t.spec.build()), first.copy()) for t in trackers
            ]
        known = truth[number] if truth is not None and number < len(truth) else None
        for run in runs:
            run.step(number, image)
            if number and known is not None and np.isfinite(known).all():
                run.overlaps.append(float(iou(run.box, known)))
        yield ComparedFrame(image, runs, known)


def panels_wh(count: int, frame_wh: tuple[int, int]) -> tuple[int, int]:
    """Size in px of the picture of `draw_panels` with `count` trackers."""
    columns, rows, width, height = _layout(count, frame_wh)
    return width * columns, (height + TITLE_PX) * rows


def draw_panels(frame: ComparedFrame) -> Image:
    """(H, W, 3) BGR: per tracker its name, speed and overlap above its box and the truth."""
    frame_wh = (frame.image.shape[1], frame.image.shape[0])
    columns, rows, width, height = _layout(len(frame.runs), frame_wh)
    canvas = np.full((rows * (height + TITLE_PX), columns * width, 3), 18, np.uint8)
    method = cv2.INTER_AREA if width < frame_wh[0] else cv2.INTER_LINEAR
    resized = cv2.resize(frame.image, (width, height), interpolation=method)
    small = np.asarray(resized, dtype=np.uint8)
    scale = np.array([width / frame_wh[0], height / frame_wh[1]] * 2)
    for index, run in enumerate(frame.runs):
        color = COLORS_BGR[index % len(COLORS_BGR)]
        boxes = [(run.box * scale, color)]
        if frame.truth is not None:
            boxes.insert(0, (frame.truth * scale, TRUTH_BGR))
        top, left = (index // columns) * (height + TITLE_PX), (index % columns) * width
        _draw_title(canvas[top : top + TITLE_PX, left : left + width], run, color)
        panel = canvas[top + TITLE_PX : top + TITLE_PX + height, left : left + width]
        panel[:] = draw_outlines(small, boxes)
    return canvas


def _layout(count: int, frame_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """Columns and rows of panels, width and height in px of the frame in each."""
    columns = {1: 1, 2: 2, 4: 2}.get(count, 3)
    width = min(PANEL_WIDTH_PX, max(frame_wh[0], PANEL_WIDTH_PX // 2))
    return columns, -(-count // columns), width, max(2, round(frame_wh[1] * width / frame_wh[0]))


def _draw_title(title: Image, run: TrackerRun, color: Color) -> None:
    """Fill a (TITLE_PX, W, 3) part of the picture: color, label, and figures flush right."""

    def write(text: str, x: int) -> None:
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(title, text, (x, 20), font, 0.5, TEXT_BGR, 1, cv2.LINE_AA)

    def width_px(text: str) -> int:
        return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]

    title[:] = TITLE_BGR
    cv2.rectangle(title, (8, 8), (21, 21), color, cv2.FILLED)
    figures = run.failure or f"{run.fps:.0f} fps"
    if run.overlaps and not run.failure:
        figures += f", overlap {run.average_overlap:.2f}"
    room = title.shape[1] - width_px(figures) - 12
    write(run.label, 30)
    if room < 30 + width_px(run.label):  # the figures cover the end of a long label
        cv2.rectangle(title, (room - 8, 0), (title.shape[1], TITLE_PX), TITLE_BGR, cv2.FILLED)
    write(figures, max(room, 30))
