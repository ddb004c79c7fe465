"""How sure a figure is: bootstrap intervals over sequences and a paired test of two trackers.

Sequences are resampled, not frames: frames of one sequence succeed and fail together. Efron and
Tibshirani, "An Introduction to the Bootstrap", chapters 13 (percentile intervals) and 15.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from siamtrack.errors import ConfigError
from siamtrack.types import FloatArray, IntArray

RESAMPLES = 10_000  # fewer make intervals vary in the third digit
_TAIL = (1 - 0.95) / 2
_BATCH_VALUES = 2_000_000  # resamples x sequences that are in memory at once


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval; `low` and `high` are NaN if there is only one sequence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedTest:
    """First tracker minus second: mean over sequences, two-sided p, sequences won and tied."""

    difference: Interval
    p_value: float
    wins: int
    ties: int
    sequences: int


def bootstrap_mean(
    values: ArrayLike, rng: np.random.Generator, *, weights: ArrayLike | None = None
) -> Interval:
    """Mean of (S,) figures, weighted by (S,) `weights` (GOT-10k: frames), with its interval.

    Raises:
        ConfigError: no sequences, or values that are not finite.
    """
    figures = _check_figures(values)
    mass = np.asarray(np.ones_like(figures) if weights is None else weights, dtype=np.float64)

    def mean(drawn: IntArray) -> FloatArray:
        return (figures[drawn] * mass[drawn]).sum(axis=1) / mass[drawn].sum(axis=1)

    return bootstrap(mean, len(figures), rng)


def bootstrap(
    statistic: Callable[[IntArray], FloatArray], sequences: int, rng: np.random.Generator
) -> Interval:
    """Percentile interval of a statistic that maps (B, S) drawn indices to (B,) values."""
    numbers = np.arange(sequences)
    value = float(statistic(numbers[None, :])[0])
    if sequences < 2:
        return Interval(value, float("nan"), float("nan"))
    resampled = stats.bootstrap(
        (numbers,),
        lambda drawn, axis: statistic(drawn),
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH_VALUES // sequences),
        vectorized=True,
        method="percentile",
        rng=rng,
    ).bootstrap_distribution
    # Not SciPy's interval of the same percentiles: it differs from older reports in the last bit.
    low, high = np.quantile(resampled, [_TAIL, 1 - _TAIL])
    return Interval(value, float(low), float(high))


def paired_test(first: ArrayLike, second: ArrayLike, rng: np.random.Generator) -> PairedTest:
    """Compare (S,) figures of two trackers by sign flips of their differences.

    All 2 ** S sign patterns are tried if that is no more than `RESAMPLES`, else random ones.

    Raises:
        ConfigError: different numbers of sequences, none, or values that are not finite.
    """
    a, b = _check_figures(first), _check_figures(second)
    if len(a) != len(b):
        raise ConfigError(
            f"{len(a)} figures against {len(b)}; a paired test needs both trackers on the same "
            "sequences"
        )
    delta = a - b
    if 2 ** len(delta) > RESAMPLES:
        # Version 0.1 drew its signs here; the same draws keep the intervals of its reports.
        rng.integers(0, 2, (RESAMPLES, len(delta)))
    difference = bootstrap_mean(delta, rng)
    p_value = 1.0  # of a single sequence: its mean is as far from 0 with either sign
    if len(delta) > 1:
        # "greater" of the absolute mean is the two-sided test of the mean.
        flips = stats.permutation_test(
            (delta,),
            lambda flipped, axis: np.abs(flipped.mean(axis=axis)),
            permutation_type="samples",
            alternative="greater",
            n_resamples=RESAMPLES,
            batch=max(1, _BATCH_VALUES // len(delta)),
            vectorized=True,
            rng=rng,
        )
        p_value = float(flips.pvalue)
    wins, ties = int(np.sum(delta > 0)), int(np.sum(delta == 0))
    return PairedTest(difference, p_value, wins, ties, len(delta))


def _check_figures(values: ArrayLike) -> FloatArray:
    figures = np.asarray(values, dtype=np.float64)
    if figures.ndim != 1 or len(figures) == 0:
        raise ConfigError(
            f"figures of shape {figures.shape}; give one number per sequence, at least one sequence"
        )
    if not np.isfinite(figures).all():
        raise ConfigError("figures that are not finite; leave out sequences without a result")
    return figures
