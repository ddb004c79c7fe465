"""Result files in the got10k toolkit's layout and number formats, written atomically.

`OUT/results/VARIANT` is a result folder of the toolkit's: `ExperimentOTB(root, result_dir=...)`
reports on our files, with keys as names of trackers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siamtrack.errors import EvaluationError
from siamtrack.evaluation.datasets import Benchmark
from siamtrack.evaluation.task import SequenceRun
from siamtrack.evaluation.trackers import TrackerEntry
from siamtrack.tracking.old_names import rename_options
from siamtrack.types import FloatArray
from siamtrack.utils.files import append_whole, atomic_write

OUT_ADVICE = "give another folder with --out"


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A `SequenceRun` from its files; `times_s` is empty if there is no file of times."""

    rows: list[list[float]]
    times_s: FloatArray

    def boxes(self, where: Path) -> FloatArray:
        """(N, 4) boxes; `where` names the file in errors."""
        wrong = [index for index, row in enumerate(self.rows) if len(row) != 4]
        if wrong or not self.rows:
            raise EvaluationError(
                f"{where} has no four numbers in line {wrong[0] + 1 if wrong else 1}; delete it "
                "and run the sequence again"
            )
        return np.array(self.rows, dtype=np.float64)


class ResultStore:
    """Result files of one data set; its protocol decides on layout and number format."""

    def __init__(self, out: Path, benchmark: Benchmark):
        self._root = out / "results"
        self._folder = benchmark.folder
        self._layout = benchmark.protocol.layout
        self._states: dict[Path, dict[str, str]] = {}  # by file

    def toolkit_results(self, variant: str) -> Path:
        """Folder that the toolkit's experiments take as `result_dir`."""
        return self._root / variant

    def tracker_folder(self, variant: str, key: str) -> Path:
        """Folder of a tracker's results in one variant."""
        return self._root / variant / self._folder / key

    def boxes_path(self, variant: str, key: str, sequence: str) -> Path:
        """File of a sequence's boxes."""
        folder = self.tracker_folder(variant, key)
        if self._layout == "got10k":
            return folder / sequence / f"{sequence}_001.txt"
        if self._layout == "vot":
            experiment = "baseline" if variant == "supervised" else "unsupervised"
            return folder / experiment / sequence / f"{sequence}_001.txt"
        return folder / f"{sequence}.txt"

    def times_path(self, variant: str, key: str, sequence: str) -> Path:
        """File of a sequence's times."""
        boxes = self.boxes_path(variant, key, sequence)
        if self._layout in ("got10k", "vot"):
            return boxes.with_name(f"{sequence}_time.txt")
        return self.tracker_folder(variant, key) / "times" / f"{sequence}_time.txt"

    def has(self, variant: str, key: str, sequence: str, state: str = "") -> bool:
        """Whether a sequence is done, in this `EvalSequence.state` if both states are known."""
        if not self.boxes_path(variant, key, sequence).is_file():
            return False
        known = self._states_of(variant, key).get(sequence, "")
        return not (known and state) or known == state

    def write(
        self, variant: str, key: str, sequence: str, run: SequenceRun, state: str = ""
    ) -> None:
        """Store a run over a sequence in this state.

        Raises:
            OutputError: a file cannot be written; what was there is still there.
        """
        digits = 4 if self._layout == "vot" else 8
        times = "".join(f"{time:.{digits}f}\n" for time in run.times_s).replace("nan", "NaN")
        boxes = "".join(f"{self._format_row(row)}\n" for row in run.rows)
        # Boxes late, `has` looks for them; their state last: until then it is the one before.
        atomic_write(self.times_path(variant, key, sequence), times, OUT_ADVICE)
        atomic_write(self.boxes_path(variant, key, sequence), boxes, OUT_ADVICE)
        if state:
            line = f"{state} {sequence}\n".encode("utf-8", "surrogateescape")
            append_whole(self._states_path(variant, key), line, OUT_ADVICE)
            self._states_of(variant, key)[sequence] = state

    def _states_path(self, variant: str, key: str) -> Path:
        return self.tracker_folder(variant, key).with_name(f"{key}.states")

    def _states_of(self, variant: str, key: str) -> dict[str, str]:
        """State of every sequence when its result was made; not of those of older versions."""
        path = self._states_path(variant, key)
        if path not in self._states:
            text = path.read_text("utf-8", "surrogateescape") if path.is_file() else ""
            lines = text.splitlines()
            pairs = (line.partition(" ") for line in lines)
            self._states[path] = {sequence: state for state, _, sequence in pairs}
        return self._states[path]

    def _format_row(self, row: list[float]) -> str:
        if len(row) == 1:  # a code of VOT
            return f"{row[0]:.0f}"
        if self._layout == "clips":  # our own layout keeps every bit
            return ",".join(repr(float(value)) for value in row)
        decimals = 4 if self._layout == "vot" else 3
        return ",".join(f"{value:.{decimals}f}" for value in row)

    def read(self, variant: str, key: str, sequence: str) -> StoredRun:
        """Read a run; EvaluationError if it is not there or not numeric."""
        path = self.boxes_path(variant, key, sequence)
        if not path.is_file():
            raise EvaluationError(f"{path} is missing; run the evaluation again to make it")
        times = self.times_path(variant, key, sequence)
        seconds = [row[0] for row in _read_numbers(times)] if times.is_file() else []
        return StoredRun(_read_numbers(path), np.array(seconds, dtype=np.float64))

    def describe(self, variant: str, key: str, identity: Mapping[str, object]) -> None:
        """Write `KEY.json` beside a tracker's results: what the key was made from."""
        path = self.tracker_folder(variant, key).with_name(f"{key}.json")
        if not path.is_file():
            atomic_write(path, json.dumps(identity, indent=2) + "\n", OUT_ADVICE)

    def older_keys(self, variant: str, tracker: TrackerEntry) -> list[str]:
        """Keys under which siamtrack 0.1 stored results of the same weights and options.

        Those keys had a hash of the source code in place of engine, precision and revision. A
        tracker that has results of this version gets none.
        """
        if self.tracker_folder(variant, tracker.key).is_dir():
            return []
        given = rename_options(tracker.spec.options, warn=False)
        keys = []
        for path in sorted(self.tracker_folder(variant, tracker.key).parent.glob("*.json")):
            note: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if (
                "code_sha256" in note
                and note["weights_sha256"] == tracker.identity.get("weights_sha256")
                and rename_options(note["options"], warn=False) == given
            ):
                keys.append(path.stem)
        return keys


def _read_numbers(path: Path) -> list[list[float]]:
    rows = []
    for index, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append([float(part) for part in text.replace(",", " ").split()])
        except ValueError as error:
            raise EvaluationError(
                f"{path}:{index}: {text!r} is not numeric; delete the file and run again"
            ) from error
    return [row for row in rows if row]
