"""What a run leaves to read: one JSON line per event, curves as a picture, TensorBoard if asked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from matplotlib.figure import Figure
from tqdm import tqdm

from siamtrack.errors import ConfigError, OutputError

LOG = "log.jsonl"
CURVES = "curves.png"


class _Writer(Protocol):
    def add_scalar(self, tag: str, value: float, step: int) -> None: ...

    def close(self) -> None: ...


def progress(
    batches: Iterable[Mapping[str, Any]], start: int, steps: int, *, shown: bool
) -> Iterable[Mapping[str, Any]]:
    """Show on stderr how far a run is.

    Args:
        batches: what is passed on.
        start: steps that were done before.
        steps: of the whole run.
        shown: whether there is a bar at all.
    """
    return tqdm(batches, initial=start, total=steps, unit="step", disable=not shown)


class RunLog:
    """Appends events to a run's log; each line is complete when it is written."""

    def __init__(self, folder: Path, *, tensorboard: bool, resume_at: int = 0) -> None:
        """Open the log.

        Args:
            folder: of the run.
            tensorboard: write TensorBoard files too.
            resume_at: step at which the run goes on; lines of later steps, which a killed run had
                written after its last checkpoint, are dropped.

        Raises:
            OutputError: the folder cannot be written.
            ConfigError: TensorBoard is asked for and not installed.
        """
        self.path = folder / LOG
        try:
            folder.mkdir(parents=True, exist_ok=True)
            kept = [r for r in read_log(self.path) if r["step"] <= resume_at]
            text = "".join(json.dumps(r) + "\n" for r in kept) if resume_at else ""
            self.path.write_text(text)
            self._stream = self.path.open("a")
        except OSError as error:
            raise OutputError(f"cannot write log {self.path}: {error.strerror}") from error
        self._writer = _tensorboard(folder) if tensorboard else None

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Append one event.

        Args:
            kind: "train", "validation" or "skipped".
            step: after which it happened.
            **values: what is to be read.
        """
        self._stream.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self._stream.flush()
        if self._writer is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Close the files."""
        self._stream.close()
        if self._writer is not None:
            self._writer.close()


def _tensorboard(folder: Path) -> _Writer:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "loop.tensorboard is true and TensorBoard is not installed; "
            "pip install 'siamtrack[train]', or set it to false"
        ) from error
    return SummaryWriter(str(folder / "tensorboard"))


def read_log(path: Path) -> list[dict[str, Any]]:
    """Complete lines of a log, oldest first; an unfinished last line is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def draw_curves(folder: Path) -> Path:
    """Draw every logged value over the steps into one picture.

    Returns:
        The picture's path.
    """
    rows = read_log(folder / LOG)
    curves: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
                steps, values = curves.setdefault(name, {}).setdefault(row["kind"], ([], []))
                steps.append(row["step"])
                values.append(value)
    names = sorted(curves) or ["nothing logged"]
    columns = 3
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(4.5 * columns, 3.0 * lines), layout="constrained")
    for number, name in enumerate(names):
        axes = figure.add_subplot(lines, columns, number + 1)
        for kind, (steps, values) in curves.get(name, {}).items():
            axes.plot(steps, values, label=kind, marker="o" if len(steps) < 20 else None)
        axes.set_title(name)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if len(curves.get(name, {})) > 1:
            axes.legend()
    path = folder / CURVES
    figure.savefig(path, dpi=100)
    return path
