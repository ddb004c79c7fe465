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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamtrack.errors import DatasetError

FloatArray = NDArray[np.float64]
Image = NDArray[np.uint8]
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
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError(f"{path} cannot be read as a picture; reinstall scikit-image")
    return np.asarray(image, dtype=np.uint8)


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
