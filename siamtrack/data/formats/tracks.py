"""The targets of one clip, as every format of tracks is read to and written from.

A format that holds tracks has two functions: `read_...` makes a `ClipTracks` of a file or folder,
`write_...` makes the text of every file, by its path in the output folder. `siamtrack.data.convert`
lists them. A box is 0-based and a frame is counted from 0 here; each format converts at its edge.

A target is absent in a frame that it has no row for. A row with status lost is kept by siamtrack's
own tables only; `siamtrack.data.convert` leaves it out for the others.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from siamtrack.errors import DatasetError
from siamtrack.geometry import clip_to_frame, iou
from siamtrack.types import Box
from siamtrack.utils.config import whole_number
from siamtrack.video.tables import TableRow

DEFAULT_LABEL = "object"
"""What targets without a label are called in formats that need one."""

MAX_FRAMES = 10_000_000
"""More frames than this, 90 hours, are a mistake in the file."""

FRAME_NAME = "frame_%06d"
"""Name of a picture of frame number %, 0-based, without its suffix."""


@dataclass(frozen=True, slots=True)
class ClipTracks:
    """The targets of one clip.

    Attributes:
        rows: sorted by target, then frame; one per target and frame.
        name: of the clip, as in "clip.mp4".
        frame_wh: width and height of its frames in px; None when unknown.
        frame_count: number of its frames; None when unknown.
        fps: its frames per second; None when unknown.
        notes: what the file held and tracks cannot, for the user.
    """

    rows: tuple[TableRow, ...]
    name: str = ""
    frame_wh: tuple[int, int] | None = None
    frame_count: int | None = None
    fps: float | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[TableRow], **facts: Any) -> ClipTracks:
        """Sort and check rows; `facts` are the other attributes.

        Raises:
            ValueError: a target has two boxes in one frame, a box has no area or is not finite, or
                there are more than `MAX_FRAMES` frames.
        """
        # Labels without control characters, which some formats cannot hold.
        one_line = (
            replace(row, label=re.sub(r"[\x00-\x1f\x7f]+", " ", row.label).strip()) for row in rows
        )
        unlabeled = (
            replace(row, label="") if row.label == DEFAULT_LABEL else row for row in one_line
        )
        ordered = sorted(unlabeled, key=lambda row: (row.target, row.frame))
        for row in ordered:
            if not all(map(math.isfinite, row.box)) or min(row.box[2:]) <= 0:
                raise ValueError(
                    f"box {list(row.box)} of target {row.target} in frame {row.frame} has no area"
                )
            if row.frame < 0:
                raise ValueError(
                    f"target {row.target} has a box in frame {row.frame}, before the first one"
                )
        _check_length(max([row.frame for row in ordered] + [facts.get("frame_count") or 0]))
        for row, following in pairwise(ordered):
            if (row.target, row.frame) == (following.target, following.frame):
                raise ValueError(f"target {row.target} has two boxes in frame {row.frame}")
        return cls(tuple(ordered), **facts)

    @property
    def targets(self) -> dict[int, list[TableRow]]:
        """Rows by target, in the order of frames."""
        found: dict[int, list[TableRow]] = defaultdict(list)
        for row in self.rows:
            found[row.target].append(row)
        return dict(found)

    @property
    def frames(self) -> dict[int, list[TableRow]]:
        """Rows by frame, in the order of targets; every frame of the clip is there."""
        found: dict[int, list[TableRow]] = {frame: [] for frame in range(self.length)}
        for row in self.rows:
            found[row.frame].append(row)
        return found

    @property
    def length(self) -> int:
        """Number of frames, at least up to the last row."""
        return max([row.frame + 1 for row in self.rows] + [self.frame_count or 0])

    @property
    def labels(self) -> list[str]:
        """Different labels, in the order of targets."""
        return list(dict.fromkeys(label_of(row) for row in self.rows))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames, which the caller needs."""
        if self.frame_wh is None:
            raise DatasetError(
                f"the frame size of {self.name} is not known; give --size W,H or --clip CLIP"
            )
        return self.frame_wh

    @property
    def rate(self) -> float:
        """Frames per second, which the caller needs."""
        if self.fps is None:
            raise DatasetError(
                f"the frame rate of {self.name} is not known; give --fps R or --clip CLIP"
            )
        return self.fps

    @property
    def stem(self) -> str:
        """Name of the clip without its suffix, fit for the name of a file."""
        return re.sub(r"[^\w.-]+", "_", PurePath(self.name).stem).strip("._") or "clip"


def label_of(row: TableRow) -> str:
    """The label, or the one that stands for none."""
    return row.label or DEFAULT_LABEL


def time_of(tracks: ClipTracks, row: TableRow) -> float:
    """Time of a row in s, by the frame rate where it has none."""
    return row.frame / tracks.rate if row.time_s is None else row.time_s


# --- Lines between key frames --------------------------------------------------------------------


def draw_lines(
    keys: Sequence[tuple[TableRow, bool]], frame_count: int | None
) -> Iterator[TableRow]:
    """Rows of every frame of one target, from its key frames, as labeling tools draw them.

    Args:
        keys: in the order of frames; with whether the target is absent from there on. An absent
            one's box is where the line from the key frame before it leads.
        frame_count: the last key frame holds up to the end of the clip; None: not beyond itself.

    Raises:
        ValueError: there are more than `MAX_FRAMES` frames.
    """
    _check_length(max([frame_count or 0] + [row.frame for row, _ in keys]))
    for (row, absent), (following, _) in pairwise(keys):
        for frame in range(row.frame, row.frame if absent else following.frame):
            share = (frame - row.frame) / (following.frame - row.frame)
            box = np.array(row.box) + share * (np.array(following.box) - np.array(row.box))
            x, y, w, h = box.tolist()
            yield replace(row, frame=frame, box=(x, y, w, h), key=row.key and frame == row.frame)
    if keys and not keys[-1][1]:
        row = keys[-1][0]
        for frame in range(row.frame, max(frame_count or 0, row.frame + 1)):
            yield replace(row, frame=frame, key=row.key and frame == row.frame)


def _check_length(frames: int) -> None:
    if frames > MAX_FRAMES:
        raise ValueError(f"has {frames} frames; more than {MAX_FRAMES} are a mistake in the file")


def stretches(rows: Sequence[TableRow]) -> list[list[TableRow]]:
    """Split the rows of one target where it is absent."""
    found: list[list[TableRow]] = []
    for row in rows:
        if found and row.frame == found[-1][-1].frame + 1:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def thin(tracks: ClipTracks, tolerance: float) -> ClipTracks:
    """Mark as key frames as few rows as straight lines between them need, and no others.

    Greedy: from each key frame the longest straight piece. Where a target comes and goes is always
    a key frame, and so is where it begins or ends to be occluded.

    Args:
        tracks: dense, see `draw_lines`.
        tolerance: at least 1: the largest error of a corner in px; below 1: the smallest overlap
            (IoU) of a line's box with the box it stands for.
    """
    marked: list[TableRow] = []
    for rows in tracks.targets.values():
        for stretch in stretches(rows):
            boxes = np.array([row.box for row in stretch])  # (N, 4)
            changes = [
                k
                for k in range(1, len(stretch))
                if (stretch[k].occluded, label_of(stretch[k]))
                != (stretch[k - 1].occluded, label_of(stretch[k - 1]))
            ]
            keys, start, last = {0}, 0, len(stretch) - 1
            while start < last:
                stop = min([k for k in changes if k > start] + [last])
                end = start + 1
                while end < stop and _is_straight(boxes[start : end + 2], tolerance):
                    end += 1
                keys.add(end)
                start = end
            marked += [replace(row, key=k in keys) for k, row in enumerate(stretch)]
    return replace(tracks, rows=tuple(marked))


def _is_straight(boxes: np.ndarray[Any, np.dtype[np.float64]], tolerance: float) -> bool:
    share = np.linspace(0, 1, len(boxes))[:, None]
    line = boxes[0] + share * (boxes[-1] - boxes[0])
    if tolerance < 1:
        return bool(iou(line, boxes).min() >= tolerance)
    off = np.abs(line - boxes)  # of left, top, width, height
    far = np.abs((line - boxes)[:, :2] + (line - boxes)[:, 2:])  # of right, bottom
    return bool(max(off[:, :2].max(), far.max()) <= tolerance)


def key_rows(rows: Sequence[TableRow]) -> list[TableRow]:
    """The rows of one target that tools need to draw the others: key frames, ends of stretches."""
    return [
        row
        for stretch in stretches(rows)
        for k, row in enumerate(stretch)
        if row.key or k in (0, len(stretch) - 1)
    ]


# --- Targets that a format does not number from 0 ------------------------------------------------


def number_targets(ids: Iterable[int | str], first: int = 1) -> dict[int | str, int]:
    """Number of the target for each id of a format that counts targets from `first`.

    Ids that are text, or below `first`, are kept where they are whole numbers from 0, else numbered
    in their order.
    """
    known = list(dict.fromkeys(ids))
    numbers = [i for i in known if isinstance(i, int) and i >= 0]
    if len(numbers) < len(known):
        return {i: number for number, i in enumerate(known)}
    shift = first if min(numbers, default=0) >= first else 0
    return {i: i - shift for i in numbers}


def with_ids(
    found: Sequence[tuple[Any, TableRow]],
    where: Path,
    *,
    first: int = 1,
    labels: Iterable[str] = (),
) -> list[TableRow]:
    """Rows with the number of their track, or of their label where no row has a track.

    Args:
        found: id of the track, or None, and row.
        where: the file, for messages.
        first: number of the format's first track.
        labels: those of the file, in its order, which targets without a track take over.

    Raises:
        ValueError: some have a track and others not.
    """
    ids = [track for track, _ in found if track is not None]
    if not ids:
        return targets_by_label([row for _, row in found], where, labels)
    if len(ids) < len(found):
        raise ValueError(f"{len(found) - len(ids)} of {len(found)} boxes have no track id")
    texts = [str(track) for track in ids]
    wholes = [whole_number(text) for text in texts if re.fullmatch(r"-?\d+(\.0)?", text)]
    numbered = [number for number in wholes if number is not None]
    keys: Sequence[int | str] = numbered if len(numbered) == len(texts) else texts
    numbers = number_targets(keys, first)
    return [replace(row, target=numbers[key]) for key, (_, row) in zip(keys, found, strict=True)]


def targets_by_label(
    rows: Sequence[TableRow], where: Path, labels: Iterable[str]
) -> list[TableRow]:
    """Number the targets of a format without tracks, where no frame has two of the same label.

    They are in the order of `labels`, then of the rows.

    Raises:
        ValueError: one has.
    """
    for (frame, label), count in Counter((row.frame, row.label) for row in rows).items():
        if count > 1:
            raise ValueError(
                f"{where.name} has no track ids, and frame {frame} has {count} boxes of "
                f"{label!r}; which is which cannot be known: export it with track ids"
            )
    used = {row.label for row in rows}
    ordered = dict.fromkeys([*labels, *(row.label for row in rows)])
    numbers = {label: number for number, label in enumerate(k for k in ordered if k in used)}
    return [replace(row, target=numbers[row.label]) for row in rows]


def frames_of_names(names: Iterable[str]) -> dict[str, int]:
    """Frame of each file or item, by the number at the end of its name, as in frame_000012.jpg.

    Where the lowest number is 1, the first frame has it: programs that extract pictures, and
    Ultralytics, count so.

    Raises:
        ValueError: a name has no number.
    """
    numbers = {name: frame_of_name(name) for name in names}
    first = 1 if min(numbers.values(), default=0) == 1 else 0
    return {name: number - first for name, number in numbers.items()}


def frame_of_name(name: str) -> int:
    """The number at the end of a file's name, as 12 in frame_000012.jpg.

    Raises:
        ValueError: it has none.
    """
    digits = re.search(r"(\d+)$", PurePath(name).stem)
    if digits is None:
        raise ValueError(f"{name!r} has no frame number at its end, as frame_000012 has")
    return int(digits[1])


# --- Numbers and text ----------------------------------------------------------------------------


def finite(value: Any, what: str) -> float:
    """A finite number of a file.

    Raises:
        ValueError: it is none.
    """
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{what} is {value!r}, which is not a number")
    return number


def whole(value: Any, what: str) -> int:
    """A whole number of a file.

    Raises:
        ValueError: it is none.
    """
    number = whole_number(value)
    if number is None:
        raise ValueError(f"{what} is {value!r}, which is not a whole number")
    return number


def score_of(value: Any) -> float:
    """A score in [0, 1]; other scales, as -1 for "none", become 1."""
    number = finite(value, "score")
    return number if 0 <= number <= 1 else 1.0


def tidy(value: float, digits: int = 4) -> str:
    """A number with at most so many decimals and no zeros at the end, as 12.5 or 8."""
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def json_number(value: float, digits: int = 4) -> float | int:
    """A number for JSON, without a point where it is whole."""
    rounded = round(float(value), digits)
    return int(rounded) if rounded.is_integer() else rounded


def json_text(content: Any) -> str:
    """JSON of one file."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


def clipped(tracks: ClipTracks) -> ClipTracks:
    """The tracks with boxes cut at the frame's border, for formats that allow nothing beyond."""
    rows = []
    for row in tracks.rows:
        x, y, w, h = clip_to_frame(row.box, tracks.size).tolist()
        if w > 0 and h > 0:
            rows.append(replace(row, box=(x, y, w, h)))
    return replace(tracks, rows=tuple(rows))


def enclose(box: Box, degrees: float, pivot_xy: tuple[float, float]) -> Box:
    """The upright box around one that is turned about a point."""
    x, y, w, h = box
    angle = math.radians(degrees)
    corners = np.array([[x, y], [x + w, y], [x, y + h], [x + w, y + h]]) - pivot_xy
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    turned = corners @ turn + pivot_xy
    (left, top), (right, bottom) = turned.min(axis=0).tolist(), turned.max(axis=0).tolist()
    return left, top, right - left, bottom - top


def count_notes(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Lines such as "2 tracks of polygons left out" of what was counted while reading."""
    return tuple(f"{count} {what}" for what, count in counts.items() if count)
