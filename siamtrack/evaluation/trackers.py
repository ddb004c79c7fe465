"""Trackers by name: what a name means, how a tracker is built, what its results are keyed by.

| name | is |
|---|---|
| `siamtrack`, `siamtrack-nano`, `path/to.safetensors` | ours, by weights |
| `opencv:csrt` | one of OpenCV's |
| `package.module:Class`, `path/to/file.py:Class` | a class of yours |
| `identity` | never moves |

Options follow as `NAME@key=value,key=value`. In order: `EvaluatedTracker` (the two calls of every
tracker), `TrackerSpec` (a name with its options), the kinds of trackers, `result_key`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from siamtrack.errors import ConfigError, EvaluationError, SiamTrackError
from siamtrack.evaluation.got10k_toolkit import toolkit_module
from siamtrack.tracking.old_names import OLD_NAMES
from siamtrack.types import Box, FloatArray, Image
from siamtrack.utils.config import parse_assignment, parse_value
from siamtrack.utils.files import sha256

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

TRACKING_REVISION = 1
"""Revision of how weights, options and frames become boxes; part of every result key of ours.

Raise it whenever the same weights, options, engine and frames give other boxes than before: a
change of the tracking loop, of crops or geometry, of a default option, of an exported graph. All
results of ours are then computed anew. Do not raise it for renames, docstrings or speed.
`tests/evaluation/test_revision.py` tracks a small sequence and fails when the boxes have changed.
"""

OptionValue = str | int | float | bool


class EvaluatedTracker(Protocol):
    """What a class needs to be evaluated.

    Frames are uint8 (H, W, 3) BGR, boxes are x, y, w, h in px, 0-based. `update` returns a box or
    anything with a `box` attribute.
    """

    def init(self, frame_bgr: Image, box: Box) -> object:
        """Start on the first frame."""

    def update(self, frame_bgr: Image) -> Any:
        """Follow the target into the next frame."""


def box_of(output: Any) -> FloatArray:
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


# --- A tracker's name with its options ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrackerSpec:
    """One tracker: a name of the module's table, and options that it is built with."""

    name: str
    options: Mapping[str, OptionValue] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> TrackerSpec:
        """Read `NAME` or `NAME@key=value,key=value`; numbers and true/false are recognized.

        Raises:
            ConfigError: an empty name, or an option that is not `key=value`.
        """
        name, _, rest = text.strip().partition("@")
        if not name:
            raise ConfigError(f"tracker {text!r} has no name; write NAME or NAME@key=value")
        form = f"NAME@key=value,key=value in tracker {text!r}"
        options: dict[str, OptionValue] = {}
        for part in filter(None, rest.split(",")):
            key, written = parse_assignment(part, form)
            value = parse_value(written)
            options[key] = value if isinstance(value, bool | int | float | str) else written
        return cls(name, options)

    def __str__(self) -> str:
        texts = {k: str(v).lower() if isinstance(v, bool) else v for k, v in self.options.items()}
        options = ",".join(f"{key}={text}" for key, text in sorted(texts.items()))
        return f"{self.name}@{options}" if options else self.name

    @property
    def label(self) -> str:
        """The tracker as reports write it: no folders, no model files of OpenCV's."""
        if self.name.startswith("opencv:"):
            return self.name
        return str(TrackerSpec(re.split(r"[/\\]", self.name)[-1], self.options))

    @property
    def is_ours(self) -> bool:
        """Whether it is named by weights of ours."""
        return self.name != "identity" and ":" not in self.name

    @property
    def needs_fresh_process(self) -> bool:
        """Whether its boxes depend on what its process ran before.

        OpenCV's MIL draws from a generator that lives as long as the process and has no seed.
        """
        return self.name == "opencv:mil"

    def build(self) -> EvaluatedTracker:
        """A tracker that has seen nothing.

        Raises:
            ConfigError: unknown name or options.
            EvaluationError: it cannot be built here.
            WeightsError: weights that are missing or damaged.
        """
        if self.name == "identity":
            if self.options:
                raise ConfigError(f"identity takes no options, not {', '.join(self.options)}")
            return IdentityTracker()
        if self.name.startswith("opencv:"):
            return opencv_tracker(self.name.removeprefix("opencv:"), self.options)
        if not self.is_ours:
            return _build_class(self)
        import siamtrack

        options: dict[str, Any] = dict(self.options)
        return siamtrack.load(None if self.name == "siamtrack" else self.name, **options)


def parse_trackers(
    texts: Sequence[str], files: Mapping[str, Mapping[str, str | None]]
) -> list[TrackerSpec]:
    """Read trackers from a command line.

    Args:
        texts: one `NAME` or `NAME@key=value,...` each.
        files: model files given once for all, by name of OpenCV's tracker and of its option.

    Raises:
        ConfigError: a tracker that cannot be read.
    """
    specs = []
    for text in texts:
        spec = TrackerSpec.parse(text)
        if spec.name.startswith("opencv:"):
            common = files.get(spec.name.removeprefix("opencv:"), {})
            given = {key: value for key, value in common.items() if value is not None}
            spec = TrackerSpec(spec.name, {**given, **spec.options})
        specs.append(spec)
    return specs


# --- The baseline and OpenCV's trackers -----------------------------------------------------------


class IdentityTracker:
    """Baseline that always returns the initial box."""

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
    known = MODEL_FILES.get(name, ())
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(
            f"opencv:{name} has no option {', '.join(unknown)}; it takes "
            f"{', '.join(known) or 'none'}"
        )
    if name in CLASSIC:
        for home in (cv2, getattr(cv2, "legacy", None)):
            make = getattr(home, CLASSIC[name], None)
            if make is not None:
                return OpenCvTracker(make)
        raise EvaluationError(
            f"opencv:{name} is not in this OpenCV {cv2.__version__}; it comes with the package "
            "opencv-contrib-python (install it instead of opencv-python, never beside it)"
        )
    flags = " ".join(f"--{option} FILE.onnx" for option in known)
    for option in known:
        if option not in options:
            raise ConfigError(f"opencv:{name} needs its model files; give {flags}")
        if not Path(str(options[option])).is_file():
            raise EvaluationError(
                f"model file {options[option]} of opencv:{name} does not exist; give {flags}"
            )
    files = {option: str(options[option]) for option in known}
    return OpenCvTracker(lambda: _make_network_tracker(name, files))


def _make_network_tracker(name: str, files: Mapping[str, str]) -> Any:
    opencv: Any = cv2  # these classes are missing from OpenCV's type stubs
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


# --- Classes of the user's, and the got10k toolkit's way of calling them --------------------------


def _build_class(spec: TrackerSpec) -> EvaluatedTracker:
    where, _, class_name = spec.name.rpartition(":")
    cls = getattr(_import_module(where), class_name, None)
    if not callable(cls):
        raise ConfigError(f"{where} has no class {class_name!r}; write package.module:Class")
    try:
        made = cls(**spec.options)
    except SiamTrackError:
        raise
    except Exception as error:
        raise EvaluationError(
            f"{spec.name} cannot be built with the options {dict(spec.options)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if is_toolkit_tracker(made):
        return ToolkitTrackerAdapter(made)
    missing = [call for call in ("init", "update") if not callable(getattr(made, call, None))]
    if missing:
        raise ConfigError(f"{spec.name} has no method {' and '.join(missing)}; it needs both")
    return made


def _import_module(where: str) -> ModuleType:
    try:
        if not where.endswith(".py"):
            return importlib.import_module(where)
        path = Path(where)
        found = importlib.util.spec_from_file_location(f"siamtrack_evaluated_{path.stem}", path)
        if not path.is_file() or found is None or found.loader is None:
            raise ConfigError(f"{where} is not a Python file; write path/to/file.py:Class")
        module = importlib.util.module_from_spec(found)
        sys.modules[found.name] = module
        found.loader.exec_module(module)
        return module
    except SiamTrackError:
        raise
    except Exception as error:
        raise EvaluationError(
            f"{where} cannot be imported ({type(error).__name__}: {error}); write "
            "package.module:Class for something on the Python path, or path/to/file.py:Class"
        ) from error


FIRST_PIXEL = np.array([1.0, 1.0, 0.0, 0.0])
"""Added to our boxes where the first pixel has the coordinate 1, as in the toolkit."""


def is_toolkit_tracker(made: object) -> bool:
    """Whether `made` derives from the toolkit's `Tracker`; does not import the toolkit."""
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(made).__mro__}
    return "got10k.trackers.Tracker" in names


class ToolkitTrackerAdapter:
    """A tracker written for the toolkit, run on our frames and boxes.

    Args:
        tracker: has the toolkit's `init(picture, box)` and `update(picture)`: RGB pictures of
            Pillow, boxes whose first pixel is 1.
    """

    def __init__(self, tracker: Any):
        self._tracker = tracker

    def init(self, frame_bgr: Image, box: Box) -> None:
        """Start; the box becomes 1-based."""
        self._tracker.init(_to_pil(frame_bgr), np.asarray(box) + FIRST_PIXEL)

    def update(self, frame_bgr: Image) -> FloatArray:
        """Follow; the box becomes 0-based."""
        return box_of(self._tracker.update(_to_pil(frame_bgr))) - FIRST_PIXEL


def as_toolkit_tracker(tracker: EvaluatedTracker, name: str, *, first_pixel: int = 1) -> Any:
    """Adapt one of our trackers to the toolkit's experiments, `ExperimentGOT10k(...).run(...)`.

    Args:
        tracker: has `init(frame_bgr, box)` and `update(frame_bgr)`, 0-based.
        name: of its result folder. The toolkit reuses whatever it finds there: put something into
            the name that changes with the weights, such as `result_key`.
        first_pixel: of the data set's annotations, 0 or 1.

    Raises:
        EvaluationError: the toolkit is not installed.
    """
    offset = FIRST_PIXEL * first_pixel

    class Adapted(toolkit_module("trackers").Tracker):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name=name, is_deterministic=True)

        def init(self, image: PilImage, box: FloatArray) -> None:
            x, y, w, h = (np.asarray(box, dtype=np.float64) - offset).tolist()
            tracker.init(_to_bgr(image), (x, y, w, h))

        def update(self, image: PilImage) -> FloatArray:
            return box_of(tracker.update(_to_bgr(image))) + offset

    return Adapted()


def _to_bgr(picture: PilImage) -> Image:
    return np.ascontiguousarray(np.asarray(picture.convert("RGB"), dtype=np.uint8)[..., ::-1])


def _to_pil(frame_bgr: Image) -> PilImage:
    from PIL import Image as pillow

    return pillow.fromarray(np.ascontiguousarray(frame_bgr[..., ::-1]))


# --- What results are keyed by --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrackerEntry:
    """A tracker that takes part.

    Attributes:
        spec: how to build it.
        label: how reports call it, unique among those that take part.
        key: names its results.
        identity: what the key was made from.
    """

    spec: TrackerSpec
    label: str
    key: str
    identity: Mapping[str, object]


def resolve_trackers(specs: Sequence[TrackerSpec]) -> list[TrackerEntry]:
    """Give every tracker its label and key; each is built once to see that it can be.

    Raises:
        ConfigError: none, the same one twice, or an unknown name or option.
        EvaluationError: one that cannot be built here.
        WeightsError: weights that are missing or damaged.
    """
    if not specs:
        raise ConfigError("no tracker to evaluate; give at least one with --tracker NAME")
    labels = [spec.label for spec in specs]
    entries: list[TrackerEntry] = []
    for spec in specs:
        identity = result_identity(spec, spec.build())
        key = result_key(spec, identity)
        twin = next((other for other in entries if other.key == key), None)
        if twin is not None:
            raise ConfigError(f"{spec} and {twin.spec} are the same tracker; give it once")
        label = spec.label if labels.count(spec.label) == 1 else str(spec)
        entries.append(TrackerEntry(spec, label, key, identity))
    return entries


def result_identity(spec: TrackerSpec, tracker: EvaluatedTracker) -> dict[str, object]:
    """Everything that the boxes of a tracker depend on, as plain data.

    For ours: weights, the options that differ from their defaults (from the weights' card or the
    caller), engine, precision and device that really run, and `TRACKING_REVISION`.

    Args:
        spec: the tracker.
        tracker: built from it.

    Raises:
        ConfigError: a class that cannot be found.
        EvaluationError: a model file that is missing.
        WeightsError: weights that are missing.
    """
    if spec.name == "identity":
        return {"name": spec.name}
    if spec.name.startswith("opencv:"):
        files = {key: sha256(Path(str(value))) for key, value in sorted(spec.options.items())}
        return {"name": spec.name, "opencv": cv2.__version__, "files_sha256": files}
    if not spec.is_ours:
        source = _source_file(spec.name)
        code = sha256(source) if source else "builtin"
        options = dict(sorted(spec.options.items()))
        return {"name": spec.name, "options": options, "source_sha256": code}
    from siamtrack.api import DEFAULT_WEIGHTS
    from siamtrack.models.weights import find_weights

    ours: Any = tracker
    weights = find_weights(DEFAULT_WEIGHTS if spec.name == "siamtrack" else spec.name)
    values = {f.name: (getattr(ours.options, f.name), f.default) for f in fields(ours.options)}
    return {
        "weights_sha256": sha256(weights),
        "options": {name: v for name, (v, default) in sorted(values.items()) if v != default},
        "engine": ours.engine.name,
        "precision": ours.engine.precision,
        "device": str(ours.engine.device).partition(":")[0],
        "tracking_revision": TRACKING_REVISION,
    }


def result_key(spec: TrackerSpec, identity: Mapping[str, object] | None = None) -> str:
    """Folder name of a tracker's results: its name and ten digits of its identity's hash.

    Args:
        spec: the tracker.
        identity: its `result_identity`; None builds the tracker to find out.
    """
    if identity is None:
        identity = result_identity(spec, spec.build())
    hashed = dict(identity)
    if spec.is_ours:
        # Options under the first names they had: renaming one keeps all keys.
        first_names = {new: old for old, new in OLD_NAMES.items()}
        options: Any = hashed["options"]
        hashed["options"] = {first_names.get(name, name): v for name, v in options.items()}
    text = json.dumps(hashed, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    name = spec.name
    if "/" in name or "\\" in name:
        name = re.split(r"[/\\]", name)[-1].removesuffix(".safetensors")
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', name).strip('-')}-{digest}"


def _source_file(name: str) -> Path | None:
    """The file that defines a class, None where Python has it built in."""
    where = name.rpartition(":")[0]
    if where.endswith(".py"):
        return Path(where)
    found = importlib.util.find_spec(where)
    return Path(found.origin) if found and found.origin and Path(found.origin).is_file() else None
