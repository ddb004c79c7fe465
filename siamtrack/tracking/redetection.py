"""Re-detection of lost targets: search grid, decisions, verification, time budget.

While a target is lost, a few search windows elsewhere in the frame are visited per frame, in the
order of a grid. Large frames are searched coarse to fine: windows of twice the side first, then
one fine window around the best cell of the coarse ones. Only fine windows give predictions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from siamtrack.engines.base import Response
from siamtrack.geometry import CropMap, center_step, iou
from siamtrack.models.config import NetworkConfig
from siamtrack.tracking.decode import Prediction, calibrated_score, cell_centers, decode_box_head
from siamtrack.tracking.online_filter import FilterResponse
from siamtrack.tracking.options import BoxHeadOptions
from siamtrack.tracking.result import Status
from siamtrack.types import FloatArray

Window = tuple[FloatArray, float]
"""Center (2,) and side of a square search window, frame px."""

COARSE_SCALE = 2.0
"""Side of a coarse window over that of a fine one. On the development sequences the best cell is on
the target in 97 % of the fine windows, and in 95, 83, 58, 34 % at scale 1.5, 2, 2.5, 3; the number
of windows falls with the square of the scale."""

MAX_FINE_WINDOWS = 24
"""Frames that more fine windows would be needed for are searched coarsely first."""

AROUND = ((-0.45, -0.45), (0.45, -0.45), (-0.45, 0.45), (0.45, 0.45))
"""Centers of the windows around that of the last box, from its center, in window sides."""

REACH_GROWTH = 0.02
"""Window sides per lost frame by which the reach of a lost target grows."""

ANYWHERE_AFTER = 60
"""Lost frames after which the target may be anywhere."""

FOLLOWED_PEAK = 0.1
"""Response of the online filter from which on the box of a lost target goes along with the best
place in the window around it, until it may be anywhere. Its size stays, and nothing is learned."""

FOLLOWED_STEP = 1.0
"""How far it goes in a frame at most, in sides of a square of its area: further away is another
thing. Raising it follows faster targets, and more distractors."""

SEPARATE_IOU = 0.3
"""Boxes that overlap by less lie on different objects."""

_SCORE_RATE = 0.1  # of the running mean of the score: about the last ten frames
_TIME_RATE = 0.2  # of the running means of times: about the last five frames
_MAX_OUTLIER = 3.0  # one frame counts at most this many times the mean
_DECAY = 0.98  # of the estimated time of a window, per frame without time for one

# --- Search grid ---------------------------------------------------------------------------------


def next_grid_windows(
    center_xy: FloatArray,
    side_px: float,
    frame_wh: tuple[int, int],
    *,
    grid_index: int,
    refine_center_xy: Sequence[float] | None,
    count: int,
) -> list[Window]:
    """The next windows of the search grid, which is visited again and again.

    Args:
        center_xy: (2,) center of the last box, frame px.
        side_px: side of a fine window, frame px.
        frame_wh: size of the frame, px.
        grid_index: number of grid windows visited so far.
        refine_center_xy: best cell of the last frame's coarse windows.
        count: maximum number of windows.
    """
    if count <= 0:
        return []
    # The fine window at the best coarse cell comes first.
    windows: list[Window] = []
    if refine_center_xy is not None:
        windows.append((np.asarray(refine_center_xy), side_px))

    # Then the next ones of the grid, coarse in large frames.
    grid, side = grid_centers(center_xy, side_px, frame_wh), side_px
    if len(grid) > MAX_FINE_WINDOWS:
        side = side_px * COARSE_SCALE
        grid = grid_centers(center_xy, side, frame_wh)
    for k in range(min(count - len(windows), len(grid))):
        windows.append((grid[(grid_index + k) % len(grid)], side))
    return windows


def count_fine(local: CropMap, others: Sequence[CropMap]) -> int:
    """Number of fine windows, which come first and have the side of the local one."""
    limit = local.scale * (1.0 + COARSE_SCALE) / 2
    return sum(other.scale < limit for other in others)


def grid_centers(
    center_xy: FloatArray, side_px: float, frame_wh: tuple[int, int]
) -> list[FloatArray]:
    """Centers of windows that cover the frame, nearest to the last box first.

    Neighboring windows overlap by half or more: a target of up to half a window's side lies
    completely inside one of them.
    """
    # Centers along each axis: evenly spaced, at most half a window apart.
    axes: list[list[float]] = []
    for length in frame_wh:
        span = max(length - side_px, 0.0)
        gaps = int(np.ceil(span / (side_px / 2)))
        axes.append([length / 2 - span / 2 + span * k / max(gaps, 1) for k in range(gaps + 1)])

    grid = np.array([(x, y) for y in axes[1] for x in axes[0]])
    order = np.argsort(np.hypot(*(grid - center_xy).T), kind="stable")
    return [grid[k] for k in order]


def best_coarse_center(
    response: Response, maps: Sequence[CropMap], config: NetworkConfig
) -> tuple[float, float] | None:
    """Frame coordinates of the best cell of all coarse windows; None if no cell is left."""
    logits = response.score_logits  # (B, R, R)
    if not np.any(logits > -np.inf):
        return None
    best, row, column = np.unravel_index(int(logits.argmax()), logits.shape)
    centers = cell_centers(logits.shape[-1], config.total_stride, maps[int(best)].size_px)
    centers = centers.astype(np.float32)
    x, y = maps[int(best)].to_frame([centers[column], centers[row], 0.0, 0.0])[:2].tolist()
    return x, y


# --- Decisions -----------------------------------------------------------------------------------


def decode_redetection(
    response: Response,
    maps: Sequence[CropMap],
    last_xywh: FloatArray,
    config: NetworkConfig,
    options: BoxHeadOptions,
    filtered: Sequence[FilterResponse] = (),
) -> Prediction:
    """Decode the fine window with the highest peak: of the online filter, or of the network."""
    # The target may be anywhere in the window, so there is no cosine window.
    options = replace(options, window_influence=0.0, min_peak=0.0)
    peaks = np.stack([one.mixed for one in filtered]) if filtered else response.score_logits
    possible = response.score_logits > -np.inf
    best = int(peaks.max(axis=(1, 2), where=possible, initial=-np.inf).argmax())
    found = decode_box_head(
        response[best : best + 1], maps[best], last_xywh, config, options,
        filtered[best] if filtered else None,
    )  # fmt: skip
    return found._replace(window=best)


def is_reachable(
    box_xywh: FloatArray, last_xywh: FloatArray, local: CropMap, lost_frames: int
) -> bool:
    """Whether a lost target may have come as far as a box: most come back near the last place.

    `local` maps the window around the last box, whose half side is the reach at first.
    """
    if lost_frames >= ANYWHERE_AFTER:
        return True
    reach = (0.5 + REACH_GROWTH * lost_frames) * local.scale * local.size_px
    return center_step(last_xywh, box_xywh) <= reach


def accept_redetection(found: Prediction, similarity: float, options: BoxHeadOptions) -> bool:
    """Whether the box of a lost target may move to a prediction.

    `similarity` is its running mean while the target was tracked.
    """
    confident = calibrated_score(found, options) >= options.redetect_score
    return confident and found.similarity >= options.redetect_similarity * similarity


def should_switch_target(
    remote: Prediction,
    local: Prediction,
    verification: Verification | None,
    options: BoxHeadOptions,
) -> bool:
    """Whether the box moves to an accepted prediction elsewhere instead of the local one.

    `verification` is that of a recovered target, None for a lost one.
    """
    here, there = calibrated_score(local, options), calibrated_score(remote, options)
    if verification is None:
        return there > here
    # A recovered target is given up only for another object that clearly matches better.
    if iou(remote.box_xywh, local.box_xywh) >= SEPARATE_IOU:
        return False
    return there >= options.switch_score and there > max(here, verification.mean_score)


# --- Verification --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verification:
    """A recovered target is still searched for elsewhere: it may be a distractor."""

    frames_left: int  # until the search stops
    mean_score: float  # running mean since the recovery; another object must exceed it


def next_verification(
    current: Verification | None,
    before: Status,
    now: Status,
    score: float,
    *,
    switched: bool,
    frames: int,
) -> Verification | None:
    """The verification after one more frame; None if there is nothing to verify.

    `before` and `now` are the statuses of the last frame and this one. `switched` says that the
    box moved to a prediction elsewhere; `frames` is the option `verify_frames`.
    """
    # A lost target is searched for anyway.
    if now == "lost":
        return None
    if before == "lost" or switched:  # starts, or starts again
        return Verification(frames, score) if frames else None
    if current is None or current.frames_left == 1:  # ends
        return None
    mean = current.mean_score + _SCORE_RATE * (score - current.mean_score)
    return Verification(current.frames_left - 1, mean)


# --- Time budget ---------------------------------------------------------------------------------


class TimeBudget:
    """Limits the re-detection windows per frame to a time limit.

    Learns the time of a frame without re-detection and of one more window. The windows around the
    last box are always visited, even if they alone exceed the limit. If there is no time for any
    other window, its estimate decays, and one is tried again now and then.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        """Start without estimates; `clock` is monotonic, in seconds."""
        self.limit_s = limit_s
        self.frames = 0  # frames measured
        self.exceeded = 0  # frames that took longer than the limit
        self._clock = clock
        self._frame_s: float | None = None  # without re-detection windows
        self._window_s: float | None = None
        self._windows = 0  # allowed in this frame

    def allowed_windows(self, wanted: int) -> int:
        """How many of the wanted windows fit into the time left of the current frame."""
        allowed = wanted
        if self._frame_s is not None and wanted:
            # Until it is measured, assume that a window costs as much as a whole frame.
            window_s = self._frame_s if self._window_s is None else self._window_s
            fitting = (self.limit_s - self._frame_s) / max(window_s, 1e-9)
            allowed = max(0, min(wanted, int(min(fitting, 1e6)) - self._windows))
            if fitting < 1.0:
                self._window_s = window_s * _DECAY
        self._windows += allowed
        return allowed

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Measure one frame, with the windows allowed in it."""
        self._windows = 0
        start_s = self._clock()
        yield
        elapsed_s = self._clock() - start_s
        self.frames += 1
        self.exceeded += elapsed_s > self.limit_s
        # A frame without re-detection measures itself, another one the windows beyond it.
        if not self._windows:
            self._frame_s = _running_mean(self._frame_s, elapsed_s)
        elif self._frame_s is not None:
            window_s = max(elapsed_s - self._frame_s, 0.0) / self._windows
            before_s = self._frame_s if self._window_s is None else self._window_s
            # Rises count at once, so that the limit is not exceeded again in the next frame.
            if window_s > before_s:
                self._window_s = min(window_s, _MAX_OUTLIER * before_s)
            else:
                self._window_s = _running_mean(before_s, window_s)


def _running_mean(mean: float | None, value: float) -> float:
    if mean is None:
        return value
    return mean + _TIME_RATE * (min(value, _MAX_OUTLIER * mean) - mean)
