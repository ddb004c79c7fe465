"""Which pairs are in which batch, for any number of processes and any first step."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Sampler

from siamtrack.data.batched.pairs import BatchedPairs, PairsOneByOne
from siamtrack.data.cache import CropCache
from siamtrack.data.pairs import Pair, PairDataset, Part, held_out_tracks, track_weights
from siamtrack.engines.devices import resolve_device
from siamtrack.models.config import NetworkConfig
from siamtrack.training.config import TrainConfig
from siamtrack.training.distributed import ProcessGroup

logger = logging.getLogger(__name__)


class StepSampler(Sampler[list[int]]):
    """Pair indices of each batch: step s on rank r of W takes B of them from (s W + r) B on.

    A step has the same pairs whether one process takes W B of them or W processes take B each. A
    resumed run starts at its next step.
    """

    def __init__(self, start: int, steps: int, batch_size: int, group: ProcessGroup) -> None:
        self.start, self.steps, self.batch_size, self.group = start, steps, batch_size, group

    def __len__(self) -> int:
        return max(self.steps - self.start, 0)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.steps):
            first = (step * self.group.size + self.group.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


def make_pair_dataset(
    config: TrainConfig, cache: CropCache, network: NetworkConfig, part: Part
) -> PairDataset:
    """Pairs of a run; one that holds nothing out has all pairs in both parts.

    Logs a warning about set weights that name what the cache lacks, except for the held-out part.
    """
    return PairDataset(cache, config.pairs, **_pair_options(config, cache, network, part))


def make_batched_pairs(
    config: TrainConfig, cache: CropCache, network: NetworkConfig, device: torch.device
) -> BatchedPairs:
    """The training pairs of a run, made on a device; those of `make_pair_dataset` differ in luck.

    Logs a warning about set weights that name what the cache lacks.
    """
    return BatchedPairs(
        cache,
        config.pairs,
        device,
        **_pair_options(config, cache, network, "train"),
        threads=max(config.loop.workers, 1),
    )


def make_batches(
    config: TrainConfig,
    cache: CropCache,
    network: NetworkConfig,
    sampler: StepSampler,
    device: torch.device,
) -> Iterable[Mapping[str, Any]]:
    """Training batches of the steps of a sampler, from the loader or made on the device."""
    if not config.loop.device_pairs:
        return make_loader(
            make_pair_dataset(config, cache, network, "train"),
            sampler,
            workers=config.loop.workers,
            pin_memory=device.type == "cuda",
        )
    pairs = make_batched_pairs(config, cache, network, device)
    return (pairs.batch(indices[0], len(indices)) for indices in sampler)


def pairs_to_look_at(
    config: TrainConfig, cache: CropCache, network: NetworkConfig
) -> PairDataset | PairsOneByOne:
    """The training pairs of a run by their number, of whichever way it makes them."""
    if not config.loop.device_pairs:
        return make_pair_dataset(config, cache, network, "train")
    device = torch.device(resolve_device(config.loop.device))
    pairs = make_batched_pairs(config, cache, network, device)
    return PairsOneByOne(pairs, config.loop.batch_size)


def _pair_options(
    config: TrainConfig, cache: CropCache, network: NetworkConfig, part: Part
) -> dict[str, Any]:
    known = {track.set_name for track in cache.tracks}
    unknown = [name for name in config.pairs.set_weights if name not in known]
    if unknown and part != "held_out":
        logger.warning(
            "pairs.set_weights names %s%s; the cache holds %s, the rest is left out",
            ", ".join(unknown[:5]),
            f" and {len(unknown) - 5} more sets" if len(unknown) > 5 else "",
            ", ".join(sorted(known)),
        )
    return {
        "exemplar_size_px": network.exemplar_size_px,
        "search_size_px": network.search_size_px,
        "seed": config.loop.seed,
        "part": part if holds_out(config, cache) else "all",
        "held_out": config.validation.held_out,
    }


def holds_out(config: TrainConfig, cache: CropCache) -> bool:
    """Whether a run keeps tracks from training; a small fraction of few clips is none."""
    weights = track_weights(cache, config.pairs)
    out = held_out_tracks(cache, weights, config.validation.held_out)
    return bool((weights[out] > 0).any())


def make_loader(
    pairs: PairDataset, sampler: StepSampler, *, workers: int, pin_memory: bool = False
) -> DataLoader[Pair]:
    """Load batches in `workers` processes of one thread each; 0 loads in this process."""
    return DataLoader(
        pairs,
        batch_sampler=sampler,
        num_workers=workers,
        worker_init_fn=_use_one_thread if workers else None,
        # A process forked after OpenCV, torch or OpenVINO started threads hangs at the first use.
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=4 if workers else None,
        pin_memory=pin_memory,
    )


def _use_one_thread(worker: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
