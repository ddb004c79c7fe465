"""OpenVINO: the fastest engine on a CPU, most of all where the CPU multiplies in bf16."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, cast

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from siamtrack.engines.base import Exemplar, Response
from siamtrack.engines.onnx_engine import Graph, GraphEngine, default_threads, response_of
from siamtrack.errors import ConfigError, EngineError
from siamtrack.types import Float32Array, Image

PRECISIONS = ("auto", "bf16", "f32", "int8")


class OpenVinoEngine(GraphEngine):
    """Runs the graphs in OpenVINO on the CPU, tuned for the time of one frame."""

    name = "openvino"

    def __init__(
        self,
        weights: Path,
        weights_sha256: str,
        *,
        device: str = "cpu",
        threads: int = 0,
        inference_precision: str = "auto",
    ) -> None:
        """Open the graphs that lie beside a weights file.

        Args:
            weights: see `GraphEngine`.
            weights_sha256: see `GraphEngine`.
            device: "cpu".
            threads: CPU threads; 0 for `default_threads`.
            inference_precision: what the network computes in. "f32" gives what torch gives, to
                1e-4. "bf16" keeps 8 of the 24 bits of every product, so that scores differ in the
                second decimal, and takes half the time on CPUs that have it. "auto" takes bf16
                where the CPU has it and f32 elsewhere. "int8" runs the quantised track graph, and
                in what "auto" takes all that is not quantised.

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
        wants_bf16 = inference_precision != "f32" and has_bf16()
        in_float = "bf16" if wants_bf16 else "f32"
        self.precision = "int8" if inference_precision == "int8" else in_float
        self._settings = {
            "INFERENCE_NUM_THREADS": threads or default_threads(),
            "INFERENCE_PRECISION_HINT": in_float,
            # Pinned, the engines of all processes would share the first core.
            "ENABLE_CPU_PINNING": False,
        }
        super().__init__(weights, weights_sha256, device=device)

    def _open(self, path: Path) -> Graph:
        try:
            model = self._core.read_model(path)
            runner = _Runner(self._core, model, self._settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise EngineError(f"graph {path} is damaged ({reason}); export it again") from error
        return Graph(len(model.inputs), _metadata(model), runner)

    def track_each(self, jobs: Iterable[tuple[Exemplar, Sequence[Image]]]) -> Iterator[Response]:
        """See `ConcurrentEngine.track_each`."""
        runner = cast(_Runner, self._track.run)
        started: deque[list[_Running]] = deque()
        try:
            for exemplar, crops in jobs:
                started.append(runner.start((self.prepare(crops), *exemplar.tensors)))
            while started:
                yield response_of(runner.finish(started.popleft()))
        finally:
            for running in started:  # the frame failed: nobody asks for these
                runner.finish(running)


@cache
def _core() -> ov.Core:
    """The one OpenVINO runtime of the process.

    Its CPU plugin gives the thread that loads it a stack for signals, and puts the one before back
    when it goes. Two that do not go in the reverse of the order they came in leave a freed stack
    behind, and the next signal, a Ctrl-C say, kills the process (OpenVINO 2026.4.1). So it stays.
    """
    return ov.Core()


def has_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this CPU."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class _Running(NamedTuple):
    """A request at work, and what it reads, which has to stay."""

    request: ov.InferRequest
    given: Sequence[NDArray[Any]]


class _Runner:
    """One graph for one crop at a time, with all threads on it or, of many crops, one on each.

    With its shapes fixed, a graph takes about three quarters of the time, and crops that run side
    by side do not wait for each other's layers.
    """

    def __init__(self, core: ov.Core, model: ov.Model, settings: dict[str, Any]) -> None:
        self._core, self._settings = core, settings
        self._model = model.clone()
        fixed = {}
        for given in self._model.inputs:
            shape = given.get_partial_shape()
            shape[0] = 1
            fixed[given] = shape
        self._model.reshape(fixed)
        self._request = self._compile({"PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
        self._given: list[NDArray[Any] | None] = [None] * len(model.inputs)
        self._abreast: ov.CompiledModel | None = None
        self._idle: list[ov.InferRequest] = []
        # A request holds its inputs and outputs, and trackers in several threads may share it.
        self._lock = Lock()

    def __call__(self, arrays: Sequence[NDArray[Any]]) -> Sequence[Float32Array]:
        return self._one(arrays) if len(arrays[0]) == 1 else self.finish(self.start(arrays))

    def _one(self, arrays: Sequence[NDArray[Any]]) -> list[Float32Array]:
        with self._lock:
            request, given = self._request, self._given
            for k, array in enumerate(arrays):
                # Exemplars stay the same from frame to frame; what is shared is only read.
                if given[k] is not array:
                    given[k] = array = np.ascontiguousarray(array)
                    request.set_input_tensor(k, ov.Tensor(array, shared_memory=True))
            request.infer(share_outputs=True)
            outputs = range(len(self._model.outputs))
            return [request.get_output_tensor(k).data.copy() for k in outputs]

    def start(self, arrays: Sequence[NDArray[Any]]) -> list[_Running]:
        """Begin with every row of the first array, and that row, or the only one, of the others."""
        arrays = [np.ascontiguousarray(array) for array in arrays]
        started = []
        for row in range(len(arrays[0])):
            given = [array[row : row + 1] if len(array) > 1 else array for array in arrays]
            request = self._take()
            for k, array in enumerate(given):
                request.set_input_tensor(k, ov.Tensor(array, shared_memory=True))
            request.start_async()
            started.append(_Running(request, given))
        return started

    def finish(self, started: Sequence[_Running]) -> list[Float32Array]:
        """Wait for all of them; the outputs, stacked."""
        for running in started:
            running.request.wait()
        outputs = [
            np.concatenate([running.request.get_output_tensor(k).data for running in started])
            for k in range(len(self._model.outputs))
        ]
        with self._lock:
            self._idle += [running.request for running in started]
        return outputs

    def _take(self) -> ov.InferRequest:
        with self._lock:
            if self._abreast is None:
                streams = self._settings["INFERENCE_NUM_THREADS"]
                self._abreast = self._compile({"NUM_STREAMS": streams})
            return self._idle.pop() if self._idle else self._abreast.create_infer_request()

    def _compile(self, how: dict[str, Any]) -> ov.CompiledModel:
        return self._core.compile_model(self._model, "CPU", {**self._settings, **how})


def _metadata(model: ov.Model) -> dict[str, str]:
    """What ONNX files call metadata, which OpenVINO files under the framework a graph is from."""
    if not model.has_rt_info(["framework"]):
        return {}
    found: dict[str, Any] = model.get_rt_info(["framework"]).value
    return {key: str(value) for key, value in found.items()}
