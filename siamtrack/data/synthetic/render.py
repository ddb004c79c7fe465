"""Planar objects in motion: their pose at any time, their pixels with motion blur, ground truth.

Pixel i covers [i, i + 1), as in `siamtrack.geometry`: the center of a picture of width w is w / 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from siamtrack.data.synthetic.config import MAX_TILT_DEG
from siamtrack.data.synthetic.textures import Cutout
from siamtrack.types import BoolArray, Float32Array, FloatArray

# OpenCV counts coordinates from pixel centers, this package from pixel corners.
TO_CORNERS = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
TO_CENTERS = np.linalg.inv(TO_CORNERS)

_BLUR_STEP_PX = 2.0  # largest distance between two samples of a blurred object ...
_MAX_SAMPLES = 12  # ... unless it takes more samples than this
_MAX_PATCH_PX = 4096


@dataclass(frozen=True, slots=True)
class Track:
    """Position and pose of a planar object in every frame."""

    center_xy: FloatArray  # (N, 2) px
    size_px: FloatArray  # (N,) square root of the area of its rectangle when it faces the camera
    angle: FloatArray  # (N,) in-plane rotation in radians, clockwise
    tilt: FloatArray  # (N, 2) rotation about the vertical and the horizontal axis in radians

    def at(self, frame: float) -> tuple[FloatArray, float, float, FloatArray]:
        """Center, size, angle and tilt at a fractional frame number."""
        return (
            interpolate(self.center_xy, frame),
            float(interpolate(self.size_px, frame)),
            float(interpolate(self.angle, frame)),
            interpolate(self.tilt, frame),
        )


def interpolate(values: FloatArray, frame: float) -> FloatArray:
    """Value at a fractional frame number: linear in between, constant before and after."""
    last = len(values) - 1
    frame = min(max(frame, 0.0), float(last))
    low = int(frame)
    rest = frame - low
    return np.asarray((1 - rest) * values[low] + rest * values[min(low + 1, last)])


@dataclass(frozen=True, slots=True)
class Patch:
    """Rendered object in a rectangle of the frame plane, which may reach beyond the frame."""

    x: int  # left edge in frame px
    y: int  # top edge in frame px
    color: Float32Array  # (h, w, 3) BGR in [0, 255], multiplied by `alpha`
    alpha: Float32Array  # (h, w) averaged over the exposure
    solid: BoolArray  # (h, w) shape of the object in the middle of the exposure

    def clip(
        self, frame_wh: tuple[int, int]
    ) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
        """Rows and columns that the patch covers, in the frame and in the patch; None outside."""
        height, width = self.alpha.shape
        left, top = max(0, self.x), max(0, self.y)
        right, bottom = min(frame_wh[0], self.x + width), min(frame_wh[1], self.y + height)
        if right <= left or bottom <= top:
            return None
        inside = slice(top - self.y, bottom - self.y), slice(left - self.x, right - self.x)
        return (slice(top, bottom), slice(left, right)), inside


class PlanarLayer:
    """A cut-out on a plane that follows a track.

    `perspective` is the diagonal of the object divided by its distance from the camera.
    """

    def __init__(self, cutout: Cutout, track: Track, *, perspective: float) -> None:
        self.cutout = cutout
        self.track = track
        self._perspective = perspective
        # Premultiplied BGRA at full, half, quarter ... size, down to about 8 px.
        image = np.empty((*cutout.alpha.shape, 4), np.float32)
        image[..., 3] = cutout.alpha
        image[..., :3] = cutout.image_bgr * cutout.alpha[..., None]
        self._pyramid: list[Float32Array] = [image]
        while min(image.shape[:2]) >= 16:
            size_wh = (image.shape[1] // 2, image.shape[0] // 2)
            image = np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA))
            self._pyramid.append(image)

    def homography(self, frame: float, camera: FloatArray) -> FloatArray:
        """(3, 3) map from cut-out px to frame px at a fractional frame number.

        `camera` is the (3, 3) motion of the camera, applied last.
        """
        # 1. Points of the cut-out in 3-d: on a plane through its center that faces the camera.
        (x, y), size, angle, tilt = self.track.at(frame)
        height, width = self.cutout.alpha.shape
        scale = max(size, 1.0) / np.sqrt(width * height)
        centered = np.array([[scale, 0, -scale * width / 2], [0, scale, -scale * height / 2]])

        # 2. Rotate in the plane, then about the vertical and the horizontal axis.
        limit = np.radians(MAX_TILT_DEG)
        yaw, pitch = np.clip(tilt, -limit, limit)
        rotation = _rotation(0, pitch) @ _rotation(1, yaw) @ _rotation(2, angle)
        space = rotation[:, :2] @ centered  # (3, 3)

        # 3. Project: farther points get closer to the center.
        nearness = self._perspective / (scale * np.hypot(width, height))
        depth = np.array([0.0, 0.0, 1.0]) + nearness * space[2]
        plane = np.stack([space[0] + x * depth, space[1] + y * depth, depth])
        return np.asarray(camera @ plane)

    def corners(self, homography: FloatArray) -> FloatArray:
        """(4, 2) corners of the cut-out in frame px, clockwise from its top left."""
        height, width = self.cutout.alpha.shape
        corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1.0]])
        mapped = corners @ homography.T
        return np.asarray(mapped[:, :2] / mapped[:, 2:])

    def render(self, homographies: list[FloatArray], brightness: FloatArray) -> Patch | None:
        """Average the object over an exposure; None if it is too small or too large to render.

        Args:
            homographies: one for each of the `exposure_times`; the middle one gives `Patch.solid`.
            brightness: (3,) factor on the colors.
        """
        # 1. Rectangle of all samples.
        corners = np.concatenate([self.corners(h) for h in homographies])
        low = np.floor(corners.min(axis=0)).astype(int) - 1
        width, height = np.ceil(corners.max(axis=0)).astype(int) + 1 - low
        if not 0 < max(width, height) <= _MAX_PATCH_PX:
            return None

        # 2. Mean of the samples.
        total = np.zeros((height, width, 4), np.float32)
        solid = np.zeros((height, width), np.bool_)
        for number, homography in enumerate(homographies):
            image = self._warp(translation(*-low) @ homography, (int(width), int(height)))
            total += image
            if number == len(homographies) // 2:
                solid = image[..., 3] > 0.5
        total /= len(homographies)
        color = total[..., :3] * np.asarray(brightness, np.float32)
        return Patch(int(low[0]), int(low[1]), color, total[..., 3], solid)

    def _warp(self, homography: FloatArray, size_wh: tuple[int, int]) -> Float32Array:
        """Resample the pyramid level whose resolution fits, (h, w, 4) premultiplied BGRA."""
        corners = self.corners(homography)
        sides = np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1)
        height, width = self.cutout.alpha.shape
        shrink = 2 * (width + height) / max(float(sides.sum()), 1.0)
        level = int(np.clip(np.floor(np.log2(max(shrink, 1.0)) + 0.3), 0, len(self._pyramid) - 1))
        image = self._pyramid[level]
        to_full = np.diag([width / image.shape[1], height / image.shape[0], 1.0])
        matrix = TO_CENTERS @ homography @ to_full @ TO_CORNERS
        return np.asarray(cv2.warpPerspective(image, matrix, size_wh, flags=cv2.INTER_LINEAR))


def _rotation(axis: int, angle: float) -> FloatArray:
    """(3, 3) rotation about the x, y or z axis."""
    first, second = ((1, 2), (2, 0), (0, 1))[axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[second, first] = np.sin(angle)
    matrix[first, second] = -matrix[second, first]
    return matrix


def translation(x: float, y: float) -> FloatArray:
    """(3, 3) map that moves points by (x, y)."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def exposure_times(frame: float, shutter: float, travel_px: float) -> list[float]:
    """Fractional frame numbers, an odd number of them, at which a moving object is sampled.

    Args:
        frame: middle of the exposure.
        shutter: exposure time as a fraction of the frame interval.
        travel_px: motion of the object during the exposure.
    """
    count = int(np.clip(np.ceil(travel_px / _BLUR_STEP_PX), 1, _MAX_SAMPLES)) // 2 * 2 + 1
    return [float(frame + shutter * ((k + 0.5) / count - 0.5)) for k in range(count)]


class Canvas:
    """A picture to draw patches on: float32 (H, W, 3) BGR in [0, 255], changed in place."""

    def __init__(self, pixels: Float32Array) -> None:
        self.pixels = pixels
        self.frame_wh = (pixels.shape[1], pixels.shape[0])

    def draw(self, patch: Patch) -> None:
        """Draw a patch over what is there."""
        if (windows := patch.clip(self.frame_wh)) is not None:
            frame, inside = windows
            self.pixels[frame] *= 1 - patch.alpha[inside][..., None]
            self.pixels[frame] += patch.color[inside]

    def draw_shadow(self, patch: Patch, size_px: float, darkness: float) -> None:
        """Draw the soft shadow of a patch of about `size_px`, to the lower right of it."""
        blur = max(1.0, 0.07 * size_px)
        pad = int(np.ceil(2.5 * blur))
        soft = cv2.GaussianBlur(np.pad(patch.alpha, pad), (0, 0), blur)
        shadow = replace(
            patch,
            x=patch.x - pad + round(0.04 * size_px),
            y=patch.y - pad + round(0.09 * size_px),
            alpha=np.asarray(soft, dtype=np.float32),
        )
        if (windows := shadow.clip(self.frame_wh)) is not None:
            frame, inside = windows
            self.pixels[frame] *= 1 - darkness * shadow.alpha[inside][..., None]


def ground_truth(
    target: Patch | None, front: Sequence[Patch], frame_wh: tuple[int, int]
) -> tuple[FloatArray, float]:
    """Box of the target's shape in the frame, (4,) xywh, and its visible fraction in [0, 1].

    `front` was drawn over it. The result is nan and 0 if nothing of the target is visible.
    """
    # 1. Shape in the frame.
    shape = np.zeros((frame_wh[1], frame_wh[0]), np.bool_)
    if target is not None and (windows := target.clip(frame_wh)) is not None:
        frame, inside = windows
        shape[frame] = target.solid[inside]

    # 2. Without what is hidden.
    visible = shape.copy()
    for patch in front:
        if (windows := patch.clip(frame_wh)) is not None:
            frame, inside = windows
            visible[frame] &= ~patch.solid[inside]
    if target is None or not visible.any():
        return np.full(4, np.nan), 0.0
    return mask_box(shape), float(visible.sum() / target.solid.sum())


def mask_box(mask: BoolArray) -> FloatArray:
    """Tight box around the true pixels of a (H, W) mask: (4,) xywh, nan if there are none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return np.full(4, np.nan)
    x, y = columns[0], rows[0]
    return np.array([x, y, columns[-1] + 1 - x, rows[-1] + 1 - y], dtype=np.float64)
