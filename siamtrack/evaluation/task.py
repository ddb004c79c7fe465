"""What there is to run, in pieces that any process on any machine can take up.

Everything here is plain data: a unit travels as JSON and names its data set, tracker and variant,
so that results do not depend on who computed them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from siamtrack.errors import ConfigError
from siamtrack.evaluation.datasets import Benchmark
from siamtrack.evaluation.runs import Run, Variant
from siamtrack.evaluation.store import ResultStore
from siamtrack.evaluation.trackers import TrackerSpec, identity, tracker_key


@dataclass(frozen=True, slots=True)
class Entrant:
    """A tracker that takes part.

    Attributes:
        spec: how to build it.
        label: how reports call it, unique among the entrants.
        key: names its results.
        identity: what the key was made from.
    """

    spec: TrackerSpec
    label: str
    key: str
    identity: Mapping[str, object]


def enter(specs: Sequence[TrackerSpec]) -> list[Entrant]:
    """Give every tracker its label and key, having built each once to see that it can be.

    Raises:
        ConfigError: none, the same one twice, or an unknown name or option.
        EvaluationError: one that cannot be built here.
        WeightsError: weights that are missing or damaged.
    """
    if not specs:
        raise ConfigError("no tracker to evaluate; give at least one with --tracker NAME")
    labels = [spec.label for spec in specs]
    entrants: list[Entrant] = []
    for spec in specs:
        spec.build()
        key = tracker_key(spec)
        twin = next((other for other in entrants if other.key == key), None)
        if twin is not None:
            raise ConfigError(f"{spec} and {twin.spec} are the same tracker; give it once")
        label = spec.label if labels.count(spec.label) == 1 else str(spec)
        entrants.append(Entrant(spec, label, key, identity(spec)))
    return entrants


@dataclass(frozen=True, slots=True)
class Unit:
    """One tracker over one sequence in one variant."""

    sequence: str
    variant: str
    tracker: str
    options: Mapping[str, Any]
    key: str
    label: str
    frames: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "options": dict(self.options)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Unit:
        """Back from `to_json`."""
        return cls(**data)

    def __str__(self) -> str:
        variant = "" if self.variant == "ope" else f" ({self.variant})"
        return f"{self.label} on {self.sequence}{variant}"


Group = tuple[Unit, ...]
"""Units that one process runs one after another: every tracker on the same sequence, so that a
drift of the machine's speed hits all trackers alike."""


def plan(
    benchmark: Benchmark,
    lengths: Mapping[str, int],
    entrants: Sequence[Entrant],
    variants: Sequence[Variant],
    store: ResultStore,
) -> list[Group]:
    """What is not done yet, longest sequences first so that no process is left with one at the end.

    Args:
        benchmark: the data set.
        lengths: frames of every sequence to run.
        entrants: the trackers, in the order in which they take turns.
        variants: ways of running.
        store: where finished results are.
    """
    groups = []
    for name in sorted(lengths, key=lambda name: -lengths[name]):
        for variant in variants:
            units = tuple(
                Unit(
                    name,
                    variant.name,
                    entrant.spec.name,
                    dict(entrant.spec.options),
                    entrant.key,
                    entrant.label,
                    lengths[name],
                )
                for entrant in entrants
                if not store.has(variant.name, entrant.key, name)
            )
            if units:
                groups.append(units)
    return groups


@dataclass(frozen=True, slots=True)
class Setting:
    """What every unit of an evaluation shares.

    Attributes:
        benchmark: name of the data set.
        root: its folder, the same path on every machine that takes part.
        frame_timeout_s: a frame that takes longer counts as a hang.
        start_timeout_s: the same for building the tracker and opening the data set.
        threads: computing threads of one tracker.
    """

    benchmark: str
    root: str
    frame_timeout_s: float = 60.0
    start_timeout_s: float = 300.0
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a unit: a run, or the reason why there is none."""

    unit: Unit
    run: Run | None
    error: str = ""

    def as_failure(self) -> dict[str, str]:
        """Who failed where and why, for lists of failures."""
        return {
            "tracker": self.unit.label,
            "sequence": self.unit.sequence,
            "variant": self.unit.variant,
            "reason": self.error,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        run = None if self.run is None else asdict(self.run)
        return {"unit": self.unit.to_json(), "run": run, "error": self.error}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """Back from `to_json`."""
        run = None if data["run"] is None else Run(**data["run"])
        return cls(Unit.from_json(data["unit"]), run, data["error"])
