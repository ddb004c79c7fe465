"""Boxes of an object through a clip, kept where tracking forth and back agrees.

From its start box the object is tracked away from the start frame, then back from the last box.
Errors of one direction are not those of the other: a tracker that slid off the object does not
find the way back to it (forward-backward error, Kalal et al. 2010).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from siamtrack.geometry import iou
from siamtrack.tracking.cuts import is_cut, thumbnail
from siamtrack.tracking.tracker import Tracker, TrackState
from siamtrack.types import FloatArray, Image

_EDGE_PX = 1.0  # boxes are not exact
_FAR_IOU, _FAR_FRAMES = 0.2, 5  # so far off for so long, the way back is not found again


@dataclass(frozen=True, slots=True)
class OneWay:
    """Boxes of an object from a start frame on, forward or backward in time."""

    numbers: list[int]  # of the frames, from the start on
    boxes: FloatArray  # (n, 4) xywh px
    scores: FloatArray  # (n,)
    state: TrackState | None  # of the tracker after the last of them; None where the way has ended

    def by_frame(self) -> dict[int, FloatArray]:
        """The boxes by frame number."""
        return dict(zip(self.numbers, self.boxes, strict=True))


@dataclass(frozen=True, slots=True)
class AgreeingTrack:
    """One object through a clip; NaN in frames that were not tracked both ways.

    Attributes:
        boxes: (N, 4) xywh px, the mean of both ways.
        agreement: (N,) IoU of both ways.
        scores: (N,) the lower of both scores.
    """

    boxes: FloatArray
    agreement: FloatArray
    scores: FloatArray


def track_out(
    tracker: Tracker,
    frames: Sequence[Image],
    start: int,
    box_xywh: FloatArray,
    *,
    reach: int,
    is_object: Callable[[Mapping[int, FloatArray]], bool],
) -> list[OneWay]:
    """Track an object from a frame to the end of a clip, and to its beginning.

    Args:
        tracker: follows it; what it tracked before is forgotten.
        frames: uint8 (H, W, 3) BGR each.
        start: number of the frame with the start box.
        box_xywh: (4,) px, the start box.
        reach: number of frames in either direction after which `is_object` is asked.
        is_object: says of the boxes so far, by frame number, whether to go on.
    """
    tracker.init(frames[start], box_xywh)
    begin = OneWay([start], box_xywh[None], np.ones(1), tracker.state)
    all_numbers = [range(start, len(frames)), range(start, -1, -1)]
    ways = [_follow(tracker, frames, numbers[: reach + 1], begin) for numbers in all_numbers]
    if is_object({**ways[0].by_frame(), **ways[1].by_frame()}):
        ways = [
            _follow(tracker, frames, numbers, way)
            for numbers, way in zip(all_numbers, ways, strict=True)
        ]
    return ways


def track_back(
    tracker: Tracker, frames: Sequence[Image], ways: Sequence[OneWay], *, min_agreement: float
) -> AgreeingTrack:
    """Track an object back to its start box from both ends.

    Args:
        tracker: follows it.
        frames: those of `track_out`.
        ways: what `track_out` returned.
        min_agreement: least IoU of the start box and where the way back ends. Raising it keeps
            fewer and better boxes.
    """
    start, box = ways[0].numbers[0], ways[0].boxes[0]
    boxes = np.full((len(frames), 4), np.nan)
    agreement, scores = np.full(len(frames), np.nan), np.full(len(frames), np.nan)
    for out in ways:
        # Where the last box does not lead to the start box, try from half way.
        for length in (len(out.numbers), len(out.numbers) // 2):
            if length < 2:
                break
            numbers = out.numbers[:length]
            expected = out.boxes[:length][::-1]
            tracker.init(frames[numbers[-1]], expected[0])
            begin = OneWay([numbers[-1]], expected[:1], np.ones(1), tracker.state)
            back = _follow(tracker, frames, numbers[::-1], begin, expected)
            if len(back.numbers) == length and iou(back.boxes[-1], box) >= min_agreement:
                here = list(numbers)
                agreement[here] = iou(out.boxes[:length], back.boxes[::-1])
                boxes[here] = (out.boxes[:length] + back.boxes[::-1]) / 2
                scores[here] = np.minimum(out.scores[:length], back.scores[::-1])
                break
    boxes[start], agreement[start], scores[start] = box, 1.0, 1.0
    return AgreeingTrack(boxes, agreement, scores)


def find_runs(
    track: AgreeingTrack,
    frame_wh: tuple[int, int],
    *,
    min_agreement: float,
    min_score: float,
    min_run: int,
) -> list[range]:
    """Frames in a row in which both ways agree and neither is doubtful; shorter runs are chance.

    Boxes at the border of the frame (width, height) end a run: there a box is cut off, and
    background that slides out of the frame holds the tracker at its border.
    """
    left_top, right_bottom = track.boxes[:, :2], track.boxes[:, :2] + track.boxes[:, 2:]
    inside = (left_top > _EDGE_PX).all(axis=1) & (right_bottom < np.array(frame_wh) - _EDGE_PX).all(
        axis=1
    )
    with np.errstate(invalid="ignore"):
        good = inside & (track.agreement >= min_agreement) & (track.scores >= min_score)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], good.astype(np.int8), [0]])))
    runs = [range(first, end) for first, end in edges.reshape(-1, 2).tolist()]
    return [run for run in runs if len(run) >= min_run]


def _follow(
    tracker: Tracker,
    frames: Sequence[Image],
    numbers: Sequence[int],
    way: OneWay,
    expected: FloatArray | None = None,
) -> OneWay:
    """Continue a way through the frames `numbers`, of which it has the first.

    It ends at a cut, at a frame of another size, or with the last good box before a loss. With
    (n, 4) `expected` boxes, it is given up when it is elsewhere for some frames.
    """
    if way.state is None:
        return way
    tracker.set_state(way.state)
    boxes, scores = list(way.boxes), way.scores.tolist()
    end, far = len(boxes), 0
    state: TrackState | None = way.state
    for k, number in enumerate(numbers[end:], end):
        frame, before = frames[number], frames[numbers[k - 1]]
        if frame.shape != before.shape or is_cut(thumbnail(before), thumbnail(frame)):
            state = None
            break
        result = tracker.update(frame)
        box = np.array(result.box)
        far = far + 1 if expected is not None and iou(box, expected[k]) < _FAR_IOU else 0
        if result.status == "lost" or far == _FAR_FRAMES:
            state = None
            break
        boxes.append(box)
        scores.append(result.score)
        if result.status == "tracked":
            end, state = len(boxes), tracker.state
    return OneWay(list(numbers[:end]), np.array(boxes[:end]), np.array(scores[:end]), state)
