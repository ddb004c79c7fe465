"""Single-target tracker: crop, run the network, decode, decide, update the state."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike

from siamtrack.crops import check_frame, crop_square
from siamtrack.engines.base import Engine, Exemplar, Response, takes_any_size
from siamtrack.errors import (
    ConfigError,
    EngineError,
    InvalidBoxError,
    InvalidFrameError,
    NotInitializedError,
    shown,
)
from siamtrack.geometry import (
    CropMap,
    center_step,
    check_sides,
    clip_to_frame,
    context_side,
    keep_hidden_part,
    keep_in_frame,
    parse_box,
    parse_first_box,
    relative_step,
)
from siamtrack.tracking.box_correction import (
    NO_CORRECTION,
    SHIFTS,
    BoxCorrection,
    measure_box_correction,
)
from siamtrack.tracking.cuts import (
    FRAMES_AFTER_CUT,
    FRAMES_TO_CONFIRM,
    SAME_COLORS,
    SIMILARITY_AFTER_CUT,
    color_histogram,
    color_likeness,
    is_cut,
)
from siamtrack.tracking.decode import (
    Prediction,
    calibrated_score,
    cell_centers,
    decode,
    second_peak,
    sigmoid,
    to_cells,
    window_sides,
)
from siamtrack.tracking.look_alikes import (
    DOUBTFUL_FRAMES,
    LOOK_ALIKE_STEP,
    MOST_LOOK_ALIKES,
    NEARER,
    NOISE,
    SURE_PEAK,
    EarlierFrame,
    Refused,
    SharedFrame,
    crop_earlier,
    exclude_place,
    is_jump,
    keep_frame,
    recent,
    shows_look_alike,
)
from siamtrack.tracking.near_window import WHOLE_FRAMES, is_clear, is_steady, motion_of_late
from siamtrack.tracking.old_names import OldTrackerNames
from siamtrack.tracking.online_filter import (
    AUGMENTATIONS,
    DISTRACTOR_RATIO,
    UPDATE_INTERVAL,
    FilterResponse,
    OnlineFilter,
    augmented_window,
    center_in_crop,
    respond_each,
)
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions, TrackerOptions
from siamtrack.tracking.reading import Reading, Unread, read_each
from siamtrack.tracking.redetection import (
    ANYWHERE_AFTER,
    AROUND,
    FOLLOWED_PEAK,
    FOLLOWED_STEP,
    TimeBudget,
    Verification,
    Window,
    accept_redetection,
    best_coarse_center,
    count_fine,
    decode_redetection,
    is_reachable,
    next_grid_windows,
    next_verification,
    should_switch_target,
)
from siamtrack.tracking.result import Result, Status
from siamtrack.types import Float32Array, FloatArray, Image

logger = logging.getLogger(__name__)

_SAME_ASPECT = 0.02  # relative change of aspect up to which a new frame size is a rescaling
_LEAVING = 0.75  # part of a box inside the frame below which the target is leaving
_SLIVER = 0.25  # part of a first box inside the frame below which its user is warned

# A first box is flat if the cells of it and its margin hardly differ, in each color.
_FLAT_MARGIN = 0.25  # of the box's sides
_FLAT_CELLS = 16  # along each side
_FLAT_RANGE = 8
_FLAT_STD = 1.5

_SIMILARITY_RATE = 0.05  # of the running mean: about the last twenty frames


class Best(NamedTuple):
    """The preferred prediction of all windows of a frame."""

    found: Prediction
    switched: bool = False  # it is a searched-for target in another place
    promising: tuple[float, float] | None = None  # center of a place to look at again, frame px


@dataclass(frozen=True, slots=True)
class StatusFilter:
    """Hysteresis between tracked, uncertain and lost."""

    status: Status = "tracked"
    low_frames: int = 0  # consecutive frames with a score below lost_below
    high_frames: int = 0  # consecutive frames with a score of at least tracked_above

    def step(self, score: float, options: TrackerOptions) -> StatusFilter:
        """The filter after one more frame."""
        low = self.low_frames + 1 if score < options.lost_below else 0
        high = self.high_frames + 1 if score >= options.tracked_above else 0
        # A lost target needs several good frames in a row, any other several bad ones.
        status: Status
        if self.status == "lost":
            status = "tracked" if high >= options.found_after else "lost"
        elif low >= options.lost_after:
            status = "lost"
        else:
            status = "tracked" if high > 0 else "uncertain"
        return StatusFilter(status, low, high)


@dataclass(frozen=True, slots=True)
class TrackState:
    """Everything a tracker remembers; replaced in every frame, never changed."""

    exemplar: Exemplar
    box_xywh: FloatArray  # (4,) last box, frame px; may reach out of the frame
    frame_wh: tuple[int, int]  # size of the last frame, px
    fill_bgr: tuple[float, float, float]  # mean color of the first frame, used outside of frames
    status_filter: StatusFilter
    colors: Float32Array | None = None  # histogram of the first box
    box_correction: BoxCorrection = NO_CORRECTION  # measured on the first frame
    online_filter: OnlineFilter | None = None
    motion: float = 0.0  # of late, see `motion_of_late`
    whole_frames: int = 0  # frames left in which the whole window is looked at
    rival: float = 0.0  # second peak of the filter's first weights in the last whole window
    is_guess: bool = False  # the target is lost, and the box went along with what may be it
    frames: int = 0  # since the first one
    earlier: tuple[EarlierFrame, ...] = ()  # in which the target was seen for sure, newest first
    last_jump: int | None = None  # number of the frame in which the box jumped
    refused: tuple[Refused, ...] = ()  # places of look-alikes, newest first
    thumbnail: Float32Array | None = None  # of the last frame, to notice cuts
    cut_frames: int = 0  # frames left in which a cut is doubted
    lost_frames: int = 0  # since the status became lost
    verification: Verification | None = None  # of a recovered target
    similarity: float = 1.0  # running mean of the similarity to the exemplar while tracked
    grid_index: int = 0  # windows of the search grid visited since the target was lost
    refine_center_xy: tuple[float, float] | None = None  # best coarse cell of the last frame
    last_prediction: Prediction | None = None
    network: tuple[str, ...] = ()  # engine, device and weights of the exemplar; () if not known


class Tracker(OldTrackerNames):
    """Follows one target. Trackers may share one engine: it keeps nothing of a target.

    Example:
        >>> tracker = siamtrack.load()                              # doctest: +SKIP
        >>> tracker.init(first_frame, box=(120, 80, 60, 90))        # doctest: +SKIP
        >>> tracker.update(next_frame).box                          # doctest: +SKIP
    """

    def __init__(
        self, engine: Engine, options: TrackerOptions, budget: TimeBudget | None = None
    ) -> None:
        """Make a tracker; `siamtrack.load` is the short way.

        Args:
            engine: runs the network.
            options: for networks with a box head, or for those without.
            budget: shared by the trackers of one video; None for one of `options.budget_ms`.
        """
        if not isinstance(options, BoxHeadOptions | ScalePyramidOptions):
            kind = type(options).__name__
            raise TypeError(f"options are {kind}; give BoxHeadOptions or ScalePyramidOptions")
        if budget is None and options.budget_ms > 0:
            budget = TimeBudget(options.budget_ms / 1e3)
        self.engine, self.options, self.budget = engine, options, budget
        self._state: TrackState | None = None
        self._shared: SharedFrame | None = None  # the frame of this update
        # What was read and found in the last response, in which state: both halves of an update
        # need it.
        self._read: tuple[TrackState, Response, Reading | None] | None = None
        self._found: tuple[TrackState, Response, Best] | None = None

        # Only box heads can correct boxes and search elsewhere: SiamFC predicts no box, and its
        # responses cannot be compared between places.
        self._box_head: BoxHeadOptions | None = None
        self._local_count, self._verify_frames = 1, 0
        if isinstance(options, ScalePyramidOptions):
            self._local_count = options.scale_num
        else:
            self._box_head = options
            self._verify_frames = options.verify_frames if options.redetect_windows else 0

    @property
    def state(self) -> TrackState | None:
        """A snapshot for `set_state`, which later frames do not change; None before `init`."""
        return self._state

    def set_state(self, state: TrackState | None) -> None:
        """Continue from an earlier state of this tracker, or of one with the same network.

        States can be pickled and copied. None is the state before `init`.

        Raises:
            ConfigError: not a state, or one of other weights, of another engine or device.
        """
        if state is not None:
            self._check_state(state)
        self._state = state

    def _check_state(self, state: TrackState) -> None:
        need = "give what `state` of a tracker with the same weights and engine returned"
        if not isinstance(state, TrackState):
            raise ConfigError(f"state {shown(state)} is not a tracker's; {need}")
        try:
            made_by, box = state.network, parse_box(state.box_xywh)
            width, height = state.frame_wh
            fits = isinstance(state.exemplar, Exemplar) and min(width, height) > 0
            fits = fits and isinstance(state.status_filter, StatusFilter) and len(box) == 4
        except (AttributeError, InvalidBoxError, TypeError, ValueError) as error:
            raise ConfigError(
                f"the state is damaged or of another version ({error}); {need}"
            ) from error
        if not fits:
            raise ConfigError(f"the state is damaged or of another version; {need}")
        ours = _network_of(self.engine)
        if made_by and made_by != ours:
            raise ConfigError(
                f"the state comes from {_in_words(made_by)}, this tracker runs {_in_words(ours)}; "
                f"{need}"
            )

    def move_to(self, box: Sequence[float] | ArrayLike) -> None:
        """Continue as if the target had been tracked to `box` in the last frame.

        The next frame is searched around that box, at its size. Whatever was lost, searched for,
        verified or doubted is forgotten; exemplar and similarity stay.

        Args:
            box: x, y, w, h in px, 0-based; it may reach beyond the frame.

        Raises:
            NotInitializedError: `init` was not called.
            InvalidBoxError: not a box, or too small.
        """
        state, target = self._require_state(), parse_box(box)
        check_sides(target, state.frame_wh)
        self._state = replace(
            state, box_xywh=target, status_filter=StatusFilter(),
            whole_frames=WHOLE_FRAMES, cut_frames=0, lost_frames=0, is_guess=False, earlier=(),
            last_jump=None, refused=(), verification=None, grid_index=0, refine_center_xy=None,
        )  # fmt: skip

    @property
    def is_initialized(self) -> bool:
        """Whether there is a target."""
        return self._state is not None

    @property
    def exemplar(self) -> Exemplar:
        """The embedded target."""
        return self._require_state().exemplar

    def reset(self) -> None:
        """Forget the target."""
        self._state = None

    def init(self, frame_bgr: Image, box: Sequence[float] | ArrayLike) -> Result:
        """Start on a target; whatever was tracked before is forgotten.

        Args:
            frame_bgr: uint8 (H, W, 3) BGR; gray and BGRA frames are converted.
            box: x, y, w, h in px, 0-based; clipped to the frame.

        Returns:
            The clipped box, with score 1.

        Raises:
            InvalidFrameError: not a frame.
            InvalidBoxError: not a box in this frame, or too small.
            EngineError: the network cannot be run, or returned nothing that is finite.
        """
        frame = check_frame(frame_bgr)
        frame_wh = (frame.shape[1], frame.shape[0])
        target = parse_first_box(box, frame_wh)
        blue, green, red, _ = cv2.mean(frame)
        fill = (blue, green, red)

        # Embed the exemplar: the target with context.
        _warn_of_box(parse_box(box), target, frame)
        config = self.engine.config
        side = float(context_side(target[2], target[3], config.context_amount))
        center = target[:2] + target[2:] / 2
        crop, crop_map = crop_square(frame, center, side, config.exemplar_size_px, fill_bgr=fill)
        exemplar = self.engine.embed_exemplar([crop], crop_map.to_crop(target)[None])
        state = TrackState(
            exemplar, target, frame_wh, fill, StatusFilter(), color_histogram(frame, target),
            network=_network_of(self.engine),
        )  # fmt: skip
        if self._box_head:
            state = self._learn_first_frame(state, frame, self._box_head)
        self._state = state
        return Result(tuple(target.tolist()), 1.0, "tracked")

    def _learn_first_frame(
        self, state: TrackState, frame: Image, options: BoxHeadOptions
    ) -> TrackState:
        """Measure how the network's boxes differ from the given one, and start the filter."""
        if not (options.box_correction or options.online_filter):
            return state
        config, target = self.engine.config, state.box_xywh
        ((center, side),) = self._local_windows(state)
        size, stride = config.search_size_px, config.total_stride

        # 1. Plain windows for both, augmented ones for the filter; all in one batch.
        windows = [(center + np.array(shift) * side, side) for shift in SHIFTS]
        crops, maps = self._cut(frame, windows, state)
        centers = [crop_map.to_crop([*center, 0.0, 0.0])[:2] for crop_map in maps]
        for augmentation in AUGMENTATIONS if options.online_filter else ():
            crop, at = augmented_window(
                frame, target, augmentation, side_px=side, size_px=size, fill_bgr=state.fill_bgr
            )
            crops.append(crop)
            centers.append(at)
        response = self.engine.track(state.exemplar, crops)
        if not response.is_finite:
            raise EngineError(
                "the network returned values that are not finite on the first "
                "frame; the weights or graphs are damaged: get them again, or use another engine"
            )

        # 2. Learn from them.
        if options.box_correction:
            correction = measure_box_correction(
                response[: len(maps)], maps, target, state.frame_wh,
                stride_px=stride, share=options.box_correction,
            )  # fmt: skip
            state = replace(state, box_correction=correction)
        if options.online_filter:
            if response.features is None:
                raise EngineError(
                    f"the {self.engine.name} graph gives no search features, which the online "
                    "filter learns from; export it again with `siamtrack export --overwrite`, or "
                    "give online_filter=False"
                )
            at_cells = to_cells(centers, response.features.shape[-1], stride, size)
            online_filter = OnlineFilter.from_first_frame(response.features, at_cells)
            state = replace(state, online_filter=online_filter)
        return state

    def update(self, frame_bgr: Image) -> Result:
        """Find the target in the next frame.

        Args:
            frame_bgr: as in `init`. A frame of another size but the same aspect is taken for the
                same scene at another resolution.

        Raises:
            NotInitializedError: `init` was not called.
            InvalidFrameError: not a frame, or one of another aspect than the last.
        """
        with self.budget.frame() if self.budget else nullcontext():
            return self.update_from_response(*self.search(frame_bgr))

    def search(self, frame_bgr: Image) -> tuple[Response, list[CropMap]]:
        """The network's response to the windows that `update` looks at, and their maps."""
        frame = check_frame(frame_bgr)
        crops, maps = self.crop_search_windows(frame, near=True)
        response = self.engine.track(self.exemplar, crops)
        crops, whole = self.crop_whole_window(frame, response, maps)
        if crops:
            response, maps = self.engine.track(self.exemplar, crops), whole
        for crop_more in (self.crop_second_look, self.crop_third_look):
            crops, more = crop_more(frame, response, maps)
            if not crops:
                break
            response += self.engine.track(self.exemplar, crops)
            maps = [*maps, *more]
        for _ in range(MOST_LOOK_ALIKES):
            crops, more = self.crop_earlier_frames(response, maps)
            if not crops:
                break
            seen = self.engine.track(self.exemplar, crops)
            before, response = response, self.without_look_alike(response, maps, seen, more)
            if response is before:
                break
        return response, maps

    def crop_search_windows(
        self, frame_bgr: Image, shared: SharedFrame | None = None, *, near: bool = False
    ) -> tuple[list[Image], list[CropMap]]:
        """First half of `update`; `MultiTracker` batches the crops of several trackers.

        Args:
            frame_bgr: as in `update`.
            shared: the same frame, where other trackers look at it, too.
            near: look at the near window where that may do; then `crop_whole_window` is to be asked
                whether it did.

        Returns:
            Crops of one size, and their maps.
        """
        state = self._require_state()
        frame = check_frame(frame_bgr)
        frame_wh = (frame.shape[1], frame.shape[0])
        if frame_wh != state.frame_wh:
            state = rescale_state(state, frame_wh)

        # Notice cuts.
        self._shared = shared = shared or SharedFrame(frame)
        small = shared.thumbnail
        left = FRAMES_AFTER_CUT if is_cut(state.thumbnail, small) else max(state.cut_frames - 1, 0)
        # Forget what is of another shot, or long ago.
        earlier, refused = recent(state.earlier, state.frames), recent(state.refused, state.frames)
        if left == FRAMES_AFTER_CUT:
            earlier = ()
        if not earlier:
            refused = ()
        self._state = state = replace(
            state, thumbnail=small, cut_frames=left, earlier=earlier, refused=refused
        )

        # The near window suffices for a steady target.
        windows, config = self._local_windows(state), self.engine.config
        if near and self._looks_near(state):
            ((center, side),) = windows
            side *= config.near_size_px / config.search_size_px
            return self._cut(frame, [(center, side)], state, config.near_size_px)
        # Else windows around the last box first; elsewhere while it is lost or unverified.
        return self._cut(frame, [*windows, *self._redetection_windows(state)], state)

    def _looks_near(self, state: TrackState) -> bool:
        """Whether the next frame is looked at in the near window first."""
        found, options, config = state.last_prediction, self._box_head, self.engine.config
        if options is None or state.online_filter is None or found is None:
            return False
        if (state.frames + 1) % options.whole_window_every == 0:
            return False
        if state.whole_frames or state.cut_frames:
            return False
        if state.status_filter.status != "tracked" or state.verification is not None:
            return False
        smaller = takes_any_size(self.engine) and config.near_size_px < config.search_size_px
        return (
            smaller
            and is_steady(found.filter_peak, state.motion, state.box_xywh, config)
            and not _is_leaving(state)
        )

    def may_look_near(self, others_xywh: FloatArray) -> bool:
        """Whether the near window may do, with N other targets at (N, 4) boxes, frame px.

        It does not where it would show a part of one. The filter learns those that only the whole
        window shows when its update is due.
        """
        state, config = self._require_state(), self.engine.config
        ((center, side), *_) = self._local_windows(state)
        half = others_xywh[:, 2:] / 2
        away = np.abs(others_xywh[:, :2] + half - center)  # (N, 2)
        near_side = side * config.near_size_px / config.search_size_px
        if (away < half + near_side / 2).all(axis=1).any():
            return False
        is_due = (state.frames + 1) % UPDATE_INTERVAL == 0
        return not (is_due and (away < side / 2).all(axis=1).any())

    def crop_whole_window(
        self, frame: Image, response: Response, maps: Sequence[CropMap]
    ) -> tuple[list[Image], list[CropMap]]:
        """The whole search window, where the near one was cropped and does not show the target.

        `response` and `maps` are those of `crop_search_windows`; the response to the whole window
        takes their place. None is needed in most frames.
        """
        if not self._is_near(maps):
            return [], []
        reading = self._reading(response, maps)
        if reading is not None and is_clear(reading):
            return [], []
        state = self._require_state()
        return self._cut(frame, self._local_windows(state), state)

    def _is_near(self, maps: Sequence[CropMap]) -> bool:
        """Whether the maps are those of a near window."""
        return maps[0].size_px < self.engine.config.search_size_px

    def crop_second_look(
        self, frame: Image, response: Response, maps: Sequence[CropMap]
    ) -> tuple[list[Image], list[CropMap]]:
        """More windows of the same frame, if the filter does not see the target well enough.

        A target that the window's border cuts off is looked at again, centered. One that is seen
        nowhere is looked for in four windows around. `response` and `maps` are those of
        `crop_search_windows`, or of `crop_whole_window` where that looked again; the response to
        these windows is to be appended to theirs. None are needed in most frames, nor while the
        target is searched for in the whole frame.
        """
        state, box_head = self._require_state(), self._box_head
        if box_head is None or state.online_filter is None or self._is_searching(state):
            return [], []
        if self._is_near(maps):  # in which the target was clearly seen
            return [], []
        reading = self._reading(response, maps)
        if reading is None or not reading.filtered:
            return [], []
        ((center, side),) = self._local_windows(state)
        filtered = reading.filtered[0]
        cells = len(filtered.mixed)
        row, column = divmod(int(filtered.mixed.argmax()), cells)
        # Plain floats, which take a third of the time of arrays in every frame.
        cell_px, middle = self.engine.config.total_stride * maps[0].scale, (cells - 1) / 2
        offset_x, offset_y = (column - middle) * cell_px, (row - middle) * cell_px
        _, _, w, h = state.box_xywh.tolist()
        if filtered.mixed[row, column] < box_head.look_around_below:
            if _is_leaving(state):  # it is not to be found elsewhere
                return [], []
            centers = [center + np.array(shift) * side for shift in AROUND]
        elif abs(offset_x) + w / 2 > side / 2 or abs(offset_y) + h / 2 > side / 2:
            # The place that is taken may be another one than the peak, which is nearer.
            found = decode(
                reading.response[:1], maps[:1], state.box_xywh, self.engine.config, self.options,
                filtered, reading.cells,
            )  # fmt: skip
            if found.cell != (row, column):
                return [], []
            centers = [center + np.array([offset_x, offset_y])]
        else:
            return [], []
        return self._cut(frame, [(c, side) for c in centers], state)

    def crop_third_look(
        self, frame: Image, response: Response, maps: Sequence[CropMap]
    ) -> tuple[list[Image], list[CropMap]]:
        """One more window where a window of the second look shows something at its border.

        It is centered on the highest response around, if that is not yet high enough to be taken.
        """
        state, box_head = self._require_state(), self._box_head
        if box_head is None or len(maps) != 1 + len(AROUND) or self._is_searching(state):
            return [], []
        reading = self._reading(response, maps)
        if reading is None or not reading.filtered:
            return [], []
        mixed = np.stack([one.mixed for one in reading.filtered])  # (1 + 4, R, R)
        window, row, column = (int(k) for k in np.unravel_index(mixed.argmax(), mixed.shape))
        peak = mixed[window, row, column]
        if not window or not box_head.look_around_below <= peak <= box_head.look_around_accept:
            return [], []
        ((_, side),) = self._local_windows(state)
        stride, size = self.engine.config.total_stride, maps[window].size_px
        x, y = cell_centers(mixed.shape[-1], stride, size)[[column, row]]
        return self._cut(frame, [(maps[window].to_frame([x, y, 0.0, 0.0])[:2], side)], state)

    def crop_earlier_frames(
        self, response: Response, maps: Sequence[CropMap]
    ) -> tuple[list[Image], list[CropMap]]:
        """Windows of earlier frames around the place to which the box would jump.

        `response` and `maps` are those of all windows so far; `without_look_alike` takes the
        response to these. None are needed in most frames, nor with a near window, in which a box
        hardly jumps.
        """
        state, box_head = self._require_state(), self._box_head
        if box_head is None or not state.earlier or self._is_near(maps):
            return [], []
        reading = self._reading(response, maps)
        if reading is None or not reading.filtered:
            return [], []
        found = self._best_prediction(response, reading, maps).found
        if found.filter_peak < NOISE or not is_jump(state.box_xywh, found.box_xywh):
            return [], []
        if self._is_doubted(found) or self._is_held(found):  # the box stays
            return [], []
        ((_, side),) = self._local_windows(state)
        size, fill = self.engine.config.search_size_px, state.fill_bgr
        place = _center(found.box_xywh)
        cut = [crop_earlier(frame, place, side, size, fill) for frame in state.earlier]
        return [crop for crop, _ in cut], [crop_map for _, crop_map in cut]

    def without_look_alike(
        self,
        response: Response,
        maps: Sequence[CropMap],
        seen: Response,
        earlier_maps: Sequence[CropMap],
    ) -> Response:
        """The response without the place to which the box would jump, if a look-alike is there.

        `seen` is the response to the crops of `crop_earlier_frames`, `earlier_maps` are theirs. The
        same response is returned if the target may have gone there.
        """
        state, config = self._require_state(), self.engine.config
        reading, online_filter = self._reading(response, maps), state.online_filter
        if reading is None or online_filter is None:
            return response
        if seen.features is None or not seen.is_finite:  # it tells nothing
            return response
        found = self._best_prediction(response, reading, maps).found
        place, peak = _center(found.box_xywh), found.filter_peak
        jump_px = center_step(state.box_xywh, found.box_xywh)
        size_px = math.sqrt(state.box_xywh[2:].prod())
        radius_px = min(NEARER * jump_px, LOOK_ALIKE_STEP * size_px)
        filtered = respond_each([online_filter] * len(earlier_maps), seen.features)
        for one, crop_map, frame in zip(filtered, earlier_maps, state.earlier, strict=True):
            if shows_look_alike(one.mixed, crop_map, frame, place, radius_px, peak, config):
                refused = Refused(place, min(NEARER * jump_px, size_px), state.frames + 1)
                kept = (refused, *state.refused)[:MOST_LOOK_ALIKES]
                self._state = replace(state, refused=kept)
                return exclude_place(response, maps, refused, config)
        return response

    def unread(self, response: Response, maps: Sequence[CropMap]) -> Unread:
        """The response to the crops of `crop_search_windows`, for `read_each`."""
        state = self._require_state()
        return Unread(
            response, maps[0], self.engine.config.response_size, state.box_xywh,
            state.box_correction, state.online_filter, self.options,
        )  # fmt: skip

    def take_reading(self, response: Response, reading: Reading | None) -> None:
        """Take what `read_each` has read in a response that is about to be given."""
        self._read = self._require_state(), response, reading

    def update_from_response(
        self,
        response: Response,
        maps: Sequence[CropMap],
        others_xywh: FloatArray | Sequence[FloatArray] = (),
    ) -> Result:
        """Second half of `update`, with the response to the crops of `crop_search_windows`.

        `others_xywh` are the last boxes of N other targets, (N, 4), which the filter learns to
        reject.
        """
        state, config = self._require_state(), self.engine.config
        reading = self._reading(response, maps)
        if reading is None:
            return self._skip_broken_frame()
        options, box_head = self.options, self._box_head
        before = state.status_filter.status

        # 1. and 2. The best prediction, here or elsewhere.
        found, switched, promising = self._best_prediction(response, reading, maps)
        response, filtered, _ = reading

        # A prediction that overflowed moves nothing.
        score = calibrated_score(found, options)
        cues = found.similarity, found.filter_peak, score
        if not math.isfinite(sum(found.box_xywh.tolist()) + sum(cues)):
            return self._skip_broken_frame()

        # After a cut, only what looks as the target did before it is taken for it.
        doubted = self._is_doubted(found)
        score, cut_frames = self._score_after_cut(score, doubted)

        # 3. Status, and the box: a lost target is not called tracked before a prediction is good
        #    enough. Until then its box goes along with what may be it, or stays.
        held = doubted or self._is_held(found)
        if held and before == "lost":
            score = min(score, math.nextafter(options.tracked_above, 0.0))
        if held and self._count_refused():  # it is the score of a look-alike
            score = min(score, math.nextafter(options.lost_below, 0.0))
        status_filter = state.status_filter.step(score, options)
        box = state.box_xywh if held else found.box_xywh
        is_guess = held and status_filter.status == "lost" and self._goes_along(found)
        if is_guess:
            box = np.concatenate([_center(found.box_xywh) - box[2:] / 2, box[2:]])
        if box_head and box is not state.box_xywh:  # one that stays is as it was, to the bit
            box = keep_hidden_part(box, state.box_xywh[2:], state.frame_wh)
        visible = keep_in_frame(box, state.frame_wh)

        # 4. Update the online filter.
        online_filter, window = state.online_filter, found.window
        distractor = self._distractor(filtered[window], found, maps[window]) if filtered else None
        learns = online_filter is not None and not held and status_filter.status != "lost"
        if learns and response.features is not None:
            distractors = [*self._others_in_window(others_xywh, maps[window])]
            if distractor is not None:
                distractors.append(distractor)
            online_filter = self._learned(
                response.features[window], filtered[window], found, box, maps[window], distractors
            )

        # 5. Running mean of the similarity, from the first prediction on, while the target is
        #    tracked for sure; verification of a recovered target.
        similarity = found.similarity if state.last_prediction is None else state.similarity
        if status_filter.status == "tracked" and state.verification is None:
            similarity += _SIMILARITY_RATE * (found.similarity - similarity)
        verification = next_verification(
            state.verification, before, status_filter.status, score,
            switched=switched, frames=self._verify_frames,
        )  # fmt: skip

        # 6. Keep the frame, if the target is seen for sure: it shows what else there is.
        frames, earlier = state.frames + 1, state.earlier
        last_jump = frames if is_jump(state.box_xywh, box) else state.last_jump
        if status_filter.status == "tracked" and verification is None and not cut_frames:
            earlier = self._with_this_frame(found, box, last_jump, maps[0].scale)

        # What else responds is known from whole windows around the last box.
        sees_all = not (found.window or self._is_near(maps))
        rival = found.similarity - found.margin if sees_all else state.rival

        # 7. Progress of the search elsewhere.
        grid_index, refine_center = 0, None
        if status_filter.status == "lost" or verification is not None:
            grid_index, refine_center = self._next_search(response, maps, promising)

        self._state = replace(
            state, box_xywh=box, status_filter=status_filter, verification=verification,
            similarity=similarity, grid_index=grid_index, refine_center_xy=refine_center,
            last_prediction=found, online_filter=online_filter, frames=frames, earlier=earlier,
            last_jump=last_jump, refused=state.refused if status_filter.status == "lost" else (),
            cut_frames=cut_frames,
            motion=motion_of_late(state.motion, state.box_xywh, box, config),
            whole_frames=(
                WHOLE_FRAMES if distractor is not None else max(state.whole_frames - 1, 0)
            ),
            rival=rival, is_guess=is_guess,
            lost_frames=state.lost_frames + 1 if status_filter.status == "lost" else 0,
        )  # fmt: skip
        return Result(tuple(visible.tolist()), score, status_filter.status)

    def _with_this_frame(
        self, found: Prediction, box_xywh: FloatArray, last_jump: int | None, crop_scale: float
    ) -> tuple[EarlierFrame, ...]:
        """The earlier frames, and this one if its target responds well and did not jump of late.

        A jump may have been wrong. `box_xywh` is the box in this frame, `crop_scale` that of the
        search crop.
        """
        state = self._require_state()
        number = state.frames + 1
        doubtful = last_jump is not None and number - last_jump <= DOUBTFUL_FRAMES
        if state.online_filter is None or self._shared is None:
            return state.earlier
        if doubtful or found.filter_peak < SURE_PEAK:
            return state.earlier
        return keep_frame(state.earlier, self._shared, box_xywh, number, crop_scale)

    def _best_prediction(
        self, response: Response, reading: Reading, maps: Sequence[CropMap]
    ) -> Best:
        """The preferred prediction; `reading` is that of the response.

        The windows around the last box come first, then the fine ones elsewhere, then the coarse
        ones.
        """
        known = self._found
        if known is None or known[0] is not self._state or known[1] is not response:
            found = self._find(reading, maps)
            self._found = self._require_state(), response, found
            return found
        return known[2]

    def _find(self, reading: Reading, maps: Sequence[CropMap]) -> Best:
        """`_best_prediction` of a response that was not asked for it before."""
        state, local = self._require_state(), self._local_count
        response, filtered, cells = reading
        fine_end = self._fine_end(maps)

        # 1. Decode the windows around the last box.
        here = filtered[0] if filtered else None
        found = decode(
            response[:local], maps[:local], state.box_xywh, self.engine.config, self.options,
            here, cells,
        )  # fmt: skip
        if self._is_near(maps):  # it does not show what else responds in the whole window
            found = found._replace(margin=min(found.margin, found.similarity - state.rival))
        if fine_end == local:
            return Best(found)

        # 2. Decode the fine windows elsewhere, and decide between here and there.
        elsewhere = slice(local, fine_end)
        remote = self._decode_elsewhere(response[elsewhere], maps[elsewhere], filtered[elsewhere])
        if self._is_searching(state):
            switched, promising = self._compare_places(found, remote, maps[0])
            return Best(remote if switched else found, switched, promising)
        # The second look.
        return Best(self._better_look(found, remote, windows=fine_end - local))

    def _fine_end(self, maps: Sequence[CropMap]) -> int:
        """Number of windows around the last box and fine ones elsewhere; coarse ones follow."""
        return self._local_count + count_fine(maps[0], maps[self._local_count :])

    def _next_search(
        self,
        response: Response,
        maps: Sequence[CropMap],
        promising: tuple[float, float] | None,
    ) -> tuple[int, tuple[float, float] | None]:
        """How far the search grid is, and where the next frame gets a fine window first.

        That is the best cell of the coarse windows, or else `promising`.
        """
        state, local, fine_end = self._require_state(), self._local_count, self._fine_end(maps)
        grid_index, refine_center = state.grid_index, state.refine_center_xy
        if not self._is_searching(state) or len(maps) == local:
            return grid_index, refine_center
        # The fine window at the best coarse cell is not one of the grid.
        grid_index += len(maps) - local - (refine_center is not None)
        coarse, config = response[fine_end:], self.engine.config
        for place in state.refused:
            coarse = exclude_place(coarse, maps[fine_end:], place, config)
        center = best_coarse_center(coarse, maps[fine_end:], config)
        return grid_index, center or (promising if refine_center is None else None)

    def _skip_broken_frame(self) -> Result:
        """Keep box, filter and similarity after a response that is not finite; the score is 0."""
        state = self._require_state()
        logger.warning("the network returned values that are not finite; the last box is kept")
        status_filter = state.status_filter.step(0.0, self.options)
        self._state = replace(
            state, status_filter=status_filter, frames=state.frames + 1,
            lost_frames=state.lost_frames + 1 if status_filter.status == "lost" else 0,
        )  # fmt: skip
        visible = keep_in_frame(state.box_xywh, state.frame_wh)
        return Result(tuple(visible.tolist()), 0.0, status_filter.status)

    def _cut(
        self, frame: Image, windows: Sequence[Window], state: TrackState, size_px: int = 0
    ) -> tuple[list[Image], list[CropMap]]:
        """Crops of windows, of the search crop's size if no other is given, and their maps."""
        size, fill = size_px or self.engine.config.search_size_px, state.fill_bgr
        cut = [crop_square(frame, center, side, size, fill_bgr=fill) for center, side in windows]
        return [crop for crop, _ in cut], [crop_map for _, crop_map in cut]

    def _decode_elsewhere(
        self, response: Response, maps: Sequence[CropMap], filtered: Sequence[FilterResponse]
    ) -> Prediction:
        """The best prediction in fine windows that are not around the last box."""
        state, options = self._require_state(), self.options
        if not isinstance(options, BoxHeadOptions):
            raise TypeError("only networks with a box head can look elsewhere")
        remote = decode_redetection(
            response, maps, state.box_xywh, self.engine.config, options, filtered
        )
        return remote._replace(window=self._local_count + remote.window)

    def _better_look(self, found: Prediction, remote: Prediction, *, windows: int) -> Prediction:
        """The prediction of the second look, if the filter prefers it."""
        # Elsewhere the target must be clearly seen; centered, better than at the border.
        least = self._box_head.look_around_accept if self._box_head and windows > 1 else -math.inf
        return remote if remote.filter_peak > max(least, found.filter_peak) else found

    def _compare_places(
        self, found: Prediction, remote: Prediction, local_map: CropMap
    ) -> tuple[bool, tuple[float, float] | None]:
        """Whether a searched-for target is taken from another place, and where to look again."""
        state, options = self._require_state(), self._box_head
        if options is None:
            return False, None
        # A recovered target is verified in the whole frame.
        lost = state.status_filter.status == "lost"
        place = remote.box_xywh, state.box_xywh
        if lost and not is_reachable(*place, local_map, state.lost_frames):
            return False, None
        verification = None if lost else state.verification
        if not self._is_doubted(remote) and accept_redetection(remote, state.similarity, options):
            if should_switch_target(remote, found, verification, options):
                return True, None
        # A promising place that the window cuts off is looked at again, centered.
        if remote.filter_peak < options.look_around_accept:
            return False, None
        x, y, w, h = remote.box_xywh.tolist()
        return False, (x + w / 2, y + h / 2)

    def _is_doubted(self, found: Prediction) -> bool:
        """Whether there was a cut, and a prediction looks otherwise than the target before it."""
        state, shared = self._require_state(), self._shared
        if not state.cut_frames:
            return False
        if found.similarity < SIMILARITY_AFTER_CUT * state.similarity:
            return True
        if shared is None or state.colors is None or not np.isfinite(found.box_xywh).all():
            return False
        colors = color_histogram(shared.frame, found.box_xywh)
        return color_likeness(state.colors, colors) < SAME_COLORS

    def _score_after_cut(self, score: float, doubted: bool) -> tuple[float, int]:
        """Score of a frame while a cut is doubted, and the frames left in which it is."""
        frames = self._require_state().cut_frames
        if not frames:
            return score, 0
        limit = self.options.lost_below if doubted else self.options.tracked_above
        if not doubted:
            frames = max(frames - FRAMES_AFTER_CUT // FRAMES_TO_CONFIRM, 0)
        return min(score, math.nextafter(limit, 0.0)), frames

    def _is_held(self, found: Prediction) -> bool:
        """Whether no prediction is taken: it is not good enough for what the target is doing.

        That is to be lost, to leave, or to jump where another jump was refused.
        """
        state, options = self._require_state(), self._box_head
        if options is None:
            return False
        if state.status_filter.status == "lost":
            return not accept_redetection(found, state.similarity, options)
        if state.online_filter is None:
            return False
        refused = self._count_refused()
        doubtful = refused >= MOST_LOOK_ALIKES or (refused and found.filter_peak < NOISE)
        if doubtful and is_jump(state.box_xywh, found.box_xywh):
            return True
        return found.filter_peak < options.look_around_below and _is_leaving(state)

    def _count_refused(self) -> int:
        """Number of jumps that were refused in this frame."""
        state = self._require_state()
        return sum(place.number > state.frames for place in state.refused)

    def _goes_along(self, found: Prediction) -> bool:
        """Whether the box of a lost target goes to a prediction that is not taken for the target.

        It does for a while and over short ways, at its size. Most targets that are lost have turned
        or are half hidden. One that moves on is soon out of reach of a box that waits.
        """
        state = self._require_state()
        if found.window or found.filter_peak < FOLLOWED_PEAK or _is_leaving(state):
            return False
        if state.lost_frames >= ANYWHERE_AFTER or state.cut_frames:
            return False
        return relative_step(state.box_xywh, found.box_xywh) <= FOLLOWED_STEP

    def _reading(self, response: Response, maps: Sequence[CropMap]) -> Reading | None:
        """What a response shows in this state; None if it is not finite."""
        known = self._read
        if known is None or known[0] is not self._state or known[1] is not response:
            (reading,) = read_each([self.unread(response, maps)])
            self.take_reading(response, reading)
            return reading
        return known[2]

    def _distractor(
        self, filtered: FilterResponse, found: Prediction, crop_map: CropMap
    ) -> FloatArray | None:
        """Cell (column, row) of a second peak of the filter; None where there is none."""
        size_cells = self._require_state().box_xywh[2:] / self._cell_px(crop_map)
        row, column = second_peak(filtered.mixed, found.cell, size_cells)
        if filtered.mixed[row, column] > DISTRACTOR_RATIO * found.filter_peak:
            return np.array([column, row])
        return None

    def _others_in_window(
        self, others_xywh: FloatArray | Sequence[FloatArray], crop_map: CropMap
    ) -> Iterable[FloatArray]:
        """Centers of other targets in a window, in cells."""
        if not len(others_xywh):
            return ()
        half = crop_map.size_px / self.engine.config.total_stride / 2
        others = self._centers_in_cells(np.asarray(others_xywh), crop_map)  # (N, 2)
        return others[(np.abs(others - (half - 0.5)) < half).all(axis=1)]

    def _centers_in_cells(self, boxes_xywh: FloatArray, crop_map: CropMap) -> FloatArray:
        """(..., 2) centers of boxes of the frame, in cells of a window's response."""
        stride, size = self.engine.config.total_stride, crop_map.size_px
        return to_cells(center_in_crop(boxes_xywh, crop_map), size // stride, stride, size)

    def _cell_px(self, crop_map: CropMap) -> float:
        """Side of a cell of a window's response, frame px."""
        return self.engine.config.total_stride * crop_map.scale

    def _learned(
        self,
        features: Float32Array,
        filtered: FilterResponse,
        found: Prediction,
        box_xywh: FloatArray,
        crop_map: CropMap,
        distractors_xy: Sequence[FloatArray],
    ) -> OnlineFilter | None:
        """The online filter after one more window; the same one if the window is not learned.

        `distractors_xy` are the centers of other targets and of a second peak, in cells.
        """
        state, options = self._require_state(), self._box_head
        if state.online_filter is None or options is None:
            return None
        # Learn only where both filter and network are sure: an occluder is not the target.
        network_score = sigmoid(found.peak_logit)
        if found.filter_peak < options.filter_min_peak or network_score < options.filter_min_score:
            return state.online_filter
        # Distractors are learned at once, and faster.
        if not distractors_xy and (state.frames + 1) % UPDATE_INTERVAL:
            return state.online_filter
        return state.online_filter.updated(
            features, self._centers_in_cells(box_xywh, crop_map), filtered.mixed,
            lr=options.filter_lr * (2.0 if distractors_xy else 1.0), distractors_xy=distractors_xy,
        )  # fmt: skip

    def _is_searching(self, state: TrackState) -> bool:
        """Whether windows elsewhere in the frame are visited: the target is lost or unverified."""
        return state.status_filter.status == "lost" or state.verification is not None

    def _local_windows(self, state: TrackState) -> list[Window]:
        """Windows around the last box: one, or one per scale."""
        center = state.box_xywh[:2] + state.box_xywh[2:] / 2
        sides = window_sides(state.box_xywh[2:], self.engine.config, self.options)
        return [(center, side) for side in sides]

    def _redetection_windows(self, state: TrackState) -> list[Window]:
        """Next windows of the search grid; none unless the target is lost or unverified."""
        if self._box_head is None or not self._is_searching(state):
            return []
        count = self._box_head.redetect_windows
        if self.budget:
            count = self.budget.allowed_windows(count)
        ((center, side),) = self._local_windows(state)
        return next_grid_windows(
            center, side, state.frame_wh, grid_index=state.grid_index,
            refine_center_xy=state.refine_center_xy, count=count,
        )  # fmt: skip

    def _require_state(self) -> TrackState:
        if self._state is None:
            raise NotInitializedError(
                "the tracker has no target yet; call init(frame, box) with the first frame before "
                "update(frame)"
            )
        return self._state


def _network_of(engine: Engine) -> tuple[str, ...]:
    """What the exemplar of a state belongs to: engine, device and weights."""
    known = "name", "device", "weights_sha256"  # engines of users may lack the last
    return tuple(str(getattr(engine, name, "")) for name in known)


def _in_words(network: Sequence[str]) -> str:
    name, device, weights_sha256 = network
    return f'engine "{name}" on {device} with weights {weights_sha256[:12] or "in memory"}'


def _warn_of_box(given_xywh: FloatArray, target_xywh: FloatArray, frame: Image) -> None:
    """Warn of a first box that can be tracked, but hardly shows a target.

    Args:
        given_xywh: the box as it was given.
        target_xywh: the part of it that is tracked.
        frame: (H, W, 3).
    """
    height, width = frame.shape[:2]
    inside = float((target_xywh[2:] / given_xywh[2:]).prod())  # the area may be too large a number
    if inside < _SLIVER:
        logger.warning(
            "only %.1f %% of the box %s are inside the %dx%d frame: this part alone is tracked",
            100 * inside, given_xywh.tolist(), width, height,
        )  # fmt: skip

    # A target differs from what is around it: look at the box with a margin. Noise is averaged.
    margin = np.maximum(_FLAT_MARGIN * target_xywh[2:], 2.0)
    x0, y0 = np.maximum(target_xywh[:2] - margin, 0).astype(int).tolist()
    x1, y1 = np.ceil(target_xywh[:2] + target_xywh[2:] + margin).astype(int).tolist()
    region = frame[y0:y1, x0:x1]
    size_wh = min(_FLAT_CELLS, region.shape[1]), min(_FLAT_CELLS, region.shape[0])
    cells = cv2.resize(region, size_wh, interpolation=cv2.INTER_AREA).reshape(-1, 3)
    if np.ptp(cells, axis=0).max() < _FLAT_RANGE and cells.std(axis=0).max() < _FLAT_STD:
        logger.warning(
            "the frame is flat in and around the box %s (color %s): there is nothing to tell apart "
            "from the background; give a box around something visible, on another frame if this "
            "one is black",
            target_xywh.round(1).tolist(), cells.mean(axis=0).round().astype(int).tolist(),
        )  # fmt: skip


def _center(box_xywh: FloatArray) -> FloatArray:
    """(2,) center of a box."""
    return box_xywh[:2] + box_xywh[2:] / 2


def _is_leaving(state: TrackState) -> bool:
    """Whether a good part of the target is out of the frame: it will not be seen elsewhere."""
    visible = clip_to_frame(state.box_xywh, state.frame_wh)[2:].prod()
    return bool(visible < _LEAVING * state.box_xywh[2:].prod())


def is_same_shape(frame_wh: tuple[int, int], other_wh: tuple[int, int]) -> bool:
    """Whether frames of two sizes in px may show the same scene at two resolutions."""
    ratio = np.array(frame_wh, dtype=np.float64) / np.array(other_wh)
    return bool(abs(ratio[0] / ratio[1] - 1.0) <= _SAME_ASPECT)


def rescale_state(state: TrackState, frame_wh: tuple[int, int]) -> TrackState:
    """The same state in a frame of another resolution; another aspect is refused."""
    if not is_same_shape(frame_wh, state.frame_wh):
        was, now = "x".join(map(str, state.frame_wh)), "x".join(map(str, frame_wh))
        raise InvalidFrameError(
            f"frame is {now}, the target was tracked in {was}, which has another shape; give "
            "frames of one size, or call init(frame, box) again"
        )
    ratio = np.array(frame_wh, dtype=np.float64) / np.array(state.frame_wh)
    box = state.box_xywh * np.tile(ratio, 2)
    return replace(
        state, box_xywh=box, frame_wh=frame_wh, refine_center_xy=None, earlier=(), refused=()
    )
