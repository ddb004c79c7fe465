"""Where a run begins: weights of the same network, whatever the size of its search crop."""

import pytest
import torch

from siamtrack.errors import ConfigError
from siamtrack.models.weights import load_network
from siamtrack.training.config import NetworkChoice
from siamtrack.training.start import make_network


def test_weights_go_on_at_another_search_size():
    choice = NetworkChoice(config={"search_size_px": 192}, start="siamtrack-lite0")
    network, begun = make_network(choice), load_network("siamtrack-lite0")
    assert network.config.search_size_px == 192
    for name, value in begun.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)


def test_weights_of_another_network_are_refused():
    with pytest.raises(ConfigError, match="give weights of the same network"):
        make_network(NetworkChoice(config={"kernel_cells": 2}, start="siamtrack-lite0"))
