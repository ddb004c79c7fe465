"""Which engine runs what, and what is said where one cannot."""

import shutil
import sys

import pytest
import torch

import siamtrack
from siamtrack import engines
from siamtrack.cli import main
from siamtrack.engines import ModelSource, choose_engine, make_engine, torch_engine
from siamtrack.errors import ConfigError, EngineError
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.siamfc import SiamFC, SiamFCConfig
from siamtrack.models.weights import WeightsFile, open_weights, save_network

MODULES = {
    "onnx": ("onnxruntime", "siamtrack.engines.onnx_engine"),
    "openvino": ("openvino", "siamtrack.engines.openvino_engine"),
}


def uninstall(name, monkeypatch):
    """Make this process believe that an engine's package is not there."""
    package, module = MODULES[name]
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, package, None)


def source_of(path):
    return ModelSource(open_weights(path))


def source_without_file(tmp_path):
    """Weights of which nothing but the path is looked at."""
    return ModelSource(WeightsFile(tmp_path / "a.safetensors", "", "siamfc", SiamFCConfig()))


@pytest.mark.slow
def test_auto_takes_the_fastest_engine_installed(exported, monkeypatch):
    source = source_of(exported)
    assert choose_engine(source, device="cpu").engine.name == "openvino"
    assert choose_engine(source, device="cpu").skipped == {}
    uninstall("openvino", monkeypatch)
    engine, skipped = choose_engine(source, device="cpu")
    assert engine.name == "onnx"
    assert skipped == {"openvino": "not installed (pip install 'siamtrack[openvino]')"}
    uninstall("onnx", monkeypatch)
    engine, skipped = choose_engine(source, device="cpu")
    assert engine.name == "torch"
    assert list(skipped) == ["openvino", "onnx"]


@pytest.mark.slow
def test_auto_takes_torch_without_graphs(exported, tmp_path, caplog):
    alone = tmp_path / exported.name
    shutil.copy(exported, alone)
    engine, skipped = choose_engine(source_of(alone), device="cpu")
    assert engine.name == "torch"
    assert all("siamtrack export makes it" in why for why in skipped.values())
    assert "another engine" not in caplog.text
    with pytest.raises(EngineError, match="siamtrack export"):
        make_engine(source_of(alone), engine="onnx", device="cpu")


@pytest.mark.slow
def test_graphs_of_other_weights_are_refused_and_auto_falls_back(exported, tmp_path, caplog):
    for file in exported.parent.iterdir():
        shutil.copy(file, tmp_path)
    path = tmp_path / exported.name
    torch.manual_seed(1)
    network = SiamTrackLite0(Lite0Config(exemplar_size_px=64, search_size_px=128))
    save_network(network, path, training_data=["x"], license="x", overwrite=True)
    for name in MODULES:
        with pytest.raises(EngineError, match="exported from other weights"):
            siamtrack.load(path, device="cpu", engine=name)
    assert siamtrack.load(path, device="cpu").engine.name == "torch"
    assert "another engine than openvino runs the network" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "openvino:f32", "torch"])
def test_the_engine_asked_for_is_taken(exported, name):
    engine = make_engine(source_of(exported), engine=name, device="cpu", threads=1)
    assert (engine.name, engine.precision) == (name.partition(":")[0], "f32")


def test_a_gpu_is_left_to_torch(monkeypatch):
    monkeypatch.setattr("siamtrack.engines.resolve_device", lambda device: "cuda")
    monkeypatch.setattr(torch_engine, "TorchEngine", lambda network, device, sha256: device)
    engine, skipped = choose_engine(ModelSource(SiamFC()))
    assert engine == "cuda"
    assert skipped["openvino"] == "torch is taken on cuda"


def test_auto_runs_weights_without_a_file():
    engine, skipped = choose_engine(ModelSource(SiamFC()), device="cpu")
    assert isinstance(engine, torch_engine.TorchEngine)
    assert skipped["onnx"] == "the weights are not in a .safetensors file"


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("tensorrt", "unknown engine 'tensorrt'"),
        ("onyx", "did you mean 'onnx'"),
        ("onnx:bf16", "unknown engine 'onnx:bf16'; did you mean"),
        ("torch:int8", "torch has no precision to choose"),
        ("auto:f32", "auto has no precision to choose"),
    ],
)
def test_engines_that_do_not_exist_are_refused(engine, message):
    with pytest.raises(ConfigError, match=message):
        make_engine(ModelSource(SiamFC()), engine=engine)


@pytest.mark.parametrize("engine", ["onnx", "openvino", "openvino:f32"])
def test_graph_engines_need_weights_with_a_file(engine):
    with pytest.raises(EngineError, match="import the checkpoint"):
        make_engine(ModelSource(SiamFC()), engine=engine, device="cpu")


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="unknown engine 'openvino:f16'; did you mean"):
        make_engine(source_without_file(tmp_path), engine="openvino:f16")


@pytest.mark.parametrize(
    ("name", "cure"), [("onnx", "onnxruntime"), ("openvino", r"siamtrack\[openvino\]")]
)
def test_an_engine_that_is_not_installed_says_what_installs_it(name, cure, monkeypatch, tmp_path):
    uninstall(name, monkeypatch)
    with pytest.raises(EngineError, match=f"pip install '{cure}'"):
        make_engine(source_without_file(tmp_path), engine=name, device="cpu")


@pytest.mark.slow
def test_info_says_which_engine_and_why_not_a_faster_one(exported, monkeypatch, capsys):
    uninstall("openvino", monkeypatch)
    assert main(["info", "--weights", str(exported)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "auto onnx (f32) on cpu: the fastest one that can run these weights" in told
    assert "not openvino not installed (pip install 'siamtrack[openvino]')" in told


@pytest.mark.slow
def test_graph_engines_leave_the_tensors_of_the_weights_alone(exported, monkeypatch):
    source = source_of(exported)
    monkeypatch.setattr("siamtrack.engines.load_network", lambda file: pytest.fail("loaded"))
    assert make_engine(source, engine="onnx", device="cpu").name == "onnx"
    assert choose_engine(source, device="cpu").engine.name == "openvino"


def test_old_names_are_found_with_a_warning():
    with pytest.warns(FutureWarning, match="'Source' is now 'ModelSource'"):
        assert engines.Source is ModelSource
