"""How much checkpoints of other projects unpack to; checked before anything large is imported."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Literal

from siamtrack.errors import WeightsError


def check_unpacked_size(path: Path) -> bytes:
    """Refuse a small file that would fill the memory, or one whose checksums do not hold.

    Returns its first ten bytes.

    Raises:
        WeightsError: it cannot be read, is damaged, or unpacks to too much.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(10)
        if start == b"MATLAB 5.0":
            _check_matlab(path)
        elif zipfile.is_zipfile(path):
            _check_zip(path)
    except ValueError as error:  # a null character in the name
        raise WeightsError(f"{str(path)!r} is no name of a file ({error})") from error
    except OSError as error:
        raise WeightsError(
            f"cannot read checkpoint {path}: {error.strerror or error}; give a .pth or .mat file"
        ) from error
    return start


def _check_zip(path: Path) -> None:
    """Refuse a zip file that unpacks to more than it holds, or is damaged.

    torch packs nothing, and does not look at the checksums that it writes.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            is_damaged = unpacked <= size and archive.testzip() is not None
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        unpacked, is_damaged = 0, True
    if unpacked > size:
        raise WeightsError(
            f"{path} has {size} bytes and unpacks to {unpacked}; torch.save packs nothing: get the "
            "file that it wrote"
        )
    if is_damaged:
        raise WeightsError(f"{path} is damaged or truncated; get the file again")


_MOST_UNPACKED_BYTES = 64 << 20
"""Of a .mat file; the published networks have about 10 MB."""
_COMPRESSED = 15  # type of an element, in the format of MATLAB 5
_HEADER_BYTES, _TAG_BYTES, _READ_BYTES = 128, 8, 1 << 16


def _check_matlab(path: Path) -> None:
    """Refuse a file whose elements unpack to too much, before anything keeps what they hold."""
    left = _MOST_UNPACKED_BYTES
    try:
        with path.open("rb") as stream:
            order: Literal["little", "big"] = (
                "big" if stream.read(_HEADER_BYTES)[-2:] == b"MI" else "little"
            )
            while len(tag := stream.read(_TAG_BYTES)) == _TAG_BYTES:
                kind, size = int.from_bytes(tag[:4], order), int.from_bytes(tag[4:], order)
                if kind != _COMPRESSED:
                    left -= size
                    stream.seek(size, os.SEEK_CUR)
                unpacker = zlib.decompressobj()
                while kind == _COMPRESSED and size > 0 and left >= 0:
                    packed = stream.read(min(size, _READ_BYTES))
                    size -= len(packed) or size
                    while packed and left >= 0:
                        left -= len(unpacker.decompress(packed, _READ_BYTES))
                        packed = unpacker.unconsumed_tail
                if left < 0:
                    break
    except zlib.error as error:
        raise WeightsError(f"{path} is damaged or truncated; get the file again") from error
    if left < 0:
        raise WeightsError(
            f"{path} unpacks to more than {_MOST_UNPACKED_BYTES >> 20} MB, a SiamFC network has "
            "about 10; save the network alone"
        )
