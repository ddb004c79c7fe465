"""The two graphs that engines other than torch run: exemplar and track.

Exporting splits the network where the tracker does: the exemplar graph runs once per target, the
track graph once per frame. What surrounds the network goes inside where that is faster: the
cast and normalisation of the pixels, and the comparison of embeddings.
"""

from __future__ import annotations

from pathlib import Path

FORMAT = 1
EXEMPLAR, TRACK = "exemplar", "track"
INT8 = "int8"
METADATA_KEY = "siamtrack"


def graph_paths(weights: Path, precision: str = "f32") -> dict[str, Path]:
    """Where the graphs of a weights file lie: `name.exemplar.onnx` and `name.track.onnx`.

    Only "int8" has a track graph of its own, `name.track.int8.onnx`; the exemplar graph, which
    runs once per target, serves all precisions.
    """
    track = f".{TRACK}.{INT8}.onnx" if precision == INT8 else f".{TRACK}.onnx"
    return {
        EXEMPLAR: weights.with_suffix(f".{EXEMPLAR}.onnx"),
        TRACK: weights.with_suffix(track),
    }


def export_command(precision: str) -> str:
    """What makes the graphs of a precision."""
    wants_int8 = precision == INT8
    return "siamtrack export --int8 --calibrate CLIP" if wants_int8 else "siamtrack export"
