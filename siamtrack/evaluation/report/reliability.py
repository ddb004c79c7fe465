"""The reliability diagram of a score: what it promised against what was so."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from siamtrack.errors import OutputError
from siamtrack.evaluation.calibration import expected_calibration_error, reliability


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
