"""`siamtrack compare`: several trackers side by side on one video."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import siamtrack
from siamtrack.cli.options import BoxType, opencv_model_options
from siamtrack.data.formats.folder import read_boxes
from siamtrack.errors import ConfigError
from siamtrack.evaluation.compare import Contender, Moment, contend, panels_wh, side_by_side
from siamtrack.evaluation.task import enter
from siamtrack.evaluation.trackers import TrackerSpec
from siamtrack.utils.progress import FrameProgress
from siamtrack.video.frames import Frame
from siamtrack.video.interactive import Closed, Key
from siamtrack.video.outputs import OutputPaths
from siamtrack.video.source import Source
from siamtrack.video.video_writer import VideoSink
from siamtrack.video.window import Window, display_problem


@click.command("compare", short_help="Show several trackers side by side on one video.")
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
    type=click.Path(path_type=Path),
    metavar="F.txt",
    help="True boxes, a line x,y,w,h per frame: drawn in green, and overlaps are told.",
)
@click.option(
    "--save", type=click.Path(path_type=Path), metavar="F.mp4", help="Write the panels as a video."
)
@click.option("--overwrite", is_flag=True, help="Replace a video that exists.")
@click.option("--no-display", is_flag=True, help="Open no window.")
@opencv_model_options
def command(
    source: str,
    box: tuple[float, ...] | None,
    trackers: tuple[str, ...],
    truth: Path | None,
    save: Path | None,
    overwrite: bool,
    no_display: bool,
    model_files: dict[str, Any],
) -> int:
    """Track one target in SOURCE with every --tracker, and show them side by side.

    A window opens where there is a display (q ends, space pauses); --save writes the same panels
    to a video. At the end a table of speeds, and of overlaps if there is a --truth, is printed.
    """
    from siamtrack.evaluation.trackers import parse_trackers

    return compare(
        Comparison(
            source,
            box,
            parse_trackers(trackers, model_files),
            truth,
            save,
            overwrite,
            not no_display,
        )
    )


QUIT_KEYS = ("q", "esc")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison as it was asked for; see the options of `siamtrack compare`."""

    source: str
    box: tuple[float, ...] | None
    trackers: Sequence[TrackerSpec]
    truth: Path | None
    save: Path | None
    overwrite: bool
    display: bool


def compare(order: Comparison) -> int:
    """Run to the end of the video or until the window is closed, then print the table.

    Returns:
        The exit code: 0, or 3 when a tracker failed.

    Raises:
        SiamTrackError: something cannot be opened, tracked or written.
    """
    OutputPaths(video=order.save).check(order.source)
    truth = read_boxes(order.truth) if order.truth is not None else None
    box = _first_box(order.box, truth)
    entrants = enter(order.trackers)
    contenders: Sequence[Contender] = ()
    with siamtrack.open_source(order.source) as source, ExitStack() as stack:
        shown = FrameProgress(
            source, source.name, source.frame_count, dropped=lambda: source.dropped
        )
        stack.callback(shown.close)
        sink = _sink(order, source, len(entrants), stack)
        window = _window(order, stack)
        frames: list[Frame] = []
        for moment in contend(entrants, _images(shown, frames), box, truth):
            contenders = moment.contenders
            if not _show(moment, frames[-1].time_s, sink, window):
                break
    click.echo(_table(contenders))
    for contender in contenders:
        if contender.failure:
            click.echo(f"siamtrack: failed: {contender.label}: {contender.failure}", err=True)
    return 3 if any(contender.failure for contender in contenders) else 0


def _first_box(
    given: tuple[float, ...] | None, truth: NDArray[np.float64] | None
) -> Sequence[float]:
    if given is not None:
        return given
    if truth is None or not len(truth):
        raise ConfigError("no box to start from; give --box x,y,w,h or --truth with boxes")
    return [float(value) for value in truth[0]]


def _images(shown: FrameProgress[Frame], frames: list[Frame]) -> Iterator[NDArray[np.uint8]]:
    """Pictures, leaving the frame they are of in `frames`."""
    for frame in shown:
        frames[:] = [frame]
        yield frame.image


def _sink(order: Comparison, source: Source, panels: int, stack: ExitStack) -> VideoSink | None:
    if order.save is None:
        return None
    size = panels_wh(panels, source.frame_wh)
    sink = VideoSink(order.save, source.fps, size, overwrite=order.overwrite)
    return stack.enter_context(sink)


def _window(order: Comparison, stack: ExitStack) -> Window | None:
    if not order.display or display_problem() is not None:
        return None
    return stack.enter_context(Window("siamtrack compare"))


def _show(moment: Moment, time_s: float, sink: VideoSink | None, window: Window | None) -> bool:
    """Write and show a frame; False when the user has seen enough."""
    if sink is None and window is None:
        return True
    panels = side_by_side(moment)
    if sink is not None:
        sink.write(panels, time_s)
    if window is None:
        return True
    window.show(panels)
    return _wanted(window)


def _wanted(window: Window) -> bool:
    """Let the window live, standing still while it is paused; False when it is to be closed."""
    paused = False
    while True:
        for event in window.poll(0.1 if paused else 0.001):
            if isinstance(event, Closed) or (isinstance(event, Key) and event.name in QUIT_KEYS):
                return False
            if isinstance(event, Key) and event.name == "space":
                paused = not paused
        if not paused:
            return True


def _table(contenders: Sequence[Contender]) -> str:
    lines = ["| tracker | fps | frames | overlap |", "| --- | ---: | ---: | ---: |"]
    for contender in contenders:
        overlap = contender.average_overlap
        lines.append(
            f"| {contender.label} | {contender.fps:.1f} | {len(contender.times_s)} | "
            f"{'-' if math.isnan(overlap) else f'{overlap:.3f}'} |"
        )
    return "\n".join(lines)
