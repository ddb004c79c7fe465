"""Values that people type after an equals sign."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Any

from siamtrack.errors import ConfigError


def read_value(text: str) -> Any:
    """A TOML value (3, 0.5, true, "text", [1, 2]), or the text itself where it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def read_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Values by name from `name=value`, read as `read_value` does.

    Raises:
        ConfigError: one is not an assignment.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"{text!r} is not an assignment; write name=value")
        values[name.strip()] = read_value(value)
    return values
