"""One benchmark: what is run, the results, and their tables as text and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
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
    cpu_threads,
    matmul_peak,
    run_interleaved,
    summarize,
    turn_count,
)
from siamtrack.engines import make_engine
from siamtrack.errors import EngineError, MissingPackageError
from siamtrack.evaluation.trackers import TrackerSpec

ALL_ENGINES = ("openvino:int8", "openvino:bf16", "openvino:f32", "onnx:int8", "onnx", "torch")

_CLOCK_RESOLUTION_MS = 1e-6

# Called after every turn with the number of turns there will be, for a progress bar.
OnTurn = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class BenchConfig:
    """What is measured; weights, engines and device are named as for `siamtrack.load`."""

    weights: str | None = None
    engines: tuple[str, ...] = ()  # empty for all that can run these weights here
    device: str = "cpu"
    threads: tuple[int, ...] = (1,)  # each of them for every engine and tracker
    trackers: tuple[TrackerSpec, ...] = ()  # other trackers
    frames: int = 150  # counted, of each run


# -- Engines and other trackers


@dataclass(frozen=True, slots=True)
class BenchRow:
    """Result of one run of an engine or tracker; other trackers have no stage but the update."""

    name: str
    threads: int
    stages: dict[str, Timing]
    limit_ms: float | None = None  # least time of the network here with so many threads, if known

    @property
    def fps(self) -> float:
        """Frames per second of the update alone, at its median."""
        return 1e3 / max(self.stages[UPDATE].median_ms, _CLOCK_RESOLUTION_MS)

    @property
    def share_of_limit(self) -> float | None:
        """Physical limit over the network's median; 1 is perfect."""
        return None if self.limit_ms is None else self.limit_ms / self.stages[NETWORK].median_ms


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Results of a benchmark."""

    weights: str
    frame_wh: tuple[int, int]
    frames: int  # counted, of each run
    # Multiply-accumulate operations of the track graph for a whole crop; None without torch.
    macs: int | None
    peaks: dict[tuple[str, int], float]  # measured MAC/s, by precision and threads
    video: dict[str, Timing]  # of what surrounds tracking
    rows: list[BenchRow]  # one for each run
    skipped: dict[str, str]  # by engine, why it was left out


def benchmark(
    config: BenchConfig, clip: Clip, folder: Path, on_turn: OnTurn = lambda total: None
) -> BenchReport:
    """Time engines, other trackers and the video in turns; `folder` gets the video written.

    Raises:
        SiamTrackError: the weights, an engine that was named or a tracker cannot be used, or the
            clip cannot be read or written again.
    """
    # 1. Runs on every engine. Those that nobody named are left out where they cannot run.
    weights = DEFAULT_WEIGHTS if config.weights is None else config.weights
    source, tuned = read_source(weights)
    options = options_for(source, tuned)
    engines: list[EngineRun] = []
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
            engines.append(EngineRun(engine, options, clip, threads=threads))

    # 2. Runs of other trackers.
    others: list[TimedRun] = []
    for spec in config.trackers:
        for threads in config.threads:
            with cpu_threads(threads):  # some choose their threads when they are built
                tracker = given_threads(spec, threads).build()
            others.append(TimedRun(spec.label, tracker, clip, threads=threads))

    # 3. The limit: the network's MACs at the peak of this machine, in the same precision. They
    #    grow with the area of the search crop.
    macs: int | None = None
    peaks: dict[tuple[str, int], float] = {}
    try:
        macs = count_macs(source.network)
    except MissingPackageError as error:
        skipped["limit"] = str(error)
    if macs is not None and config.device == "cpu":
        for key in dict.fromkeys((run.precision, run.threads) for run in engines):
            if key[0] in PEAK_DTYPES:
                peaks[key] = matmul_peak(*key)

    # 4. The turns.
    runs: list[TimedRun] = [*engines, *others]
    with VideoRun(clip, folder / "written.mp4", threads=max(config.threads)) as video:
        turns = (len(runs) + 1) * turn_count(config.frames)
        *taken, around = run_interleaved([*runs, video], config.frames, lambda: on_turn(turns))

    # 5. The report.
    rows = []
    for run, times in zip(runs, taken, strict=True):
        limit_ms = None
        if macs is not None and isinstance(run, EngineRun):
            peak = peaks.get((run.precision, run.threads))
            limit_ms = None if peak is None else 1e3 * macs * run.crop_share / peak
        rows.append(BenchRow(run.name, run.threads, summarize(times), limit_ms))
    return BenchReport(
        weights, clip.frame_wh, config.frames, macs, peaks, summarize(around), rows, skipped
    )


def given_threads(spec: TrackerSpec, threads: int) -> TrackerSpec:
    """The tracker with so many threads, if it is one of ours and names no number itself."""
    if not spec.is_ours:
        return spec
    return replace(spec, options={"threads": threads, **spec.options})


def report_to_dict(report: BenchReport) -> dict[str, Any]:
    """The report, ready for JSON."""
    return {
        "weights": report.weights,
        "frame_wh": list(report.frame_wh),
        "frames": report.frames,
        "macs": report.macs,
        "peaks": [
            {"precision": precision, "threads": threads, "macs_per_s": peak}
            for (precision, threads), peak in report.peaks.items()
        ],
        "video": asdict(report)["video"],
        "trackers": [
            {
                "name": row.name,
                "threads": row.threads,
                "stages": asdict(row)["stages"],
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
    width, height = report.frame_wh
    lines = [
        report.weights
        + (
            ""
            if report.macs is None
            else f": {report.macs / 1e6:.0f} million multiplications a whole search crop"
        ),
        f"{report.frames} frames of {width}x{height} px each, in turns; median / p95 in ms",
        "",
        *align([VIDEO_STAGES, [_cell(report.video.get(stage)) for stage in VIDEO_STAGES]]),
        "",
    ]
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
    lines += [*align(rows), ""]
    for (precision, threads), peak in report.peaks.items():
        cores = f"{threads} thread" if threads == 1 else f"{threads} threads"
        lines.append(f"peak in {precision}, {cores}: {peak / 1e9:.0f} billion a second")
    if report.peaks:
        product = "a product of large matrices"
        lines.append(f"limit: the network's multiplications at the peak of {product}")
    lines += [f"not run: {engine}: {why}" for engine, why in report.skipped.items()]
    return "\n".join(lines)


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
    """Result for one number of targets on one engine."""

    name: str
    threads: int
    targets: int
    update: Timing  # of all targets together
    ratio: float  # median over that of the first number of targets

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
    return [
        {
            "name": row.name,
            "threads": row.threads,
            "targets": row.targets,
            **asdict(row.update),
            "per_target_ms": row.per_target_ms,
            "ratio": row.ratio,
        }
        for row in rows
    ]
