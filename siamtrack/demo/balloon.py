"""The star of the demo: a shiny foil balloon with a cat's face on both sides.

A flattened ellipsoid, met by one ray per pixel, lit by two lamps and by a blurred picture of the
room that its foil mirrors.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.data.synthetic.layers import Patch
from siamtrack.demo.stage import CENTRE_PX, FOCAL_PX, Stage, View, read_picture

FloatArray = NDArray[np.float64]
Plane = NDArray[np.float32]

SEMI_AXES_M = (0.104, 0.112, 0.062)
"""Half width, height and thickness."""

_PRINT_PX = 400
_FOIL_BGR = (150.0, 118.0, 22.0)
_LAMPS = (((-0.50, -0.72, -0.48), 150.0, 55.0), ((0.62, -0.55, -0.56), 60.0, 120.0))
_KEY_LIGHT = (-0.42, -0.70, -0.58)
_WRINKLES = 30  # around the seam


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the balloon is.

    Attributes:
        position: (3,) camera space in metres.
        axes: (3, 3) rotation, its columns are the balloon's axes in camera space: to the right
            of the face, down its chin, into it.
    """

    position: FloatArray
    axes: FloatArray

    @property
    def knot(self) -> FloatArray:
        """(3,) lowest point of the balloon, where the ribbon is tied."""
        return np.asarray(self.position + self.axes[:, 1] * SEMI_AXES_M[1])


class Balloon:
    """Renders the balloon from any side.

    Args:
        stage: gives the frame size and the room to mirror.
    """

    def __init__(self, stage: Stage) -> None:
        self._frame_wh = stage.frame_wh
        self._print = [_print_on_foil()]
        while self._print[-1].shape[0] > 60:
            side = self._print[-1].shape[0] // 2
            self._print.append(
                np.asarray(cv2.resize(self._print[-1], (side, side), interpolation=cv2.INTER_AREA))
            )
        small = cv2.resize(stage.photograph, (160, 108), interpolation=cv2.INTER_AREA)
        self._room = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 2.5)

    def render(self, pose: Pose, view: View) -> Patch:
        """Render without motion blur; the patch covers the whole balloon, in the frame or not."""
        middle = view.to_frame(pose.position, self._frame_wh)
        radius = 1.06 * max(SEMI_AXES_M) * FOCAL_PX * view.zoom / pose.position[2] + 2
        left, top = np.floor(middle - radius).astype(int)
        right, bottom = np.ceil(middle + radius).astype(int)
        x, y = np.meshgrid(
            np.arange(left, right, dtype=np.float32) + np.float32(0.5),
            np.arange(top, bottom, dtype=np.float32) + np.float32(0.5),
        )
        px, py = view.to_photograph(x, y, self._frame_wh)
        ray = np.stack(
            [(px - CENTRE_PX[0]) / FOCAL_PX, (py - CENTRE_PX[1]) / FOCAL_PX, np.ones_like(px)]
        ).astype(np.float32)
        eye = pose.position - [*view.step_xy, 0.0]
        hit, alpha = _meet(ray, eye, pose.axes)
        colour = self._shade(hit, ray, pose.axes, float(radius))
        premultiplied = colour * alpha[..., None]
        return Patch(int(left), int(top), premultiplied, alpha, alpha > 0.5)

    def _shade(self, hit: Plane, ray: Plane, axes: FloatArray, radius_px: float) -> Plane:
        """Colour of the foil at points of the unit sphere, (h, w, 3) in [0, 255]."""
        normal = _normal(hit, axes)
        sight = ray / np.linalg.norm(ray, axis=0)
        facing = -(normal * sight).sum(axis=0)
        mirrored = sight + 2 * facing * normal
        # The print is pressed flat on the front and, reversed, on the back.
        level = int(np.clip(np.log2(_PRINT_PX / (2 * radius_px)) + 0.4, 0, len(self._print) - 1))
        picture = self._print[level]
        half = picture.shape[0] / 2
        u = (np.where(hit[2] < 0, hit[0], -hit[0]) * np.float32(0.985) + 1) * half - 0.5
        v = (hit[1] * np.float32(0.985) + 1) * half - 0.5
        foil = cv2.remap(picture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        light = 0.46 + 0.76 * np.clip(_along(_KEY_LIGHT, normal), -0.3, 1)
        height, width = self._room.shape[:2]
        room = cv2.remap(
            self._room,
            ((mirrored[0] * 0.5 + 0.5) * width).astype(np.float32),
            ((mirrored[1] * 0.5 + 0.5) * height).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        mirror = (0.10 + 0.55 * (1 - np.clip(facing, 0, 1)) ** 3)[..., None]
        colour = foil * light[..., None] * (1 - mirror) + room * mirror
        for direction, strength, sharpness in _LAMPS:
            glint = np.clip(_along(direction, mirrored), 0, 1) ** np.float32(sharpness)
            colour += np.float32(strength) * glint[..., None]
        return np.clip(colour, 0, 255)


def _along(direction: tuple[float, float, float], vectors: Plane) -> Plane:
    """Cosine between a direction and (3, h, w) unit vectors."""
    unit = np.array(direction) / np.linalg.norm(direction)
    return np.tensordot(unit.astype(np.float32), vectors, 1)


def _meet(ray: Plane, centre: FloatArray, axes: FloatArray) -> tuple[Plane, Plane]:
    """Where rays from the eye meet the ellipsoid.

    Args:
        ray: (3, h, w) directions.
        centre: (3,) middle of the ellipsoid seen from the eye.
        axes: (3, 3) its axes.

    Returns:
        (3, h, w) points in the coordinates that make the ellipsoid the unit sphere (the nearest
        point for rays that miss), and (h, w) coverage of the pixel in [0, 1].
    """
    to_sphere = axes.T / np.array(SEMI_AXES_M)[:, None]
    direction = np.tensordot(to_sphere.astype(np.float32), ray, 1)
    origin = -(to_sphere @ centre).astype(np.float32)
    a = (direction * direction).sum(axis=0)
    b = np.tensordot(origin, direction, 1)
    discriminant = b * b - a * (origin @ origin - 1)
    distance = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
    # The discriminant falls linearly through 0 at the outline: its slope gives the distance to
    # the outline in px.
    slope_y, slope_x = np.gradient(discriminant)
    alpha = np.clip(discriminant / np.maximum(np.hypot(slope_x, slope_y), 1e-9) + 0.5, 0, 1)
    hit = origin[:, None, None] + distance * direction
    return hit.astype(np.float32), alpha.astype(np.float32)


def _normal(hit: Plane, axes: FloatArray) -> Plane:
    """(3, h, w) unit normals, wrinkled towards the seam."""
    around = np.arctan2(hit[1], hit[0])
    out = np.hypot(hit[0], hit[1])
    depth = 0.28 * np.clip((out - 0.72) / 0.28, 0, 1) ** 2
    wave = depth * np.sin(_WRINKLES * around + 2.0 * np.sin(5 * around))
    local = hit / np.array(SEMI_AXES_M, np.float32)[:, None, None]
    local /= np.linalg.norm(local, axis=0) + np.float32(1e-9)
    local[0] -= wave * np.sin(around)
    local[1] += wave * np.cos(around)
    normal = np.tensordot(axes.astype(np.float32), local, 1)
    return np.asarray(normal / (np.linalg.norm(normal, axis=0) + np.float32(1e-9)))


def _print_on_foil() -> Plane:
    """The cat's face on a disc, with a white line and a coloured rim around it."""
    cat = read_picture("chelsea.png")
    side = cat.shape[0]
    face = cv2.resize(cat[:, 70 : 70 + side], (_PRINT_PX, _PRINT_PX), interpolation=cv2.INTER_CUBIC)
    # Prints have more contrast than photographs.
    picture = (face.astype(np.float64) - 100) * 1.18 + 112
    axis = (np.arange(_PRINT_PX) + 0.5) / (_PRINT_PX / 2) - 1
    out = np.hypot(*np.meshgrid(axis, axis))
    for start, colour in ((0.80, (235.0, 240.0, 240.0)), (0.845, _FOIL_BGR)):
        share = np.clip((out - start) * _PRINT_PX / 4, 0, 1)[..., None]
        picture = picture * (1 - share) + np.array(colour) * share
    return picture.astype(np.float32)
