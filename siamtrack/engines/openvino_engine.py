"""OpenVINO: the fastest engine on a CPU, above all where the CPU multiplies in bf16."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from siamtrack.engines.base import Exemplar, Response, engine_errors
from siamtrack.engines.graphs import Graph, GraphEngine, default_threads, rows_of, to_response
from siamtrack.errors import ConfigError, EngineError, OutputError
from siamtrack.types import Float32Array, Image
from siamtrack.utils.files import atomic_write, sha256

# On import, OpenVINO reports its use to a server from a forked process. Where the server does not
# answer, that process can hang, and it keeps the pipes of an evaluation's worker open, for which
# the evaluation then waits. Without the package for reports OpenVINO sends none.
_hide_telemetry = "openvino_telemetry" not in sys.modules
if _hide_telemetry:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino as ov  # noqa: E402

if _hide_telemetry:
    del sys.modules["openvino_telemetry"]

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "SIAMTRACK_CACHE"
"""Environment variable with a folder that keeps compiled networks, so that the next start reads
them; without it nothing is kept."""

_HASH_BYTES = hashlib.sha256().digest_size

PRECISIONS = ("auto", "bf16", "f32", "int8")


class OpenVinoEngine(GraphEngine):
    """Runs the graphs in OpenVINO on the CPU, compiled for the lowest latency of one frame."""

    name = "openvino"

    def __init__(
        self,
        weights: Path,
        weights_sha256: str,
        *,
        device: str = "cpu",
        threads: int = 0,
        inference_precision: str = "auto",
        graph_sha256: Mapping[str, str] | None = None,
    ) -> None:
        """Open the graphs that lie beside a weights file.

        Args:
            weights: the .safetensors file.
            weights_sha256: its hash, which the graphs must hold.
            device: "cpu".
            threads: CPU threads; 0 for `default_threads`.
            inference_precision: what the network computes in. "f32" equals torch to 1e-4. "bf16"
                keeps 8 of the 24 bits of every product: scores differ in the second decimal, and
                CPUs that have it take half the time. "auto" is bf16 where the CPU has it, else
                f32. "int8" runs the quantized track graph; its other layers compute as in "auto".
            graph_sha256: see `GraphEngine`.

        Raises:
            ConfigError: an unknown precision.
            EngineError: see `GraphEngine`; or OpenVINO cannot use the device or the precision.
        """
        if inference_precision not in PRECISIONS:
            raise ConfigError.unknown("inference precision", inference_precision, PRECISIONS)
        if device != "cpu":
            raise EngineError(
                f'engine "openvino" runs on the CPU, not on {device}; give device "cpu", or use '
                'engine "torch"'
            )
        self._core = _core()
        if inference_precision == "bf16" and not has_bf16():
            raise EngineError(
                "this CPU does not compute in bf16; give inference precision f32 or auto"
            )
        float_precision = "bf16" if inference_precision != "f32" and has_bf16() else "f32"
        self.precision = "int8" if inference_precision == "int8" else float_precision
        self._settings = {
            "INFERENCE_NUM_THREADS": threads or default_threads(),
            "INFERENCE_PRECISION_HINT": float_precision,
            # Pinned, the engines of all processes would share the first core.
            "ENABLE_CPU_PINNING": False,
        }
        self._cache = _cache_folder()
        self._arguments = (
            (weights.absolute(), weights_sha256),
            {
                "device": device,
                "threads": threads,
                "inference_precision": inference_precision,
                "graph_sha256": graph_sha256,
            },
        )
        super().__init__(weights, weights_sha256, device=device, graph_sha256=graph_sha256)
        # Now, and not in the middle of a video.
        if self.any_search_size:
            for side in {self.config.search_size_px, self.config.near_size_px}:
                with engine_errors(self.name):
                    cast(_Runner, self._track.run).compile_for(side)

    def _open(self, path: Path) -> Graph:
        try:
            model = self._core.read_model(path)
            runner = _Runner(_Compiler(self._core, path, self._cache), model, self._settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise EngineError(f"graph {path} is damaged ({reason}); export it again") from error
        # What ONNX calls metadata, OpenVINO stores under the framework that a graph comes from.
        metadata: dict[str, Any] = {}
        if model.has_rt_info(["framework"]):
            metadata = model.get_rt_info(["framework"]).value
        texts = {k: str(v) for k, v in metadata.items()}
        return Graph(len(model.inputs), runner.any_size, texts, runner)

    def track_each(self, jobs: Iterable[tuple[Exemplar, Sequence[Image]]]) -> Iterator[Response]:
        """Start a request as soon as its crops are there; yield the responses in order."""
        runner = cast(_Runner, self._track.run)
        if runner.is_forked:
            yield from (self.track(exemplar, crops) for exemplar, crops in jobs)
            return
        started: deque[list[_Running]] = deque()
        try:
            for exemplar, crops in jobs:
                with engine_errors(self.name):
                    started.append(runner.start((self.prepare(crops), *exemplar.tensors)))
            while started:
                with engine_errors(self.name):
                    response = to_response(runner.finish(started.popleft()))
                yield response
        finally:
            # After an error or in an abandoned iterator: free the requests.
            for running in started:
                runner.finish(running)


@cache
def _core() -> ov.Core:
    """The one OpenVINO runtime of the process, never freed.

    Its CPU plugin installs a signal stack in the thread that loads it, and restores the previous
    one when it is freed. Two plugins that are not freed in reverse order leave a freed stack
    installed, and the next signal, such as Ctrl-C, kills the process (OpenVINO 2026.4.1).
    """
    return ov.Core()


def _cache_folder() -> Path | None:
    """Folder for compiled networks, which is made; None where none are kept."""
    named = os.environ.get(CACHE_VARIABLE, "")
    if not named:
        return None
    folder = Path(named).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(
            f"{CACHE_VARIABLE} is {named}, which is no folder and cannot be made one "
            f"({error.strerror or error}); give a folder to write in, or unset it"
        ) from error
    return folder


class _Compiler:
    """Compiles the network of one graph, or reads what an earlier start has compiled.

    OpenVINO's own cache does not notice that a file in it is damaged. Here the hash of its content
    stands before it, and its name holds what it was compiled from, with what, and for which CPU.

    Args:
        core: OpenVINO.
        graph: file of the graph, for its hash.
        folder: where compiled networks are kept; None to keep none.
    """

    def __init__(self, core: ov.Core, graph: Path, folder: Path | None) -> None:
        self._core, self._folder = core, folder
        self._graph_sha256 = "" if folder is None else sha256(graph)

    def __call__(self, model: ov.Model, settings: Mapping[str, Any]) -> ov.CompiledModel:
        """Compile a model of the graph."""
        if self._folder is None:
            return self._core.compile_model(model, "CPU", dict(settings))
        cpu = self._core.get_property("CPU", "FULL_DEVICE_NAME")
        shapes = [str(i.get_partial_shape()) for i in model.inputs]
        facts = [self._graph_sha256, ov.__version__, cpu, *shapes]
        facts += sorted(map(str, settings.items()))
        name = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]
        path = self._folder / f"{name}.blob"
        if (kept := _read_checked(path)) is not None:
            return self._core.import_model(kept, "CPU", dict(settings))
        compiled = self._core.compile_model(model, "CPU", dict(settings))
        content = compiled.export_model().getvalue()
        try:
            atomic_write(path, hashlib.sha256(content).digest() + content)
        except OutputError as error:
            logger.warning("the compiled network is not kept: %s", error)
        return compiled


def _read_checked(path: Path) -> bytes | None:
    """Content of a file behind its hash; None where it is missing or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, content = data[:_HASH_BYTES], data[_HASH_BYTES:]
    if hashlib.sha256(content).digest() == digest:
        return content
    logger.warning("%s is damaged; it is made anew", path)
    return None


def has_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this CPU."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class _Running(NamedTuple):
    """A started request, and its inputs, which must stay alive until it is done."""

    request: ov.InferRequest
    inputs: Sequence[NDArray[Any]]
    idle: list[ov.InferRequest]  # where the request goes when it is done


class _OneSize:
    """A graph compiled for crops of one size, and its requests."""

    def __init__(self, model: ov.Model, compile_model: Callable[..., ov.CompiledModel]) -> None:
        self.model, self._compile_model = model, compile_model

        # For one crop: a request, and the arrays that it reads now.
        compiled = compile_model(model, {"PERFORMANCE_HINT": "LATENCY"})
        self.request = compiled.create_infer_request()
        self.inputs: list[NDArray[Any] | None] = [None] * len(model.inputs)

        # For several crops: compiled at first use, and requests that are not running.
        self._concurrent: ov.CompiledModel | None = None
        self.idle: list[ov.InferRequest] = []

    def concurrent_request(self, streams: int) -> ov.InferRequest:
        """A request that runs beside others."""
        if self._concurrent is None:
            self._concurrent = self._compile_model(self.model, {"NUM_STREAMS": streams})
        return self.idle.pop() if self.idle else self._concurrent.create_infer_request()


class _Runner:
    """Runs one graph on crops of fixed sizes, for which a compiled graph takes 3/4 of the time.

    Each size is compiled by itself, for batches of 1. One crop gets all threads. Of several crops
    each gets one thread, so that none waits for another's layers. Threads of the caller may share a
    runner. In a child that the process forked, the threads for several crops do not exist: one
    after another is run.
    """

    def __init__(self, compiler: _Compiler, model: ov.Model, settings: dict[str, Any]) -> None:
        self._compiler, self._graph, self._settings = compiler, model, settings
        # A request holds its inputs and outputs, and trackers in several threads may share it.
        self._lock = Lock()
        self._process = os.getpid()
        self._sizes: dict[int, _OneSize] = {}
        side = model.inputs[0].get_partial_shape()[1]
        self.any_size = bool(side.is_dynamic)
        if not self.any_size:
            self.compile_for(side.get_length())

    def compile_for(self, side: int) -> _OneSize:
        """Compile the graph for crops of `side` px, unless it is."""
        if side not in self._sizes:
            model = self._graph.clone()
            shapes = {i: i.get_partial_shape() for i in model.inputs}
            for shape in shapes.values():
                shape[0] = 1
            if self.any_size:
                shapes[model.inputs[0]][1] = shapes[model.inputs[0]][2] = side
            model.reshape(shapes)
            self._sizes[side] = _OneSize(model, self._compile)
        return self._sizes[side]

    @property
    def is_forked(self) -> bool:
        """Whether this process was forked from the one that compiled the graph."""
        return os.getpid() != self._process

    def __call__(self, arrays: Sequence[NDArray[Any]]) -> Sequence[Float32Array]:
        if len(arrays[0]) > 1:
            if self.is_forked:
                rows = [self(rows_of(arrays, row, row + 1)) for row in range(len(arrays[0]))]
                return [np.concatenate(parts) for parts in zip(*rows, strict=True)]
            return self.finish(self.start(arrays))
        with self._lock:
            one = self.compile_for(arrays[0].shape[1])
            for k, array in enumerate(arrays):
                # Exemplars stay the same from frame to frame; shared memory is only read.
                if one.inputs[k] is not array:
                    one.inputs[k] = array = np.ascontiguousarray(array)
                    one.request.set_input_tensor(k, ov.Tensor(array, shared_memory=True))
            one.request.infer(share_outputs=True)
            outputs = range(len(one.model.outputs))
            return [one.request.get_output_tensor(k).data.copy() for k in outputs]

    def start(self, arrays: Sequence[NDArray[Any]]) -> list[_Running]:
        """Start one request for each row of the first array; single rows of others serve all."""
        arrays = [np.ascontiguousarray(array) for array in arrays]
        started = []
        for row in range(len(arrays[0])):
            inputs = rows_of(arrays, row, row + 1)
            with self._lock:
                one = self.compile_for(inputs[0].shape[1])
                request = one.concurrent_request(self._settings["INFERENCE_NUM_THREADS"])
            for k, array in enumerate(inputs):
                request.set_input_tensor(k, ov.Tensor(array, shared_memory=True))
            request.start_async()
            started.append(_Running(request, inputs, one.idle))
        return started

    def finish(self, started: Sequence[_Running]) -> list[Float32Array]:
        """Wait for all of them; returns the outputs, stacked."""
        for running in started:
            running.request.wait()
        outputs = [
            np.concatenate([running.request.get_output_tensor(k).data for running in started])
            for k in range(len(self._graph.outputs))
        ]
        with self._lock:
            for running in started:
                running.idle.append(running.request)
        return outputs

    def _compile(self, model: ov.Model, options: dict[str, Any]) -> ov.CompiledModel:
        return self._compiler(model, {**self._settings, **options})
