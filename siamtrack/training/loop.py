"""The training loop: configuration in, weights out, resumable at any moment."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from siamtrack.data.cache import CropCache
from siamtrack.data.pairs import PairDataset, Part
from siamtrack.engines.torch_engine import resolve_device
from siamtrack.errors import ConfigError, OutputError, TrainingError
from siamtrack.losses.combine import build_loss
from siamtrack.training import checkpoints, logs
from siamtrack.training.batches import StepSampler, make_loader, pairs_of
from siamtrack.training.config import TrainConfig, config_to
from siamtrack.training.distributed import World, joined_world
from siamtrack.training.optim import (
    MovingAverage,
    freeze,
    gradient_norm,
    learning_rate,
    make_optimiser,
    set_rate,
    to_training_mode,
)
from siamtrack.training.start import default_loss, make_network, save_weights
from siamtrack.training.step import PairForward, labels_for, losses_of, mean_positive_cells
from siamtrack.training.validation import Validator

logger = logging.getLogger(__name__)

CONFIG = "config.json"


def fit(config: TrainConfig, out: Path, *, resume: bool = False) -> Path:
    """Train a network.

    Args:
        config: the run.
        out: its folder: config.json, log.jsonl, curves.png, last.pt, best.pt and, at the end,
            the averaged weights as `<architecture>.safetensors` with a card.
        resume: go on from `last.pt`; the run continues exactly as if it had not been stopped.

    Returns:
        The weights file.

    Raises:
        ConfigError, DatasetError, WeightsError: what is asked for is not to be had.
        OutputError: `out` holds a run and `resume` is false, or cannot be written.
        TrainingError: a loss that is not finite; a checkpoint that does not fit.
    """
    device = resolve_device(config.loop.device)
    if config.loop.precision == "float16" and device.type != "cuda":
        raise ConfigError(
            f'loop.precision is "float16", which trains on cuda only, and the device is {device}; '
            'use "bfloat16" or "float32"'
        )
    if config.loop.threads:
        torch.set_num_threads(config.loop.threads)
    with joined_world(device.type) as world:
        if device.type == "cuda" and world.size > 1:
            device = torch.device("cuda", world.local_rank)
        return Trainer(config, out, device, world, resume=resume).run()


class Trainer:
    """State of one run in one process."""

    def __init__(
        self, config: TrainConfig, out: Path, device: torch.device, world: World, *, resume: bool
    ) -> None:
        """Build everything, or take it from the last checkpoint; see `fit`."""
        self.config, self.out, self.device, self.world = config, out, device, world
        last = out / checkpoints.LAST
        if last.exists() and not resume:
            raise OutputError(
                f"{out} holds a run; give --resume to go on with it, or another folder"
            )
        torch.manual_seed(config.loop.seed)
        self.cache = CropCache(Path(config.cache))
        self.loss = build_loss(config.loss or default_loss(config.network.architecture))
        self.network = make_network(config.network, random=resume).to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        freeze(self.network, config.optim)
        self.optimiser = make_optimiser(self.network, config.optim)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.loop.precision == "float16")
        self.average = MovingAverage(self.network, config.optim.ema_decay)
        self.step, self.best = 0, float("-inf")
        if resume:
            self._restore(checkpoints.read_checkpoint(last))
        self.forward = self._wrap()
        self.validator = Validator(config, self._pairs("held_out"), self.loss, device)

    def run(self) -> Path:
        """Train to the last step, then validate and save the weights."""
        log = None
        if self.world.is_first:
            log = logs.RunLog(
                self.out, tensorboard=self.config.loop.tensorboard, resume_at=self.step
            )
            text = json.dumps(config_to(self.config), indent=2) + "\n"
            (self.out / CONFIG).write_text(text)
        try:
            self._train(log)
        finally:
            if log is not None:
                log.close()
        weights = self.out / f"{self.network.architecture}.safetensors"
        if self.world.is_first:
            logs.draw_curves(self.out)
            self._averaged_into_network()
            pairs = self.step * self.config.loop.batch_size * self.world.size
            save_weights(self.network, weights, self.cache, pairs, self.validator.latest)
        return weights

    def _train(self, log: logs.RunLog | None) -> None:
        loop = self.config.loop
        sampler = StepSampler(self.step, loop.steps, loop.batch_size, self.world)
        on_gpu = self.device.type == "cuda"
        loader = make_loader(self._pairs("train"), sampler, workers=loop.workers, pin_memory=on_gpu)
        meter = _Meter(loop.batch_size * self.world.size)
        to_training_mode(self.network, self.config.optim)
        for batch in logs.progress(loader, self.step, loop.steps, shown=self.world.is_first):
            terms = self._one_step(batch)
            self.step += 1
            meter.add(terms, int(batch["skipped"].sum()))
            done = self.step == loop.steps
            if self._due(loop.log_every, done):
                figures = meter.read(self.world)  # by all processes, as it is their mean
                if log is not None:
                    log.write("train", self.step, **figures)
            if self._due(loop.validate_every, done):
                self._validate(log)
            if self._due(loop.checkpoint_every, done) and self.world.is_first:
                checkpoints.write_checkpoint(self.out / checkpoints.LAST, self._state())

    def _due(self, every: int, done: bool) -> bool:
        return done or (every > 0 and self.step % every == 0)

    def _one_step(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        config = self.config
        rate = learning_rate(self.step, config.loop.steps, config.optim)
        set_rate(self.optimiser, rate)
        moved = {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
        with self._autocast():
            total, terms = losses_of(
                self.forward,
                self.network,
                self.loss,
                moved,
                cross_negatives=config.loop.cross_negatives,
                step=self.step * self.world.size + self.world.rank,
                positives_per_pair=self._positives(moved),
            )
        if not torch.isfinite(total):
            indices = batch["index"].tolist()
            raise TrainingError(
                f"the loss of step {self.step} is {total.item()} ({_listed(terms)}), pairs "
                f"{indices[0]} to {indices[-1]} of seed {config.loop.seed}; lower optim.rate or "
                "look at these pairs with tools/show_pairs.py"
            )
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()
        self.scaler.unscale_(self.optimiser)
        trained = [p for g in self.optimiser.param_groups for p in g["params"]]
        norm = gradient_norm(trained, config.optim.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.average.update(self.network)
        return {"loss": total.detach(), **terms, "gradient_norm": norm, "rate": torch.tensor(rate)}

    def _positives(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """Mean positive cells per pair over all processes, so that gradients average right."""
        if self.world.size == 1:
            return None
        cells = self.network.config.response_size
        target = labels_for(self.network, batch["x_box"], batch["positive"], cells)
        return self.world.mean(mean_positive_cells(target))

    def _validate(self, log: logs.RunLog | None) -> None:
        """Judge the averaged weights; the first process does, the others wait at the next step."""
        if log is None:
            return
        present = {k: v.clone() for k, v in self.network.state_dict().items()}
        self._averaged_into_network()
        figures = self.validator.judge(self.network)
        log.write("validation", self.step, **figures)
        goodness = figures.get("success_auc", -figures.get("loss", 0.0))
        if goodness > self.best:
            self.best = goodness
            checkpoints.write_checkpoint(self.out / checkpoints.BEST, self._state())
        self.network.load_state_dict(present)
        to_training_mode(self.network, self.config.optim)

    def _averaged_into_network(self) -> None:
        self.average.copy_to(self.network)
        self.network.eval()

    def _autocast(self) -> Any:
        if self.config.loop.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.config.loop.precision))

    def _wrap(self) -> nn.Module:
        forward: nn.Module = PairForward(self.network, cross=self.config.loop.cross_negatives > 0)
        if self.config.loop.compile:
            forward.compile()
        if self.world.size > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            forward = DistributedDataParallel(forward, device_ids=ids)
        return forward

    def _pairs(self, part: Part) -> PairDataset:
        return pairs_of(self.config, self.cache, self.network.config, part)

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "best": self.best,
            "config": config_to(self.config),
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.values,
            "updates": self.average.updates,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        saved = state["config"]["network"]
        wanted = config_to(self.config)["network"]
        if (saved["architecture"], saved["config"]) != (wanted["architecture"], wanted["config"]):
            raise TrainingError(
                f"the checkpoint in {self.out} is of {saved['architecture']} {saved['config']}, "
                f"the run asks for {wanted['architecture']} {wanted['config']}; resume with the "
                "same network, or start in another folder"
            )
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.average.values = {k: v.to(self.device) for k, v in state["average"].items()}
        self.average.updates = state["updates"]
        self.step, self.best = state["step"], state["best"]


class _Meter:
    """Means over the steps since it was last read, and pairs per second."""

    def __init__(self, pairs_per_step: int) -> None:
        self._pairs = pairs_per_step
        self._start()

    def _start(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = self._skipped = 0
        self._since = time.perf_counter()

    def add(self, terms: Mapping[str, Tensor], skipped: int) -> None:
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, torch.zeros(())) + value.detach().float().cpu()
        self._steps += 1
        self._skipped += skipped

    def read(self, world: World) -> dict[str, float]:
        seconds = max(time.perf_counter() - self._since, 1e-9)
        sums = world.mean(torch.stack(list(self._sums.values()))) / self._steps
        means = {k: round(v, 6) for k, v in zip(self._sums, sums.tolist(), strict=True)}
        means["pairs_per_s"] = round(self._steps * self._pairs / seconds, 1)
        means["skipped"] = self._skipped
        self._start()
        return means


def _listed(terms: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {float(value):g}" for name, value in terms.items())
