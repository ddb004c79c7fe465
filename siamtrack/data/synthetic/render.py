"""Flat things in motion: where they are at a time, and their pixels with motion blur.

Coordinates follow `siamtrack.geometry`: pixel i covers [i, i + 1), so that the middle of a
picture of width w is w / 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.data.synthetic.config import MAX_TILT_DEG
from siamtrack.data.synthetic.textures import Cutout
from siamtrack.types import FloatArray

_BLUR_STEP_PX = 2.0  # exposures of a blurred thing lie at most this far apart ...
_MOST_EXPOSURES = 12  # ... unless that takes more than this many
_LARGEST_PATCH_PX = 4096


@dataclass(frozen=True, slots=True)
class Track:
    """Position and pose of a flat thing at every frame.

    Attributes:
        centre_xy: (count, 2) px.
        size_px: (count,) side in px: the square root of the area of its rectangle when it faces
            the camera.
        angle: (count,) rotation in the picture plane in radians, clockwise.
        tilt: (count, 2) rotation out of the picture plane in radians, about the upright and the
            level axis.
    """

    centre_xy: FloatArray
    size_px: FloatArray
    angle: FloatArray
    tilt: FloatArray

    def at(self, frame: float) -> tuple[FloatArray, float, float, FloatArray]:
        """Centre, size, angle and tilt at a fractional frame, linear in between.

        Frames before the first and after the last are the first and the last.
        """
        last = len(self.size_px) - 1
        frame = min(max(frame, 0.0), float(last))
        low = int(frame)
        high = min(low + 1, last)
        rest = frame - low

        def blend(values: FloatArray) -> FloatArray:
            return np.asarray((1 - rest) * values[low] + rest * values[high])

        return (
            blend(self.centre_xy),
            float(blend(self.size_px)),
            float(blend(self.angle)),
            blend(self.tilt),
        )


@dataclass(frozen=True, slots=True)
class Patch:
    """Pixels of a thing over a rectangle of the frame's plane, which may stick out of the frame.

    Attributes:
        x: left side of the rectangle in frame px.
        y: upper side.
        colour: float32 (h, w, 3) BGR in [0, 255], multiplied by `alpha`.
        alpha: float32 (h, w) averaged over the exposure.
        solid: bool (h, w), what the thing covers at the middle of the exposure.
    """

    x: int
    y: int
    colour: NDArray[np.float32]
    alpha: NDArray[np.float32]
    solid: NDArray[np.bool_]


class FlatLayer:
    """A cut-out that follows a track.

    Args:
        cutout: what it looks like.
        track: where it is.
        perspective: side of the thing divided by its distance from the camera; see `SceneConfig`.
    """

    def __init__(self, cutout: Cutout, track: Track, *, perspective: float) -> None:
        self.cutout = cutout
        self.track = track
        self._perspective = perspective
        self._pyramid = _pyramid(cutout)

    def homography(self, frame: float, camera: FloatArray) -> FloatArray:
        """(3, 3) map from cut-out px to frame px at a fractional frame number.

        Args:
            frame: frame number.
            camera: (3, 3) map that is applied last: the camera's own motion.
        """
        (x, y), size, angle, tilt = self.track.at(frame)
        size = max(size, 1.0)
        height, width = self.cutout.alpha.shape
        scale = size / np.sqrt(width * height)
        limit = np.radians(MAX_TILT_DEG)
        yaw, pitch = np.clip(tilt, -limit, limit)
        turned = _about_level(pitch) @ _about_upright(yaw) @ _in_plane(angle)
        # Points of the cut-out as 3-d points on a plane through its middle, facing the camera.
        centred = np.array([[scale, 0, -scale * width / 2], [0, scale, -scale * height / 2]])
        space = turned[:, :2] @ centred
        nearness = self._perspective / (scale * np.hypot(width, height))
        depth = np.array([0.0, 0.0, 1.0]) + nearness * space[2]
        flat = np.stack([space[0] + x * depth, space[1] + y * depth, depth])
        return np.asarray(camera @ flat)

    def rectangle(self, homography: FloatArray) -> FloatArray:
        """(4, 2) corners of the cut-out's rectangle in frame px."""
        height, width = self.cutout.alpha.shape
        corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1.0]])
        mapped = corners @ homography.T
        return np.asarray(mapped[:, :2] / mapped[:, 2:])

    def render(self, homographies: list[FloatArray], brightness: FloatArray) -> Patch | None:
        """Average the thing over an exposure.

        Args:
            homographies: one map per exposure, as `exposures` makes them; the middle one gives
                `Patch.solid`.
            brightness: (3,) factor on the colours.

        Returns:
            None if it is too small to leave a pixel, or too large to be rendered.
        """
        corners = np.concatenate([self.rectangle(h) for h in homographies])
        low = np.floor(corners.min(axis=0)).astype(int) - 1
        width, height = np.ceil(corners.max(axis=0)).astype(int) + 1 - low
        if not 0 < max(width, height) <= _LARGEST_PATCH_PX:
            return None
        shift = np.array([[1, 0, -low[0]], [0, 1, -low[1]], [0, 0, 1.0]])
        total = np.zeros((height, width, 4), np.float32)
        solid = np.zeros((height, width), np.bool_)
        for number, homography in enumerate(homographies):
            rgba = self._warp(shift @ homography, (int(width), int(height)))
            total += rgba
            if number == len(homographies) // 2:
                solid = rgba[..., 3] > 0.5
        total /= len(homographies)
        colour = total[..., :3] * np.asarray(brightness, np.float32)
        return Patch(int(low[0]), int(low[1]), colour, total[..., 3], solid)

    def _warp(self, homography: FloatArray, size_wh: tuple[int, int]) -> NDArray[np.float32]:
        """Resample colour times alpha, and alpha, from the level of detail that fits."""
        corners = self.rectangle(homography)
        sides = np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1)
        height, width = self.cutout.alpha.shape
        shrink = 2 * (width + height) / max(float(sides.sum()), 1.0)
        level = int(np.clip(np.floor(np.log2(max(shrink, 1.0)) + 0.3), 0, len(self._pyramid) - 1))
        image = self._pyramid[level]
        to_full = np.diag([width / image.shape[1], height / image.shape[0], 1.0])
        # OpenCV counts from pixel centres, this package from pixel corners.
        half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
        matrix = np.linalg.inv(half) @ homography @ to_full @ half
        return np.asarray(cv2.warpPerspective(image, matrix, size_wh, flags=cv2.INTER_LINEAR))


def exposures(frame: float, shutter: float, travel_px: float) -> list[float]:
    """Fractional frame numbers at which a moving thing is sampled; an odd number of them.

    Args:
        frame: frame number in the middle of the exposure.
        shutter: exposure as a share of the frame interval.
        travel_px: how far the thing moves during the exposure.
    """
    count = int(np.clip(np.ceil(travel_px / _BLUR_STEP_PX), 1, _MOST_EXPOSURES)) // 2 * 2 + 1
    return [float(frame + shutter * ((k + 0.5) / count - 0.5)) for k in range(count)]


def _pyramid(cutout: Cutout) -> list[NDArray[np.float32]]:
    """Color times alpha, and alpha, at full, half, quarter ... size, down to about 8 px."""
    image = np.empty((*cutout.alpha.shape, 4), np.float32)
    image[..., 3] = cutout.alpha
    image[..., :3] = cutout.image_bgr * cutout.alpha[..., None]
    levels = [image]
    while min(levels[-1].shape[:2]) >= 16:
        size = (levels[-1].shape[1] // 2, levels[-1].shape[0] // 2)
        levels.append(np.asarray(cv2.resize(levels[-1], size, interpolation=cv2.INTER_AREA)))
    return levels


def _in_plane(angle: float) -> FloatArray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def _about_upright(angle: float) -> FloatArray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1.0, 0], [-s, 0, c]])


def _about_level(angle: float) -> FloatArray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0, 0], [0, c, -s], [0, s, c]])


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
