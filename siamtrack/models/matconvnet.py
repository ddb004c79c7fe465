"""The authors' SiamFC networks, saved by MatConvNet as a DagNN in a .mat file.

Filters lie as (height, width, in, out). The moments of batch norm are the mean and, unlike
anywhere else, sqrt(variance + 1e-4). The last layer is a factor and an offset on the correlation;
in the CFNet baseline it is a batch norm of one channel.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from siamtrack.errors import WeightsError
from siamtrack.models.foreign import Imported, backbone_shapes, check_shapes, config_of_width

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
