"""Views of a sequence: other starts, directions and rates, so that one start decides nothing.

| view | is |
|---|---|
| `start` | the sequence as it is |
| `third` | from a third of its length on |
| `mirror` | frames and boxes mirrored left to right |
| `reverse` | backwards in time |
| `half` | every second frame |

Every view but `start` begins at its first frame that shows the target. In order: `parse_views`,
`view_frames` (numbers of the frames), `view_of` (a view of a `VideoSequence`, in memory),
`view_of_benchmark` (of an `EvalSequence`, for result files).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from siamtrack.data.sequence import VideoSequence
from siamtrack.errors import ConfigError
from siamtrack.evaluation.chosen_frames import ViewFrames
from siamtrack.evaluation.datasets import EvalSequence, Truth, frames_with_box
from siamtrack.types import BoolArray, FloatArray, IntArray
from siamtrack.video.random_access import Frames

VIEWS = ("start", "third", "mirror", "reverse", "half")
PLAIN = "start"


def parse_views(names: Sequence[str]) -> tuple[str, ...]:
    """Check names of views, without repetition; raises ConfigError."""
    for name in names:
        if name not in VIEWS:
            raise ConfigError.unknown("view", name, VIEWS)
    if not names:
        raise ConfigError(f"no view is given; there are {', '.join(VIEWS)}")
    return tuple(dict.fromkeys(names))


def view_frames(view: str, visible: BoolArray, max_frames: int = 0) -> IntArray:
    """(M,) numbers of a view's frames in its order, the first of them with the target in view.

    Args:
        view: one of `VIEWS`.
        visible: (N,) frames that show the target.
        max_frames: M is at most this; 0 for all.

    Returns:
        Empty if no frame of the view shows the target.
    """
    numbers = np.arange(len(visible))
    if view == "third":
        numbers = numbers[len(visible) // 3 :]
    elif view == "reverse":
        numbers = numbers[::-1]
    elif view == "half":
        numbers = numbers[::2]
    shown = np.flatnonzero(visible[numbers])
    numbers = numbers[shown[0] :] if len(shown) else numbers[:0]
    return numbers[:max_frames] if max_frames else numbers


def view_of(sequence: VideoSequence, view: str, max_frames: int = 0) -> VideoSequence:
    """A view of a sequence, of at most `max_frames` frames (0 for all)."""
    numbers = view_frames(view, sequence.visible, max_frames)
    frames, boxes = _cut(sequence.frames, sequence.boxes, view, numbers)
    return replace(sequence, frames=frames, boxes=boxes, visible=sequence.visible[numbers])


def view_of_benchmark(sequence: EvalSequence, view: str, max_frames: int = 0) -> EvalSequence:
    """A view of a sequence of a benchmark; VOT's regions and tags stay behind."""
    if view == PLAIN and not max_frames:
        return sequence
    numbers = view_frames(view, shows_target(sequence), max_frames)
    frames, boxes = _cut(sequence.frames, sequence.boxes_xywh, view, numbers)
    visible, bound_wh = sequence.truth.visible[numbers], sequence.truth.bound_wh
    truth = Truth(sequence.to_file(boxes), visible, bound_wh)
    return replace(sequence, frames=frames, truth=truth, regions=None, tags={})


def shows_target(sequence: EvalSequence) -> BoolArray:
    """(N,) frames of a sequence of a benchmark with a box that may be scored."""
    return sequence.truth.visible & frames_with_box(sequence.truth.boxes_xywh)


def _cut(
    frames: Frames, boxes_xywh: FloatArray, view: str, numbers: IntArray
) -> tuple[Frames, FloatArray]:
    """Frames and (M, 4) 0-based boxes of a view."""
    boxes, mirrored = boxes_xywh[numbers], view == "mirror"
    if mirrored and len(numbers):
        width_px = frames.read(int(numbers[0])).shape[1]
        boxes[:, 0] = width_px - boxes[:, 0] - boxes[:, 2]
    return ViewFrames(frames, numbers, mirrored=mirrored), boxes
