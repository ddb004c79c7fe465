"""Optimisers, schedules, frozen parts and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from siamtrack.errors import ConfigError
from siamtrack.models.efficientnet import EfficientNetLite0
from siamtrack.models.network import SiameseNetwork
from siamtrack.models.siamfc import SiamFC
from siamtrack.training.config import OptimConfig

_MOMENTUM = 0.9


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """Rate of a step: a pure function, so that a resumed run has the same.

    Args:
        step: 0 is the first.
        steps: of the whole run.
        config: schedule, rate, warm-up and final share.
    """
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    progress = min(step / max(steps - 1, 1), 1.0)
    if config.schedule == "constant":
        share = 1.0
    elif config.schedule == "geometric":
        share = config.final_share**progress if config.final_share > 0 else 1.0
    else:
        wave = 0.5 * (1.0 + math.cos(math.pi * progress))
        share = config.final_share + (1.0 - config.final_share) * wave
    return config.rate * warm * share


def freeze(network: SiameseNetwork, config: OptimConfig) -> None:
    """Stop training the first stages of every backbone, and batch norm where asked.

    Raises:
        ConfigError: stages are to be frozen that the network does not have.
    """
    backbones = [m for m in network.modules() if isinstance(m, EfficientNetLite0)]
    if config.frozen_stages and not backbones:
        raise ConfigError(
            f"optim.frozen_stages is {config.frozen_stages}, and {network.architecture} has no "
            "stages to freeze; set it to 0"
        )
    for backbone in backbones:
        backbone.freeze_below(config.frozen_stages)
    if config.frozen_batch_norm:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)


def to_training_mode(network: SiameseNetwork, config: OptimConfig) -> None:
    """Training mode, but for batch norm that is frozen."""
    network.train()
    if config.frozen_batch_norm:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def make_optimiser(network: SiameseNetwork, config: OptimConfig) -> Optimizer:
    """Optimiser with a group for pretrained layers and one for the rest, frozen ones left out."""
    pretrained = {
        id(p)
        for m in network.modules()
        if isinstance(m, EfficientNetLite0) and not isinstance(network, SiamFC)
        for p in m.parameters()
    }
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) not in pretrained], "factor": 1.0},
        {"params": [p for p in trained if id(p) in pretrained], "factor": config.backbone_factor},
    ]
    groups = [g for g in groups if g["params"]]
    if config.optimiser == "sgd":
        return SGD(groups, config.rate, momentum=_MOMENTUM, weight_decay=config.weight_decay)
    return AdamW(groups, config.rate, weight_decay=config.weight_decay)


def set_rate(optimiser: Optimizer, rate: float) -> None:
    """Set the rate of all groups, each times its factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


class MovingAverage:
    """Exponential moving average of a network's weights and buffers, in float32.

    The decay grows from 0 to its value over the first steps, so that the start is forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Start from the network's present weights; a decay of 0 follows them exactly."""
        self.decay, self.updates = decay, 0
        self.values = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        self.updates += 1
        keep = min(self.decay, self.updates / (self.updates + 9.0)) if self.decay else 0.0
        floats: list[Tensor] = []
        targets: list[Tensor] = []
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                targets.append(self.values[name])
                floats.append(value)
            else:
                self.values[name].copy_(value)
        torch._foreach_lerp_(targets, floats, 1.0 - keep)

    def copy_to(self, network: nn.Module) -> None:
        """Give a network the averaged weights."""
        network.load_state_dict(self.values)


def gradient_norm(parameters: Iterable[Tensor], clip: float) -> Tensor:
    """Norm of the gradients before clipping them to `clip` (0: not at all)."""
    return nn.utils.clip_grad_norm_(parameters, clip if clip > 0 else math.inf)
