"""The toolkit's own experiments on our result files: a second opinion on every figure.

In order: `verify`, `toolkit_performance`, `experiment_for` (an experiment without its downloads).
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from siamtrack.errors import ConfigError, EvaluationError
from siamtrack.evaluation.datasets import TOOLKIT_BENCHMARKS, Benchmark, ToolkitBenchmark
from siamtrack.evaluation.evaluate import Evaluation
from siamtrack.evaluation.got10k_toolkit import quietly, toolkit_module
from siamtrack.evaluation.scores import SequenceScore, Summary, TrackerScores
from siamtrack.evaluation.vot import BURN_IN, TAGS, VotScore

TOLERANCE = 1e-9
"""Largest difference that verification accepts; averaging in another order costs about 1e-16."""

_OTB_SETTINGS: Mapping[str, object] = {"nbins_iou": 21, "nbins_ce": 51}
_SETTINGS: Mapping[str, Mapping[str, object]] = {
    "ExperimentGOT10k": {"nbins_iou": 101, "repetitions": 3},
    "ExperimentVOT": {
        "skip_initialize": 5,
        "burnin": BURN_IN,
        "repetitions": 15,
        "tags": list(TAGS),
    },
}
"""What the experiments' constructors set besides reader and folders; else `_OTB_SETTINGS`."""

# Our names of figures and curves, and the toolkit's.
_OTB_FIGURES = {
    "success_auc": "success_score",
    "precision_20px": "precision_score",
    "success_rate_50": "success_rate",
}
_OTB_CURVES = {"success": "success_curve", "precision": "precision_curve"}
_GOT10K_FIGURES = {"average_overlap": "ao", "success_rate_50": "sr"}
_GOT10K_CURVES = {"success": "succ_curve"}


def verify(evaluation: Evaluation, scores: Mapping[str, Sequence[TrackerScores]]) -> float:
    """Compare the figures of `score_all` with the toolkit's on the same result files.

    Returns:
        The largest difference found.

    Raises:
        EvaluationError: a difference above `TOLERANCE`, with the figure.
        ConfigError: the toolkit has no experiment for the data set.
    """
    variant = "supervised" if evaluation.benchmark.protocol.layout == "vot" else "ope"
    if variant not in scores:
        raise ConfigError(
            f"--verify compares {variant} runs of whole sequences; add --protocol {variant}, with "
            "the view start and without --max-frames"
        )
    worst = 0.0
    for tracker in scores[variant]:
        if tracker.summary is None:
            continue
        names = list(tracker.sequences)
        theirs = toolkit_performance(evaluation, tracker.entry.key, names, variant)
        for name, ours, other in _compared_figures(tracker.summary, tracker.sequences, theirs):
            if not abs(ours - other) <= TOLERANCE:
                raise EvaluationError(
                    f"{tracker.entry.label}: {name} is {ours!r} here and {other!r} in the got10k "
                    "toolkit; report this with the result files"
                )
            worst = max(worst, abs(ours - other))
    return worst


def _compared_figures(
    summary: Summary,
    sequences: Mapping[str, SequenceScore | VotScore],
    theirs: Mapping[str, Any],
) -> Iterator[tuple[str, float, float]]:
    """Yield figure name, our value and the toolkit's value."""
    ours = summary.figures
    if "overall" not in theirs:
        for name in ("accuracy", "robustness"):
            yield name, ours[name].value, theirs[name]
        return
    overall = theirs["overall"]
    figures, curves = _OTB_FIGURES, _OTB_CURVES
    if "ao" in overall:
        figures, curves = _GOT10K_FIGURES, _GOT10K_CURVES
    for name, other in figures.items():
        yield name, ours[name].value, overall[other]
    for curve, other in curves.items():
        for a, b in zip(summary.curves[curve], overall[other], strict=True):
            yield other, float(a), b
    for sequence, score in sequences.items():
        for name, other in figures.items():
            yield f"{sequence} {name}", score.figures[name], theirs["seq_wise"][sequence][other]


def toolkit_performance(
    evaluation: Evaluation, key: str, names: Sequence[str], variant: str
) -> dict[str, Any]:
    """What the toolkit's `report` says about one tracker's results on the sequences `names`."""
    results = evaluation.store.toolkit_results(variant)
    with tempfile.TemporaryDirectory(prefix="siamtrack-toolkit-") as reports:
        experiment = experiment_for(evaluation.benchmark, names, results, Path(reports))
        with quietly(), warnings.catch_warnings():
            # Pictures opened for their size and left open, and its plots' complaints.
            warnings.simplefilter("ignore")
            performance = experiment.report([key])
    return dict(performance[key])


def experiment_for(benchmark: Benchmark, names: Sequence[str], results: Path, reports: Path) -> Any:
    """The toolkit's experiment for a data set, restricted to `names`, without any download.

    Args:
        benchmark: the data set.
        names: sequences to report on.
        results: the toolkit's `result_dir`.
        reports: the toolkit's `report_dir`.

    Raises:
        ConfigError: toolkit 0.1.3 has no experiment for that data set.
    """
    known = TOOLKIT_BENCHMARKS.get(benchmark.name)
    withheld = benchmark.protocol.truth_withheld
    if (
        known is None
        or not (known.experiment and isinstance(benchmark, ToolkitBenchmark))
        or withheld
    ):
        raise ConfigError(
            f"the got10k toolkit 0.1.3 scores no {benchmark.name}; leave --verify out"
        )
    is_vot = known.experiment == "ExperimentVOT"
    cls = getattr(toolkit_module("experiments.vot" if is_vot else "experiments"), known.experiment)
    # `__new__` without `__init__`: some constructors download, and only their settings are needed.
    experiment = cls.__new__(cls)
    experiment.dataset = _RestrictedReader(benchmark, names)
    experiment.result_dir = str(results / benchmark.folder)
    experiment.report_dir = str(reports)
    settings = _SETTINGS.get(known.experiment, _OTB_SETTINGS)
    for setting, value in {**settings, **known.options, **known.settings}.items():
        setattr(experiment, setting, value)
    return experiment


class _RestrictedReader:
    """The reader of an experiment, with some sequences only and the rows the report needs."""

    def __init__(self, benchmark: ToolkitBenchmark, names: Sequence[str]):
        self.seq_names = list(names)
        self.return_meta = benchmark.protocol.layout == "vot"
        self._benchmark = benchmark

    def __len__(self) -> int:
        return len(self.seq_names)

    def __getitem__(self, which: int | str) -> tuple[Any, ...]:
        name = which if isinstance(which, str) else self.seq_names[which]
        return self._benchmark.toolkit_item(name, with_meta=self.return_meta)
