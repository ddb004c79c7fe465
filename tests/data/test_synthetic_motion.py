"""Random motion: statistics against theory, limits, and smoothness."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from siamtrack.data.synthetic.scene import bump, smooth_noise, spline_path, wander

STEP_S = 1 / 30
LOW, HIGH = np.array([20.0, 10.0]), np.array([300.0, 200.0])
PATHS = [wander, spline_path]


def test_smooth_noise_has_zero_mean_and_unit_variance(rng: np.random.Generator) -> None:
    signal = smooth_noise(rng, 200_000, 2, STEP_S, 0.2)
    assert np.abs(signal.mean(axis=0)).max() < 0.06
    assert signal.var(axis=0) == pytest.approx([1, 1], abs=0.06)


def test_smooth_noise_is_stationary_from_the_first_sample(rng: np.random.Generator) -> None:
    starts = np.array([smooth_noise(rng, 1, 1, STEP_S, 0.5)[0, 0] for _ in range(3000)])
    assert starts.var() == pytest.approx(1.0, abs=0.1)


def test_smooth_noise_forgets_as_slowly_as_asked(rng: np.random.Generator) -> None:
    # Correlation of two first-order filters in a row at lag t: (1 + t / tau) exp(-t / tau).
    memory_s, lag = 0.5, 15
    signal = smooth_noise(rng, 300_000, 1, STEP_S, memory_s)[:, 0]
    found = np.corrcoef(signal[:-lag], signal[lag:])[0, 1]
    share = lag * STEP_S / memory_s
    assert found == pytest.approx((1 + share) * np.exp(-share), abs=0.03)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("speed_px_s", [0.0, 60.0, 3000.0])
def test_path_stays_in_its_rectangle(
    rng: np.random.Generator, path: Callable[..., np.ndarray], speed_px_s: float
) -> None:
    for _ in range(5):
        points = path(
            rng, 200, STEP_S, low_xy=LOW, high_xy=HIGH, speed_px_s=speed_px_s, agility_s=0.4
        )
        assert points.shape == (200, 2)
        assert (points >= LOW - 1e-9).all()
        assert (points <= HIGH + 1e-9).all()


@pytest.mark.parametrize("path", PATHS)
def test_speed_zero_stands_still(rng: np.random.Generator, path: Callable[..., np.ndarray]) -> None:
    points = path(rng, 50, STEP_S, low_xy=LOW, high_xy=HIGH, speed_px_s=0.0, agility_s=0.4)
    assert np.ptp(points, axis=0) == pytest.approx([0, 0], abs=1e-9)


@pytest.mark.parametrize("path", PATHS)
def test_faster_is_faster(rng: np.random.Generator, path: Callable[..., np.ndarray]) -> None:
    def typical(speed_px_s: float) -> float:
        steps = [
            np.diff(
                path(
                    rng, 300, STEP_S, low_xy=LOW, high_xy=HIGH, speed_px_s=speed_px_s, agility_s=0.3
                ),
                axis=0,
            )
            for _ in range(8)
        ]
        return float(np.sqrt((np.concatenate(steps) ** 2).sum(axis=1).mean())) / STEP_S

    slow, fast = typical(20.0), typical(200.0)
    assert 8 < slow < 32
    assert 4 * slow < fast < 320


@pytest.mark.parametrize("path", PATHS)
def test_path_has_no_kinks(rng: np.random.Generator, path: Callable[..., np.ndarray]) -> None:
    points = path(rng, 300, STEP_S, low_xy=LOW, high_xy=HIGH, speed_px_s=100.0, agility_s=0.5)
    inside = ((points > LOW + 1) & (points < HIGH - 1)).all(axis=1)[2:]
    jerk = np.abs(np.diff(points, 2, axis=0)).max(axis=1)[inside]
    assert jerk.max() < 2.5  # px per frame and frame, at about 3 px per frame


def test_bump_rises_holds_and_falls() -> None:
    signal = bump(101, centre=50, hold=20, ramp=15)
    assert signal[40:61] == pytest.approx(np.ones(21))
    assert signal[[32, 68]] == pytest.approx([0.5, 0.5], abs=0.1)
    assert (signal[:26] == 0).all()
    assert (signal[75:] == 0).all()
    assert (np.diff(signal[:51]) >= 0).all()
    assert signal == pytest.approx(signal[::-1])
