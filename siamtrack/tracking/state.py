"""What a tracker remembers from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from siamtrack.engines.base import Exemplar
from siamtrack.errors import InvalidFrameError
from siamtrack.geometry import FloatArray
from siamtrack.tracking.doubt import NO_DOUBT, Doubt
from siamtrack.tracking.framing import NEUTRAL, Framing
from siamtrack.tracking.localiser import Candidate
from siamtrack.tracking.presence import Presence

_SAME_ASPECT = 0.02  # relative difference of aspect up to which a new frame size is a rescaling


@dataclass(frozen=True, slots=True)
class TrackState:
    """All that a tracker remembers of its target; replaced, never changed, from frame to frame.

    Attributes:
        exemplar: the target as the network sees it.
        box_xywh: (4,) where it was last, frame px; may stick out of the frame.
        frame_wh: size of the last frame, px.
        fill_bgr: mean colour of the first frame, shown to the network outside the frame.
        presence: memory of the score.
        framing: how the network's boxes differ from the one that was given.
        doubt: of what was found after a loss.
        similarity: what the target's embedding had in common with the exemplar's while tracked.
        scanned: windows of the scan's grid looked at since the target was lost.
        nominee_xy: the place, frame px, that the scan's coarse windows nominated for a close look.
        seen: what the last score is made of; None on the first frame.
    """

    exemplar: Exemplar
    box_xywh: FloatArray
    frame_wh: tuple[int, int]
    fill_bgr: tuple[float, float, float]
    presence: Presence
    framing: Framing = NEUTRAL
    doubt: Doubt = NO_DOUBT
    similarity: float = 1.0
    scanned: int = 0
    nominee_xy: tuple[float, float] | None = None
    seen: Candidate | None = None


def rescaled(state: TrackState, frame_wh: tuple[int, int]) -> TrackState:
    """The same state in a frame of another resolution.

    Raises:
        InvalidFrameError: the frame has another shape.
    """
    ratio = np.array(frame_wh, dtype=np.float64) / np.array(state.frame_wh)
    if abs(ratio[0] / ratio[1] - 1.0) > _SAME_ASPECT:
        was, now = "x".join(map(str, state.frame_wh)), "x".join(map(str, frame_wh))
        raise InvalidFrameError(
            f"frame is {now}, the target was tracked in {was}, which has another shape; give "
            "frames of one size, or call init(frame, box) again"
        )
    box = state.box_xywh * np.tile(ratio, 2)
    return replace(state, box_xywh=box, frame_wh=frame_wh, nominee_xy=None)
