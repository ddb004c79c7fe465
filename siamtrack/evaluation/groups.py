"""Which sequences belong together: `groups.json` in the root of a folder of clips.

    {"dog/park": {"group": "dog", "tuned_before": true}, "dog/beach": {"group": "dog"}, ...}

Sequences of one scene, object or film are a group. They succeed and fail together, so that groups
are what bootstraps resample and what cross-validation puts into one fold. `tuned_before` marks
sequences that chose options before: their figures flatter whatever they chose.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from siamtrack.errors import DatasetError

GROUPS_FILE = "groups.json"
ALL, TUNED_ON, OTHERS = "all", "chosen on", "the others"
"""Parts of a data set: all of it, the sequences that chose options before, and the others."""
_FORM = '{"sequence": {"group": "name", "tuned_before": true}}, where tuned_before may be left out'


@dataclass(frozen=True, slots=True)
class SequenceGroup:
    """The group of a sequence, and whether the sequence chose options before."""

    group: str
    tuned_before: bool = False


def own_groups(names: Sequence[str]) -> dict[str, SequenceGroup]:
    """Every sequence a group of its own."""
    return {name: SequenceGroup(name) for name in names}


def read_groups(root: Path, names: Sequence[str]) -> dict[str, SequenceGroup]:
    """Read the group of every sequence; without the file, each is a group of its own.

    Further entries of a sequence, and sequences that are not asked for, are ignored.

    Raises:
        DatasetError: the file is damaged, or sequences are missing from it.
    """
    path = root / GROUPS_FILE
    if not path.is_file():
        return own_groups(names)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read ({error}); it must look like {_FORM}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path} holds no entries by sequence; it must look like {_FORM}")
    absent = [name for name in names if name not in content]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise DatasetError(
            f"{path} has no entry for {absent[0]}{more}; give every sequence its group, or remove "
            "the file"
        )
    return {name: _parse_entry(path, name, content[name]) for name in names}


def split_by_use(groups: Mapping[str, SequenceGroup]) -> dict[str, dict[str, SequenceGroup]]:
    """`ALL`, and if any sequence chose options before `TUNED_ON` and `OTHERS`, unless empty."""
    parts = {ALL: dict(groups)}
    if any(group.tuned_before for group in groups.values()):
        for part, before in ((TUNED_ON, True), (OTHERS, False)):
            members = {n: group for n, group in groups.items() if group.tuned_before == before}
            if members:
                parts[part] = members
    return parts


def _parse_entry(path: Path, name: str, entry: object) -> SequenceGroup:
    if isinstance(entry, dict):
        group, tuned_before = entry.get("group"), entry.get("tuned_before", False)
        if isinstance(group, str) and group and isinstance(tuned_before, bool):
            return SequenceGroup(group, tuned_before)
    raise DatasetError(f"{path} has {entry!r} for {name}; it must look like {_FORM}")
