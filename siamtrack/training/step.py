"""One training step up to the loss: forward pass, labels, regions, weighted losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from siamtrack.errors import TrainingError
from siamtrack.losses.base import LossInput, LossTarget
from siamtrack.losses.combined import CombinedLoss
from siamtrack.losses.labels import box_target, disc_target
from siamtrack.losses.metric import pool_region, stack_regions
from siamtrack.models.network import NetworkOutput, SiameseNetwork, coverage, target_mask
from siamtrack.models.siamfc import SiamFC
from siamtrack.training.distributed import ProcessGroup


class PairForward(nn.Module):
    """The network on B pairs: the module that is compiled and distributed.

    With `cross`, every exemplar is also correlated with the search crop of another pair of the
    batch. The B outputs of these crossed pairs follow the B of the pairs themselves.
    """

    def __init__(self, network: SiameseNetwork, *, cross: bool) -> None:
        super().__init__()
        self.network, self.cross = network, cross

    def forward(
        self, z: Tensor, x: Tensor, z_box: Tensor, memory: Tensor | None = None
    ) -> tuple[NetworkOutput, Tensor | None, Tensor | None]:
        """Run a batch.

        Args:
            z: (B, 3, S, S) RGB in 0..255, the exemplars.
            x: (B, 3, T, T) RGB in 0..255, the search crops.
            z_box: (B, 4) xywh of the targets in z, px.
            memory: (B, M, 3, T, T) RGB in 0..255, windows of the online filter's memory.

        Returns:
            The output for B pairs, or 2 B with `cross`; the (B, E) exemplar embeddings of networks
            that have them; and with `memory` the (B, M + 1, C, R, R) features of the online filter
            in these windows and, last, in x.
        """
        exemplar = self.network.embed_exemplar(z, target_mask(z_box, self.network.config))
        search = self.network.embed_search(x)
        embedding = getattr(exemplar, "embedding", None)
        filter_features = None
        if memory is not None:
            windows = self.network.filter_features(self.network.embed_search(memory.flatten(0, 1)))
            last = self.network.filter_features(search)
            if windows is not None and last is not None:
                windows = windows.unflatten(0, memory.shape[:2])
                filter_features = torch.cat([windows, last[:, None]], dim=1)
        if self.cross:
            # Search crop i meets the exemplar of pair i - 1 as well.
            tensors = (exemplar,) if isinstance(exemplar, Tensor) else tuple(exemplar)
            both = [torch.cat([t, t.roll(1, dims=0)]) for t in tensors]  # (2 B, ...)
            exemplar = self.network.exemplar_from_tensors(both)
            search = torch.cat([search, search])  # (2 B, ...)
        return self.network.correlate(exemplar, search), embedding, filter_features


def compute_losses(
    forward: nn.Module,
    network: SiameseNetwork,
    loss: CombinedLoss,
    batch: Mapping[str, Any],
    *,
    cross_negatives: float,
    seed: int,
    group: ProcessGroup | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run the network on a batch and compute the weighted sum of the losses and its terms.

    Args:
        forward: `PairForward` of the network, as it is or wrapped for several processes.
        network: the one inside.
        loss: what is minimized.
        batch: B collated `Pair`s on the network's device.
        cross_negatives: weight of the crossed pairs; 0 where `forward` does not cross.
        seed: of the random draws of the losses.
        group: processes over which positive cells are averaged; None: this one alone.
    """
    # 1. Forward pass: score map, boxes and embedding map of each pair.
    inputs: tuple[Tensor, ...] = (batch["z"], batch["x"], batch["z_box"])
    if loss.needs_filter:
        inputs = (*inputs, batch["memory"])
    output, z_embedding, filter_features = forward(*inputs)
    positive = batch["positive"]  # (B,)
    pairs, response_size = len(positive), output.score_logits.shape[-1]
    stride = network.config.total_stride

    # 2. Labels of the kind that the network learns from.
    x_box, sizes = batch["x_box"], {"response_size": response_size, "total_stride": stride}
    if isinstance(network, SiamFC):
        center = x_box[:, :2] + x_box[:, 2:] / 2  # (B, 2) px
        offset = center - network.config.search_size_px / 2
        target = disc_target(~positive, offset_px=offset, **sizes)
    else:
        target = box_target(x_box, ~positive, **sizes)

    # 3. Summed losses are divided by the mean positive cells per pair of the whole step.
    positives_per_pair = (target.positive.sum() / max(pairs, 1)).clamp_min(1e-3)
    if group is not None:
        positives_per_pair = group.mean(positives_per_pair)
    if cross_negatives:
        target = _with_crossed_pairs(target, cross_negatives)  # 2 B
    target = replace(target, seed=seed, positives_per_pair=positives_per_pair)

    # 4. Embeddings of the exemplars, of the boxed objects and of the distractors, in one table.
    embeddings = None
    if loss.needs_embeddings and output.embedding is not None and z_embedding is not None:
        x_embedding, distractor_embedding = (
            pool_region(output.embedding[:pairs], coverage(box, response_size, stride))  # (B, E)
            for box in (x_box, batch["distractor_box"])
        )
        embeddings, identities = stack_regions(
            z_embedding.float(),
            x_embedding,
            ~positive,
            distractor=distractor_embedding,
            has_distractor=batch["has_distractor"],
        )
        triplets = pair_triplets(positive, batch["has_distractor"])
        target = replace(target, identities=identities, triplets=triplets)

    # 5. Centers of the targets that the online filter learns and finds, in cells.
    if filter_features is not None:
        boxes = torch.cat([batch["memory_box"], x_box[:, None]], dim=1)  # (B, M + 1, 4)
        middle = (network.config.search_size_px - (response_size - 1) * stride) / 2  # of cell 0
        centers = (boxes[..., :2] + boxes[..., 2:] / 2 - middle) / stride
        target = replace(target, filter_centers_xy=centers)

    # 6. Losses.
    result = LossInput(output.score_logits, output.ltrb_px, embeddings, filter_features)
    return loss.evaluate(result, target)


class FiniteLosses:
    """Refuses a loss that is not finite, when the next step has begun.

    To look at a loss at once would let a GPU wait in every step until the next one is prepared.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._last: tuple[int, Tensor, Mapping[str, Tensor], Tensor] | None = None

    def add(self, step: int, loss: Tensor, terms: Mapping[str, Tensor], index: Tensor) -> None:
        """Check the step before, and note this one: its loss, terms and numbers of its pairs.

        Raises:
            TrainingError: as `check`.
        """
        self.check()
        self._last = step, loss.detach(), terms, index

    def check(self) -> None:
        """Check the last step that was noted.

        Raises:
            TrainingError: its loss is not finite.
        """
        if self._last is None:
            return
        step, loss, terms, index = self._last
        self._last = None
        if not torch.isfinite(loss):
            values = ", ".join(f"{name} {value.item():g}" for name, value in terms.items())
            pairs = index.tolist()
            raise TrainingError(
                f"the loss of step {step} is {loss.item()} ({values}), pairs {pairs[0]} to "
                f"{pairs[-1]} of seed {self._seed}; lower optim.rate or look at these pairs with "
                "siamtrack show-pairs"
            )


def _with_crossed_pairs(target: LossTarget, weight: float) -> LossTarget:
    """Append B pairs of this weight that are background everywhere."""
    nothing = torch.zeros_like(target.positive)
    ltrb = target.ltrb_px
    # The mean over 2 B pairs halves the part of each; doubling the weights undoes that.
    pair_weight = 2.0 * target.positive.new_ones(len(target.positive), dtype=torch.float32)
    return replace(
        target,
        positive=torch.cat([target.positive, nothing]),
        background=torch.cat([target.background, ~nothing]),
        ltrb_px=None if ltrb is None else torch.cat([ltrb, torch.zeros_like(ltrb)]),
        pair_weight=torch.cat([pair_weight, weight * pair_weight]),
    )


def pair_triplets(positive: Tensor, has_distractor: Tensor) -> Tensor:
    """Triplets of the B pairs themselves, for "offline" mining.

    The anchor is the exemplar of a positive pair, the positive is its search region. The negative
    is the distractor of its search crop, or the search region of the next pair if it has none.

    Returns:
        (T, 3) int64 rows of the table that `stack_regions` makes.
    """
    # Rows: B exemplars, B search regions, then the distractors that exist.
    pairs = len(positive)
    anchor = torch.arange(pairs, device=positive.device)
    distractor = 2 * pairs + has_distractor.cumsum(0) - 1
    negative = torch.where(has_distractor, distractor, pairs + anchor.roll(-1))
    # In a batch of one pair, the next pair is the pair itself.
    usable = positive & (negative != pairs + anchor)
    return torch.stack([anchor, pairs + anchor, negative], dim=1)[usable]
