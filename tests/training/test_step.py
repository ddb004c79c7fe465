"""What a batch gives to the losses: regions, identities and triplets."""

from dataclasses import replace

import pytest
import torch

from siamtrack.errors import ConfigError
from siamtrack.losses.combined import build_loss
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.training.config import OptimConfig
from siamtrack.training.optim import freeze
from siamtrack.training.step import PairForward, compute_losses, pair_triplets

SIZES = Lite0Config(exemplar_size_px=32, search_size_px=64, neck_channels=8, kernel_cells=2,
                    head_channels=8)  # fmt: skip


def batch(has_distractor):
    torch.manual_seed(0)
    n = len(has_distractor)
    return {
        "z": torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8),
        "x": torch.randint(0, 256, (n, 3, 64, 64), dtype=torch.uint8),
        "z_box": torch.tensor([[8.0, 8, 16, 16]] * n),
        "x_box": torch.tensor([[0.0, 0, 32, 32]] * n),
        "positive": torch.tensor([True, True, False, True][:n]),
        "distractor_box": torch.tensor([[32.0, 32, 32, 32]] * n),
        "has_distractor": torch.tensor(has_distractor),
    }


class Recorder:
    """Stands in for a loss and keeps what it is given."""

    needs_embeddings = True
    needs_filter = False

    def evaluate(self, output, target):
        self.output, self.target = output, target
        return output.score_logits.sum(), {}


def recorded(has_distractor):
    network, loss = SiamTrackLite0(SIZES).eval(), Recorder()
    forward = PairForward(network, cross=False)
    compute_losses(forward, network, loss, batch(has_distractor), cross_negatives=0.0, seed=3)
    return network, loss


def test_the_distractor_region_is_in_the_table_with_an_identity_of_its_own():
    network, loss = recorded([True, False, False, True])
    ids = loss.target.identities.tolist()
    assert loss.output.embeddings.shape == (10, 8)
    assert ids[:4] == [0, 1, 2, 3] and ids[4:6] == [0, 1] and ids[7] == 3
    assert len({ids[6], ids[8], ids[9], 0, 1, 2, 3}) == 7
    x = network.embed_search(batch([True] * 4)["x"])
    unit = torch.nn.functional.normalize(x, dim=1)
    quarter = unit[:, :, 2:, 2:].mean(dim=(2, 3))  # the box covers the last quarter of the crop
    torch.testing.assert_close(loss.output.embeddings[8:], quarter[[0, 3]])


def test_triplets_take_the_distractor_or_the_next_pairs_search():
    _, loss = recorded([True, False, False, True])
    assert loss.target.triplets.tolist() == [[0, 4, 8], [1, 5, 6], [3, 7, 9]]
    for anchor, positive, negative in loss.target.triplets:
        ids = loss.target.identities
        assert ids[anchor] == ids[positive] != ids[negative]


def test_a_single_pair_without_distractor_gives_no_triplet():
    one = torch.tensor([True])
    assert pair_triplets(one, ~one).shape == (0, 3)
    assert pair_triplets(one, one).tolist() == [[0, 1, 2]]


def test_every_mining_trains_on_a_batch():
    network = SiamTrackLite0(SIZES)
    for mining in ("random", "batch-all", "batch-hard", "semi-hard", "offline"):
        loss = build_loss({"triplet": {"mining": mining, "distance": "cosine", "margin": 0.3}})
        network.zero_grad()
        total, _ = compute_losses(
            PairForward(network, cross=True), network, loss, batch([True, False, True, False]),
            cross_negatives=0.5, seed=0,
        )  # fmt: skip
        total.backward()
        assert network.search_branch.neck.weight.grad.abs().sum() > 0, mining


def test_the_filter_loss_gets_the_memory_windows_and_trains_its_own_features():
    sizes = replace(SIZES, filter_channels=4)
    network, loss = SiamTrackLite0(sizes), build_loss({"filter": 1.0})
    given = batch([False] * 3)
    given["memory"] = torch.randint(0, 256, (3, 2, 3, 64, 64), dtype=torch.uint8)
    given["memory_box"] = torch.tensor([[[16.0, 16, 32, 32], [0, 0, 16, 16]]] * 3)
    freeze(network, OptimConfig(only_filter=True))
    forward = PairForward(network, cross=False)
    total, _ = compute_losses(forward, network, loss, given, cross_negatives=0.0, seed=3)
    total.backward()
    trained = {name for name, p in network.named_parameters() if p.grad is not None}
    assert trained and all(name.startswith("search_branch.filter_neck.") for name in trained)

    # Cells begin every 16 px: (32, 32) is between the second and the third, (8, 8) the first.
    recorder = Recorder()
    recorder.needs_filter, recorder.needs_embeddings = True, False
    compute_losses(forward, network, recorder, given, cross_negatives=0.0, seed=3)
    assert recorder.target.filter_centers_xy[0].tolist() == [[1.5, 1.5], [0, 0], [0.5, 0.5]]
    features = recorder.output.filter_features
    assert features.shape == (3, 3, 4, 4, 4)
    alone = network.filter_features(network.embed_search(given["memory"][:, 1]))
    torch.testing.assert_close(features[:, 1], alone, atol=1e-5, rtol=1e-4)


def test_only_the_filter_cannot_be_trained_where_it_has_no_features():
    with pytest.raises(ConfigError, match="filter_channels"):
        freeze(SiamTrackLite0(SIZES), OptimConfig(only_filter=True))
