"""SiamFC against the paper's table 1, a correlation written with loops, and its own geometry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from siamtrack.errors import ConfigError
from siamtrack.models.siamfc import SiamFC, SiamFCConfig


@pytest.fixture(scope="module")
def network() -> SiamFC:
    return build()


def build(**fields: object) -> SiamFC:
    """Random weights, the same in every run, and batch norm that has seen pictures."""
    torch.manual_seed(0)
    network = SiamFC(SiamFCConfig(**fields)).train()  # type: ignore[arg-type]
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network(picture(135, 1, seed=7), picture(143, 1, seed=8))
    for norm in norms:
        norm.momentum = network.config.bn_momentum
    return network.eval()


def picture(size: int, batch: int = 1, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, size, size), generator=generator).float()


def test_layers_are_those_of_table_1(network: SiamFC) -> None:
    convolutions = [m for m in network.backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [
        (c.kernel_size[0], c.stride[0], c.in_channels, c.out_channels, c.groups, c.padding)
        for c in convolutions
    ] == [
        (11, 2, 3, 96, 1, (0, 0)),
        (5, 1, 96, 256, 2, (0, 0)),
        (3, 1, 256, 384, 1, (0, 0)),
        (3, 1, 384, 384, 2, (0, 0)),
        (3, 1, 384, 256, 2, (0, 0)),
    ]
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert [(n.num_features, n.eps, n.momentum) for n in norms] == [
        (channels, 1e-6, 0.05) for channels in (96, 256, 384, 384)
    ]


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("conv1", 127, (96, 29, 29)),
        ("conv2", 127, (256, 12, 12)),
        ("conv3", 127, (384, 10, 10)),
        ("conv4", 127, (384, 8, 8)),
        ("conv5", 127, (256, 6, 6)),
        ("conv1", 255, (96, 61, 61)),
        ("conv2", 255, (256, 28, 28)),
        ("conv3", 255, (384, 26, 26)),
        ("conv4", 255, (384, 24, 24)),
        ("conv5", 255, (256, 22, 22)),
    ],
)
def test_activations_have_the_sizes_of_table_1(
    network: SiamFC, name: str, size: int, shape: tuple[int, ...]
) -> None:
    seen: list[tuple[int, ...]] = []
    handle = getattr(network.backbone, name).register_forward_hook(
        lambda _module, _inputs, output: seen.append(tuple(output.shape[1:]))
    )
    with torch.no_grad():
        network.embed_exemplar(picture(size))
    handle.remove()
    assert seen == [shape]


@torch.no_grad()
def test_response_is_17_by_17_for_every_pair(network: SiamFC) -> None:
    output = network(picture(127, 2), picture(255, 2))
    assert output.score_logits.shape == (2, 1, 17, 17)
    assert output.ltrb_px is None
    assert network.config.response_size == 17
    assert network.config.search_scale == pytest.approx(255 / 127)


@torch.no_grad()
@pytest.mark.parametrize(("z_px", "x_px"), [(127, 239), (127, 303), (87, 143)])
def test_other_crop_sizes_work(network: SiamFC, z_px: int, x_px: int) -> None:
    config = replace(network.config, exemplar_size_px=z_px, search_size_px=x_px)
    z = network.embed_exemplar(picture(z_px))
    x = network.embed_search(picture(x_px))
    assert z.shape[-1] == config.feature_size(z_px)
    assert x.shape[-1] == config.feature_size(x_px)
    side = config.response_size
    assert network.correlate(z, x).score_logits.shape == (1, 1, side, side)
    assert side == (x_px - z_px) // 8 + 1


@torch.no_grad()
def test_stride_4_variant_has_a_33_by_33_response() -> None:
    network = build(total_stride=4, out_channels=32)
    assert network.embed_exemplar(picture(127)).shape == (1, 32, 17, 17)
    assert network(picture(127), picture(255)).score_logits.shape == (1, 1, 33, 33)
    assert [network.config.feature_size(size) for size in (127, 255)] == [17, 49]
    assert network.config.response_size == 33


@torch.no_grad()
def test_response_is_the_correlation_that_loops_compute(network: SiamFC) -> None:
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(2, 256, 3, 3, generator=generator)
    x = torch.randn(2, 256, 7, 6, generator=generator)
    biased = build()
    biased.response_bias.fill_(0.25)
    a, b = z.double().numpy(), x.double().numpy()
    expected = np.zeros((2, 1, 5, 4))
    for pair in range(2):
        for row in range(5):
            for column in range(4):
                patch = b[pair, :, row : row + 3, column : column + 3]
                expected[pair, 0, row, column] = 1e-3 * (a[pair] * patch).sum() + 0.25
    found = biased.correlate(z, x).score_logits.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@torch.no_grad()
def test_one_exemplar_meets_every_search(network: SiamFC) -> None:
    z = network.embed_exemplar(picture(127))
    x = network.embed_search(picture(143, 2))
    together = network.correlate(z, x).score_logits
    apart = [network.correlate(z, x[i : i + 1]).score_logits for i in range(2)]
    torch.testing.assert_close(together, torch.cat(apart))


@torch.no_grad()
@pytest.mark.parametrize("fields", [{}, {"total_stride": 4, "out_channels": 32}])
def test_shifting_the_search_by_the_stride_shifts_the_response(fields: dict[str, int]) -> None:
    network = build(**fields)
    stride = network.config.total_stride
    wide = picture(255 + 3 * stride)
    z = picture(127, seed=5)
    here = network(z, wide[..., :255, :255]).score_logits
    there = network(z, wide[..., stride : 255 + stride, 3 * stride :]).score_logits
    torch.testing.assert_close(here[..., 1:, 3:], there[..., :-1, :-3], rtol=1e-4, atol=1e-4)
    assert (here[..., 1:, 3:] - there[..., 1:, 3:]).abs().max() > 1e-2


@torch.no_grad()
def test_target_in_the_middle_of_the_search_peaks_in_the_middle(network: SiamFC) -> None:
    z = picture(127)
    # The mean of the pixels around: flat ground correlates with nothing in particular.
    x = torch.full((1, 3, 255, 255), 127.0)
    x[..., 64:191, 64:191] = z
    response = network(z, x).score_logits[0, 0]
    assert divmod(int(response.argmax()), 17) == (8, 8)


def test_gradient_reaches_every_parameter() -> None:
    network = build(pseudo_siamese=True)
    network(picture(127, 1), picture(143, 1)).score_logits.square().mean().backward()
    untouched = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert untouched == []


@torch.no_grad()
def test_siamese_branches_share_and_pseudo_siamese_ones_do_not() -> None:
    image = picture(127)
    shared, apart = build(), build(pseudo_siamese=True)
    torch.testing.assert_close(shared.embed_exemplar(image), shared.embed_search(image))
    assert (apart.embed_exemplar(image) - apart.embed_search(image)).abs().max() > 1e-2
    backbone = sum(p.numel() for p in shared.backbone.parameters())
    count = [sum(p.numel() for p in n.parameters()) for n in (shared, apart)]
    assert count == [backbone + 1, 2 * backbone + 1]


@torch.no_grad()
def test_input_is_normalized_once_as_the_config_says(network: SiamFC) -> None:
    scaled = build(input_mean=(10.0, 20.0, 30.0), input_std=(2.0, 4.0, 8.0))
    scaled.load_state_dict(network.state_dict())
    image = picture(127)
    mean = torch.tensor([10.0, 20.0, 30.0]).reshape(1, 3, 1, 1)
    std = torch.tensor([2.0, 4.0, 8.0]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(
        scaled.embed_exemplar(image), network.embed_exemplar((image - mean) / std)
    )
    torch.testing.assert_close(
        scaled.embed_search(image), network.embed_search((image - mean) / std)
    )
    torch.testing.assert_close(
        network.embed_search(image.byte()), network.embed_search(image), rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"total_stride": 16}, "total_stride is 16.* 8 .*or 4"),
        ({"exemplar_size_px": 128}, "exemplar_size_px is 128.* 87 plus a multiple of 8.* 127"),
        ({"search_size_px": 79}, "search_size_px is 79"),
        ({"search_size_px": 119}, "search_size_px is 119; it must be at least .*127"),
        ({"out_channels": 33}, "out_channels is 33.*even"),
    ],
)
def test_impossible_configurations_are_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SiamFCConfig(**fields)  # type: ignore[arg-type]
