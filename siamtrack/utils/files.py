"""Files: atomic writes, files that readers may follow while they grow, hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, Self, TypeAlias
from uuid import uuid4

from siamtrack.errors import OutputError, shown


def atomic_write(path: Path, content: str | bytes, advice: str = "") -> None:
    """Write a whole file or nothing, over one that exists; folders are made.

    Args:
        path: the file.
        content: text is written as UTF-8.
        advice: what the user can do about a failure, for the error message.

    Raises:
        OutputError: it cannot be written; what was there is still there.
    """
    try:
        with _replacing(path, path.with_name(f".{path.name}.{uuid4().hex}.part")) as part:
            part.write_bytes(to_bytes(content) if isinstance(content, str) else content)
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
    except OSError as error:
        raise _cannot_write(path, error, advice) from error


def append_whole(path: Path, content: bytes, advice: str = "") -> None:
    """Add to the end of a file, all of it or nothing.

    Args:
        path: the file; it is made, its folder is not.
        content: such as a line with its end.
        advice: what the user can do about a failure, for the error message.

    Raises:
        OutputError: it cannot be written; the file is as it was.
    """
    try:
        with path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                rest = content
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                file.truncate(before)
                raise
    except OSError as error:
        raise _cannot_write(path, error, advice) from error


def _cannot_write(path: Path, error: OSError, advice: str) -> OutputError:
    problem = f"cannot write {path}: {error.strerror or error}"
    return OutputError(f"{problem}; {advice}" if advice else problem)


def to_bytes(text: str) -> bytes:
    r"""Text as UTF-8. Bytes of file names that are none, of older systems, become `\udcf6`."""
    return text.encode("utf-8", "backslashreplace")


def atomic_path(path: Path) -> AbstractContextManager[Path]:
    """A hidden path beside `path` to write a file or a folder to; renamed to `path` at the end.

    If the block raises, what it wrote is removed and `path` is as it was. For folders, and for
    files that a library writes by name. Raises `OSError` where renaming fails.
    """
    # The suffix stays: libraries choose the format by it.
    return _replacing(path, path.with_name(f".{path.stem}.{uuid4().hex}.part{path.suffix}"))


@contextmanager
def _replacing(path: Path, part: Path) -> Iterator[Path]:
    """Rename `part` to `path` at the end of the block, or remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        os.replace(part, path)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            with suppress(OSError):
                part.unlink()


def walk_files(folder: Path) -> Iterator[Path]:
    """Files in a folder at any depth, sorted, through links too; a link that leads back ends."""
    yield from _walk(folder, ())


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = sorted(folder.iterdir())
    except PermissionError:
        return
    for entry in entries:
        if entry.is_dir():
            yield from _walk(entry, (*above, real))
        elif entry.is_file():
            yield entry


Stamp: TypeAlias = tuple[str, int, int]
"""Name, size and time of a file in ns, which tell whether it has changed; -1 if it is gone."""


def stamp(path: Path) -> Stamp:
    """The stamp of a file as it is now."""
    try:
        found = path.stat()
    except OSError:
        return path.name, -1, -1
    return path.name, found.st_size, found.st_mtime_ns


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_json(text: str | bytes) -> Any:
    """Parse JSON from a file that may be damaged.

    Raises:
        ValueError: it is not JSON, or is nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


class Closing:
    """A resource with `close()` that works in a `with` statement."""

    def close(self) -> None:
        """Release it; may be called again."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()


class TemporaryFolder(Closing):
    """A folder for files of this process, made when it is first asked for, gone with `close`.

    For several threads. A process that is killed leaves it behind, if it had it.

    Args:
        prefix: of its name.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix, self._lock = prefix, threading.Lock()
        self._path: Path | None = None
        self._closed = False

    @property
    def path(self) -> Path:
        """Where it is.

        Raises:
            OutputError: it cannot be made, or is closed.
        """
        with self._lock:
            if self._closed:
                raise OutputError("the program ends; its temporary files are gone")
            if self._path is None:
                try:
                    self._path = Path(tempfile.mkdtemp(prefix=self._prefix))
                except OSError as error:
                    raise OutputError(
                        f"no temporary folder can be made ({error.strerror}); free some space in "
                        f"{tempfile.gettempdir()}, or name another place in TMPDIR"
                    ) from error
            return self._path

    def close(self) -> None:
        """Remove it with all that is in it."""
        with self._lock:
            self._closed = True
            if self._path is not None:
                shutil.rmtree(self._path, ignore_errors=True)


_DESCRIPTOR = re.compile(r"-|/dev/stdout|/dev/stderr|(?:/dev/fd|/proc/self/fd)/(\d+)")


def descriptor_of(path: Path) -> int | None:
    """Number of the open file that a name means, such as `-`, /dev/stdout or /dev/fd/3."""
    meant = _DESCRIPTOR.fullmatch(str(path))
    if meant is None:
        return None
    return int(meant[1] or (2 if path.name == "stderr" else 1))


class GrowingFile:
    """A new, empty file at `working`, which readers may follow while the caller fills it.

    If the path is free, `working` is the path. A file that exists is only replaced by `commit`;
    until then the new one grows beside it under a hidden name. Devices, pipes and standard output
    (`-`) are written directly. Folders are made.

    Args:
        path: where to write.
        overwrite: replace a file that exists.
        blank: what a file holds before anything is in it. Such a file, or an empty one, is what a
            run leaves that was killed early; it is always replaced.

    Raises:
        OutputError: the file exists and `overwrite` is False, or nothing can be written there.
    """

    def __init__(self, path: str | Path, *, overwrite: bool, blank: bytes = b"") -> None:
        try:
            self.path = Path(os.path.expanduser(os.fsdecode(path)))
            real_path = Path(os.path.realpath(self.path))
        except (TypeError, ValueError) as error:  # such as a null character
            raise OutputError(f"{shown(path)} cannot be written ({error})") from error
        self.is_file = True
        self._descriptor = descriptor_of(self.path)
        if self._descriptor is not None:
            self._target = self.working = self.path
            if str(self.path) == "-":
                self.path = Path("standard output")  # as messages call it
            self.is_file = False
            return
        # A link stays a link: the file it points to is written.
        self._target = self.working = real_path
        try:
            mode = self.path.stat().st_mode if self.path.exists() else None
            if mode is None:
                self._target.parent.mkdir(parents=True, exist_ok=True)
                self._target.open("xb").close()
                return
            if stat.S_ISDIR(mode):
                raise OutputError(f"{self.path} is a folder; give the name of a file in it")
            self.is_file = stat.S_ISREG(mode)
            if not self.is_file:  # a device or a pipe, which has no other path
                self._target = self.working = self.path
                return
            if self._target.stat().st_size <= len(blank) and self._target.read_bytes() in (
                b"",
                blank,
            ):
                self._target.open("wb").close()
                return
            if not overwrite:
                raise OutputError(
                    f"{self.path} exists; choose another name, or allow it to be replaced "
                    "(--overwrite, overwrite=True)"
                )
            if not os.access(self._target, os.W_OK):
                raise OutputError(f"{self.path} is write-protected; choose another name")
            self.working = self._target.with_name(f".{self._target.name}.{os.getpid()}.part")
            self.working.open("wb").close()
        except OutputError:
            raise
        except FileExistsError as error:
            raise OutputError(f"{self.path}: {error.filename} is a file, not a folder") from error
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be written ({error.strerror}); choose a folder you may "
                "write to"
            ) from error

    def open(self) -> FileIO:
        """Open it for writing, without a buffer.

        Raises:
            OutputError: standard output is closed.
        """
        if self._descriptor is None:
            return self.working.open("wb", buffering=0)
        try:
            return FileIO(os.dup(self._descriptor), "wb")
        except OSError as error:
            raise OutputError(f"{self.path} is not open ({error.strerror}); name a file") from error

    def commit(self, *, final: bool = False) -> None:
        """Replace the old file by the new one. May be called again.

        Some systems refuse to rename a file while it is written; then it keeps its hidden name
        until the `final` call, which raises `OutputError` where it fails.
        """
        if self.working == self._target:
            return
        try:
            os.replace(self.working, self._target)
        except OSError as error:
            if final:
                raise OutputError(
                    f"{self.path} cannot be replaced ({error.strerror}); the new file is kept as "
                    f"{self.working}"
                ) from error
            return
        self.working = self._target

    def discard(self) -> None:
        """Remove the new file; an older one that was not yet replaced stays."""
        if self.is_file:
            with suppress(OSError):
                self.working.unlink()

    def size_bytes(self) -> int:
        """Size of what was written so far."""
        return self.working.stat().st_size if self.is_file else 0

    def cut(self, size_bytes: int) -> None:
        """Remove what was written beyond that size, where the system allows it."""
        if self.is_file:
            with suppress(OSError):
                os.truncate(self.working, size_bytes)

    def failed(self, error: Exception, kept_frames: int) -> OutputError:
        """The error to raise when writing failed and `kept_frames` frames can still be read."""
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            advice = "free some space and run again"
        elif isinstance(error, BrokenPipeError):
            advice = "the program that reads it has ended"
        elif isinstance(error, OSError):
            advice = "check the disk and run again"
        else:
            advice = "the encoder does not take it: try another size or format"
        reason = getattr(error, "strerror", None) or error
        kept = f"{kept_frames} frame(s) are" if kept_frames else "nothing is"
        return OutputError(
            f"{self.path} could not be written to the end ({reason}); {kept} kept in it; {advice}"
        )
