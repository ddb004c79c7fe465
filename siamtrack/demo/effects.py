"""What ties the balloon to the room: its shadow, its ribbon, what hides it, and motion blur."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.data.synthetic.compose import overlap
from siamtrack.data.synthetic.layers import Patch
from siamtrack.demo.balloon import SEMI_AXES_M, Pose
from siamtrack.demo.stage import Shot, Stage, View, Window

FloatArray = NDArray[np.float64]
Plane = NDArray[np.float32]

_DARKNESS = 0.75
_LAMP_SIZE = 0.35  # side of the lamp over its distance: how fast shadows get soft with height
_COVER_SOFTNESS = 0.012  # 1/m; edges of things in the distance map are about a px wide
_RIBBON_M = 0.34
_RIBBON_BGR = (225.0, 225.0, 232.0)
_KNOT_BGR = (110.0, 84.0, 14.0)
_FINE = 4  # fractional bits of the coordinates that OpenCV draws with
_BLUR_STEP_PX = 1.2


def cover_of(shot: Shot, window: Window, pose: Pose) -> Plane:
    """Share of every pixel of a window that lies in front of the balloon, in [0, 1]."""
    ahead = shot.nearness(window) - np.float32(1 / pose.position[2])
    return np.clip(ahead / np.float32(_COVER_SOFTNESS) + np.float32(0.5), 0, 1)


def put_behind(shot: Shot, patch: Patch, pose: Pose) -> None:
    """Draw a patch on a shot, in place, except where something is in front of the balloon."""
    height, width = shot.image.shape[:2]
    if (windows := overlap(patch, (width, height))) is not None:
        window, inside = windows
        clear = (1 - cover_of(shot, window, pose))[..., None]
        under = shot.image[window] * (1 - patch.alpha[inside][..., None] * clear)
        shot.image[window] = np.rint(under + patch.colour[inside] * clear).astype(np.uint8)


def cast_shadow(shot: Shot, stage: Stage, view: View, pose: Pose) -> None:
    """Darken the floor under the balloon, in place; the softer, the higher the balloon is."""
    spot = stage.drop(pose.position)
    height_m = float(np.linalg.norm(spot - pose.position))
    radius_m = float(np.hypot(SEMI_AXES_M[0] * 0.9, _LAMP_SIZE * height_m / 2))
    right = np.cross(stage.down, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    ahead = np.cross(right, stage.down)
    centre, side, far = (
        view.to_frame(point, stage.frame_wh)
        for point in (spot, spot + radius_m * right, spot + radius_m * ahead)
    )
    # A Gaussian whose two main directions are the floor's, seen from the camera.
    axes = np.stack([side - centre, far - centre], axis=1)
    reach = np.ceil(2.6 * np.abs(axes).max(axis=1)).astype(int)
    left, top = np.maximum(np.floor(centre).astype(int) - reach, 0)
    right_px, bottom = np.minimum(np.ceil(centre).astype(int) + reach, stage.frame_wh)
    if right_px <= left or bottom <= top:
        return
    x, y = np.meshgrid(
        np.arange(left, right_px) + 0.5 - centre[0], np.arange(top, bottom) + 0.5 - centre[1]
    )
    u, v = np.tensordot(np.linalg.inv(axes), np.stack([x, y]), 1)
    darkness = _DARKNESS * SEMI_AXES_M[0] ** 2 / radius_m**2
    window = np.s_[top:bottom, left:right_px]
    shade = 1 - darkness * np.exp(-(u * u + v * v)) * shot.floor_in(window)
    shot.image[window] = np.rint(shot.image[window] * shade[..., None]).astype(np.uint8)


def draw_ribbon(knots: Sequence[FloatArray], stage: Stage, view: View) -> Patch:
    """Ribbon that hangs from the knot and trails behind it.

    Args:
        knots: (3,) positions of the knot in camera space, now and at earlier and earlier times;
            each gives one point of the ribbon.
        stage: gives the direction of the floor.
        view: what the camera sees.
    """
    share = np.linspace(0, 1, len(knots))[:, None]
    curl = 0.012 * np.sin(9 * share + 2) * share
    points = np.stack(knots) + share * _RIBBON_M * stage.down + curl * np.array([1.0, 0, 0])
    line = view.to_frame(points, stage.frame_wh)
    pad = 6
    low = np.floor(line.min(axis=0)).astype(int) - pad
    size = np.ceil(line.max(axis=0)).astype(int) + pad - low
    px_per_m = float(np.linalg.norm(line[0] - line[1]) / np.linalg.norm(points[0] - points[1]))
    colour = np.zeros((size[1], size[0], 3), np.float32)
    alpha = np.zeros((size[1], size[0]), np.float32)
    tail = np.array([[-0.3, -0.25], [0.3, -0.25], [0.75, 1.0], [-0.75, 1.0]])
    knot = line[0] + tail * 0.022 * px_per_m
    for points_px, closed, bgr in ((line, False, _RIBBON_BGR), (knot, True, _KNOT_BGR)):
        mask = np.zeros(alpha.shape, np.uint8)
        fixed = np.rint((points_px - low - 0.5) * 2**_FINE).astype(np.int32)
        if closed:
            cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, _FINE)
        else:
            cv2.polylines(mask, [fixed], False, 255, 2, cv2.LINE_AA, _FINE)
        share_px = mask.astype(np.float32) / np.float32(255)
        colour *= 1 - share_px[..., None]
        colour += share_px[..., None] * np.array(bgr, np.float32)
        alpha = alpha * (1 - share_px) + share_px
    return Patch(int(low[0]), int(low[1]), colour, alpha, alpha > 0.5)


def smear(patch: Patch, travel_xy: FloatArray) -> Patch:
    """Average a patch along its way during the exposure, `travel_xy` in px."""
    length = float(np.hypot(*travel_xy))
    if length < _BLUR_STEP_PX:
        return patch
    count = int(np.ceil(length / _BLUR_STEP_PX)) + 1
    pad = int(np.ceil(length / 2)) + 1
    border = ((pad, pad), (pad, pad))
    image = np.dstack([np.pad(patch.colour, (*border, (0, 0))), np.pad(patch.alpha, border)])
    total = np.zeros_like(image)
    for share in np.linspace(-0.5, 0.5, count):
        dx, dy = share * travel_xy
        matrix = np.array([[1, 0, dx], [0, 1, dy]])
        total += cv2.warpAffine(image, matrix, image.shape[1::-1], flags=cv2.INTER_LINEAR)
    total /= count
    solid = np.pad(patch.solid, border)
    return Patch(patch.x - pad, patch.y - pad, total[..., :3], total[..., 3], solid)
