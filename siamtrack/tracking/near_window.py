"""The near window: a smaller search window for a target that is steady.

Most targets move by a fraction of their size from frame to frame. The middle of the search window
then shows all that is needed, in about half of the network's time. Now and then, and whenever the
target moves fast or is not clearly seen, the tracker looks at the whole window.

Both windows have the same scale, and the cells of the near response are the middle ones of the
whole response.
"""

from __future__ import annotations

from siamtrack.geometry import center_step, context_side
from siamtrack.models.config import NetworkConfig
from siamtrack.tracking.reading import Reading
from siamtrack.types import FloatArray

STEADY_PEAK = 0.5
"""Lowest response of the online filter in the last frame; raising it takes more whole windows."""

STEADY_MOTION = 0.1
"""Largest motion of late, from frame to frame, in sides of the exemplar window, which is twice as
wide as a square target. Raising it looks at fewer whole windows, and sees less of targets that
speed up."""

MARGIN = 0.1
"""Least distance from the target to the border of the near window, in the same unit."""

CLEAR_PEAK = 0.4
"""Lowest response of the online filter at the place that is taken in a near window; below it the
whole window is looked at, too."""

WHOLE_FRAMES = 4
"""Frames in which the whole window is looked at after a look-alike was seen (a second peak of the
filter, above `DISTRACTOR_RATIO` of the first), or the target was moved by hand."""

_MOTION_DECAY = 0.8  # a motion counts less by this factor from frame to frame
_HIGHER_ELSEWHERE = 0.05  # by how much the response may be higher at another place


def motion_of_late(
    motion: float, before_xywh: FloatArray, now_xywh: FloatArray, config: NetworkConfig
) -> float:
    """`motion` after one more frame: its running maximum, in sides of the exemplar window.

    `before_xywh` and `now_xywh` are the boxes of two frames, (4,) frame px.
    """
    _, _, w, h = before_xywh.tolist()
    side = float(context_side(w, h, config.context_amount))
    return max(center_step(before_xywh, now_xywh) / side, _MOTION_DECAY * motion)


def is_steady(
    filter_peak: float, motion: float, box_xywh: FloatArray, config: NetworkConfig
) -> bool:
    """Whether a target was clearly seen, has hardly moved of late and fits into the near window.

    `filter_peak` is the online filter's response in the last frame, `box_xywh` the box in it.
    """
    if filter_peak < STEADY_PEAK or motion > STEADY_MOTION:
        return False
    _, _, w, h = box_xywh.tolist()
    exemplar = float(context_side(w, h, config.context_amount))  # side of its window, frame px
    near = exemplar * config.near_size_px / config.exemplar_size_px
    return max(w, h) / 2 + MARGIN * exemplar <= near / 2


def is_clear(reading: Reading) -> bool:
    """Whether a near window shows the target: not at its border, nor weakly, nor at two places."""
    if not reading.filtered or reading.cells is None:
        return False
    ranked, mixed = reading.cells.ranked, reading.filtered[0].mixed  # (R, R)
    last = len(ranked) - 1
    row, column = divmod(int(ranked.argmax()), len(ranked))
    if not (0 < row < last and 0 < column < last):
        return False
    peak = float(mixed[row, column])
    return peak >= CLEAR_PEAK and float(mixed.max()) <= peak + _HIGHER_ELSEWHERE
