"""How good a network is: loss on held-out pairs, tracking of sequences, embedding separation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from siamtrack.data.cache import CropCache
from siamtrack.engines.torch_engine import TorchEngine
from siamtrack.losses.combined import CombinedLoss
from siamtrack.losses.metric import pool_region
from siamtrack.models.network import SiameseNetwork, coverage
from siamtrack.models.siamfc import SiamFC
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions
from siamtrack.tracking.tracker import Tracker
from siamtrack.training.batches import StepSampler, make_loader, make_pair_dataset
from siamtrack.training.config import TrainConfig
from siamtrack.training.distributed import ProcessGroup
from siamtrack.training.step import PairForward, compute_losses

if TYPE_CHECKING:
    from siamtrack.data.sequence import Dataset


def validate(
    network: SiameseNetwork,
    loss: CombinedLoss,
    config: TrainConfig,
    batches: Iterable[Mapping[str, Any]],
    sequences: Dataset | None,
) -> dict[str, float]:
    """Validate a network in evaluation mode on batches of held-out pairs and on sequences.

    Returns:
        Mean "loss" and its terms if there are batches, "success_auc" and "ao" if there are
        sequences.
    """
    # 1. Mean of the loss and of its terms over the held-out batches.
    sums: dict[str, float] = {}
    device = next(network.parameters()).device
    cross_negatives = config.loop.cross_negatives
    forward = PairForward(network, cross=cross_negatives > 0)
    with torch.no_grad():
        for number, batch in enumerate(batches if config.validation.batches else ()):
            inputs = {k: v.to(device) for k, v in batch.items()}
            total, terms = compute_losses(
                forward, network, loss, inputs, cross_negatives=cross_negatives, seed=number
            )
            for name, value in {"loss": total, **terms}.items():
                sums[name] = sums.get(name, 0.0) + value.item()
    scores = {name: value / config.validation.batches for name, value in sums.items()}

    # 2. One-pass evaluation, averaged over the sequences.
    if sequences is not None:
        tracked = track_sequences(network, sequences, config.validation.max_frames).values()
        for name in ("success_auc", "ao"):
            scores[name] = float(np.mean([s[name] for s in tracked] or [0.0]))
    return scores


def track_sequences(
    network: SiameseNetwork, sequences: Dataset, max_frames: int = 0
) -> dict[str, dict[str, float]]:
    """Track each sequence from its first visible frame on, without re-initialization.

    Sequences without two visible frames are left out; `max_frames` of each count, 0 for all.

    Returns:
        "success_auc" (21 thresholds, as OTB) and "ao" (mean IoU) by name of the sequence; the first
        frame does not count.
    """
    # Only tracking needs PyAV: a run that tracks nothing trains without it.
    from siamtrack.evaluation.runs import overlaps_of, success_auc, track_sequence

    device = next(network.parameters()).device
    options = ScalePyramidOptions() if isinstance(network, SiamFC) else BoxHeadOptions()
    tracker = Tracker(TorchEngine(network, str(device)), options)
    scores = {}
    for sequence in sequences:
        if sequence.visible.sum() < 2:
            continue
        overlaps = overlaps_of(sequence, *track_sequence(tracker, sequence, max_frames))
        if not np.isnan(overlaps).all():
            ao = float(np.nanmean(overlaps))
            scores[sequence.name] = {"success_auc": success_auc(overlaps), "ao": ao}
    return scores


def embedding_separation(
    network: SiameseNetwork, config: TrainConfig, cache: CropCache
) -> float | None:
    """Probability that an exemplar is closer to its own target than to another object.

    This is the area under the ROC curve of the cosine between the embedding of an exemplar and that
    of a region of a search crop: 0.5 is chance, 1 is perfect. Regions of the same target come from
    held-out positive pairs. Regions of other objects are distractors in the search crop, the
    objects of negative pairs, and the target of the next pair.

    Returns:
        The area; None for a network without embeddings, or without both kinds of regions.
    """
    batches = max(config.validation.batches, 1)
    sampler = StepSampler(0, batches, config.loop.batch_size, ProcessGroup())
    pairs = make_pair_dataset(config, cache, network.config, "held_out")
    device = next(network.parameters()).device
    same: list[Tensor] = []
    different: list[Tensor] = []
    for loaded in make_loader(pairs, sampler, workers=0):
        batch = {k: v.to(device) for k, v in loaded.items()}
        inputs = batch["z"], batch["x"], batch["z_box"]
        output, exemplar, _ = PairForward(network, cross=False)(*inputs)
        if output.embedding is None or exemplar is None:
            return None

        # Embeddings of the boxed object and of the distractor in the search crop, (B, E).
        cells, stride = output.embedding.shape[-1], network.config.total_stride
        target, distractor = (
            pool_region(output.embedding, coverage(batch[box], cells, stride))
            for box in ("x_box", "distractor_box")
        )

        # Their cosine to the exemplar.
        to_target = torch.cosine_similarity(exemplar, target)  # (B,)
        to_distractor = torch.cosine_similarity(exemplar, distractor)
        positive = batch["positive"]
        same.append(to_target[positive].cpu())
        different += [to_target[~positive].cpu(), to_distractor[batch["has_distractor"]].cpu()]
        if len(exemplar) > 1:
            different.append(torch.cosine_similarity(exemplar, target.roll(-1, dims=0)).cpu())
    near, far = torch.cat(same), torch.cat(different)
    return roc_auc(near, far) if len(near) and len(far) else None


def roc_auc(same: Tensor, different: Tensor) -> float:
    """Fraction of (same, different) pairs whose first value is larger; ties count 1/2."""
    statistic = mannwhitneyu(same.double().numpy(), different.double().numpy()).statistic
    return float(statistic) / (len(same) * len(different))
