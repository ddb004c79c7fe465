"""The filter inside training is the one of run time, and its loss asks for what it should."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from siamtrack.errors import TrainingError
from siamtrack.losses.base import LossInput, LossTarget
from siamtrack.losses.combined import build_loss
from siamtrack.losses.online_filter import FilterLoss, gaussian_labels, respond, solve_ridge
from siamtrack.tracking import online_filter as runtime

CELLS, CHANNELS = 13, 8
CENTERS = torch.tensor([[6.0, 6.0], [5.3, 7.2], [8.0, 4.0]], dtype=torch.float64)


def random_features(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.rand(*shape, generator=generator, dtype=torch.float64) - 0.3, dim=-3)


@pytest.mark.parametrize("cells", [CELLS, CELLS - 1])
def test_the_filter_is_that_of_run_time(cells):
    loss = FilterLoss()
    constants = runtime.SIGMA_CELLS, runtime.TARGET_WEIGHT, runtime.RIDGE
    assert (loss.sigma_cells, loss.target_weight, loss.ridge) == constants

    features = random_features(2, 3, CHANNELS, cells, cells)
    label = gaussian_labels(CENTERS.expand(2, 3, 2), cells, loss.sigma_cells)
    ours = solve_ridge(features, label, target_weight=loss.target_weight, ridge=loss.ridge)
    for k in range(2):
        window = features[k].float().numpy()
        theirs = runtime.OnlineFilter.from_first_frame(window, CENTERS.numpy())
        expected = theirs.respond(window[1]).first
        found = respond(ours[k : k + 1], features[k : k + 1, 1])[0].numpy()
        # Theirs stops after 40 steps of conjugate gradients.
        np.testing.assert_allclose(found, expected, atol=0.02)
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


def test_targets_with_other_numbers_of_rows_do_not_change_each_other():
    features = random_features(2, 3, CHANNELS, CELLS, CELLS)
    centers = torch.stack([CENTERS, torch.full_like(CENTERS, -0.4)])  # in the corner: fewer rows
    label = gaussian_labels(centers, CELLS, 0.85)
    options = {"target_weight": 16.0, "ridge": 0.003}
    both = solve_ridge(features, label, **options)
    for k in range(2):
        alone = solve_ridge(features[k : k + 1], label[k : k + 1], **options)
        torch.testing.assert_close(both[k : k + 1], alone)


def loss_of(features, centers, shown=None, **options):
    batch = len(features)
    positive = torch.ones(batch, 1, CELLS, CELLS, dtype=torch.bool)
    if shown is not None:
        positive &= shown[:, None, None, None]
    target = LossTarget(positive, ~positive, filter_centers_xy=centers)
    output = LossInput(torch.zeros(batch, 1, CELLS, CELLS), filter_features=features)
    return FilterLoss(**options)(output, target)


def scene(target_xy, seed, channels=CHANNELS):
    """Features of clutter, and of one thing that looks the same in every window."""
    features = random_features(channels, CELLS, CELLS, seed=seed)
    look = random_features(channels, 3, 3, seed=77)
    x, y = target_xy
    features[:, y - 1 : y + 2, x - 1 : x + 2] = look
    return features


def test_what_finds_the_target_costs_less_than_what_finds_another_place():
    centers = torch.tensor([[[6.0, 6], [4, 8], [8, 5]]], dtype=torch.float64)
    windows = [scene((6, 6), 1), scene((4, 8), 2), scene((8, 5), 3)]
    right = loss_of(torch.stack(windows)[None], centers)
    wrong = loss_of(torch.stack([*windows[:2], scene((3, 3), 3)])[None], centers)
    assert right < wrong - 1


def test_a_target_that_is_not_there_must_not_be_found():
    centers = torch.tensor([[[6.0, 6], [4, 8], [8, 5]]], dtype=torch.float64)
    there = torch.stack([scene((6, 6), 1), scene((4, 8), 2), scene((8, 5), 3)])[None]
    gone = there.clone()
    gone[0, -1] = random_features(CHANNELS, CELLS, CELLS, seed=3)
    absent = torch.tensor([False])
    assert loss_of(gone, centers, absent, absent=1.0) < loss_of(there, centers, absent, absent=1.0)


def test_it_is_one_of_the_losses_and_says_what_it_needs():
    loss = build_loss({"filter": {"weight": 0.5, "temperature": 5.0}})
    assert loss.needs_filter and not loss.needs_embeddings
    assert not build_loss({"logistic": 1.0}).needs_filter
    cells = torch.ones(1, 1, CELLS, CELLS, dtype=torch.bool)
    with pytest.raises(TrainingError, match=r"pairs\.memory"):
        loss(LossInput(cells.float()), LossTarget(cells, ~cells))
