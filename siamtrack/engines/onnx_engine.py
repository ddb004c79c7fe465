"""ONNX Runtime: fast on a CPU, and on NVIDIA GPUs with onnxruntime-gpu."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from siamtrack.engines.graphs import Graph, GraphEngine, default_threads, rows_of
from siamtrack.errors import ConfigError, EngineError
from siamtrack.types import Float32Array

PRECISIONS = ("f32", "int8")

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def open_session(
    path: Path, *, threads: int, provider: str = _PROVIDERS["cpu"]
) -> ort.InferenceSession:
    """Read a graph into ONNX Runtime, whose exceptions have no public class."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Its threads wait for the next call by spinning: beside the other graph, the decoder or a
    # second engine, calls would take up to three times as long.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(path, options, providers=[provider])


class OnnxEngine(GraphEngine):
    """Runs the graphs in ONNX Runtime, on the CPU or on an NVIDIA GPU."""

    name = "onnx"

    def __init__(
        self,
        weights: Path,
        weights_sha256: str,
        *,
        device: str = "cpu",
        threads: int = 0,
        precision: str = "f32",
        graph_sha256: Mapping[str, str] | None = None,
    ) -> None:
        """Open the graphs that lie beside a weights file.

        Args:
            weights: the .safetensors file.
            weights_sha256: its hash, which the graphs must hold.
            device: "cpu", or "cuda" with an ONNX Runtime that has it.
            threads: CPU threads; 0 for `default_threads`.
            precision: "f32", or "int8" for the quantized track graph.
            graph_sha256: see `GraphEngine`.

        Raises:
            ConfigError: an unknown precision.
            EngineError: see `GraphEngine`; or ONNX Runtime cannot use the device.
        """
        if precision not in PRECISIONS:
            raise ConfigError.unknown("precision", precision, PRECISIONS)
        self.precision = precision
        self._threads = threads or default_threads()
        self._arguments = (
            (weights.absolute(), weights_sha256),
            {
                "device": device,
                "threads": threads,
                "precision": precision,
                "graph_sha256": graph_sha256,
            },
        )
        super().__init__(weights, weights_sha256, device=device, graph_sha256=graph_sha256)

    def _open(self, path: Path) -> Graph:
        provider = _PROVIDERS.get(self.device.partition(":")[0], "")
        if provider not in ort.get_available_providers():
            raise EngineError(
                f"this ONNX Runtime cannot use {self.device}; install onnxruntime-gpu, or use "
                'engine "torch"'
            )
        try:
            opened = _OnnxGraph(path, threads=self._threads, provider=provider)
        except Exception as error:  # ONNX Runtime has no public class for what it raises here.
            raise EngineError(f"graph {path} is damaged ({error}); export it again") from error
        return Graph(len(opened.inputs), opened.any_size, opened.metadata, opened)


_BATCH = 16
"""Crops of one run on a CPU: what lies between the layers of a larger batch leaves the cache. 100
crops of the default network take 0.9 of the time of one batch."""


class _OnnxGraph:
    """Runs one graph."""

    def __init__(self, path: Path, *, threads: int, provider: str) -> None:
        self._on_cpu = provider == _PROVIDERS["cpu"]
        self._session = open_session(path, threads=threads, provider=provider)
        inputs = self._session.get_inputs()
        self.inputs = [i.name for i in inputs]
        self.any_size = isinstance(inputs[0].shape[1], str)  # a number is fixed
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    def __call__(self, arrays: Sequence[NDArray[Any]]) -> Sequence[Float32Array]:
        crops = len(arrays[0])
        if crops <= _BATCH or not self._on_cpu:
            return self._run(arrays)
        parts = [self._run(rows_of(arrays, k, k + _BATCH)) for k in range(0, crops, _BATCH)]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _run(self, arrays: Sequence[NDArray[Any]]) -> Sequence[Float32Array]:
        return self._session.run(None, dict(zip(self.inputs, arrays, strict=True)))
