"""Data sets by name."""

from __future__ import annotations

from pathlib import Path

from siamtrack.errors import ConfigError
from siamtrack.evaluation.clips import ClipBenchmark
from siamtrack.evaluation.sequence import Benchmark
from siamtrack.evaluation.toolkit.benchmark import ToolkitBenchmark
from siamtrack.evaluation.toolkit.datasets import SETS

ALIASES = {
    "got10k": "got10k-val",
    "nfs": "nfs30",
    "otb": "otb100",
    "otb2015": "otb100",
}


def benchmark_names() -> tuple[str, ...]:
    """Names that `open_benchmark` knows, aliases left out."""
    return ("clips", *sorted(SETS))


def open_benchmark(name: str, root: Path) -> Benchmark:
    """Open a data set to evaluate on.

    Args:
        name: `clips` for a folder of clips with their truth, or one of the toolkit's sets.
        root: its folder.

    Raises:
        ConfigError: unknown name; the known ones are listed.
        DatasetError: the root is missing or is not that data set.
    """
    known = ALIASES.get(name.lower(), name.lower())
    if known == "clips":
        return ClipBenchmark(root)
    if known not in SETS:
        raise ConfigError.unknown("data set", name, [*benchmark_names(), *ALIASES])
    return ToolkitBenchmark(known, root)
