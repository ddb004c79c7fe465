"""A whole search in one call: from weights and sequences to a recommendation."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from siamtrack.api import DEFAULT_WEIGHTS, options_for, read_source
from siamtrack.data.datasets import open_dataset
from siamtrack.data.sequence import VideoSequence as TargetSequence
from siamtrack.errors import ConfigError, DatasetError
from siamtrack.evaluation.trackers import TRACKING_REVISION
from siamtrack.models.weights import find_weights
from siamtrack.tracking.options import TrackerOptions, rename_options
from siamtrack.tuning.crossvalidation import check_folds
from siamtrack.tuning.objective import Job, JudgePool
from siamtrack.tuning.ranges import Range, read_ranges
from siamtrack.tuning.report import TABLE, write_report, write_trials
from siamtrack.tuning.study import Judging, Search
from siamtrack.utils.config import parse_assignments
from siamtrack.utils.files import sha256

logger = logging.getLogger(__name__)


def tune(
    out: Path,
    sequences: str,
    *,
    weights: str = DEFAULT_WEIGHTS,
    assignments: Sequence[str] = (),
    ranges_file: Path | None = None,
    ranges: Sequence[str] = (),
    trials: int = 100,
    folds: int = 5,
    workers: int = 1,
    max_frames: int = 0,
    memory_mb: int = 3000,
    seed: int = 0,
    engine: str = "auto",
    progress: bool = False,
) -> Path:
    """Search tracker options on sequences, and judge the choice by cross-validation.

    What is finished in `out` is not repeated: a search that was stopped or killed goes on, and one
    with more trials than it has is extended. However it ends, the report tells what is finished.

    Args:
        out: folder of the search.
        sequences: data set, `kind:root`. The search uses it up: report figures on others.
        weights: name or file.
        assignments: `option=value` of the tracker, over those of the weights' card, in every trial.
        ranges_file: see `read_ranges`.
        ranges: see `read_ranges`.
        trials: how many options are tried besides the present ones.
        folds: of the cross-validation, see `judge_choice`.
        workers: processes that track, one thread each.
        max_frames: of each sequence; 0 for all.
        memory_mb: see `Job`.
        seed: of what is tried and how sequences are split.
        engine: see `siamtrack.engines.make_engine`.
        progress: draw a bar on standard error.

    Returns:
        The table.

    Raises:
        ConfigError: numbers, options or ranges that cannot be used; Optuna is not installed.
        DatasetError: no or too few sequences whose target is seen in two frames.
        WeightsError: the weights cannot be used.
        EvaluationError: a worker process failed.
        OutputError: the folder cannot be used, or holds a search of something else.
    """
    _check_numbers(trials=trials, workers=workers, max_frames=max_frames, memory_mb=memory_mb)
    fixed = rename_options(parse_assignments(assignments))
    job = Job(weights, sequences, fixed, engine, max_frames, memory_mb)
    source, tuned = read_source(job.weights)
    present = options_for(source, {**tuned, **job.fixed})
    searched = read_ranges(present, ranges_file, ranges)
    usable = _usable(job)
    check_folds(folds, len(usable))
    frames = {name: min(max_frames or len(s), len(s)) for name, s in usable.items()}
    with JudgePool(job, frames, workers) as pool:
        identity = _identity(job, present, searched, usable, pool.engine)
        search = Search(out, searched, identity, seed=seed)
        judge = _checked(present, pool.judge)
        try:
            search.begin(asdict(present), judge)
            before = len(search.trials) - 1
            with tqdm(total=trials, initial=before, unit="trial", disable=not progress) as bar:

                def after_each() -> None:
                    finished = search.trials
                    write_trials(finished, None, identity, out)
                    bar.set_postfix(best=f"{max(t.objective for t in finished):.4f}")
                    bar.update()

                search.run(judge, trials, after_each)
        finally:
            finished = search.trials
            if finished:
                write_report(finished, identity, out, folds=folds, seed=seed)
    return out / TABLE


def _check_numbers(**values: int) -> None:
    for name, value in values.items():
        least = 1 if name in ("trials", "workers") else 0
        if value < least:
            raise ConfigError(f"{name} is {value}; give {least} or more")


def _usable(job: Job) -> dict[str, TargetSequence]:
    """Sequences with a box to start from and one to be judged by, by name."""
    found = {}
    for sequence in open_dataset(job.sequences):
        visible = np.flatnonzero(sequence.visible)
        if len(visible) < 2 or (job.max_frames and visible[1] >= visible[0] + job.max_frames):
            logger.warning(
                "sequence %s is left out: its target is not seen in two frames", sequence.name
            )
        else:
            found[sequence.name] = sequence
    if not found:
        raise DatasetError(
            f"{job.sequences} shows no target in two frames; give sequences with truth"
        )
    return found


def _checked(present: TrackerOptions, judge: Judging) -> Judging:
    """Refuse options that contradict each other before a process gets them."""

    def checked(options: Mapping[str, Any]) -> dict[str, float]:
        type(present).from_mapping({**asdict(present), **options})
        return judge(options)

    return checked


def _identity(
    job: Job,
    present: TrackerOptions,
    ranges: Mapping[str, Range],
    sequences: Mapping[str, TargetSequence],
    engine: str,
) -> dict[str, Any]:
    """What figures depend on; trials of searches that differ in it cannot be compared."""
    truths = {
        name: hashlib.sha256(sequence.boxes.tobytes()).hexdigest()[:16]
        for name, sequence in sequences.items()
    }
    return {
        "weights": sha256(find_weights(job.weights)),
        "options": asdict(present),
        "ranges": {name: asdict(found) for name, found in ranges.items()},
        "sequences": truths,
        "max_frames": job.max_frames,
        "engine": engine,
        "tracking_revision": TRACKING_REVISION,
    }
