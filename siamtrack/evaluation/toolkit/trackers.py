"""The toolkit's `Tracker` contract, in both directions.

The toolkit hands its trackers RGB PIL pictures, not yet decoded, and boxes as they stand in the
annotation. Its own trackers, and those written for it, take the first pixel to be 1. siamtrack's
take BGR arrays and boxes whose first pixel is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from siamtrack.evaluation.rivals import Box, EvaluatedTracker, box_of
from siamtrack.evaluation.toolkit.loading import toolkit_module

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Image = NDArray[np.uint8]
FIRST_PIXEL = np.array([1.0, 1.0, 0.0, 0.0])


def is_toolkit_tracker(made: object) -> bool:
    """Whether `made` derives from the toolkit's `Tracker`; does not import the toolkit."""
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(made).__mro__}
    return "got10k.trackers.Tracker" in names


class ToolkitTrackerHere:
    """A tracker written for the toolkit, run on our frames and boxes.

    Args:
        tracker: has the toolkit's `init(picture, box)` and `update(picture)`.
    """

    def __init__(self, tracker: Any):
        self._tracker = tracker

    def init(self, frame_bgr: Image, box: Box) -> None:
        """Start; the box becomes 1-based."""
        self._tracker.init(_picture(frame_bgr), np.asarray(box) + FIRST_PIXEL)

    def update(self, frame_bgr: Image) -> NDArray[np.float64]:
        """Follow; the box becomes 0-based."""
        return box_of(self._tracker.update(_picture(frame_bgr))) - FIRST_PIXEL


def with_our_frames(tracker: Any) -> EvaluatedTracker:
    """Run a toolkit tracker like any other."""
    return ToolkitTrackerHere(tracker)


def as_toolkit_tracker(tracker: EvaluatedTracker, name: str, *, first_pixel: int = 1) -> Any:
    """Dress one of our trackers for the toolkit's experiments, `ExperimentGOT10k(...).run(...)`.

    Args:
        tracker: has `init(frame_bgr, box)` and `update(frame_bgr)`, 0-based.
        name: of its result folder. The toolkit reuses whatever it finds there: put something into
            the name that changes with the weights, such as `identity.tracker_key`.
        first_pixel: of the data set's annotations, 0 or 1.

    Raises:
        EvaluationError: the toolkit is not installed.
    """
    offset = FIRST_PIXEL * first_pixel

    class Dressed(toolkit_module("trackers").Tracker):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name=name, is_deterministic=True)

        def init(self, image: Picture, box: NDArray[np.float64]) -> None:
            x, y, w, h = (np.asarray(box, dtype=np.float64) - offset).tolist()
            tracker.init(_bgr(image), (x, y, w, h))

        def update(self, image: Picture) -> NDArray[np.float64]:
            return box_of(tracker.update(_bgr(image))) + offset

    return Dressed()


def _bgr(picture: Picture) -> Image:
    return np.ascontiguousarray(np.asarray(picture.convert("RGB"), dtype=np.uint8)[..., ::-1])


def _picture(frame_bgr: Image) -> Picture:
    from PIL import Image as pillow

    return pillow.fromarray(np.ascontiguousarray(frame_bgr[..., ::-1]))
