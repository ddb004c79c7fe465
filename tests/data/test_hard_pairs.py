"""Search images made harder: each switch does what it says, and nothing while it is off."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from siamtrack.data.augment import AugmentConfig
from siamtrack.data.hard_pairs import HardConfig, as_tiny, cover_from_side, harden
from siamtrack.data.pairs import PairConfig, PairDataset
from siamtrack.errors import ConfigError

BOX = np.array([120.0, 60.0, 40.0, 30.0])
TARGET, GROUND, OTHER = (30, 200, 30), (90, 90, 90), (250, 20, 20)
PLAIN = PairConfig(negative=0, augment=AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0, 0))


@pytest.fixture
def scene():
    """A green target on gray ground."""
    image = np.full((200, 200, 3), GROUND, np.uint8)
    image[60:90, 120:160] = TARGET
    return image


def other_object():
    return np.full((50, 50, 3), OTHER, np.uint8), np.array([0.0, 0.0, 50.0, 50.0])


def made_harder(scene, seed=0, distractor=None, **switches):
    distractor = np.zeros(4) if distractor is None else distractor
    rng = np.random.default_rng(seed)
    return harden(scene, BOX, distractor, HardConfig(**switches), other_object, rng)


def share(image, color, box=(0, 0, 200, 200)):
    """Share of a box's pixels that have a color."""
    x, y, w, h = box
    return (np.abs(image[y : y + h, x : x + w].astype(int) - color).max(axis=2) < 60).mean()


def test_switches_that_are_off_change_nothing(scene, squares):
    before = scene.copy()
    search = made_harder(scene)
    assert np.array_equal(search.image, before) and search.shows_target
    hard = replace(PLAIN, hard=HardConfig(motion_blur=0.5))
    for index in range(12):
        a, b = PairDataset(squares, PLAIN, seed=3)[index], PairDataset(squares, hard, seed=3)[index]
        assert torch.equal(a["z"], b["z"]) and torch.equal(a["x_box"], b["x_box"])


def test_the_background_is_another_picture_and_the_target_stays(scene):
    distractor = np.array([20.0, 20.0, 30.0, 30.0])
    search = made_harder(scene, background=1.0, distractor=distractor)
    assert share(search.image, GROUND) < 0.03 and share(search.image, OTHER) > 0.85
    assert share(search.image, TARGET, (130, 67, 20, 16)) == 1
    assert search.shows_target and not search.distractor_xywh.any()
    kept = made_harder(scene, motion_blur=1.0, distractor=distractor)
    assert np.array_equal(kept.distractor_xywh, distractor)


def test_an_absent_target_leaves_its_surroundings(scene):
    search = made_harder(scene, seed=1, absent=0.99)
    assert not search.shows_target
    assert share(search.image, TARGET, (120, 60, 40, 30)) < 0.1
    assert share(search.image, GROUND) > 0.97


def test_without_room_beside_it_the_target_stays():
    image = np.full((40, 40, 3), TARGET, np.uint8)
    box = np.array([-60.0, -60.0, 160.0, 160.0])
    rng = np.random.default_rng(0)
    search = harden(image, box, np.zeros(4), HardConfig(absent=0.99), other_object, rng)
    assert search.shows_target and np.array_equal(search.image, image)


def test_another_object_lies_in_the_old_place(scene):
    search = made_harder(scene, old_place=1.0)
    x, y, w, h = search.distractor_xywh.astype(int)
    assert abs(x + w / 2 - 100) < 2 and abs(y + h / 2 - 100) < 2
    assert share(search.image, OTHER, (x + w // 4, y + h // 4, w // 2, h // 2)) == 1
    assert share(search.image, TARGET, (120, 60, 40, 30)) > 0.9


def test_a_target_that_did_not_leave_keeps_its_place():
    image, box = np.full((200, 200, 3), GROUND, np.uint8), np.array([85.0, 80.0, 40.0, 30.0])
    rng = np.random.default_rng(0)
    search = harden(image, box, np.zeros(4), HardConfig(old_place=1.0), other_object, rng)
    assert not search.distractor_xywh.any() and np.array_equal(search.image, image)


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.9])
def test_the_occluder_covers_the_fraction_that_it_should(scene, fraction):
    for seed in range(8):  # all four sides are drawn
        image = scene.copy()
        cover_from_side(image, BOX, fraction, *other_object(), np.random.default_rng(seed))
        assert share(image, OTHER, (120, 60, 40, 30)) == pytest.approx(fraction, abs=0.17)


def test_a_target_that_is_nearly_hidden_is_a_negative(scene):
    found = [made_harder(scene, seed=seed, occluder=1.0) for seed in range(40)]
    hidden = [share(s.image, OTHER, (120, 60, 40, 30)) for s in found]
    shown = np.array([s.shows_target for s in found])
    assert 0.6 < shown.mean() < 0.9
    assert np.mean(np.array(hidden)[~shown]) > np.mean(np.array(hidden)[shown]) + 0.2


def test_blur_is_along_the_way_of_the_target():
    image = np.full((200, 200, 3), GROUND, np.uint8)
    image[70:130:, 150:190] = TARGET  # right of the middle
    box = np.array([150.0, 70.0, 40.0, 60.0])
    rng = np.random.default_rng(0)
    search = harden(image, box, np.zeros(4), HardConfig(motion_blur=1.0), other_object, rng)
    changed = np.abs(search.image.astype(int) - image).max(axis=2) > 8
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert len(columns) > 8 and rows.min() >= 68 and rows.max() <= 131


def test_tiny_targets_lose_their_detail_in_all_images_alike():
    rng = np.random.default_rng(0)
    fine = [np.kron(rng.integers(0, 255, (n, n, 3)), np.ones((2, 2, 1))) for n in (64, 104)]
    images = [image.astype(np.uint8) for image in fine]
    tiny = as_tiny(images, 64.0, rng)
    contrast = [np.std(a) / np.std(b) for a, b in zip(tiny, images, strict=True)]
    assert contrast[0] < 0.6 and contrast[0] == pytest.approx(contrast[1], abs=0.08)
    assert [t.shape for t in tiny] == [i.shape for i in images]
    assert as_tiny(images, 3.0, rng) is images


def test_pairs_with_everything_on_are_functions_of_seed_and_index(squares):
    hard = HardConfig(0.5, 0.3, 0.5, 0.5, 0.5, 0.5)
    a, b = (PairDataset(squares, replace(PLAIN, hard=hard), seed=3) for _ in range(2))
    for index in range(6):
        for key in ("z", "x", "x_box", "positive", "distractor_box"):
            assert torch.equal(a[index][key], b[index][key])
    hidden = [not a[index]["positive"] for index in range(40)]
    assert 0.2 < np.mean(hidden) < 0.7


def test_probabilities_are_checked():
    with pytest.raises(ConfigError, match=r"pairs\.hard\.tiny"):
        HardConfig(tiny=1.5)
    with pytest.raises(ConfigError, match="no pair shows its target"):
        HardConfig(absent=1.0)
