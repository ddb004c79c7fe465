"""Engines: every one gives what torch gives, and says why when it cannot run."""

import shutil
import sys

import numpy as np
import onnxruntime
import pytest
import torch

import siamtrack
from siamtrack.cli import main
from siamtrack.engines import Source, make_engine, torch_engine
from siamtrack.engines.graphs import export_graphs, graph_paths
from siamtrack.engines.onnx_engine import OnnxEngine
from siamtrack.engines.torch_engine import TorchEngine, resolve_device
from siamtrack.errors import ConfigError, DeviceError, EngineError
from siamtrack.models.cards import sha256_of
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.siamfc import SiamFC
from siamtrack.models.weights import load_network, save_network

SMALL = Lite0Config(exemplar_size_px=64, search_size_px=128)


def crops(count, size, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(count)]


def save(network, path):
    save_network(network, path, training_data=["none"], licence="none")
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Weights of the default architecture with their graphs, made by the command."""
    torch.manual_seed(0)
    path = save(SiamTrackLite0(SMALL), tmp_path_factory.mktemp("weights") / "small.safetensors")
    assert main(["export", "--weights", str(path)]) == 0
    return path


def responses(engine, targets, searches):
    config = engine.config
    boxes = np.tile([16.0, 16.0, 32.0, 32.0], (targets, 1))
    exemplar = engine.embed_exemplar(crops(targets, config.exemplar_size_px), boxes)
    return engine.track(exemplar, crops(searches, config.search_size_px, seed=1))


@pytest.mark.slow
@pytest.mark.parametrize(("targets", "searches"), [(1, 1), (1, 3), (3, 3)])
def test_onnx_equals_torch(exported, targets, searches):
    expected = responses(TorchEngine(load_network(exported), "cpu"), targets, searches)
    found = responses(OnnxEngine(exported, sha256_of(exported)), targets, searches)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_auto_takes_the_graphs_beside_the_weights(exported, tmp_path):
    assert siamtrack.load(exported, device="cpu").engine.name == "onnx"
    assert siamtrack.load(exported, device="cpu", engine="torch").engine.name == "torch"
    alone = tmp_path / exported.name
    shutil.copy(exported, alone)
    shutil.copy(exported.with_suffix(".json"), tmp_path)
    assert siamtrack.load(alone, device="cpu").engine.name == "torch"
    with pytest.raises(EngineError, match="siamtrack export"):
        siamtrack.load(alone, device="cpu", engine="onnx")


@pytest.mark.slow
def test_stacked_exemplars_equal_a_batch(exported):
    engine = OnnxEngine(exported, sha256_of(exported))
    pictures, boxes = crops(2, 64), np.tile([16.0, 16.0, 32.0, 32.0], (2, 1))
    apart = [engine.embed_exemplar([p], b[None]) for p, b in zip(pictures, boxes, strict=True)]
    stacked, batch = engine.stack(apart), engine.embed_exemplar(pictures, boxes)
    assert stacked.targets == batch.targets == 2
    for a, b in zip(stacked.tensors, batch.tensors, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def copied(exported, folder):
    for path in exported.parent.iterdir():
        shutil.copy(path, folder)
    return folder / exported.name


@pytest.mark.slow
def test_graphs_of_other_weights_are_refused_and_auto_falls_back(exported, tmp_path, caplog):
    path = copied(exported, tmp_path)
    torch.manual_seed(1)
    save_network(SiamTrackLite0(SMALL), path, training_data=["x"], licence="x", overwrite=True)
    with pytest.raises(EngineError, match="exported from other weights"):
        siamtrack.load(path, device="cpu", engine="onnx")
    assert siamtrack.load(path, device="cpu").engine.name == "torch"
    assert "torch runs the network instead" in caplog.text


@pytest.mark.slow
def test_damaged_and_foreign_graphs_are_refused(exported, tmp_path):
    path = copied(exported, tmp_path)
    track = graph_paths(path)["track"]
    track.write_bytes(track.read_bytes()[:1000])
    with pytest.raises(EngineError, match="is damaged"):
        OnnxEngine(path, sha256_of(path))
    import onnx

    model = onnx.load(graph_paths(exported)["track"])
    del model.metadata_props[:]
    track.write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match="not made by siamtrack"):
        OnnxEngine(path, sha256_of(path))
    entry = model.metadata_props.add()
    entry.key, entry.value = "siamtrack", '{"format": 0}'
    track.write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match="has format 0"):
        OnnxEngine(path, sha256_of(path))


@pytest.mark.slow
def test_export_does_not_overwrite_unasked(exported, capsys):
    assert main(["export", "--weights", str(exported)]) == 3
    assert "give --overwrite" in capsys.readouterr().err


def test_bundled_graphs_belong_to_the_bundled_weights():
    tracker = siamtrack.load(device="cpu", engine="onnx")
    assert tracker.engine.name == "onnx"
    reference = siamtrack.load(device="cpu", engine="torch")
    for a, b in zip(
        responses(tracker.engine, 1, 1), responses(reference.engine, 1, 1), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=2e-3, rtol=1e-3)


def test_siamfc_runs_three_crops_against_one_exemplar():
    torch.manual_seed(0)
    engine = TorchEngine(SiamFC(), "cpu")
    together = responses(engine, 1, 3).score_logits
    assert together.shape == (3, 17, 17)


def test_what_cannot_run_says_why():
    network = SiamFC()
    with pytest.raises(ConfigError, match="unknown engine"):
        make_engine(Source(network), engine="tensorrt")
    with pytest.raises(EngineError, match="import the checkpoint"):
        make_engine(Source(network), engine="onnx", device="cpu")


def test_an_engine_that_is_not_installed_says_what_installs_it(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "siamtrack.engines.onnx_engine", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match="pip install onnxruntime"):
        make_engine(Source(SiamFC(), tmp_path / "a.safetensors"), engine="onnx", device="cpu")


def test_exporting_without_the_packages_says_what_installs_them(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EngineError, match=r"siamtrack\[export\]"):
        export_graphs(SiamFC(), graph_paths(tmp_path / "a.safetensors"), "")


def test_onnx_runtime_without_the_device_says_so(monkeypatch, tmp_path):
    path = tmp_path / "a.safetensors"
    for graph in graph_paths(path).values():
        graph.write_bytes(b"graph")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EngineError, match="cannot use cuda"):
        OnnxEngine(path, "", device="cuda:0")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "mps", "meta"])
def test_devices_that_are_not_there_are_refused(name, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=repr(name)):
        resolve_device(name)


def test_auto_prefers_a_gpu(monkeypatch):
    monkeypatch.setattr(torch_engine.torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"
    monkeypatch.setattr(torch_engine.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto").type == "mps"
