"""What a run logs: one JSON line per event, curves as a picture, TensorBoard if asked."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import torch
from matplotlib.figure import Figure
from torch import Tensor

from siamtrack.errors import ConfigError, OutputError
from siamtrack.training.distributed import ProcessGroup
from siamtrack.utils.files import Closing

LOG = "log.jsonl"
CURVES = "curves.png"


class RunLog(Closing):
    """Appends events to a run's log; each line is complete once it is written.

    Args:
        folder: of the run.
        tensorboard: write TensorBoard files too.
        resume_at: step at which the run continues. Lines of later steps, which a killed run had
            written after its last checkpoint, are dropped.
        enabled: False writes nothing, for processes other than the first.

    Raises:
        OutputError: the folder cannot be written.
        ConfigError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self, folder: Path, *, tensorboard: bool, resume_at: int = 0, enabled: bool = True
    ) -> None:
        path = folder / LOG
        self._stream: TextIO | None = None
        self._writer: Any = None
        if not enabled:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            kept = [r for r in read_log(path) if r["step"] <= resume_at] if resume_at else []
            path.write_text("".join(json.dumps(r) + "\n" for r in kept))
            self._stream = path.open("a")
        except OSError as error:
            raise OutputError(f"cannot write log {path}: {error.strerror}") from error
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ConfigError(
                    "loop.tensorboard is true and TensorBoard is not installed; "
                    "pip install 'siamtrack[train]', or set it to false"
                ) from error
            self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Append the numbers of one event, "train" or "validation", if it has any, after a step."""
        if not values:
            return
        if self._stream is not None:
            self._stream.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
            self._stream.flush()
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Close the files."""
        for file in (self._stream, self._writer):
            if file is not None:
                file.close()


class AverageMeter:
    """Means over the steps since the last `read`, and pairs per second."""

    def __init__(self, pairs_per_step: int) -> None:
        self._pairs = pairs_per_step
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = self._skipped = 0
        self._since_s = time.perf_counter()

    def add(self, terms: Mapping[str, Tensor], skipped: int) -> None:
        """Add a step: its scalars, and the number of stored pictures that could not be read."""
        for name, value in terms.items():
            # On the value's device, which is waited for only when the means are read.
            value, before = value.detach().float(), self._sums.get(name)
            self._sums[name] = value if before is None else before + value
        self._steps += 1
        self._skipped += skipped

    def read(self, group: ProcessGroup) -> dict[str, float]:
        """Means over steps and processes, then start again; all processes must call it."""
        sums = group.mean(torch.stack([v.cpu() for v in self._sums.values()])) / self._steps
        seconds = max(time.perf_counter() - self._since_s, 1e-9)
        means = {k: round(v, 6) for k, v in zip(self._sums, sums.tolist(), strict=True)}
        means["pairs_per_s"] = round(self._steps * self._pairs / seconds, 1)
        means["skipped"] = self._skipped
        self._reset()
        return means


def read_log(path: Path) -> list[dict[str, Any]]:
    """Complete lines of a log, oldest first; an unfinished last line is left out."""
    rows = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and {"kind", "step"} <= row.keys():
                rows.append(row)
    return rows


def draw_curves(folder: Path) -> None:
    """Draw every logged value over the steps into curves.png, one panel each."""
    # Steps and values by name and kind of event.
    curves: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for row in read_log(folder / LOG):
        for name in row.keys() - {"kind", "step"}:
            steps, values = curves.setdefault(name, {}).setdefault(row["kind"], ([], []))
            steps.append(row["step"])
            values.append(row[name])

    # Three panels in a row.
    names = sorted(curves) or ["nothing logged"]
    lines = -(-len(names) // 3)
    figure = Figure(figsize=(13.5, 3.0 * lines), layout="constrained")
    for number, name in enumerate(names):
        axes = figure.add_subplot(lines, 3, number + 1)
        for kind, (steps, values) in curves.get(name, {}).items():
            axes.plot(steps, values, label=kind, marker="o" if len(steps) < 20 else None)
        axes.set_title(name)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if len(curves.get(name, {})) > 1:
            axes.legend()
    figure.savefig(folder / CURVES, dpi=100)
