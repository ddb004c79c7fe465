"""Whole files or none: how everything that is rewritten is written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from uuid import uuid4

from siamtrack.errors import OutputError


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file so that no reader and no kill ever leaves half of it.

    The content goes to a file beside it under a name that no other process or machine takes, which
    then takes its name. Missing folders are made.

    Raises:
        OSError: it cannot be written; what was there is there still.
    """
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def write_atomically(path: Path, content: str | bytes) -> None:
    """`replace_file`, its failure told as one of ours.

    Raises:
        OutputError: the folder cannot be made or the file cannot be written.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
