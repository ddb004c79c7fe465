"""What runs the networks: engines behind one small interface."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from siamtrack.engines.base import Engine
from siamtrack.engines.graphs import graph_paths
from siamtrack.engines.torch_engine import TorchEngine, resolve_device
from siamtrack.errors import ConfigError, EngineError
from siamtrack.models.network import TrackerNetwork

logger = logging.getLogger(__name__)

ENGINES = ("auto", "torch", "onnx")


class Source(NamedTuple):
    """Weights to run.

    Attributes:
        network: in evaluation mode.
        path: the file they are from; None for weights without one.
        sha256: of that file.
    """

    network: TrackerNetwork
    path: Path | None = None
    sha256: str = ""


def make_engine(source: Source, *, engine: str = "auto", device: str = "auto") -> Engine:
    """Choose and make the engine for weights.

    "auto" takes ONNX Runtime on the CPU when graphs of exactly these weights lie beside them, and
    torch otherwise.

    Raises:
        ConfigError: no engine has that name.
        DeviceError: no such device on this machine.
        EngineError: the engine that was asked for is not installed or cannot run these weights.
    """
    if engine not in ENGINES:
        raise ConfigError.unknown("engine", engine, ENGINES)
    resolved = resolve_device(device)
    if engine == "torch":
        return TorchEngine(source.network, resolved)
    if engine == "onnx":
        return _onnx(source, str(resolved))
    if resolved.type == "cpu" and _has_graphs(source) and find_spec("onnxruntime"):
        try:
            return _onnx(source, "cpu")
        except EngineError as error:
            logger.warning("%s; torch runs the network instead", error)
    return TorchEngine(source.network, resolved)


def _has_graphs(source: Source) -> bool:
    return source.path is not None and all(p.is_file() for p in graph_paths(source.path).values())


def _onnx(source: Source, device: str) -> Engine:
    try:
        from siamtrack.engines.onnx_engine import OnnxEngine
    except ImportError as error:
        raise EngineError(
            'ONNX Runtime is not installed; pip install onnxruntime, or use engine "torch"'
        ) from error
    if source.path is None:
        raise EngineError(
            'engine "onnx" runs weights from a .safetensors file; import the checkpoint with '
            'tools/import_weights.py first, or use engine "torch"'
        )
    return OnnxEngine(source.path, source.sha256, device=device)
