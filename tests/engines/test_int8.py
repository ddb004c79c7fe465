"""The quantized graph: near the one it is made from, and never run for other weights."""

import shutil
import sys
from dataclasses import astuple

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

import siamtrack
from siamtrack.cli import main
from siamtrack.engines import ModelSource, choose_engine
from siamtrack.engines.graphs import graph_paths
from siamtrack.engines.onnx_engine import OnnxEngine
from siamtrack.engines.torch_engine import TorchEngine
from siamtrack.errors import ConfigError, EngineError
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.weights import load_network, note_graphs, open_weights, save_network

ENGINES = ("onnx:int8", "openvino:int8")
SMALL = Lite0Config(exemplar_size_px=64, search_size_px=128)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(("targets", "searches"), [(1, 1), (1, 3), (3, 3)])
def test_int8_is_near_what_torch_gives(quantized, responses, name, targets, searches):
    """Every layer is off by about 1 part in 100, which twenty layers add up to a few."""
    expected = responses(TorchEngine(load_network(quantized), "cpu"), targets, searches)
    engine = siamtrack.load(quantized, device="cpu", engine=name).engine
    assert (engine.name, engine.precision) == (name.partition(":")[0], "int8")
    for a, b in zip(astuple(responses(engine, targets, searches)), astuple(expected), strict=True):
        assert 0 < np.abs(a - b).max() < 0.15 * np.abs(b).max()


def test_features_in_8_bits_point_where_those_of_torch_do(responses):
    """Each cell's, within the sum of the layers' errors; those of two cells agree less."""
    expected = responses(TorchEngine(load_network("siamtrack-lite0"), "cpu"), 3, 3).features
    engine = siamtrack.load("siamtrack-lite0", device="cpu", engine="onnx:int8").engine
    found = responses(engine, 3, 3).features
    same = np.mean((found * expected).sum(axis=1))
    assert same > 0.98
    assert np.mean((found[..., 1:] * expected[..., :-1]).sum(axis=1)) < same - 0.04


@pytest.mark.slow
def test_only_the_backbone_is_in_8_bits(quantized):
    model = onnx.load(graph_paths(quantized, "int8")["track"])
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    in_8_bits = [node for node in convolutions if node.input[1].endswith("_read")]
    backbone = len(list(SiamTrackLite0(SMALL).search_branch.backbone.convolutions()))
    assert len(in_8_bits) == backbone < len(convolutions)
    names = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert all(
        names[node.input[1].replace("_read", "_int8")] == onnx.TensorProto.INT8
        for node in in_8_bits
    )
    weights = [
        numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and tensor.name.endswith("_int8")
    ]
    # Two products of a weight and an activation fit into 16 bits, which is all that CPUs without
    # instructions for 8-bit sums add up in.
    assert max(np.abs(levels.astype(int)).max() for levels in weights) * 255 * 2 < 2**15
    # The pixels are bytes already: only these reach the first convolution.
    assert in_8_bits[0].input[0] == "siamtrack_pixels_read"
    pixels = {model.graph.input[0].name, "siamtrack_pixels_int8"}
    assert not [n for n in model.graph.node if n.op_type == "Cast" and pixels.intersection(n.input)]


@pytest.mark.slow
def test_onnx_runtime_computes_the_backbone_in_8_bits(quantized, tmp_path):
    """Where it finds a convolution between tensors of two types it runs that in float."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(graph_paths(quantized, "int8")["track"], options)
    nodes = onnx.load(options.optimized_model_filepath).graph.node
    backbone = len(list(SiamTrackLite0(SMALL).search_branch.backbone.convolutions()))
    assert sum(node.op_type == "QLinearConv" for node in nodes) == backbone


@pytest.mark.slow
@pytest.mark.parametrize(("has_bf16", "taken"), [(True, "bf16"), (False, "int8")])
def test_auto_takes_int8_in_openvino_where_the_cpu_has_no_bf16(
    quantized, monkeypatch, has_bf16, taken
):
    monkeypatch.setattr("siamtrack.engines.openvino_engine.has_bf16", lambda: has_bf16)
    made = []
    monkeypatch.setattr(
        "siamtrack.engines._graph_engine", lambda *args: made.append(args) or "engine"
    )
    choose_engine(ModelSource(open_weights(quantized)), device="cpu")
    (name, *_, precision) = made[0]
    assert (name, precision or "bf16") == ("openvino", taken)


@pytest.mark.slow
def test_auto_takes_int8_in_onnx_runtime_and_info_shows_it(quantized, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert siamtrack.load(quantized, device="cpu").engine.precision == "int8"
    assert siamtrack.load(quantized, device="cpu", engine="onnx").engine.precision == "f32"
    assert main(["info", "--weights", str(quantized)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "auto onnx (int8) on cpu" in told
    assert "small.track.int8.onnx, for engines openvino:int8 and onnx:int8" in told


@pytest.mark.slow
def test_auto_does_not_pass_over_a_damaged_graph(quantized, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    for file in quantized.parent.iterdir():
        shutil.copy(file, tmp_path)
    path = tmp_path / quantized.name
    graph_paths(path, "int8")["track"].write_bytes(b"damaged")
    with pytest.raises(EngineError, match="is damaged"):
        siamtrack.load(path, device="cpu")


@pytest.mark.slow
def test_without_the_graph_the_error_names_the_export_command(quantized, tmp_path, capsys):
    for graph in graph_paths(quantized).values():
        shutil.copy(graph, tmp_path)
    path = shutil.copy(quantized, tmp_path)
    for name in ENGINES:
        with pytest.raises(EngineError, match=r"siamtrack export --int8 --calibrate CLIP"):
            siamtrack.load(path, device="cpu", engine=name)
    assert main(["info", "--weights", str(path)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "small.track.int8.onnx (siamtrack export --int8 --calibrate CLIP makes it)" in told


@pytest.mark.slow
def test_a_graph_of_other_weights_is_refused(quantized, tmp_path):
    for file in quantized.parent.iterdir():
        shutil.copy(file, tmp_path)
    path = tmp_path / quantized.name
    torch.manual_seed(1)
    save_network(SiamTrackLite0(SMALL), path, training_data=["x"], license="x", overwrite=True)
    with pytest.raises(EngineError, match="exported from other weights"):
        siamtrack.load(path, device="cpu", engine="onnx:int8")
    # Nor is it made from graphs of other weights.
    assert main(["export", "--weights", str(path), "--int8", "--calibrate", str(tmp_path)]) == 3


@pytest.mark.slow
def test_it_is_not_made_from_a_graph_without_features(quantized, tmp_path, capsys):
    for file in quantized.parent.iterdir():
        shutil.copy(file, tmp_path)
    path = tmp_path / quantized.name
    track = graph_paths(path)["track"]
    model = onnx.load(track)
    assert len(model.graph.output) == len(
        onnx.load(graph_paths(path, "int8")["track"]).graph.output
    )
    del model.graph.output[3]
    track.write_bytes(model.SerializeToString())
    note_graphs(path, ["track"])
    command = ["export", "--weights", str(path), "--int8", "--calibrate", "clip.mp4", "--overwrite"]
    assert main(command) == 3
    assert "has no search features; export it again" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_says_what_it_needs(quantized, tmp_path, capsys):
    weights = ["export", "--weights", str(quantized)]
    assert main([*weights, "--int8"]) == 2
    assert "add --calibrate CLIP" in capsys.readouterr().err
    assert main([*weights, "--calibrate", "clip.mp4"]) == 2
    assert "--calibrate is for --int8" in capsys.readouterr().err
    assert main([*weights, "--int8", "--calibrate", "clip.mp4"]) == 3
    assert "give --overwrite" in capsys.readouterr().err
    before = graph_paths(quantized, "int8")["track"].read_bytes()
    missing = str(tmp_path / "missing.mp4")
    assert main([*weights, "--int8", "--calibrate", missing, "--overwrite"]) == 3
    assert "missing.mp4" in capsys.readouterr().err
    assert graph_paths(quantized, "int8")["track"].read_bytes() == before


def test_an_unknown_precision_of_onnx_runtime_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="unknown precision 'bf16'"):
        OnnxEngine(tmp_path / "a.safetensors", "", precision="bf16")
