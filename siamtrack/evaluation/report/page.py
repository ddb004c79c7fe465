"""`report.html`: one file that loads nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from siamtrack.evaluation.protocols import AUC_FRAMES, FIGURES, digits, heading
from siamtrack.evaluation.report.plots import as_data_url, color_of
from siamtrack.evaluation.report.tables import without_nan
from siamtrack.evaluation.scores import TrackerScores
from siamtrack.types import FloatArray

MAX_POINTS = 600
"""Points of one overlap curve on the page; longer sequences are averaged in blocks."""


def render_page(
    content: Mapping[str, Any],
    scores: Sequence[TrackerScores],
    figures: Mapping[str, Figure],
    strips: Sequence[Mapping[str, Any]],
) -> str:
    """Fill the template.

    Args:
        content: of `report.json`.
        scores: of the first variant, for the overlap over time.
        figures: plots by name, in order.
        strips: from `failure_strips`.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = _figure_text
    environment.globals.update(heading=heading, color_of=color_of, digits=digits)
    folder = resources.files("siamtrack.evaluation.report")
    template = environment.from_string((folder / "page.html").read_text(encoding="utf-8"))
    first = content["variants"][0]
    headline = first["protocol"]["headline"]
    columns = [*headline[:2], "fps"]
    return template.render(
        content=content,
        first=first,
        headline=headline,
        auc_frames=_auc_frames(content),
        columns=columns,
        plots={name: as_data_url(figure) for name, figure in figures.items()},
        strips=strips,
        style=(folder / "page.css").read_text(encoding="utf-8"),
        script=(folder / "page.js").read_text(encoding="utf-8"),
        rows=_embed(_sequence_table(content, columns)),
        timelines=_embed(_timelines(scores)),
    )


def _sequence_table(content: Mapping[str, Any], figures: Sequence[str]) -> dict[str, Any]:
    """Columns, and per sequence a row of its name, length and every tracker's figures."""
    trackers = content["variants"][0]["trackers"].values()
    name_or_length = {"figure": "", "digits": 0, "start": False, "higher": True}
    columns = [name_or_length] * 2 + [
        {"figure": name, "digits": digits(name), "start": name == figures[0],
         "higher": FIGURES[name][1]}
        for _ in trackers for name in figures
    ]  # fmt: skip
    rows = [
        [name, length, *(t["sequences"].get(name, {}).get(f) for t in trackers for f in figures)]
        for name, length in content["dataset"]["lengths"].items()
    ]
    return {"columns": columns, "rows": rows}


def _timelines(scores: Sequence[TrackerScores]) -> dict[str, Any]:
    """Overlap over time by sequence and tracker, with the frames that one point stands for."""
    lines: dict[str, Any] = {}
    for index, tracker in enumerate(scores):
        for name, score in tracker.sequences.items():
            frames = len(score.overlaps)
            entry = lines.setdefault(name, {"frames": frames, "block": 1, "trackers": []})
            entry["block"] = -(-frames // MAX_POINTS)
            points = _block_means(score.overlaps, entry["block"])
            line = {"label": tracker.entry.label, "color": color_of(index), "overlap": points}
            entry["trackers"].append(line)
    return lines


def _block_means(overlaps: FloatArray, block: int) -> list[float | None]:
    """Mean of every `block` frames; None where no frame counts."""
    padded = np.full(-(-len(overlaps) // block) * block, np.nan)
    padded[: len(overlaps)] = overlaps
    rows = padded.reshape(-1, block)
    counts = np.sum(~np.isnan(rows), axis=1)
    empty = np.full(len(rows), np.nan)
    means = np.divide(np.nansum(rows, axis=1), counts, where=counts > 0, out=empty)
    points: list[float | None] = without_nan([round(float(mean), 3) for mean in means])
    return points


def _embed(data: object) -> str:
    """JSON that can stand inside a script element."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _auc_frames(content: Mapping[str, Any]) -> list[int]:
    """Numbers of first frames that the longest sequence goes beyond."""
    longest = max(content["dataset"]["lengths"].values())
    longest = min(longest, content["running"]["max_frames"] or longest)
    return [count for count in AUC_FRAMES if count < longest]


def _figure_text(value: float | None, figure: str = "") -> str:
    return "-" if value is None else f"{value:.{digits(figure)}f}"
