"""Curves and filters without SciPy give what SciPy's give."""

import numpy as np
import pytest
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

from siamtrack.data.synthetic.curves import (
    cubic_spline,
    double_lowpass,
    gaussian_smooth,
    monotone_spline,
)


@pytest.mark.parametrize("count", [4, 5, 15])
def test_cubic_spline(rng: np.random.Generator, count: int) -> None:
    x = np.cumsum(rng.uniform(0.1, 3, count))
    y = rng.normal(0, 100, (count, 2))
    at = np.concatenate([x, np.linspace(x[0] - 1, x[-1] + 1, 50)])
    np.testing.assert_allclose(cubic_spline(x, y, at), CubicSpline(x, y)(at), atol=1e-9)


@pytest.mark.parametrize("kind", ["any", "rising", "flat", "turns at the ends"])
def test_monotone_spline(rng: np.random.Generator, kind: str) -> None:
    x = np.cumsum(rng.uniform(0.1, 3, 12))
    y = {
        "any": rng.normal(0, 100, 12),
        "rising": np.cumsum(rng.uniform(0, 5, 12)),
        "flat": np.repeat([0.0, 5.0, 5.0, 2.0], 3),
        "turns at the ends": np.array([0.0, 1, -90, *[-91] * 6, 90, -1, 0]),
    }[kind]
    at = np.concatenate([x, np.linspace(x[0], x[-1], 50)])
    np.testing.assert_allclose(monotone_spline(x, y, at), PchipInterpolator(x, y)(at), atol=1e-9)


@pytest.mark.parametrize("sigma", [0.05, 1.5, 4.5])
def test_gaussian_smooth(rng: np.random.Generator, sigma: float) -> None:
    values = rng.normal(0, 10, (9, 2))  # shorter than the kernel
    expected = gaussian_filter1d(values, sigma, axis=0, mode="nearest")
    np.testing.assert_allclose(gaussian_smooth(values, sigma), expected, atol=1e-9)


def test_double_lowpass(rng: np.random.Generator) -> None:
    white = rng.normal(0, 1, (300, 3))
    expected = lfilter([0.2], [1.0, -2 * 0.97, 0.97**2], white, axis=0)
    np.testing.assert_allclose(double_lowpass(white, 0.2, 0.97), expected, atol=1e-9)
