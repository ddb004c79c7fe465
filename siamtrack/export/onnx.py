"""TODO."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from siamtrack.engines.graphs import EXEMPLAR, FORMAT, METADATA_KEY, TRACK
from siamtrack.errors import EngineError
from siamtrack.models.network import TrackerNetwork
from siamtrack.models.weights import config_to_dict
from siamtrack.utils.files import atomic_write


class ExemplarGraph(nn.Module):
    """uint8 (B, S, S, 3) RGB and the (B, 1, h, w) mask to the exemplar's tensors."""

    def __init__(self, network: TrackerNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, target_mask: Tensor) -> tuple[Tensor, ...]:
        """Embed."""
        found = self.network.embed_exemplar(z.permute(0, 3, 1, 2), target_mask)
        return (found,) if isinstance(found, Tensor) else tuple(found)


class TrackGraph(nn.Module):
    """uint8 (B, S, S, 3) RGB and the exemplar's tensors to logits, sides and similarity."""

    def __init__(self, network: TrackerNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, exemplar: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Embed the search crops and correlate."""
        z = self.network.exemplar_from(exemplar)
        output = self.network.correlate(z, self.network.embed_search(x.permute(0, 3, 1, 2)))
        found = [output.score_logits[:, 0]]
        if output.ltrb_px is not None:
            found.append(output.ltrb_px)
        similarity = self.network.similarity(z, output)
        if similarity is not None:
            found.append(similarity)
        return tuple(found)


def export_graphs(network: TrackerNetwork, targets: dict[str, Path], weights_sha256: str) -> None:
    """Write both graphs as ONNX, dynamic in the batch, batch norm folded.

    Args:
        network: in evaluation mode, on the CPU.
        targets: of `graph_paths`.
        weights_sha256: hash of the weights file, kept in the graphs so that graphs of other
            weights are never taken for these.

    Raises:
        EngineError: the packages that export are not installed.
        OutputError: a graph cannot be written.
    """
    require_exporter()
    config = network.config
    z = torch.zeros(2, config.exemplar_size_px, config.exemplar_size_px, 3, dtype=torch.uint8)
    x = torch.zeros(2, config.search_size_px, config.search_size_px, 3, dtype=torch.uint8)
    cells = config.exemplar_size_px // config.total_stride
    mask = torch.ones(2, 1, cells, cells)
    with torch.no_grad():
        exemplar = ExemplarGraph(network)(z, mask)
    batch = torch.export.Dim("batch")
    first = {0: batch}
    described = {
        "format": FORMAT,
        "architecture": network.architecture,
        "config": config_to_dict(config),
        "weights_sha256": weights_sha256,
    }
    jobs: dict[str, tuple[nn.Module, tuple[Any, ...], Any]] = {
        EXEMPLAR: (ExemplarGraph(network), (z, mask), (first, first)),
        TRACK: (TrackGraph(network), (x, exemplar), (first, tuple(first for _ in exemplar))),
    }
    for kind, (module, inputs, shapes) in jobs.items():
        model = _to_onnx(module.eval(), inputs, shapes)
        entry = model.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, json.dumps({**described, "graph": kind})
        atomic_write(targets[kind], model.SerializeToString())


def require_exporter() -> None:
    """Check that graphs can be written here.

    Raises:
        EngineError: the packages that export are not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise EngineError(
            "exporting needs packages that are not installed; pip install 'siamtrack[export]'"
        ) from error


def _to_onnx(module: nn.Module, inputs: tuple[Any, ...], shapes: Any) -> Any:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, inputs, dynamic_shapes=shapes, dynamo=True, optimize=True, verbose=False
        )
    if program is None:
        raise EngineError("torch exported nothing; report this with the versions of siamtrack info")
    return program.model_proto
