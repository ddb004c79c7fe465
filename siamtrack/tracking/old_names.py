"""Method names of 0.1, which work for one more release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from siamtrack.utils.config import warn_renamed

_NEW_NAMES = {
    "look": "crop_search_windows",
    "conclude": "update_from_response",
    "resume": "set_state",
    "initialised": "is_initialized",
}


class OldTrackerNames:
    """Gives `Tracker` its old names; each use warns."""

    if not TYPE_CHECKING:  # else every misspelt attribute would type-check

        def __getattr__(self, name: str) -> Any:
            if name not in _NEW_NAMES:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            warn_renamed("Tracker attribute", name, _NEW_NAMES[name])
            return getattr(self, _NEW_NAMES[name])
