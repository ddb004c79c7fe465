"""NanoTrackV3, a rival to measure beside siamtrack; you bring its two ONNX files.

A small anchor-free siamese tracker of github.com/HonglinChu/SiamTrackers, with the settings
published there. It decodes as SiamRPN does (Li et al. 2018, section 4.3): scale penalty, window
influence, smoothed size.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.engines.onnx_engine import open_session
from siamtrack.errors import EvaluationError, NotInitializedError
from siamtrack.geometry import context_side
from siamtrack.types import Box, Float32Array, FloatArray, Image

EXEMPLAR_PX, SEARCH_PX = 127, 255
RESPONSE_CELLS, TOTAL_STRIDE_PX = 15, 16
MIN_SIDE_PX = 10.0

PENALTY = 0.138
"""Raising it makes boxes of another size or aspect ratio than the last one less likely."""

WINDOW_INFLUENCE = 0.455
"""Raising it favors small displacements."""

RATE = 0.348
"""Raising it makes the box's size follow the network faster."""

REVISION = 1
"""Part of the result keys; raise it when the same files and frames give other boxes than before."""

NEED = "give its files as nanotrack:BACKBONE.onnx,HEAD.onnx"

Run = Callable[..., list[Float32Array]]
"""Runs a graph: its inputs in order to its outputs in order."""


class NanoTracker:
    """NanoTrackV3 on ONNX Runtime, with as many CPU threads as OpenCV is set to at the time.

    Raises:
        EvaluationError: a file that ONNX Runtime cannot read, or not the graph it should be.
    """

    def __init__(self, backbone: Path, head: Path) -> None:
        self._backbone = _open(backbone, "backbone", inputs=1)
        self._head = _open(head, "head", inputs=2)
        self._check_graphs(backbone, head)
        hann = np.hanning(RESPONSE_CELLS)
        self._window: FloatArray = np.outer(hann, hann)  # (15, 15)
        self._exemplar: Float32Array | None = None
        self._fill_bgr: FloatArray = np.zeros(3)
        self._center_xy: FloatArray = np.zeros(2)
        self._size_wh: FloatArray = np.zeros(2)

    def init(self, frame_bgr: Image, box: Box) -> None:
        """Embed the exemplar."""
        x, y, w, h = box
        # As published: half a pixel left of and above the middle of the box.
        self._center_xy = np.array([x + (w - 1) / 2, y + (h - 1) / 2])
        self._size_wh = np.array([w, h], dtype=np.float64)
        self._fill_bgr = frame_bgr.mean(axis=(0, 1))
        side_px = round(float(context_side(w, h)))
        (self._exemplar,) = self._backbone(self._crop(frame_bgr, side_px, EXEMPLAR_PX))

    def update(self, frame_bgr: Image) -> Box:
        """Return the new box; its center lies in the frame.

        Raises:
            NotInitializedError: `init` was not called.
        """
        if self._exemplar is None:
            raise NotInitializedError("update was called before init; call init(frame, box) first")
        # 1. Search crop.
        context_px = context_side(*self._size_wh)
        zoom = EXEMPLAR_PX / context_px  # px of the crop per px of the frame
        side_px = round(float(context_px * SEARCH_PX / EXEMPLAR_PX))
        (search,) = self._backbone(self._crop(frame_bgr, side_px, SEARCH_PX))

        # 2. Response: score of each cell, and its box's width and height in px of the crop.
        logits, ltrb = self._head(self._exemplar, search)
        score = 1 / (1 + np.exp(logits[0, 0] - logits[0, 1]))  # (15, 15)
        left, top, right, bottom = ltrb[0]
        width, height = left + right, top + bottom

        # 3. Scale penalty, for the changes of context side and of aspect ratio. The cells' context
        #    sides are float32, as published: `context_side` would round them differently.
        last_w, last_h = self._size_wh * zoom
        padding = (width + height) / 2
        context = np.sqrt((width + padding) * (height + padding))
        context_change = context / context_side(last_w, last_h)
        ratio_change = (self._size_wh[0] / self._size_wh[1]) / (width / height)
        change = np.maximum(context_change, 1 / context_change)
        change = change * np.maximum(ratio_change, 1 / ratio_change)
        penalized = np.exp(-PENALTY * (change - 1)) * score

        # 4. Best cell, with the window's influence.
        ranked = penalized * (1 - WINDOW_INFLUENCE) + self._window * WINDOW_INFLUENCE
        best = np.unravel_index(np.argmax(ranked), ranked.shape)

        # 5. Its box: the center as it is, the size smoothed.
        cell_xy = (np.array(best[::-1]) - RESPONSE_CELLS // 2) * TOTAL_STRIDE_PX
        shift_xy = cell_xy + np.array([right[best] - left[best], bottom[best] - top[best]]) / 2
        best_wh = np.array([width[best], height[best]], dtype=np.float64)
        rate = penalized[best] * RATE
        frame_wh = np.array(frame_bgr.shape[1::-1], dtype=np.float64)
        self._center_xy = np.clip(self._center_xy + shift_xy / zoom, 0, frame_wh)
        size_wh = self._size_wh * (1 - rate) + best_wh / zoom * rate
        self._size_wh = np.clip(size_wh, MIN_SIDE_PX, frame_wh)
        x, y = (self._center_xy - self._size_wh / 2).tolist()
        w, h = self._size_wh.tolist()
        return x, y, w, h

    def _crop(self, frame_bgr: Image, side_px: int, size_px: int) -> Float32Array:
        """Window of `side_px` around the center, as (1, 3, size_px, size_px) BGR.

        Not one of `siamtrack.crops`, which average before they shrink: the network was trained on
        crops that were only resized.
        """
        height, width = frame_bgr.shape[:2]
        left, top = np.floor(self._center_xy - side_px / 2).astype(int).tolist()
        rows = slice(max(top, 0), max(min(top + side_px, height), 0))
        columns = slice(max(left, 0), max(min(left + side_px, width), 0))
        window = frame_bgr[rows, columns]
        if window.shape[:2] != (side_px, side_px):
            padded = np.full((side_px, side_px, 3), np.rint(self._fill_bgr), np.uint8)
            y, x = rows.start - top, columns.start - left
            padded[y : y + window.shape[0], x : x + window.shape[1]] = window
            window = padded
        resized = cv2.resize(window, (size_px, size_px))
        return resized.transpose(2, 0, 1)[None].astype(np.float32)

    def _check_graphs(self, backbone: Path, head: Path) -> None:
        """Run both graphs once, on nothing."""
        cells = (RESPONSE_CELLS, RESPONSE_CELLS)
        exemplar, search = (
            np.zeros((1, 3, size, size), np.float32) for size in (EXEMPLAR_PX, SEARCH_PX)
        )
        try:
            (z,), (x,) = self._backbone(exemplar), self._backbone(search)
            shapes = [output.shape for output in self._head(z, x)]
        except Exception as error:  # ONNX Runtime has no public class for what it raises here
            raise EvaluationError(
                f"{backbone} and {head} cannot be run as the networks of NanoTrackV3 "
                f"({_first_line(error)}); {NEED}"
            ) from error
        if shapes != [(1, 2, *cells), (1, 4, *cells)]:
            raise EvaluationError(
                f"{head} gives outputs of shape {shapes}, a head of NanoTrackV3 gives "
                f"(1, 2, 15, 15) and (1, 4, 15, 15); {NEED}"
            )


def _open(path: Path, part: str, *, inputs: int) -> Run:
    if not path.is_file():
        raise EvaluationError(f"model file {path} of nanotrack does not exist; {NEED}")
    try:
        session = open_session(path, threads=max(1, cv2.getNumThreads()))
    except Exception as error:  # as above
        raise EvaluationError(
            f"{path} is not a network that ONNX Runtime can read ({_first_line(error)}); {NEED}"
        ) from error
    names = [i.name for i in session.get_inputs()]
    if len(names) != inputs:
        raise EvaluationError(
            f"{path} is not the {part} of NanoTrackV3, whose number of inputs is {inputs}, not "
            f"{len(names)}; {NEED}"
        )

    def run(*arrays: NDArray[np.float32]) -> list[Float32Array]:
        return session.run(None, dict(zip(names, arrays, strict=True)))

    return run


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
