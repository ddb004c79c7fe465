"""Pasted objects and harder search images: what is covered, where, and with which label."""

import numpy as np
import pytest
import torch

from siamtrack.data.augment import paste
from siamtrack.data.batched.dice import Dice
from siamtrack.data.batched.draws import CropDraws, overlap_area
from siamtrack.data.batched.hard import (
    as_tiny,
    draw_from_side,
    draw_in_old_place,
    draw_tiny,
    harden,
    take_out,
)
from siamtrack.data.batched.objects import Patches, draw_on_outline, patch_alpha, place_beside
from siamtrack.data.hard_pairs import HardConfig
from siamtrack.data.pairs import PairConfig

from .conftest import CPU

SIZE = 128
BOXES = torch.tensor([[40.0, 50, 40, 30], [5, 5, 20, 50], [80, 90, 30, 30]]).double()


@pytest.mark.parametrize("elliptic", [False, True])
@pytest.mark.parametrize("wh", [(6, 40), (33, 21), (90, 90), (25, 160)])
def test_patches_blend_as_the_loader_blends_them(wh, elliptic):
    """A white patch onto black shows the mask; partly outside of the image, too."""
    for corner in ((10, 20), (-5, 100), (90, -8)):
        black = np.zeros((SIZE, SIZE, 3), np.uint8)
        white = np.full((wh[1], wh[0], 3), 255, np.uint8)
        probability = 1.0 if elliptic else 0.0
        paste(black, white, corner, np.random.default_rng(0), elliptic=probability)
        patches = Patches(
            torch.tensor([corner]).double(), torch.tensor([wh]).double(), torch.tensor([elliptic])
        )
        alpha = patch_alpha(patches, SIZE, CPU)[0, :, :, 0].numpy()
        off = np.abs(alpha * 255 - black[:, :, 0])
        covered = max((black[:, :, 0] > 0).sum(), 100)
        most = (10 if min(wh) > 10 else 30) if elliptic else 1.0  # an ellipse is of whole pixels
        assert off.sum() / covered < most, (corner, off.sum() / covered)
        assert off.max() < (160 if elliptic else 3)


def test_places_beside_a_box_are_near_it_and_leave_it_free():
    boxes = BOXES.repeat(300, 1)
    wh = torch.full((900, 2), 24.0).double()
    corner, found = place_beside(boxes, wh, SIZE, Dice(0))
    assert found.double().mean() > 0.9
    patch = torch.cat([corner, wh], dim=1)[found]
    of = boxes[found]
    hidden = overlap_area(patch, of) / of[:, 2:].prod(dim=1)
    assert hidden.max() < 0.15 and (hidden == 0).double().mean() > 0.8
    center = patch[:, :2] + 12
    assert ((center >= -1) & (center < SIZE)).all()
    nowhere, none = place_beside(torch.tensor([[0.0, 0, 128, 128]]).double().repeat(9, 1),
                                 torch.full((9, 2), 200.0).double(), SIZE, Dice(0))  # fmt: skip
    assert nowhere.shape == (9, 2) and not none.any()


def test_occluders_lie_on_the_outline():
    boxes = BOXES.repeat(200, 1)
    patches = draw_on_outline(boxes, boxes.roll(1, dims=0), Dice(0))
    center = patches.corner_xy + patches.size_wh / 2
    place = (center - boxes[:, :2]) / boxes[:, 2:]  # 0 to 1 within the box
    to_edge = torch.minimum(place, 1 - place).abs().amin(dim=1)
    assert (to_edge * boxes[:, 2:].amax(dim=1) < 1.5).all()  # rounded to px
    assert {bool(v) for v in patches.elliptic} == {True, False}


def test_occluders_from_a_side_cover_the_fraction_that_is_asked_for():
    boxes = torch.tensor([[30.0, 40, 60, 50]]).double().repeat(400, 1)
    covered = torch.linspace(0.3, 0.9, 400).double()
    patches = draw_from_side(boxes, covered, Dice(0))
    hidden = overlap_area(patches.boxes, boxes) / (60 * 50)
    np.testing.assert_allclose(hidden, covered, atol=0.03)
    x, y = patches.corner_xy.T
    right, below = (patches.corner_xy + patches.size_wh).T
    beyond = [x < 30, right > 90, y < 40, below > 90]  # each comes in over one edge at least
    assert all(int((side & (patches.boxes[:, 2] < 200)).sum()) > 100 for side in beyond)


def test_the_old_place_is_the_middle_and_must_be_free():
    boxes = torch.tensor([[54.0, 54, 20, 20], [5, 5, 20, 20]]).double().repeat(100, 1)
    patches, free = draw_in_old_place(boxes, boxes, SIZE, Dice(0))
    assert free.tolist() == [False, True] * 100
    center = patches.corner_xy + patches.size_wh / 2
    assert (center - SIZE / 2).abs().max() <= 1
    ratio = patches.size_wh.prod(dim=1).sqrt() / 20
    assert 0.7 < ratio.min() < 0.9 and 1.15 < ratio.max() <= 1.25


def bright_targets():
    """Noise of low contrast with white targets in `BOXES`."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 60, (3, SIZE, SIZE, 3), generator=generator).float()
    for image, (x, y, w, h) in zip(images, BOXES.long().tolist(), strict=True):
        image[y : y + h, x : x + w] = 255
    return images


def brightness(images):
    return np.array(
        [float(image[y : y + h, x : x + w].mean()) for image, (x, y, w, h) in
         zip(images, BOXES.long().tolist(), strict=True)]
    )  # fmt: skip


def test_a_target_is_taken_out_without_a_trace():
    images = bright_targets()
    before = images.clone()
    room = take_out(images, torch.tensor([0, 2]), BOXES[[0, 2]], Dice(1))
    assert room.all() and torch.equal(images[1], before[1])
    # What is beside a target may show a little of it.
    assert (brightness(images)[[0, 2]] < 70).all() and brightness(images)[1] == 255
    changed = (images != before).any(dim=3)[0].nonzero()
    assert changed.amin(dim=0).tolist() >= [45, 35] and changed.amax(dim=0).tolist() <= [84, 84]


@pytest.fixture
def hardened(pictures, on_device):
    """Harden white targets with one change, certainly."""
    draws = CropDraws(
        pictures, PairConfig(), np.ones(12), on_device.usable, on_device.size_wh
    )  # fmt: skip

    def make(positive=(True, True, True), **changes):
        images = bright_targets()
        distractors = torch.tensor([[1.0, 2, 3, 4]]).double().repeat(3, 1)
        result = harden(
            images, BOXES, distractors, torch.tensor(positive), torch.tensor([0, 1, 2]),
            HardConfig(**changes), on_device, draws, Dice(2),
        )  # fmt: skip
        return images, result

    return make


def test_each_change_does_what_it_says(hardened):
    before = bright_targets()
    plain, result = hardened()
    assert torch.equal(plain, before) and result.shows_target.all()
    assert (result.distractors == torch.tensor([1.0, 2, 3, 4])).all()

    # Another background: the targets stay, the corners change, and no distractor is left.
    images, result = hardened(background=1.0)
    centers = (BOXES[:, :2] + BOXES[:, 2:] / 2).long()
    assert (images[torch.arange(3), centers[:, 1], centers[:, 0]] == 255).all()
    assert (images[:, -1, -1] - before[:, -1, -1]).abs().sum() > 0
    assert images[0, :10].std() != before[0, :10].std() and not result.distractors.any()
    assert result.shows_target.all()

    # Absent: most targets are gone, and those pairs are negatives.
    images, result = hardened(absent=0.99)
    assert not result.shows_target.all()
    assert (brightness(images)[~result.shows_target.numpy()] < 80).all()

    # The old place: an object in the middle, where the target is not.
    images, result = hardened(old_place=1.0)
    changed = (result.distractors != torch.tensor([1.0, 2, 3, 4])).any(dim=1)
    middle = result.distractors[changed, :2] + result.distractors[changed, 2:] / 2
    assert changed.any() and (middle - 64).abs().max() <= 1
    assert ((images - before)[changed, 64, 64].abs().sum(dim=1) > 0).all()

    # An occluder hides some of the target; much of it withdraws the label.
    images, result = hardened(occluder=1.0)
    assert (brightness(images) < 230).all()
    hidden = (images != before).any(dim=3)
    for k, (x, y, w, h) in enumerate(BOXES.long().tolist()):
        share = float(hidden[k, y : y + h, x : x + w].double().mean())
        assert 0.25 < share < 1 and (share < 0.85 if result.shows_target[k] else share > 0.7)

    # Blur along the way from the middle, which only the first target is near.
    images, _ = hardened(motion_blur=1.0)
    changes = (images - before).abs().mean(dim=(1, 2, 3))
    assert changes[0] == 0 and (changes[1:] > 5).all()


def test_negatives_stay_as_they_are(hardened):
    images, result = hardened(
        (False, True, False), background=1.0, absent=0.9, old_place=1.0, occluder=1.0,
        motion_blur=1.0,
    )  # fmt: skip
    before = bright_targets()
    assert torch.equal(images[[0, 2]], before[[0, 2]]) and not torch.equal(images[1], before[1])
    assert not result.shows_target[[0, 2]].any()


def test_tiny_targets_lose_their_details():
    boxes = torch.full((400, 4), 50.0).double()
    tiny, factor = draw_tiny(boxes, 0.5, Dice(0))
    assert 0.4 < tiny.double().mean() < 0.6
    side = factor[tiny] * 50
    assert 6 <= side.min() < 7 and 28 < side.max() <= 30
    small = torch.full((100, 4), 5.0).double()  # smaller than any tiny target: nothing to lose
    assert not draw_tiny(small, 1.0, Dice(0))[0].any()
    images = bright_targets()
    before = images.clone()
    as_tiny(images, torch.tensor([1]), torch.tensor([0.2]).double())
    assert torch.equal(images[[0, 2]], before[[0, 2]])
    details = [float(i[1].diff(dim=1).abs().mean()) for i in (images, before)]
    assert details[0] < 0.3 * details[1]
