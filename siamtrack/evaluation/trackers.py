"""Trackers by name: what a name means, how a tracker is built, what its results are keyed by.

| name | is |
|---|---|
| `siamtrack`, `siamtrack-nano`, `path/to.safetensors` | ours, by weights |
| `opencv:csrt` | one of OpenCV's |
| `nanotrack:BACKBONE.onnx,HEAD.onnx` | NanoTrackV3, by its model files |
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
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from siamtrack.adapters import to_got10k
from siamtrack.errors import ConfigError, EvaluationError, SiamTrackError
from siamtrack.tracking.old_names import OLD_NAMES
from siamtrack.types import Box, FloatArray, Image
from siamtrack.utils.config import parse_assignment, parse_value, warn_renamed
from siamtrack.utils.files import sha256

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

TRACKING_REVISION = 8
"""Revision of how weights, options and frames become boxes; part of every result key of ours.

Raise it whenever the same weights, options, engine and frames give other boxes than before: a
change of the tracking loop, of crops or geometry, of a default option, of an exported graph. All
results of ours are then computed anew. Do not raise it for renames, docstrings or speed.
`tests/evaluation/test_revision.py` tracks a small sequence and fails when the boxes have changed.
"""


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
    """(4,) float64 xywh from four numbers, an object with a `box`, or OpenCV's (found, box)."""
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
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> TrackerSpec:
        """Parse `NAME` or `NAME@key=value,key=value`; numbers and true/false are recognized."""
        name, _, rest = text.strip().partition("@")
        if not name:
            raise ConfigError(f"tracker {text!r} has no name; write NAME or NAME@key=value")
        form = f"NAME@key=value,key=value in tracker {text!r}"
        options = {}
        for part in filter(None, rest.split(",")):
            key, written = parse_assignment(part, form)
            value = parse_value(written)
            options[key] = value if isinstance(value, int | float | str) else written
        return cls(name, options)

    def __str__(self) -> str:
        texts = {k: str(v).lower() if isinstance(v, bool) else v for k, v in self.options.items()}
        options = ",".join(f"{key}={text}" for key, text in sorted(texts.items()))
        return f"{self.name}@{options}" if options else self.name

    @property
    def label(self) -> str:
        """The tracker as reports write it: no folders, no model files of rivals."""
        if self.name.startswith("opencv:"):
            return self.name
        if self.is_nanotrack:
            return NANOTRACK
        return str(TrackerSpec(_file_name(self.name), self.options))

    @property
    def is_ours(self) -> bool:
        """Whether it is named by weights of ours."""
        named = os.path.splitdrive(self.name)[1]  # the colon of a drive is part of a path
        return self.name not in ("identity", NANOTRACK) and ":" not in named

    @property
    def is_nanotrack(self) -> bool:
        """Whether it is NanoTrackV3."""
        return self.name.partition(":")[0] == NANOTRACK

    @property
    def needs_fresh_process(self) -> bool:
        """Whether its boxes depend on what its process ran before.

        OpenCV's MIL draws from a generator that lives as long as the process and has no seed.
        """
        return self.name == "opencv:mil"

    def with_full_paths(self) -> TrackerSpec:
        """The same tracker with its files by full paths, for a process in another folder."""

        def full(path: object) -> str:
            return os.path.abspath(Path(str(path)).expanduser())

        name, options = self.name, dict(self.options)
        if name.startswith("opencv:"):
            options = {option: full(file) for option, file in options.items()}
        elif self.is_nanotrack:
            name = f"{NANOTRACK}:{','.join(map(full, _nanotrack_files(self)))}"
        elif self.is_ours:
            from siamtrack.models.weights import list_weights

            is_file = name not in list_weights() and Path(name).expanduser().is_file()
            name = full(name) if is_file else name
        elif name.rpartition(":")[0].endswith(".py"):
            file, _, class_name = name.rpartition(":")
            name = f"{full(file)}:{class_name}"
        return TrackerSpec(name, options)

    def build(self) -> EvaluatedTracker:
        """Build the tracker; nothing is initialized.

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
        if self.is_nanotrack:
            return _build_nanotrack(self)
        if not self.is_ours:
            return _build_class(self)
        import siamtrack

        options: dict[str, Any] = dict(self.options)
        return siamtrack.load(None if self.name == "siamtrack" else self.name, **options)


def parse_trackers(
    texts: Sequence[str], files: Mapping[str, Mapping[str, str | None]]
) -> list[TrackerSpec]:
    """Parse the trackers of a command line.

    Args:
        texts: `NAME` or `NAME@key=value,...` each.
        files: model files given once for all, by name of OpenCV's tracker and of its option.
    """
    specs = []
    for spec in map(TrackerSpec.parse, texts):
        common = files.get(spec.name.removeprefix("opencv:"), {})
        if spec.name.startswith("opencv:"):
            given = {key: value for key, value in common.items() if value is not None}
            spec = TrackerSpec(spec.name, {**given, **spec.options})
        specs.append(spec)
    return specs


def _file_name(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]


# --- The baseline and OpenCV's trackers -----------------------------------------------------------


class IdentityTracker:
    """Baseline that always returns the initial box."""

    def __init__(self) -> None:
        self._box: Box | None = None

    def init(self, frame_bgr: Image, box: Box) -> None:
        """Remember `box`."""
        self._box = box

    def update(self, frame_bgr: Image) -> Box | None:
        """Return the initial box."""
        return self._box


class OpenCvTracker:
    """A tracker of OpenCV; where it reports a failure, the last box stays.

    Every `init` calls `make`, because most of OpenCV's trackers keep a model of the last target.
    """

    def __init__(self, make: Callable[[], Any]):
        self._make = make
        self._made: Any = None  # ahead of the next `init`
        self._tracker: Any = None
        self._box: Box = (0.0, 0.0, 0.0, 0.0)

    def prepare(self) -> None:
        """Read the model files now, which the next `init` would do.

        Raises:
            EvaluationError: OpenCV cannot read them.
        """
        self._made = self._make()

    def init(self, frame_bgr: Image, box: Box) -> None:
        """Start on `frame_bgr`; OpenCV takes integers, so the box is rounded."""
        self._tracker, self._made = self._made or self._make(), None
        x, y, w, h = (round(v) for v in box)
        self._tracker.init(frame_bgr, (x, y, max(w, 1), max(h, 1)))
        self._box = box

    def update(self, frame_bgr: Image) -> Box:
        """Return the new box, or the last one after a failure."""
        found, box = self._tracker.update(frame_bgr)
        if found:
            x, y, w, h = (float(v) for v in box)
            self._box = (x, y, w, h)
        return self._box


CLASSIC = {
    name.lower(): f"Tracker{name}_create" for name in ("CSRT", "KCF", "MedianFlow", "MIL", "MOSSE")
}
"""Trackers without model files; OpenCV keeps some of them in `cv2.legacy`."""

MODEL_FILES = {"nano": ("backbone", "head"), "vit": ("net",)}
"""Trackers with networks, and the options that name their model files."""


def opencv_tracker(name: str, options: Mapping[str, Any]) -> OpenCvTracker:
    """Build one of OpenCV's trackers; `options` are its `MODEL_FILES`."""
    names = sorted([*CLASSIC, *MODEL_FILES])
    if name not in names:
        raise ConfigError(
            f"no OpenCV tracker named {name!r}; there are {', '.join(names)} (written opencv:NAME)"
        )
    known = MODEL_FILES.get(name, ())
    if unknown := sorted(set(options) - set(known)):
        raise ConfigError(
            f"opencv:{name} has no option {', '.join(unknown)}; it takes "
            f"{', '.join(known) or 'none'}"
        )
    # Trackers without model files.
    if name in CLASSIC:
        for home in (cv2, getattr(cv2, "legacy", None)):
            make = getattr(home, CLASSIC[name], None)
            if make is not None:
                return OpenCvTracker(make)
        raise EvaluationError(
            f"opencv:{name} is not in this OpenCV {cv2.__version__}; it comes with another build: "
            "pip uninstall opencv-python opencv-python-headless, then pip install "
            "opencv-contrib-python; this one has opencv:mil"
        )
    # Trackers with networks.
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


# --- NanoTrackV3 ----------------------------------------------------------------------------------

NANOTRACK = "nanotrack"


def _build_nanotrack(spec: TrackerSpec) -> EvaluatedTracker:
    if spec.options:
        raise ConfigError(f"{NANOTRACK} takes no options, not {', '.join(spec.options)}")
    backbone, head = _nanotrack_files(spec)
    try:
        from siamtrack.evaluation.nanotrack import NanoTracker
    except ImportError as error:
        raise EvaluationError(
            f"{NANOTRACK} needs ONNX Runtime, which cannot be imported ({error}); "
            "pip install onnxruntime"
        ) from error
    return NanoTracker(backbone, head)


def _nanotrack_files(spec: TrackerSpec) -> tuple[Path, Path]:
    """Backbone and head."""
    files = [file.strip() for file in spec.name.partition(":")[2].split(",")]
    if len(files) != 2 or not all(files):
        raise ConfigError(
            f"tracker {spec.name!r} needs two model files; "
            f"write {NANOTRACK}:BACKBONE.onnx,HEAD.onnx"
        )
    backbone, head = (Path(os.path.expanduser(file)) for file in files)
    return backbone, head


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
    except Exception as error:  # a class of the user's may raise anything
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
"""Added to 0-based boxes: the toolkit's first pixel has the coordinate 1."""


def is_toolkit_tracker(made: object) -> bool:
    """Whether `made` derives from the toolkit's `Tracker`; does not import the toolkit."""
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(made).__mro__}
    return "got10k.trackers.Tracker" in names


class ToolkitTrackerAdapter:
    """Runs a tracker written for the toolkit: RGB pictures of Pillow, 1-based boxes."""

    def __init__(self, tracker: Any):
        self._tracker = tracker

    def init(self, frame_bgr: Image, box: Box) -> None:
        """Start; the box becomes 1-based."""
        self._tracker.init(_to_pil(frame_bgr), np.asarray(box) + FIRST_PIXEL)

    def update(self, frame_bgr: Image) -> FloatArray:
        """Track; the box becomes 0-based."""
        return box_of(self._tracker.update(_to_pil(frame_bgr))) - FIRST_PIXEL


def as_toolkit_tracker(tracker: EvaluatedTracker, name: str, *, first_pixel: int = 1) -> Any:
    """Old name of `siamtrack.to_got10k`, which raises the same errors."""
    warn_renamed("function", "as_toolkit_tracker", "siamtrack.to_got10k")
    return to_got10k(tracker, name, first_pixel=first_pixel)


def _to_pil(frame_bgr: Image) -> PilImage:
    from PIL import Image as pillow

    return pillow.fromarray(np.ascontiguousarray(frame_bgr[..., ::-1]))


# --- What results are keyed by --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrackerEntry:
    """A tracker that takes part; `label` is its name in reports, unique among all."""

    spec: TrackerSpec
    label: str
    key: str
    identity: Mapping[str, object]


def resolve_trackers(
    specs: Sequence[TrackerSpec], *, for_picks: bool = False
) -> list[TrackerEntry]:
    """Give every tracker its label and key; each is built once to see that it can be.

    `for_picks` refuses those whose box cannot be set from outside.
    """
    if not specs:
        raise ConfigError("no tracker to evaluate; give at least one with --tracker NAME")
    labels = [spec.label for spec in specs]
    entries: dict[str, TrackerEntry] = {}
    for spec in specs:
        built = spec.build()
        if for_picks and not callable(getattr(built, "move_to", None)):
            raise ConfigError(
                f"picks puts the box of a tracker on the truth before every frame, and {spec} has "
                "no move_to(box); give a siamtrack tracker, or another protocol"
            )
        identity = result_identity(spec, built)
        key = result_key(spec, identity)
        if key in entries:
            raise ConfigError(f"{spec} and {entries[key].spec} are the same tracker; give it once")
        label = spec.label if labels.count(spec.label) == 1 else str(spec)
        entries[key] = TrackerEntry(spec, label, key, identity)
    return list(entries.values())


def result_identity(spec: TrackerSpec, tracker: EvaluatedTracker) -> dict[str, object]:
    """Everything that the boxes of a tracker depend on, as plain data.

    For ours: weights, the options that differ from their defaults (from the weights' card or the
    caller), engine, precision and device that really run, and `TRACKING_REVISION`.
    """
    if spec.name == "identity":
        return {"name": spec.name}
    if spec.name.startswith("opencv:"):
        files = {key: sha256(Path(str(value))) for key, value in sorted(spec.options.items())}
        return {"name": spec.name, "opencv": cv2.__version__, "files_sha256": files}
    if spec.is_nanotrack:
        from siamtrack.evaluation.nanotrack import REVISION

        files = dict(zip(("backbone", "head"), map(sha256, _nanotrack_files(spec)), strict=True))
        return {"name": NANOTRACK, "revision": REVISION, "files_sha256": files}
    if not spec.is_ours:
        # A class: its options and the file that defines it.
        source = _source_file(spec.name.rpartition(":")[0])
        code = sha256(source) if source else "builtin"
        options = dict(sorted(spec.options.items()))
        return {"name": spec.name, "options": options, "source_sha256": code}
    # Ours: what really runs, however it was asked for.
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


def _source_file(where: str) -> Path | None:
    """The file of a module, None where Python has it built in."""
    if where.endswith(".py"):
        return Path(where)
    found = importlib.util.find_spec(where)
    return Path(found.origin) if found and found.origin and Path(found.origin).is_file() else None


def result_key(spec: TrackerSpec, identity: Mapping[str, object] | None = None) -> str:
    """Folder name of a tracker's results: its name and ten digits of its identity's hash.

    Without `identity`, the tracker is built to find out.
    """
    if identity is None:
        identity = result_identity(spec, spec.build())
    hashed = dict(identity)
    if spec.is_ours:
        # Options under the first names they had: renaming one keeps all keys.
        first_names = {new: old for old, new in OLD_NAMES.items()}
        options: Any = hashed["options"]
        hashed["options"] = {first_names.get(name, name): v for name, v in options.items()}
    digest = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:10]
    name = NANOTRACK if spec.is_nanotrack else spec.name
    if (file_name := _file_name(name)) != name:
        name = file_name.removesuffix(".safetensors")
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', name).strip('-')}-{digest}"
