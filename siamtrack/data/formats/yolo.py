"""Still images annotated in YOLO's text files, one per image.

    yolo:/data/goods?subset=train

Beside every image, or in a folder `labels` where the image is in `images`, lies a .txt with lines
`class cx cy w h`, fractions of the upright image (a sixth number, a detector's confidence, is
ignored); lines with more numbers are outlines, `class x1 y1 x2 y2 ...`. An image without such a
file shows no object. Class names come from `classes.txt`, `obj.names` or the `names` of a `.yaml`
in the root, such as `data.yaml`; without them they are the numbers. Option: `subset`, the name of
a folder that must be on the image's path.

With tracks (`read_yolo`, `write_yolo`): a label file for every frame of one clip, numbered at the
end of its name from 0, in `labels/train`, and the class names in `data.yaml`. Lines of a tracker
have a confidence and a track id from 1 as well, or the id alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from siamtrack.data.formats.objects import ImageObject, image_dataset
from siamtrack.data.formats.tracks import (
    FRAME_NAME,
    ClipTracks,
    clipped,
    finite,
    frames_of_names,
    label_of,
    score_of,
    whole,
    with_ids,
)
from siamtrack.data.sequence import Dataset, DatasetSpec
from siamtrack.errors import DatasetError, Problem, dataset_error
from siamtrack.types import Box
from siamtrack.utils.files import walk_files
from siamtrack.utils.images import IMAGE_SUFFIXES, image_size, natural_key
from siamtrack.video.tables import TableRow

_BOX_NUMBERS, _WITH_CONFIDENCE = 5, 6
_NOT_LABELS = frozenset({"classes.txt", "obj.names", "train.txt", "val.txt", "test.txt"})
_SLACK = 0.01  # Rounding makes fractions leave 0..1 by a little.


def open_yolo(spec: DatasetSpec) -> Dataset:
    """Open a YOLO data set; see the module and `open_dataset`."""
    root = spec.require_folder()
    subset = spec.options.get("subset")
    files = (PurePosixPath(p.relative_to(root).as_posix()) for p in walk_files(root))
    inside = [p for p in files if subset is None or subset in p.parts]
    inside.sort(key=lambda p: natural_key(str(p)))
    if subset is not None and not inside:
        message = f"has no folder {subset!r} with anything in it"
        raise dataset_error(spec.text, [Problem(root, "missing-folder", message)])
    images = [p for p in inside if p.suffix.lower() in IMAGE_SUFFIXES]
    unused = {p for p in inside if p.suffix == ".txt" and p.name not in _NOT_LABELS}
    classes = _class_names(root)

    problems: list[Problem] = []
    objects: list[ImageObject] = []
    labels, bare = frozenset(unused), Counter[PurePosixPath]()  # without a label file, by folder
    for image in images:
        label = _label_of(image)
        if label not in labels:
            bare[image.parent] += 1
            continue
        if label not in unused:
            message = f"shares {label.as_posix()} with another picture"
            problems.append(Problem(root / image, "unannotated-picture", message))
            continue
        unused.discard(label)
        try:
            objects += _objects(root, image, label, classes)
        except DatasetError as error:
            problems.append(Problem(root / image, "unreadable-picture", str(error)))
        except ValueError as error:
            problems.append(Problem(root / label, "bad-annotation", str(error)))
    # A background picture has no label file. A folder without one label is half a data set.
    labelled = {image.parent for image in images if _label_of(image) in labels}
    for folder in sorted(bare.keys() - labelled):
        message = f"none of its {bare[folder]} picture(s) has a label file"
        problems.append(Problem(root / folder, "unannotated-picture", message))
    for label in sorted(unused):
        if "labels" in label.parts or _looks_like_labels(root / label):
            problems.append(Problem(root / label, "missing-picture", "its picture is missing"))
    return image_dataset(spec, root, objects, problems)


def _label_of(image: PurePosixPath) -> PurePosixPath:
    """The label file of an image: beside it, or in `labels` instead of the innermost `images`."""
    parts = list(image.with_suffix(".txt").parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return PurePosixPath(*parts)


def _class_names(root: Path) -> dict[int, str]:
    """Names of the classes by number: a line each, or the `names` of a YAML file."""
    for path in (root / "classes.txt", root / "obj.names"):
        if path.is_file():
            lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
            return {number: line.strip() for number, line in enumerate(lines) if line.strip()}
    files = sorted(p for p in root.iterdir() if p.suffix.lower() in (".yaml", ".yml"))
    for path in sorted(files, key=lambda p: p.stem != "data"):
        if names := _yaml_names(path.read_text(encoding="utf-8-sig", errors="replace")):
            return names
    return {}


def _yaml_names(text: str) -> dict[int, str]:
    """The key `names` of Ultralytics' YAML: a list, or names by number."""
    import yaml  # the light installation does without it

    try:
        content = yaml.safe_load(text)
        names = content.get("names") if isinstance(content, dict) else None
        pairs = names.items() if isinstance(names, dict) else enumerate(names or ())
        return {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError, yaml.YAMLError):
        return {}


def _looks_like_labels(path: Path) -> bool:
    try:
        numbers = [float(v) for v in path.read_text(encoding="utf-8").split("\n")[0].split()]
    except (OSError, ValueError):
        return False
    return len(numbers) >= _BOX_NUMBERS


def _objects(
    root: Path, image: PurePosixPath, label: PurePosixPath, classes: Mapping[int, str]
) -> Iterator[ImageObject]:
    """Objects of one image; raises ValueError for a line that is not understood."""
    lines = (root / label).read_text(encoding="utf-8").splitlines()
    rows = [(n, line.split()) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        return
    width, height = image_size(root / image, upright=True)
    meta = {"annotation": str(root / label), "label": "human"}
    for line, texts in rows:
        try:
            numbers = [float(text) for text in texts]
            cx, cy, w, h = _fractions(numbers)
            kind = int(numbers[0])
        except ValueError as error:
            raise ValueError(f"line {line}: {error}") from error
        box = ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
        class_name = classes.get(kind, str(kind))
        yield ImageObject(str(image), box, class_name, "yolo", meta)


def _fractions(numbers: list[float]) -> Box:
    """Center and size (cx, cy, w, h) as fractions, from a line's numbers."""
    if not all(math.isfinite(v) for v in numbers) or len(numbers) < _BOX_NUMBERS:
        raise ValueError("is not 'class cx cy w h'")
    values = numbers[1:]
    if any(not -_SLACK <= v <= 1 + _SLACK for v in values):
        raise ValueError("has numbers outside 0..1; YOLO boxes are fractions of the picture's size")
    if len(numbers) <= _WITH_CONFIDENCE:
        return values[0], values[1], values[2], values[3]
    if len(values) % 2:
        raise ValueError("is an outline with an odd number of coordinates")
    left, right = min(values[0::2]), max(values[0::2])
    top, bottom = min(values[1::2]), max(values[1::2])
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


# --- Tracks of one clip --------------------------------------------------------------------------


def read_yolo(path: Path, *, frame_wh: tuple[int, int] | None = None, **_: object) -> ClipTracks:
    """Read a folder of label files.

    Args:
        path: the folder of `data.yaml`, or one of label files.
        frame_wh: width and height of the frames in px, which the numbers are fractions of; where a
            picture is there, it says so.

    Raises:
        ValueError: a line is malformed, two boxes of a class have no track ids, or the size is not
            known.
    """
    known = (path / "labels" / "train", path / "labels")
    folder = next((f for f in known if f.is_dir()), path)
    files = sorted(
        (f for f in folder.rglob("*.txt") if f.name not in _NOT_LABELS),
        key=lambda f: natural_key(f.name),
    )
    if not files:
        raise ValueError("holds no label files (.txt)")
    pictures = (p for p in sorted(path.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES)
    picture = next(pictures, None)
    size = frame_wh if picture is None else image_size(picture, upright=True)
    if size is None:
        raise ValueError(
            "has boxes in fractions and no pictures; give --size W,H or --clip CLIP of its video"
        )

    # Lines: class, box, and perhaps confidence and track, of which one alone is either.
    lines: list[tuple[int, str, list[float]]] = []
    frames = frames_of_names([file.name for file in files] + ([picture.name] if picture else []))
    for file in files:
        frame = frames[file.name]
        for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
            where = f"{file.name} line {number}"
            if line.strip():
                lines.append((frame, where, [finite(cell, where) for cell in line.split()]))
    sixth = [cells[5] for _, _, cells in lines if len(cells) == 6]
    is_track = bool(sixth) and all(v.is_integer() and v >= 1 for v in sixth) and max(sixth) > 1
    names = _class_names(path)
    found: list[tuple[Any, TableRow]] = []
    for frame, where, cells in lines:
        if not 5 <= len(cells) <= 7:
            raise ValueError(f"{where} has {len(cells)} numbers; outlines are no boxes of tracks")
        cx, cy, w, h = cells[1:5]
        if any(not -_SLACK <= v <= 1 + _SLACK for v in (cx, cy, w, h)):
            raise ValueError(f"{where} has numbers outside 0..1; fractions of the frame are needed")
        kind = whole(cells[0], f"class in {where}")
        box = ((cx - w / 2) * size[0], (cy - h / 2) * size[1], w * size[0], h * size[1])
        has_score = len(cells) == 7 or (len(cells) == 6 and not is_track)
        track = cells[-1] if len(cells) == 7 or (len(cells) == 6 and is_track) else None
        row = TableRow(
            frame,
            0,
            box,
            score=score_of(cells[5]) if has_score else 1.0,
            label=names.get(kind, str(kind)),
        )
        found.append((None if track is None else whole(track, f"track in {where}"), row))
    return ClipTracks.of(
        with_ids(found, path, labels=[name for _, name in sorted(names.items())]),
        name=path.name,
        frame_wh=size,
        frame_count=max(frames[file.name] for file in files) + 1,
    )


def write_yolo(tracks: ClipTracks, **_: object) -> dict[str, str]:
    """Write a label file for every frame, empty where nothing is; six decimals."""
    return _yolo_files(tracks, is_result=False)


def write_yolo_tracks(tracks: ClipTracks, **_: object) -> dict[str, str]:
    """Write the same with confidence and track id."""
    return _yolo_files(tracks, is_result=True)


def _yolo_files(tracks: ClipTracks, *, is_result: bool) -> dict[str, str]:
    import yaml

    width, height = tracks.size
    labels = tracks.labels
    content = {
        "path": ".",
        "train": "images/train",
        "val": "images/train",
        "names": dict(enumerate(labels)),
    }
    files = {"data.yaml": yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}
    for frame, rows in clipped(tracks).frames.items():
        lines = []
        for row in rows:
            x, y, w, h = row.box
            numbers = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
            numbers += [row.score] if is_result else []
            track = f" {row.target + 1}" if is_result else ""
            cells = " ".join(f"{number:.6f}" for number in numbers)
            lines.append(f"{labels.index(label_of(row))} {cells}{track}\n")
        files[f"labels/train/{FRAME_NAME % frame}.txt"] = "".join(lines)
    return files
