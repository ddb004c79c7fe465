"""Results as text, frame by frame: CSV and JSON lines.

Sections: the files that grow while tracking; whole tables, read and written as rows.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import select
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

from siamtrack.errors import DatasetError, OutputError
from siamtrack.tracking.result import Result, Status
from siamtrack.types import Box
from siamtrack.utils.config import whole_number
from siamtrack.utils.files import Closing, GrowingFile, to_bytes

CSV_HEADER = "frame,time_s,target,x,y,w,h,score,status"
TIME_DIGITS = 6
BOX_DIGITS = 4
SCORE_DIGITS = 4


class _TextSink(Closing, ABC):
    """Pass the lines of each frame to the system in one write: a kill leaves whole lines."""

    def __init__(
        self, path: str | Path, *, overwrite: bool = False, pictures: bool = False
    ) -> None:
        self._pictures = pictures
        header = self._header()
        self._growing = GrowingFile(path, overwrite=overwrite, blank=header.encode())
        self.path = self._growing.path
        self.count = 0  # frames written
        self._intact_bytes = 0
        self._file = self._growing.open()
        self._append(header)

    def write(
        self, frame_index: int, time_s: float, results: Mapping[int, Result], picture: str = ""
    ) -> None:
        """Write the results of one frame, by target number.

        Args:
            frame_index: number of the frame.
            time_s: its time.
            results: by target number.
            picture: its file, which is written if `pictures` was asked for.

        Raises:
            OutputError: a value is not finite, or the disk is full or gone; what was written
                before stays.
        """
        if self._file.closed:
            raise OutputError(f"{self.path} is closed; nothing more can be written to it")
        for target, result in results.items():
            if not all(map(math.isfinite, (time_s, *result.box, result.score))):
                raise OutputError(
                    f"frame {frame_index} of target {target} is at {time_s} s with box "
                    f"{tuple(result.box)} and score {result.score}; {self.path} takes finite "
                    "numbers only"
                )
        self._append(self._lines(frame_index, time_s, results, picture))
        self.count += 1
        self._growing.commit()

    def _append(self, text: str) -> None:
        data = to_bytes(text)
        written = 0
        try:
            # The system may take a part only.
            while written < len(data):
                taken = self._file.write(data[written:])
                if taken is None:  # a pipe that does not wait is full
                    select.select([], [self._file], [])
                written += taken or 0
        except OSError as error:
            self._finish(keep=self.count > 0)
            self._growing.cut(self._intact_bytes)
            raise self._growing.failed(error, self.count) from error
        self._intact_bytes += written

    def _header(self) -> str:
        return ""

    @abstractmethod
    def _lines(
        self, frame_index: int, time_s: float, results: Mapping[int, Result], picture: str
    ) -> str: ...

    def close(self) -> None:
        """Finish the file; may be called again."""
        self._finish(keep=True)

    def _finish(self, *, keep: bool) -> None:
        if self._file.closed:
            return
        self._file.close()
        if keep:
            self._growing.commit(final=True)
        else:
            self._growing.discard()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._finish(keep=self.count > 0 or kind is None)


class CsvSink(_TextSink):
    """A table with the columns of `CSV_HEADER`, one row per frame and target.

    x, y, w and h are px of the frame, 0-based, with four decimals; time_s has six.

    Example:
        >>> with CsvSink("boxes.csv") as table:  # doctest: +SKIP
        ...     table.write(0, 0.0, {0: Result((10.0, 20.0, 30.0, 40.0), 1.0, "tracked")})

    Args:
        path: file to write, its folder is made; `-` for standard output.
        overwrite: replace a file that exists, once there is a first row to replace it with.
        pictures: add a column `picture`, the file name of the frame in a folder of pictures.

    Raises:
        OutputError: the file exists and `overwrite` is False, or cannot be written.
    """

    def _header(self) -> str:
        return CSV_HEADER + (",picture" if self._pictures else "") + "\n"

    def _lines(
        self, frame_index: int, time_s: float, results: Mapping[int, Result], picture: str
    ) -> str:
        return csv_rows(frame_index, time_s, results, picture if self._pictures else None)


def csv_rows(
    frame_index: int, time_s: float, results: Mapping[int, Result], picture: str | None = None
) -> str:
    """The rows of one frame, as `CsvSink` writes them; with a column `picture` if it is given."""
    start = f"{frame_index},{time_s:.{TIME_DIGITS}f}"
    rows = []
    for target, result in results.items():
        box = ",".join(f"{value:.{BOX_DIGITS}f}" for value in result.box)
        row = f"{start},{target},{box},{result.score:.{SCORE_DIGITS}f},{result.status}"
        rows.append(f"{row}\n" if picture is None else f"{row},{_quote(picture)}\n")
    return "".join(rows)


class JsonLinesSink(_TextSink):
    """The same as `CsvSink` with one JSON object per line and frame.

    {"frame": 0, "time_s": 0.0, "targets": [{"target": 0, "box": [x, y, w, h], "score": 1.0,
    "status": "tracked"}]}
    """

    def _lines(
        self, frame_index: int, time_s: float, results: Mapping[int, Result], picture: str
    ) -> str:
        targets = [
            {
                "target": target,
                "box": [round(float(value), BOX_DIGITS) for value in result.box],
                "score": round(float(result.score), SCORE_DIGITS),
                "status": result.status,
            }
            for target, result in results.items()
        ]
        record: dict[str, Any] = {
            "frame": frame_index,
            "time_s": round(float(time_s), TIME_DIGITS),
            **({"picture": picture} if self._pictures else {}),
        }
        return json.dumps({**record, "targets": targets}, allow_nan=False) + "\n"


class MotSink(_TextSink):
    """The results format of MOTChallenge, one line per frame and target that is not lost."""

    def _lines(
        self, frame_index: int, time_s: float, results: Mapping[int, Result], picture: str
    ) -> str:
        return "".join(
            mot_line(frame_index, target, result.box, result.score)
            for target, result in results.items()
            if result.status != "lost"
        )


def mot_line(frame: int, target: int | None, box: Box, score: float, first_pixel: int = 0) -> str:
    r"""A line of MOTChallenge's results: frame and id from 1, box, score, and three times -1.

    Args:
        frame: from 0.
        target: from 0; None for a detection, whose id is -1.
        box: x, y, w, h in px, 0-based.
        score: 0 to 1.
        first_pixel: coordinate of the top-left pixel.

    Example:
        >>> mot_line(0, 0, (10.0, 20.0, 30.0, 40.0), 1.0)
        '1,1,10.00,20.00,30.00,40.00,1,-1,-1,-1\n'
    """
    x, y, w, h = box
    corner = f"{x + first_pixel:.2f},{y + first_pixel:.2f}"
    number = -1 if target is None else target + 1
    confidence = f"{score:.{SCORE_DIGITS}f}".rstrip("0").rstrip(".")
    return f"{frame + 1},{number},{corner},{w:.2f},{h:.2f},{confidence},-1,-1,-1\n"


def _quote(text: str) -> str:
    """A cell of a table; in quotes where it holds a comma, quotes or the end of a line."""
    return '"' + text.replace('"', '""') + '"' if re.search('[,"\r\n]', text) else text


# -- Whole tables


_NEEDED = ("frame", "target", "x", "y", "w", "h")
_NUMBERS = ("time_s", "x", "y", "w", "h", "score")
_STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class TableRow:
    """One target in one frame: a row of the table, and what other formats know beyond it.

    Attributes:
        frame: 0-based.
        target: number of the target, 0-based.
        box: x, y, w, h in px, 0-based; of a lost target, a guess.
        time_s: from the start of the clip; None when unknown.
        score, status: as in `Result`.
        picture: file name of the frame in a folder of pictures, where the table says it.
        label: class of the target, "" when unknown. It is not part of the table, as are:
        occluded: partly hidden.
        key: drawn or confirmed by a person, where the source says so.
    """

    frame: int
    target: int
    box: Box
    time_s: float | None = None
    score: float = 1.0
    status: Status = "tracked"
    picture: str = ""
    label: str = ""
    occluded: bool = False
    key: bool = False


def read_table(path: str | Path) -> list[TableRow]:
    """Read a table that `siamtrack track` wrote, CSV or JSON lines; the content decides which.

    Of a CSV, the columns time_s, score and status may be missing (time unknown, score 1,
    "tracked"), and columns that siamtrack does not write are ignored; semicolons or tabs may
    separate its columns, then with decimal commas. A row whose box is empty or nan says that the
    target is absent, and is left out.

    Returns:
        The rows in the order of the file.

    Raises:
        DatasetError: it cannot be read, is neither kind of table, or a row is malformed or there
            twice; the message names the line.
    """
    return [row for _, row in _rows_of(Path(path))]


def read_boxes(path: str | Path) -> dict[int, dict[int, Box]]:
    """Read the boxes that a person gives for a video, from a table as `read_table` reads it.

    The first box of a target, in frame order, starts it, later ones correct it. Rows with status
    lost are left out.

    Returns:
        Boxes by frame and target; x, y, w, h in px.

    Raises:
        DatasetError: it cannot be read, says two things of one target in one frame, or holds no
            box, or one that has no area; the message names the lines.
    """
    path = Path(path)
    boxes: dict[int, dict[int, Box]] = {}
    for line, row in _rows_of(path):
        if min(row.box[2:]) <= 0:
            raise DatasetError(
                f"{path} line {line}: box {list(row.box)} has no area; give x, y, w, h in px"
            )
        if row.status != "lost":
            boxes.setdefault(row.frame, {})[row.target] = row.box
    if not boxes:
        raise DatasetError(f"{path} holds no box; give a row with frame,target,x,y,w,h for each")
    return {frame: dict(sorted(boxes[frame].items())) for frame in sorted(boxes)}


def _rows_of(path: Path) -> list[tuple[int, TableRow]]:
    """The rows of a table with the numbers of their lines."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(
            f"{path} cannot be read as text: {reason}; give a table of boxes, CSV or JSON lines"
        ) from error
    is_empty_json = not text.strip() and path.suffix.lower() in (".json", ".jsonl")
    is_json = is_empty_json or text.lstrip().startswith("{")
    parse = _parse_json_lines if is_json else _parse_csv
    rows: list[tuple[int, TableRow]] = []
    seen: dict[tuple[int, int], int] = {}
    for line, cells in parse(path, text):
        try:
            row = _row_of(cells)
            if row is None:
                continue
            if before := seen.get((row.frame, row.target)):
                raise ValueError(
                    f"frame {row.frame} of target {row.target} is there twice, in line {before} "
                    "before; leave one of them"
                )
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            reason = f"has no {error}" if isinstance(error, KeyError) else error
            raise DatasetError(f"{path} line {line}: {reason}") from error
        seen[row.frame, row.target] = line
        rows.append((line, row))
    return rows


def write_table(
    path: str | Path,
    rows: Iterable[TableRow],
    *,
    kind: Literal["csv", "json"] | None = None,
    overwrite: bool = False,
) -> None:
    """Write rows as `siamtrack track` does.

    Rows are sorted by frame; those of one frame keep their order. What `read_table` read is written
    to the same digits.

    Args:
        path: file to write.
        rows: with a time each.
        kind: "json" for JSON lines; None: those to a .json or .jsonl file, else CSV.
        overwrite: replace a file that exists.

    Raises:
        OutputError: the file exists and `overwrite` is False, or cannot be written.
        DatasetError: a row has no time, is there twice, or could not be read again.
    """
    ordered = sorted(map(_writable, rows), key=lambda row: row.frame)
    frames: list[tuple[int, float, dict[int, Result], str]] = []
    for frame, of_frame in groupby(ordered, key=lambda row: row.frame):
        time_s, results, picture = None, dict[int, Result](), ""
        for row in of_frame:
            if row.target in results:
                raise DatasetError(f"frame {frame} of target {row.target} is there twice")
            results[row.target] = Result(row.box, row.score, row.status)
            time_s = row.time_s if time_s is None else time_s
            picture = picture or row.picture
        if time_s is None:
            raise DatasetError(f"frame {frame} has no time_s; give one, as frame / fps")
        frames.append((frame, time_s, results, picture))
    if kind is None:
        kind = "json" if Path(path).suffix.lower() in (".json", ".jsonl") else "csv"
    sink_type = JsonLinesSink if kind == "json" else CsvSink
    has_pictures = any(picture for *_, picture in frames)
    with sink_type(path, overwrite=overwrite, pictures=has_pictures) as sink:
        for frame, time_s, results, picture in frames:
            sink.write(frame, time_s, results, picture)


def _writable(row: TableRow) -> TableRow:
    """A row of plain numbers, as reading it would give it."""
    try:
        x, y, w, h = row.box
        cells: dict[str, Any] = {"frame": row.frame, "target": row.target, "picture": row.picture}
        cells |= {"x": x, "y": y, "w": w, "h": h, "score": row.score, "status": row.status}
        read = _row_of(cells if row.time_s is None else {**cells, "time_s": row.time_s})
    except (OverflowError, TypeError, ValueError) as error:
        raise DatasetError(f"row of frame {row.frame}, target {row.target}: {error}") from error
    return row if read is None else read


def separator_of(header: str) -> str:
    """What separates the columns of a table: a comma, or what spreadsheets write instead."""
    return max(",;\t", key=header.count)


def column_names(path: Path, header: Iterable[str], known: Sequence[str]) -> list[str]:
    """Names of a table's columns, without the spaces around them.

    Raises:
        DatasetError: one of the columns that are `known` is there twice.
    """
    names = [name.strip() for name in header]
    if twice := [name for name in known if names.count(name) > 1]:
        raise DatasetError(
            f"{path} has the column {' and '.join(twice)} twice; leave the one that is meant"
        )
    return names


def _parse_csv(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number of the line and cells of every row."""
    separator = separator_of(text.partition("\n")[0])
    reader = csv.DictReader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    names = column_names(path, reader.fieldnames or (), (*_NEEDED, "time_s", "score", "status"))
    if missing := [name for name in _NEEDED if name not in names]:
        raise DatasetError(
            f"{path} lacks the column {' and '.join(missing)}; give the CSV of siamtrack track, "
            "with a header"
        )
    reader.fieldnames = names
    try:
        for cells in reader:
            # The reader fills short rows with None, and puts what is too much under None.
            if None in cells or None in cells.values():
                raise DatasetError(
                    f"{path} line {reader.line_num}: has {'more' if None in cells else 'fewer'} "
                    f"cells than the {len(names)} of the header"
                )
            if separator != ",":  # where spreadsheets write decimal commas
                cells.update({k: cells[k].replace(",", ".") for k in _NUMBERS if k in cells})
            yield reader.line_num, {name: cell for name, cell in cells.items() if cell.strip()}
    except csv.Error as error:
        raise DatasetError(f"{path} line {reader.line_num}: {error}") from error


def _parse_json_lines(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The same for JSON lines."""
    for line, content in enumerate(text.splitlines(), 1):
        if not content.strip():
            continue
        try:
            frame = json.loads(content)
            shared = {name: frame[name] for name in ("frame", "time_s", "picture") if name in frame}
            targets = [
                {**shared, **target, **dict(zip("xywh", target["box"], strict=True))}
                for target in frame["targets"]
            ]
        except (KeyError, RecursionError, TypeError, ValueError) as error:
            raise DatasetError(
                f"{path} line {line}: is not what siamtrack track --json writes ({error}); a file "
                "that was cut off is readable without its last line"
            ) from error
        yield from ((line, cells) for cells in targets)


def _row_of(cells: Mapping[str, Any]) -> TableRow | None:
    """The row of one line's cells; None where it has no box."""
    frame, target = _whole(cells["frame"], "frame"), _whole(cells["target"], "target")
    status = str(cells.get("status", "tracked")).strip()
    if status not in _STATUSES:
        raise ValueError(f"status {status!r} is none of {', '.join(_STATUSES)}")
    x, y, w, h = (float(cells.get(name, "nan")) for name in "xywh")
    if any(map(math.isinf, (x, y, w, h))):
        raise ValueError(f"box {[x, y, w, h]} is not finite")
    time_s = float(cells["time_s"]) if "time_s" in cells else None
    score = float(cells.get("score", 1.0))
    if not 0 <= score <= 1:
        raise ValueError(f"score {score:g} is outside 0..1")
    if time_s is not None and not math.isfinite(time_s):
        raise ValueError(f"time_s {time_s} is not finite")
    absent = [math.isnan(number) for number in (x, y, w, h)]
    if all(absent):
        return None
    if any(absent):
        raise ValueError(
            f"box {[x, y, w, h]} is not complete; give x, y, w, h, or none of them where the "
            "target is absent"
        )
    picture = str(cells.get("picture", ""))
    return TableRow(frame, target, (x, y, w, h), time_s, score, status, picture)


def _whole(value: Any, name: str) -> int:
    """A number that counts from 0."""
    number = whole_number(value)
    if number is None:
        raise ValueError(f"{name} {value!r} is not a whole number")
    if number < 0:
        raise ValueError(f"{name} {value} is negative; frames and targets are counted from 0")
    return number
