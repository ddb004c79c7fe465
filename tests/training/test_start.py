"""Where a run begins: weights of the same network, whatever the sizes of its crops."""

import numpy as np
import pytest
import torch

from siamtrack.errors import ConfigError
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.siamfc import SiamFCConfig
from siamtrack.models.weights import load_network
from siamtrack.training.config import NetworkChoice
from siamtrack.training.train import make_network


def test_weights_go_on_at_another_search_size():
    choice = NetworkChoice(config={"search_size_px": 192}, start="siamtrack-lite0")
    network, begun = make_network(choice), load_network("siamtrack-lite0")
    assert network.config.search_size_px == 192
    for name, value in begun.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)


def test_siamfc_goes_on_at_another_exemplar_size():
    choice = NetworkChoice("siamfc", {"exemplar_size_px": 111, "search_size_px": 239}, "siamfc")
    network, begun = make_network(choice), load_network("siamfc")
    for name, value in begun.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)


def test_parts_of_a_smaller_exemplar_weigh_what_the_parts_at_their_place_did():
    big = SiamTrackLite0(Lite0Config(neck_channels=8, head_channels=4))
    row, column = np.mgrid[0:1:8j, 0:1:8j]
    weight = big.fuse_pixelwise[0].weight
    with torch.no_grad():
        for k in range(4):
            plane = torch.from_numpy(1.0 + k * row - 2.0 * column).float()
            weight[k, :64, 0, 0] = plane.flatten()
    config = Lite0Config(exemplar_size_px=96, kernel_cells=3, neck_channels=8, head_channels=4)
    state = big.resized_state_dict(config)
    row, column = np.mgrid[0:1:6j, 0:1:6j]
    for k in range(4):
        expected = (1.0 + k * row - 2.0 * column) * 64 / 36
        found = state["fuse_pixelwise.0.weight"][k, :36, 0, 0].reshape(6, 6).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(state["fuse_pixelwise.0.weight"][:, 36:], weight[:, 64:])
    small = SiamTrackLite0(config)
    small.load_state_dict(state)
    assert big.fuse_pixelwise[0].weight.shape[1] == 72


@pytest.mark.parametrize(
    ("config", "word"),
    [({"neck_channels": 64}, "neck_channels"), ({"head_channels": 32, "kernel_cells": 2}, "head_")],
)
def test_weights_of_another_network_are_refused(config, word):
    with pytest.raises(ConfigError, match=rf"'siamtrack-lite0': weights of .* differs in {word}"):
        make_network(NetworkChoice(config=config, start="siamtrack-lite0"))


def test_weights_of_another_architecture_are_refused():
    with pytest.raises(ConfigError, match=r"weights of siamfc .* do not fit Lite0Config"):
        make_network(NetworkChoice(start="siamfc"))
    with pytest.raises(ConfigError, match="differs in its class"):
        load_network("siamfc").resized_state_dict(_OtherConfig())


class _OtherConfig(SiamFCConfig):
    """The same fields in another class."""
