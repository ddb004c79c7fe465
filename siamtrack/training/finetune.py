"""Fine-tune weights on one's own clips: crop, train, export, compare and calibrate in one go.

    siamtrack finetune clips --out mine
    siamtrack track clip.mp4 --weights mine/siamtrack-lite0.safetensors

Each step is a command of its own as well: `prepare`, `train`, `export`, `eval`, `calibrate`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from siamtrack.api import load
from siamtrack.data.cache import CacheConfig, CropCache, prepare
from siamtrack.data.datasets import KINDS, open_dataset
from siamtrack.data.pairs import held_out_tracks, track_weights
from siamtrack.data.sequence import VideoSequence
from siamtrack.errors import DatasetError, EngineError
from siamtrack.evaluation.calibration import (
    Calibration,
    leave_one_out,
    log_loss,
    observe,
    probabilities,
    write_calibration,
)
from siamtrack.evaluation.calibration import fit as fit_calibration
from siamtrack.evaluation.runs import overlaps_of, success_auc, track_sequence
from siamtrack.export.onnx import export_weights, require_exporter
from siamtrack.models.weights import (
    config_class,
    config_to_dict,
    open_weights,
    read_card,
    write_card,
)
from siamtrack.training.config import TrainConfig, load_config
from siamtrack.training.train import train

logger = logging.getLogger(__name__)

RATE, WARMUP_STEPS, CHECKPOINT_EVERY = 2e-4, 50, 100
HELD_OUT = 0.1
"""Fraction of the clips that is held out; at least one of three or more."""
_SHIFT_PER_SIZE = 72 / 256  # `PairConfig.search_shift_px` at the default search size


@dataclass(frozen=True, slots=True)
class FineTuned:
    """What came out.

    Attributes:
        weights: file of the weights; the graphs of the fast engines lie beside it.
        notes: what was held out, measured and left out, one line each, for the user.
        success_auc: on the clips that were held out, of the initial weights and of the new ones;
            None where no clip was.
    """

    weights: Path
    notes: tuple[str, ...]
    success_auc: tuple[float, float] | None


def finetune(
    clips: str,
    out: Path,
    *,
    start: str = "siamtrack-lite0",
    steps: int = 1000,
    assignments: Sequence[str] = (),
    resume: bool = False,
) -> FineTuned:
    """Train weights further on clips with boxes, and make them ready for `siamtrack.load`.

    Args:
        clips: folder of clips with their boxes beside them, or a data set `kind:root`.
        out: folder of the run; the crops go into its folder `cache`.
        start: name or file of the initial weights.
        steps: of training, with batches of 32 pairs.
        assignments: "section.key=value" over the configuration of `fine_tuning_config`.
        resume: continue a run that was stopped.

    Raises:
        SiamTrackError: as `prepare` and `train` raise it.
    """
    # 1. Crops of all targets, and which clips are held out.
    known = clips.partition(":")[0] in KINDS and ":" in clips
    dataset = open_dataset(clips if known else f"folder:{clips}")
    cache = prepare([dataset.spec], out / "cache", CacheConfig())
    config = fine_tuning_config(cache, start, steps, assignments)
    names = _held_out_names(config, cache)
    notes = [f"held out: {', '.join(names) or 'no clip, of so few'}"]

    # 2. Training.
    weights = train(config, out, resume=resume)

    # 3. Graphs for the fast engines.
    try:
        require_exporter()
        export_weights(weights, overwrite=True)
    except EngineError as error:
        notes.append(f"not exported, so that only the slower engine torch runs it: {error}")

    # 4. Before against after, and the score, on the clips that were held out.
    held_out = [s for s in (dataset[name] for name in names) if s.visible.sum() > 1]
    if not held_out:
        notes.append("not measured, because no clip was held out; judge it on a clip of your own")
        return FineTuned(weights, tuple(notes), None)
    before, after = (_success_auc(source, held_out) for source in (start, str(weights)))
    notes.append(
        f"success AUC on what was held out: {before:.3f} with {Path(start).name}, {after:.3f} now"
        + ("; it did not get better, take fewer steps or more clips" if after <= before else "")
    )
    notes.append(_calibrate(weights, held_out))
    card = read_card(weights)
    figures = {**card.figures, "held_out_success_auc": round(after, 4)}
    figures["held_out_success_auc_before"] = round(before, 4)
    write_card(weights, replace(card, figures=figures))
    return FineTuned(weights, tuple(notes), (before, after))


def fine_tuning_config(
    cache: CropCache, start: str, steps: int, assignments: Sequence[str] = ()
) -> TrainConfig:
    """Configuration that trains weights further: their network, a low rate, batch norm frozen.

    Raises:
        ConfigError, WeightsError: no such weights, or an assignment that is none.
    """
    file = open_weights(start)
    values = config_to_dict(file.config)
    defaults = config_to_dict(config_class(file.architecture)())
    own = {key: value for key, value in values.items() if value != defaults[key]}
    clips = len({track.image or track.name for track in cache.tracks})
    given = {
        "cache": str(cache.folder),
        "network.architecture": file.architecture,
        "network.start": start,
        **{f"network.config.{key}": value for key, value in own.items()},
        "pairs.search_shift_px": round(_SHIFT_PER_SIZE * file.config.search_size_px, 1),
        "optim.rate": RATE,
        "optim.warmup_steps": WARMUP_STEPS,  # the same for any length: a run may be made longer
        "optim.frozen_batch_norm": True,
        "optim.frozen_stages": 0 if file.architecture == "siamfc" else 3,
        "loop.steps": steps,
        "loop.checkpoint_every": CHECKPOINT_EVERY,
        "validation.held_out": max(HELD_OUT, 1 / clips) if clips >= 3 else 0.0,
    }
    texts = [f"{key}={json.dumps(value)}" for key, value in given.items()]
    return load_config(None, (*texts, *assignments))


def _held_out_names(config: TrainConfig, cache: CropCache) -> list[str]:
    """Names of the sequences that are not trained on."""
    weights = track_weights(cache, config.pairs)
    out = held_out_tracks(cache, weights, config.validation.held_out) & (weights > 0)
    return [track.name for track, is_out in zip(cache.tracks, out, strict=True) if is_out]


def _success_auc(weights: str, sequences: Sequence[VideoSequence]) -> float:
    """Mean over sequences; the first frame does not count."""
    tracker = load(weights)
    return float(
        np.mean([success_auc(overlaps_of(s, *track_sequence(tracker, s))) for s in sequences])
    )


def _calibrate(weights: Path, sequences: Sequence[VideoSequence]) -> str:
    """Fit the score, if that is better on sequences left out than what was carried over.

    Returns:
        What was done, in words.
    """
    tracker = load(weights)
    observed = observe(tracker.engine, tracker.options, sequences)
    carried_over = probabilities(observed, Calibration.from_options(tracker.options))
    kept = "calibration of the score carried over from the initial weights"
    try:
        left_out, fitted = leave_one_out(observed), fit_calibration(observed)
    except DatasetError as error:
        return f"{kept}: {error}"
    before, after = log_loss(carried_over, observed), log_loss(left_out, observed)
    if after >= before:
        return f"{kept}: a fit is no better on clips left out"
    write_calibration(str(weights), fitted, tracker.options)
    return (
        f"score calibrated on {len(sequences)} clips that were held out (log loss on clips left "
        f"out of the fit {after:.3f}, before {before:.3f})"
    )
