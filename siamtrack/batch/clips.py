"""One clip in a worker process: the target of the pools of `run`."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2

from siamtrack.api import load_multi
from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.result import Result
from siamtrack.video.frames import Frame
from siamtrack.video.run import LaterTargets, run
from siamtrack.video.source import Source, open_source
from siamtrack.video.tables import CSV_HEADER, csv_rows


def track_clip(
    setup: Mapping[str, Any], task: Mapping[str, Any], heartbeat: Callable[[int], None]
) -> dict[str, Any]:
    """Track one clip, a `manifest.Clip` from JSON; returns the table and facts of the clip."""
    tracker = _tracker(json.dumps(setup, sort_keys=True))
    tracker.reset()
    heartbeat(0)  # the start of the process is over
    started_s = time.perf_counter()
    table, statuses, scores = [f"{CSV_HEADER}\n"], Counter[str](), list[float]()

    def write(frame: Frame, results: Mapping[int, Result]) -> None:
        table.append(csv_rows(frame.index, frame.time_s, results))
        statuses.update(result.status for result in results.values())
        scores.extend(result.score for result in results.values())

    starts = [(frame, box) for frame, box in task["starts"]]
    with open_source(task["source"], live=False) as source:
        later = LaterTargets(tracker, [s for s in starts if s[0] > task["start_frame"]])
        stats = run(
            _every(source, task["start_frame"], task["step"], heartbeat),
            tracker,
            boxes=[box for frame, box in starts if frame == task["start_frame"]],
            writers=[write],
            on_frame=later.on_frame,
            start_frame=task["start_frame"],
            end_frame=task["end_frame"],
        )
        later.check_all_started()
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


def _every(
    source: Source, start_frame: int, step: int, heartbeat: Callable[[int], None]
) -> Iterator[Frame]:
    for frame in source:
        heartbeat(frame.index)
        if (frame.index - start_frame) % step == 0:
            yield frame


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
