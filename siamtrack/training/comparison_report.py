"""The outcome of a comparison as a table, as data and as a plot."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from siamtrack.errors import ConfigError
from siamtrack.evaluation.statistics import Interval, bootstrap_mean, paired_test
from siamtrack.files import write_atomically
from siamtrack.training.compare import Outcome, choose, compare, default_variants
from siamtrack.training.config import TrainConfig

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
    write_atomically(out / DATA, json.dumps(content, indent=2) + "\n")
    write_atomically(out / TABLE, markdown(rows))
    picture = io.BytesIO()
    plot(rows).savefig(picture, format="png", dpi=120)
    write_atomically(out / PLOT, picture.getvalue())


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
