"""Weights files and their cards: find, verify, load, save; networks by name.

A weights file is a .safetensors file that also names its network. Its card, a JSON file beside it,
says where the weights come from and holds the hash of the file. `open_weights` verifies a file
without importing torch.

Sections: records, finding, opening and loading, saving, cards, networks by name, and the header of
a safetensors file.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamtrack.errors import ConfigError, OutputError, WeightsError, shown
from siamtrack.models.config import Lite0Config, NetworkConfig, SiamFCConfig
from siamtrack.utils.config import build, renamed_arguments, renamed_attributes
from siamtrack.utils.files import atomic_write, parse_json, sha256

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from siamtrack.models.network import SiameseNetwork

logger = logging.getLogger(__name__)

SUFFIX = ".safetensors"
EXEMPLAR, TRACK, INT8 = "exemplar", "track", "int8"
GRAPHS = (EXEMPLAR, TRACK, f"{TRACK}.{INT8}")
"""Names of the graphs that may lie beside weights; see `graph_path`."""
CARD_FORMAT = 1
NOT_CALIBRATED = "The score is not calibrated for these weights; siamtrack calibrate fits it."
"""Note on the card of weights that were just trained."""
_OWNER = "siamtrack"  # in the metadata of weights files


# Records


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Where weights come from, how they may be used and what they achieve.

    Attributes:
        architecture: a name of `architecture_names`; `config` holds its configuration's fields.
        training_data: names of the data sets, as a reader would look them up.
        license: SPDX name or words; how the weights may be used ("licence" in the file).
        sha256: hash of the weights file, hexadecimal.
        created: ISO 8601 date and time, UTC.
        pairs: exemplar and search pairs seen in training; None if unknown.
        commit: commit of the source that trained them; None if unknown.
        figures: measured results, each name saying the data, e.g. {"dev_success_auc": 0.54}.
        tracker: tracker options that were tuned for these weights.
        graphs: hashes of the exported graphs, hexadecimal, by their names in `GRAPHS`.
    """

    architecture: str
    config: dict[str, Any]
    training_data: tuple[str, ...]
    license: str
    sha256: str
    created: str
    pairs: int | None = None
    commit: str | None = None
    figures: dict[str, float] = field(default_factory=dict)
    tracker: dict[str, Any] = field(default_factory=dict)
    graphs: dict[str, str] = field(default_factory=dict)
    notes: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data under the names of the file, in the order in which they are documented."""
        return {_file_key(name): value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """An opened weights file. With a card it is verified to be what the card says.

    `shapes` has the shape of every tensor by its name, `sha256` is the hash of the file.
    """

    path: Path
    sha256: str
    architecture: str
    config: NetworkConfig
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    card: ModelCard | None = None


# Finding


def weights_dir() -> Path:
    """Folder of the bundled weights, in a checkout as in an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "weights_files", package.parent / "weights"):
        if folder.is_dir():
            return folder
    raise WeightsError(f"no weights folder came with the siamtrack in {package}; install it again")


def list_weights() -> tuple[str, ...]:
    """Names of the bundled weights, sorted."""
    return tuple(sorted(path.stem for path in weights_dir().glob(f"*{SUFFIX}")))


def find_weights(name_or_path: str | PathLike[str]) -> Path:
    """Path of a weights file, given by a name of `list_weights` or by its path.

    Raises:
        WeightsError: there is no such file.
    """
    given = weights_text(name_or_path)
    known = list_weights()
    if given in known:
        return weights_dir() / f"{given}{SUFFIX}"
    path = Path(os.path.expanduser(given))
    names = f"one of the names {', '.join(known)}" if known else "no names come with this version"
    need = f"give the path of a {SUFFIX} file, or {names}"
    try:
        if path.is_file():
            return path
        if path.is_dir():
            raise WeightsError(f"weights {given!r} is a folder; give the {SUFFIX} file in it")
        beside = [str(p) for p in path.parent.glob(f"*{SUFFIX}")] if path.parent.is_dir() else []
    except OSError as error:  # such as a name that is too long
        raise WeightsError(f"no weights {shown(given)} ({error.strerror}); {need}") from error
    nearest = get_close_matches(given, [*known, *beside], n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise WeightsError(f"no weights {shown(given)}; {hint}{need}")


def weights_text(name_or_path: str | PathLike[str]) -> str:
    """The name or path as text; WeightsError if it is something else."""
    if not isinstance(name_or_path, str | PathLike):
        raise WeightsError(
            f"weights {shown(name_or_path)} is neither a name nor a path; give a text or a Path"
        )
    try:
        text: str = os.fspath(name_or_path)
    except TypeError as error:
        raise WeightsError(f"weights {shown(name_or_path)} has no path; give a text") from error
    if not isinstance(text, str):
        raise WeightsError(f"weights {shown(name_or_path)} has a path in bytes; give a text")
    return text


# Opening and loading


def open_weights(name_or_path: str | PathLike[str]) -> WeightsFile:
    """Open a weights file and verify it against its card, without loading its tensors.

    Args:
        name_or_path: a name of `list_weights`, or the path of a .safetensors file. Without a card
            beside it the file is used unverified, with a warning.

    Raises:
        WeightsError: the weights are missing, truncated, of another program, of an unknown
            architecture or not what their card says.
    """
    path = find_weights(name_or_path)

    # What the file says about itself.
    shapes, metadata = _read_header(path)
    if metadata.get("format") != _OWNER or not {"architecture", "config"} <= metadata.keys():
        raise WeightsError(
            f"{path} is a safetensors file, but siamtrack did not save it; give weights that "
            "siamtrack saved or imported"
        )
    try:
        architecture, plain_config = metadata["architecture"], parse_json(metadata["config"])
        config = build_config(architecture, plain_config)
    except (ConfigError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} needs a network that this version cannot build: {error}; update siamtrack"
        ) from error
    try:
        digest = sha256(path)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error

    # What its card says.
    if not card_path(path).is_file():
        logger.warning("%s has no card; its contents are not verified", path)
        return WeightsFile(path, digest, architecture, config, shapes)
    card = read_card(path)
    if digest != card.sha256.lower():
        raise WeightsError(
            f"{path} is not the file that its card describes: sha256 is {digest}, the card says "
            f"{card.sha256}; get the file and its card again"
        )
    if (architecture, plain_config) != (card.architecture, card.config):
        raise WeightsError(
            f"{path} holds {architecture} {plain_config}, its card says {card.architecture} "
            f"{card.config}; take the card that came with the weights"
        )
    return WeightsFile(path, digest, architecture, config, shapes, card)


def load_network(
    weights: str | PathLike[str] | WeightsFile, device: str | torch.device = "cpu"
) -> SiameseNetwork:
    """Build the network of a weights file, in evaluation mode on `device`.

    Raises:
        WeightsError: see `open_weights`; or the tensors are damaged, not finite, or do not fit.
    """
    import safetensors.torch

    file = weights if isinstance(weights, WeightsFile) else open_weights(weights)
    network = build_network(file.architecture, file.config)
    expected = {name: tuple(t.shape) for name, t in _unique_state(network).items()}
    problems = state_problems(expected, file.shapes)
    if problems:
        raise WeightsError(
            f"{file.path} does not fit {file.architecture}: {'; '.join(problems)}; take weights "
            "saved with this configuration"
        )
    try:
        tensors = safetensors.torch.load_file(file.path)
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"cannot read {file.path}: {error}; get the file again") from error
    _check_finite(tensors, file.path)
    # Not strict: a shared branch appears in the module under a second name.
    network.load_state_dict(tensors, strict=False)
    return network.eval().to(device)


def state_problems(
    expected: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """Why tensors do not fit, by their shapes: missing, of another shape, unexpected."""
    problems = [f"missing {name}" for name in expected if name not in given]
    problems += [
        f"{name} has shape {given[name]}, needs {shape}"
        for name, shape in expected.items()
        if given.get(name, shape) != shape
    ]
    return problems + [f"unexpected {name}" for name in given if name not in expected]


# Saving


@renamed_arguments({"licence": "license"})
def save_network(
    network: SiameseNetwork,
    path: str | PathLike[str],
    *,
    training_data: Sequence[str],
    license: str,
    pairs: int | None = None,
    commit: str | None = None,
    figures: Mapping[str, float] | None = None,
    tracker: Mapping[str, Any] | None = None,
    notes: str = "",
    overwrite: bool = False,
) -> ModelCard:
    """Write a network's weights to `path`, which ends in .safetensors, and their card beside it.

    The arguments from `training_data` to `notes` are fields of the `ModelCard`, which is returned.
    Weights that exist are replaced only with `overwrite`; an interrupted write leaves them intact.

    Raises:
        OutputError: `path` exists, has another suffix or cannot be written.
        WeightsError: a weight is not finite.
    """
    import safetensors.torch

    path = Path(path)
    if path.suffix != SUFFIX:
        raise OutputError(f"weights {path} cannot be written; the name must end in {SUFFIX}")
    if path.exists() and not overwrite:
        raise OutputError(f"weights {path} exist; give another name or ask to overwrite them")
    tensors = {k: v.detach().cpu().contiguous() for k, v in _unique_state(network).items()}
    _check_finite(tensors, path)

    # The weights.
    name, config = network.architecture, config_to_dict(network.config)
    metadata = {"format": _OWNER, "architecture": name, "config": json.dumps(config)}
    atomic_write(path, safetensors.torch.save(tensors, metadata))

    # Their card.
    card = ModelCard(
        architecture=name,
        config=config,
        training_data=tuple(training_data),
        license=license,
        sha256=sha256(path),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        pairs=pairs,
        commit=commit,
        figures=dict(figures or {}),
        tracker=dict(tracker or {}),
        notes=notes,
    )
    write_card(path, card)
    return card


def _unique_state(network: SiameseNetwork) -> dict[str, Tensor]:
    """State dict without the second names of tensors that both branches share."""
    unique = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: tensor for name, tensor in network.state_dict().items() if name in unique}


def _check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise WeightsError(
            f"weights {path}: not finite in {', '.join(bad)}; the training that made them diverged"
        )


# Cards

_CARD_TYPES: dict[str, type | tuple[type, ...]] = {
    "config": dict,
    "training_data": list,
    "pairs": (int, type(None)),
    "commit": (str, type(None)),
    "figures": dict,
    "tracker": dict,
    "graphs": dict,
}
"""Types of a card's values in JSON; all others are texts."""


def card_path(weights: Path) -> Path:
    """Path of the card of a weights file: `siamfc.safetensors` has `siamfc.json`."""
    return weights.with_suffix(".json")


def read_card(name_or_path: str | PathLike[str]) -> ModelCard:
    """Read the card of a weights file; the file itself is not opened.

    Raises:
        WeightsError: no such weights or no card beside them; or the card is not JSON, has another
            format, or has fields that are missing, unknown or of the wrong type (all are listed).
    """
    weights = find_weights(name_or_path)
    path = card_path(weights)
    if not path.is_file():
        raise WeightsError(
            f"{weights} has no card; copy {path.name}, which came with the weights, into its folder"
        )
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"cannot read card {path}: {error}") from error
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

    # Fields that are missing, unknown or of the wrong type: all of them, in words.
    optional = {"pairs", "commit", "figures", "tracker", "notes", "graphs"}
    known = [_file_key(f.name) for f in fields(ModelCard)]
    problems = [f"field {name!r} is missing" for name in known if name not in {*values, *optional}]
    problems += [f"field {name!r} is unknown" for name in values if name not in known]
    problems += [
        f"field {name!r} is {shown(values[name])}"
        for name in known
        if name in values and not _is_card_value(name, values[name])
    ]
    if problems:
        raise WeightsError(
            f"card {path} does not fit: {'; '.join(problems)}; take the card that came with the "
            "weights"
        )
    values["license"] = values.pop("licence")
    values["training_data"] = tuple(values["training_data"])
    return ModelCard(**values)


def _is_card_value(name: str, value: object) -> bool:
    """Whether a value of a card's JSON has the type of its field."""
    if not isinstance(value, _CARD_TYPES.get(name, str)) or isinstance(value, bool):
        return False
    if name == "figures" and isinstance(value, dict):
        return all(type(figure) in (int, float) for figure in value.values())
    if name == "graphs" and isinstance(value, dict):
        return value.keys() <= set(GRAPHS) and all(isinstance(v, str) for v in value.values())
    return not isinstance(value, list) or all(isinstance(text, str) for text in value)


def note_graphs(weights: Path, names: Sequence[str]) -> None:
    """Write the hashes of graphs that lie beside weights into their card, if they have one.

    Engines refuse graphs whose hash is another one.

    Raises:
        WeightsError: see `read_card`; or a graph cannot be read.
        OutputError: the card cannot be written.
    """
    if not card_path(weights).is_file():
        return
    card = read_card(weights)
    try:
        hashes = {name: sha256(graph_path(weights, name)) for name in names}
    except OSError as error:
        raise WeightsError(f"cannot read {error.filename}: {error.strerror or error}") from error
    write_card(weights, replace(card, graphs={**card.graphs, **hashes}))


def graph_path(weights: Path, name: str) -> Path:
    """Path of a graph of a weights file: `siamfc.safetensors` has `siamfc.track.onnx`."""
    return weights.with_suffix(f".{name}.onnx")


def write_card(path: str | PathLike[str], card: ModelCard) -> None:
    """Write or replace the card of a weights file, for example to add figures."""
    text = json.dumps({"card_format": CARD_FORMAT, **card.to_dict()}, indent=2) + "\n"
    atomic_write(card_path(Path(path)), text)


def _file_key(name: str) -> str:
    """Key of a card's field in the file, which has always been in British spelling."""
    return "licence" if name == "license" else name


# Networks by name

_ARCHITECTURES: dict[str, tuple[type[NetworkConfig], str, str]] = {
    "siamfc": (SiamFCConfig, "siamtrack.models.siamfc", "SiamFC"),
    "siamtrack-lite0": (Lite0Config, "siamtrack.models.lite0", "SiamTrackLite0"),
}
"""Configuration, module and class of every network; the module is imported when it is needed."""


def architecture_names() -> tuple[str, ...]:
    """Names that `build_network` knows."""
    return tuple(_ARCHITECTURES)


def config_class(architecture: str) -> type[NetworkConfig]:
    """Class of an architecture's configuration."""
    if architecture not in _ARCHITECTURES:
        raise ConfigError.unknown("architecture", architecture, _ARCHITECTURES)
    return _ARCHITECTURES[architecture][0]


def build_config(architecture: str, values: Mapping[str, Any]) -> NetworkConfig:
    """Turn plain data into the configuration of an architecture; see `utils.config.build`."""
    cls = config_class(architecture)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{cls.__name__} is {values!r}; give fields by name")
    return build(cls, values, cls.__name__, f"{cls.__name__} field")


def config_to_dict(config: NetworkConfig) -> dict[str, Any]:
    """Configuration as data for JSON: tuples become lists."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}


def build_network(
    architecture: str, config: Mapping[str, Any] | NetworkConfig | None = None
) -> SiameseNetwork:
    """Make a network with random weights.

    Args:
        architecture: a name of `architecture_names`.
        config: its configuration, or the fields that differ from the defaults.

    Raises:
        ConfigError: an unknown architecture or field, a value of the wrong type or out of range,
            or the configuration of another architecture.
    """
    expected = config_class(architecture)
    if config is None or isinstance(config, Mapping):
        config = build_config(architecture, config or {})
    if type(config) is not expected:
        raise ConfigError(
            f"{architecture} was given a {type(config).__name__}; it needs a {expected.__name__}"
        )
    _, module, name = _ARCHITECTURES[architecture]
    network: SiameseNetwork = getattr(import_module(module), name)(config)
    return network


# The header of a safetensors file

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
_CHECKPOINT_SUFFIXES = {".pth", ".pt", ".tar", ".ckpt", ".mat"}


def _read_header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shape of every tensor and the metadata; checks that the file is as long as it says.

    The format: 8 bytes with the length of the header, the header in JSON, the tensors.
    """
    checkpoint = path.suffix.lower() in _CHECKPOINT_SUFFIXES
    advice = "if it is a SiamFC checkpoint, convert it with siamtrack import-weights"
    advice = advice if checkpoint else "give weights that siamtrack saved"
    other_format = WeightsError(f"{path} is not a safetensors file; {advice}")
    try:
        actual = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            text = stream.read(min(length, _MAX_HEADER_BYTES))
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    if actual >= _LENGTH_BYTES and (length > _MAX_HEADER_BYTES or text[:1] not in (b"{", b"")):
        raise other_format
    if actual < _LENGTH_BYTES or len(text) < length:
        raise WeightsError(f"{path} is truncated, its header is incomplete; get the file again")
    try:
        entries = parse_json(text)
        metadata = dict(entries.pop("__metadata__", {}))
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
        ends = [int(entry["data_offsets"][1]) for entry in entries.values()]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise other_format from error
    expected = _LENGTH_BYTES + length + max(ends, default=0)
    if actual != expected:
        state = "truncated" if actual < expected else "damaged"
        raise WeightsError(
            f"{path} is {state}: it has {actual} bytes and needs {expected}; get the file again"
        )
    return shapes, metadata


if not TYPE_CHECKING:  # a type checker would then accept any name
    __getattr__ = renamed_attributes(__name__, {"WeightsCard": "ModelCard"})
