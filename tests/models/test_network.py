"""What all networks share: the target mask, and old names."""

import numpy as np
import pytest
import torch

from siamtrack.engines.base import target_mask_array
from siamtrack.models import network as network_module
from siamtrack.models.config import Lite0Config, SiamFCConfig
from siamtrack.models.network import SiameseNetwork, coverage, target_mask
from siamtrack.models.siamfc import SiamFC


def test_coverage_by_hand():
    # From (8, 0), 16 wide and 24 high, on cells of 16 px.
    mask = coverage(torch.tensor([[8.0, 0.0, 16.0, 24.0]]), 3, 16)[0, 0]
    expected = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.25, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(mask, expected)


@pytest.mark.parametrize(
    "config", [Lite0Config(), Lite0Config(exemplar_size_px=64), SiamFCConfig()]
)
def test_engines_and_training_use_the_same_mask(config, rng):
    """To the last bit: boxes in and around the exemplar, thin ones, in float64 as trackers do."""
    size = config.exemplar_size_px
    boxes = np.concatenate(
        [rng.uniform(-0.2 * size, size, (500, 2)), rng.uniform(0, size, (500, 2))], axis=1
    )
    boxes[:9, 2:] = 1e-3
    found = target_mask_array(boxes, config)
    expected = target_mask(torch.as_tensor(boxes, dtype=torch.float32), config).numpy()
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_old_names_are_found_with_a_warning():
    with pytest.warns(FutureWarning, match="'TrackerNetwork' is now 'SiameseNetwork'"):
        assert network_module.TrackerNetwork is SiameseNetwork
    with pytest.raises(AttributeError, match="no attribute 'Tracker'"):
        _ = network_module.Tracker


def test_methods_under_their_old_names_warn():
    network = SiamFC()
    with pytest.warns(FutureWarning, match="'exemplar_from' is now 'exemplar_from_tensors'"):
        assert network.exemplar_from([torch.ones(1)]) == torch.ones(1)
    with pytest.warns(FutureWarning, match="'state_at' is now 'resized_state_dict'"):
        assert network.state_at(network.config).keys() == network.state_dict().keys()
