"""Each batched change of color or sharpness equals OpenCV's on the same numbers."""

import cv2
import numpy as np
import pytest
import torch

from siamtrack.data.augment import AugmentConfig, ColorJitter, blur_along, degrade
from siamtrack.data.augment import to_gray as to_gray_bgr
from siamtrack.data.batched import colors as module
from siamtrack.data.batched.colors import (
    ColorChanges,
    add_noise,
    blur,
    gaussian_kernels,
    line_kernels,
    resample_through,
    turn_gray,
)
from siamtrack.data.batched.dice import Dice
from siamtrack.data.batched.jpeg import compress

from .conftest import picture

SIZE = 104  # no multiple of 16, which is what JPEG works in


@pytest.fixture
def images(rng):
    """Five (S, S, 3) BGR pictures, each sharper than the one before."""
    made = []
    for sigma in (8, 5, 3, 2, 1):
        noise = cv2.GaussianBlur(rng.random((SIZE, SIZE, 3), np.float32), (0, 0), sigma)
        noise = (noise - noise.min()) / np.ptp(noise)
        made.append((noise * 255).astype(np.uint8))
    return made


def to_batch(images_bgr):
    return torch.tensor(np.stack(images_bgr)[..., ::-1].copy()).float()


def off(batch, images_bgr):
    """Mean absolute difference of each image, gray levels."""
    return np.abs(batch.numpy() - np.stack(images_bgr)[..., ::-1]).mean(axis=(1, 2, 3))


ALL = torch.arange(5)


def test_colors_change_as_the_loader_changes_them(images):
    changes = ColorChanges.draw(Dice(3), 0.3, 5)
    wanted = []
    for k, image in enumerate(images):
        red, green, blue = changes.tint_rgb[k].tolist()
        jitter = ColorJitter(
            float(changes.gain[k]), float(changes.bias[k]), float(changes.gamma[k]),
            float(changes.saturation[k]), (blue, green, red),
        )  # fmt: skip
        wanted.append(jitter.apply(image))
    assert off(changes.apply(to_batch(images)), wanted).max() < 0.1
    # A row that is there twice is changed alike.
    rows = torch.tensor([2, 2])
    twice = changes.of(rows).apply(to_batch([images[0], images[0]]))
    assert torch.equal(twice[0], twice[1])


def test_only_the_rows_that_are_named_turn_gray(images):
    batch = to_batch(images)
    turn_gray(batch, torch.tensor([1, 4]))
    wanted = [to_gray_bgr(image) if k in (1, 4) else image for k, image in enumerate(images)]
    assert off(batch, wanted).max() < 0.02
    turn_gray(batch, torch.tensor([], dtype=torch.int64))


def test_defocus_equals_opencvs(images):
    sigma = torch.tensor([0.6, 0.9, 1.4, 2.0, 2.5], dtype=torch.float64)
    batch = to_batch(images)
    blur(batch, ALL, gaussian_kernels(sigma))
    wanted = [cv2.GaussianBlur(i, (0, 0), s) for i, s in zip(images, sigma.tolist(), strict=True)]
    assert off(batch, wanted).max() < 0.3


@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 4, 1.2, np.pi / 2, 2.5, 3.1, -2.0])
def test_motion_blur_equals_the_loaders(images, angle):
    lengths = torch.tensor([1, 3, 7, 15, 31])
    batch = to_batch(images)
    blur(batch, ALL, line_kernels(lengths, torch.full((5,), angle, dtype=torch.float64)))
    wanted = [blur_along(i, n, angle) for i, n in zip(images, lengths.tolist(), strict=True)]
    assert off(batch, wanted).max() < 1.5  # single pixels of a line lie one to the side
    unchanged = [i.astype(float) for i in images]
    assert (off(batch, unchanged)[3:] > 5).all()  # so that the tolerance means something


def test_shrinking_and_enlarging_equals_opencvs(images):
    small = torch.tensor([4, 16, 37, 60, 72])
    batch = to_batch(images)
    resample_through(batch, ALL, small)
    wanted = []
    for image, side in zip(images, small.tolist(), strict=True):
        reduced = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        wanted.append(cv2.resize(reduced, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR))
    assert off(batch, wanted).max() < 0.6


@pytest.mark.parametrize(("gray", "most"), [(True, 0.35), (False, 2.0)])
@pytest.mark.parametrize("quality", [15, 40, 69])
def test_compression_equals_libjpegs(images, quality, gray, most):
    images = [to_gray_bgr(image) if gray else image for image in images]
    found = compress(to_batch(images), torch.full((5,), float(quality)))
    wanted = []
    for image in images:
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        wanted.append(cv2.imdecode(data, cv2.IMREAD_COLOR))
    lost = off(to_batch(images), wanted)
    assert off(found, wanted).max() < most
    assert (off(found, wanted) < 0.6 * lost).all()


def test_noise_has_the_strength_that_is_asked_for_and_no_other_row_changes():
    batch = torch.full((3, 64, 64, 3), 128.0)
    add_noise(batch, torch.tensor([0, 2]), torch.tensor([3.0, 9.0]), seed=5)
    assert batch[0].std().item() == pytest.approx(3, rel=0.05)
    assert batch[2].std().item() == pytest.approx(9, rel=0.05)
    assert (batch[1] == 128).all()
    again = torch.full((3, 64, 64, 3), 128.0)
    add_noise(again, torch.tensor([0, 2]), torch.tensor([3.0, 9.0]), seed=5)
    assert torch.equal(batch, again)


@pytest.mark.parametrize("name", ["blur", "downsample", "noise", "jpeg"])
def test_each_degradation_comes_as_often_and_as_strong_as_the_loaders(name):
    """Change of a detailed picture: its share of 300, and mean and spread where there is one."""
    image = picture(np.random.default_rng(0), 64, 64)
    image = cv2.addWeighted(image, 0.7, np.random.default_rng(1).integers(
        0, 255, (64, 64, 3), dtype=np.uint8), 0.3, 0)  # fmt: skip
    off_config = dict.fromkeys(("blur", "downsample", "noise", "jpeg"), 0.0)
    config = AugmentConfig(**{**off_config, name: 0.4})
    rng = np.random.default_rng(2)
    theirs = to_batch([degrade(image, config, rng) for _ in range(300)])
    ours = to_batch([image] * 300)
    module.degrade(ours, config, Dice(5))
    before = to_batch([image])
    changes = [(b - before).abs().mean(dim=(1, 2, 3)) for b in (ours, theirs)]
    shares = [float((c > 0).float().mean()) for c in changes]
    np.testing.assert_allclose(shares, 0.4, atol=0.085)  # three standard deviations
    ours_mean, theirs_mean = (float(c[c > 0].mean()) for c in changes)
    spread = float(changes[1][changes[1] > 0].std())
    assert abs(ours_mean - theirs_mean) < 4 * spread / np.sqrt(120)
    assert float(changes[0][changes[0] > 0].std()) == pytest.approx(spread, rel=0.3)


def test_nothing_is_degraded_with_probabilities_of_zero(images):
    batch = to_batch(images)
    module.degrade(batch, AugmentConfig(blur=0, downsample=0, jpeg=0, noise=0), Dice(0))
    assert torch.equal(batch, to_batch(images))
