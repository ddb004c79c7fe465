"""Still images annotated in YOLO's text files, one per image.

    yolo:/data/goods?subset=train

Beside every image, or in a folder `labels` where the image is in `images`, lies a .txt with lines
`class cx cy w h`, fractions of the upright image (a sixth number, a detector's confidence, is
ignored); lines with more numbers are outlines, `class x1 y1 x2 y2 ...`. An image without such a
file shows no object. Class names come from `classes.txt`, `obj.names` or the `names` of a `.yaml`
in the root, such as `data.yaml`; without them they are the numbers. Option: `subset`, the name of
a folder that must be on the image's path.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from siamtrack.data.formats.objects import ImageObject, image_dataset
from siamtrack.data.sequence import Dataset, DatasetSpec
from siamtrack.errors import DatasetError, Problem, dataset_error
from siamtrack.types import Box
from siamtrack.utils.files import walk_files
from siamtrack.utils.images import IMAGE_SUFFIXES, image_size, natural_key

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


_SCALAR = r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s,\[\]{}#'"](?:[^,\[\]{}#]|(?<!\s)\#)*)"""
_ENTRY = re.compile(rf"""(?:['"]?(\d+)['"]?\s*:\s+)?{_SCALAR}""")
_BLOCK_ENTRY = re.compile(rf"""\s*(?:-|['"]?(\d+)['"]?\s*:)\s+{_SCALAR}\s*(?:\#.*)?$""")


def _yaml_names(text: str) -> dict[int, str]:
    """The key `names` of Ultralytics' YAML: a list or numbered names, in a block or in brackets."""
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if re.match(r"names\s*:", line)), None)
    if start is None:
        return {}
    rest = lines[start].partition(":")[2].strip()
    found: list[tuple[str | None, str]] = []
    if rest.startswith(("[", "{")):
        inside = "\n".join([rest, *lines[start + 1 :]])[1:]
        inside = re.split(r"[\]}]", re.sub(r"(^|\s)#.*", "", inside))[0]
        found = [(m[1], m[2]) for m in _ENTRY.finditer(inside)]
    else:
        for line in lines[start + 1 :]:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if (entry := _BLOCK_ENTRY.match(line)) is None:
                break
            found.append((entry[1], entry[2]))
    return {
        number if key is None else int(key): _unquote(name.strip())
        for number, (key, name) in enumerate(found)
    }


def _unquote(text: str) -> str:
    if text[:1] == "'":
        return text[1:-1].replace("''", "'")
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text[:1] == '"' else text


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
