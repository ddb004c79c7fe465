"""The strip under the demo's video: score, overlap and what was hidden, up to now."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.demo.history import History
from siamtrack.video.draw import STATUS_BGR

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

STRIP_PX = 84

_GROUND: Colour = (30, 27, 25)
_GRID: Colour = (62, 58, 54)
_HIDDEN: Colour = (84, 78, 70)
_TRUTH: Colour = (245, 245, 245)
_INK: Colour = (205, 200, 196)
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
        self._plot = np.full((STRIP_PX, width_px, 3), _GROUND, np.uint8)
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
        self, start: tuple[int, float], end: tuple[int, float], colour: Colour, width: int
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
    cv2.putText(image, text, origin, _FONT, 0.45, _INK, 1, cv2.LINE_AA)
