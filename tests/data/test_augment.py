"""Augmentation: each change does what it says, no more, and the same for the same randomness."""

from dataclasses import replace

import numpy as np
import pytest

from siamtrack.data.augment import (
    AugmentConfig,
    ColorJitter,
    augment_pair,
    degrade,
    paste,
    paste_object,
    place_beside,
    to_gray,
)
from siamtrack.geometry import iou

OFF = AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0, 0)
NOTHING = ColorJitter(1.0, 0.0, 1.0, 1.0, (1.0, 1.0, 1.0))


@pytest.fixture
def picture(rng):
    smooth = np.linspace(30, 220, 128)[None, :, None] + np.linspace(-20, 20, 128)[:, None, None]
    noisy = smooth * np.array([1.0, 0.8, 0.6]) + rng.normal(0, 12, (128, 128, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def test_no_change_changes_nothing(picture, rng):
    assert np.abs(NOTHING.apply(picture).astype(int) - picture).max() <= 1
    np.testing.assert_array_equal(degrade(picture, OFF, rng), picture)
    for out in augment_pair(picture, picture, OFF, rng)[:2]:
        np.testing.assert_array_equal(out, picture)
    assert ColorJitter.draw(rng, 0.0) == NOTHING


@pytest.mark.parametrize(
    ("change", "value", "expected"),
    [
        ({"gain": 2.0}, (100, 100, 100), (72, 72, 72)),  # about the middle, 128
        ({"bias": 20.0}, (100, 100, 100), (120, 120, 120)),
        ({"bias": 200.0}, (100, 100, 100), (255, 255, 255)),
        ({"gamma": 2.0}, (128, 128, 128), (64, 64, 64)),
        ({"saturation": 0.0}, (0, 0, 255), (76, 76, 76)),  # luma of red: 0.299
        ({"tint_bgr": (0.5, 1.0, 1.0)}, (100, 100, 100), (50, 100, 100)),
    ],
)
def test_each_number_of_a_color_change(change, value, expected):
    image = np.full((4, 4, 3), value, np.uint8)
    out = replace(NOTHING, **change).apply(image)
    assert out.dtype == np.uint8
    np.testing.assert_allclose(out.reshape(-1, 3), [expected] * 16, atol=1)
    np.testing.assert_array_equal(image, np.full((4, 4, 3), value))  # the input stays


def test_gray_has_three_equal_channels(picture):
    gray = to_gray(picture)
    assert gray.shape == picture.shape and np.ptp(gray.astype(int), axis=2).max() == 0


def sharpness(image):
    return float(np.abs(np.diff(image.astype(float), axis=1)).mean())


@pytest.mark.parametrize("kind", ["blur", "downsample", "jpeg", "noise"])
def test_each_degradation_by_itself(picture, kind):
    config = replace(OFF, **{kind: 1.0})
    for seed in range(12):
        out = degrade(picture, config, np.random.default_rng(seed))
        assert out.shape == picture.shape and out.dtype == np.uint8
        assert not np.array_equal(out, picture)
        assert abs(out.mean() - picture.mean()) < 3  # none of them brightens or shifts
        if kind in ("blur", "downsample"):
            assert sharpness(out) < sharpness(picture)
        if kind == "noise":
            assert sharpness(out) > sharpness(picture)


def test_degradations_have_the_given_probability(picture):
    config = replace(OFF, jpeg=0.3)
    rng = np.random.default_rng(0)
    changed = sum(not np.array_equal(degrade(picture, config, rng), picture) for _ in range(200))
    assert 40 < changed < 80


def test_a_fully_joint_color_change_is_the_same_for_both(picture, rng):
    z, x, _ = augment_pair(picture, picture, replace(OFF, color=0.5, color_joint=1.0), rng)
    assert np.abs(z.astype(int) - x).max() <= 1
    assert np.abs(z.astype(int) - picture).mean() > 2
    z, x, _ = augment_pair(picture, picture, replace(OFF, color=0.5, color_joint=0.0), rng)
    assert np.abs(z.astype(int) - x).mean() > 2


def test_a_pair_is_gray_together(picture):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pair = augment_pair(picture, picture, replace(OFF, gray=0.5), rng)[:2]
        gray = {bool(np.ptp(image.astype(int), axis=2).max() == 0) for image in pair}
        assert len(gray) == 1


def test_the_same_randomness_gives_the_same_images(picture):
    strong = AugmentConfig(0.5, 0.5, 0.5, 1, 1, 1, 1, 1, 1)
    one, two = (
        augment_pair(picture, picture, strong, np.random.default_rng(7))[:2] for _ in range(2)
    )
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("corner", [(50, 60), (-10, -10), (115, 118)])
def test_paste_changes_only_the_pixels_under_the_patch(corner):
    for seed in range(6):
        image = np.full((128, 128, 3), 40, np.uint8)
        paste(image, np.full((20, 30, 3), 200, np.uint8), corner, np.random.default_rng(seed))
        x, y = corner
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + 30, 128), min(y + 20, 128)
        outside = image.copy()
        outside[top:bottom, left:right] = 40
        assert (outside == 40).all()
        assert image[top:bottom, left:right].max() > 150


def test_a_patch_outside_the_image_changes_nothing(rng):
    image = np.full((64, 64, 3), 40, np.uint8)
    paste(image, np.full((8, 8, 3), 200, np.uint8), (64, 10), rng)
    paste(image, np.full((8, 8, 3), 200, np.uint8), (10, -8), rng)
    assert (image == 40).all()


def test_places_beside_a_box_leave_it_nearly_free(rng):
    box = np.array([100.0, 90.0, 50.0, 70.0])
    found = [place_beside(box, (40, 40), 256, rng) for _ in range(200)]
    assert sum(place is None for place in found) < 20
    for place in found:
        if place is not None:
            assert iou(np.array([*place, 40, 40]), box) < 0.05
            assert 0 <= place[0] + 20 < 256 and 0 <= place[1] + 20 < 256


def test_a_box_as_large_as_the_image_leaves_no_room(rng):
    box = np.array([0.0, 0.0, 256.0, 256.0])
    x = np.zeros((256, 256, 3), np.uint8)
    assert place_beside(box, (40, 40), 256, rng) is None
    pasted = paste_object(x, box, x + 200, np.array([5.0, 5, 9, 9]), rng, cover=False)
    assert pasted is None and not x.any()


@pytest.mark.parametrize("cover", [False, True])
def test_a_pasted_object_is_in_the_box_that_is_returned(cover):
    box = np.array([100.0, 90.0, 50.0, 70.0])
    other = np.full((80, 80, 3), 60, np.uint8)
    other[30:50, 20:60] = 250
    for seed in range(20):
        x = np.zeros((256, 256, 3), np.uint8)
        found = paste_object(
            x, box, other, np.array([20.0, 30, 40, 20]), np.random.default_rng(seed), cover=cover
        )
        if found is None:
            continue
        left, top, w, h = found
        marks = np.argwhere(x[:, :, 0] > 0)
        assert len(marks)
        assert (marks.min(axis=0) >= [top, left]).all()
        assert (marks.max(axis=0) < [top + h, left + w]).all()
        assert x.max() > 200  # the object itself, not its surroundings
        covered = x[90:160, 100:150].any()
        assert covered if cover else iou(found, box) < 0.05
