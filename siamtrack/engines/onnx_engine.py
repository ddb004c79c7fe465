"""What engines that run the two exported graphs have in common."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from siamtrack.crops import stack_rgb
from siamtrack.engines.base import Exemplar, Response
from siamtrack.engines.graphs import (
    EXEMPLAR,
    FORMAT,
    METADATA_KEY,
    TRACK,
    export_command,
    graph_paths,
)
from siamtrack.errors import ConfigError, EngineError
from siamtrack.models.network import exemplar_mask
from siamtrack.models.weights import config_from_dict, find_architecture
from siamtrack.types import Float32Array, FloatArray, Image

_MOST_THREADS = 2  # these networks are small: more threads wait for each other


def default_threads() -> int:
    """CPU threads an engine takes unless told: two, or one where there is only one core.

    `OMP_NUM_THREADS` lowers it, as it does for torch; graph engines do not look at it themselves.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    most = min(_MOST_THREADS, int(asked)) if asked.isdigit() and int(asked) else _MOST_THREADS
    if hasattr(os, "sched_getaffinity"):
        return min(most, len(os.sched_getaffinity(0)))
    return min(most, os.cpu_count() or 1)


class Graph(NamedTuple):
    """One graph, ready to run.

    Attributes:
        inputs: how many arrays it takes.
        metadata: by key, what the graph's file says of itself.
        run: from the arrays, in the graph's order, to its outputs.
    """

    inputs: int
    metadata: dict[str, str]
    run: Callable[[Sequence[NDArray[Any]]], Sequence[Float32Array]]


class GraphEngine(ABC):
    """Runs the graphs of `siamtrack.engines.graphs`; children say in what."""

    name: str
    precision: str = "f32"

    def __init__(self, weights: Path, weights_sha256: str, *, device: str) -> None:
        """Open the graphs that lie beside a weights file.

        Args:
            weights: the .safetensors file.
            weights_sha256: its hash, which the graphs must have been made from.
            device: where they run.

        Raises:
            EngineError: a graph is missing, damaged, of another version or of other weights.
        """
        self.device = device
        paths = graph_paths(weights, self.precision)
        self._exemplar, described = self._opened(paths[EXEMPLAR])
        self._track, also = self._opened(paths[TRACK])
        for path, found in zip(paths.values(), (described, also), strict=True):
            if found.get("weights_sha256") != weights_sha256:
                raise EngineError(
                    f"graph {path} was exported from other weights than {weights}; export it again "
                    f"with `{export_command(self.precision)} --overwrite --weights {weights}`"
                )
        known = find_architecture(described["architecture"])
        self.architecture: str = described["architecture"]
        self.config = config_from_dict(known.config, described["config"])

    @abstractmethod
    def _open(self, path: Path) -> Graph:
        """Read and compile one graph.

        Raises:
            EngineError: the device cannot be used, or the file holds no graph.
        """

    def _opened(self, path: Path) -> tuple[Graph, dict[str, Any]]:
        """The graph, and the description that `export_graphs` put into it."""
        if not path.is_file():
            raise EngineError(
                f"there is no graph {path}; make it with `{export_command(self.precision)}`"
            )
        graph = self._open(path)
        try:
            described: dict[str, Any] = json.loads(graph.metadata[METADATA_KEY])
        except (KeyError, ValueError) as error:
            raise EngineError(f"graph {path} was not made by siamtrack; export it again") from error
        if described.get("format") != FORMAT:
            raise EngineError(
                f"graph {path} has format {described.get('format')}, this version reads {FORMAT}; "
                "export it again"
            )
        return graph, described

    def embed_exemplar(self, crops: Sequence[Image], boxes_xywh: FloatArray) -> Exemplar:
        """See `Engine.embed_exemplar`."""
        boxes = torch.as_tensor(np.asarray(boxes_xywh), dtype=torch.float32)
        mask = exemplar_mask(boxes, self.config).numpy()
        # Networks that ignore the mask have no such input.
        arrays = (stack_rgb(crops), mask)[: self._exemplar.inputs]
        return Exemplar(tuple(self._exemplar.run(arrays)), len(crops))

    def stack(self, exemplars: Sequence[Exemplar]) -> Exemplar:
        """See `Engine.stack`."""
        if len(exemplars) == 1:
            return exemplars[0]
        parts = zip(*(e.tensors for e in exemplars), strict=True)
        tensors = tuple(np.concatenate(p) for p in parts)
        return Exemplar(tensors, sum(e.targets for e in exemplars))

    def prepare(self, crops: Sequence[Image]) -> Image:
        """See `Engine.prepare`."""
        return stack_rgb(crops)

    def infer(self, exemplar: Exemplar, batch: Image) -> Response:
        """See `Engine.infer`."""
        tensors = exemplar.tensors
        if exemplar.targets != len(batch):
            tensors = tuple(np.repeat(t, len(batch), axis=0) for t in tensors)
        return response_of(self._track.run((batch, *tensors)))

    def track(self, exemplar: Exemplar, crops: Sequence[Image]) -> Response:
        """See `Engine.track`."""
        return self.infer(exemplar, self.prepare(crops))


def response_of(outputs: Sequence[Float32Array]) -> Response:
    """What the outputs of a track graph say; graphs without boxes or embeddings have fewer."""
    found = [*outputs, None, None]
    return Response(found[0], found[1], found[2])  # type: ignore[arg-type]


_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

PRECISIONS = ("f32", "int8")


class OnnxEngine(GraphEngine):
    """Runs the graphs in ONNX Runtime, on the CPU or on a GPU of NVIDIA."""

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
            precision: "f32", or "int8" for the quantised track graph.

        Raises:
            ConfigError: an unknown precision.
            EngineError: see `GraphEngine`; or ONNX Runtime cannot use the device.
        """
        if precision not in PRECISIONS:
            raise ConfigError.unknown("precision", precision, PRECISIONS)
        self.precision = precision
        self._threads = threads or default_threads()
        super().__init__(weights, weights_sha256, device=device)

    def _open(self, path: Path) -> Graph:
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
