"""What runs the networks: engines behind one small interface."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, NoReturn

import torch

from siamtrack.engines.base import Engine
from siamtrack.engines.graphs import INT8, TRACK, graph_paths
from siamtrack.engines.torch_engine import TorchEngine, resolve_device
from siamtrack.errors import ConfigError, EngineError
from siamtrack.models.network import TrackerNetwork

logger = logging.getLogger(__name__)

GRAPH_ENGINES = {"openvino": "siamtrack[openvino]", "onnx": "onnxruntime"}
"""Engines that run exported graphs, the fastest one first, and what installs them."""

ENGINES = ("auto", *GRAPH_ENGINES, "torch")

_PRECISIONS = {"openvino": ("f32", "bf16", "int8"), "onnx": ("f32", "int8")}
_PACKAGES = {"openvino": "openvino", "onnx": "onnxruntime"}


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


class Choice(NamedTuple):
    """What "auto" came to.

    Attributes:
        engine: ready to run.
        passed_over: by name, why each faster engine was not taken.
    """

    engine: Engine
    passed_over: dict[str, str]


def make_engine(
    source: Source, *, engine: str = "auto", device: str = "auto", threads: int = 0
) -> Engine:
    """Choose and make the engine for weights.

    Args:
        source: the weights.
        engine: one of `ENGINES`. "openvino:f32" and "openvino:bf16" also say what OpenVINO is to
            compute in, which is bf16 where the CPU has it unless told; "onnx" computes in f32.
            "openvino:int8" and "onnx:int8" run the graph that `siamtrack export --int8` makes. For
            "auto" see `choose_engine`.
        device: see `resolve_device`.
        threads: CPU threads of an engine that runs graphs; 0 for its own choice. That of torch is
            one for the whole process: `torch.set_num_threads`.

    Raises:
        ConfigError: no engine has that name, or the engine has no such precision.
        DeviceError: no such device on this machine.
        EngineError: the engine that was asked for is not installed or cannot run these weights.
    """
    name, _, precision = engine.partition(":")
    if name not in ENGINES:
        raise ConfigError.unknown("engine", name, ENGINES)
    if precision and precision not in _PRECISIONS.get(name, ()):
        _refuse_precision(engine, name)
    if name == "auto":
        return choose_engine(source, device=device, threads=threads).engine
    resolved = resolve_device(device)
    if name == "torch":
        return TorchEngine(source.network, resolved)
    return _graph_engine(name, source, resolved, threads, precision)


def _refuse_precision(engine: str, name: str) -> NoReturn:
    known = [f"{name}:{p}" for p in _PRECISIONS.get(name, ())]
    if known:
        raise ConfigError.unknown("engine", engine, [name, *known])
    choices = " or ".join(f'"{n}:{p}"' for n, ps in _PRECISIONS.items() for p in ps)
    raise ConfigError(
        f'engine {engine!r}: {name} has no precision to choose; give "{name}", or {choices}'
    )


def choose_engine(source: Source, *, device: str = "auto", threads: int = 0) -> Choice:
    """Take the fastest engine that can run these weights here.

    On the CPU that is the first of `GRAPH_ENGINES` that is installed, if graphs of exactly these
    weights lie beside them; torch runs everything else. OpenVINO computes in bf16 where the CPU
    has it; otherwise the graph in 8 bits is taken if there is one, which is as fast.

    Args:
        source: the weights.
        device: see `resolve_device`.
        threads: see `make_engine`.

    Raises:
        DeviceError: no such device on this machine.
    """
    resolved = resolve_device(device)
    passed_over: dict[str, str] = {}
    for name in GRAPH_ENGINES:
        problem = _obstacle(name, source, resolved)
        precisions = () if problem else _precisions(name, source)
        for precision in precisions:
            try:
                engine = _graph_engine(name, source, resolved, threads, precision)
            except EngineError as error:
                problem = str(error)
                tried = f"{name}:{precision}" if precision else name
                logger.warning("%s; another engine than %s runs the network", problem, tried)
            else:
                return Choice(engine, passed_over)
        passed_over[name] = problem
    return Choice(TorchEngine(source.network, resolved), passed_over)


def _obstacle(name: str, source: Source, device: torch.device) -> str:
    """Why an engine need not be tried, "" if it may be; nothing of this is worth a warning."""
    if device.type != "cpu":
        return f"torch is taken on {device}"
    if not find_spec(_PACKAGES[name]):
        return f"not installed (pip install '{GRAPH_ENGINES[name]}')"
    if source.path is None:
        return "the weights are not in a .safetensors file"
    missing = [path for path in graph_paths(source.path).values() if not path.is_file()]
    return f"there is no graph {missing[0]} (siamtrack export makes it)" if missing else ""


def _precisions(name: str, source: Source) -> tuple[str, ...]:
    """What "auto" has an engine compute in, the fastest first; "" for the engine's own choice."""
    if source.path is None or not graph_paths(source.path, INT8)[TRACK].is_file():
        return ("",)
    if name == "openvino":
        from siamtrack.engines.openvino_engine import has_bf16

        return ("",) if has_bf16() else (INT8, "")
    return (INT8, "")


def _graph_engine(
    name: str, source: Source, device: torch.device, threads: int, precision: str = ""
) -> Engine:
    if source.path is None:
        raise EngineError(
            f'engine "{name}" runs weights from a .safetensors file; import the checkpoint with '
            'siamtrack import-weights first, or use engine "torch"'
        )
    weights, sha256, where = source.path, source.sha256, str(device)
    try:
        if name == "onnx":
            from siamtrack.engines.onnx_engine import OnnxEngine

            return OnnxEngine(
                weights, sha256, device=where, threads=threads, precision=precision or "f32"
            )
        from siamtrack.engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(
            weights,
            sha256,
            device=where,
            threads=threads,
            inference_precision=precision or "auto",
        )
    except ImportError as error:
        raise EngineError(
            f"engine \"{name}\" is not installed; pip install '{GRAPH_ENGINES[name]}', or use "
            'engine "torch"'
        ) from error
