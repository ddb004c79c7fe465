"""Plots as matplotlib figures, without pyplot, for PNG, PDF and the page."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from siamtrack.errors import OutputError
from siamtrack.evaluation.calibration import expected_calibration_error, reliability
from siamtrack.evaluation.metrics import NORMALISED_THRESHOLDS, success_thresholds
from siamtrack.evaluation.protocols import heading
from siamtrack.utils.files import atomic_write

Content = Mapping[str, Any]

COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2",
           "#7f7f7f", "#bcbd22")  # fmt: skip
STYLES = ("-", "--", "-.", ":")
SIZE_IN = (6.4, 4.2)
LETTER_IN = 0.065
"""Width of a letter in a legend."""
LONGEST = 48
"""Letters of a tracker's label before it is cut."""


def colour_of(index: int) -> str:
    """Color of the tracker that was named as number `index`, everywhere in the report."""
    return COLOURS[index % len(COLOURS)]


def success_plot(variant: Content) -> Figure:
    """Share of frames above each overlap threshold; the legend gives the ranked score."""
    protocol = variant["protocol"]
    pooled = protocol["pool_frames"]
    figure = "average_overlap" if pooled else "success_auc"
    thresholds = success_thresholds(protocol["success_points"])
    made, axes = _axes(
        f"Success, {variant['name'].upper()}", "overlap threshold", "share of frames"
    )
    _curves(axes, variant, "success", figure, thresholds)
    return made


def precision_plot(variant: Content) -> Figure:
    """Share of frames within each centre error; the legend gives precision at 20 px."""
    made, axes = _axes(
        f"Precision, {variant['name'].upper()}", "centre error, px", "share of frames"
    )
    _curves(axes, variant, "precision", "precision_20px", np.arange(51))
    axes.axvline(20, color="0.6", linewidth=0.8, linestyle=":")
    return made


def normalised_precision_plot(variant: Content) -> Figure:
    """Share of frames within each centre error in target sizes; the legend gives the mean."""
    made, axes = _axes(
        f"Normalised precision, {variant['name'].upper()}",
        "centre error, target sizes",
        "share of frames",
    )
    _curves(axes, variant, "normalised_precision", "normalised_precision", NORMALISED_THRESHOLDS)
    return made


def attribute_plot(variant: Content) -> Figure:
    """Success AUC per attribute, a bar per tracker with its interval."""
    trackers = variant["trackers"]
    counts = {
        attribute: values["sequences"]
        for tracker in trackers.values()
        for attribute, values in tracker["attributes"].items()
    }
    names = sorted(counts, key=lambda name: (-counts[name], name))
    height = max(SIZE_IN[1], 0.8 + len(names) * (0.16 * len(trackers) + 0.14))
    made, axes = _axes("Success AUC by attribute", "AUC", "", (SIZE_IN[0], height))
    step = 0.8 / max(1, len(trackers))
    for index, (label, tracker) in enumerate(trackers.items()):
        found = [name for name in names if name in tracker["attributes"]]
        values = [tracker["attributes"][name]["success_auc"] for name in found]
        rows = np.array([names.index(name) for name in found]) + (index + 0.5) * step - 0.4
        _bars(axes, rows, values, step, colour_of(index), label)
    axes.set_yticks(range(len(names)), [f"{name} ({counts[name]})" for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    _legend(axes)
    return made


def _bars(
    axes: Axes, rows: Any, values: Sequence[Content], step: float, colour: str, label: str
) -> None:
    if not values:
        return
    middle = np.array([value["value"] for value in values])
    low = [m if v["low"] is None else v["low"] for v, m in zip(values, middle, strict=True)]
    high = [m if v["high"] is None else v["high"] for v, m in zip(values, middle, strict=True)]
    spread = np.maximum(np.array([middle - low, np.array(high) - middle]), 0)
    axes.barh(rows, middle, step * 0.9, color=colour, label=label)
    axes.errorbar(middle, rows, xerr=spread, fmt="none", ecolor="0.25", elinewidth=0.8)


def speed_plot(variant: Content) -> Figure:
    """Frames per second against the first headline figure."""
    figure = variant["protocol"]["headline"][0]
    made, axes = _axes("Speed and accuracy", "frames per second", heading(figure))
    shown = 0
    for index, (label, tracker) in enumerate(variant["trackers"].items()):
        if tracker["fps"] is None or figure not in tracker["figures"]:
            continue
        value = tracker["figures"][figure]["value"]
        axes.plot(tracker["fps"], value, "o", markersize=9, color=colour_of(index), label=label)
        axes.annotate(
            _short(label), (tracker["fps"], value), (6, 6), textcoords="offset points", size=8
        )
        shown += 1
    axes.margins(0.2)
    if shown:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    return made


def robustness_plot(variants: Sequence[Content]) -> Figure:
    """The first headline figure of every variant; lines join what differs by degree only."""
    figure = variants[0]["protocol"]["headline"][0]
    names = [variant["name"] for variant in variants]
    width = max(SIZE_IN[0], 1.5 + 0.32 * len(names))
    made, axes = _axes("Robustness", "", heading(figure), (width, SIZE_IN[1]))
    kinds = [re.sub(r"-[\d.]+$", "", name) for name in names]
    for index, label in enumerate(variants[0]["trackers"]):
        values = [
            variant["trackers"][label]["figures"].get(figure, {}).get("value")
            for variant in variants
        ]
        heights = np.array([math.nan if value is None else value for value in values])
        for kind in dict.fromkeys(kinds):
            columns = [column for column, other in enumerate(kinds) if other == kind]
            axes.plot(columns, heights[columns], "o-", color=colour_of(index), markersize=4)
        axes.plot([], [], "o", color=colour_of(index), markersize=4, label=label)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", size=7)
    axes.set_ylim(bottom=0)
    _legend(axes)
    return made


def _curves(axes: Axes, variant: Content, curve: str, figure: str, thresholds: Any) -> None:
    ranked = [
        (index, label, tracker)
        for index, (label, tracker) in enumerate(variant["trackers"].items())
        if "curves" in tracker
    ]
    ranked.sort(key=lambda entry: -entry[2]["figures"][figure]["value"])
    for index, label, tracker in ranked:
        axes.plot(
            thresholds,
            tracker["curves"][curve],
            STYLES[index // len(COLOURS) % len(STYLES)],
            color=colour_of(index),
            label=f"{label} [{tracker['figures'][figure]['value']:.3f}]",
        )
    axes.set_xlim(0, float(thresholds[-1]))
    axes.set_ylim(0, 1)
    _legend(axes)


def _axes(title: str, x: str, y: str, size: tuple[float, float] = SIZE_IN) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    style(axes, title, x, y)
    return figure, axes


def style(axes: Axes, title: str, x: str, y: str) -> None:
    """Titles, a faint grid and no box around: how every plot looks."""
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _legend(axes: Axes) -> None:
    """Beside the plot, for which the figure grows: labels of trackers may be long."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    axes.legend(
        handles,
        [_short(label) for label in labels],
        fontsize=8,
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
    )
    figure = axes.get_figure()
    if isinstance(figure, Figure):
        longest = max(len(_short(label)) for label in labels)
        figure.set_figwidth(figure.get_figwidth() + LETTER_IN * max(0, longest - 16))


def _short(label: str) -> str:
    """A label cut in the middle, where options of one tracker differ least."""
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 20]}...{label[-17:]}"


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as `png`, `pdf` or `svg`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=160)
    return buffer.getvalue()


def as_data_url(figure: Figure) -> str:
    """The figure as an SVG that a page can hold in itself."""
    encoded = base64.b64encode(figure_bytes(figure, "svg")).decode()
    return f"data:image/svg+xml;base64,{encoded}"


def draw_all(content: Content) -> dict[str, Figure]:
    """Every plot that the figures allow, by file name without suffix."""
    first = content["variants"][0]
    drawn: dict[str, Callable[[], Figure]] = {}
    if any("curves" in tracker for tracker in first["trackers"].values()):
        drawn["success"] = lambda: success_plot(first)
        drawn["precision"] = lambda: precision_plot(first)
        drawn["normalised_precision"] = lambda: normalised_precision_plot(first)
        if any(tracker["attributes"] for tracker in first["trackers"].values()):
            drawn["attributes"] = lambda: attribute_plot(first)
    if first["protocol"]["headline"]:
        drawn["speed"] = lambda: speed_plot(first)
        if len(content["variants"]) > 1:
            drawn["robustness"] = lambda: robustness_plot(content["variants"])
    return {name: make() for name, make in drawn.items()}


def save_plots(figures: Mapping[str, Figure], folder: Path) -> None:
    """Write every figure as PNG and PDF.

    Raises:
        OutputError: the folder cannot be written.
    """
    for name, figure in figures.items():
        for kind in ("png", "pdf"):
            atomic_write(folder / f"{name}.{kind}", figure_bytes(figure, kind))


def reliability_figure(
    curves: Mapping[str, ArrayLike], good: ArrayLike, weights: ArrayLike, bins: int = 10
) -> Figure:
    """Draw curves over the diagonal that a true score would lie on, and how often each score is.

    Args:
        curves: (N,) scores in [0, 1], by what they are called.
        good: (N,) bool, the box was on the target.
        weights: (N,) of the frames, sum 1.
        bins: of the score.
    """
    figure = Figure(figsize=(5, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for name, scores in curves.items():
        mass, promised, found = reliability(scores, good, weights, bins)
        error = expected_calibration_error(scores, good, weights, bins)
        upper.plot(promised, found, marker="o", label=f"{name}, calibration error {error:.3f}")
        lower.stairs(mass, [k / bins for k in range(bins + 1)])
    upper.set(ylabel="share of boxes on the target", xlim=(0, 1), ylim=(0, 1))
    upper.legend(loc="upper left", frameon=False)
    lower.set(xlabel="score", ylabel="share of frames")
    return figure


def save_reliability(
    path: str | PathLike[str],
    curves: Mapping[str, ArrayLike],
    good: ArrayLike,
    weights: ArrayLike,
) -> None:
    """Write the diagram as a picture; see `reliability_figure`.

    Raises:
        OutputError: it cannot be written, or its name ends like no picture's.
    """
    try:
        reliability_figure(curves, good, weights).savefig(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path} ({error}); give another .png") from error
