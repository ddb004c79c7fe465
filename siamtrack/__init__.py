"""Draw a box around an object once; siamtrack follows it through the video.

    import siamtrack

    tracker = siamtrack.load()
    with siamtrack.open_source("clip.mp4") as frames:
        tracker.init(next(frames).image, box=(120, 80, 60, 90))
        for frame in frames:
            result = tracker.update(frame.image)

Boxes are x, y, w, h in pixels, 0-based floats; frames are uint8 (H, W, 3) BGR.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from siamtrack._version import __version__

if TYPE_CHECKING:
    from siamtrack.adapters import OpenCVTracker, to_got10k, to_supervision
    from siamtrack.api import load, load_multi, track
    from siamtrack.data.convert import convert
    from siamtrack.data.formats.studio import read_project
    from siamtrack.geometry import box_from_corners
    from siamtrack.tracking.multi import MultiTracker
    from siamtrack.tracking.result import Result
    from siamtrack.tracking.tracker import Tracker
    from siamtrack.video.frames import Frame
    from siamtrack.video.source import open_source
    from siamtrack.video.tables import TableRow, read_table, write_table

_HOMES = {
    "load": "siamtrack.api",
    "load_multi": "siamtrack.api",
    "track": "siamtrack.api",
    "MultiTracker": "siamtrack.tracking.multi",
    "Result": "siamtrack.tracking.result",
    "Tracker": "siamtrack.tracking.tracker",
    "Frame": "siamtrack.video.source",
    "open_source": "siamtrack.video.source",
    "TableRow": "siamtrack.video.tables",
    "read_table": "siamtrack.video.tables",
    "write_table": "siamtrack.video.tables",
    "box_from_corners": "siamtrack.geometry",
    "convert": "siamtrack.data.convert",
    "read_project": "siamtrack.data.formats.studio",
    "OpenCVTracker": "siamtrack.adapters",
    "to_got10k": "siamtrack.adapters",
    "to_supervision": "siamtrack.adapters",
}

__all__ = [
    "Frame",
    "MultiTracker",
    "OpenCVTracker",
    "Result",
    "TableRow",
    "Tracker",
    "__version__",
    "box_from_corners",
    "convert",
    "load",
    "load_multi",
    "open_source",
    "read_project",
    "read_table",
    "to_got10k",
    "to_supervision",
    "track",
    "write_table",
]


def __getattr__(name: str) -> Any:
    """Import public names when they are first used: importing siamtrack stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'siamtrack' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Public names, imported or not."""
    return sorted(__all__)
