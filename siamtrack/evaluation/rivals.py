"""Other people's trackers, by name, behind the two calls that every tracker here has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import ConfigError, EvaluationError

Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]


class EvaluatedTracker(Protocol):
    """What a class needs to be evaluated.

    Frames are uint8 (H, W, 3) BGR, boxes are x, y, w, h in px, 0-based. `update` returns a box or
    anything with a `box` attribute.
    """

    def init(self, frame_bgr: Image, box: Box) -> object:
        """Start on the first frame."""

    def update(self, frame_bgr: Image) -> Any:
        """Follow into the next frame."""


class IdentityTracker:
    """Returns the first box for ever: the floor under every other figure."""

    def __init__(self) -> None:
        self._box: Box | None = None

    def init(self, frame_bgr: Image, box: Box) -> None:
        """Remember `box`."""
        self._box = box

    def update(self, frame_bgr: Image) -> Box | None:
        """The first box."""
        return self._box


class OpenCvTracker:
    """A tracker of OpenCV: whole-pixel first box, and the old box wherever it reports failure.

    Args:
        make: builds the OpenCV object; called again at every `init`, because most of OpenCV's
            trackers keep what they learnt from the last sequence.
    """

    def __init__(self, make: Callable[[], Any]):
        self._make = make
        self._tracker: Any = None
        self._box: Box = (0.0, 0.0, 0.0, 0.0)

    def init(self, frame_bgr: Image, box: Box) -> None:
        """Start on `frame_bgr`; OpenCV takes integers."""
        self._tracker = self._make()
        x, y, w, h = (round(v) for v in box)
        self._tracker.init(frame_bgr, (x, y, max(w, 1), max(h, 1)))
        self._box = box

    def update(self, frame_bgr: Image) -> Box:
        """Follow; a failure keeps the last box."""
        found, box = self._tracker.update(frame_bgr)
        if found:
            x, y, w, h = (float(v) for v in box)
            self._box = (x, y, w, h)
        return self._box


CLASSIC = {
    "csrt": "TrackerCSRT_create",
    "kcf": "TrackerKCF_create",
    "medianflow": "TrackerMedianFlow_create",
    "mil": "TrackerMIL_create",
    "mosse": "TrackerMOSSE_create",
}
"""Trackers without model files; OpenCV keeps some of them in `cv2.legacy`."""

PROCESS_BOUND = frozenset({"opencv:mil"})
"""Trackers that draw from a generator that lives as long as their process and cannot be seeded;
each of their runs gets a process that has not run them before, or results would depend on order."""

MODEL_FILES = {"nano": ("backbone", "head"), "vit": ("net",)}
"""Trackers with networks, and the options that name their model files."""

OPENCV_NAMES = tuple(sorted([*CLASSIC, *MODEL_FILES]))


def opencv_tracker(name: str, options: Mapping[str, Any]) -> OpenCvTracker:
    """Build one of OpenCV's trackers.

    Args:
        name: one of `OPENCV_NAMES`.
        options: model files for `nano` (`backbone`, `head`) and `vit` (`net`); none for the others.

    Raises:
        ConfigError: unknown name or option.
        EvaluationError: this OpenCV does not have it, or a model file is missing or unreadable.
    """
    if name not in OPENCV_NAMES:
        raise ConfigError(
            f"no OpenCV tracker named {name!r}; there are {', '.join(OPENCV_NAMES)} "
            "(written opencv:NAME)"
        )
    wanted = MODEL_FILES.get(name, ())
    unknown = sorted(set(options) - set(wanted))
    if unknown:
        raise ConfigError(
            f"opencv:{name} has no option {', '.join(unknown)}; it takes "
            f"{', '.join(wanted) or 'none'}"
        )
    make = _classic(name) if name in CLASSIC else _networked(name, _model_files(name, options))
    return OpenCvTracker(make)


def _classic(name: str) -> Callable[[], Any]:
    creator = CLASSIC[name]
    for home in (cv2, getattr(cv2, "legacy", None)):
        make = getattr(home, creator, None)
        if make is not None:
            return make
    raise EvaluationError(
        f"opencv:{name} is not in this OpenCV {cv2.__version__}; it comes with the package "
        "opencv-contrib-python (install it instead of opencv-python, never beside it)"
    )


def _model_files(name: str, options: Mapping[str, Any]) -> dict[str, str]:
    files = {}
    for option in MODEL_FILES[name]:
        flags = " ".join(f"--{wanted} FILE.onnx" for wanted in MODEL_FILES[name])
        if option not in options:
            raise ConfigError(f"opencv:{name} needs its model files; give {flags}")
        path = Path(str(options[option]))
        if not path.is_file():
            raise EvaluationError(
                f"model file {path} of opencv:{name} does not exist; give {flags}"
            )
        files[option] = str(path)
    return files


def _networked(name: str, files: Mapping[str, str]) -> Callable[[], Any]:
    opencv: Any = cv2  # these classes are missing from OpenCV's type stubs

    def make() -> Any:
        try:
            if name == "nano":
                nano = opencv.TrackerNano_Params()
                nano.backbone, nano.neckhead = files["backbone"], files["head"]
                return opencv.TrackerNano_create(nano)
            vit = opencv.TrackerVit_Params()
            vit.net = files["net"]
            return opencv.TrackerVit_create(vit)
        except (AttributeError, cv2.error) as error:
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else "no reason"
            raise EvaluationError(
                f"OpenCV {cv2.__version__} cannot make opencv:{name} from "
                f"{', '.join(files.values())}: {reason}; give the model files of that tracker"
            ) from error

    return make


def box_of(output: Any) -> NDArray[np.float64]:
    """The box in whatever a tracker's `update` returned.

    Args:
        output: four numbers, an object with a `box` of four numbers, or OpenCV's (found, box).

    Returns:
        (4,) float64 xywh px; coordinates may be NaN, which is for the caller to refuse.

    Raises:
        EvaluationError: there is no box in it.
    """
    box = getattr(output, "box", output)
    if isinstance(box, Sequence) and len(box) == 2 and isinstance(box[0], bool):
        box = box[1]
    try:
        array = np.asarray(box, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (4,):
        raise EvaluationError(
            f"update returned {output!r}; it must return x, y, w, h or an object with .box"
        )
    return array
