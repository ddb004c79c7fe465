"""Errors that siamtrack raises on purpose.

    SiamTrackError
    ├── ConfigError              ValueError    option unknown, contradictory or out of range
    ├── InvalidBoxError          ValueError    box that cannot be tracked
    ├── InvalidFrameError        ValueError    image that is not a frame
    ├── NotInitializedError      RuntimeError  update before init
    ├── WeightsError             ValueError    weights missing, damaged or of another architecture
    ├── DeviceError              RuntimeError  no such compute device
    ├── EngineError              RuntimeError  inference engine missing or unsuitable
    ├── MissingPackageError      ImportError   package that this installation leaves out
    ├── DatasetError             ValueError    data set missing or inconsistent
    ├── VideoError               OSError       video source that cannot be read
    ├── FrameNumberError         IndexError    number of a frame that there is not
    ├── NotNumberedError         TypeError     frames asked by number that only come in order
    ├── OutputError              OSError       file or folder that cannot be written
    ├── DisplayUnavailableError  RuntimeError  no display for a window
    ├── TrainingError            RuntimeError  training cannot go on
    └── EvaluationError          RuntimeError  tracker failed, or results cannot be scored
        └── ClusterError                       Dask cluster that cannot be used

The second column is the built-in exception that each error derives from as well. Every message
says what was given, what is needed and what to do. `exit_code` is that of the command line.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

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
    "bad-line",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about a data set."""

    path: Path  # file or folder
    kind: ProblemKind
    message: str  # what is there and what should be, without the path

    @property
    def incomplete(self) -> bool:
        """Whether a part of the data set is missing or unreadable.

        Other findings concern single frames or objects, which are left out and reported.
        """
        return self.kind.startswith("missing-") or self.kind in ("bad-annotation", "count-differs")

    def __str__(self) -> str:
        return f"{self.path}: {self.message} [{self.kind}]"


_SHOWN_CHARACTERS = 200


def shown(value: object) -> str:
    """What was given, for a message: its `repr` on one line, cut where it is long.

    Example:
        >>> shown(10**400) == "1" + 196 * "0" + "..."
        True
    """
    try:
        text = " ".join(repr(value).split())
    except (RecursionError, TypeError, ValueError):  # such as integers of more than 4300 digits
        text = f"<{type(value).__name__} that cannot be written out>"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def with_notes(error: BaseException, message: str = "") -> str:
    """The message of an error behind its notes, which say where it happened."""
    return ": ".join([*getattr(error, "__notes__", ()), message or str(error)])


class SiamTrackError(Exception):
    """Root of all deliberate errors."""

    exit_code = 3


class ConfigError(SiamTrackError, ValueError):
    """An option is unknown, contradictory or out of range."""

    exit_code = 2

    @classmethod
    def unknown(cls, kind: str, given: object, known: Iterable[str]) -> ConfigError:
        """Build the error for an unknown name, with the nearest of the known ones.

        `kind` says what the name stands for, such as "loss".
        """
        names = sorted(known)
        text = given if isinstance(given, str) else shown(given)
        nearest = get_close_matches(text[:_SHOWN_CHARACTERS], names, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        return cls(f"unknown {kind} {shown(given)}; {hint}use one of {', '.join(names)}")


class InvalidBoxError(SiamTrackError, ValueError):
    """A box that cannot be tracked: empty, not finite, outside the frame, not four numbers."""


class InvalidFrameError(SiamTrackError, ValueError):
    """An image that is not a frame: empty, of the wrong type or shape."""


class NotInitializedError(SiamTrackError, RuntimeError):
    """`update` was called before `init`."""


class WeightsError(SiamTrackError, ValueError):
    """Weights that are missing, damaged, not ours or of another architecture."""


class DeviceError(SiamTrackError, RuntimeError):
    """A compute device that this machine does not have."""

    exit_code = 2


class EngineError(SiamTrackError, RuntimeError):
    """An inference engine that is not installed or cannot run these weights."""


class MissingPackageError(SiamTrackError, ModuleNotFoundError):
    """A package that is needed here and not installed."""


class DatasetError(SiamTrackError, ValueError):
    """A data set that is missing, half extracted or inconsistent.

    `problems` holds all findings; it is empty if the reader stopped at the first.
    """

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class VideoError(SiamTrackError, OSError):
    """A video source that cannot be read."""


class FrameNumberError(SiamTrackError, IndexError):
    """A frame was asked for by a number that is none of the recording's."""


class NotNumberedError(SiamTrackError, TypeError):
    """Frames were asked for by number, or their number, where they only come in order."""


class OutputError(SiamTrackError, OSError):
    """An output file or folder that cannot be written."""


class DisplayUnavailableError(SiamTrackError, RuntimeError):
    """A window is needed and there is no display."""

    exit_code = 4


class TrainingError(SiamTrackError, RuntimeError):
    """Training cannot go on: a loss that is not finite, a checkpoint that does not fit."""


class EvaluationError(SiamTrackError, RuntimeError):
    """A tracker that failed while it was evaluated, or results that cannot be scored."""


class ClusterError(EvaluationError):
    """A Dask cluster that does not answer, or whose workers cannot run this siamtrack."""


_PROVIDERS = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "six": "six got10k",
    "skimage": "scikit-image",
    "sqlalchemy": "sqlalchemy optuna",
    "yaml": "pyyaml",
}
"""What pip calls the package of a module, where the name differs."""

_REPORT_PACKAGES = ("jinja2", "matplotlib", "scipy")


def missing_package(module: str, what: str = "this") -> MissingPackageError:
    """Build the error for a module that cannot be imported and that `what` needs."""
    name = module.partition(".")[0]
    packages = [_PROVIDERS.get(name, name)]
    if name in _REPORT_PACKAGES:  # who needs one of them needs the others next
        packages = [package for package in _REPORT_PACKAGES if find_spec(package) is None] or [name]
    return MissingPackageError(
        f"{what} needs {name}, which is not installed; pip install {' '.join(packages)}"
    )


@contextmanager
def explain_missing(what: str) -> Iterator[None]:
    """Turn the failed import of another project's package into a `MissingPackageError`."""
    try:
        yield
    except ModuleNotFoundError as error:
        if not error.name or isinstance(error, SiamTrackError):
            raise
        raise missing_package(error.name, what) from error


def dataset_error(what: str, problems: Iterable[Problem]) -> DatasetError:
    """Build the error for a data set or sequence; its message names the first three problems."""
    found = tuple(problems)
    shown = "; ".join(f"{p.path}: {p.message}" for p in found[:3])
    if len(found) > 3:
        shown += f"; and {len(found) - 3} more, which siamtrack check-dataset lists"
    return DatasetError(f"{what} cannot be used: {shown}", found)


def __getattr__(name: str) -> Any:
    """Find errors by their old names."""
    if name != "NotInitialisedError":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    message = (
        f"{name} is now NotInitializedError; the old name will be removed in two minor releases"
    )
    warnings.warn(message, FutureWarning, stacklevel=2)
    return NotInitializedError
