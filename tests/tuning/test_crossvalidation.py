"""What the choice among trials is said to be worth."""

import itertools

import numpy as np
import pytest

from siamtrack.errors import ConfigError
from siamtrack.tuning.crossvalidation import cross_validate_choice


def test_as_many_folds_as_sequences_equal_leave_one_out(rng):
    """With as many folds as sequences there is one split, so nothing is left to chance."""
    aucs = rng.random((5, 7))
    expected, chosen = [], []
    for left_out in range(7):
        means = [np.mean([row[s] for s in range(7) if s != left_out]) for row in aucs]
        winner = max(range(5), key=means.__getitem__)
        expected.append(aucs[winner][left_out])
        chosen.append(winner)
    result = cross_validate_choice(aucs, folds=7)
    assert result.cross_validated.value == pytest.approx(np.mean(expected), abs=1e-12)
    assert result.gain.difference.value == pytest.approx(np.mean(expected - aucs[0]), abs=1e-12)
    assert result.chosen == pytest.approx([chosen.count(k) / 7 for k in range(5)], abs=1e-12)
    assert result.best == max(range(5), key=lambda k: aucs[k].mean())
    assert result.optimistic.value == pytest.approx(aucs.mean(axis=1).max())
    assert result.default.value == pytest.approx(aucs[0].mean())


def test_two_folds_approximate_the_mean_over_all_halves(rng):
    """Each half is as likely as any other, so the mean over random splits nears that over all."""
    aucs = rng.random((4, 6))
    estimates = []
    for half in itertools.combinations(range(6), 3):
        rest = [s for s in range(6) if s not in half]
        estimates.append(aucs[np.argmax(aucs[:, rest].mean(axis=1)), list(half)].mean())
    found = cross_validate_choice(aucs, folds=2).cross_validated.value
    spread = np.std(estimates) / np.sqrt(50)
    assert found == pytest.approx(np.mean(estimates), abs=4 * spread)


def test_differences_by_chance_are_rarely_recommended():
    """Sixty trials that differ from the first by noise alone: the best one leads, by luck."""
    recommended = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        aucs = np.clip(rng.normal(0.5, 0.2, 12) + rng.normal(0, 0.05, (60, 12)), 0, 1)
        result = cross_validate_choice(aucs, folds=4, seed=seed)
        assert result.optimistic.value > result.cross_validated.value
        recommended += result.recommended
    assert recommended <= 14
    better = np.full((3, 6), 0.5)
    better[2] = 0.6
    result = cross_validate_choice(better, folds=3)
    assert result.recommended and result.best == 2
    assert result.gain.difference.low == pytest.approx(0.1)


def test_the_baseline_stays_if_no_candidate_is_better():
    worse = np.stack([np.full(6, 0.6), np.full(6, 0.5), np.full(6, 0.6)])
    result = cross_validate_choice(worse, folds=3)
    assert result.best == 0 and not result.recommended
    assert result.gain.difference.value == 0 and result.chosen[0] == pytest.approx(1)


def test_a_choice_that_is_worse_on_held_out_sequences_is_not_recommended():
    """Each trial shines on one sequence and is worse on all others."""
    aucs = np.full((7, 6), 0.5)
    aucs[1:] = 0.4 + 0.65 * np.eye(6) - 0.02 * np.eye(6)[::-1]
    result = cross_validate_choice(aucs, folds=6)
    assert result.best != 0 and result.gain.difference.value < 0
    assert not result.recommended


def test_the_same_trials_give_the_same_result(rng):
    aucs = rng.random((8, 9))
    first, second = (cross_validate_choice(aucs, folds=3, seed=4) for _ in range(2))
    assert first.gain == second.gain and first.cross_validated == second.cross_validated


def test_sequences_of_a_group_are_in_one_fold(rng):
    """With as many folds as groups: leave one group out, whatever its size."""
    aucs, groups = rng.random((6, 8)), list("aabccccb")
    expected, chosen = np.zeros(8), []
    for left_out in "abc":
        rest = [s for s in range(8) if groups[s] != left_out]
        winner = max(range(6), key=lambda k: aucs[k, rest].mean())
        chosen.append(winner)
        for s in range(8):
            if groups[s] == left_out:
                expected[s] = aucs[winner, s] - aucs[0, s]
    result = cross_validate_choice(aucs, folds=3, groups=groups)
    assert result.gains == pytest.approx(expected, abs=1e-12)
    assert result.gain.difference.value == pytest.approx(expected.mean(), abs=1e-12)
    assert result.chosen == pytest.approx([chosen.count(k) / 3 for k in range(6)], abs=1e-12)
    assert (result.gain.groups, result.gain.sequences) == (3, 8)
    best = aucs[result.best] - aucs[0]
    assert result.lead.difference.value == pytest.approx(best.mean()) and result.lead.groups == 3


def test_what_only_suits_one_group_is_found_out(rng):
    """Four copies of a sequence choose for one another, unless they are one group."""
    aucs = np.full((2, 6), 0.5)
    aucs[1] = [0.9, 0.9, 0.9, 0.9, 0.4, 0.4]
    assert cross_validate_choice(aucs, folds=6).recommended
    grouped = cross_validate_choice(aucs, folds=3, groups=list("aaaabc"))
    assert grouped.best == 1 and not grouped.recommended


def test_groups_of_one_sequence_change_nothing(rng):
    aucs = rng.random((5, 9))
    alone = cross_validate_choice(aucs, folds=4, seed=2)
    named = cross_validate_choice(aucs, folds=4, seed=2, groups=list("abcdefghi"))
    assert (named.gain, named.lead, named.default) == (alone.gain, alone.lead, alone.default)
    assert named.chosen.tolist() == alone.chosen.tolist()


def test_fewer_groups_than_folds_are_rejected():
    with pytest.raises(
        ConfigError, match=r"4 sequence\(s\) in 2 group\(s\) cannot be split into 3"
    ):
        cross_validate_choice(np.zeros((2, 4)), 3, groups=list("aabb"))


@pytest.mark.parametrize(("folds", "said"), [(1, "give 2 or more"), (5, "4 sequence")])
def test_impossible_folds_are_rejected(folds, said):
    with pytest.raises(ConfigError, match=said):
        cross_validate_choice(np.zeros((2, 4)), folds)
