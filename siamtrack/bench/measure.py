"""Contestants take turns, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from siamtrack.bench.contestants import Contestant, Times
from siamtrack.bench.limit import cpu_threads

TURN_FRAMES = 15
"""Frames in a row. Fewer, and contestants empty each other's caches; more, and a slow moment of
the machine meets only one of them."""

WARM_FRAMES = 3
"""Frames at the beginning of every turn that are not counted."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a stage takes.

    Attributes:
        median_ms: of all frames.
        p95_ms: 95 of 100 frames take no longer.
    """

    median_ms: float
    p95_ms: float

    @classmethod
    def of(cls, times_s: Sequence[float]) -> Timing:
        """Summarise times in seconds."""
        median_s, p95_s = np.percentile(times_s, (50, 95)).tolist()
        return cls(1e3 * median_s, 1e3 * p95_s)


def turn_count(frames: int) -> int:
    """Turns that each contestant takes for so many counted frames."""
    return -(-frames // TURN_FRAMES)


def take_turns(
    contestants: Sequence[Contestant],
    frames: int,
    on_turn: Callable[[], object] = lambda: None,
) -> list[list[Times]]:
    """Time every contestant on `frames` frames.

    Every other round goes in reverse order, so that nobody always follows the same neighbour.

    Args:
        contestants: who takes part.
        frames: counted frames of each.
        on_turn: called after every turn, for a progress bar.

    Returns:
        For every contestant, in order, the times of every frame.
    """
    taken: list[list[Times]] = [[] for _ in contestants]
    for turn in range(turn_count(frames)):
        order = range(len(contestants))
        for k in reversed(order) if turn % 2 else order:
            with cpu_threads(contestants[k].threads):
                for _ in range(WARM_FRAMES):
                    contestants[k].step()
                counted = min(TURN_FRAMES, frames - len(taken[k]))
                taken[k] += [contestants[k].step() for _ in range(counted)]
            on_turn()
    return taken


def summarise(taken: Sequence[Times]) -> dict[str, Timing]:
    """Timing of every stage."""
    by_stage: dict[str, list[float]] = defaultdict(list)
    for times in taken:
        for stage, time_s in times.items():
            by_stage[stage].append(time_s)
    return {stage: Timing.of(times_s) for stage, times_s in by_stage.items()}
