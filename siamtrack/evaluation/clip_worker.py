"""One clip with any number of targets in a worker process, for `batch` and `many_targets`."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2

from siamtrack._version import __version__
from siamtrack.api import DEFAULT_WEIGHTS, load, load_multi
from siamtrack.evaluation.trackers import TRACKING_REVISION
from siamtrack.models.weights import find_weights, list_weights
from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.result import Result
from siamtrack.utils.files import sha256
from siamtrack.video.frames import Frame
from siamtrack.video.run import run
from siamtrack.video.source import open_source
from siamtrack.video.stretch import Stretch
from siamtrack.video.tables import CSV_HEADER, csv_rows


def track_clip(
    setup: Mapping[str, Any], task: Mapping[str, Any], heartbeat: Callable[[int], None]
) -> dict[str, Any]:
    """Track one clip; returns the table of boxes as text, counts, and facts of the clip.

    `setup` is that of `worker_setup`. `task` has "source", "starts" (frame and xywh px of every
    target, by frame), "start_frame", "end_frame" and "step".
    """
    tracker = _tracker(json.dumps(setup, sort_keys=True))
    tracker.reset()
    heartbeat(0)  # the start of the process is over
    started_s = time.perf_counter()
    table, statuses, scores = [f"{CSV_HEADER}\n"], Counter[str](), list[float]()

    def write(frame: Frame, results: Mapping[int, Result]) -> None:
        table.append(csv_rows(frame.index, frame.time_s, results))
        statuses.update(result.status for result in results.values())
        scores.extend(result.score for result in results.values())

    # Targets are numbered in the order in which they begin.
    boxes: dict[int, dict[int, Any]] = {}
    starts = sorted(task["starts"], key=lambda start: start[0])
    for target, (frame_number, box) in enumerate(starts):
        boxes.setdefault(frame_number, {})[target] = box
    part = Stretch(task["start_frame"], task["end_frame"], every=task["step"])
    with open_source(task["source"], live=False) as source:
        frames = _reporting(part.frames_of(source), heartbeat)
        stats = run(frames, tracker, later_boxes=boxes, writers=[write])
        return {
            "table": "".join(table),
            "frames": stats.frames,
            "unreadable": source.unreadable,
            "targets": len(starts),
            **{status: statuses[status] for status in ("tracked", "uncertain", "lost")},
            "mean_score": round(sum(scores) / len(scores), 4),
            "seconds": round(time.perf_counter() - started_s, 4),
            "frame_wh": source.frame_wh,
            "frame_count": source.frame_count,
            "fps": source.fps,
        }


def _reporting(frames: Iterable[Frame], heartbeat: Callable[[int], None]) -> Iterator[Frame]:
    for frame in frames:
        heartbeat(frame.index)
        yield frame


def worker_setup(
    weights: str | None, device: str, engine: str, threads: int, options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a process needs to make the tracker, and everything that its boxes depend on.

    The tracker is made once, which fixes its engine: engines differ in the last digits.

    Raises:
        ConfigError, WeightsError, DeviceError, EngineError: see `siamtrack.load`.
    """
    name = DEFAULT_WEIGHTS if weights is None else weights
    made = load(name, device=device, engine=engine, threads=threads, **options).engine
    file = find_weights(name)
    is_bundled = name in list_weights()
    setup = {
        "folder": "" if is_bundled else str(file.resolve().parent),
        "weights": name if is_bundled else file.name,
        "device": str(made.device),
        "engine": made.name if made.name == "torch" else f"{made.name}:{made.precision}",
        "threads": threads,
        "options": dict(options),
    }
    identity = {
        "weights_sha256": sha256(file),
        "siamtrack": __version__,
        "tracking_revision": TRACKING_REVISION,
        **{name: setup[name] for name in ("device", "engine", "options")},
    }
    return setup, identity


@lru_cache(maxsize=1)
def _tracker(setup: str) -> MultiTracker:
    """Kept from clip to clip: loading takes as long as tracking hundreds of frames."""
    given = json.loads(setup)
    cv2.setNumThreads(given["threads"])
    weights = given["weights"]
    return load_multi(
        Path(given["folder"]) / weights if given["folder"] else weights,
        device=given["device"],
        engine=given["engine"],
        threads=given["threads"],
        **given["options"],
    )
