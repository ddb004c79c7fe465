"""`siamtrack finetune`, `train`, `show-pairs`, `compare-losses`, `throughput`, `slim` and more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from siamtrack.cli.options import (
    DATASET_METAVAR,
    PATH,
    WordsCommand,
    WordsOption,
    max_frames_option,
    training_options,
)

if TYPE_CHECKING:
    from siamtrack.training.config import TrainConfig


@click.command("finetune")
@click.argument("clips")
@click.option("--out", required=True, type=PATH, metavar="DIR", help="Folder to make.")
@click.option(
    "--weights", default="siamtrack-lite0", show_default=True, metavar="W", help="Start from these."
)
@click.option(
    "--steps", type=click.IntRange(min=1), default=1000, show_default=True, help="Of 32 pairs each."
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="A.B=C",
    help="Another setting of siamtrack train, such as optim.rate=1e-4; may be repeated.",
)
@click.option("--resume", is_flag=True, help="Go on with a run in DIR that was stopped.")
def finetune(
    clips: str, out: Path, weights: str, steps: int, assignments: tuple[str, ...], resume: bool
) -> None:
    """Train weights further on CLIPS, and print the path of the result for siamtrack track.

    CLIPS is a folder of videos, or folders of pictures, with their boxes beside them in a .txt or
    the .csv of siamtrack track; KIND:ROOT names other data sets. A tenth of the clips, at least one
    of three, is held out and says whether the new weights are better there.
    """
    from siamtrack.training.finetune import finetune as run

    made = run(clips, out, start=weights, steps=steps, assignments=assignments, resume=resume)
    for note in made.notes:
        click.echo(f"siamtrack: {note}", err=True)
    click.echo(f"siamtrack: now run siamtrack track VIDEO --weights {made.weights}", err=True)
    click.echo(made.weights)


@click.command(
    "train",
    epilog="On several devices: torchrun --nproc-per-node 4 -m siamtrack train OUT --config F.toml",
)
@click.argument("out", type=PATH)
@training_options
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint in OUT.")
def train(out: Path, config: TrainConfig, resume: bool) -> None:
    """Train a tracker in the folder OUT and print the path of the weights.

    The crops come from siamtrack prepare; --set cache=DIR names their folder.
    """
    from siamtrack.training.train import train as run

    click.echo(run(config, out, resume=resume))


@click.command("show-pairs")
@click.argument("out", type=PATH)
@training_options
@click.option("--first", default=0, show_default=True, help="Index of the first pair.")
@click.option("--count", default=64, show_default=True, help="Number of pairs.")
def show_pairs(out: Path, config: TrainConfig, first: int, count: int) -> None:
    """Draw the pairs of a training run with their labels into the PNG file OUT.

    When a loss is not finite, the error names its pairs; look at them with --first and --count.
    With --set loop.device_pairs=true the pairs are those that a run makes on its device.
    """
    import cv2

    from siamtrack.data.cache import CropCache
    from siamtrack.data.show import draw_pairs
    from siamtrack.models.weights import build_network
    from siamtrack.training.batches import pairs_to_look_at
    from siamtrack.utils.files import atomic_write

    network = build_network(config.network.architecture, config.network.config)
    pairs = pairs_to_look_at(config, CropCache(Path(config.cache)), network.config)
    picture_bgr = draw_pairs(pairs, first=first, count=count)
    atomic_write(out, cv2.imencode(".png", picture_bgr)[1].tobytes())


@click.command("compare-losses", cls=WordsCommand)
@click.argument("out", type=PATH)
@click.argument("sequences", metavar=DATASET_METAVAR)
@training_options
@click.option(
    "--only", cls=WordsOption, multiple=True, metavar="NAME...", help="Compare these losses only."
)
@max_frames_option
def compare_losses(
    out: Path, sequences: str, config: TrainConfig, only: tuple[str, ...], max_frames: int
) -> None:
    """Train the same tracker with each loss under equal budget and compare on held-out sequences.

    Runs and report go into the folder OUT; the table is printed as well.
    """
    from siamtrack.training.compare_losses import TABLE, compare, default_variants, select_variants

    variants = select_variants(default_variants(config), only)
    compare(config, variants, sequences, out, max_frames=max_frames)
    click.echo((out / TABLE).read_text(), nl=False)


@click.command("throughput", cls=WordsCommand)
@training_options
@click.option(
    "--frozen",
    cls=WordsOption,
    multiple=True,
    type=int,
    default=(3, 0),
    metavar="N...",
    help="Frozen stages of the backbone, one run for each number.  [default: 3 0]",
)
@click.option("--steps", default=40, show_default=True, help="Steps of each run.")
def throughput(config: TrainConfig, frozen: tuple[int, ...], steps: int) -> None:
    """Measure pairs per second on this machine, of loading alone and of training."""
    from siamtrack.training.throughput import as_markdown, measure

    click.echo(as_markdown(measure(config, frozen, steps)), nl=False)


@click.command("average-weights")
@click.argument("out", type=PATH)
@click.argument("sources", metavar="WEIGHTS...", nargs=-1, required=True)
@click.option(
    "--search-size", default=0, help="Side of the search crop in px.  [default: the first source's]"
)
def average_weights(out: Path, sources: tuple[str, ...], search_size: int) -> None:
    """Write the mean of WEIGHTS (names or files) into the file OUT.

    The runs must have started from the same weights.
    """
    from siamtrack.training.average import average_weights as average

    click.echo(average(out, sources, search_size_px=search_size))


@click.command("slim")
@click.argument("out", type=PATH)
@click.option(
    "--weights", default="siamtrack-lite0", show_default=True, metavar="W", help="Slim these."
)
@click.option(
    "--channels",
    required=True,
    metavar="N,N,...",
    help="Channels inside the first blocks of the backbone, that of the stem first; the wide "
    "network has 32,96,144,144,240,240,480,480,480,672,672, and siamtrack info --weights W says "
    "what W has.",
)
@click.option(
    "--teacher", metavar="W", help="Learn the features of these.  [default: those of --weights]"
)
@training_options
@click.option("--resume", is_flag=True, help="Go on from the weights in OUT.")
def slim(
    out: Path, weights: str, channels: str, teacher: str | None, config: TrainConfig, resume: bool
) -> None:
    """Write weights with a narrower, faster backbone that gives the same features, into OUT.

    Of each block the channels that its output needs most are kept, and trained on search crops of
    the cache until the features are those of the wide network. No boxes are learned: the rest of
    the network, the tracker options and the score stay as they are. Export OUT afterwards.
    """
    from tqdm import tqdm

    from siamtrack.models.weights import read_card
    from siamtrack.training.slim import slim_weights

    try:
        inner_channels = [int(number) for number in channels.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{channels!r} is no list of whole numbers; give for example 16,48,80",
            param_hint="--channels",
        ) from None
    with tqdm(total=config.loop.steps, desc="slimming", unit="step", disable=None) as bar:

        def show(step: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update()

        path = slim_weights(
            config, out, weights, inner_channels, teacher=teacher, resume=resume, on_step=show
        )
    for name, value in read_card(path).figures.items():
        click.echo(f"siamtrack: {name} {value:.3f} (1: as before)", err=True)
    click.echo(path)
