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

from siamtrack.evaluation.groups import ALL, TUNED_ON, SequenceGroup, split_by_use
from siamtrack.evaluation.report.plots import COLORS, figure_bytes, style
from siamtrack.evaluation.report.tables import markdown_table, without_nan
from siamtrack.evaluation.statistics import Interval, bootstrap_mean
from siamtrack.evaluation.views import PLAIN
from siamtrack.tuning.crossvalidation import SelectionResult, cross_validate_choice
from siamtrack.tuning.ranges import Number
from siamtrack.tuning.study import Trial
from siamtrack.types import FloatArray
from siamtrack.utils.files import atomic_write

DATA, TABLE, PLOT = "trials.json", "tuning.md", "tuning.png"
_LISTED = 10
_COLUMNS = 3
_PANEL_IN = (3.6, 2.9)


def write_report(
    trials: Sequence[Trial],
    identity: Mapping[str, Any],
    out: Path,
    *,
    folds: int,
    groups: Mapping[str, SequenceGroup],
    seed: int = 0,
) -> SelectionResult:
    """Cross-validate the choice and write trials.json, tuning.md and tuning.png.

    The first trial is that of the options before the search; `folds` and `seed` are those of
    `cross_validate_choice`, `groups` says which sequences belong together.
    """
    names = list(trials[0].aucs)
    aucs = np.array([[trial.aucs[name] for name in names] for trial in trials])  # (T, S)
    result = cross_validate_choice(aucs, folds, seed, [groups[name].group for name in names])
    write_trials(trials, result, identity, out)
    views = identity.get("views", [PLAIN])
    atomic_write(out / TABLE, markdown(trials, result, groups, views))
    atomic_write(out / PLOT, figure_bytes(plot(trials, result), "png"))
    return result


def write_trials(
    trials: Sequence[Trial], result: SelectionResult | None, identity: Mapping[str, Any], out: Path
) -> None:
    """Write trials.json; `result` is None while the search runs."""
    content: dict[str, Any] = {
        "searched": dict(identity),
        "candidates": count_candidates(trials),
        "trials": [{**asdict(trial), "objective": trial.objective} for trial in trials],
    }
    if result is not None:
        content["verdict"] = without_nan(asdict(result))
        content["recommended"] = trials[result.best].options if result.recommended else None
    atomic_write(out / DATA, json.dumps(content, indent=1, allow_nan=False) + "\n")


def count_candidates(trials: Sequence[Trial]) -> int:
    """How many different options were compared with those before the search."""
    tried = {tuple(sorted(trial.options.items())) for trial in trials}
    return len(tried - {tuple(sorted(trials[0].options.items()))})


def markdown(
    trials: Sequence[Trial],
    result: SelectionResult,
    groups: Mapping[str, SequenceGroup],
    views: Sequence[str],
) -> str:
    """The estimated gain, the recommendation, and the best trials."""
    sequences, gain, candidates = len(trials[0].aucs), result.gain, count_candidates(trials)
    estimates = [
        ("options before the search", result.default, ""),
        ("best options, judged on the sequences that chose them", result.optimistic, ""),
        ("their lead", result.lead.difference, "+"),
        ("choosing, judged on sequences left out", result.cross_validated, ""),
        ("its gain", gain.difference, "+"),
    ]
    parts = split_by_use(groups)
    parts.pop(ALL)
    gains = dict(zip(trials[0].aucs, result.gains.tolist(), strict=True))
    for part, members in parts.items():
        interval = bootstrap_mean(
            [gains[name] for name in members],
            np.random.default_rng(0),
            groups=[group.group for group in members.values()],
        )
        before = "chose options before" if part == TUNED_ON else "did not"
        estimates.append((f"its gain on {len(members)} sequences that {before}", interval, "+"))
    rows = [
        (name, f"{found.value:{sign}.4f}", _bounds(found, f"{sign}.4f"))
        for name, found, sign in estimates
    ]
    grouped = f" in {gain.groups} groups" if gain.groups < sequences else ""
    means = f", means of {len(views)} views ({', '.join(views)})" if len(views) > 1 else ""
    explanation = (
        f"{len(trials) - 1} trials on {sequences} sequences{grouped}{means}, {result.folds} folds; "
        f"better on {gain.wins} sequences, equal on {gain.ties}, p = {gain.p_value:.3f} (sign "
        f"flips). Intervals are bootstrapped over {'groups' if grouped else 'sequences'}. "
        f"Candidates compared with the options before: {candidates}. The best of many leads by "
        "luck as well, so that its lead is too high; the gain of choosing is what to expect "
        "elsewhere."
    )
    if result.recommended:
        best = trials[result.best].options.items()
        options = ", ".join(f"`{name} = {_number(value)}`" for name, value in best)
        advice = f"**Recommended**: {options}."
        if not gain.difference.low > 0:
            advice += " The interval of the gain includes 0: it may be luck still."
    else:
        advice = "**Keep the options**: choosing others gains nothing on sequences left out."
    # The best trials, and the options before the search.
    listed = sorted(range(len(trials)), key=lambda row: -trials[row].objective)[:_LISTED]
    if 0 not in listed:
        listed.append(0)
    best_trials = [
        (
            str(trials[row].number),
            *map(_number, trials[row].options.values()),
            f"{trials[row].objective:.4f}",
            f"{result.chosen[row]:.0%}",
        )
        for row in listed
    ]
    headings = ("trial", *trials[0].options, "success AUC", "chosen")
    note = "Trial 0: before the search. chosen: share of the folds in which it was the choice."
    sections = (
        markdown_table(("success AUC", "mean", "95 % interval"), rows, "lrl"),
        explanation,
        advice,
        markdown_table(headings, best_trials, "r" * len(headings)),
        note,
    )
    return "\n\n".join(sections) + "\n"


def _bounds(found: Interval, form: str) -> str:
    return "" if math.isnan(found.low) else f"[{found.low:{form}}, {found.high:{form}}]"


def _number(value: Number) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def plot(trials: Sequence[Trial], result: SelectionResult) -> Figure:
    """The objective over trials, and each option against it, later trials darker."""
    options = list(trials[0].options)
    rows = -(-(len(options) + 1) // _COLUMNS)
    size = (_PANEL_IN[0] * _COLUMNS, _PANEL_IN[1] * rows)
    figure = Figure(figsize=size, layout="constrained")
    history, *panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    objective = np.array([trial.objective for trial in trials])
    numbers = np.array([trial.number for trial in trials])

    # The objective over trials.
    style(history, "", "trial", "success AUC")
    history.plot(numbers, objective, ".", color=COLORS[1], alpha=0.6)
    best = np.maximum.accumulate(objective)
    history.step(numbers, best, color=COLORS[1], where="post", label="best so far")
    expected = result.cross_validated.value
    history.axhline(expected, color=COLORS[4], linewidth=1, linestyle="--", label="cross-validated")
    _mark(history, numbers, objective, result.best)
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
    history.legend(fontsize=7, frameon=False, ncols=2, **place)

    # Each option.
    early = -len(trials) / 2  # the lightest color
    for axes, name in zip(panels, options, strict=False):
        values = np.array([trial.options[name] for trial in trials])
        style(axes, "", name, "")
        colors = {"c": numbers[1:], "cmap": "Blues", "vmin": early}
        axes.scatter(values[1:], objective[1:], s=18, edgecolors="none", **colors)
        _mark(axes, values, objective, result.best)
    for axes in panels[len(options) :]:
        axes.set_visible(False)
    return figure


def _mark(axes: Axes, values: FloatArray, objective: FloatArray, best: int) -> None:
    """Mark the options before the search and the best ones."""
    axes.axhline(objective[0], color="0.6", linewidth=0.8, linestyle=":")
    axes.plot(values[0], objective[0], "D", color="0.3", markersize=5, label="before the search")
    axes.plot(values[best], objective[best], "*", color=COLORS[0], markersize=10, label="best")
