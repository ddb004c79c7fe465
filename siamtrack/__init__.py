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
    from siamtrack.api import load, load_multi
    from siamtrack.tracking.multi import MultiTracker
    from siamtrack.tracking.result import Result
    from siamtrack.tracking.tracker import Tracker
    from siamtrack.video.frames import Frame
    from siamtrack.video.source import open_source

_HOMES = {
    "load": "siamtrack.api",
    "load_multi": "siamtrack.api",
    "MultiTracker": "siamtrack.tracking.multi",
    "Result": "siamtrack.tracking.result",
    "Tracker": "siamtrack.tracking.tracker",
    "Frame": "siamtrack.video.source",
    "open_source": "siamtrack.video.source",
}

__all__ = [
    "Frame",
    "MultiTracker",
    "Result",
    "Tracker",
    "__version__",
    "load",
    "load_multi",
    "open_source",
]


def __getattr__(name: str) -> Any:
    """Import public names when they are first used: importing siamtrack stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'siamtrack' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Public names, imported or not."""
    return sorted(__all__)
