"""Curves through points and filters along time, in numpy alone.

SciPy has all of them; rendering the demo's and the benchmark's clips must not need it.
"""

from __future__ import annotations

import numpy as np

from siamtrack.types import FloatArray


def cubic_spline(x: FloatArray, y: FloatArray, at: FloatArray) -> FloatArray:
    """Evaluate the cubic spline through points, with the not-a-knot condition at its ends.

    Args:
        x: (N,) increasing, N >= 4.
        y: (N, D).
        at: (M,) where to evaluate; outside of `x` the polynomials at the ends go on.

    Returns:
        (M, D) float64. Source: C. de Boor, A Practical Guide to Splines, chapter IV.
    """
    # 1. Equal second derivatives on both sides of every point between the ends.
    count, dx = len(x), np.diff(x)
    slope = np.diff(y, axis=0) / dx[:, None]  # (N - 1, D)
    matrix, right = np.zeros((count, count)), np.zeros_like(y, dtype=np.float64)
    inner = np.arange(1, count - 1)
    matrix[inner, inner - 1] = dx[1:]
    matrix[inner, inner] = 2 * (dx[:-1] + dx[1:])
    matrix[inner, inner + 1] = dx[:-1]
    right[1:-1] = 3 * (dx[1:, None] * slope[:-1] + dx[:-1, None] * slope[1:])

    # 2. Equal third derivatives on both sides of the second and of the last but one.
    for row, (a, b), (first, second), aside in (
        (0, dx[:2], slope[:2], 1),
        (count - 1, dx[:-3:-1], slope[:-3:-1], count - 2),
    ):
        matrix[row, row], matrix[row, aside] = b, a + b
        right[row] = ((a + 2 * (a + b)) * b * first + a**2 * second) / (a + b)
    return _hermite(x, y, np.asarray(np.linalg.solve(matrix, right), np.float64), at)


def monotone_spline(x: FloatArray, y: FloatArray, at: FloatArray) -> FloatArray:
    """Evaluate the cubic curve through points that overshoots none of them (PCHIP).

    Args:
        x: (N,) increasing, N >= 3.
        y: (N,).
        at: (M,) where to evaluate, within `x`.

    Returns:
        (M,) float64. Source: Fritsch and Butland, SIAM J. Sci. Stat. Comput. 5 (1984).
    """
    # 1. Between the ends: the weighted harmonic mean of both slopes, 0 at an extremum.
    dx = np.diff(x)
    slope = np.diff(y) / dx
    before, after = 2 * dx[1:] + dx[:-1], dx[1:] + 2 * dx[:-1]
    rising = slope[:-1] * slope[1:] > 0
    left, right = np.where(rising, slope[:-1], 1.0), np.where(rising, slope[1:], 1.0)
    mean = (before + after) / (before / left + after / right)
    tangent = np.concatenate([[0.0], np.where(rising, mean, 0.0), [0.0]])

    # 2. At the ends: that of the parabola through three points, limited to keep the shape.
    for end, (a, b), (first, second) in ((0, dx[:2], slope[:2]), (-1, dx[:-3:-1], slope[:-3:-1])):
        value = ((2 * a + b) * first - a * second) / (a + b)
        if np.sign(value) != np.sign(first):
            value = 0.0
        elif np.sign(first) != np.sign(second) and abs(value) > 3 * abs(first):
            value = 3 * first
        tangent[end] = value
    return _hermite(x, y[:, None], tangent[:, None], at)[:, 0]


def _hermite(x: FloatArray, y: FloatArray, tangent: FloatArray, at: FloatArray) -> FloatArray:
    """Cubic pieces with the values `y` and the tangents at `x`, both (N, D): (M, D) at `at`."""
    k = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    width = (x[k + 1] - x[k])[:, None]
    t = (at - x[k])[:, None] / width
    start, end = y[k] * (1 + 2 * t) + tangent[k] * width * t, y[k + 1] * (3 - 2 * t)
    return np.asarray(start * (1 - t) ** 2 + (end - tangent[k + 1] * width * (1 - t)) * t**2)


def gaussian_smooth(values: FloatArray, sigma: float) -> FloatArray:
    """Convolve along the first axis with a Gaussian of `sigma` samples; end values go on.

    `values` is (N, D); the kernel is cut off at four sigma.
    """
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 / sigma**2 * offsets**2)
    weights /= weights.sum()
    padded = np.pad(values, ((radius, radius), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, weights, mode="valid") for column in padded.T], axis=1)


def double_lowpass(white: FloatArray, gain: float, decay: float) -> FloatArray:
    """Pass (N, D) signals twice through a first-order filter that starts at zero.

    y[n] = gain white[n] + 2 decay y[n - 1] - decay**2 y[n - 2].
    """
    signal = np.empty_like(white, dtype=np.float64)
    last = before = np.zeros(white.shape[1])
    for n, value in enumerate(white):
        signal[n] = gain * value + 2 * decay * last - decay**2 * before
        last, before = signal[n], last
    return signal
