"""The depth-wise convolution is `nn.Conv2d` in its output and its gradients."""

import pytest
import torch
import torch.nn.functional as F

from siamtrack.models.depthwise import DepthwiseConv2d


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (7, 1), (3, 2), (5, 2)])
def test_gradients_are_those_of_conv2d(kernel, stride):
    torch.manual_seed(0)
    layer = DepthwiseConv2d(6, kernel, stride).double()
    x = torch.randn(2, 6, 11, 8, dtype=torch.double, requires_grad=True)
    inputs = [x, layer.weight, layer.bias]
    out = layer(x)
    reference = F.conv2d(x, layer.weight, layer.bias, stride, kernel // 2, groups=6)
    torch.testing.assert_close(out, reference)
    upstream = torch.randn_like(out)
    got = torch.autograd.grad(out, inputs, upstream)
    expected = torch.autograd.grad(reference, inputs, upstream)
    # Strided input gradients are taken in float32 or wider; float64 stays float64.
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(("kernel", "stride"), [(5, 1), (3, 2)])
def test_bfloat16_gradients_are_close_to_float32(kernel, stride):
    torch.manual_seed(0)
    layer = DepthwiseConv2d(8, kernel, stride)
    x = torch.randn(2, 8, 16, 16, requires_grad=True)
    exact = torch.autograd.grad(layer(x).square().sum(), [x, layer.weight])
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    rough = torch.autograd.grad(out.float().square().sum(), [x, layer.weight])
    for a, b in zip(rough, exact, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.02 * b.norm()


def test_frozen_weights_get_no_gradient():
    layer = DepthwiseConv2d(4, 3).requires_grad_(False)
    x = torch.randn(1, 4, 5, 5, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None and x.grad is not None


def test_state_dict_is_that_of_conv2d():
    plain = torch.nn.Conv2d(4, 4, 3, padding=1, groups=4)
    DepthwiseConv2d(4, 3).load_state_dict(plain.state_dict())
