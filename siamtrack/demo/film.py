"""The stage of the demo: a photograph with the measured distance of every pixel.

It is the motorcycle of the Middlebury 2014 stereo benchmark (Scharstein et al., "High-resolution
stereo datasets with subpixel-accurate ground truth", GCPR 2014) as scikit-image ships it. With the
distances, a thing that flies through the garage passes in front of some of it and behind the rest,
and the camera can move a little.

Two systems of coordinates: *photograph px*, and *camera space* in metres: x right, y down, z
forward, the origin at the photograph's camera.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from siamtrack.data.synthetic.render import Patch, box_of, overlap
from siamtrack.data.synthetic.scene import SceneFrame, smooth_noise
from siamtrack.errors import DatasetError
from siamtrack.types import FloatArray, Image
from siamtrack.utils.images import read_image

Plane = NDArray[np.float32]
Window = tuple[slice, slice]

# Calibration of the photograph, from the documentation of skimage.data.stereo_motorcycle.
FOCAL_PX = 994.978
CENTRE_PX = (311.193, 254.877)
_DISPARITY_OFFSET_PX = 31.086
_BASELINE_M = 0.193001

_ENLARGE = 2  # the photograph is enlarged once, with a better filter than the warp has
_FLOOR_TOLERANCE_PX = 1.2  # disparity by which rough concrete leaves the fitted plane


@dataclass(frozen=True, slots=True)
class View:
    """What the camera sees at one moment.

    Attributes:
        centre_xy: photograph px in the middle of the frame.
        zoom: frame px per photograph px.
        roll: rotation in radians.
        step_xy: displacement of the camera in metres; it shifts near things more than far ones.
    """

    centre_xy: tuple[float, float]
    zoom: float
    roll: float
    step_xy: tuple[float, float]

    def to_frame(self, point: FloatArray, frame_wh: tuple[int, int]) -> FloatArray:
        """(..., 3) camera space to (..., 2) frame px."""
        flat = FOCAL_PX * (point[..., :2] - self.step_xy) / point[..., 2:] + CENTRE_PX
        offset = (flat - self.centre_xy) * self.zoom
        c, s = np.cos(self.roll), np.sin(self.roll)
        turned = offset @ np.array([[c, s], [-s, c]])
        return np.asarray(turned + np.array(frame_wh) / 2)

    def to_photograph(self, x: Plane, y: Plane, frame_wh: tuple[int, int]) -> tuple[Plane, Plane]:
        """Frame px to photograph px, as if everything were infinitely far away.

        Args:
            x: columns, of any shape that broadcasts with `y`.
            y: rows.
            frame_wh: width and height of the frame in px.
        """
        c, s = np.cos(self.roll) / self.zoom, np.sin(self.roll) / self.zoom
        u, v = x - np.float32(frame_wh[0] / 2), y - np.float32(frame_wh[1] / 2)
        px = np.float32(c) * u + np.float32(s) * v + np.float32(self.centre_xy[0])
        py = np.float32(c) * v - np.float32(s) * u + np.float32(self.centre_xy[1])
        return px, py


@dataclass(frozen=True, slots=True)
class Shot:
    """The empty stage seen from one view.

    Attributes:
        image: uint8 (H, W, 3) BGR.
        x: float32 (H, W), the column in photograph px that every pixel shows.
        y: float32 (H, W), the row.
        obstacles: see `nearness`, for the whole photograph.
        floor: see `floor_in`, for the whole photograph.
    """

    image: Image
    x: Plane
    y: Plane
    obstacles: Plane
    floor: Plane

    def nearness(self, window: Window) -> Plane:
        """1 / distance in 1/m of what can hide something in a window; 0 where that is the floor."""
        return self._look_up(self.obstacles, window)

    def floor_in(self, window: Window) -> Plane:
        """Share of every pixel of a window that shows the floor, in [0, 1]."""
        return self._look_up(self.floor, window)

    def _look_up(self, plane: Plane, window: Window) -> Plane:
        return np.asarray(_sample(plane, self.x[window], self.y[window]))


class Stage:
    """The photograph, made ready for being looked at from slightly different places.

    Args:
        frame_wh: width and height of the frames in px.

    Raises:
        DatasetError: scikit-image was installed without its pictures.
    """

    def __init__(self, frame_wh: tuple[int, int]) -> None:
        photograph = read_picture("motorcycle_left.png")
        with np.load(_packaged("motorcycle_disp.npz")) as file:
            disparity = np.asarray(file["arr_0"], dtype=np.float64)
        self.frame_wh = frame_wh
        self.photograph = photograph
        disparity = _fill_sideways(disparity)
        plane = _fit_floor(disparity)
        rows, columns = np.mgrid[: disparity.shape[0], : disparity.shape[1]]
        above = disparity - (plane[0] * columns + plane[1] * rows + plane[2])
        floor = (np.abs(above) < _FLOOR_TOLERANCE_PX) & (rows > disparity.shape[0] * 0.45)
        nearness = (disparity + _DISPARITY_OFFSET_PX) / (FOCAL_PX * _BASELINE_M)
        self._nearness = nearness.astype(np.float32)
        self._obstacles = np.where(floor, 0, nearness).astype(np.float32)
        self._floor = cv2.GaussianBlur(floor.astype(np.float32), (0, 0), 0.8)
        self._enlarged = _enlarge(photograph)
        # Normal of the floor, pointing down, and the height of the camera above it.
        a, b, c = plane
        tilt = a * CENTRE_PX[0] + b * CENTRE_PX[1] + c + _DISPARITY_OFFSET_PX
        normal = np.array([a * FOCAL_PX, b * FOCAL_PX, tilt])
        self.down = normal / np.linalg.norm(normal)
        self.camera_height_m = float(FOCAL_PX * _BASELINE_M / np.linalg.norm(normal))
        self._x = np.arange(frame_wh[0], dtype=np.float32)[None] + np.float32(0.5)
        self._y = np.arange(frame_wh[1], dtype=np.float32)[:, None] + np.float32(0.5)

    def place(self, x_px: ArrayLike, y_px: ArrayLike, distance_m: ArrayLike) -> FloatArray:
        """(..., 3) camera space of what appears at a photograph px in a distance along the view."""
        x, y, z = np.broadcast_arrays(x_px, y_px, distance_m)
        scale = z / FOCAL_PX
        return np.stack([(x - CENTRE_PX[0]) * scale, (y - CENTRE_PX[1]) * scale, z], axis=-1)

    def drop(self, point: FloatArray) -> FloatArray:
        """(3,) point of the floor straight below (or above) a point, in camera space."""
        return np.asarray(point + (self.camera_height_m - point @ self.down) * self.down)

    def shoot(self, view: View) -> Shot:
        """Photograph the empty stage."""
        x, y = view.to_photograph(self._x, self._y, self.frame_wh)
        # Where a ray that is moved sideways ends depends on the distance there, which is taken
        # from where it would have ended: near enough for the small steps of the camera.
        near = _sample(self._nearness, x, y)
        for plane, step_m in zip((x, y), view.step_xy, strict=True):
            cv2.scaleAdd(near, FOCAL_PX * step_m, plane, plane)
        image = _sample(self._enlarged, x, y, scale=_ENLARGE)
        return Shot(np.asarray(image, dtype=np.uint8), x, y, self._obstacles, self._floor)


def _sample(picture: NDArray[Any], x: Plane, y: Plane, *, scale: float = 1.0) -> NDArray[Any]:
    """Picture at (scale * x, scale * y) px, linear in between; the border goes on for ever."""
    # OpenCV counts from pixel centres.
    columns, rows = (cv2.addWeighted(plane, scale, plane, 0.0, -0.5) for plane in (x, y))
    return np.asarray(
        cv2.remap(picture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def read_picture(name: str) -> Image:
    """Read one of the pictures inside the installed scikit-image as uint8 (H, W, 3) BGR.

    Nothing is ever downloaded.

    Raises:
        DatasetError: it is not there or cannot be read.
    """
    path = _packaged(name)
    try:
        return read_image(path, upright=True)
    except DatasetError as error:
        raise DatasetError(f"{path} cannot be read as a picture; reinstall scikit-image") from error


def _packaged(name: str) -> Path:
    """Path of a data file of scikit-image, found without importing it."""
    spec = importlib.util.find_spec("skimage")
    roots = list(spec.submodule_search_locations or ()) if spec is not None else []
    path = Path(roots[0] if roots else ".") / "data" / name
    if not path.is_file():
        raise DatasetError(
            f"the demo needs {name} from scikit-image and {path} is not there; install it with: "
            "pip install scikit-image"
        )
    return path


def _fill_sideways(disparity: FloatArray) -> FloatArray:
    """Give pixels without a measurement the farther one of their two neighbours in the row.

    What only one camera of the pair saw lies behind the edge that hid it from the other.
    """

    def from_left(values: FloatArray) -> FloatArray:
        known = np.isfinite(values)
        last = np.maximum.accumulate(np.where(known, np.arange(values.shape[1]), 0), axis=1)
        return np.asarray(np.take_along_axis(values, last, axis=1))

    disparity = np.where(np.isfinite(disparity), disparity, np.nan)
    filled = np.fmin(from_left(disparity), from_left(disparity[:, ::-1])[:, ::-1])
    return np.asarray(np.where(np.isfinite(disparity), disparity, filled))


def _fit_floor(disparity: FloatArray) -> FloatArray:
    """Fit disparity = a x + b y + c to the floor, starting from the bottom rows."""
    rows, columns = np.mgrid[: disparity.shape[0], : disparity.shape[1]]
    ones = np.ones_like(disparity)
    chosen = rows > 0.86 * disparity.shape[0]
    plane = np.zeros(3)
    for _ in range(6):
        system = np.stack([columns[chosen], rows[chosen], ones[chosen]], axis=1)
        plane = np.linalg.lstsq(system, disparity[chosen], rcond=None)[0]
        error = disparity - (plane[0] * columns + plane[1] * rows + plane[2])
        chosen = (np.abs(error) < _FLOOR_TOLERANCE_PX) & (rows > 0.6 * disparity.shape[0])
    return np.asarray(plane)


def _enlarge(photograph: Image) -> Image:
    """Enlarge with a sharp filter and give back the edge contrast that enlarging takes."""
    size = (photograph.shape[1] * _ENLARGE, photograph.shape[0] * _ENLARGE)
    large = cv2.resize(photograph, size, interpolation=cv2.INTER_LANCZOS4)
    soft = cv2.GaussianBlur(large, (0, 0), 1.6)
    return np.asarray(cv2.addWeighted(large, 1.6, soft, -0.6, 0), dtype=np.uint8)


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
        """Color of the foil at points of the unit sphere, (h, w, 3) in [0, 255]."""
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


FRAME_WH = (960, 540)
FPS = 30.0

_SHUTTER = 0.5
_ZOOM = 1.44
_LOOK_AT_PX = (370.0, 236.0)
_FOLLOW = 0.12  # how much of the balloon's way to the side the camera goes along
_GRAIN = 1.6  # grey levels
_RIBBON_LAGS_S = np.linspace(0, 0.5, 22)

# Share of the film, photograph px, distance in m. It starts in front of the rear wheel, passes the
# engine, turns around the headlight, comes back behind handlebars, tank and seat, and ends in
# front again.
_FLIGHT = np.array(
    [
        [0.00, 118, 318, 1.80],
        [0.12, 215, 300, 1.72],
        [0.25, 400, 262, 1.62],
        [0.36, 560, 215, 1.75],
        [0.44, 640, 140, 2.25],
        [0.52, 566, 100, 2.85],
        [0.61, 430, 124, 2.95],
        [0.70, 300, 142, 2.95],
        [0.78, 195, 118, 3.05],
        [0.86, 105, 150, 2.50],
        [0.93, 130, 225, 1.95],
        [1.00, 235, 270, 1.50],
    ]
)


class Flight:
    """Where the balloon and the camera are at every moment.

    Args:
        stage: turns photograph px and distance into space.
        duration_s: length of the film.
        rng: varies the path, the swaying and the hand that holds the camera.
    """

    def __init__(self, stage: Stage, duration_s: float, rng: np.random.Generator) -> None:
        self._stage = stage
        self._duration_s = duration_s
        keys = _FLIGHT.copy()
        keys[1:, 1:3] += rng.normal(0, 4, keys[1:, 1:3].shape)
        # Nearness is proportional to the size in the picture: it changes evenly, distance does not.
        keys[:, 3] = 1 / keys[:, 3]
        self._path = CubicSpline(keys[:, 0] * duration_s, keys[:, 1:])
        self._step_s = 1 / FPS
        count = int(np.ceil(duration_s * FPS)) + 2
        self._drift = smooth_noise(rng, count, 4, self._step_s, 0.9) * [3.0, 3.0, 0.10, 0.05]
        hand = smooth_noise(rng, count, 5, self._step_s, 0.5)
        self._hand = hand * [1.6, 1.3, 0.0012, 0.0015, 0.0015]

    def poses(self, times_s: ArrayLike) -> list[Pose]:
        """Pose of the balloon at each of some moments."""
        times = np.atleast_1d(np.asarray(times_s, dtype=np.float64))
        x, y, nearness = self._path(np.clip(times, 0, self._duration_s)).T
        dx, dy, dyaw, droll = self._sample(self._drift, times)
        # Yaw shows the face from the side and narrows it, roll sways it.
        yaw = 0.72 * np.sin(2 * np.pi * times / 5.2 + 0.4) + dyaw
        roll = 0.22 * np.sin(2 * np.pi * times / 3.7) + droll
        positions = self._stage.place(x + dx, y + dy, 1 / nearness)
        turns = Rotation.from_euler("yz", np.stack([yaw, roll], axis=1)).as_matrix()
        return [Pose(p, turn) for p, turn in zip(positions, turns, strict=True)]

    def view(self, time_s: float) -> View:
        """What the camera sees."""
        dx, dy, roll, sx, sy = (float(v) for v in self._sample(self._hand, time_s))
        around = time_s + self._duration_s * np.array([-0.05, -0.025, 0, 0.025, 0.05])
        around = np.clip(around, 0, self._duration_s)
        aside = float(np.mean(self._path(around)[:, 0])) - _LOOK_AT_PX[0]
        phase = 2 * np.pi * time_s / self._duration_s
        return View(
            (_LOOK_AT_PX[0] + _FOLLOW * aside + dx, _LOOK_AT_PX[1] + dy),
            _ZOOM * (1 - 0.02 * float(np.cos(phase))),
            roll,
            (0.010 * float(np.sin(phase)) + sx, sy),
        )

    def _sample(self, table: FloatArray, times_s: ArrayLike) -> list[FloatArray]:
        """Columns of a table with one row per frame, at any times, linear in between."""
        rows = np.arange(len(table)) * self._step_s
        times = np.asarray(times_s, dtype=np.float64)
        return [np.asarray(np.interp(times, rows, column)) for column in table.T]


def film(frame_count: int, seed: int) -> Iterator[SceneFrame]:
    """Shoot the film.

    Args:
        frame_count: frames; the balloon takes all of them for its way, so fewer make it faster.
        seed: varies the flight.

    Yields:
        Frames of `FRAME_WH` px at `FPS` with the exact box of the balloon, its ribbon left out.

    Raises:
        DatasetError: scikit-image was installed without its pictures.
    """
    stage = Stage(FRAME_WH)
    balloon = Balloon(stage)
    rng = np.random.default_rng(seed)
    flight = Flight(stage, frame_count / FPS, rng)
    size = (FRAME_WH[1], FRAME_WH[0], 1)
    grain = [
        np.repeat(np.rint(rng.normal(0, _GRAIN, size)).astype(np.int16), 3, axis=2)
        for _ in range(5)
    ]
    for index in range(frame_count):
        image, box, visible = _expose(stage, balloon, flight, index / FPS)
        image = np.asarray(cv2.add(image, grain[index % len(grain)], dtype=cv2.CV_8U))
        yield SceneFrame(image, box, visible)


def _expose(stage: Stage, balloon: Balloon, flight: Flight, time_s: float) -> SceneFrame:
    """Render one frame."""
    half_s = _SHUTTER / FPS / 2
    view = flight.view(time_s)
    pose, before, after = flight.poses([time_s, time_s - half_s, time_s + half_s])
    start = flight.view(time_s - half_s).to_frame(before.position, stage.frame_wh)
    end = flight.view(time_s + half_s).to_frame(after.position, stage.frame_wh)
    shot = stage.shoot(view)
    cast_shadow(shot, stage, view, pose)
    knots = [earlier.knot for earlier in flight.poses(time_s - _RIBBON_LAGS_S)]
    put_behind(shot, draw_ribbon(knots, stage, view), pose)
    sharp = balloon.render(pose, view)
    put_behind(shot, smear(sharp, end - start), pose)
    return SceneFrame(shot.image, *_truth(sharp, shot, pose))


def _truth(balloon: Patch, shot: Shot, pose: Pose) -> tuple[FloatArray, float]:
    """Box around the balloon in the frame, and the share of it that nothing hides."""
    height, width = shot.image.shape[:2]
    windows = overlap(balloon, (width, height))
    if windows is None:
        return np.full(4, np.nan), 0.0
    frame, inside = windows
    shape = balloon.solid[inside]
    visible = int((shape & (cover_of(shot, frame, pose) < 0.5)).sum())
    if not visible:
        return np.full(4, np.nan), 0.0
    corner = np.array([frame[1].start, frame[0].start, 0, 0], dtype=np.float64)
    return box_of(shape) + corner, visible / int(balloon.solid.sum())
