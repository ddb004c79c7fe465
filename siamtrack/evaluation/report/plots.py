"""Plots as matplotlib figures, without pyplot, for PNG, PDF and the page."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from siamtrack.errors import OutputError
from siamtrack.evaluation import metrics
from siamtrack.evaluation.calibration import expected_calibration_error, reliability
from siamtrack.evaluation.protocols import heading
from siamtrack.utils.files import atomic_write

Content = Mapping[str, Any]
"""A part of `report.json`."""

COLORS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2",
          "#7f7f7f", "#bcbd22")  # fmt: skip
LINE_STYLES = ("-", "--", "-.", ":")
SIZE_IN = (6.4, 4.2)
LETTER_IN = 0.065
"""Width of a letter in a legend."""
MAX_LABEL = 48
"""Letters of a tracker's label before it is cut."""


def color_of(index: int) -> str:
    """Color of the tracker that was named as number `index`, everywhere in the report."""
    return COLORS[index % len(COLORS)]


def draw_all(content: Content) -> dict[str, Figure]:
    """Every plot that the figures allow, by file name without suffix."""
    first = content["variants"][0]
    plots: dict[str, Figure] = {}
    if any("curves" in tracker for tracker in first["trackers"].values()):
        for curve in ("success", "precision", "normalised_precision"):
            plots[curve] = curve_plot(first, curve)
        if any(tracker["attributes"] for tracker in first["trackers"].values()):
            plots["attributes"] = attribute_plot(first)
    if first["protocol"]["headline"]:
        plots["speed"] = speed_plot(first)
        if len(content["variants"]) > 1:
            plots["robustness"] = robustness_plot(content["variants"])
    return plots


def curve_plot(variant: Content, curve: str) -> Figure:
    """Share of frames within each threshold; the legend gives the figure that ranks trackers."""
    protocol = variant["protocol"]
    if curve == "success":
        title, x = "Success", "overlap threshold"
        figure = "average_overlap" if protocol["pool_frames"] else "success_auc"
        thresholds = metrics.success_thresholds(protocol["success_points"])
    elif curve == "precision":
        title, x, figure = "Precision", "center error, px", "precision_20px"
        thresholds = metrics.PRECISION_THRESHOLDS_PX
    else:
        title, x, figure = "Normalized precision", "center error, target sizes", curve
        thresholds = metrics.NORMALIZED_THRESHOLDS
    plot, axes = _new_plot(f"{title}, {variant['name'].upper()}", x, "share of frames")
    ranked = [
        (-tracker["figures"][figure]["value"], index, label)
        for index, (label, tracker) in enumerate(variant["trackers"].items())
        if "curves" in tracker
    ]
    for value, index, label in sorted(ranked):
        axes.plot(
            thresholds,
            variant["trackers"][label]["curves"][curve],
            LINE_STYLES[index // len(COLORS) % len(LINE_STYLES)],
            color=color_of(index),
            label=f"{label} [{-value:.3f}]",
        )
    axes.set_xlim(0, float(thresholds[-1]))
    axes.set_ylim(0, 1)
    _add_legend(axes)
    if curve == "precision":
        axes.axvline(20, color="0.6", linewidth=0.8, linestyle=":")
    return plot


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
    plot, axes = _new_plot("Success AUC by attribute", "AUC", "", (SIZE_IN[0], height))
    step = 0.8 / max(1, len(trackers))
    for index, (label, tracker) in enumerate(trackers.items()):
        found = [name for name in names if name in tracker["attributes"]]
        if not found:
            continue
        rows = np.array([names.index(name) for name in found]) + (index + 0.5) * step - 0.4
        values = [tracker["attributes"][name]["success_auc"] for name in found]
        middle = np.array([value["value"] for value in values])
        low, high = (
            np.array([value["value"] if value[end] is None else value[end] for value in values])
            for end in ("low", "high")
        )
        spread = np.maximum([middle - low, high - middle], 0)
        axes.barh(rows, middle, step * 0.9, color=color_of(index), label=label)
        axes.errorbar(middle, rows, xerr=spread, fmt="none", ecolor="0.25", elinewidth=0.8)
    axes.set_yticks(range(len(names)), [f"{name} ({counts[name]})" for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    _add_legend(axes)
    return plot


def speed_plot(variant: Content) -> Figure:
    """Frames per second against the first headline figure."""
    figure = variant["protocol"]["headline"][0]
    plot, axes = _new_plot("Speed and accuracy", "frames per second", heading(figure))
    shown = 0
    for index, (label, tracker) in enumerate(variant["trackers"].items()):
        if tracker["fps"] is None or figure not in tracker["figures"]:
            continue
        point = (tracker["fps"], tracker["figures"][figure]["value"])
        axes.plot(*point, "o", markersize=9, color=color_of(index), label=label)
        axes.annotate(_shorten(label), point, (6, 6), textcoords="offset points", size=8)
        shown += 1
    axes.margins(0.2)
    if shown:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    return plot


def robustness_plot(variants: Sequence[Content]) -> Figure:
    """The first headline figure of every variant; lines join degrees of one kind."""
    figure = variants[0]["protocol"]["headline"][0]
    names = [variant["name"] for variant in variants]
    width = max(SIZE_IN[0], 1.5 + 0.32 * len(names))
    plot, axes = _new_plot("Robustness", "", heading(figure), (width, SIZE_IN[1]))
    kinds = [re.sub(r"-[\d.]+$", "", name) for name in names]
    for index, label in enumerate(variants[0]["trackers"]):
        values = [
            variant["trackers"][label]["figures"].get(figure, {}).get("value")
            for variant in variants
        ]
        heights = np.array([math.nan if value is None else value for value in values])
        for kind in dict.fromkeys(kinds):
            columns = [column for column, other in enumerate(kinds) if other == kind]
            axes.plot(columns, heights[columns], "o-", color=color_of(index), markersize=4)
        axes.plot([], [], "o", color=color_of(index), markersize=4, label=label)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", size=7)
    axes.set_ylim(bottom=0)
    _add_legend(axes)
    return plot


def save_reliability(
    path: str | PathLike[str],
    curves: Mapping[str, ArrayLike],
    good: ArrayLike,
    weights: ArrayLike,
    bins: int = 10,
) -> None:
    """Plot predicted against observed share of good boxes, and how often each score is given.

    Takes (N,) scores in [0, 1] by name, and of the frames (N,) flags and weights (sum 1).

    Raises:
        OutputError: it cannot be written, or its suffix is of no picture format.
    """
    figure = Figure(figsize=(5, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for name, scores in curves.items():
        mass, predicted, found = reliability(scores, good, weights, bins)
        error = expected_calibration_error(scores, good, weights, bins)
        upper.plot(predicted, found, marker="o", label=f"{name}, calibration error {error:.3f}")
        lower.stairs(mass, [k / bins for k in range(bins + 1)])
    upper.set(ylabel="share of boxes on the target", xlim=(0, 1), ylim=(0, 1))
    upper.legend(loc="upper left", frameon=False)
    lower.set(xlabel="score", ylabel="share of frames")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path} ({error}); give another .png") from error


def _new_plot(
    title: str, x: str, y: str, size: tuple[float, float] = SIZE_IN
) -> tuple[Figure, Axes]:
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


def _add_legend(axes: Axes) -> None:
    """Beside the plot; the figure grows with long labels."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    short = [_shorten(label) for label in labels]
    place: Any = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
    axes.legend(handles, short, fontsize=8, frameon=False, **place)
    figure = axes.get_figure()
    if isinstance(figure, Figure):
        longest = max(len(label) for label in short)
        figure.set_figwidth(figure.get_figwidth() + LETTER_IN * max(0, longest - 16))


def _shorten(label: str) -> str:
    """Cut a long label in the middle, where options of one tracker differ least."""
    return label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 20]}...{label[-17:]}"


def figure_bytes(figure: Figure, kind: str, dpi: int = 160) -> bytes:
    """The figure as `png`, `pdf` or `svg`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=dpi)
    return buffer.getvalue()


def as_data_url(figure: Figure) -> str:
    """The figure as an SVG that a page can hold in itself."""
    encoded = base64.b64encode(figure_bytes(figure, "svg")).decode()
    return f"data:image/svg+xml;base64,{encoded}"


def save_plots(figures: Mapping[str, Figure], folder: Path) -> None:
    """Write every figure as PNG and PDF; raises OutputError."""
    for name, figure in figures.items():
        for kind in ("png", "pdf"):
            atomic_write(folder / f"{name}.{kind}", figure_bytes(figure, kind))
