"""`siamtrack bench`: where each millisecond goes."""

from __future__ import annotations

from pathlib import Path

import click

from siamtrack.cli._options import BoxType


def _parse_targets(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[int, ...]:
    """Numbers of targets, each 1 or more."""
    counts = [] if text is None else [part.strip() for part in text.split(",")]
    if not all(count.isdecimal() and int(count) > 0 for count in counts):
        raise click.BadParameter(f"{text!r}; give numbers of targets, such as 1,2,4", context)
    return tuple(map(int, counts))


@click.command("bench", short_help="Show where each millisecond of a frame goes.")
@click.argument("clip", required=False, type=click.Path(path_type=Path))
@click.option(
    "--box", type=BoxType(), metavar="X,Y,W,H", help="Target on the first frame of CLIP, px."
)
@click.option(
    "--size",
    default="640x480",
    show_default=True,
    metavar="WxH",
    help="Frame size in px of the clip that is made when no CLIP is given.",
)
@click.option("--weights", metavar="W", help="Name or file; the default without.")
@click.option("--device", metavar="D", default="cpu", show_default=True, help="cpu, cuda, mps.")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="E",
    help="openvino:int8, openvino:bf16, openvino:f32, onnx:int8, onnx, torch; may be repeated.  "
    "[default: all that run]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="N",
    help="CPU threads of a tracker; may be repeated.  [default: 1, and 2 with two cores]",
)
@click.option(
    "--rival",
    "rivals",
    multiple=True,
    metavar="NAME",
    help="Another tracker that takes turns with ours, such as opencv:nano, written as the "
    "--tracker of siamtrack eval; may be repeated.",
)
@click.option("--backbone", metavar="FILE.onnx", help="Model file of opencv:nano.")
@click.option("--head", metavar="FILE.onnx", help="Model file of opencv:nano.")
@click.option("--net", metavar="FILE.onnx", help="Model file of opencv:vit.")
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    default=150,
    show_default=True,
    metavar="N",
    help="Frames that count, of each contestant.",
)
@click.option(
    "--clip-frames",
    type=click.IntRange(min=2),
    default=60,
    show_default=True,
    metavar="N",
    help="Length of the clip, which is held in memory and begun anew at its end.",
)
@click.option(
    "--targets",
    callback=_parse_targets,
    metavar="N,N,...",
    help="Compare numbers of targets instead, such as 1,2,4,8,16,32.",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")
def command(
    clip: Path | None,
    box: tuple[float, ...] | None,
    size: str,
    weights: str | None,
    device: str,
    engines: tuple[str, ...],
    threads: tuple[int, ...],
    rivals: tuple[str, ...],
    backbone: str | None,
    head: str | None,
    net: str | None,
    frames: int,
    clip_frames: int,
    targets: tuple[int, ...],
    as_json: bool,
) -> None:
    """Time every stage of tracking, for each engine and number of threads, in one run.

    All contestants take turns on the same frames: of CLIP, or of one that is made. The stages of a
    frame are the crop, its pre-processing, the network and the post-processing, which add up to
    the update; decoding, drawing and encoding are timed beside them. The limit is the time the
    network's multiplications would take at the fastest rate this machine was seen to multiply.
    """
    if clip is not None and box is None:
        raise click.UsageError(
            "CLIP needs a target; add --box x,y,w,h", click.get_current_context()
        )
    if clip is None and box is not None:
        raise click.UsageError("--box is a target in CLIP; give one", click.get_current_context())
    from siamtrack.cli._bench import Wish, bench
    from siamtrack.evaluation.specs import parse_trackers

    files = {"nano": {"backbone": backbone, "head": head}, "vit": {"net": net}}
    wish = Wish(
        clip=clip,
        box=None if box is None else list(box),
        size=size,
        clip_frames=clip_frames,
        weights=weights,
        device=device,
        engines=engines,
        threads=threads,
        rivals=tuple(parse_trackers(rivals, files)),
        frames=frames,
        targets=targets,
    )
    click.echo(bench(wish, as_json=as_json))
