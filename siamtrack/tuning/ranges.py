"""Which tracker options are searched, and from where to where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from siamtrack.errors import ConfigError
from siamtrack.tracking.old_names import rename_options
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions, TrackerOptions
from siamtrack.utils.config import parse_assignment, parse_value, read_toml

Number = int | float


@dataclass(frozen=True, slots=True)
class Range:
    """Values that an option may take.

    Attributes:
        low: the smallest; an integer for options that are integers.
        high: the largest.
        step: between neighboring values from `low` on; None for all numbers between.
    """

    low: Number
    high: Number
    step: Number | None = None


DEFAULT_RANGES: Mapping[type[TrackerOptions], Mapping[str, Range]] = {
    BoxHeadOptions: {
        "window_influence": Range(0.1, 0.7),
        "shape_penalty": Range(0.0, 0.3),
        "size_lr": Range(0.1, 0.8),
        "min_peak": Range(0.0, 0.4),
        "box_correction": Range(0.0, 1.0),
        "redetect_score": Range(0.4, 0.95),
    },
    ScalePyramidOptions: {
        "window_influence": Range(0.05, 0.5),
        "scale_step": Range(1.01, 1.1),
        "scale_penalty": Range(0.9, 1.0),
        "scale_lr": Range(0.2, 0.9),
    },
}
"""Searched by default, per kind of options: those that move the box in every frame."""


def read_ranges(
    present: TrackerOptions, file: Path | None = None, texts: Sequence[str] = ()
) -> dict[str, Range]:
    """Read the ranges of a search: those given and no others, or else the defaults.

    Args:
        present: options that the search starts from; their class says what there is to search.
        file: TOML file with lines `option = [low, high]` or `option = [low, high, step]`.
        texts: `option=low:high` or `option=low:high:step`, over those of the file.
    """
    # 1. What is given, by option.
    given = rename_options(read_toml(file, "ranges") if file else {})
    pairs = [parse_assignment(text, "option=low:high") for text in texts]
    typed = {name: [parse_value(part) for part in limits.split(":")] for name, limits in pairs}
    given |= rename_options(typed)
    # 2. Ranges, in the order of the options.
    known = {f.name: f.default for f in fields(present) if _is_number(f.default)}
    for name in given:
        if name not in known:
            raise ConfigError.unknown("tracker option to search", name, known)
    ranges = {n: _range(n, given[n], isinstance(v, int)) for n, v in known.items() if n in given}
    ranges = ranges or dict(DEFAULT_RANGES[type(present)])
    # 3. Both corners of the search must be valid options.
    for end in ("low", "high"):
        corner = {name: getattr(found, end) for name, found in ranges.items()}
        try:
            type(present).from_mapping({**asdict(present), **corner})
        except ConfigError as error:
            raise ConfigError(f"the {end} end of a range cannot be used: {error}") from error
    return ranges


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _range(name: str, given: Any, integer: bool) -> Range:
    kind = "integers" if integer else "numbers"
    if (
        not isinstance(given, Sequence)
        or len(given) not in (2, 3)
        or not all(_is_number(v) and (isinstance(v, int) or not integer) for v in given)
    ):
        raise ConfigError(
            f"range of {name} is {given!r}; give two {kind}, low and high, and perhaps a step"
        )
    made = Range(*(v if integer else float(v) for v in given))
    if made.low >= made.high:
        raise ConfigError(f"range of {name} is from {made.low} to {made.high}; give low below high")
    if made.step is not None and not 0 < made.step <= made.high - made.low:
        raise ConfigError(
            f"range of {name} from {made.low} to {made.high} has the step {made.step}; give one "
            "above 0 that fits into it"
        )
    return made
