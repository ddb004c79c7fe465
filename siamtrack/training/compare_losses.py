"""Compare losses under equal budget: the same network, pairs, steps and sequences for each.

`compare` trains and evaluates the variants one after the other. `write_comparison` makes a table, a
plot and JSON of the results.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from matplotlib.figure import Figure

from siamtrack.data.cache import CropCache
from siamtrack.data.datasets import open_dataset
from siamtrack.engines.devices import resolve_device
from siamtrack.errors import ConfigError, OutputError
from siamtrack.evaluation.report.plots import figure_bytes
from siamtrack.evaluation.report.tables import interval_text, markdown_table, without_nan
from siamtrack.evaluation.statistics import bootstrap_mean, paired_test
from siamtrack.losses.combined import LOSSES
from siamtrack.losses.mining import Mining
from siamtrack.models.weights import load_network
from siamtrack.training.checkpoints import has_checkpoint
from siamtrack.training.config import TrainConfig, stored_config
from siamtrack.training.train import CONFIG, default_loss, train
from siamtrack.training.validate import embedding_separation, track_sequences
from siamtrack.utils.files import atomic_write

logger = logging.getLogger(__name__)

RESULT = "result.json"
TABLE, DATA, PLOT = "comparison.md", "comparison.json", "comparison.png"
_SEED = 0  # of the bootstrap and of the test
_METRIC_WEIGHT = 0.2  # of the metric losses


@dataclass(frozen=True, slots=True)
class LossVariant:
    """One way of training the tracker: section [loss], and changes of the network's fields."""

    name: str  # of its row and its folder
    loss: Mapping[str, Any]
    network: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VariantResult:
    """Scores of a variant."""

    name: str
    sequences: Mapping[str, Mapping[str, float]]  # "success_auc" and "ao" by held-out sequence
    separation: float | None  # None for networks without embeddings


def default_variants(config: TrainConfig) -> tuple[LossVariant, ...]:
    """Response losses alone, with each metric loss, and with a pseudo-siamese network.

    The response and box losses of the configuration are part of every variant, its metric losses of
    none.

    Raises:
        ConfigError: the configuration has no response loss.
    """
    given = config.loss or default_loss(config.network.architecture)
    plain = {k: v for k, v in given.items() if k in LOSSES and not LOSSES[k].needs_embeddings}
    if not plain:
        raise ConfigError(
            f"the losses {sorted(given)} hold no response loss; name one in section [loss], of "
            f"{', '.join(n for n, loss in LOSSES.items() if not loss.needs_embeddings)}"
        )
    weight = {"weight": _METRIC_WEIGHT}
    options = {**weight, "distance": "cosine", "margin": 0.3}
    triplet = {m: {**plain, "triplet": {**options, "mining": m}} for m in get_args(Mining)}
    own_weights = {"pseudo_siamese": True}
    return (
        LossVariant("response", plain),
        LossVariant("contrastive", {**plain, "contrastive": weight}),
        *(LossVariant(f"triplet-{mining}", loss) for mining, loss in triplet.items()),
        LossVariant("euclidean", {**plain, "euclidean": weight}),
        LossVariant("pseudo-response", plain, own_weights),
        LossVariant("pseudo-triplet-semi-hard", triplet["semi-hard"], own_weights),
    )


def select_variants(
    variants: Iterable[LossVariant], names: Iterable[str]
) -> tuple[LossVariant, ...]:
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
    variants: Iterable[LossVariant],
    sequences: str,
    out: Path,
    *,
    max_frames: int = 0,
) -> list[VariantResult]:
    """Train and evaluate variants one after the other; rewrite the report after each of them.

    Results that are in `out` are read instead of repeated. An interrupted variant continues from
    its last checkpoint.

    Args:
        config: of every run; loss and network are changed by the variants.
        variants: the report compares the others with the first.
        sequences: data set for the evaluation, `kind:root`, on which nothing was trained or tuned.
        out: folder of the report, with a run's folder for each variant.
        max_frames: of each sequence; 0 for all.

    Raises:
        OutputError: `out` holds a variant that was trained or evaluated in another way.
    """
    dataset = open_dataset(sequences)
    evaluated_on = {"sequences": sequences, "max_frames": max_frames}
    results: list[VariantResult] = []
    for variant in variants:
        # 1. The configuration of this variant's run.
        network_config = {**config.network.config, **variant.network}
        network_choice = replace(config.network, config=network_config)
        run = replace(config, loss=variant.loss, network=network_choice)

        folder = out / variant.name
        result = _read_result(folder, run, evaluated_on)
        if result is None:
            # 2. Train, or continue training.
            logger.info("training %s", variant.name)
            weights = train(run, folder, resume=has_checkpoint(folder))

            # 3. Evaluate the averaged weights.
            network = load_network(weights, resolve_device(run.loop.device))
            with torch.inference_mode():
                separation = embedding_separation(network, run, CropCache(Path(run.cache)))
            scores = track_sequences(network, dataset, max_frames)
            result = VariantResult(variant.name, scores, separation)
            content = {"config": asdict(run), **evaluated_on, "outcome": asdict(result)}
            atomic_write(folder / RESULT, json.dumps(content, indent=2) + "\n")
        results.append(result)
        write_comparison(results, out)
    return results


def _read_result(
    folder: Path, run: TrainConfig, evaluated_on: Mapping[str, Any]
) -> VariantResult | None:
    """Read the result of a variant; None if there is none yet."""
    stored, path = folder / CONFIG, folder / RESULT
    if stored.is_file() and not _is_config(_read_json(stored), run):
        raise OutputError(
            f"{folder} holds a run with another configuration; give another folder, or the "
            "configuration that is in it"
        )
    if not path.is_file():
        return None
    content = _read_json(path)
    same_data = all(content.get(key) == value for key, value in evaluated_on.items())
    if not same_data or not _is_config(content.get("config", {}), run):
        raise OutputError(
            f"{folder} was evaluated on {content.get('sequences')} with max_frames "
            f"{content.get('max_frames')}; give the same, or remove {path}"
        )
    try:
        return VariantResult(**content["outcome"])
    except (KeyError, TypeError) as error:
        raise OutputError(f"{path} is damaged ({error}); remove it") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(f"{path} is damaged ({error}); remove it") from error
    if not isinstance(content, dict):
        raise OutputError(f"{path} is damaged (it is not a table); remove it")
    return content


def _is_config(stored: Mapping[str, Any], run: TrainConfig) -> bool:
    """Whether a stored configuration, perhaps with old keys, is the run's."""
    try:
        return asdict(stored_config(stored)) == json.loads(json.dumps(asdict(run)))
    except ConfigError:
        return False


def write_comparison(results: Sequence[VariantResult], out: Path) -> None:
    """Write comparison.md, comparison.json and comparison.png; the first result is the baseline.

    Raises:
        ConfigError: nothing was tracked, or not the same sequences for all.
        OutputError: the folder cannot be written.
    """
    rows = summarize(results)
    content = {"rows": rows, "outcomes": [asdict(result) for result in results]}
    atomic_write(out / DATA, json.dumps(content, indent=2) + "\n")
    atomic_write(out / TABLE, as_markdown(rows))
    atomic_write(out / PLOT, figure_bytes(plot(rows), "png", dpi=120))


def summarize(results: Sequence[VariantResult]) -> list[dict[str, Any]]:
    """One row per variant: means over sequences with 95 % bootstrap intervals, as plain data."""
    names = sorted(results[0].sequences)
    if not names:
        raise ConfigError(
            "no sequence was tracked; give a data set with sequences of two visible frames or more"
        )
    if any(sorted(result.sequences) != names for result in results):
        raise ConfigError("the variants were evaluated on different sequences; evaluate them again")

    rows = []
    aucs, aos = (
        np.array([[result.sequences[name][key] for name in names] for result in results])
        for key in ("success_auc", "ao")
    )  # (variants, sequences) each
    for result, auc, ao in zip(results, aucs, aos, strict=True):
        test = paired_test(auc, aucs[0], np.random.default_rng(_SEED))
        row = {
            "name": result.name,
            "sequences": len(names),
            "success_auc": asdict(bootstrap_mean(auc, np.random.default_rng(_SEED))),
            "ao": asdict(bootstrap_mean(ao, np.random.default_rng(_SEED))),
            "against_first": {**asdict(test.difference), "p_value": test.p_value},
            "separation": result.separation,
        }
        rows.append(without_nan(row))
    return rows


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """GitHub-flavored table with a legend below."""
    cells = []
    for number, row in enumerate(rows):
        against, separation = row["against_first"], row["separation"]
        scores = [row["name"], interval_text(row["success_auc"]), interval_text(row["ao"])]
        compared = [interval_text(against, "+.3f"), f"{against['p_value']:.3f}"]
        area = "" if separation is None else f"{separation:.3f}"
        cells.append([*scores, *(compared if number else ["", ""]), area])
    headings = ("loss", "success AUC", "AO", "AUC against the first", "p", "embedding ROC area")
    return (
        f"{markdown_table(headings, cells)}\n\n"
        f"Means over {rows[0]['sequences']} held-out sequences; in brackets 95 % bootstrap "
        "intervals over sequences. p: sign-flip test of the difference from the first row.\n"
    )


def plot(rows: Sequence[dict[str, Any]]) -> Figure:
    """Plot the success AUC of each variant with its interval, the first at the top."""
    figure = Figure(figsize=(7.0, 1.2 + 0.38 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for height, row in enumerate(rows):
        interval = row["success_auc"]
        value = interval["value"]
        low, high = (value if interval[end] is None else interval[end] for end in ("low", "high"))
        spread = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
        axes.errorbar(value, height, xerr=spread, fmt="o", capsize=3, color="#1f77b4")
    axes.axvline(rows[0]["success_auc"]["value"], color="0.6", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"success AUC, mean over {rows[0]['sequences']} sequences")
    axes.grid(axis="x", alpha=0.3)
    return figure
