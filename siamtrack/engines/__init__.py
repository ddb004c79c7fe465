"""Engines run the networks, all behind one small interface. This file chooses between them.

Reading order:
    base: `Engine` and what it takes and returns, `Exemplar` and `Response`.
    torch_engine: PyTorch, the reference, on any device.
    graphs: the two exported graphs, and what both engines that run them share.
    onnx_engine, openvino_engine: ONNX Runtime, and OpenVINO, the fastest on a CPU.
    devices: "auto", "cpu", "cuda:1" and so on.
"""

from __future__ import annotations

import logging
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from siamtrack.engines.base import Engine
from siamtrack.engines.devices import resolve_device
from siamtrack.engines.graphs import DamagedGraphError, graph_paths
from siamtrack.errors import ConfigError, EngineError, explain_missing
from siamtrack.models.weights import INT8, TRACK, WeightsFile, load_network
from siamtrack.utils.config import renamed_attributes

if TYPE_CHECKING:
    from siamtrack.models.network import SiameseNetwork

logger = logging.getLogger(__name__)

GRAPH_ENGINES = {"openvino": "siamtrack[openvino]", "onnx": "onnxruntime"}
"""Engines that run exported graphs, the fastest one first, and what installs them."""

ENGINES = ("auto", *GRAPH_ENGINES, "torch")

_PRECISIONS = {"openvino": ("f32", "bf16", "int8"), "onnx": ("f32", "int8")}
_MODULES = {"openvino": "openvino", "onnx": "onnxruntime"}


class ModelSource:
    """Weights to run: a weights file, or a network in memory, which has no `path` and no hash."""

    def __init__(self, model: WeightsFile | SiameseNetwork) -> None:
        self._model = model
        self.architecture: str = model.architecture
        self.path: Path | None = None
        self.sha256 = ""
        # Hashes of the graphs by name, from the card; None without one: nothing is verified.
        self.graph_sha256: dict[str, str] | None = None
        if isinstance(model, WeightsFile):
            self.path, self.sha256 = model.path, model.sha256
            self.graph_sha256 = model.card.graphs if model.card else None

    @cached_property
    def network(self) -> SiameseNetwork:
        """The network in evaluation mode, loaded when an engine needs it (graph engines do not).

        Raises:
            WeightsError: the tensors are damaged, not finite, or do not fit the network.
            MissingPackageError: torch is not installed.
        """
        if not isinstance(self._model, WeightsFile):
            return self._model
        with explain_missing("loading a network"):
            return load_network(self._model)


class EngineChoice(NamedTuple):
    """The engine that "auto" takes; `skipped` says by name why each faster one was not taken."""

    engine: Engine
    skipped: dict[str, str]


def make_engine(
    source: ModelSource, *, engine: str = "auto", device: str = "auto", threads: int = 0
) -> Engine:
    """Make the engine that runs a source's weights.

    Args:
        source: the weights.
        engine: one of `ENGINES`; "auto" is `choose_engine`. A suffix sets the precision:
            "openvino:f32", "openvino:bf16" (the default where the CPU has it), "openvino:int8" and
            "onnx:int8", which run the graph of `siamtrack export --int8`.
        device: see `resolve_device`.
        threads: CPU threads of an engine that runs graphs; 0 for its own choice. Torch has one
            number of threads for the whole process: `torch.set_num_threads`.

    Raises:
        ConfigError: no engine has that name, or the engine has no such precision.
        DeviceError: no such device on this machine.
        EngineError: the engine that was asked for is not installed or cannot run these weights, or
            a graph is damaged.
    """
    if not isinstance(engine, str):
        raise ConfigError.unknown("engine", engine, ENGINES)
    name, colon, precision = engine.partition(":")
    if name not in ENGINES:
        raise ConfigError.unknown("engine", name, ENGINES)
    known = _PRECISIONS.get(name, ())
    if colon and precision not in known:
        if known:
            raise ConfigError.unknown("engine", engine, [name, *(f"{name}:{p}" for p in known)])
        choices = " or ".join(f'"{n}:{p}"' for n, ps in _PRECISIONS.items() for p in ps)
        raise ConfigError(
            f'engine {engine!r}: {name} has no precision to choose; give "{name}", or {choices}'
        )
    if name == "auto":
        return choose_engine(source, device=device, threads=threads).engine
    resolved = resolve_device(device)
    if name == "torch":
        return _torch_engine(source, resolved)
    return _graph_engine(name, source, resolved, threads, precision)


def choose_engine(source: ModelSource, *, device: str = "auto", threads: int = 0) -> EngineChoice:
    """Take the fastest engine that can run these weights here (arguments: see `make_engine`).

    On the CPU that is the first of `GRAPH_ENGINES` that is installed, if graphs of exactly these
    weights lie beside them; torch runs everything else. OpenVINO computes in bf16 where the CPU
    has it. Elsewhere the int8 graph is taken if there is one, which is as fast.

    Raises:
        DeviceError: no such device on this machine.
        EngineError: a graph is damaged.
    """
    resolved = resolve_device(device)
    skipped: dict[str, str] = {}
    for name in GRAPH_ENGINES:
        problem = _why_unavailable(name, source, resolved)
        for precision in () if problem else _fastest_precisions(name, source):
            try:
                engine = _graph_engine(name, source, resolved, threads, precision)
            except DamagedGraphError:
                raise  # of files that came together, no other can be trusted without a word
            except EngineError as error:
                problem = str(error)
                tried = f"{name}:{precision}" if precision else name
                logger.warning("%s; another engine than %s runs the network", problem, tried)
            else:
                return EngineChoice(engine, skipped)
        skipped[name] = problem
    return EngineChoice(_torch_engine(source, resolved), skipped)


def _why_unavailable(name: str, source: ModelSource, device: str) -> str:
    """Why an engine cannot be tried, "" if it can; these reasons are normal and give no warning."""
    if not device.startswith("cpu"):
        return f"torch is taken on {device}"
    if not find_spec(_MODULES[name]):
        return f"not installed (pip install '{GRAPH_ENGINES[name]}')"
    if source.path is None:
        return "the weights are not in a .safetensors file"
    missing = [path for path in graph_paths(source.path).values() if not path.is_file()]
    return f"there is no graph {missing[0]} (siamtrack export makes it)" if missing else ""


def _fastest_precisions(name: str, source: ModelSource) -> tuple[str, ...]:
    """Precisions that "auto" tries, the fastest first; "" is the engine's own choice."""
    if source.path is None or not graph_paths(source.path, INT8)[TRACK].is_file():
        return ("",)
    if name == "openvino":
        from siamtrack.engines.openvino_engine import has_bf16

        return ("",) if has_bf16() else (INT8, "")
    return (INT8, "")


def _torch_engine(source: ModelSource, device: str) -> Engine:
    try:
        from siamtrack.engines.torch_engine import TorchEngine
    except ModuleNotFoundError as error:
        graphs = "weights with graphs beside them (siamtrack export makes them, with torch)"
        raise EngineError(
            f'engine "torch" is not installed; pip install torch, or run {graphs} in "onnx"'
        ) from error

    return TorchEngine(source.network, device, source.sha256)


def _graph_engine(
    name: str, source: ModelSource, device: str, threads: int, precision: str = ""
) -> Engine:
    if source.path is None:
        raise EngineError(
            f'engine "{name}" runs weights from a .safetensors file; import the checkpoint with '
            'siamtrack import-weights first, or use engine "torch"'
        )
    weights = source.path, source.sha256
    try:
        if name == "onnx":
            from siamtrack.engines.onnx_engine import OnnxEngine

            return OnnxEngine(
                *weights, device=device, threads=threads, precision=precision or "f32",
                graph_sha256=source.graph_sha256,
            )  # fmt: skip

        from siamtrack.engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(
            *weights, device=device, threads=threads, inference_precision=precision or "auto",
            graph_sha256=source.graph_sha256,
        )  # fmt: skip
    except ImportError as error:
        raise EngineError(
            f"engine \"{name}\" is not installed; pip install '{GRAPH_ENGINES[name]}', or use "
            f'engine "{"onnx" if name == "openvino" else "torch"}"'
        ) from error


if not TYPE_CHECKING:  # a type checker would then accept any name
    __getattr__ = renamed_attributes(__name__, {"Source": "ModelSource", "Choice": "EngineChoice"})
