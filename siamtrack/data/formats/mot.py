"""MOTChallenge: text with a box a line; frames and ids from 1, left, top, width, height as given.

    gt/gt.txt     frame,id,left,top,w,h,counts,class,visibility      with gt/labels.txt, seqinfo.ini
    results       frame,id,left,top,w,h,confidence,-1,-1,-1          one file per sequence
    det/det.txt   the same with id -1: not tracks, so it is only written

MOTChallenge itself counts pixels from 1, but the tools that read its format do not shift them. The
seventh number is 0 for boxes that are not to be counted, which are read as uncertain.
"""

from __future__ import annotations

import configparser
from pathlib import Path

from siamtrack.data.formats.tracks import (
    ClipTracks,
    finite,
    label_of,
    number_targets,
    score_of,
    tidy,
    whole,
)
from siamtrack.tracking.result import Status
from siamtrack.video.tables import TableRow, mot_line

_OCCLUDED_VISIBILITY = 0.5


def read_mot(path: Path, *, first_pixel: int = 0, **_: object) -> ClipTracks:
    """Read a sequence folder, its gt.txt, or a file of results; see the module and `tracks`.

    Raises:
        ValueError: a line is malformed, or a file of detections, without ids.
    """
    file = path if path.is_file() else path / "gt" / "gt.txt"
    labels = _labels_beside(file)
    lines: list[tuple[int, list[float]]] = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        texts = line.replace(",", " ").split()
        if len(texts) < 6:
            raise ValueError(f"line {number} is {line[:60]!r}; frame,id,left,top,w,h are needed")
        lines.append((number, [finite(text, f"a cell of line {number}") for text in texts]))
    ids = [whole(cells[1], f"id in line {number}") for number, cells in lines]
    if -1 in ids:
        raise ValueError("has boxes with id -1, which are detections and belong to no track")
    numbers, rows = number_targets(ids), []
    for (number, cells), track in zip(lines, ids, strict=True):
        is_truth = len(cells) in (8, 9)
        label, score = "", 1.0
        status: Status = "tracked"
        if is_truth:
            kind = whole(cells[7], f"class in line {number}")
            label = labels[kind - 1] if 0 < kind <= len(labels) else "" if kind < 1 else str(kind)
            status = "tracked" if cells[6] else "uncertain"
        elif len(cells) > 6:
            score = score_of(cells[6])
        left, top, w, h = cells[2:6]
        rows.append(
            TableRow(
                whole(cells[0], f"frame in line {number}") - 1,
                numbers[track],
                (left - first_pixel, top - first_pixel, w, h),
                score=score,
                status=status,
                label=label,
                occluded=is_truth and len(cells) > 8 and cells[8] <= _OCCLUDED_VISIBILITY,
            )
        )
    name, frame_wh, frame_count, fps = _read_seqinfo(file)
    return ClipTracks.of(rows, name=name, frame_wh=frame_wh, frame_count=frame_count, fps=fps)


def _labels_beside(file: Path) -> list[str]:
    path = file.with_name("labels.txt")
    if not path.is_file():
        return []
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _read_seqinfo(file: Path) -> tuple[str, tuple[int, int] | None, int | None, float | None]:
    """Name, frame size, number of frames and rate of the sequence, where seqinfo.ini is there."""
    folder = file.parent.parent if file.parent.name in ("gt", "det") else file.parent
    path = folder / "seqinfo.ini"
    if not path.is_file():
        return (file.stem if file.stem != "gt" else folder.name), None, None, None
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
        facts = parser["Sequence"]
    except (configparser.Error, KeyError) as error:
        raise ValueError(f"{path.name} beside it is no seqinfo.ini: {error}") from error
    frame_wh = None
    if "imWidth" in facts and "imHeight" in facts:
        frame_wh = whole(facts["imWidth"], "imWidth"), whole(facts["imHeight"], "imHeight")
    count, fps = facts.get("seqLength"), facts.get("frameRate")
    return (
        facts.get("name", folder.name),
        frame_wh,
        None if count is None else whole(count, "seqLength"),
        None if fps is None else finite(fps, "frameRate"),
    )


def write_mot(
    tracks: ClipTracks, *, first_pixel: int = 0, ignore_uncertain: bool = False, **_: object
) -> dict[str, str]:
    """Write a sequence: truth, labels and facts; boxes have two decimals.

    Args:
        tracks: of the clip.
        first_pixel: coordinate of the top-left pixel.
        ignore_uncertain: mark uncertain boxes as not to be counted.
    """
    labels = tracks.labels
    lines = []
    for frame, rows in tracks.frames.items():
        for row in rows:
            counts = int(not (ignore_uncertain and row.status == "uncertain"))
            visibility = tidy(_OCCLUDED_VISIBILITY) if row.occluded else "1"
            kind = labels.index(label_of(row)) + 1
            lines.append(
                f"{frame + 1},{row.target + 1},{_box_cells(row, first_pixel)},{counts},{kind},"
                f"{visibility}\n"
            )
    facts = [f"name={tracks.stem}", "imDir=img1"]
    if tracks.fps is not None:
        facts.append(f"frameRate={tidy(tracks.fps)}")
    facts.append(f"seqLength={tracks.length}")
    if tracks.frame_wh is not None:
        facts += [f"imWidth={tracks.frame_wh[0]}", f"imHeight={tracks.frame_wh[1]}"]
    return {
        "gt/gt.txt": "".join(lines),
        "gt/labels.txt": "".join(f"{label}\n" for label in labels),
        "seqinfo.ini": "\n".join(["[Sequence]", *facts, "imExt=.jpg", ""]),
    }


def write_mot_results(tracks: ClipTracks, *, first_pixel: int = 0, **_: object) -> dict[str, str]:
    """Write the results of a tracker, ten columns with the score."""
    return {"results.txt": _ten_columns(tracks, first_pixel, has_ids=True)}


def write_mot_det(tracks: ClipTracks, *, first_pixel: int = 0, **_: object) -> dict[str, str]:
    """Write detections: results without ids."""
    return {"det/det.txt": _ten_columns(tracks, first_pixel, has_ids=False)}


def _ten_columns(tracks: ClipTracks, first_pixel: int, *, has_ids: bool) -> str:
    return "".join(
        mot_line(frame, row.target if has_ids else None, row.box, row.score, first_pixel)
        for frame, rows in tracks.frames.items()
        for row in rows
    )


def _box_cells(row: TableRow, first_pixel: int) -> str:
    x, y, w, h = row.box
    return f"{x + first_pixel:.2f},{y + first_pixel:.2f},{w:.2f},{h:.2f}"
