"""`siamtrack compare`: several trackers side by side on one video."""

from __future__ import annotations

from pathlib import Path

import click

from siamtrack.cli._options import BoxType


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
@click.option("--backbone", metavar="FILE.onnx", help="Model file of opencv:nano.")
@click.option("--head", metavar="FILE.onnx", help="Model file of opencv:nano.")
@click.option("--net", metavar="FILE.onnx", help="Model file of opencv:vit.")
def command(
    source: str,
    box: tuple[float, ...] | None,
    trackers: tuple[str, ...],
    truth: Path | None,
    save: Path | None,
    overwrite: bool,
    no_display: bool,
    backbone: str | None,
    head: str | None,
    net: str | None,
) -> int:
    """Track one target in SOURCE with every --tracker, and show them side by side.

    A window opens where there is a display (q ends, space pauses); --save writes the same panels
    to a video. At the end a table of speeds, and of overlaps if there is a --truth, is printed.
    """
    from siamtrack.cli._comparing import Comparison, compare
    from siamtrack.evaluation.specs import parse_trackers

    files = {"nano": {"backbone": backbone, "head": head}, "vit": {"net": net}}
    return compare(
        Comparison(
            source, box, parse_trackers(trackers, files), truth, save, overwrite, not no_display
        )
    )
