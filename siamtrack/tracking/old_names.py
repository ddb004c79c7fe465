"""Names of 0.1 that still work: tracker options and methods, for two minor releases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from siamtrack.utils.config import replace_old_names, warn_renamed

OLD_NAMES = {
    "framing": "box_correction",
    "hold_below": "min_peak",
    "scan_crops": "redetect_windows",
    "found_above": "redetect_score",
    "found_similarity": "redetect_similarity",
    "doubt_frames": "verify_frames",
    "overruled_above": "switch_score",
    "size_rate": "size_lr",
    "scale_rate": "scale_lr",
    "scale_count": "scale_num",
    "response_upsampling": "response_up",
}
"""New name of every renamed tracker option."""

_METHODS = {
    "look": "crop_search_windows",
    "conclude": "update_from_response",
    "resume": "set_state",
    "initialised": "is_initialized",
}


def rename_options(values: Mapping[str, Any], *, warn: bool = True) -> dict[str, Any]:
    """The same options under today's names; `warn=False` for cards, which siamtrack wrote itself.

    Raises:
        ConfigError: an option is given under both names.
    """
    return replace_old_names(values, OLD_NAMES, "tracker option" if warn else None)


class OldTrackerNames:
    """Gives `Tracker` its old method names; each use warns."""

    if not TYPE_CHECKING:  # else every misspelled attribute would type-check

        def __getattr__(self, name: str) -> Any:
            if name not in _METHODS:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            warn_renamed("Tracker attribute", name, _METHODS[name])
            return getattr(self, _METHODS[name])
