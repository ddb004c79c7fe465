"""`siamtrack batch`: thousands of clips, on this machine or a Dask cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from siamtrack.cli.options import PATH, POSITIVE, model_options, scheduler_option, tracker_options
from siamtrack.errors import DatasetError

if TYPE_CHECKING:
    from siamtrack.batch.run import Batch

SHOWN_FAILURES = 20
SOME_FAILED = 1
"""Exit code when clips failed and the others are done."""


@click.command("batch", context_settings={"show_default": True})
@click.argument("manifest", type=PATH)
@click.option("--out", required=True, type=PATH, metavar="DIR", help="Folder for the results.")
@click.option(
    "--workers",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    show_default=False,
    help="Processes on this machine.  [default: one per core]",
)
@scheduler_option
@click.option(
    "--formats",
    default="csv",
    metavar="A,B",
    callback=lambda context, option, text: tuple(text.split(",")),
    help="What to write of every clip: csv and any format of siamtrack convert.",
)
@click.option("--status", is_flag=True, help="Only say how many clips are done.")
@click.option(
    "--timeout-s",
    "clip_timeout_s",
    type=POSITIVE,
    default=600.0,
    metavar="S",
    help="Seconds for a clip before its process is killed.",
)
@click.option(
    "--frame-timeout",
    "frame_timeout_s",
    type=POSITIVE,
    default=30.0,
    metavar="S",
    help="Seconds for a frame, or for opening the clip, before its process is killed.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=2,
    metavar="N",
    help="How often a clip is tried again whose process died.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Computing threads of each process.",
)
@click.option(
    "--chunk",
    "group",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    show_default=False,
    help="Clips that are sent to a cluster together.  [default: as many as take 0.2 s]",
)
@model_options
def command(
    manifest: Path,
    out: Path,
    workers: int | None,
    formats: tuple[str, ...],
    status: bool,
    settings: tuple[tuple[str, Any], ...],
    **arguments: Any,
) -> int:
    """Track all clips of MANIFEST and write DIR/NAME.csv of each.

    MANIFEST is a CSV table or JSON lines with a clip a row. Its columns: clip (path or address;
    paths are relative to the manifest) and boxes ("x,y,w,h;x,y,w,h", or a table of first boxes as
    siamtrack track writes it); as you like, name, start_frame, end_frame, step and labels.
    Everything wrong with it is listed before anything runs.

    Give the same command again to resume: clips that are done are skipped, others tried again.
    DIR/batch.jsonl has a line per finished clip, DIR/summary.csv one per clip of the manifest. The
    exit code is 1 if clips failed.
    """
    from siamtrack.batch.run import BatchConfig, BatchProgress, prepare_batch, run_batch

    config = BatchConfig(
        manifest,
        out,
        tuple(dict.fromkeys(("csv", *formats))),
        options=tracker_options(settings),
        workers=workers or _cores(),
        **arguments,
    )
    try:
        batch = prepare_batch(config)
    except DatasetError as error:
        for problem in error.problems:
            click.echo(f"siamtrack: {problem.path}: {problem.message}", err=True)
        raise
    if status:
        click.echo(_counts(batch))
        return 0
    with BatchProgress(batch) as progress:
        try:
            run_batch(batch, progress.on_record)
        except KeyboardInterrupt:
            progress.close()
            click.echo(f"siamtrack: stopped; {_counts(batch)}; the same command goes on", err=True)
            raise
    failed = [
        record
        for record in map(batch.record, batch.clips)
        if record is not None and record.status != "done"
    ]
    for record in failed[:SHOWN_FAILURES]:
        click.echo(f"siamtrack: {record.status}: {record.name}: {record.error}", err=True)
    if len(failed) > SHOWN_FAILURES:
        click.echo(f"siamtrack: and {len(failed) - SHOWN_FAILURES} more", err=True)
    click.echo(f"siamtrack: {_counts(batch)}; summary in {out / 'summary.csv'}", err=True)
    return SOME_FAILED if failed else 0


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _counts(batch: Batch) -> str:
    counts = batch.counts()
    total = f"{counts['done']} of {len(batch.clips)} clips done"
    others = [f"{counts[name]} {name}" for name in ("failed", "timeout", "pending") if counts[name]]
    return ", ".join([total, *others])
