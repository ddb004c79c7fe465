"""What a reader is asked for: a folder and options, both from a data set's name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from siamtrack.data.problems import Problem, failure
from siamtrack.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Request:
    """A data set's name, taken apart.

    Attributes:
        spec: the name as given, `kind:root?option=value&option=value`.
        kind: name of the reader.
        root: folder (or file) of the data set.
        options: the rest.
        partial: take what is there instead of refusing a data set with parts missing.
    """

    spec: str
    kind: str
    root: Path
    options: Mapping[str, str]
    partial: bool = False

    def choice(self, option: str, choices: Iterable[str], default: str) -> str:
        """Value of an option that is one of few.

        Raises:
            ConfigError: it is something else.
        """
        value, known = self.options.get(option, default), tuple(choices)
        if value not in known:
            raise ConfigError.unknown(f"{option} of {self.kind}", value, known)
        return value

    def several(self, option: str) -> frozenset[str]:
        """Value of an option that is a list with commas; empty when not given."""
        return frozenset(filter(None, self.options.get(option, "").split(",")))

    def first_pixel(self, default: int) -> int:
        """Coordinate that the annotation gives to the top-left pixel, 0 or 1.

        Raises:
            ConfigError: it is something else.
        """
        return int(self.choice("first_pixel", ("0", "1"), str(default)))

    def folder(self) -> Path:
        """The root, when it is a folder.

        Raises:
            DatasetError: it does not exist or is a file.
        """
        if not self.root.is_dir():
            what = "is a file, a folder is needed" if self.root.exists() else "does not exist"
            raise failure(self.spec, [Problem(self.root, "missing-folder", what)])
        return self.root
