"""Whole files or none: how everything that is rewritten is written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from siamtrack.errors import OutputError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that no reader and no kill ever leaves half of it.

    The content goes to a temporary file in the same folder, which then takes the name.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error}); give another folder with --out"
        ) from error
