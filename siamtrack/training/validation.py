"""How good a network is by now: the loss on held-out pairs, and tracking held-out sequences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from siamtrack.data.open import open_dataset
from siamtrack.data.pairs import PairDataset
from siamtrack.data.sequence import Dataset
from siamtrack.engines.torch_engine import TorchEngine
from siamtrack.evaluation.once import follow, overlaps_of, success_auc
from siamtrack.losses.combine import CombinedLoss
from siamtrack.models.network import TrackerNetwork
from siamtrack.models.siamfc import SiamFC
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions
from siamtrack.tracking.tracker import Tracker
from siamtrack.training.batches import StepSampler, make_loader
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

    def judge(self, network: TrackerNetwork) -> dict[str, float]:
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
    network: TrackerNetwork,
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


def one_pass(network: TrackerNetwork, sequences: Dataset, max_frames: int = 0) -> dict[str, float]:
    """Mean success AUC and AO over sequences; arguments as `sequence_figures`, 0 without any."""
    figures = list(sequence_figures(network, sequences, max_frames).values())
    return {k: float(np.mean([f[k] for f in figures] or [0.0])) for k in ("success_auc", "ao")}


def sequence_figures(
    network: TrackerNetwork, sequences: Dataset, max_frames: int = 0
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
    tracker = Tracker(TorchEngine(network, device), options)
    figures = {}
    for sequence in sequences:
        if sequence.visible.sum() < 2:
            continue
        overlaps = overlaps_of(sequence, *follow(tracker, sequence, max_frames))
        if not np.isnan(overlaps).all():
            ao = float(np.nanmean(overlaps))
            figures[sequence.name] = {"success_auc": success_auc(overlaps), "ao": ao}
    return figures
