"""Shot cuts: after one, the place where the target was says nothing.

Consecutive frames of one shot look alike from afar, however fast the camera moves. Frames are
compared as tiny pictures, from some of their pixels, so that a 4K frame costs no more than a small
one.
"""

from __future__ import annotations

import cv2
import numpy as np

from siamtrack.types import Float32Array, Image

CUT_CORRELATION = 0.2
"""Frames whose thumbnails correlate by less are of two shots. On the development sequences, which
have no cut, the lowest correlation is 0.29, in a shaky chase; at the cuts of synthetic clips it is
0.10 at most."""

FRAMES_AFTER_CUT = 60
"""Frames after a cut in which only what looks as the target did before is taken for it."""

SIMILARITY_AFTER_CUT = 0.93
"""Lowest similarity then, as a fraction of that before the cut."""

FRAMES_TO_CONFIRM = 5
"""Frames of that similarity that end the doubt."""

_THUMBNAIL_WH = (16, 9)
_SAMPLES = 4  # per thumbnail pixel, along each axis


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
