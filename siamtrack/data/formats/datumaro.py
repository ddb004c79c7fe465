"""Datumaro's JSON: `annotations/default.json`, an item a frame, boxes xywh from 0.

Status, score, key frame, occlusion and track are attributes of the boxes.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from siamtrack.data.formats.objects import read_json
from siamtrack.data.formats.tracks import (
    FRAME_NAME,
    ClipTracks,
    count_notes,
    finite,
    frames_of_names,
    json_number,
    json_text,
    label_of,
    score_of,
    whole,
    with_ids,
)
from siamtrack.tracking.result import Status
from siamtrack.video.tables import TableRow


def read_datumaro(path: Path, **_: object) -> ClipTracks:
    """Read the items of one clip; see the module and `tracks`.

    Raises:
        ValueError: an item has no frame, or a box is malformed.
    """
    if path.is_dir():
        path = path / "annotations" / "default.json"
    content = read_json(str(path), path)
    labels = [str(label["name"]) for label in content["categories"]["label"]["labels"]]
    counts: Counter[str] = Counter()
    found: list[tuple[Any, TableRow]] = []
    sizes: set[tuple[int, int]] = set()
    frames = [0]
    unnumbered = [i for i in content["items"] if (i.get("attr") or {}).get("frame") is None]
    by_name = frames_of_names(str(item["id"]) for item in unnumbered)
    for item in content["items"]:
        number = (item.get("attr") or {}).get("frame")
        frame = by_name[str(item["id"])] if number is None else whole(number, "frame")
        frames.append(frame + 1)
        if size := (item.get("image") or {}).get("size"):
            sizes.add((whole(size[1], "width"), whole(size[0], "height")))
        for entry in item["annotations"]:
            if entry.get("type") != "bbox":
                counts["annotation(s) that are no boxes left out"] += 1
                continue
            attributes = entry.get("attributes") or {}
            if attributes.get("outside"):
                continue
            x, y, w, h = (finite(v, f"bbox in frame {frame}") for v in entry["bbox"])
            label = entry.get("label_id")
            status: Status = "uncertain" if attributes.get("status") == "uncertain" else "tracked"
            row = TableRow(
                frame,
                0,
                (x, y, w, h),
                score=score_of(attributes.get("score", 1.0)),
                status=status,
                label="" if label is None else labels[whole(label, "label_id")],
                occluded=bool(attributes.get("occluded")),
                key=bool(attributes.get("keyframe")),
            )
            found.append((attributes.get("track_id"), row))
    if len(sizes) > 1:
        raise ValueError(f"has frames of {len(sizes)} sizes; the frames of one clip have one")
    return ClipTracks.of(
        with_ids(found, path, first=0),
        name=path.stem,
        frame_wh=next(iter(sizes), None),
        frame_count=max(frames),
        notes=count_notes(counts),
    )


def write_datumaro(tracks: ClipTracks, **_: object) -> dict[str, str]:
    """Write an item for every frame, with boxes to four decimals."""
    labels = tracks.labels
    items, count = [], 0
    for frame, rows in tracks.frames.items():
        boxes = []
        for row in rows:
            count += 1
            boxes.append(
                {
                    "id": count,
                    "type": "bbox",
                    "label_id": labels.index(label_of(row)),
                    "group": 0,
                    "z_order": 0,
                    "bbox": [json_number(value) for value in row.box],
                    "attributes": {
                        "occluded": row.occluded,
                        "outside": False,
                        "keyframe": row.key,
                        "track_id": row.target,
                        "score": json_number(row.score),
                        "status": row.status,
                    },
                }
            )
        name = FRAME_NAME % frame
        image: dict[str, Any] = {"path": f"{name}.jpg"}
        if tracks.frame_wh is not None:
            image["size"] = [tracks.frame_wh[1], tracks.frame_wh[0]]
        items.append({"id": name, "attr": {"frame": frame}, "image": image, "annotations": boxes})
    content = {
        "dm_format_version": "1.0",
        "infos": {},
        "categories": {
            "label": {
                "labels": [{"name": label, "parent": "", "attributes": []} for label in labels],
                "label_groups": [],
                "attributes": ["occluded", "outside", "keyframe", "track_id"],
            }
        },
        "items": items,
    }
    return {"annotations/default.json": json_text(content)}
