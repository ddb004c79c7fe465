"""The mean of networks: tensor by tensor, with the data of all of them on the card."""

import pytest
import torch

from siamtrack.errors import ConfigError, OutputError, WeightsError
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.siamfc import SiamFC
from siamtrack.models.weights import load_network, read_card, save_network
from siamtrack.training.average import average_weights


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    for seed, name in enumerate(("a", "b")):
        torch.manual_seed(seed)
        save_network(
            SiamTrackLite0(Lite0Config(neck_channels=16, head_channels=16)),
            folder / f"{name}.safetensors",
            training_data=["clips", name],
            license="CC0-1.0",
        )
    return folder / "a.safetensors", folder / "b.safetensors"


def test_every_tensor_is_the_mean(two, tmp_path):
    out = average_weights(tmp_path / "mean.safetensors", two)
    mean, (a, b) = load_network(out).state_dict(), (load_network(p).state_dict() for p in two)
    for name, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (a[name] + b[name]) / 2)
    card = read_card(out)
    assert card.training_data == ("clips", "a", "b")
    assert card.notes == "Mean of a.safetensors and b.safetensors."


def test_the_search_crop_gets_its_size(two, tmp_path):
    out = average_weights(tmp_path / "small.safetensors", two[:1], search_size_px=192)
    small, whole = load_network(out), load_network(two[0])
    assert small.config.search_size_px == 192
    assert torch.equal(small.state_dict()["score.weight"], whole.state_dict()["score.weight"])


def test_runs_with_search_crops_of_other_sizes_are_averaged_too(two, tmp_path):
    small = average_weights(tmp_path / "small.safetensors", two[1:], search_size_px=192)
    mixed = load_network(average_weights(tmp_path / "mixed.safetensors", [two[0], small]))
    alike = load_network(average_weights(tmp_path / "alike.safetensors", two))
    assert mixed.config == alike.config and mixed.config.search_size_px == 256
    for name, value in mixed.state_dict().items():
        assert torch.equal(value, alike.state_dict()[name])


def test_what_cannot_be_averaged_is_refused(two, tmp_path):
    other = tmp_path / "fc.safetensors"
    save_network(SiamFC(), other, training_data=[], license="CC0-1.0")
    with pytest.raises(WeightsError, match="average weights of one network"):
        average_weights(tmp_path / "x.safetensors", [two[0], other])
    with pytest.raises(ConfigError, match="no weights to average"):
        average_weights(tmp_path / "x.safetensors", [])
    with pytest.raises(ConfigError, match="search_size_px is 200"):
        average_weights(tmp_path / "x.safetensors", two, search_size_px=200)
    with pytest.raises(OutputError, match="exist"):
        average_weights(two[1], two)
