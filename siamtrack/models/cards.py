"""Cards: what a weights file is, what made it and what it scores, in a JSON file next to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from siamtrack.errors import WeightsError

CARD_FORMAT = 1


@dataclass(frozen=True, slots=True)
class WeightsCard:
    """Where weights come from and what they are worth.

    Attributes:
        architecture: name in `siamtrack.models.registry`.
        config: fields of the network's configuration, as plain data.
        training_data: names of the data sets, as a reader would look them up.
        licence: SPDX name or words; how the weights may be used.
        sha256: hash of the weights file, hexadecimal.
        created: ISO 8601 date and time, UTC.
        pairs: exemplar and search pairs seen in training; None when not known.
        commit: commit of the source that trained them; None when not known.
        figures: measured results, each name saying the data, e.g. {"dev_success_auc": 0.54}.
        tracker: options of the tracking loop that were tuned for these weights.
        notes: anything else a user should know, in a sentence or two.
    """

    architecture: str
    config: dict[str, Any]
    training_data: tuple[str, ...]
    licence: str
    sha256: str
    created: str
    pairs: int | None = None
    commit: str | None = None
    figures: dict[str, float] = field(default_factory=dict)
    tracker: dict[str, Any] = field(default_factory=dict)
    notes: str = ""


def card_path(weights: Path) -> Path:
    """Where the card of a weights file lies: `siamfc.safetensors` has `siamfc.json`."""
    return weights.with_suffix(".json")


def card_text(card: WeightsCard) -> str:
    """The card as JSON, fields in the order in which they are documented."""
    return json.dumps({"card_format": CARD_FORMAT, **asdict(card)}, indent=2) + "\n"


def parse_card(text: str, path: Path) -> WeightsCard:
    """Read the JSON of a card.

    Raises:
        WeightsError: not JSON, of a newer format, or fields are missing, unknown or of the wrong
            type; all of them are listed.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise WeightsError(
            f"card {path} is not valid JSON ({error}); restore it, or remove it to use the "
            "weights unverified"
        ) from error
    if not isinstance(values, dict) or values.pop("card_format", None) != CARD_FORMAT:
        raise WeightsError(
            f"card {path} is not of card format {CARD_FORMAT}, the one that this version reads; "
            "update siamtrack or take the card that came with the weights"
        )
    problems = _field_problems(values)
    if problems:
        raise WeightsError(
            f"card {path} does not fit: {'; '.join(problems)}; take the card that came with the "
            "weights"
        )
    values["training_data"] = tuple(values["training_data"])
    return WeightsCard(**values)


def _field_problems(values: Mapping[str, Any]) -> list[str]:
    """Everything that keeps `values` from being a card."""
    optional = {"pairs", "commit", "figures", "tracker", "notes"}
    known = [f.name for f in fields(WeightsCard)]
    found = [f"field {name!r} is missing" for name in known if name not in {*values, *optional}]
    found += [f"field {name!r} is unknown" for name in values if name not in known]
    kinds: dict[str, type | tuple[type, ...]] = {
        "config": dict,
        "training_data": list,
        "pairs": (int, type(None)),
        "commit": (str, type(None)),
        "figures": dict,
        "tracker": dict,
    }
    for name in known:
        if name in values and not isinstance(values[name], kinds.get(name, str)):
            found.append(f"field {name!r} is {values[name]!r}")
    return found


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
