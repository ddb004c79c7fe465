"""Errors that siamtrack raises on purpose.

Every message says what was given, what is needed and what to do. All of them derive from
`SiamTrackError`, and also from the built-in exception a caller would naturally catch. `exit_code`
is what the command line returns for an error of that class.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal


class SiamTrackError(Exception):
    """Root of all deliberate errors."""

    exit_code = 3


class ConfigError(SiamTrackError, ValueError):
    """An option is unknown, contradictory or out of range."""

    exit_code = 2

    @classmethod
    def unknown(cls, kind: str, given: object, known: Iterable[str]) -> ConfigError:
        """Build the error for a name that is none of `known`, with the nearest spelling.

        Args:
            kind: what the name stands for, e.g. "loss".
            given: the name that was asked for.
            known: the names that exist.
        """
        names = sorted(known)
        nearest = get_close_matches(str(given), names, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        return cls(f"unknown {kind} {given!r}; {hint}use one of {', '.join(names)}")


class InvalidBoxError(SiamTrackError, ValueError):
    """A box that cannot be tracked: empty, not finite, outside the frame, not four numbers."""

    exit_code = 2


class InvalidFrameError(SiamTrackError, ValueError):
    """An image that is not a frame: empty, of the wrong type or shape."""


class NotInitialisedError(SiamTrackError, RuntimeError):
    """`update` was called before `init`."""


class WeightsError(SiamTrackError, ValueError):
    """Weights that are missing, damaged, not ours or of another architecture."""


class DeviceError(SiamTrackError, RuntimeError):
    """A compute device that this machine does not have."""

    exit_code = 2


class EngineError(SiamTrackError, RuntimeError):
    """An inference engine that is not installed or cannot run these weights."""


class DatasetError(SiamTrackError, ValueError):
    """A data set that is missing, half extracted or inconsistent.

    Attributes:
        problems: everything that was found wrong, where the reader looked for all of it.
    """

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class VideoError(SiamTrackError, OSError):
    """A video source that cannot be read."""


class OutputError(SiamTrackError, OSError):
    """An output file or folder that cannot be written."""


class DisplayUnavailableError(SiamTrackError, RuntimeError):
    """A window is needed and there is no display."""

    exit_code = 4


class TrainingError(SiamTrackError, RuntimeError):
    """Training cannot go on: a loss that is not finite, a checkpoint that does not fit."""


class EvaluationError(SiamTrackError, RuntimeError):
    """A tracker that failed while it was evaluated, or results that cannot be scored."""


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


def dataset_error(what: str, problems: Iterable[Problem]) -> DatasetError:
    """Build the error for something that cannot be used because of `problems`.

    Args:
        what: the data set or sequence, to begin the message with.
        problems: all that is wrong; the first few are spelt out, all are attached.
    """
    found = tuple(problems)
    shown = "; ".join(f"{p.path}: {p.message}" for p in found[:_SHOWN])
    if len(found) > _SHOWN:
        shown += f"; and {len(found) - _SHOWN} more, which siamtrack check-dataset lists"
    return DatasetError(f"{what} cannot be used: {shown}", found)
