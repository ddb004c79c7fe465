"""Result of a search: trials.json, a Markdown table and a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from siamtrack.evaluation.report.plots import COLORS, figure_bytes, style
from siamtrack.evaluation.report.tables import markdown_table, without_nan
from siamtrack.evaluation.statistics import Interval
from siamtrack.tuning.crossvalidation import SelectionResult, cross_validate_choice
from siamtrack.tuning.ranges import Number
from siamtrack.tuning.study import Trial
from siamtrack.types import FloatArray
from siamtrack.utils.files import atomic_write

DATA, TABLE, PLOT = "trials.json", "tuning.md", "tuning.png"
_LISTED = 10
_COLUMNS = 3
_PANEL_IN = (3.6, 2.9)


def auc_table(trials: Sequence[Trial]) -> FloatArray:
    """(T, S) success AUC, sequences in the order of the first trial."""
    return np.array([[trial.aucs[name] for name in trials[0].aucs] for trial in trials])


def write_trials(
    trials: Sequence[Trial], result: SelectionResult | None, identity: Mapping[str, Any], out: Path
) -> None:
    """Write trials.json.

    Args:
        trials: the options before the search first.
        result: of the cross-validation; None while the search runs.
        identity: see `search.tune`.
        out: folder of the search.

    Raises:
        OutputError: the folder cannot be written.
    """
    content: dict[str, Any] = {
        "searched": dict(identity),
        "trials": [{**asdict(trial), "objective": trial.objective} for trial in trials],
    }
    if result is not None:
        content["verdict"] = without_nan(asdict(result))
        content["recommended"] = trials[result.best].options if result.recommended else None
    atomic_write(out / DATA, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_report(
    trials: Sequence[Trial],
    identity: Mapping[str, Any],
    out: Path,
    *,
    folds: int,
    seed: int = 0,
) -> SelectionResult:
    """Cross-validate the choice and write trials.json, tuning.md and tuning.png.

    Args:
        trials: the options before the search first.
        identity: see `search.tune`.
        out: folder of the search.
        folds: see `cross_validate_choice`.
        seed: see `cross_validate_choice`.

    Raises:
        ConfigError: see `cross_validate_choice`.
        OutputError: the folder cannot be written.
    """
    result = cross_validate_choice(auc_table(trials), folds, seed)
    write_trials(trials, result, identity, out)
    atomic_write(out / TABLE, markdown(trials, result))
    atomic_write(out / PLOT, figure_bytes(plot(trials, result), "png"))
    return result


def markdown(trials: Sequence[Trial], result: SelectionResult) -> str:
    """The estimated gain, the recommendation, and the best trials."""
    options = list(trials[0].options)
    sequences, gain = len(trials[0].aucs), result.gain
    estimates = [
        ("options before the search", result.default),
        ("best options, judged on the sequences that chose them", result.optimistic),
        ("choosing, judged on sequences left out", result.cross_validated),
    ]
    rows = [(name, f"{found.value:.4f}", _interval(found)) for name, found in estimates]
    difference = gain.difference
    gained = (f"{difference.value:+.4f}", _interval(difference, "+.4f"))
    rows.append(("the last minus the first", *gained))
    ranked = sorted(range(len(trials)), key=lambda row: -trials[row].objective)[:_LISTED]
    listed = ranked if 0 in ranked else [*ranked, 0]
    headings = ("trial", *options, "success AUC", "chosen")
    parts = [
        markdown_table(("success AUC", "mean", "95 % interval"), rows, "lrl"),
        f"{len(trials) - 1} trials on {sequences} sequences, {result.folds} folds; better on "
        f"{gain.wins} sequences, equal on {gain.ties}, p = {gain.p_value:.3f} (sign flips). "
        "Intervals are bootstrapped over sequences. The second row is too high: part of its lead "
        "is luck with these sequences. The third is what to expect elsewhere.",
        _advice(trials, result),
        markdown_table(
            headings, [_row(trials[k], result.chosen[k]) for k in listed], "r" * len(headings)
        ),
        "Trial 0: before the search. chosen: share of the folds in which it was the choice.",
    ]
    return "\n\n".join(parts) + "\n"


def _advice(trials: Sequence[Trial], result: SelectionResult) -> str:
    if not result.recommended:
        return "**Keep the options**: choosing others gains nothing on sequences left out."
    best = trials[result.best].options
    sure = result.gain.difference.low > 0
    tail = "" if sure else " The interval of the gain includes 0: it may be luck still."
    options = ", ".join(f"`{name} = {_number(value)}`" for name, value in best.items())
    return f"**Recommended**: {options}.{tail}"


def _row(trial: Trial, chosen: float) -> tuple[str, ...]:
    values = (_number(value) for value in trial.options.values())
    return str(trial.number), *values, f"{trial.objective:.4f}", f"{chosen:.0%}"


def _interval(found: Interval, form: str = ".4f") -> str:
    return "" if math.isnan(found.low) else f"[{found.low:{form}}, {found.high:{form}}]"


def _number(value: Number) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def plot(trials: Sequence[Trial], result: SelectionResult) -> Figure:
    """The objective over trials, and each option against it, later trials darker."""
    options = list(trials[0].options)
    rows = -(-(len(options) + 1) // _COLUMNS)
    size = (_PANEL_IN[0] * _COLUMNS, _PANEL_IN[1] * rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    objective = np.array([trial.objective for trial in trials])
    numbers = np.array([trial.number for trial in trials])
    _history(panels[0], numbers, objective, result)
    for axes, name in zip(panels[1:], options, strict=False):
        values = np.array([trial.options[name] for trial in trials])
        style(axes, "", name, "")
        axes.scatter(values[1:], objective[1:], c=numbers[1:], cmap="Blues", s=18, vmin=-len(trials)
                     / 2, edgecolors="none")  # fmt: skip
        _marks(axes, values, objective, result)
    for axes in panels[1 + len(options) :]:
        axes.set_visible(False)
    return figure


def _history(
    axes: Axes, numbers: FloatArray, objective: FloatArray, result: SelectionResult
) -> None:
    style(axes, "", "trial", "success AUC")
    axes.plot(numbers, objective, ".", color=COLORS[1], alpha=0.6)
    best = np.maximum.accumulate(objective)
    axes.step(numbers, best, color=COLORS[1], where="post", label="best so far")
    expected = result.cross_validated.value
    axes.axhline(expected, color=COLORS[4], linewidth=1, linestyle="--", label="cross-validated")
    _marks(axes, numbers, objective, result)
    axes.legend(fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _marks(axes: Axes, values: FloatArray, objective: FloatArray, result: SelectionResult) -> None:
    """Mark the options before the search and the best ones."""
    axes.axhline(objective[0], color="0.6", linewidth=0.8, linestyle=":")
    axes.plot(values[0], objective[0], "D", color="0.3", markersize=5, label="before the search")
    best = result.best
    axes.plot(values[best], objective[best], "*", color=COLORS[0], markersize=10, label="best")
