"""Losses compared on equal terms: the same tracker, pairs, steps and sequences for each."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from siamtrack.data.cache import CropCache
from siamtrack.data.datasets import open_dataset
from siamtrack.data.sequence import Dataset
from siamtrack.engines.devices import resolve_device
from siamtrack.errors import ConfigError, OutputError
from siamtrack.evaluation.statistics import Interval, bootstrap_mean, paired_test
from siamtrack.losses.combined import LOSSES
from siamtrack.models.weights import load_network
from siamtrack.training import train as checkpoints
from siamtrack.training.config import TrainConfig, config_to
from siamtrack.training.train import CONFIG, default_loss, fit
from siamtrack.training.validate import separation, sequence_figures
from siamtrack.utils.files import atomic_write

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
            atomic_write(folder / RESULT, json.dumps(content, indent=2) + "\n")
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


TABLE, DATA, PLOT = "comparison.md", "comparison.json", "comparison.png"
_SEED = 0
_HEADINGS = ("loss", "success AUC", "AO", "AUC against the first", "p", "embedding ROC area")


def compare_and_report(
    config: TrainConfig,
    sequences: str,
    out: Path,
    names: Iterable[str] = (),
    max_frames: int = 0,
) -> Path:
    """Compare the default variants; the report is written anew after each of them.

    Args:
        config: see `default_variants` and `compare`.
        sequences: see `compare`.
        out: folder of the comparison.
        names: of the variants, all if none is given; "response" comes first if it is among them.
        max_frames: see `compare`.

    Returns:
        The table.

    Raises:
        SiamTrackError: see `choose`, `compare` and `write_comparison`.
    """
    variants = choose(default_variants(config), names)

    def report(outcomes: list[Outcome]) -> None:
        write_comparison(outcomes, out)

    compare(config, variants, sequences, out, max_frames=max_frames, after_each=report)
    return out / TABLE


def write_comparison(outcomes: Sequence[Outcome], out: Path) -> None:
    """Write comparison.md, comparison.json and comparison.png into a folder.

    Args:
        outcomes: in the order of the rows; the first is what the others are compared with.
        out: the folder.

    Raises:
        ConfigError: nothing was tracked, or not the same sequences for all.
        OutputError: the folder cannot be written.
    """
    rows = summarise(outcomes)
    content = {"rows": rows, "outcomes": [asdict(outcome) for outcome in outcomes]}
    atomic_write(out / DATA, json.dumps(content, indent=2) + "\n")
    atomic_write(out / TABLE, markdown(rows))
    picture = io.BytesIO()
    plot(rows).savefig(picture, format="png", dpi=120)
    atomic_write(out / PLOT, picture.getvalue())


def summarise(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row per variant: means over sequences with 95 % bootstrap intervals, as plain data.

    Raises:
        ConfigError: see `write_comparison`.
    """
    names = sorted(outcomes[0].sequences)
    if not names:
        raise ConfigError(
            "no sequence was tracked; give a data set with sequences of two visible frames or more"
        )
    if any(sorted(outcome.sequences) != names for outcome in outcomes):
        raise ConfigError("the variants were judged on different sequences; judge them anew")
    rows = []
    for outcome in outcomes:
        figures = {
            key: np.array([outcome.sequences[name][key] for name in names])
            for key in ("success_auc", "ao")
        }
        row: dict[str, Any] = {"name": outcome.name, "sequences": len(names)}
        for key, values in figures.items():
            row[key] = _plain(bootstrap_mean(values, np.random.default_rng(_SEED)))
        first = [outcomes[0].sequences[name]["success_auc"] for name in names]
        test = paired_test(figures["success_auc"], first, np.random.default_rng(_SEED))
        row["against_first"] = {**_plain(test.difference), "p_value": test.p_value}
        row["separation"] = outcome.separation
        rows.append(row)
    return rows


def _plain(interval: Interval) -> dict[str, float | None]:
    """JSON knows no NaN: an end that is not known becomes None."""
    return {k: float(v) if np.isfinite(v) else None for k, v in asdict(interval).items()}


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """GitHub-flavoured table with what it shows in a line below."""
    lines = [_line(_HEADINGS), _line(["---", *["---:"] * (len(_HEADINGS) - 1)])]
    for number, row in enumerate(rows):
        against = row["against_first"]
        apart = row["separation"]
        compared = [_text(against, "+.3f"), f"{against['p_value']:.3f}"] if number else ["", ""]
        cells = [row["name"], _text(row["success_auc"]), _text(row["ao"]), *compared]
        lines.append(_line([*cells, "" if apart is None else f"{apart:.3f}"]))
    note = (
        f"Means over {rows[0]['sequences']} held-out sequences; in brackets 95 % bootstrap "
        "intervals over sequences. p: sign-flip test of the difference from the first row."
    )
    return "\n".join([*lines, "", note]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(interval: dict[str, float | None], form: str = ".3f") -> str:
    if interval["low"] is None:
        return f"{interval['value']:{form}}"
    return f"{interval['value']:{form}} [{interval['low']:{form}}, {interval['high']:{form}}]"


def plot(rows: Sequence[dict[str, Any]]) -> Figure:
    """Success AUC of each variant with its interval, the first at the top."""
    figure = Figure(figsize=(7.0, 1.2 + 0.38 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for height, row in enumerate(rows):
        found = row["success_auc"]
        value = found["value"]
        low, high = (value if found[end] is None else found[end] for end in ("low", "high"))
        spread = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
        axes.errorbar(value, height, xerr=spread, fmt="o", capsize=3, color="#1f77b4")
    axes.axvline(rows[0]["success_auc"]["value"], color="0.6", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"success AUC, mean over {rows[0]['sequences']} sequences")
    axes.grid(axis="x", alpha=0.3)
    return figure
