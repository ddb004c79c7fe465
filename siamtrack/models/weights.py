"""Weights files: safetensors with the architecture in the header, and a card next to each.

Nothing here unpickles anything. A file is trusted to be ours by its header, complete by its
length, unchanged by the hash on its card, and fitting by the name and shape of every tensor.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from siamtrack.errors import ConfigError, OutputError, WeightsError
from siamtrack.files import write_atomically
from siamtrack.models.cards import (
    WeightsCard,
    card_path,
    card_text,
    parse_card,
    sha256_of,
)
from siamtrack.models.network import TrackerNetwork
from siamtrack.models.registry import build_network, config_to_dict
from siamtrack.models.safetensors_file import SUFFIX, Header, read_header

logger = logging.getLogger(__name__)

_OWNER = "siamtrack"


def weights_dir() -> Path:
    """Folder of the weights that come with siamtrack, in a checkout as in an installed wheel.

    Raises:
        WeightsError: there is none; the installation is incomplete.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "weights_files", package.parent / "weights"):
        if folder.is_dir():
            return folder
    raise WeightsError(f"no weights folder came with the siamtrack in {package}; install it again")


def list_weights() -> tuple[str, ...]:
    """Names of the weights that come with siamtrack, sorted."""
    return tuple(sorted(path.stem for path in weights_dir().glob(f"*{SUFFIX}")))


def find_weights(name_or_path: str | PathLike[str]) -> Path:
    """Path of a weights file, given by a name of `list_weights` or by its path.

    Raises:
        WeightsError: there is no such file.
    """
    given = str(name_or_path)
    known = list_weights()
    if given in known:
        return weights_dir() / f"{given}{SUFFIX}"
    path = Path(given).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise WeightsError(f"weights {given!r} is a folder; give the {SUFFIX} file in it")
    beside = [str(p) for p in path.parent.glob(f"*{SUFFIX}")] if path.parent.is_dir() else []
    nearest = get_close_matches(given, [*known, *beside], n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    names = f"one of the names {', '.join(known)}" if known else "no names come with this version"
    raise WeightsError(f"no weights {given!r}; {hint}give the path of a {SUFFIX} file, or {names}")


def read_card(name_or_path: str | PathLike[str]) -> WeightsCard:
    """Read the card of a weights file; the file itself is not opened.

    Raises:
        WeightsError: no such weights, no card beside them, or a card that cannot be read.
    """
    path = find_weights(name_or_path)
    card = card_path(path)
    if not card.is_file():
        raise WeightsError(
            f"{path} has no card; put {card.name}, which came with the weights, beside it"
        )
    try:
        text = card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"cannot read card {card}: {error}") from error
    return parse_card(text, card)


def write_card(path: str | PathLike[str], card: WeightsCard) -> None:
    """Write or replace the card of a weights file, for example to add figures.

    Raises:
        OutputError: the card cannot be written.
    """
    write_atomically(card_path(Path(path)), card_text(card).encode())


def save_network(
    network: TrackerNetwork,
    path: str | PathLike[str],
    *,
    training_data: Sequence[str],
    licence: str,
    pairs: int | None = None,
    commit: str | None = None,
    figures: Mapping[str, float] | None = None,
    tracker: Mapping[str, Any] | None = None,
    notes: str = "",
    overwrite: bool = False,
) -> WeightsCard:
    """Write a network's weights and their card.

    Args:
        network: what to save, on any device.
        path: the file to write, ending in .safetensors; the card gets the same name and .json.
        training_data: see `WeightsCard`, as for the next six.
        licence: how the weights may be used.
        pairs: pairs seen in training.
        commit: commit of the source.
        figures: measured results.
        tracker: options of the tracking loop that were tuned for these weights.
        notes: anything else.
        overwrite: replace weights that exist; an interrupted write leaves the old ones.

    Returns:
        The card that was written.

    Raises:
        OutputError: `path` exists, has another suffix or cannot be written.
        WeightsError: a weight is not finite.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise OutputError(f"weights {path} cannot be written; the name must end in {SUFFIX}")
    if path.exists() and not overwrite:
        raise OutputError(f"weights {path} exist; give another name or ask to overwrite them")
    tensors = {k: v.detach().cpu().contiguous() for k, v in _unique_state(network).items()}
    _refuse_not_finite(tensors, path)
    config = config_to_dict(network.config)
    metadata = {
        "format": _OWNER,
        "architecture": network.architecture,
        "config": json.dumps(config),
    }
    write_atomically(path, safetensors.torch.save(tensors, metadata))
    card = WeightsCard(
        architecture=network.architecture,
        config=config,
        training_data=tuple(training_data),
        licence=licence,
        sha256=sha256_of(path),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        pairs=pairs,
        commit=commit,
        figures=dict(figures or {}),
        tracker=dict(tracker or {}),
        notes=notes,
    )
    write_card(path, card)
    return card


def load_network(
    name_or_path: str | PathLike[str], device: str | torch.device = "cpu"
) -> TrackerNetwork:
    """Build the network that a weights file describes, in evaluation mode on `device`.

    Args:
        name_or_path: a name of `list_weights`, or the path of a .safetensors file. Without a card
            beside it the file is used unverified, with a warning.
        device: where the network goes, e.g. "cpu" or "cuda:0".

    Raises:
        WeightsError: the weights are missing, truncated, not safetensors, not siamtrack's, of
            another architecture, not what their card says, or do not fit the network.
    """
    path = find_weights(name_or_path)
    header = read_header(path)
    network = _network_of(header, path)
    if card_path(path).is_file():
        _verify(path, header, read_card(path))
    else:
        logger.warning("%s has no card; its contents are not verified", path)
    expected = {name: tuple(t.shape) for name, t in _unique_state(network).items()}
    problems = state_problems(expected, header.shapes)
    if problems:
        raise WeightsError(
            f"{path} does not fit {network.architecture}: {'; '.join(problems)}; take weights "
            "saved with this configuration"
        )
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"cannot read {path}: {error}; get the file again") from error
    _refuse_not_finite(tensors, path)
    # Not strict: a branch that is shared appears in the module under a second name.
    network.load_state_dict(tensors, strict=False)
    return network.eval().to(device)


def state_problems(
    expected: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """Everything that keeps tensors from fitting: missing, of another shape, unexpected."""
    missing = [f"missing {k}" for k in expected if k not in given]
    wrong = [
        f"{k} has shape {given[k]}, needs {expected[k]}"
        for k in expected
        if k in given and given[k] != expected[k]
    ]
    return missing + wrong + [f"unexpected {k}" for k in given if k not in expected]


def _network_of(header: Header, path: Path) -> TrackerNetwork:
    """Build the network that the metadata names."""
    metadata = header.metadata
    if metadata.get("format") != _OWNER or not {"architecture", "config"} <= metadata.keys():
        raise WeightsError(
            f"{path} is a safetensors file, but siamtrack did not save it; give weights that "
            "siamtrack saved or imported"
        )
    try:
        config = json.loads(metadata["config"])
        return build_network(metadata["architecture"], config)
    except (ConfigError, ValueError) as error:
        raise WeightsError(
            f"{path} needs a network that this version cannot build: {error}; update siamtrack"
        ) from error


def _verify(path: Path, header: Header, card: WeightsCard) -> None:
    """Compare a file with its card."""
    actual = sha256_of(path)
    if actual != card.sha256.lower():
        raise WeightsError(
            f"{path} is not the file that its card describes: sha256 is {actual}, the card says "
            f"{card.sha256}; get the file and its card again"
        )
    architecture, config = header.metadata["architecture"], json.loads(header.metadata["config"])
    if (architecture, config) != (card.architecture, card.config):
        raise WeightsError(
            f"{path} holds {architecture} {config}, its card says {card.architecture} "
            f"{card.config}; take the card that came with the weights"
        )


def _unique_state(network: TrackerNetwork) -> dict[str, Tensor]:
    """State dict without the second names of tensors that branches share."""
    unique: dict[str, Any] = dict(network.named_parameters())
    unique.update(network.named_buffers())
    return {name: tensor for name, tensor in network.state_dict().items() if name in unique}


def _refuse_not_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """NaN and infinity are no weights."""
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise WeightsError(
            f"weights {path}: not finite in {', '.join(bad)}; the training that made them diverged"
        )
