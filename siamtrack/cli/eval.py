"""`siamtrack eval`: how good trackers are on a data set with ground truth."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from siamtrack.cli.options import (
    PATH,
    POSITIVE,
    max_frames_option,
    opencv_model_options,
    scheduler_option,
    views_option,
)
from siamtrack.errors import EvaluationError
from siamtrack.evaluation.protocols import FAMILIES

if TYPE_CHECKING:
    from siamtrack.evaluation.evaluate import Evaluation
    from siamtrack.evaluation.task import RunConfig, TaskResult

SHOWN_FAILURES = 20
ONE_OR_MORE = click.IntRange(min=1)


@click.command("eval", context_settings={"show_default": True})
@click.argument("dataset")
@click.option(
    "--root",
    type=PATH,
    metavar="DIR",
    help="Folder of the data set; DATASET may also be written NAME:DIR.",
)
@click.option(
    "--out",
    required=True,
    type=PATH,
    metavar="DIR",
    help="Folder for results and report; results that are there are not computed again.",
)
@click.option(
    "--tracker",
    "trackers",
    multiple=True,
    metavar="NAME",
    help="siamtrack, siamfc, a weights file, opencv:csrt (kcf, mil, mosse, medianflow, nano, vit), "
    "nanotrack:BACKBONE.onnx,HEAD.onnx (NanoTrackV3), package.module:Class, file.py:Class; options "
    "as NAME@key=value,key=value. May be repeated: the trackers take turns on every sequence. "
    "[default: siamtrack]",
)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    type=click.Choice(FAMILIES),
    help="Ways of running; may be repeated. [default: ope, or supervised for VOT]",
)
@views_option
@max_frames_option
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Only these sequences; wildcards allowed, may be repeated.",
)
@click.option("--partial", is_flag=True, help="Evaluate the complete sequences only.")
@click.option(
    "--workers",
    type=ONE_OR_MORE,
    default=1,
    metavar="N",
    help="Processes, each with a sequence of its own.",
)
@scheduler_option
@click.option(
    "--threads", type=ONE_OR_MORE, default=1, metavar="N", help="Computing threads of one tracker."
)
@click.option(
    "--frame-timeout",
    "frame_timeout_s",
    type=POSITIVE,
    default=60.0,
    metavar="S",
    help="Seconds per frame before a tracker counts as hung; it is killed and the sequence is "
    "reported as failed.",
)
@click.option(
    "--fps",
    "realtime_fps",
    type=POSITIVE,
    default=25.0,
    help="Rate at which frames come in --protocol realtime.",
)
@opencv_model_options
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
    root: Path | None,
    trackers: tuple[str, ...],
    formats: tuple[str, ...],
    verify: bool,
    no_run: bool,
    model_files: dict[str, Any],
    **settings: Any,
) -> int:
    """Evaluate trackers on DATASET and write DIR/report.html.

    DATASET is clips (a folder of clips with their boxes beside them), got10k-val, got10k-test,
    otb2013, otb50, otb100, vot2013 to vot2019, lasot, trackingnet, nfs30, nfs240, uav123, uav20l,
    dtb70 or tcolor128; or mot, clips with several targets in MOTChallenge's layout, of which HOTA,
    MOTA and IDF1 are printed. Nothing is downloaded. Give the same command again to resume a run
    that was stopped. The exit code is 3 if any sequence failed.
    """
    from siamtrack.evaluation.evaluate import prepare, with_older_results, write_submission
    from siamtrack.evaluation.task import RunConfig
    from siamtrack.evaluation.trackers import parse_trackers

    if str(Path.cwd()) not in sys.path:
        # Modules of trackers are looked for in the current folder, as python -m does.
        sys.path.insert(0, str(Path.cwd()))
    # 1. Check everything. `settings` are options that have the names of fields of `RunConfig`.
    specs = tuple(parse_trackers(trackers or ("siamtrack",), model_files))
    name, folder = _dataset_and_root(dataset, root)
    if name == "mot":
        return _evaluate_mot(RunConfig(dataset=name, root=folder, trackers=specs, **settings))
    evaluation = prepare(RunConfig(dataset=name, root=folder, trackers=specs, **settings))
    if not evaluation.benchmark.protocol.truth_withheld:
        import siamtrack.evaluation.report.report  # noqa: F401  packages it needs, before the work
    # 2. Run what has no result yet.
    if no_run:
        evaluation, failed = with_older_results(evaluation), []
    else:
        failed = _run(evaluation)
    # 3. An archive for the server of the data set, or a report.
    failures: Sequence[Mapping[str, str]] = [result.as_failure() for result in failed]
    if evaluation.benchmark.protocol.truth_withheld:
        incomplete = {result.task.key for result in failed}
        for tracker in evaluation.trackers:
            if tracker.key not in incomplete:
                archive = write_submission(evaluation, tracker)
                click.echo(f"siamtrack: {tracker.label}: submit {archive}", err=True)
    else:
        failures = _report(evaluation, failed, formats or ("md",), verify)
    # 4. Failures.
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
    return EvaluationError.exit_code if failures else 0


def _evaluate_mot(config: RunConfig) -> int:
    """Several targets per clip have figures of their own."""
    from siamtrack.evaluation.many_targets import evaluate_mot, mot_markdown

    if config.protocols or config.views != ("start",) or config.max_frames or config.scheduler:
        raise click.UsageError(
            "mot is run in one way; leave --protocol, --views, --max-frames and --scheduler out",
            click.get_current_context(),
        )
    figures, failures = evaluate_mot(config)
    click.echo(mot_markdown(figures))
    click.echo(
        "siamtrack: every target was given once, in its first box: not comparable with tables of "
        "detectors",
        err=True,
    )
    for failure in failures[:SHOWN_FAILURES]:
        click.echo(f"siamtrack: failed: {failure}", err=True)
    return EvaluationError.exit_code if failures else 0


def _dataset_and_root(dataset: str, root: Path | None) -> tuple[str, Path]:
    """Name and folder of the data set, also from NAME:DIR as the commands on data sets write it."""
    name, _, folder = dataset.partition(":")
    if root is not None:
        return dataset, root
    if not folder:
        raise click.UsageError(
            f"where is {dataset}? add --root DIR, as in siamtrack eval clips --root my_clips",
            click.get_current_context(),
        )
    return "clips" if name == "folder" else name, Path(folder)


def _run(evaluation: Evaluation) -> list[TaskResult]:
    from siamtrack.evaluation.evaluate import EvaluationProgress, run

    config, groups = evaluation.config, evaluation.pending()
    if not groups:
        return run(evaluation)
    workers = 0 if config.scheduler else min(config.workers, len(groups))
    try:
        with EvaluationProgress(groups, workers) as progress:
            return run(evaluation, progress.on_frame, progress.on_result)
    except KeyboardInterrupt:
        click.echo(
            f"siamtrack: stopped; finished sequences are in {config.out / 'results'} and the same "
            "command resumes the run",
            err=True,
        )
        raise


def _report(
    evaluation: Evaluation, failed: Sequence[TaskResult], formats: Sequence[str], verify: bool
) -> Sequence[Mapping[str, str]]:
    """Write the report and print its table; returns all failures, also those of scoring."""
    from siamtrack.evaluation.report.report import FORMATS, paired_markdown, write_report

    command_line = shlex.join(["siamtrack", *sys.argv[1:]])
    report = write_report(evaluation, command=command_line, failures=failed)
    summaries = report.content["summaries"]
    for name in formats:
        for summary in summaries:
            if len(summaries) > 1:
                click.echo(f"% {summary['title']}" if name == "latex" else f"{summary['title']}\n")
            click.echo(FORMATS[name](summary))
        if name == "md" and (compared := paired_markdown(report.content)):
            click.echo(compared)
    if verify:
        from siamtrack.evaluation.verify import verify as compare_with_toolkit

        difference = compare_with_toolkit(evaluation, report.scores)
        click.echo(
            f"siamtrack: the got10k toolkit gives the same figures (largest difference "
            f"{difference:.1e})",
            err=True,
        )
    click.echo(f"siamtrack: report in {report.page}", err=True)
    failures: list[dict[str, str]] = report.content["failures"]
    return failures
