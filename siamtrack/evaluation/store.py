"""Result files: the got10k toolkit's layout and number formats, every file whole or absent.

Under `OUT/results/VARIANT` lies what the toolkit calls a result folder: give it to
`ExperimentOTB(root, result_dir=...)` and its `report` reads our files, the tracker's name being its
key. A sequence is done when its boxes are there; they are written after everything else about it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siamtrack.errors import EvaluationError
from siamtrack.evaluation.datasets import Benchmark
from siamtrack.evaluation.runs import Run
from siamtrack.types import FloatArray
from siamtrack.utils.files import atomic_write


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run read back.

    Attributes:
        rows: per frame four numbers or, for VOT, one code.
        times_s: (N,) seconds in the tracker; NaN where it was not called, empty if not recorded.
    """

    rows: list[list[float]]
    times_s: FloatArray

    def boxes(self, where: Path) -> FloatArray:
        """(N, 4) boxes.

        Raises:
            EvaluationError: a row is not four numbers.
        """
        wrong = [index for index, row in enumerate(self.rows) if len(row) != 4]
        if wrong or not self.rows:
            raise EvaluationError(
                f"{where} has no four numbers in line {wrong[0] + 1 if wrong else 1}; delete it "
                "and run the sequence again"
            )
        return np.array(self.rows, dtype=np.float64)


class ResultStore:
    """Result files of one data set under an output folder.

    Args:
        out: the output folder.
        benchmark: whose layout and number format apply.
    """

    def __init__(self, out: Path, benchmark: Benchmark):
        self._root = out / "results"
        self._folder = benchmark.folder
        self._layout = benchmark.protocol.layout

    def toolkit_results(self, variant: str) -> Path:
        """The folder that the toolkit's experiments take as `result_dir`."""
        return self._root / variant

    def tracker_folder(self, variant: str, key: str) -> Path:
        """Where a tracker's results of one variant lie."""
        return self._root / variant / self._folder / key

    def boxes_path(self, variant: str, key: str, sequence: str) -> Path:
        """The file of a sequence's boxes."""
        folder = self.tracker_folder(variant, key)
        if self._layout == "got10k":
            return folder / sequence / f"{sequence}_001.txt"
        if self._layout == "vot":
            experiment = "baseline" if variant == "supervised" else "unsupervised"
            return folder / experiment / sequence / f"{sequence}_001.txt"
        return folder / f"{sequence}.txt"

    def times_path(self, variant: str, key: str, sequence: str) -> Path:
        """The file of a sequence's times."""
        boxes = self.boxes_path(variant, key, sequence)
        if self._layout in ("got10k", "vot"):
            return boxes.with_name(f"{sequence}_time.txt")
        return self.tracker_folder(variant, key) / "times" / f"{sequence}_time.txt"

    def has(self, variant: str, key: str, sequence: str) -> bool:
        """Whether a sequence is done."""
        return self.boxes_path(variant, key, sequence).is_file()

    def write(self, variant: str, key: str, sequence: str, run: Run) -> None:
        """Store a run.

        Raises:
            OutputError: the files cannot be written.
        """
        decimals = {"clips": None, "vot": 4}.get(self._layout, 3)
        digits = 4 if self._layout == "vot" else 8
        times = "".join(f"{time:.{digits}f}\n" for time in run.times_s).replace("nan", "NaN")
        boxes = "".join(f"{_line(row, decimals)}\n" for row in run.rows)
        atomic_write(self.times_path(variant, key, sequence), times)
        atomic_write(self.boxes_path(variant, key, sequence), boxes)

    def read(self, variant: str, key: str, sequence: str) -> StoredRun:
        """Read a run back.

        Raises:
            EvaluationError: it is not there or not numeric.
        """
        path = self.boxes_path(variant, key, sequence)
        if not path.is_file():
            raise EvaluationError(f"{path} is missing; run the evaluation again to make it")
        times = self.times_path(variant, key, sequence)
        seconds = [row[0] for row in _numbers(times)] if times.is_file() else []
        return StoredRun(_numbers(path), np.array(seconds, dtype=np.float64))

    def describe(self, variant: str, key: str, identity: dict[str, object]) -> None:
        """Leave a note beside a tracker's results that says what they are results of."""
        path = self.tracker_folder(variant, key).parent / f"{key}.json"
        if not path.is_file():
            atomic_write(path, json.dumps(identity, indent=2) + "\n")


def _line(row: Sequence[float], decimals: int | None) -> str:
    """Numbers with commas between; None keeps every bit; VOT's codes are whole numbers."""
    if len(row) == 1:
        return f"{row[0]:.0f}"
    if decimals is None:
        return ",".join(repr(float(value)) for value in row)
    return ",".join(f"{value:.{decimals}f}" for value in row)


def _numbers(path: Path) -> list[list[float]]:
    rows = []
    for index, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append([float(part) for part in text.replace(",", " ").split()])
        except ValueError as error:
            raise EvaluationError(
                f"{path}:{index}: {text!r} is not numeric; delete the file and run again"
            ) from error
    return [row for row in rows if row]
