"""SiamFC checkpoints of other projects: PyTorch state dicts and MatConvNet networks."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from siamtrack.errors import WeightsError
from siamtrack.models.config import SiamFCConfig
from siamtrack.models.siamfc import SiamFC
from siamtrack.models.unpacked_size import check_unpacked_size
from siamtrack.models.weights import ModelCard, save_network, state_problems
from siamtrack.types import Float32Array
from siamtrack.utils.config import renamed_arguments
from siamtrack.utils.files import sha256


@renamed_arguments({"licence": "license"})
def import_siamfc(
    source: str | PathLike[str],
    destination: str | PathLike[str],
    *,
    training_data: Sequence[str] = ("unknown",),
    license: str = "unknown",
    overwrite: bool = False,
) -> ModelCard:
    """Convert a SiamFC checkpoint of another project into a weights file with a card.

    Args:
        source: see `read_siamfc`.
        destination: the .safetensors file to write.
        training_data: what its authors trained it on, for the card.
        license: how its authors allow it to be used, for the card.
        overwrite: replace a destination that exists.

    Raises:
        WeightsError: see `read_siamfc`, or a weight is not finite.
        OutputError: the destination exists or cannot be written.
    """
    source = Path(source)
    network, layout = _read(source)
    return save_network(
        network,
        destination,
        training_data=training_data,
        license=license,
        notes=f"Imported from {source.name} (sha256 {sha256(source)}), {layout}.",
        overwrite=overwrite,
    )


def read_siamfc(source: str | PathLike[str]) -> SiamFC:
    """Read a SiamFC checkpoint of another project: a network in evaluation mode, on the CPU.

    Args:
        source: a PyTorch state dict named `backbone.conv1.0.weight` or, by the port's first
            version, `feature.0.weight`; bare or inside a training checkpoint, with or without
            `module.` in front. Or a MatConvNet DagNN in a .mat file, named `conv1f` (2016) or
            `br_conv1f` (CFNet baseline, 2017).

    Raises:
        WeightsError: missing, damaged, of another kind, or tensors are missing, unexpected or of
            another shape; all of them are listed.
    """
    return _read(Path(source))[0]


def _read(path: Path) -> tuple[SiamFC, str]:
    """Network of a file, whose kind its first bytes tell; and its layout in words."""
    start = check_unpacked_size(path)
    if start == b"MATLAB 7.3":
        raise WeightsError(
            f"{path} is a MATLAB 7.3 file, which cannot be read; save it in MATLAB once more with "
            "the option '-v7'"
        )
    if start == b"MATLAB 5.0":
        return _from_matconvnet(_read_matlab(path), path)
    if start.startswith((b"PK", b"\x80")):
        return _from_pytorch(_read_torch(path), path)
    raise WeightsError(
        f"{path} is neither a PyTorch nor a MATLAB file; give a SiamFC checkpoint (.pth or .mat)"
    )


# What both kinds share


def _config_and_shapes(
    out_channels: int, bn_eps: float
) -> tuple[SiamFCConfig, dict[str, tuple[int, ...]]]:
    """The published network whose last convolution has this width, and its backbone's shapes.

    Another width gives the paper's network, whose shapes then do not match.
    """
    config = SiamFCConfig(bn_eps=bn_eps)
    if out_channels == 32:
        config = replace(config, total_stride=4, out_channels=32)
    with torch.device("meta"):
        state = SiamFC(config).state_dict()
    return config, {k: tuple(v.shape) for k, v in state.items() if k.startswith("backbone.")}


def _build(config: SiamFCConfig, state: dict[str, Tensor]) -> SiamFC:
    network = SiamFC(config)
    network.load_state_dict(state)
    return network.eval()


def _check_shapes(
    expected: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]], path: Path
) -> None:
    """Compare tensors with what a SiamFC needs, both under the names of the file."""
    problems = state_problems(expected, given)
    if problems:
        raise WeightsError(
            f"{path} does not hold a SiamFC: {'; '.join(problems)}; give a checkpoint of the "
            "AlexNet tracker"
        )


# PyTorch

_MOST_WRAPPERS = 4  # of a state dict in each other
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
_PREFIXES = ("module.", "model.", "net.", "network.")
_CONVOLUTIONS_AND_NORMS = "conv1.0 conv1.1 conv2.0 conv2.1 conv3.0 conv3.1 conv4.0 conv4.1 conv5.0"
_FLAT_INDEX = dict(
    zip(_CONVOLUTIONS_AND_NORMS.split(), (0, 1, 4, 5, 8, 9, 11, 12, 14), strict=True)
)
"""Layers of the port's first version, which was one `nn.Sequential` named `feature`."""


def _read_torch(path: Path) -> dict[str, Tensor]:
    """State dict of a PyTorch file, out of its wrappers; unpickles nothing but plain data."""
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is damaged, or holds Python objects besides tensors, which could run code "
            "and are not loaded; save the network's state_dict() alone and import that"
        ) from error
    except Exception as error:  # Damaged files raise whatever the unpickler runs into.
        raise WeightsError(f"{path} is damaged or truncated; get the file again") from error

    # Unwrap a training checkpoint.
    keys: list[str] = []
    for _ in range(_MOST_WRAPPERS):
        if not isinstance(found, Mapping) or any(isinstance(v, Tensor) for v in found.values()):
            break
        keys = [str(key) for key in found]
        found = next((found[key] for key in _WRAPPERS if key in found), None)
    if not isinstance(found, Mapping) or not any(isinstance(v, Tensor) for v in found.values()):
        raise WeightsError(
            f"{path} holds no state dict (its keys: {', '.join(keys)[:200] or 'none'}); save the "
            "network's state_dict() and import that"
        )

    # Remove the prefixes that wrappers of the network leave.
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    while all(name.startswith(_PREFIXES) for name in tensors):
        tensors = {name.partition(".")[2]: value for name, value in tensors.items()}
    return tensors


def _from_pytorch(tensors: Mapping[str, Tensor], path: Path) -> tuple[SiamFC, str]:
    """Translate both versions of the port; its networks have no bias on the response."""
    flat = any(name.startswith("feature.") for name in tensors)
    last = tensors.get("feature.14.weight" if flat else "backbone.conv5.0.weight")
    width = 0 if last is None or last.ndim != 4 else last.shape[0]
    config, ours = _config_and_shapes(width, SiamFCConfig().bn_eps)
    theirs = {name: _flat_name(name) if flat else name for name in ours}

    # Files older than PyTorch 0.4.1 do not count batches; only training uses the counts.
    counts = {k: torch.zeros((), dtype=torch.long) for k in theirs.values() if "num_batches" in k}
    given = {**counts, **tensors}
    expected = {theirs[name]: shape for name, shape in ours.items()}
    _check_shapes(expected, {name: tuple(value.shape) for name, value in given.items()}, path)

    state = {name: given[theirs[name]] for name in ours}
    state["response_bias"] = torch.zeros(1)
    layout = f"a PyTorch state dict named {theirs['backbone.conv1.0.weight']}"
    return _build(config, state), layout


def _flat_name(name: str) -> str:
    """`backbone.conv2.0.weight` was `feature.4.weight` in the port's first version."""
    layer, leaf = name.removeprefix("backbone.").rsplit(".", 1)
    return f"feature.{_FLAT_INDEX[layer]}.{leaf}"


# MatConvNet

_BN_EPS = 1e-4
_SUFFIX = {
    "0.weight": "f",
    "0.bias": "b",
    "1.weight": "m",
    "1.bias": "b",
    "1.running_mean": "x",
    "1.running_var": "x",
}
"""Last letter of a parameter's name; "x" holds mean and standard deviation of a batch norm."""


def _read_matlab(path: Path) -> dict[str, Float32Array]:
    """Values of `net.params` by name; vectors lose the second axis that MATLAB gives them."""
    import scipy.io  # Slow to import, and nothing else here needs it.

    try:
        found = scipy.io.loadmat(path, variable_names=["net"])
    except Exception as error:  # Damaged files raise whatever the parser runs into.
        raise WeightsError(f"{path} is damaged or truncated; get the file again") from error
    values: dict[str, Float32Array] = {}
    try:
        for parameter in found["net"]["params"].item().reshape(-1):
            value = np.asarray(parameter["value"], dtype=np.float32)
            is_vector = value.ndim == 2 and 1 in value.shape
            values[str(parameter["name"].item())] = value.reshape(-1) if is_vector else value
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise WeightsError(
            f"{path} holds no MatConvNet DagNN; it needs a struct net with net.params(i).name and "
            "net.params(i).value"
        ) from error
    return values


def _from_matconvnet(given: Mapping[str, Float32Array], path: Path) -> tuple[SiamFC, str]:
    """Translate the network of 2016 (parameters `conv1f`, ...) or of 2017 (`br_conv1f`, ...)."""
    prefix = "br_" if any(name.startswith("br_") for name in given) else ""
    last = given.get(f"{prefix}conv5f")
    config, ours = _config_and_shapes(0 if last is None else last.shape[-1], _BN_EPS)

    # Names and shapes. MatConvNet does not count batches.
    names = [name for name in ours if not name.endswith("batches_tracked")]
    theirs = {name: _matconvnet_name(name, prefix) for name in names}
    expected = {theirs[name]: _matconvnet_shape(name, ours[name]) for name in names}
    has_norm = any(name.startswith("fin_adjust_bn") for name in given)
    expected |= (
        {"fin_adjust_bnm": (1,), "fin_adjust_bnb": (1,), "fin_adjust_bnx": (2,)}
        if has_norm
        else {"adjust_f": (1,), "adjust_b": (1,)}
    )
    _check_shapes(expected, {k: v.shape for k, v in given.items()}, path)

    # A standard deviation of 0 comes from a network whose moments were never computed.
    bad = [k for k, v in given.items() if k.endswith("x") and not (v[..., 1] > 0).all()]
    if bad:
        raise WeightsError(
            f"{path}: batch norm without variance in {', '.join(bad)}; give a trained network"
        )

    # Values of the backbone.
    state = {name: torch.zeros((), dtype=torch.long) for name in ours}
    for name, source in theirs.items():
        state[name] = torch.from_numpy(_from_matconvnet_value(name, given[source]))

    # Scale and bias of the response, in 2017 written as a batch norm.
    if has_norm:
        mean, deviation = (float(value) for value in given["fin_adjust_bnx"])
        scale = float(given["fin_adjust_bnm"][0]) / deviation
        bias = float(given["fin_adjust_bnb"][0]) - mean * scale
    else:
        scale, bias = float(given["adjust_f"][0]), float(given["adjust_b"][0])
    state["response_bias"] = torch.tensor([bias])
    network = _build(replace(config, response_scale=scale), state)
    return network, f"a MatConvNet network named {prefix}conv1f"


def _matconvnet_name(name: str, prefix: str) -> str:
    """`backbone.conv1.1.bias` is `bn1b`; mean and variance are both in `bn1x`."""
    block, leaf = name.removeprefix("backbone.conv").split(".", 1)
    return f"{prefix}{'conv' if leaf[0] == '0' else 'bn'}{block}{_SUFFIX[leaf]}"


def _matconvnet_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 4:
        out_channels, in_channels, height, width = shape
        return height, width, in_channels, out_channels
    return (*shape, 2) if "running" in name else shape


def _from_matconvnet_value(name: str, value: Float32Array) -> Float32Array:
    if value.ndim == 4:
        return np.ascontiguousarray(value.transpose(3, 2, 0, 1))  # HWIO to OIHW
    if name.endswith("running_mean"):
        return value[:, 0].copy()
    if name.endswith("running_var"):
        # MatConvNet stores sqrt(variance + epsilon).
        return (value[:, 1].astype(np.float64) ** 2 - _BN_EPS).astype(np.float32)
    return value
