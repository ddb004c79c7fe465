"""`siamtrack compare`: several trackers side by side on one video."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from siamtrack.cli.options import PATH, BoxType, opencv_model_options, source_options
from siamtrack.errors import ConfigError

if TYPE_CHECKING:
    from siamtrack.evaluation.compare import TrackerRun
    from siamtrack.types import FloatArray, Image
    from siamtrack.video.window import Window

QUIT_KEYS = ("q", "esc")


@click.command("compare")
@click.argument("source")
@click.option(
    "--box",
    type=BoxType(),
    metavar="X,Y,W,H",
    help="Target on the first frame: left, top, width, height in px, 0-based. "
    "[default: the first box of --truth]",
)
@click.option(
    "--tracker",
    "trackers",
    multiple=True,
    required=True,
    metavar="NAME",
    help="As for siamtrack eval; once for each tracker.",
)
@click.option(
    "--truth",
    type=PATH,
    metavar="F.txt",
    help="Ground truth, a line x,y,w,h per frame or the table of siamtrack track with one target: "
    "it is drawn in green, and overlaps are printed.",
)
@click.option("--save", type=PATH, metavar="F.mp4", help="Write the panels as a video.")
@click.option("--overwrite", is_flag=True, help="Replace a video that exists.")
@click.option("--no-display", is_flag=True, help="Open no window.")
@source_options
@opencv_model_options
def command(
    source: str,
    box: tuple[float, ...] | None,
    trackers: tuple[str, ...],
    truth: Path | None,
    save: Path | None,
    overwrite: bool,
    no_display: bool,
    fps: float | None,
    stream: int | None,
    value_range: tuple[float, float] | None,
    model_files: dict[str, Any],
) -> int:
    """Track one target in SOURCE with every --tracker, and show them side by side.

    A window opens where there is a display (q ends, space pauses); --save writes the same panels
    to a video. At the end a table of speeds, and of overlaps if there is a --truth, is printed.
    The exit code is 3 when a tracker failed.
    """
    import siamtrack
    from siamtrack.data.formats.folder import read_truth
    from siamtrack.evaluation.compare import draw_panels, panels_wh, run_side_by_side
    from siamtrack.evaluation.trackers import parse_trackers, resolve_trackers
    from siamtrack.utils.progress import FrameProgress
    from siamtrack.video.draw import fit_image
    from siamtrack.video.outputs import check_output_paths
    from siamtrack.video.video_writer import VideoSink
    from siamtrack.video.window import Window, display_problem

    specs = parse_trackers(trackers, model_files)
    check_output_paths([source], save)
    truth_boxes = read_truth(truth) if truth is not None else None
    first_box = _first_box(box, truth_boxes)
    entries = resolve_trackers(specs)
    runs: Sequence[TrackerRun] = ()
    video = siamtrack.open_source(source, fps=fps, stream=stream, range=value_range)
    with video as frames, ExitStack() as stack:
        progress = stack.enter_context(
            FrameProgress(frames, frames.name, frames.frame_count, dropped=lambda: frames.dropped)
        )
        sink = window = None
        if save is not None:
            size_wh = panels_wh(len(entries), frames.frame_wh)
            sink = stack.enter_context(
                VideoSink(
                    save,
                    frames.fps,
                    size_wh,
                    overwrite=overwrite,
                    pixel_aspect=frames.pixel_aspect,
                )
            )
        if not no_display and display_problem() is None:
            window = stack.enter_context(Window("siamtrack compare"))

        time_s = 0.0  # of the frame that the trackers are at

        def images() -> Iterator[Image]:
            nonlocal time_s
            for frame in progress:
                time_s = frame.time_s
                yield frame.image

        for compared in run_side_by_side(entries, images(), first_box, truth_boxes):
            runs = compared.runs
            if sink is None and window is None:
                continue
            panels = draw_panels(compared)
            if sink is not None:
                sink.write(fit_image(panels, sink.frame_wh), time_s)
            if window is not None:
                window.show(panels)
                if not _should_continue(window):
                    break

    click.echo(_table(runs))
    for run in runs:
        if run.failure:
            click.echo(f"siamtrack: failed: {run.label}: {run.failure}", err=True)
    return 3 if any(run.failure for run in runs) else 0


def _first_box(box: Sequence[float] | None, truth: FloatArray | None) -> Sequence[float]:
    """The box that was given, else the first one of the ground truth."""
    if box is not None:
        return box
    if truth is None or not len(truth):
        raise ConfigError("no box to start from; give --box x,y,w,h or --truth with boxes")
    return [float(value) for value in truth[0]]


def _should_continue(window: Window) -> bool:
    """Process the window's events, waiting while it is paused; False when it is to close."""
    from siamtrack.video.interactive import Closed, Key

    paused = False
    while True:
        for event in window.poll(0.1 if paused else 0.001):
            if isinstance(event, Closed) or (isinstance(event, Key) and event.name in QUIT_KEYS):
                return False
            if isinstance(event, Key) and event.name == "space":
                paused = not paused
        if not paused:
            return True


def _table(runs: Sequence[TrackerRun]) -> str:
    from siamtrack.evaluation.report.tables import markdown_table

    rows = []
    for run in runs:
        overlap = "-" if math.isnan(run.average_overlap) else f"{run.average_overlap:.3f}"
        rows.append([run.label, f"{run.fps:.1f}", str(len(run.times_s)), overlap])
    return markdown_table(["tracker", "fps", "frames", "overlap"], rows)
