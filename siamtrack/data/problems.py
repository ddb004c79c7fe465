"""What can be wrong with a data set, one finding at a time and all of them together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from siamtrack.errors import DatasetError

ProblemKind = Literal[
    "missing-folder",
    "missing-annotation",
    "missing-picture",
    "bad-annotation",
    "count-differs",
    "unreadable-picture",
    "unannotated-picture",
    "size-differs",
    "degenerate-box",
    "box-outside",
    "no-target",
]

_INCOMPLETE: frozenset[ProblemKind] = frozenset(
    {
        "missing-folder",
        "missing-annotation",
        "missing-picture",
        "bad-annotation",
        "count-differs",
    }
)

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding.

    Attributes:
        path: file or folder to look at.
        kind: what sort of finding it is.
        message: what is there and what should be, without the path.
    """

    path: Path
    kind: ProblemKind
    message: str

    @property
    def incomplete(self) -> bool:
        """Whether something is missing or cannot be understood.

        Other findings cost single frames or objects, which even well-known data sets have; they
        are left out and reported.
        """
        return self.kind in _INCOMPLETE

    def __str__(self) -> str:
        return f"{self.path}: {self.message} [{self.kind}]"


def failure(what: str, problems: Iterable[Problem]) -> DatasetError:
    """Build the error for something that cannot be used because of `problems`.

    Args:
        what: the data set or sequence, to begin the message with.
        problems: all that is wrong; the first few are spelt out, all are attached.
    """
    found = tuple(problems)
    shown = "; ".join(f"{p.path}: {p.message}" for p in found[:_SHOWN])
    if len(found) > _SHOWN:
        shown += f"; and {len(found) - _SHOWN} more, which tools/check_dataset.py lists"
    return DatasetError(f"{what} cannot be used: {shown}", found)
