"""What OpenCV 4 and 5 have in different places."""

from __future__ import annotations

import sys
from typing import Any

SILENT = 0
"""Log level at which OpenCV prints nothing."""


def set_log_level(level: int) -> int:
    """Set how much OpenCV prints and return the level before; does nothing where it is not in use.

    The functions are those of `cv2.utils.logging` in OpenCV 5, of `cv2` itself in many builds of 4.
    """
    opencv: Any = sys.modules.get("cv2")
    home = getattr(getattr(opencv, "utils", None), "logging", opencv)
    if not hasattr(home, "setLogLevel"):
        return level
    before = int(home.getLogLevel())
    home.setLogLevel(level)
    return before
