"""siamtrack in the shape of other libraries: supervision, OpenCV's trackers, the got10k toolkit.

None of them is imported before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from siamtrack.api import load
from siamtrack.errors import ConfigError
from siamtrack.tracking.result import Result
from siamtrack.types import FloatArray, Image

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage
    from supervision import Detections


def to_supervision(results: Result | Mapping[int, Result]) -> Detections:
    """The results of one frame as `supervision.Detections`, in the order of the targets.

    `xyxy` are the boxes, `confidence` the scores, `tracker_id` the numbers of the targets, and
    `data["status"]` their statuses; all are of class 0. A lost target is there with the box that
    is guessed: `detections[detections.data["status"] != "lost"]` leaves it out.

    Args:
        results: of `MultiTracker.update`, by target, or one of `Tracker.update`, which is target 0.

    Raises:
        ConfigError: supervision is not installed, or `results` is something else.
    """
    try:
        from supervision import Detections
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"to_supervision needs supervision ({error}); pip install supervision"
        ) from error
    if isinstance(results, Result):
        results = {0: results}
    if not isinstance(results, Mapping) or not all(
        isinstance(result, Result) for result in results.values()
    ):
        raise ConfigError(
            f"results is a {type(results).__name__}; give what update returned: a Result, or a "
            "mapping from numbers of targets to Results"
        )
    values = list(results.values())
    return Detections(
        xyxy=np.array([result.xyxy for result in values], np.float32).reshape(-1, 4),
        confidence=np.array([result.score for result in values], np.float32),
        # All of one class: annotators color by it, unless told to use sv.ColorLookup.TRACK.
        class_id=np.zeros(len(values), dtype=int),
        tracker_id=np.array(list(results), dtype=int),
        data={"status": np.array([result.status for result in values], dtype="<U9")},
    )


class OpenCVTracker:
    """A tracker with the two calls of `cv2.Tracker`; its boxes are whole pixels, as theirs.

    Example:
        >>> tracker = OpenCVTracker()  # doctest: +SKIP
        >>> tracker.init(frame, cv2.selectROI(frame))  # doctest: +SKIP
        >>> ok, box = tracker.update(frame)  # doctest: +SKIP
        >>> cv2.rectangle(frame, box, (200, 0, 0))  # doctest: +SKIP

    Args:
        **options: arguments of `siamtrack.load`.

    Attributes:
        result: the last `Result`, with score, status and the box to fractions of a pixel; None
            before the first update.
    """

    def __init__(self, **options: Any) -> None:
        self._tracker = load(**options)
        self.result: Result | None = None

    def init(self, image: Image, boundingBox: Sequence[float]) -> None:
        """Start on a uint8 (H, W, 3) BGR frame and a box x, y, w, h in px, 0-based.

        Raises:
            InvalidBoxError: the box is empty or outside the frame.
            InvalidFrameError: the image is not a frame.
        """
        self._tracker.init(image, boundingBox)
        self.result = None

    def update(self, image: Image) -> tuple[bool, tuple[int, int, int, int]]:
        """Track in the next frame.

        Returns:
            Whether the target is there (its status is not lost), and its box x, y, w, h, a guess if
            it is lost.

        Raises:
            NotInitializedError: before `init`.
            InvalidFrameError: the image is not a frame.
        """
        self.result = self._tracker.update(image)
        left, top, right, bottom = map(round, self.result.xyxy)
        # Edges, not sizes, are rounded: the box stays in the frame.
        box = (left, top, max(right - left, 1), max(bottom - top, 1))
        return self.result.status != "lost", box


def to_got10k(tracker: Any, name: str = "siamtrack", *, first_pixel: int = 1) -> Any:
    """Adapt a tracker to the got10k toolkit's experiments, `ExperimentGOT10k(...).run(...)`.

    The toolkit's RGB pictures of Pillow become BGR frames, its boxes 0-based, and back.

    Args:
        tracker: has `init(frame_bgr, box)` and `update(frame_bgr)`, 0-based, as `Tracker`.
        name: of its result folder. The toolkit reuses whatever it finds there: put something into
            the name that changes with the weights.
        first_pixel: coordinate that the data set gives to the top-left pixel, 1 or 0.

    Returns:
        An object of a class that derives from `got10k.trackers.Tracker`.

    Raises:
        ConfigError: the toolkit is not installed, or `first_pixel` is neither 0 nor 1.
    """
    if first_pixel not in (0, 1):
        raise ConfigError(f"first_pixel is {first_pixel!r}; it is 0 or 1")
    try:
        from got10k.trackers import Tracker as ToolkitTracker
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"to_got10k needs the got10k toolkit ({error}); pip install got10k six wget shapely"
        ) from error
    offset = first_pixel * np.array([1.0, 1.0, 0.0, 0.0])

    class Adapted(ToolkitTracker):
        def __init__(self) -> None:
            super().__init__(name=name, is_deterministic=True)

        def init(self, image: PilImage, box: FloatArray) -> None:
            x, y, w, h = (np.asarray(box, dtype=np.float64) - offset).tolist()
            tracker.init(_to_bgr(image), (x, y, w, h))

        def update(self, image: PilImage) -> FloatArray:
            output = tracker.update(_to_bgr(image))
            return np.asarray(getattr(output, "box", output), dtype=np.float64) + offset

    return Adapted()


def _to_bgr(picture: PilImage) -> Image:
    """(H, W, 3) BGR of a picture of Pillow, which is RGB, gray or with a palette."""
    return np.ascontiguousarray(np.asarray(picture.convert("RGB"), dtype=np.uint8)[..., ::-1])
