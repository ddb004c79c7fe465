"""Cards: what a weights file is, what made it and what it scores, in a JSON file next to it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from siamtrack.errors import ConfigError, OutputError, WeightsError
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.network import NetworkConfig, TrackerNetwork
from siamtrack.models.siamfc import SiamFC, SiamFCConfig
from siamtrack.utils.files import atomic_write

logger = logging.getLogger(__name__)

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


class Architecture(NamedTuple):
    """A network class and the class of its configuration."""

    network: type[TrackerNetwork]
    config: type[NetworkConfig]


_ARCHITECTURES = {
    SiamFC.architecture: Architecture(SiamFC, SiamFCConfig),
    SiamTrackLite0.architecture: Architecture(SiamTrackLite0, Lite0Config),
}


def architecture_names() -> tuple[str, ...]:
    """Names that `build_network` knows."""
    return tuple(_ARCHITECTURES)


def find_architecture(name: str) -> Architecture:
    """Look an architecture up.

    Raises:
        ConfigError: no architecture has that name.
    """
    if name not in _ARCHITECTURES:
        raise ConfigError.unknown("architecture", name, _ARCHITECTURES)
    return _ARCHITECTURES[name]


def build_network(
    architecture: str, config: Mapping[str, Any] | NetworkConfig | None = None
) -> TrackerNetwork:
    """Make a network with random weights.

    Args:
        architecture: a name of `architecture_names`.
        config: its configuration, or the fields that differ from the defaults.

    Raises:
        ConfigError: unknown architecture or field, a value of the wrong type or out of range, or
            the configuration of another architecture.
    """
    known = find_architecture(architecture)
    if config is None or isinstance(config, Mapping):
        config = config_from_dict(known.config, config or {})
    if type(config) is not known.config:
        raise ConfigError(
            f"{architecture} was given a {type(config).__name__}; it needs a "
            f"{known.config.__name__}"
        )
    return known.network(config)


def config_to_dict(config: NetworkConfig) -> dict[str, Any]:
    """Configuration as JSON-able data: tuples become lists."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}


def config_from_dict(cls: type[NetworkConfig], values: Mapping[str, Any]) -> NetworkConfig:
    """Turn plain data into a configuration; fields left out keep their defaults.

    Raises:
        ConfigError: a field that `cls` does not have, or a value of the wrong type or out of
            range.
    """
    defaults = {field.name: field.default for field in fields(cls)}
    for name in values:
        if name not in defaults:
            raise ConfigError.unknown(f"{cls.__name__} field", name, defaults)
    return cls(**{k: _like(defaults[k], v, f"{cls.__name__}.{k}") for k, v in values.items()})


def _like(default: Any, value: Any, name: str) -> Any:
    """Convert `value` to the type of `default` where nothing is lost by it."""
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        if len(value) == len(default):
            return tuple(_like(d, v, name) for d, v in zip(default, value, strict=True))
    elif isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif type(value) is type(default):
        return value
    raise ConfigError(f"{name} is {value!r}; give a value like {default!r}")


SUFFIX = ".safetensors"
_FOREIGN_SUFFIXES = {".pth", ".pt", ".tar", ".ckpt", ".mat"}
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000


class Header(NamedTuple):
    """What a file says of itself.

    Attributes:
        shapes: shape of every tensor, by name.
        metadata: free text by key.
    """

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Parse the header and check that the file is as long as it says.

    Raises:
        WeightsError: the file cannot be read, is not safetensors, is truncated or too long.
    """
    try:
        actual = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            text = stream.read(min(length, _MAX_HEADER_BYTES))
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    if actual >= _LENGTH_BYTES and (length > _MAX_HEADER_BYTES or text[:1] not in (b"{", b"")):
        raise _foreign(path)
    if actual < _LENGTH_BYTES or len(text) < length:
        raise WeightsError(f"{path} is truncated, its header is incomplete; get the file again")
    try:
        header, data_bytes = _parse(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _foreign(path) from error
    expected = _LENGTH_BYTES + length + data_bytes
    if actual != expected:
        state = "truncated" if actual < expected else "damaged"
        raise WeightsError(
            f"{path} is {state}: it has {actual} bytes and needs {expected}; get the file again"
        )
    return header


def _parse(entries: dict[str, Any]) -> tuple[Header, int]:
    """Header, and bytes of tensor data that must follow it."""
    metadata = dict(entries.pop("__metadata__", {}))
    shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
    ends = [int(entry["data_offsets"][1]) for entry in entries.values()]
    return Header(shapes, metadata), max(ends, default=0)


def _foreign(path: Path) -> WeightsError:
    """The error for a file of another kind."""
    if path.suffix.lower() in _FOREIGN_SUFFIXES:
        advice = "if it is a SiamFC checkpoint, convert it with siamtrack import-weights"
    else:
        advice = "give weights that siamtrack saved"
    return WeightsError(f"{path} is not a safetensors file; {advice}")


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
    atomic_write(card_path(Path(path)), card_text(card).encode())


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
    atomic_write(path, safetensors.torch.save(tensors, metadata))
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
