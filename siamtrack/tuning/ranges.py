"""Which tracker options are searched, and from where to where."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from siamtrack.errors import ConfigError
from siamtrack.tracking.options import (
    BoxHeadOptions,
    ScalePyramidOptions,
    TrackerOptions,
    rename_options,
)
from siamtrack.utils.config import parse_value

Number = int | float


@dataclass(frozen=True, slots=True)
class Range:
    """Values that an option may take.

    Attributes:
        low: the smallest; an integer for options that are integers.
        high: the largest.
        step: between neighbouring values from `low` on; None for all numbers between.
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
"""What is searched unless told, by the loop that the network asks for: options that move the box in
every frame, around the values that the field uses."""


def read_ranges(
    present: TrackerOptions, file: Path | None = None, texts: Sequence[str] = ()
) -> dict[str, Range]:
    """Ranges of a search; what is given is searched and nothing else, without any the defaults.

    Args:
        present: options that the search starts from; their class says what there is to search.
        file: TOML file with lines `option = [low, high]` or `option = [low, high, step]`.
        texts: `option=low:high` or `option=low:high:step`, over those of the file.

    Raises:
        ConfigError: a file that cannot be read, an option that is unknown or not numeric, a range
            that is not one or is beyond what the option allows.
    """
    given = {
        **rename_options(_from_file(file)),
        **rename_options(dict(_from_text(text) for text in texts)),
    }
    known = {f.name: f.default for f in fields(present) if _numeric(f.default)}
    ranges = dict(DEFAULT_RANGES[type(present)])
    if given:
        for name in given:
            if name not in known:
                raise ConfigError.unknown("tracker option to search", name, known)
        ranges = {
            name: _range(name, given[name], isinstance(default, int))
            for name, default in known.items()
            if name in given
        }
    _check_ends(present, ranges)
    return ranges


def _numeric(default: object) -> bool:
    return isinstance(default, int | float) and not isinstance(default, bool)


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read ranges {path}: {error}; give a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"ranges {path} are not TOML: {error}") from error


def _from_text(text: str) -> tuple[str, list[Any]]:
    name, equals, rest = text.partition("=")
    if not equals:
        raise ConfigError(f"range {text!r} has no option; write option=low:high")
    return name.strip(), [parse_value(part) for part in rest.split(":")]


def _range(name: str, given: Any, integer: bool) -> Range:
    kind = "integers" if integer else "numbers"
    if (
        not isinstance(given, Sequence)
        or len(given) not in (2, 3)
        or not all(_numeric(v) and (isinstance(v, int) or not integer) for v in given)
    ):
        raise ConfigError(
            f"range of {name} is {given!r}; give two {kind}, low and high, and perhaps a step"
        )
    values: list[Number] = [v if integer else float(v) for v in given]
    made = Range(*values)
    if made.low >= made.high:
        raise ConfigError(f"range of {name} is from {made.low} to {made.high}; give low below high")
    if made.step is not None and not 0 < made.step <= made.high - made.low:
        raise ConfigError(
            f"range of {name} from {made.low} to {made.high} has the step {made.step}; give one "
            "above 0 that fits into it"
        )
    return made


def _check_ends(present: TrackerOptions, ranges: Mapping[str, Range]) -> None:
    """Both corners of the search must be options; what lies between may still contradict itself."""
    for end in ("low", "high"):
        corner = {name: getattr(found, end) for name, found in ranges.items()}
        try:
            type(present).from_mapping({**asdict(present), **corner})
        except ConfigError as error:
            raise ConfigError(f"the {end} end of a range cannot be used: {error}") from error
