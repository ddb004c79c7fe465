"""`siamtrack track`: follow objects through a video, a camera, pictures or a stream."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from siamtrack.cli.options import (
    PATH,
    POSITIVE,
    BoxType,
    model_options,
    output_options,
    part_options,
    source_options,
    tracker_options,
)
from siamtrack.errors import SiamTrackError

if TYPE_CHECKING:
    from siamtrack.tracking.multi import MultiTracker
    from siamtrack.types import Box
    from siamtrack.video.outputs import OutputPaths
    from siamtrack.video.run import RunStats
    from siamtrack.video.source import Source
    from siamtrack.video.stretch import Stretch

logger = logging.getLogger(__name__)


@click.command("track")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
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
    "--boxes",
    "table",
    type=PATH,
    metavar="FILE.csv",
    help="Table of boxes on any frames, with the columns frame,target,x,y,w,h: the first box of a "
    "target starts it, later ones correct it. Takes the place of --box.",
)
@output_options
@click.option("--no-display", is_flag=True, help="Open no window; needs --box or --boxes.")
@part_options
@source_options
@click.option(
    "--reconnect",
    type=POSITIVE,
    metavar="S",
    help="When a stream or a camera breaks off, connect again, for up to S seconds.",
)
@click.option(
    "--budget-ms",
    type=POSITIVE,
    metavar="MS",
    help="Keep tracking within so many ms a frame: lost targets are looked for in fewer places.",
)
@model_options
def command(
    sources: tuple[str, ...],
    boxes: tuple[tuple[float, ...], ...],
    table: Path | None,
    outputs: OutputPaths,
    no_display: bool,
    part: Stretch,
    fps: float | None,
    stream: int | None,
    value_range: tuple[float, float] | None,
    reconnect: float | None,
    budget_ms: float | None,
    weights: str | None,
    device: str,
    engine: str,
    settings: tuple[tuple[str, Any], ...],
) -> int:
    """Follow objects through SOURCE.

    SOURCE is a camera number, a video file, a folder or quoted pattern of pictures ('a/*.png',
    'a/%04d.png'), a stream URL, or - for a video on standard input. Several recordings are read as
    one video.

    Without --box and --boxes a window opens: drag a box around the target, in any direction. Keys:
    r draws a box again (a number says which), a adds a target, space pauses, n goes on by one
    frame, s saves a snapshot in the current folder, q quits. With boxes the window shows the
    tracking; where there is no display, tracking goes on without it.

    The table has the columns frame, time_s, target, x, y, w, h, score, status, and one row per
    frame and target, the first frame included.
    """
    later_boxes = _later_boxes(table, boxes, part)
    has_boxes = bool(boxes or later_boxes)
    if no_display and not has_boxes:
        raise click.UsageError(
            "--no-display leaves no window to draw a box in; add --box x,y,w,h",
            click.get_current_context(),
        )
    # Imports are in the functions: --help need not wait for numpy and OpenCV.
    import siamtrack
    from siamtrack.video.outputs import Outputs, check_output_paths
    from siamtrack.video.run import RunStats

    model = {"weights": weights, "device": device, "engine": engine, **tracker_options(settings)}
    if budget_ms is not None:
        model["budget_ms"] = budget_ms
    check_output_paths([*sources, *([str(table)] if table else [])], *outputs.given)
    stats, code = RunStats(), 0
    # A list of one is that one, which may be a stream.
    source = sources[0] if len(sources) == 1 else list(sources)
    with siamtrack.open_source(
        source, fps=fps, stream=stream, range=value_range, reconnect_s=reconnect
    ) as video:
        written = Outputs(video, outputs, backwards=part.reverse)
        try:
            with written:
                has_window = not no_display and _can_open_window(must_draw=not has_boxes)
                if not has_window and not outputs.given:
                    logger.warning("nothing will be written; add --csv, --json or --save")
                tracker = siamtrack.load_multi(**model)
                stats.budget = tracker.budget
                _track(
                    video,
                    part,
                    tracker,
                    stats,
                    has_window=has_window,
                    boxes=boxes,
                    later_boxes=later_boxes,
                    writers=[written.write],
                )
        except KeyboardInterrupt as stop:
            code = getattr(stop, "exit_code", 130)
            click.echo(_summary(video, stats, written.kept, stopped=True), err=True)
        except SiamTrackError:
            # What was finished before the error is kept, and the summary lists it.
            if stats.frames:
                click.echo(_summary(video, stats, written.kept, stopped=True), err=True)
            raise
        else:
            click.echo(_summary(video, stats, written.kept), err=True)
    return code


def _later_boxes(
    table: Path | None, boxes: tuple[tuple[float, ...], ...], part: Stretch
) -> dict[int, dict[int, Box]]:
    """The boxes of `--boxes`, all on frames that are looked at as far as can be told."""
    if table is None:
        return {}
    if boxes:
        raise click.UsageError(
            "--box and --boxes are both given; give the boxes in one way",
            click.get_current_context(),
        )
    from siamtrack.errors import DatasetError
    from siamtrack.video.tables import read_boxes

    later_boxes = read_boxes(table)
    for frame in later_boxes:
        if not part.may_hold(frame):
            raise DatasetError(
                f"{table} has a box on frame {frame}, which is not among the frames looked at; see "
                "--start-frame, --end-frame and --every"
            )
    return later_boxes


def _track(
    video: Source,
    part: Stretch,
    tracker: MultiTracker,
    stats: RunStats,
    *,
    has_window: bool,
    **arguments: Any,
) -> None:
    """Track in a window or behind a progress bar; `arguments` are further ones of `run`."""
    from siamtrack.utils.progress import FrameProgress
    from siamtrack.video.run import prefetch, run

    frames = part.frames_of(video)
    if has_window:
        from siamtrack.video.interactive import InteractiveSession
        from siamtrack.video.window import Window

        # The user acts on the frame that is shown, so nothing is read ahead. There is no bar: the
        # window shows the rate, and the user may pause.
        with Window(f"siamtrack - {video.name}") as window:
            session = InteractiveSession(
                window, tracker, name=video.name, snapshot_dir=Path(), live=video.is_live
            )
            run(frames, tracker, on_frame=session.on_frame, stats=stats, **arguments)
        return
    # A camera's frames must not age in a queue.
    with (
        nullcontext(frames) if video.is_live else prefetch(frames) as ahead,
        FrameProgress(
            ahead, video.name, part.count_in(video), dropped=lambda: video.dropped
        ) as progress,
    ):
        run(progress, tracker, stats=stats, write_in_background=True, **arguments)


def _can_open_window(*, must_draw: bool) -> bool:
    """Look for a display; without one, raise if a box has to be drawn, else warn."""
    from siamtrack.video.window import display_problem, require_display

    if must_draw:
        require_display()
        return True
    problem = display_problem()
    if problem is not None:
        logger.warning("no window: %s; tracking without one, as with --no-display", problem)
    return problem is None


def _summary(
    video: Source, stats: RunStats, kept: tuple[Path, ...], *, stopped: bool = False
) -> str:
    """Return one line: frames, rate, statuses of every target, losses, files."""
    if not stats.frames:
        return f"siamtrack: {'stopped' if stopped else 'ended'} before anything was tracked"
    count = f"{stats.frames} frame{'' if stats.frames == 1 else 's'}"
    parts = [f"{'stopped after ' if stopped else ''}{count} at {stats.fps:.1f} fps"]
    for target, statuses in sorted(stats.statuses.items()):
        counts = ", ".join(f"{n} {status}" for status, n in statuses.most_common())
        parts.append(f"target {target}: {counts}")
    if stats.budget is not None and stats.budget.frames:
        limit_ms, share = 1e3 * stats.budget.limit_s, stats.budget.exceeded / stats.budget.frames
        parts.append(f"{100 * share:.1f} % of frames took longer than {limit_ms:g} ms")
    if video.dropped:
        parts.append(f"{video.dropped} dropped")
    if video.unreadable:
        parts.append(f"{video.unreadable} unreadable")
    if kept:
        parts.append(f"{'kept' if stopped else 'wrote'} {', '.join(map(str, kept))}")
    return f"siamtrack: {'; '.join(parts)}"
