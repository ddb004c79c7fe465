"""Tables in Markdown and data for strict JSON, for every report of siamtrack."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def markdown_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], align: str | None = None
) -> str:
    """GitHub-flavored table, without a newline at its end.

    Args:
        headings: of the columns.
        rows: cells; a `|` in them is escaped.
        align: `l` or `r` for each column; by default the first left, the others right.
    """
    align = align or "l" + "r" * (len(headings) - 1)
    rule = ["---:" if side == "r" else "---" for side in align]
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *escaped))


def interval_text(interval: Mapping[str, float | None], form: str = ".3f") -> str:
    """`value [low, high]` of an interval as plain data; the value alone without an interval."""
    value, low, high = interval["value"], interval["low"], interval["high"]
    if value is None:
        return "-"
    if low is None or high is None:
        return f"{value:{form}}"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def without_nan(value: Any) -> Any:
    """Plain data for strict JSON: arrays become lists, NaN and infinities None."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
