"""A narrower backbone that gives the same features: channel pruning, then distillation.

The blocks at the largest resolutions take half of the network's time and hold the least of its
weights. Many of their channels say what others say:

1. Of each block the channels are kept that its output can be put together from best (channel
   pruning by least squares: He et al. 2017, "Channel Pruning for Accelerating Very Deep Neural
   Networks", section 3).
2. The narrower blocks are trained to give the features of the wide network (distillation: Hinton et
   al. 2015; of features: Romero et al. 2015, "FitNets"). This needs pictures, and no boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamtrack.data.cache import CropCache
from siamtrack.data.pairs import PairDataset
from siamtrack.engines.devices import resolve_device
from siamtrack.errors import ConfigError, OutputError, TrainingError
from siamtrack.models.config import Lite0Config
from siamtrack.models.efficientnet import EfficientNetLite0, MBConv, lite0_inner_channels
from siamtrack.models.lite0 import SiamTrackLite0
from siamtrack.models.network import SiameseNetwork
from siamtrack.models.weights import load_network, open_weights, save_network
from siamtrack.training.batches import StepSampler, make_loader, make_pair_dataset
from siamtrack.training.config import OptimConfig, TrainConfig
from siamtrack.training.distributed import ProcessGroup
from siamtrack.training.optim import (
    MovingAverage,
    gradient_norm,
    learning_rate,
    make_optimizer,
    set_rate,
)

_IMAGES = 96
"""Pictures that the channels are chosen on, and as many that the result is measured on."""

_SAMPLES = 4096
"""Most cells per picture and block that the channels are chosen on."""

_RIDGE = 1e-6
"""Of the mean variance of a channel: keeps channels that never change from dividing by zero."""


def slim_weights(
    config: TrainConfig,
    out: Path,
    weights: str,
    inner_channels: Sequence[int],
    *,
    teacher: str | None = None,
    resume: bool = False,
    on_step: Callable[[int, float], None] | None = None,
) -> Path:
    """Write weights with a narrower backbone that gives the features they gave.

    Args:
        config: its cache and pairs are the pictures, of which the search crops are used; its
            `optim` and `loop` say how long and how fast they are learned.
        out: the weights file to write; replaced every `loop.checkpoint_every` steps.
        weights: name or file of a siamtrack-lite0 network; it may be slimmed already.
        inner_channels: as in `Lite0Config`.
        teacher: name or file of the network whose features are learned; None for `weights`.
        resume: go on from the weights in `out`, with all the steps of `config` once more.
        on_step: as for `distill`.

    Raises:
        ConfigError: another kind of network, more channels than it has, or none.
        DatasetError, WeightsError: cache or weights are missing or damaged.
        OutputError: `out` exists and `resume` is false, or it cannot be written.
        TrainingError: a loss that is not finite; `out` is what was saved last, as its card says.
    """
    # 1. Teacher and student.
    if out.exists() and not resume:
        raise OutputError(f"{out} exists; give --resume to go on from it, or another file")
    torch.manual_seed(config.loop.seed)
    if config.loop.threads:
        torch.set_num_threads(config.loop.threads)
    device = torch.device(resolve_device(config.loop.device))
    source, wide = load_network(weights), load_network(teacher or weights)
    cache = CropCache(Path(config.cache))
    pairs = make_pair_dataset(config, cache, wide.config, "train")
    steps, batch_size = config.loop.steps, config.loop.batch_size
    if resume:
        student = _narrow_network_in(out, source, weights, inner_channels)
    else:
        student = slimmed(source, inner_channels, search_crops(pairs, steps * batch_size))
    _check_teacher(wide, student, teacher or weights)

    # 2. Distillation; what there is, is saved on the way.
    file, sets = open_weights(weights), sorted({track.set_name for track in cache.tracks})
    card = file.card

    def save(done: int, figures: dict[str, float]) -> None:
        save_network(
            student, out, overwrite=True, figures=figures, license="not stated",
            training_data=list(dict.fromkeys([*(card.training_data if card else ()), *sets])),
            pairs=card.pairs if card else None, tracker=card.tracker if card else None,
            notes=(
                f"{Path(weights).name} (sha256 {file.sha256[:12]}) with inner channels "
                f"{list(student.config.inner_channels)}: chosen by least squares, then {done} "
                f"steps (of {steps}) of {batch_size} search crops, to the features of "
                f"{Path(teacher or weights).name}."
            ),
        )  # fmt: skip

    def after_step(step: int, loss: float) -> None:
        if (step + 1) % config.loop.checkpoint_every == 0:
            save(step + 1, {})
        if on_step is not None:
            on_step(step, loss)

    save(0, {})  # a file that cannot be written is noticed now
    sampler = StepSampler(0, steps, batch_size, ProcessGroup())
    loader = make_loader(pairs, sampler, workers=config.loop.workers)
    images = (batch["x"].to(device) for batch in loader)
    student, wide = student.to(device), wide.to(device)
    distill(student, wide, images, config.optim, steps=steps, on_step=after_step)

    # 3. What is left of the difference, on pictures that were not trained on.
    held_out = make_pair_dataset(config, cache, wide.config, "held_out")
    save(steps, compare_features(student, wide, search_crops(held_out, 0).to(device)))
    return out


def _narrow_network_in(
    path: Path, source: SiameseNetwork, weights: str, inner_channels: Sequence[int]
) -> SiamTrackLite0:
    """The network in a file, if it is that of `weights`, the source, with these inner channels."""
    found, wanted = load_network(path), source.config
    if isinstance(wanted, Lite0Config):
        wanted = narrower(wanted, inner_channels)
    if not isinstance(found, SiamTrackLite0) or found.config != wanted:
        has = getattr(found.config, "inner_channels", ())
        raise ConfigError(
            f"{path} holds {found.architecture} with inner channels {list(has)}, not {weights} "
            f"with {list(inner_channels)}; give the weights and channels that it was made with, or "
            "another file"
        )
    return found


def _check_teacher(teacher: SiameseNetwork, student: SiamTrackLite0, name: str) -> None:
    """Refuse a teacher that differs in more than the inner channels."""
    theirs, ours = asdict(teacher.config), asdict(student.config)
    if teacher.architecture != student.architecture:
        theirs, ours = (
            {"architecture": teacher.architecture},
            {"architecture": student.architecture},
        )
    differing = [
        f"{field} {theirs[field]}, not {ours[field]}"
        for field in theirs
        if field != "inner_channels" and theirs[field] != ours.get(field)
    ]
    if differing:
        raise ConfigError(
            f"the teacher {name} has {'; '.join(differing)}: give one that differs from the "
            "weights in the inner channels only"
        )


def search_crops(pairs: PairDataset, first: int) -> Tensor:
    """(96, 3, S, S) uint8 RGB, the search crops of the pairs from number `first` on."""
    return torch.stack([pairs[first + number]["x"] for number in range(_IMAGES)])


def compare_features(
    student: SiamTrackLite0, teacher: SiameseNetwork, images: Tensor
) -> dict[str, float]:
    """How near the features of two networks are: mean cosine of the cells of search crops."""
    neck = student.config.neck_channels
    with torch.inference_mode():
        pairs = [(student.embed_search(x), teacher.embed_search(x)) for x in images[:, None]]
    ours, theirs = (torch.cat(found) for found in zip(*pairs, strict=True))
    parts = {"neck": slice(0, neck), "filter": slice(neck, ours.shape[1])}
    return {
        f"feature_cosine_{name}": F.cosine_similarity(ours[:, part], theirs[:, part]).mean().item()
        for name, part in parts.items()
        if ours[:, part].numel()
    }


def slimmed(
    network: SiameseNetwork, inner_channels: Sequence[int], images: Tensor
) -> SiamTrackLite0:
    """The same network with fewer channels in the first blocks of its backbone.

    Args:
        network: a `SiamTrackLite0` of one branch; it is not changed.
        inner_channels: as in `Lite0Config`; none more than the network has.
        images: (N, 3, S, S) RGB in 0 to 255 that the channels are chosen on.

    Raises:
        ConfigError: another network, more channels than there are, or no number.
    """
    if not isinstance(network, SiamTrackLite0) or network.config.pseudo_siamese:
        raise ConfigError(
            f"{network.architecture} cannot be slimmed; give a siamtrack-lite0 network with one "
            "branch"
        )
    has = inner_channels_of(network.config)
    if not inner_channels or any(w > h for w, h in zip(inner_channels, has, strict=False)):
        raise ConfigError(
            f"inner channels {list(inner_channels)} for a network that has {has}; give as many or "
            "fewer for its first blocks"
        )
    config = narrower(network.config, inner_channels)  # checks their number
    slim = SiamTrackLite0(config)
    _copy_equal(network, slim)
    backbone, narrow = network.search_branch.backbone, slim.search_branch.backbone
    moments = _inner_moments(backbone, network.normalize(images), len(inner_channels))
    blocks = zip(backbone.blocks(), narrow.blocks(), strict=True)
    for (wide, thin), count, of_inputs in zip(blocks, inner_channels, moments, strict=False):
        channels, projection, bias = choose_channels(
            wide.project.weight[:, :, 0, 0], _bias(wide.project), *of_inputs, count=count
        )
        _narrow(wide, thin, channels, projection, bias)
        if wide.expand is None:
            _take_rows(backbone.stem, narrow.stem, channels)
    return slim.eval()


def narrower(config: Lite0Config, inner_channels: Sequence[int]) -> Lite0Config:
    """The configuration with these channels; blocks that are not named keep what they have."""
    kept = config.inner_channels[len(inner_channels) :]
    return replace(config, inner_channels=(*inner_channels, *kept))


def inner_channels_of(config: Lite0Config) -> list[int]:
    """The channels that each block of a network's backbone filters."""
    return [*config.inner_channels, *lite0_inner_channels()[len(config.inner_channels) :]]


def choose_channels(
    weight: Tensor, bias: Tensor, mean: Tensor, covariance: Tensor, *, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Which channels a linear map needs most, and the map from these alone.

    Channels are taken out one after the other, each time the one whose absence the others make up
    for best: with the least-squares map A from the channels kept to the output and the inverse P of
    their covariance, the squared error grows by |A_k|^2 / P_kk without channel k.

    Args:
        weight: (out, C), the map.
        bias: (out,).
        mean: (C,) of the channels.
        covariance: (C, C) of the channels.
        count: how many to keep.

    Returns:
        (count,) the channels in order, (out, count) weights and (out,) biases.
    """
    weight, mean, covariance = weight.double(), mean.double(), covariance.double()
    ridge = _RIDGE * covariance.diagonal().mean() * torch.eye(len(mean), dtype=torch.float64)
    covariance = covariance + ridge
    to_output = weight @ covariance  # (out, C)
    kept = list(range(len(mean)))
    while len(kept) > count:
        inverse = torch.linalg.inv(covariance[kept][:, kept])
        best = to_output[:, kept] @ inverse  # (out, kept)
        kept.pop(int((best.square().sum(dim=0) / inverse.diagonal()).argmin()))
    channels = torch.tensor(kept)
    best = to_output[:, channels] @ torch.linalg.inv(covariance[channels][:, channels])
    # The mean of the output stays what it is.
    new_bias = bias.double() + weight @ mean - best @ mean[channels]
    return channels, best.float(), new_bias.float()


def distill(
    student: SiamTrackLite0,
    teacher: SiameseNetwork,
    batches: Iterable[Tensor],
    config: OptimConfig,
    *,
    steps: int,
    on_step: Callable[[int, float], None] | None = None,
) -> SiamTrackLite0:
    """Train backbone and necks until the features are those of the teacher.

    Args:
        student: of `slimmed`; trained in place.
        teacher: the network that it was made of.
        batches: (B, 3, S, S) RGB in 0 to 255, one a step.
        config: its optimizer, rate, schedule and clipping; the backbone has the whole rate.
        steps: how many.
        on_step: called with the number of each step and its loss: the mean squared error of the
            features that are correlated and of those of the online filter, each over its variance,
            added.

    Returns:
        The student with the moving average of its weights.

    Raises:
        ConfigError: the teacher is another kind of network.
        TrainingError: a loss that is not finite.
    """
    if not isinstance(teacher, SiamTrackLite0):
        raise ConfigError(f"{teacher.architecture} has no features to distill")
    branch, wanted = student.search_branch, teacher.search_branch
    student.requires_grad_(False)
    branch.requires_grad_(True)
    optimizer = make_optimizer(student, replace(config, backbone_factor=1.0))
    average = MovingAverage(student, config.ema_decay)
    for step, images in zip(range(steps), batches, strict=False):
        set_rate(optimizer, learning_rate(step, steps, config))
        x = student.normalize(images).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16):
            with torch.no_grad():
                targets = wanted(x)
            features = branch(x)
        losses = [
            feature_loss(found, target)
            for found, target in zip(features, targets, strict=True)
            if found is not None and target is not None
        ]
        loss = torch.stack(losses).sum()
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss of step {step} is {loss.item()}; lower optim.rate, which is "
                f"{config.rate:g}"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradient_norm(branch.parameters(), config.clip_norm)  # clips
        optimizer.step()
        average.update(student)
        if on_step is not None:
            on_step(step, loss.item())
    average.copy_to(student)
    return student.eval()


def feature_loss(found: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of (B, C, H, W) features over the variance of the target's."""
    found, target = found.float(), target.float()
    variance = (target - target.mean(dim=(0, 2, 3), keepdim=True)).square().mean()
    return F.mse_loss(found, target) / variance.clamp_min(1e-12)


def _inner_moments(
    backbone: EfficientNetLite0, images: Tensor, blocks: int
) -> list[tuple[Tensor, Tensor]]:
    """Mean (C,) and covariance (C, C) of the channels that each of the first blocks filters."""
    moments: list[Tensor] = [torch.zeros(())] * blocks  # sums of (C + 1, C + 1), a 1 appended

    def add(block: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            cells = inputs[0].permute(0, 2, 3, 1).flatten(0, 2)  # (cells, C)
            some = cells[:: 1 + len(cells) // _SAMPLES].double().cpu()
            with_one = F.pad(some, (0, 1), value=1.0)
            moments[block] = moments[block] + with_one.T @ with_one

        return hook

    handles = [
        block.project.register_forward_pre_hook(add(number))
        for number, block in enumerate(backbone.blocks()[:blocks])
    ]
    with torch.inference_mode():
        for image in images:
            backbone(image[None])
    for handle in handles:
        handle.remove()
    found = []
    for total in moments:
        mean = total[-1, :-1] / total[-1, -1]
        found.append((mean, total[:-1, :-1] / total[-1, -1] - torch.outer(mean, mean)))
    return found


@torch.no_grad()
def _narrow(wide: MBConv, thin: MBConv, channels: Tensor, projection: Tensor, bias: Tensor) -> None:
    """Give a block these channels of another one, and a projection of its own."""
    if wide.expand is not None and thin.expand is not None:
        _take_rows(wide.expand, thin.expand, channels)
    _take_rows(wide.depthwise, thin.depthwise, channels)
    thin.project.weight.copy_(projection[:, :, None, None])
    _bias(thin.project).copy_(bias)


@torch.no_grad()
def _take_rows(wide: nn.Conv2d, thin: nn.Conv2d, channels: Tensor) -> None:
    thin.weight.copy_(wide.weight[channels])
    _bias(thin).copy_(_bias(wide)[channels])


def _bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        raise TypeError("the backbone's convolutions have a bias")
    return conv.bias


def _copy_equal(network: nn.Module, slim: nn.Module) -> None:
    """Copy every tensor that has the same shape in both."""
    own = slim.state_dict()
    same = {name: t for name, t in network.state_dict().items() if t.shape == own[name].shape}
    slim.load_state_dict(same, strict=False)
