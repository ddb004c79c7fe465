"""What runs the networks: engines behind one small interface."""

from __future__ import annotations

from siamtrack.engines.base import Engine
from siamtrack.engines.torch_engine import TorchEngine
from siamtrack.errors import ConfigError
from siamtrack.models.network import TrackerNetwork

ENGINES = ("auto", "torch")


def make_engine(network: TrackerNetwork, *, engine: str = "auto", device: str = "auto") -> Engine:
    """Choose and make the engine for a network.

    Args:
        network: in evaluation mode.
        engine: a name of `ENGINES`.
        device: "auto", "cpu", "cuda", "cuda:0" or "mps".

    Raises:
        ConfigError: no engine has that name.
        DeviceError: no such device on this machine.
    """
    if engine not in ENGINES:
        raise ConfigError.unknown("engine", engine, ENGINES)
    return TorchEngine(network, device)
