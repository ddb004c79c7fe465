"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

LARGE_BYTES = 128 << 10
"""Blocks from this size on are the system's again as soon as they are freed. Lowering it costs time
for every array."""
_M_MMAP_THRESHOLD = -3  # of malloc.h


def return_freed_memory() -> None:
    """Have large blocks returned when they are freed, in a program that runs for hours.

    By itself the C library of Linux keeps up to 64 MB for every thread that once freed a large
    array, which is more than the studio holds. Elsewhere this does nothing.
    """
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # another C library
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
