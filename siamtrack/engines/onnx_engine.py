"""ONNX Runtime, and `GraphEngine`, the part that all engines of exported graphs share."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamtrack.crops import stack_rgb
from siamtrack.engines.base import Exemplar, Response, target_mask_array
from siamtrack.engines.graphs import EXEMPLAR, TRACK, export_command, graph_paths, parse_metadata
from siamtrack.errors import ConfigError, EngineError
from siamtrack.models.weights import build_config
from siamtrack.types import Float32Array, FloatArray, Image

_MAX_THREADS = 2  # these networks are small: more threads wait for each other


def default_threads() -> int:
    """Default number of CPU threads: two, or one where there is only one core.

    `OMP_NUM_THREADS` lowers it, as it does for torch; the engines ignore that variable themselves.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    most = min(_MAX_THREADS, int(asked)) if asked.isdigit() and int(asked) else _MAX_THREADS
    if hasattr(os, "sched_getaffinity"):
        return min(most, len(os.sched_getaffinity(0)))
    return min(most, os.cpu_count() or 1)


class Graph(NamedTuple):
    """One graph, ready to run.

    Attributes:
        inputs: number of its inputs.
        metadata: texts in the graph's file, by key.
        run: maps the input arrays, in the graph's order, to its outputs.
    """

    inputs: int
    metadata: Mapping[str, str]
    run: Callable[[Sequence[NDArray[Any]]], Sequence[Float32Array]]


class GraphEngine(ABC):
    """Runs the graphs of `siamtrack.engines.graphs`; a child class opens them in its library."""

    name: str
    precision: str = "f32"

    def __init__(self, weights: Path, weights_sha256: str, *, device: str) -> None:
        """Open the graphs that lie beside a weights file.

        Args:
            weights: the .safetensors file.
            weights_sha256: its hash; the graphs hold the hash of the weights they were made from.
            device: where they run.

        Raises:
            EngineError: a graph is missing, damaged, of another version or of other weights.
        """
        self.device = device
        paths = graph_paths(weights, self.precision)
        self._exemplar, metadata = self._load_graph(paths[EXEMPLAR])
        self._track, track_metadata = self._load_graph(paths[TRACK])
        for path, found in zip(paths.values(), (metadata, track_metadata), strict=True):
            if found.get("weights_sha256") != weights_sha256:
                raise EngineError(
                    f"graph {path} was exported from other weights than {weights}; export it again "
                    f"with `{export_command(self.precision)} --overwrite --weights {weights}`"
                )
        self.architecture: str = metadata["architecture"]
        self.config = build_config(self.architecture, metadata["config"])

    @abstractmethod
    def _open(self, path: Path) -> Graph:
        """Read and compile one graph.

        Raises:
            EngineError: the device cannot be used, or the file holds no graph.
        """

    def _load_graph(self, path: Path) -> tuple[Graph, dict[str, Any]]:
        """Open a graph and parse its metadata."""
        if not path.is_file():
            raise EngineError(
                f"there is no graph {path}; make it with `{export_command(self.precision)}`"
            )
        graph = self._open(path)
        return graph, parse_metadata(graph.metadata, path)

    def embed_exemplar(self, crops: Sequence[Image], boxes_xywh: FloatArray) -> Exemplar:
        """See `Engine.embed_exemplar`."""
        mask = target_mask_array(boxes_xywh, self.config)
        # The graph of a network that ignores the mask has no such input.
        arrays = (stack_rgb(crops), mask)[: self._exemplar.inputs]
        return Exemplar(tuple(self._exemplar.run(arrays)), len(crops))

    def stack(self, exemplars: Sequence[Exemplar]) -> Exemplar:
        """See `Engine.stack`."""
        if len(exemplars) == 1:
            return exemplars[0]
        parts = zip(*(e.tensors for e in exemplars), strict=True)
        tensors = tuple(np.concatenate(p) for p in parts)
        return Exemplar(tensors, sum(e.targets for e in exemplars))

    def track(self, exemplar: Exemplar, crops: Sequence[Image]) -> Response:
        """See `Engine.track`."""
        return self.infer(exemplar, self.prepare(crops))

    def prepare(self, crops: Sequence[Image]) -> Image:
        """See `Engine.prepare`."""
        return stack_rgb(crops)  # (B, S, S, 3) uint8 RGB

    def infer(self, exemplar: Exemplar, batch: Image) -> Response:
        """See `Engine.infer`."""
        tensors = exemplar.tensors
        if exemplar.targets != len(batch):
            tensors = tuple(np.repeat(t, len(batch), axis=0) for t in tensors)
        return to_response(self._track.run((batch, *tensors)))


def to_response(outputs: Sequence[Float32Array]) -> Response:
    """Outputs of a track graph as a response; graphs without boxes or embeddings have fewer."""
    logits, ltrb, similarity = [*outputs, None, None][:3]
    return Response(logits, ltrb, similarity)  # type: ignore[arg-type]


PRECISIONS = ("f32", "int8")

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


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
    ) -> None:
        """Open the graphs that lie beside a weights file.

        Args:
            weights: see `GraphEngine`.
            weights_sha256: see `GraphEngine`.
            device: "cpu", or "cuda" with an ONNX Runtime that has it.
            threads: CPU threads; 0 for `default_threads`.
            precision: "f32", or "int8" for the quantized track graph.

        Raises:
            ConfigError: an unknown precision.
            EngineError: see `GraphEngine`; or ONNX Runtime cannot use the device.
        """
        # Not above: the OpenVINO engine, which shares this file, need not wait for ONNX Runtime.
        import onnxruntime

        self._runtime = onnxruntime
        if precision not in PRECISIONS:
            raise ConfigError.unknown("precision", precision, PRECISIONS)
        self.precision = precision
        self._threads = threads or default_threads()
        super().__init__(weights, weights_sha256, device=device)

    def _open(self, path: Path) -> Graph:
        ort = self._runtime
        provider = _PROVIDERS.get(self.device.partition(":")[0])
        if provider not in ort.get_available_providers():
            raise EngineError(
                f"this ONNX Runtime cannot use {self.device}; install onnxruntime-gpu, or use "
                'engine "torch"'
            )
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Its threads wait for the next call by spinning: beside the other graph, the decoder or a
        # second engine, calls would take up to three times as long.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            session = ort.InferenceSession(path, options, providers=[provider])
        except Exception as error:  # ONNX Runtime has no public class for what it raises here.
            raise EngineError(f"graph {path} is damaged ({error}); export it again") from error
        names = [i.name for i in session.get_inputs()]

        def run(arrays: Sequence[NDArray[Any]]) -> Sequence[Float32Array]:
            return session.run(None, dict(zip(names, arrays, strict=True)))

        return Graph(len(names), session.get_modelmeta().custom_metadata_map, run)
