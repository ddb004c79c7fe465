"""Still images annotated in COCO's JSON.

    coco:/data/coco?annotations=annotations/instances_val2017.json&pictures=val2017

Options: `annotations`, the JSON file, relative to the root (default: the only one in the root or
one level down); `pictures`, the folder that its file names are relative to (default: where the
first image is found). Boxes are xywh and 0-based already; crowds are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from siamtrack.data.formats.objects import (
    ImageObject,
    file_problem,
    image_dataset,
    is_below,
    read_json,
)
from siamtrack.data.sequence import Dataset, DatasetSpec
from siamtrack.errors import ConfigError, Problem, dataset_error
from siamtrack.types import Box


def open_coco(spec: DatasetSpec) -> Dataset:
    """Open a COCO data set; see the module and `open_dataset`."""
    root = spec.require_folder()
    path = _annotation_file(spec, root)
    content = read_json(str(path), path)
    lists = ("images", "annotations")
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in lists):
        message = "is not COCO: it needs the lists 'images' and 'annotations'"
        raise dataset_error(str(path), [Problem(path, "bad-annotation", message)])
    images = {i["id"]: i for i in content["images"] if isinstance(i, dict) and "id" in i}
    folder = _image_folder(spec, root, path, [str(i.get("file_name")) for i in images.values()])

    # Images that are there.
    problems: list[Problem] = []
    usable = set()
    for number, listed in images.items():
        file = listed.get("file_name")
        problem = file_problem(path, folder, str(file), f"as {number}")
        if problem is None:
            usable.add(number)
        else:
            problems.append(problem)

    # Their objects.
    classes = {c.get("id"): str(c.get("name", "")) for c in content.get("categories", [])}
    objects = []
    for place, entry in enumerate(content["annotations"]):
        entry = entry if isinstance(entry, dict) else {}
        image, box = images.get(entry.get("image_id")), _box(entry.get("bbox"))
        if image is None or box is None:
            need = "names no picture of 'images'" if image is None else "has no bbox of 4 numbers"
            message = f"annotations[{place}] = {str(entry)[:80]} {need}"
            problems.append(Problem(path, "bad-annotation", message))
        elif image["id"] in usable and not entry.get("iscrowd"):
            meta: dict[str, Any] = {"annotation": str(path), "label": "human"}
            if isinstance(image.get("width"), int) and isinstance(image.get("height"), int):
                meta["picture_wh"] = (image["width"], image["height"])
            class_name = classes.get(entry.get("category_id"), "")
            objects.append(ImageObject(image["file_name"], box, class_name, "coco", meta))
    return image_dataset(spec, folder, objects, problems)


def _annotation_file(spec: DatasetSpec, root: Path) -> Path:
    given = spec.options.get("annotations")
    if given:
        path = root / given
        if not path.is_file():
            problem = Problem(path, "missing-annotation", "does not exist")
            raise dataset_error(spec.text, [problem])
        return path
    found = sorted([*root.glob("*.json"), *root.glob("*/*.json")])
    if not found:
        message = "holds no .json file, nor does a folder in it; name it with annotations="
        raise dataset_error(spec.text, [Problem(root, "missing-annotation", message)])
    if len(found) > 1:
        names = ", ".join(p.relative_to(root).as_posix() for p in found)
        raise ConfigError(f"{spec.text} has several annotations; say annotations= one of {names}")
    return found[0]


def _image_folder(spec: DatasetSpec, root: Path, path: Path, files: list[str]) -> Path:
    given = spec.options.get("pictures")
    if given is not None:
        if not (root / given).is_dir():
            problem = Problem(root / given, "missing-folder", "does not exist")
            raise dataset_error(spec.text, [problem])
        return root / given
    stem = path.stem.rpartition("_")[2]
    candidates = [path.parent, root, root / "images", root / stem, root / "images" / stem]
    for folder in candidates if files and is_below(files[0]) else []:
        if (folder / files[0]).is_file():
            return folder
    return path.parent if path.parent.name != "annotations" else root


def _box(values: Any) -> Box | None:
    """The box, None when it is not four numbers."""
    if not isinstance(values, list) or len(values) != 4:
        return None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return None
    x, y, w, h = map(float, values)
    return x, y, w, h
