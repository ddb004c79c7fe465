"""Shot cuts: after one, the place where the target was says nothing.

Consecutive frames of one shot look alike from afar, however fast the camera moves. Frames are
compared as tiny pictures, from some of their pixels, so that a 4K frame costs no more than a small
one.
"""

from __future__ import annotations

import cv2
import numpy as np

from siamtrack.crops import crop_window
from siamtrack.geometry import clip_to_frame
from siamtrack.types import Float32Array, FloatArray, Image

CUT_CORRELATION = 0.2
"""Frames whose thumbnails correlate by less are of two shots. On the development sequences, which
have no cut, the lowest correlation is 0.29, in a shaky chase; at the cuts of synthetic clips it is
0.10 at most."""

FRAMES_AFTER_CUT = 60
"""Frames after a cut in which only what looks as the target did before is taken for it."""

SIMILARITY_AFTER_CUT = 0.93
"""Lowest similarity then, as a fraction of that before the cut."""

SAME_COLORS = 0.5
"""Lowest likeness of a prediction's colors then and those of the first box. On the development
sequences the target's own are less alike in one frame of fifty; a red and a blue thing reach
0.25."""

FRAMES_TO_CONFIRM = 5
"""Frames of such looks that end the doubt."""

_THUMBNAIL_WH = (16, 9)
_SAMPLES = 4  # per thumbnail pixel, along each axis

_COLOR_BINS = 16  # of each of the two color channels
_COLOR_SIDE = 32  # px of the picture of a box whose colors are counted


def thumbnail(frame_bgr: Image) -> Float32Array:
    """(9, 16, 3) picture of a uint8 (H, W, 3) frame: mean 0, length 1, or zeros if flat."""
    height, width = frame_bgr.shape[:2]
    step_y = max(1, height // (_THUMBNAIL_WH[1] * _SAMPLES))
    step_x = max(1, width // (_THUMBNAIL_WH[0] * _SAMPLES))
    samples = frame_bgr[step_y // 2 :: step_y, step_x // 2 :: step_x]
    small = cv2.resize(samples, _THUMBNAIL_WH, interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    flat = small.ravel()
    small /= max(float(np.sqrt(flat @ flat)), 1e-3)
    return small


def is_cut(last: Float32Array | None, now: Float32Array) -> bool:
    """Whether two thumbnails are of different shots; flat pictures and a first one tell nothing."""
    if last is None or not last.any() or not now.any():
        return False
    return float((last * now).sum()) < CUT_CORRELATION


def color_histogram(frame_bgr: Image, box_xywh: FloatArray) -> Float32Array:
    """(16, 16) histogram of the colors in a box, of sum 1; its brightness does not count.

    The kernel-weighted histogram of mean shift tracking (Comaniciu et al. 2003, equation 2) over Cr
    and Cb: pixels count less the nearer they are to the border, where the background is.
    """
    visible = clip_to_frame(box_xywh, (frame_bgr.shape[1], frame_bgr.shape[0]))
    visible[2:] = np.maximum(visible[2:], 1)  # a box outside has the color outside: none
    size = (_COLOR_SIDE, _COLOR_SIDE)
    picture = cv2.cvtColor(crop_window(frame_bgr, visible, size), cv2.COLOR_BGR2YCrCb)
    along = np.linspace(-1, 1, _COLOR_SIDE, dtype=np.float32)
    kernel = np.maximum(1 - along**2 - along[:, None] ** 2, 0)  # Epanechnikov's
    # Gray, which is 128, is in the middle of a bin: at the border of two, noise would change it.
    width = 256 // _COLOR_BINS
    bins_of = np.minimum((picture[..., 1:].astype(int) + width // 2) // width, _COLOR_BINS - 1)
    red, blue = bins_of[..., 0], bins_of[..., 1]
    bins = (red * _COLOR_BINS + blue).ravel()
    counts = np.bincount(bins, kernel.ravel(), _COLOR_BINS**2).reshape(_COLOR_BINS, _COLOR_BINS)
    # A color between two bins is in both of them.
    blurred = cv2.GaussianBlur(counts, (3, 3), 0, borderType=cv2.BORDER_REPLICATE)
    return (blurred / blurred.sum()).astype(np.float32)


def color_likeness(one: Float32Array, other: Float32Array) -> float:
    """Bhattacharyya coefficient of two histograms (the same, equation 6): 1 for equal ones."""
    return float(np.sqrt(one * other).sum())
