"""Exported graphs say nothing about the machine that exported them."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from siamtrack.errors import EngineError
from siamtrack.export.onnx import export_graphs, remove_debug_info
from siamtrack.models.weights import build_network, weights_dir

GRAPHS = sorted(weights_dir().glob("*.onnx"))


def notes(model: onnx.ModelProto) -> list[str]:
    """Documentation and metadata of a graph and its parts."""
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    parts = (graph, *graph.node, *values)
    texts = [model.doc_string, *(part.doc_string for part in parts)]
    return [text for text in texts if text] + [e.key for p in parts for e in p.metadata_props]


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.name)
def test_bundled_graphs_hold_no_path(path: Path) -> None:
    model = onnx.load(path)
    assert [entry.key for entry in model.metadata_props] == ["siamtrack"]
    assert notes(model) == []
    assert not re.search(rb"[\w.-]+/[\w./-]+\.py", path.read_bytes())


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.name)
def test_bundled_track_graphs_take_crops_of_any_size(path: Path) -> None:
    """Batch, rows and columns have a name instead of a number; of the exemplar the batch alone."""
    shape = onnx.load(path).graph.input[0].type.tensor_type.shape
    named = [bool(dim.dim_param) for dim in shape.dim]
    assert named == ([True] * 3 if ".track." in path.name else [True, False, False]) + [False]


def test_debug_info_is_removed_and_the_graph_stays() -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu", doc_string="/home/me/a.py")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1], "a note") for n in "xy")
    model = helper.make_model(helper.make_graph([node], "graph", [x], [y], doc_string="b"))
    helper.set_model_props(model, {"siamtrack": "{}"})
    model.doc_string = "c"
    for part in (model.graph, model.graph.node[0], model.graph.input[0]):
        entry = part.metadata_props.add()
        entry.key, entry.value = "pkg.torch.onnx.stack_trace", "/home/me/a.py, line 3"
    assert len(notes(model)) == 8

    remove_debug_info(model)
    assert notes(model) == []
    assert model.metadata_props[0].key == "siamtrack"
    assert [(n.op_type, n.name) for n in model.graph.node] == [("Relu", "relu")]
    onnx.checker.check_model(model)


def test_what_the_exporter_says_of_other_packages_is_kept_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = logging.getLogger("torch.onnx._internal.exporter._registration")

    def export(*arguments: object, **options: object) -> None:
        said.warning("torchvision is not installed. Skipping torchvision::nms")

    monkeypatch.setattr(torch.onnx, "export", export)
    network = build_network("siamtrack-lite0", {"exemplar_size_px": 64, "search_size_px": 128})
    level = said.level
    with pytest.raises(EngineError, match="torch exported nothing"):
        export_graphs(network.eval(), {}, "")
    assert not caplog.records and said.level == level
