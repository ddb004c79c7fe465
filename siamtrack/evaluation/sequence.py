"""One sequence to evaluate on, and the set it belongs to, whatever they were read from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siamtrack.data.frames import Frames
from siamtrack.data.sequence import Dataset
from siamtrack.errors import ConfigError, DatasetError
from siamtrack.evaluation.attributes import annotated_attributes
from siamtrack.evaluation.protocols import Protocol
from siamtrack.evaluation.scores import Truth

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EvalSequence:
    """Frames and truth of one sequence.

    Attributes:
        name: unique in its data set; may contain one `/`.
        frames: the pictures.
        truth: boxes in the coordinates of the annotation file, which result files share.
        first_pixel: coordinate of the first pixel in those, 0 or 1.
        attributes: what is hard about it.
        regions: (N, 4) rectangles or (N, 8) corners where the annotation has them (VOT).
        tags: name to (N,) frames with it, where frames are tagged (VOT).
    """

    name: str
    frames: Frames
    truth: Truth
    first_pixel: int = 0
    attributes: frozenset[str] = frozenset()
    regions: FloatArray | None = None
    tags: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.truth.boxes_xywh)

    @property
    def boxes_xywh(self) -> FloatArray:
        """(N, 4) true boxes in px, 0-based; NaN where absent."""
        return self.truth.boxes_xywh - self._offset

    def to_file(self, boxes_xywh: FloatArray) -> FloatArray:
        """(N, 4) 0-based boxes in the coordinates of the annotation file."""
        return boxes_xywh + self._offset

    def from_file(self, boxes_xywh: FloatArray) -> FloatArray:
        """(N, 4) boxes of a result file as 0-based px."""
        return boxes_xywh - self._offset

    @property
    def _offset(self) -> FloatArray:
        return np.array([self.first_pixel, self.first_pixel, 0, 0], dtype=np.float64)


class Benchmark(ABC):
    """A data set with its protocol.

    Attributes:
        name: as the user writes it.
        folder: of its results, as the got10k toolkit calls it where it knows the data set.
        protocol: how results are scored.
        root: where it is.
        dataset: its sequences as `siamtrack.data` reads them.
    """

    def __init__(
        self, *, name: str, folder: str, protocol: Protocol, root: Path, dataset: Dataset
    ) -> None:
        self.name, self.folder, self.protocol = name, folder, protocol
        self.root, self.dataset = root, dataset

    @property
    def names(self) -> Sequence[str]:
        """Sequence names, in the order of evaluation."""
        return self.dataset.names

    @abstractmethod
    def load(self, name: str) -> EvalSequence:
        """Read a sequence's truth; its frames are read when they are asked for.

        Raises:
            DatasetError: it is incomplete or inconsistent.
        """

    @cached_property
    def annotated(self) -> dict[str, frozenset[str]]:
        """Attributes by sequence from the root's `attributes.json`."""
        return annotated_attributes(self.root)

    def check(self, names: Sequence[str]) -> tuple[dict[str, EvalSequence], list[str]]:
        """Load every one of `names`.

        Returns:
            Those that can be evaluated on, and everything that is wrong with the data set, one
            sentence each.
        """
        problems = [str(problem) for problem in self.dataset.problems if problem.incomplete]
        usable = {}
        for name in names:
            try:
                sequence = self.load(name)
            except DatasetError as error:
                said = str(error)
                problems.append(said if said.startswith(name) else f"{name}: {said}")
                continue
            first = sequence.truth.boxes_xywh[0]
            if np.isfinite(first).all() and (first[2:] > 0).all():
                usable[name] = sequence
            else:
                problems.append(f"{name}: the first box is {first.tolist()}; nothing to start from")
        return usable, problems

    def select(self, patterns: Sequence[str]) -> list[str]:
        """Names that match any of `patterns` (shell wildcards; the part after `/` will do).

        Raises:
            ConfigError: a pattern matches nothing.
        """
        if not patterns:
            return list(self.names)
        chosen = set()
        for pattern in patterns:
            hits = {
                name
                for name in self.names
                if fnmatchcase(name, pattern) or fnmatchcase(name.split("/")[-1], pattern)
            }
            if not hits:
                raise ConfigError.unknown(f"sequence of {self.name}", pattern, self.names)
            chosen |= hits
        return [name for name in self.names if name in chosen]
