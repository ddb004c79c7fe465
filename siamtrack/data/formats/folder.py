"""Your own clips: videos, stacks of images or folders of them, with their boxes beside them.

    folder:clips            every clip in the folder and the folders in it
    folder:clips/dog.mp4    one clip

The boxes of `dog.mp4`, or of the folder of images `dog/`, are in `dog.txt` or `dog.csv` beside it;
those of a folder of images may also be the only .txt or .csv file in it.

- `.txt`: a line `x,y,w,h` per frame (commas or blanks, 0-based px), `nan,nan,nan,nan` where the
  target is absent. Decimal commas need semicolons or blanks between the numbers; so in tables.
- `.csv`: what `siamtrack track` writes, with the columns frame, target, x, y, w, h and perhaps
  time_s, score, status. Every target becomes a sequence, `dog.0` and `dog.1`; `dog` when there is
  only one. The target is absent in frames that are lost or have no row. The option
  `uncertain=absent` treats rows with status uncertain the same way (default `keep`).
  `siamtrack track` does not number frames that it cannot read, which shifts the table of a
  damaged clip.
- Without either, the project of `siamtrack studio` beside the clip, `dog.mp4.siamtrack`, is read
  as such a table.

Images are read upright and in natural order (2.jpg before 10.jpg); those in a folder that also
holds videos are not frames, nor are those of a folder `sheets` without boxes. A TIFF of several
pages or an animated picture with boxes of its own name is a clip like a video.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from siamtrack.data.formats.studio import read_project
from siamtrack.data.project_files import PROJECT_SUFFIX, SNAPSHOT
from siamtrack.data.sequence import Dataset, DatasetSpec, VideoSequence, fractions_problem
from siamtrack.errors import DatasetError, Problem, dataset_error
from siamtrack.types import FloatArray
from siamtrack.utils.files import walk_files
from siamtrack.utils.images import IMAGE_SUFFIXES, is_image, list_images, list_pages
from siamtrack.utils.picture_files import kind_of_picture, read_head
from siamtrack.video.decode import VIDEO_SUFFIXES
from siamtrack.video.random_access import ImageFrames, VideoFile
from siamtrack.video.tables import read_table, separator_of

_BOX_SUFFIXES = (".csv", ".txt")
_COLUMNS = ("frame", "target", "x", "y", "w", "h")
_DECIMAL = re.compile(r"[+-]?\d*,?\d+(?:[eE][+-]?\d+)?|nan", re.IGNORECASE)
"""A number, perhaps with a decimal comma."""
_SHEETS = "sheets"  # contact sheets of `siamtrack pseudo-label`


@dataclass(frozen=True, slots=True)
class _ClipTarget:
    """One target: a clip (or folder of images), its annotation, and its number in a table."""

    name: str
    clip: Path
    annotation: Path
    target: int | None


def open_folder(spec: DatasetSpec) -> Dataset:
    """Open a folder of clips or a single one; see the module and `open_dataset`."""
    keep_uncertain = spec.get_choice("uncertain", ("keep", "absent"), "keep") == "keep"
    root = spec.root
    if not root.exists():
        raise dataset_error(spec.text, [Problem(root, "missing-folder", "does not exist")])
    base = root if root.is_dir() else root.parent
    problems: list[Problem] = []
    targets: list[_ClipTarget] = []
    used: set[Path] = set()
    for clip in _clips_in(root) if root.is_dir() else [_clip_of_file(root)]:
        annotations = _annotations_of(clip)
        used.update(annotations)
        if len(annotations) > 1:
            names = " and ".join(path.name for path in annotations)
            message = f"has boxes in {names}; keep one of them"
            problems.append(Problem(clip, "bad-annotation", message))
        elif not annotations:
            stem = clip.name if clip.is_dir() else clip.stem
            message = f"has no boxes: no {stem}.txt or {stem}.csv"
            problems.append(Problem(clip, "missing-annotation", message))
        else:
            try:
                targets += _targets_of(base, clip, annotations[0], keep_uncertain)
            except ValueError as error:
                problems.append(Problem(annotations[0], "bad-annotation", str(error)))

    # Files of boxes without a clip. Other text files may lie in the folder.
    for path in sorted(walk_files(root)) if root.is_dir() else []:
        if path.suffix.lower() in _BOX_SUFFIXES and path not in used and _holds_boxes(path):
            message = "holds boxes, but there is no clip of that name"
            problems.append(Problem(path, "missing-picture", message))
    load = partial(_load, tuple(targets), keep_uncertain)
    return spec.make_dataset([target.name for target in targets], load, problems)


def _load(targets: tuple[_ClipTarget, ...], keep_uncertain: bool, number: int) -> VideoSequence:
    item = targets[number]
    frames = open_frames(item.clip)
    if item.target is None:
        boxes = read_boxes(item.annotation)
    else:
        # A table may leave frames out: the target is absent there.
        table = read_track_csv(item.annotation, keep_uncertain=keep_uncertain)[item.target]
        count, last = len(frames), max(table)
        if last >= count:
            message = f"has a row for frame {last}, but the clip has {count}, from 0"
            problem = Problem(item.annotation, "count-differs", message)
            raise dataset_error(item.name, [problem])
        boxes = np.full((count, 4), np.nan)
        boxes[list(table)] = list(table.values())
    sequence = VideoSequence(
        name=item.name,
        kind="video",
        frames=frames,
        boxes=boxes,
        set_name="folder",
        fps=frames.fps if isinstance(frames, VideoFile) else None,
        meta={"annotation": str(item.annotation)},
    )
    if (fractions := fractions_problem(sequence)) is not None:
        raise dataset_error(item.name, [fractions])
    return sequence


def list_clips(path: Path) -> list[Path]:
    """The videos and folders of images in a folder, at any depth; a video itself is one."""
    return _clips_in(path) if path.is_dir() else [path] * (path.suffix.lower() in VIDEO_SUFFIXES)


def open_frames(clip: Path) -> ImageFrames | VideoFile:
    """The frames of a folder of images, of a stack or an animation, or of a video."""
    if clip.is_dir():
        places = list_pages(clip / name for name in list_images(clip))
    elif kind_of_picture(read_head(clip)) is not None:
        places = list_pages([clip])
    else:
        return VideoFile(clip)
    pages = tuple(page for _, page in places)
    return ImageFrames(
        clip if clip.is_dir() else clip.parent,
        tuple(path.name for path, _ in places),
        upright=True,
        pages=pages if any(pages) else None,
    )


def _is_stack(path: Path) -> bool:
    """Whether a picture file holds several pictures and has boxes of its own beside it."""
    has_boxes = any(path.with_suffix(suffix).is_file() for suffix in _BOX_SUFFIXES)
    return (
        has_boxes
        and (is_image(path) or path.suffix.lower() == ".gif")
        and (len(list_pages([path])) > 1)
    )


def _clips_in(root: Path) -> list[Path]:
    """Videos and folders of images, at any depth."""
    files = [p for p in walk_files(root) if not p.name.startswith(".")]
    videos = [p for p in files if p.suffix.lower() in VIDEO_SUFFIXES or _is_stack(p)]
    folders = {p.parent for p in files if p.suffix.lower() in IMAGE_SUFFIXES}
    folders = {f for f in folders if f.name != _SHEETS or _annotations_of(f)}
    # Images among videos are thumbnails, not frames.
    return sorted([*videos, *folders.difference(video.parent for video in videos)])


def _clip_of_file(path: Path) -> Path:
    """The clip that a file is, or is the annotation of."""
    if path.suffix.lower() in _BOX_SUFFIXES:
        for clip in sorted(path.parent.glob(f"{path.stem}*")):
            if clip.stem == path.stem and (
                clip.suffix.lower() in VIDEO_SUFFIXES
                or _is_stack(clip)
                or (clip.is_dir() and list_images(clip))
            ):
                return clip
    return path


def _annotations_of(clip: Path) -> list[Path]:
    """Files of boxes beside a clip, or inside a folder of images."""
    stem = clip.name if clip.is_dir() else clip.stem
    beside = [clip.parent / f"{stem}{suffix}" for suffix in _BOX_SUFFIXES]
    found = [path for path in beside if path.is_file()]
    if clip.is_dir() and not found:
        inside = sorted(p for p in clip.iterdir() if p.suffix.lower() in _BOX_SUFFIXES)
        # Not those of clips or folders that lie in it.
        clips = {
            p.stem
            for p in clip.iterdir()
            if p.suffix.lower() in VIDEO_SUFFIXES or p.is_dir() or _is_stack(p)
        }
        found = [p for p in inside if p.stem not in clips and _holds_boxes(p)]
    project = clip.with_name(clip.name + PROJECT_SUFFIX)
    return found or [project] * (project / SNAPSHOT).is_file()


def _targets_of(
    base: Path, clip: Path, annotation: Path, keep_uncertain: bool
) -> list[_ClipTarget]:
    """The target of a .txt, or all targets of a table; several get their number as a suffix."""
    relative = clip.relative_to(base)
    name = (relative if clip.is_dir() else relative.with_suffix("")).as_posix()
    name = clip.name if name == "." else name
    if annotation.suffix.lower() == ".txt":
        return [_ClipTarget(name, clip, annotation, None)]
    numbers = sorted(read_track_csv(annotation, keep_uncertain=keep_uncertain))
    return [
        _ClipTarget(f"{name}.{n}" if len(numbers) > 1 else name, clip, annotation, n)
        for n in numbers
    ]


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
            rows.append(_four_numbers(line))
        except ValueError as error:
            raise DatasetError(
                f"{path} line {number} is {line[:60]!r}; give x,y,w,h for every frame, nan,nan,"
                "nan,nan where the target is absent"
            ) from error
    return np.array(rows, np.float64).reshape(-1, 4)


def read_track_csv(path: Path, *, keep_uncertain: bool = True) -> dict[int, dict[int, FloatArray]]:
    """Read the table that `siamtrack track` writes, or a project of the studio.

    Columns that it does not write are ignored.

    The target is absent in rows with status lost, and uncertain unless `keep_uncertain`.

    Returns:
        For each target number, the (4,) xywh box by frame number, NaN where it is absent.

    Raises:
        DatasetError: a column is missing, or a row is malformed or there twice.
    """
    tables: dict[int, dict[int, FloatArray]] = {}
    for row in read_project(path) if path.is_dir() else read_table(path):
        absent = row.status == "lost" or (row.status == "uncertain" and not keep_uncertain)
        table = tables.setdefault(row.target, {})
        table[row.frame] = np.full(4, np.nan) if absent else np.array(row.box)
    return tables


def read_truth(path: Path) -> FloatArray:
    """Read the boxes of one target, from lines as `read_boxes` or a table as `read_track_csv`.

    Returns:
        (N, 4) float64 xywh px by frame, NaN where the target is absent.

    Raises:
        DatasetError: it cannot be read, is malformed, or is a table with several targets.
    """
    first = next(iter(_lines(path)), "")
    if not set(_COLUMNS) & _cells(first):
        return read_boxes(path)
    tables = read_track_csv(path)
    if len(tables) != 1:
        raise DatasetError(
            f"{path} has {len(tables)} targets ({', '.join(map(str, sorted(tables)))}); give the "
            "boxes of one, such as the rows of one target with the header"
        )
    (table,) = tables.values()
    boxes = np.full((max(table) + 1, 4), np.nan)
    boxes[list(table)] = list(table.values())
    return boxes


def _holds_boxes(path: Path) -> bool:
    """Whether the first line is four numbers, or the header of a table of tracks."""
    try:
        first = next(iter(_lines(path)), "")
        _four_numbers(first)
    except DatasetError:
        return False
    except ValueError:
        return set(_COLUMNS) <= _cells(first)
    return True


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as text: {error}") from error


def _cells(header: str) -> set[str]:
    return {cell.strip() for cell in header.split(separator_of(header))}


def _four_numbers(line: str) -> list[float]:
    """Numbers of a line, with a decimal comma where something else separates four of them."""
    parts = line.split(";") if line.count(";") == 3 else line.split()
    if len(parts) != 4 or not all(_DECIMAL.fullmatch(part.strip()) for part in parts):
        parts = line.replace(",", " ").replace(";", " ").split()
    values = [float(part.replace(",", ".")) for part in parts]
    if len(values) != 4 or any(map(math.isinf, values)):
        raise ValueError(f"{line!r} is not four numbers")
    return values
