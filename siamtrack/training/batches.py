"""Which pairs are in which batch, for any number of processes and any first step."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import torch
from torch.utils.data import DataLoader, Sampler

from siamtrack.data.cache import CropCache
from siamtrack.data.pairs import Pair, PairDataset, Part
from siamtrack.models.config import NetworkConfig
from siamtrack.training.config import TrainConfig
from siamtrack.training.distributed import ProcessGroup


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
    """Pairs of a run; one that holds nothing out has all pairs in both parts."""
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
