"""Search crops smaller than the whole one: every engine gives what torch gives.

Graphs of siamtrack take crops of any multiple of the stride. Those that were exported before it
did do not; with them the tracker always looks at the whole window.
"""

import shutil
from dataclasses import astuple

import numpy as np
import onnx
import pytest
from scipy.special import expit

import siamtrack
from siamtrack.crops import crop_square
from siamtrack.engines import openvino_engine
from siamtrack.engines.base import takes_any_size, track_each
from siamtrack.engines.graphs import graph_paths
from siamtrack.engines.onnx_engine import OnnxEngine
from siamtrack.engines.openvino_engine import OpenVinoEngine
from siamtrack.engines.torch_engine import TorchEngine
from siamtrack.errors import EngineError
from siamtrack.export.onnx import export_graphs, export_weights
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.siamfc import SiamFC
from siamtrack.models.weights import load_network, weights_dir
from siamtrack.utils.files import sha256

NAMES = ["siamtrack-lite0", "siamtrack-nano"]
F32 = ["onnx", "openvino:f32"]


def load(name, engine):
    return siamtrack.load(name, device="cpu", engine=engine).engine


def cut(pictures, size_px, whole_px, shift_px=9.0):
    """The middle of a search window of 240 px, as a crop of `size_px`, of each picture."""
    crops = []
    for picture in pictures:
        center = np.array(picture.shape[1::-1]) / 2 + shift_px
        side = 240.0 * size_px / whole_px
        crops.append(crop_square(picture, center, side, size_px, fill_bgr=(90, 90, 90))[0])
    return crops


@pytest.fixture
def respond(photographs):
    """Response of an engine to crops of a size: `searches` of them against `targets` exemplars."""

    def run(engine, size_px, targets=1, searches=1):
        config = engine.config
        return engine.track(
            exemplar_of(engine, photographs[:targets]),
            cut(photographs[:searches], size_px, config.search_size_px),
        )

    return run


def exemplar_of(engine, pictures):
    size = engine.config.exemplar_size_px
    crops = [
        crop_square(p, np.array(p.shape[1::-1]) / 2, 120.0, size, fill_bgr=(90, 90, 90))[0]
        for p in pictures
    ]
    boxes = np.tile(np.array([0.25, 0.25, 0.5, 0.5]) * size, (len(pictures), 1))
    return engine.embed_exemplar(crops, boxes)


def assert_close(found, expected, tolerance=1e-4):
    for a, b in zip(astuple(found), astuple(expected), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=tolerance, rtol=tolerance)


# --- The bundled graphs ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("engine", F32)
@pytest.mark.parametrize(("targets", "searches"), [(1, 1), (1, 3), (3, 3)])
def test_a_near_crop_gets_what_torch_gives(respond, name, engine, targets, searches):
    """One crop, several of one target, and one of each of several targets."""
    fast, reference = load(name, engine), load(name, "torch")
    assert fast.name == engine.partition(":")[0]
    assert takes_any_size(fast) and takes_any_size(reference)
    near, stride = fast.config.near_size_px, fast.config.total_stride
    found = respond(fast, near, targets, searches)
    assert found.score_logits.shape == (searches, near // stride, near // stride)
    assert_close(found, respond(reference, near, targets, searches))


@pytest.mark.parametrize("engine", F32)
def test_crops_of_any_multiple_of_the_stride_get_what_torch_gives(respond, engine):
    """From the exemplar's size to more than the search crop's."""
    fast, reference = load("siamtrack-nano", engine), load("siamtrack-nano", "torch")
    for size_px in (96, 112, 128, 160, 208):
        found = respond(fast, size_px)
        assert found.score_logits.shape == (1, size_px // 16, size_px // 16)
        assert_close(found, respond(reference, size_px))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("engine", ["onnx:int8", "openvino:int8"])
def test_in_8_bits_a_near_crop_is_as_near_to_torch_as_a_whole_one(respond, name, engine):
    """Scores, boxes and features, by the mean error over the cells."""
    fast, reference = load(name, engine), load(name, "torch")
    assert takes_any_size(fast) and fast.precision == "int8"

    def errors(size_px):
        found, expected = respond(fast, size_px, 3, 3), respond(reference, size_px, 3, 3)
        score = np.abs(expit(found.score_logits) - expit(expected.score_logits)).mean()
        box = np.abs(found.ltrb_px - expected.ltrb_px).mean()
        features = 1 - (found.features * expected.features).sum(axis=1).mean()
        return np.array([score, box, features])

    near, whole = (errors(s) for s in (fast.config.near_size_px, fast.config.search_size_px))
    assert near[2] < 0.02
    assert (near > 0).all() and (near < 2 * whole + [0.01, 0.2, 0.0]).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_the_cells_of_a_near_crop_see_what_the_middle_ones_of_the_whole_crop_see(
    respond, name, engine
):
    """Up to what the network sees of the surroundings; a cell beside it sees something else."""
    engine = load(name, engine)
    near = respond(engine, engine.config.near_size_px, 3, 3).features
    whole = respond(engine, engine.config.search_size_px, 3, 3).features
    out = (whole.shape[-1] - near.shape[-1]) // 2
    cells = near.shape[-1] - 2

    def likeness(down, right):
        rows, columns = (slice(out + 1 + k, out + 1 + k + cells) for k in (down, right))
        return (near[..., 1:-1, 1:-1] * whole[..., rows, columns]).sum(axis=1).mean()

    beside = [likeness(*shift) for shift in ((0, 1), (0, -1), (1, 0), (-1, 0))]
    assert likeness(0, 0) > 0.9 and 1 - likeness(0, 0) < (1 - max(beside)) / 2


@pytest.mark.parametrize("engine", ["torch", *F32])
def test_targets_with_crops_of_other_sizes_get_their_own_responses_in_order(photographs, engine):
    """Near, whole, whole with several windows, near, and near with two."""
    engine = load("siamtrack-nano", engine)
    config = engine.config
    near, whole = (
        cut(photographs, size, config.search_size_px)
        for size in (config.near_size_px, config.search_size_px)
    )
    exemplars = [exemplar_of(engine, [picture]) for picture in photographs]
    work = [
        (exemplars[0], near[:1]),
        (exemplars[1], whole[1:2]),
        (exemplars[2], whole),
        (exemplars[1], near[2:]),
        (exemplars[0], near[1:]),
    ]
    responses = list(track_each(engine, iter(work)))
    assert [r.score_logits.shape for r in responses] == [
        (1, 7, 7), (1, 9, 9), (3, 9, 9), (1, 7, 7), (2, 7, 7)
    ]  # fmt: skip
    for found, (exemplar, crops) in zip(responses, work, strict=True):
        assert_close(found, engine.track(exemplar, crops))


def test_one_after_another_sizes_do_not_disturb_each_other(respond):
    """A near crop between two whole ones, and one between several, gives what it gives at first."""
    for engine in F32:
        engine = load("siamtrack-nano", engine)
        near, whole = engine.config.near_size_px, engine.config.search_size_px
        first = {(size, n): respond(engine, size, n, n) for size in (near, whole) for n in (1, 3)}
        for size, n in ((near, 1), (whole, 3), (near, 3), (whole, 1), (near, 1), (whole, 1)):
            assert_close(respond(engine, size, n, n), first[size, n], 1e-5)


def test_openvino_compiles_for_both_sizes_before_the_first_frame(respond, monkeypatch):
    """Else the first near window, in the middle of a video, would take a second."""
    compiled = []
    compile_model = openvino_engine._Compiler.__call__

    def noting(self, model, settings):
        compiled.append(settings)
        return compile_model(self, model, settings)

    monkeypatch.setattr(openvino_engine._Compiler, "__call__", noting)
    engine = load("siamtrack-nano", "openvino:f32")
    assert len(compiled) == 3  # the exemplar's graph, and that of the search crops twice
    compiled.clear()
    for size_px in (engine.config.search_size_px, engine.config.near_size_px):
        respond(engine, size_px)
    assert compiled == []
    respond(engine, 128)  # another size is compiled when it is asked for, once
    respond(engine, 128)
    assert len(compiled) == 1


def test_siamfc_takes_its_search_crop_alone():
    assert not takes_any_size(TorchEngine(SiamFC(), "cpu"))
    assert takes_any_size(TorchEngine(SiamTrackLite0(), "cpu"))


# --- Graphs that the command makes ----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("engine", F32)
@pytest.mark.parametrize("size_px", [64, 96, 144])
def test_exported_graphs_give_what_torch_gives(respond, exported, engine, size_px):
    """The near crop has 96 px, the search crop 128."""
    fast = load(exported, engine)
    assert takes_any_size(fast) and fast.config.near_size_px == 96
    for targets, searches in ((1, 1), (1, 3), (3, 3)):
        expected = respond(TorchEngine(load_network(exported), "cpu"), size_px, targets, searches)
        assert_close(respond(fast, size_px, targets, searches), expected)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnx:int8", "openvino:int8"])
def test_quantized_graphs_give_nearly_what_torch_gives(respond, quantized, engine):
    """The bound is that of whole crops (see test_int8)."""
    fast = load(quantized, engine)
    assert takes_any_size(fast)
    for targets, searches in ((1, 1), (3, 3)):
        expected = respond(TorchEngine(load_network(quantized), "cpu"), 96, targets, searches)
        found = respond(fast, 96, targets, searches)
        for a, b in zip(astuple(found), astuple(expected), strict=True):
            assert a.shape == b.shape
            assert 0 < np.abs(a - b).max() < 0.15 * np.abs(b).max()


# --- Graphs of earlier versions -------------------------------------------------------------------


@pytest.fixture(scope="session")
def fixed_size(tmp_path_factory):
    """The bundled weights with graphs as they were exported before: for whole crops alone."""
    folder = tmp_path_factory.mktemp("fixed")
    for suffix in ("safetensors", "json"):
        shutil.copy(weights_dir() / f"siamtrack-nano.{suffix}", folder)
    path = folder / "siamtrack-nano.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SiamTrackLite0, "any_search_size", False)
        export_weights(path, overwrite=False)
    shape = onnx.load(graph_paths(path)["track"]).graph.input[0].type.tensor_type.shape
    assert [dim.dim_value for dim in shape.dim][1:] == [144, 144, 3]  # a premise
    return path


@pytest.mark.slow
def test_a_search_crop_smaller_than_the_exemplar_is_exported(tmp_path):
    config = Lite0Config(exemplar_size_px=64, search_size_px=48, neck_channels=8, head_channels=8)
    targets = graph_paths(tmp_path / "small.safetensors")
    export_graphs(SiamTrackLite0(config).eval(), targets, "")
    shape = onnx.load(targets["track"]).graph.input[0].type.tensor_type.shape
    assert shape.dim[1].dim_param and shape.dim[2].dim_param


GRAPH_ENGINES = {
    "onnx": lambda path: OnnxEngine(path, sha256(path)),
    "openvino": lambda path: OpenVinoEngine(path, sha256(path), inference_precision="f32"),
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", sorted(GRAPH_ENGINES))
def test_a_graph_of_an_earlier_version_takes_whole_crops_alone(respond, fixed_size, engine):
    fast = GRAPH_ENGINES[engine](fixed_size)
    assert not takes_any_size(fast)
    for targets, searches in ((1, 1), (3, 3)):
        expected = respond(load("siamtrack-nano", "torch"), 144, targets, searches)
        assert_close(respond(fast, 144, targets, searches), expected)
    with pytest.raises(EngineError, match="could not run the network"):
        respond(fast, 112)


STEPS = 14


def frame_at(picture, step):
    """A part of a photograph that moves by a px per frame, 320 x 240."""
    return np.ascontiguousarray(picture[60 : 60 + 240, 60 + step : 60 + step + 320])


def follow(weights, engine, picture, monkeypatch, **options):
    """Boxes of a tracker on the moving photograph, and sides of the search crops."""
    tracker = siamtrack.load(weights, device="cpu", engine=engine, **options)
    track, sides = tracker.engine.track, []
    monkeypatch.setattr(
        tracker.engine,
        "track",
        lambda exemplar, crops: sides.append(len(crops[0])) or track(exemplar, crops),
    )
    tracker.init(frame_at(picture, 0), (120, 70, 70, 70))
    results = [tracker.update(frame_at(picture, step)) for step in range(1, STEPS)]
    assert {result.status for result in results} == {"tracked"}
    return [result.box for result in results], sides


@pytest.mark.slow
@pytest.mark.parametrize("engine", F32)
def test_with_a_graph_of_an_earlier_version_the_tracker_looks_at_whole_windows(
    fixed_size, engine, photographs, monkeypatch
):
    """As one with a new graph does that is told to; one that is not looks at near windows."""
    boxes, sides = follow(fixed_size, engine, photographs[0], monkeypatch)
    assert set(sides) == {144}
    # The things go to the left by a px per frame.
    assert boxes[-1][0] - boxes[0][0] == pytest.approx(-(STEPS - 2), abs=2.5)
    whole, whole_sides = follow(
        "siamtrack-nano", engine, photographs[0], monkeypatch, whole_window_every=1
    )
    assert set(whole_sides) == {144}
    np.testing.assert_allclose(boxes, whole, atol=0.05)
    near, near_sides = follow("siamtrack-nano", engine, photographs[0], monkeypatch)
    assert near_sides.count(112) >= STEPS // 2
    np.testing.assert_allclose(near, whole, atol=3.0)


@pytest.mark.slow
def test_many_targets_on_a_graph_of_an_earlier_version(fixed_size, photographs):
    many = siamtrack.load_multi(fixed_size, device="cpu", engine="onnx")
    first = frame_at(photographs[0], 0)
    for box in ((120, 70, 70, 70), (20, 150, 50, 50)):
        many.add(first, box)
    for step in range(1, 6):
        results = many.update(frame_at(photographs[0], step))
    assert results[0].status == "tracked"
