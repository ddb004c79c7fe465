"""Intervals and tests against closed forms and enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from siamtrack.errors import ConfigError
from siamtrack.evaluation.statistics import Interval, bootstrap_mean, paired_test


def test_interval_is_that_of_the_normal_approximation(rng):
    values = rng.normal(0.6, 0.2, 400)
    interval = bootstrap_mean(values, rng)
    error = values.std() / 20
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_weights_pool_frames():
    interval = bootstrap_mean([0.2, 0.8], np.random.default_rng(0), weights=[300, 100])
    assert interval.value == pytest.approx(0.35)
    assert (interval.low, interval.high) == pytest.approx((0.2, 0.8))


def test_the_same_generator_gives_the_same_interval():
    values = [0.1, 0.5, 0.7, 0.2]
    first, second = (bootstrap_mean(values, np.random.default_rng(7)) for _ in range(2))
    assert first == second


def test_one_sequence_has_no_interval_and_equal_ones_have_no_width():
    alone = bootstrap_mean([0.4], np.random.default_rng(0))
    assert alone.value == 0.4 and np.isnan([alone.low, alone.high]).all()
    same = bootstrap_mean([0.4] * 5, np.random.default_rng(0))
    assert (same.low, same.high) == pytest.approx((0.4, 0.4))


def test_more_sequences_than_fit_at_once_change_nothing():
    values = np.linspace(0, 1, 3000)
    interval = bootstrap_mean(values, np.random.default_rng(0))
    assert interval.low < 0.5 < interval.high and interval.high - interval.low < 0.03


def resampled_interval(values, rng):
    """Interval of the mean of one figure per sequence, as siamtrack 0.1 computed it."""
    means = values[rng.integers(0, len(values), (10_000, len(values)))].sum(axis=1) / len(values)
    tail = (1 - 0.95) / 2
    return tuple(np.quantile(means, [tail, 1 - tail]))


@pytest.mark.parametrize("sequences", [2, 7, 16, 150])
def test_intervals_are_those_of_older_reports_to_the_last_bit(sequences, rng):
    first, second = rng.random(sequences), rng.random(sequences)
    interval = bootstrap_mean(first, np.random.default_rng(3))
    assert (interval.low, interval.high) == resampled_interval(first, np.random.default_rng(3))
    difference = paired_test(first, second, np.random.default_rng(3)).difference
    older = np.random.default_rng(3)
    if 2**sequences > 10_000:
        older.integers(0, 2, (10_000, sequences))  # the signs that it drew first
    assert (difference.low, difference.high) == resampled_interval(first - second, older)


def test_p_value_is_that_of_all_sign_flips(rng):
    first, second = rng.random(7), rng.random(7)
    delta = first - second
    flips = [np.mean(delta * signs) for signs in itertools.product([1, -1], repeat=7)]
    expected = np.mean(np.abs(flips) >= abs(delta.mean()) - 1e-12)
    test = paired_test(first, second, rng)
    assert test.p_value == pytest.approx(expected)
    assert test.difference.value == pytest.approx(delta.mean())
    assert test.wins == int((delta > 0).sum()) and test.sequences == 7


def test_with_many_sequences_the_p_value_is_near_that_of_random_sign_flips(rng):
    first, second = rng.random(40), rng.random(40) + 0.12
    delta = first - second
    flips = (rng.choice([-1, 1], (50_000, 40)) * delta).mean(axis=1)
    expected = np.mean(np.abs(flips) >= abs(delta.mean()))
    test = paired_test(first, second, rng)
    assert test.p_value == pytest.approx(expected, abs=0.01)
    assert 0.005 < test.p_value < 0.4
    clear = paired_test(first, first - 0.1 - 0.01 * second, rng)
    assert clear.p_value == pytest.approx(1 / 10_001)


def test_a_tracker_against_itself_is_a_tie(rng):
    test = paired_test([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], rng)
    assert (test.p_value, test.wins, test.ties) == (1.0, 0, 3)
    assert test.difference == Interval(0.0, 0.0, 0.0)


def test_one_common_sequence_proves_nothing(rng):
    assert paired_test([0.9], [0.1], rng).p_value == 1.0


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "at least one sequence"), ([[0.1]], "one number per sequence"), ([np.nan], "not finite")],
)
def test_figures_that_are_none_are_refused(values, message, rng):
    with pytest.raises(ConfigError, match=message):
        bootstrap_mean(values, rng)


def test_paired_figures_must_belong_together(rng):
    with pytest.raises(ConfigError, match="same sequences"):
        paired_test([0.1, 0.2], [0.1], rng)


def test_sequences_of_a_group_are_resampled_together():
    values, groups = [0.2, 0.4, 0.9, 0.1, 0.3], ["a", "a", "b", "c", "c"]
    interval = bootstrap_mean(values, np.random.default_rng(2), groups=groups)
    assert interval.value == pytest.approx(np.mean(values))
    # Every draw of three groups, as likely as any other; weighted means of their sequences.
    members = {"a": [0.2, 0.4], "b": [0.9], "c": [0.1, 0.3]}
    draws = itertools.product("abc", repeat=3)
    means = [np.mean([v for group in draw for v in members[group]]) for draw in draws]
    low, high = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_groups_of_one_sequence_change_nothing(rng):
    first, second = rng.random(20), rng.random(20)
    names = [f"sequence {number}" for number in range(20)]
    for test in (
        lambda **more: bootstrap_mean(first, np.random.default_rng(3), **more),
        lambda **more: paired_test(first, second, np.random.default_rng(3), **more),
    ):
        assert test(groups=names) == test()


def test_copies_of_a_sequence_make_no_difference_surer(rng):
    first, second = rng.random(6), rng.random(6)
    alone = paired_test(first, second, np.random.default_rng(1))
    copied = paired_test(
        np.repeat(first, 5), np.repeat(second, 5), np.random.default_rng(1),
        groups=np.repeat(list("abcdef"), 5).tolist(),
    )  # fmt: skip
    assert copied.p_value == alone.p_value and (copied.sequences, copied.groups) == (30, 6)
    for end in ("value", "low", "high"):
        assert getattr(copied.difference, end) == pytest.approx(getattr(alone.difference, end))


def test_weighted_differences_by_hand(rng):
    test = paired_test([3.0, 0.0], [1.0, 1.0], rng, weights=[100, 300])
    assert test.difference.value == pytest.approx((2 * 100 - 1 * 300) / 400)
    assert test.p_value == 1.0  # |200 - 300| is the smallest of all four sums of signs
    assert (test.wins, test.sequences, test.groups) == (1, 2, 2)


def test_every_figure_needs_its_group(rng):
    with pytest.raises(ConfigError, match="2 groups for 3 figures"):
        bootstrap_mean([0.1, 0.2, 0.3], rng, groups=["a", "b"])
