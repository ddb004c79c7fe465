"""Files: atomic writes, files that readers may follow while they grow, hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self
from uuid import uuid4

from siamtrack.errors import OutputError


def atomic_write(path: Path, content: str | bytes, advice: str = "") -> None:
    """Write a whole file or nothing: neither a reader nor a kill ever finds half of it.

    The content goes to a hidden file beside it, which then takes its name. Folders are made.

    Args:
        path: the file; one that exists is replaced.
        content: text is written as UTF-8.
        advice: what the user can do about it, for the error message.

    Raises:
        OutputError: it cannot be written; what was there is still there.
    """
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(part, path)
    except OSError as error:
        problem = f"cannot write {path}: {error.strerror or error}"
        raise OutputError(f"{problem}; {advice}" if advice else problem) from error
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` to write a file or a folder to; renamed to `path` at the end.

    If the block raises, what it wrote is removed and `path` is as it was. For files that a library
    writes by name (a video, a checkpoint) and for folders; `atomic_write` is for content at hand.

    Raises:
        OSError: it cannot be renamed, or the block's own error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays: libraries choose the format by it.
    part = path.with_name(f".{path.stem}.{uuid4().hex}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Closing:
    """A resource with `close()` that works in a `with` statement."""

    def close(self) -> None:
        """Release it; may be called again."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class GrowingFile:
    """A new, empty file at `working`, which readers may follow while the caller fills it.

    If the path is free, `working` is the path. A file that exists is only replaced by `commit`;
    until then the new one grows beside it under a hidden name. Devices and pipes are written as
    they are.

    Args:
        path: where the results shall be found; folders on the way are made.
        overwrite: replace a file that exists.

    Raises:
        OutputError: the file exists and `overwrite` is False, or nothing can be written there.
    """

    def __init__(self, path: str | Path, *, overwrite: bool) -> None:
        self.path = Path(path).expanduser()
        # A link stays a link: the file it points to is written.
        self._target = Path(os.path.realpath(self.path))
        self.working = self._target
        self.is_file = True
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            if self._target.exists():
                self._prepare_replacement(overwrite)
            if self.is_file:
                self.working.open("wb" if self.working != self._target else "xb").close()
        except FileExistsError as error:
            raise OutputError(f"{self.path}: {error.filename} is a file, not a folder") from error
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                f"{self.path} cannot be written ({error.strerror}); choose a folder you may "
                "write to"
            ) from error

    def _prepare_replacement(self, overwrite: bool) -> None:
        """Decide how to write to a path that exists, or refuse to."""
        mode = self._target.stat().st_mode
        if stat.S_ISDIR(mode):
            raise OutputError(f"{self.path} is a folder; give the name of a file in it")
        if not stat.S_ISREG(mode):
            self.is_file = False
        elif not overwrite:
            raise OutputError(
                f"{self.path} exists; choose another name, or allow it to be replaced "
                "(--overwrite, overwrite=True)"
            )
        elif not os.access(self._target, os.W_OK):
            raise OutputError(f"{self.path} is write-protected; choose another name")
        else:
            self.working = self._target.with_name(f".{self._target.name}.{os.getpid()}.part")

    def commit(self, *, final: bool = False) -> None:
        """Replace the old file by the new one. May be called again.

        Args:
            final: writing is over. Some systems refuse to rename a file while it is written; then
                it keeps its hidden name until the final call.

        Raises:
            OutputError: the final call failed.
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
        """Return how much the system has been given so far."""
        return self.working.stat().st_size if self.is_file else 0

    def cut(self, size_bytes: int) -> None:
        """Drop what was written beyond that size, as far as the system allows."""
        if self.is_file:
            with suppress(OSError):
                os.truncate(self.working, size_bytes)

    def failed(self, error: Exception, kept_frames: int) -> OutputError:
        """Return the error to raise when writing failed half-way.

        Args:
            error: what the system or FFmpeg said.
            kept_frames: how many frames' results can still be read.
        """
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            advice = "free some space and run again"
        elif isinstance(error, OSError):
            advice = "check the disk and run again"
        else:
            advice = "the encoder does not take it: try another size or format"
        reason = getattr(error, "strerror", None) or error
        kept = f"{kept_frames} frame(s) are" if kept_frames else "nothing is"
        return OutputError(
            f"{self.path} could not be written to the end ({reason}); {kept} kept in it; {advice}"
        )
