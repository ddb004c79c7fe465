"""Configuration: assignments, TOML files, dataclasses from plain data, ranges, old names.

The one parser of `name=value`, the one TOML reader, the one builder of dataclasses and the one
check of ranges. Every error names the key, what was given and what is needed.

Example:
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Options:
    ...     rate: float = ranged(0.1, 0.0, 1.0)
    ...     def __post_init__(self) -> None:
    ...         check_ranges(self)
    >>> build(Options, parse_assignments(["rate=1"]))
    Options(rate=1.0)
"""

from __future__ import annotations

import math
import sys
import tomllib
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from siamtrack.errors import ConfigError

T = TypeVar("T")


def parse_value(text: str) -> Any:
    """A TOML value (3, 0.5, true, "text", [1, 2]), or the text itself if it is none.

    Example:
        >>> parse_value("0.5"), parse_value("[1, 2]"), parse_value("cosine")
        (0.5, [1, 2], 'cosine')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def parse_assignment(text: str, form: str = "name=value") -> tuple[str, str]:
    """Split `name=value` at its first `=`; both sides are stripped, the value stays text.

    Args:
        text: what was typed.
        form: how the error message writes the correct form.

    Raises:
        ConfigError: no `=`, or nothing before it.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"{text!r} is not an assignment; write {form}")
    return name.strip(), value.strip()


def parse_assignments(texts: Iterable[str], form: str = "name=value") -> dict[str, Any]:
    """Values by name from several assignments, read by `parse_value`; the last one counts.

    Raises:
        ConfigError: one is not an assignment.
    """
    pairs = (parse_assignment(text, form) for text in texts)
    return {name: parse_value(value) for name, value in pairs}


def read_toml(path: Path, what: str = "configuration") -> dict[str, Any]:
    """Parse a TOML file.

    Args:
        path: the file.
        what: what messages call it.

    Raises:
        ConfigError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {what} {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {what} {path}: it is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{what} {path} is not TOML: {error}") from error


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
    known = _type_hints(cls)
    made: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError.unknown(kind or f"key in section {where or 'top'}:", name, known)
        made[name] = _convert(known[name], value, f"{where}.{name}" if where else name)
    return cls(**made)


def _type_hints(cls: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls) if f.init}


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Fit a value to a type hint where nothing is lost by it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if isinstance(hint, type) and is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is {value!r}; it is a section of keys, write [{where}]")
        return build(hint, value, where)
    if origin is typing.Literal:
        check_choice(where, value, arguments)
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (inner,) = [a for a in arguments if a is not type(None)]
        return _convert(inner, value, where)
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is {value!r}; give a table of names and values")
        return {k: _convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{where} is {value!r}; give a value of type {hint.__name__}")
    return value


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if arguments[-1] is Ellipsis:
        if isinstance(value, list | tuple):
            return tuple(_convert(arguments[0], v, where) for v in value)
        raise ConfigError(f"{where} is {value!r}; give a list")
    if isinstance(value, list | tuple) and len(value) == len(arguments):
        return tuple(_convert(a, v, where) for a, v in zip(arguments, value, strict=True))
    raise ConfigError(f"{where} is {value!r}; give {len(arguments)} values")


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
    bounds = {"above": above, "below": below}
    return field(default=default, metadata={"range": (low, high), "exclusive": bounds})


def check_ranges(config: Any, where: str = "") -> None:
    """Check the `ranged` fields of a dataclass; integer defaults take integers only.

    Args:
        config: an instance of a dataclass.
        where: prefix of the field's name in messages, such as "optim.".

    Raises:
        ConfigError: the first field that is out of its range or not a number.
    """
    for f in fields(config):
        if "range" in f.metadata:
            check_number(
                where + f.name,
                getattr(config, f.name),
                *f.metadata["range"],
                **f.metadata["exclusive"],
                integer=isinstance(f.default, int),
            )


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
    """Check that a value is a number within bounds, which are those of `ranged`.

    Raises:
        ConfigError: it is not.
    """
    is_number = isinstance(value, int) or (isinstance(value, float) and not integer)
    if not is_number or isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}; give {'an integer' if integer else 'a number'}")
    too_low = not value > above if above is not None else not value >= low
    too_high = not value < below if below is not None else not value <= high
    if too_low or too_high:
        limits = _limits_text(low, high, above, below)
        raise ConfigError(f"{name} is {value}; give a value {limits}")


def _limits_text(low: float, high: float, above: float | None, below: float | None) -> str:
    """The bounds in words: "from 0 to 1", "from 0 to below 1", "of at least 1", "above 0"."""
    least = f"from {low:g}" if above is None else f"above {above:g}"
    most = f"{high:g}" if below is None else f"below {below:g}"
    if math.isinf(high if below is None else below):
        return f"of at least {low:g}" if above is None else least
    if math.isinf(low if above is None else above):
        return f"of at most {high:g}" if below is None else most
    return f"{least} to {most}"


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Check that a value is one of several.

    Raises:
        ConfigError: it is not; the nearest spelling is suggested.
    """
    known = [str(choice) for choice in choices]
    if str(value) not in known:
        raise ConfigError.unknown(name, str(value), known)


def replace_old_names(
    values: Mapping[str, Any], new_names: Mapping[str, str], kind: str | None
) -> dict[str, Any]:
    """The same values under today's names.

    Args:
        values: by name, old or new.
        new_names: new name of each old one.
        kind: what the warning calls a name ("tracker option"); None does not warn, for files that
            siamtrack wrote itself.

    Raises:
        ConfigError: a value is given under both names.
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
    """A public name has changed; the command line shows this as one plain line."""


def warn_renamed(kind: str, old: str, new: str) -> None:
    """Warn that a public name has changed; Python shows it once per place."""
    warnings.warn(
        f"{kind} {old!r} is now {new!r}; the old name will be removed in two minor releases",
        RenamedWarning,
        stacklevel=3,
    )


def renamed_attributes(module: str, new_names: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for a module: its names by their old spelling, with a warning.

    Assign it under `if not TYPE_CHECKING`, or type checkers accept any name from the module.

    Args:
        module: its `__name__`.
        new_names: new name of each old one.
    """

    def find(name: str) -> Any:
        if name not in new_names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_renamed(module, name, new_names[name])
        return getattr(sys.modules[module], new_names[name])

    return find
