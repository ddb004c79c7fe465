"""Projects of `siamtrack studio`: the folder CLIP.siamtrack, which the studio may have open.

What is read is what an export of the studio writes: the box of every frame, as `resolve` decides.
What is written is what an import of the studio makes: key frames of new targets, and the boxes
between them as runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np

from siamtrack._version import __version__
from siamtrack.data.formats.tracks import ClipTracks, stretches, thin
from siamtrack.data.project_files import (
    RUNS,
    SNAPSHOT,
    ProjectSnapshot,
    read_journal,
    read_rows,
    read_snapshot,
    replay_all,
    rows_path,
)
from siamtrack.data.project_state import (
    COLORS,
    MAX_TEXT,
    Edit,
    RunInfo,
    TargetInfo,
    apply_edits,
    cut_run,
    key_to_json,
    track_of,
)
from siamtrack.errors import DatasetError
from siamtrack.tracking.track import KEY, ROW, STATUSES, KeyFrame, ResolvedRows, Rows, resolve
from siamtrack.video.tables import TableRow

IMPORT_IOU = 0.9
"""Key frames of an import: as few as straight lines between them need to overlap so much."""


def read_project(folder: str | Path) -> list[TableRow]:
    """Read the boxes of a project of `siamtrack studio`, in every frame that has one.

    The studio may have it open: what it has acknowledged is read.

    Args:
        folder: CLIP.siamtrack.

    Returns:
        Rows by target, then frame, as an export of the studio has them; without times, which
        `siamtrack convert PROJECT OUT.csv --clip CLIP` adds.

    Raises:
        DatasetError: there is no project, or it is damaged or of a newer version.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder; give that of a project, CLIP.siamtrack")
    return list(read_studio(folder).rows)


def read_studio(path: Path, **_: object) -> ClipTracks:
    """Read a project, given by its folder or its project.json."""
    folder = path.parent if path.name == SNAPSHOT else path
    snapshot, journal = read_snapshot(folder), read_journal(folder)
    if snapshot is None:
        raise DatasetError(f"{folder} holds no {SNAPSHOT}; give the folder CLIP.siamtrack")
    replay_all(snapshot, journal, folder)
    state, clip = snapshot.state, snapshot.clip
    for run in state.runs.values():
        if not run.file.isdecimal():  # it would be read from elsewhere
            raise DatasetError(f"{folder / SNAPSHOT} is damaged: {run.file!r} names no run")
    last = [frame for keys in state.keys.values() for frame in keys]
    count = clip.get("frames") or max(last, default=-1) + 1
    rows: list[TableRow] = []
    rows_of_file = lru_cache(maxsize=1)(lambda name: read_rows(rows_path(folder, name)))
    for number, info in state.targets.items():
        track = track_of(state, number, lambda run: cut_run(run, rows_of_file(run.file)))
        if count:
            rows += rows_of(number, info, resolve(track, 0, count - 1))
    size = clip.get("width"), clip.get("height")
    return ClipTracks.of(
        rows,
        name=clip.get("name") or folder.stem,
        frame_wh=size if all(size) else None,
        frame_count=clip.get("frames"),
        fps=clip.get("fps"),
    )


def rows_of(
    number: int, info: TargetInfo, found: ResolvedRows, times_s: Sequence[float] | None = None
) -> list[TableRow]:
    """Rows of one target; stale ones are left out."""
    return [
        TableRow(
            frame,
            number,
            result.box,
            None if times_s is None else times_s[frame],
            result.score,
            result.status,
            label=info.label,
            occluded=bool(found.occluded[frame - found.first]),
            key=bool(found.sources[frame - found.first] == KEY),
        )
        for frame, result in found.results().items()
    ]


def write_studio(tracks: ClipTracks, **_: object) -> dict[str, str | bytes]:
    """A new project, with the key frames that the rows mark, or as few as lines need."""
    width, height = tracks.size
    files: dict[str, str | bytes] = {}

    def keep(rows: Rows) -> str:
        name = f"{len(files):06d}"
        files[f"{RUNS}/{name}.rows"] = rows.tobytes()
        return name

    is_marked = any(row.key for row in tracks.rows)
    marked = tracks if is_marked else thin(tracks, IMPORT_IOU)
    snapshot = ProjectSnapshot()
    snapshot.clip = {
        "name": tracks.name,
        "frames": tracks.frame_count,
        "width": width,
        "height": height,
        "fps": tracks.fps,
    }
    apply_edits(snapshot.state, import_edits(marked.targets, tracks.length, keep)[0])
    files[SNAPSHOT] = json.dumps(snapshot.to_json(__version__), allow_nan=False, indent=1)
    return files


def import_edits(
    targets: Mapping[int, Sequence[TableRow]],
    frame_count: int,
    keep_rows: Callable[[Rows], str],
    *,
    next_target: int = 0,
    next_run: int = 0,
    only_keys: bool = False,
) -> tuple[list[Edit], list[int], int]:
    """Edits that make new targets of rows.

    Args:
        targets: rows by target, in the order of frames. Key frames are those that are marked, and
            where a target comes or begins or ends to be occluded; what they say holds on.
        frame_count: number of frames of the clip.
        keep_rows: keeps the rows of a run and returns the name of their file.
        next_target: number of the first new target.
        next_run: number of the first new run.
        only_keys: every row is a key frame.

    Returns:
        The edits, the numbers of the targets, and how many key frames they have.
    """
    edits: list[Edit] = []
    created: list[int] = []
    keys = 0
    for old, rows in targets.items():
        number = next_target + len(created)
        created.append(number)
        info = TargetInfo(f"target {old}", rows[0].label[:MAX_TEXT], number % COLORS)
        edits.append(["target", number, asdict(info)])
        marks = _key_frames(rows, only_keys=only_keys)
        between = [row for row in rows if row.frame not in marks]
        file = keep_rows(_table(between)) if between else ""
        keys += len(marks)
        for stretch in stretches(rows):
            at = [k for k, row in enumerate(stretch) if row.frame in marks]
            for k, following in zip(at, [*at[1:], len(stretch)], strict=True):
                row = stretch[k]
                key = KeyFrame(row.box, row.occluded, "import")
                edits.append(["key", number, row.frame, key_to_json(key)])
                if following > k + 1:
                    last = stretch[following - 1].frame
                    run = RunInfo(number, row.frame, row.box, 1, 1, file, "import", last=last)
                    edits.append(["run", f"{next_run:06d}", asdict(run)])
                    next_run += 1
            after = stretch[-1].frame + 1
            if after < frame_count:
                gone = KeyFrame(None, by="import")
                edits.append(["key", number, after, key_to_json(gone)])
    return edits, created, keys


def _key_frames(rows: Sequence[TableRow], *, only_keys: bool) -> set[int]:
    """Frames of the rows of one target that become key frames."""
    return {
        row.frame
        for stretch in stretches(rows)
        for k, row in enumerate(stretch)
        if k == 0 or only_keys or row.key or row.occluded != stretch[k - 1].occluded
    }


def _table(rows: Sequence[TableRow]) -> Rows:
    table = np.zeros(len(rows), ROW)
    table["frame"] = [row.frame for row in rows]
    table["box"] = [row.box for row in rows]
    table["score"] = [row.score for row in rows]
    table["status"] = [STATUSES[row.status] for row in rows]
    return table
