"""`siamtrack bench`: where each millisecond goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from siamtrack.cli.options import PATH, BoxType, opencv_model_options
from siamtrack.utils.config import warn_renamed


def _parse_targets(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[int, ...]:
    """Numbers of targets, each 1 or more; none without the option."""
    counts = [] if text is None else [part.strip() for part in text.split(",")]
    if not all(count.isdecimal() and int(count) > 0 for count in counts):
        raise click.BadParameter(f"{text!r}; give numbers of targets, such as 1,2,4", context)
    return tuple(map(int, counts))


def _refuse_unused(instead: Mapping[str, str], reason: str) -> None:
    """Raise for an option that was given and would change nothing; by name what to give instead."""
    context = click.get_current_context()
    for name, other in instead.items():
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{name} would change nothing: {reason}; give {other}", context
            )


@click.command("bench")
@click.argument("clip", required=False, type=PATH)
@click.option(
    "--box", type=BoxType(), metavar="X,Y,W,H", help="Target on the first frame of CLIP, px."
)
@click.option(
    "--size",
    default="640x480",
    show_default=True,
    metavar="WxH",
    help="Frame size in px of the clip that is rendered when no CLIP is given.",
)
@click.option(
    "--clips",
    "dataset",
    metavar="DIR",
    help="Time whole clips instead, starts and lost frames included: a folder of clips with "
    "their boxes beside them, or a data set as KIND:ROOT.",
)
@click.option("--weights", metavar="W", help="Name or file.  [default: siamtrack-lite0]")
@click.option("--device", metavar="D", default="cpu", show_default=True, help="cpu, cuda, mps.")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="E",
    help="openvino:int8, openvino:bf16, openvino:f32, onnx:int8, onnx, torch; may be repeated.  "
    "[default: all that run; of --clips and --targets the fastest]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="N",
    help="CPU threads of a tracker; may be repeated.  [default: 1, and 2 with two cores; of "
    "--clips only 2]",
)
@click.option(
    "--tracker",
    "trackers",
    multiple=True,
    metavar="NAME",
    help="Time another tracker as well, such as opencv:nano or "
    "nanotrack:BACKBONE.onnx,HEAD.onnx, written as the --tracker of siamtrack eval; may be "
    "repeated.",
)
@click.option("--rival", "rivals", multiple=True, hidden=True)
@opencv_model_options
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    default=150,
    show_default=True,
    metavar="N",
    help="Counted frames of each tracker.",
)
@click.option(
    "--clip-frames",
    type=click.IntRange(min=2),
    metavar="N",
    help="Length of the clip, which is held in memory and repeated; of --clips the most frames of "
    "each.  [default: 60; of --clips all]",
)
@click.option(
    "--targets",
    "target_counts",
    callback=_parse_targets,
    metavar="N,N,...",
    help="Compare numbers of targets instead, such as 1,2,4,8,16,32.",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")
def command(
    clip: Path | None,
    box: tuple[float, ...] | None,
    size: str,
    dataset: str | None,
    weights: str | None,
    device: str,
    engines: tuple[str, ...],
    threads: tuple[int, ...],
    trackers: tuple[str, ...],
    rivals: tuple[str, ...],
    model_files: dict[str, Any],
    frames: int,
    clip_frames: int | None,
    target_counts: tuple[int, ...],
    as_json: bool,
) -> None:
    """Time every stage of tracking, for each engine and number of threads, in one run.

    They take turns on the same frames, those of CLIP or of a rendered clip. The stages of a
    frame are the crop, its pre-processing, the network and the post-processing, which add up to
    the update; decoding, drawing and encoding are timed beside them. The limit is the time the
    network's multiplications would take at the fastest rate measured on this machine.

    --clips shows what users get: frames per second over whole clips, the start of each included
    and decoding not, and the time of a start, of frames on which the target is followed, uncertain,
    verified after a recovery, and lost.
    """
    if dataset is not None and (clip is not None or target_counts):
        other = "CLIP" if clip is not None else "--targets"
        raise click.UsageError(
            f"--clips and {other} are two benchmarks; give one", click.get_current_context()
        )
    _refuse_unused(
        {"frames": "--clip-frames", "size": "no size"} if dataset is not None else {},
        "--clips measures every frame of the clips that it is given",
    )
    _refuse_unused({"size": "no size"} if clip is not None else {}, "CLIP has a size of its own")
    if clip is not None and box is None:
        raise click.UsageError(
            "CLIP needs a target; add --box x,y,w,h", click.get_current_context()
        )
    if clip is None and box is not None:
        raise click.UsageError("--box is a target in CLIP; give one", click.get_current_context())
    if rivals:
        warn_renamed("option", "--rival", "--tracker")

    import json
    import tempfile

    from tqdm import tqdm

    from siamtrack.bench import report as bench
    from siamtrack.bench.clips import benchmark_clips, clips_text, clips_to_dict
    from siamtrack.bench.stages import Clip, make_clip, parse_size, read_clip
    from siamtrack.engines.graphs import default_threads
    from siamtrack.evaluation.trackers import parse_trackers

    # The default threads are those of a tracker; fewer show what one core does.
    most = default_threads()
    default = (most,) if dataset is not None else tuple(dict.fromkeys((1, most)))
    config = bench.BenchConfig(
        weights=weights,
        engines=engines,
        device=device,
        threads=threads or default,
        trackers=tuple(parse_trackers((*trackers, *rivals), model_files)),
        frames=frames,
    )
    with (
        tempfile.TemporaryDirectory(prefix="siamtrack-bench-") as name,
        tqdm(desc="bench", unit="turn") as bar,
    ):

        def on_turn(total: int) -> None:
            bar.total = total
            bar.update()

        def one_clip() -> Clip:
            count = 60 if clip_frames is None else clip_frames
            if clip is not None and box is not None:
                return read_clip(clip, box, count)
            return make_clip(Path(name) / "clip.mp4", parse_size(size), count)

        data: object
        if dataset is not None:
            whole = benchmark_clips(config, dataset, most_frames=clip_frames, on_turn=on_turn)
            data, text = clips_to_dict(whole), clips_text(whole)
        elif target_counts:
            rows = bench.benchmark_targets(config, one_clip(), target_counts, on_turn)
            data, text = bench.targets_to_dict(rows), bench.targets_text(rows)
        else:
            report = bench.benchmark(config, one_clip(), Path(name), on_turn)
            data, text = bench.report_to_dict(report), bench.report_text(report)
    click.echo(json.dumps(data, indent=2) if as_json else text)
