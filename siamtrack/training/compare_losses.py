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
from siamtrack.training.config import TrainConfig, stored_config
from siamtrack.training.train import CONFIG, LAST, default_loss, train
from siamtrack.training.validate import embedding_separation, track_sequences
from siamtrack.utils.files import atomic_write

logger = logging.getLogger(__name__)

RESULT = "result.json"
TABLE, DATA, PLOT = "comparison.md", "comparison.json", "comparison.png"
_SEED = 0
_HEADINGS = ("loss", "success AUC", "AO", "AUC against the first", "p", "embedding ROC area")


@dataclass(frozen=True, slots=True)
class LossVariant:
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
class VariantResult:
    """Scores of a variant.

    Attributes:
        name: of the variant.
        sequences: "success_auc" and "ao" by name of the held-out sequence.
        separation: see `embedding_separation`; None for networks without embeddings.
    """

    name: str
    sequences: Mapping[str, Mapping[str, float]]
    separation: float | None


def default_variants(config: TrainConfig, weight: float = 0.2) -> tuple[LossVariant, ...]:
    """Response losses alone, with each metric loss, and with a pseudo-siamese network.

    Args:
        config: its response and box losses are part of every variant, its metric losses of none.
        weight: of the metric losses.

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
    triplet = {"weight": weight, "distance": "cosine", "margin": 0.3}
    semi_hard = {**plain, "triplet": {**triplet, "mining": "semi-hard"}}
    own_weights = {"pseudo_siamese": True}
    return (
        LossVariant("response", plain),
        LossVariant("contrastive", {**plain, "contrastive": {"weight": weight}}),
        *(
            LossVariant(f"triplet-{mining}", {**plain, "triplet": {**triplet, "mining": mining}})
            for mining in get_args(Mining)
        ),
        LossVariant("euclidean", {**plain, "euclidean": {"weight": weight}}),
        LossVariant("pseudo-response", plain, own_weights),
        LossVariant("pseudo-triplet-semi-hard", semi_hard, own_weights),
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
        variants: what to compare; the report compares the others with the first.
        sequences: data set for the evaluation, `kind:root`, on which nothing was trained or tuned.
        out: folder of the report, with a run's folder for each variant.
        max_frames: of each sequence; 0 for all.

    Raises:
        OutputError: `out` holds a variant that was trained or evaluated in another way.
        SiamTrackError: whatever training or evaluating one of them raises.
    """
    dataset = open_dataset(sequences)
    evaluated_on = {"sequences": sequences, "max_frames": max_frames}
    results: list[VariantResult] = []
    for variant in variants:
        # The configuration of this variant's run.
        network_config = {**config.network.config, **variant.network}
        network_choice = replace(config.network, config=network_config)
        run = replace(config, loss=variant.loss, network=network_choice)

        result = _read_result(out / variant.name, run, evaluated_on)
        if result is None:
            # Train, or continue training.
            logger.info("training %s", variant.name)
            folder = out / variant.name
            weights = train(run, folder, resume=(folder / LAST).exists())

            # Evaluate the averaged weights.
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
    """Result of a variant in a folder; None if there is none yet."""
    stored = folder / CONFIG
    if stored.is_file() and not _is_config(json.loads(stored.read_text()), run):
        raise OutputError(
            f"{folder} holds a run with another configuration; give another folder, or the "
            "configuration that is in it"
        )
    path = folder / RESULT
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    if any(content[key] != value for key, value in evaluated_on.items()) or not _is_config(
        content["config"], run
    ):
        raise OutputError(
            f"{folder} was evaluated on {content['sequences']} with max_frames "
            f"{content['max_frames']}; give the same, or remove {path}"
        )
    return VariantResult(**content["outcome"])


def _is_config(stored: Mapping[str, Any], run: TrainConfig) -> bool:
    """Whether a stored configuration, perhaps with old keys, is that of the run."""
    try:
        return asdict(stored_config(stored)) == json.loads(json.dumps(asdict(run)))
    except ConfigError:
        return False


def write_comparison(results: Sequence[VariantResult], out: Path) -> None:
    """Write comparison.md, comparison.json and comparison.png into a folder.

    Args:
        results: in the order of the rows; the others are compared with the first.
        out: the folder.

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
    """One row per variant: means over sequences with 95 % bootstrap intervals, as plain data.

    Raises:
        ConfigError: see `write_comparison`.
    """
    names = sorted(results[0].sequences)
    if not names:
        raise ConfigError(
            "no sequence was tracked; give a data set with sequences of two visible frames or more"
        )
    if any(sorted(result.sequences) != names for result in results):
        raise ConfigError("the variants were evaluated on different sequences; evaluate them again")
    first = [results[0].sequences[name]["success_auc"] for name in names]
    rows = []
    for result in results:
        row: dict[str, Any] = {"name": result.name, "sequences": len(names)}
        for key in ("success_auc", "ao"):
            scores = np.array([result.sequences[name][key] for name in names])
            row[key] = without_nan(asdict(bootstrap_mean(scores, np.random.default_rng(_SEED))))
        aucs = np.array([result.sequences[name]["success_auc"] for name in names])
        test = paired_test(aucs, first, np.random.default_rng(_SEED))
        row["against_first"] = without_nan({**asdict(test.difference), "p_value": test.p_value})
        row["separation"] = result.separation
        rows.append(row)
    return rows


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """GitHub-flavored table with a legend below."""
    cells = []
    for number, row in enumerate(rows):
        against, separation = row["against_first"], row["separation"]
        compared = (
            [interval_text(against, "+.3f"), f"{against['p_value']:.3f}"] if number else ["", ""]
        )
        scores = [interval_text(row["success_auc"]), interval_text(row["ao"])]
        last = "" if separation is None else f"{separation:.3f}"
        cells.append([row["name"], *scores, *compared, last])
    note = (
        f"Means over {rows[0]['sequences']} held-out sequences; in brackets 95 % bootstrap "
        "intervals over sequences. p: sign-flip test of the difference from the first row."
    )
    return f"{markdown_table(_HEADINGS, cells)}\n\n{note}\n"


def plot(rows: Sequence[dict[str, Any]]) -> Figure:
    """Success AUC of each variant with its interval, the first at the top."""
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
