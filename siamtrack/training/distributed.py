"""Several processes: what torchrun says, and the few collective operations that are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from siamtrack.errors import TrainingError


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run.

    Attributes:
        rank: number of this process, 0 writes files.
        size: number of processes.
        local_rank: number of this process on its machine; chooses its GPU.
        device: where values have to lie to be exchanged; None for anywhere.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process logs and writes."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a value over the processes; without gradient."""
        if self.size == 1:
            return value.detach()
        total = value.detach().clone()
        if self.device is not None:
            total = total.to(self.device)  # nccl exchanges what lies on a GPU
        dist.all_reduce(total)
        return total / self.size


@contextmanager
def joined_world(device_type: str) -> Iterator[World]:
    """Join the processes that torchrun started, if it did; leave them at the end.

    Args:
        device_type: "cuda" talks through nccl, everything else through gloo.

    Raises:
        TrainingError: torchrun's variables are there but the processes do not meet.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    backend = "nccl" if device_type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"{size} processes were to meet through {backend} and did not: {error}; start them "
            "with torchrun"
        ) from error
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device_type == "cuda":
        torch.cuda.set_device(local_rank)
    try:
        own = torch.device("cuda", local_rank) if device_type == "cuda" else None
        yield World(dist.get_rank(), size, local_rank, own)
    finally:
        dist.destroy_process_group()
