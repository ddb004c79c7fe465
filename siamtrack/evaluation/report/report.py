"""Every figure of an evaluation as plain data."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from siamtrack._version import __version__
from siamtrack.evaluation.evaluate import Evaluation
from siamtrack.evaluation.protocols import FIGURES, Protocol, heading
from siamtrack.evaluation.report.failures import failure_strips
from siamtrack.evaluation.report.page import render_page
from siamtrack.evaluation.report.plots import draw_all, save_plots
from siamtrack.evaluation.runs import Variant
from siamtrack.evaluation.scores import (
    ACCURACY_FIGURES,
    SEED,
    SequenceScore,
    TrackerScores,
    common_sequences,
    protocol_for,
    score_tracker,
)
from siamtrack.evaluation.statistics import Interval, bootstrap_mean, paired_test
from siamtrack.evaluation.task import TaskResult
from siamtrack.evaluation.vot import VotScore
from siamtrack.utils.files import atomic_write

Content = dict[str, Any]

FORMAT = 1
RUNNING = ("workers", "scheduler", "threads", "frame_timeout_s", "start_timeout_s")
"""Settings of the run that a report shows; speeds mean little without."""
PACKAGES = ("numpy", "scipy", "opencv-python", "opencv-contrib-python", "torch", "onnxruntime",
            "openvino", "got10k")  # fmt: skip


def score_all(evaluation: Evaluation) -> dict[str, list[TrackerScores]]:
    """Variant name to the scores of every tracker."""
    return {
        variant.name: [
            score_tracker(
                entry,
                evaluation.sequences,
                evaluation.benchmark.protocol,
                variant,
                evaluation.store,
            )
            for entry in evaluation.trackers
        ]
        for variant in evaluation.variants
    }


def build_content(
    evaluation: Evaluation,
    scores: Mapping[str, Sequence[TrackerScores]],
    *,
    command: str,
    failures: Sequence[Mapping[str, str]] = (),
) -> Content:
    """Assemble `report.json`.

    Args:
        evaluation: what was run.
        scores: from `score_all`.
        command: the command line that made it.
        failures: as in `failures.json`.
    """
    benchmark = evaluation.benchmark
    return {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "environment": environment(),
        "running": {name: getattr(evaluation.config, name) for name in RUNNING},
        "dataset": {
            "name": benchmark.name,
            "sequences": len(evaluation.sequences),
            "frames": sum(len(sequence) for sequence in evaluation.sequences.values()),
            "lengths": {name: len(s) for name, s in evaluation.sequences.items()},
            "left_out": list(evaluation.left_out),
        },
        "trackers": [
            {"label": e.label, "key": e.key, "spec": str(e.spec), "identity": dict(e.identity)}
            for e in evaluation.trackers
        ],
        "variants": [
            _variant_content(evaluation, variant, scores[variant.name])
            for variant in evaluation.variants
        ],
        "failures": [dict(failure) for failure in failures],
    }


def _variant_content(
    evaluation: Evaluation, variant: Variant, trackers: Sequence[TrackerScores]
) -> Content:
    protocol = protocol_for(evaluation.benchmark.protocol, variant)
    attributes = {name: s.attributes for name, s in evaluation.sequences.items()}
    return {
        "name": variant.name,
        "family": variant.family,
        "protocol": asdict(protocol),
        "trackers": {t.entry.label: _tracker_content(t, attributes) for t in trackers},
        "paired": _paired(protocol, trackers),
    }


def _tracker_content(tracker: TrackerScores, attributes: Mapping[str, frozenset[str]]) -> Content:
    summary = tracker.summary
    figures = dict(summary.figures) if summary else dict(tracker.supervised)
    content: Content = {
        "figures": {name: _interval(interval) for name, interval in figures.items()},
        "scored": len(tracker.sequences),
        "missing": dict(tracker.missing),
        "fps": _number(_median_fps(tracker)),
        "sequences": {name: _sequence_content(s) for name, s in tracker.sequences.items()},
        "attributes": _attribute_content(tracker, attributes),
    }
    if summary:
        content["frames"] = summary.frames
        content["curves"] = {
            "success": summary.success_curve.tolist(),
            "precision": summary.precision_curve.tolist(),
            "normalised_precision": summary.normalised_curve.tolist(),
        }
    return content


def _median_fps(tracker: TrackerScores) -> float:
    rates = [score.fps for score in tracker.sequences.values() if math.isfinite(score.fps)]
    return float(np.median(rates)) if rates else float("nan")


def _sequence_content(score: SequenceScore | VotScore) -> Content:
    if isinstance(score, VotScore):
        return {
            "accuracy": _number(score.accuracy),
            "robustness": score.robustness,
            "fps": _number(score.fps),
        }
    return {
        **{name: getattr(score, name) for name in ACCURACY_FIGURES},
        "frames": score.frames,
        "fps": _number(score.fps),
        "toolkit_fps": _number(score.toolkit_fps),
    }


def _attribute_content(tracker: TrackerScores, attributes: Mapping[str, frozenset[str]]) -> Content:
    """Success AUC over the sequences with each attribute."""
    content = {}
    rng = np.random.default_rng(SEED)
    for attribute in sorted(set().union(*attributes.values())):
        figures = [
            score.success_auc
            for name, score in tracker.sequences.items()
            if isinstance(score, SequenceScore) and attribute in attributes[name]
        ]
        if figures:
            interval = bootstrap_mean(figures, rng)
            content[attribute] = {"sequences": len(figures), "success_auc": _interval(interval)}
    return content


def _paired(protocol: Protocol, trackers: Sequence[TrackerScores]) -> list[Content]:
    """The first tracker against every other one, on the first headline figure."""
    if len(trackers) < 2 or not protocol.headline:
        return []
    figure, first = protocol.headline[0], trackers[0]
    tests = []
    for other in trackers[1:]:
        names = [
            name
            for name in common_sequences([first, other])
            if math.isfinite(getattr(first.sequences[name], figure))
            and math.isfinite(getattr(other.sequences[name], figure))
        ]
        if not names:
            continue
        test = paired_test(
            [getattr(first.sequences[name], figure) for name in names],
            [getattr(other.sequences[name], figure) for name in names],
            np.random.default_rng(SEED),
        )
        tests.append(
            {
                "first": first.entry.label,
                "second": other.entry.label,
                "figure": figure,
                "heading": FIGURES[figure][0],
                **test.as_dict(),
                "difference": _interval(test.difference),
            }
        )
    return tests


def environment() -> Content:
    """Versions and machine."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "siamtrack": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "packages": versions,
    }


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.is_file():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _interval(interval: Interval) -> Content:
    return {name: _number(value) for name, value in asdict(interval).items()}


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


STRIPS = 4
"""Failure strips per tracker."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was written.

    Attributes:
        page: `report.html`.
        content: what is in `report.json`.
        failures: what failed, while running or because its result file cannot be scored.
        scores: by variant, what the figures were made from.
    """

    page: Path
    content: dict[str, Any]
    failures: Sequence[Mapping[str, str]]
    scores: Mapping[str, Sequence[TrackerScores]]


def write_report(
    evaluation: Evaluation,
    *,
    command: str,
    failures: Sequence[TaskResult] = (),
    strips: int = STRIPS,
) -> Report:
    """Score the stored results and write `report.html`, `report.json` and `plots/`.

    Args:
        evaluation: what was run.
        command: the command line that made it.
        failures: tasks without a result.
        strips: failure strips per tracker.

    Raises:
        OutputError: the output folder cannot be written.
    """
    scores = score_all(evaluation)
    listed = _all_failures([failure.as_failure() for failure in failures], scores)
    content = build_content(evaluation, scores, command=command, failures=listed)
    text = json.dumps(content, indent=1, allow_nan=False)
    atomic_write(evaluation.config.out / "report.json", text + "\n")
    figures = draw_all(content)
    save_plots(figures, evaluation.config.out / "plots")
    first = scores[evaluation.variants[0].name]
    shown = failure_strips(evaluation, first, strips)
    page = evaluation.config.out / "report.html"
    atomic_write(page, render_page(content, first, figures, shown))
    return Report(page, content, listed, scores)


def _all_failures(
    failures: Sequence[Mapping[str, str]], scores: Mapping[str, Sequence[TrackerScores]]
) -> list[Mapping[str, str]]:
    """Those of running, and results that are missing or cannot be scored for another reason."""
    known = {(f["tracker"], f["sequence"], f["variant"]) for f in failures}
    return [
        *failures,
        *(
            {
                "tracker": tracker.entry.label,
                "sequence": sequence,
                "variant": variant,
                "reason": reason,
            }
            for variant, trackers in scores.items()
            for tracker in trackers
            for sequence, reason in tracker.missing.items()
            if (tracker.entry.label, sequence, variant) not in known
        ),
    ]


def _cells(variant: Content) -> tuple[list[str], list[list[str]], list[set[int]]]:
    """Headings, rows of text, and per row the columns in which it is best."""
    figures = list(variant["protocol"]["headline"])
    trackers = variant["trackers"]
    ranked = sorted(trackers, key=lambda label: -_value(trackers[label], figures[0]))
    best = {name: _best(trackers, name) for name in [*figures, "fps"]}
    rows, marks = [], []
    for label in ranked:
        tracker = trackers[label]
        total = tracker["scored"] + len(tracker["missing"])
        row = [label, *(_text(tracker, name) for name in figures)]
        row += ["-" if tracker["fps"] is None else f"{tracker['fps']:.1f}"]
        row += [f"{tracker['scored']}/{total}"]
        rows.append(row)
        columns = [*figures, "fps"]
        marks.append(
            {i + 1 for i, name in enumerate(columns) if _value(tracker, name) == best[name]}
        )
    return ["tracker", *map(heading, figures), "fps", "sequences"], rows, marks


def _value(tracker: Content, figure: str) -> float:
    value = tracker["fps"] if figure == "fps" else tracker["figures"].get(figure, {}).get("value")
    worst = float("-inf") if FIGURES[figure][1] else float("inf")
    return worst if value is None else float(value)


def _best(trackers: Content, figure: str) -> float:
    pick = max if FIGURES[figure][1] else min
    return pick(_value(tracker, figure) for tracker in trackers.values())


def _text(tracker: Content, figure: str) -> str:
    interval = tracker["figures"].get(figure)
    if interval is None or interval["value"] is None:
        return "-"
    text = f"{interval['value']:.3f}"
    if interval["low"] is not None and interval["high"] is not None:
        text += f" [{interval['low']:.3f}, {interval['high']:.3f}]"
    return text


def markdown_table(variant: Content) -> str:
    """GitHub-flavoured Markdown, best first, the best of each column bold."""
    headings, rows, marks = _cells(variant)
    lines = [_pipe(headings), _pipe(["---", *["---:"] * (len(headings) - 1)])]
    for row, bold in zip(rows, marks, strict=True):
        cells = [cell.replace("|", "\\|") for cell in row]
        lines.append(_pipe([f"**{c}**" if i in bold else c for i, c in enumerate(cells)]))
    return "\n".join(lines) + "\n"


def _pipe(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


LATEX_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)


def latex_table(variant: Content) -> str:
    """A `tabular` for the booktabs package, best first, the best of each column bold."""
    headings, rows, marks = _cells(variant)
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}", r"\toprule"]
    lines.append(" & ".join(cell.translate(LATEX_SPECIAL) for cell in headings) + r" \\")
    lines.append(r"\midrule")
    for row, bold in zip(rows, marks, strict=True):
        cells = [cell.translate(LATEX_SPECIAL) for cell in row]
        marked = [rf"\textbf{{{c}}}" if i in bold else c for i, c in enumerate(cells)]
        lines.append(" & ".join(marked) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


FORMATS = {"md": markdown_table, "latex": latex_table}
