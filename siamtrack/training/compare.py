"""Losses compared on equal terms: the same tracker, pairs, steps and sequences for each."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from siamtrack.data.cache import CropCache
from siamtrack.data.open import open_dataset
from siamtrack.data.sequence import Dataset
from siamtrack.engines.torch_engine import resolve_device
from siamtrack.errors import ConfigError, OutputError
from siamtrack.files import write_atomically
from siamtrack.losses.combine import LOSSES
from siamtrack.models.weights import load_network
from siamtrack.training import checkpoints
from siamtrack.training.config import TrainConfig, config_to
from siamtrack.training.loop import CONFIG, fit
from siamtrack.training.separation import separation
from siamtrack.training.start import default_loss
from siamtrack.training.validation import sequence_figures

logger = logging.getLogger(__name__)

RESULT = "result.json"
_MININGS = ("random", "batch-all", "batch-hard", "semi-hard", "offline")


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of training the tracker.

    Attributes:
        name: of its row and its folder.
        loss: section [loss] of its configuration.
        network: fields of the network's configuration that it changes.
    """

    name: str
    loss: Mapping[str, Any]
    network: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a variant.

    Attributes:
        name: of the variant.
        sequences: by name of the held-out sequence "success_auc" and "ao".
        separation: see `siamtrack.training.separation`; None for networks without embeddings.
    """

    name: str
    sequences: Mapping[str, Mapping[str, float]]
    separation: float | None


def default_variants(config: TrainConfig, weight: float = 0.2) -> tuple[Variant, ...]:
    """Response losses alone, with each metric loss, and pseudo-siamese.

    Args:
        config: its response and box losses are part of every variant; its metric losses are not.
        weight: of the metric losses.
    """
    given = config.loss or default_loss(config.network.architecture)
    plain = {k: v for k, v in given.items() if k in LOSSES and not LOSSES[k].needs_embeddings}
    if not plain:
        raise ConfigError(
            f"the losses {sorted(given)} hold no response loss; name one in section [loss], of "
            f"{', '.join(n for n, loss in LOSSES.items() if not loss.needs_embeddings)}"
        )
    triplet = {"weight": weight, "distance": "cosine", "margin": 0.3}
    semi_hard = {**plain, "triplet": {**triplet, "mining": "semi-hard"}}
    own_weights = {"pseudo_siamese": True}
    return (
        Variant("response", plain),
        Variant("contrastive", {**plain, "contrastive": {"weight": weight}}),
        *(
            Variant(f"triplet-{mining}", {**plain, "triplet": {**triplet, "mining": mining}})
            for mining in _MININGS
        ),
        Variant("euclidean", {**plain, "euclidean": {"weight": weight}}),
        Variant("pseudo-response", plain, own_weights),
        Variant("pseudo-triplet-semi-hard", semi_hard, own_weights),
    )


def choose(variants: Iterable[Variant], names: Iterable[str]) -> tuple[Variant, ...]:
    """Variants of the given names in their own order; all without names.

    Raises:
        ConfigError: a name that no variant has.
    """
    known = {variant.name: variant for variant in variants}
    wanted = set(names)
    for name in sorted(wanted - known.keys()):
        raise ConfigError.unknown("variant", name, known)
    return tuple(v for v in known.values() if not wanted or v.name in wanted)


def compare(
    config: TrainConfig,
    variants: Iterable[Variant],
    sequences: str,
    out: Path,
    *,
    max_frames: int = 0,
    after_each: Callable[[list[Outcome]], None] = lambda outcomes: None,
) -> list[Outcome]:
    """Train and evaluate variants one after the other.

    What is finished in `out` is read instead of repeated, and a variant that was interrupted goes
    on from its last checkpoint.

    Args:
        config: of every run; loss and network are changed by the variants.
        variants: what to compare.
        sequences: data set that they are judged on, `kind:root`. Nothing may have been trained or
            chosen on it.
        out: folder with a run's folder for each variant.
        max_frames: of each sequence; 0 for all.
        after_each: called with what is finished so far.

    Raises:
        OutputError: `out` holds a variant that was trained or judged in another way.
        SiamTrackError: whatever training or evaluating one of them raises.
    """
    dataset = open_dataset(sequences)
    judged_on = {"sequences": sequences, "max_frames": max_frames}
    outcomes: list[Outcome] = []
    for variant in variants:
        folder = out / variant.name
        run = _run_of(config, variant)
        identity = {"config": _as_json(config_to(run)), **judged_on}
        found = _finished(folder, identity)
        if found is None:
            logger.info("training %s", variant.name)
            weights = fit(run, folder, resume=(folder / checkpoints.LAST).exists())
            found = _judge(variant.name, weights, run, dataset, max_frames)
            content = {**identity, "outcome": asdict(found)}
            write_atomically(folder / RESULT, json.dumps(content, indent=2) + "\n")
        outcomes.append(found)
        after_each(outcomes)
    return outcomes


def _run_of(config: TrainConfig, variant: Variant) -> TrainConfig:
    network = replace(config.network, config={**config.network.config, **variant.network})
    return replace(config, loss=variant.loss, network=network)


def _as_json(data: Any) -> Any:
    return json.loads(json.dumps(data))


def _finished(folder: Path, identity: Mapping[str, Any]) -> Outcome | None:
    """Outcome in a folder; None when there is none yet."""
    begun = folder / CONFIG
    if begun.is_file() and json.loads(begun.read_text()) != identity["config"]:
        raise OutputError(
            f"{folder} holds a run with another configuration; give another folder, or the "
            "configuration that is in it"
        )
    path = folder / RESULT
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    outcome = content.pop("outcome")
    if content != identity:
        raise OutputError(
            f"{folder} was judged on {content['sequences']} with max_frames "
            f"{content['max_frames']}; give the same, or remove {path}"
        )
    return Outcome(**outcome)


def _judge(
    name: str, weights: Path, run: TrainConfig, dataset: Dataset, max_frames: int
) -> Outcome:
    device = resolve_device(run.loop.device)
    network = load_network(weights, device)
    with torch.inference_mode():
        apart = separation(network, run, CropCache(Path(run.cache)))
    return Outcome(name, sequence_figures(network, dataset, max_frames), apart)
