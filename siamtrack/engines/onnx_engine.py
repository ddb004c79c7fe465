"""ONNX Runtime: two to four times as fast as eager torch on a CPU for these networks."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from siamtrack.crops import Image, stack_rgb
from siamtrack.engines.base import Exemplar, Response
from siamtrack.engines.graphs import EXEMPLAR, FORMAT, METADATA_KEY, TRACK, graph_paths
from siamtrack.errors import EngineError
from siamtrack.geometry import FloatArray
from siamtrack.models.masks import coverage
from siamtrack.models.registry import config_from_dict, find_architecture

_MOST_THREADS = 2  # these networks are small: more threads wait for each other


class OnnxEngine:
    """Runs the two graphs of `siamtrack.engines.graphs`."""

    name = "onnx"

    def __init__(
        self, weights: Path, weights_sha256: str, *, device: str = "cpu", threads: int = 0
    ) -> None:
        """Open the graphs that lie beside a weights file.

        Args:
            weights: the .safetensors file.
            weights_sha256: its hash, which the graphs must have been made from.
            device: "cpu", or "cuda" with an ONNX Runtime that has it.
            threads: CPU threads; 0 for two, or one on a single core.

        Raises:
            EngineError: a graph is missing, damaged, of another version or of other weights, or
                ONNX Runtime cannot use the device.
        """
        self.device = device
        threads = threads or min(_MOST_THREADS, os.cpu_count() or 1)
        paths = graph_paths(weights)
        self._exemplar, described = _open(paths[EXEMPLAR], device, threads)
        self._track, also = _open(paths[TRACK], device, threads)
        for path, found in zip(paths.values(), (described, also), strict=True):
            if found.get("weights_sha256") != weights_sha256:
                raise EngineError(
                    f"graph {path} was exported from other weights than {weights}; export it again "
                    f"with `siamtrack export --weights {weights}`"
                )
        known = find_architecture(described["architecture"])
        self.architecture: str = described["architecture"]
        self.config = config_from_dict(known.config, described["config"])
        self._track_names = [i.name for i in self._track.get_inputs()]
        self._exemplar_names = [i.name for i in self._exemplar.get_inputs()]

    def embed_exemplar(self, crops: Sequence[Image], boxes_xywh: FloatArray) -> Exemplar:
        """See `Engine.embed_exemplar`."""
        stride = self.config.total_stride
        boxes = torch.as_tensor(np.asarray(boxes_xywh), dtype=torch.float32)
        mask = coverage(boxes, self.config.exemplar_size_px // stride, stride).numpy()
        # Networks that ignore the mask have no such input.
        feed = dict(zip(self._exemplar_names, (stack_rgb(crops), mask), strict=False))
        return Exemplar(tuple(self._exemplar.run(None, feed)), len(crops))

    def stack(self, exemplars: Sequence[Exemplar]) -> Exemplar:
        """See `Engine.stack`."""
        if len(exemplars) == 1:
            return exemplars[0]
        parts = zip(*(e.tensors for e in exemplars), strict=True)
        tensors = tuple(np.concatenate(p) for p in parts)
        return Exemplar(tensors, sum(e.targets for e in exemplars))

    def track(self, exemplar: Exemplar, crops: Sequence[Image]) -> Response:
        """See `Engine.track`."""
        tensors = exemplar.tensors
        if exemplar.targets != len(crops):
            tensors = tuple(np.repeat(t, len(crops), axis=0) for t in tensors)
        feed = dict(zip(self._track_names, (stack_rgb(crops), *tensors), strict=True))
        found: list[NDArray[np.float32]] = self._track.run(None, feed)
        padded = [*found, None, None]
        return Response(padded[0], padded[1], padded[2])  # type: ignore[arg-type]


def _open(path: Path, device: str, threads: int) -> tuple[ort.InferenceSession, dict[str, Any]]:
    """Session and description of a graph."""
    if not path.is_file():
        raise EngineError(f"there is no graph {path}; make it with `siamtrack export`")
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(
        device.partition(":")[0]
    )
    if provider not in ort.get_available_providers():
        raise EngineError(
            f'this ONNX Runtime cannot use {device}; install onnxruntime-gpu, or use engine "torch"'
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(path, options, providers=[provider])
        described = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    except (KeyError, ValueError) as error:
        raise EngineError(f"graph {path} was not made by siamtrack; export it again") from error
    except Exception as error:  # ONNX Runtime has no public class for what it raises here.
        raise EngineError(f"graph {path} is damaged ({error}); export it again") from error
    if described.get("format") != FORMAT:
        raise EngineError(
            f"graph {path} has format {described.get('format')}, this version reads {FORMAT}; "
            "export it again"
        )
    return session, described
