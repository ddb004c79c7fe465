"""Correlations against loops over every cell."""

import pytest
import torch

from siamtrack.models.correlation import cross_correlate, depthwise_correlate, pixelwise_correlate


def features(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def slow_depthwise(z, x):
    b, c, height, width = x.shape
    h, w = z.shape[-2:]
    out = torch.zeros(b, c, height - h + 1, width - w + 1, dtype=x.dtype)
    for n in range(b):
        for k in range(c):
            for i in range(out.shape[2]):
                for j in range(out.shape[3]):
                    window = x[n, k, i : i + h, j : j + w]
                    out[n, k, i, j] = (window * z[min(n, len(z) - 1), k]).sum()
    return out


@pytest.mark.parametrize("exemplars", [1, 3])
def test_cross_correlation_is_the_loop(exemplars):
    z, x = features(exemplars, 4, 3, 2), features(3, 4, 7, 6, seed=1)
    expected = slow_depthwise(z, x).sum(dim=1, keepdim=True)
    torch.testing.assert_close(cross_correlate(z, x), expected)


@pytest.mark.parametrize("exemplars", [1, 3])
def test_depthwise_correlation_is_the_loop(exemplars):
    z, x = features(exemplars, 4, 3, 2), features(3, 4, 7, 6, seed=1)
    torch.testing.assert_close(depthwise_correlate(z, x), slow_depthwise(z, x))


def test_padding_adds_zeros_around_the_search():
    z, x = features(1, 2, 3, 3), features(1, 2, 5, 5, seed=1)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    torch.testing.assert_close(depthwise_correlate(z, x, padding=1), slow_depthwise(z, padded))


@pytest.mark.parametrize("exemplars", [1, 2])
def test_pixelwise_correlation_is_the_loop(exemplars):
    z, x = features(exemplars, 5, 2, 3), features(2, 5, 4, 6, seed=1)
    got = pixelwise_correlate(z, x)
    assert got.shape == (2, 6, 4, 6)
    for n in range(2):
        for k in range(6):
            cell = z[min(n, len(z) - 1), :, k // 3, k % 3]
            expected = (x[n] * cell[:, None, None]).sum(dim=0)
            torch.testing.assert_close(got[n, k], expected)


@pytest.mark.parametrize("correlate", [cross_correlate, depthwise_correlate, pixelwise_correlate])
def test_features_that_do_not_pair_are_refused(correlate):
    with pytest.raises(ValueError, match="do not pair"):
        correlate(features(2, 4, 2, 2), features(3, 4, 5, 5))
    with pytest.raises(ValueError, match="do not pair"):
        correlate(features(1, 3, 2, 2), features(3, 4, 5, 5))
