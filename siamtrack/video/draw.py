"""Drawing results on frames; every function returns a new picture.

Lines have a dark rim and texts a filled box behind them, to be readable on any background.
Everything scales with the frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from siamtrack.types import Box, Color, FloatArray, Image

if TYPE_CHECKING:
    from siamtrack.tracking.result import Result

STATUS_BGR: Mapping[str, Color] = {
    "tracked": (80, 200, 40),
    "uncertain": (0, 170, 255),
    "lost": (70, 70, 250),
}
"""Color of the box by status, BGR: green, amber, red."""

ACCENTS_BGR: tuple[Color, ...] = (
    (240, 190, 60),
    (230, 110, 220),
    (120, 230, 230),
    (255, 130, 120),
    (200, 230, 150),
    (150, 140, 250),
    (210, 210, 210),
    (130, 190, 240),
)
"""Colors that distinguish targets, BGR; the ninth target has the first one again."""

_DARK: Color = (24, 24, 24)
_LIGHT: Color = (245, 245, 245)
_SELECTION: Color = (255, 200, 60)
_FONT = cv2.FONT_HERSHEY_SIMPLEX

_Rect: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in px."""


def fit_image(image: Image, wh: tuple[int, int]) -> Image:
    """Fit a picture into `wh` px: scaled without distortion, with black borders where it ends."""
    width, height = wh
    scale = min(width / image.shape[1], height / image.shape[0])
    inner_wh = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    left, top = (width - inner_wh[0]) // 2, (height - inner_wh[1]) // 2
    fitted = np.zeros((height, width, 3), np.uint8)
    inner = fitted[top : top + inner_wh[1], left : left + inner_wh[0]]
    inner[:] = cv2.resize(image, inner_wh, interpolation=method)
    return fitted


class Style:
    """Sizes of what is drawn, which look the same on small and large frames.

    Attributes:
        line_px: width of a box's line.
        font_scale: OpenCV's font scale, where 1 is letters of about 22 px.
        stroke_px: width of a letter's stroke.
        pad_px: space around a text.
    """

    def __init__(self, image: Image) -> None:
        short_px = min(image.shape[:2])
        self.line_px = max(1, round(short_px / 270))
        self.font_scale = float(np.clip(short_px / 1000, 0.4, 4.0))
        self.stroke_px = max(1, round(1.6 * self.font_scale))
        self.pad_px = max(2, round(7 * self.font_scale))

    def text_wh(self, text: str) -> tuple[int, int]:
        """Width and height of a line of text in its box, padding included.

        The height is the same for every text: boxes side by side line up.
        """
        (width, _), _ = cv2.getTextSize(text, _FONT, self.font_scale, self.stroke_px)
        return width + 2 * self.pad_px, round(24 * self.font_scale) + 2 * self.pad_px


def draw_results(
    image_bgr: Image, results: Mapping[int, Result], *, fps: float | None = None
) -> Image:
    """Draw every target's box, number, score and status.

    The box takes the color of the status (green tracked, amber uncertain, red and dashed lost),
    the number that of the target.

    Args:
        image_bgr: (H, W, 3) uint8 BGR frame; not changed.
        results: what to draw, by target number.
        fps: frames per second to show in the top right corner; None shows none.

    Returns:
        (H, W, 3) uint8 BGR, a new picture.
    """
    canvas = image_bgr.copy()
    style = Style(canvas)
    # 1. Boxes, under all labels.
    for result in results.values():
        _draw_box(canvas, _corners(result.box), STATUS_BGR[result.status], style, result.status)

    # 2. Frames per second. No label may cover what is already taken.
    taken: list[_Rect] = []
    if fps is not None:
        text = f"{fps:.0f} fps" if fps >= 10 else f"{fps:.1f} fps"
        width, height = style.text_wh(text)
        x = max(canvas.shape[1] - width, 0)
        _draw_text_box(canvas, text, (x, 0), _LIGHT, _DARK, style)
        taken.append((x, 0, canvas.shape[1], height))

    # 3. Labels.
    for target, result in results.items():
        taken.append(_draw_label(canvas, target, result, style, taken))
    return canvas


def draw_selection(image_bgr: Image, box_xywh: Box) -> Image:
    """Draw the box that a user is dragging, xywh px; returns a new picture."""
    canvas = image_bgr.copy()
    _draw_box(canvas, _corners(box_xywh), _SELECTION, Style(canvas), "tracked")
    return canvas


def draw_outlines(
    image_bgr: Image, boxes: Iterable[tuple[FloatArray, Color]], line_px: int = 2
) -> Image:
    """Draw plain boxes, (4,) xywh px each with its color; those with a NaN are left out.

    Returns:
        (H, W, 3) uint8 BGR, a new picture.
    """
    canvas = image_bgr.copy()
    for box, color in boxes:
        if np.isfinite(box).all():
            left, top, right, bottom = (
                np.rint([*box[:2], *(box[:2] + box[2:])]).astype(int).tolist()
            )
            for ink, width in (((0, 0, 0), line_px + 2), (color, line_px)):
                cv2.rectangle(canvas, (left, top), (right, bottom), ink, width, cv2.LINE_AA)
    return canvas


def add_help_bar(image_bgr: Image, text: str) -> Image:
    """Add a bar with a text under a picture; returns (H + bar, W, 3) uint8 BGR, a new picture.

    The bar has the same height for every text, which keeps the window's size. A text is wrapped to
    the picture's width; one that does not fit grows upwards over the picture.
    """
    style = Style(image_bgr)
    frame_h, frame_w = image_bgr.shape[:2]
    line_px = style.text_wh("")[1]
    bar_px = line_px * (1 if frame_w > 1200 * style.font_scale else 2)
    canvas = np.concatenate([image_bgr, np.full((bar_px, frame_w, 3), _DARK, np.uint8)])
    # Wrap at words.
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and style.text_wh(longer)[0] > frame_w:
            lines.append(word)
        else:
            lines[-1] = longer
    top = frame_h + min(0, bar_px - line_px * len(lines))
    cv2.rectangle(canvas, (0, max(top, 0)), (frame_w - 1, frame_h), _DARK, cv2.FILLED)
    for k, line in enumerate(lines):
        _draw_text_box(canvas, line, (0, top + k * line_px), _LIGHT, _DARK, style)
    return canvas


def _corners(box_xywh: Box) -> _Rect:
    """First and last pixel a box covers: left, top, right, bottom."""
    x, y, w, h = box_xywh
    left, top = round(x), round(y)
    return left, top, max(round(x + w) - 1, left), max(round(y + h) - 1, top)


def _draw_box(canvas: Image, corners: _Rect, color: Color, style: Style, status: str) -> None:
    left, top, right, bottom = corners
    corner_points = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    segments = list(pairwise(corner_points))
    if status == "lost":
        segments = [dash for edge in segments for dash in _dashes(*edge, 6 * style.line_px)]
    rim_px = style.line_px + 2 * max(1, style.line_px // 2)
    for line_color, width_px in ((_DARK, rim_px), (color, style.line_px)):
        for start, end in segments:
            cv2.line(canvas, start, end, line_color, width_px)


def _dashes(
    start: tuple[int, int], end: tuple[int, int], dash_px: int
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Cut a line into dashes as long as the gaps between them."""
    a, b = np.array(start, dtype=float), np.array(end, dtype=float)
    length = float(np.hypot(*(b - a)))
    # An odd number of pieces puts a dash, never a gap, in every corner of a box.
    pieces = max(1, round((length / dash_px - 1) / 2)) * 2 + 1
    for k in range(0, pieces, 2):
        p, q = a + (b - a) * k / pieces, a + (b - a) * (k + 1) / pieces
        yield (round(p[0]), round(p[1])), (round(q[0]), round(q[1]))


def _draw_label(
    canvas: Image, target: int, result: Result, style: Style, taken: list[_Rect]
) -> _Rect:
    """Write number, score and status beside the box, where there is no other label."""
    # 1. Shorten the text until it fits into the frame.
    frame_h, frame_w = canvas.shape[:2]
    number_w, height = style.text_wh(str(target))
    text = f"{result.score:.2f} {result.status}"
    if number_w + style.text_wh(text)[0] > frame_w:
        text = f"{result.score:.2f}"
    text_w = style.text_wh(text)[0]
    if number_w + text_w > frame_w:
        text, text_w = "", 0
    width = number_w + text_w

    # 2. Find a place: above the box, else below it, else inside it.
    left, top, _, bottom = _corners(result.box)
    gap = 2 * style.line_px
    x = int(np.clip(left - style.line_px, 0, max(frame_w - width, 0)))
    places = [top - gap - height, bottom + gap, top + gap]
    inside = [y for y in places if 0 <= y <= frame_h - height]
    free = [y for y in inside if not any(_overlap((x, y, x + width, y + height), t) for t in taken)]
    fallback = int(np.clip(places[0], 0, max(frame_h - height, 0)))
    y = (free or inside or [fallback])[0]

    # 3. Draw it.
    accent = ACCENTS_BGR[target % len(ACCENTS_BGR)]
    _draw_text_box(canvas, str(target), (x, y), _DARK, accent, style)
    if text:
        _draw_text_box(canvas, text, (x + number_w, y), STATUS_BGR[result.status], _DARK, style)
    return x, y, x + width, y + height


def _overlap(a: _Rect, b: _Rect) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _draw_text_box(
    canvas: Image, text: str, xy: tuple[int, int], ink: Color, background: Color, style: Style
) -> None:
    """Write one line of text in a filled box whose top-left corner is `xy`."""
    width, height = style.text_wh(text)
    x, y = xy
    cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), background, cv2.FILLED)
    baseline = y + height - style.pad_px - round(4 * style.font_scale)
    origin = (x + style.pad_px, baseline)
    cv2.putText(canvas, text, origin, _FONT, style.font_scale, ink, style.stroke_px, cv2.LINE_AA)
