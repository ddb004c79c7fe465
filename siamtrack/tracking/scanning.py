"""Looking for a lost target all over the frame, a few windows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from siamtrack.geometry import FloatArray


def scan_centres(
    centre_xy: FloatArray, side_px: float, frame_wh: tuple[int, int]
) -> list[FloatArray]:
    """Centres of windows that cover the frame, the nearest to a point first.

    Neighbours overlap by half, so that a target no larger than a quarter of a window is whole in
    one of them.

    Args:
        centre_xy: (2,) where the target was last seen, frame px.
        side_px: side of a window.
        frame_wh: frame size, px.
    """
    columns, rows = (list(_stops(side_px, length)) for length in frame_wh)
    grid = np.array([(x, y) for y in rows for x in columns])
    order = np.argsort(np.hypot(*(grid - centre_xy).T), kind="stable")
    return [grid[k] for k in order]


def _stops(side_px: float, length: int) -> Iterator[float]:
    """Window centres along one axis: evenly spread, half a window apart or less."""
    span = max(length - side_px, 0.0)
    count = int(np.ceil(span / (side_px / 2))) + 1
    first = length / 2 - span / 2
    for k in range(count):
        yield first + (span * k / (count - 1) if count > 1 else 0.0)
