"""How well embeddings tell targets apart: what a metric loss is for."""

from __future__ import annotations

from typing import Any

import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from siamtrack.data.cache import CropCache
from siamtrack.losses.regions import pool_region
from siamtrack.models.masks import coverage
from siamtrack.models.network import TrackerNetwork
from siamtrack.training.batches import StepSampler, make_loader, pairs_of
from siamtrack.training.config import TrainConfig
from siamtrack.training.distributed import World
from siamtrack.training.step import PairForward


def separation(network: TrackerNetwork, config: TrainConfig, cache: CropCache) -> float | None:
    """Probability that another view of a target is nearer to its exemplar than something else.

    The area under the ROC curve of the cosine between the exemplar's embedding and that of a region
    of the search crop: 0.5 tells nothing apart, 1 everything. The other view is the target in held
    out pairs; something else is a distractor in the same search crop, the object of a negative, and
    the target of the next pair.

    Args:
        network: in evaluation mode.
        config: its held-out pairs and number of validation batches are used.
        cache: of the run, open.

    Returns:
        The area; None for a network without embeddings, or without both kinds.
    """
    sampler = StepSampler(0, max(config.validation.batches, 1), config.loop.batch_size, World())
    pairs = pairs_of(config, cache, network.config, "held_out")
    device = next(network.parameters()).device
    same: list[Tensor] = []
    different: list[Tensor] = []
    for batch in make_loader(pairs, sampler, workers=0):
        near, far = _cosines(network, {k: v.to(device) for k, v in batch.items()})
        same.append(near)
        different.append(far)
    near, far = torch.cat(same), torch.cat(different)
    return area_under_curve(near, far) if len(near) and len(far) else None


def area_under_curve(same: Tensor, different: Tensor) -> float:
    """Share of (same, different) pairs of values in which the first is larger; ties count half."""
    statistic = mannwhitneyu(same.double().numpy(), different.double().numpy()).statistic
    return float(statistic) / (len(same) * len(different))


def _cosines(network: TrackerNetwork, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    output, z = PairForward(network, cross=False)(batch["z"], batch["x"], batch["z_box"])
    if output.embedding is None or z is None:
        return torch.zeros(0), torch.zeros(0)
    cells, stride = output.embedding.shape[-1], network.config.total_stride
    target, distractor = (
        pool_region(output.embedding, coverage(batch[name], cells, stride))
        for name in ("x_box", "distractor_box")
    )
    positive, there = batch["positive"], batch["has_distractor"]
    own = torch.cosine_similarity(z, target)
    beside = torch.cosine_similarity(z, distractor)[there]
    parts = [own[~positive], beside]
    if len(z) > 1:
        parts.append(torch.cosine_similarity(z, target.roll(-1, dims=0)))
    return own[positive].cpu(), torch.cat(parts).cpu()
