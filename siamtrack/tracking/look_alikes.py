"""Look-alikes: what was elsewhere while the target was here is not the target.

A target that is hidden or blurred responds less than a look-alike near by, and the box would jump
there. But the look-alike has been there before: in an earlier frame, in which the target was seen
for sure, it responds in its place, away from the target. So the place to which a box would jump is
looked at in earlier frames first. A target that did go there is not found there in them.

Following the distractors of every frame does the same at a higher price (KeepTrack, Mayer et al.
2021, section 3). Here nothing is computed until a box would jump.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from siamtrack.crops import crop_square
from siamtrack.engines.base import Response
from siamtrack.geometry import CropMap, relative_step
from siamtrack.models.config import NetworkConfig
from siamtrack.tracking.cuts import thumbnail
from siamtrack.tracking.decode import cell_centers, decode_ltrb
from siamtrack.types import Float32Array, FloatArray, Image

JUMP = 0.7
"""Steps of a box from frame to frame beyond this are jumps, in sides of a square of its area.
Lowering it looks at earlier frames more often."""

SURE_PEAK = 0.5
"""Lowest response of the online filter in a frame that is kept."""

KEPT_FRAMES = 2
"""Number of earlier frames that are kept."""

KEPT_EVERY = 5
"""Frames from one that is kept to the next. Raising it saves time, and a look-alike that moves has
gone further since."""

LOOK_ALIKE_PEAK = 0.5
"""Lowest response of a look-alike in an earlier frame, over the response in its place now. Lowering
it refuses more jumps, right ones too."""

NOISE = 0.2
"""Responses below tell nothing, neither of the place now nor of one in an earlier frame."""

NEARER = 0.5
"""A look-alike is nearer to its place of now than this share of the jump: it has moved less than
the target would have. Raising it refuses more jumps, right ones too."""

LOOK_ALIKE_STEP = 1.5
"""The same limit for long jumps, in sides of a square of the target's area."""

DOUBTFUL_FRAMES = 20
"""Frames after a jump in which no frame is kept, so that a box that went to a look-alike may come
back. Lowering it trusts jumps sooner."""

KEPT_FOR = 300
"""Frames after which an earlier frame and a refused place tell nothing any more. Raising it refuses
longer what does not move, and a target that comes back to the place of its twin, too."""

MOST_LOOK_ALIKES = 3
"""Look-alikes that are excluded in a frame at most; after so many the box does not jump at all."""

_MOST_PX = 1920 * 1080  # of a picture: many targets keep pictures of different frames
_OWN_PLACE = 0.75  # of the target's sides, around its center: where it responds itself


class SharedFrame:
    """What all trackers of a frame need of it, made once and when it is asked for."""

    def __init__(self, frame: Image) -> None:
        """Share a uint8 (H, W, 3) BGR frame, which must not change before the next one."""
        self.frame = frame
        self._copies: dict[int, Image] = {}

    @cached_property
    def thumbnail(self) -> Float32Array:
        """See `cuts.thumbnail`."""
        return thumbnail(self.frame)

    def copy(self, step: int) -> Image:
        """A copy reduced by a whole number; a remainder at the right and bottom is left out."""
        if step not in self._copies:
            wh = self.frame.shape[1] // step, self.frame.shape[0] // step
            whole = self.frame[: wh[1] * step, : wh[0] * step]
            small = whole.copy() if step == 1 else cv2.resize(whole, wh)
            self._copies[step] = small  # type: ignore[assignment]
        return self._copies[step]


class EarlierFrame(NamedTuple):
    """A frame in which the target was seen for sure."""

    picture: Image  # its copy, reduced by `step`
    step: int
    box_xywh: FloatArray  # (4,) the target, px of the frame
    number: int  # frames since the first one


class Refused(NamedTuple):
    """A place that the box did not jump to, because a look-alike is there."""

    center_xy: FloatArray  # (2,) frame px
    radius_px: float
    number: int  # of the frame, counted from the first one


_Numbered = TypeVar("_Numbered", EarlierFrame, Refused)


def recent(kept: tuple[_Numbered, ...], number: int) -> tuple[_Numbered, ...]:
    """Those of the last `KEPT_FOR` frames before frame `number`; the same tuple if all are."""
    if all(number - one.number <= KEPT_FOR for one in kept):
        return kept
    return tuple(one for one in kept if number - one.number <= KEPT_FOR)


def is_jump(last_xywh: FloatArray, now_xywh: FloatArray) -> bool:
    """Whether a box jumps from one frame to the next; False if one is not finite.

    Example:
        >>> last = np.array([10.0, 10, 20, 20])
        >>> is_jump(last, last + [13, 0, 0, 0]), is_jump(last, last + [13, 13, 0, 0])
        (False, True)
    """
    return relative_step(last_xywh, now_xywh) > JUMP


def keep_frame(
    earlier: tuple[EarlierFrame, ...],
    shared: SharedFrame,
    box_xywh: FloatArray,
    number: int,
    crop_scale: float,
) -> tuple[EarlierFrame, ...]:
    """The earlier frames, newest first, with one more if it is time for it.

    `number` counts the frames since the first one. `crop_scale` is that of the search crop, in
    frame px: the picture needs no smaller pixels. Those of frames beyond 1920 x 1080 are larger.
    """
    if earlier and number - earlier[0].number < KEPT_EVERY:
        return earlier
    height, width = shared.frame.shape[:2]
    step = max(math.floor(crop_scale), math.ceil(math.sqrt(height * width / _MOST_PX)))
    step = min(step, height, width)
    return (EarlierFrame(shared.copy(step), step, box_xywh, number), *earlier)[:KEPT_FRAMES]


def crop_earlier(
    frame: EarlierFrame,
    center_xy: FloatArray,
    side_px: float,
    size_px: int,
    fill_bgr: tuple[float, float, float],
) -> tuple[Image, CropMap]:
    """`crop_square` of an earlier frame, in px of that frame."""
    step = frame.step
    crop, crop_map = crop_square(
        frame.picture, center_xy / step, side_px / step, size_px, fill_bgr=fill_bgr
    )
    x, y = crop_map.origin_xy
    return crop, CropMap((x * step, y * step), crop_map.scale * step, size_px)


def shows_look_alike(
    response: Float32Array,
    crop_map: CropMap,
    earlier: EarlierFrame,
    place_xy: FloatArray,
    radius_px: float,
    peak: float,
    config: NetworkConfig,
) -> bool:
    """Whether what a box would jump to was there in an earlier frame, away from the target.

    Args:
        response: (R, R) of the online filter, in a window of the earlier frame around the place.
        crop_map: of this window.
        earlier: the frame.
        place_xy: (2,) center of the box after the jump, frame px.
        radius_px: how far a look-alike may have moved since.
        peak: response of the online filter there now.
        config: of the network.
    """
    # 1. Peaks that are high enough: no neighbor responds more.
    cells = len(response)
    padded = np.pad(response, 1, constant_values=-np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).max(axis=(2, 3))
    is_peak = (response >= around) & (response >= max(LOOK_ALIKE_PEAK * peak, NOISE))

    # 2. Their places.
    centers = cell_centers(cells, config.total_stride, crop_map.size_px)
    rows, columns = np.nonzero(is_peak)
    points = np.stack([centers[columns], centers[rows]], axis=-1)
    places = points * crop_map.scale + np.array(crop_map.origin_xy)  # (N, 2)

    # 3. Those that are near, and not the target's own.
    own = earlier.box_xywh[:2] + earlier.box_xywh[2:] / 2
    reach = _OWN_PLACE * earlier.box_xywh[2:] + config.total_stride * crop_map.scale / 2
    others = places[(np.abs(places - own) >= reach).any(axis=1)]
    return bool((np.hypot(*(others - place_xy).T) < radius_px).any())


def exclude_place(
    response: Response, maps: Sequence[CropMap], place: Refused, config: NetworkConfig
) -> Response:
    """The response without the cells at a place, and those whose boxes are there.

    `maps` are those of the response's windows. Next to the place one cell at least is excluded.
    """
    logits, stride_px = response.score_logits.copy(), config.total_stride
    for k, crop_map in enumerate(maps):
        reach_px = max(place.radius_px, stride_px * crop_map.scale)
        centers = cell_centers(logits.shape[-1], stride_px, crop_map.size_px) * crop_map.scale
        x, y = np.array(crop_map.origin_xy) - place.center_xy
        at_cell = np.hypot(centers + x, centers[:, None] + y)
        excluded = at_cell < reach_px  # (R, R)
        if response.ltrb_px is not None:
            boxes = decode_ltrb(response.ltrb_px[k], stride_px, crop_map)  # (R, R, 4)
            offset = boxes[..., :2] + boxes[..., 2:] / 2 - place.center_xy
            at_box = excluded | (np.hypot(*np.moveaxis(offset, -1, 0)) < reach_px)
            if not (at_box | np.isneginf(logits[k])).all():  # something is left to be taken
                excluded = at_box
        logits[k][excluded] = -np.inf
    return replace(response, score_logits=logits)
