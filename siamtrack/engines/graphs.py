"""The two exported graphs, and `GraphEngine`, which runs them in OpenVINO or ONNX Runtime.

`siamtrack.export` splits the network where the tracker does: the exemplar graph runs once per
target, the track graph once per frame. Both take pixels as bytes and normalize them inside, and the
track graph also computes the cosine similarity. Its outputs are the fields of a `Response`, in
order; the last one, the features, is missing from graphs exported by older versions.
"""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from siamtrack.crops import stack_rgb
from siamtrack.engines.base import Exemplar, Response, engine_errors, target_mask_array
from siamtrack.errors import ConfigError, EngineError
from siamtrack.models.weights import EXEMPLAR, INT8, TRACK, build_config, graph_path
from siamtrack.types import Float32Array, FloatArray, Image
from siamtrack.utils.files import parse_json, sha256

logger = logging.getLogger(__name__)

FORMAT = 1
METADATA_KEY = "siamtrack"
OUTPUTS_WITHOUT_FEATURES = 3
"""Outputs of a track graph that an older version exported from a network with embeddings."""


def graph_paths(weights: Path, precision: str = "f32") -> dict[str, Path]:
    """Paths of the graphs of a weights file: `name.exemplar.onnx` and `name.track.onnx`.

    Only "int8" has a track graph of its own, `name.track.int8.onnx`; the exemplar graph, which
    runs once per target, serves all precisions.
    """
    return {graph: graph_path(weights, name) for graph, name in graph_names(precision).items()}


def graph_names(precision: str = "f32") -> dict[str, str]:
    """Names of the graphs of a precision in file names and on cards."""
    return {EXEMPLAR: EXEMPLAR, TRACK: f"{TRACK}.{INT8}" if precision == INT8 else TRACK}


class DamagedGraphError(EngineError):
    """A graph that is not the one that the weights' card describes."""


def export_command(precision: str) -> str:
    """The command that makes the graphs of a precision."""
    return "siamtrack export --int8 --calibrate CLIP" if precision == INT8 else "siamtrack export"


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
    """One graph, ready to run: `run` maps its input arrays, in order, to its outputs."""

    inputs: int  # how many
    any_size: bool  # whether pictures of other sides than those of the export are taken
    metadata: Mapping[str, str]  # texts in the graph's file, by key
    run: Callable[[Sequence[NDArray[Any]]], Sequence[Float32Array]]


class GraphEngine(ABC):
    """Runs the graphs of `siamtrack.engines.graphs`; a child class opens them in its library."""

    name: str
    precision: str = "f32"
    any_search_size: bool
    _arguments: tuple[tuple[Path, str], dict[str, Any]]
    """What a child class was made with, its path absolute."""

    def __init__(
        self,
        weights: Path,
        weights_sha256: str,
        *,
        device: str,
        graph_sha256: Mapping[str, str] | None = None,
    ) -> None:
        """Open the graphs that lie beside a weights file.

        `graph_sha256` are the hashes on the card, by `graph_names`; None does not verify the files.

        Raises:
            EngineError: a graph is missing, damaged, of another version or of other weights.
        """
        self.device, self.weights_sha256 = device, weights_sha256
        paths = graph_paths(weights, self.precision)
        if graph_sha256 is not None:
            for graph, name in graph_names(self.precision).items():
                self._verify(paths[graph], graph_sha256.get(name))
        self._exemplar, metadata = self._load_graph(paths[EXEMPLAR])
        self._track, track_metadata = self._load_graph(paths[TRACK])
        for path, found in zip(paths.values(), (metadata, track_metadata), strict=True):
            # A graph holds the hash of the weights it was made from.
            if found.get("weights_sha256") != weights_sha256:
                raise EngineError(
                    f"graph {path} was exported from other weights than {weights}; export it again "
                    f"with `{export_command(self.precision)} --overwrite --weights {weights}`"
                )
        self.any_search_size = self._track.any_size
        try:
            self.architecture: str = metadata["architecture"]
            self.config = build_config(self.architecture, metadata["config"])
        except (KeyError, TypeError, ConfigError) as error:
            raise EngineError(
                f"graph {paths[EXEMPLAR]} was exported from a network that this version cannot "
                f"build ({error}); export it again"
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the files to open, which must be there where it is unpickled."""
        arguments, options = self._arguments
        return _reopen, (type(self), arguments, options)

    def __copy__(self) -> Self:
        """The engine itself, which keeps nothing of a target."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def _verify(self, path: Path, expected: str | None) -> None:
        """Compare a graph's file with its hash on the card."""
        again = f"`{export_command(self.precision)} --overwrite`"
        if not path.is_file():
            return  # `_load_graph` says so
        if expected is None:
            logger.warning(
                "the card has no hash of %s, so its contents are not verified; %s or `siamtrack "
                "export --card` writes it",
                path,
                again,
            )
            return
        try:
            found = sha256(path)
        except OSError as error:
            raise EngineError(f"cannot read graph {path}: {error.strerror or error}") from error
        if found != expected.lower():
            raise DamagedGraphError(
                f"graph {path} is damaged, or is not the one that the weights' card describes: its "
                f"sha256 is {found}, the card says {expected}; get the file again, or make it anew "
                f"with {again}"
            )

    @abstractmethod
    def _open(self, path: Path) -> Graph:
        """Read and compile one graph; EngineError if the device or the file is unusable."""

    def _load_graph(self, path: Path) -> tuple[Graph, dict[str, Any]]:
        """Open a graph and parse the metadata that `export_graphs` wrote into it."""
        if not path.is_file():
            raise EngineError(
                f"there is no graph {path}; make it with `{export_command(self.precision)}`"
            )
        graph = self._open(path)
        try:
            metadata: dict[str, Any] = dict(parse_json(graph.metadata[METADATA_KEY]))
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(f"graph {path} was not made by siamtrack; export it again") from error
        if metadata.get("format") != FORMAT:
            raise EngineError(
                f"graph {path} has format {metadata.get('format')}, this version reads {FORMAT}; "
                "export it again"
            )
        return graph, metadata

    def embed_exemplar(self, crops: Sequence[Image], boxes_xywh: FloatArray) -> Exemplar:
        """Run the exemplar graph on exemplar crops."""
        mask = target_mask_array(boxes_xywh, self.config)
        # The graph of a network that ignores the mask has no such input.
        arrays = (stack_rgb(crops), mask)[: self._exemplar.inputs]
        with engine_errors(self.name):
            return Exemplar(tuple(self._exemplar.run(arrays)), len(crops))

    def stack(self, exemplars: Sequence[Exemplar]) -> Exemplar:
        """Concatenate exemplars, in order."""
        if len(exemplars) == 1:
            return exemplars[0]
        parts = zip(*(e.tensors for e in exemplars), strict=True)
        return Exemplar(tuple(map(np.concatenate, parts)), sum(e.targets for e in exemplars))

    def track(self, exemplar: Exemplar, crops: Sequence[Image]) -> Response:
        """Match search crops against exemplars."""
        return self.infer(exemplar, self.prepare(crops))

    def prepare(self, crops: Sequence[Image]) -> Image:
        """Stack B crops to one batch of RGB."""
        return stack_rgb(crops)  # (B, S, S, 3) uint8 RGB

    def infer(self, exemplar: Exemplar, batch: Image) -> Response:
        """Run the track graph; one exemplar serves the whole batch."""
        tensors = exemplar.tensors
        with engine_errors(self.name):
            if exemplar.targets != len(batch):
                tensors = tuple(np.repeat(t, len(batch), axis=0) for t in tensors)
            return to_response(self._track.run((batch, *tensors)))


def _reopen(
    cls: Callable[..., GraphEngine], arguments: tuple[Path, str], options: dict[str, Any]
) -> GraphEngine:
    return cls(*arguments, **options)


def to_response(outputs: Sequence[Float32Array]) -> Response:
    """Outputs of a track graph as a response; graphs without boxes or embeddings have fewer."""
    logits, ltrb, similarity, features = [*outputs, None, None, None][:4]
    return Response(logits, ltrb, similarity, features)  # type: ignore[arg-type]


def rows_of(arrays: Sequence[NDArray[Any]], start: int, stop: int) -> list[NDArray[Any]]:
    """Some rows of every array; arrays of a single row serve all."""
    return [array[start:stop] if len(array) > 1 else array for array in arrays]
