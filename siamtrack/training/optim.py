"""Learning rate, frozen layers, optimizer, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from siamtrack.errors import ConfigError
from siamtrack.models.efficientnet import EfficientNetLite0
from siamtrack.models.network import SiameseNetwork
from siamtrack.training.config import OptimConfig


def learning_rate(step: int, steps: int, config: OptimConfig, time_share: float = 0.0) -> float:
    """Learning rate of a step from 0 on: a pure function, so a resumed run has the same.

    `time_share` is the part of a limit of time that is used up: whichever ends first, the steps or
    the time, the rate has then fallen as far as the schedule says.
    """
    # 1. Linear warm-up from 0.
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))

    # 2. Decay from 1 to the final share, or none.
    progress = min(max(step / max(steps - 1, 1), time_share), 1.0)
    if config.schedule == "constant":
        decay = 1.0
    elif config.schedule == "geometric":
        decay = config.final_share**progress if config.final_share > 0 else 1.0
    else:
        half_wave = 0.5 * (1.0 + math.cos(math.pi * progress))
        decay = config.final_share + (1.0 - config.final_share) * half_wave

    return config.rate * warmup * decay


def freeze(network: SiameseNetwork, config: OptimConfig, *, has_filter_loss: bool = True) -> None:
    """Stop training the first stages of every backbone, and batch norm where asked.

    Without a loss of the online filter nothing trains its features, so they are frozen as well.

    Raises:
        ConfigError: stages are to be frozen that the network does not have, or all but features
            of the online filter that it does not have.
    """
    backbones = pretrained_backbones(network)
    if config.frozen_stages and not backbones:
        raise ConfigError(
            f"optim.frozen_stages is {config.frozen_stages}, and {network.architecture} has no "
            "stages to freeze; set it to 0"
        )
    for backbone in backbones:
        backbone.freeze_below(config.frozen_stages)
    for norm in _frozen_batch_norms(network, config):
        norm.requires_grad_(False)
    own = [p for name, p in network.named_parameters() if "filter_neck" in name]
    if not has_filter_loss:
        for parameter in own:
            parameter.requires_grad_(False)
    if config.only_filter:
        if not own:
            raise ConfigError(
                "optim.only_filter is set, and this network has no features for the online filter "
                "alone; set network.config.filter_channels, for example to 48"
            )
        network.requires_grad_(False)
        for parameter in own:
            parameter.requires_grad_(True)


def to_training_mode(network: SiameseNetwork, config: OptimConfig) -> None:
    """Switch to training mode, except for batch norm that is frozen."""
    network.train()
    for norm in _frozen_batch_norms(network, config):
        norm.eval()


def _frozen_batch_norms(network: nn.Module, config: OptimConfig) -> list[nn.BatchNorm2d]:
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    return norms if config.frozen_batch_norm or config.only_filter else []


def pretrained_backbones(network: nn.Module) -> list[EfficientNetLite0]:
    """Parts of a network for which ImageNet weights exist; SiamFC has none."""
    return [m for m in network.modules() if isinstance(m, EfficientNetLite0)]


def make_optimizer(network: SiameseNetwork, config: OptimConfig) -> Optimizer:
    """Optimizer of all parameters that are not frozen, those with pretrained weights last.

    Each of the two groups has a "factor" on the learning rate, which `set_rate` uses.
    """
    pretrained = {id(p) for module in pretrained_backbones(network) for p in module.parameters()}
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) not in pretrained], "factor": 1.0},
        {"params": [p for p in trained if id(p) in pretrained], "factor": config.backbone_factor},
    ]
    groups = [g for g in groups if g["params"]]
    if config.optimizer == "sgd":
        return SGD(groups, config.rate, momentum=0.9, weight_decay=config.weight_decay)
    return AdamW(groups, config.rate, weight_decay=config.weight_decay)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of all groups, each times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def gradient_norm(parameters: Iterable[Tensor], clip: float) -> Tensor:
    """Clip the gradients to a norm of `clip` (0: not at all); return the norm before."""
    return nn.utils.clip_grad_norm_(parameters, clip if clip > 0 else math.inf)


class MovingAverage:
    """Exponential moving average (EMA) of a network's weights and buffers, in float32.

    The decay rises from 0.1 to its value over the first steps, so the initial weights lose their
    influence. `torch.optim.swa_utils.AveragedModel` copies the weights at its first update instead.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.values = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Add the weights after a step: average = keep * average + (1 - keep) * weights."""
        self.updates += 1
        keep = min(self.decay, self.updates / (self.updates + 9.0)) if self.decay else 0.0
        averages: list[Tensor] = []
        weights: list[Tensor] = []
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                averages.append(self.values[name])
                weights.append(value)
            else:  # a counter, such as batch norm's
                self.values[name].copy_(value)
        torch._foreach_lerp_(averages, weights, 1.0 - keep)

    def copy_to(self, network: nn.Module) -> None:
        """Load the averaged weights into a network."""
        network.load_state_dict(self.values)

    @contextmanager
    def applied_to(self, network: nn.Module) -> Iterator[None]:
        """Give a network the averaged weights, in evaluation mode; its own come back at the end."""
        own = {k: v.clone() for k, v in network.state_dict().items()}
        self.copy_to(network)
        network.eval()
        try:
            yield
        finally:
            network.load_state_dict(own)
