"""Foreign SiamFC checkpoints, written here in the layouts in which they circulate.

What an imported network computes is compared with a forward pass written from the layout's own
definition (functional layers, MatConvNet's batch norm), not with our module.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from siamtrack.cli import main
from siamtrack.errors import OutputError, WeightsError
from siamtrack.models.import_siamfc import import_siamfc, read_siamfc
from siamtrack.models.weights import load_network, read_card

# Block, kernel, input channels of a group, output channels, groups; the paper's table 1.
BLOCKS = [
    (1, 11, 3, 96, 1),
    (2, 5, 48, 256, 2),
    (3, 3, 256, 384, 1),
    (4, 3, 192, 384, 2),
    (5, 3, 192, 256, 2),
]
FLAT = {1: (0, 1), 2: (4, 5), 3: (8, 9), 4: (11, 12), 5: (14, None)}
PORT_EPS = 1e-6

State = dict[str, Tensor]
Params = dict[str, NDArray[np.float32]]


def port_state(name: Callable[[int, int], str], last_channels: int = 256) -> State:
    """State dict of the PyTorch port; `name` gives block and (0 conv, 1 norm) their prefix."""
    generator = torch.Generator().manual_seed(3)
    state: State = {}
    for block, kernel, fan_in, out, _ in BLOCKS:
        out = last_channels if block == 5 else out
        shape = (out, fan_in, kernel, kernel)
        scale = (2 / (fan_in * kernel**2)) ** 0.5
        state[f"{name(block, 0)}.weight"] = torch.randn(shape, generator=generator) * scale
        state[f"{name(block, 0)}.bias"] = torch.randn(out, generator=generator)
        if block < 5:
            norm = name(block, 1)
            state[f"{norm}.weight"] = torch.rand(out, generator=generator) + 0.5
            state[f"{norm}.bias"] = torch.randn(out, generator=generator)
            state[f"{norm}.running_mean"] = torch.randn(out, generator=generator)
            state[f"{norm}.running_var"] = torch.rand(out, generator=generator) + 0.5
            state[f"{norm}.num_batches_tracked"] = torch.tensor(9)
    return state


def nested(block: int, part: int) -> str:
    return f"backbone.conv{block}.{part}"


def flat(block: int, part: int) -> str:
    return f"feature.{FLAT[block][part]}"


def mat_params(prefix: str = "", last_channels: int = 256) -> Params:
    """Parameters of the authors' network: HWIO filters, column vectors, mean and deviation."""
    rng = np.random.default_rng(4)
    params: Params = {}
    for block, kernel, fan_in, out, _ in BLOCKS:
        out = last_channels if block == 5 else out
        scale = (2 / (fan_in * kernel**2)) ** 0.5
        params[f"{prefix}conv{block}f"] = rng.normal(size=(kernel, kernel, fan_in, out)) * scale
        params[f"{prefix}conv{block}b"] = rng.normal(size=(out, 1))
        if block < 5:
            params[f"{prefix}bn{block}m"] = rng.uniform(0.5, 1.5, size=(out, 1))
            params[f"{prefix}bn{block}b"] = rng.normal(size=(out, 1))
            moments = [rng.normal(size=out), rng.uniform(0.01, 2.0, size=out)]
            params[f"{prefix}bn{block}x"] = np.stack(moments, axis=1)
    if prefix:
        params["fin_adjust_bnm"] = np.array([[2.5]])
        params["fin_adjust_bnb"] = np.array([[-4.0]])
        params["fin_adjust_bnx"] = np.array([[100.0, 2000.0]])
    else:
        params["adjust_f"] = np.array([[0.001]])
        params["adjust_b"] = np.array([[-0.75]])
    return {name: value.astype(np.float32) for name, value in params.items()}


def write_mat(path: Path, params: Params, **net: Any) -> Path:
    """A struct `net` with a struct array `params`, as DagNN's saveobj lays it out."""
    fields = [("name", object), ("value", object), ("learningRate", object)]
    array = np.zeros((1, len(params)), dtype=fields)
    for index, (name, value) in enumerate(params.items()):
        array[0, index] = (name, value, 1.0)
    layers = np.zeros((1, 1), dtype=[("name", object)])
    layers[0, 0] = ("a_conv1",)
    scipy.io.savemat(path, {"net": {"layers": layers, "params": array, **net}, "stats": 1.0})
    return path


def write_port(path: Path, state: object, **how: Any) -> Path:
    torch.save(state, path, **how)
    return path


def plain_forward(
    image: Tensor,
    filters: Callable[[int], tuple[Tensor, Tensor]],
    normalize: Callable[[int, Tensor], Tensor],
    last_pool_stride: int,
) -> Tensor:
    """Table 1 with functional layers, in double precision."""
    for block, _, _, _, groups in BLOCKS:
        weight, bias = filters(block)
        stride = 2 if block == 1 else 1
        image = F.conv2d(image, weight.double(), bias.double(), stride=stride, groups=groups)
        if block < 5:
            image = F.relu(normalize(block, image))
        if block <= 2:
            image = F.max_pool2d(image, 3, 2 if block == 1 else last_pool_stride)
    return image


def port_forward(state: State, image: Tensor, last_pool_stride: int = 2) -> Tensor:
    def filters(block: int) -> tuple[Tensor, Tensor]:
        return state[f"{nested(block, 0)}.weight"], state[f"{nested(block, 0)}.bias"]

    def normalize(block: int, x: Tensor) -> Tensor:
        m, b, mean, var = (
            state[f"{nested(block, 1)}.{leaf}"].double().reshape(1, -1, 1, 1)
            for leaf in ("weight", "bias", "running_mean", "running_var")
        )
        return m * (x - mean) / (var + PORT_EPS).sqrt() + b

    return plain_forward(image, filters, normalize, last_pool_stride)


def mat_forward(params: Params, prefix: str, image: Tensor, last_pool_stride: int) -> Tensor:
    def tensor(name: str) -> Tensor:
        return torch.from_numpy(params[prefix + name].astype(np.float64))

    def filters(block: int) -> tuple[Tensor, Tensor]:
        weight = tensor(f"conv{block}f").permute(3, 2, 0, 1)
        return weight, tensor(f"conv{block}b").reshape(-1)

    def normalize(block: int, x: Tensor) -> Tensor:
        # vl_nnbnorm: y = g (x - mu) / sigma + b, sigma being what is stored.
        mean, sigma = tensor(f"bn{block}x").T.reshape(2, 1, -1, 1, 1)
        gain = tensor(f"bn{block}m").reshape(1, -1, 1, 1)
        return gain * (x - mean) / sigma + tensor(f"bn{block}b").reshape(1, -1, 1, 1)

    return plain_forward(image, filters, normalize, last_pool_stride)


def picture(size: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand((1, 3, size, size), generator=generator) * 4


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(
        found.double(), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())
    )


# -- the PyTorch port


@torch.no_grad()
@pytest.mark.parametrize(("channels", "stride"), [(256, 8), (32, 4)], ids=["V1", "V2"])
def test_port_computes_the_same_after_import(channels: int, stride: int, tmp_path: Path) -> None:
    state = port_state(nested, channels)
    network = read_siamfc(write_port(tmp_path / "it.pth", state))
    assert (network.config.total_stride, network.config.bn_eps) == (stride, PORT_EPS)
    assert network.config.response_size == {8: 17, 4: 33}[stride]
    image = picture(127)
    expected = port_forward(state, image.double(), stride // 4)
    assert_close(network.embed_exemplar(image), expected)
    assert network.response_bias.item() == 0.0
    assert network.config.response_scale == 1e-3
    assert not network.training


def wrapped(prefix: str, *keys: str) -> Callable[[State], object]:
    """Prefix every name and put the dict under `keys` of training checkpoints."""

    def wrap(state: State) -> object:
        found: Any = {prefix + name: tensor for name, tensor in state.items()}
        for key in reversed(keys):
            found = {"epoch": 50, key: found, "lr": [0.01, 0.001]}
        return found

    return wrap


@pytest.mark.parametrize(
    "wrap",
    [
        wrapped("module."),
        wrapped("", "state_dict"),
        wrapped("module.module.", "state_dict"),
        wrapped("net.", "model"),
        wrapped("", "net", "model_state_dict"),
    ],
    ids=["module", "state_dict", "both", "model-net", "nested"],
)
def test_wrappers_of_a_state_dict_are_removed(
    wrap: Callable[[State], object], tmp_path: Path
) -> None:
    state = port_state(nested)
    network = read_siamfc(write_port(tmp_path / "it.pth", wrap(state)))
    found = network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_first_version_of_the_port(tmp_path: Path) -> None:
    expected = port_state(nested)
    network = read_siamfc(write_port(tmp_path / "model.pth", port_state(flat)))
    found = network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_files_of_old_pytorch_versions(tmp_path: Path) -> None:
    """Neither counters of batches nor zip archives existed when these were published."""
    state = {k: v for k, v in port_state(nested).items() if "num_batches" not in k}
    path = write_port(tmp_path / "it.pth", state, _use_new_zipfile_serialization=False)
    found = read_siamfc(path).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    assert found["backbone.conv1.1.num_batches_tracked"] == 0


# -- MatConvNet


@torch.no_grad()
@pytest.mark.parametrize(
    ("prefix", "channels", "stride"), [("", 256, 8), ("br_", 32, 4)], ids=["2016", "2017"]
)
def test_matconvnet_computes_the_same_after_import(
    prefix: str, channels: int, stride: int, tmp_path: Path
) -> None:
    params = mat_params(prefix, channels)
    network = read_siamfc(write_mat(tmp_path / "it.net.mat", params))
    assert network.config.total_stride == stride
    z, x = picture(127), picture(127 + 2 * stride)
    z_features, x_features = (
        mat_forward(params, prefix, image.double(), stride // 4) for image in (z, x)
    )
    assert_close(network.embed_exemplar(z), z_features)
    correlation = F.conv2d(x_features, z_features)
    expected = 2.5 * (correlation - 100.0) / 2000.0 - 4.0 if prefix else 0.001 * correlation - 0.75
    assert_close(network(z, x).score_logits, expected)


def test_tiny_standard_deviations_are_kept(tmp_path: Path) -> None:
    """Below 0.01 the stored deviation is all epsilon, and the variance comes out negative."""
    params = mat_params()
    params["bn1x"][:, 1] = 0.004
    norm = read_siamfc(write_mat(tmp_path / "it.mat", params)).backbone.conv1[1]
    deviation = (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(deviation, torch.full((96,), 0.004), rtol=1e-4, atol=0)


# -- into a weights file


def test_import_writes_weights_with_a_card(tmp_path: Path) -> None:
    source = write_port(tmp_path / "siamfc_alexnet_e50.pth", port_state(nested))
    out = tmp_path / "siamfc.safetensors"
    import_siamfc(source, out, training_data=["GOT-10k"], license="MIT")
    card = read_card(out)
    assert (card.architecture, card.training_data, card.license) == ("siamfc", ("GOT-10k",), "MIT")
    assert (card.pairs, card.commit, card.figures) == (None, None, {})
    assert "siamfc_alexnet_e50.pth (sha256 " in card.notes
    assert "backbone.conv1.0.weight" in card.notes
    ours, theirs = load_network(out).state_dict(), read_siamfc(source).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with pytest.raises(OutputError, match="exist"):
        import_siamfc(source, out)
    assert import_siamfc(source, out, overwrite=True).license == "unknown"


def test_import_keeps_the_adjustment(tmp_path: Path) -> None:
    source = write_mat(tmp_path / "baseline.mat", mat_params("br_", 32))
    import_siamfc(source, tmp_path / "it.safetensors")
    network = load_network(tmp_path / "it.safetensors")
    # 2.5 (r - 100) / 2000 - 4 = 0.00125 r - 4.125
    assert network.config.response_scale == pytest.approx(0.00125)  # type: ignore[attr-defined]
    assert network.response_bias.item() == pytest.approx(-4.125)  # type: ignore[union-attr,operator]


def test_weights_that_are_not_finite_are_not_imported(tmp_path: Path) -> None:
    state = port_state(nested)
    state["backbone.conv3.0.bias"][4] = float("nan")
    source = write_port(tmp_path / "it.pth", state)
    with pytest.raises(WeightsError, match=r"not finite in backbone\.conv3\.0\.bias"):
        import_siamfc(source, tmp_path / "it.safetensors")
    assert not (tmp_path / "it.safetensors").exists()


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_flipped_bit_is_damage(tmp_path: Path, share: float) -> None:
    """torch does not look at the checksums that it writes."""
    source = write_port(tmp_path / "it.pth", port_state(nested))
    data = bytearray(source.read_bytes())
    data[int(len(data) * share)] ^= 0x40
    source.write_bytes(data)
    with pytest.raises(WeightsError, match="damaged"):
        read_siamfc(source)


def test_the_command_imports_and_says_what_went_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_port(tmp_path / "it.pth", port_state(nested))
    out = tmp_path / "it.safetensors"
    command = ["import-weights", str(source), str(out)]
    assert main([*command, "--training-data", "VID", "DET"]) == 0
    assert read_card(out).sha256 in capsys.readouterr().out
    assert read_card(out).training_data == ("VID", "DET")
    assert main(command) == OutputError.exit_code
    error = capsys.readouterr().err
    assert error.startswith("siamtrack: error: weights")
    assert error.count("\n") == 1


# -- bad input


def test_all_tensors_of_a_port_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    state = port_state(nested)
    del state["backbone.conv1.0.weight"], state["backbone.conv4.1.running_var"]
    state["backbone.conv5.0.weight"] = torch.zeros(512, 192, 3, 3)
    state["head.scale"] = torch.zeros(1)
    path = write_port(tmp_path / "it.pth", state)
    with pytest.raises(WeightsError) as caught:
        read_siamfc(path)
    message = str(caught.value)
    for part in (
        "missing backbone.conv1.0.weight",
        "missing backbone.conv4.1.running_var",
        "backbone.conv5.0.weight has shape (512, 192, 3, 3), needs (256, 192, 3, 3)",
        "unexpected head.scale",
    ):
        assert part in message
    assert "\n" not in message


def test_names_in_the_message_are_those_of_the_file(tmp_path: Path) -> None:
    state = port_state(flat)
    del state["feature.9.bias"]
    with pytest.raises(WeightsError, match=r"does not hold a SiamFC: missing feature\.9\.bias;"):
        read_siamfc(write_port(tmp_path / "it.pth", state))


def test_all_parameters_of_a_mat_file_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    params = mat_params()
    del params["conv2f"], params["adjust_b"]
    params["conv1f"] = np.zeros((11, 11, 1, 96), np.float32)
    params["bn3x"] = np.zeros((384, 3), np.float32)
    params["fc6f"] = np.zeros((6, 6, 256, 4), np.float32)
    with pytest.raises(WeightsError) as caught:
        read_siamfc(write_mat(tmp_path / "it.mat", params))
    message = str(caught.value)
    for part in (
        "missing conv2f",
        "missing adjust_b",
        "conv1f has shape (11, 11, 1, 96), needs (11, 11, 3, 96)",
        "bn3x has shape (384, 3), needs (384, 2)",
        "unexpected fc6f",
    ):
        assert part in message


def test_untrained_batch_norm_is_refused(tmp_path: Path) -> None:
    params = mat_params()
    params["bn2x"][7, 1] = 0.0
    with pytest.raises(WeightsError, match="batch norm without variance in bn2x"):
        read_siamfc(write_mat(tmp_path / "it.mat", params))


def test_whole_module_in_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    path = write_port(tmp_path / "it.pth", torch.nn.Conv2d(1, 1, 1))
    with pytest.raises(WeightsError, match=r"could run code .* state_dict\(\) alone"):
        read_siamfc(path)
    path = write_port(tmp_path / "args.pth", {"args": argparse.Namespace(lr=1)})
    with pytest.raises(WeightsError, match="could run code"):
        read_siamfc(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "optimizer": {"lr": 0.1}}, r"no state dict \(its keys: epoch, optimizer\)"),
        ({"state_dict": {}}, r"no state dict \(its keys: none\)"),
        ([torch.zeros(1)], r"no state dict \(its keys: none\)"),
        ({"model": 3}, r"no state dict \(its keys: model\)"),
    ],
)
def test_checkpoint_without_a_state_dict(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=message):
        read_siamfc(write_port(tmp_path / "it.pth", content))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("keep", [0.1, 0.9])
def test_truncated_pytorch_file(keep: float, zipped: bool, tmp_path: Path) -> None:
    path = write_port(
        tmp_path / "it.pth", port_state(nested), _use_new_zipfile_serialization=zipped
    )
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(WeightsError, match="damaged"):
        read_siamfc(path)


def test_truncated_mat_file(tmp_path: Path) -> None:
    path = write_mat(tmp_path / "it.mat", mat_params())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match="damaged or truncated"):
        read_siamfc(path)


@pytest.mark.parametrize(
    "content",
    [
        {"stats": 1.0},
        {"net": 3.0},
        {"net": {"layers": np.zeros((1, 2))}},
        {"net": {"params": np.zeros((1, 2))}},
        {"net": {"params": {"name": "conv1f", "value": "eleven"}}},
    ],
    ids=["no-net", "number", "simplenn", "no-struct", "text"],
)
def test_mat_file_without_a_network(content: dict[str, Any], tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "it.mat", content)
    with pytest.raises(WeightsError, match="holds no MatConvNet DagNN"):
        read_siamfc(tmp_path / "it.mat")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64", "MATLAB 7.3 .* save it .* '-v7'"),
        (b"<html>404</html>", "neither a PyTorch nor a MATLAB file"),
        (b"", "neither a PyTorch nor a MATLAB file"),
        (b"\x80\x02nothing", "damaged"),
    ],
)
def test_file_of_another_kind(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "it.mat").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_siamfc(tmp_path / "it.mat")


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot read checkpoint .*\.pth: No such file"):
        read_siamfc(tmp_path / "it.pth")
