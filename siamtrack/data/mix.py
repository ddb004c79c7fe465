"""Several data sets drawn from with given weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siamtrack.data.open import open_dataset, parse_spec
from siamtrack.data.sequence import Dataset
from siamtrack.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SetSpec:
    """A data set and how often to draw from it.

    Attributes:
        spec: name of the data set, see `siamtrack.data.open`.
        weight: share of draws relative to the other sets, whatever the number of sequences.
            Raising it shows this set's targets more often; few targets shown often are learnt by
            heart.

    Raises:
        ConfigError: the name is malformed or the weight is not a positive number.
    """

    spec: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        parse_spec(self.spec)
        if not math.isfinite(self.weight) or self.weight <= 0:
            raise ConfigError(
                f"data set {self.spec!r} has weight {self.weight}; give a positive number, or "
                "leave the set out"
            )


@dataclass(frozen=True, eq=False)
class Mix:
    """Data sets with the probability of drawing from each.

    Attributes:
        sets: the data sets.
        probabilities: (len(sets),) float64, sum 1.
    """

    sets: tuple[Dataset, ...]
    probabilities: NDArray[np.float64]

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Draw a set by weight and one of its sequences evenly.

        Args:
            rng: where the randomness comes from.

        Returns:
            Number of the set, number of the sequence in it.
        """
        number = int(rng.choice(len(self.sets), p=self.probabilities))
        return number, int(rng.integers(len(self.sets[number])))


def open_mix(specs: Iterable[SetSpec | tuple[str, float] | str], *, partial: bool = False) -> Mix:
    """Open data sets to be drawn from by weight.

    Args:
        specs: sets with weights; a bare name has weight 1.
        partial: see `open_dataset`.

    Raises:
        ConfigError: no set, one twice, a malformed name or weight.
        DatasetError: a set cannot be opened.
    """
    wanted = [as_set_spec(spec) for spec in specs]
    names = [spec.spec for spec in wanted]
    if not names:
        raise ConfigError("no data set was given; name at least one, such as folder:clips")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"data set {twice!r} is named twice; give it once with a larger weight")
    weights = np.array([spec.weight for spec in wanted], np.float64)
    sets = tuple(open_dataset(name, partial=partial) for name in names)
    return Mix(sets, weights / weights.sum())


def as_set_spec(given: SetSpec | tuple[str, float] | str) -> SetSpec:
    """Accept a set as `SetSpec`, as (name, weight) as it comes out of TOML, or as a bare name.

    Raises:
        ConfigError: it is none of these.
    """
    if isinstance(given, SetSpec):
        return given
    if isinstance(given, str):
        return SetSpec(given)
    try:
        name, weight = given
        return SetSpec(str(name), float(weight))
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{given!r} is not a data set; give NAME or (NAME, WEIGHT)") from error
