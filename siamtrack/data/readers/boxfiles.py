"""Text files of boxes: plain lines, and the table that `siamtrack track` writes."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import DatasetError
from siamtrack.geometry import FloatArray

_FOUR = 4
_NEEDED = ("frame", "target", "x", "y", "w", "h")
_STATUSES = ("tracked", "uncertain", "lost")


@dataclass(frozen=True, eq=False)
class TrackRows:
    """Rows of one target, by ascending frame number.

    Attributes:
        frames: (M,) int64 frame numbers.
        boxes: (M, 4) float64 xywh px, NaN where the target is absent.
    """

    frames: NDArray[np.int64]
    boxes: FloatArray


def read_boxes(path: Path) -> FloatArray:
    """Read a line `x,y,w,h` per frame; commas, semicolons and blanks all separate.

    Returns:
        (N, 4) float64, NaN where the target is absent.

    Raises:
        DatasetError: it cannot be read, or a line is not four numbers.
    """
    rows = []
    for number, line in enumerate(_lines(path), 1):
        try:
            rows.append(_four(line))
        except ValueError as error:
            raise DatasetError(
                f"{path} line {number} is {line[:60]!r}; give x,y,w,h for every frame, nan,nan,"
                "nan,nan where the target is absent"
            ) from error
    return np.array(rows, np.float64).reshape(-1, _FOUR)


def looks_like_boxes(path: Path) -> bool:
    """Whether the first line is four numbers, or the header of a table of tracks."""
    try:
        first = next(iter(_lines(path)), "")
        _four(first)
    except DatasetError:
        return False
    except ValueError:
        return set(_NEEDED) <= {cell.strip() for cell in first.split(",")}
    return True


def read_track_csv(path: Path, *, keep_uncertain: bool = True) -> dict[int, TrackRows]:
    """Read the table that `siamtrack track` writes.

    Args:
        path: CSV with a header; columns beyond frame, target, x, y, w, h and status are ignored.
        keep_uncertain: whether rows with status uncertain are boxes; otherwise they are absent.

    Returns:
        Target number to its rows.

    Raises:
        DatasetError: a column is missing, or a row is malformed or there twice.
    """
    tables: dict[int, dict[int, FloatArray]] = {}
    reader = csv.DictReader(_lines(path))
    missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
    if missing:
        raise DatasetError(
            f"{path} lacks the column {' and '.join(missing)}; give the CSV of siamtrack track, "
            "with a header"
        )
    for row in reader:
        try:
            frame, target = int(row["frame"]), int(row["target"])
            box = _row_box(row, keep_uncertain)
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{path} line {reader.line_num}: {error}") from error
        table = tables.setdefault(target, {})
        if frame in table or frame < 0:
            wrong = "is negative" if frame < 0 else f"of target {target} is there twice"
            raise DatasetError(f"{path} line {reader.line_num}: frame {frame} {wrong}")
        table[frame] = box
    return {
        target: TrackRows(np.array(sorted(table)), np.array([table[f] for f in sorted(table)]))
        for target, table in tables.items()
    }


def _row_box(row: dict[str, str], keep_uncertain: bool) -> FloatArray:
    status = row.get("status") or "tracked"
    if status not in _STATUSES:
        raise ValueError(f"status {status!r} is none of {', '.join(_STATUSES)}")
    if status == "lost" or (status == "uncertain" and not keep_uncertain):
        return np.full(_FOUR, np.nan)
    box = [float(row[name]) for name in _NEEDED[2:]]
    if any(math.isinf(value) for value in box):
        raise ValueError(f"box {box} is not finite")
    return np.array(box)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as text: {error}") from error


def _four(line: str) -> list[float]:
    values = [float(text) for text in line.replace(",", " ").replace(";", " ").split()]
    if len(values) != _FOUR or any(map(math.isinf, values)):
        raise ValueError(f"{line!r} is not four numbers")
    return values
