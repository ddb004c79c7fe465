"""What a choice among many trials is worth on sequences that had no part in it.

K-fold cross-validation of the choice itself (Stone 1974; Varma and Simon 2006 on the optimism of
the best of many): the sequences are split into K folds, the best options on all folds but one are
judged on that one, and so for each. As trials are kept with the AUC of each sequence, this costs
no tracking, and is repeated over random splits so that no single split decides.
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
class Verdict:
    """Outcome of a search.

    Attributes:
        folds: K.
        best: row of the candidate that is best on all sequences.
        optimistic: its mean, judged on the sequences that chose it.
        cross_validated: mean over sequences when others choose.
        default: mean of the first candidate, the options before the search.
        gain: `cross_validated` minus `default`, sequence by sequence.
        chosen: (T,) in which share of the folds each candidate was chosen.
    """

    folds: int
    best: int
    optimistic: Interval
    cross_validated: Interval
    default: Interval
    gain: PairedTest
    chosen: FloatArray

    @property
    def recommended(self) -> bool:
        """Whether the best options are to be used: choosing so gains on sequences it has not seen.

        The interval of the gain says how sure that is; with few sequences it is seldom narrow.
        """
        return self.best != 0 and self.gain.difference.value > 0


def judge_choice(aucs: FloatArray, folds: int, seed: int = 0) -> Verdict:
    """Judge the choice of the best of several candidates.

    Args:
        aucs: (T, S) success AUC of each candidate on each sequence; the first candidate is what
            the others have to beat, and is chosen where none does.
        folds: K, from 2 to S. Raising it chooses from more sequences at a time, closer to the
            choice from all of them.
        seed: of splits and intervals.

    Raises:
        ConfigError: fewer sequences than folds, or fewer folds than two.
    """
    check_folds(folds, aucs.shape[1])
    rng = np.random.default_rng(seed)
    gain = np.zeros(aucs.shape[1])  # not the mean itself, whose rounding would count as a gain
    chosen = np.zeros(len(aucs))
    for _ in range(REPEATS):
        for fold in np.array_split(rng.permutation(aucs.shape[1]), folds):
            rest = np.setdiff1d(np.arange(aucs.shape[1]), fold)
            winner = best_candidate(aucs[:, rest])
            gain[fold] += (aucs[winner, fold] - aucs[0, fold]) / REPEATS
            chosen[winner] += 1 / (REPEATS * folds)
    best = best_candidate(aucs)
    return Verdict(
        folds=folds,
        best=best,
        optimistic=bootstrap_mean(aucs[best], rng),
        cross_validated=bootstrap_mean(aucs[0] + gain, rng),
        default=bootstrap_mean(aucs[0], rng),
        gain=paired_test(gain, np.zeros_like(gain), rng),
        chosen=chosen,
    )


def best_candidate(aucs: FloatArray) -> int:
    """Row with the highest mean; the first of those that are equal up to rounding."""
    means = aucs.mean(axis=1)
    return int(np.flatnonzero(means >= means.max() - 1e-12)[0])


def check_folds(folds: int, sequences: int | Sequence[str]) -> None:
    """Refuse folds that cannot be made.

    Raises:
        ConfigError: fewer sequences than folds, or fewer folds than two.
    """
    count = sequences if isinstance(sequences, int) else len(sequences)
    if folds < 2:
        raise ConfigError(f"{folds} fold(s) leave nothing to choose from; give 2 or more")
    if count < folds:
        raise ConfigError(
            f"{count} sequence(s) cannot be split into {folds} folds; give more sequences or "
            "fewer folds"
        )
