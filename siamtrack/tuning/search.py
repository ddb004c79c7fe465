"""One search of tracker options, from weights and sequences to a recommendation."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from siamtrack.api import DEFAULT_WEIGHTS, options_for, read_source
from siamtrack.data.datasets import open_dataset, parse_spec
from siamtrack.data.sequence import VideoSequence, stamp_files
from siamtrack.errors import ConfigError, DatasetError
from siamtrack.evaluation.groups import SequenceGroup, own_groups, read_groups
from siamtrack.evaluation.trackers import TRACKING_REVISION
from siamtrack.evaluation.views import PLAIN, parse_views, view_frames
from siamtrack.models.weights import find_weights
from siamtrack.tracking.old_names import rename_options
from siamtrack.tracking.options import TrackerOptions
from siamtrack.tuning.crossvalidation import check_folds
from siamtrack.tuning.objective import AucBySequence, ObjectivePool, TuneConfig
from siamtrack.tuning.ranges import Range, read_ranges
from siamtrack.tuning.report import TABLE, write_report, write_trials
from siamtrack.tuning.study import Search
from siamtrack.types import IntArray
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
    views: Sequence[str] = (PLAIN,),
    memory_mb: int = 3000,
    seed: int = 0,
    engine: str = "auto",
    progress: bool = False,
) -> Path:
    """Search tracker options on sequences, and cross-validate the choice.

    An interrupted search continues, and one with fewer trials than asked for is extended. The
    report is written however it ends.

    Args:
        out: folder of the search.
        sequences: data set, `kind:root`. Report figures on other sequences: these choose. Beside
            clips, `groups.json` says which belong together, see `siamtrack.evaluation.groups`.
        weights: name or file.
        assignments: `option=value` of the tracker, over those of the weights' card, in every trial.
        ranges_file: TOML file, see `read_ranges`.
        ranges: texts, see `read_ranges`.
        trials: how many options are tried besides the present ones.
        folds: of the cross-validation, see `cross_validate_choice`.
        workers: processes that track, one thread each.
        max_frames: of each view of a sequence; 0 for all.
        views: of each sequence, see `siamtrack.evaluation.views`; the objective is their mean.
        memory_mb: see `TuneConfig`.
        seed: of what is tried and how sequences are split.
        engine: see `siamtrack.engines.make_engine`.
        progress: draw a bar on standard error.

    Returns:
        The file of the table.

    Raises:
        ConfigError: numbers, options or ranges that cannot be used; Optuna is not installed.
        DatasetError: no sequence whose target is seen in two frames; a damaged `groups.json`.
        WeightsError: the weights cannot be used.
        EvaluationError: a worker process failed.
        OutputError: the folder cannot be used, or holds a search of something else.
    """
    # 1. Check everything before a process starts.
    _check_at_least(1, trials=trials, workers=workers)
    _check_at_least(0, max_frames=max_frames, memory_mb=memory_mb)
    fixed = rename_options(parse_assignments(assignments))
    views = parse_views(views)
    config = TuneConfig(weights, sequences, fixed, engine, max_frames, memory_mb, views)
    source, tuned = read_source(config.weights)
    present = options_for(source, {**tuned, **config.fixed})
    searched = read_ranges(present, ranges_file, ranges)
    usable = _usable_sequences(config)
    groups = _groups_of(sequences, list(usable))
    check_folds(folds, len(usable), len({found.group for found in groups.values()}))
    frames = {name: sum(map(len, _view_frames(config, s))) for name, s in usable.items()}

    with ObjectivePool(config, frames, workers) as pool:
        identity = _identity_of(config, present, searched, usable, pool.engine)
        search = Search(out, searched, identity, seed=seed)

        def evaluate(options: Mapping[str, Any]) -> AucBySequence:
            # Contradictory options are refused here, before a process gets them.
            type(present).from_mapping({**asdict(present), **options})
            return pool.evaluate(options)

        # 2. The present options, then the trials.
        try:
            search.begin(asdict(present), evaluate)
            before = len(search.trials) - 1
            with tqdm(total=trials, initial=before, unit="trial", disable=not progress) as bar:

                def after_each() -> None:
                    finished = search.trials
                    write_trials(finished, None, identity, out)
                    bar.set_postfix(best=f"{max(t.objective for t in finished):.4f}")
                    bar.update()

                search.run(evaluate, trials, after_each)
        # 3. The report, however the search ends.
        finally:
            finished = search.trials
            if finished:
                write_report(finished, identity, out, folds=folds, groups=groups, seed=seed)
    return out / TABLE


def _check_at_least(least: int, **numbers: int) -> None:
    for name, value in numbers.items():
        if value < least:
            raise ConfigError(f"{name} is {value}; give {least} or more")


def _identity_of(
    config: TuneConfig,
    present: TrackerOptions,
    searched: Mapping[str, Range],
    usable: Mapping[str, VideoSequence],
    engine: str,
) -> dict[str, Any]:
    """Everything that figures depend on: only trials with the same identity are comparable."""
    identity = {
        "weights": sha256(find_weights(config.weights)),
        "options": asdict(present),
        "ranges": {name: asdict(found) for name, found in searched.items()},
        "sequences": {
            name: hashlib.sha256(
                sequence.boxes.tobytes() + json.dumps(stamp_files(sequence.frames)).encode()
            ).hexdigest()[:16]
            for name, sequence in usable.items()
        },
        "max_frames": config.max_frames,
        "engine": engine,
        "tracking_revision": TRACKING_REVISION,
    }
    if config.views != (PLAIN,):  # searches of older versions had no views
        identity["views"] = list(config.views)
    return identity


def _usable_sequences(config: TuneConfig) -> dict[str, VideoSequence]:
    """Sequences that show their target in at least two frames of every view, by name."""
    found = {}
    for sequence in open_dataset(config.sequences):
        if any(sequence.visible[n].sum() < 2 for n in _view_frames(config, sequence)):
            logger.warning(
                "sequence %s is left out: its target is not seen in two frames", sequence.name
            )
        else:
            found[sequence.name] = sequence
    if not found:
        raise DatasetError(
            f"{config.sequences} shows no target in two frames; give sequences with truth"
        )
    return found


def _groups_of(spec: str, names: Sequence[str]) -> dict[str, SequenceGroup]:
    """Which sequences belong together; those of data sets that do not say it stand alone."""
    data = parse_spec(spec)
    return read_groups(data.root, names) if data.kind == "folder" else own_groups(names)


def _view_frames(config: TuneConfig, sequence: VideoSequence) -> list[IntArray]:
    """Numbers of the frames of every view."""
    return [view_frames(v, sequence.visible, config.max_frames) for v in config.views]
