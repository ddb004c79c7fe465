"""An honest word on whether the target is still there: a calibrated score and a status."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import ArrayLike

from siamtrack.crops import check_frame, crop_square
from siamtrack.engines.base import Engine, Exemplar, Response
from siamtrack.errors import InvalidFrameError, NotInitializedError
from siamtrack.geometry import CropMap, context_side, iou, keep_in_frame, parse_first_box
from siamtrack.tracking.box_correction import NEUTRAL, Framing, framing_of
from siamtrack.tracking.decode import APART, Candidate, calibrated_score, localiser_for
from siamtrack.tracking.options import TrackerOptions
from siamtrack.tracking.redetection import NO_DOUBT, Budget, Doubt, count_close, next_windows
from siamtrack.tracking.result import Result, Status
from siamtrack.types import FloatArray, Image

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Presence:
    """The score's memory: hysteresis between tracked, uncertain and lost.

    Attributes:
        status: what the last frame was called.
        against: frames in a row, up to now, whose score spoke for loss.
        in_favour: frames in a row, up to now, whose score spoke for the target.
    """

    status: Status = "tracked"
    against: int = 0
    in_favour: int = 0

    def after(self, score: float, options: TrackerOptions) -> Presence:
        """The state after one more frame."""
        against = self.against + 1 if score < options.lost_below else 0
        in_favour = self.in_favour + 1 if score >= options.tracked_above else 0
        return Presence(self._status(against, in_favour, options), against, in_favour)

    def _status(self, against: int, in_favour: int, options: TrackerOptions) -> Status:
        if self.status == "lost":
            return "tracked" if in_favour >= options.found_after else "lost"
        if against >= options.lost_after:
            return "lost"
        return "tracked" if in_favour > 0 else "uncertain"


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


_SIMILARITY_RATE = 0.05  # of the running mean: about the last twenty frames


class Tracker:
    """Follows one target.

    The engine holds the network and is only read, so trackers on one engine never affect each
    other. The same frames always give the same boxes.

    Example:
        >>> tracker = siamtrack.load()                              # doctest: +SKIP
        >>> tracker.init(first_frame, box=(120, 80, 60, 90))        # doctest: +SKIP
        >>> tracker.update(next_frame).box                          # doctest: +SKIP
    """

    def __init__(
        self, engine: Engine, options: TrackerOptions, budget: Budget | None = None
    ) -> None:
        """Make a tracker; `siamtrack.load` is the short way.

        Args:
            engine: runs the network.
            options: `BoxHeadOptions` or `ScalePyramidOptions`, which decides the loop.
            budget: shared by the trackers of one video; None for one of `options.budget_ms`.
        """
        self.engine, self.options = engine, options
        if budget is None and options.budget_ms > 0:
            budget = Budget(options.budget_ms / 1e3)
        self.budget = budget
        self._localiser = localiser_for(engine.config, options)
        self._state: TrackState | None = None

    @property
    def state(self) -> TrackState | None:
        """What is remembered, None before `init`; a snapshot that later frames do not change."""
        return self._state

    def resume(self, state: TrackState) -> None:
        """Go on from a state that this tracker had."""
        self._state = state

    @property
    def initialised(self) -> bool:
        """Whether there is a target."""
        return self._state is not None

    def reset(self) -> None:
        """Forget the target."""
        self._state = None

    def init(self, frame_bgr: Image, box: Sequence[float] | ArrayLike) -> Result:
        """Start on a target; whatever was tracked before is forgotten.

        Args:
            frame_bgr: uint8 (H, W, 3) BGR; grey and BGRA frames are converted.
            box: x, y, w, h in px, 0-based; what sticks out of the frame is clipped.

        Returns:
            The clipped box, with score 1.

        Raises:
            InvalidFrameError: not a frame, see `check_frame`.
            InvalidBoxError: not a box in this frame, see `parse_first_box`.
        """
        frame = check_frame(frame_bgr)
        frame_wh = (frame.shape[1], frame.shape[0])
        target = parse_first_box(box, frame_wh)
        blue, green, red, _ = cv2.mean(frame)
        fill_bgr = (blue, green, red)
        config = self.engine.config
        side = float(context_side(target[2], target[3], config.context_amount))
        centre = target[:2] + target[2:] / 2
        crop, crop_map = crop_square(
            frame, centre, side, config.exemplar_size_px, fill_bgr=fill_bgr
        )
        exemplar = self.engine.embed_exemplar([crop], crop_map.to_crop(target)[None])
        state = TrackState(exemplar, target, frame_wh, fill_bgr, Presence())
        self._state = replace(state, framing=self._framing(frame, state))
        return Result(_as_tuple(target), 1.0, "tracked")

    def update(self, frame_bgr: Image) -> Result:
        """Find the target in the next frame.

        Args:
            frame_bgr: as in `init`. A frame of another size but the same shape is taken for the
                same scene at another resolution.

        Raises:
            NotInitializedError: `init` was not called.
            InvalidFrameError: not a frame, or one of another shape than the last.
        """
        with self.budget.frame() if self.budget else nullcontext():
            crops, maps = self.look(frame_bgr)
            return self.conclude(self.engine.track(self.exemplar, crops), maps)

    @property
    def exemplar(self) -> Exemplar:
        """The target as the network sees it.

        Raises:
            NotInitializedError: `init` was not called.
        """
        return self._known().exemplar

    def look(self, frame_bgr: Image) -> tuple[list[Image], list[CropMap]]:
        """First half of `update`: cut the search windows that the network is to see.

        Whoever runs several trackers puts their crops into one batch and hands every tracker its
        part of the response with `conclude`.

        Raises:
            NotInitializedError, InvalidFrameError: see `update`.
        """
        state = self._known()
        frame = check_frame(frame_bgr)
        frame_wh = (frame.shape[1], frame.shape[0])
        if frame_wh != state.frame_wh:
            self._state = state = rescaled(state, frame_wh)
        size = self.engine.config.search_size_px
        cut = [
            crop_square(frame, centre, side, size, fill_bgr=state.fill_bgr)
            for centre, side in [*self._near(state), *self._elsewhere(state)]
        ]
        return [crop for crop, _ in cut], [crop_map for _, crop_map in cut]

    def conclude(self, response: Response, maps: list[CropMap]) -> Result:
        """Second half of `update`: take the network's response and move on.

        Args:
            response: to the crops of `look`, in order.
            maps: of `look`.
        """
        state = self._known()
        response = state.framing.undone(response)
        near = self._localiser.windows
        here = self._localiser.locate(response[:near], maps[:near], state.box_xywh)
        close = near + count_close(maps[0], maps[near:])
        beyond = response[near:close]
        other = self._localiser.scan(beyond, maps[near:close], state.box_xywh, state.similarity)
        found = other if other is not None and self._prefers(other, here, state) else here
        jumped, score = found is other, calibrated_score(found, self.options)
        if not math.isfinite(sum(found.box_xywh.tolist())):
            logger.warning("the network returned %s; the last box is kept", found.box_xywh.tolist())
            found, score = found._replace(box_xywh=state.box_xywh), 0.0
        before, presence = state.presence.status, state.presence.after(score, self.options)
        stay = before == "lost" and not self._localiser.trusts(found, state.similarity)
        box = state.box_xywh if stay else found.box_xywh
        box = keep_in_frame(box, state.frame_wh)
        similarity = found.similarity if state.seen is None else state.similarity
        if presence.status == "tracked" and not state.doubt.frames:
            similarity += _SIMILARITY_RATE * (found.similarity - similarity)
        doubt = state.doubt.after(
            before,
            presence.status,
            score,
            jumped=jumped,
            frames=self._localiser.verify_frames,
        )
        scanned, nominee = 0, None
        if presence.status == "lost" or doubt.frames:
            scanned, nominee = state.scanned, state.nominee_xy
            if len(maps) > near:
                scanned += len(maps) - near - (nominee is not None)
                nominee = self._localiser.nominate(response[close : len(maps)], maps[close:])
        self._state = replace(
            state,
            box_xywh=box,
            presence=presence,
            doubt=doubt,
            similarity=similarity,
            scanned=scanned,
            nominee_xy=nominee,
            seen=found,
        )
        return Result(_as_tuple(box), score, presence.status)

    def _prefers(self, other: Candidate, near: Candidate, state: TrackState) -> bool:
        """Whether the box goes to a place elsewhere, of a target that is lost or in doubt."""
        here, there = (calibrated_score(one, self.options) for one in (near, other))
        if state.presence.status == "lost":
            return there > here
        apart = bool(iou(other.box_xywh, near.box_xywh) < APART)
        return apart and self._localiser.overrules(there, max(here, state.doubt.standing))

    def _framing(self, frame: Image, state: TrackState) -> Framing:
        """How the network frames the target, seen on the first frame."""
        share = self._localiser.framing
        if not share:
            return NEUTRAL
        ((_, side),) = self._near(state)
        return framing_of(
            self.engine,
            state.exemplar,
            frame,
            state.box_xywh,
            side_px=side,
            fill_bgr=state.fill_bgr,
            share=share,
        )

    def _near(self, state: TrackState) -> list[tuple[FloatArray, float]]:
        """Centre and side of the windows around the last box."""
        centre = state.box_xywh[:2] + state.box_xywh[2:] / 2
        return [(centre, side) for side in self._localiser.window_sides(state.box_xywh[2:])]

    def _elsewhere(self, state: TrackState) -> list[tuple[FloatArray, float]]:
        """The next windows of the scan for a target that is lost or in doubt; none otherwise."""
        count = self._localiser.redetect_windows
        if state.presence.status != "lost" and not state.doubt.frames:
            return []
        if self.budget:
            count = self.budget.grant(count)
        if not count:
            return []
        ((centre, side),) = self._near(state)
        return next_windows(
            centre,
            side,
            state.frame_wh,
            scanned=state.scanned,
            nominee_xy=state.nominee_xy,
            count=count,
        )

    def _known(self) -> TrackState:
        if self._state is None:
            raise NotInitializedError(
                "the tracker has no target yet; call init(frame, box) with the first frame before "
                "update(frame)"
            )
        return self._state


def _as_tuple(box_xywh: FloatArray) -> tuple[float, float, float, float]:
    x, y, w, h = box_xywh.tolist()
    return x, y, w, h
