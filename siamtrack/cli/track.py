"""`siamtrack track`: follow objects through a video, a camera, pictures or a stream."""

from __future__ import annotations

import logging
import math
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from siamtrack.cli.options import (
    BoxType,
    model_options,
    source_options,
    tracker_options,
)
from siamtrack.errors import SiamTrackError

if TYPE_CHECKING:
    from siamtrack.video.run import RunStats
    from siamtrack.video.source import Source

logger = logging.getLogger(__name__)

_FILE = click.Path(path_type=Path)


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
    "--csv",
    type=_FILE,
    metavar="F.csv",
    help="Write the boxes as a table; - for standard output, here and with --json.",
)
@click.option(
    "--json",
    type=_FILE,
    metavar="F.jsonl",
    help="Write the boxes as JSON lines, one object per frame.",
)
@click.option(
    "--save", type=_FILE, metavar="F.mp4", help="Write the annotated video (mp4, mkv or webm)."
)
@click.option(
    "--picture-names",
    is_flag=True,
    help="Add the file names of pictures to --csv (last column) and --json.",
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
    "--end-frame",
    type=click.IntRange(min=0),
    metavar="N",
    help="Last frame to track, 0-based.  [default: the last one there is]",
)
@click.option(
    "--start-s",
    type=click.FloatRange(min=0.0),
    default=0.0,
    metavar="S",
    help="Time of the first frame to look at, in s.",
)
@click.option(
    "--end-s", type=click.FloatRange(min=0.0), metavar="S", help="Time of the last one, in s."
)
@source_options
@click.option(
    "--budget-ms",
    type=click.FloatRange(min=0.0, min_open=True),
    metavar="MS",
    help="Keep tracking within so many ms a frame: lost targets are looked for in fewer places.",
)
@model_options
def command(
    sources: tuple[str, ...],
    boxes: tuple[tuple[float, ...], ...],
    csv: Path | None,
    json: Path | None,
    save: Path | None,
    picture_names: bool,
    overwrite: bool,
    no_display: bool,
    start_frame: int,
    end_frame: int | None,
    start_s: float,
    end_s: float | None,
    fps: float | None,
    stream: int | None,
    budget_ms: float | None,
    value_range: tuple[float, float] | None,
    weights: str | None,
    device: str,
    engine: str,
    settings: tuple[tuple[str, Any], ...],
) -> int:
    """Follow objects through SOURCE.

    SOURCE is a camera number, a video file, a folder or quoted pattern of pictures ('a/*.png',
    'a/%04d.png'), a stream URL, or - for a video on standard input. Several recordings are read as
    one video.

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
    # Imports are in the functions: --help need not wait for numpy and OpenCV.
    import siamtrack
    from siamtrack.utils.progress import FrameProgress
    from siamtrack.video.outputs import Outputs, check_output_paths
    from siamtrack.video.run import RunStats, prefetch, run

    model = {"weights": weights, "device": device, "engine": engine, **tracker_options(settings)}
    if budget_ms is not None:
        model["budget_ms"] = budget_ms
    check_output_paths(sources, csv, json, save)
    stats, code = RunStats(), 0
    with siamtrack.open_source(sources, fps=fps, stream=stream, range=value_range) as video:
        outputs = Outputs(
            video, csv=csv, json=json, video=save, overwrite=overwrite, pictures=picture_names
        )
        try:
            with outputs, ExitStack() as stack:
                # 1. The tracker, and the window if there is a display.
                has_window = not no_display and _can_open_window(must_draw=not boxes)
                if not has_window and not (csv or json or save):
                    logger.warning("nothing will be written; add --csv, --json or --save")
                tracker = siamtrack.load_multi(**model)
                stats.budget = tracker.budget
                on_frame = None
                if has_window:
                    from siamtrack.video.interactive import InteractiveSession
                    from siamtrack.video.window import Window

                    window = stack.enter_context(Window(f"siamtrack - {video.name}"))
                    on_frame = InteractiveSession(
                        window, tracker, name=video.name, snapshot_dir=Path(), live=video.is_live
                    ).on_frame

                # 2. The frames. The user acts on the frame that is shown, and a camera's frames
                #    must not age in a queue: only a file without a window is read ahead. With a
                #    window there is no bar: the window shows the rate, and the user may pause.
                reads_ahead = not has_window and not video.is_live
                frames = stack.enter_context(prefetch(video) if reads_ahead else nullcontext(video))
                progress = stack.enter_context(
                    FrameProgress(
                        frames,
                        video.name,
                        video.frame_count,
                        dropped=lambda: video.dropped,
                        enabled=not has_window,
                    )
                )

                # 3. Track.
                run(
                    progress,
                    tracker,
                    boxes=boxes,
                    writers=[outputs.write],
                    on_frame=on_frame,
                    start_frame=start_frame,
                    end_frame=end_frame,
                    start_s=start_s,
                    end_s=math.inf if end_s is None else end_s,
                    stats=stats,
                    write_in_background=not has_window,
                )
        except KeyboardInterrupt as stop:
            code = getattr(stop, "exit_code", 130)
            click.echo(_summary(video, stats, outputs.kept, stopped=True), err=True)
        except SiamTrackError:
            # What was finished before the error is kept, and the summary lists it.
            if stats.frames:
                click.echo(_summary(video, stats, outputs.kept, stopped=True), err=True)
            raise
        else:
            click.echo(_summary(video, stats, outputs.kept), err=True)
    return code


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
