"""The toolkit's own experiments on our result files: a second opinion on every figure."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from siamtrack.errors import ConfigError, EvaluationError
from siamtrack.evaluation.datasets import TOOLKIT_BENCHMARKS, Benchmark, ToolkitBenchmark
from siamtrack.evaluation.evaluate import Evaluation
from siamtrack.evaluation.got10k_toolkit import quietly, toolkit_module
from siamtrack.evaluation.scores import SequenceScore, TrackerScores

TOLERANCE = 1e-9
"""Largest difference that verification accepts; averaging in another order costs about 1e-16."""


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
    if known is None or not known.experiment or benchmark.protocol.truth_withheld:
        raise ConfigError(
            f"the got10k toolkit 0.1.3 scores no {benchmark.name}; leave --verify out"
        )
    cls = getattr(toolkit_module("experiments"), known.experiment)
    if known.experiment == "ExperimentVOT":
        cls = toolkit_module("experiments.vot").ExperimentVOT

    class Offline(cls):  # type: ignore[misc, valid-type]
        """The constructors of some download; their settings are all that is wanted of them."""

    experiment = Offline.__new__(Offline)
    experiment.dataset = _toolkit_reader(benchmark, names)
    experiment.result_dir = str(results / benchmark.folder)
    experiment.report_dir = str(reports)
    for setting, value in {**SETTINGS[known.experiment], **known.options, **known.settings}.items():
        setattr(experiment, setting, value)
    return experiment


_CURVES: Mapping[str, object] = {"nbins_iou": 21, "nbins_ce": 51}
SETTINGS: dict[str, Mapping[str, object]] = {
    **dict.fromkeys(
        (
            "ExperimentOTB",
            "ExperimentUAV123",
            "ExperimentNfS",
            "ExperimentDTB70",
            "ExperimentTColor128",
        ),
        _CURVES,
    ),
    "ExperimentGOT10k": {"nbins_iou": 101, "repetitions": 3},
    "ExperimentVOT": {
        "skip_initialize": 5,
        "burnin": 10,
        "repetitions": 15,
        "tags": [
            "camera_motion",
            "illum_change",
            "occlusion",
            "size_change",
            "motion_change",
            "empty",
        ],
    },
}
"""What the experiments' constructors set besides the reader and the folders."""


class _Restricted:
    """The reader of an experiment, with some sequences only and the rows the report needs."""

    def __init__(self, benchmark: ToolkitBenchmark, names: Sequence[str]):
        self.seq_names = list(names)
        self.return_meta = False
        self._benchmark = benchmark

    def __len__(self) -> int:
        return len(self.seq_names)

    def __getitem__(self, which: int | str) -> tuple[Any, ...]:
        name = which if isinstance(which, str) else self.seq_names[which]
        return self._benchmark.toolkit_item(name, with_meta=self.return_meta)


def _toolkit_reader(benchmark: Benchmark, names: Sequence[str]) -> _Restricted:
    if not isinstance(benchmark, ToolkitBenchmark):
        raise ConfigError(f"the got10k toolkit does not know {benchmark.name}")
    reader = _Restricted(benchmark, names)
    reader.return_meta = benchmark.protocol.layout == "vot"
    return reader


def toolkit_performance(
    evaluation: Evaluation, key: str, names: Sequence[str], variant: str
) -> dict[str, Any]:
    """What the toolkit's `report` says about one tracker's results on `names`.

    Args:
        evaluation: whose results.
        key: of the tracker.
        names: sequences, all with results.
        variant: `ope`, or `supervised` for VOT.
    """
    results = evaluation.store.toolkit_results(variant)
    with tempfile.TemporaryDirectory(prefix="siamtrack-toolkit-") as reports:
        experiment = experiment_for(evaluation.benchmark, names, results, Path(reports))
        with quietly(), warnings.catch_warnings():
            # Pictures opened for their size and left open, and its plots' complaints.
            warnings.simplefilter("ignore")
            performance = experiment.report([key])
    return dict(performance[key])


def verify(evaluation: Evaluation, scores: Mapping[str, Sequence[TrackerScores]]) -> float:
    """Compare our figures with the toolkit's on the same result files.

    Args:
        evaluation: whose results.
        scores: from `score_all`.

    Returns:
        The largest difference found.

    Raises:
        EvaluationError: a difference above `TOLERANCE`, with the figure.
        ConfigError: the toolkit has no experiment for the data set.
    """
    vot = evaluation.benchmark.protocol.layout == "vot"
    variant = "supervised" if vot else "ope"
    if variant not in scores:
        raise ConfigError(f"--verify compares {variant} runs; add --protocol {variant}")
    worst = 0.0
    for tracker in scores[variant]:
        theirs = toolkit_performance(
            evaluation, tracker.entry.key, list(tracker.sequences), variant
        )
        for name, ours, other in _pairs(tracker, theirs):
            if not abs(ours - other) <= TOLERANCE:
                raise EvaluationError(
                    f"{tracker.entry.label}: {name} is {ours!r} here and {other!r} in the got10k "
                    "toolkit; report this with the result files"
                )
            worst = max(worst, abs(ours - other))
    return worst


def _pairs(tracker: TrackerScores, theirs: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Figure name, our value, the toolkit's value."""
    if tracker.summary is None:
        return [
            (name, tracker.supervised[name].value, theirs[name])
            for name in ("accuracy", "robustness")
        ]
    names = {"success_auc": "success_score", "precision_20px": "precision_score",
             "success_rate_50": "success_rate"}  # fmt: skip
    curves = {"success": "success_curve", "precision": "precision_curve"}
    if "ao" in theirs["overall"]:
        names, curves = (
            {"average_overlap": "ao", "success_rate_50": "sr"},
            {"success": "succ_curve"},
        )
    figures, overall = tracker.summary.figures, theirs["overall"]
    pairs = [(name, figures[name].value, overall[other]) for name, other in names.items()]
    for curve, other in curves.items():
        ours = getattr(tracker.summary, f"{curve}_curve")
        pairs += [(other, float(a), b) for a, b in zip(ours, overall[other], strict=True)]
    for sequence, score in tracker.sequences.items():
        if isinstance(score, SequenceScore):
            row = theirs["seq_wise"][sequence]
            pairs += [
                (f"{sequence} {name}", float(getattr(score, name)), row[other])
                for name, other in names.items()
            ]
    return pairs
