"""Engines: every one gives what torch gives, and says why when it cannot run."""

import os
import shutil
import subprocess
import sys
from dataclasses import astuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from scipy.special import expit

import siamtrack
from siamtrack.cli import main
from siamtrack.engines import openvino_engine
from siamtrack.engines.base import Response, track_each
from siamtrack.engines.graphs import graph_paths, to_response
from siamtrack.engines.onnx_engine import OnnxEngine
from siamtrack.engines.openvino_engine import OpenVinoEngine
from siamtrack.engines.torch_engine import TorchEngine
from siamtrack.errors import ConfigError, EngineError, InvalidFrameError
from siamtrack.export.onnx import TrackGraph, export_graphs
from siamtrack.models.siamfc import SiamFC
from siamtrack.models.weights import load_network, weights_dir
from siamtrack.utils.files import sha256

GRAPH_ENGINES = {"onnx": OnnxEngine, "openvino": OpenVinoEngine}


@pytest.fixture(params=sorted(GRAPH_ENGINES))
def graph_engine(request):
    """Every engine that runs graphs, as a function of weights, in f32."""
    make = GRAPH_ENGINES[request.param]
    options = {"inference_precision": "f32"} if request.param == "openvino" else {}
    return lambda path: make(path, sha256(path), **options)


@pytest.mark.slow
@pytest.mark.parametrize(("targets", "searches"), [(1, 1), (1, 3), (3, 3)])
def test_graphs_give_what_torch_gives(graph_engine, exported, responses, targets, searches):
    expected = responses(TorchEngine(load_network(exported), "cpu"), targets, searches)
    found = responses(graph_engine(exported), targets, searches)
    for a, b in zip(astuple(found), astuple(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_exported_graphs_hold_no_path(exported):
    for path in graph_paths(exported).values():
        content = path.read_bytes()
        assert b"site-packages" not in content and b"lite0.py" not in content


@pytest.mark.slow
def test_bf16_is_near(exported, responses):
    """Products keep 8 bits: 1 part in 256 each, which 20 layers add up to a few in 100."""
    expected = responses(TorchEngine(load_network(exported), "cpu"), 3, 3)
    try:
        engine = OpenVinoEngine(exported, sha256(exported), inference_precision="bf16")
    except EngineError as error:
        assert "does not compute in bf16" in str(error)
        pytest.skip("this CPU has no bf16")
    assert engine.precision == "bf16"
    for a, b in zip(astuple(responses(engine, 3, 3)), astuple(expected), strict=True):
        assert 0 < np.abs(a - b).max() < 0.03 * np.abs(b).max()


@pytest.mark.slow
def test_stacked_exemplars_equal_a_batch(graph_engine, exported, photographs):
    engine = graph_engine(exported)
    pictures = [picture[:64, :64] for picture in photographs[:2]]
    boxes = np.tile([16.0, 16.0, 32.0, 32.0], (2, 1))
    apart = [engine.embed_exemplar([p], b[None]) for p, b in zip(pictures, boxes, strict=True)]
    stacked, batch = engine.stack(apart), engine.embed_exemplar(pictures, boxes)
    assert engine.stack(apart[:1]) is apart[0]
    assert stacked.targets == batch.targets == 2
    for a, b in zip(stacked.tensors, batch.tensors, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.fixture
def jobs(graph_engine, exported, photographs):
    """An engine, and three targets of which the second has several windows to look at."""
    engine = graph_engine(exported)
    boxes = np.array([[16.0, 16.0, 32.0, 32.0]])
    exemplars = [engine.embed_exemplar([p[:64, :64]], boxes) for p in photographs]
    crops = [np.ascontiguousarray(p[40:168, 40:168]) for p in photographs]
    return engine, [(exemplars[0], crops[:1]), (exemplars[1], crops), (exemplars[2], crops[2:])]


@pytest.mark.slow
def test_each_of_many_targets_gets_its_own_response(jobs):
    engine, work = jobs
    for found, (exemplar, crops) in zip(track_each(engine, iter(work)), work, strict=True):
        for a, b in zip(astuple(found), astuple(engine.track(exemplar, crops)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_in_onnx_runtime_a_crop_has_the_same_response_alone_and_among_others(
    exported, photographs, threads
):
    alone = OnnxEngine(exported, sha256(exported), threads=1)
    engine = OnnxEngine(exported, sha256(exported), threads=threads)
    boxes = np.array([[16.0, 16.0, 32.0, 32.0]])
    exemplars = [alone.embed_exemplar([p[:64, :64]], boxes) for p in photographs] * 6
    pictures = (*photographs[1:], *photographs * 5, photographs[0])  # 18, more than one run takes
    crops = [np.ascontiguousarray(p[40:168, 40:168]) for p in pictures]
    together = engine.track(engine.stack(exemplars), crops)
    one_exemplar = engine.track(exemplars[0], crops)
    for k, crop in enumerate(crops):
        own, first = (alone.track(exemplar, [crop]) for exemplar in (exemplars[k], exemplars[0]))
        for found, expected in ((together, own), (one_exemplar, first)):
            for a, b in zip(astuple(found[k : k + 1]), astuple(expected), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_after_a_target_that_cannot_be_cut_the_engine_tracks_the_next_frame(jobs):
    engine, work = jobs

    def failing():
        yield work[0]
        yield work[1]
        raise InvalidFrameError("no frame")

    with pytest.raises(InvalidFrameError):
        list(track_each(engine, failing()))
    next(track_each(engine, iter(work)))  # and who stops asking
    first = engine.track(*work[1])
    *_, last = track_each(engine, iter([work[0], work[1]]))
    for a, b in zip(astuple(last), astuple(first), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_response_is_not_overwritten_by_the_next_one(graph_engine, exported, responses):
    engine = graph_engine(exported)
    first = responses(engine, 1, 1)
    kept = astuple(first)  # copies
    responses(engine, 1, 3)
    responses(engine, 2, 2)
    for a, b in zip(astuple(first), kept, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_damaged_and_foreign_graphs_are_refused(graph_engine, exported, tmp_path):
    for file in exported.parent.iterdir():
        shutil.copy(file, tmp_path)
    path = tmp_path / exported.name
    track = graph_paths(path)["track"]
    track.write_bytes(track.read_bytes()[:1000])
    with pytest.raises(EngineError, match="is damaged"):
        graph_engine(path)
    model = onnx.load(graph_paths(exported)["track"])
    del model.metadata_props[:]
    track.write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match="not made by siamtrack"):
        graph_engine(path)
    entry = model.metadata_props.add()
    entry.key, entry.value = "siamtrack", "yes"
    track.write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match="not made by siamtrack"):
        graph_engine(path)
    entry.value = '{"format": 0}'
    track.write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match="has format 0"):
        graph_engine(path)
    track.unlink()
    with pytest.raises(EngineError, match="siamtrack export"):
        graph_engine(path)


@pytest.mark.slow
def test_openvino_says_what_it_cannot_do(exported, monkeypatch):
    digest = sha256(exported)
    with pytest.raises(EngineError, match="not on cuda:0"):
        OpenVinoEngine(exported, digest, device="cuda:0")
    with pytest.raises(ConfigError, match="unknown inference precision 'fp16'"):
        OpenVinoEngine(exported, digest, inference_precision="fp16")

    class CoreOfAnotherCpu:
        def get_property(self, *arguments):
            return ["FP32"]

        def __getattr__(self, name):
            return getattr(core, name)

    core = openvino_engine._core()
    monkeypatch.setattr(openvino_engine, "_core", CoreOfAnotherCpu)
    with pytest.raises(EngineError, match="does not compute in bf16"):
        OpenVinoEngine(exported, digest, inference_precision="bf16")
    assert OpenVinoEngine(exported, digest).precision == "f32"


@pytest.mark.slow
def test_export_overwrites_only_when_asked(exported, capsys):
    assert main(["export", "--weights", str(exported)]) == 3
    assert "give --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["siamtrack-lite0", "siamtrack-nano"])
@pytest.mark.parametrize("engine", ["onnx", "openvino:f32"])
def test_bundled_graphs_belong_to_the_bundled_weights(engine, name, responses):
    fast = siamtrack.load(name, device="cpu", engine=engine).engine
    assert fast.name == engine.partition(":")[0]
    reference = siamtrack.load(name, device="cpu", engine="torch").engine
    for a, b in zip(
        astuple(responses(fast, 3, 3)), astuple(responses(reference, 3, 3)), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4)


def test_bundled_weights_lose_little_in_bf16(responses):
    near = siamtrack.load(device="cpu", engine="openvino").engine
    if near.precision != "bf16":
        pytest.skip("this CPU has no bf16")
    found = responses(near, 3, 3)
    expected = responses(siamtrack.load(device="cpu", engine="torch").engine, 3, 3)
    np.testing.assert_allclose(expit(found.score_logits), expit(expected.score_logits), atol=0.05)
    np.testing.assert_allclose(found.ltrb_px, expected.ltrb_px, atol=2.0)
    np.testing.assert_allclose(found.similarity, expected.similarity, atol=0.06)
    assert (found.features * expected.features).sum(axis=1).min() > 0.96


def test_features_are_those_of_the_filter_at_unit_length(photographs):
    engine = siamtrack.load("siamtrack-nano", device="cpu", engine="torch").engine
    crops = [np.ascontiguousarray(picture[60:204, 80:224]) for picture in photographs]
    exemplar = engine.embed_exemplar([crops[0][:96, :96]], np.array([[24.0, 24.0, 48.0, 48.0]]))
    with torch.inference_mode():
        batch = torch.from_numpy(np.stack(crops)[..., ::-1].transpose(0, 3, 1, 2).copy())
        embedded = load_network("siamtrack-nano").embed_search(batch).numpy()
    embedded = embedded[:, -48:]  # after those that are correlated
    expected = embedded / np.sqrt(np.square(embedded).sum(axis=1, keepdims=True))
    features = engine.track(exemplar, crops).features
    assert (features.shape, features.dtype) == ((3, 48, 9, 9), np.float32)
    np.testing.assert_allclose(features, expected, atol=1e-5)


@pytest.mark.parametrize("engine", ["torch", "onnx", "onnx:int8", "openvino:f32", "openvino:int8"])
def test_the_similarity_is_that_of_the_features(engine, quantized, responses, monkeypatch):
    """In 8 bits as well: both come from the same features, in float and after the division.

    The network has none for the filter alone.
    """
    engine = siamtrack.load(quantized, device="cpu", engine=engine).engine
    embed, made = engine.embed_exemplar, []
    monkeypatch.setattr(
        engine, "embed_exemplar", lambda *given: made.append(embed(*given)) or made[0]
    )
    found = responses(engine, 3, 3)
    embedding = np.asarray(made[0].tensors[2])  # (B, C)
    # Where the CPU has bf16, OpenVINO computes in it what is not in 8 bits.
    in_bf16 = (engine.name, engine.precision) == ("openvino", "int8") and openvino_engine.has_bf16()
    tolerance = 0.02 if in_bf16 else 1e-5
    np.testing.assert_allclose(
        np.einsum("bchw,bc->bhw", found.features, embedding), found.similarity, atol=tolerance
    )
    np.testing.assert_allclose(np.linalg.norm(found.features, axis=1), 1.0, atol=tolerance)


def test_a_slice_of_a_response_has_the_features_of_its_crops(rng):
    shapes = (4, 5, 5), (4, 4, 5, 5), (4, 5, 5), (4, 7, 5, 5)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    for part, whole in zip(astuple(Response(*arrays)[1:3]), arrays, strict=True):
        np.testing.assert_array_equal(part, whole[1:3])
    assert Response(*arrays[:3])[1:3].features is None


def test_responses_are_added_in_order(rng):
    """The crops of both, each with all that belongs to it."""
    shapes = (5, 5, 5), (5, 4, 5, 5), (5, 5, 5), (5, 7, 5, 5)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    whole = Response(*arrays)
    for part, expected in zip(astuple(whole[:2] + whole[2:]), arrays, strict=True):
        np.testing.assert_array_equal(part, expected)
        assert part.dtype == np.float32
    swapped = whole[2:] + whole[:2]
    np.testing.assert_array_equal(swapped.score_logits[:3], arrays[0][2:])
    np.testing.assert_array_equal(swapped.features[3:], arrays[3][:2])
    scores = Response(arrays[0], None, None)
    both = scores[:1] + scores[1:]
    np.testing.assert_array_equal(both.score_logits, arrays[0])
    assert astuple(both)[1:] == (None, None, None)


def test_graphs_exported_before_features_still_run(graph_engine, tmp_path, responses):
    for file in weights_dir().glob("siamtrack-nano.*"):
        shutil.copy(file, tmp_path)
    path = tmp_path / "siamtrack-nano.safetensors"
    whole = responses(graph_engine(path), 1, 2)
    track = graph_paths(path)["track"]
    model = onnx.load(track)
    del model.graph.output[3]
    track.write_bytes(model.SerializeToString())
    old = responses(graph_engine(path), 1, 2)
    assert old.features is None and whole.features is not None
    for a, b in zip(astuple(old)[:3], astuple(whole)[:3], strict=True):
        np.testing.assert_array_equal(a, b)


def test_siamfc_runs_three_crops_against_one_exemplar(responses):
    torch.manual_seed(0)
    response = responses(TorchEngine(SiamFC(), "cpu"), 1, 3)
    assert response.score_logits.shape == (3, 17, 17)
    assert (response.ltrb_px, response.similarity, response.features) == (None, None, None)


def test_the_track_graph_of_siamfc_has_scores_alone():
    network = SiamFC().eval()
    with torch.inference_mode():
        outputs = TrackGraph(network)(
            torch.zeros(1, 255, 255, 3, dtype=torch.uint8), (torch.zeros(1, 256, 6, 6),)
        )
    (logits,) = outputs
    assert astuple(to_response([logits.numpy()]))[1:] == (None, None, None)


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


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="no fork on this system")
def test_openvino_reports_to_no_server():
    """It would do so from a fork, which holds the pipes of a worker that is killed."""
    code = """
import os, time
os.register_at_fork(before=lambda: print("forked", flush=True))
import siamtrack.engines.openvino_engine
time.sleep(0.5)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert "forked" not in done.stdout


def test_compiled_networks_are_kept_where_the_variable_says(
    exported, responses, tmp_path, monkeypatch, caplog
):
    """The second start reads what the first has written, and computes the same to the bit."""
    digest, folder = sha256(exported), tmp_path / "made" / "cache"
    monkeypatch.setenv("SIAMTRACK_CACHE", str(folder))
    first = responses(OpenVinoEngine(exported, digest), 1, 1)
    kept = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert kept
    again = responses(OpenVinoEngine(exported, digest), 1, 1)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == kept
    assert np.array_equal(first.score_logits, again.score_logits)
    # One bit in the middle of each, where OpenVINO itself would not notice it.
    for path in folder.iterdir():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x40
        path.write_bytes(data)
    mended = responses(OpenVinoEngine(exported, digest), 1, 1)
    assert np.array_equal(first.score_logits, mended.score_logits)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}.keys() == kept.keys()
    assert "is damaged; it is made anew" in caplog.text
    monkeypatch.setenv("SIAMTRACK_CACHE", str(exported))
    with pytest.raises(EngineError, match="give a folder to write in"):
        OpenVinoEngine(exported, digest)
