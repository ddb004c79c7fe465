"""Configuration: parsing text, building dataclasses, checking values, old names.

Every error names the key, what was given and what is needed.
"""

from __future__ import annotations

import functools
import math
import numbers
import sys
import tomllib
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from siamtrack.errors import ConfigError, shown

T = TypeVar("T")

_EXACT = 2.0**53
"""From here on not every whole number is a float."""


# Parsing


def parse_value(text: str) -> Any:
    """A TOML value (3, 0.5, true, "text", [1, 2]), or the text itself if it is none.

    >>> parse_value("0.5"), parse_value("[1, 2]"), parse_value("cosine")
    (0.5, [1, 2], 'cosine')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
    except (RecursionError, ValueError) as error:  # brackets or digits without end
        raise ConfigError(f"value {shown(text)} is too long or nested too deeply") from error


def parse_assignment(text: str, form: str = "name=value") -> tuple[str, str]:
    """Split `name=value` at its first `=`; the error message shows the correct `form`."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"{shown(text)} is not an assignment; write {form}")
    return name.strip(), value.strip()


def parse_assignments(texts: Iterable[str], form: str = "name=value") -> dict[str, Any]:
    """Values by name from several assignments; the last one of a name counts."""
    pairs = (parse_assignment(text, form) for text in texts)
    return {name: parse_value(value) for name, value in pairs}


def read_toml(path: Path, what: str = "configuration") -> dict[str, Any]:
    """Parse a TOML file, which messages call `what`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {what} {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {what} {path}: it is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{what} {path} is not TOML: {error}") from error
    except (RecursionError, ValueError) as error:  # brackets or digits without end, or a NUL
        raise ConfigError(f"cannot read {what} {shown(path)}: {error}") from error


# Building


def build(cls: type[T], values: Mapping[str, Any], where: str = "", kind: str = "") -> T:
    """Make a dataclass from plain data; keys left out keep their defaults.

    Nested dataclasses are built from nested mappings, tuples from lists, floats from integers.

    Args:
        cls: a dataclass.
        values: as JSON or TOML gives them.
        where: key of `values` in its own file, for messages ("" at the top).
        kind: what messages call an unknown key; "" for "key in section `where`".

    Raises:
        ConfigError: an unknown key (with the nearest spelling), a value of another type, or what
            the dataclass refuses itself.
    """
    hints = typing.get_type_hints(cls)
    known = {f.name: hints[f.name] for f in fields(cls) if f.init}  # type: ignore[arg-type]
    made: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError.unknown(
                kind or (f"key in section {where}:" if where else "key at the top level:"),
                name,
                known,
            )
        made[name] = _convert(known[name], value, f"{where}.{name}" if where else name)
    return cls(**made)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Fit a value to a type hint where that loses nothing."""
    value = plain_number(value)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    needed = None  # what to give instead, once the value is known not to fit
    if hint is Any:
        return value
    if isinstance(hint, type) and is_dataclass(hint):
        if isinstance(value, Mapping):
            return build(hint, value, where)
        needed = f"it is a section of keys, write [{where}]"
    elif origin is typing.Literal:
        check_choice(where, value, inner)
        return value
    elif origin in (typing.Union, types.UnionType):  # only of a type and None
        (other,) = [h for h in inner if h is not type(None)]
        return None if value is None else _convert(other, value, where)
    elif origin is tuple:
        count = len(inner) if inner[-1] is not Ellipsis else None
        if isinstance(value, list | tuple) and count in (None, len(value)):
            hints = inner if count else inner[:1] * len(value)
            return tuple(_convert(h, v, where) for h, v in zip(hints, value, strict=True))
        needed = f"give {count} values" if count else "give a list"
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            return {k: _convert(inner[1], v, f"{where}.{k}") for k, v in value.items()}
        needed = "give a table of names and values"
    elif hint is float and type(value) is int:
        return float(value)
    elif type(value) is hint:
        return value
    raise ConfigError(
        f"{where} is {shown(value)}; {needed or f'give a value of type {hint.__name__}'}"
    )


# Checking

_MAX_INTEGER = 2**63 - 1


def ranged(
    default: T,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: float | None = None,
    below: float | None = None,
) -> T:
    """A dataclass field with a default and the range that `check_ranges` checks.

    Args:
        default: an integer makes the field an integer field.
        low: smallest value allowed.
        high: largest value allowed; infinity is allowed where it is the bound.
        above: exclusive lower bound.
        below: exclusive upper bound; `math.inf` allows finite values only.
    """
    bounds = {"low": low, "high": high, "above": above, "below": below}
    return field(default=default, metadata={"range": bounds})


def check_ranges(config: Any, where: str = "") -> None:
    """Check the `ranged` fields of a dataclass; messages prefix their names with `where`.

    Numbers of NumPy and fractions become Python's own.
    """
    for f in fields(config):
        if bounds := f.metadata.get("range"):
            value, integer = plain_number(getattr(config, f.name)), isinstance(f.default, int)
            check_number(where + f.name, value, **bounds, integer=integer)
            object.__setattr__(config, f.name, value)


def plain_number(value: Any) -> Any:
    """A number or boolean of NumPy, or a fraction, as Python's own; anything else as it is.

    Example:
        >>> from fractions import Fraction
        >>> plain_number(Fraction(1, 4))
        0.25
    """
    if type(value) in (bool, int, float):
        return value
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    try:
        if isinstance(value, numbers.Integral):
            return int(value)
        return float(value) if isinstance(value, numbers.Real) else value
    except OverflowError:
        return value


def whole_number(value: Any) -> int | None:
    """A whole number of a file, to its last digit; None for anything else.

    Some programs write all columns as floats, so 3.0 is one. A float that is too large to tell two
    neighbors apart is none: it need not be the number that was meant.

    Example:
        >>> whole_number("9007199254740993"), whole_number("3.0"), whole_number("1e300")
        (9007199254740993, 3, None)
    """
    if isinstance(value, str):
        with suppress(ValueError):
            return int(value)
    if type(value) is int:
        return value
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    return int(number) if number.is_integer() and abs(number) < _EXACT else None


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: float | None = None,
    below: float | None = None,
    integer: bool = False,
) -> None:
    """Check that a value is a number within the bounds, which are those of `ranged`."""
    value = plain_number(value)
    is_number = isinstance(value, int) or (isinstance(value, float) and not integer)
    if not is_number or isinstance(value, bool):
        raise ConfigError(
            f"{name} is {shown(value)}; give {'an integer' if integer else 'a number'}"
        )
    if isinstance(value, int) and abs(value) > _MAX_INTEGER:
        raise ConfigError(f"{name} is {shown(value)}; give a number of at most 64 bits")
    # A NaN fails both comparisons.
    is_high_enough = value >= low if above is None else value > above
    is_low_enough = value <= high if below is None else value < below
    if is_high_enough and is_low_enough:
        return
    # The bounds in words: "from 0 to below 1", "of at least 1", "above 0".
    least = f"from {low:g}" if above is None else f"above {above:g}"
    most = f"{high:g}" if below is None else f"below {below:g}"
    limits = f"{least} to {most}"
    if math.isinf(high if below is None else below):
        limits = f"of at least {low:g}" if above is None else least
    elif math.isinf(low if above is None else above):
        limits = f"of at most {high:g}" if below is None else most
    if above == -math.inf and below == math.inf:
        limits = "that is finite"
    raise ConfigError(f"{name} is {value}; give a value {limits}")


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Check that a value is one of several; the error suggests the nearest spelling."""
    known = [str(choice) for choice in choices]
    given = value if isinstance(value, str) else shown(value)
    if given not in known:
        raise ConfigError.unknown(name, given, known)


# Old names


def replace_old_names(
    values: Mapping[str, Any], new_names: Mapping[str, str], kind: str | None
) -> dict[str, Any]:
    """The same values under today's names; a value under both names is refused.

    Args:
        values: by name, old or new.
        new_names: new name of each old one.
        kind: what the warning calls a name ("tracker option"); None does not warn, for files that
            siamtrack wrote itself.
    """
    renamed: dict[str, Any] = {}
    for name, value in values.items():
        new = new_names.get(name, name)
        if new in renamed or (new != name and new in values):
            raise ConfigError(f"{kind or 'key'} {new!r} is given twice, once as {name!r}; give one")
        if new != name and kind is not None:
            warn_renamed(kind, name, new)
        renamed[new] = value
    return renamed


class RenamedWarning(FutureWarning):
    """A public name has changed. The command line shows this as one plain line."""


def warn_renamed(kind: str, old: str, new: str) -> None:
    """Warn that a public name has changed; Python shows it once per place."""
    # The place is the user's line: the innermost one outside siamtrack.
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] == "siamtrack":
        level, frame = level + 1, frame.f_back
    warnings.warn(
        f"{kind} {old!r} is now {new!r}; the old name will be removed in two minor releases",
        RenamedWarning,
        stacklevel=level,
    )


def renamed_arguments(new_names: Mapping[str, str]) -> Callable[[T], T]:
    """Make a function accept keyword arguments by their old names, with a warning.

    Args:
        new_names: new name of each old one.
    """

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            kind = f"argument of {function.__name__}"
            return function(*arguments, **replace_old_names(keywords, new_names, kind))

        return call

    return decorate


def renamed_method(old: str, new: str) -> Callable[..., Any]:
    """A method under its old name: it warns and calls the one of today."""

    def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        warn_renamed("method", old, new)
        return getattr(self, new)(*arguments, **keywords)

    return call


def renamed_attributes(module: str, new_names: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for the module of that `__name__`: finds its old names, with a warning.

    Assign it under `if not TYPE_CHECKING`, or type checkers accept any name from the module.
    """

    def find(name: str) -> Any:
        if name not in new_names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_renamed(module, name, new_names[name])
        return getattr(sys.modules[module], new_names[name])

    return find
