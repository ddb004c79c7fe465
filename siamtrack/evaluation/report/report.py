"""The report of an evaluation: every figure as plain data, tables, page and plots.

In order: `write_report`, `build_content` (what `report.json` holds), `FORMATS` (tables of results),
`paired_markdown`.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from siamtrack._version import __version__
from siamtrack.evaluation.evaluate import Evaluation
from siamtrack.evaluation.groups import SequenceGroup, split_by_use
from siamtrack.evaluation.protocols import FIGURES, PER_1000, Protocol, digits, heading
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
    mean_over_runs,
    protocol_for,
    score_all,
)
from siamtrack.evaluation.statistics import bootstrap_mean, paired_test
from siamtrack.evaluation.task import TaskResult
from siamtrack.evaluation.vot import VotScore
from siamtrack.utils.files import atomic_write

Content = dict[str, Any]

FORMAT = 1
RUN_SETTINGS = ("views", "max_frames", "workers", "scheduler", "threads", "frame_timeout_s",
                "start_timeout_s")  # fmt: skip
"""Settings of the run that a report shows; speeds mean little without the last ones."""
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
            "summaries": _summaries(evaluation, scores),
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
        "trackers": {
            t.entry.label: _tracker_content(t, attributes, evaluation.groups) for t in trackers
        },
        "paired": _paired_tests(protocol, trackers, evaluation.groups),
    }


def _summaries(
    evaluation: Evaluation, scores: Mapping[str, Sequence[TrackerScores]]
) -> list[Content]:
    """Figures of every family of variants: means over all runs of a sequence, then over sequences.

    Sequences that chose options before are summarized apart from the others.
    """
    families: dict[str, list[Variant]] = {}
    for variant in evaluation.variants:
        families.setdefault(variant.family, []).append(variant)
    summaries = []
    for family, variants in families.items():
        protocol = protocol_for(evaluation.benchmark.protocol, variants[0])
        runs = list(zip(*(scores[variant.name] for variant in variants), strict=True))
        for part, members in split_by_use(evaluation.groups).items():
            trackers = [mean_over_runs(protocol, tracker, members) for tracker in runs]
            count = len({group.group for group in members.values()})
            means = f", means of {len(variants)} runs" if len(variants) > 1 else ""
            grouped = f" in {count} groups" if count < len(members) else ""
            content = {
                "title": f"{family}{means}: {part}, {len(members)} sequences{grouped}",
                "family": family,
                "part": part,
                "runs": [variant.name for variant in variants],
                "sequences": len(members),
                "groups": count,
                "protocol": asdict(protocol),
                "trackers": {t.entry.label: _figures_content(t) for t in trackers},
                "paired": _paired_tests(protocol, trackers, members),
            }
            summaries.append(content)
    return summaries


def _figures_content(tracker: TrackerScores) -> Content:
    scores = tracker.sequences.values()
    rates = [score.fps for score in scores if math.isfinite(score.fps)]
    figures = tracker.summary.figures if tracker.summary else {}
    return {
        "figures": {name: asdict(interval) for name, interval in figures.items()},
        "scored": len(scores),
        "missing": dict(tracker.missing),
        "fps": float(np.median(rates)) if rates else None,
    }


def _tracker_content(
    tracker: TrackerScores,
    attributes: Mapping[str, frozenset[str]],
    groups: Mapping[str, SequenceGroup],
) -> Content:
    summary = tracker.summary
    content: Content = {
        **_figures_content(tracker),
        "sequences": {name: _sequence_content(s) for name, s in tracker.sequences.items()},
        "attributes": _attribute_content(tracker, attributes, groups),
    }
    if summary and summary.curves:
        content |= {"frames": summary.frames, "curves": summary.curves}
    return content


def _sequence_content(score: SequenceScore | VotScore) -> Content:
    if isinstance(score, VotScore):
        return {**score.figures, "fps": score.fps}
    speeds = {"fps": score.fps, "toolkit_fps": score.toolkit_fps}
    return {**score.figures, "frames": score.frames, **speeds}


def _attribute_content(
    tracker: TrackerScores,
    attributes: Mapping[str, frozenset[str]],
    groups: Mapping[str, SequenceGroup],
) -> Content:
    """Success AUC over the sequences with each attribute."""
    content = {}
    rng = np.random.default_rng(SEED)
    for attribute in sorted(set().union(*attributes.values())):
        figures = {
            name: score.figures["success_auc"]
            for name, score in tracker.sequences.items()
            if "success_auc" in score.figures and attribute in attributes[name]
        }
        if figures:
            members = [groups[name].group for name in figures]
            interval = asdict(bootstrap_mean(list(figures.values()), rng, groups=members))
            content[attribute] = {"sequences": len(figures), "success_auc": interval}
    return content


def _paired_tests(
    protocol: Protocol, trackers: Sequence[TrackerScores], groups: Mapping[str, SequenceGroup]
) -> list[Content]:
    """The first tracker against every other one, on the first headline figure.

    Of failures and picks on all of them.
    """
    figures = protocol.headline if PER_1000 & set(protocol.headline) else protocol.headline[:1]
    first, tests = trackers[0], []
    for second in trackers[1:]:
        for figure in figures:
            pairs = {
                name: (first.sequences[name], second.sequences[name])
                for name in common_sequences(first, second)
                if math.isfinite(first.sequences[name].figures[figure])
                and math.isfinite(second.sequences[name].figures[figure])
            }
            if not pairs:
                continue
            ours, theirs = np.transpose([[s.figures[figure] for s in p] for p in pairs.values()])
            frames = [float(np.sum(score.frames)) for score, _ in pairs.values()]
            test = paired_test(
                ours,
                theirs,
                np.random.default_rng(SEED),
                weights=frames if figure in PER_1000 else None,
                groups=[groups[name].group for name in pairs],
            )
            if not FIGURES[figure][1]:
                test = replace(test, wins=test.sequences - test.wins - test.ties)
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
    """GitHub-flavored Markdown of a summary or variant, best first, the best of a column bold."""
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
    return "-" if interval is None else interval_text(interval, f".{digits(figure)}f")


def paired_markdown(content: Content) -> str:
    """The first tracker minus every other one, in all summaries; empty with one tracker."""
    rows = [
        (
            f"{test['first']} minus {test['second']}",
            f"{summary['family']}, {summary['part']}",
            test["heading"],
            interval_text(test["difference"], f"+.{digits(test['figure'])}f"),
            f"{test['p_value']:.4f}",
            f"{test['wins']}, {test['ties']}, {test['sequences'] - test['wins'] - test['ties']}",
        )
        for summary in content["summaries"]
        for test in summary["paired"]
    ]
    headings = ("trackers", "runs", "figure", "difference", "p", "better, equal, worse")
    return markdown_table(headings, rows, "lllrrr") + "\n" if rows else ""
