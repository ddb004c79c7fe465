"""One benchmark: who takes part, the turns, the physical limit, the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from siamtrack.api import DEFAULT_WEIGHTS, options_for, read_source
from siamtrack.bench.stages import (
    NETWORK,
    PEAK_PRECISIONS,
    STAGES,
    UPDATE,
    VIDEO_STAGES,
    Clip,
    EngineContestant,
    ManyContestant,
    RivalContestant,
    Timing,
    VideoContestant,
    count_macs,
    matmul_peak,
    summarise,
    take_turns,
    turn_count,
)
from siamtrack.engines import Source, make_engine
from siamtrack.errors import EngineError
from siamtrack.evaluation.trackers import TrackerSpec
from siamtrack.tracking.options import TrackerOptions

_TICK_MS = 1e-6  # clocks tell nothing shorter

ALL_ENGINES = ("openvino:int8", "openvino:bf16", "openvino:f32", "onnx:int8", "onnx", "torch")


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be measured.

    Attributes:
        weights: as for `siamtrack.load`.
        engines: as for `siamtrack.load`; empty for all that can run these weights here.
        device: as for `siamtrack.load`.
        threads: numbers of CPU threads, all of them for every engine and rival.
        rivals: other trackers.
        frames: counted frames of each contestant.
    """

    weights: str | None = None
    engines: tuple[str, ...] = ()
    device: str = "cpu"
    threads: tuple[int, ...] = (1,)
    rivals: tuple[TrackerSpec, ...] = ()
    frames: int = 150


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant's result.

    Attributes:
        name: of the engine or rival.
        threads: CPU threads.
        stages: timing by stage; a rival has nothing but `update`.
        limit_ms: the least the network can take here with so many threads, where that is known.
    """

    name: str
    threads: int
    stages: dict[str, Timing]
    limit_ms: float | None = None

    @property
    def fps(self) -> float:
        """Frames per second of the update alone, at its median."""
        return 1e3 / max(self.stages[UPDATE].median_ms, _TICK_MS)

    @property
    def share_of_limit(self) -> float | None:
        """Physical limit over the network's median, 1 being perfect."""
        if self.limit_ms is None:
            return None
        return self.limit_ms / self.stages[NETWORK].median_ms


@dataclass(frozen=True, slots=True)
class Report:
    """What came out.

    Attributes:
        weights: that were run.
        frame_wh: of the clip, px.
        frames: counted, of each contestant.
        macs: multiplications of the track graph for one crop.
        peaks: by precision and threads, measured MAC/s.
        video: timing of what surrounds tracking.
        rows: one for each contestant.
        skipped: by engine, why it took no part.
    """

    weights: str
    frame_wh: tuple[int, int]
    frames: int
    macs: int
    peaks: dict[tuple[str, int], float]
    video: dict[str, Timing]
    rows: list[Row] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def benchmark(
    order: Order, clip: Clip, folder: Path, on_turn: Callable[[int], object] = lambda total: None
) -> Report:
    """Measure.

    Args:
        order: what.
        clip: on which frames.
        folder: for the video that is written on the way.
        on_turn: called after every turn with the number of turns there will be.

    Raises:
        SiamTrackError: the weights, an engine that was named or a rival cannot be used, or the
            clip cannot be read or written again.
    """
    name = DEFAULT_WEIGHTS if order.weights is None else order.weights
    source, tuned = read_source(name)
    macs = count_macs(source.network)
    engines, skipped = _engines(order, source, options_for(source, tuned), clip)
    trackers: list[EngineContestant | RivalContestant] = [*engines, *_rivals(order, clip)]
    peaks = _peaks(engines) if order.device == "cpu" else {}
    written, threads = folder / "written.mp4", max(order.threads)
    with VideoContestant(clip, written, threads=threads) as video:
        turns = (len(trackers) + 1) * turn_count(order.frames)
        *taken, around = take_turns([*trackers, video], order.frames, lambda: on_turn(turns))
    rows = [
        Row(one.name, one.threads, summarise(times), _limit_ms(macs, peaks, one))
        for one, times in zip(trackers, taken, strict=True)
    ]
    return Report(name, clip.frame_wh, order.frames, macs, peaks, summarise(around), rows, skipped)


def _engines(
    order: Order, source: Source, options: TrackerOptions, clip: Clip
) -> tuple[list[EngineContestant], dict[str, str]]:
    """Contestants on every engine, and why some cannot take part that nobody asked for."""
    found: list[EngineContestant] = []
    skipped: dict[str, str] = {}
    for engine in order.engines or ALL_ENGINES:
        for threads in order.threads:
            try:
                made = make_engine(source, engine=engine, device=order.device, threads=threads)
            except EngineError as error:
                if order.engines:
                    raise
                skipped[engine] = str(error)
                break
            found.append(EngineContestant(made, options, clip, threads=threads))
    return found, skipped


def _rivals(order: Order, clip: Clip) -> list[RivalContestant]:
    return [
        RivalContestant(spec.label, spec.build(), clip, threads=threads)
        for spec in order.rivals
        for threads in order.threads
    ]


def _peaks(engines: Sequence[EngineContestant]) -> dict[tuple[str, int], float]:
    wanted = dict.fromkeys(
        (one.precision, one.threads) for one in engines if one.precision in PEAK_PRECISIONS
    )
    return {(precision, threads): matmul_peak(precision, threads) for precision, threads in wanted}


def _limit_ms(
    macs: int, peaks: dict[tuple[str, int], float], one: EngineContestant | RivalContestant
) -> float | None:
    if isinstance(one, RivalContestant):
        return None
    peak = peaks.get((one.precision, one.threads))
    return None if peak is None else 1e3 * macs / peak


def report_to_dict(report: Report) -> dict[str, Any]:
    """The report, ready for JSON."""

    def told(stages: dict[str, Timing]) -> dict[str, dict[str, float]]:
        return {
            stage: {"median_ms": timing.median_ms, "p95_ms": timing.p95_ms}
            for stage, timing in stages.items()
        }

    return {
        "weights": report.weights,
        "frame_wh": list(report.frame_wh),
        "frames": report.frames,
        "macs": report.macs,
        "peaks": [
            {"precision": precision, "threads": threads, "macs_per_s": peak}
            for (precision, threads), peak in report.peaks.items()
        ],
        "video": told(report.video),
        "trackers": [
            {
                "name": row.name,
                "threads": row.threads,
                "stages": told(row.stages),
                "fps": row.fps,
                "limit_ms": row.limit_ms,
                "share_of_limit": row.share_of_limit,
            }
            for row in report.rows
        ],
        "skipped": report.skipped,
    }


_HEADER = ("tracker", "threads", *STAGES, "fps", "limit", "of limit")


def as_text(report: Report) -> str:
    """Tables of median / p95 in ms."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    width, height = report.frame_wh
    yield f"{report.weights}: {report.macs / 1e6:.0f} million multiplications a frame"
    yield f"{report.frames} frames of {width}x{height} px each, in turns; median / p95 in ms"
    yield ""
    yield from table([VIDEO_STAGES, [_cell(report.video.get(stage)) for stage in VIDEO_STAGES]])
    yield ""
    yield from table([_HEADER, *map(_cells, report.rows)])
    yield ""
    for (precision, threads), peak in report.peaks.items():
        plural = "" if threads == 1 else "s"
        yield f"peak in {precision}, {threads} thread{plural}: {peak / 1e9:.0f} billion a second"
    if report.peaks:
        yield "limit: the network's multiplications at the peak of a product of large matrices"
    for engine, why in report.skipped.items():
        yield f"not run: {engine}: {why}"


def _cells(row: Row) -> list[str]:
    share = row.share_of_limit
    return [
        row.name,
        str(row.threads),
        *(_cell(row.stages.get(stage)) for stage in STAGES),
        f"{row.fps:.0f}",
        "-" if row.limit_ms is None else f"{row.limit_ms:.2f}",
        "-" if share is None else f"{100 * share:.0f} %",
    ]


def _cell(timing: Timing | None) -> str:
    return "-" if timing is None else f"{timing.median_ms:.2f} / {timing.p95_ms:.2f}"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of columns, the first one to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            f"{cell:<{width}}" if k == 0 else f"{cell:>{width}}"
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


_TARGETS_HEADER = ("tracker", "threads", "targets", "a frame", "a target", "times the first")


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
    return "\n".join(["median / p95 in ms", "", *table([_TARGETS_HEADER, *cells])])


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
