"""Tracking benchmarks in their own layouts on disk; `LAYOUTS` is the table of all ten.

    got10k:/data/GOT-10k?subset=val     otb:/data/OTB?version=2013     lasot:/data/LaSOT?subset=test

| kind | options, default first | frames without the target, besides boxes without an area |
|---|---|---|
| got10k | subset = train, val, test | `absence.label` 1, `cover.label` 0 |
| otb | version = 2015, 2013, tb50, tb100 | |
| vot | | NaN boxes (long-term sets) |
| lasot | subset = train, test | `full_occlusion.txt` 1, `out_of_view.txt` 1 |
| trackingnet | subset = train, test | |
| vid | subset = train, val | without the track's id |
| nfs | fps = 240, 30 | the column `lost` |
| uav123 | version = UAV123, UAV20L | NaN boxes |
| dtb70, tcolor128 | | |

Where flag files are missing, boxes alone count. In the test sets of GOT-10k and TrackingNet only
the first frame is annotated: the others are not visible, and `meta` says `first_box_only`. All
kinds have the option `first_pixel`, see `LAYOUTS`.

Names, order and frame ranges of sequences are those of the got10k toolkit 0.1.3, which supplies
the tables of OTB, LaSOT and UAV123. The files are read here, because the toolkit's readers
download, print and write caches into the current folder, stop at a stray file or a missing part,
and in two cases cannot be constructed at all. They drop ImageNet-VID frames without the target,
which makes a hidden target jump; here they are kept. They turn a VOT polygon into a rectangle of
the same area; here it is the enclosing one, as VOT's own protocol sends it.

Sections: opening and loading; what the benchmarks share; then for each benchmark `_list_...`,
which finds its targets, and `_read_...`, which gives the images and boxes of one; the table.
"""

from __future__ import annotations

import glob
import io
import json
import os
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from siamtrack.data.formats.objects import is_below
from siamtrack.data.sequence import Dataset, DatasetSpec, VideoSequence
from siamtrack.errors import DatasetError, Problem, dataset_error
from siamtrack.types import BoolArray, FloatArray
from siamtrack.utils.images import list_images, natural_key
from siamtrack.video.random_access import ImageFrames


@dataclass(frozen=True, eq=False, slots=True)
class BenchmarkTarget:
    """One target of a benchmark, found but not read."""

    name: str  # the toolkit's name of the sequence
    folder: Path  # of the images, or the folder around their folder `img`
    annotation: Path  # file of the boxes; for VID the folder of the XML files
    images: tuple[str, ...] = ()  # their names, where the benchmark lists them or counts only some
    boxes: FloatArray | None = None  # (N, 4), where finding the target meant reading them (VID)
    class_name: str = ""


@dataclass(frozen=True, slots=True)
class BenchmarkListing:
    """What one subset or version of a benchmark consists of."""

    targets: tuple[BenchmarkTarget, ...]  # in the toolkit's order, whether or not their files exist
    problems: tuple[Problem, ...] = ()  # what is missing besides files of the targets
    fps: float | None = None  # of all sequences, where they agree
    first_box_only: bool = False  # boxes after the first are withheld from the public


@dataclass(frozen=True, slots=True)
class Layout:
    """One benchmark."""

    list_targets: Callable[[DatasetSpec], BenchmarkListing]
    read: Callable[[BenchmarkTarget], tuple[list[Path], FloatArray]]  # images, boxes as annotated
    first_pixel: int  # coordinate that the annotation gives to the top-left pixel
    # (N,) flags of frames in which the target cannot be seen, from the annotation file and the
    # number of boxes; None when there are no flags.
    read_hidden: Callable[[Path, int], BoolArray | None] = lambda annotation, count: None


# --- Opening and loading -------------------------------------------------------------------------


def open_benchmark_layout(spec: DatasetSpec) -> Dataset:
    """Open a benchmark; `open_dataset` explains the name, errors and missing parts."""
    spec.require_folder()
    layout = LAYOUTS[spec.kind]
    first_pixel = spec.get_first_pixel(layout.first_pixel)
    listing = layout.list_targets(spec)
    problems = list(listing.problems)
    present = []
    for target in listing.targets:
        needs = f"does not exist; {target.name} needs it"
        before = len(problems)
        if not target.folder.is_dir():
            problems.append(Problem(target.folder, "missing-folder", needs))
        if not target.annotation.exists():
            problems.append(Problem(target.annotation, "missing-annotation", needs))
        if len(problems) == before:
            present.append(target)
    listing = replace(listing, targets=tuple(present))
    load = partial(_load_sequence, spec.kind, listing, first_pixel)
    return spec.make_dataset([target.name for target in present], load, problems)


def _load_sequence(
    kind: str, listing: BenchmarkListing, first_pixel: int, number: int
) -> VideoSequence:
    layout, target = LAYOUTS[kind], listing.targets[number]
    name, annotation = target.name, target.annotation

    # Images and boxes: as many of one as of the other, unless the boxes are withheld.
    if annotation.is_file() and not annotation.read_text().strip():
        raise dataset_error(name, [Problem(annotation, "bad-annotation", "is empty")])
    try:
        files, boxes = layout.read(target)
    except (IndexError, OSError, ValueError) as error:
        raise _read_error(target, error) from error
    if listing.first_box_only and len(files) > 1 and len(boxes) == 1:
        boxes = np.vstack([boxes, np.full((len(files) - 1, 4), np.nan)])
    if not files or boxes.shape != (len(files), 4):
        raise _read_error(target, None)
    folder = files[0].parent
    existing = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
    missing = [
        Problem(file, "missing-picture", "does not exist")
        for file in files
        if file.name not in existing
    ]
    if missing:
        raise dataset_error(name, missing)

    # Flags of visibility.
    visible = np.ones(len(boxes), bool)
    try:
        hidden = layout.read_hidden(annotation, len(boxes))
    except ValueError as error:
        raise dataset_error(name, [Problem(annotation, "bad-annotation", str(error))]) from error
    if hidden is not None and not listing.first_box_only:
        if len(hidden) != len(boxes):
            message = f"{len(hidden)} flags of visibility beside it for {len(boxes)} boxes"
            raise dataset_error(name, [Problem(annotation, "count-differs", message)])
        visible = ~hidden

    return VideoSequence(
        name=name,
        kind="video",
        frames=ImageFrames(folder, tuple(file.name for file in files)),
        boxes=boxes - np.array([first_pixel, first_pixel, 0, 0]),
        visible=visible,
        set_name=kind,
        class_name=_got10k_class(target) if kind == "got10k" else target.class_name,
        fps=listing.fps,
        meta={
            "annotation": str(annotation),
            "label": "human",
            "first_box_only": listing.first_box_only,
        },
    )


def _read_error(target: BenchmarkTarget, error: Exception | None) -> DatasetError:
    """The error for boxes that cannot be read, or (None) that are not one per image."""
    annotation, folder = target.annotation, target.folder
    folder = folder / "img" if (folder / "img").is_dir() else folder
    images = len(list_images(folder)) if folder.is_dir() else 0
    if error is not None and images:
        problem = Problem(annotation, "bad-annotation", f"cannot be understood: {error}")
        return dataset_error(target.name, [problem])
    lines = annotation.read_text().splitlines() if annotation.is_file() else []
    message = (
        f"has {sum(bool(line.strip()) for line in lines)} boxes; {folder} has {images} pictures, "
        "which must be as many (within the benchmark's own range of frames, where it has one)"
    )
    return dataset_error(target.name, [Problem(annotation, "count-differs", message)])


# --- What the benchmarks share -------------------------------------------------------------------


def _toolkit_table(name: str) -> Any:
    """Read a table of sequences that comes with the got10k toolkit."""
    from got10k import datasets

    return json.loads(Path(datasets.__file__).with_name(name).read_text())


def _glob(root: Path, pattern: str) -> list[Path]:
    """Files that match, without hidden ones, in the toolkit's order."""
    return [Path(file) for file in sorted(glob.glob(f"{glob.escape(str(root))}/{pattern}"))]


def _comma_rows(path: Path) -> FloatArray:
    """The comma-separated numbers of a file, (N, columns)."""
    return np.loadtxt(path, delimiter=",", ndmin=2)


def _read_folder(target: BenchmarkTarget, pattern: str = "*.jpg") -> tuple[list[Path], FloatArray]:
    """Every .jpg of the folder, and a line of four numbers for each."""
    return _glob(target.folder, pattern), _comma_rows(target.annotation)


def _read_listed(target: BenchmarkTarget) -> tuple[list[Path], FloatArray]:
    """The images that the target names, and its boxes or a line of four numbers for each."""
    boxes = _comma_rows(target.annotation) if target.boxes is None else target.boxes
    return [target.folder / name for name in target.images], boxes


def _listed_names(spec: DatasetSpec, path: Path) -> list[str]:
    """Sequence names in a list file; only the list tells which sequences are missing."""
    if not path.is_file() or not path.read_text().strip():
        message = "lists no sequence" if path.exists() else "does not exist; it lists the sequences"
        raise dataset_error(spec.text, [Problem(path, "missing-annotation", message)])
    names = path.read_text().strip().split("\n")
    if outside := [name for name in names if not is_below(name)]:
        message = f"names {outside[0]!r}, which is no folder below {spec.root}"
        raise dataset_error(spec.text, [Problem(path, "bad-annotation", message)])
    return names


def _unannotated(folders: Iterable[Path], targets: Iterable[BenchmarkTarget]) -> list[Problem]:
    """Sequence folders that no target belongs to."""
    known = {target.name for target in targets}
    return [
        Problem(folder, "missing-annotation", "is a sequence without a file of boxes")
        for folder in sorted(folders)
        if folder.is_dir() and not folder.name.startswith(".") and folder.name not in known
    ]


def _missing_folders(folders: Iterable[Path]) -> list[Problem]:
    return [Problem(f, "missing-folder", "does not exist") for f in folders if not f.is_dir()]


def _flagged(annotation: Path, _: int, **hides_at: float) -> BoolArray | None:
    """Frames in which a flag file beside the annotation has the value that means hidden.

    `hides_at` gives that value by the name of the file, which ends in .label or .txt.
    """
    hidden: BoolArray | None = None
    for name, value in hides_at.items():
        for suffix in (".label", ".txt"):
            path = annotation.with_name(name + suffix)
            if not path.is_file():
                continue
            # Some files have a flag per line, others all flags in one line.
            texts = re.split(r"[\s,]+", path.read_text().strip())
            flags = np.array([float(text) for text in texts if text])
            if hidden is not None and len(flags) != len(hidden):
                raise ValueError(f"{name}{suffix} has {len(flags)} flags, {len(hidden)} are needed")
            hidden = (flags == value) | (hidden if hidden is not None else False)
    return hidden


# --- GOT-10k: SUBSET/list.txt, SUBSET/NAME/{groundtruth.txt,*.jpg,*.label} -----------------------


def _list_got10k(spec: DatasetSpec) -> BenchmarkListing:
    subset = spec.get_choice("subset", ("train", "val", "test"), "train")
    folders = [spec.root / subset / n for n in _listed_names(spec, spec.root / subset / "list.txt")]
    targets = tuple(BenchmarkTarget(f.name, f, f / "groundtruth.txt") for f in folders)
    return BenchmarkListing(targets, fps=10.0, first_box_only=subset == "test")


def _got10k_class(target: BenchmarkTarget) -> str:
    path = target.folder / "meta_info.ini"
    found = re.search(r"^object_class:\s*(.+)$", path.read_text(), re.M) if path.is_file() else None
    return found[1].strip() if found else ""


# --- OTB: NAME/{groundtruth_rect*.txt,img/*.jpg} -------------------------------------------------

_OTB_FRAMES = {
    "david": slice(299, 770),
    "diving": slice(0, 215),
    "football1": slice(0, 74),
    "freeman3": slice(0, 460),
    "freeman4": slice(0, 283),
}
"""Images that are annotated, where not all are."""


def otb_folders(version: int | str) -> list[str]:
    """Sequence folders of OTB 2013, 2015, "tb50" or "tb100"."""
    from got10k import datasets

    return sorted(datasets.OTB._OTB__version_dict[version])


def _list_otb(spec: DatasetSpec) -> BenchmarkListing:
    version = spec.get_choice("version", ("2015", "2013", "tb50", "tb100"), "2015")
    names = otb_folders(int(version) if version.isdigit() else version)
    targets, problems = [], []
    for name in names:
        folder = spec.root / name
        # Human4 has an empty file besides the one with boxes.
        files = [f for f in _glob(folder, "groundtruth*.txt") if f.read_text().strip()]
        if len(files) == 1:
            targets.append(BenchmarkTarget(name, folder, files[0]))
        elif files:  # two targets make two sequences: Jogging.1, Jogging.2
            targets += [BenchmarkTarget(f"{name}.{n}", folder, f) for n, f in enumerate(files, 1)]
        elif folder.is_dir():
            message = "has no groundtruth_rect.txt with boxes"
            problems.append(Problem(folder, "missing-annotation", message))
        else:
            problems.append(Problem(folder, "missing-folder", "does not exist"))
    targets.sort(key=lambda target: str(target.annotation))
    return BenchmarkListing(tuple(targets), tuple(problems))


def _read_otb(target: BenchmarkTarget) -> tuple[list[Path], FloatArray]:
    images = _glob(target.folder, "img/*.jpg")
    images = images[_OTB_FRAMES.get(target.name.lower(), slice(None))]
    # Some files are separated by commas, others by tabs or blanks.
    text = target.annotation.read_text().replace(",", " ")
    return images, np.loadtxt(io.StringIO(text), ndmin=2)


# --- VOT: list.txt, NAME/{groundtruth.txt,*.jpg}, since VOT2018-LT NAME/color/*.jpg --------------


def _list_vot(spec: DatasetSpec) -> BenchmarkListing:
    targets = []
    for name in _listed_names(spec, spec.root / "list.txt"):
        folder = spec.root / name
        images = folder / "color" if (folder / "color").is_dir() else folder
        targets.append(BenchmarkTarget(name, images, folder / "groundtruth.txt"))
    return BenchmarkListing(tuple(targets))


def _read_vot(target: BenchmarkTarget) -> tuple[list[Path], FloatArray]:
    images, rows = _read_folder(target)
    if rows.shape[1] == 8:
        corners = rows.reshape(-1, 4, 2)  # (N, 4 corners, xy)
        low, high = corners.min(axis=1), corners.max(axis=1)
        rows = np.hstack([low, high - low])  # (N, 4) xywh
    return images, rows


# --- LaSOT: CLASS/CLASS-N/{groundtruth.txt,img/*.jpg} or CLASS-N/... -----------------------------


def _list_lasot(spec: DatasetSpec) -> BenchmarkListing:
    subset = spec.get_choice("subset", ("train", "test"), "train")
    targets = []
    for name in _toolkit_table("lasot.json")[subset]:
        class_name = name.rpartition("-")[0]
        folder = spec.root / name
        if not folder.is_dir():
            folder = spec.root / class_name / name
        files = folder / "img", folder / "groundtruth.txt"
        targets.append(BenchmarkTarget(name, *files, class_name=class_name))
    return BenchmarkListing(tuple(targets))


# --- TrackingNet: {TRAIN_0..TRAIN_11,TEST}/{anno/NAME.txt,frames/NAME/*.jpg} ---------------------


def _list_trackingnet(spec: DatasetSpec) -> BenchmarkListing:
    subset = spec.get_choice("subset", ("train", "test"), "train")
    parts = ["TEST"] if subset == "test" else [f"TRAIN_{n}" for n in range(12)]
    annotations = sorted(file for p in parts for file in _glob(spec.root / p, "anno/*.txt"))
    targets = tuple(
        BenchmarkTarget(file.stem, file.parent.parent / "frames" / file.stem, file)
        for file in annotations
    )
    needed = [spec.root / part / folder for part in parts for folder in ("anno", "frames")]
    problems = _missing_folders(needed)
    frames = [folder for folder in needed if folder.name == "frames" and folder.is_dir()]
    problems += _unannotated((f for folder in frames for f in folder.iterdir()), targets)
    return BenchmarkListing(targets, tuple(problems), first_box_only=subset == "test")


def _read_trackingnet(target: BenchmarkTarget) -> tuple[list[Path], FloatArray]:
    # Numbers in the names are not padded with zeros.
    images, rows = _read_folder(target)
    return sorted(images, key=lambda path: natural_key(str(path))), rows


# --- ImageNet-VID: {Annotations,Data}/VID/SUBSET/.../SNIPPET/NNNNNN.{xml,JPEG} -------------------


def _list_vid(spec: DatasetSpec) -> BenchmarkListing:
    """Every target that is seen at least twice, from its first frame to its last."""
    subset = spec.get_choice("subset", ("train", "val"), "train")
    annotations, data = spec.root / "Annotations" / "VID", spec.root / "Data" / "VID"
    problems = _missing_folders([annotations / subset, data / subset])
    targets: list[BenchmarkTarget] = []
    # Snippets of the training set are one level deeper, in ILSVRC2015_VID_train_0000 to 0003.
    for snippet in sorted({file.parent for file in (annotations / subset).rglob("*.xml")}):
        targets += _vid_targets(snippet, data / snippet.relative_to(annotations), problems)
    return BenchmarkListing(tuple(targets), tuple(problems))


def _vid_targets(snippet: Path, images: Path, problems: list[Problem]) -> Iterator[BenchmarkTarget]:
    """Targets of a folder of XML files; files that cannot be read are added to `problems`."""
    files = sorted(snippet.glob("*.xml"))
    tracks: dict[str, dict[int, list[float]]] = defaultdict(dict)  # box by frame, by track id
    classes: dict[str, str] = {}
    for number, file in enumerate(files):
        try:
            for element in ET.parse(file).getroot().findall("object"):
                track = _required_text(element, "trackid")
                left, top, right, bottom = (
                    float(_required_text(element, f"bndbox/{corner}"))
                    for corner in ("xmin", "ymin", "xmax", "ymax")
                )
                # xmax and ymax belong to the target, as the toolkit has it.
                tracks[track][number] = [left, top, right - left + 1, bottom - top + 1]
                classes[track] = _required_text(element, "name")
        except (ET.ParseError, ValueError, OSError) as error:
            problems.append(Problem(file, "bad-annotation", f"cannot be understood: {error}"))
    for track, by_frame in sorted(tracks.items(), key=lambda item: natural_key(item[0])):
        if len(by_frame) < 2:
            continue
        first, last = min(by_frame), max(by_frame)
        boxes = np.full((last - first + 1, 4), np.nan)
        boxes[[number - first for number in by_frame]] = list(by_frame.values())
        names = tuple(f"{file.stem}.JPEG" for file in files[first : last + 1])
        name = f"{snippet.name}.{track}"
        yield BenchmarkTarget(name, images, snippet, names, boxes, classes[track])


def _required_text(element: ET.Element, path: str) -> str:
    text = element.findtext(path)
    if not text:
        raise ValueError(f"an object lacks {path}")
    return text.strip()


# --- NfS: NAME/FPS/{NAME.txt,NAME/*.jpg} ---------------------------------------------------------


def _list_nfs(spec: DatasetSpec) -> BenchmarkListing:
    fps = int(spec.get_choice("fps", ("240", "30"), "240"))
    annotations = _glob(spec.root, f"*/{fps}/*.txt")
    targets = tuple(BenchmarkTarget(f.stem, f.with_suffix(""), f) for f in annotations)
    problems = _unannotated(spec.root.glob(f"*/{fps}/*"), targets)
    return BenchmarkListing(targets, tuple(problems), fps=float(fps))


def _read_nfs(target: BenchmarkTarget) -> tuple[list[Path], FloatArray]:
    """VATIC's columns: track, left, top, right, bottom, frame, lost, occluded, generated, label."""
    images = _glob(target.folder, "*.jpg")
    boxes = np.loadtxt(target.annotation, dtype=str, ndmin=2)[:, 1:5].astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]  # corners to width and height
    # Annotations at 240 fps also serve the 30 fps version, every eighth row; one may be over.
    if images and len(boxes) != len(images):
        if abs(len(boxes) / len(images) - 8) < 1:
            boxes = boxes[::8]
        if abs(len(images) - len(boxes)) == 1:
            count = min(len(images), len(boxes))
            images, boxes = images[:count], boxes[:count]
    return images, boxes


def _nfs_hidden(annotation: Path, count: int) -> BoolArray | None:
    rows = [line.split() for line in annotation.read_text().splitlines() if line.strip()]
    lost = np.array([float(row[6]) == 1 if len(row) > 6 else False for row in rows])
    return lost[:: 8 if len(lost) > 2 * count else 1][:count]


# --- UAV123: anno/VERSION/NAME.txt, data_seq/UAV123/FOLDER/NNNNNN.jpg ----------------------------


def _list_uav123(spec: DatasetSpec) -> BenchmarkListing:
    """The sequences of the toolkit's table, UAV123 or UAV20L, with their ranges of frames."""
    version = spec.get_choice("version", ("UAV123", "UAV20L"), "UAV123")
    targets = []
    for name, entry in sorted(_toolkit_table("uav123.json")[version].items()):
        numbers = range(entry["start_frame"], entry["end_frame"] + 1)
        folder = spec.root / "data_seq" / "UAV123" / entry["folder_name"]
        annotation = spec.root / "anno" / version / f"{name}.txt"
        images = tuple(f"{number:06d}.jpg" for number in numbers)
        targets.append(BenchmarkTarget(name, folder, annotation, images))
    return BenchmarkListing(tuple(targets))


# --- DTB70: NAME/{groundtruth_rect.txt,img/*.jpg} ------------------------------------------------


def _list_dtb70(spec: DatasetSpec) -> BenchmarkListing:
    annotations = _glob(spec.root, "*/groundtruth_rect.txt")
    targets = tuple(BenchmarkTarget(f.parent.name, f.parent, f) for f in annotations)
    return BenchmarkListing(targets, tuple(_unannotated(spec.root.iterdir(), targets)))


# --- TColor128: NAME/{NAME_gt.txt,NAME_frames.txt,img/NNNN.jpg} ----------------------------------


def _list_tcolor128(spec: DatasetSpec) -> BenchmarkListing:
    annotations = _glob(spec.root, "*/*_gt.txt")
    targets = tuple(BenchmarkTarget(f.parent.name, f.parent / "img", f) for f in annotations)
    message = "does not exist: the range of annotated frames"
    ranges = [_tcolor128_range(file) for file in annotations]
    problems = [Problem(f, "missing-annotation", message) for f in ranges if not f.is_file()]
    problems += _unannotated(spec.root.iterdir(), targets)
    return BenchmarkListing(targets, tuple(problems))


def _tcolor128_range(annotation: Path) -> Path:
    """The file with the first and last annotated frame."""
    found = _glob(annotation.parent, "*_frames.txt")
    return found[0] if found else annotation.with_name("*_frames.txt")


def _read_tcolor128(target: BenchmarkTarget) -> tuple[list[Path], FloatArray]:
    path = _tcolor128_range(target.annotation)
    first, last = np.loadtxt(path, dtype=int, delimiter=",", ndmin=1)
    images = [target.folder / f"{number:04d}.jpg" for number in range(first, last + 1)]
    return images, _comma_rows(target.annotation)


# --- The table -----------------------------------------------------------------------------------

# The annotation's coordinate of the top-left pixel is stated nowhere in the toolkit, which passes
# boxes on as they are. The comments give the reason for each; `first_pixel=0` or `1` overrides it.
LAYOUTS: dict[str, Layout] = {
    # Stated by its author, although a few sequences hold zeros.
    "got10k": Layout(_list_got10k, _read_folder, 1, partial(_flagged, absence=1, cover=0)),
    # Drawn and evaluated with Matlab code, which counts from 1.
    "otb": Layout(_list_otb, _read_otb, 1),
    "uav123": Layout(_list_uav123, _read_listed, 1),
    "dtb70": Layout(_list_dtb70, partial(_read_folder, pattern="img/*.jpg"), 1),
    "tcolor128": Layout(_list_tcolor128, _read_tcolor128, 1),
    # Polygons with fractions, which VOT's toolkit hands to trackers unchanged.
    "vot": Layout(_list_vot, _read_vot, 0),
    # Stated by its authors.
    "lasot": Layout(
        _list_lasot, _read_folder, 1, partial(_flagged, full_occlusion=1, out_of_view=1)
    ),
    # Made from fractions of the image's size.
    "trackingnet": Layout(_list_trackingnet, _read_trackingnet, 0),
    # Coordinates from 0 to size - 1 occur.
    "vid": Layout(_list_vid, _read_listed, 0),
    # VATIC's format, which counts from 0; many coordinates are 0.
    "nfs": Layout(_list_nfs, _read_nfs, 0, _nfs_hidden),
}
