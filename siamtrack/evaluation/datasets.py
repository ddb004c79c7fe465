"""Data sets to evaluate on: sequences with their truth, each set with its protocol.

In order: `open_benchmark`, `EvalSequence` and its `Truth`, `Benchmark` and its two kinds (clips,
and the data sets of the got10k toolkit), attributes of sequences.
"""

from __future__ import annotations

import ast
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from siamtrack.data.datasets import open_dataset, parse_spec
from siamtrack.data.formats.benchmarks import LAYOUTS, BenchmarkTarget
from siamtrack.data.sequence import stamp_files
from siamtrack.errors import ConfigError, DatasetError
from siamtrack.evaluation import protocols
from siamtrack.evaluation.chosen_frames import ViewFrames
from siamtrack.evaluation.got10k_toolkit import toolkit_module
from siamtrack.evaluation.groups import SequenceGroup, own_groups, read_groups
from siamtrack.evaluation.protocols import Protocol
from siamtrack.types import BoolArray, FloatArray
from siamtrack.video.random_access import Frames

ALIASES = {"got10k": "got10k-val", "nfs": "nfs30", "otb": "otb100", "otb2015": "otb100"}


def open_benchmark(name: str, root: Path) -> Benchmark:
    """Open `clips` (a folder of clips with their truth) or one of `TOOLKIT_BENCHMARKS`.

    Raises:
        ConfigError: unknown name; the known ones are listed.
        DatasetError: the root is missing or is not that data set.
    """
    known = ALIASES.get(name.lower(), name.lower())
    if known == "clips":
        return ClipBenchmark(root)
    if known not in TOOLKIT_BENCHMARKS:
        names = ["clips", *sorted(TOOLKIT_BENCHMARKS), *ALIASES]
        raise ConfigError.unknown("data set", name, names)
    return ToolkitBenchmark(known, root)


@dataclass(frozen=True, slots=True)
class Truth:
    """What a sequence's boxes are scored against, in the coordinates of the annotation file.

    Attributes:
        boxes_xywh: (N, 4) float px; NaN where the target is absent.
        visible: (N,) frames whose box may be scored.
        bound_wh: frame size in px where the protocol clips, else None.
    """

    boxes_xywh: FloatArray
    visible: BoolArray
    bound_wh: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class EvalSequence:
    """Frames and truth of one sequence.

    Attributes:
        name: unique in its data set; may contain one `/`.
        frames: the pictures.
        truth: in the coordinates of the annotation file, which result files share.
        first_pixel: coordinate of the first pixel in those, 0 or 1.
        attributes: such as "fast motion".
        regions: (N, 4) rectangles or (N, 8) corners (VOT only).
        tags: name to (N,) frames with it (VOT only).
    """

    name: str
    frames: Frames
    truth: Truth
    first_pixel: int = 0
    attributes: frozenset[str] = frozenset()
    regions: FloatArray | None = None
    tags: Mapping[str, BoolArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.truth.boxes_xywh)

    @property
    def boxes_xywh(self) -> FloatArray:
        """(N, 4) true boxes in px, 0-based; NaN where absent."""
        return self.truth.boxes_xywh - self._offset

    def state(self) -> str:
        """Hash of what results depend on: size and time of the files of frames, and the truth."""
        digest = hashlib.sha256(json.dumps(stamp_files(self.frames)).encode())
        for array in (self.truth.boxes_xywh, self.truth.visible):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def to_file(self, boxes_xywh: FloatArray) -> FloatArray:
        """(N, 4) 0-based boxes in the coordinates of the annotation file."""
        return boxes_xywh + self._offset

    def from_file(self, boxes_xywh: FloatArray) -> FloatArray:
        """(N, 4) boxes of a result file as 0-based px."""
        return boxes_xywh - self._offset

    @property
    def _offset(self) -> FloatArray:
        return np.array([self.first_pixel, self.first_pixel, 0, 0], dtype=np.float64)


class Benchmark(ABC):
    """A data set with its protocol.

    Attributes:
        name: as the user writes it.
        folder: of its results; the got10k toolkit's name where it knows the data set.
        protocol: how results are scored.
        root: its folder.
        dataset: its sequences as `siamtrack.data` reads them.
    """

    def __init__(self, name: str, folder: str, protocol: Protocol, root: Path, spec: str) -> None:
        self.name, self.folder, self.protocol, self.root = name, folder, protocol, root
        self.dataset = open_dataset(spec, partial=True)

    @property
    def names(self) -> Sequence[str]:
        """Sequence names, in the order of evaluation."""
        return self.dataset.names

    @abstractmethod
    def load(self, name: str) -> EvalSequence:
        """Read a sequence's truth; DatasetError if it is incomplete. Frames are read later."""

    @cached_property
    def annotated(self) -> dict[str, frozenset[str]]:
        """Attributes by sequence from the root's `attributes.json`."""
        return annotated_attributes(self.root)

    @cached_property
    def groups(self) -> Mapping[str, SequenceGroup]:
        """Group of every sequence, by name; each is its own where nothing says otherwise."""
        return own_groups(self.names)

    def check(self, names: Sequence[str]) -> tuple[dict[str, EvalSequence], list[str]]:
        """Load `names`: those that can be evaluated on, and every problem of the data set."""
        problems = [str(problem) for problem in self.dataset.problems if problem.incomplete]
        usable = {}
        for name in names:
            try:
                sequence = self.load(name)
            except DatasetError as error:
                text = str(error)
                problems.append(text if text.startswith(name) else f"{name}: {text}")
                continue
            first = sequence.truth.boxes_xywh[0]
            if frames_with_box(first[None])[0]:
                usable[name] = sequence
            else:
                problems.append(f"{name}: the first box is {first.tolist()}; nothing to start from")
        return usable, problems

    def select(self, patterns: Sequence[str]) -> list[str]:
        """Names that match any of `patterns` (shell wildcards; the part after `/` will do)."""
        if not patterns:
            return list(self.names)
        chosen = set()
        for pattern in patterns:
            hits = {
                name
                for name in self.names
                if fnmatchcase(name, pattern) or fnmatchcase(name.split("/")[-1], pattern)
            }
            if not hits:
                raise ConfigError.unknown(f"sequence of {self.name}", pattern, self.names)
            chosen |= hits
        return [name for name in self.names if name in chosen]


class ClipBenchmark(Benchmark):
    """Clips under a folder: `clip.mp4` or pictures in `clip/`, boxes in `clip.txt` or `.csv`."""

    def __init__(self, root: Path):
        super().__init__("clips", "clips", protocols.CLIPS, root, f"folder:{root}")

    @cached_property
    def groups(self) -> Mapping[str, SequenceGroup]:
        """From the root's `groups.json`."""
        return read_groups(self.root, self.names)

    def load(self, name: str) -> EvalSequence:
        """Read one clip's truth, from the first frame on that shows its target."""
        clip = self.dataset[name]
        # A target may come later than its clip begins: nothing can be tracked before.
        shown = np.flatnonzero(clip.visible & frames_with_box(clip.boxes))
        first = int(shown[0]) if len(shown) else 0
        numbers = np.arange(first, len(clip.boxes))
        frames = ViewFrames(clip.frames, numbers) if first else clip.frames
        boxes = clip.boxes[numbers]
        return EvalSequence(
            name=name,
            frames=frames,
            truth=Truth(boxes, clip.visible[numbers]),
            attributes=computed_attributes(boxes) | self.annotated.get(name, frozenset()),
        )


# --- The data sets of the got10k toolkit ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BenchmarkEntry:
    """One data set.

    Attributes:
        kind: for `siamtrack.data.datasets.open_dataset`.
        folder: the toolkit's name of its result folder.
        protocol: how it is scored.
        experiment: class name of the toolkit's experiment; empty where version 0.1.3 has none.
        options: for `open_dataset`, and attributes of the experiment.
        settings: further attributes of the experiment.
    """

    kind: str
    folder: str
    protocol: Protocol
    experiment: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)


TOOLKIT_BENCHMARKS: dict[str, BenchmarkEntry] = {
    "got10k-val": BenchmarkEntry(
        "got10k", "GOT-10k", protocols.GOT10K, "ExperimentGOT10k", {"subset": "val"}
    ),
    "got10k-test": BenchmarkEntry(
        "got10k", "GOT-10k", protocols.GOT10K_TEST, options={"subset": "test"}
    ),
    **{
        name: BenchmarkEntry("otb", f"OTB{v}", protocols.OTB, "ExperimentOTB", {"version": v})
        for name, v in {"otb2013": 2013, "otb50": "tb50", "otb100": 2015}.items()
    },
    **{
        f"vot{year}": BenchmarkEntry("vot", f"VOT{year}", protocols.VOT, "ExperimentVOT", {},
                                     {"version": year, "experiments": "supervised"})
        for year in range(2013, 2020)
    },
    **{
        f"nfs{f}": BenchmarkEntry("nfs", f"NfS/{f}", protocols.OTB, "ExperimentNfS", {"fps": f})
        for f in (30, 240)
    },
    **{
        v.lower(): BenchmarkEntry("uav123", v, protocols.UAV, "ExperimentUAV123", {"version": v})
        for v in ("UAV123", "UAV20L")
    },
    "dtb70": BenchmarkEntry("dtb70", "DTB70", protocols.OTB, "ExperimentDTB70"),
    "tcolor128": BenchmarkEntry("tcolor128", "TColor128", protocols.OTB, "ExperimentTColor128"),
    "lasot": BenchmarkEntry("lasot", "LaSOT", protocols.LASOT, options={"subset": "test"}),
    "trackingnet": BenchmarkEntry(
        "trackingnet", "TrackingNet", protocols.TRACKINGNET_TEST, options={"subset": "test"}
    ),
}  # fmt: skip


class ToolkitBenchmark(Benchmark):
    """One of `TOOLKIT_BENCHMARKS`, extracted under `root`."""

    def __init__(self, name: str, root: Path):
        entry = TOOLKIT_BENCHMARKS[name]
        options = "&".join(f"{key}={value}" for key, value in entry.options.items())
        self._kind = entry.kind
        self._spec = f"{entry.kind}:{root}" + (f"?{options}" if options else "")
        super().__init__(name, entry.folder, entry.protocol, root, self._spec)

    @cached_property
    def _targets(self) -> dict[str, BenchmarkTarget]:
        """Where the images and boxes of each sequence are, by name."""
        listing = LAYOUTS[self._kind].list_targets(parse_spec(self._spec))
        return {target.name: target for target in listing.targets}

    def load(self, name: str) -> EvalSequence:
        """Read one sequence's truth."""
        sequence = self.dataset[name]
        labels = self._labels(name, len(sequence))
        regions = self._regions(name, len(sequence))

        # Boxes. For polygons those that the toolkit starts trackers from: a rectangle of the
        # polygon's area, not the enclosing one.
        boxes = regions
        if regions.shape[1] != 4:
            to_rectangles = toolkit_module("datasets").VOT._corner2rect
            boxes = np.asarray(to_rectangles(None, regions), dtype=np.float64)

        # Frames that are scored.
        visible = ~np.any(np.isnan(boxes), axis=1)
        if self.protocol is protocols.GOT10K:
            cover = np.atleast_1d(np.asarray(labels["cover"], dtype=np.float64))
            if cover.shape != (len(boxes),):
                raise DatasetError(f"{len(boxes)} frames and cover.label of shape {cover.shape}")
            visible &= cover > 0
        if self.protocol is protocols.LASOT:
            visible &= sequence.visible

        # Attributes, and in VOT tags of frames.
        attributes = self.annotated.get(name, frozenset()) | {
            attribute
            for label, attribute in LABEL_ATTRIBUTES.items()
            if label in labels and np.any(np.asarray(labels[label], dtype=np.float64) > 0)
        }
        if not self.protocol.truth_withheld:
            attributes |= computed_attributes(boxes)
        is_vot = self.protocol.layout == "vot"
        tags = {
            label: np.asarray(values, dtype=bool)
            for label, values in labels.items()
            if is_vot and np.shape(values) == (len(sequence),)
        }
        return EvalSequence(
            name=name,
            frames=sequence.frames,
            truth=Truth(boxes, visible, _bound_wh(labels)),
            first_pixel=LAYOUTS[self._kind].first_pixel,
            attributes=attributes,
            regions=regions if is_vot else None,
            tags=tags,
        )

    def toolkit_item(self, name: str, *, with_meta: bool) -> tuple[Any, ...]:
        """What the toolkit's reader gives for a sequence: pictures, annotation and labels."""
        sequence = self.dataset[name]
        files = [str(sequence.frames.path(frame)) for frame in range(len(sequence))]
        labels = [self._labels(name, len(sequence))] if with_meta else []
        return files, self._regions(name, len(sequence)), *labels

    def _labels(self, name: str, frames: int) -> dict[str, Any]:
        """Labels beside the annotation, through the toolkit where it reads them."""
        folder = self._targets[name].annotation.parent
        try:
            if self._kind == "vot":
                return dict(toolkit_module("datasets").VOT._fetch_meta(None, str(folder), frames))
            if self.name == "got10k-val":
                return dict(toolkit_module("datasets").GOT10k._fetch_meta(None, str(folder)))
        except (OSError, ValueError, IndexError) as error:
            raise DatasetError(f"labels in {folder} cannot be read: {error}") from error
        return {}

    def _regions(self, name: str, frames: int) -> FloatArray:
        """(N, 4) or, for VOT, (N, 8) numbers of the annotation; NaN where it is withheld."""
        target = self._targets[name]
        if self._kind == "vot":
            rows = np.loadtxt(target.annotation, delimiter=",", ndmin=2)
        else:
            _, rows = LAYOUTS[self._kind].read(target)
        withheld = np.full((frames - len(rows), rows.shape[1]), np.nan)
        return np.concatenate([rows, withheld])


def _bound_wh(labels: Mapping[str, Any]) -> tuple[float, float] | None:
    """Frame size in px, in labels of GOT-10k."""
    if "resolution" not in labels:
        return None
    try:
        width, height = ast.literal_eval(labels["resolution"])
        return float(width), float(height)
    except (ValueError, SyntaxError, TypeError) as error:
        raise DatasetError(
            f"resolution {labels['resolution']!r} in meta_info.ini is not like (1920, 1080)"
        ) from error


# --- Attributes of sequences ----------------------------------------------------------------------

LABEL_ATTRIBUTES = {
    "absence": "absent",
    "cut_by_image": "cut by the image border",
    "camera_motion": "camera motion",
    "illum_change": "illumination change",
    "occlusion": "occlusion",
    "size_change": "size change",
    "motion_change": "motion change",
}
"""Labels that the toolkit gives per frame, and the attribute of a sequence with any such frame."""


def annotated_attributes(root: Path) -> dict[str, frozenset[str]]:
    """Attributes by sequence from `attributes.json` in `root`; empty without the file."""
    path = root / "attributes.json"
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): frozenset(map(str, values)) for name, values in content.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DatasetError(
            f'{path} cannot be read ({error}); it must look like {{"sequence": ["occlusion"]}}'
        ) from error


def frames_with_box(boxes_xywh: FloatArray) -> BoolArray:
    """(N,) frames whose row is four finite numbers with an area."""
    return np.all(np.isfinite(boxes_xywh), axis=1) & np.all(boxes_xywh[:, 2:] > 0, axis=1)


def computed_attributes(boxes_xywh: FloatArray) -> frozenset[str]:
    """Attributes that follow from the boxes alone, (N, 4) px, NaN where the target is absent.

    Fast motion, scale variation and low resolution as in Wu, Lim and Yang, "Object Tracking
    Benchmark", PAMI 2015, table 2; aspect ratio change as in Mueller, Smith and Ghanem, "A
    Benchmark and Simulator for UAV Tracking", ECCV 2016, table 1.
    """
    present = frames_with_box(boxes_xywh)
    boxes = np.where(present[:, None], boxes_xywh, np.nan)
    step = np.diff(boxes[:, :2] + boxes[:, 2:] / 2, axis=0)  # of the center
    area = boxes[:, 2] * boxes[:, 3]
    ratio = boxes[:, 2] / boxes[:, 3]

    def leaves_range(relative: FloatArray) -> bool:
        return bool(np.any(relative > 2) or np.any(relative < 1 / 2))

    found = {
        "out of view": not present.all(),
        # The center moves by more than 20 px between two frames.
        "fast motion": np.any(np.hypot(step[:, 0], step[:, 1]) > 20),
        # Size or aspect leaves [1/2, 2] of the first frame's.
        "scale variation": leaves_range(np.sqrt(area / area[0])),
        "aspect ratio change": leaves_range(ratio / ratio[0]),
        "low resolution": np.any(area < 400),  # px²
    }
    return frozenset(name for name, is_so in found.items() if is_so)
