"""Make trackers: from weights, an engine and options to a `Tracker` or `MultiTracker`."""

from __future__ import annotations

from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from siamtrack.engines import ModelSource, make_engine
from siamtrack.engines.base import Engine
from siamtrack.errors import explain_missing
from siamtrack.models.unpacked_size import check_unpacked_size
from siamtrack.models.weights import open_weights, weights_text
from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.old_names import rename_options
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions, TrackerOptions
from siamtrack.tracking.redetection import TimeBudget
from siamtrack.tracking.tracker import Tracker

DEFAULT_WEIGHTS = "siamtrack-lite0"
_CHECKPOINT_SUFFIXES = (".pth", ".pt", ".mat")


def load(
    weights: str | PathLike[str] | None = None,
    *,
    device: str = "auto",
    engine: str = "auto",
    threads: int = 0,
    **tracker_options: Any,
) -> Tracker:
    """Make a tracker.

    Args:
        weights: a name (`siamtrack info` lists them), a .safetensors file, or a SiamFC checkpoint
            of another project (.pth state dict, MatConvNet .mat); None for the default.
        device: "auto", "cpu", "cuda", "cuda:0" or "mps".
        engine: "auto" takes the fastest one for the device; or name one, see
            `siamtrack.engines.make_engine`.
        threads: CPU threads of the network; 0 for two, or one where there is one core. PyTorch has
            one number for the whole process, `torch.set_num_threads`.
        **tracker_options: fields of `BoxHeadOptions`, or of `ScalePyramidOptions` for SiamFC.
            What is not given comes from the weights' card, where it was tuned for them.

    Raises:
        WeightsError: the weights are missing, damaged or do not fit.
        ConfigError: an unknown option (with the nearest spelling) or a bad value.
        DeviceError: no such device on this machine.
        EngineError: an engine that is unknown or not installed.
        MissingPackageError: a checkpoint, and torch is not installed.
    """
    made, options = _prepare(weights, device, engine, threads, tracker_options)
    return Tracker(made, options)


def load_multi(
    weights: str | PathLike[str] | None = None,
    *,
    device: str = "auto",
    engine: str = "auto",
    threads: int = 0,
    **tracker_options: Any,
) -> MultiTracker:
    """Make a tracker for many targets; arguments and errors are those of `load`."""
    made, options = _prepare(weights, device, engine, threads, tracker_options)
    budget = TimeBudget(options.budget_ms / 1e3) if options.budget_ms > 0 else None
    return MultiTracker(partial(Tracker, made, options, budget), budget)


def _prepare(
    weights: str | PathLike[str] | None,
    device: str,
    engine: str,
    threads: int,
    given: dict[str, Any],
) -> tuple[Engine, TrackerOptions]:
    source, tuned = read_source(DEFAULT_WEIGHTS if weights is None else weights)
    # Options first: a typo in one is reported before the engine is compiled.
    options = options_for(source, {**tuned, **rename_options(given)})
    return make_engine(source, engine=engine, device=device, threads=threads), options


def options_for(source: ModelSource, given: dict[str, Any]) -> TrackerOptions:
    """Tracker options of the kind that the network needs."""
    kind = ScalePyramidOptions if source.architecture == "siamfc" else BoxHeadOptions
    return kind.from_mapping(given)


def read_source(weights: str | PathLike[str]) -> tuple[ModelSource, dict[str, Any]]:
    """Weights, verified but not loaded, and the tracker options that were tuned for them."""
    if Path(weights_text(weights)).suffix.lower() in _CHECKPOINT_SUFFIXES:
        check_unpacked_size(Path(weights))  # which needs no torch
        with explain_missing("a SiamFC checkpoint"):
            from siamtrack.models.import_siamfc import read_siamfc  # imports torch

            return ModelSource(read_siamfc(weights)), {}
    file = open_weights(weights)
    tuned = rename_options(file.card.tracker, warn=False) if file.card else {}
    return ModelSource(file), tuned
