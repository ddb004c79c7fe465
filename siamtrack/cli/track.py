"""`siamtrack track`: follow objects through a video, a camera, pictures or a stream."""

from __future__ import annotations

import logging
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import siamtrack
from siamtrack.cli.options import BoxType, model_options, tracker_options
from siamtrack.errors import SiamTrackError
from siamtrack.utils.progress import FrameProgress
from siamtrack.video.frames import Source
from siamtrack.video.interactive import Interaction
from siamtrack.video.outputs import OutputPaths, Outputs
from siamtrack.video.run import Tally, read_ahead, run
from siamtrack.video.window import Window, display_problem, require_display

logger = logging.getLogger(__name__)


@click.command("track", short_help="Follow objects through a video, a camera or a stream.")
@click.argument("source")
@click.option(
    "--box",
    "boxes",
    type=BoxType(),
    multiple=True,
    metavar="X,Y,W,H",
    help="Target on the first frame: left, top, width, height in px, 0-based. Repeat it for "
    "several targets. Without it a window opens to draw them.",
)
@click.option(
    "--csv", type=click.Path(path_type=Path), metavar="F.csv", help="Write the boxes as a table."
)
@click.option(
    "--json",
    type=click.Path(path_type=Path),
    metavar="F.jsonl",
    help="Write the boxes as JSON lines, one object per frame.",
)
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="F.mp4",
    help="Write the annotated video (mp4, mkv or webm).",
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--no-display", is_flag=True, help="Open no window; needs --box.")
@click.option(
    "--start-frame",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="First frame to look at, 0-based; --box is on it and the files begin with it.",
)
@click.option(
    "--budget-ms",
    type=click.FloatRange(min=0.0, min_open=True),
    metavar="MS",
    help="Keep tracking within so many ms a frame: lost targets are looked for in fewer places.",
)
@model_options
def command(
    source: str,
    boxes: tuple[tuple[float, ...], ...],
    csv: Path | None,
    json: Path | None,
    save: Path | None,
    overwrite: bool,
    no_display: bool,
    start_frame: int,
    budget_ms: float | None,
    weights: str | None,
    device: str,
    engine: str,
    settings: tuple[tuple[str, Any], ...],
) -> int:
    """Follow objects through SOURCE.

    SOURCE is a camera number, a video file, a folder or quoted pattern of pictures, or a stream
    URL.

    Without --box a window opens: drag a box around the target, in any direction. Keys: r draws a
    box again (a number says which), a adds a target, space pauses, n goes on by one frame, s saves
    a snapshot in the current folder, q quits. With --box the window shows the tracking; where
    there is no display, tracking goes on without it.

    The table has the columns frame, time_s, target, x, y, w, h, score, status, and one row per
    frame and target, the first frame included.
    """
    if no_display and not boxes:
        raise click.UsageError(
            "--no-display leaves no window to draw a box in; add --box x,y,w,h",
            click.get_current_context(),
        )
    # Here and not above, so that --help need not wait for torch.
    from siamtrack.video.outputs import OutputPaths

    return track(
        Job(
            source=source,
            boxes=boxes,
            paths=OutputPaths(csv, json, save),
            overwrite=overwrite,
            start_frame=start_frame,
            display=not no_display,
            model={
                "weights": weights,
                "device": device,
                "engine": engine,
                **tracker_options(settings),
                **({} if budget_ms is None else {"budget_ms": budget_ms}),
            },
        )
    )


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be tracked, how, and where the results go.

    Attributes:
        source: as for `siamtrack.open_source`.
        boxes: xywh px on frame `start_frame`; without any they are drawn in the window.
        paths: the files to write.
        overwrite: replace files that exist.
        start_frame: index of the first frame to look at.
        display: open a window where that is possible.
        model: arguments of `siamtrack.load_multi`.
    """

    source: str
    boxes: tuple[tuple[float, ...], ...]
    paths: OutputPaths
    overwrite: bool
    start_frame: int
    display: bool
    model: dict[str, Any]


def track(job: Job) -> int:
    """Open everything, run, close everything, and say in one line what became of it.

    Returns:
        The exit code.

    Raises:
        SiamTrackError: something cannot be opened, tracked or written; what was finished before is
            kept and told.
    """
    job.paths.check(job.source)
    tally, code = Tally(), 0
    with siamtrack.open_source(job.source) as source:
        outputs = Outputs(job.paths, source, overwrite=job.overwrite)
        try:
            with outputs:
                _run(job, source, outputs, tally)
        except KeyboardInterrupt as stop:
            code = getattr(stop, "exit_code", 130)
            click.echo(summary(source, tally, outputs.kept, stopped=True), err=True)
        except SiamTrackError:
            if tally.frames:
                click.echo(summary(source, tally, outputs.kept, stopped=True), err=True)
            raise
        else:
            click.echo(summary(source, tally, outputs.kept), err=True)
    return code


def _run(job: Job, source: Source, outputs: Outputs, tally: Tally) -> None:
    windowed = job.display and can_open_window(drawing=not job.boxes)
    if not windowed and not job.paths.given:
        logger.warning("nothing will be written; add --csv, --json or --save")
    tracker = siamtrack.load_multi(**job.model)
    tally.budget = tracker.budget
    with ExitStack() as stack:
        visitor = None
        if windowed:
            screen = stack.enter_context(Window(f"siamtrack - {source.name}"))
            visitor = Interaction(
                screen, tracker, name=source.name, snapshot_dir=Path(), live=source.is_live
            )
        # A person acts on the frame that is shown, and a camera's frames must not grow old.
        is_ahead = not windowed and not source.is_live
        read = stack.enter_context(read_ahead(source) if is_ahead else nullcontext(source))
        # A bar that counts while a person thinks tells nothing; the window shows the rate.
        frames = stack.enter_context(FrameProgress(source, read, enabled=not windowed))
        run(
            frames,
            tracker,
            boxes=job.boxes,
            writers=[outputs.write],
            visitor=visitor,
            start_frame=job.start_frame,
            tally=tally,
            overlap=not windowed,
        )


def can_open_window(*, drawing: bool) -> bool:
    """Look for a display, which only drawing a box cannot do without.

    Raises:
        DisplayUnavailableError: a box has to be drawn and there is no display.
    """
    if drawing:
        require_display()
        return True
    problem = display_problem()
    if problem is not None:
        logger.warning("no window: %s; tracking without one, as with --no-display", problem)
    return problem is None


def summary(source: Source, tally: Tally, kept: tuple[Path, ...], *, stopped: bool = False) -> str:
    """One line: frames, rate, what became of every target, losses, files."""
    if not tally.frames:
        return f"siamtrack: {'stopped' if stopped else 'ended'} before anything was tracked"
    count = f"{tally.frames} frame{'' if tally.frames == 1 else 's'}"
    parts = [f"{'stopped after ' if stopped else ''}{count} at {tally.fps:.1f} fps"]
    for target, statuses in sorted(tally.statuses.items()):
        told = ", ".join(f"{n} {status}" for status, n in statuses.most_common())
        parts.append(f"target {target}: {told}")
    if tally.budget is not None and tally.budget.frames:
        limit_ms, share = 1e3 * tally.budget.limit_s, tally.budget.over / tally.budget.frames
        parts.append(f"{100 * share:.1f} % of frames took longer than {limit_ms:g} ms")
    if source.dropped:
        parts.append(f"{source.dropped} dropped")
    if source.unreadable:
        parts.append(f"{source.unreadable} unreadable")
    if kept:
        verb = "kept" if stopped else "wrote"
        parts.append(f"{verb} {', '.join(map(str, kept))}")
    return f"siamtrack: {'; '.join(parts)}"
