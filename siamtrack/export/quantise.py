"""INT8 for the part of the track graph that sees only pixels.

Static quantisation (Jacob et al. 2018): activations in 8 bits with one scale a tensor, weights in
7 bits with one scale a filter, sums in 32 bits. What follows the meeting with the exemplar stays
in float: it is a small part of the work, and its errors would be errors of boxes and scores. The
pixels themselves are bytes and lose nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from tqdm import tqdm

import siamtrack
from siamtrack.crops import crop_square
from siamtrack.engines.graphs import INT8, METADATA_KEY, TRACK, graph_paths
from siamtrack.engines.onnx_engine import OnnxEngine
from siamtrack.errors import OutputError
from siamtrack.export.onnx import export_graphs, require_exporter
from siamtrack.geometry import context_side
from siamtrack.models.network import NetworkConfig
from siamtrack.models.weights import load_network, sha256_of
from siamtrack.types import FloatArray, Image
from siamtrack.utils.files import atomic_write

_SAMPLES = 4096  # values of each tensor that are looked at for each crop
_LIMITS = np.linspace(0.3, 1.0, 36)  # of the largest value, tried as the end of the scale
_LEAST_WEIGHT = 1e-3  # filters without larger weights do nothing
_WEIGHT_LEVELS = 64  # older CPUs add two products in 16 bits: 2 * 255 * 64 is the most that fits
_POSITIVE = ("Clip", "Relu")

Arrays = list[NDArray[Any]]


class Scale(NamedTuple):
    """How a tensor is written in 8 bits: `round(value / step) + zero`.

    Attributes:
        step: value from one level to the next.
        zero: the level of 0.
    """

    step: np.float32
    zero: np.uint8


def quantise_graph(model: onnx.ModelProto, feeds: Sequence[Arrays]) -> onnx.ModelProto:
    """Quantise a track graph.

    Args:
        model: of `siamtrack.engines.graphs`, in float.
        feeds: inputs of the graph, one list for each crop it is calibrated with.
    """
    found = onnx.ModelProto()
    found.CopyFrom(model)
    edit = _Edit(found)
    chosen = edit.convolutions_on_pixels()
    first = chosen[0]
    names = [conv.input[0] for conv in chosen if conv is not first]
    # A sum of two 8-bit tensors is one instruction, a mixed one takes two conversions.
    names += [conv.output[0] for conv in chosen if edit.is_added(conv.output[0])]
    scales = calibrate(model, list(dict.fromkeys(names)), feeds)
    pixels = _pixel_scale(found)
    if pixels is None:
        scales |= calibrate(model, [first.input[0]], feeds)
    else:
        scales[edit.take_pixels(first)] = pixels
    for name, scale in scales.items():
        edit.quantise_tensor(name, scale)
    for conv in chosen:
        edit.quantise_weights(conv, scales[conv.input[0].removesuffix(_READ)])
    edit.finish()
    onnx.checker.check_model(found)
    return found


def calibrate(
    model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Arrays]
) -> dict[str, Scale]:
    """Choose the scale of tensors that loses least, in mean square, on the crops given.

    Args:
        model: in float.
        names: of the tensors.
        feeds: see `quantise_graph`.
    """
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    for name in names:
        probe.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = [given.name for given in session.get_inputs()]
    rng = np.random.default_rng(0)
    seen: dict[str, Arrays] = {name: [] for name in names}
    for arrays in feeds:
        found = session.run(list(names), dict(zip(inputs, arrays, strict=True)))
        for name, values in zip(names, found, strict=True):
            some = rng.choice(values.ravel(), _SAMPLES)
            seen[name].append(np.append(some, [values.min(), values.max()]))
    return {name: best_scale(np.concatenate(parts)) for name, parts in seen.items()}


def best_scale(values: NDArray[np.float32]) -> Scale:
    """The scale with the least mean squared error.

    0 has a level of its own, which padding needs: the lowest one where no value is negative, the
    middle one elsewhere. All tensors are unsigned, since ONNX Runtime computes a convolution in 8
    bits only if what goes in and what comes out are of one type.
    """
    zero = 0 if values.min() >= 0 else 128
    largest = max(float(np.abs(values).max()), 1e-6)
    steps = [np.float32(largest * share / (255 - zero)) for share in _LIMITS]
    errors = [
        np.mean((np.clip(np.rint(values / step), -zero, 255 - zero) * step - values) ** 2)
        for step in steps
    ]
    return Scale(steps[int(np.argmin(errors))], np.uint8(zero))


def _pixel_scale(model: onnx.ModelProto) -> Scale | None:
    """How bytes are already the normalised pixels; None where channels differ."""
    (entry,) = (prop for prop in model.metadata_props if prop.key == METADATA_KEY)
    config = json.loads(entry.value)["config"]
    means, stds = set(config["input_mean"]), set(config["input_std"])
    if len(means) > 1 or len(stds) > 1 or not float(min(means)).is_integer():
        return None
    return Scale(np.float32(1.0 / stds.pop()), np.uint8(means.pop()))


_WRITTEN, _READ = "_int8", "_read"


class _Edit:
    """A graph that is being rewritten; nodes that nothing uses any more go at the end."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._nodes = list(model.graph.node)
        self._constants = {i.name: i for i in model.graph.initializer}
        self._made_by = {out: node for node in self._nodes for out in node.output}

    def convolutions_on_pixels(self) -> list[onnx.NodeProto]:
        """Convolutions with weights of their own that no exemplar has a part in, in order."""
        pixels = {self._graph.input[0].name}
        others = {given.name for given in self._graph.input} - pixels
        for node in self._nodes:
            if others.intersection(node.input):
                others.update(node.output)
            elif pixels.intersection(node.input):
                pixels.update(node.output)
        return [
            node
            for node in self._nodes
            if node.op_type == "Conv"
            and node.input[1] in self._constants
            and node.output[0] in pixels
        ]

    def is_added(self, name: str) -> bool:
        """Whether a sum takes this tensor."""
        return any(user.op_type == "Add" for user in self._users(name))

    def take_pixels(self, conv: onnx.NodeProto) -> str:
        """Let a convolution read the graph's bytes; the name of what it reads now."""
        name = "siamtrack_pixels"
        given = self._graph.input[0].name
        transpose = helper.make_node("Transpose", [given], [name + _WRITTEN], perm=[0, 3, 1, 2])
        self._nodes.insert(0, transpose)
        self._made_by[name + _WRITTEN] = transpose
        conv.input[0] = name
        return name

    def quantise_tensor(self, name: str, scale: Scale) -> None:
        """Let all convolutions and sums read a tensor in 8 bits."""
        step, zero = (
            self._constant(name + "_step", scale.step),
            self._constant(name + "_zero", scale.zero),
        )
        added = []
        if name + _WRITTEN not in self._made_by:
            source = name if scale.zero else self._before_clipping(name)
            added.append(
                helper.make_node("QuantizeLinear", [source, step, zero], [name + _WRITTEN])
            )
            after = self._nodes.index(self._made_by[source]) + 1
        else:
            after = self._nodes.index(self._made_by[name + _WRITTEN]) + 1
        added.append(
            helper.make_node("DequantizeLinear", [name + _WRITTEN, step, zero], [name + _READ])
        )
        for user in self._users(name):
            if user.op_type in ("Conv", "Add"):
                user.input[list(user.input).index(name)] = name + _READ
        self._nodes[after:after] = added

    def quantise_weights(self, conv: onnx.NodeProto, scale: Scale) -> None:
        """Write weights in 7 bits, and the bias in 32 bits of the sums' own scale."""
        weights = numpy_helper.to_array(self._constants[conv.input[1]])
        largest = np.abs(weights).reshape(len(weights), -1).max(axis=1)
        steps = (np.maximum(largest, _LEAST_WEIGHT) / _WEIGHT_LEVELS).astype(np.float32)
        levels = np.rint(weights / steps.reshape(-1, *[1] * (weights.ndim - 1)))
        self._replace_constant(conv, 1, levels.astype(np.int8), steps)
        if len(conv.input) > 2:
            bias = numpy_helper.to_array(self._constants[conv.input[2]])
            sums = steps * scale.step
            self._replace_constant(conv, 2, np.rint(bias / sums).astype(np.int32), sums)

    def finish(self) -> None:
        """Write the nodes back, without those and the constants that nothing uses."""
        wanted = {out.name for out in self._graph.output}
        kept = []
        for node in reversed(self._nodes):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                kept.append(_copy(node))
        constants = [_copy(c) for name, c in self._constants.items() if name in wanted]
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(reversed(kept))
        self._graph.initializer.extend(constants)

    def _users(self, name: str) -> list[onnx.NodeProto]:
        return [node for node in self._nodes if name in node.input]

    def _before_clipping(self, name: str) -> str:
        """What becomes the tensor by clipping that the end of the scale does as well."""
        node = self._made_by[name]
        if node.op_type in _POSITIVE and all(u.op_type == "Conv" for u in self._users(name)):
            return str(node.input[0])
        return name

    def _constant(self, name: str, value: Any) -> str:
        self._constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def _replace_constant(
        self, node: onnx.NodeProto, place: int, levels: NDArray[Any], steps: NDArray[np.float32]
    ) -> None:
        name = node.input[place]
        parts = [
            self._constant(name + _WRITTEN, levels),
            self._constant(name + "_steps", steps),
            self._constant(name + "_zeros", np.zeros(len(steps), levels.dtype)),
        ]
        read = helper.make_node("DequantizeLinear", parts, [name + _READ], axis=0)
        node.input[place] = name + _READ
        self._nodes.insert(0, read)


def _copy(message: Any) -> Any:
    """Protobuf gives no message to a list that the same list held before."""
    found = type(message)()
    found.CopyFrom(message)
    return found


_SMALLEST, _LARGEST = 1 / 16, 1 / 3  # targets, as shares of the frame's shorter side
_SHIFT, _SCALING = 0.06, 0.1  # spread of what a target does between two frames


class CalibrationCrop(NamedTuple):
    """What the two branches see of one window.

    Attributes:
        exemplar: uint8 (exemplar_size_px, exemplar_size_px, 3) BGR.
        box_xywh: (4,) target in px of the exemplar.
        search: uint8 (search_size_px, search_size_px, 3) BGR.
    """

    exemplar: Image
    box_xywh: FloatArray
    search: Image


def calibration_crops(
    frames: Iterable[Image], config: NetworkConfig, count: int, rng: np.random.Generator
) -> list[CalibrationCrop]:
    """Cut one window out of each of some frames, drawn evenly from all of them.

    Targets are boxes anywhere in the frame: what matters is how large activations become on such
    pictures, not what is followed in them. The frames themselves are not kept.

    Args:
        frames: uint8 (H, W, 3) BGR, any number.
        config: of the network.
        count: crops at the most.
        rng: draws frames and boxes.
    """
    kept: list[CalibrationCrop] = []
    for index, frame in enumerate(frames):
        place = index if index < count else int(rng.integers(index + 1))
        if place < count:
            kept[place : place + 1] = [_cut(frame, config, rng)]
    return kept


def _cut(frame: Image, config: NetworkConfig, rng: np.random.Generator) -> CalibrationCrop:
    height, width = frame.shape[:2]
    fill_bgr = cv2.mean(frame)[:3]
    shares = np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST), size=2))
    size = np.maximum(shares * min(width, height), 2.0)
    centre = rng.uniform(size / 2, np.maximum(np.array([width, height]) - size / 2, size / 2 + 1))
    side = float(context_side(size[0], size[1], config.context_amount))
    exemplar, crop_map = crop_square(
        frame, centre, side, config.exemplar_size_px, fill_bgr=fill_bgr
    )
    box = crop_map.to_crop(np.concatenate([centre - size / 2, size]))
    search_side = side * config.search_scale * float(np.exp(_SCALING * rng.normal()))
    moved = centre + _SHIFT * search_side * rng.normal(size=2)
    search, _ = crop_square(frame, moved, search_side, config.search_size_px, fill_bgr=fill_bgr)
    return CalibrationCrop(exemplar, box, search)


CROPS = 64
"""Crops that activations are measured on. More change the scales by less than their own grid."""


def export(weights: Path, overwrite: bool) -> list[Path]:
    """Write the two graphs of a weights file.

    Args:
        weights: the .safetensors file.
        overwrite: replace graphs that exist.

    Returns:
        The files written.

    Raises:
        SiamTrackError: graphs exist, or see `export_graphs`.
    """
    targets = graph_paths(weights)
    _refuse_existing(list(targets.values()), overwrite)
    export_graphs(load_network(weights), targets, sha256_of(weights))
    return list(targets.values())


def export_int8(weights: Path, clips: Sequence[str], overwrite: bool) -> list[Path]:
    """Write the quantised track graph of a weights file, and before it the graphs it is made from.

    Args:
        weights: the .safetensors file.
        clips: videos or folders of pictures to calibrate with, each of which gives as many crops.
        overwrite: replace the quantised graph.

    Returns:
        The files written.

    Raises:
        SiamTrackError: the graph exists, a clip cannot be read, the graphs that are there belong
            to other weights, or see `export_graphs`.
    """
    target = graph_paths(weights, INT8)[TRACK]
    _refuse_existing([target], overwrite)
    require_exporter()
    import onnx

    targets = graph_paths(weights)
    complete = all(path.is_file() for path in targets.values())
    written = [] if complete else export(weights, overwrite=True)
    engine = OnnxEngine(weights, sha256_of(weights), threads=1)
    rng = np.random.default_rng(0)
    each = -(-CROPS // len(clips))
    crops: list[CalibrationCrop] = []
    for clip in clips:
        crops += calibration_crops(_frames(clip), engine.config, each, rng)
    feeds = [_feed(engine, crop) for crop in tqdm(crops, desc="calibrating", unit="crop")]
    quantised = quantise_graph(onnx.load(targets[TRACK]), feeds)
    atomic_write(target, quantised.SerializeToString())
    return [*written, target]


def _frames(clip: str) -> Iterator[Image]:
    with siamtrack.open_source(clip) as source:
        for frame in tqdm(source, desc=source.name, unit="frame", total=source.frame_count):
            yield frame.image


def _feed(engine: OnnxEngine, crop: CalibrationCrop) -> list[np.ndarray]:
    exemplar = engine.embed_exemplar([crop.exemplar], crop.box_xywh[None])
    return [engine.prepare([crop.search]), *exemplar.tensors]


def _refuse_existing(targets: Sequence[Path], overwrite: bool) -> None:
    existing = [str(target) for target in targets if target.exists()]
    if existing and not overwrite:
        raise OutputError(f"{', '.join(existing)} exist; give --overwrite to replace them")
