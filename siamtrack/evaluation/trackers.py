"""Other people's trackers, by name, behind the two calls that every tracker here has."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import ConfigError, EvaluationError, SiamTrackError
from siamtrack.evaluation.got10k_toolkit import toolkit_module
from siamtrack.types import Box, Image
from siamtrack.utils.config import parse_value

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


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


OptionValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class TrackerSpec:
    """One tracker with its options.

    Attributes:
        name: see the module's docstring.
        options: passed to the tracker when it is built.
    """

    name: str
    options: Mapping[str, OptionValue] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> TrackerSpec:
        """Read `NAME` or `NAME@key=value,key=value`; numbers and true/false are recognised.

        Raises:
            ConfigError: an empty name, or an option that is not `key=value`.
        """
        name, _, rest = text.strip().partition("@")
        options: dict[str, OptionValue] = {}
        for part in filter(None, rest.split(",")):
            key, equals, value = part.partition("=")
            if not equals or not key.strip():
                raise ConfigError(
                    f"tracker {text!r} has the option {part!r}; write NAME@key=value,key=value"
                )
            options[key.strip()] = _literal(value.strip())
        if not name:
            raise ConfigError(f"tracker {text!r} has no name; write NAME or NAME@key=value")
        return cls(name, options)

    def with_defaults(self, options: Mapping[str, OptionValue]) -> TrackerSpec:
        """The same tracker with `options` added where it does not set them itself."""
        return TrackerSpec(self.name, {**options, **self.options})

    def __str__(self) -> str:
        options = ",".join(f"{k}={_short(v)}" for k, v in sorted(self.options.items()))
        return f"{self.name}@{options}" if options else self.name

    @property
    def label(self) -> str:
        """The tracker as reports write it: no folders, no model files that opencv needs."""
        if self.name.startswith("opencv:"):
            return self.name
        return str(TrackerSpec(re.split(r"[/\\]", self.name)[-1], self.options))

    @property
    def is_ours(self) -> bool:
        """Whether it is named by weights of ours."""
        return self.name != "identity" and ":" not in self.name

    def build(self) -> EvaluatedTracker:
        """A fresh tracker that has seen nothing.

        Raises:
            ConfigError: unknown name or options.
            EvaluationError: it cannot be built here.
            WeightsError: weights that are missing or damaged.
        """
        kind, _, rest = self.name.partition(":")
        if self.name == "identity":
            _refuse_options(self)
            return IdentityTracker()
        if kind == "opencv":
            return opencv_tracker(rest, self.options)
        if ":" in self.name:
            return _from_class(self)
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
        given = files.get(spec.name.removeprefix("opencv:"), {})
        if spec.name.startswith("opencv:"):
            spec = spec.with_defaults({k: v for k, v in given.items() if v is not None})
        specs.append(spec)
    return specs


def _from_class(spec: TrackerSpec) -> EvaluatedTracker:
    where, _, class_name = spec.name.rpartition(":")
    cls = getattr(_import(where), class_name, None)
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
        return with_our_frames(made)
    missing = [call for call in ("init", "update") if not callable(getattr(made, call, None))]
    if missing:
        raise ConfigError(f"{spec.name} has no method {' and '.join(missing)}; it needs both")
    return made


def _import(where: str) -> ModuleType:
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


def _literal(text: str) -> OptionValue:
    """A TOML value where the text is one, else the text."""
    value = parse_value(text)
    return value if isinstance(value, bool | int | float | str) else text


def _short(value: OptionValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refuse_options(spec: TrackerSpec) -> None:
    if spec.options:
        raise ConfigError(f"{spec.name} takes no options, not {', '.join(spec.options)}")


TRACKING = frozenset({"tracking", "engines", "models", "crops.py", "geometry.py"})
"""Parts of the package that boxes depend on."""


def identity(spec: TrackerSpec) -> dict[str, object]:
    """Everything the boxes of `spec` depend on, as plain data.

    Raises:
        ConfigError: a class that cannot be found.
        EvaluationError: a model file that is missing.
        WeightsError: weights that are missing.
    """
    options = dict(sorted(spec.options.items()))
    if spec.name == "identity":
        return {"name": spec.name}
    if spec.name.startswith("opencv:"):
        files = _option_files(options)
        return {"name": spec.name, "opencv": cv2.__version__, "files_sha256": files}
    if ":" in spec.name:
        source = _source_file(spec.name)
        code = sha256_of(source) if source else "builtin"
        return {"name": spec.name, "options": options, "source_sha256": code}
    return {**_weights(spec.name), "options": options, "code_sha256": code_sha256()}


def tracker_key(spec: TrackerSpec) -> str:
    """Folder name of a tracker's results: its name and ten digits of its identity's hash."""
    text = json.dumps(identity(spec), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    name = spec.name
    if "/" in name or "\\" in name:
        name = re.split(r"[/\\]", name)[-1].removesuffix(".safetensors")
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', name).strip('-')}-{digest}"


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _source_file(name: str) -> Path | None:
    where = name.rpartition(":")[0]
    if where.endswith(".py"):
        if not Path(where).is_file():
            raise ConfigError(f"{where} does not exist; write path/to/file.py:Class")
        return Path(where)
    try:
        found = importlib.util.find_spec(where)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigError(
            f"module {where!r} cannot be found; write package.module:Class for something on the "
            "Python path, or path/to/file.py:Class"
        )
    return Path(found.origin) if found.origin and Path(found.origin).is_file() else None


def _option_files(options: Mapping[str, OptionValue]) -> dict[str, str]:
    files = {}
    for key, value in sorted(options.items()):
        if not Path(str(value)).is_file():
            raise EvaluationError(f"model file {value} (option {key}) does not exist")
        files[key] = sha256_of(Path(str(value)))
    return files


def _weights(name: str) -> dict[str, object]:
    """Hash of the weights, and the options on their card, which are part of the tracker."""
    from siamtrack.api import DEFAULT_WEIGHTS
    from siamtrack.models.weights import card_path, find_weights, read_card

    path = find_weights(DEFAULT_WEIGHTS if name == "siamtrack" else name)
    tuned = dict(read_card(path).tracker) if card_path(path).is_file() else {}
    return {"weights_sha256": sha256_of(path), "card_options": tuned}


def code_sha256() -> str:
    """Hash of the source that turns weights and frames into boxes."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if parts[0] in TRACKING:
            digest.update("/".join(parts).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


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
