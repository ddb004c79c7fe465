"""A benchmark's report for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from siamtrack.bench.contestants import STAGES, VIDEO_STAGES
from siamtrack.bench.measure import Timing
from siamtrack.bench.run import Report, Row

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
