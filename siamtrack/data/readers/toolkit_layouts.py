"""How the benchmarks differ: what opens them, what must be there, which frames hide the target."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from siamtrack.data.problems import Problem, failure
from siamtrack.data.readers import toolkit_sets as sets
from siamtrack.data.readers.request import Request
from siamtrack.geometry import FloatArray


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

    open: Callable[[Request], Opened]
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


def _open_got10k(request: Request) -> Opened:
    subset = request.choice("subset", ("train", "val", "test"), "train")
    _check_list(request, request.root / subset / "list.txt")
    sequences = sets.OfflineGOT10k(str(request.root), subset)
    return Opened(sequences, fps=10.0, first_box_only=subset == "test")


def _got10k_hidden(annotation: Path, count: int) -> NDArray[np.bool_] | None:
    return _any_flag(annotation, absence=1, cover=0)


def _got10k_class(sequences: Any, index: int) -> str:
    path = Path(sequences.seq_dirs[index]) / "meta_info.ini"
    found = re.search(r"^object_class:\s*(.+)$", path.read_text(), re.M) if path.is_file() else None
    return found[1].strip() if found else ""


def _open_otb(request: Request) -> Opened:
    known = ("2015", "2013", "tb50", "tb100")
    text = request.choice("version", known, "2015")
    version = int(text) if text.isdigit() else text
    sequences = sets.OfflineOTB(str(request.root), version, download=False)
    annotated = {Path(folder).name for folder in sequences.seq_dirs}
    missing = [n for n in sets.OfflineOTB.expected(version) if n not in annotated]
    return Opened(sequences, tuple(_absent(request.root / name) for name in missing))


def _absent(folder: Path) -> Problem:
    if folder.is_dir():
        return Problem(folder, "missing-annotation", "has no groundtruth_rect.txt with boxes")
    return Problem(folder, "missing-folder", "does not exist")


def _open_vot(request: Request) -> Opened:
    _check_list(request, request.root / "list.txt")
    return Opened(sets.OfflineVOT(str(request.root)))


def _open_lasot(request: Request) -> Opened:
    subset = request.choice("subset", ("train", "test"), "train")
    return Opened(sets.OfflineLaSOT(str(request.root), subset))


def _lasot_hidden(annotation: Path, count: int) -> NDArray[np.bool_] | None:
    return _any_flag(annotation, full_occlusion=1, out_of_view=1)


def _lasot_class(sequences: Any, index: int) -> str:
    return str(sequences.seq_names[index].rpartition("-")[0])


def _open_trackingnet(request: Request) -> Opened:
    subset = request.choice("subset", ("train", "test"), "train")
    sequences = sets.OfflineTrackingNet(str(request.root), subset)
    parts = [request.root / part / f for part in sequences.subset_dirs for f in ("anno", "frames")]
    problems = [Problem(p, "missing-folder", "does not exist") for p in parts if not p.is_dir()]
    folders = (f for p in parts if p.name == "frames" and p.is_dir() for f in p.iterdir())
    problems += _without_annotation(folders, sequences.seq_names)
    return Opened(sequences, tuple(problems), first_box_only=subset == "test")


def _open_vid(request: Request) -> Opened:
    subset = request.choice("subset", ("train", "val"), "train")
    parts = [request.root / part / "VID" / subset for part in ("Annotations", "Data")]
    problems = [Problem(p, "missing-folder", "does not exist") for p in parts if not p.is_dir()]
    sequences = sets.OfflineVID(str(request.root), subset)
    problems += [Problem(Path(p), "bad-annotation", said) for p, said in sequences.unreadable]
    return Opened(sequences, tuple(problems))


def _vid_class(sequences: Any, index: int) -> str:
    return str(sequences.classes[index])


def _open_nfs(request: Request) -> Opened:
    fps = int(request.choice("fps", ("240", "30"), "240"))
    sequences = sets.OfflineNfS(str(request.root), fps)
    folders = (f for f in request.root.glob(f"*/{fps}/*") if f.is_dir())
    return Opened(
        sequences, tuple(_without_annotation(folders, sequences.seq_names)), fps=float(fps)
    )


def _nfs_hidden(annotation: Path, count: int) -> NDArray[np.bool_] | None:
    """VATIC's columns: track, corners (4), frame, lost, occluded, generated, label."""
    rows = [line.split() for line in annotation.read_text().splitlines() if line.strip()]
    lost = np.array([float(row[6]) == 1 if len(row) > 6 else False for row in rows])
    # Annotations at 240 fps also serve the 30 fps version, every eighth row; one row may be over.
    return lost[:: 8 if len(lost) > 2 * count else 1][:count]


def _open_uav123(request: Request) -> Opened:
    version = request.choice("version", ("UAV123", "UAV20L"), "UAV123")
    return Opened(sets.OfflineUAV123(str(request.root), version))


def _open_dtb70(request: Request) -> Opened:
    sequences = sets.OfflineDTB70(str(request.root))
    problems = _without_annotation(request.root.iterdir(), sequences.seq_names)
    return Opened(sequences, tuple(problems))


def _open_tcolor128(request: Request) -> Opened:
    sequences = sets.OfflineTColor128(str(request.root))
    problems = [
        Problem(Path(file), "missing-annotation", "does not exist: the range of annotated frames")
        for file in sequences.range_files
        if not Path(file).is_file()
    ]
    problems += _without_annotation(request.root.iterdir(), sequences.seq_names)
    return Opened(sequences, tuple(problems))


def _check_list(request: Request, path: Path) -> None:
    """Refuse a set whose list of sequences is missing: nothing tells what else there should be."""
    if not path.is_file() or not path.read_text().strip():
        message = "lists no sequence" if path.exists() else "does not exist; it lists the sequences"
        raise failure(request.spec, [Problem(path, "missing-annotation", message)])


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
