"""The processes that torchrun started, and the mean over them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from siamtrack.errors import TrainingError

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The processes of a run, seen from one of them."""

    rank: int = 0  # of this process
    size: int = 1  # number of processes
    device: torch.device = _CPU  # on which this process trains

    @property
    def is_main(self) -> bool:
        """Whether this process logs and writes."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a value over the processes, without gradient; all of them must call it."""
        if self.size == 1:
            return value.detach()
        total = value.detach().clone()
        if self.device.type == "cuda":
            total = total.to(self.device)  # nccl reduces tensors on a GPU only
        dist.all_reduce(total)
        return total / self.size


@contextmanager
def process_group(device: torch.device) -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started, if it did; leave them at the end.

    On "cuda" they communicate through nccl and each has a GPU of its own, elsewhere through gloo.

    Raises:
        TrainingError: torchrun's variables are set but the processes do not connect.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ProcessGroup(device=device)
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"{size} processes were to connect through {backend} and did not: {error}; start them "
            "with torchrun"
        ) from error
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    try:
        yield ProcessGroup(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()
