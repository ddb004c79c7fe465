"""Pairs per second on this machine, of loading alone and of training; plan a schedule with it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from siamtrack.data.cache import CropCache
from siamtrack.engines.devices import resolve_device
from siamtrack.errors import ConfigError
from siamtrack.models.weights import build_network
from siamtrack.training.batches import StepSampler, make_batches
from siamtrack.training.config import TrainConfig
from siamtrack.training.distributed import ProcessGroup
from siamtrack.training.logs import LOG, read_log
from siamtrack.training.train import train

_PARTS = 4  # of a run, timed separately; the first is warm-up and is not counted


def measure(config: TrainConfig, frozen: Iterable[int], steps: int = 40) -> dict[str, float]:
    """Measure loading alone, and training with each of several numbers of frozen stages.

    Args:
        config: of the run that is planned; its workers, threads and batch size are used.
        frozen: values of `optim.frozen_stages`.
        steps: of each run, at least 4; the first quarter is not counted.

    Returns:
        Pairs per second by name: the median over the parts of a run.

    Raises:
        ConfigError: too few steps.
    """
    if steps < _PARTS:
        raise ConfigError(f"steps is {steps}; give {_PARTS} or more")
    rates = {"loading alone": _loading_rate(config, steps // _PARTS)}
    for stages in frozen:
        name = f"training, {stages} stages frozen" if stages else "training, all layers"
        optim = replace(config.optim, frozen_stages=stages)
        rates[name] = _training_rate(replace(config, optim=optim), steps // _PARTS)
    return rates


def as_markdown(rates: dict[str, float]) -> str:
    """Table of the rates."""
    lines = ["| | pairs/s | pairs/hour |", "|---|---|---|"]
    lines += [f"| {name} | {rate:.1f} | {rate * 3600:,.0f} |" for name, rate in rates.items()]
    return "\n".join(lines) + "\n"


def _loading_rate(config: TrainConfig, part: int) -> float:
    """Pairs per second of the loader or the device alone, timed `part` steps at once."""
    network = build_network(config.network.architecture, config.network.config)
    device = torch.device(resolve_device(config.loop.device))
    if config.loop.threads:
        torch.set_num_threads(config.loop.threads)
    sampler = StepSampler(0, _PARTS * part, config.loop.batch_size, ProcessGroup())
    cache = CropCache(Path(config.cache))
    batches = iter(make_batches(config, cache, network.config, sampler, device))
    taken_s = []
    for _ in range(_PARTS):
        started_s = time.perf_counter()
        for _ in range(part):
            batch = next(batches)
        batch["x"][0].cpu()  # waits for the device
        taken_s.append(time.perf_counter() - started_s)
    return part * config.loop.batch_size / median(taken_s[1:])


def _training_rate(config: TrainConfig, part: int) -> float:
    """Pairs per second of a short run that logs every `part` steps."""
    steps = _PARTS * part
    loop = replace(config.loop, steps=steps, log_every=part, checkpoint_every=steps)
    loop = replace(loop, validate_every=0, tensorboard=False)
    no_validation = replace(config.validation, batches=0, sequences="")
    with TemporaryDirectory() as folder:
        train(replace(config, loop=loop, validation=no_validation), Path(folder) / "run")
        log = read_log(Path(folder) / "run" / LOG)
    return median([line["pairs_per_s"] for line in log if line["kind"] == "train"][1:])
