"""`siamtrack demo`: see it work, with nothing but the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from siamtrack.cli.options import PATH, model_options, tracker_options

if TYPE_CHECKING:
    from siamtrack.demo.run import DemoReport

DEFAULT_FOLDER = Path("siamtrack-demo")


@click.command("demo")
@click.option(
    "--out",
    type=PATH,
    metavar="DIR",
    help=f"Where the results go.  [default: {DEFAULT_FOLDER}, replaced at every run]",
)
@click.option("--overwrite", is_flag=True, help="Replace the results of an earlier run in --out.")
@click.option("--seed", type=int, default=0, show_default=True, help="Varies the clip.")
@click.option(
    "--frames",
    type=click.IntRange(min=2),
    metavar="N",
    help="Length of the clip at 30 frames per second: fewer make it fast and hard.  [default: 360]",
)
@model_options
def command(
    out: Path | None,
    overwrite: bool,
    seed: int,
    frames: int | None,
    weights: str | None,
    device: str,
    engine: str,
    settings: tuple[tuple[str, Any], ...],
) -> int:
    """Make a clip with known ground truth, track the object in it, and show how well that went.

    Writes the clip, the annotated video, the boxes, the truth and a contact sheet; prints the mean
    overlap (IoU) with the truth and the tracker's frames per second.
    """
    import sys

    from tqdm import tqdm

    import siamtrack
    from siamtrack.demo.run import DEFAULT_FRAMES, demo_files, run_demo
    from siamtrack.utils.progress import FILE_INTERVAL_S, TERMINAL_INTERVAL_S

    frames, folder = frames or DEFAULT_FRAMES, out or DEFAULT_FOLDER
    options = tracker_options(settings)
    tracker = siamtrack.load(weights, device=device, engine=engine, **options)
    interval_s = TERMINAL_INTERVAL_S if sys.stderr.isatty() else FILE_INTERVAL_S
    try:
        with tqdm(desc="demo", total=frames, unit=" frames", mininterval=interval_s) as bar:
            report = run_demo(
                folder,
                seed=seed,
                frames=frames,
                overwrite=overwrite or out is None,
                tracker=tracker,
                on_frame=lambda index: bar.update(),
            )
    except KeyboardInterrupt as stop:
        kept = [str(path) for path in demo_files(folder).values() if path.exists()]
        click.echo(f"siamtrack: stopped; kept {', '.join(kept) or 'nothing'}", err=True)
        return int(getattr(stop, "exit_code", 130))
    for line in summary_lines(report):
        click.echo(line)
    return 0


def summary_lines(report: DemoReport) -> list[str]:
    """What to print about a demo: the figures, the files, and what to do next."""
    box = ",".join(f"{value:.0f}" for value in report.first_box_xywh)
    return [
        f"mean IoU {report.mean_iou:.3f} over {report.frame_count - 1} frames, "
        f"{report.success_rate:.0%} of them above 0.5, {report.fps:.0f} fps (tracker alone)",
        *report.episodes,
        *(f"{name:>6}  {path}" for name, path in report.files.items()),
        f" yours  siamtrack track {report.files['clip']} --box {box}",
    ]
