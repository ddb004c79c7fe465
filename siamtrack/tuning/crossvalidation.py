"""Cross-validation of the choice among many trials: what it gains on other sequences.

K-fold cross-validation of the selection itself (Stone 1974; Varma and Simon 2006 on the optimism of
the best of many): the options that are best on all folds but one are evaluated on that fold. Trials
store the AUC of each sequence, so this needs no tracking. It is repeated over random splits.
Sequences of one group are in one fold: with one of them the others are known as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from siamtrack.errors import ConfigError
from siamtrack.evaluation.statistics import Interval, PairedTest, bootstrap_mean, paired_test
from siamtrack.types import FloatArray

REPEATS = 50
"""Random splits; the estimate's scatter over splits falls with their square root."""


@dataclass(frozen=True, slots=True)
class SelectionResult:
    """Outcome of a search.

    Attributes:
        folds: K.
        best: row of the candidate that is best on all sequences.
        optimistic: its mean on the sequences that chose it.
        lead: `optimistic` minus `default`, sequence by sequence; flattered by the choice.
        cross_validated: mean over sequences when other sequences choose.
        default: mean of the first candidate, the options before the search.
        gain: `cross_validated` minus `default`, sequence by sequence.
        gains: (S,) what `gain` is the mean of.
        chosen: (T,) share of the folds in which each candidate was chosen.
    """

    folds: int
    best: int
    optimistic: Interval
    lead: PairedTest
    cross_validated: Interval
    default: Interval
    gain: PairedTest
    gains: FloatArray
    chosen: FloatArray

    @property
    def recommended(self) -> bool:
        """Whether choosing gains on unseen sequences; the interval of `gain` says how sure."""
        return self.best != 0 and self.gain.difference.value > 0


def cross_validate_choice(
    aucs: FloatArray, folds: int, seed: int = 0, groups: Sequence[str] | None = None
) -> SelectionResult:
    """Estimate what choosing the best of several candidates gains.

    Args:
        aucs: (T, S) success AUC of each candidate on each sequence; the first candidate is the
            baseline, and is chosen where no other is better.
        folds: K, from 2 to the number of groups. Raising it chooses on more sequences at a time,
            closer to the choice on all of them.
        seed: of splits and intervals.
        groups: (S,) names of what is put into one fold; None for every sequence on its own.
    """
    names = [str(number) for number in range(aucs.shape[1])] if groups is None else groups
    members = [np.flatnonzero([n == name for n in names]) for name in dict.fromkeys(names)]
    check_folds(folds, aucs.shape[1], len(members))
    rng = np.random.default_rng(seed)
    gain = np.zeros(aucs.shape[1])  # sums of means would count rounding as a gain
    chosen = np.zeros(len(aucs))
    # Average over random splits: choose on all folds but one, evaluate on that one.
    for _ in range(REPEATS):
        for part in np.array_split(rng.permutation(len(members)), folds):
            fold = np.concatenate([members[number] for number in part])
            winner = _best_candidate(np.delete(aucs, fold, axis=1))
            gain[fold] += (aucs[winner, fold] - aucs[0, fold]) / REPEATS
            chosen[winner] += 1 / (REPEATS * folds)
    # The choice on all sequences, and how sure its gain elsewhere is.
    best = _best_candidate(aucs)
    return SelectionResult(
        folds=folds,
        best=best,
        optimistic=bootstrap_mean(aucs[best], rng, groups=groups),
        cross_validated=bootstrap_mean(aucs[0] + gain, rng, groups=groups),
        default=bootstrap_mean(aucs[0], rng, groups=groups),
        gain=paired_test(gain, np.zeros_like(gain), rng, groups=groups),
        lead=paired_test(aucs[best], aucs[0], rng, groups=groups),
        gains=gain,
        chosen=chosen,
    )


def _best_candidate(aucs: FloatArray) -> int:
    """Row with the highest mean; the first of those that are equal up to rounding."""
    means = aucs.mean(axis=1)
    return int(np.flatnonzero(means >= means.max() - 1e-12)[0])


def check_folds(folds: int, sequences: int, groups: int) -> None:
    """Raise ConfigError unless so many groups can be split into `folds` folds, at least two."""
    if folds < 2:
        raise ConfigError(f"{folds} fold(s) cannot be cross-validated; give 2 or more")
    if groups < folds:
        grouped = f" in {groups} group(s)" if groups < sequences else ""
        raise ConfigError(
            f"{sequences} sequence(s){grouped} cannot be split into {folds} folds; give more "
            "sequences or fewer folds"
        )
