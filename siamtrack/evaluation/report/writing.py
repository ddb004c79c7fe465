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
        scores: by variant, what the figures were made from.
    """

    page: Path
    content: dict[str, Any]
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
    content = build_content(
        evaluation,
        scores,
        command=command,
        running=running,
        failures=[failure.as_failure() for failure in failures],
    )
    text = json.dumps(content, indent=1, allow_nan=False)
    write_atomically(evaluation.out / "report.json", text + "\n")
    figures = draw_all(content)
    save_plots(figures, evaluation.out / "plots")
    first = scores[evaluation.variants[0].name]
    shown = failure_strips(evaluation, first, strips)
    page = evaluation.out / "report.html"
    write_atomically(page, render_page(content, first, figures, shown))
    return Report(page, content, scores)
