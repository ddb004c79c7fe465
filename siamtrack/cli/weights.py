"""`siamtrack import-weights`, `calibrate`, `tune`, `absence`, `key-frames` and `gallery`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from siamtrack.cli.options import (
    DATASET_METAVAR,
    PATH,
    WordsCommand,
    WordsOption,
    max_frames_option,
    settings_option,
    tracker_options,
    views_option,
)
from siamtrack.errors import ConfigError

_weights_option = click.option(
    "--weights", default="siamtrack-lite0", show_default=True, metavar="W", help="Name or file."
)


@click.command("import-weights", cls=WordsCommand)
@click.argument("source")
@click.argument("destination")
@click.option(
    "--training-data",
    cls=WordsOption,
    multiple=True,
    default=("unknown",),
    metavar="NAME...",
    help="What the network was trained on.  [default: unknown]",
)
@click.option(
    "--license",
    "--licence",
    "licence",
    default="unknown",
    show_default=True,
    help="License, as its authors state it.",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
def import_weights(
    source: str, destination: str, training_data: tuple[str, ...], licence: str, overwrite: bool
) -> None:
    """Convert a SiamFC checkpoint of another program into a .safetensors file with a card.

    SOURCE is a PyTorch state dict (.pth) or a MatConvNet network (.mat).
    """
    from siamtrack.models.import_siamfc import import_siamfc

    card = import_siamfc(
        source, destination, training_data=training_data, license=licence, overwrite=overwrite
    )
    click.echo(f"{destination}: {card.architecture}, sha256 {card.sha256}")


@click.command("calibrate")
@click.argument("weights")
@click.argument("specs", metavar=f"{DATASET_METAVAR}...", nargs=-1, required=True)
@click.option("--plot", metavar="FILE.png", help="Write a reliability diagram.")
@click.option(
    "--check", is_flag=True, help="Measure the calibration of the present score; write nothing."
)
def calibrate(weights: str, specs: tuple[str, ...], plot: str | None, check: bool) -> None:
    """Fit the score of WEIGHTS to sequences they have never seen, and write it into their card."""
    from siamtrack.api import load
    from siamtrack.data.datasets import open_dataset
    from siamtrack.evaluation.calibration import (
        calibration_curves,
        expected_calibration_error,
        write_calibration,
    )
    from siamtrack.evaluation.report.plots import save_reliability

    tracker = load(weights)
    sequences = [sequence for spec in specs for sequence in open_dataset(spec)]
    curves, observed, found = calibration_curves(
        tracker.engine, tracker.options, sequences, check=check
    )
    if plot:
        save_reliability(plot, curves, observed.good, observed.weights)
    if not check:
        write_calibration(weights, found, tracker.options)
    for name, scores in curves.items():
        error = expected_calibration_error(scores, observed.good, observed.weights)
        click.echo(f"{name}: expected calibration error {error:.3f}")


@click.command("tune")
@click.argument("out", type=PATH)
@click.argument("sequences", metavar=DATASET_METAVAR)
@_weights_option
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="OPTION=VALUE",
    help="An option of the tracker in every trial; may be repeated.",
)
@click.option(
    "--range",
    "ranges",
    multiple=True,
    metavar="OPTION=LOW:HIGH[:STEP]",
    help="Search this option; may be repeated.",
)
@click.option(
    "--ranges-file",
    type=PATH,
    metavar="F.toml",
    help="Ranges as lines option = [low, high].",
)
@click.option("--trials", default=100, show_default=True, help="Sets of options to try.")
@click.option("--folds", default=5, show_default=True, help="Of the cross-validation.")
@click.option("--workers", default=1, show_default=True, help="Processes that track.")
@click.option("--seed", default=0, show_default=True, help="Of the search.")
@views_option
@max_frames_option
@click.option("--memory-mb", default=3000, show_default=True, help="For decoded frames, in all.")
def tune(**arguments: Any) -> None:
    """Search tracker options on sequences with ground truth, cross-validated over sequences.

    The groups.json of a folder of clips says which sequences belong together. Trials and report
    go into the folder OUT; the table is printed as well. The same command continues a search that
    was stopped.
    """
    from siamtrack.tuning.search import tune as search

    click.echo(search(**arguments, progress=True).read_text(), nl=False)


@click.command("absence")
@click.argument("weights")
@click.argument("specs", metavar=f"{DATASET_METAVAR}...", nargs=-1, required=True)
@settings_option
def absence(weights: str, specs: tuple[str, ...], settings: tuple[tuple[str, Any], ...]) -> None:
    """Measure how reliably WEIGHTS report that the target is gone, and how soon they find it again.

    The data sets need ground truth with absences. Prints a report on each, and one on all of them.
    """
    from siamtrack.api import load
    from siamtrack.data.datasets import open_dataset
    from siamtrack.evaluation.absence import AbsenceReport, measure_absences

    tracker, total = load(weights, **tracker_options(settings)), AbsenceReport()
    for spec in specs:
        report = measure_absences(tracker, open_dataset(spec))
        total += report
        click.echo("\n  ".join([spec, *report.summary_lines()]))
    click.echo("\n  ".join(["all", *total.summary_lines()]))


@click.command("key-frames")
@click.argument("weights")
@click.argument("specs", metavar=f"{DATASET_METAVAR}...", nargs=-1, required=True)
@click.option(
    "--every",
    type=click.IntRange(min=2),
    default=50,
    show_default=True,
    metavar="N",
    help="Frames from one key frame to the next, in the second table.",
)
@click.option(
    "--jitter",
    type=click.FloatRange(0, 0.5),
    default=0.0,
    show_default=True,
    metavar="S",
    help="How far off a drawn corner is, as a share of the sides.",
)
@click.option("--only-every", is_flag=True, help="Leave out the first table: it takes longer.")
@click.option("--only", multiple=True, metavar="NAME", help="Only this sequence; may be repeated.")
@click.option("--engine", metavar="E", default="auto", help="What computes the network.")
@settings_option
def key_frames(
    weights: str,
    specs: tuple[str, ...],
    every: int,
    jitter: float,
    only_every: bool,
    only: tuple[str, ...],
    engine: str,
    settings: tuple[tuple[str, Any], ...],
) -> None:
    """Count the boxes a person must draw until every frame is right, with WEIGHTS.

    The data sets need ground truth, which is what the person draws. A frame is right if its box
    overlaps the truth by half. Prints a line for each sequence as it comes, then two tables: boxes
    to draw, by the way of working, and how good the frames between key frames at equal distances
    are.
    """
    from siamtrack.api import load
    from siamtrack.data.datasets import open_dataset
    from siamtrack.evaluation.key_frames import KeyFrameFigures, measure_key_frames

    def show(name: str, figures: KeyFrameFigures) -> None:
        counts = " ".join(map(str, figures.boxes))
        filled = " ".join(f"{value[0][0]:.3f}" for value in figures.overlaps if value)
        click.echo(f"{name}: {figures.frames} frames, boxes {counts}; overlap {filled}")

    sequences = [sequence for spec in specs for sequence in open_dataset(spec)]
    if unknown := [name for name in only if name not in {s.name for s in sequences}]:
        raise ConfigError.unknown("sequence", unknown[0], {s.name for s in sequences})
    total = measure_key_frames(
        load(weights, engine=engine, **tracker_options(settings)),
        (sequence for sequence in sequences if not only or sequence.name in only),
        every=every,
        jitter=jitter,
        counts_boxes=not only_every,
        on_sequence=show,
    )
    click.echo("\n".join(total.summary_lines(every)))


@click.command("gallery")
@click.argument("out", type=PATH)
@click.argument("sequences", metavar=DATASET_METAVAR)
@_weights_option
@settings_option
@click.option("--worst", default=5, show_default=True, help="Sequences that are drawn.")
@max_frames_option
def gallery(
    out: Path,
    sequences: str,
    weights: str,
    settings: tuple[tuple[str, Any], ...],
    worst: int,
    max_frames: int,
) -> None:
    """Draw what the tracker saw where it failed: a picture of each of the worst sequences.

    The pictures go into the folder OUT; their index is printed as well.
    """
    from siamtrack.api import load
    from siamtrack.data.datasets import open_dataset
    from siamtrack.evaluation.report.failures import write_gallery

    tracker = load(weights, **tracker_options(settings))
    dataset = open_dataset(sequences)
    index = write_gallery(tracker, dataset, out, worst=worst, max_frames=max_frames, progress=True)
    click.echo(index.read_text(), nl=False)
