"""Still pictures annotated in Pascal VOC's XML, one file per picture.

    voc:/data/VOC2012?subset=trainval

The XML files are in `Annotations` with the pictures in `JPEGImages`, or both lie together anywhere
under the root. Options: `subset`, a list in `ImageSets/Main` without its .txt; `first_pixel`,
1 by default.

VOC counts pixels from 1 and xmax is the last column of the object, so that a box is
(xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1). Tools that write corners of an outline
from 0 are read with `first_pixel=0`: (xmin, ymin, xmax - xmin, ymax - ymin).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from siamtrack.data.formats.objects import ImageObject, image_dataset
from siamtrack.data.sequence import Dataset, DatasetSpec
from siamtrack.errors import Problem, dataset_error
from siamtrack.utils.images import IMAGE_SUFFIXES

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_FLAGS = ("difficult", "truncated", "occluded")


def open_voc(spec: DatasetSpec) -> Dataset:
    """Open a VOC data set; see the module and `open_dataset`."""
    root = spec.require_folder()
    first_pixel = spec.get_first_pixel(1)
    problems: list[Problem] = []
    pictures = _pictures(root)
    listed = _listed(spec, root)
    objects: list[ImageObject] = []
    seen: set[str] = set()
    for path in _annotations(root, listed):
        seen.add(path.stem)
        try:
            tree = ET.parse(path).getroot()
            picture = _picture_of(path, tree, pictures)
            if picture is None:
                message = f"the picture of {path.name} is in no folder with it"
                problems.append(Problem(path.with_suffix(".jpg"), "missing-picture", message))
                continue
            file = picture.relative_to(root).as_posix()
            objects += _objects(path, tree, file, first_pixel)
        except FileNotFoundError:
            problems.append(Problem(path, "missing-annotation", f"{spec.text} lists it"))
        except (ET.ParseError, ValueError, OSError) as error:
            problems.append(Problem(path, "bad-annotation", f"cannot be understood: {error}"))
    if listed is None:
        bare = (p for stem, p in sorted(pictures.items()) if stem not in seen)
        problems += [Problem(p, "unannotated-picture", "has no XML file") for p in bare]
    return image_dataset(spec, root, objects, problems)


def _pictures(root: Path) -> dict[str, Path]:
    """Pictures by stem; VOC's masks, which have the same stems, are none."""
    folder = root / "JPEGImages" if (root / "JPEGImages").is_dir() else root
    return {p.stem: p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES}


def _listed(spec: DatasetSpec, root: Path) -> list[str] | None:
    subset = spec.options.get("subset")
    if subset is None:
        return None
    path = root / "ImageSets" / "Main" / f"{subset}.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        message = f"cannot be read ({error.strerror}), so there is no subset {subset!r}"
        raise dataset_error(spec.text, [Problem(path, "missing-annotation", message)]) from error
    return [line.split()[0] for line in lines if line.strip()]


def _annotations(root: Path, listed: list[str] | None) -> list[Path]:
    folder = root / "Annotations" if (root / "Annotations").is_dir() else root
    if listed is None:
        return sorted(folder.rglob("*.xml"))
    return [folder / f"{stem}.xml" for stem in listed]


def _picture_of(path: Path, tree: ET.Element, pictures: dict[str, Path]) -> Path | None:
    """The picture beside the XML file, else the one it names, else the one of the same stem."""
    named = Path((tree.findtext("filename") or "").replace("\\", "/")).name
    if named and (path.parent / named).is_file():
        return path.parent / named
    return pictures.get(Path(named).stem) or pictures.get(path.stem)


def _objects(path: Path, tree: ET.Element, file: str, first_pixel: int) -> Iterator[ImageObject]:
    meta: dict[str, Any] = {"annotation": str(path), "label": "human"}
    width, height = tree.findtext("size/width"), tree.findtext("size/height")
    if width and height and int(width) > 0 and int(height) > 0:
        meta["picture_wh"] = (int(width), int(height))
    for thing in tree.findall("object"):
        texts = [thing.findtext(f"bndbox/{corner}") for corner in _CORNERS]
        if None in texts:
            raise ValueError(f"an object lacks one of {', '.join(_CORNERS)}")
        left, top, right, bottom = (float(text or "nan") for text in texts)
        box = (
            left - first_pixel,
            top - first_pixel,
            right - left + first_pixel,
            bottom - top + first_pixel,
        )
        flags = {flag: thing.findtext(flag) == "1" for flag in _FLAGS}
        name = (thing.findtext("name") or "").strip()
        yield ImageObject(file, box, name, "voc", {**meta, **flags})
