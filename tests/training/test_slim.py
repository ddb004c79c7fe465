"""Slimming: which channels stay, what the narrow network computes, and what distillation learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from siamtrack.errors import ConfigError, OutputError, TrainingError
from siamtrack.models.efficientnet import lite0_inner_channels
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.siamfc import SiamFC
from siamtrack.models.weights import load_network, read_card, save_network
from siamtrack.training.config import LoopConfig, OptimConfig, TrainConfig
from siamtrack.training.slim import choose_channels, distill, slim_weights, slimmed

SMALL = Lite0Config(
    exemplar_size_px=64, search_size_px=96, neck_channels=16, head_channels=16, kernel_cells=2
)


@pytest.fixture
def wide():
    torch.manual_seed(0)
    return SiamTrackLite0(SMALL).eval()


def pictures(count, size_px=96, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 12, 12, generator=generator) * 255
    return nn.functional.interpolate(coarse, (size_px, size_px), mode="bilinear")


def test_channels_that_copy_others_are_left_out_and_made_up_for():
    # Of six channels three are linear in the others: the output does not need them.
    rng = np.random.default_rng(0)
    free = rng.normal(size=(500, 3))
    cells = torch.from_numpy(np.column_stack([free, free @ rng.normal(size=(3, 3)) + 2.0]))
    weight, bias = torch.from_numpy(rng.normal(size=(4, 6))), torch.from_numpy(rng.normal(size=4))
    channels, best, new_bias = choose_channels(
        weight, bias, cells.mean(dim=0), torch.cov(cells.T, correction=0), count=3
    )
    wanted = cells @ weight.T + bias
    found = cells[:, channels].float() @ best.T + new_bias
    torch.testing.assert_close(found.double(), wanted, atol=1e-2, rtol=1e-2)


def test_the_channel_that_matters_least_goes_first():
    # Independent channels: what one adds to the output is its variance times its weight squared.
    spread = torch.tensor([3.0, 1.0, 2.0, 0.5])
    channels, best, _ = choose_channels(
        torch.ones(1, 4), torch.zeros(1), torch.zeros(4), torch.diag(spread**2), count=2
    )
    assert channels.tolist() == [0, 2]
    torch.testing.assert_close(best, torch.ones(1, 2), atol=1e-4, rtol=0)


def test_as_many_channels_compute_the_same(wide):
    same = slimmed(wide, lite0_inner_channels()[:3], pictures(4))
    with torch.inference_mode():
        for ours, theirs in zip(
            same.search_branch.backbone(same.normalize(pictures(2, seed=1))),
            wide.search_branch.backbone(wide.normalize(pictures(2, seed=1))),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-2)


def test_a_narrow_network_has_the_channels_asked_for_and_the_same_heads(wide):
    slim = slimmed(wide, [16, 48, 64], pictures(4))
    backbone = slim.search_branch.backbone
    assert [block.depthwise.in_channels for block in backbone.blocks()[:4]] == [16, 48, 64, 144]
    assert backbone.stem.out_channels == 16
    assert slim.config == replace(SMALL, inner_channels=(16, 48, 64))
    assert torch.equal(slim.box.weight, wide.box.weight)


def test_distillation_brings_the_features_nearer_and_leaves_the_rest(wide):
    slim = slimmed(wide, [16, 48], pictures(4))
    heads = {name: value.clone() for name, value in slim.state_dict().items() if "tower" in name}
    losses = []
    distill(
        slim, wide, (pictures(4, seed=step) for step in range(30)),
        OptimConfig(rate=3e-3, warmup_steps=1, ema_decay=0.5), steps=30,
        on_step=lambda _, loss: losses.append(loss),
    )  # fmt: skip
    assert len(losses) == 30 and np.mean(losses[-5:]) < 0.7 * np.mean(losses[:2])
    assert not slim.training
    for name, value in heads.items():
        assert torch.equal(slim.state_dict()[name], value)


def test_what_was_slimmed_is_slimmed_further_after_the_first_teacher(wide, tmp_path, clips_cache):
    start, first, second = (tmp_path / f"{name}.safetensors" for name in ("wide", "one", "two"))
    save_network(wide, start, training_data=["clips"], license="CC0-1.0")
    loop = LoopConfig(steps=1, batch_size=2, workers=0, device="cpu")
    config = TrainConfig(cache=str(clips_cache), loop=loop)
    slim_weights(config, first, str(start), [16, 48])
    slim_weights(config, second, str(first), [16, 40, 64], teacher=str(start))
    assert load_network(second).config.inner_channels == (16, 40, 64)
    assert "features of wide.safetensors" in read_card(second).notes

    # Blocks that are not named keep what they have.
    third = tmp_path / "three.safetensors"
    slim_weights(config, third, str(second), [8])
    assert load_network(third).config.inner_channels == (8, 40, 64)
    narrow, source = load_network(third).state_dict(), load_network(second).state_dict()
    alike = [name for name in source if narrow[name].shape == source[name].shape]
    assert {name.split(".")[2] for name in source if name not in alike} <= {"stem", "stages"}
    assert not [name for name in source if ".stages.1." in name and name not in alike]

    # Teachers of another kind or size teach nothing.
    save_network(SiamFC(), tmp_path / "fc.safetensors", training_data=[], license="CC0-1.0")
    with pytest.raises(ConfigError, match="has architecture siamfc, not siamtrack-lite0"):
        slim_weights(
            config,
            tmp_path / "x.safetensors",
            str(first),
            [8],
            teacher=str(tmp_path / "fc.safetensors"),
        )


def test_a_loss_that_is_not_finite_ends_it(wide):
    slim = slimmed(wide, [16], pictures(2))
    broken = (torch.full((2, 3, 96, 96), float("nan")) for _ in range(3))
    with pytest.raises(TrainingError, match=r"step 0 is nan; lower optim\.rate"):
        distill(slim, wide, broken, OptimConfig(), steps=3)


def test_slim_weights_writes_a_network_that_loads_with_its_card(wide, tmp_path, clips_cache):
    start, out = tmp_path / "wide.safetensors", tmp_path / "slim.safetensors"
    save_network(
        wide, start, training_data=["clips"], license="CC0-1.0", tracker={"window_influence": 0.2}
    )
    loop = LoopConfig(steps=2, batch_size=2, workers=0, checkpoint_every=1, device="cpu")
    config = TrainConfig(cache=str(clips_cache), loop=loop)
    assert slim_weights(config, out, str(start), [16, 48]) == out
    network, card = load_network(out), read_card(out)
    assert network.config == replace(SMALL, inner_channels=(16, 48))
    assert card.tracker == {"window_influence": 0.2} and card.training_data[0] == "clips"
    assert 0 < card.figures["feature_cosine_neck"] <= 1 and "2 steps (of 2) of 2" in card.notes

    # A name that cannot be is noticed before anything is learned.
    with pytest.raises(OutputError, match="must end in"):
        slim_weights(config, tmp_path / "slim.bin", str(start), [16], on_step=pytest.fail)

    # Nothing is written over, but one may go on from it; with other channels it is another network.
    with pytest.raises(OutputError, match="--resume"):
        slim_weights(config, out, str(start), [16, 48])
    slim_weights(config, out, str(start), [16, 48], resume=True)
    with pytest.raises(ConfigError, match="another file"):
        slim_weights(config, out, str(start), [16, 32], resume=True)


@pytest.mark.parametrize("channels", [[], [64], [16, 97], [16] * 12, [0]])
def test_numbers_of_channels_that_cannot_be(wide, channels):
    with pytest.raises(ConfigError, match=r"inner.channels"):
        slimmed(wide, channels, pictures(1))


def test_other_networks_are_refused(wide):
    with pytest.raises(ConfigError, match="cannot be slimmed"):
        slimmed(SiamFC(), [16], pictures(1))
    with pytest.raises(ConfigError, match="one branch"):
        slimmed(SiamTrackLite0(replace(SMALL, pseudo_siamese=True)), [16], pictures(1))
    with pytest.raises(ConfigError, match="no features to distill"):
        distill(wide, SiamFC(), [], OptimConfig(), steps=1)
