"""Several trackers side by side on one video."""

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

PANEL_WIDTH_PX = 640
TITLE_PX = 30
FONT = cv2.FONT_HERSHEY_SIMPLEX
TITLE_BGR: Color = (30, 28, 28)
INK_BGR: Color = (245, 245, 245)
TRUTH_BGR: Color = (90, 220, 60)
COLOURS_BGR: tuple[Color, ...] = (
    (50, 60, 250),
    (240, 150, 30),
    (40, 200, 250),
    (210, 90, 200),
    (40, 140, 255),
    (210, 200, 40),
)


@dataclass(slots=True)
class Contender:
    """One tracker as it goes.

    Attributes:
        label: how it is called.
        session: calls it.
        box: where it says the target is, xywh px.
        times_s: seconds per frame so far.
        overlaps: with the truth, where there is one.
        failure: why it is no longer asked; empty while it works.
    """

    label: str
    session: TimedTracker
    box: FloatArray
    times_s: list[float] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)
    failure: str = ""

    @property
    def fps(self) -> float:
        """Frames per second of `init` and `update`."""
        return frame_rate(self.times_s)

    @property
    def average_overlap(self) -> float:
        """Mean overlap with the truth; NaN without one."""
        return float(np.mean(self.overlaps)) if self.overlaps else float("nan")


@dataclass(frozen=True, slots=True)
class Moment:
    """One frame of a comparison: the picture, every contender, the true box or None."""

    image: Image
    contenders: Sequence[Contender]
    truth: FloatArray | None


def contend(
    trackers: Sequence[TrackerEntry],
    images: Iterable[Image],
    box: Sequence[float],
    truth: FloatArray | None = None,
) -> Iterator[Moment]:
    """Run every tracker over the same frames, one after another on each.

    A tracker that fails keeps its last box and is asked no more.

    Args:
        trackers: what runs.
        images: frames, the first one to start on.
        box: xywh px on it.
        truth: (N, 4) true boxes, NaN where absent, as far as they are known.

    Raises:
        InvalidBoxError: a box that cannot be tracked.
        EvaluationError: a tracker that cannot be built.
    """
    contenders: list[Contender] = []
    for number, image in enumerate(images):
        if number == 0:
            first = parse_first_box(box, (image.shape[1], image.shape[0]))
            contenders = [
                Contender(entry.label, TimedTracker(entry.spec.build()), first.copy())
                for entry in trackers
            ]
        known = truth[number] if truth is not None and number < len(truth) else None
        for contender in contenders:
            _step(contender, number, image)
            if number and known is not None and np.isfinite(known).all():
                contender.overlaps.append(float(iou(contender.box, known)))
        yield Moment(image, contenders, known)


def _step(contender: Contender, number: int, image: Image) -> None:
    if contender.failure:
        return
    try:
        if number == 0:
            contender.times_s.append(contender.session.init(number, image, contender.box))
        else:
            contender.box, spent = contender.session.update(number, image)
            contender.times_s.append(spent)
    except EvaluationError as error:
        contender.failure = str(error)


def panels_wh(count: int, frame_wh: tuple[int, int]) -> tuple[int, int]:
    """Size of the picture of `side_by_side` in px."""
    width, height = _panel_wh(frame_wh)
    columns, rows = _grid(count)
    return width * columns, (height + TITLE_PX) * rows


def side_by_side(moment: Moment) -> Image:
    """A panel per tracker with its name, speed and overlap above and its box on the frame.

    Args:
        moment: from `contend`.

    Returns:
        uint8 (H, W, 3) BGR of `panels_wh`.
    """
    frame_wh = (moment.image.shape[1], moment.image.shape[0])
    width, height = _panel_wh(frame_wh)
    columns, rows = _grid(len(moment.contenders))
    canvas = np.full((rows * (height + TITLE_PX), columns * width, 3), 18, np.uint8)
    method = cv2.INTER_AREA if width < frame_wh[0] else cv2.INTER_LINEAR
    resized = cv2.resize(moment.image, (width, height), interpolation=method)
    small = np.asarray(resized, dtype=np.uint8)
    scale = np.array([width / frame_wh[0], height / frame_wh[1]] * 2)
    for index, contender in enumerate(moment.contenders):
        panel = small.copy()
        if moment.truth is not None:
            _draw_box(panel, moment.truth * scale, TRUTH_BGR)
        _draw_box(panel, contender.box * scale, COLOURS_BGR[index % len(COLOURS_BGR)])
        top, left = (index // columns) * (height + TITLE_PX), (index % columns) * width
        _draw_title(canvas[top : top + TITLE_PX, left : left + width], contender, index)
        canvas[top + TITLE_PX : top + TITLE_PX + height, left : left + width] = panel
    return canvas


def _grid(count: int) -> tuple[int, int]:
    """Columns and rows: two side by side, four in a square, never more than three abreast."""
    columns = {1: 1, 2: 2, 4: 2}.get(count, 3)
    return columns, -(-count // columns)


def _panel_wh(frame_wh: tuple[int, int]) -> tuple[int, int]:
    width = min(PANEL_WIDTH_PX, max(frame_wh[0], PANEL_WIDTH_PX // 2))
    return width, max(2, round(frame_wh[1] * width / frame_wh[0]))


def _draw_box(panel: Image, box: FloatArray, colour: Color) -> None:
    if not np.isfinite(box).all():
        return
    corners = np.rint([*box[:2], *(box[:2] + box[2:])]).astype(int).tolist()
    for ink, width in (((0, 0, 0), 4), (colour, 2)):
        cv2.rectangle(panel, tuple(corners[:2]), tuple(corners[2:]), ink, width, cv2.LINE_AA)


def _draw_title(title: Image, contender: Contender, index: int) -> None:
    title[:] = TITLE_BGR
    cv2.rectangle(title, (8, 8), (21, 21), COLOURS_BGR[index % len(COLOURS_BGR)], cv2.FILLED)
    said = contender.failure or f"{contender.fps:.0f} fps"
    if contender.overlaps and not contender.failure:
        said += f", overlap {contender.average_overlap:.2f}"
    width = cv2.getTextSize(said, FONT, 0.5, 1)[0][0]
    room = title.shape[1] - width - 12
    cv2.putText(title, contender.label, (30, 20), FONT, 0.5, INK_BGR, 1, cv2.LINE_AA)
    if room < 30 + cv2.getTextSize(contender.label, FONT, 0.5, 1)[0][0]:
        cv2.rectangle(title, (room - 8, 0), (title.shape[1], TITLE_PX), TITLE_BGR, cv2.FILLED)
    cv2.putText(title, said, (max(room, 30), 20), FONT, 0.5, INK_BGR, 1, cv2.LINE_AA)
