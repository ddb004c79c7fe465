"""Smooth random motion, sampled once per frame.

All functions are pure: the same generator state gives the same path.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

FloatArray = NDArray[np.float64]


def smooth_noise(
    rng: np.random.Generator, count: int, dims: int, step_s: float, memory_s: float
) -> FloatArray:
    """Stationary random signals with zero mean, unit variance and a continuous slope.

    An Ornstein-Uhlenbeck process passed through its own filter once more, which rounds its
    corners.

    Args:
        rng: source of randomness.
        count: samples.
        dims: independent signals.
        step_s: time between samples in seconds.
        memory_s: correlation time in seconds. Raising it makes the signals slower.

    Returns:
        (count, dims).
    """
    decay = float(np.exp(-step_s / memory_s))
    # Long enough for the start, which is zero, to be forgotten.
    warm_up = min(10_000, int(np.ceil(12 * memory_s / step_s)))
    white = rng.standard_normal((count + warm_up, dims))
    # Variance of white noise behind two equal first-order filters, so that the result has 1.
    gain = np.sqrt((1 - decay**2) ** 3 / (1 + decay**2))
    signal = lfilter([gain], [1.0, -2 * decay, decay**2], white, axis=0)
    return np.asarray(signal[warm_up:], dtype=np.float64)


def wander(
    rng: np.random.Generator,
    count: int,
    step_s: float,
    *,
    low_xy: FloatArray,
    high_xy: FloatArray,
    speed_px_s: float,
    agility_s: float,
) -> FloatArray:
    """Path with a randomly changing velocity that turns back softly at the sides of a rectangle.

    Args:
        rng: source of randomness.
        count: samples.
        step_s: time between samples in seconds.
        low_xy: top-left corner of the rectangle in px.
        high_xy: bottom-right corner, not above or left of `low_xy`.
        speed_px_s: root mean square speed in px per second.
        agility_s: correlation time of the velocity in seconds.

    Returns:
        (count, 2) px inside the rectangle.
    """
    velocity = smooth_noise(rng, count, 2, step_s, agility_s) * speed_px_s / np.sqrt(2)
    start = rng.uniform(low_xy, high_xy)
    path = start + np.cumsum(velocity, axis=0) * step_s
    span = np.maximum(high_xy - low_xy, 1e-9)
    # A triangle wave folds the unbounded path into the rectangle; smoothing rounds the folds.
    phase = np.mod((path - low_xy) / span, 2.0)
    folded = low_xy + span * np.where(phase > 1, 2 - phase, phase)
    return np.asarray(gaussian_filter1d(folded, 0.15 / step_s, axis=0, mode="nearest"))


def spline_path(
    rng: np.random.Generator,
    count: int,
    step_s: float,
    *,
    low_xy: FloatArray,
    high_xy: FloatArray,
    speed_px_s: float,
    agility_s: float,
) -> FloatArray:
    """Cubic spline through random points of a rectangle; same arguments as `wander`.

    The points are far enough apart that none is reached before `agility_s` has passed, and the
    spline is clipped to the rectangle where it swings past.
    """
    points = [rng.uniform(low_xy, high_xy)]
    times = [0.0]
    end_s = count * step_s
    while times[-1] < end_s or len(times) < 4:
        points.append(rng.uniform(low_xy, high_xy))
        distance = float(np.hypot(*(points[-1] - points[-2])))
        travel = distance / speed_px_s if speed_px_s > 0 else end_s
        times.append(times[-1] + max(travel, agility_s, step_s))
    if speed_px_s <= 0:
        points = [points[0]] * len(points)
    path = CubicSpline(times, np.array(points))(np.arange(count) * step_s)
    return np.clip(path, low_xy, high_xy)


def bump(count: int, centre: float, hold: float, ramp: float) -> FloatArray:
    """Signal that rises smoothly from 0 to 1, stays there and falls again.

    Args:
        count: samples.
        centre: index in the middle of the stay.
        hold: length of the stay in samples.
        ramp: length of the rise, and of the fall, in samples; above 0.

    Returns:
        (count,) in [0, 1].
    """
    distance = np.abs(np.arange(count) - centre) - hold / 2
    x = np.clip(1 - distance / ramp, 0.0, 1.0)
    return x * x * x * (x * (6 * x - 15) + 10)
