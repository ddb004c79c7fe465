"""Which pairs are in which batch, for any number of processes and any starting step."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import torch
from torch.utils.data import DataLoader, Sampler

from siamtrack.data.cache import CropCache
from siamtrack.data.pairs import Pair, PairDataset, Part
from siamtrack.models.config import NetworkConfig
from siamtrack.training.config import TrainConfig
from siamtrack.training.distributed import World


class StepSampler(Sampler[list[int]]):
    """Pairs of step s on rank r of W with batches of B: from (s W + r) B on.

    The pairs of a step are the same whether one process takes them in one batch of W B or W
    processes take B each, and a resumed run starts at its next step.
    """

    def __init__(self, start: int, steps: int, batch_size: int, world: World) -> None:
        self.start, self.steps, self.batch_size, self.world = start, steps, batch_size, world

    def __len__(self) -> int:
        """Batches left."""
        return max(self.steps - self.start, 0)

    def __iter__(self) -> Iterator[list[int]]:
        """Indices of each batch."""
        for step in range(self.start, self.steps):
            first = (step * self.world.size + self.world.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


def pairs_of(
    config: TrainConfig, cache: CropCache, network: NetworkConfig, part: Part
) -> PairDataset:
    """Pairs that a run draws.

    Args:
        config: of the run.
        cache: of the run, open.
        network: gives the sizes of the crops.
        part: which of them; everything where the run holds nothing out.

    Raises:
        ConfigError, DatasetError: see `PairDataset`.
    """
    return PairDataset(
        cache,
        config.pairs,
        exemplar_size_px=network.exemplar_size_px,
        search_size_px=network.search_size_px,
        seed=config.loop.seed,
        part=part if config.validation.held_out > 0 else "all",
        held_out=config.validation.held_out,
    )


def make_loader(
    pairs: PairDataset, sampler: StepSampler, *, workers: int, pin_memory: bool = False
) -> DataLoader[Pair]:
    """Loader whose worker processes use one thread each: the network needs the others.

    Args:
        pairs: what is drawn; workers get a copy, which opens the cache anew.
        sampler: which pairs are in which batch.
        workers: processes that draw; 0 draws in this one.
        pin_memory: for transfers to a GPU.
    """
    return DataLoader(
        pairs,
        batch_sampler=sampler,
        num_workers=workers,
        worker_init_fn=_single_threaded if workers else None,
        # A process forked after OpenCV, torch or OpenVINO started threads hangs at the first use.
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=4 if workers else None,
        pin_memory=pin_memory,
    )


def _single_threaded(worker: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
