"""Still images annotated in Pascal VOC's XML, one file per image.

    voc:/data/VOC2012?subset=trainval

The XML files are in `Annotations` with the images in `JPEGImages`, or both lie together anywhere
under the root. Options: `subset`, a list in `ImageSets/Main` without its .txt; `first_pixel`,
1 by default.

VOC counts pixels from 1 and xmax is the last column of the object: a box is
(xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1). Tools that write corners of an outline
from 0 are read with `first_pixel=0`: (xmin, ymin, xmax - xmin, ymax - ymin).

With tracks (`read_voc`, `write_voc`): an XML file for every frame of one clip, numbered at the end
of its name from 0, in `Annotations`; objects have an attribute `track_id`, as CVAT writes it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from siamtrack.data.formats.objects import ImageObject, image_dataset, is_below
from siamtrack.data.formats.tracks import (
    FRAME_NAME,
    ClipTracks,
    finite,
    frames_of_names,
    label_of,
    tidy,
    with_ids,
)
from siamtrack.data.sequence import Dataset, DatasetSpec
from siamtrack.errors import Problem, dataset_error
from siamtrack.utils.files import walk_files
from siamtrack.utils.images import IMAGE_SUFFIXES, natural_key
from siamtrack.video.tables import TableRow

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_FLAGS = ("difficult", "truncated", "occluded")


def open_voc(spec: DatasetSpec) -> Dataset:
    """Open a VOC data set; see the module and `open_dataset`."""
    root = spec.require_folder()
    first_pixel = spec.get_first_pixel(1)
    problems: list[Problem] = []

    # Images by stem, without VOC's masks, which have the same stems.
    folder = root / "JPEGImages" if (root / "JPEGImages").is_dir() else root
    images = {p.stem: p for p in walk_files(folder) if p.suffix.lower() in IMAGE_SUFFIXES}

    subset = spec.options.get("subset")
    folder = root / "Annotations" if (root / "Annotations").is_dir() else root
    if subset is None:
        annotations = sorted(p for p in walk_files(folder) if p.suffix == ".xml")
    else:
        annotations = [folder / f"{stem}.xml" for stem in _subset_stems(spec, subset)]

    objects: list[ImageObject] = []
    for path in annotations:
        try:
            tree = ET.parse(path).getroot()
            image = _image_of(path, tree, images)
            if image is None:
                message = f"the picture of {path.name} is in no folder with it"
                problems.append(Problem(path.with_suffix(".jpg"), "missing-picture", message))
                continue
            objects += _objects(path, tree, image.relative_to(root).as_posix(), first_pixel)
        except FileNotFoundError:
            problems.append(Problem(path, "missing-annotation", f"{spec.text} lists it"))
        except (ET.ParseError, ValueError, OSError) as error:
            problems.append(Problem(path, "bad-annotation", f"cannot be understood: {error}"))
    if subset is None:
        annotated = {path.stem for path in annotations}
        bare = (image for stem, image in sorted(images.items()) if stem not in annotated)
        problems += [Problem(image, "unannotated-picture", "has no XML file") for image in bare]
    return image_dataset(spec, root, objects, problems)


def _subset_stems(spec: DatasetSpec, subset: str) -> list[str]:
    path = spec.root / "ImageSets" / "Main" / f"{subset}.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        message = f"cannot be read ({error.strerror}), so there is no subset {subset!r}"
        problem = Problem(path, "missing-annotation", message)
        raise dataset_error(spec.text, [problem]) from error
    stems = [line.split()[0] for line in lines if line.strip()]
    if outside := [stem for stem in stems if not is_below(stem)]:
        message = f"names {outside[0]!r}, which is no file below {spec.root}"
        raise dataset_error(spec.text, [Problem(path, "bad-annotation", message)])
    return stems


def _image_of(path: Path, tree: ET.Element, images: dict[str, Path]) -> Path | None:
    """The image beside the XML file, else the one it names, else the one of the same stem."""
    named = Path((tree.findtext("filename") or "").replace("\\", "/")).name
    if named and (path.parent / named).is_file():
        return path.parent / named
    return images.get(Path(named).stem) or images.get(path.stem)


def _objects(path: Path, tree: ET.Element, file: str, first: int) -> Iterator[ImageObject]:
    """Objects of one image, whose annotation counts pixels from `first`."""
    meta: dict[str, Any] = {"annotation": str(path), "label": "human"}
    width, height = tree.findtext("size/width"), tree.findtext("size/height")
    if width and height and int(width) > 0 and int(height) > 0:
        meta["picture_wh"] = (int(width), int(height))
    for element in tree.findall("object"):
        texts = [element.findtext(f"bndbox/{corner}") for corner in _CORNERS]
        if None in texts:
            raise ValueError(f"an object lacks one of {', '.join(_CORNERS)}")
        left, top, right, bottom = (float(text or "nan") for text in texts)
        box = (left - first, top - first, right - left + first, bottom - top + first)
        flags = {flag: element.findtext(flag) == "1" for flag in _FLAGS}
        class_name = (element.findtext("name") or "").strip()
        yield ImageObject(file, box, class_name, "voc", {**meta, **flags})


# --- Tracks of one clip --------------------------------------------------------------------------


def read_voc(path: Path, *, first_pixel: int = 1, **_: object) -> ClipTracks:
    """Read a folder of XML files, or the one around its `Annotations`.

    Raises:
        ValueError: a file is malformed, or two objects of a class have no track ids.
    """
    folder = path / "Annotations" if (path / "Annotations").is_dir() else path
    files = sorted(folder.glob("*.xml"), key=lambda file: natural_key(file.name))
    if not files:
        raise ValueError("holds no XML files")
    found: list[tuple[Any, TableRow]] = []
    sizes: set[tuple[int, int]] = set()
    frames = frames_of_names(file.name for file in files)
    for file in files:
        try:
            tree = ET.parse(file).getroot()
        except ET.ParseError as error:
            raise ValueError(f"{file.name} is not readable XML: {error}") from error
        frame = frames[file.name]
        width, height = (int(tree.findtext(f"size/{side}") or 0) for side in ("width", "height"))
        if width and height:
            sizes.add((width, height))
        for element in tree.findall("object"):
            left, top, right, bottom = (
                finite(element.findtext(f"bndbox/{corner}"), f"{corner} in {file.name}")
                for corner in _CORNERS
            )
            box = (left - first_pixel, top - first_pixel)
            attributes = {
                (a.findtext("name") or "").strip(): (a.findtext("value") or "").strip()
                for a in element.iter("attribute")
            }
            row = TableRow(
                frame,
                0,
                (*box, right - box[0], bottom - box[1]),
                label=(element.findtext("name") or "").strip(),
                occluded=element.findtext("occluded") == "1",
            )
            found.append((attributes.get("track_id"), row))
    if len(sizes) > 1:
        raise ValueError(f"has pictures of {len(sizes)} sizes; the frames of one clip have one")
    return ClipTracks.of(
        with_ids(found, path, first=0),
        name=path.name,
        frame_wh=next(iter(sizes), None),
        frame_count=max(frames.values()) + 1,
    )


def write_voc(tracks: ClipTracks, *, first_pixel: int = 1, **_: object) -> dict[str, str]:
    """Write an XML file for every frame, corners with up to four decimals."""
    width, height = tracks.size
    files = {}
    for frame, rows in tracks.frames.items():
        name = FRAME_NAME % frame
        lines = [
            "<annotation>",
            f"  <folder>JPEGImages</folder><filename>{name}.jpg</filename>",
            f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
            "  <segmented>0</segmented>",
        ]
        for row in rows:
            x, y, w, h = row.box
            corners = (x + first_pixel, y + first_pixel, x + w, y + h)
            box = "".join(
                f"<{corner}>{tidy(value)}</{corner}>"
                for corner, value in zip(_CORNERS, corners, strict=True)
            )
            lines += [
                f"  <object><name>{escape(label_of(row))}</name><pose>Unspecified</pose>",
                f"    <truncated>0</truncated><difficult>0</difficult>"
                f"<occluded>{int(row.occluded)}</occluded>",
                f"    <bndbox>{box}</bndbox>",
                f"    <attributes><attribute><name>track_id</name><value>{row.target}</value>"
                "</attribute></attributes></object>",
            ]
        files[f"Annotations/{name}.xml"] = "\n".join([*lines, "</annotation>", ""])
    stems = "".join(f"{FRAME_NAME % frame}\n" for frame in tracks.frames)
    return {**files, "ImageSets/Main/train.txt": stems}
