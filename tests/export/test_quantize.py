"""Scales and calibration crops; what the quantized graph computes is tested with the engines."""

import json

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from siamtrack.engines.graphs import METADATA_KEY
from siamtrack.export import quantize
from siamtrack.export.quantize import calibration_crops, min_mse_scale, quantize_graph
from siamtrack.models.config import Lite0Config

SMALL = Lite0Config(exemplar_size_px=64, search_size_px=128)


@pytest.mark.parametrize("skewed", [0, 1, -1])
def test_no_other_scale_loses_less(skewed):
    """Against all scales on a fine grid, for values with long tails on one side or on both."""
    rng = np.random.default_rng(0)
    values = rng.standard_t(3, size=20000).astype(np.float32)
    values = np.abs(values) - 0.5 if skewed else values
    values = -values if skewed < 0 else values

    def loss(step, zero):
        levels = np.clip(np.rint(values / step), -zero, 255 - zero)
        return np.mean((levels * step - values) ** 2)

    scale = min_mse_scale(values)
    assert scale.zero.dtype == np.uint8
    steps = np.ptp(values) / 255 * np.linspace(0.3, 1.0, 400)
    zero = int(scale.zero)
    assert loss(scale.step, zero) <= 1.1 * min(loss(step, zero) for step in steps)
    assert loss(scale.step, zero) < loss(np.ptp(values) / 255, zero)  # the tail is cut
    # No level is spent on values that are not there, as one in the middle for 0 would.
    if skewed:
        halves = np.abs(values).max() / 127 * np.linspace(0.3, 1.0, 400)
        assert loss(scale.step, zero) < 0.5 * min(loss(step, 128) for step in halves)


@pytest.mark.parametrize("sign", [1, -1])
def test_values_of_one_sign_have_0_at_the_end_of_the_levels(sign):
    values = sign * np.linspace(0, 3, 100, dtype=np.float32)
    assert min_mse_scale(values).zero == (0 if sign > 0 else 255)


def test_nothing_but_zeros_has_a_scale_too():
    assert min_mse_scale(np.zeros(8, np.float32)).step > 0


def test_crops_come_evenly_from_all_frames_and_are_the_same_again():
    config = SMALL
    frames = [np.full((40, 60, 3), index, np.uint8) for index in range(200)]

    def seen(seed):
        crops = calibration_crops(iter(frames), config, 20, np.random.default_rng(seed))
        return [int(crop.search[0, 0, 0]) for crop in crops], crops

    first, crops = seen(0)
    assert first == seen(0)[0] != seen(1)[0]
    assert len(set(first)) == 20
    assert 60 < np.mean(first) < 140
    assert max(first) > 150
    for crop in crops:
        assert crop.exemplar.shape == (64, 64, 3)
        assert crop.search.shape == (128, 128, 3)
        x, y, w, h = crop.box_xywh
        assert -1 <= x and -1 <= y and x + w <= 65 and y + h <= 65


def test_few_and_tiny_frames_are_enough():
    frames = [cv2.UMat(np.zeros((3, 2, 3), np.uint8)).get()]
    assert len(calibration_crops(frames, SMALL, 5, np.random.default_rng(0))) == 1
    assert calibration_crops([], SMALL, 5, np.random.default_rng(0)) == []


def pixel_graph(rng):
    """A float graph over (1, 16, 16, 3) pixels: three convolutions, each with a ReLU behind it."""
    constants, nodes = {"mean": np.float32(127), "std": np.float32(128)}, [
        helper.make_node("Cast", ["x"], ["cast"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Sub", ["cast", "mean"], ["centered"]),
        helper.make_node("Div", ["centered", "std"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["relu0"], perm=[0, 3, 1, 2]),
    ]  # fmt: skip
    for number, (channels, inputs, group) in enumerate([(8, 3, 1), (8, 1, 8), (6, 8, 1)]):
        shape = (channels, inputs, 3, 3)
        constants[f"w{number}"] = rng.normal(0.05, 0.3, shape).astype(np.float32)
        constants[f"b{number}"] = rng.normal(0, 0.1, channels).astype(np.float32)
        names = [f"relu{number}", f"w{number}", f"b{number}"]
        nodes.append(
            helper.make_node("Conv", names, [f"conv{number}"], pads=[1, 1, 1, 1], group=group)
        )
        nodes.append(helper.make_node("Relu", [f"conv{number}"], [f"relu{number + 1}"]))
    graph = helper.make_graph(
        nodes,
        "pixels",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, (1, 16, 16, 3))],
        [helper.make_tensor_value_info("relu3", onnx.TensorProto.FLOAT, (1, 6, 16, 16))],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    config = {"input_mean": [127.0] * 3, "input_std": [128.0] * 3}
    helper.set_model_props(model, {METADATA_KEY: json.dumps({"config": config})})
    return model


def test_no_channel_is_off_in_the_mean(monkeypatch):
    """Against the float graph, on the calibration crops and on others."""
    rng = np.random.default_rng(0)
    model = pixel_graph(rng)
    feeds = [[rng.integers(256, size=(1, 16, 16, 3), dtype=np.uint8)] for _ in range(80)]

    def means(graph, crops):
        session = ort.InferenceSession(
            graph.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        outputs = [session.run(None, {"x": crop})[0] for (crop,) in crops]
        return np.mean(outputs, axis=(0, 1, 3, 4))

    corrected = quantize_graph(model, feeds[:60])
    monkeypatch.setattr(quantize, "correct_biases", lambda *arguments: None)
    plain = quantize_graph(model, feeds[:60])
    for crops in (feeds[:60], feeds[60:]):
        exact = means(model, crops)
        off, off_without = (np.abs(means(g, crops) - exact).max() for g in (corrected, plain))
        assert off < 0.3 * off_without
        assert off < 0.002 * exact.max()
