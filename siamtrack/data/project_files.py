"""How a project of the studio lies in its folder, and how it is read without changing anything.

project.json    the state as of one revision
journal.jsonl   one operation a line; those with a higher revision are not in project.json yet
runs/N.rows     the rows of a run, as `siamtrack.tracking.track.ROW`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from siamtrack.data.project_state import ProjectState, apply_edits
from siamtrack.errors import DatasetError
from siamtrack.tracking.track import ROW, Rows
from siamtrack.utils.files import parse_json

FORMAT, FORMAT_VERSION = "siamtrack-project", 1
SNAPSHOT, JOURNAL, RUNS = "project.json", "journal.jsonl", "runs"
PROJECT_SUFFIX = ".siamtrack"
"""What the name of a clip gets for its project, which lies beside it."""


@dataclass(slots=True)
class ProjectSnapshot:
    """What project.json holds.

    Attributes:
        state: as of `revision`.
        revision: how many operations there were.
        clip: name, size, mtime_ns, frames, width, height, fps and fingerprint of the clip, as far
            as they are known.
    """

    state: ProjectState = field(default_factory=ProjectState)
    revision: int = 0
    clip: dict[str, Any] = field(default_factory=dict)

    def to_json(self, version: str) -> dict[str, Any]:
        """Content of project.json, written by this version of siamtrack."""
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "written_by": version,
            "clip": self.clip,
            "revision": self.revision,
            **self.state.to_json(),
        }

    def replay(self, entry: dict[str, Any]) -> None:
        """Take in a line of the journal, which the state may have already.

        Raises:
            KeyError, TypeError, ValueError: it is damaged.
        """
        revision = int(entry["r"])
        if revision > self.revision:
            apply_edits(self.state, entry["do"])
            self.revision = revision


@dataclass(frozen=True, slots=True)
class Journal:
    """The lines of a journal.

    Attributes:
        entries: number and content of each line.
        whole_bytes: size up to the end of the last whole line.
        is_torn: a last line was cut off while it was written, so it was never acknowledged.
    """

    entries: list[tuple[int, dict[str, Any]]]
    whole_bytes: int
    is_torn: bool


def read_snapshot(folder: Path) -> ProjectSnapshot | None:
    """Read project.json; None where there is none.

    Raises:
        DatasetError: it is of a newer version, or damaged.
    """
    path = folder / SNAPSHOT
    if not path.exists():
        return None
    try:
        content = parse_json(path.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        version = content["version"]
        if type(version) is not int or version > FORMAT_VERSION:
            raise DatasetError(
                f"{path} was written by siamtrack {content.get('written_by')} in version "
                f"{version} of the format, which is newer than {FORMAT_VERSION}; it is left as "
                "it is: update siamtrack"
            )
        state = ProjectState.from_json(content)
        return ProjectSnapshot(state, int(content["revision"]), dict(content["clip"]))
    except DatasetError:
        raise
    except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{path} is damaged ({error!r}); it is left as it is: restore it from a copy, or "
            f"move {folder} away to begin anew"
        ) from error


def read_journal(folder: Path) -> Journal:
    """Read the lines of journal.jsonl.

    Raises:
        DatasetError: a line before the last one is damaged.
    """
    path = folder / JOURNAL
    data = path.read_bytes() if path.exists() else b""
    lines = data.split(b"\n")
    entries: list[tuple[int, dict[str, Any]]] = []
    whole_bytes = 0
    for number, line in enumerate(lines, 1):
        is_last = number >= len(lines) - (not lines[-1])
        if not line:
            continue
        try:
            if number == len(lines):
                raise ValueError("it has no end")
            entry = parse_json(line)
            if not isinstance(entry, dict):
                raise ValueError("it is no object")
        except ValueError as error:
            if is_last:
                return Journal(entries, whole_bytes, is_torn=True)
            raise _damaged_line(folder, number, error) from error
        entries.append((number, entry))
        whole_bytes += len(line) + 1
    return Journal(entries, whole_bytes, is_torn=False)


def replay_all(
    snapshot: ProjectSnapshot,
    journal: Journal,
    folder: Path,
    note: Callable[[dict[str, Any]], object] = lambda entry: None,
) -> None:
    """Bring a snapshot to the state of its journal.

    Args:
        snapshot: is changed.
        journal: of the same project.
        folder: of both, for messages.
        note: called with every line.

    Raises:
        DatasetError: a line of the journal is damaged.
    """
    for number, entry in journal.entries:
        try:
            snapshot.replay(entry)
            note(entry)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise _damaged_line(folder, number, error) from error


def _damaged_line(folder: Path, number: int, error: Exception) -> DatasetError:
    return DatasetError(
        f"{folder / JOURNAL} line {number} is damaged ({error!r}); the project is left as it is: "
        "restore the folder from a copy, or move it away to begin anew"
    )


def rows_path(folder: Path, name: str, suffix: str = ".rows") -> Path:
    """File of the rows of a run."""
    return folder / RUNS / f"{name}{suffix}"


def read_rows(path: Path, skip: int = 0) -> Rows:
    """Whole rows of a file that may still grow, after the first `skip`; none where it is gone."""
    try:
        with path.open("rb") as file:
            file.seek(skip * ROW.itemsize)
            data = file.read()
    except FileNotFoundError:
        data = b""
    return np.frombuffer(data[: len(data) - len(data) % ROW.itemsize], ROW)
