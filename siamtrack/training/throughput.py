"""How fast this machine makes pairs and learns from them: what a schedule is planned with."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from siamtrack.data.cache import CropCache
from siamtrack.errors import ConfigError
from siamtrack.models.weights import build_network
from siamtrack.training.batches import StepSampler, make_loader, pairs_of
from siamtrack.training.config import TrainConfig
from siamtrack.training.distributed import World
from siamtrack.training.logs import LOG, read_log
from siamtrack.training.train import fit

_PARTS = 4  # of a run whose rates are read one by one; the first warms up and is left out


@dataclass(frozen=True, slots=True)
class Rate:
    """Pairs per second of one way of running.

    Attributes:
        name: what ran.
        pairs_per_s: median over the parts of the run.
    """

    name: str
    pairs_per_s: float


def measure(config: TrainConfig, frozen: Iterable[int], steps: int = 40) -> list[Rate]:
    """Rate of loading alone, and of training with so many stages of the backbone frozen.

    Args:
        config: of the run that is planned; its workers, threads and batch size are used.
        frozen: values of `optim.frozen_stages`.
        steps: of each run, at least 4; the first quarter is not counted.

    Raises:
        ConfigError: too few steps.
        ConfigError, DatasetError, TrainingError: see `siamtrack.training.loop.fit`.
    """
    if steps < _PARTS:
        raise ConfigError(f"steps is {steps}; give {_PARTS} or more")
    rates = [Rate("loading alone", _loading(config, steps))]
    for stages in frozen:
        optim = replace(config.optim, frozen_stages=stages)
        name = f"training, {stages} stages frozen" if stages else "training, all layers"
        rates.append(Rate(name, _training(replace(config, optim=optim), steps)))
    return rates


def as_markdown(rates: Iterable[Rate]) -> str:
    """A table."""
    lines = ["| | pairs/s | pairs/hour |", "|---|---|---|"]
    lines += [f"| {r.name} | {r.pairs_per_s:.1f} | {r.pairs_per_s * 3600:,.0f} |" for r in rates]
    return "\n".join(lines) + "\n"


def _loading(config: TrainConfig, steps: int) -> float:
    network = build_network(config.network.architecture, config.network.config)
    pairs = pairs_of(config, CropCache(Path(config.cache)), network.config, "train")
    loop, part = config.loop, steps // _PARTS
    batches = iter(
        make_loader(pairs, StepSampler(0, steps, loop.batch_size, World()), workers=loop.workers)
    )
    taken_s = []
    for _ in range(_PARTS):
        started_s = time.perf_counter()
        for _ in range(part):
            next(batches)
        taken_s.append(time.perf_counter() - started_s)
    return part * loop.batch_size / median(taken_s[1:])


def _training(config: TrainConfig, steps: int) -> float:
    part = steps // _PARTS
    loop = replace(
        config.loop,
        steps=_PARTS * part,
        log_every=part,
        checkpoint_every=_PARTS * part,
        validate_every=0,
        tensorboard=False,
    )
    quick = replace(config.validation, batches=0, sequences="")
    with TemporaryDirectory() as folder:
        fit(replace(config, loop=loop, validation=quick), Path(folder) / "run")
        log = read_log(Path(folder) / "run" / LOG)
    return median([line["pairs_per_s"] for line in log if line["kind"] == "train"][1:])
