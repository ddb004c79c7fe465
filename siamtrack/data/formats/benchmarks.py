"""The got10k toolkit's data sets, made to work offline on what is really on disk.

These classes keep the toolkit's interface (`seq_names`, `seq_dirs`, `anno_files`, indexing gives
picture files and the rows of the annotation) and its lists of sequences and frame ranges. What
they mend in version 0.1.3:

- none downloads, prints, or writes a cache into the current folder;
- `LaSOT` and `TrackingNet` cannot be constructed or indexed at all: a wrong number of arguments,
  a `basename` of a generator; frames looked for beside the folder `frames`, their numbers parsed
  out of whole paths;
- `UAV123` refuses a root with fewer than four entries and stops at a stray text file;
- `TColor128` stops at the first folder without a frame range;
- `ImageNetVID` drops frames without the target (which makes a hidden target jump) and reuses a
  cache made from another root;
- `VOT` turns a polygon into a rectangle of the same area, 1 px too large; here it is the enclosing
  rectangle, as VOT's own protocol sends it to trackers that ask for one.
"""

from __future__ import annotations

import contextlib
import glob
import io
import json
import os
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from got10k import datasets
from numpy.typing import NDArray

from siamtrack.data.sequence import Dataset, DatasetSpec, VideoSequence
from siamtrack.errors import DatasetError, Problem, dataset_error
from siamtrack.types import FloatArray
from siamtrack.utils.images import list_images, natural_key
from siamtrack.video.decode import ImageFrames

Rows = tuple[list[str], FloatArray]

_POLYGON = 8
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_TABLES = Path(str(datasets.__file__)).parent


class OfflineGOT10k(datasets.GOT10k):
    """`list.txt` of one subset."""

    def _check_integrity(self, *_: Any) -> None:
        pass


class OfflineOTB(datasets.OTB):
    """The sequences of one version of OTB that are there."""

    def _check_integrity(self, *_: Any) -> None:
        pass

    @staticmethod
    def expected(version: int | str) -> list[str]:
        """Folders that a version consists of."""
        return sorted(datasets.OTB._OTB__version_dict[version])


class OfflineNfS(datasets.NfS):
    """Every sequence with an annotation at one frame rate."""

    def _check_integrity(self, *_: Any) -> None:
        pass


class OfflineDTB70(datasets.DTB70):
    """Every folder with an annotation."""

    def _check_integrity(self, *_: Any) -> None:
        pass


class OfflineVOT(datasets.VOT):
    """`list.txt`; pictures in the sequence's folder or, since VOT2018-LT, in `color`."""

    def __init__(self, root: str) -> None:
        super().__init__(root, anno_type="default", download=False)
        folders = [os.path.join(root, name) for name in self.seq_names]
        colour = [os.path.join(folder, "color") for folder in folders]
        pairs = zip(colour, folders, strict=True)
        self.seq_dirs = [c if os.path.isdir(c) else folder for c, folder in pairs]

    def _check_integrity(self, *_: Any) -> None:
        pass

    def __getitem__(self, index: int) -> Rows:
        files, rows = super().__getitem__(index)
        if rows.shape[1] == _POLYGON:
            low = rows.reshape(-1, _FOUR, 2).min(axis=1)
            high = rows.reshape(-1, _FOUR, 2).max(axis=1)
            rows = np.hstack([low, high - low])
        return files, rows


class OfflineLaSOT(datasets.LaSOT):
    """One subset of the toolkit's split; class folders (`cat/cat-1`) may be left out (`cat-1`)."""

    def __init__(self, root: str, subset: str) -> None:
        splits = json.loads((_TABLES / "lasot.json").read_text())
        self.root_dir, self.subset, self.return_meta = root, subset, False
        self.seq_names = splits[subset]
        folders = [self._folder(root, name) for name in self.seq_names]
        self.seq_dirs = [os.path.join(folder, "img") for folder in folders]
        self.anno_files = [os.path.join(folder, "groundtruth.txt") for folder in folders]

    @staticmethod
    def _folder(root: str, name: str) -> str:
        flat = os.path.join(root, name)
        return flat if os.path.isdir(flat) else os.path.join(root, name.rpartition("-")[0], name)


class OfflineTrackingNet(datasets.TrackingNet):
    """`TEST`, or `TRAIN_0` to `TRAIN_11`: annotations in `anno`, pictures in `frames`."""

    def __init__(self, root: str, subset: str) -> None:
        self.root_dir, self.subset = root, subset
        self.subset_dirs = ["TEST"] if subset == "test" else [f"TRAIN_{n}" for n in range(12)]
        annotations = sorted(
            file for part in self.subset_dirs for file in Path(root, part, "anno").glob("*.txt")
        )
        self.anno_files = list(map(str, annotations))
        self.seq_names = [file.stem for file in annotations]
        self.seq_dirs = [str(file.parent.parent / "frames" / file.stem) for file in annotations]

    def __getitem__(self, index: int) -> Rows:
        files = glob.glob(os.path.join(self.seq_dirs[index], "*.jpg"))
        return sorted(files, key=natural_key), np.loadtxt(self.anno_files[index], delimiter=",")


class OfflineUAV123(datasets.UAV123):
    """The sequences of the toolkit's table, UAV123 or UAV20L."""

    def __init__(self, root: str, version: str) -> None:
        self.root_dir, self.version = root, version
        self.seq_metas = json.loads((_TABLES / "uav123.json").read_text())
        self.seq_names = sorted(self.seq_metas[version])
        folders = [self.seq_metas[version][name]["folder_name"] for name in self.seq_names]
        self.seq_dirs = [os.path.join(root, "data_seq", "UAV123", folder) for folder in folders]
        anno = os.path.join(root, "anno", version)
        self.anno_files = [os.path.join(anno, f"{name}.txt") for name in self.seq_names]


class OfflineTColor128(datasets.TColor128):
    """Every folder with an annotation; the frame range is in a file beside it."""

    def __init__(self, root: str) -> None:
        self.root_dir = root
        self.anno_files = sorted(glob.glob(os.path.join(root, "*", "*_gt.txt")))
        folders = [os.path.dirname(file) for file in self.anno_files]
        self.seq_names = [os.path.basename(folder) for folder in folders]
        self.seq_dirs = [os.path.join(folder, "img") for folder in folders]
        self.range_files = [
            next(iter(glob.glob(os.path.join(f, "*_frames.txt"))), os.path.join(f, "*_frames.txt"))
            for f in folders
        ]

    def __getitem__(self, index: int) -> Rows:
        first, last = np.loadtxt(self.range_files[index], dtype=int, delimiter=",", ndmin=1)
        folder = self.seq_dirs[index]
        files = [os.path.join(folder, f"{number:04d}.jpg") for number in range(first, last + 1)]
        return files, np.loadtxt(self.anno_files[index], delimiter=",", ndmin=2)


class OfflineVID:
    """Every target of every snippet of ImageNet-VID that is seen at least twice.

    The toolkit's class does all its work while it is constructed, so nothing of it is left to
    inherit. A target's sequence goes from its first frame to its last, NaN in between where it is
    not annotated; the box counts xmax and ymax as part of the target, as the toolkit does.

    Attributes:
        seq_names: `snippet.track`, as in the toolkit.
        seq_dirs: folder of the snippet's pictures.
        anno_files: folder of the snippet's XML files.
        classes: WordNet id of each target.
    """

    def __init__(self, root: str, subset: str) -> None:
        folder = Path(root) / "Annotations" / "VID" / subset
        # Snippets of the training set are one level deeper, in ILSVRC2015_VID_train_0000 to 0003.
        self.snippets = sorted({file.parent for file in folder.rglob("*.xml")})
        self.seq_names: list[str] = []
        self.seq_dirs: list[str] = []
        self.anno_files: list[str] = []
        self.classes: list[str] = []
        self.unreadable: list[tuple[str, str]] = []
        self._tracks: list[tuple[list[str], FloatArray]] = []
        for snippet in self.snippets:
            pictures = (
                Path(root) / "Data" / "VID" / snippet.relative_to(Path(root) / "Annotations/VID")
            )
            self._add(snippet, str(pictures))

    def __getitem__(self, index: int) -> Rows:
        stems, rows = self._tracks[index]
        return [os.path.join(self.seq_dirs[index], f"{stem}.JPEG") for stem in stems], rows

    def _add(self, snippet: Path, pictures: str) -> None:
        files = sorted(snippet.glob("*.xml"))
        tracks: dict[str, dict[int, list[float]]] = defaultdict(dict)
        classes: dict[str, str] = {}
        for number, file in enumerate(files):
            try:
                for thing in ET.parse(file).getroot().findall("object"):
                    track = _text(thing, "trackid")
                    corners = [
                        float(_text(thing, f"bndbox/{c}")) for c in ("xmin", "ymin", "xmax", "ymax")
                    ]
                    left, top, right, bottom = corners
                    tracks[track][number] = [left, top, right - left + 1, bottom - top + 1]
                    classes[track] = _text(thing, "name")
            except (ET.ParseError, ValueError, OSError) as error:
                self.unreadable.append((str(file), f"cannot be understood: {error}"))
        for track, boxes in sorted(tracks.items(), key=lambda item: natural_key(item[0])):
            if len(boxes) > 1:
                first, last = min(boxes), max(boxes)
                rows = np.full((last - first + 1, _FOUR), np.nan)
                rows[[n - first for n in boxes]] = list(boxes.values())
                self._tracks.append(([f.stem for f in files[first : last + 1]], rows))
                self.seq_names.append(f"{snippet.name}.{track}")
                self.seq_dirs.append(pictures)
                self.anno_files.append(str(snippet))
                self.classes.append(classes[track])


def _text(element: ET.Element, path: str) -> str:
    text = element.findtext(path)
    if not text:
        raise ValueError(f"an object lacks {path}")
    return text.strip()


class ToolkitSet(Protocol):
    """What the toolkit's data sets have in common."""

    seq_names: list[str]
    seq_dirs: list[str]
    anno_files: list[str]

    def __getitem__(self, index: int) -> tuple[list[str], FloatArray]: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A benchmark's subset.

    Attributes:
        sequences: the toolkit's object.
        problems: what is missing that no sequence of `sequences` would show.
        fps: of all sequences, where they agree.
        first_box_only: the rest of the annotation is withheld.
    """

    sequences: ToolkitSet
    problems: tuple[Problem, ...] = ()
    fps: float | None = None
    first_box_only: bool = False


def _nothing_hidden(annotation: Path, count: int) -> NDArray[np.bool_] | None:
    return None


def _no_class(sequences: Any, index: int) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Layout:
    """One benchmark.

    Attributes:
        open: lists the sequences.
        first_pixel: coordinate that its annotation gives to the top-left pixel.
        hidden: from the annotation file and the number of boxes, (N,) flags of the frames in which
            the target cannot be seen; None when boxes alone tell.
        class_name: what the target of a sequence is.
    """

    open: Callable[[DatasetSpec], Opened]
    first_pixel: int
    hidden: Callable[[Path, int], NDArray[np.bool_] | None] = _nothing_hidden
    class_name: Callable[[Any, int], str] = _no_class


def read_flags(path: Path) -> FloatArray | None:
    """All numbers in a file whatever separates them, None when there is no such file.

    Raises:
        ValueError: something in it is not a number.
    """
    if not path.is_file():
        return None
    return np.array([float(t) for t in re.split(r"[\s,]+", path.read_text().strip()) if t])


def _any_flag(annotation: Path, **hides_at: float) -> NDArray[np.bool_] | None:
    """Frames at which one of the files beside the annotation has the value that means hidden."""
    hidden = None
    for name, value in hides_at.items():
        for suffix in (".label", ".txt"):
            flags = read_flags(annotation.with_name(name + suffix))
            if flags is None:
                continue
            if hidden is not None and len(flags) != len(hidden):
                raise ValueError(f"{name}{suffix} has {len(flags)} flags, {len(hidden)} are needed")
            hidden = (flags == value) | (hidden if hidden is not None else False)
    return hidden


def _open_got10k(spec: DatasetSpec) -> Opened:
    subset = spec.get_choice("subset", ("train", "val", "test"), "train")
    _check_list(spec, spec.root / subset / "list.txt")
    sequences = OfflineGOT10k(str(spec.root), subset)
    return Opened(sequences, fps=10.0, first_box_only=subset == "test")


def _got10k_hidden(annotation: Path, count: int) -> NDArray[np.bool_] | None:
    return _any_flag(annotation, absence=1, cover=0)


def _got10k_class(sequences: Any, index: int) -> str:
    path = Path(sequences.seq_dirs[index]) / "meta_info.ini"
    found = re.search(r"^object_class:\s*(.+)$", path.read_text(), re.M) if path.is_file() else None
    return found[1].strip() if found else ""


def _open_otb(spec: DatasetSpec) -> Opened:
    known = ("2015", "2013", "tb50", "tb100")
    text = spec.get_choice("version", known, "2015")
    version = int(text) if text.isdigit() else text
    sequences = OfflineOTB(str(spec.root), version, download=False)
    annotated = {Path(folder).name for folder in sequences.seq_dirs}
    missing = [n for n in OfflineOTB.expected(version) if n not in annotated]
    return Opened(sequences, tuple(_absent(spec.root / name) for name in missing))


def _absent(folder: Path) -> Problem:
    if folder.is_dir():
        return Problem(folder, "missing-annotation", "has no groundtruth_rect.txt with boxes")
    return Problem(folder, "missing-folder", "does not exist")


def _open_vot(spec: DatasetSpec) -> Opened:
    _check_list(spec, spec.root / "list.txt")
    return Opened(OfflineVOT(str(spec.root)))


def _open_lasot(spec: DatasetSpec) -> Opened:
    subset = spec.get_choice("subset", ("train", "test"), "train")
    return Opened(OfflineLaSOT(str(spec.root), subset))


def _lasot_hidden(annotation: Path, count: int) -> NDArray[np.bool_] | None:
    return _any_flag(annotation, full_occlusion=1, out_of_view=1)


def _lasot_class(sequences: Any, index: int) -> str:
    return str(sequences.seq_names[index].rpartition("-")[0])


def _open_trackingnet(spec: DatasetSpec) -> Opened:
    subset = spec.get_choice("subset", ("train", "test"), "train")
    sequences = OfflineTrackingNet(str(spec.root), subset)
    parts = [spec.root / part / f for part in sequences.subset_dirs for f in ("anno", "frames")]
    problems = [Problem(p, "missing-folder", "does not exist") for p in parts if not p.is_dir()]
    folders = (f for p in parts if p.name == "frames" and p.is_dir() for f in p.iterdir())
    problems += _without_annotation(folders, sequences.seq_names)
    return Opened(sequences, tuple(problems), first_box_only=subset == "test")


def _open_vid(spec: DatasetSpec) -> Opened:
    subset = spec.get_choice("subset", ("train", "val"), "train")
    parts = [spec.root / part / "VID" / subset for part in ("Annotations", "Data")]
    problems = [Problem(p, "missing-folder", "does not exist") for p in parts if not p.is_dir()]
    sequences = OfflineVID(str(spec.root), subset)
    problems += [Problem(Path(p), "bad-annotation", said) for p, said in sequences.unreadable]
    return Opened(sequences, tuple(problems))


def _vid_class(sequences: Any, index: int) -> str:
    return str(sequences.classes[index])


def _open_nfs(spec: DatasetSpec) -> Opened:
    fps = int(spec.get_choice("fps", ("240", "30"), "240"))
    sequences = OfflineNfS(str(spec.root), fps)
    folders = (f for f in spec.root.glob(f"*/{fps}/*") if f.is_dir())
    return Opened(
        sequences, tuple(_without_annotation(folders, sequences.seq_names)), fps=float(fps)
    )


def _nfs_hidden(annotation: Path, count: int) -> NDArray[np.bool_] | None:
    """VATIC's columns: track, corners (4), frame, lost, occluded, generated, label."""
    rows = [line.split() for line in annotation.read_text().splitlines() if line.strip()]
    lost = np.array([float(row[6]) == 1 if len(row) > 6 else False for row in rows])
    # Annotations at 240 fps also serve the 30 fps version, every eighth row; one row may be over.
    return lost[:: 8 if len(lost) > 2 * count else 1][:count]


def _open_uav123(spec: DatasetSpec) -> Opened:
    version = spec.get_choice("version", ("UAV123", "UAV20L"), "UAV123")
    return Opened(OfflineUAV123(str(spec.root), version))


def _open_dtb70(spec: DatasetSpec) -> Opened:
    sequences = OfflineDTB70(str(spec.root))
    problems = _without_annotation(spec.root.iterdir(), sequences.seq_names)
    return Opened(sequences, tuple(problems))


def _open_tcolor128(spec: DatasetSpec) -> Opened:
    sequences = OfflineTColor128(str(spec.root))
    problems = [
        Problem(Path(file), "missing-annotation", "does not exist: the range of annotated frames")
        for file in sequences.range_files
        if not Path(file).is_file()
    ]
    problems += _without_annotation(spec.root.iterdir(), sequences.seq_names)
    return Opened(sequences, tuple(problems))


def _check_list(spec: DatasetSpec, path: Path) -> None:
    """Refuse a set whose list of sequences is missing: nothing tells what else there should be."""
    if not path.is_file() or not path.read_text().strip():
        message = "lists no sequence" if path.exists() else "does not exist; it lists the sequences"
        raise dataset_error(spec.text, [Problem(path, "missing-annotation", message)])


def _without_annotation(folders: Any, known: list[str]) -> Iterator[Problem]:
    names = set(known)
    for folder in sorted(folders):
        if folder.is_dir() and not folder.name.startswith(".") and folder.name not in names:
            yield Problem(folder, "missing-annotation", "is a sequence without a file of boxes")


LAYOUTS: dict[str, Layout] = {
    "got10k": Layout(_open_got10k, 1, _got10k_hidden, _got10k_class),
    "otb": Layout(_open_otb, 1),
    "vot": Layout(_open_vot, 0),
    "lasot": Layout(_open_lasot, 1, _lasot_hidden, _lasot_class),
    "trackingnet": Layout(_open_trackingnet, 0),
    "vid": Layout(_open_vid, 0, class_name=_vid_class),
    "nfs": Layout(_open_nfs, 0, _nfs_hidden),
    "uav123": Layout(_open_uav123, 1),
    "dtb70": Layout(_open_dtb70, 1),
    "tcolor128": Layout(_open_tcolor128, 1),
}

_FOUR = 4
_TOOLKIT_ERRORS = (
    AssertionError,
    IndexError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
    ZeroDivisionError,
)


@dataclass(frozen=True)
class _ToolkitLoader:
    """Loads a sequence through the toolkit and turns it into ours.

    Attributes:
        kind: benchmark.
        opened: its sequences.
        indices: of the sequences that are there.
        first_pixel: coordinate that the annotation gives to the top-left pixel.
    """

    kind: str
    opened: Opened
    indices: tuple[int, ...]
    first_pixel: int

    def __call__(self, number: int) -> VideoSequence:
        index, layout, toolkit = self.indices[number], LAYOUTS[self.kind], self.opened.sequences
        name, annotation = toolkit.seq_names[index], Path(toolkit.anno_files[index])
        files, rows = self._rows(index, name, annotation)
        folder = files[0].parent
        _check_pictures(name, folder, files)
        visible = np.ones(len(rows), bool)
        try:
            hidden = layout.hidden(annotation, len(rows))
        except ValueError as error:
            raise dataset_error(
                name, [Problem(annotation, "bad-annotation", str(error))]
            ) from error
        if hidden is not None and not self.opened.first_box_only:
            if len(hidden) != len(rows):
                message = f"{len(hidden)} flags of visibility beside it for {len(rows)} boxes"
                raise dataset_error(name, [Problem(annotation, "count-differs", message)])
            visible = ~hidden
        return VideoSequence(
            name=name,
            kind="video",
            frames=ImageFrames(folder, tuple(file.name for file in files)),
            boxes=rows - np.array([self.first_pixel, self.first_pixel, 0, 0]),
            visible=visible,
            set_name=self.kind,
            class_name=layout.class_name(toolkit, index),
            fps=self.opened.fps,
            meta={
                "annotation": str(annotation),
                "label": "human",
                "first_box_only": self.opened.first_box_only,
            },
        )

    def _rows(self, index: int, name: str, annotation: Path) -> tuple[list[Path], FloatArray]:
        """Picture files and as many boxes, as the toolkit reads them."""
        if annotation.is_file() and not annotation.read_text().strip():
            raise dataset_error(name, [Problem(annotation, "bad-annotation", "is empty")])
        try:
            files, rows = self.opened.sequences[index]
            rows = np.atleast_2d(np.asarray(rows, np.float64))
        except _TOOLKIT_ERRORS as error:
            raise self._explained(index, name, annotation, error) from error
        if self.opened.first_box_only and len(files) > 1 and len(rows) == 1:
            withheld = np.full((len(files) - 1, _FOUR), np.nan)
            rows = np.vstack([rows, withheld])
        if not files or rows.shape != (len(files), _FOUR):
            raise self._explained(index, name, annotation, AssertionError())
        return [Path(file) for file in files], rows

    def _explained(self, index: int, name: str, annotation: Path, error: Exception) -> DatasetError:
        """Say what the toolkit only asserts."""
        folder = Path(self.opened.sequences.seq_dirs[index])
        folder = folder / "img" if (folder / "img").is_dir() else folder
        pictures = len(list_images(folder)) if folder.is_dir() else 0
        if isinstance(error, AssertionError) or not pictures:
            lines = annotation.read_text().splitlines() if annotation.is_file() else []
            boxes = sum(bool(line.strip()) for line in lines)
            message = (
                f"has {boxes} boxes; {folder} has {pictures} pictures, which must be as many "
                "(within the benchmark's own range of frames, where it has one)"
            )
            return dataset_error(name, [Problem(annotation, "count-differs", message)])
        message = f"cannot be understood: {error}"
        return dataset_error(name, [Problem(annotation, "bad-annotation", message)])


def open_benchmark_layout(spec: DatasetSpec) -> Dataset:
    """Open one of the toolkit's benchmarks; see the module and `open_dataset`."""
    spec.require_folder()
    layout = LAYOUTS[spec.kind]
    first_pixel = spec.get_first_pixel(layout.first_pixel)
    with contextlib.redirect_stdout(io.StringIO()):  # The toolkit prints what it leaves out.
        opened = layout.open(spec)
    problems = list(opened.problems)
    indices = []
    for index, name in enumerate(opened.sequences.seq_names):
        missing = _missing(opened, index, name)
        problems += missing
        if not missing:
            indices.append(index)
    return Dataset(
        spec=spec.text,
        kind=spec.kind,
        root=spec.root,
        names=[opened.sequences.seq_names[index] for index in indices],
        load=_ToolkitLoader(spec.kind, opened, tuple(indices), first_pixel),
        problems=problems,
    )


def _missing(opened: Opened, index: int, name: str) -> list[Problem]:
    folder = Path(opened.sequences.seq_dirs[index])
    annotation = Path(opened.sequences.anno_files[index])
    problems = []
    if not folder.is_dir():
        problems.append(Problem(folder, "missing-folder", f"does not exist; {name} needs it"))
    if not annotation.exists():
        problems.append(
            Problem(annotation, "missing-annotation", f"does not exist; {name} needs it")
        )
    return problems


def _check_pictures(name: str, folder: Path, files: list[Path]) -> None:
    there = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
    missing = [file for file in files if file.name not in there]
    if missing:
        raise dataset_error(
            name, [Problem(f, "missing-picture", "does not exist") for f in missing]
        )
