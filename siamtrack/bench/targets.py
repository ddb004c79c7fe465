"""What many targets cost: the same clip with more and more of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from siamtrack.bench.contestants import UPDATE, Clip, ManyContestant
from siamtrack.bench.measure import Timing, summarise, take_turns, turn_count
from siamtrack.bench.run import Order
from siamtrack.bench.text import table
from siamtrack.engines import make_engine
from siamtrack.tracking.loading import DEFAULT_WEIGHTS, options_for, read_source

_HEADER = ("tracker", "threads", "targets", "a frame", "a target", "times the first")


@dataclass(frozen=True, slots=True)
class TargetsRow:
    """So many targets on one engine.

    Attributes:
        name: of the engine.
        threads: CPU threads.
        targets: how many.
        update: timing of all of them together.
        ratio: median over that of the first number of targets.
    """

    name: str
    threads: int
    targets: int
    update: Timing
    ratio: float

    @property
    def per_target_ms(self) -> float:
        """Median of a frame, by target."""
        return self.update.median_ms / self.targets


def benchmark_targets(
    order: Order,
    clip: Clip,
    counts: tuple[int, ...],
    on_turn: Callable[[int], object] = lambda total: None,
) -> list[TargetsRow]:
    """Measure; all numbers of targets take turns on the same frames.

    Args:
        order: its rivals take no part. Without engines, the one that is taken by itself.
        clip: on which frames.
        counts: numbers of targets.
        on_turn: called after every turn with the number of turns there will be.

    Raises:
        SiamTrackError: the weights or an engine cannot be used.
    """
    source, tuned = read_source(DEFAULT_WEIGHTS if order.weights is None else order.weights)
    options = options_for(source, tuned)
    contestants = []
    for name in order.engines or ("auto",):
        for threads in order.threads:
            engine = make_engine(source, engine=name, device=order.device, threads=threads)
            contestants += [
                ManyContestant(engine, options, clip, targets=count, threads=threads)
                for count in counts
            ]
    turns = len(contestants) * turn_count(order.frames)
    taken = take_turns(contestants, order.frames, lambda: on_turn(turns))
    updates = [summarise(times)[UPDATE] for times in taken]
    return [
        TargetsRow(
            one.name,
            one.threads,
            one.targets,
            update,
            update.median_ms / updates[k - k % len(counts)].median_ms,
        )
        for k, (one, update) in enumerate(zip(contestants, updates, strict=True))
    ]


def targets_text(rows: list[TargetsRow]) -> str:
    """A table for people."""
    cells = [
        (
            row.name,
            str(row.threads),
            str(row.targets),
            f"{row.update.median_ms:.2f} / {row.update.p95_ms:.2f}",
            f"{row.per_target_ms:.2f}",
            f"{row.ratio:.2f}",
        )
        for row in rows
    ]
    return "\n".join(["median / p95 in ms", "", *table([_HEADER, *cells])])


def targets_to_dict(rows: list[TargetsRow]) -> list[dict[str, Any]]:
    """The table, ready for JSON."""
    return [
        {
            "name": row.name,
            "threads": row.threads,
            "targets": row.targets,
            "median_ms": row.update.median_ms,
            "p95_ms": row.update.p95_ms,
            "per_target_ms": row.per_target_ms,
            "ratio": row.ratio,
        }
        for row in rows
    ]
