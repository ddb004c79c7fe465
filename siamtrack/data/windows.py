"""Cutting windows from stored pictures, and what is shown outside of them."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.random import Generator

from siamtrack.crops import Image, crop_window
from siamtrack.data.cache import CropCache
from siamtrack.geometry import FloatArray


def turn(picture: Image, box: FloatArray, angle: float) -> tuple[Image, FloatArray]:
    """Turn a picture about the middle of a box; what comes from outside repeats the edge.

    Objects fill the ellipse in their box better than its corners, so that the new box is that of
    the turned ellipse: the box of the turned corners would be half as large again at 45 degrees.

    Args:
        picture: uint8 (H, W, 3).
        box: (4,) xywh px.
        angle: radians, clockwise as seen on the screen.

    Returns:
        uint8 (H, W, 3) and (4,) xywh px in it.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    centre = box[:2] + box[2:] / 2
    matrix = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
    # Pixel i covers [i, i + 1), while OpenCV counts from pixel centres.
    middle = centre - 0.5
    matrix[:, 2] = middle - matrix[:, :2] @ middle
    size_wh = (picture.shape[1], picture.shape[0])
    turned = cv2.warpAffine(
        picture, matrix, size_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    w, h = box[2:]
    wh = np.array([math.hypot(w * cos, h * sin), math.hypot(w * sin, h * cos)])
    return turned, np.concatenate([centre - wh / 2, wh])  # type: ignore[return-value]


def mirror(box: FloatArray, width: int) -> FloatArray:
    """Box (4,) xywh in the mirrored picture of this width."""
    return np.array([width - box[0] - box[2], *box[1:]])


class WindowCutter:
    """Cuts windows; outside of the picture lies the mean colour, its edge or another photograph.

    Stored pictures are often smaller than the search window. Were the outside always the mean
    colour, the network would learn that the target is in the middle of what is not.
    """

    def __init__(self, cache: CropCache, replicate: float, photo: float) -> None:
        """Take probabilities.

        Args:
            cache: where other photographs come from.
            replicate: probability that the outside repeats the edge pixels.
            photo: probability that it is another photograph; else it is the mean colour.
        """
        self.cache, self.replicate, self.photo = cache, replicate, photo

    def cut(
        self,
        picture: Image,
        box: FloatArray,
        window_wh: FloatArray,
        shift: FloatArray,
        size: int,
        rng: Generator,
    ) -> tuple[Image, FloatArray]:
        """Cut a window around a target.

        Args:
            picture: uint8 (H, W, 3) BGR.
            box: (4,) xywh of the target, px of the picture.
            window_wh: size of the window, px of the picture.
            shift: (2,) how far, as shares of the window, the target is off its middle.
            size: side of the crop.
            rng: decides what is outside.

        Returns:
            uint8 (size, size, 3) and the target's box in its px.
        """
        origin = box[:2] + box[2:] / 2 - window_wh / 2 - shift * window_wh
        window = (*origin, *window_wh)
        draw = rng.random()
        border, fill = cv2.BORDER_CONSTANT, cv2.mean(picture)[:3]
        if draw < self.replicate:
            border = cv2.BORDER_REPLICATE
        out = crop_window(picture, window, (size, size), fill_bgr=fill, border=border)
        scale = size / window_wh
        if self.replicate <= draw < self.replicate + self.photo:
            x0, y0 = np.rint(-origin * scale).astype(int)
            x1, y1 = np.rint((np.array(picture.shape[1::-1]) - origin) * scale).astype(int)
            if x0 > 0 or y0 > 0 or x1 < size or y1 < size:
                out = self._onto_photo(out, (x0, y0, x1, y1), rng)
        return out, np.concatenate([(box[:2] - origin) * scale, box[2:] * scale])

    def _onto_photo(self, crop: Image, inside: tuple[int, int, int, int], rng: Generator) -> Image:
        """Replace what lies outside the rectangle `inside` by another photograph."""
        other, _ = self.cache.read(int(rng.integers(len(self.cache))))
        size = crop.shape[0]
        side = min(other.shape[:2])
        x, y = (int(rng.integers(length - side + 1)) for length in other.shape[1::-1])
        out = crop_window(other, (x, y, side, side), (size, size))
        x0, y0, x1, y1 = np.clip(inside, 0, size)
        out[y0:y1, x0:x1] = crop[y0:y1, x0:x1]
        return out
