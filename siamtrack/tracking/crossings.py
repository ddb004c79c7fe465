"""Which of two targets is which after they crossed: by their looks, and by how they moved before.

While one object hides another that looks like it, both trackers may follow the one in front, and
afterwards go on with the wrong one. Appearance decides where it can. Where the filters cannot tell
the two apart, the objects are taken to have gone on as they went before they touched, as in
data association (Bar-Shalom 1988). All of it is relative between the two, so that a moving camera
does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from siamtrack.engines.base import Response
from siamtrack.geometry import CropMap
from siamtrack.models.config import NetworkConfig
from siamtrack.tracking.decode import cell_centers
from siamtrack.tracking.near_window import WHOLE_FRAMES
from siamtrack.tracking.online_filter import OnlineFilter
from siamtrack.tracking.tracker import TrackState
from siamtrack.types import FloatArray

TOUCH_IOU = 0.05
"""Boxes that overlap by less are apart."""

MIX_UP_IOU = 0.3
"""Targets may have been mixed up if their boxes overlapped by more, or did so before they were
assigned."""

HISTORY = 12
"""Frames before the touch from which the velocity is measured."""

CLEAR_LOOKS = 0.5
"""Appearance decides alone if the filters prefer one assignment by this much; 2 is certain. Raising
it leaves more to the motion."""

CLEAR_MOTION = 0.6
"""Motion decides alone from this agreement on, which is that of half the error for one assignment
as for the other. Raising it leaves more in doubt."""

MOTION_FRAMES = 5
"""Frames after the crossing in which motion is asked: a prediction does not get better later."""

DOUBT_FRAMES = 60
"""Frames in which both targets are called uncertain after a crossing that was not decided."""

Verdict = Literal["same", "swapped", "unknown"]
"""Whether each of two targets has its own box, or that of the other."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """Two targets that touch, or did so and are not told apart yet; never changed.

    Offsets are from the center of the second target to that of the first, (2,) px.
    """

    before: tuple[TrackState, TrackState]  # in the last frame in which they were apart
    offset_xy: FloatArray  # in that frame
    velocity_xy: FloatArray | None  # its change per frame, px; None if unknown
    frames: int = 0  # since then
    mixed_up: bool = False  # whether they overlapped by more than `MIX_UP_IOU`
    looks: tuple[float, ...] = ()  # sum of `prefers_own_box` of both, per frame apart
    frames_apart: int = 0

    def step(self, overlap: float) -> Crossing:
        """The crossing one frame later; `overlap` is the IoU of the boxes, or of those claimed."""
        mixed_up = self.mixed_up or overlap > MIX_UP_IOU
        return replace(self, frames=self.frames + 1, mixed_up=mixed_up)

    def apart(self, looks: Sequence[float | None]) -> Crossing:
        """The crossing after one more frame apart, with `prefers_own_box` of both in it."""
        known = [one for one in looks if one is not None]
        new = (sum(known),) if len(known) == 2 else ()
        return replace(self, looks=self.looks + new, frames_apart=self.frames_apart + 1)

    def verdict(self, offset_xy: FloatArray) -> Verdict:
        """Decide between the two assignments of boxes to targets; `offset_xy` is that of now."""
        # 1. Appearance decides if it tells the two apart.
        looks = float(np.mean(self.looks)) if self.looks else 0.0
        if abs(looks) > CLEAR_LOOKS:
            return "same" if looks > 0 else "swapped"

        # 2. Agreement of the offset d with the one predicted, p: 1 if d = p, -1 if d = -p. The
        #    errors of the two assignments are |d - p| and |d + p|.
        if self.velocity_xy is None or self.frames_apart > MOTION_FRAMES:
            return "unknown"
        predicted = self.offset_xy + self.frames * self.velocity_xy
        agreement = 2 * float(offset_xy @ predicted)
        agreement /= max(float(offset_xy @ offset_xy + predicted @ predicted), 1e-9)

        # 3. Decide by both. Only what was to pass each other, and looks alike, is mixed up.
        evidence = agreement / CLEAR_MOTION + looks / CLEAR_LOOKS
        if evidence > 1:
            return "same"
        passing = float(self.offset_xy @ predicted) < 0
        return "swapped" if evidence < -1 and passing and self.looks else "unknown"


def start_crossing(
    before: tuple[TrackState, TrackState],
    centers_xy: tuple[Sequence[FloatArray], Sequence[FloatArray]],
) -> Crossing:
    """Two targets that begin to touch.

    `centers_xy` are the last centers of both, (2,) px, up to the last frame.
    """
    frames = min(len(centers_xy[0]), len(centers_xy[1]))
    first, second = (np.array(list(centers)[-frames:]) for centers in centers_xy)  # (frames, 2)
    offsets = first - second

    # Velocity: median of the changes over half of the frames. One bad box does not spoil it.
    half, velocity = frames // 2, None
    if half >= 2:
        velocity = np.median(offsets[half:] - offsets[:-half], axis=0) / half
    return Crossing(before, offsets[-1], velocity)


def prefers_own_box(
    online_filter: OnlineFilter | None,
    response: Response,
    crop_map: CropMap,
    own_xywh: FloatArray,
    other_xywh: FloatArray,
    config: NetworkConfig,
) -> float | None:
    """Response of a target's filter at its own box, minus that at another target's box.

    None without a filter, or unless both boxes lie wholly inside the window.

    Args:
        online_filter: from before the crossing: it has not learned what hid the target.
        response: to one window of the target.
        crop_map: of this window.
        own_xywh: (4,) box of the target.
        other_xywh: (4,) box of the other target.
        config: of the network.
    """
    if online_filter is None or response.features is None:
        return None
    filtered = online_filter.respond(response.features[0]).mixed  # (R, R)
    centers = cell_centers(len(filtered), config.total_stride, crop_map.size_px)
    peaks = []
    for box in (own_xywh, other_xywh):
        x, y, w, h = crop_map.to_crop(box).tolist()
        if min(x, y) < 0 or max(x + w, y + h) > crop_map.size_px:
            return None
        # Best of 3 x 3 cells: targets are seldom centered on one.
        column, row = (int(np.abs(centers - c).argmin()) for c in (x + w / 2, y + h / 2))
        near = filtered[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        peaks.append(float(near.max()))
    return peaks[0] - peaks[1]


def exchange_boxes(
    states: tuple[TrackState, TrackState], before: tuple[TrackState, TrackState]
) -> tuple[TrackState, TrackState]:
    """Give each of two targets the other's box and status; what it looks like is from `before`."""
    first, second = (
        replace(
            theirs, exemplar=own.exemplar, fill_bgr=own.fill_bgr, similarity=own.similarity,
            box_correction=own.box_correction, online_filter=own.online_filter,
            whole_frames=WHOLE_FRAMES,
            earlier=tuple(  # counted as the frames of the box
                one._replace(number=one.number + theirs.frames - now.frames)
                for one in own.earlier
            ),
        )
        for theirs, now, own in zip(reversed(states), states, before, strict=True)
    )  # fmt: skip
    return first, second
