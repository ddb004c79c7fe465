"""The Optuna study of a search: TPE sampler over an SQLite file that stores every trial.

TPE: Watanabe, "Tree-structured Parzen estimator", 2023. Each trial has a seed of its own: a resumed
search tries what an uninterrupted one would have tried.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from siamtrack.errors import ConfigError, OutputError
from siamtrack.tuning.ranges import Number, Range

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

STUDY = "study.db"
_NAME, _IDENTITY, _AUCS, _PRESENT = "tuning", "identity", "aucs", "present"

Evaluate = Callable[[Mapping[str, Any]], dict[str, float]]
"""From options to success AUC by sequence."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Options that are searched and their success AUC by sequence.

    `number` is 0 for the options before the search, then 1, 2, ... in order.
    """

    number: int
    options: Mapping[str, Number]
    aucs: Mapping[str, float]

    @property
    def objective(self) -> float:
        """Mean over sequences."""
        return _mean(self.aucs)


class Search:
    """A search in a folder, new or resumed.

    `identity` is plain data that all trials must have in common; `seed` that of what is tried.

    Raises:
        ConfigError: Optuna is not installed.
        OutputError: the folder cannot be used, or holds a search of something else.
    """

    def __init__(
        self, out: Path, ranges: Mapping[str, Range], identity: Mapping[str, Any], *, seed: int = 0
    ) -> None:
        try:
            import optuna
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"searching needs Optuna ({error}); pip install 'siamtrack[tune]'"
            ) from error
        logging.getLogger("optuna").setLevel(logging.WARNING)
        self._optuna, self._seed = optuna, seed
        self._ranges = {name: _distribution(optuna, found) for name, found in ranges.items()}
        self._study = _open(optuna, out)
        # Refuse a folder with another search; discard a trial that a kill interrupted.
        known = self._study.user_attrs.get(_IDENTITY)
        if known is None:
            self._study.set_user_attr(_IDENTITY, identity)
        elif changed := differences(known, identity):
            raise OutputError(
                f"{out} holds a search with other {', '.join(changed)}; give another folder, or "
                "what it was started with"
            )
        states = optuna.trial.TrialState
        for trial in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            self._study.tell(trial.number, state=states.FAIL)

    @property
    def trials(self) -> list[Trial]:
        """Finished trials in order, the options before the search first; empty before `begin`."""
        present = self._study.user_attrs.get(_PRESENT)
        if present is None:
            return []
        found = [Trial(0, present["options"], present["aucs"])]
        for trial in self._finished():
            if _AUCS in trial.user_attrs and _PRESENT not in trial.user_attrs:
                found.append(Trial(len(found), trial.params, trial.user_attrs[_AUCS]))
        return found

    def begin(self, present: Mapping[str, Number], evaluate: Evaluate) -> None:
        """Evaluate the options before the search, unless that was done."""
        if self._study.user_attrs.get(_PRESENT) is not None:
            return
        options = {name: present[name] for name in self._ranges}
        aucs = evaluate(options)
        # Optuna refuses values outside the ranges; such options are the baseline alone.
        if all(d._contains(d.to_internal_repr(options[n])) for n, d in self._ranges.items()):
            # The sampler learns from it as from any other.
            known = self._optuna.trial.create_trial(
                params=options,
                distributions=self._ranges,
                value=_mean(aucs),
                user_attrs={_AUCS: aucs, _PRESENT: True},
            )
            self._study.add_trial(known)
        self._study.set_user_attr(_PRESENT, {"options": options, "aucs": aucs})

    def run(self, evaluate: Evaluate, trials: int, after_each: Callable[[], None]) -> None:
        """Continue until there are `trials` besides the present options, refused ones included.

        Args:
            evaluate: raises ConfigError for options that contradict each other. The next ones are
                tried then; the error is raised here if all were refused.
            trials: number to reach.
            after_each: called after each trial.
        """
        done = {tuple(sorted(trial.options.items())): trial.aucs for trial in self.trials}
        refusal: ConfigError | None = None
        while self._tried() < trials:
            # 1. What to try next; the seed depends on the number of the trial alone.
            self._study.sampler = self._optuna.samplers.TPESampler(
                seed=int(np.random.default_rng([self._seed, self._tried()]).integers(2**31))
            )
            trial = self._study.ask(self._ranges)
            # 2. Evaluate it, unless the same options were evaluated before.
            key = tuple(sorted(trial.params.items()))
            try:
                aucs = dict(done[key]) if key in done else evaluate(trial.params)
            except ConfigError as error:
                refusal = error
                logger.warning("trial left out: %s", error)
                self._study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)
            else:
                done[key] = aucs
                trial.set_user_attr(_AUCS, aucs)
                self._study.tell(trial, _mean(aucs))
            after_each()
        if refusal is not None and len(self.trials) == 1:
            raise refusal

    def _finished(self) -> list[optuna.trial.FrozenTrial]:
        states = self._optuna.trial.TrialState
        return self._study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))

    def _tried(self) -> int:
        return sum(_PRESENT not in trial.user_attrs for trial in self._finished())


def differences(known: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Entries that differ, by name, and which of their own entries where they have some."""
    found = []
    for name in sorted({*known, *given}):
        old, new = known.get(name), given.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            inner = [k for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
            if inner:
                shown = [*inner[:3], *(["..."] if len(inner) > 3 else [])]
                found.append(f"{name} ({', '.join(shown)})")
        elif old != new:
            found.append(name)
    return found


def _mean(aucs: Mapping[str, float]) -> float:
    return float(np.mean(list(aucs.values())))


def _open(optuna: Any, out: Path) -> optuna.Study:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        out.mkdir(parents=True, exist_ok=True)
        return optuna.create_study(
            storage=f"sqlite:///{out / STUDY}",
            study_name=_NAME,
            direction="maximize",
            load_if_exists=True,
        )
    except (OSError, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        reason = str(error).partition("\n")[0]
        raise OutputError(
            f"{out / STUDY} cannot be used ({reason}); give another folder"
        ) from error


def _distribution(optuna: Any, found: Range) -> optuna.distributions.BaseDistribution:
    if isinstance(found.low, int):
        return optuna.distributions.IntDistribution(found.low, found.high, step=found.step or 1)
    return optuna.distributions.FloatDistribution(found.low, found.high, step=found.step)
