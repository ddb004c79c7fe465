"""Still images annotated in COCO's JSON.

    coco:/data/coco?annotations=annotations/instances_val2017.json&pictures=val2017

Options: `annotations`, the JSON file, relative to the root (default: the only one in the root or
one level down); `pictures`, the folder that its file names are relative to (default: where the
first image is found). Boxes are xywh and 0-based already; crowds are left out.

With tracks (`read_coco`, `write_coco`): the frames of one video as images with `frame_index` from
0, annotations with `track_id` from 1, as COCO-VID and TAO have them; `occluded`, `score` and
`attributes` go beyond COCO and do not disturb its tools.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from siamtrack.data.formats.objects import (
    ImageObject,
    file_problem,
    image_dataset,
    is_below,
    read_json,
)
from siamtrack.data.formats.tracks import (
    FRAME_NAME,
    ClipTracks,
    count_notes,
    finite,
    json_number,
    json_text,
    label_of,
    score_of,
    whole,
    with_ids,
)
from siamtrack.data.sequence import Dataset, DatasetSpec
from siamtrack.errors import ConfigError, Problem, dataset_error
from siamtrack.tracking.result import Status
from siamtrack.types import Box
from siamtrack.utils.images import natural_key
from siamtrack.video.tables import TableRow


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


# --- Tracks of one clip --------------------------------------------------------------------------


def read_coco(path: Path, **_: object) -> ClipTracks:
    """Read the annotations of one video.

    The frame of an image is its `frame_index`, else its place among the images, in natural order.

    Raises:
        ValueError: there are several videos, or a box is malformed.
    """
    content = read_json(str(path), path)
    videos = content.get("videos") or [{}]
    if len(videos) > 1:
        raise ValueError(f"holds {len(videos)} videos; split it, one video in a file")
    # Frames.
    images = sorted(content["images"], key=lambda image: natural_key(str(image["file_name"])))
    numbered = all("frame_index" in image for image in images)
    frames = {
        image["id"]: whole(image["frame_index"], "frame_index") if numbered else place
        for place, image in enumerate(images)
    }
    sizes = {(i["width"], i["height"]) for i in images if i.get("width") and i.get("height")}
    if len(sizes) > 1:
        raise ValueError(f"has images of {len(sizes)} sizes; the frames of one clip have one")

    # Boxes.
    labels = {c["id"]: str(c["name"]) for c in content.get("categories", [])}
    counts: Counter[str] = Counter()
    found: list[tuple[Any, TableRow]] = []
    for entry in content["annotations"]:
        number = entry.get("id", "without id")
        if entry["image_id"] not in frames:
            raise ValueError(f"annotation {number} names image {entry['image_id']}, there is none")
        if entry.get("iscrowd"):
            counts["crowd(s) left out"] += 1
            continue
        if len(entry.get("bbox") or ()) != 4:
            raise ValueError(f"annotation {number} has no bbox of four numbers")
        x, y, w, h = (finite(value, f"bbox of annotation {number}") for value in entry["bbox"])
        attributes = entry.get("attributes") or {}
        ids = (entry.get("track_id"), entry.get("instance_id"), attributes.get("track_id"))
        status: Status = "uncertain" if attributes.get("status") == "uncertain" else "tracked"
        row = TableRow(
            frames[entry["image_id"]],
            0,
            (x, y, w, h),
            score=score_of(entry.get("score", 1.0)),
            status=status,
            label=labels.get(entry.get("category_id"), ""),
            occluded=bool(entry.get("occluded", attributes.get("occluded"))),
            key=bool(attributes.get("key", attributes.get("keyframe"))),
        )
        found.append((next((i for i in ids if i is not None), None), row))
    video = videos[0]
    return ClipTracks.of(
        with_ids(found, path, labels=labels.values()),
        name=str(video.get("file_name") or video.get("name") or path.stem),
        frame_wh=next(iter(sizes), None),
        frame_count=max(
            [frame + 1 for frame in frames.values()] + [whole(video.get("length") or 0, "length")]
        ),
        fps=finite(video["fps"], "fps") if video.get("fps") else None,
        notes=count_notes(counts),
    )


def write_coco(tracks: ClipTracks, **_: object) -> dict[str, str]:
    """Write one video with an image for every frame, boxes to four decimals."""
    width, height = tracks.size
    video: dict[str, Any] = {
        "id": 1,
        "name": tracks.name,
        "file_name": tracks.name,
        "width": width,
        "height": height,
        "length": tracks.length,
    }
    if tracks.fps is not None:
        video["fps"] = tracks.fps
    categories = {label: number for number, label in enumerate(tracks.labels, 1)}
    annotations: list[dict[str, Any]] = []
    for frame, rows in tracks.frames.items():
        for row in rows:
            box = [json_number(value) for value in row.box]
            annotation = {
                "id": len(annotations) + 1,
                "image_id": frame + 1,
                "video_id": 1,
                "category_id": categories[label_of(row)],
                "track_id": row.target + 1,
                "instance_id": row.target + 1,
                "bbox": box,
                "area": json_number(box[2] * box[3]),
                "iscrowd": 0,
                "segmentation": [],
                "occluded": row.occluded,
                "score": json_number(row.score),
                "attributes": {
                    "status": row.status,
                    "key": row.key,
                    "occluded": row.occluded,
                    "track_id": row.target + 1,
                },
            }
            annotations.append(annotation)
    content = {
        "info": {"description": "siamtrack", "version": "1"},
        "licenses": [],
        "videos": [video],
        "tracks": [
            {"id": target + 1, "video_id": 1, "category_id": categories[label_of(rows[0])]}
            for target, rows in tracks.targets.items()
        ],
        "categories": [
            {"id": number, "name": label, "supercategory": ""}
            for label, number in categories.items()
        ],
        "images": [
            {
                "id": frame + 1,
                "video_id": 1,
                "frame_id": frame,
                "frame_index": frame,
                "file_name": f"{FRAME_NAME % frame}.jpg",
                "width": width,
                "height": height,
            }
            for frame in tracks.frames
        ],
        "annotations": annotations,
    }
    return {"annotations.json": json_text(content)}
