"""What `siamtrack eval` does once its command line is understood."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from siamtrack.errors import EvaluationError
from siamtrack.evaluation.evaluate import Evaluation, Running, prepare, run
from siamtrack.evaluation.plan import Outcome
from siamtrack.evaluation.progress import BarsWatcher
from siamtrack.evaluation.report.tables import FORMATS
from siamtrack.evaluation.report.writing import Report, write_report
from siamtrack.evaluation.specs import TrackerSpec
from siamtrack.evaluation.submission import write_submission

SHOWN_FAILURES = 20


@dataclass(frozen=True, slots=True)
class Order:
    """An evaluation as it was asked for; see the options of `siamtrack eval`."""

    dataset: str
    root: Path
    out: Path
    trackers: Sequence[TrackerSpec]
    families: Sequence[str]
    fps: float
    only: Sequence[str]
    partial: bool
    running: Running
    formats: Sequence[str]
    verify: bool
    run: bool


def evaluate(order: Order) -> int:
    """Run, report, and say what failed.

    Returns:
        The exit code: 0, or 3 when a sequence failed.

    Raises:
        SiamTrackError: nothing could be run or reported.
    """
    if str(Path.cwd()) not in sys.path:
        # Modules of trackers are looked for where the user stands, as python -m does.
        sys.path.insert(0, str(Path.cwd()))
    evaluation = prepare(
        order.dataset,
        order.root,
        order.trackers,
        order.out,
        families=order.families,
        fps=order.fps,
        only=order.only,
        partial=order.partial,
    )
    outcomes = _run(evaluation, order) if order.run else []
    if evaluation.benchmark.protocol.truth_withheld:
        failures: Sequence[Mapping[str, str]] = [outcome.as_failure() for outcome in outcomes]
        _submit(evaluation, outcomes)
    else:
        failures = _report(evaluation, order, outcomes).failures
    _tell(failures)
    return EvaluationError.exit_code if failures else 0


def _run(evaluation: Evaluation, order: Order) -> list[Outcome]:
    groups = evaluation.pending()
    if not groups:
        return run(evaluation, order.running)
    workers = 0 if order.running.scheduler else min(order.running.workers, len(groups))
    try:
        with BarsWatcher(groups, workers) as watcher:
            return run(evaluation, order.running, watcher)
    except KeyboardInterrupt:
        click.echo(
            f"siamtrack: stopped; finished sequences are in {order.out / 'results'} and the same "
            "command goes on from there",
            err=True,
        )
        raise


def _report(evaluation: Evaluation, order: Order, outcomes: Sequence[Outcome]) -> Report:
    command = shlex.join(["siamtrack", *sys.argv[1:]])
    report = write_report(evaluation, command=command, running=order.running, failures=outcomes)
    for name in order.formats:
        click.echo(FORMATS[name](report.content["variants"][0]))
    if order.verify:
        _verify(evaluation, report)
    click.echo(f"siamtrack: report in {report.page}", err=True)
    return report


def _verify(evaluation: Evaluation, report: Report) -> None:
    from siamtrack.evaluation.toolkit.experiments import verify

    difference = verify(evaluation, report.scores)
    click.echo(
        f"siamtrack: the got10k toolkit gives the same figures (largest difference "
        f"{difference:.1e})",
        err=True,
    )


def _submit(evaluation: Evaluation, outcomes: Sequence[Outcome]) -> None:
    failed = {outcome.unit.key for outcome in outcomes}
    for entrant in evaluation.entrants:
        if entrant.key not in failed:
            archive = write_submission(evaluation, entrant)
            click.echo(f"siamtrack: {entrant.label}: submit {archive}", err=True)


def _tell(failures: Sequence[Mapping[str, str]]) -> None:
    for failure in failures[:SHOWN_FAILURES]:
        run_name = "" if failure["variant"] == "ope" else f" ({failure['variant']})"
        click.echo(
            f"siamtrack: failed: {failure['tracker']} on {failure['sequence']}{run_name}: "
            f"{failure['reason']}",
            err=True,
        )
    if len(failures) > SHOWN_FAILURES:
        click.echo(f"siamtrack: and {len(failures) - SHOWN_FAILURES} more", err=True)
    if failures:
        click.echo(
            f"siamtrack: {len(failures)} of the runs failed; the same command tries again what "
            "has no result",
            err=True,
        )
