"""Put patches on a picture, and read the truth about the target off them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.data.synthetic.layers import Patch

FloatArray = NDArray[np.float64]

_Window = tuple[slice, slice]


def overlap(patch: Patch, frame_wh: tuple[int, int]) -> tuple[_Window, _Window] | None:
    """Rows and columns of the frame that a patch covers, and the same pixels in the patch.

    Returns:
        None if the patch lies outside the frame.
    """
    height, width = patch.alpha.shape
    left, top = max(0, patch.x), max(0, patch.y)
    right, bottom = min(frame_wh[0], patch.x + width), min(frame_wh[1], patch.y + height)
    if right <= left or bottom <= top:
        return None
    inside = slice(top - patch.y, bottom - patch.y), slice(left - patch.x, right - patch.x)
    return (slice(top, bottom), slice(left, right)), inside


class Canvas:
    """A picture in the making.

    Args:
        pixels: float32 (H, W, 3) BGR in [0, 255]; drawn on in place.
    """

    def __init__(self, pixels: NDArray[np.float32]) -> None:
        self.pixels = pixels

    @property
    def frame_wh(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def put(self, patch: Patch) -> None:
        """Draw a patch over what is there."""
        if (windows := overlap(patch, self.frame_wh)) is not None:
            frame, inside = windows
            self.pixels[frame] *= 1 - patch.alpha[inside][..., None]
            self.pixels[frame] += patch.colour[inside]

    def darken(self, patch: Patch, size_px: float, darkness: float) -> None:
        """Draw the soft shadow of a patch of about `size_px`, thrown to the lower right."""
        spread = max(1.0, 0.07 * size_px)
        pad = int(np.ceil(2.5 * spread))
        soft = cv2.GaussianBlur(np.pad(patch.alpha, pad), (0, 0), spread)
        shadow = replace(
            patch,
            x=patch.x - pad + round(0.04 * size_px),
            y=patch.y - pad + round(0.09 * size_px),
            alpha=np.asarray(soft, dtype=np.float32),
        )
        if (windows := overlap(shadow, self.frame_wh)) is not None:
            frame, inside = windows
            self.pixels[frame] *= 1 - darkness * shadow.alpha[inside][..., None]


def box_of(mask: NDArray[np.bool_]) -> FloatArray:
    """Tight box around the true pixels of a (H, W) mask: (4,) xywh, nan if there are none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return np.full(4, np.nan)
    x, y = columns[0], rows[0]
    return np.array([x, y, columns[-1] + 1 - x, rows[-1] + 1 - y], dtype=np.float64)


def truth_of(
    target: Patch | None, front: Sequence[Patch], frame_wh: tuple[int, int]
) -> tuple[FloatArray, float]:
    """Box of the target's shape in the frame, and the share of the shape that can be seen.

    Args:
        target: the target; None if it is not in the frame.
        front: what was drawn over it.
        frame_wh: frame width and height in px.

    Returns:
        (4,) xywh and a number in [0, 1]; nan and 0 if nothing of the target can be seen.
    """
    windows = None if target is None else overlap(target, frame_wh)
    if target is None or windows is None:
        return np.full(4, np.nan), 0.0
    frame, inside = windows
    shape = np.zeros((frame_wh[1], frame_wh[0]), np.bool_)
    shape[frame] = target.solid[inside]
    visible = shape.copy()
    for patch in front:
        if (windows := overlap(patch, frame_wh)) is not None:
            frame, inside = windows
            visible[frame] &= ~patch.solid[inside]
    if not visible.any():
        return np.full(4, np.nan), 0.0
    return box_of(shape), float(visible.sum() / target.solid.sum())
