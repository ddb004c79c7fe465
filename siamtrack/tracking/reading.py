"""What trackers read from the network's responses: the arithmetic before any decision.

It is the same for every target, so that the windows of all targets of a frame go through it
together. A single tracker reads one target.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from siamtrack.engines.base import Response
from siamtrack.geometry import CropMap
from siamtrack.tracking.box_correction import BoxCorrection, correct_boxes
from siamtrack.tracking.decode import RankedCells, crop_size, rank_cells
from siamtrack.tracking.online_filter import FilterResponse, OnlineFilter, respond_each
from siamtrack.tracking.options import BoxHeadOptions, TrackerOptions
from siamtrack.types import FloatArray


class Unread(NamedTuple):
    """Response to the windows of one target, and what it takes to read it."""

    response: Response
    local_map: CropMap  # of the first window, which is around the last box
    response_size: int  # of the whole search window, cells
    last_xywh: FloatArray  # (4,) last box, frame px
    correction: BoxCorrection
    online_filter: OnlineFilter | None
    options: TrackerOptions


class Reading(NamedTuple):
    """What the windows of one target show."""

    response: Response  # its boxes without the network's bias
    filtered: list[FilterResponse]  # of the online filter, to every window; empty without a filter
    cells: RankedCells | None  # of the first window; None without a box head


def read_each(targets: Sequence[Unread]) -> list[Reading | None]:
    """Read the responses of targets of one network; None for one with a value that is not finite.

    Targets that are read alike are read at once.
    """
    alike: dict[Hashable, list[int]] = {}
    for k, target in enumerate(targets):
        alike.setdefault(_kind(target), []).append(k)
    readings: list[Reading | None] = [None] * len(targets)
    for chosen in alike.values():
        for k, reading in zip(chosen, _read_alike([targets[k] for k in chosen]), strict=True):
            readings[k] = reading
    return readings


def _kind(target: Unread) -> Hashable:
    size = target.response.score_logits.shape[-1]
    return target.online_filter is not None, id(target.options), size


def _read_alike(targets: Sequence[Unread]) -> Sequence[Reading | None]:
    """Read targets of one `_kind`."""
    response = Response.joined([target.response for target in targets])
    if not response.is_finite:
        if len(targets) == 1:
            return [None]
        return [_read_alike([target])[0] for target in targets]
    windows = [len(target.response.score_logits) for target in targets]
    owners = [target for target, count in zip(targets, windows, strict=True) for _ in range(count)]
    stops = list(accumulate(windows))
    first = [stop - count for stop, count in zip(stops, windows, strict=True)]

    # 1. Remove the bias of the boxes.
    response = correct_boxes(response, [target.correction for target in owners])

    # 2. Let the filters respond.
    filtered: list[FilterResponse] = []
    filters = [target.online_filter for target in owners if target.online_filter is not None]
    if filters and response.features is not None:
        filtered = respond_each(filters, response.features)

    # 3. Rank the cells of the windows around the last boxes.
    ranked: list[RankedCells | None] = [None] * len(targets)
    options = targets[0].options
    if isinstance(options, BoxHeadOptions):
        last_wh = np.array([crop_size(target.last_xywh, target.local_map) for target in targets])
        mixed = np.array([filtered[k].mixed for k in first]) if filtered else None
        ltrb = None if response.ltrb_px is None else response.ltrb_px[first]
        cells = rank_cells(
            response.score_logits[first], ltrb, last_wh, options, mixed, targets[0].response_size
        )
        ranked = [cells.of(k) for k in range(len(targets))]
    return [
        Reading(response[start:stop], filtered[start:stop], cells)
        for start, stop, cells in zip(first, stops, ranked, strict=True)
    ]
