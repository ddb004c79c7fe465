"""What `siamtrack export` does once its command line is understood."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

import siamtrack
from siamtrack.crops import Image
from siamtrack.engines.calibration import CalibrationCrop, calibration_crops
from siamtrack.engines.graphs import (
    INT8,
    TRACK,
    export_graphs,
    graph_paths,
    require_exporter,
)
from siamtrack.engines.onnx_engine import OnnxEngine
from siamtrack.errors import OutputError
from siamtrack.files import write_atomically
from siamtrack.models.cards import sha256_of
from siamtrack.models.weights import load_network

CROPS = 64
"""Crops that activations are measured on. More change the scales by less than their own grid."""


def export(weights: Path, overwrite: bool) -> list[Path]:
    """Write the two graphs of a weights file.

    Args:
        weights: the .safetensors file.
        overwrite: replace graphs that exist.

    Returns:
        The files written.

    Raises:
        SiamTrackError: graphs exist, or see `export_graphs`.
    """
    targets = graph_paths(weights)
    _refuse_existing(list(targets.values()), overwrite)
    export_graphs(load_network(weights), targets, sha256_of(weights))
    return list(targets.values())


def export_int8(weights: Path, clips: Sequence[str], overwrite: bool) -> list[Path]:
    """Write the quantised track graph of a weights file, and before it the graphs it is made from.

    Args:
        weights: the .safetensors file.
        clips: videos or folders of pictures to calibrate with, each of which gives as many crops.
        overwrite: replace the quantised graph.

    Returns:
        The files written.

    Raises:
        SiamTrackError: the graph exists, a clip cannot be read, the graphs that are there belong
            to other weights, or see `export_graphs`.
    """
    target = graph_paths(weights, INT8)[TRACK]
    _refuse_existing([target], overwrite)
    require_exporter()
    import onnx

    from siamtrack.engines.quantise import quantise_graph

    targets = graph_paths(weights)
    complete = all(path.is_file() for path in targets.values())
    written = [] if complete else export(weights, overwrite=True)
    engine = OnnxEngine(weights, sha256_of(weights), threads=1)
    rng = np.random.default_rng(0)
    each = -(-CROPS // len(clips))
    crops: list[CalibrationCrop] = []
    for clip in clips:
        crops += calibration_crops(_frames(clip), engine.config, each, rng)
    feeds = [_feed(engine, crop) for crop in tqdm(crops, desc="calibrating", unit="crop")]
    quantised = quantise_graph(onnx.load(targets[TRACK]), feeds)
    write_atomically(target, quantised.SerializeToString())
    return [*written, target]


def _frames(clip: str) -> Iterator[Image]:
    with siamtrack.open_source(clip) as source:
        for frame in tqdm(source, desc=source.name, unit="frame", total=source.frame_count):
            yield frame.image


def _feed(engine: OnnxEngine, crop: CalibrationCrop) -> list[np.ndarray]:
    exemplar = engine.embed_exemplar([crop.exemplar], crop.box_xywh[None])
    return [engine.prepare([crop.search]), *exemplar.tensors]


def _refuse_existing(targets: Sequence[Path], overwrite: bool) -> None:
    existing = [str(target) for target in targets if target.exists()]
    if existing and not overwrite:
        raise OutputError(f"{', '.join(existing)} exist; give --overwrite to replace them")
