"""`siamtrack bench`: where each millisecond goes."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
from tqdm import tqdm

from siamtrack.bench.report import (
    Order,
    as_text,
    benchmark,
    benchmark_targets,
    report_to_dict,
    targets_text,
    targets_to_dict,
)
from siamtrack.bench.stages import make_clip, parse_size, read_clip
from siamtrack.cli.options import BoxType
from siamtrack.engines.onnx_engine import default_threads
from siamtrack.evaluation.trackers import TrackerSpec


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
    from siamtrack.evaluation.trackers import parse_trackers

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


@dataclass(frozen=True, slots=True)
class Wish:
    """The command line.

    Attributes:
        clip: video to run on; None to make one.
        box: target on its first frame, xywh px.
        size: WIDTHxHEIGHT of a clip that is made.
        clip_frames: length of the clip.
        weights: see `Order`, as for all that follow.
        device: as there.
        engines: as there.
        threads: as there; empty for one, and for what an engine would take by itself.
        rivals: as there.
        frames: as there.
        targets: numbers of targets to compare; empty to compare engines and rivals.
    """

    clip: Path | None
    box: list[float] | None
    size: str
    clip_frames: int
    weights: str | None
    device: str
    engines: tuple[str, ...]
    threads: tuple[int, ...]
    rivals: tuple[TrackerSpec, ...]
    frames: int
    targets: tuple[int, ...] = ()


def bench(wish: Wish, *, as_json: bool) -> str:
    """Make or read the clip, measure, and return the report as text.

    Raises:
        SiamTrackError: see `siamtrack.bench.run.benchmark`, `make_clip` and `read_clip`.
    """
    order = Order(
        weights=wish.weights,
        engines=wish.engines,
        device=wish.device,
        threads=wish.threads or tuple(dict.fromkeys((1, default_threads()))),
        rivals=wish.rivals,
        frames=wish.frames,
    )
    with tempfile.TemporaryDirectory(prefix="siamtrack-bench-") as name:
        folder = Path(name)
        if wish.clip is None or wish.box is None:
            clip = make_clip(folder / "clip.mp4", parse_size(wish.size), wish.clip_frames)
        else:
            clip = read_clip(wish.clip, wish.box, wish.clip_frames)
        with tqdm(desc="bench", unit="turn") as bar:

            def on_turn(total: int) -> None:
                bar.total = total
                bar.update()

            if wish.targets:
                rows = benchmark_targets(order, clip, wish.targets, on_turn)
                return (
                    json.dumps(targets_to_dict(rows), indent=2) if as_json else targets_text(rows)
                )
            report = benchmark(order, clip, folder, on_turn)
    return json.dumps(report_to_dict(report), indent=2) if as_json else as_text(report)
