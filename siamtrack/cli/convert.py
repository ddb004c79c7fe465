"""`siamtrack convert`: boxes of a clip from one annotation format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from siamtrack.cli.options import PATH, POSITIVE


def _parse_size(
    ctx: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.lower().replace("x", ",").split(",")]
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f"{text!r} is not W,H, such as 1280,720", ctx, parameter)
    return int(parts[0]), int(parts[1])


def _parse_labels(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@click.command("convert")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="[OUT]", type=PATH, required=False)
@click.option("--out", type=PATH, metavar="OUT", help="The same as the second argument.")
@click.option("--to", metavar="F", help="Format of OUT.  [default: by .csv or .jsonl]")
@click.option("--from", "source_format", metavar="F", help="Format of IN.  [default: by content]")
@click.option("--clip", metavar="CLIP", help="The video, for size, number and times of frames.")
@click.option(
    "--size",
    "frame_wh",
    metavar="W,H",
    callback=_parse_size,
    help="Width and height of the frames in px, where neither IN nor --clip say it.",
)
@click.option(
    "--frames",
    "frame_count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of frames of the clip.  [default: up to the last box]",
)
@click.option(
    "--fps",
    type=POSITIVE,
    metavar="R",
    help="Frames per second of the clip.",
)
@click.option(
    "--labels",
    metavar="A,B",
    default="",
    callback=_parse_labels,
    help="Labels of the targets in turn, or one for all.",
)
@click.option("--images", is_flag=True, help="Write the frames of --clip as pictures as well.")
@click.option(
    "--thin",
    "tolerance",
    type=float,
    metavar="PX|IOU",
    help="For cvat and label-studio: only as many key frames as straight lines need, with corners "
    "within so many px, or (below 1) an overlap of at least this.",
)
@click.option("--keys-only", is_flag=True, help="Only key frames, which IN has to mark.")
@click.option("--interpolate", is_flag=True, help="Fill gaps by straight lines.")
@click.option("--keep-lost", is_flag=True, help="Write the guessed boxes of lost targets, too.")
@click.option("--drop-uncertain", is_flag=True, help="Leave out uncertain boxes.")
@click.option("--ignore-uncertain", is_flag=True, help="MOT: uncertain boxes do not count.")
@click.option(
    "--first-pixel",
    "--mot-origin",
    "first_pixel",
    type=click.IntRange(0, 1),
    metavar="0|1",
    help="Coordinate of the top-left pixel in OUT.  [default: 1 for otb and voc, else 0]",
)
@click.option(
    "--in-first-pixel",
    "source_first_pixel",
    type=click.IntRange(0, 1),
    metavar="0|1",
    help="The same of IN.",
)
@click.option("--strict", is_flag=True, help="Refuse to write less than IN holds.")
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
def command(source: str, target: Path | None, out: Path | None, **options: Any) -> None:
    """Convert the boxes of one clip from one format to another.

    Formats: csv and json (of siamtrack track), cvat (for video 1.1), mot, mot-results, mot-det,
    coco, yolo, yolo-tracks, voc, label-studio, datumaro, vot, got10k, otb and studio (a project of
    siamtrack studio, CLIP.siamtrack). OUT is a folder, or a file where the format has one and OUT
    has its suffix (.xml, .json, .txt).

    Boxes of lost targets are left out, except in siamtrack's own tables. What the new format
    cannot hold is listed with counts.
    """
    path = target or out
    if path is None or (target and out):
        message = "give OUT once, as IN OUT or as --out OUT"
        raise click.UsageError(message, click.get_current_context())
    from siamtrack.data.convert import convert

    done = convert(source, path, **options)
    click.echo(
        f"{path}: {done.boxes} boxes of {done.targets} target(s) in {done.frames} frames, from "
        f"{done.source_format}",
        err=True,
    )
