"""The folder of a project: what was acknowledged is in it, whatever ends the program.

project.json    the state as of one revision, written whole: every so many operations, and at exit
journal.jsonl   one operation a line, on disk before it is acknowledged; also what undo walks
runs/N.rows     the rows of a run; N.part while it is tracked, with N.json saying what it is
frames.idx.npz  times and fingerprints of the clip's frames, which may be deleted
lock            held by the process that has the project open

The state is that of project.json with the later lines of the journal. A last line that was cut off
was not acknowledged and is dropped.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from siamtrack._version import __version__
from siamtrack.data.project_files import (
    JOURNAL,
    RUNS,
    SNAPSHOT,
    ProjectSnapshot,
    read_journal,
    read_rows,
    read_snapshot,
    replay_all,
    rows_path,
)
from siamtrack.data.project_state import Edit, RunInfo, apply_edits
from siamtrack.errors import OutputError
from siamtrack.tracking.track import ROW, Rows
from siamtrack.utils.files import Closing, atomic_write, parse_json

SNAPSHOT_EVERY = 200
"""Operations between two snapshots. Raising it makes opening slower, lowering it writing."""
KEPT_ENTRIES = 1000
"""Operations that can be undone."""
SYNC_ROWS = 100
"""Rows of a run between two syncs to disk: about what a power cut may cost."""


class DiskError(OutputError):
    """An operation could not be written; nothing was changed."""


class ProjectStore(Closing):
    """One project on disk, held by this process.

    Args:
        folder: made if it is not there.

    Attributes:
        state: the project as it is.
        revision: grows by one with every operation, undo and redo.
        is_new: nothing was there.
        clip: what the snapshot says of the clip; empty for a new project.
        notes: what was found wrong and mended, for the user.
        changed_at: time of the last operation, as in "2026-11-30T20:15:00+00:00"; None before.

    Raises:
        OutputError: another process has it open, or the folder cannot be written to.
        DatasetError: it is of a newer version, or damaged; it is left as it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[str] = []
        self.changed_at: str | None = None
        try:
            (folder / RUNS).mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder / "lock")
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(
                f"the project folder {folder} cannot be written ({error.strerror}); give another "
                "place with --project DIR"
            ) from error
        try:
            self._open()
        except BaseException:
            self._lock.close()
            raise

    def _open(self) -> None:
        snapshot, journal = read_snapshot(self.folder), read_journal(self.folder)
        self.is_new = snapshot is None
        snapshot = snapshot or ProjectSnapshot()
        self._snapshot_revision = snapshot.revision
        self._undo: list[dict[str, Any]] = []
        self._redo: list[dict[str, Any]] = []
        replay_all(snapshot, journal, self.folder, self._note)
        self.state, self.revision, self.clip = snapshot.state, snapshot.revision, snapshot.clip
        self._entries = len(journal.entries)
        self._journal_path = self.folder / JOURNAL
        try:
            if journal.is_torn:
                os.truncate(self._journal_path, journal.whole_bytes)
            self._journal = self._journal_path.open("ab", buffering=0)
        except OSError as error:
            raise OutputError(f"cannot write {self._journal_path}: {error.strerror}") from error
        if journal.is_torn:
            self.notes.append("the last change was cut off while it was written, and is dropped")

    def _note(self, entry: dict[str, Any]) -> None:
        """Keep the lists of what can be undone and redone."""
        self.changed_at = entry.get("t", self.changed_at)
        kind = entry.get("kind", "do")
        if kind == "undo":
            self._redo.append(self._undo.pop())
        elif kind == "redo":
            self._undo.append(self._redo.pop())
        else:
            self._undo.append(entry)
            del self._undo[:-KEPT_ENTRIES]
            if entry["by"] == "hand":
                self._redo.clear()

    # -- Writing

    @property
    def undo_text(self) -> str | None:
        """What would be undone."""
        return self._undo[-1]["text"] if self._undo else None

    @property
    def redo_text(self) -> str | None:
        """What would be done again."""
        return self._redo[-1]["text"] if self._redo else None

    def commit(self, edits: Sequence[Edit], inverse: Sequence[Edit], text: str, by: str) -> None:
        """Keep an operation that was applied to the state; it is on disk when this returns.

        Args:
            edits: what it did.
            inverse: what undoes it.
            text: what it is called.
            by: "hand" or "tracker".

        Raises:
            DiskError: it cannot be written; the state is as it was before the operation.
        """
        entry = {"text": text, "by": by, "do": list(edits), "undo": list(inverse)}
        self._append(entry, inverse)

    def undo(self) -> dict[str, Any] | None:
        """Undo the last operation; returns its line of the journal, None if there is none."""
        return self._walk("undo", self._undo)

    def redo(self) -> dict[str, Any] | None:
        """Do again what was undone last."""
        return self._walk("redo", self._redo)

    def _walk(self, kind: str, entries: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        if not entries:
            return None
        entry = entries[-1]
        edits = entry["undo" if kind == "undo" else "do"]
        inverse = apply_edits(self.state, edits)
        self._append({"kind": kind, "of": entry["r"], "do": edits}, inverse)
        return entry

    def _append(self, entry: dict[str, Any], inverse: Sequence[Edit]) -> None:
        entry = {"r": self.revision + 1, "t": datetime.now(UTC).isoformat("T", "seconds"), **entry}
        line = json.dumps(entry, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        size = os.fstat(self._journal.fileno()).st_size
        try:
            write_all(self._journal, line)
            os.fsync(self._journal.fileno())
        except OSError as error:
            with suppress(OSError):
                self._journal.truncate(size)
            apply_edits(self.state, inverse)
            raise DiskError(
                f"{self._journal_path} cannot be written ({error.strerror}); nothing was changed: "
                "free some space, then do it again"
            ) from error
        self.revision += 1
        self._entries += 1
        self._note(entry)
        if self.revision - self._snapshot_revision >= SNAPSHOT_EVERY:
            # The journal has it all; the next operation tries again.
            with suppress(OutputError):
                self.write_snapshot()

    def write_snapshot(self) -> None:
        """Write project.json, and drop lines of the journal that nobody can undo any more.

        Raises:
            OutputError: it cannot be written; the old one is still there.
        """
        content = ProjectSnapshot(self.state, self.revision, self.clip).to_json(__version__)
        atomic_write(self.folder / SNAPSHOT, json.dumps(content, allow_nan=False, indent=1))
        _sync_folder(self.folder)
        self._snapshot_revision = self.revision
        if self._entries > 2 * KEPT_ENTRIES:
            self._shorten_journal()

    def _shorten_journal(self) -> None:
        lines = self._journal_path.read_bytes().splitlines(keepends=True)[-KEPT_ENTRIES:]
        # Undo and redo of what is cut off would lead nowhere: begin after them.
        known: set[int] = set()
        for k, line in enumerate(lines):
            entry = json.loads(line)
            known.add(entry["r"])
            if entry.get("of", entry["r"]) not in known:
                known.clear()
                lines[: k + 1] = [b""] * (k + 1)
        atomic_write(self._journal_path, b"".join(lines))
        self._journal.close()
        self._journal = self._journal_path.open("ab", buffering=0)
        self._entries = sum(map(bool, lines))

    def abandon(self) -> None:
        """Let others open the project, without a last snapshot."""
        self._journal.close()
        self._lock.close()

    def close(self) -> None:
        """Write a last snapshot and let others open the project."""
        if self._journal.closed:
            return
        with suppress(OutputError):
            self.write_snapshot()
        self._journal.close()
        self._lock.close()

    # -- Runs

    def read_rows(self, name: str) -> Rows:
        """Rows of a run; none where its file is gone."""
        return read_rows(rows_path(self.folder, name))

    def write_rows(self, rows: Rows) -> str:
        """Keep rows that are no run of the tracker; returns the name of their file."""
        name = self.new_file()
        atomic_write(rows_path(self.folder, name), rows.tobytes())
        return name

    def new_file(self) -> str:
        """A name for the rows of a run that no file has."""
        names = {path.stem for path in (self.folder / RUNS).iterdir()}
        return f"{max((int(name) for name in names if name.isdecimal()), default=-1) + 1:06d}"

    def begin_rows(self, name: str, info: RunInfo) -> Path:
        """File for the tracker to append rows to; `info` says what it is, should all end here."""
        atomic_write(rows_path(self.folder, name, ".json"), json.dumps(asdict(info)))
        path = rows_path(self.folder, name, ".part")
        path.touch()
        return path

    def finish_rows(self, name: str) -> Rows:
        """Keep what the tracker wrote, up to its last whole row."""
        part = rows_path(self.folder, name, ".part")
        if not part.exists():
            return self.read_rows(name)
        with part.open("rb+") as file:
            size = os.fstat(file.fileno()).st_size
            file.truncate(size - size % ROW.itemsize)
            os.fsync(file.fileno())
        os.replace(part, rows_path(self.folder, name))
        _sync_folder(part.parent)
        return self.read_rows(name)

    def end_rows(self, name: str) -> None:
        """Forget that a run was begun: it is in the journal, or has no rows and is removed."""
        if not any(run.file == name for run in self.state.runs.values()):
            rows_path(self.folder, name).unlink(missing_ok=True)
        rows_path(self.folder, name, ".json").unlink(missing_ok=True)

    def unfinished_rows(self) -> dict[str, RunInfo]:
        """Runs that were begun and are not in the journal: the program was killed."""
        found: dict[str, RunInfo] = {}
        for note in sorted((self.folder / RUNS).glob("*.json")):
            with suppress(OSError, KeyError, TypeError, ValueError):
                content = parse_json(note.read_bytes())
                found[note.stem] = RunInfo(**{**content, "box": tuple(content["box"])})
        return found


def write_all(file: FileIO, data: bytes) -> None:
    """Write all bytes, of which the system may take a part at a time."""
    written = 0
    while written < len(data):
        taken = file.write(data[written:])
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += taken


def _sync_folder(folder: Path) -> None:
    """Make a rename last; where folders cannot be synced, the system does it by itself."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lock(path: Path) -> FileIO:
    """Hold the lock of a project for as long as the file returned is open."""
    file = FileIO(path, "a+")
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 20)  # beyond the text, which others may read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        owner = file.read(200).decode(errors="replace").split("\n")[0]
        file.close()
        raise OutputError(
            f"the project {path.parent} is open in process {owner or 'unknown'}; close that one "
            "first, or give another place with --project DIR"
        ) from error
    file.truncate(0)
    started = datetime.fromtimestamp(time.time(), UTC).isoformat("T", "seconds")
    file.write(f"{os.getpid()} on {socket.gethostname()}, since {started}\n".encode())
    return file
