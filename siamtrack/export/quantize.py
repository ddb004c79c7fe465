"""Quantize the part of the track graph that sees only pixels to 8 bits.

Static quantization (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference"): activations in 8 bits with one scale per tensor, weights in
7 bits with one scale per filter, sums in 32 bits. Layers after the exemplar enters stay in float:
they are a small part of the work, and their errors would be errors of boxes and scores. The pixels
are bytes already and lose nothing.

In this order: the command's work (`export_int8`), calibration crops, scales, the graph.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from tqdm import tqdm

from siamtrack.crops import crop_square
from siamtrack.engines import ModelSource
from siamtrack.engines.graphs import (
    METADATA_KEY,
    OUTPUTS_WITHOUT_FEATURES,
    graph_names,
    graph_paths,
)
from siamtrack.engines.onnx_engine import OnnxEngine
from siamtrack.errors import EngineError
from siamtrack.export.onnx import (
    export_weights,
    refuse_existing,
    remove_debug_info,
    require_exporter,
)
from siamtrack.geometry import context_side
from siamtrack.models.config import NetworkConfig
from siamtrack.models.weights import INT8, TRACK, note_graphs, open_weights
from siamtrack.types import Float32Array, FloatArray, Image
from siamtrack.utils.files import atomic_write
from siamtrack.video.source import open_source

Arrays = list[NDArray[Any]]

CALIBRATION_CROPS = 64
"""Crops that activations are measured on. More change the scales by less than their own grid."""


def export_int8(weights: Path, clips: Sequence[str], overwrite: bool) -> list[Path]:
    """Write the quantized track graph of a weights file, after the float graphs if missing.

    Args:
        weights: the .safetensors file.
        clips: videos or folders of images to calibrate with, each of which gives as many crops.
        overwrite: replace the quantized graph.

    Returns:
        The files written.

    Raises:
        SiamTrackError: the graph exists, a clip cannot be read, the float graphs belong to other
            weights or lack the search features, or see `export_weights`.
    """
    target = graph_paths(weights, INT8)[TRACK]
    refuse_existing([target], overwrite)
    require_exporter()

    # The float graphs.
    float_graphs = graph_paths(weights)
    complete = all(path.is_file() for path in float_graphs.values())
    written = [] if complete else export_weights(weights, overwrite=True)
    model = ModelSource(open_weights(weights))
    engine = OnnxEngine(weights, model.sha256, threads=1, graph_sha256=model.graph_sha256)
    track_graph = onnx.load(float_graphs[TRACK])
    if len(track_graph.graph.output) == OUTPUTS_WITHOUT_FEATURES:
        raise EngineError(
            f"graph {float_graphs[TRACK]} was exported by an older version and has no search "
            f"features; export it again with `siamtrack export --overwrite --weights {weights}`"
        )

    # Inputs of the track graph for each calibration crop.
    rng = np.random.default_rng(0)
    per_clip = -(-CALIBRATION_CROPS // len(clips))  # rounded up
    crops: list[CalibrationCrop] = []
    for clip in clips:
        with open_source(clip) as source:
            bar = tqdm(source, desc=source.name, unit="frame", total=source.frame_count)
            images = (frame.image for frame in bar)
            crops += calibration_crops(images, engine.config, per_clip, rng)
    feeds: list[Arrays] = []
    for crop in tqdm(crops, desc="calibrating", unit="crop"):
        exemplar = engine.embed_exemplar([crop.exemplar], crop.box_xywh[None])
        feeds.append([engine.prepare([crop.search]), *exemplar.tensors])

    # The 8-bit graph.
    quantized = quantize_graph(track_graph, feeds)
    remove_debug_info(quantized)
    atomic_write(target, quantized.SerializeToString())
    note_graphs(weights, [graph_names(INT8)[TRACK]])
    return [*written, target]


# Calibration crops

_MIN_SIZE, _MAX_SIZE = 1 / 16, 1 / 3  # of targets, as fractions of the frame's shorter side
_SHIFT_STD, _LOG_SCALE_STD = 0.06, 0.1  # motion of a target between two frames


class CalibrationCrop(NamedTuple):
    """What the two branches of the network see of one window; crops are uint8 (S, S, 3) BGR."""

    exemplar: Image
    box_xywh: FloatArray  # (4,) target in px of the exemplar
    search: Image


def calibration_crops(
    frames: Iterable[Image], config: NetworkConfig, count: int, rng: np.random.Generator
) -> list[CalibrationCrop]:
    """Cut one window out of each of `count` frames, drawn uniformly (reservoir sampling).

    Targets are random boxes: what matters is how large activations become on such images, not
    which objects are in them. `frames` are uint8 (H, W, 3) BGR, any number; they are not kept.
    """
    kept: list[CalibrationCrop] = []
    for index, frame in enumerate(frames):
        place = index if index < count else int(rng.integers(index + 1))
        if place < count:
            kept[place : place + 1] = [_draw_crop(frame, config, rng)]
    return kept


def _draw_crop(frame: Image, config: NetworkConfig, rng: np.random.Generator) -> CalibrationCrop:
    height, width = frame.shape[:2]
    fill_bgr = cv2.mean(frame)[:3]

    # A random box: log-uniform size, uniform position.
    fraction = np.exp(rng.uniform(np.log(_MIN_SIZE), np.log(_MAX_SIZE), size=2))
    size = np.maximum(fraction * min(width, height), 2.0)
    center = rng.uniform(size / 2, np.maximum(np.array([width, height]) - size / 2, size / 2 + 1))

    # The exemplar around it.
    side = float(context_side(size[0], size[1], config.context_amount))
    exemplar, crop_map = crop_square(
        frame, center, side, config.exemplar_size_px, fill_bgr=fill_bgr
    )
    box = crop_map.to_crop(np.concatenate([center - size / 2, size]))

    # The search window, moved and scaled as the target might be one frame later.
    search_side = side * config.search_scale * float(np.exp(_LOG_SCALE_STD * rng.normal()))
    moved = center + _SHIFT_STD * search_side * rng.normal(size=2)
    search, _ = crop_square(frame, moved, search_side, config.search_size_px, fill_bgr=fill_bgr)
    return CalibrationCrop(exemplar, box, search)


# Scales

_SAMPLES = 4096  # values of each tensor that are measured for each crop
_CLIP_FRACTIONS = np.linspace(0.3, 1.0, 36)  # of the largest value, tried as the end of the range


class Scale(NamedTuple):
    """How a tensor is written in 8 bits: level = round(value / step) + zero."""

    step: np.float32
    zero: np.uint8


def calibrate(
    model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Arrays]
) -> dict[str, Scale]:
    """Measure tensors of a float graph on calibration crops and choose the scale of each."""
    # The same graph with the tensors as outputs.
    probe = _copy(model)
    for name in names:
        probe.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = [graph_input.name for graph_input in session.get_inputs()]

    # A sample of each tensor's values on every crop, and its extremes.
    rng = np.random.default_rng(0)
    samples: dict[str, Arrays] = {name: [] for name in names}
    for arrays in feeds:
        outputs = session.run(list(names), dict(zip(inputs, arrays, strict=True)))
        for name, values in zip(names, outputs, strict=True):
            sample = rng.choice(values.ravel(), _SAMPLES)
            samples[name].append(np.append(sample, [values.min(), values.max()]))
    return {name: min_mse_scale(np.concatenate(parts)) for name, parts in samples.items()}


def min_mse_scale(values: Float32Array) -> Scale:
    """The scale with the least mean squared error.

    0 has a level of its own, because convolutions pad with it: the lowest level if no value is
    negative, else the middle one. All tensors are unsigned, since ONNX Runtime computes a
    convolution in 8 bits only if its input and output have the same type.
    """
    zero = 0 if values.min() >= 0 else 128
    largest = max(float(np.abs(values).max()), 1e-6)
    steps = [np.float32(largest * fraction / (255 - zero)) for fraction in _CLIP_FRACTIONS]
    errors = [
        np.mean((np.clip(np.rint(values / step), -zero, 255 - zero) * step - values) ** 2)
        for step in steps
    ]
    return Scale(steps[int(np.argmin(errors))], np.uint8(zero))


def _pixel_scale(model: onnx.ModelProto) -> Scale | None:
    """The scale under which the bytes are the normalized pixels; None if channels differ."""
    (entry,) = (prop for prop in model.metadata_props if prop.key == METADATA_KEY)
    config = json.loads(entry.value)["config"]
    means, stds = set(config["input_mean"]), set(config["input_std"])
    if len(means) > 1 or len(stds) > 1 or not float(min(means)).is_integer():
        return None
    # (byte - mean) / std = (byte - zero) * step.
    return Scale(np.float32(1.0 / stds.pop()), np.uint8(means.pop()))


# The graph

_MIN_LARGEST_WEIGHT = 1e-3  # filters without larger weights do nothing
_WEIGHT_LEVELS = 64  # older CPUs add two products in 16 bits: 2 * 255 * 64 is the most that fits
_CLIPPING = ("Clip", "Relu")
_WRITTEN, _READ = "_int8", "_read"  # suffixes of a tensor in 8 bits, and converted back to float


def quantize_graph(model: onnx.ModelProto, feeds: Sequence[Arrays]) -> onnx.ModelProto:
    """Quantize a float track graph; `feeds` are its inputs for each calibration crop."""
    quantized = _copy(model)
    editor = GraphEditor(quantized)

    # 1. Which tensors: inputs of all convolutions that only depend on pixels, and outputs that are
    #    summed. A sum of two 8-bit tensors is one instruction, a mixed one takes two conversions.
    convolutions = editor.pixel_convolutions()
    first = convolutions[0]
    names = [conv.input[0] for conv in convolutions if conv is not first]
    names += [conv.output[0] for conv in convolutions if editor.is_summed(conv.output[0])]

    # 2. Their scales. The pixels' own is known, unless the channels are normalized differently.
    scales = calibrate(model, list(dict.fromkeys(names)), feeds)
    pixels = _pixel_scale(quantized)
    if pixels is None:
        scales |= calibrate(model, [first.input[0]], feeds)
    else:
        scales[editor.feed_uint8(first)] = pixels

    # 3. Quantize these tensors, then weights and biases.
    for name, scale in scales.items():
        editor.quantize_tensor(name, scale)
    for conv in convolutions:
        editor.quantize_weights(conv, scales[conv.input[0].removesuffix(_READ)])
    editor.finish()
    onnx.checker.check_model(quantized)
    return quantized


class GraphEditor:
    """Rewrites a graph in QDQ form: each 8-bit tensor is a QuantizeLinear, DequantizeLinear pair.

    Engines fuse these pairs with the operators between them.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._nodes = list(model.graph.node)
        self._constants = {i.name: i for i in model.graph.initializer}
        self._made_by = {out: node for node in self._nodes for out in node.output}

    def pixel_convolutions(self) -> list[onnx.NodeProto]:
        """Convolutions with constant weights that depend on the pixels alone, in order."""
        pixels = {self._graph.input[0].name}
        others = {graph_input.name for graph_input in self._graph.input} - pixels
        for node in self._nodes:
            if others.intersection(node.input):
                others.update(node.output)
            elif pixels.intersection(node.input):
                pixels.update(node.output)
        convolutions = [node for node in self._nodes if node.op_type == "Conv"]
        with_weights = [node for node in convolutions if node.input[1] in self._constants]
        return [node for node in with_weights if node.output[0] in pixels]

    def is_summed(self, name: str) -> bool:
        """Whether a tensor is an input of a sum."""
        return any(user.op_type == "Add" for user in self._users(name))

    def feed_uint8(self, conv: onnx.NodeProto) -> str:
        """Feed the graph's bytes to a convolution directly; returns the name of its new input."""
        name = "siamtrack_pixels"
        pixels = self._graph.input[0].name
        transpose = helper.make_node("Transpose", [pixels], [name + _WRITTEN], perm=[0, 3, 1, 2])
        self._nodes.insert(0, transpose)
        self._made_by[name + _WRITTEN] = transpose
        conv.input[0] = name
        return name

    def quantize_tensor(self, name: str, scale: Scale) -> None:
        """Let all convolutions and sums read a tensor in 8 bits."""
        step = self._add_constant(name + "_step", scale.step)
        zero = self._add_constant(name + "_zero", scale.zero)
        written = name + _WRITTEN

        # To 8 bits, after the node that makes the tensor; pixels are in 8 bits already.
        added = []
        source = written
        if written not in self._made_by:
            source = name if scale.zero else self._before_clipping(name)
            added.append(helper.make_node("QuantizeLinear", [source, step, zero], [written]))
        after = self._nodes.index(self._made_by[source]) + 1

        # And back to float, for each reader. Engines compute the pair with it in 8 bits.
        added.append(helper.make_node("DequantizeLinear", [written, step, zero], [name + _READ]))
        for user in self._users(name):
            if user.op_type in ("Conv", "Add"):
                user.input[list(user.input).index(name)] = name + _READ
        self._nodes[after:after] = added

    def quantize_weights(self, conv: onnx.NodeProto, scale: Scale) -> None:
        """Write weights in 7 bits, and the bias in 32 bits at the scale of the sums."""
        weights = numpy_helper.to_array(self._constants[conv.input[1]])  # (out, in, k, k)
        largest = np.abs(weights).reshape(len(weights), -1).max(axis=1)  # (out,)
        steps = (np.maximum(largest, _MIN_LARGEST_WEIGHT) / _WEIGHT_LEVELS).astype(np.float32)
        levels = np.rint(weights / steps.reshape(-1, *[1] * (weights.ndim - 1)))
        self._replace_constant(conv, 1, levels.astype(np.int8), steps)
        if len(conv.input) > 2:
            bias = numpy_helper.to_array(self._constants[conv.input[2]])
            sums = steps * scale.step
            self._replace_constant(conv, 2, np.rint(bias / sums).astype(np.int32), sums)

    def finish(self) -> None:
        """Write the nodes back, without nodes and constants that nothing uses."""
        used = {out.name for out in self._graph.output}
        kept = []
        for node in reversed(self._nodes):
            if used.intersection(node.output):
                used.update(node.input)
                kept.append(_copy(node))
        constants = [_copy(c) for name, c in self._constants.items() if name in used]
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(reversed(kept))
        self._graph.initializer.extend(constants)

    def _users(self, name: str) -> list[onnx.NodeProto]:
        return [node for node in self._nodes if name in node.input]

    def _before_clipping(self, name: str) -> str:
        """The tensor before a ReLU or clip that only convolutions read: 8 bits clip as well."""
        node = self._made_by[name]
        if node.op_type in _CLIPPING and all(u.op_type == "Conv" for u in self._users(name)):
            return str(node.input[0])
        return name

    def _add_constant(self, name: str, value: Any) -> str:
        self._constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def _replace_constant(
        self, node: onnx.NodeProto, place: int, levels: NDArray[Any], steps: Float32Array
    ) -> None:
        name = node.input[place]
        parts = [
            self._add_constant(name + _WRITTEN, levels),
            self._add_constant(name + "_steps", steps),
            self._add_constant(name + "_zeros", np.zeros(len(steps), levels.dtype)),
        ]
        node.input[place] = name + _READ
        self._nodes.insert(0, helper.make_node("DequantizeLinear", parts, [name + _READ], axis=0))


def _copy(message: Any) -> Any:
    """A copy of a protobuf message; a list that held the original may take it."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
