"""One pass of our own tracker over a sequence, results kept whole: for validation and calibration.

Measuring, with any tracker, time-outs and clocks, is what `siamtrack.evaluation.loops` is for.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from siamtrack.crops import Image
from siamtrack.data.sequence import Sequence
from siamtrack.evaluation.metrics import success_curve
from siamtrack.geometry import FloatArray, iou
from siamtrack.tracking.result import Result
from siamtrack.tracking.tracker import Tracker

OTB_THRESHOLDS = 21


def follow(tracker: Tracker, sequence: Sequence, max_frames: int = 0) -> tuple[int, list[Result]]:
    """Start on the first frame that shows the target and never again.

    Args:
        tracker: whatever it tracked before is forgotten.
        sequence: shows its target at least once.
        max_frames: frames that are tracked, the first included; 0 for all.

    Returns:
        Number of the first frame, and the results from that frame on.
    """
    first, images, begun = begin(tracker, sequence, max_frames)
    return first, [begun, *(tracker.update(image) for image in images)]


def begin(
    tracker: Tracker, sequence: Sequence, max_frames: int = 0
) -> tuple[int, Iterator[Image], Result]:
    """Start on the first frame that shows the target; arguments as `follow`.

    Returns:
        Number of that frame, the frames after it, and the result of the start.
    """
    first = int(np.flatnonzero(sequence.visible)[0])
    stop = min(len(sequence), first + max_frames) if max_frames else len(sequence)
    images = sequence.iter_frames(range(first, stop))
    return first, images, tracker.init(next(images), sequence.boxes[first])


def overlaps_of(sequence: Sequence, first: int, results: list[Result]) -> FloatArray:
    """(len(results),) overlaps with the truth; NaN on the first frame and where there is no truth.

    Args:
        sequence: that was followed.
        first: see `follow`.
        results: see `follow`.
    """
    truth = sequence.boxes[first : first + len(results)]
    overlaps = iou([result.box for result in results], truth)
    overlaps[0] = np.nan
    return overlaps


def success_auc(overlaps: FloatArray) -> float:
    """Mean of the success curve at OTB's 21 thresholds over the frames that count.

    Args:
        overlaps: (N,) NaN where a frame does not count; at least one does.
    """
    return float(success_curve(overlaps[~np.isnan(overlaps)], OTB_THRESHOLDS).mean())
