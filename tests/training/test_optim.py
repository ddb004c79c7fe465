from itertools import pairwise

import pytest
import torch
from torch import nn

from siamtrack.errors import ConfigError
from siamtrack.models.lite0 import SiamTrackLite0
from siamtrack.models.siamfc import SiamFC
from siamtrack.training.config import OptimConfig
from siamtrack.training.optim import (
    MovingAverage,
    freeze,
    gradient_norm,
    learning_rate,
    make_optimizer,
    set_rate,
    to_training_mode,
)


def rates(steps=101, **options):
    config = OptimConfig(**{"rate": 1.0, "warmup_steps": 1, **options})
    return [learning_rate(s, steps, config) for s in range(steps)]


def test_cosine_falls_from_the_rate_to_its_final_share():
    found = rates(schedule="cosine", final_share=0.02)
    assert found[0] == 1.0
    assert found[50] == pytest.approx(0.51)
    assert found[100] == pytest.approx(0.02)
    assert found == sorted(found, reverse=True)


def test_geometric_falls_by_a_constant_factor():
    found = rates(schedule="geometric", final_share=1e-3)
    assert found[100] == pytest.approx(1e-3)
    factors = [b / a for a, b in pairwise(found)]
    assert factors == pytest.approx([1e-3 ** (1 / 100)] * 100)


def test_constant_stays_and_warm_up_rises():
    assert set(rates(schedule="constant")) == {1.0}
    found = rates(schedule="constant", warmup_steps=10)
    assert found[:10] == pytest.approx([0.1 * k for k in range(1, 11)])


def test_groups_have_their_factors_and_leave_frozen_weights_out():
    network = SiamTrackLite0()
    config = OptimConfig(frozen_stages=3, backbone_factor=0.1)
    freeze(network, config)
    optimizer = make_optimizer(network, config)
    set_rate(optimizer, 0.5)
    head, backbone = optimizer.param_groups
    assert (head["lr"], backbone["lr"]) == (0.5, 0.05)
    held = {id(p) for g in optimizer.param_groups for p in g["params"]}
    assert held == {id(p) for p in network.parameters() if p.requires_grad}
    assert {id(p) for p in backbone["params"]} == {
        id(p) for p in network.search_branch.backbone.stages[3:].parameters()
    }


def test_siamfc_trains_with_sgd_and_has_no_stages_to_freeze():
    network = SiamFC()
    optimizer = make_optimizer(network, OptimConfig(optimizer="sgd", frozen_stages=0))
    assert isinstance(optimizer, torch.optim.SGD) and len(optimizer.param_groups) == 1
    with pytest.raises(ConfigError, match="no stages to freeze"):
        freeze(network, OptimConfig(frozen_stages=2))


def test_frozen_batch_norm_keeps_its_statistics():
    network = SiamTrackLite0()
    config = OptimConfig(frozen_stages=0, frozen_batch_norm=True)
    freeze(network, config)
    to_training_mode(network, config)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(m.training or m.weight.requires_grad for m in norms)
    assert network.score_tower.training


def test_moving_average_by_hand():
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(0.0)
        average = MovingAverage(layer, decay=0.99)
        layer.weight.fill_(1.0)
        average.update(layer)  # keeps 1 / 10
        assert average.values["weight"].item() == pytest.approx(0.9)
        layer.weight.fill_(2.0)
        average.update(layer)  # keeps 2 / 11
    assert average.values["weight"].item() == pytest.approx(0.9 * 2 / 11 + 2 * 9 / 11)
    average.copy_to(layer)
    assert layer.weight.item() == pytest.approx(0.9 * 2 / 11 + 2 * 9 / 11)


def test_no_decay_follows_the_weights():
    layer = nn.BatchNorm1d(2)
    average = MovingAverage(layer, decay=0.0)
    layer(torch.randn(8, 2))
    average.update(layer)
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(average.values[name], value)


def test_gradients_are_clipped_to_the_norm():
    weight = torch.zeros(4, requires_grad=True)
    for clip, expected in ((1.0, 1.0), (0.0, 6.0)):
        weight.grad = torch.full((4,), 3.0)
        assert gradient_norm([weight], clip) == 6.0
        assert weight.grad.norm() == pytest.approx(expected, rel=1e-4)
