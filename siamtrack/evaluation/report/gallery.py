"""Failure gallery: what the tracker saw at the moments in which it lost its target.

One picture per sequence. For each collapse a row of frames with truth, box and search windows, and
under them the search window that decided with the network's response over it; at the bottom the
overlap over time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from tqdm import tqdm

from siamtrack.crops import Image, crop_window
from siamtrack.data.sequence import Dataset
from siamtrack.errors import ConfigError, DatasetError
from siamtrack.evaluation.report.plots import COLOURS, figure_bytes, style
from siamtrack.evaluation.report.strips import OFFSETS, collapses, view_around
from siamtrack.evaluation.watching import Watched, explain, watch
from siamtrack.files import write_atomically
from siamtrack.geometry import CropMap, FloatArray
from siamtrack.models.network import NetworkConfig
from siamtrack.tracking.tracker import Tracker

INDEX = "index.md"
COLLAPSES = 2
"""Rows of a picture: the longest collapses, in order of time."""
PANEL_IN = 2.5
TRUTH, BOX, WINDOW = "#3cdc5a", "#fa3c32", "#ffb000"


def write_gallery(
    tracker: Tracker,
    dataset: Dataset,
    out: Path,
    *,
    worst: int = 5,
    max_frames: int = 0,
    progress: bool = False,
) -> Path:
    """Track every sequence once and draw the worst ones.

    Args:
        tracker: to be watched.
        dataset: sequences; those whose target is not seen in two frames are left out.
        out: folder that gets a PNG per sequence and `index.md`.
        worst: how many sequences, those with the lowest success AUC.
        max_frames: of each sequence; 0 for all.
        progress: draw a bar on standard error.

    Returns:
        The index.

    Raises:
        ConfigError: no sequence is asked for.
        DatasetError: no sequence is left, or one cannot be read.
        OutputError: the folder cannot be written.
    """
    if worst < 1 or max_frames < 0:
        raise ConfigError(
            f"worst is {worst}, max_frames {max_frames}; give 1 or more and 0 or more"
        )
    config = tracker.engine.config
    seen = []
    for sequence in tqdm(dataset, total=len(dataset), unit="sequence", disable=not progress):
        if sequence.visible.any():
            watched = watch(tracker, sequence, max_frames)
            if not np.isnan(watched.overlaps).all():
                seen.append(watched)
    if not seen:
        raise DatasetError(
            f"{dataset.spec} shows no target in two frames; give sequences with truth"
        )
    seen.sort(key=lambda watched: (watched.success_auc, watched.sequence.name))
    lines = [
        f"The {min(worst, len(seen))} worst of {len(seen)} sequences by success AUC. Green is the "
        "truth, red the tracker's box, orange what it looked at.",
        "",
        "| sequence | success AUC | AO | frames | what the numbers say |",
        "|---|---:|---:|---:|---|",
    ]
    for watched in seen[:worst]:
        name = f"{watched.sequence.name.replace('/', '_')}.png"
        write_atomically(out / name, figure_bytes(draw(watched, config), "png"))
        said = "; ".join(
            f"frame {watched.first + index}: {explain(watched, index, config)}"
            for index in moments(watched.overlaps)
        )
        lines.append(
            f"| [{watched.sequence.name}]({name}) | {watched.success_auc:.3f} "
            f"| {watched.average_overlap:.3f} | {len(watched.results)} | {said} |"
        )
    write_atomically(out / INDEX, "\n".join(lines) + "\n")
    return out / INDEX


def moments(overlaps: FloatArray) -> list[int]:
    """First frames of the longest collapses in order; the worst frame where nothing collapses.

    Args:
        overlaps: (N,) NaN where a frame does not count; at least one does.
    """
    longest = sorted(collapses(overlaps), key=lambda found: -found[1])[:COLLAPSES]
    return sorted(start for start, _ in longest) or [int(np.nanargmin(overlaps))]


def draw(watched: Watched, config: NetworkConfig) -> Figure:
    """The picture of a sequence.

    Args:
        watched: one pass.
        config: of the tracker's network.

    Raises:
        DatasetError: a frame cannot be read.
    """
    rows, columns = moments(watched.overlaps), len(OFFSETS)
    size = (PANEL_IN * columns, PANEL_IN * (1.85 * len(rows) + 0.75))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(2 * len(rows) + 1, columns, height_ratios=[3, 4] * len(rows) + [3])
    for row, moment in enumerate(rows):
        shown = sorted({int(np.clip(moment + o, 1, len(watched.results) - 1)) for o in OFFSETS})
        images = watched.sequence.iter_frames([watched.first + index for index in shown])
        for column, (index, image) in enumerate(zip(shown, images, strict=True)):
            _frame(figure.add_subplot(grid[2 * row, column]), image, watched, index)
            axes = figure.add_subplot(grid[2 * row + 1, column])
            _window(axes, image, watched, index, config)
    _overlaps(figure.add_subplot(grid[-1, :]), watched, rows)
    names = {"truth": TRUTH, "tracker": BOX, "search windows": WINDOW}
    figure.legend(
        handles=[Line2D([], [], color=colour, label=name) for name, colour in names.items()],
        loc="outside upper right",
        ncols=len(names),
        frameon=False,
        fontsize=8,
    )
    figure.suptitle(
        f"{watched.sequence.name}, success AUC {watched.success_auc:.3f}; "
        f"frame {watched.first + rows[0]}: {explain(watched, rows[0], config)}",
        fontsize=10,
        ha="left",
        x=0.01,
    )
    return figure


def _frame(axes: Axes, image: Image, watched: Watched, index: int) -> None:
    """The part of the frame around truth, box and windows."""
    sight = watched.sights[index]
    truth, box = watched.truth(index), watched.box(index)
    windows = [_square(m) for m in sight.maps] if sight else []
    boxes = [b for b in (truth, box, *windows[:1]) if np.isfinite(b).all()]
    left, top, right, bottom = view_around(boxes, (image.shape[1], image.shape[0]))
    _show(axes, image[top:bottom, left:right], (left, right, bottom, top))
    for window in windows:
        _rectangle(axes, window, WINDOW, "--")
    _rectangle(axes, truth, TRUTH)
    _rectangle(axes, box, BOX)
    overlap, result = watched.overlaps[index], watched.results[index]
    counted = "absent" if np.isnan(overlap) else f"IoU {overlap:.2f}"
    axes.set_title(f"frame {watched.first + index}, {counted}, {result.status}", fontsize=8)


def _window(axes: Axes, image: Image, watched: Watched, index: int, config: NetworkConfig) -> None:
    """The search window that decided, as the network saw it, under its response."""
    sight, box = watched.sights[index], watched.box(index)
    if sight is None:
        axes.set_visible(False)
        return
    number = sight.deciding(box)
    crop_map = sight.maps[number]
    size = crop_map.size_px
    crop = crop_window(image, _square(crop_map), (size, size), fill_bgr=watched.fill_bgr)
    _show(axes, crop, (0, size, size, 0))
    scores = sight.scores(number)
    half = len(scores) * config.total_stride / 2
    reach = (size / 2 - half, size / 2 + half)
    relative = (scores - scores.min()) / max(float(np.ptp(scores)), 1e-12)
    axes.imshow(
        relative, cmap="turbo", alpha=0.1 + 0.55 * relative, extent=(*reach, *reach[::-1]), vmin=0
    )
    axes.set(xlim=(0, size), ylim=(size, 0))
    _rectangle(axes, crop_map.to_crop(watched.truth(index)), TRUTH)
    _rectangle(axes, crop_map.to_crop(box), BOX)
    which = f", window {number + 1} of {len(sight.maps)}" if len(sight.maps) > 1 else ""
    axes.set_title(f"response up to {scores.max():.2f}{which}", fontsize=8)


def _square(crop_map: CropMap) -> FloatArray:
    side = crop_map.size_px * crop_map.scale
    return np.array([*crop_map.origin_xy, side, side])


def _show(axes: Axes, image: Image, extent: tuple[float, float, float, float]) -> None:
    axes.imshow(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), extent=extent)
    axes.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])


def _rectangle(axes: Axes, box: FloatArray, colour: str, line: str = "-") -> None:
    if np.isfinite(box).all():
        corner = (float(box[0]), float(box[1]))
        axes.add_patch(
            Rectangle(corner, box[2], box[3], fill=False, edgecolor=colour, lw=1.4, ls=line)
        )


def _overlaps(axes: Axes, watched: Watched, rows: Sequence[int]) -> None:
    """Overlap and score over time, the collapses marked."""
    style(axes, "", "frame", "")
    frames = watched.first + np.arange(len(watched.results))
    scores = [result.score for result in watched.results]
    axes.plot(frames, scores, color="0.7", linewidth=0.8, label="score")
    axes.plot(frames, watched.overlaps, color=COLOURS[1], linewidth=1.3, label="overlap")
    lost = np.array([result.status == "lost" for result in watched.results])
    axes.fill_between(frames, 0, 1, where=lost, color="0.92", linewidth=0, label="status lost")
    for moment in rows:
        axes.axvline(watched.first + moment, color=BOX, linewidth=1, linestyle="--")
    axes.set(xlim=(frames[0], frames[-1]), ylim=(0, 1))
    axes.legend(fontsize=7, frameon=False, loc="upper right", ncols=3)
