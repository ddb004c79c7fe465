"""The list of clips: a CSV table or JSON lines, one clip a row, checked before anything runs."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from siamtrack.errors import DatasetError, InvalidBoxError, Problem, shown
from siamtrack.geometry import parse_box
from siamtrack.types import Box
from siamtrack.utils.config import whole_number
from siamtrack.utils.images import match_pictures
from siamtrack.video.tables import TableRow, column_names, read_table, separator_of

COLUMNS = ("clip", "boxes", "name", "start_frame", "end_frame", "step", "labels")
RESERVED = ("batch", "summary")
"""Names of files that a batch writes itself."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BatchClip:
    """One row of a manifest.

    Attributes:
        name: of the files that it is written to; unique.
        source: full path or address, as `open_source` takes it.
        starts: first box of every target, xywh px, with the frame that it is on.
        start_frame: first frame that is tracked.
        end_frame: last one; None for the end of the clip.
        step: track every so many frames.
        labels: of the targets, or one for all; may be empty.
    """

    name: str
    source: str
    starts: tuple[tuple[int, Box], ...]
    start_frame: int = 0
    end_frame: int | None = None
    step: int = 1
    labels: tuple[str, ...] = ()

    @property
    def is_address(self) -> bool:
        """Whether the source is an address and not a path."""
        return _ADDRESS.match(self.source) is not None


def read_manifest(path: Path) -> list[BatchClip]:
    """Read a manifest; paths in it are relative to its folder.

    Raises:
        DatasetError: it cannot be read, holds no clip, or something is wrong with a row;
            `problems` holds every finding with its line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(
            f"{path} cannot be read as text: {reason}; give a CSV table with the columns clip and "
            "boxes, or JSON lines"
        ) from error
    is_json = text.lstrip().startswith("{")
    clips: list[BatchClip] = []
    problems: list[Problem] = []
    lines_of: dict[str, int] = {}
    for line, cells in (_json_rows if is_json else _csv_rows)(path, text):
        found, clip = list[str](), None
        try:
            if isinstance(cells, str):
                raise ValueError(cells)
            clip = _clip_of(cells, path.parent, found)
        except (InvalidBoxError, DatasetError, ValueError) as error:
            found.append(str(error))
        if clip is not None:
            # Some systems do not tell names apart by their case.
            first = lines_of.setdefault(clip.name.casefold(), line)
            if first != line:
                found.append(
                    f"the name {clip.name!r} is that of line {first} too; give both their own in a "
                    "column name"
                )
            clips.append(clip)
        problems += [Problem(path, "bad-line", f"line {line}: {text}") for text in found]
    if problems:
        raise DatasetError(
            f"{path} cannot be used: {len(problems)} thing(s) are wrong with it, listed above; "
            "nothing was run",
            problems,
        )
    if not clips:
        raise DatasetError(f"{path} has no rows; give one clip a row")
    return clips


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Line and cells of every row, or what is wrong with it."""
    reader = csv.DictReader(io.StringIO(text), delimiter=separator_of(text.partition("\n")[0]))
    names = column_names(path, reader.fieldnames or (), COLUMNS)
    for needed in ("clip", "boxes"):
        if needed not in names:
            raise DatasetError(
                f"{path} lacks the column {needed}; its first line must name the columns, of which "
                "clip and boxes are needed"
            )
    reader.fieldnames = names
    try:
        for cells in reader:
            if None in cells or None in cells.values():
                yield (
                    reader.line_num,
                    f"has {'more' if None in cells else 'fewer'} cells than the {len(names)} of "
                    "the first line; put boxes in quotes",
                )
                continue
            yield reader.line_num, {k: v.strip() for k, v in cells.items() if v.strip()}
    except csv.Error as error:
        yield reader.line_num, f"is no row of a table: {error}"


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    for line, content in enumerate(text.splitlines(), 1):
        if not content.strip():
            continue
        try:
            cells = json.loads(content)
        except (RecursionError, ValueError) as error:
            yield line, f"is not JSON: {error}"
            continue
        if not isinstance(cells, dict):
            yield line, f'is {shown(cells)}; give an object such as {{"clip": "a.mp4", ...}}'
            continue
        yield line, {key: value for key, value in cells.items() if value not in (None, "")}


def _clip_of(cells: Mapping[str, Any], folder: Path, problems: list[str]) -> BatchClip | None:
    """The clip of one row; what is wrong with it is added to `problems`."""
    for column in cells:
        if column not in COLUMNS:
            nearest = get_close_matches(column, COLUMNS, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}? " if nearest else ""
            problems.append(f"unknown column {column!r}; {hint}use {', '.join(COLUMNS)}")
    # 1. The clip and its name.
    if "clip" not in cells:
        problems.append("no clip is given; give a path or an address")
        return None
    given = str(cells["clip"])
    source, stem = given, PurePosixPath(urlsplit(given).path).stem
    if not _ADDRESS.match(given):
        path = (folder / Path(given).expanduser()).resolve()
        source, stem = str(path), path.stem
        if not (path.exists() or match_pictures(path)):
            problems.append(f"clip {given} does not exist")
    name = str(cells.get("name", "")) or stem
    if not name or re.search(r'[\x00-\x1f/\\:*?"<>|]|^\.', name) or name in RESERVED:
        problems.append(f"{name!r} is no name for a file; give another in a column name")
    # 2. Frames.
    start = _whole(cells, "start_frame", 0)
    end = _whole(cells, "end_frame", None)
    step = _whole(cells, "step", 1) or 0
    if end is not None and start is not None and end < start:
        problems.append(f"end_frame {end} is before start_frame {start}")
    if step < 1:
        problems.append(f"step is {step}; give 1 or more")
    # 3. Boxes and labels.
    if not cells.get("boxes"):
        problems.append("no boxes are given; give x,y,w,h;x,y,w,h or a table of boxes")
        return None
    starts = _starts_of(cells["boxes"], folder, start)
    first = starts[0][0] if "start_frame" not in cells else (start or 0)
    for frame, box in starts:
        if box[0] + box[2] <= 0 or box[1] + box[3] <= 0:
            problems.append(f"box {list(box)} lies outside every frame; coordinates count from 0")
        if frame < first or (end is not None and frame > end) or (step and (frame - first) % step):
            problems.append(f"a box is on frame {frame}, which is not tracked")
    labels = _labels_of(cells.get("labels", ()))
    if len(labels) not in (0, 1, len(starts)):
        problems.append(
            f"{len(labels)} labels for {len(starts)} boxes; give one for all or one each"
        )
    return BatchClip(name, source, starts, first, end, step, labels)


def _whole(cells: Mapping[str, Any], column: str, otherwise: int | None) -> int | None:
    value = cells.get(column, otherwise)
    if value is None:
        return None
    number = whole_number(value)
    if number is None or number < 0:
        raise ValueError(f"{column} is {shown(value)}; give a whole number, from 0")
    return number


def _starts_of(given: Any, folder: Path, start_frame: int | None) -> tuple[tuple[int, Box], ...]:
    """Frame and box of every target, from the cell `boxes`."""
    if isinstance(given, str) and not re.fullmatch(r"[-+\d.,;eE\s]*|nan.*", given):
        table = folder / Path(given).expanduser()
        rows = sorted(read_table(table), key=lambda row: (row.frame, row.target))
        firsts: dict[int, TableRow] = {}
        for row in rows:
            firsts.setdefault(row.target, row)
        if not firsts:
            raise ValueError(f"{given} holds no boxes")
        return tuple((row.frame, _box(row.box)) for row in firsts.values())
    if isinstance(given, str):
        boxes: list[Any] = [
            part.replace(",", " ").split() for part in given.split(";") if part.strip()
        ]
    elif isinstance(given, list) and given and not isinstance(given[0], list):
        boxes = [given]
    else:
        boxes = list(given) if isinstance(given, list) else [given]
    return tuple((start_frame or 0, _box(box)) for box in boxes)


def _box(numbers: Any) -> Box:
    if isinstance(numbers, list) and numbers and all(isinstance(n, str) for n in numbers):
        try:
            numbers = [float(text) for text in numbers]
        except ValueError as error:
            raise InvalidBoxError(
                f"box {','.join(numbers)} is not numeric; give x,y,w,h in pixels"
            ) from error
    x, y, w, h = parse_box(numbers).tolist()
    return x, y, w, h


def _labels_of(given: Any) -> tuple[str, ...]:
    parts = given.split(";") if isinstance(given, str) else given
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"labels are {shown(given)}; give texts, as car;person")
    return tuple(part.strip() for part in parts)
