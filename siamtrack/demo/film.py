"""The film of the demo: a balloon goes once around the motorcycle, the camera in someone's hand."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from siamtrack.data.synthetic.compose import box_of, overlap
from siamtrack.data.synthetic.layers import Patch
from siamtrack.data.synthetic.motion import smooth_noise
from siamtrack.data.synthetic.scene import SceneFrame
from siamtrack.demo.balloon import Balloon, Pose
from siamtrack.demo.effects import cast_shadow, cover_of, draw_ribbon, put_behind, smear
from siamtrack.demo.stage import Shot, Stage, View

FloatArray = NDArray[np.float64]

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
