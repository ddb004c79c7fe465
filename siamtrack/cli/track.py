"""`siamtrack track`: follow objects through a video, a camera, pictures or a stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from siamtrack.cli._options import BoxType, model_options, tracker_options


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
    from siamtrack.cli._tracking import Job, track
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
