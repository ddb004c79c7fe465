"""CVAT for video 1.1: one XML file, frames from 0, corners as edges (xbr = x + w).

CVAT imports key frames only and draws straight lines between them, so every box is written as a
key frame unless fewer are asked for. An absent target has one box with outside="1" in its first
absent frame, at the end as well: without it CVAT shows the last box to the end of the clip.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from siamtrack.data.formats.tracks import (
    ClipTracks,
    count_notes,
    draw_lines,
    enclose,
    finite,
    key_rows,
    label_of,
    whole,
)
from siamtrack.video.tables import TableRow


def read_cvat(path: Path, **_: object) -> ClipTracks:
    """Read "CVAT for video 1.1"; see `tracks`.

    Shapes that are no boxes are counted in the notes; turned boxes become the upright ones around
    them.

    Raises:
        ValueError: it is something else.
    """
    root = ET.parse(path).getroot()
    if root.find("image") is not None:
        raise ValueError(
            "is CVAT for images, which has no tracks; export the task as 'CVAT for video 1.1'"
        )
    tracks = root.findall("track")
    if len({track.get("task_id") for track in tracks}) > 1:
        raise ValueError("holds several tasks; export one task at a time")
    meta = root.find("meta")

    # Facts of the clip. Frame numbers are those of the clip, of which a task may be a part.
    def fact(name: str) -> str:
        found = None if meta is None else next(meta.iter(name), None)
        return (found.text or "").strip() if found is not None else ""

    size = [fact("width"), fact("height")]
    last, count = fact("stop_frame"), fact("size")
    frame_count = whole(last, "stop_frame") + 1 if last else whole(count, "size") if count else None

    counts: Counter[str] = Counter()
    rows: list[TableRow] = []
    for number, track in enumerate(tracks):
        boxes = track.findall("box")
        if not boxes and len(track):
            counts[f"track(s) of {track[0].tag} left out"] += 1
            continue
        target = whole(track.get("id", number), "id of a track")
        keys: list[tuple[TableRow, bool]] = []
        for box in sorted(boxes, key=lambda box: whole(box.get("frame"), "frame")):
            frame = whole(box.get("frame"), "frame")
            left, top, right, bottom = (
                finite(box.get(name), f"{name} of track {target} in frame {frame}")
                for name in ("xtl", "ytl", "xbr", "ybr")
            )
            xywh = (left, top, right - left, bottom - top)
            if rotation := finite(box.get("rotation", 0), "rotation"):
                xywh = enclose(xywh, rotation, ((left + right) / 2, (top + bottom) / 2))
                counts["turned box(es) became upright"] += 1
            row = TableRow(
                frame,
                target,
                xywh,
                label=track.get("label") or "",
                occluded=box.get("occluded") == "1",
                key=box.get("keyframe") == "1",
            )
            if keys and keys[-1][0].frame == frame:
                raise ValueError(f"track {target} has two boxes in frame {frame}")
            keys.append((row, box.get("outside") == "1"))
        rows += draw_lines(keys, frame_count)
    counts["shape(s) without a track left out"] = len(root.findall("box"))
    return ClipTracks.of(
        rows,
        name=fact("source") or fact("name") or path.stem,
        frame_wh=(whole(size[0], "width"), whole(size[1], "height")) if all(size) else None,
        frame_count=frame_count,
        notes=count_notes(counts),
    )


def write_cvat(tracks: ClipTracks, *, keys_only: bool = False, **_: object) -> dict[str, str]:
    """Write "CVAT for video 1.1"; `keys_only` writes key frames and where a target comes and goes.

    Corners have two decimals.
    """
    width, height = tracks.size
    labels = "".join(
        f"<label><name>{escape(label)}</name><type>rectangle</type><attributes></attributes></label>"
        for label in tracks.labels
    )
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations>",
        "  <version>1.1</version>",
        f"  <meta><task><name>{escape(tracks.stem)}</name><size>{tracks.length}</size>"
        f"<mode>interpolation</mode><start_frame>0</start_frame>"
        f"<stop_frame>{tracks.length - 1}</stop_frame><frame_filter></frame_filter>",
        f"    <labels>{labels}</labels>",
        f"    <original_size><width>{width}</width><height>{height}</height></original_size>"
        f"<source>{escape(tracks.name)}</source></task></meta>",
    ]
    for target, rows in tracks.targets.items():
        label = quoteattr(label_of(rows[0]))
        lines.append(f'  <track id="{target}" label={label} source="manual">')
        present = {row.frame for row in rows}
        for row in key_rows(rows) if keys_only else rows:
            lines.append(_box_line(row, row.frame, outside=False))
            if row.frame + 1 not in present and row.frame + 1 < tracks.length:
                lines.append(_box_line(row, row.frame + 1, outside=True))
        lines.append("  </track>")
    return {"annotations.xml": "\n".join([*lines, "</annotations>", ""])}


def _box_line(row: TableRow, frame: int, *, outside: bool) -> str:
    x, y, w, h = row.box
    return (
        f'    <box frame="{frame}" keyframe="1" outside="{int(outside)}" '
        f'occluded="{int(row.occluded)}" xtl="{x:.2f}" ytl="{y:.2f}" xbr="{x + w:.2f}" '
        f'ybr="{y + h:.2f}" z_order="0"></box>'
    )
