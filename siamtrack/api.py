"""From weights to a tracker in one call."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from siamtrack.engines import Source, make_engine
from siamtrack.engines.base import Engine
from siamtrack.models.import_siamfc import read_siamfc
from siamtrack.models.siamfc import SiamFC
from siamtrack.models.weights import card_path, find_weights, load_network, read_card, sha256_of
from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.options import (
    BoxHeadOptions,
    ScalePyramidOptions,
    TrackerOptions,
    rename_options,
)
from siamtrack.tracking.redetection import TimeBudget
from siamtrack.tracking.tracker import Tracker

DEFAULT_WEIGHTS = "siamtrack-lite0"
_FOREIGN = (".pth", ".pt", ".mat")


def load(
    weights: str | PathLike[str] | None = None,
    *,
    device: str = "auto",
    engine: str = "auto",
    **tracker_options: Any,
) -> Tracker:
    """Make a tracker.

    Args:
        weights: a name (`siamtrack info` lists them), a .safetensors file, or a SiamFC checkpoint
            of another project (.pth state dict, MatConvNet .mat); None for the default.
        device: "auto", "cpu", "cuda", "cuda:0" or "mps".
        engine: "auto" takes the fastest one for the device; or name one, see
            `siamtrack.engines.make_engine`.
        **tracker_options: fields of `BoxHeadOptions`, or of `ScalePyramidOptions` for SiamFC.
            What is not given comes from the weights' card, where it was tuned for them.

    Raises:
        WeightsError: the weights are missing, damaged or do not fit.
        ConfigError: an unknown option (with the nearest spelling) or a bad value.
        DeviceError: no such device on this machine.
        EngineError: an engine that is unknown or not installed.
    """
    made, options = _prepare(weights, device, engine, tracker_options)
    return Tracker(made, options)


def load_multi(
    weights: str | PathLike[str] | None = None,
    *,
    device: str = "auto",
    engine: str = "auto",
    **tracker_options: Any,
) -> MultiTracker:
    """Make a tracker for many targets; arguments and errors are those of `load`."""
    made, options = _prepare(weights, device, engine, tracker_options)
    budget = TimeBudget(options.budget_ms / 1e3) if options.budget_ms > 0 else None
    return MultiTracker(lambda: Tracker(made, options, budget), budget)


def _prepare(
    weights: str | PathLike[str] | None, device: str, engine: str, given: dict[str, Any]
) -> tuple[Engine, TrackerOptions]:
    name = DEFAULT_WEIGHTS if weights is None else weights
    source, tuned = read_source(name)
    # Before an engine is compiled: a typo should not cost one.
    options = options_for(source, {**tuned, **rename_options(given)})
    return make_engine(source, engine=engine, device=device), options


def options_for(source: Source, given: dict[str, Any]) -> TrackerOptions:
    """Options of the loop that a network's output asks for.

    Raises:
        ConfigError: an unknown option (with the nearest spelling) or a bad value.
    """
    kind = ScalePyramidOptions if isinstance(source.network, SiamFC) else BoxHeadOptions
    return kind.from_mapping(given)


def read_source(weights: str | PathLike[str]) -> tuple[Source, dict[str, Any]]:
    """The weights, and the tracker options that were tuned for them.

    Raises:
        WeightsError: the weights are missing, damaged or do not fit.
    """
    if Path(weights).suffix.lower() in _FOREIGN:
        return Source(read_siamfc(weights)), {}
    path = find_weights(weights)
    network = load_network(path)
    if not card_path(path).is_file():
        return Source(network, path, sha256_of(path)), {}
    card = read_card(path)
    return Source(network, path, card.sha256), rename_options(card.tracker, warn=False)
