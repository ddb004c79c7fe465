"""How results and reports are written."""

from __future__ import annotations

from pathlib import Path

from siamtrack.errors import OutputError
from siamtrack.files import replace_file


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file of an evaluation, whole or not at all.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error}); give another folder with --out"
        ) from error
