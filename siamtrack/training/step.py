"""One step's forward pass: pairs in, output and labels for the losses out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from siamtrack.losses.base import LossInput, LossTarget
from siamtrack.losses.combined import CombinedLoss
from siamtrack.losses.labels import box_target, disc_target
from siamtrack.losses.metric import pool_region, stack_regions
from siamtrack.models.network import NetworkOutput, SiameseNetwork, coverage, target_mask
from siamtrack.models.siamfc import SiamFC


class PairForward(nn.Module):
    """The network on pairs; what distributed training wraps and torch.compile compiles.

    With `cross`, every exemplar also meets the search region of the next pair of the batch. Those
    B outputs follow the B of the pairs.
    """

    def __init__(self, network: SiameseNetwork, *, cross: bool) -> None:
        super().__init__()
        self.network, self.cross = network, cross

    def forward(self, z: Tensor, x: Tensor, z_box: Tensor) -> tuple[NetworkOutput, Tensor | None]:
        """Run a batch.

        Args:
            z: (B, 3, S, S) RGB in 0..255.
            x: (B, 3, T, T) RGB in 0..255.
            z_box: (B, 4) xywh of the targets in z, px.

        Returns:
            The output for B pairs, or 2 B with `cross`, and the (B, E) exemplar embeddings of
            networks that have them.
        """
        exemplar = self.network.embed_exemplar(z, target_mask(z_box, self.network.config))
        search = self.network.embed_search(x)
        embedding = getattr(exemplar, "embedding", None)
        if self.cross:
            tensors = (exemplar,) if isinstance(exemplar, Tensor) else tuple(exemplar)
            both = [torch.cat([t, t.roll(1, dims=0)]) for t in tensors]
            exemplar = self.network.exemplar_from_tensors(both)
            search = torch.cat([search, search])
        return self.network.correlate(exemplar, search), embedding


def labels_for(
    network: TrackerNetwork, x_box: Tensor, positive: Tensor, response_size: int
) -> LossTarget:
    """Labels of the kind that the network learns from.

    Args:
        network: decides between box and disc labels.
        x_box: (B, 4) xywh of the targets in x, px.
        positive: (B,) bool, whether x shows the target.
        response_size: R.
    """
    stride = network.config.total_stride
    if isinstance(network, SiamFC):
        offset = x_box[:, :2] + x_box[:, 2:] / 2 - network.config.search_size_px / 2
        return disc_target(
            ~positive, response_size=response_size, total_stride=stride, offset_px=offset
        )
    return box_target(x_box, ~positive, response_size=response_size, total_stride=stride)


def losses_of(
    forward: nn.Module,
    network: SiameseNetwork,
    loss: CombinedLoss,
    batch: Mapping[str, Any],
    *,
    cross_negatives: float,
    step: int,
    positives_per_pair: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run the network on a batch and evaluate the losses.

    Args:
        forward: `PairForward`, as it is or wrapped.
        network: the one inside.
        loss: what to minimise.
        batch: collated `Pair`s on the network's device.
        cross_negatives: weight of the crossed pairs; 0 where `forward` does not cross.
        step: seeds what a loss draws at random.
        positives_per_pair: see `LossTarget`; None for this batch's own.

    Returns:
        The weighted sum and its terms.
    """
    output, z_embedding = forward(batch["z"], batch["x"], batch["z_box"])
    positive = batch["positive"]
    response_size = output.score_logits.shape[-1]
    target = labels_for(network, batch["x_box"], positive, response_size)
    own = len(positive)
    if positives_per_pair is None:
        positives_per_pair = mean_positive_cells(target)
    if cross_negatives:
        target = _with_crossed(target, cross_negatives)
    target = replace(target, seed=step, positives_per_pair=positives_per_pair)
    embeddings = None
    if loss.needs_embeddings and output.embedding is not None and z_embedding is not None:
        maps, stride = output.embedding[:own], network.config.total_stride
        found, beside = (
            pool_region(maps, coverage(batch[name], response_size, stride))
            for name in ("x_box", "distractor_box")
        )
        there = batch["has_distractor"]
        embeddings, identities = stack_regions(
            z_embedding.float(), found, ~positive, distractor=beside, has_distractor=there
        )
        triplets = pair_triplets(positive, there)
        target = replace(target, identities=identities, triplets=triplets)
    tracked = LossInput(output.score_logits, output.ltrb_px, embeddings)
    return loss.evaluate(tracked, target)


def pair_triplets(positive: Tensor, has_distractor: Tensor) -> Tensor:
    """Triplets that come with the pairs, without looking at embeddings.

    Each positive pair gives exemplar, search and what is not the target: the distractor of its
    search crop, or the search region of the next pair where it has none.

    Args:
        positive: (B,) bool.
        has_distractor: (B,) bool.

    Returns:
        (T, 3) int64 rows of the table that `stack_regions` makes.
    """
    own = len(positive)
    anchor = torch.arange(own, device=positive.device)
    beside = 2 * own + has_distractor.cumsum(0) - 1
    other = torch.where(has_distractor, beside, own + anchor.roll(-1))
    usable = positive & (other != own + anchor)
    return torch.stack([anchor, own + anchor, other], dim=1)[usable]


def mean_positive_cells(target: LossTarget) -> Tensor:
    """Positive cells over pairs: what summed losses are divided by."""
    return (target.positive.sum() / max(len(target.positive), 1)).clamp_min(1e-3)


def _with_crossed(target: LossTarget, weight: float) -> LossTarget:
    """Append as many pairs that are background everywhere, of this weight.

    The mean over twice as many pairs halves every pair's part; doubling the weights undoes it.
    """
    nothing = torch.zeros_like(target.positive)
    ltrb = target.ltrb_px
    pair_weight = target.positive.new_ones(len(target.positive), dtype=torch.float32)
    return replace(
        target,
        positive=torch.cat([target.positive, nothing]),
        background=torch.cat([target.background, ~nothing]),
        ltrb_px=None if ltrb is None else torch.cat([ltrb, torch.zeros_like(ltrb)]),
        pair_weight=torch.cat([2.0 * pair_weight, 2.0 * weight * pair_weight]),
    )
