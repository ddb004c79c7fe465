"""The demo on one page: a contact sheet of frames over the curves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from siamtrack.demo.history import History
from siamtrack.errors import OutputError
from siamtrack.video.draw import STATUS_BGR

Image = NDArray[np.uint8]

_COLUMNS = 4
_WIDTH_IN, _CURVES_IN = 15.0, 3.0
_GROUND, _INK = "#191b1e", "#e8e8e6"


def save_sheet(
    path: Path, pictures: Sequence[tuple[float, Image]], history: History, fps: float
) -> None:
    """Write the contact sheet as PNG; an older file is replaced only by a whole new one.

    Args:
        path: where to.
        pictures: time in seconds and uint8 (H, W, 3) BGR frame, in the order of the film.
        history: what the curves show.
        fps: frames per second of the film.

    Raises:
        OutputError: it cannot be written.
    """
    rows = -(-len(pictures) // _COLUMNS)
    height, width = pictures[0][1].shape[:2]
    pictures_in = rows * _WIDTH_IN / _COLUMNS * height / width
    total_in = pictures_in + _CURVES_IN
    figure = Figure(figsize=(_WIDTH_IN, total_in), facecolor=_GROUND)
    cell_w, cell_h = 1 / _COLUMNS, pictures_in / total_in / rows
    for number, (time_s, image) in enumerate(pictures):
        row, column = divmod(number, _COLUMNS)
        corner = column * cell_w + 0.002, 1 - (row + 1) * cell_h + 0.002
        cell = figure.add_axes((*corner, cell_w - 0.004, cell_h - 0.004))
        cell.axis("off")
        cell.imshow(image[..., ::-1], interpolation="antialiased")
        cell.text(
            0.985, 0.03, f"{time_s:.1f} s", transform=cell.transAxes, ha="right", color=_INK,
            fontsize=9, bbox={"facecolor": "#00000099", "edgecolor": "none", "pad": 2.5},
        )  # fmt: skip
    share = _CURVES_IN / total_in
    _plot(figure.add_axes((0.045, 0.2 * share, 0.94, 0.62 * share)), history, fps)
    part_path = path.with_name(f".{path.name}.part")
    try:
        figure.savefig(part_path, format="png", dpi=110, facecolor=_GROUND)
        os.replace(part_path, path)
    except OSError as error:
        part_path.unlink(missing_ok=True)
        raise OutputError(
            f"{path} cannot be written ({error.strerror}); choose another folder"
        ) from error


def _plot(axes: Axes, history: History, fps: float) -> None:
    """Overlap, score and hidden share over time."""
    time_s = np.arange(len(history.ious)) / fps
    axes.set_facecolor(_GROUND)
    hidden = 1 - np.array(history.visible)
    axes.fill_between(
        time_s, hidden, color="#5a5f66", linewidth=0, label="hidden share of the target"
    )
    axes.plot(time_s, history.ious, color=_INK, linewidth=1.3, label="overlap with the truth (IoU)")
    tracked = "#{2:02x}{1:02x}{0:02x}".format(*STATUS_BGR["tracked"])
    axes.plot(time_s, history.scores, color=tracked, linewidth=1.8, label="score of the tracker")
    axes.set(xlim=(0, max(time_s[-1], 1 / fps)), ylim=(0, 1.03), xlabel="time in s")
    axes.set_title(
        f"mean IoU {history.mean_iou:.3f}, above 0.5 in {history.success_rate:.0%} of the frames",
        color=_INK, loc="left", fontsize=12,
    )  # fmt: skip
    axes.legend(
        ncols=3, loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, labelcolor=_INK
    )
    axes.tick_params(colors=_INK)
    axes.xaxis.label.set_color(_INK)
    axes.grid(alpha=0.15)
    for spine in axes.spines.values():
        spine.set_color("#5a5f66")
