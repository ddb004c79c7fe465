"""`siamtrack eval`: how good trackers are on a data set with ground truth."""

from __future__ import annotations

from pathlib import Path

import click

FAMILIES = ("ope", "sre", "tre", "realtime", "corruptions", "supervised")


@click.command("eval", short_help="Evaluate trackers on a data set with ground truth.")
@click.argument("dataset")
@click.option(
    "--root",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the data set.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for results and report; results that are there are not computed again.",
)
@click.option(
    "--tracker",
    "trackers",
    multiple=True,
    metavar="NAME",
    help="siamtrack, siamfc, a weights file, opencv:csrt (kcf, mil, mosse, medianflow, nano, vit), "
    "package.module:Class, file.py:Class; options as NAME@key=value,key=value. May be repeated: "
    "the trackers take turns on every sequence. [default: siamtrack]",
)
@click.option(
    "--protocol",
    "families",
    multiple=True,
    type=click.Choice(FAMILIES),
    help="Ways of running; may be repeated. [default: ope, or supervised for VOT]",
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Only these sequences; wildcards allowed, may be repeated.",
)
@click.option("--partial", is_flag=True, help="Evaluate what is there of an incomplete data set.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes, each with a sequence of its own.",
)
@click.option(
    "--scheduler",
    default="",
    metavar="ADDRESS",
    help="Run on a Dask cluster instead, such as tcp://10.0.0.1:8786.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Computing threads of one tracker.",
)
@click.option(
    "--frame-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="S",
    help="A tracker that takes longer for a frame hangs: it is killed, its sequence failed.",
)
@click.option(
    "--fps",
    type=click.FloatRange(min=0, min_open=True),
    default=25.0,
    show_default=True,
    help="Rate at which frames come in --protocol realtime.",
)
@click.option("--backbone", metavar="FILE.onnx", help="Model file of opencv:nano.")
@click.option("--head", metavar="FILE.onnx", help="Model file of opencv:nano.")
@click.option("--net", metavar="FILE.onnx", help="Model file of opencv:vit.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["md", "latex"]),
    help="Print the table for a paper on stdout; may be repeated.  [default: md]",
)
@click.option(
    "--verify",
    is_flag=True,
    help="Have the got10k toolkit score the same files, and fail if a figure differs.",
)
@click.option("--no-run", is_flag=True, help="Only report on the results that are there.")
def command(
    dataset: str,
    root: Path,
    out: Path,
    trackers: tuple[str, ...],
    families: tuple[str, ...],
    only: tuple[str, ...],
    partial: bool,
    workers: int,
    scheduler: str,
    threads: int,
    frame_timeout: float,
    fps: float,
    backbone: str | None,
    head: str | None,
    net: str | None,
    formats: tuple[str, ...],
    verify: bool,
    no_run: bool,
) -> int:
    """Evaluate trackers on DATASET and write DIR/report.html.

    DATASET is clips (a folder of clips with their boxes beside them), got10k-val, got10k-test,
    otb2013, otb50, otb100, vot2013 to vot2019, lasot, trackingnet, nfs30, nfs240, uav123, uav20l,
    dtb70 or tcolor128. Nothing is downloaded. A run that was stopped goes on where it was when the
    same command is given again. The exit code is 3 when any sequence failed.
    """
    from siamtrack.cli._evaluating import Order, evaluate
    from siamtrack.evaluation.evaluate import Running
    from siamtrack.evaluation.specs import parse_trackers

    files = {"nano": {"backbone": backbone, "head": head}, "vit": {"net": net}}
    order = Order(
        dataset=dataset,
        root=root,
        out=out,
        trackers=parse_trackers(trackers or ("siamtrack",), files),
        families=families,
        fps=fps,
        only=only,
        partial=partial,
        running=Running(workers, scheduler, threads, frame_timeout),
        formats=formats or ("md",),
        verify=verify,
        run=not no_run,
    )
    return evaluate(order)
