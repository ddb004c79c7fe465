"""`report.html`: one file, nothing fetched from anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure
from numpy.typing import NDArray

from siamtrack.evaluation.protocols import FIGURES, heading
from siamtrack.evaluation.report.failures import Strip
from siamtrack.evaluation.report.plots import as_data_url, colour_of
from siamtrack.evaluation.scores import TrackerScores

POINTS = 600
"""Most points of one overlap curve on the page; longer sequences are averaged in blocks."""


def render_page(
    content: Mapping[str, Any],
    scores: Sequence[TrackerScores],
    figures: Mapping[str, Figure],
    strips: Sequence[Strip],
) -> str:
    """The page.

    Args:
        content: of `report.json`.
        scores: of the first variant, for the overlap over time.
        figures: plots by name, in order.
        strips: of failures.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = _shown
    environment.globals.update(heading=heading, colour_of=colour_of)
    folder = resources.files("siamtrack.evaluation.report")
    template = environment.from_string((folder / "page.html").read_text(encoding="utf-8"))
    first = content["variants"][0]
    return template.render(
        content=content,
        first=first,
        headline=first["protocol"]["headline"],
        columns=_columns(first),
        plots={name: as_data_url(figure) for name, figure in figures.items()},
        strips=[asdict(strip) for strip in strips],
        style=(folder / "page.css").read_text(encoding="utf-8"),
        script=(folder / "page.js").read_text(encoding="utf-8"),
        rows=_embedded(_rows(content)),
        timelines=_embedded(_timelines(scores)),
    )


def _columns(variant: Mapping[str, Any]) -> list[str]:
    """Figures of the per-sequence table."""
    shown = list(variant["protocol"]["headline"])
    return [*shown[:2], "fps"]


def _rows(content: Mapping[str, Any]) -> dict[str, Any]:
    """The per-sequence table: its columns, and per sequence a row of text and numbers."""
    variant = content["variants"][0]
    names = _columns(variant)
    columns: list[dict[str, Any]] = [
        {"figure": "", "digits": 0, "start": False, "higher": True},
        {"figure": "", "digits": 0, "start": False, "higher": True},
    ]
    for _ in variant["trackers"]:
        for name in names:
            digits = 1 if name in ("fps", "robustness") else 3
            start, higher = name == names[0], FIGURES[name][1]
            columns.append({"figure": name, "digits": digits, "start": start, "higher": higher})
    rows = [
        [
            sequence,
            length,
            *(
                tracker["sequences"].get(sequence, {}).get(name)
                for tracker in variant["trackers"].values()
                for name in names
            ),
        ]
        for sequence, length in content["dataset"]["lengths"].items()
    ]
    return {"columns": columns, "rows": rows}


def _timelines(scores: Sequence[TrackerScores]) -> dict[str, Any]:
    """Overlap over time by sequence and tracker, with the frames that one point stands for."""
    lines: dict[str, Any] = {}
    for index, tracker in enumerate(scores):
        for name, score in tracker.sequences.items():
            entry = lines.setdefault(
                name, {"frames": len(score.overlaps), "block": 1, "trackers": []}
            )
            block = -(-len(score.overlaps) // POINTS)
            entry["block"] = block
            entry["trackers"].append(
                {
                    "label": tracker.entry.label,
                    "colour": colour_of(index),
                    "overlap": _blocks(score.overlaps, block),
                }
            )
    return lines


def _blocks(overlaps: NDArray[np.float64], block: int) -> list[float | None]:
    padded = np.full(-(-len(overlaps) // block) * block, np.nan)
    padded[: len(overlaps)] = overlaps
    rows = padded.reshape(-1, block)
    counts = np.sum(~np.isnan(rows), axis=1)
    empty = np.full(len(rows), -1.0)
    means = np.divide(np.nansum(rows, axis=1), counts, where=counts > 0, out=empty)
    return [None if mean < 0 else round(float(mean), 3) for mean in means]


def _embedded(data: object) -> str:
    """JSON that can stand inside a script element."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _shown(value: float | None, name: str = "") -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if name in ("fps", "robustness") else f"{value:.3f}"
