"""What of a batch is still to do, doing it, and its files.

    OUT/NAME.csv         the boxes of one clip, as `siamtrack track --csv` writes them
    OUT/batch.jsonl      a line per finished clip, in the order in which they finished
    OUT/summary.csv      a line per clip, in the order of the manifest

Only this process writes them. A clip is done when batch.jsonl says so with its key, which holds
everything that its boxes depend on.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

from tqdm import tqdm

from siamtrack.batch.manifest import BatchClip, read_manifest
from siamtrack.data.convert import FORMATS, convert
from siamtrack.errors import ConfigError, OutputError, SiamTrackError
from siamtrack.evaluation.clip_worker import worker_setup
from siamtrack.models.weights import GRAPHS, card_path, graph_path
from siamtrack.utils.files import Closing, atomic_path, atomic_write, to_bytes
from siamtrack.utils.images import stamp_source
from siamtrack.utils.progress import FILE_INTERVAL_S, TERMINAL_INTERVAL_S
from siamtrack.utils.workers import TaskFailure, WorkerPool

logger = logging.getLogger(__name__)

RECORDS, SUMMARY = "batch.jsonl", "summary.csv"
OUT_ADVICE = "choose another folder with --out"
START_TIMEOUT_S = 300.0
GROUP_S, MOST_IN_GROUP = 0.2, 32
"""Clips that are sent to a cluster together take about so long, and are at most so many.

Sending takes some milliseconds, so that longer clips go one by one: a worker that dies loses the
clip it is at, and nothing that was done.
"""

Status = Literal["done", "failed", "timeout"]
COUNTS = ("frames", "unreadable", "targets", "tracked", "uncertain", "lost", "mean_score")


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """What to track, with what and how.

    Attributes:
        manifest: see `read_manifest`.
        out: folder of the results.
        formats: names of `siamtrack.data.convert.FORMATS` that are written of every clip.
        weights, device, engine, options: arguments of `siamtrack.load_multi`.
        workers: processes on this machine.
        scheduler: address of a Dask scheduler to run on instead; empty for this machine.
        threads: computing threads of each process.
        frame_timeout_s: longest time for a frame before a clip counts as hung.
        clip_timeout_s: longest time for a clip.
        retries: how often a clip is tried again whose process died.
        group: clips that are sent to a cluster together; 0 for as many as take `GROUP_S`.
    """

    manifest: Path
    out: Path
    formats: tuple[str, ...] = ("csv",)
    weights: str | None = None
    device: str = "auto"
    engine: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 1
    scheduler: str = ""
    threads: int = 1
    frame_timeout_s: float = 30.0
    clip_timeout_s: float = 600.0
    retries: int = 2
    group: int = 0


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """A line of batch.jsonl: what became of a clip.

    Attributes:
        name, key: of the clip.
        status: done, or why not.
        frames: frames with boxes; `unreadable` are missing from them.
        targets: number of targets; `tracked`, `uncertain`, `lost` count boxes, and `mean_score`
            is over all.
        seconds: from opening the clip to its last box.
        worker: which process it was, or which machine of a cluster.
        error: why it is not done.
    """

    name: str
    key: str
    status: Status
    frames: int = 0
    unreadable: int = 0
    targets: int = 0
    tracked: int = 0
    uncertain: int = 0
    lost: int = 0
    mean_score: float = 0.0
    seconds: float = 0.0
    worker: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """A `BatchConfig` that was checked: its clips with their keys, and what is known of them.

    `setup` is what worker processes get, `records` the newest of every clip by its name.
    """

    config: BatchConfig
    clips: Sequence[BatchClip]
    keys: Mapping[str, str]
    setup: Mapping[str, Any]
    records: dict[str, ClipRecord]

    def record(self, clip: BatchClip) -> ClipRecord | None:
        """What became of a clip; None if it was not run as it is now."""
        record = self.records.get(clip.name)
        if record is None or record.key != self.keys[clip.name]:
            return None
        is_there = all(self.path(clip, name).exists() for name in self.config.formats)
        return record if is_there or record.status != "done" else None

    def pending(self) -> list[BatchClip]:
        """Clips that are not done, in the order of the manifest."""
        known = ((clip, self.record(clip)) for clip in self.clips)
        return [clip for clip, record in known if record is None or record.status != "done"]

    def path(self, clip: BatchClip, format_name: str) -> Path:
        """File of a clip in one of our own formats, or folder in another."""
        suffix = {"csv": "csv", "json": "jsonl"}.get(format_name, format_name)
        return self.config.out / f"{clip.name}.{suffix}"

    def counts(self) -> Counter[str]:
        """How many clips have which status; "pending" for none."""
        records = map(self.record, self.clips)
        return Counter("pending" if record is None else record.status for record in records)


def prepare_batch(config: BatchConfig) -> Batch:
    """Check everything that can be checked before the first clip.

    Raises:
        DatasetError: the manifest cannot be used; its `problems` are all that is wrong.
        ConfigError: an unknown format, option or engine.
        WeightsError, DeviceError, EngineError: see `siamtrack.load`.
        OutputError: the folder holds files of the same names that no batch wrote.
    """
    for name in config.formats:
        if name not in FORMATS:
            raise ConfigError.unknown("format", name, FORMATS)
    if "budget_ms" in config.options:
        raise ConfigError(
            "budget_ms makes boxes depend on how busy the machine is, which a batch must not; "
            "leave it out"
        )
    clips = read_manifest(config.manifest)
    setup, identity = worker_setup(
        config.weights, config.device, config.engine, config.threads, config.options
    )
    keys = {clip.name: _key(clip, identity) for clip in clips}
    batch = Batch(config, clips, keys, setup, read_records(config.out / RECORDS))
    _check_out(batch)
    return batch


def _key(clip: BatchClip, identity: Mapping[str, Any]) -> str:
    """Hash of everything that the boxes of a clip depend on; its path is not among it."""
    row = {k: v for k, v in asdict(clip).items() if k not in ("name", "source", "labels")}
    content: object = clip.source
    if not clip.is_address:
        content = stamp_source(Path(clip.source))
        if len(content) == 1:
            content = [content[0][1:]]  # a file that was renamed is the same
    text = json.dumps([content, row, identity], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_records(path: Path) -> dict[str, ClipRecord]:
    """The newest record of every clip; a line that was cut off by a kill is ignored."""
    records = {}
    known = ClipRecord.__dataclass_fields__
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            values = json.loads(line)
            record = ClipRecord(**{k: v for k, v in values.items() if k in known})
        except (AttributeError, TypeError, ValueError):
            continue
        records[record.name] = record
    return records


def _check_out(batch: Batch) -> None:
    out = batch.config.out
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; {OUT_ADVICE}")
    if (out / RECORDS).exists():
        return
    paths = [batch.path(clip, name) for clip in batch.clips for name in batch.config.formats]
    taken = [path for path in (*paths, out / SUMMARY) if path.exists()]
    if taken:
        raise OutputError(
            f"{taken[0]} exists and is of no batch, as are {len(taken) - 1} others; {OUT_ADVICE}"
        )


def run_batch(
    batch: Batch, on_record: Callable[[BatchClip, ClipRecord], object] = lambda clip, record: None
) -> None:
    """Track every clip that is not done; what is finished stays, however this ends.

    `on_record` is called with every clip that finishes. `batch.records` is brought up to date.

    Raises:
        OutputError: the folder cannot be written to.
        ClusterError: the cluster does not answer or cannot be used.
    """
    config = batch.config
    times_s: list[float] = []

    def receive(clip: BatchClip, result: Any, failure: TaskFailure | None, worker: str) -> None:
        record = _finish(batch, clip, result, failure, worker, records)
        times_s.append(record.seconds)
        on_record(clip, record)

    def groups() -> Iterator[list[BatchClip]]:
        waiting = batch.pending()
        while waiting:
            count = config.group
            if not count:
                mean_s = sum(times_s) / len(times_s) if times_s else GROUP_S
                count = min(MOST_IN_GROUP, max(1, round(GROUP_S / max(mean_s, 1e-3))))
            yield waiting[:count]
            waiting = waiting[count:]

    target = "siamtrack.evaluation.clip_worker:track_clip"
    limits: dict[str, Any] = {
        "start_timeout_s": START_TIMEOUT_S,
        "task_timeout_s": config.frame_timeout_s,
        "total_timeout_s": config.clip_timeout_s,
        "threads": config.threads,
    }
    with _appending(config.out / RECORDS) as records, _quiet_conversion():
        try:
            if config.scheduler:
                from siamtrack.utils.cluster import ClusterPool

                with ClusterPool(
                    target,
                    batch.setup,
                    config.scheduler,
                    str(config.out.resolve()),
                    files=_weights_files(batch),
                    retries=config.retries,
                    **limits,
                ) as cluster:
                    cluster.run(groups(), receive)
            else:
                pending = batch.pending()
                with WorkerPool(
                    target,
                    batch.setup,
                    workers=max(1, min(config.workers, len(pending))),
                    logs=config.out / "logs",
                    retries=config.retries,
                    **limits,
                ) as pool:
                    pool.run(
                        [[clip] for clip in pending],
                        on_result=lambda worker, clip, result, failure: receive(
                            clip, result, failure, str(worker + 1)
                        ),
                    )
        finally:
            write_summary(batch)


def _weights_files(batch: Batch) -> dict[str, bytes]:
    """Weights that are not bundled, with card and graphs, for machines that do not have them."""
    if not batch.setup["folder"]:
        return {}
    file = Path(batch.setup["folder"]) / batch.setup["weights"]
    beside = [file, card_path(file), *(graph_path(file, name) for name in GRAPHS)]
    return {path.name: path.read_bytes() for path in beside if path.is_file()}


@contextmanager
def _appending(path: Path) -> Iterator[Any]:
    """Open the records for whole lines at the end."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+", buffering=0) as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a line that was cut off
                    file.write(b"\n")
            yield file
    except OSError as error:
        if isinstance(error, SiamTrackError):
            raise
        raise OutputError(
            f"cannot write to {path}: {error.strerror or error}; {OUT_ADVICE}"
        ) from error


@contextmanager
def _quiet_conversion() -> Iterator[None]:
    """Without warnings that would come again with every clip."""
    conversion = logging.getLogger("siamtrack.data.convert")
    before = conversion.disabled
    conversion.disabled = True
    try:
        yield
    finally:
        conversion.disabled = before


def _finish(
    batch: Batch,
    clip: BatchClip,
    result: Mapping[str, Any] | None,
    failure: TaskFailure | None,
    worker: str,
    records: Any,
) -> ClipRecord:
    """Write the files of a clip, then its record."""
    key = batch.keys[clip.name]
    if result is None:
        status: Status = "timeout" if failure is not None and failure.kind == "hung" else "failed"
        record = ClipRecord(clip.name, key, status, worker=worker, error=str(failure))
    else:
        counted = {name: result[name] for name in COUNTS}
        record = ClipRecord(
            clip.name, key, "done", **counted, seconds=result["seconds"], worker=worker
        )
        try:
            _write_clip(batch, clip, result)
        except OutputError:
            raise
        except SiamTrackError as error:
            record = replace(record, status="failed", error=str(error))
    records.write(to_bytes(json.dumps(asdict(record), ensure_ascii=False) + "\n"))
    batch.records[clip.name] = record
    return record


def _write_clip(batch: Batch, clip: BatchClip, result: Mapping[str, Any]) -> None:
    path = batch.path(clip, "csv")
    try:
        with atomic_path(path) as part:
            part.write_text(result["table"], encoding="utf-8", newline="")
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; {OUT_ADVICE}"
        ) from error
    for name in batch.config.formats:
        out = batch.path(clip, name)
        if name == "csv":
            continue
        if out.is_dir():
            shutil.rmtree(out)  # of an earlier run of this batch
        convert(
            path,
            out,
            name,
            source_format="csv",
            frame_wh=tuple(result["frame_wh"]),
            frame_count=result["frame_count"],
            fps=result["fps"],
            labels=clip.labels,
            overwrite=True,
        )


def write_summary(batch: Batch) -> None:
    """Write OUT/summary.csv, a line per clip in the order of the manifest.

    Raises:
        OutputError: it cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["name", "status", *COUNTS, "error"])
    for clip in batch.clips:
        record = batch.record(clip)
        if record is None:
            table.writerow([clip.name, "pending", *[""] * len(COUNTS), ""])
        else:
            row = asdict(record)
            table.writerow([clip.name, *(row[name] for name in ("status", *COUNTS, "error"))])
    atomic_write(batch.config.out / SUMMARY, text.getvalue(), OUT_ADVICE)


class BatchProgress(Closing):
    """A bar on stderr: clips that are finished, failures, and frames per second."""

    def __init__(self, batch: Batch) -> None:
        is_terminal = sys.stderr.isatty()
        pending = len(batch.pending())
        self._failed = self._frames = 0
        self._started_s = time.monotonic()
        self._bar: tqdm[NoReturn] = tqdm(
            total=len(batch.clips),
            initial=len(batch.clips) - pending,
            unit=" clips",
            file=sys.stderr,
            mininterval=TERMINAL_INTERVAL_S if is_terminal else FILE_INTERVAL_S,
            dynamic_ncols=True,
            disable=pending == 0,
        )

    def on_record(self, clip: BatchClip, record: ClipRecord) -> None:
        """Count a clip as finished; see `run_batch`."""
        self._failed += record.status != "done"
        self._frames += record.frames
        rate = self._frames / max(time.monotonic() - self._started_s, 1e-6)
        failed = f"{self._failed} failed, " if self._failed else ""
        self._bar.set_postfix_str(f"{failed}{rate:.0f} fps", refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Leave the last state on the screen; may be called again."""
        self._bar.close()
