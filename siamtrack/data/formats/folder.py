"""Text files of boxes: plain lines, and the table that `siamtrack track` writes."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siamtrack.data.sequence import Dataset, DatasetSpec, VideoSequence
from siamtrack.errors import DatasetError, Problem, dataset_error
from siamtrack.types import FloatArray
from siamtrack.utils.images import IMAGE_SUFFIXES, list_images
from siamtrack.video.decode import (
    VIDEO_SUFFIXES,
    Frames,
    ImageFrames,
    VideoFile,
)

_FOUR = 4
_NEEDED = ("frame", "target", "x", "y", "w", "h")
_STATUSES = ("tracked", "uncertain", "lost")


@dataclass(frozen=True, eq=False)
class TrackRows:
    """Rows of one target, by ascending frame number.

    Attributes:
        frames: (M,) int64 frame numbers.
        boxes: (M, 4) float64 xywh px, NaN where the target is absent.
    """

    frames: NDArray[np.int64]
    boxes: FloatArray


def read_boxes(path: Path) -> FloatArray:
    """Read a line `x,y,w,h` per frame; commas, semicolons and blanks all separate.

    Returns:
        (N, 4) float64, NaN where the target is absent.

    Raises:
        DatasetError: it cannot be read, or a line is not four numbers.
    """
    rows = []
    for number, line in enumerate(_lines(path), 1):
        try:
            rows.append(_four(line))
        except ValueError as error:
            raise DatasetError(
                f"{path} line {number} is {line[:60]!r}; give x,y,w,h for every frame, nan,nan,"
                "nan,nan where the target is absent"
            ) from error
    return np.array(rows, np.float64).reshape(-1, _FOUR)


def looks_like_boxes(path: Path) -> bool:
    """Whether the first line is four numbers, or the header of a table of tracks."""
    try:
        first = next(iter(_lines(path)), "")
        _four(first)
    except DatasetError:
        return False
    except ValueError:
        return set(_NEEDED) <= {cell.strip() for cell in first.split(",")}
    return True


def read_track_csv(path: Path, *, keep_uncertain: bool = True) -> dict[int, TrackRows]:
    """Read the table that `siamtrack track` writes.

    Args:
        path: CSV with a header; columns beyond frame, target, x, y, w, h and status are ignored.
        keep_uncertain: whether rows with status uncertain are boxes; otherwise they are absent.

    Returns:
        Target number to its rows.

    Raises:
        DatasetError: a column is missing, or a row is malformed or there twice.
    """
    tables: dict[int, dict[int, FloatArray]] = {}
    reader = csv.DictReader(_lines(path))
    missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
    if missing:
        raise DatasetError(
            f"{path} lacks the column {' and '.join(missing)}; give the CSV of siamtrack track, "
            "with a header"
        )
    for row in reader:
        try:
            frame, target = int(row["frame"]), int(row["target"])
            box = _row_box(row, keep_uncertain)
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{path} line {reader.line_num}: {error}") from error
        table = tables.setdefault(target, {})
        if frame in table or frame < 0:
            wrong = "is negative" if frame < 0 else f"of target {target} is there twice"
            raise DatasetError(f"{path} line {reader.line_num}: frame {frame} {wrong}")
        table[frame] = box
    return {
        target: TrackRows(np.array(sorted(table)), np.array([table[f] for f in sorted(table)]))
        for target, table in tables.items()
    }


def _row_box(row: dict[str, str], keep_uncertain: bool) -> FloatArray:
    status = row.get("status") or "tracked"
    if status not in _STATUSES:
        raise ValueError(f"status {status!r} is none of {', '.join(_STATUSES)}")
    if status == "lost" or (status == "uncertain" and not keep_uncertain):
        return np.full(_FOUR, np.nan)
    box = [float(row[name]) for name in _NEEDED[2:]]
    if any(math.isinf(value) for value in box):
        raise ValueError(f"box {box} is not finite")
    return np.array(box)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as text: {error}") from error


def _four(line: str) -> list[float]:
    values = [float(text) for text in line.replace(",", " ").replace(";", " ").split()]
    if len(values) != _FOUR or any(map(math.isinf, values)):
        raise ValueError(f"{line!r} is not four numbers")
    return values


_BOX_SUFFIXES = (".csv", ".txt")


@dataclass(frozen=True, slots=True)
class _Clip:
    """One target: a clip (or folder of pictures), its annotation and the target's number there."""

    name: str
    clip: Path
    annotation: Path
    target: int | None


@dataclass(frozen=True)
class _FolderLoader:
    clips: tuple[_Clip, ...]
    keep_uncertain: bool

    def __call__(self, number: int) -> VideoSequence:
        found = self.clips[number]
        frames = frames_of(found.clip)
        fps = frames.fps if isinstance(frames, VideoFile) else None
        if found.target is None:
            boxes = read_boxes(found.annotation)
        else:
            rows = read_track_csv(found.annotation, keep_uncertain=self.keep_uncertain)
            boxes = _spread(rows[found.target], len(frames), found)
        return VideoSequence(
            name=found.name,
            kind="video",
            frames=frames,
            boxes=boxes,
            set_name="folder",
            fps=fps,
            meta={"annotation": str(found.annotation)},
        )


def frames_of(clip: Path) -> Frames:
    """Frames of a video file or of a folder of pictures."""
    if clip.is_dir():
        return ImageFrames(clip, list_images(clip), upright=True)
    return VideoFile(clip)


def open_folder(spec: DatasetSpec) -> Dataset:
    """Open a folder of clips or a single one; see the module and `open_dataset`."""
    keep_uncertain = spec.get_choice("uncertain", ("keep", "absent"), "keep") == "keep"
    root = spec.root
    if not root.exists():
        raise dataset_error(spec.text, [Problem(root, "missing-folder", "does not exist")])
    base = root if root.is_dir() else root.parent
    clips = _clips_in(root) if root.is_dir() else [_clip_of_file(root)]
    problems: list[Problem] = []
    targets: list[_Clip] = []
    taken: set[Path] = set()
    for clip in clips:
        annotations = _annotations_of(clip)
        taken.update(annotations)
        if len(annotations) != 1:
            problems.append(_not_one(clip, annotations))
            continue
        try:
            targets += _targets(base, clip, annotations[0], keep_uncertain)
        except ValueError as error:
            problems.append(Problem(annotations[0], "bad-annotation", str(error)))
    if root.is_dir():
        problems += _left_over(root, taken)
    return Dataset(
        spec=spec.text,
        kind=spec.kind,
        root=root,
        names=[target.name for target in targets],
        load=_FolderLoader(tuple(targets), keep_uncertain),
        problems=problems,
    )


def _clips_in(root: Path) -> list[Path]:
    files = [p for p in root.rglob("*") if not p.name.startswith(".") and p.is_file()]
    videos = [p for p in files if p.suffix.lower() in VIDEO_SUFFIXES]
    folders = {p.parent for p in files if p.suffix.lower() in IMAGE_SUFFIXES}
    # Pictures among videos are thumbnails, not frames.
    return sorted([*videos, *folders.difference(video.parent for video in videos)])


def _clip_of_file(path: Path) -> Path:
    """The clip that a file is, or is the annotation of."""
    if path.suffix.lower() in _BOX_SUFFIXES:
        for clip in sorted(path.parent.glob(f"{path.stem}*")):
            if clip.stem == path.stem and (
                clip.suffix.lower() in VIDEO_SUFFIXES or (clip.is_dir() and list_images(clip))
            ):
                return clip
    return path


def _annotations_of(clip: Path) -> list[Path]:
    stem = clip.name if clip.is_dir() else clip.stem
    beside = [clip.parent / f"{stem}{suffix}" for suffix in _BOX_SUFFIXES]
    found = [path for path in beside if path.is_file()]
    if clip.is_dir() and not found:
        inside = sorted(p for p in clip.iterdir() if p.suffix.lower() in _BOX_SUFFIXES)
        clips = {p.stem for p in clip.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES or p.is_dir()}
        found = [p for p in inside if p.stem not in clips and looks_like_boxes(p)]
    return found


def _not_one(clip: Path, annotations: list[Path]) -> Problem:
    if annotations:
        names = " and ".join(path.name for path in annotations)
        return Problem(clip, "bad-annotation", f"has boxes in {names}; keep one of them")
    stem = clip.name if clip.is_dir() else clip.stem
    return Problem(clip, "missing-annotation", f"has no boxes: no {stem}.txt or {stem}.csv")


def _targets(base: Path, clip: Path, annotation: Path, keep_uncertain: bool) -> list[_Clip]:
    relative = clip.relative_to(base)
    name = (relative if clip.is_dir() else relative.with_suffix("")).as_posix()
    name = clip.name if name == "." else name
    if annotation.suffix.lower() == ".txt":
        return [_Clip(name, clip, annotation, None)]
    rows = read_track_csv(annotation, keep_uncertain=keep_uncertain)
    several = len(rows) > 1
    return [_Clip(f"{name}.{t}" if several else name, clip, annotation, t) for t in sorted(rows)]


def _left_over(root: Path, taken: set[Path]) -> list[Problem]:
    """Files of boxes that no clip belongs to; other text files are nobody's business."""
    files = (p for p in sorted(root.rglob("*")) if p.suffix.lower() in _BOX_SUFFIXES)
    return [
        Problem(path, "missing-picture", "holds boxes, but there is no clip of that name")
        for path in files
        if path not in taken and looks_like_boxes(path)
    ]


def _spread(rows: TrackRows, count: int, found: _Clip) -> np.ndarray:
    """Boxes of all `count` frames from the rows of some."""
    if len(rows.frames) and rows.frames[-1] >= count:
        message = f"has a row for frame {rows.frames[-1]}, but the clip has {count}, from 0"
        raise dataset_error(found.name, [Problem(found.annotation, "count-differs", message)])
    boxes = np.full((count, 4), np.nan)
    boxes[rows.frames] = rows.boxes
    return boxes
