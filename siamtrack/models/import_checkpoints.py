"""Import of the SiamFC checkpoints that circulate: a PyTorch port's and the authors' own."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from siamtrack.errors import WeightsError
from siamtrack.models.cards import WeightsCard, sha256_of
from siamtrack.models.foreign import Imported, backbone_shapes, check_shapes, config_of_width
from siamtrack.models.matconvnet import read_matconvnet
from siamtrack.models.siamfc import SiamFC, SiamFCConfig
from siamtrack.models.weights import save_network

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
_PREFIXES = ("module.", "model.", "net.", "network.")
_FLAT_INDEX = {
    "conv1.0": 0,
    "conv1.1": 1,
    "conv2.0": 4,
    "conv2.1": 5,
    "conv3.0": 8,
    "conv3.1": 9,
    "conv4.0": 11,
    "conv4.1": 12,
    "conv5.0": 14,
}


def import_siamfc(
    source: str | PathLike[str],
    destination: str | PathLike[str],
    *,
    training_data: Sequence[str] = ("unknown",),
    licence: str = "unknown",
    overwrite: bool = False,
) -> WeightsCard:
    """Convert a foreign SiamFC checkpoint into a weights file with a card.

    Args:
        source: see `read_siamfc`.
        destination: the .safetensors file to write.
        training_data: what its authors trained it on, for the card.
        licence: how its authors allow it to be used, for the card.
        overwrite: replace a destination that exists.

    Raises:
        WeightsError: see `read_siamfc`, or a weight is not finite.
        OutputError: the destination exists or cannot be written.
    """
    source = Path(source)
    imported = _read(source)
    return save_network(
        _build(imported),
        destination,
        training_data=training_data,
        licence=licence,
        notes=f"Imported from {source.name} (sha256 {sha256_of(source)}), {imported.layout}.",
        overwrite=overwrite,
    )


def read_siamfc(source: str | PathLike[str]) -> SiamFC:
    """Read a foreign SiamFC checkpoint.

    Args:
        source: a PyTorch state dict named `backbone.conv1.0.weight` or, by the port's first
            version, `feature.0.weight`; bare or inside a training checkpoint, with or without
            `module.` in front. Or a MatConvNet DagNN in a .mat file, named `conv1f` (2016) or
            `br_conv1f` (CFNet baseline, 2017).

    Returns:
        The network in evaluation mode, on the CPU.

    Raises:
        WeightsError: missing, damaged, of another kind, or tensors are missing, unexpected or of
            another shape; all of them are listed.
    """
    return _build(_read(Path(source)))


def _build(imported: Imported) -> SiamFC:
    network = SiamFC(imported.config)
    network.load_state_dict(imported.state)
    return network.eval()


def _read(path: Path) -> Imported:
    """Tell the kind of the file by its first bytes and read it."""
    try:
        with path.open("rb") as stream:
            start = stream.read(10)
    except OSError as error:
        raise WeightsError(
            f"cannot read checkpoint {path}: {error.strerror or error}; give a .pth or .mat file"
        ) from error
    if start == b"MATLAB 7.3":
        raise WeightsError(
            f"{path} is a MATLAB 7.3 file, which cannot be read; save it in MATLAB once more with "
            "the option '-v7'"
        )
    if start == b"MATLAB 5.0":
        return read_matconvnet(path)
    if start.startswith((b"PK", b"\x80")):
        return _from_torch(_read_torch(path), path)
    raise WeightsError(
        f"{path} is neither a PyTorch nor a MATLAB file; give a SiamFC checkpoint (.pth or .mat)"
    )


def _read_torch(path: Path) -> dict[str, Tensor]:
    """State dict of a PyTorch file, out of its wrappers; nothing but plain data is unpickled."""
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is damaged, or holds Python objects besides tensors, which could run code "
            "and are not loaded; save the network's state_dict() alone and import that"
        ) from error
    except Exception as error:  # Damaged files raise whatever the unpickler runs into.
        raise WeightsError(f"{path} is damaged or truncated; get the file again") from error
    keys: list[str] = []
    while isinstance(found, Mapping) and not _is_state(found):
        keys = [str(key) for key in found]
        found = next((found[key] for key in _WRAPPERS if key in found), None)
    if not isinstance(found, Mapping):
        raise WeightsError(
            f"{path} holds no state dict (its keys: {', '.join(keys) or 'none'}); save the "
            "network's state_dict() and import that"
        )
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    while all(name.startswith(_PREFIXES) for name in tensors):
        tensors = {name.partition(".")[2]: value for name, value in tensors.items()}
    return tensors


def _is_state(found: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in found.values())


def _from_torch(tensors: Mapping[str, Tensor], path: Path) -> Imported:
    """Translate both generations of the port; its networks have no bias on the response."""
    flat = any(name.startswith("feature.") for name in tensors)
    last = tensors.get("feature.14.weight" if flat else "backbone.conv5.0.weight")
    width = 0 if last is None or last.ndim != 4 else last.shape[0]
    config = config_of_width(width, SiamFCConfig().bn_eps)
    ours = backbone_shapes(config)
    theirs = {name: _flat_name(name) if flat else name for name in ours}
    # Files older than PyTorch 0.4.1 do not count batches; only training ever looks at that.
    counts = {k: torch.zeros((), dtype=torch.long) for k in theirs.values() if "num_batches" in k}
    given = {**counts, **tensors}
    expected = {theirs[name]: shape for name, shape in ours.items()}
    check_shapes(expected, {name: tuple(value.shape) for name, value in given.items()}, path)
    state = {name: given[theirs[name]] for name in ours}
    state["response_bias"] = torch.zeros(1)
    example = theirs["backbone.conv1.0.weight"]
    return Imported(state, config, f"a PyTorch state dict named {example}")


def _flat_name(name: str) -> str:
    """`backbone.conv2.0.weight` was `feature.4.weight` in the port's first version."""
    layer, leaf = name.removeprefix("backbone.").rsplit(".", 1)
    return f"feature.{_FLAT_INDEX[layer]}.{leaf}"
