"""Success AUC of tracker options on every sequence, the sequences spread over processes.

A search tracks the same sequences hundreds of times with one network. Each worker process therefore
always gets the same sequences, compiles the network once and keeps decoded frames in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from siamtrack.api import options_for, read_source
from siamtrack.data.datasets import open_dataset
from siamtrack.data.sequence import VideoSequence
from siamtrack.engines import make_engine
from siamtrack.errors import EvaluationError
from siamtrack.evaluation.runs import overlaps_of, success_auc, track_sequence
from siamtrack.evaluation.views import PLAIN, view_frames, view_of
from siamtrack.tracking.tracker import Tracker
from siamtrack.types import Image
from siamtrack.utils.files import Closing
from siamtrack.utils.workers import TaskFailure, WorkerPool
from siamtrack.video.random_access import Frames

AucBySequence = dict[str, float]


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """What is tracked, and with what.

    Attributes:
        weights: name or file.
        sequences: data set, `kind:root`.
        fixed: tracker options over those of the weights' card, the same in every trial.
        engine: see `siamtrack.engines.make_engine`.
        max_frames: frames of each view of a sequence that are tracked; 0 for all.
        memory_mb: decoded frames that all processes together may keep; the rest is decoded again
            in every trial.
        views: of each sequence that are tracked, see `siamtrack.evaluation.views`.
    """

    weights: str
    sequences: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    engine: str = "auto"
    max_frames: int = 0
    memory_mb: int = 3000
    views: tuple[str, ...] = (PLAIN,)


class ObjectivePool(Closing):
    """Evaluates options in worker processes, each with one thread and its share of the sequences.

    Example:
        >>> with ObjectivePool(config, {"walk": 120, "run": 80}, workers=2) as pool:
        ...     pool.evaluate({"window_influence": 0.3})  # doctest: +SKIP
        {'walk': 0.71, 'run': 0.64}

    `frames` is the number of frames by name of the sequence, in all its views, which balances the
    load. No more processes start than there are sequences.
    """

    def __init__(self, config: TuneConfig, frames: Mapping[str, int], workers: int) -> None:
        self._names = tuple(frames)
        self._shares = split_by_length(frames, workers)
        self._memory_mb = config.memory_mb / len(self._shares)
        self._pool = WorkerPool(
            "siamtrack.tuning.objective:run_task",
            config,
            workers=len(self._shares),
            start_timeout_s=None,
            task_timeout_s=None,
        )
        self.engine = str(self._run(None)[0]["engine"])

    def evaluate(self, options: Mapping[str, Any]) -> AucBySequence:
        """Success AUC by sequence, mean over its views, in the order of `frames`."""
        found = {name: auc for part in self._run(options) for name, auc in part["aucs"].items()}
        return {name: found[name] for name in self._names}

    def close(self) -> None:
        """End the processes."""
        self._pool.close()

    def _run(self, options: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        results = []

        def store(
            worker: int, task: Any, result: dict[str, Any], failure: TaskFailure | None
        ) -> None:
            if failure is not None:
                raise EvaluationError(
                    f"{failure}; the same command continues after the last finished trial, with "
                    "fewer --workers or less --memory-mb if memory ran out"
                )
            results.append(result)

        common = {"options": options and dict(options), "memory_mb": self._memory_mb}
        tasks = [[{"names": names, **common}] for names in self._shares]
        self._pool.run(tasks, on_result=store, pinned=True)
        return results


def split_by_length(frames: Mapping[str, int], workers: int) -> list[list[str]]:
    """Names for each process, about as many frames each: the longest first, to the least loaded."""
    shares: list[list[str]] = [[] for _ in range(max(1, min(workers, len(frames))))]
    loads = [0] * len(shares)
    for name in sorted(frames, key=lambda n: (-frames[n], n)):
        least = loads.index(min(loads))
        shares[least].append(name)
        loads[least] += frames[name]
    return shares


# --- In a worker process --------------------------------------------------------------------------


def run_task(
    setup: Mapping[str, Any], task: Mapping[str, Any], heartbeat: Callable[[int], None]
) -> dict[str, Any]:
    """Evaluate the options of one task; without options, only name the engine.

    `setup` is a `TuneConfig` as plain data; a task has "options", and "names" and "memory_mb" of
    the process.
    """
    heartbeat(0)
    cv2.setNumThreads(1)
    objective = _objective(json.dumps(setup), tuple(task["names"]), task["memory_mb"])
    options = task["options"]
    aucs = {} if options is None else objective.evaluate(options)
    return {"engine": objective.engine, "aucs": aucs}


@lru_cache(maxsize=1)
def _objective(setup_json: str, names: tuple[str, ...], memory_mb: float) -> Objective:
    """The objective of this process, kept from task to task."""
    return Objective(TuneConfig(**json.loads(setup_json)), names, memory_mb)


class Objective:
    """Tracks the sequences `names` in this process, which may keep `memory_mb` of their frames."""

    def __init__(self, config: TuneConfig, names: Sequence[str], memory_mb: float) -> None:
        self._source, tuned = read_source(config.weights)
        self._present = {**tuned, **config.fixed}
        self._engine = make_engine(self._source, engine=config.engine, threads=1)
        self.engine = f"{self._engine.name} {self._engine.precision}"
        dataset = open_dataset(config.sequences)
        # Sequences are cached as a whole, as many as fit.
        left_bytes = memory_mb * 1e6
        self.sequences: list[VideoSequence] = []
        self._views: dict[str, list[VideoSequence]] = {}
        for name in names:
            sequence = dataset[name]
            numbers = [view_frames(v, sequence.visible, config.max_frames) for v in config.views]
            size_bytes = sequence.read(0).nbytes * len(np.unique(np.concatenate(numbers)))
            if size_bytes <= left_bytes:
                left_bytes -= size_bytes
                sequence = replace(sequence, frames=CachedFrames(sequence.frames))
            self.sequences.append(sequence)
            self._views[name] = [view_of(sequence, v, config.max_frames) for v in config.views]

    def evaluate(self, options: Mapping[str, Any]) -> AucBySequence:
        """Track every view of every sequence once with `options` over the present ones."""
        tracker = Tracker(self._engine, options_for(self._source, {**self._present, **options}))
        return {
            name: float(
                np.mean([success_auc(overlaps_of(v, *track_sequence(tracker, v))) for v in views])
            )
            for name, views in self._views.items()
        }


class CachedFrames:
    """`Frames` that are decoded once and kept; readers must not change them."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._kept: dict[int, Image] = {}
        self.path, self.key = frames.path, frames.key

    def __len__(self) -> int:
        return len(self._frames)

    def read(self, index: int) -> Image:
        """Decode one frame, or return the kept one."""
        return next(self.iterate([index]))

    def iterate(self, indices: Iterable[int]) -> Iterator[Image]:
        """Yield several frames; those that are not kept are decoded in one go."""
        wanted = list(indices)
        new = self._frames.iterate([index for index in wanted if index not in self._kept])
        for index in wanted:
            if index not in self._kept:
                self._kept[index] = next(new)
            yield self._kept[index]
