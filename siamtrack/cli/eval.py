"""`siamtrack eval`: how good trackers are on a data set with ground truth."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from siamtrack.errors import EvaluationError
from siamtrack.evaluation.evaluate import (
    BarsWatcher,
    Evaluation,
    Running,
    prepare,
    run,
    write_submission,
)
from siamtrack.evaluation.report.report import FORMATS, Report, write_report
from siamtrack.evaluation.task import Outcome
from siamtrack.evaluation.trackers import TrackerSpec

FAMILIES = ("ope", "sre", "tre", "realtime", "corruptions", "supervised")


@click.command("eval", short_help="Evaluate trackers on a data set with ground truth.")
@click.argument("dataset")
@click.option(
    "--root",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the data set.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for results and report; results that are there are not computed again.",
)
@click.option(
    "--tracker",
    "trackers",
    multiple=True,
    metavar="NAME",
    help="siamtrack, siamfc, a weights file, opencv:csrt (kcf, mil, mosse, medianflow, nano, vit), "
    "package.module:Class, file.py:Class; options as NAME@key=value,key=value. May be repeated: "
    "the trackers take turns on every sequence. [default: siamtrack]",
)
@click.option(
    "--protocol",
    "families",
    multiple=True,
    type=click.Choice(FAMILIES),
    help="Ways of running; may be repeated. [default: ope, or supervised for VOT]",
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Only these sequences; wildcards allowed, may be repeated.",
)
@click.option("--partial", is_flag=True, help="Evaluate what is there of an incomplete data set.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes, each with a sequence of its own.",
)
@click.option(
    "--scheduler",
    default="",
    metavar="ADDRESS",
    help="Run on a Dask cluster instead, such as tcp://10.0.0.1:8786.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Computing threads of one tracker.",
)
@click.option(
    "--frame-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="S",
    help="A tracker that takes longer for a frame hangs: it is killed, its sequence failed.",
)
@click.option(
    "--fps",
    type=click.FloatRange(min=0, min_open=True),
    default=25.0,
    show_default=True,
    help="Rate at which frames come in --protocol realtime.",
)
@click.option("--backbone", metavar="FILE.onnx", help="Model file of opencv:nano.")
@click.option("--head", metavar="FILE.onnx", help="Model file of opencv:nano.")
@click.option("--net", metavar="FILE.onnx", help="Model file of opencv:vit.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["md", "latex"]),
    help="Print the table for a paper on stdout; may be repeated.  [default: md]",
)
@click.option(
    "--verify",
    is_flag=True,
    help="Have the got10k toolkit score the same files, and fail if a figure differs.",
)
@click.option("--no-run", is_flag=True, help="Only report on the results that are there.")
def command(
    dataset: str,
    root: Path,
    out: Path,
    trackers: tuple[str, ...],
    families: tuple[str, ...],
    only: tuple[str, ...],
    partial: bool,
    workers: int,
    scheduler: str,
    threads: int,
    frame_timeout: float,
    fps: float,
    backbone: str | None,
    head: str | None,
    net: str | None,
    formats: tuple[str, ...],
    verify: bool,
    no_run: bool,
) -> int:
    """Evaluate trackers on DATASET and write DIR/report.html.

    DATASET is clips (a folder of clips with their boxes beside them), got10k-val, got10k-test,
    otb2013, otb50, otb100, vot2013 to vot2019, lasot, trackingnet, nfs30, nfs240, uav123, uav20l,
    dtb70 or tcolor128. Nothing is downloaded. A run that was stopped goes on where it was when the
    same command is given again. The exit code is 3 when any sequence failed.
    """
    from siamtrack.evaluation.evaluate import Running
    from siamtrack.evaluation.trackers import parse_trackers

    files = {"nano": {"backbone": backbone, "head": head}, "vit": {"net": net}}
    order = Order(
        dataset=dataset,
        root=root,
        out=out,
        trackers=parse_trackers(trackers or ("siamtrack",), files),
        families=families,
        fps=fps,
        only=only,
        partial=partial,
        running=Running(workers, scheduler, threads, frame_timeout),
        formats=formats or ("md",),
        verify=verify,
        run=not no_run,
    )
    return evaluate(order)


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
    from siamtrack.evaluation.verify import verify

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
