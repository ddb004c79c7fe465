"""The default network: shapes, equivariance, masks and pretrained weights."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from siamtrack.errors import ConfigError, WeightsError
from siamtrack.models.efficientnet import IMAGENET_BN_EPS, EfficientNetLite0
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.network import coverage

SMALL = Lite0Config(exemplar_size_px=64, search_size_px=128, neck_channels=8, head_channels=8)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SiamTrackLite0().eval()


def pictures(count, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)


def centered_mask(count, cells=8):
    return coverage(torch.tensor([[32.0, 32.0, 64.0, 64.0]] * count), cells, 16)


@torch.inference_mode()
def test_shapes(network):
    z = network.embed_exemplar(pictures(2, 128), centered_mask(2))
    x = network.embed_search(pictures(2, 256))
    out = network.correlate(z, x)
    assert z.cells.shape == (2, 96, 8, 8) and z.kernel.shape == (2, 96, 4, 4)
    assert x.shape == (2, 96, 16, 16)
    assert out.score_logits.shape == (2, 1, 16, 16)
    assert out.ltrb_px.shape == (2, 4, 16, 16) and (out.ltrb_px > 0).all()
    norms = out.embedding.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


@torch.inference_mode()
def test_other_search_sizes_give_other_responses(network):
    z = network.embed_exemplar(pictures(1, 128), centered_mask(1))
    for size in (128, 320):
        out = network.correlate(z, network.embed_search(pictures(1, size)))
        assert out.score_logits.shape[-1] == size // 16


@torch.inference_mode()
def test_shifting_the_search_by_the_stride_shifts_the_response_by_a_cell(network):
    """Away from the border, where the padding is seen."""
    z = network.embed_exemplar(pictures(1, 128), centered_mask(1))
    large = pictures(1, 1040)
    stride = network.config.total_stride
    a = network.correlate(z, network.embed_search(large[..., :1024, :1024]))
    b = network.correlate(z, network.embed_search(large[..., stride:, stride:]))
    inner = slice(28, -28)
    torch.testing.assert_close(
        a.score_logits[..., 29:-27, 29:-27], b.score_logits[..., inner, inner], atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(
        a.ltrb_px[..., 29:-27, 29:-27], b.ltrb_px[..., inner, inner], atol=1e-2, rtol=1e-3
    )


@torch.inference_mode()
def test_one_exemplar_meets_every_search(network):
    z = network.embed_exemplar(pictures(1, 128), centered_mask(1))
    x = network.embed_search(pictures(3, 256))
    together = network.correlate(z, x).score_logits
    for n in range(3):
        alone = network.correlate(z, x[n : n + 1]).score_logits
        torch.testing.assert_close(together[n : n + 1], alone, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_pairs_of_a_batch_do_not_mix(network):
    z, x, mask = pictures(2, 128), pictures(2, 256), centered_mask(2)
    both = network(z, x, mask).score_logits
    alone = network(z[1:], x[1:], mask[1:]).score_logits
    torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=1e-4)


def test_uint8_and_float_inputs_are_the_same(network):
    x = pictures(1, 128)
    with torch.inference_mode():
        torch.testing.assert_close(network.embed_search(x), network.embed_search(x.float()))


def test_branches_are_shared_unless_pseudo_siamese():
    shared, pseudo = SiamTrackLite0(), SiamTrackLite0(Lite0Config(pseudo_siamese=True))
    assert shared.exemplar_branch is shared.search_branch
    assert pseudo.exemplar_branch is not pseudo.search_branch

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(pseudo) == count(shared) + count(shared.search_branch)


def test_gradients_reach_every_trained_part():
    torch.manual_seed(0)
    network = SiamTrackLite0().train()
    nn.init.normal_(network.target_code)
    out = network(pictures(2, 128), pictures(2, 256), centered_mask(2))
    (out.score_logits.square().sum() + out.ltrb_px.log().square().sum()).backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_freezing_stops_at_the_stage():
    backbone = EfficientNetLite0()
    backbone.freeze_below(3)
    frozen = {n.split(".")[1] for n, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {"weight", "bias", "0", "1", "2"}
    trained = {n.split(".")[1] for n, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {"3", "4"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("exemplar_size_px", 127),
        ("search_size_px", 0),
        ("total_stride", 8),
        ("kernel_cells", 9),
        ("kernel_cells", 0),
    ],
)
def test_impossible_geometry_is_refused(field, value):
    with pytest.raises(ConfigError, match=field):
        Lite0Config(**{field: value})


def unfolded_state(backbone, seed=0):
    """A classifier's state dict in the published order, and the reference layers behind it."""
    generator = torch.Generator().manual_seed(seed)
    state, layers = {}, []
    for number, conv in enumerate(backbone.convolutions()):
        plain = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            groups=conv.groups,
            bias=False,
        )
        norm = nn.BatchNorm2d(conv.out_channels, eps=IMAGENET_BN_EPS).eval()
        for tensor in (norm.weight.data, norm.running_var):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        for tensor in (norm.bias.data, norm.running_mean):
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
        state[f"{number}.conv.weight"] = plain.weight.data
        state |= {f"{number}.bn.{k}": v for k, v in norm.state_dict().items()}
        layers.append(nn.Sequential(plain, norm))
    return state, layers


@torch.inference_mode()
def test_folded_imagenet_weights_equal_convolution_and_batch_norm():
    torch.manual_seed(0)
    backbone = EfficientNetLite0().eval()
    state, layers = unfolded_state(backbone)
    backbone.load_imagenet({**state, "classifier.weight": torch.zeros(10, 3)})
    for conv, reference in zip(backbone.convolutions(), layers, strict=True):
        x = torch.randn(1, conv.in_channels, 9, 9)
        torch.testing.assert_close(conv(x), reference(x), atol=1e-4, rtol=1e-4)


def test_imagenet_weights_of_another_network_are_refused():
    backbone = EfficientNetLite0()
    state, _ = unfolded_state(backbone)
    short = dict(list(state.items())[:30])
    with pytest.raises(WeightsError, match="convolutions and"):
        backbone.load_imagenet(short)
    state["3.conv.weight"] = torch.zeros(1, 2, 3, 3)
    with pytest.raises(WeightsError, match=r"3\.conv\.weight is \(1, 2, 3, 3\)"):
        backbone.load_imagenet(state)


def test_the_online_filter_can_have_features_of_its_own():
    own = replace(SMALL, filter_channels=4)
    old, new = SiamTrackLite0(SMALL).eval(), SiamTrackLite0(own).eval()
    new.load_state_dict(old.resized_state_dict(own))
    z = torch.randint(0, 256, (2, 3, own.exemplar_size_px, own.exemplar_size_px))
    x = torch.randint(0, 256, (2, 3, own.search_size_px, own.search_size_px))
    mask = torch.ones(2, 1, own.exemplar_cells, own.exemplar_cells)
    with torch.no_grad():
        before, after = old(z, x, mask), new(z, x, mask)
    # Nothing else changes.
    for name in ("score_logits", "ltrb_px", "embedding"):
        torch.testing.assert_close(getattr(before, name), getattr(after, name))
    assert torch.equal(before.filter_features, before.embedding)
    assert after.filter_features.shape[1] == 4
    torch.testing.assert_close(after.filter_features.norm(dim=1), torch.ones(2, *x.shape[2:])[
        :, : own.response_size, : own.response_size])  # fmt: skip

    # They start as directions of the neck: a linear function of its features finds them again.
    features = old.embed_search(x).movedim(1, -1).flatten(0, 2)
    wanted = new.embed_search(x)[:, own.neck_channels :].movedim(1, -1).flatten(0, 2)
    fit = torch.linalg.lstsq(features, wanted).solution
    torch.testing.assert_close(features @ fit, wanted, atol=1e-3, rtol=1e-3)
    with pytest.raises(ConfigError, match="filter_channels"):
        replace(SMALL, filter_channels=SMALL.neck_channels + 1)
