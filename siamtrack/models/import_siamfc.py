"""What the importers of foreign SiamFC checkpoints share."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siamtrack.errors import WeightsError
from siamtrack.models.siamfc import SiamFC, SiamFCConfig
from siamtrack.models.weights import WeightsCard, save_network, sha256_of, state_problems

_STRIDE_OF_WIDTH = {256: 8, 32: 4}


class Imported(NamedTuple):
    """A checkpoint in our terms.

    Attributes:
        state: tensors under the names of `SiamFC`.
        config: the configuration that they need.
        layout: where they come from, in words.
    """

    state: dict[str, Tensor]
    config: SiamFCConfig
    layout: str


def config_of_width(out_channels: int, bn_eps: float) -> SiamFCConfig:
    """Configuration of the published network whose last convolution is so wide.

    A width that no published network has gives the paper's, whose shapes then do not match.
    """
    if out_channels not in _STRIDE_OF_WIDTH:
        return SiamFCConfig(bn_eps=bn_eps)
    stride = _STRIDE_OF_WIDTH[out_channels]
    return SiamFCConfig(total_stride=stride, out_channels=out_channels, bn_eps=bn_eps)


def backbone_shapes(config: SiamFCConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the backbone, by its name in `SiamFC`."""
    with torch.device("meta"):
        state = SiamFC(config).state_dict()
    return {k: tuple(v.shape) for k, v in state.items() if k.startswith("backbone.")}


def check_shapes(
    expected: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]], path: Path
) -> None:
    """Compare tensors with what a SiamFC needs, both under the names that the file uses.

    Raises:
        WeightsError: tensors are missing, of another shape or unexpected; all are listed.
    """
    problems = state_problems(expected, given)
    if problems:
        raise WeightsError(
            f"{path} does not hold a SiamFC: {'; '.join(problems)}; give a checkpoint of the "
            "AlexNet tracker"
        )


_BN_EPS = 1e-4
_SUFFIX = {
    "0.weight": "f",
    "0.bias": "b",
    "1.weight": "m",
    "1.bias": "b",
    "1.running_mean": "x",
    "1.running_var": "x",
}
_Arrays = dict[str, NDArray[np.float32]]


def read_matconvnet(path: Path) -> Imported:
    """Read the network of 2016 (parameters `conv1f`, ...) or of 2017 (`br_conv1f`, ...).

    Raises:
        WeightsError: damaged, not a DagNN, or parameters are missing, unexpected, of another shape
            or without variance.
    """
    given = _read_params(path)
    prefix = "br_" if any(name.startswith("br_") for name in given) else ""
    last = given.get(f"{prefix}conv5f")
    config = config_of_width(0 if last is None else last.shape[-1], _BN_EPS)
    ours = backbone_shapes(config)
    theirs = {name: _their_name(name, prefix) for name in ours if _tracked(name)}
    expected = {theirs[name]: _their_shape(name, ours[name]) for name in theirs}
    with_norm = any(name.startswith("fin_adjust_bn") for name in given)
    expected |= (
        {"fin_adjust_bnm": (1,), "fin_adjust_bnb": (1,), "fin_adjust_bnx": (2,)}
        if with_norm
        else {"adjust_f": (1,), "adjust_b": (1,)}
    )
    check_shapes(expected, {k: v.shape for k, v in given.items()}, path)
    _check_deviations(given, path)
    state = {name: torch.zeros((), dtype=torch.long) for name in ours}
    for name, source in theirs.items():
        state[name] = torch.from_numpy(_convert(name, given[source]))
    scale, bias = _adjustment(given, with_norm)
    state["response_bias"] = torch.tensor([bias])
    config = replace(config, response_scale=scale)
    return Imported(state, config, f"a MatConvNet network named {prefix}conv1f")


def _read_params(path: Path) -> _Arrays:
    """Values of `net.params` by name; vectors lose the second axis that MATLAB gives them."""
    import scipy.io  # Slow to import, and nothing else here needs it.

    try:
        found = scipy.io.loadmat(path, variable_names=["net"])
    except Exception as error:  # Damaged files raise whatever the parser runs into.
        raise WeightsError(f"{path} is damaged or truncated; get the file again") from error
    try:
        params = found["net"]["params"].item().reshape(-1)
        return {str(p["name"].item()): _tidy(p["value"]) for p in params}
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise WeightsError(
            f"{path} holds no MatConvNet DagNN; it needs a struct net with net.params(i).name and "
            "net.params(i).value"
        ) from error


def _tidy(value: Any) -> NDArray[np.float32]:
    array = np.asarray(value, dtype=np.float32)
    return array.reshape(-1) if array.ndim == 2 and 1 in array.shape else array


def _tracked(name: str) -> bool:
    """Whether MatConvNet keeps this tensor; it does not count batches."""
    return not name.endswith("num_batches_tracked")


def _their_name(name: str, prefix: str) -> str:
    """`backbone.conv1.1.bias` is `bn1b`; mean and variance are both in `bn1x`."""
    block, leaf = name.removeprefix("backbone.conv").split(".", 1)
    return f"{prefix}{'conv' if leaf[0] == '0' else 'bn'}{block}{_SUFFIX[leaf]}"


def _their_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 4:
        out_channels, in_channels, height, width = shape
        return height, width, in_channels, out_channels
    return (*shape, 2) if "running" in name else shape


def _convert(name: str, value: NDArray[np.float32]) -> NDArray[np.float32]:
    """One tensor of ours from the array of theirs that holds it."""
    if value.ndim == 4:
        return np.ascontiguousarray(value.transpose(3, 2, 0, 1))
    if name.endswith("running_mean"):
        return value[:, 0].copy()
    if name.endswith("running_var"):
        return (value[:, 1].astype(np.float64) ** 2 - _BN_EPS).astype(np.float32)
    return value


def _check_deviations(given: _Arrays, path: Path) -> None:
    """A standard deviation of 0 comes from a network whose moments were never computed."""
    bad = [k for k, v in given.items() if k.endswith("x") and not (v[..., 1] > 0).all()]
    if bad:
        raise WeightsError(
            f"{path}: batch norm without variance in {', '.join(bad)}; give a trained network"
        )


def _adjustment(given: _Arrays, with_norm: bool) -> tuple[float, float]:
    """Factor and offset on the correlation."""
    if not with_norm:
        return float(given["adjust_f"][0]), float(given["adjust_b"][0])
    mean, deviation = (float(value) for value in given["fin_adjust_bnx"])
    scale = float(given["fin_adjust_bnm"][0]) / deviation
    return scale, float(given["fin_adjust_bnb"][0]) - mean * scale


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
