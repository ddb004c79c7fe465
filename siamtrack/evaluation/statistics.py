"""How sure a figure is: bootstrap intervals over sequences and a paired test of two trackers.

Sequences, not frames, are what is drawn at random: frames of one sequence succeed and fail
together, and an interval over frames would be several times too narrow. Efron and Tibshirani, "An
Introduction to the Bootstrap", chapters 13 (percentile intervals) and 15 (permutation tests).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from siamtrack.errors import ConfigError
from siamtrack.types import FloatArray, IntArray

RESAMPLES = 10_000
"""Fewer make intervals jitter in the third digit; more only cost time."""

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its interval; `low` and `high` are NaN when one sequence is all there is."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Outcome of comparing two trackers on the same sequences.

    Attributes:
        difference: mean of first minus second over sequences, with its bootstrap interval.
        p_value: two-sided, from random sign flips of the per-sequence differences: the chance of a
            mean difference at least this large if the two trackers were exchangeable.
        wins: sequences where the first is better.
        ties: sequences where both are equal.
        sequences: how many were compared.
    """

    difference: Interval
    p_value: float
    wins: int
    ties: int
    sequences: int

    def as_dict(self) -> dict[str, object]:
        """Nested plain dictionary, for JSON."""
        return asdict(self)


def bootstrap_mean(
    values: ArrayLike,
    rng: np.random.Generator,
    *,
    weights: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Mean over sequences with a percentile bootstrap interval.

    Args:
        values: (S,) one figure per sequence.
        rng: source of the resampling; the same generator state gives the same interval.
        weights: (S,) frames per sequence where the protocol pools frames (GOT-10k), so that the
            statistic is sum(weights * values) / sum(weights); equal weights when None.
        resamples: number of bootstrap samples.
        confidence: share of resampled means inside the interval.

    Raises:
        ConfigError: no sequences, or values that are not finite.
    """
    figures = _figures(values)
    mass = np.ones_like(figures) if weights is None else np.asarray(weights, dtype=np.float64)

    def mean(drawn: IntArray) -> FloatArray:
        return (figures[drawn] * mass[drawn]).sum(axis=1) / mass[drawn].sum(axis=1)

    return bootstrap(mean, len(figures), rng, resamples=resamples, confidence=confidence)


def bootstrap(
    statistic: Callable[[IntArray], FloatArray],
    sequences: int,
    rng: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Percentile bootstrap interval of any statistic of sequences.

    Args:
        statistic: from (B, S) indices of drawn sequences to (B,) values.
        sequences: S.
        rng: source of the resampling.
        resamples: number of bootstrap samples.
        confidence: share of resampled values inside the interval.
    """
    value = float(statistic(np.arange(sequences)[None, :])[0])
    if sequences < 2:
        return Interval(value, float("nan"), float("nan"))
    values = []
    # In slices, so that thousands of sequences do not need resamples x sequences of memory at once.
    step = max(1, 2_000_000 // sequences)
    for start in range(0, resamples, step):
        values.append(
            statistic(rng.integers(0, sequences, (min(step, resamples - start), sequences)))
        )
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(values), [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def paired_test(
    first: ArrayLike,
    second: ArrayLike,
    rng: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> PairedTest:
    """Compare two trackers sequence by sequence.

    Args:
        first: (S,) figures of the first tracker, one per sequence; higher is better.
        second: (S,) figures of the second, in the same order.
        rng: source of the resampling.
        resamples: number of bootstrap samples and, above 2 ** S possibilities, of sign flips.
        confidence: of the interval of the difference.

    Raises:
        ConfigError: different numbers of sequences, none, or values that are not finite.
    """
    a, b = _figures(first), _figures(second)
    if len(a) != len(b):
        raise ConfigError(
            f"{len(a)} figures against {len(b)}; a paired test needs both trackers on the same "
            "sequences"
        )
    delta = a - b
    p_value = _sign_flip_p(delta, rng, resamples)
    difference = bootstrap_mean(delta, rng, resamples=resamples, confidence=confidence)
    wins, ties = int(np.sum(delta > 0)), int(np.sum(delta == 0))
    return PairedTest(difference, p_value, wins, ties, len(delta))


def _sign_flip_p(delta: FloatArray, rng: np.random.Generator, resamples: int) -> float:
    """Two-sided p of the mean: the share of sign patterns with a mean at least as far from 0.

    All patterns where there are no more than `resamples`, else that many random ones and the
    observed one.
    """
    count = len(delta)
    if 2**count <= resamples:
        patterns = np.arange(2**count)[:, None] >> np.arange(count) & 1
        extra = 0
    else:
        patterns, extra = rng.integers(0, 2, (resamples, count)), 1
    means = np.abs(((2 * patterns - 1) * delta).mean(axis=1))
    # Means that are equal but for the order of summation count as equal.
    as_far = np.sum(means >= abs(delta.mean()) * (1 - 1e-12))
    return float((as_far + extra) / (len(patterns) + extra))


def _figures(values: ArrayLike) -> FloatArray:
    figures = np.asarray(values, dtype=np.float64)
    if figures.ndim != 1 or len(figures) == 0:
        raise ConfigError(
            f"figures of shape {figures.shape}; give one number per sequence, at least one sequence"
        )
    if not np.isfinite(figures).all():
        raise ConfigError("figures that are not finite; leave out sequences without a result")
    return figures
