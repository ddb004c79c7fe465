"""What is hard about a sequence, computed from its true boxes where nobody wrote it down.

Fast motion, scale variation and low resolution are defined as in Wu, Lim and Yang, "Object Tracking
Benchmark", PAMI 2015, table 2; aspect ratio change as in Mueller, Smith and Ghanem, "A Benchmark
and Simulator for UAV Tracking", ECCV 2016, table 1.
"""

from __future__ import annotations

import ast
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamtrack.data.datasets import open_dataset, parse_spec
from siamtrack.data.formats.benchmarks import LAYOUTS, BenchmarkTarget
from siamtrack.data.sequence import Dataset, VideoSequence
from siamtrack.errors import ConfigError, DatasetError
from siamtrack.evaluation import protocols
from siamtrack.evaluation.got10k_toolkit import toolkit_module
from siamtrack.evaluation.protocols import CLIPS, Protocol
from siamtrack.geometry import xywh_to_cxcywh
from siamtrack.types import BoolArray, FloatArray
from siamtrack.video.decode import Frames

FAST_PX = 20.0
SCALE_RATIO = 2.0
LOW_RESOLUTION_PX2 = 400.0
ATTRIBUTES_FILE = "attributes.json"


def frames_with_box(boxes_xywh: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) frames whose row is four finite numbers with an area."""
    return np.all(np.isfinite(boxes_xywh), axis=1) & np.all(boxes_xywh[:, 2:] > 0, axis=1)


def computed_attributes(boxes_xywh: NDArray[np.float64]) -> frozenset[str]:
    """Attributes that follow from the boxes alone.

    Args:
        boxes_xywh: (N, 4) float px, NaN where the target is absent.
    """
    present = frames_with_box(boxes_xywh)
    boxes = np.where(present[:, None], boxes_xywh, np.nan)
    names = set()
    if not present.all():
        names.add("out of view")
    step = np.diff(xywh_to_cxcywh(boxes)[:, :2], axis=0)
    if np.any(np.hypot(step[:, 0], step[:, 1]) > FAST_PX):
        names.add("fast motion")
    area = boxes[:, 2] * boxes[:, 3]
    if _departs(np.sqrt(area / area[0])):
        names.add("scale variation")
    ratio = boxes[:, 2] / boxes[:, 3]
    if _departs(ratio / ratio[0]):
        names.add("aspect ratio change")
    if np.any(area < LOW_RESOLUTION_PX2):
        names.add("low resolution")
    return frozenset(names)


def _departs(relative: NDArray[np.float64]) -> bool:
    return bool(np.any(relative > SCALE_RATIO) or np.any(relative < 1 / SCALE_RATIO))


def annotated_attributes(root: Path) -> dict[str, frozenset[str]]:
    """Attributes by sequence from `attributes.json` in a data set's root; empty without the file.

    Raises:
        DatasetError: the file is not an object of lists of names.
    """
    path = root / ATTRIBUTES_FILE
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): frozenset(map(str, values)) for name, values in content.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DatasetError(
            f'{path} cannot be read ({error}); it must look like {{"sequence": ["occlusion"]}}'
        ) from error


@dataclass(frozen=True, slots=True)
class EvalSequence:
    """Frames and truth of one sequence.

    Attributes:
        name: unique in its data set; may contain one `/`.
        frames: the pictures.
        truth: boxes in the coordinates of the annotation file, which result files share.
        first_pixel: coordinate of the first pixel in those, 0 or 1.
        attributes: what is hard about it.
        regions: (N, 4) rectangles or (N, 8) corners where the annotation has them (VOT).
        tags: name to (N,) frames with it, where frames are tagged (VOT).
    """

    name: str
    frames: Frames
    truth: Truth
    first_pixel: int = 0
    attributes: frozenset[str] = frozenset()
    regions: FloatArray | None = None
    tags: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.truth.boxes_xywh)

    @property
    def boxes_xywh(self) -> FloatArray:
        """(N, 4) true boxes in px, 0-based; NaN where absent."""
        return self.truth.boxes_xywh - self._offset

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
        folder: of its results, as the got10k toolkit calls it where it knows the data set.
        protocol: how results are scored.
        root: where it is.
        dataset: its sequences as `siamtrack.data` reads them.
    """

    def __init__(
        self, *, name: str, folder: str, protocol: Protocol, root: Path, dataset: Dataset
    ) -> None:
        self.name, self.folder, self.protocol = name, folder, protocol
        self.root, self.dataset = root, dataset

    @property
    def names(self) -> Sequence[str]:
        """Sequence names, in the order of evaluation."""
        return self.dataset.names

    @abstractmethod
    def load(self, name: str) -> EvalSequence:
        """Read a sequence's truth; its frames are read when they are asked for.

        Raises:
            DatasetError: it is incomplete or inconsistent.
        """

    @cached_property
    def annotated(self) -> dict[str, frozenset[str]]:
        """Attributes by sequence from the root's `attributes.json`."""
        return annotated_attributes(self.root)

    def check(self, names: Sequence[str]) -> tuple[dict[str, EvalSequence], list[str]]:
        """Load every one of `names`.

        Returns:
            Those that can be evaluated on, and everything that is wrong with the data set, one
            sentence each.
        """
        problems = [str(problem) for problem in self.dataset.problems if problem.incomplete]
        usable = {}
        for name in names:
            try:
                sequence = self.load(name)
            except DatasetError as error:
                said = str(error)
                problems.append(said if said.startswith(name) else f"{name}: {said}")
                continue
            first = sequence.truth.boxes_xywh[0]
            if np.isfinite(first).all() and (first[2:] > 0).all():
                usable[name] = sequence
            else:
                problems.append(f"{name}: the first box is {first.tolist()}; nothing to start from")
        return usable, problems

    def select(self, patterns: Sequence[str]) -> list[str]:
        """Names that match any of `patterns` (shell wildcards; the part after `/` will do).

        Raises:
            ConfigError: a pattern matches nothing.
        """
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
    """Clips under a folder: `clip.mp4` or pictures in `clip/`, boxes in `clip.txt` or `clip.csv`.

    Args:
        root: the folder.

    Raises:
        DatasetError: there is no clip with its truth under it.
    """

    def __init__(self, root: Path):
        super().__init__(
            name="clips",
            folder="clips",
            protocol=CLIPS,
            root=root,
            dataset=open_dataset(f"folder:{root}", partial=True),
        )

    def load(self, name: str) -> EvalSequence:
        """Read one clip's truth; see `Benchmark.load`."""
        clip = self.dataset[name]
        return EvalSequence(
            name=name,
            frames=clip.frames,
            truth=Truth(clip.boxes, clip.visible),
            attributes=computed_attributes(clip.boxes) | self.annotated.get(name, frozenset()),
        )


@dataclass(frozen=True, slots=True)
class ToolkitSet:
    """One data set.

    Attributes:
        kind: of `siamtrack.data.open.open_dataset`, whose readers are the toolkit's, mended.
        options: for it.
        folder: what the toolkit calls its result folder.
        protocol: how it is scored.
        experiment: class name of the toolkit's experiment; empty where version 0.1.3 has none.
        arguments: of the experiment.
    """

    kind: str
    options: Mapping[str, str]
    folder: str
    protocol: Protocol
    experiment: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)


def _otb(version: int | str) -> ToolkitSet:
    options = {"version": str(version)}
    arguments = {"version": version}
    return ToolkitSet("otb", options, f"OTB{version}", protocols.OTB, "ExperimentOTB", arguments)


def _vot(version: int) -> ToolkitSet:
    arguments = {"version": version, "experiments": "supervised"}
    return ToolkitSet("vot", {}, f"VOT{version}", protocols.VOT, "ExperimentVOT", arguments)


def _nfs(fps: int) -> ToolkitSet:
    options, folder = {"fps": str(fps)}, f"NfS/{fps}"
    return ToolkitSet("nfs", options, folder, protocols.OTB, "ExperimentNfS", {"fps": fps})


def _uav(version: str) -> ToolkitSet:
    options, arguments = {"version": version}, {"version": version}
    return ToolkitSet("uav123", options, version, protocols.UAV, "ExperimentUAV123", arguments)


def _got10k(subset: str, protocol: Protocol) -> ToolkitSet:
    options, arguments = {"subset": subset}, {"subset": subset}
    return ToolkitSet("got10k", options, "GOT-10k", protocol, "ExperimentGOT10k", arguments)


SETS: dict[str, ToolkitSet] = {
    "got10k-val": _got10k("val", protocols.GOT10K),
    "got10k-test": _got10k("test", protocols.GOT10K_TEST),
    "otb2013": _otb(2013),
    "otb50": _otb("tb50"),
    "otb100": _otb(2015),
    **{f"vot{year}": _vot(year) for year in range(2013, 2020)},
    "nfs30": _nfs(30),
    "nfs240": _nfs(240),
    "uav123": _uav("UAV123"),
    "uav20l": _uav("UAV20L"),
    "dtb70": ToolkitSet("dtb70", {}, "DTB70", protocols.OTB, "ExperimentDTB70"),
    "tcolor128": ToolkitSet("tcolor128", {}, "TColor128", protocols.OTB, "ExperimentTColor128"),
    "lasot": ToolkitSet("lasot", {"subset": "test"}, "LaSOT", protocols.LASOT),
    "trackingnet": ToolkitSet(
        "trackingnet", {"subset": "test"}, "TrackingNet", protocols.TRACKINGNET_TEST
    ),
}
Metadata = Mapping[str, Any]


class ToolkitBenchmark(Benchmark):
    """One of the toolkit's data sets.

    Args:
        name: a key of `SETS`.
        root: where it was extracted.

    Raises:
        DatasetError: it is not there.
    """

    def __init__(self, name: str, root: Path):
        self._set = SETS[name]
        options = "&".join(f"{key}={value}" for key, value in self._set.options.items())
        self._spec = f"{self._set.kind}:{root}" + (f"?{options}" if options else "")
        super().__init__(
            name=name,
            folder=self._set.folder,
            protocol=self._set.protocol,
            root=root,
            dataset=open_dataset(self._spec, partial=True),
        )

    @cached_property
    def _targets(self) -> dict[str, BenchmarkTarget]:
        """Where the images and boxes of each sequence are, by name."""
        listing = LAYOUTS[self._set.kind].list_targets(parse_spec(self._spec))
        return {target.name: target for target in listing.targets}

    def load(self, name: str) -> EvalSequence:
        """Read one sequence; see `Benchmark.load`."""
        sequence = self.dataset[name]
        target = self._targets[name]
        meta = self._meta(target.annotation.parent, len(sequence))
        regions = self._regions(target, len(sequence))
        boxes = self._rectangles(regions)
        vot = self.protocol.layout == "vot"
        own = frozenset[str]() if self.protocol.truth_withheld else computed_attributes(boxes)
        return EvalSequence(
            name=name,
            frames=sequence.frames,
            truth=Truth(boxes, self._visible(boxes, meta, sequence), _bound(meta)),
            first_pixel=LAYOUTS[self._set.kind].first_pixel,
            attributes=own | _labelled(meta) | self.annotated.get(name, frozenset()),
            regions=regions if vot else None,
            tags=_frame_tags(meta, len(sequence)) if vot else {},
        )

    def toolkit_item(self, name: str, *, with_meta: bool) -> tuple[Any, ...]:
        """What the toolkit's reader gives for a sequence: pictures, annotation and labels."""
        sequence = self.dataset[name]
        target = self._targets[name]
        files = [str(sequence.frames.path(frame)) for frame in range(len(sequence))]
        regions = self._regions(target, len(sequence))
        if not with_meta:
            return files, regions
        return files, regions, dict(self._meta(target.annotation.parent, len(sequence)))

    def _meta(self, folder: Path, frames: int) -> Metadata:
        """Labels beside the annotation, through the toolkit where it reads them."""
        try:
            if self._set.kind == "vot":
                return dict(toolkit_module("datasets").VOT._fetch_meta(None, str(folder), frames))
            if self.name == "got10k-val":
                return dict(toolkit_module("datasets").GOT10k._fetch_meta(None, str(folder)))
        except (OSError, ValueError, IndexError) as error:
            raise DatasetError(f"labels in {folder} cannot be read: {error}") from error
        return {}

    def _regions(self, target: BenchmarkTarget, frames: int) -> FloatArray:
        """(N, 4) or, for VOT, (N, 8) numbers of the annotation; NaN where it is withheld."""
        if self._set.kind == "vot":
            rows = np.loadtxt(target.annotation, delimiter=",", ndmin=2)
        else:
            _, rows = LAYOUTS[self._set.kind].read(target)
        withheld = np.full((frames - len(rows), rows.shape[1]), np.nan)
        return np.concatenate([rows, withheld])

    def _rectangles(self, regions: FloatArray) -> FloatArray:
        if regions.shape[1] == 4:
            return regions
        # What the toolkit starts trackers from: of the polygon's area, not the enclosing one.
        to_rectangles = toolkit_module("datasets").VOT._corner2rect
        return np.asarray(to_rectangles(None, regions), dtype=np.float64)

    def _visible(self, boxes: FloatArray, meta: Metadata, sequence: VideoSequence) -> BoolArray:
        present = ~np.any(np.isnan(boxes), axis=1)
        if self.protocol is protocols.GOT10K:
            cover = np.atleast_1d(np.asarray(meta["cover"], dtype=np.float64))
            if cover.shape != (len(boxes),):
                raise DatasetError(f"{len(boxes)} frames and cover.label of shape {cover.shape}")
            return present & (cover > 0)
        if self.protocol is protocols.LASOT:
            return present & sequence.visible
        return present


def _bound(meta: Metadata) -> tuple[float, float] | None:
    if "resolution" not in meta:
        return None
    try:
        width, height = ast.literal_eval(meta["resolution"])
        return float(width), float(height)
    except (ValueError, SyntaxError, TypeError) as error:
        raise DatasetError(
            f"resolution {meta['resolution']!r} in meta_info.ini is not like (1920, 1080)"
        ) from error


PER_FRAME_LABELS = {
    "absence": "absent",
    "cut_by_image": "cut by the image border",
    "camera_motion": "camera motion",
    "illum_change": "illumination change",
    "occlusion": "occlusion",
    "size_change": "size change",
    "motion_change": "motion change",
}
"""Labels that the toolkit gives per frame, and the attribute of a sequence with any such frame."""


def _labelled(meta: Metadata) -> frozenset[str]:
    return frozenset(
        attribute
        for label, attribute in PER_FRAME_LABELS.items()
        if label in meta and np.any(np.asarray(meta[label], dtype=np.float64) > 0)
    )


def _frame_tags(meta: Metadata, frames: int) -> dict[str, BoolArray]:
    return {
        label: np.asarray(values, dtype=bool)
        for label, values in meta.items()
        if np.shape(values) == (frames,)
    }


ALIASES = {
    "got10k": "got10k-val",
    "nfs": "nfs30",
    "otb": "otb100",
    "otb2015": "otb100",
}


def benchmark_names() -> tuple[str, ...]:
    """Names that `open_benchmark` knows, aliases left out."""
    return ("clips", *sorted(SETS))


def open_benchmark(name: str, root: Path) -> Benchmark:
    """Open a data set to evaluate on.

    Args:
        name: `clips` for a folder of clips with their truth, or one of the toolkit's sets.
        root: its folder.

    Raises:
        ConfigError: unknown name; the known ones are listed.
        DatasetError: the root is missing or is not that data set.
    """
    known = ALIASES.get(name.lower(), name.lower())
    if known == "clips":
        return ClipBenchmark(root)
    if known not in SETS:
        raise ConfigError.unknown("data set", name, [*benchmark_names(), *ALIASES])
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
