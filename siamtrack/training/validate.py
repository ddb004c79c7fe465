"""How good a network is by now: the loss on held-out pairs, and tracking held-out sequences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor, nn

from siamtrack.data.cache import CropCache
from siamtrack.data.datasets import open_dataset
from siamtrack.data.pairs import PairDataset
from siamtrack.data.sequence import Dataset
from siamtrack.engines.torch_engine import TorchEngine
from siamtrack.evaluation.runs import overlaps_of, success_auc, track_sequence
from siamtrack.losses.combined import CombinedLoss
from siamtrack.losses.metric import pool_region
from siamtrack.models.network import SiameseNetwork, coverage
from siamtrack.models.siamfc import SiamFC
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions
from siamtrack.tracking.tracker import Tracker
from siamtrack.training.batches import StepSampler, make_loader, pairs_of
from siamtrack.training.config import TrainConfig
from siamtrack.training.distributed import World
from siamtrack.training.step import PairForward, losses_of


class Validator:
    """Judges the networks of one run, always on the same pairs and sequences.

    Attributes:
        latest: figures of the last judgement.
    """

    def __init__(
        self, config: TrainConfig, pairs: PairDataset, loss: CombinedLoss, device: torch.device
    ) -> None:
        """Open what the network is judged on.

        Raises:
            ConfigError, DatasetError: the sequences cannot be opened.
        """
        self.config, self.loss, self.device = config, loss, device
        self.latest: dict[str, float] = {}
        loop, wanted = config.loop, config.validation
        self._sequences = open_dataset(wanted.sequences) if wanted.sequences else None
        sampler = StepSampler(0, wanted.batches, loop.batch_size, World())
        self._batches = make_loader(pairs, sampler, workers=0)

    def judge(self, network: SiameseNetwork) -> dict[str, float]:
        """Figures of a network in evaluation mode: loss and terms, success AUC and AO if asked."""
        loop, wanted = self.config.loop, self.config.validation
        figures: dict[str, float] = {}
        if wanted.batches:
            forward = PairForward(network, cross=loop.cross_negatives > 0)
            moved = ({k: v.to(self.device) for k, v in b.items()} for b in self._batches)
            figures = held_out_loss(
                forward, network, self.loss, moved, cross_negatives=loop.cross_negatives
            )
        if self._sequences is not None:
            figures |= one_pass(network, self._sequences, wanted.max_frames)
        self.latest = figures
        return figures


@torch.no_grad()
def held_out_loss(
    forward: nn.Module,
    network: SiameseNetwork,
    loss: CombinedLoss,
    batches: Iterable[Mapping[str, Any]],
    *,
    cross_negatives: float,
) -> dict[str, float]:
    """Mean of the loss and of its terms over batches, in evaluation mode."""
    sums: dict[str, float] = {}
    count = 0
    for number, batch in enumerate(batches):
        total, terms = losses_of(
            forward, network, loss, batch, cross_negatives=cross_negatives, step=number
        )
        for name, value in {"loss": total, **terms}.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        count += 1
    return {name: value / max(count, 1) for name, value in sums.items()}


def one_pass(network: SiameseNetwork, sequences: Dataset, max_frames: int = 0) -> dict[str, float]:
    """Mean success AUC and AO over sequences; arguments as `sequence_figures`, 0 without any."""
    figures = list(sequence_figures(network, sequences, max_frames).values())
    return {k: float(np.mean([f[k] for f in figures] or [0.0])) for k in ("success_auc", "ao")}


def sequence_figures(
    network: SiameseNetwork, sequences: Dataset, max_frames: int = 0
) -> dict[str, dict[str, float]]:
    """Success AUC and AO of each sequence, from the frame after the first on.

    Args:
        network: in evaluation mode, on the device where it is to run.
        sequences: what is tracked; those without two visible frames are left out.
        max_frames: of each sequence; 0 for all.

    Returns:
        By name of the sequence "success_auc" (21 thresholds, as OTB) and "ao".
    """
    device = next(network.parameters()).device
    options = ScalePyramidOptions() if isinstance(network, SiamFC) else BoxHeadOptions()
    tracker = Tracker(TorchEngine(network, str(device)), options)
    figures = {}
    for sequence in sequences:
        if sequence.visible.sum() < 2:
            continue
        overlaps = overlaps_of(sequence, *track_sequence(tracker, sequence, max_frames))
        if not np.isnan(overlaps).all():
            ao = float(np.nanmean(overlaps))
            figures[sequence.name] = {"success_auc": success_auc(overlaps), "ao": ao}
    return figures


def separation(network: SiameseNetwork, config: TrainConfig, cache: CropCache) -> float | None:
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


def _cosines(network: SiameseNetwork, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
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
