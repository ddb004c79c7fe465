"""One target a file, a line a frame: the truth of VOT, GOT-10k and OTB.

| format | line | target absent | several targets |
|---|---|---|---|
| vot | x,y,w,h from 0 | nan,nan,nan,nan | groundtruth_000.txt, groundtruth_001.txt |
| got10k | x,y,w,h as they are | last box again, absence.label 1 | a sequence each: NAME.0, NAME.1 |
| otb | x,y,w,h from 1 | 0,0,0,0 | groundtruth_rect.1.txt, groundtruth_rect.2.txt |

The got10k toolkit hands boxes on as they are stored, so they are stored from 0; `first_pixel` 1
writes them as the published set has them.
"""

from __future__ import annotations

import configparser
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from siamtrack.data.formats.tracks import ClipTracks, finite, label_of, tidy, whole
from siamtrack.types import FloatArray
from siamtrack.video.tables import TableRow

_WHOLE_COVER, _HALF_COVER = 8, 4


# --- Reading -------------------------------------------------------------------------------------


def read_vot(path: Path, *, first_pixel: int = 0, **_: object) -> ClipTracks:
    """Read groundtruth.txt, or the sequence folder around it; polygons become upright boxes.

    Raises:
        ValueError: a line is malformed, or the files are of different length.
    """
    files = [path] if path.is_file() else _found(path, "groundtruth.txt", "groundtruth_*.txt")
    folder = files[0].parent
    facts = {}
    if (folder / "sequence").is_file():
        lines = (folder / "sequence").read_text(encoding="utf-8").splitlines()
        facts = dict(line.split("=", 1) for line in lines if "=" in line)
    tracks = _clip_of(files, first_pixel, _name_of(path))
    return replace(
        tracks,
        name=facts.get("name", tracks.name),
        fps=finite(facts["fps"], "fps") if "fps" in facts else None,
        frame_wh=(whole(facts["width"], "width"), whole(facts["height"], "height"))
        if {"width", "height"} <= set(facts)
        else None,
    )


def read_otb(path: Path, *, first_pixel: int = 1, **_: object) -> ClipTracks:
    """Read groundtruth_rect.txt, or the sequence folder around it.

    Raises:
        ValueError: a line is malformed, or the files are of different length.
    """
    patterns = ("groundtruth_rect.txt", "groundtruth_rect.*.txt")
    files = [path] if path.is_file() else _found(path, *patterns)
    return _clip_of(files, first_pixel, _name_of(path))


def read_got10k(path: Path, *, first_pixel: int = 0, **_: object) -> ClipTracks:
    """Read groundtruth.txt, the sequence folder around it, or a subset that `write_got10k` wrote.

    Raises:
        ValueError: a line is malformed, or a folder holds sequences of different clips.
    """
    folders = [path.parent if path.is_file() else path]
    lists = [path / "list.txt", *sorted(path.glob("*/list.txt"))] if path.is_dir() else []
    if listed := next((file for file in lists if file.is_file()), None):
        names = listed.read_text(encoding="utf-8").split()
        if len({re.sub(r"\.\d+$", "", name) for name in names}) != 1:
            raise ValueError(
                f"lists {len(names)} sequences, which are different clips; give the folder of one"
            )
        folders = [listed.parent / name for name in names]
    files = [folder / "groundtruth.txt" for folder in folders]
    if path.is_file():
        files = [path]
    name = re.sub(r"\.\d+$", "", folders[0].name)
    tracks = _clip_of(files, first_pixel, name)
    rows, labels = [], [_meta(folder).get("object_class", "") for folder in folders]
    hidden = [_flags(folder / "absence.label", tracks.length) == 1 for folder in folders]
    covers = [_flags(folder / "cover.label", tracks.length) for folder in folders]
    for row in tracks.rows:
        cover = covers[row.target][row.frame]
        if hidden[row.target][row.frame] or cover == 0:
            continue
        rows.append(replace(row, label=labels[row.target], occluded=bool(cover <= _HALF_COVER)))
    meta = _meta(folders[0])
    size = re.fullmatch(r"\((\d+), *(\d+)\)", meta.get("resolution", ""))
    rate = re.fullmatch(r"([\d.]+) *Hz", meta.get("anno_fps", ""))
    return ClipTracks.of(
        rows,
        name=name,
        frame_wh=(int(size[1]), int(size[2])) if size else None,
        frame_count=tracks.frame_count,
        fps=finite(rate[1], "anno_fps") if rate else None,
    )


def _found(folder: Path, one: str, several: str) -> list[Path]:
    files = [folder / one] if (folder / one).is_file() else sorted(folder.glob(several))
    if not files:
        raise ValueError(f"holds no {one}")
    return files


def _name_of(path: Path) -> str:
    """Name of the clip: of the folder around a file with a standard name, else of the file."""
    if path.is_file() and not path.name.startswith("groundtruth"):
        return path.stem
    return (path.resolve().parent if path.is_file() else path.resolve()).name


def _clip_of(files: Sequence[Path], first_pixel: int, name: str) -> ClipTracks:
    """A target for each file, absent where the box is nan or has no area."""
    rows, lengths = [], {}
    for target, file in enumerate(files):
        boxes = _read_lines(file) - np.array([first_pixel, first_pixel, 0, 0])
        lengths[file.name] = len(boxes)
        for frame, (x, y, w, h) in enumerate(boxes.tolist()):
            if not any(map(math.isnan, (x, y, w, h))) and (w > 0 or h > 0):
                rows.append(TableRow(frame, target, (x, y, w, h)))
    if len(set(lengths.values())) > 1:
        raise ValueError(f"files of one clip have different numbers of lines: {lengths}")
    return ClipTracks.of(rows, name=name, frame_count=max(lengths.values()))


def _read_lines(file: Path) -> FloatArray:
    """(N, 4) boxes as they are stored; the eight numbers of a polygon become its upright box."""
    boxes = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").rstrip().splitlines(), 1):
        cells = line.replace(",", " ").replace(";", " ").split()
        try:
            values = [float(cell) for cell in cells]
        except ValueError as error:
            raise ValueError(f"{file.name} line {number}: {error}") from error
        if len(values) == 8:
            xs, ys = values[0::2], values[1::2]
            values = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        if len(values) != 4 or any(map(math.isinf, values)):
            raise ValueError(f"{file.name} line {number} is {line[:60]!r}; x,y,w,h are needed")
        boxes.append(values)
    if not boxes:
        raise ValueError(f"{file.name} is empty")
    return np.array(boxes, dtype=np.float64)


def _flags(file: Path, count: int) -> FloatArray:
    """A label file of GOT-10k; where it is missing, the target is there and whole."""
    if not file.is_file():
        return np.full(count, 0.0 if file.stem == "absence" else _WHOLE_COVER)
    values = np.array([finite(text, f"a line of {file.name}") for text in file.read_text().split()])
    if len(values) != count:
        raise ValueError(f"{file.name} has {len(values)} lines for {count} boxes")
    return values


def _meta(folder: Path) -> dict[str, str]:
    path = folder / "meta_info.ini"
    if not path.is_file():
        return {}
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(path.read_text(encoding="utf-8-sig"))
    return dict(parser["METAINFO"]) if "METAINFO" in parser else {}


# --- Writing -------------------------------------------------------------------------------------


def write_vot(tracks: ClipTracks, *, first_pixel: int = 0, **_: object) -> dict[str, str]:
    """Write boxes to four decimals, and the file `sequence` where the size is known."""
    files = {}
    for number, rows in enumerate(tracks.targets.values()):
        name = "groundtruth.txt" if len(tracks.targets) == 1 else f"groundtruth_{number:03d}.txt"
        boxes = {row.frame: _box_text(row, first_pixel) for row in rows}
        lines = [boxes.get(frame, "nan,nan,nan,nan") for frame in range(tracks.length)]
        files[name] = "\n".join([*lines, ""])
    facts = [
        "channels.color=color/%08d.jpg",
        "format=default",
        f"length={tracks.length}",
        f"name={tracks.stem}",
    ]
    if tracks.fps is not None:
        facts.append(f"fps={tidy(tracks.fps)}")
    if tracks.frame_wh is not None:
        facts += [f"width={tracks.frame_wh[0]}", f"height={tracks.frame_wh[1]}"]
    files["sequence"] = "\n".join([*sorted(facts), ""])
    return files


def write_otb(tracks: ClipTracks, *, first_pixel: int = 1, **_: object) -> dict[str, str]:
    """Write boxes with up to four decimals."""
    files = {}
    for number, rows in enumerate(tracks.targets.values(), 1):
        several = f"groundtruth_rect.{number}.txt"
        name = "groundtruth_rect.txt" if len(tracks.targets) == 1 else several
        boxes = {row.frame: row.box for row in rows}
        lines = []
        for frame in range(tracks.length):
            if frame in boxes:
                x, y, w, h = boxes[frame]
                lines.append(",".join(map(tidy, (x + first_pixel, y + first_pixel, w, h))))
            else:
                lines.append("0,0,0,0")
        files[name] = "\n".join([*lines, ""])
    return files


def write_got10k(tracks: ClipTracks, *, first_pixel: int = 0, **_: object) -> dict[str, str]:
    """Write a data set with the subset "val", a sequence for every target, boxes to four decimals.

    Occluded targets have cover 4 of 8.
    """
    files, names = {}, []
    for number, rows in enumerate(tracks.targets.values()):
        name = tracks.stem if len(tracks.targets) == 1 else f"{tracks.stem}.{number}"
        names.append(name)
        by_frame = {row.frame: row for row in rows}
        lines, absence, cover, cut = [], [], [], []
        last = rows[0]
        for frame in range(tracks.length):
            row = by_frame.get(frame)
            last = row or last
            lines.append(_box_text(last, first_pixel))
            absence.append(int(row is None))
            cover.append(0 if row is None else _HALF_COVER if row.occluded else _WHOLE_COVER)
            cut.append(int(row is not None and _is_cut(row, tracks.frame_wh)))
        facts = {
            "url": "none",
            "anno_fps": f"{tidy(tracks.fps)}Hz" if tracks.fps is not None else "unknown",
            "object_class": label_of(rows[0]),
            "resolution": str(tracks.frame_wh) if tracks.frame_wh is not None else "unknown",
        }
        files[f"val/{name}/groundtruth.txt"] = "\n".join([*lines, ""])
        files[f"val/{name}/meta_info.ini"] = "\n".join(
            ["[METAINFO]", *(f"{key}: {value}" for key, value in facts.items()), ""]
        )
        for label, flags in (("absence", absence), ("cover", cover), ("cut_by_image", cut)):
            files[f"val/{name}/{label}.label"] = "".join(f"{flag}\n" for flag in flags)
    files["val/list.txt"] = "".join(f"{name}\n" for name in names)
    return files


def _box_text(row: TableRow, first_pixel: int) -> str:
    x, y, w, h = row.box
    return f"{x + first_pixel:.4f},{y + first_pixel:.4f},{w:.4f},{h:.4f}"


def _is_cut(row: TableRow, frame_wh: tuple[int, int] | None) -> bool:
    x, y, w, h = row.box
    beyond = frame_wh is not None and (x + w > frame_wh[0] or y + h > frame_wh[1])
    return x < 0 or y < 0 or beyond
