"""The two exported graphs that OpenVINO and ONNX Runtime run: their names, paths and metadata.

`siamtrack.export` splits the network where the tracker does: the exemplar graph runs once per
target, the track graph once per frame. Both take pixels as bytes and normalize them inside, and the
track graph also computes the cosine similarity.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from siamtrack.errors import EngineError

FORMAT = 1
EXEMPLAR, TRACK = "exemplar", "track"
INT8 = "int8"
METADATA_KEY = "siamtrack"


def graph_paths(weights: Path, precision: str = "f32") -> dict[str, Path]:
    """Paths of the graphs of a weights file: `name.exemplar.onnx` and `name.track.onnx`.

    Only "int8" has a track graph of its own, `name.track.int8.onnx`; the exemplar graph, which
    runs once per target, serves all precisions.
    """
    track = f".{TRACK}.{INT8}.onnx" if precision == INT8 else f".{TRACK}.onnx"
    return {
        EXEMPLAR: weights.with_suffix(f".{EXEMPLAR}.onnx"),
        TRACK: weights.with_suffix(track),
    }


def export_command(precision: str) -> str:
    """The command that makes the graphs of a precision."""
    return "siamtrack export --int8 --calibrate CLIP" if precision == INT8 else "siamtrack export"


def parse_metadata(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """What `export_graphs` wrote into a graph: format, architecture, config, weights_sha256, graph.

    Raises:
        EngineError: the graph is not siamtrack's or of another format.
    """
    try:
        found: dict[str, Any] = json.loads(metadata[METADATA_KEY])
    except (KeyError, ValueError) as error:
        raise EngineError(f"graph {path} was not made by siamtrack; export it again") from error
    if found.get("format") != FORMAT:
        raise EngineError(
            f"graph {path} has format {found.get('format')}, this version reads {FORMAT}; "
            "export it again"
        )
    return found
