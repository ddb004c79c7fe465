"""The report of an evaluation: every figure as plain data, tables, page and plots.

In order: `write_report`, `build_content` (what `report.json` holds), `FORMATS` (tables of results).
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
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
from siamtrack.evaluation.report.tables import interval_text, markdown_table, without_nan
from siamtrack.evaluation.runs import Variant
from siamtrack.evaluation.scores import (
    SEED,
    SequenceScore,
    TrackerScores,
    common_sequences,
    protocol_for,
    score_all,
)
from siamtrack.evaluation.statistics import bootstrap_mean, paired_test
from siamtrack.evaluation.task import TaskResult
from siamtrack.evaluation.vot import VotScore
from siamtrack.utils.files import atomic_write

Content = dict[str, Any]

FORMAT = 1
RUN_SETTINGS = ("workers", "scheduler", "threads", "frame_timeout_s", "start_timeout_s")
"""Settings of the run that a report shows; speeds mean little without."""
PACKAGES = ("numpy", "scipy", "opencv-python", "opencv-contrib-python", "torch", "onnxruntime",
            "openvino", "got10k")  # fmt: skip
STRIPS = 4
"""Rows of pictures of failures per tracker."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was written.

    Attributes:
        page: `report.html`.
        content: what is in `report.json`; its "failures" are those of running and of scoring.
        scores: by variant, what the figures were made from.
    """

    page: Path
    content: Content
    scores: Mapping[str, Sequence[TrackerScores]]


def write_report(
    evaluation: Evaluation, *, command: str, failures: Sequence[TaskResult] = ()
) -> Report:
    """Score the stored results and write `report.html`, `report.json` and `plots/`.

    Args:
        evaluation: what was run.
        command: the command line that made it.
        failures: tasks without a result.

    Raises:
        OutputError: the output folder cannot be written.
    """
    out = evaluation.config.out
    scores = score_all(evaluation)
    content = build_content(evaluation, scores, command, failures)
    atomic_write(out / "report.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    plots = draw_all(content)
    save_plots(plots, out / "plots")
    first = scores[evaluation.variants[0].name]
    strips = failure_strips(evaluation, first, STRIPS)
    atomic_write(out / "report.html", render_page(content, first, plots, strips))
    return Report(out / "report.html", content, scores)


# --- Content of report.json -----------------------------------------------------------------------


def build_content(
    evaluation: Evaluation,
    scores: Mapping[str, Sequence[TrackerScores]],
    command: str,
    failures: Sequence[TaskResult],
) -> Content:
    """Assemble `report.json` from the scores of `score_all`; arguments as in `write_report`."""
    benchmark = evaluation.benchmark
    content: Content = without_nan(
        {
            "format": FORMAT,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command,
            "environment": environment(),
            "running": {name: getattr(evaluation.config, name) for name in RUN_SETTINGS},
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
            "failures": _all_failures(failures, scores),
        }
    )
    return content


def _all_failures(
    failures: Sequence[TaskResult], scores: Mapping[str, Sequence[TrackerScores]]
) -> list[dict[str, str]]:
    """Failures of running, and results that are missing or cannot be scored for another reason."""
    listed = [failure.as_failure() for failure in failures]
    known = {(f["tracker"], f["sequence"], f["variant"]) for f in listed}
    for variant, trackers in scores.items():
        for tracker in trackers:
            for sequence, reason in tracker.missing.items():
                names = {"tracker": tracker.entry.label, "sequence": sequence, "variant": variant}
                if tuple(names.values()) not in known:
                    listed.append({**names, "reason": reason})
    return listed


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
        "paired": _paired_tests(protocol, trackers),
    }


def _tracker_content(tracker: TrackerScores, attributes: Mapping[str, frozenset[str]]) -> Content:
    summary, scores = tracker.summary, tracker.sequences.values()
    rates = [score.fps for score in scores if math.isfinite(score.fps)]
    figures = summary.figures if summary else {}
    content: Content = {
        "figures": {name: asdict(interval) for name, interval in figures.items()},
        "scored": len(scores),
        "missing": dict(tracker.missing),
        "fps": float(np.median(rates)) if rates else None,
        "sequences": {name: _sequence_content(s) for name, s in tracker.sequences.items()},
        "attributes": _attribute_content(tracker, attributes),
    }
    if summary and summary.curves:
        content |= {"frames": summary.frames, "curves": summary.curves}
    return content


def _sequence_content(score: SequenceScore | VotScore) -> Content:
    if isinstance(score, VotScore):
        return {**score.figures, "fps": score.fps}
    speeds = {"fps": score.fps, "toolkit_fps": score.toolkit_fps}
    return {**score.figures, "frames": score.frames, **speeds}


def _attribute_content(tracker: TrackerScores, attributes: Mapping[str, frozenset[str]]) -> Content:
    """Success AUC over the sequences with each attribute."""
    content = {}
    rng = np.random.default_rng(SEED)
    for attribute in sorted(set().union(*attributes.values())):
        figures = [
            score.figures["success_auc"]
            for name, score in tracker.sequences.items()
            if isinstance(score, SequenceScore) and attribute in attributes[name]
        ]
        if figures:
            interval = asdict(bootstrap_mean(figures, rng))
            content[attribute] = {"sequences": len(figures), "success_auc": interval}
    return content


def _paired_tests(protocol: Protocol, trackers: Sequence[TrackerScores]) -> list[Content]:
    """The first tracker against every other one, on the first headline figure."""
    if not protocol.headline:
        return []
    figure, first = protocol.headline[0], trackers[0]
    tests = []
    for second in trackers[1:]:
        pairs = [
            (first.sequences[name].figures[figure], second.sequences[name].figures[figure])
            for name in common_sequences(first, second)
        ]
        pairs = [pair for pair in pairs if np.isfinite(pair).all()]
        if pairs:
            ours, theirs = np.transpose(pairs)
            test = paired_test(ours, theirs, np.random.default_rng(SEED))
            labels = {"first": first.entry.label, "second": second.entry.label}
            heads = {"figure": figure, "heading": FIGURES[figure][0]}
            tests.append({**labels, **heads, **asdict(test)})
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
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# --- Tables of results ----------------------------------------------------------------------------


def results_markdown(variant: Content) -> str:
    """GitHub-flavored Markdown, best first, the best of each column bold."""
    headings, rows = _result_rows(variant, "**{}**".format, {})
    return markdown_table(headings, rows) + "\n"


LATEX_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


def results_latex(variant: Content) -> str:
    """A `tabular` for the booktabs package, best first, the best of each column bold."""
    headings, rows = _result_rows(variant, r"\textbf{{{}}}".format, LATEX_SPECIAL)
    lines = [" & ".join(cells) + r" \\" for cells in (headings, *rows)]
    begin = rf"\begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}"
    rules = [begin, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    return "\n".join([*rules, r"\end{tabular}"]) + "\n"


FORMATS = {"md": results_markdown, "latex": results_latex}
"""Tables that `siamtrack eval --format` prints."""


def _result_rows(
    variant: Content, bold: Callable[[str], str], special: Mapping[int, str]
) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of text, with `special` characters replaced and the best figures bold."""
    trackers, figures = variant["trackers"], list(variant["protocol"]["headline"])
    columns = [*figures, "fps"]
    # As ranks, the highest is the best in every column.
    ranks = {
        label: [_rank(tracker, name) for name in columns] for label, tracker in trackers.items()
    }
    best = [max(column) for column in zip(*ranks.values(), strict=True)]
    rows = []
    for label in sorted(trackers, key=lambda label: -ranks[label][0]):
        tracker = trackers[label]
        fps = "-" if tracker["fps"] is None else f"{tracker['fps']:.1f}"
        cells = [_figure_text(tracker, name) for name in figures] + [fps]
        marked = [
            bold(cell) if rank == top else cell
            for cell, rank, top in zip(cells, ranks[label], best, strict=True)
        ]
        total = tracker["scored"] + len(tracker["missing"])
        rows.append([label.translate(special), *marked, f"{tracker['scored']}/{total}"])
    return ["tracker", *map(heading, figures), "fps", "sequences"], rows


def _rank(tracker: Content, figure: str) -> float:
    value = tracker["fps"] if figure == "fps" else tracker["figures"].get(figure, {}).get("value")
    if value is None:
        return float("-inf")
    return float(value) if FIGURES[figure][1] else -float(value)


def _figure_text(tracker: Content, figure: str) -> str:
    interval = tracker["figures"].get(figure)
    return "-" if interval is None else interval_text(interval)
