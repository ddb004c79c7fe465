"""Still pictures annotated in COCO's JSON.

    coco:/data/coco?annotations=annotations/instances_val2017.json&pictures=val2017

Options: `annotations`, the JSON file, relative to the root (default: the only one in the root or
one level down); `pictures`, the folder that its file names are relative to (default: where the
first picture is found). Boxes are xywh and 0-based already; crowds are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from siamtrack.data.formats.objects import ImageObject, image_dataset
from siamtrack.data.sequence import Dataset, DatasetSpec
from siamtrack.errors import ConfigError, Problem, dataset_error

_FOUR = 4


def open_coco(spec: DatasetSpec) -> Dataset:
    """Open a COCO data set; see the module and `open_dataset`."""
    root = spec.require_folder()
    path = _annotation_file(spec, root)
    content = _read(path)
    pictures = {p["id"]: p for p in content["images"] if isinstance(p, dict) and "id" in p}
    folder = _picture_folder(spec, root, path, [str(p.get("file_name")) for p in pictures.values()])
    problems: list[Problem] = []
    usable = {}
    for number, picture in pictures.items():
        file = picture.get("file_name")
        if isinstance(file, str) and (folder / file).is_file():
            usable[number] = picture
        else:
            where = folder / str(file)
            problems.append(Problem(where, "missing-picture", f"{path.name} names it as {number}"))
    classes = {c.get("id"): str(c.get("name", "")) for c in content.get("categories", [])}
    objects = _objects(path, content["annotations"], pictures, classes, problems)
    kept = [thing for number, thing in objects if number in usable]
    return image_dataset(spec, folder, kept, problems)


def _annotation_file(spec: DatasetSpec, root: Path) -> Path:
    given = spec.options.get("annotations")
    if given:
        path = root / given
        if not path.is_file():
            raise dataset_error(spec.text, [Problem(path, "missing-annotation", "does not exist")])
        return path
    found = sorted([*root.glob("*.json"), *root.glob("*/*.json")])
    if not found:
        message = "holds no .json file, nor does a folder in it; name it with annotations="
        raise dataset_error(spec.text, [Problem(root, "missing-annotation", message)])
    if len(found) > 1:
        names = ", ".join(p.relative_to(root).as_posix() for p in found)
        raise ConfigError(f"{spec.text} has several annotations; say annotations= one of {names}")
    return found[0]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"is not readable JSON: {error}"
        raise dataset_error(str(path), [Problem(path, "bad-annotation", message)]) from error
    lists = ("images", "annotations")
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in lists):
        message = "is not COCO: it needs the lists 'images' and 'annotations'"
        raise dataset_error(str(path), [Problem(path, "bad-annotation", message)])
    return content


def _picture_folder(spec: DatasetSpec, root: Path, path: Path, files: list[str]) -> Path:
    given = spec.options.get("pictures")
    if given is not None:
        if not (root / given).is_dir():
            raise dataset_error(
                spec.text, [Problem(root / given, "missing-folder", "does not exist")]
            )
        return root / given
    stem = path.stem.rpartition("_")[2]
    candidates = [path.parent, root, root / "images", root / stem, root / "images" / stem]
    for file in files[:1]:
        for folder in candidates:
            if (folder / file).is_file():
                return folder
    return path.parent if path.parent.name != "annotations" else root


def _objects(
    path: Path,
    annotations: list[Any],
    pictures: dict[Any, dict[str, Any]],
    classes: dict[Any, str],
    problems: list[Problem],
) -> Iterator[tuple[Any, ImageObject]]:
    """Objects with the id of their picture; `problems` grows by what is no object."""
    for place, entry in enumerate(annotations):
        entry = entry if isinstance(entry, dict) else {}
        picture, box = pictures.get(entry.get("image_id")), _box(entry.get("bbox"))
        if picture is None or box is None:
            said = f"annotations[{place}] = {str(entry)[:80]} "
            need = "names no picture of 'images'" if picture is None else "has no bbox of 4 numbers"
            problems.append(Problem(path, "bad-annotation", said + need))
        elif not entry.get("iscrowd"):
            meta: dict[str, Any] = {"annotation": str(path), "label": "human"}
            if isinstance(picture.get("width"), int) and isinstance(picture.get("height"), int):
                meta["picture_wh"] = (picture["width"], picture["height"])
            name = classes.get(entry.get("category_id"), "")
            thing = ImageObject(str(picture.get("file_name")), box, name, "coco", meta)
            yield picture["id"], thing


def _box(box: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(box, list) or len(box) != _FOUR:
        return None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in box):
        return None
    x, y, w, h = map(float, box)
    return x, y, w, h
