"""One benchmark: what is run, the results, and their tables as text and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from siamtrack.api import DEFAULT_WEIGHTS, options_for, read_source
from siamtrack.bench.stages import (
    NETWORK,
    PEAK_DTYPES,
    STAGES,
    UPDATE,
    VIDEO_STAGES,
    Clip,
    EngineRun,
    TargetsRun,
    TimedRun,
    Timing,
    VideoRun,
    count_macs,
    matmul_peak,
    run_interleaved,
    summarize,
    turn_count,
)
from siamtrack.engines import ModelSource, make_engine
from siamtrack.errors import EngineError
from siamtrack.evaluation.trackers import TrackerSpec
from siamtrack.tracking.options import TrackerOptions

ALL_ENGINES = ("openvino:int8", "openvino:bf16", "openvino:f32", "onnx:int8", "onnx", "torch")

_CLOCK_RESOLUTION_MS = 1e-6

OnTurn = Callable[[int], object]
"""Called after every turn with the number of turns there will be, for a progress bar."""


@dataclass(frozen=True, slots=True)
class BenchConfig:
    """What is measured.

    Attributes:
        weights: as for `siamtrack.load`.
        engines: as for `siamtrack.load`; empty for all that can run these weights here.
        device: as for `siamtrack.load`.
        threads: numbers of CPU threads, all of them for every engine and tracker.
        trackers: other trackers.
        frames: counted frames of each run.
    """

    weights: str | None = None
    engines: tuple[str, ...] = ()
    device: str = "cpu"
    threads: tuple[int, ...] = (1,)
    trackers: tuple[TrackerSpec, ...] = ()
    frames: int = 150


# -- Engines and other trackers


@dataclass(frozen=True, slots=True)
class BenchRow:
    """Result of one run.

    Attributes:
        name: of the engine or tracker.
        threads: CPU threads.
        stages: timing by stage; other trackers have nothing but `update`.
        limit_ms: the least time the network can take here with so many threads, where known.
    """

    name: str
    threads: int
    stages: dict[str, Timing]
    limit_ms: float | None = None

    @property
    def fps(self) -> float:
        """Frames per second of the update alone, at its median."""
        return 1e3 / max(self.stages[UPDATE].median_ms, _CLOCK_RESOLUTION_MS)

    @property
    def share_of_limit(self) -> float | None:
        """Physical limit over the network's median; 1 is perfect."""
        if self.limit_ms is None:
            return None
        return self.limit_ms / self.stages[NETWORK].median_ms


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Results of a benchmark.

    Attributes:
        weights: that were run.
        frame_wh: of the clip, px.
        frames: counted, of each run.
        macs: multiply-accumulate operations of the track graph for one crop.
        peaks: measured MAC/s, by precision and threads.
        video: timing of what surrounds tracking.
        rows: one for each run.
        skipped: by engine, why it was left out.
    """

    weights: str
    frame_wh: tuple[int, int]
    frames: int
    macs: int
    peaks: dict[tuple[str, int], float]
    video: dict[str, Timing]
    rows: list[BenchRow] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def benchmark(
    config: BenchConfig, clip: Clip, folder: Path, on_turn: OnTurn = lambda total: None
) -> BenchReport:
    """Time engines, other trackers and the video in turns; `folder` gets the video written.

    Raises:
        SiamTrackError: the weights, an engine that was named or a tracker cannot be used, or the
            clip cannot be read or written again.
    """
    # 1. Everything that is timed: engines, other trackers, and the video around tracking.
    weights = DEFAULT_WEIGHTS if config.weights is None else config.weights
    source, tuned = read_source(weights)
    engines, skipped = _engine_runs(config, source, options_for(source, tuned), clip)
    runs: list[TimedRun] = [
        *engines,
        *(
            TimedRun(spec.label, spec.build(), clip, threads=threads)
            for spec in config.trackers
            for threads in config.threads
        ),
    ]

    # 2. The limit: the network's MACs at the peak of this machine, in the same precision.
    macs = count_macs(source.network)
    peaks: dict[tuple[str, int], float] = {}
    if config.device == "cpu":
        for engine in engines:
            key = engine.precision, engine.threads
            if engine.precision in PEAK_DTYPES and key not in peaks:
                peaks[key] = matmul_peak(*key)

    # 3. The turns.
    with VideoRun(clip, folder / "written.mp4", threads=max(config.threads)) as video:
        turns = (len(runs) + 1) * turn_count(config.frames)
        *taken, around = run_interleaved([*runs, video], config.frames, lambda: on_turn(turns))

    rows = []
    for run, times in zip(runs, taken, strict=True):
        peak = peaks.get((run.precision, run.threads)) if isinstance(run, EngineRun) else None
        limit_ms = None if peak is None else 1e3 * macs / peak
        rows.append(BenchRow(run.name, run.threads, summarize(times), limit_ms))
    return BenchReport(
        weights, clip.frame_wh, config.frames, macs, peaks, summarize(around), rows, skipped
    )


def _engine_runs(
    config: BenchConfig, source: ModelSource, options: TrackerOptions, clip: Clip
) -> tuple[list[EngineRun], dict[str, str]]:
    """Runs on every engine, and why engines that nobody named are left out."""
    runs: list[EngineRun] = []
    skipped: dict[str, str] = {}
    for name in config.engines or ALL_ENGINES:
        for threads in config.threads:
            try:
                engine = make_engine(source, engine=name, device=config.device, threads=threads)
            except EngineError as error:
                if config.engines:
                    raise
                skipped[name] = str(error)
                break
            runs.append(EngineRun(engine, options, clip, threads=threads))
    return runs, skipped


def report_to_dict(report: BenchReport) -> dict[str, Any]:
    """The report, ready for JSON."""

    def timings(stages: Mapping[str, Timing]) -> dict[str, dict[str, float]]:
        return {stage: asdict(timing) for stage, timing in stages.items()}

    return {
        "weights": report.weights,
        "frame_wh": list(report.frame_wh),
        "frames": report.frames,
        "macs": report.macs,
        "peaks": [
            {"precision": precision, "threads": threads, "macs_per_s": peak}
            for (precision, threads), peak in report.peaks.items()
        ],
        "video": timings(report.video),
        "trackers": [
            {
                "name": row.name,
                "threads": row.threads,
                "stages": timings(row.stages),
                "fps": row.fps,
                "limit_ms": row.limit_ms,
                "share_of_limit": row.share_of_limit,
            }
            for row in report.rows
        ],
        "skipped": report.skipped,
    }


def report_text(report: BenchReport) -> str:
    """Tables of median / p95 in ms."""
    return "\n".join(_report_lines(report))


def _report_lines(report: BenchReport) -> Iterator[str]:
    width, height = report.frame_wh
    yield f"{report.weights}: {report.macs / 1e6:.0f} million multiplications a frame"
    yield f"{report.frames} frames of {width}x{height} px each, in turns; median / p95 in ms"
    yield ""
    yield from align([VIDEO_STAGES, [_cell(report.video.get(stage)) for stage in VIDEO_STAGES]])
    yield ""
    rows = [["tracker", "threads", *STAGES, "fps", "limit", "of limit"]]
    for row in report.rows:
        share = row.share_of_limit
        rows.append(
            [
                row.name,
                str(row.threads),
                *(_cell(row.stages.get(stage)) for stage in STAGES),
                f"{row.fps:.0f}",
                "-" if row.limit_ms is None else f"{row.limit_ms:.2f}",
                "-" if share is None else f"{100 * share:.0f} %",
            ]
        )
    yield from align(rows)
    yield ""
    for (precision, threads), peak in report.peaks.items():
        plural = "" if threads == 1 else "s"
        yield f"peak in {precision}, {threads} thread{plural}: {peak / 1e9:.0f} billion a second"
    if report.peaks:
        yield "limit: the network's multiplications at the peak of a product of large matrices"
    for engine, why in report.skipped.items():
        yield f"not run: {engine}: {why}"


def _cell(timing: Timing | None) -> str:
    return "-" if timing is None else f"{timing.median_ms:.2f} / {timing.p95_ms:.2f}"


def align(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of aligned columns, the first one to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [f"{first:<{widths[0]}}"]
        cells += [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join(cells).rstrip()


# -- Numbers of targets


@dataclass(frozen=True, slots=True)
class TargetsRow:
    """Result for one number of targets on one engine.

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
        """Median time of a frame, divided by the targets."""
        return self.update.median_ms / self.targets


def benchmark_targets(
    config: BenchConfig, clip: Clip, counts: tuple[int, ...], on_turn: OnTurn = lambda total: None
) -> list[TargetsRow]:
    """Time different numbers of targets in turns on the same frames.

    Without engines in `config` the one that `auto` chooses is used. Other trackers are ignored.

    Raises:
        SiamTrackError: the weights or an engine cannot be used.
    """
    source, tuned = read_source(DEFAULT_WEIGHTS if config.weights is None else config.weights)
    options = options_for(source, tuned)
    runs = []
    for name in config.engines or ("auto",):
        for threads in config.threads:
            engine = make_engine(source, engine=name, device=config.device, threads=threads)
            runs += [
                TargetsRun(engine, options, clip, targets=count, threads=threads)
                for count in counts
            ]
    turns = len(runs) * turn_count(config.frames)
    taken = run_interleaved(runs, config.frames, lambda: on_turn(turns))
    updates = [summarize(times)[UPDATE] for times in taken]
    rows = []
    for k, (run, update) in enumerate(zip(runs, updates, strict=True)):
        first = updates[k - k % len(counts)]  # the same engine and threads, first number of targets
        ratio = update.median_ms / first.median_ms
        rows.append(TargetsRow(run.name, run.threads, run.targets, update, ratio))
    return rows


def targets_text(rows: Sequence[TargetsRow]) -> str:
    """A table for people."""
    cells = [["tracker", "threads", "targets", "a frame", "a target", "times the first"]]
    for row in rows:
        numbers = f"{row.per_target_ms:.2f}", f"{row.ratio:.2f}"
        cells.append([row.name, str(row.threads), str(row.targets), _cell(row.update), *numbers])
    return "\n".join(["median / p95 in ms", "", *align(cells)])


def targets_to_dict(rows: Sequence[TargetsRow]) -> list[dict[str, Any]]:
    """The table, ready for JSON."""
    plain = []
    for row in rows:
        run = {"name": row.name, "threads": row.threads, "targets": row.targets}
        times = {**asdict(row.update), "per_target_ms": row.per_target_ms, "ratio": row.ratio}
        plain.append({**run, **times})
    return plain
