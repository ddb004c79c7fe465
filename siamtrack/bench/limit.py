"""The least time a network can take on a machine: its work over what the machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import torch
from torch.utils.flop_counter import FlopCounterMode

from siamtrack.engines.graphs import ExemplarGraph, TrackGraph
from siamtrack.models.network import TrackerNetwork

_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
PEAK_PRECISIONS = tuple(_DTYPES)  # torch has no public product of large int8 matrices


def count_macs(network: TrackerNetwork) -> int:
    """Multiplications (each with its addition) of the track graph for one search crop.

    Convolutions and matrix products are counted; all else is thousands of times less.
    """
    config = network.config
    z = torch.zeros(1, config.exemplar_size_px, config.exemplar_size_px, 3, dtype=torch.uint8)
    x = torch.zeros(1, config.search_size_px, config.search_size_px, 3, dtype=torch.uint8)
    cells = config.exemplar_size_px // config.total_stride
    with torch.no_grad():
        exemplar = ExemplarGraph(network)(z, torch.ones(1, 1, cells, cells))
        with FlopCounterMode(display=False) as counter:
            TrackGraph(network)(x, exemplar)
    return counter.get_total_flops() // 2


def matmul_peak(
    precision: str,
    threads: int,
    *,
    size: int = 1024,
    repeats: int = 12,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Measure how many multiplications a second the machine does in its best discipline.

    Args:
        precision: "f32" or "bf16".
        threads: CPU threads.
        size: rows and columns of the square matrices; larger ones come nearer to the peak until
            they leave the cache.
        repeats: products; the fastest one counts.
        clock: seconds, monotonic.

    Returns:
        MAC/s.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(size, size, generator=generator).to(_DTYPES[precision]) for _ in range(2))
    times_s = []
    with cpu_threads(threads), torch.inference_mode():
        for _ in range(repeats):
            started_s = clock()
            torch.matmul(a, b)
            times_s.append(clock() - started_s)
    return size**3 / min(times_s)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let torch and OpenCV compute in so many threads inside the block."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
