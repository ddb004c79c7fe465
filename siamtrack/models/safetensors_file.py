"""The outside of a safetensors file: its header, and whether all of it is there.

The library reports a short file, a foreign file and a damaged one with much the same words; users
need to know which, so the few bytes that tell are read here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from siamtrack.errors import WeightsError

SUFFIX = ".safetensors"
_FOREIGN_SUFFIXES = {".pth", ".pt", ".tar", ".ckpt", ".mat"}
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000


class Header(NamedTuple):
    """What a file says of itself.

    Attributes:
        shapes: shape of every tensor, by name.
        metadata: free text by key.
    """

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Parse the header and check that the file is as long as it says.

    Raises:
        WeightsError: the file cannot be read, is not safetensors, is truncated or too long.
    """
    try:
        actual = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            text = stream.read(min(length, _MAX_HEADER_BYTES))
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    if actual >= _LENGTH_BYTES and (length > _MAX_HEADER_BYTES or text[:1] not in (b"{", b"")):
        raise _foreign(path)
    if actual < _LENGTH_BYTES or len(text) < length:
        raise WeightsError(f"{path} is truncated, its header is incomplete; get the file again")
    try:
        header, data_bytes = _parse(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _foreign(path) from error
    expected = _LENGTH_BYTES + length + data_bytes
    if actual != expected:
        state = "truncated" if actual < expected else "damaged"
        raise WeightsError(
            f"{path} is {state}: it has {actual} bytes and needs {expected}; get the file again"
        )
    return header


def _parse(entries: dict[str, Any]) -> tuple[Header, int]:
    """Header, and bytes of tensor data that must follow it."""
    metadata = dict(entries.pop("__metadata__", {}))
    shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
    ends = [int(entry["data_offsets"][1]) for entry in entries.values()]
    return Header(shapes, metadata), max(ends, default=0)


def _foreign(path: Path) -> WeightsError:
    """The error for a file of another kind."""
    if path.suffix.lower() in _FOREIGN_SUFFIXES:
        advice = "if it is a SiamFC checkpoint, convert it with tools/import_weights.py"
    else:
        advice = "give weights that siamtrack saved"
    return WeightsError(f"{path} is not a safetensors file; {advice}")
