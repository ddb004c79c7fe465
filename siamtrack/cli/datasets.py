"""Data for training: `siamtrack prepare`, `pack-cache`, `check-dataset`, `make-synthetic`...

Data sets are named `KIND:ROOT`, as in `folder:clips`; see `siamtrack.data.datasets`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from siamtrack.cli.options import (
    DATASET_METAVAR,
    PATH,
    config_options,
    model_options,
    tracker_options,
    training_options,
)
from siamtrack.errors import DatasetError

if TYPE_CHECKING:
    from siamtrack.training.config import TrainConfig


@click.command("prepare")
@click.argument("out", type=PATH)
@click.argument("specs", metavar=f"{DATASET_METAVAR}...", nargs=-1, required=True)
@click.option("--max-frames", default=150, show_default=True, help="Most frames of one target.")
@click.option("--partial", is_flag=True, help="Use incomplete data sets as well.")
def prepare(out: Path, specs: tuple[str, ...], max_frames: int, partial: bool) -> None:
    """Crop data sets once into the folder OUT, so that training never decodes whole frames.

    Data sets are folder:clips, "got10k:/data/GOT-10k?subset=train" and so on; the kinds are folder,
    pack, coco, voc, yolo, got10k, lasot, trackingnet, vid, otb, uav123, vot, nfs, dtb70 and
    tcolor128.
    """
    from siamtrack.data.cache import CacheConfig
    from siamtrack.data.cache import prepare as prepare_cache

    cache = prepare_cache(specs, out, CacheConfig(max_frames=max_frames), partial=partial)
    click.echo(f"{out}: {len(cache.tracks)} targets, {len(cache)} pictures")


@click.command("pack-cache")
@click.argument("out", type=PATH)
@training_options
@click.option(
    "--megabytes", default=60.0, show_default=True, help="Largest size of OUT, in 1e6 bytes."
)
@click.option(
    "--quality",
    type=click.IntRange(0, 100),
    metavar="Q",
    help="JPEG quality to store the pictures with; lower packs more.  [default: as they are]",
)
def pack_cache(out: Path, config: TrainConfig, megabytes: float, quality: int | None) -> None:
    """Pack as much of a training cache as fits into the one file OUT.

    For a machine that only little can be sent to: --set cache=OUT trains on it. --set cache=DIR
    names the cache; of each set there are as many pictures as a run of this configuration draws
    from it, by its set weights.
    """
    from siamtrack.data.cache import CropCache
    from siamtrack.data.packed import pack_cache as pack
    from siamtrack.data.pairs import track_weights

    cache = CropCache(Path(config.cache))
    weights = track_weights(cache, config.pairs)
    packed = pack(cache, weights, out, megabytes=megabytes, quality=quality)
    for name, crops in sorted(packed.crops.items()):
        click.echo(f"{name}: {packed.tracks[name]} targets, {crops} pictures", err=True)
    size = out.stat().st_size / 1e6
    click.echo(
        f"{out}: {sum(packed.tracks.values())} of {len(cache.tracks)} targets, "
        f"{sum(packed.crops.values())} of {len(cache)} pictures, {size:.1f} MB"
    )


@click.command("check-dataset")
@click.argument("specs", metavar=f"{DATASET_METAVAR}...", nargs=-1, required=True)
@click.option("--quick", is_flag=True, help="Read headers only and decode nothing.")
def check_dataset(specs: tuple[str, ...], quick: bool) -> int:
    """Print everything that is wrong with data sets, one line each.

    Data sets are named as for siamtrack prepare. The exit code is 3 when something is wrong.
    """
    from siamtrack.data.check import check_dataset as find_problems

    total = 0
    for spec in specs:
        problems = find_problems(spec, quick=quick, progress=True)
        for problem in problems:
            click.echo(problem)
        click.echo(f"{spec}: {len(problems) or 'no'} problem(s)", err=True)
        total += len(problems)
    return DatasetError.exit_code if total else 0


@click.command("make-synthetic")
@click.argument("pictures", type=PATH)
@click.argument("out", type=PATH)
@click.option("--clips", default=100, show_default=True, help="Size of the data set.")
@click.option("--seed", default=0, show_default=True, help="Varies the clips.")
@click.option("--workers", default=1, show_default=True, help="Rendering processes.")
@config_options(
    "Scene parameters; siamtrack/data/synthetic/config.py explains them.",
    "A scene parameter that replaces the file's, such as occlusions=2; may be repeated.",
    metavar="PARAMETER=VALUE",
)
def make_synthetic(
    pictures: Path,
    out: Path,
    clips: int,
    seed: int,
    workers: int,
    config_file: Path | None,
    assignments: tuple[str, ...],
) -> None:
    """Render clips with exact boxes from a folder of pictures; they open as folder:OUT.

    Clips that are in OUT already are kept, and only the missing ones are rendered.
    """
    from tqdm import tqdm

    from siamtrack.data.synthetic import FolderTextures, make_data_set, read_config

    config = read_config(config_file, assignments)
    textures = FolderTextures(pictures)
    with tqdm(total=clips, unit="clip", delay=1) as bar:
        report = make_data_set(
            out, textures, config, clips=clips, seed=seed, workers=workers, on_clip=bar.update
        )
    click.echo(f"{out}: {report.made} clips made, {report.kept} were there")


@click.command("pseudo-label")
@click.argument("clips", metavar="CLIPS...", nargs=-1, required=True)
@click.option("--out", type=PATH, required=True, metavar="DIR", help="Folder to write.")
@click.option("--max-boxes", default=3, show_default=True, help="Start boxes tried in one clip.")
@click.option(
    "--max-frames",
    default=150,
    show_default=True,
    help="Most frames tracked from a start box, in either direction.",
)
@click.option("--every", default=1, show_default=True, help="Track every N-th frame only.")
@click.option(
    "--min-agreement",
    default=0.6,
    show_default=True,
    help="Least IoU of tracking there and back; raising it keeps fewer and better boxes.",
)
@model_options
def pseudo_label(
    clips: tuple[str, ...],
    out: Path,
    max_boxes: int,
    max_frames: int,
    every: int,
    min_agreement: float,
    weights: str | None,
    device: str,
    engine: str,
    settings: tuple[tuple[str, Any], ...],
) -> None:
    """Make boxes for CLIPS that have none; they open as folder:DIR.

    CLIPS are videos, folders of images, folders of those, or patterns in quotes. What moves against
    the camera, or stands out from the border, is tracked there and back and kept where both agree.
    Look at the contact sheets in DIR/sheets before training on the boxes. DIR/reports/report.csv
    has a line per start box. Clips that are in DIR already are kept, and only the missing ones
    labeled.
    """
    from tqdm import tqdm

    import siamtrack
    from siamtrack.api import DEFAULT_WEIGHTS
    from siamtrack.data.pseudo import PseudoLabelConfig, find_clips
    from siamtrack.data.pseudo import pseudo_label as label

    config = PseudoLabelConfig(
        max_boxes=max_boxes, max_frames=max_frames, every=every, min_agreement=min_agreement
    )
    found, options = find_clips(clips, out), tracker_options(settings)
    tracker = siamtrack.load(weights, device=device, engine=engine, **options)
    facts = {"weights": weights or DEFAULT_WEIGHTS, "engine": engine, **options}
    with tqdm(total=len(found), unit="clip", delay=1) as bar:
        report = label(found, out, tracker, config, settings=facts, on_clip=lambda *_: bar.update())
    results = ", ".join(f"{count} {result}" for result, count in sorted(report.results.items()))
    share = 100 * report.kept_frames / max(report.tracked_frames, 1)
    click.echo(
        f"{out}: {report.clips} clips ({results}); {report.kept_boxes} of {report.start_boxes} "
        f"start boxes kept, as {report.targets} targets; {report.kept_frames} of "
        f"{report.tracked_frames} tracked frames kept ({share:.0f} %); look at {out / 'sheets'}"
    )
