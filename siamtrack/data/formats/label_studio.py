"""Label Studio's video tasks: JSON, frames from 1, boxes in percent of the frame.

A sequence item with `enabled: false` is the last box before the target is absent. Between enabled
items Label Studio draws straight lines, and after the last one it keeps the box to the end. What is
occluded or uncertain, and scores below 1, are kept in `meta`, by frame.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from siamtrack.data.formats.objects import read_json
from siamtrack.data.formats.tracks import (
    ClipTracks,
    clipped,
    count_notes,
    draw_lines,
    enclose,
    finite,
    json_number,
    json_text,
    key_rows,
    label_of,
    score_of,
    stretches,
    time_of,
    whole,
)
from siamtrack.video.tables import TableRow


def read_label_studio(
    path: Path, *, frame_wh: tuple[int, int] | None = None, **_: object
) -> ClipTracks:
    """Read an export with one video task; see the module and `tracks`.

    Args:
        path: JSON file.
        frame_wh: width and height of the frames in px, which the percents are of; exports of Label
            Studio do not hold it, those of siamtrack do.

    Raises:
        ValueError: it is something else, holds several tasks, or the size is not known.
    """
    content = read_json(str(path), path)
    tasks = content if isinstance(content, list) else [content]
    if len(tasks) != 1:
        raise ValueError(f"holds {len(tasks)} tasks; export one at a time")
    task = tasks[0]
    answers = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
    answers = answers or task.get("predictions") or []
    results = answers[0].get("result", []) if answers else []
    counts: Counter[str] = Counter()
    counts["further annotation(s) of the same task left out"] = max(len(answers) - 1, 0)
    shapes = [r for r in results if r.get("type") == "videorectangle"]
    counts["result(s) that are no boxes left out"] = len(results) - len(shapes)

    # The size of the frames, by the file or by the caller.
    sizes = {(r.get("original_width"), r.get("original_height")) for r in shapes}
    stated = next(((w, h) for w, h in sizes if w and h), None)
    given = stated or frame_wh
    if given is None and shapes:
        raise ValueError(
            "has boxes in percent and no frame size; give --size W,H or --clip CLIP of its video"
        )
    width, height = given or (1, 1)

    # Its tracks.
    ids = [re.fullmatch(r"t(\d+)", str(shape.get("id"))) for shape in shapes]
    own = all(ids) and len({found[1] for found in ids if found}) == len(ids)
    frame_count: int | None = None
    duration: float | None = None
    rows: list[TableRow] = []
    for number, (shape, found) in enumerate(zip(shapes, ids, strict=True)):
        target = int(found[1]) if own and found else number
        value = shape["value"]
        if value.get("framesCount") is not None:
            frame_count = whole(value["framesCount"], "framesCount")
        if value.get("duration"):
            duration = finite(value["duration"], "duration")
        keys = _keys_of(value, target, width, height, counts)
        rows += _with_meta(list(draw_lines(keys, frame_count)), shape.get("meta") or {})
    return ClipTracks.of(
        rows,
        name=Path(str((task.get("data") or {}).get("video", path.stem))).name,
        frame_wh=given,
        frame_count=frame_count,
        fps=round(frame_count / duration, 3) if frame_count and duration else None,
        notes=count_notes(counts),
    )


def _keys_of(
    value: dict[str, Any], target: int, width: int, height: int, counts: Counter[str]
) -> list[tuple[TableRow, bool]]:
    """Key frames of one target, and whether it is absent from there on."""
    labels = value.get("labels") or [""]
    items = sorted(value["sequence"], key=lambda item: whole(item["frame"], "frame"))
    keys: list[tuple[TableRow, bool]] = []
    for number, item in enumerate(items):
        frame = whole(item["frame"], "frame") - 1
        x, y, w, h = (
            finite(item[name], f"{name} in frame {frame + 1}") / 100 * side
            for name, side in (("x", width), ("y", height), ("width", width), ("height", height))
        )
        box = (x, y, w, h)
        if rotation := finite(item.get("rotation", 0), "rotation"):
            box = enclose(box, rotation, (x, y))  # about its first corner
            counts["turned box(es) became upright"] += 1
        row = TableRow(frame, target, box, label=str(labels[0]), key=not item.get("auto"))
        if keys and keys[-1][0].frame == frame:
            raise ValueError(f"target {target} has two items in frame {frame + 1}")
        keys.append((row, False))
        following = whole(items[number + 1]["frame"], "frame") - 1 if items[number + 1 :] else None
        if not item.get("enabled", True) and following != frame + 1:
            keys.append((replace(row, frame=frame + 1), True))
    return keys


def _with_meta(rows: list[TableRow], meta: dict[str, Any]) -> list[TableRow]:
    """Put back what `write_label_studio` keeps in `meta`."""
    occluded = {whole(f, "frame") - 1 for f in meta.get("occluded") or []}
    uncertain = {whole(f, "frame") - 1 for f in meta.get("uncertain") or []}
    scores = {whole(f, "frame") - 1: score_of(s) for f, s in meta.get("scores") or []}
    return [
        replace(
            row,
            occluded=row.frame in occluded,
            status="uncertain" if row.frame in uncertain else "tracked",
            score=scores.get(row.frame, 1.0),
        )
        for row in rows
    ]


def write_label_studio(
    tracks: ClipTracks, *, keys_only: bool = False, **_: object
) -> dict[str, str]:
    """Write one task, for `<Video name="video">`, `<VideoRectangle name="box">` and `<Labels>`.

    Args:
        tracks: of the clip, whose size and rate must be known.
        keys_only: write key frames and where a target comes and goes; dense otherwise.
    """
    width, height = tracks.size
    results = []
    for target, rows in clipped(tracks).targets.items():
        lasts = {stretch[-1].frame for stretch in stretches(rows)}
        lasts.discard(tracks.length - 1)
        sequence = [
            {
                "frame": row.frame + 1,
                "time": round(time_of(tracks, row), 6),
                "enabled": row.frame not in lasts,
                "rotation": 0,
                "x": round(100 * row.box[0] / width, 6),
                "y": round(100 * row.box[1] / height, 6),
                "width": round(100 * row.box[2] / width, 6),
                "height": round(100 * row.box[3] / height, 6),
            }
            for row in (key_rows(rows) if keys_only else rows)
        ]
        meta = {
            "occluded": [row.frame + 1 for row in rows if row.occluded],
            "uncertain": [row.frame + 1 for row in rows if row.status == "uncertain"],
            "scores": [[row.frame + 1, json_number(row.score)] for row in rows if row.score != 1],
        }
        result = {
            "id": f"t{target}",
            "type": "videorectangle",
            "from_name": "box",
            "to_name": "video",
            "origin": "manual",
            "original_width": width,
            "original_height": height,
            "value": {
                "framesCount": tracks.length,
                "duration": round(tracks.length / tracks.rate, 6),
                "labels": [label_of(rows[0])],
                "sequence": sequence,
            },
            "meta": {name: frames for name, frames in meta.items() if frames},
        }
        results.append(result)
    task = {
        "id": 1,
        "data": {"video": tracks.name},
        "annotations": [{"id": 1, "result": results}],
    }
    return {"tasks.json": json_text([task])}
