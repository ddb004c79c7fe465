"""Values that people type after an equals sign."""

from __future__ import annotations

import tomllib
from typing import Any


def read_value(text: str) -> Any:
    """A TOML value (3, 0.5, true, "text", [1, 2]), or the text itself where it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
