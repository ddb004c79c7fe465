"""How sure a figure is: bootstrap intervals over sequences and a paired test of two trackers.

Sequences are resampled, not frames: frames of one sequence succeed and fail together. So do
sequences of one scene, so that groups of them are resampled as a whole where they are known. Efron
and Tibshirani, "An Introduction to the Bootstrap", chapters 13 (percentile intervals) and 15.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from siamtrack.errors import ConfigError
from siamtrack.types import FloatArray, IntArray

RESAMPLES = 10_000  # fewer make intervals vary in the third digit
_TAIL = (1 - 0.95) / 2
_BATCH_VALUES = 2_000_000  # resamples x groups that are in memory at once


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval; `low` and `high` are NaN if there is only one group."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedTest:
    """First tracker minus second: mean over sequences, two-sided p, sequences won and tied.

    `groups` is how many independent groups the sequences make.
    """

    difference: Interval
    p_value: float
    wins: int
    ties: int
    sequences: int
    groups: int


def bootstrap_mean(
    values: ArrayLike,
    rng: np.random.Generator,
    *,
    weights: ArrayLike | None = None,
    groups: Sequence[str] | None = None,
) -> Interval:
    """Mean of (S,) figures with its interval.

    Args:
        values: a figure per sequence.
        rng: draws the resamples.
        weights: (S,) of the sequences, such as their frames; None for equal ones.
        groups: (S,) names; sequences of one group are drawn together. None if all are independent.

    Raises:
        ConfigError: no sequences, values that are not finite, or not a group for each.
    """
    figures = _check_figures(values)
    mass = np.asarray(np.ones_like(figures) if weights is None else weights, dtype=np.float64)
    totals, masses = _sum_by_group(groups, figures * mass, mass)

    def mean(drawn: IntArray) -> FloatArray:
        return totals[drawn].sum(axis=1) / masses[drawn].sum(axis=1)

    return bootstrap(mean, len(totals), rng)


def _sum_by_group(
    groups: Sequence[str] | None, values: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(G,) sums of (S,) values and weights by group; as they are without groups."""
    if groups is None:
        return values, weights
    if len(groups) != len(values):
        raise ConfigError(f"{len(groups)} groups for {len(values)} figures; give one for each")
    distinct = dict.fromkeys(groups)
    member = np.array([[name == group for name in groups] for group in distinct], np.float64)
    return member @ values, member @ weights  # (G, S) by (S,)


def bootstrap(
    statistic: Callable[[IntArray], FloatArray], count: int, rng: np.random.Generator
) -> Interval:
    """Percentile interval of a statistic that maps (B, S) drawn indices to (B,) values.

    `count` is S: how many sequences, or groups of them, are drawn from.
    """
    numbers = np.arange(count)
    value = float(statistic(numbers[None, :])[0])
    if count < 2:
        return Interval(value, float("nan"), float("nan"))
    resampled = stats.bootstrap(
        (numbers,),
        lambda drawn, axis: statistic(drawn),
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH_VALUES // count),
        vectorized=True,
        method="percentile",
        rng=rng,
    ).bootstrap_distribution
    # Not SciPy's interval of the same percentiles: it differs from older reports in the last bit.
    low, high = np.quantile(resampled, [_TAIL, 1 - _TAIL])
    return Interval(value, float(low), float(high))


def paired_test(
    first: ArrayLike,
    second: ArrayLike,
    rng: np.random.Generator,
    *,
    weights: ArrayLike | None = None,
    groups: Sequence[str] | None = None,
) -> PairedTest:
    """Compare (S,) figures of two trackers by sign flips of their differences, group by group.

    All 2 ** G sign patterns are tried if that is no more than `RESAMPLES`, else random ones.
    `weights` and `groups` are those of `bootstrap_mean`.

    Raises:
        ConfigError: different numbers of sequences, none, values that are not finite, or not a
            group for each.
    """
    a, b = _check_figures(first), _check_figures(second)
    if len(a) != len(b):
        raise ConfigError(
            f"{len(a)} figures against {len(b)}; a paired test needs both trackers on the same "
            "sequences"
        )
    delta = a - b
    mass = np.asarray(np.ones_like(delta) if weights is None else weights, dtype=np.float64)
    totals, _ = _sum_by_group(groups, delta * mass, mass)
    if 2 ** len(totals) > RESAMPLES:
        # Version 0.1 drew its signs here; the same draws keep the intervals of its reports.
        rng.integers(0, 2, (RESAMPLES, len(totals)))
    difference = bootstrap_mean(delta, rng, weights=mass, groups=groups)
    p_value = 1.0  # of a single group: its mean is as far from 0 with either sign
    if len(totals) > 1:
        # "greater" of the absolute mean is the two-sided test of the mean.
        flips = stats.permutation_test(
            (totals,),
            lambda flipped, axis: np.abs(flipped.mean(axis=axis)),
            permutation_type="samples",
            alternative="greater",
            n_resamples=RESAMPLES,
            batch=max(1, _BATCH_VALUES // len(totals)),
            vectorized=True,
            rng=rng,
        )
        p_value = float(flips.pvalue)
    wins, ties = int(np.sum(delta > 0)), int(np.sum(delta == 0))
    return PairedTest(difference, p_value, wins, ties, len(delta), len(totals))


def _check_figures(values: ArrayLike) -> FloatArray:
    figures = np.asarray(values, dtype=np.float64)
    if figures.ndim != 1 or len(figures) == 0:
        raise ConfigError(
            f"figures of shape {figures.shape}; give one number per sequence, at least one sequence"
        )
    if not np.isfinite(figures).all():
        raise ConfigError("figures that are not finite; leave out sequences without a result")
    return figures
