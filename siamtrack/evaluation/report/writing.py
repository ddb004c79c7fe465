"""Write everything a reader gets, in one call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siamtrack.evaluation.evaluate import Evaluation, Running
from siamtrack.evaluation.files import write_atomically
from siamtrack.evaluation.plan import Outcome
from siamtrack.evaluation.report.content import build_content, score_all
from siamtrack.evaluation.report.page import render_page
from siamtrack.evaluation.report.plots import draw_all, save_plots
from siamtrack.evaluation.report.strips import failure_strips
from siamtrack.evaluation.scoring import TrackerScores

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
    running: Running,
    failures: Sequence[Outcome] = (),
    strips: int = STRIPS,
) -> Report:
    """Score the stored results and write `report.html`, `report.json` and `plots/`.

    Args:
        evaluation: what was run.
        command: the command line that made it.
        running: how it was run.
        failures: units without a result.
        strips: failure strips per tracker.

    Raises:
        OutputError: the output folder cannot be written.
    """
    scores = score_all(evaluation)
    listed = _all_failures([failure.as_failure() for failure in failures], scores)
    content = build_content(
        evaluation,
        scores,
        command=command,
        running=running,
        failures=listed,
    )
    text = json.dumps(content, indent=1, allow_nan=False)
    write_atomically(evaluation.out / "report.json", text + "\n")
    figures = draw_all(content)
    save_plots(figures, evaluation.out / "plots")
    first = scores[evaluation.variants[0].name]
    shown = failure_strips(evaluation, first, strips)
    page = evaluation.out / "report.html"
    write_atomically(page, render_page(content, first, figures, shown))
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
                "tracker": tracker.entrant.label,
                "sequence": sequence,
                "variant": variant,
                "reason": reason,
            }
            for variant, trackers in scores.items()
            for tracker in trackers
            for sequence, reason in tracker.missing.items()
            if (tracker.entrant.label, sequence, variant) not in known
        ),
    ]
