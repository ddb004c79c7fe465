"""Export the exemplar graph and the track graph of a network as ONNX."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from siamtrack.engines.graphs import FORMAT, METADATA_KEY, graph_names, graph_paths
from siamtrack.engines.onnx_engine import OnnxEngine
from siamtrack.errors import EngineError, OutputError, WeightsError
from siamtrack.models.network import SiameseNetwork
from siamtrack.models.weights import (
    EXEMPLAR,
    GRAPHS,
    INT8,
    TRACK,
    config_to_dict,
    graph_path,
    load_network,
    note_graphs,
    open_weights,
)
from siamtrack.utils.files import atomic_write

_MAX_CELLS = 128  # along a side of a search crop: 2048 px at stride 16


def export_weights(weights: Path, overwrite: bool) -> list[Path]:
    """Write the two graphs of a weights file beside it, their hashes into its card.

    Returns:
        The paths of the graphs.

    Raises:
        SiamTrackError: graphs exist, or see `open_weights`, `load_network` and `export_graphs`.
    """
    targets = graph_paths(weights)
    refuse_existing(list(targets.values()), overwrite)
    file = open_weights(weights)
    export_graphs(load_network(file), targets, file.sha256)
    note_graphs(weights, list(targets))
    return list(targets.values())


def refresh_card(weights: Path) -> list[Path]:
    """Write the hashes of the graphs beside a weights file into its card and return their paths.

    For graphs that were copied there, or were exported before cards held their hashes.

    Raises:
        EngineError: there is no graph, or one is damaged or belongs to other weights.
        WeightsError: the weights have no card, or see `open_weights`.
        OutputError: the card cannot be written.
    """
    file = open_weights(weights)
    if file.card is None:
        raise WeightsError(f"{weights} has no card to write to; take the one that came with it")
    names = [name for name in GRAPHS if graph_path(weights, name).is_file()]
    # Opening them shows whether they are whole and belong to the weights.
    OnnxEngine(weights, file.sha256, threads=1)
    if graph_names(INT8)[TRACK] in names:
        OnnxEngine(weights, file.sha256, threads=1, precision=INT8)
    note_graphs(weights, names)
    return [graph_path(weights, name) for name in names]


def refuse_existing(targets: Sequence[Path], overwrite: bool) -> None:
    """Raise OutputError if graphs exist and must not be replaced."""
    existing = [str(target) for target in targets if target.exists()]
    if existing and not overwrite:
        raise OutputError(f"{', '.join(existing)} exist; give --overwrite to replace them")


def export_graphs(network: SiameseNetwork, targets: dict[str, Path], weights_sha256: str) -> None:
    """Write both graphs as ONNX, with a dynamic batch size and batch norm folded.

    The track graph of a network with a box head takes search crops of any multiple of the total
    stride: the tracker looks at a smaller window while the target is steady.

    Args:
        network: in evaluation mode, on the CPU.
        targets: of `graph_paths`.
        weights_sha256: hash of the weights file. The graphs keep it, and engines refuse graphs of
            other weights.

    Raises:
        EngineError: the packages that export are not installed.
        OutputError: a graph cannot be written.
    """
    require_exporter()

    # Example inputs, with a batch of 2 because torch.export makes a size of 1 constant.
    config = network.config
    z = torch.zeros(2, config.exemplar_size_px, config.exemplar_size_px, 3, dtype=torch.uint8)
    x = torch.zeros(2, config.search_size_px, config.search_size_px, 3, dtype=torch.uint8)
    mask = torch.ones(2, 1, config.exemplar_cells, config.exemplar_cells)
    with torch.no_grad():
        exemplar = ExemplarGraph(network)(z, mask)

    # Each graph with its inputs, all of whose first axis is the batch.
    batch = {0: torch.export.Dim("batch")}
    crops = dict(batch)
    if network.any_search_size:
        for axis, cells in ((1, "rows"), (2, "columns")):
            least = min(config.exemplar_cells, config.response_size)
            crops[axis] = config.total_stride * torch.export.Dim(cells, min=least, max=_MAX_CELLS)
    graphs: dict[str, tuple[nn.Module, tuple[Any, ...], Any]] = {
        EXEMPLAR: (ExemplarGraph(network), (z, mask), (batch, batch)),
        TRACK: (TrackGraph(network), (x, exemplar), (crops, tuple(batch for _ in exemplar))),
    }
    metadata = {
        "format": FORMAT,
        "architecture": network.architecture,
        "config": config_to_dict(config),
        "weights_sha256": weights_sha256,
    }
    for name, (module, inputs, shapes) in graphs.items():
        with _quiet_exporter(), torch.no_grad():
            program = torch.onnx.export(
                module.eval(),
                inputs,
                dynamic_shapes=shapes,
                dynamo=True,
                optimize=True,
                verbose=False,
            )
        if program is None:
            raise EngineError(
                "torch exported nothing; report this with the versions of siamtrack info"
            )
        model = program.model_proto
        remove_debug_info(model)
        entry = model.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, json.dumps({**metadata, "graph": name})
        atomic_write(targets[name], model.SerializeToString())


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep back what torch's exporter says of packages that these networks do not use."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def remove_debug_info(model: Any) -> None:
    """Drop torch's notes on the source of an `onnx.ModelProto`: stack traces hold local paths."""
    model.ClearField("doc_string")
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (graph, *graph.node, *values):  # the model's own metadata are siamtrack's
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def require_exporter() -> None:
    """Raise EngineError if the packages that export are not installed."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise EngineError(
            "exporting needs packages that are not installed; pip install 'siamtrack[export]'"
        ) from error


class ExemplarGraph(nn.Module):
    """uint8 (B, S, S, 3) RGB and the (B, 1, h, w) target mask to the exemplar's tensors."""

    def __init__(self, network: SiameseNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, target_mask: Tensor) -> tuple[Tensor, ...]:
        """Embed the exemplars."""
        exemplar = self.network.embed_exemplar(z.permute(0, 3, 1, 2), target_mask)
        return (exemplar,) if isinstance(exemplar, Tensor) else tuple(exemplar)


class TrackGraph(nn.Module):
    """uint8 (B, S, S, 3) RGB and the exemplar's tensors to the fields of a `Response`, in order."""

    def __init__(self, network: SiameseNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, exemplar: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Embed the search crops and correlate."""
        z = self.network.exemplar_from_tensors(exemplar)
        output = self.network.correlate(z, self.network.embed_search(x.permute(0, 3, 1, 2)))
        fields = [output.score_logits[:, 0]]  # (B, R, R)
        if output.ltrb_px is not None:
            fields.append(output.ltrb_px)  # (B, 4, R, R)
        similarity = self.network.similarity(z, output)
        if similarity is not None:
            fields.append(similarity)  # (B, R, R)
        if output.filter_features is not None:
            fields.append(output.filter_features)  # (B, C, R, R)
        return tuple(fields)
