"""NanoTrackV3 against its published formulas, cell by cell, on small graphs of the same form."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from siamtrack.cli import main
from siamtrack.errors import ConfigError, EvaluationError, NotInitializedError
from siamtrack.evaluation import nanotrack
from siamtrack.evaluation.nanotrack import NanoTracker
from siamtrack.evaluation.report import report as writing
from siamtrack.evaluation.trackers import TrackerSpec, resolve_trackers, result_key

RNG = np.random.default_rng(3)
FILTERS = np.kron(RNG.normal(size=(4, 3, 2, 2)), np.ones((8, 8))).astype(np.float32)
FILTERS -= FILTERS.mean(axis=(1, 2, 3), keepdims=True)
FILTERS *= 5e-4 / np.abs(FILTERS).mean()  # so that tanh is neither flat nor linear
SIDES = np.array([0.9, -0.7, 1.1, -0.5], np.float32)
SIDES_BIAS = np.array([0.2, -0.3, 0.1, 0.4], np.float32)


def write_graph(path, nodes, inputs, outputs, constants):
    def info(shapes):
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]

    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "graph", info(inputs), info(outputs), tensors)
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def write_backbone(path: Path) -> None:
    """4 features per cell of 16 px: 8 x 8 of an exemplar crop, 16 x 16 of a search crop."""
    nodes = [
        helper.make_node(
            "Conv", ["crop", "filters"], ["sums"], strides=[16, 16], pads=[0, 0, 1, 1]
        ),
        helper.make_node("Tanh", ["sums"], ["features"]),
    ]
    shape = [1, 3, "h", "w"]
    write_graph(path, nodes, {"crop": shape}, {"features": shape}, {"filters": FILTERS})


def write_head(path: Path) -> None:
    """Correlates the middle four cells of the exemplar; score and sides are functions of that."""
    nodes = [
        helper.make_node("Slice", ["z", "start", "stop", "axes"], ["middle"]),
        helper.make_node("Conv", ["x", "middle"], ["likeness"]),
        helper.make_node("Neg", ["likeness"], ["unlike"]),
        helper.make_node("Concat", ["unlike", "likeness"], ["logits"], axis=1),
        helper.make_node("Conv", ["likeness", "sides", "bias"], ["raw"]),
        helper.make_node("Tanh", ["raw"], ["bent"]),
        helper.make_node("Mul", ["bent", "range"], ["scaled"]),
        helper.make_node("Add", ["scaled", "mean"], ["ltrb"]),
    ]
    constants = {
        "start": [3, 3], "stop": [5, 5], "axes": [2, 3], "sides": SIDES.reshape(4, 1, 1, 1),
        "bias": SIDES_BIAS, "range": np.float32(20), "mean": np.float32(28),
    }  # fmt: skip
    inputs = {"z": [1, 4, 8, 8], "x": [1, 4, 16, 16]}
    outputs = {"logits": [1, 2, 15, 15], "ltrb": [1, 4, 15, 15]}
    write_graph(path, nodes, inputs, outputs, constants)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with backbone.onnx and head.onnx."""
    folder = tmp_path_factory.mktemp("models")
    write_backbone(folder / "backbone.onnx")
    write_head(folder / "head.onnx")
    return folder


@pytest.fixture
def spec(models) -> TrackerSpec:
    return TrackerSpec.parse(f"nanotrack:{models / 'backbone.onnx'},{models / 'head.onnx'}")


class Oracle:
    """The published formulas one number at a time; the networks above in torch."""

    def init(self, frame, box):
        x, y, self.w, self.h = box
        self.cx, self.cy = x + (self.w - 1) / 2, y + (self.h - 1) / 2
        self.mean = [float(np.rint(frame[..., channel].mean())) for channel in range(3)]
        side = round(self.context(self.w, self.h))
        self.kernel = self.features(self.crop(frame, side, 127))[:, :, 3:5, 3:5]

    def update(self, frame):
        context = self.context(self.w, self.h)
        zoom = 127 / context
        likeness = torch.nn.functional.conv2d(
            self.features(self.crop(frame, round(context * 255 / 127), 255)), self.kernel
        )
        self.best = (-1.0,)
        for row in range(15):
            for column in range(15):
                value = float(likeness[0, 0, row, column])
                self.rank(row, column, value, self.w * zoom, self.h * zoom)
        _, row, column, value, penalized = self.best
        left, top, right, bottom = self.ltrb(value)
        self.cx += ((column - 7) * 16 + (right - left) / 2) / zoom
        self.cy += ((row - 7) * 16 + (bottom - top) / 2) / zoom
        rate = 0.348 * penalized
        self.w += rate * ((left + right) / zoom - self.w)
        self.h += rate * ((top + bottom) / zoom - self.h)
        height, width = frame.shape[:2]
        self.cx, self.cy = min(max(self.cx, 0), width), min(max(self.cy, 0), height)
        self.w, self.h = min(max(self.w, 10), width), min(max(self.h, 10), height)
        return self.cx - self.w / 2, self.cy - self.h / 2, self.w, self.h

    def rank(self, row, column, value, last_w, last_h):
        left, top, right, bottom = self.ltrb(value)
        w, h = left + right, top + bottom
        scale = self.context(w, h) / self.context(last_w, last_h)
        aspect = (last_w / last_h) / (w / h)
        change = max(scale, 1 / scale) * max(aspect, 1 / aspect)
        penalized = math.exp(0.138 * (1 - change)) / (1 + math.exp(-2 * value))
        hann = [0.5 - 0.5 * math.cos(2 * math.pi * k / 14) for k in (row, column)]
        rank = 0.545 * penalized + 0.455 * hann[0] * hann[1]
        self.best = max(self.best, (rank, row, column, value, penalized))

    @staticmethod
    def context(w, h):
        return math.sqrt((w + (w + h) / 2) * (h + (w + h) / 2))

    @staticmethod
    def ltrb(value):
        return [28 + 20 * math.tanh(k * value + b) for k, b in zip(SIDES, SIDES_BIAS, strict=True)]

    @staticmethod
    def features(crop):
        padded = torch.nn.functional.pad(crop, (0, 1, 0, 1))
        return torch.tanh(torch.nn.functional.conv2d(padded, torch.tensor(FILTERS), stride=16))

    def crop(self, frame, side, size):
        """By the index of each pixel in the frame: those outside have its mean color."""
        rows, columns = (
            math.floor(center - (side + 1) / 2 + 0.5) + np.arange(side)
            for center in (self.cy, self.cx)
        )
        height, width = frame.shape[:2]
        pixels = frame[np.clip(rows, 0, height - 1)][:, np.clip(columns, 0, width - 1)]
        inside = np.outer((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
        window = np.where(inside[..., None], pixels, self.mean).astype(np.uint8)
        resized = cv2.resize(window, (size, size)).astype(np.float32)
        return torch.tensor(resized).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def film() -> list[np.ndarray]:
    """25 frames, 130 x 96 px, of a texture that is shifted and enlarged."""
    rng = np.random.default_rng(4)
    texture = cv2.resize(rng.integers(0, 256, (24, 30, 3)).astype(np.uint8), (300, 240))
    parts = [texture[60 - k : 156 - 2 * k, 80 + 2 * k : 210] for k in range(25)]
    return [cv2.resize(part, (130, 96)) for part in parts]


@pytest.mark.parametrize(
    "box",
    [
        (50.0, 30.0, 28.0, 24.0),
        (50.4, 30.7, 40.3, 15.2),
        (-9.5, -6.0, 30.0, 22.0),  # over the corner
        (110.0, 70.0, 41.0, 44.0),  # over the opposite one
        (60.0, 40.0, 5.0, 7.0),  # below the least size
        (-20.0, -30.0, 190.0, 180.0),  # larger than the frame
        (170.0, 30.0, 10.0, 10.0),  # outside, the exemplar window too
        (30.0, -90.0, 12.0, 12.0),
    ],
)
def test_boxes_follow_the_published_formulas(box, spec, film):
    tracker, oracle = spec.build(), Oracle()
    tracker.init(film[0], box)
    oracle.init(film[0], box)
    boxes = []
    for frame in film[1:]:
        boxes.append(tracker.update(frame))
        np.testing.assert_allclose(boxes[-1], oracle.update(frame), rtol=0, atol=5e-3)
    assert np.ptp(boxes, axis=0).max() > 3  # the target moves


def test_init_forgets_the_target_before(spec, film):
    used, fresh = spec.build(), spec.build()
    used.init(film[0], (10.0, 10.0, 60.0, 50.0))
    used.update(film[1])
    for tracker in (used, fresh):
        tracker.init(film[2], (50.0, 30.0, 28.0, 24.0))
    assert used.update(film[3]) == fresh.update(film[3])


def test_update_before_init_is_rejected(spec, film):
    with pytest.raises(NotInitializedError, match="call init"):
        spec.build().update(film[0])


@pytest.mark.parametrize("threads", [1, 3])
def test_the_threads_are_those_of_opencv(threads, spec, monkeypatch):
    monkeypatch.setattr(cv2, "getNumThreads", lambda: threads)
    made = []
    session = onnxruntime.InferenceSession

    def spy(path, options, **arguments):
        made.append(options.intra_op_num_threads)
        return session(path, options, **arguments)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    spec.build()
    assert made == [threads, threads]


# --- Its name, label and key ----------------------------------------------------------------------


def test_the_name_holds_both_files_and_the_label_none(spec, models):
    assert spec.name == f"nanotrack:{models}/backbone.onnx,{models}/head.onnx"
    assert not spec.options and not spec.is_ours and not spec.needs_fresh_process
    assert spec.label == "nanotrack"
    assert TrackerSpec.parse(str(spec)) == spec


def test_key_depends_on_the_content_of_the_files(spec, models, tmp_path, monkeypatch):
    key = result_key(spec)
    assert key.startswith("nanotrack-") and len(key) == len("nanotrack-") + 10
    shutil.copy(models / "backbone.onnx", tmp_path / "b.onnx")
    shutil.copy(models / "head.onnx", tmp_path / "h.onnx")
    other = TrackerSpec.parse(f"nanotrack:{tmp_path / 'b.onnx'}, {tmp_path / 'h.onnx'}")
    assert result_key(other) == key
    with pytest.raises(ConfigError, match="the same tracker; give it once"):
        resolve_trackers([spec, other])
    for name in ("b.onnx", "h.onnx"):
        before = result_key(other)
        model = onnx.load(tmp_path / name)
        model.doc_string = "another"
        onnx.save(model, tmp_path / name)
        assert result_key(other) != before
    assert [entry.label for entry in resolve_trackers([spec, other])] == [str(spec), str(other)]
    monkeypatch.setattr(nanotrack, "REVISION", 10**6)
    assert result_key(spec) != key


def test_the_command_evaluates_it(spec, write_clips, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(writing, "draw_all", lambda content: {})
    root = write_clips(tmp_path / "clips", {"walk": 4})
    arguments = ["--root", str(root), "--out", str(tmp_path / "out"), "--tracker", str(spec)]
    assert main(["eval", "clips", *arguments]) == 0
    assert "| nanotrack | " in capfd.readouterr().out
    (stored,) = (tmp_path / "out" / "results" / "ope" / "clips").glob("nanotrack-*/walk.txt")
    frames = [cv2.imread(str(path)) for path in sorted((root / "walk").iterdir())]
    first = np.loadtxt(root / "walk.txt", delimiter=",")[0].tolist()
    oracle = Oracle()
    oracle.init(frames[0], first)
    expected = [first, *map(oracle.update, frames[1:])]
    np.testing.assert_allclose(np.loadtxt(stored, delimiter=","), expected, rtol=0, atol=5e-3)


# --- What is rejected -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nanotrack", "'nanotrack' needs two model files; write nanotrack:BACKBONE.onnx,HEAD.onnx"),
        ("nanotrack:", "needs two model files"),
        ("nanotrack:b.onnx", "needs two model files"),
        ("nanotrack:b.onnx,", "needs two model files"),
        ("nanotrack:b.onnx,h.onnx,x.onnx", "needs two model files"),
        ("nanotrack:b.onnx,h.onnx@rate=0.3", "nanotrack takes no options, not rate"),
    ],
)
def test_names_of_another_form_are_rejected(name, message):
    with pytest.raises(ConfigError, match=message):
        TrackerSpec.parse(name).build()


@pytest.mark.parametrize(
    ("backbone", "head", "message"),
    [
        ("gone.onnx", "head.onnx", r"gone\.onnx of nanotrack does not exist; give its files as"),
        ("backbone.onnx", "gone.onnx", r"gone\.onnx of nanotrack does not exist"),
        ("text.onnx", "head.onnx", r"text\.onnx is not a network that ONNX Runtime can read"),
        ("head.onnx", "backbone.onnx", r"head\.onnx is not the backbone of NanoTrackV3, whose"),
        ("backbone.onnx", "backbone.onnx", r"backbone\.onnx is not the head of NanoTrackV3, whose"),
        ("deeper.onnx", "head.onnx", r"head\.onnx cannot be run as the networks of NanoTrackV3"),
        ("backbone.onnx", "sum.onnx", r"sum\.onnx gives outputs of shape \[\(1, 4, 8, 8\)\]"),
    ],
)
def test_files_of_other_networks_are_rejected(backbone, head, message, models, tmp_path):
    for name in ("backbone.onnx", "head.onnx"):
        shutil.copy(models / name, tmp_path)
    (tmp_path / "text.onnx").write_text("not a network")
    crop = {"crop": [1, 3, "h", "w"]}
    pool = helper.make_node("AveragePool", ["crop"], ["y"], kernel_shape=[16, 16])
    write_graph(tmp_path / "deeper.onnx", [pool], crop, {"y": [1, 3, "a", "b"]}, {})
    add = [
        helper.make_node("ReduceMean", ["x"], ["mean"]),
        helper.make_node("Add", ["z", "mean"], ["y"]),
    ]
    any_shape = [1, 4, "h", "w"]
    inputs = {"z": any_shape, "x": [1, 4, "i", "j"]}
    write_graph(tmp_path / "sum.onnx", add, inputs, {"y": any_shape}, {})
    with pytest.raises(EvaluationError, match=message):
        NanoTracker(tmp_path / backbone, tmp_path / head)


def test_a_missing_onnx_runtime_is_named(spec, monkeypatch):
    for module in ("siamtrack.engines.onnx_engine", "siamtrack.evaluation.nanotrack"):
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EvaluationError, match=r"nanotrack needs ONNX Runtime.*pip install"):
        spec.build()


def test_errors_without_text_are_named_by_their_class(models, monkeypatch):
    def out_of_memory(*_, **__):
        raise MemoryError

    monkeypatch.setattr(onnxruntime, "InferenceSession", out_of_memory)
    with pytest.raises(EvaluationError, match=r"can read \(MemoryError\)"):
        NanoTracker(models / "backbone.onnx", models / "head.onnx")
