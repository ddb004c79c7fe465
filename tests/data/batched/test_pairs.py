"""Batches: as the loader's in distribution, true to their labels, a function of seed and number."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from siamtrack.data.augment import AugmentConfig
from siamtrack.data.batched.dice import Dice
from siamtrack.data.batched.draws import CropDraws
from siamtrack.data.batched.pairs import BatchedPairs, PairsOneByOne
from siamtrack.data.hard_pairs import HardConfig
from siamtrack.data.pairs import PairConfig, PairDataset
from siamtrack.errors import DatasetError

from .conftest import CPU

SIZES = {"exemplar_size_px": 32, "search_size_px": 64}
PLAIN = AugmentConfig(
    color=0.0, gray=0.0, blur=0.0, downsample=0.0, jpeg=0.0, noise=0.0, distractor=0.0, occluder=0.0
)
SHIFTS = {"exemplar_shift_px": 2.0, "search_shift_px": 18.0}  # of these small crops
COUNT = 500


def loaded(cache, config, count=COUNT):
    """Pairs of the loader, stacked by name."""
    pairs = PairDataset(cache, config, **SIZES, seed=3)
    rows = [pairs[index] for index in range(count)]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0] if name not in
            ("index", "skipped")}  # fmt: skip


def batched(cache, config, count=COUNT, size=100, seed=3):
    pairs = BatchedPairs(cache, config, CPU, **SIZES, seed=seed)
    batches = [pairs.batch(first, size) for first in range(0, count, size)]
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def statistics(pairs):
    """Numbers of each pair by name, (N,) or fewer where only some pairs have them."""
    found = defaultdict(list)
    for name in ("z_box", "x_box", "memory_box"):
        box = pairs[name].double().reshape(-1, 4)
        if len(box):
            found[f"{name} x"], found[f"{name} y"] = (box[:, :2] + box[:, 2:] / 2).unbind(dim=1)
            found[f"{name} side"] = box[:, 2:].prod(dim=1).sqrt().log()
            found[f"{name} aspect"] = (box[:, 2] / box[:, 3]).log()
    other = pairs["distractor_box"][pairs["has_distractor"]].double()
    target = pairs["x_box"][pairs["has_distractor"]].double()
    if len(other):
        way = other[:, :2] + other[:, 2:] / 2 - target[:, :2] - target[:, 2:] / 2
        found["distractor distance"] = way.norm(dim=1)
        found["distractor side"] = other[:, 2:].prod(dim=1).sqrt().log()
    for name in ("z", "x", "memory"):
        pixels = pairs[name].flatten(0, -4).double()
        if len(pixels):
            found[f"{name} brightness"] = pixels.mean(dim=(1, 2, 3))
            found[f"{name} contrast"] = pixels.std(dim=(1, 2, 3))
            found[f"{name} color"] = (pixels[:, 0] - pixels[:, 2]).mean(dim=(1, 2))
            found[f"{name} sharpness"] = pixels.diff(dim=3).abs().mean(dim=(1, 2, 3)).log1p()
    mean = [pairs[name].double().mean(dim=(1, 2, 3)) for name in ("z", "x")]
    found["brightness of z - x"] = mean[0] - mean[1]
    return found


CONFIGS = {
    "as it is": PairConfig(**SHIFTS),
    "negatives": PairConfig(negative=0.9, augment=PLAIN, rotation=0.0, **SHIFTS),
    "memory": PairConfig(memory=3, max_gap=40, flip=1.0, **SHIFTS),
    "hard": PairConfig(
        hard=HardConfig(
            background=0.2, absent=0.2, old_place=0.3, occluder=0.3, motion_blur=0.3, tiny=0.3
        ),
        augment=AugmentConfig(distractor=0.1, occluder=0.0),
        **SHIFTS,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_batches_equal_the_loaders_pairs_in_distribution(pictures, name):
    """Kolmogorov-Smirnov tests of what a pair shows and says; shares to 3.5 deviations.

    Several dozen tests at a level of 1e-4: one of them errs in less than one seed in a hundred.
    """
    theirs, ours = loaded(pictures, CONFIGS[name]), batched(pictures, CONFIGS[name])
    assert {k: v.shape[1:] for k, v in theirs.items()} == {
        k: v.shape[1:] for k, v in ours.items() if k not in ("index", "skipped")
    }
    wanted = statistics(theirs)
    for what, values in statistics(ours).items():
        p = ks_2samp(np.asarray(values), np.asarray(wanted[what])).pvalue
        assert p > 1e-4, (what, p, np.mean(np.asarray(values)), np.mean(np.asarray(wanted[what])))
    for what in ("positive", "has_distractor"):
        share = theirs[what].double().mean().item()
        deviation = np.sqrt(2 * share * (1 - share) / COUNT) + 1e-9
        assert abs(ours[what].double().mean().item() - share) < 3.5 * deviation, what
    gray = [(p["x"][:, 0] == p["x"][:, 2]).flatten(1).all(dim=1).double().mean() for p in
            (theirs, ours)]  # fmt: skip
    assert abs(gray[0] - gray[1]) < 0.08


def bright_boxes(images):
    """Boxes (N, 4) of what is brighter than the dark noise of `squares`, xywh."""
    found = []
    for image in images.amax(dim=1).numpy():
        rows, columns = (np.flatnonzero((image > 80).sum(axis=axis) > 2) for axis in (1, 0))
        found.append([columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1])
    return np.array(found, float)


def test_boxes_are_where_the_targets_are(squares):
    """Measured in the pixels of flipped, shifted and scaled images of bright squares."""
    config = PairConfig(
        augment=PLAIN, negative=0.3, rotation=0.0, fill_photo=0.0, memory=3, same_picture=0.0,
        search_shift_px=25.0,
    )  # fmt: skip
    pairs = BatchedPairs(squares, config, CPU, exemplar_size_px=64, search_size_px=128, seed=1)
    batch = pairs.batch(0, 60)
    for images, boxes in (
        (batch["z"], batch["z_box"]),
        (batch["x"], batch["x_box"]),
        (batch["memory"].flatten(0, 1), batch["memory_box"].flatten(0, 1)),
    ):
        found, wanted = bright_boxes(images), boxes.numpy()
        assert np.abs(found - wanted).mean() < 0.8 and np.abs(found - wanted).max() < 4
    # Exemplar and search image of a positive pair show the same color, those of others need not.
    inside = [colors_at(batch[i], batch[f"{i}_box"]) for i in ("z", "x")]
    same = np.abs(inside[0] - inside[1]).max(axis=1) < 20
    assert same[batch["positive"].numpy()].all()
    assert not same[~batch["positive"].numpy()].all()


def colors_at(images, boxes):
    centers = (boxes[:, :2] + boxes[:, 2:] / 2).long()
    return images[torch.arange(len(images)), :, centers[:, 1], centers[:, 0]].numpy().astype(float)


def test_exemplar_and_search_are_flipped_together_and_memory_by_itself(pictures):
    """Pairs whose flips are certain, against those of the same seed without any."""
    common = {"augment": PLAIN, "memory": 2, "rotation": 0.0, **SHIFTS}
    never = batched(pictures, PairConfig(**common, flip=0.0), 100, 100)
    always = batched(pictures, PairConfig(**common, flip=1.0), 100, 100)
    for name in ("z", "x", "memory"):
        assert torch.equal(always[name], never[name].flip(-1))
    half = batched(pictures, PairConfig(**common, flip=0.5), 100, 100)
    flipped = {name: (half[name] == always[name]).flatten(1).all(dim=1) for name in ("z", "x")}
    assert torch.equal(flipped["z"], flipped["x"]) and 30 < int(flipped["x"].sum()) < 70
    of_memory = (half["memory"] == always["memory"]).flatten(2).all(dim=2)
    assert 70 < int(of_memory.sum()) < 130
    assert not torch.equal(of_memory[:, 0], flipped["x"])


def test_a_batch_depends_on_seed_and_number_alone(pictures):
    config = PairConfig(memory=1, hard=HardConfig(occluder=0.5, tiny=0.5))
    first, second = (BatchedPairs(pictures, config, CPU, **SIZES, seed=5) for _ in range(2))
    second.batch(0, 8)  # no state is left of it
    a, b = first.batch(16, 8), second.batch(16, 8)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert a["index"].tolist() == list(range(16, 24))
    for other in (first.batch(24, 8), BatchedPairs(pictures, config, CPU, **SIZES).batch(16, 8)):
        assert not torch.equal(a["x"], other["x"])


def test_nothing_waits_for_the_device_and_everything_is_on_it(pictures):
    """A device without data cannot answer: whoever asks it, or mixes devices, gets an error.

    Noise is left out, because there are no random numbers on such a device.
    """
    often = dict.fromkeys(("blur", "downsample", "jpeg", "gray", "distractor", "occluder"), 0.5)
    changes = ("background", "absent", "old_place", "occluder", "motion_blur", "tiny")
    config = PairConfig(
        memory=2,
        rotation=0.5,
        augment=AugmentConfig(**often, noise=0.0),
        hard=HardConfig(**dict.fromkeys(changes, 0.5)),
    )
    pairs = BatchedPairs(pictures, config, torch.device("meta"), **SIZES)
    batch = pairs.batch(0, 16)
    assert batch["memory"].shape == (16, 2, 3, 64, 64)
    assert {name for name, value in batch.items() if value.device.type == "cpu"} == {
        "index",
        "skipped",
    }


def test_pairs_one_by_one_are_those_of_the_batches(pictures):
    pairs = BatchedPairs(pictures, PairConfig(memory=2), CPU, **SIZES)
    singly, batch = PairsOneByOne(pairs, 6), pairs.batch(6, 6)
    for index in (6, 11, 7):
        pair = singly[index]
        assert pair["index"] == index and torch.equal(pair["x"], batch["x"][index - 6])
        assert torch.equal(pair["memory_box"], batch["memory_box"][index - 6])


def make_draws(cache, config, weights=None):
    weights = np.ones(len(cache.tracks)) if weights is None else weights
    sizes = np.array([cache.read(k)[0].shape[1::-1] for k in range(len(cache))], float)
    return CropDraws(cache, config, weights, np.ones(len(cache), bool), torch.tensor(sizes))


def test_tracks_are_drawn_by_weight_and_frames_are_near(pictures):
    weights = np.r_[np.zeros(2), 3.0, 1.0, np.ones(8) / 2]
    draws = make_draws(pictures, PairConfig(max_gap=35), weights)
    track = draws.tracks(Dice(0), 8000)
    shares = np.bincount(track, minlength=12) / 8000
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.02)
    z, x = draws.frames(Dice(1), track)
    assert torch.equal(draws.track_of[z], track) and torch.equal(draws.track_of[x], track)
    gap = np.abs(pictures.numbers[z] - pictures.numbers[x])
    assert set(gap.tolist()) == {0, 30}  # every 30th frame is stored
    # Two of three neighbors of a frame in the middle are another frame, one of two at an end.
    clip = track.numpy() == 2
    assert (gap[clip] > 0).mean() == pytest.approx((4 * 2 / 3 + 2 / 2) / 6, abs=0.03)


def test_others_are_of_another_image_and_half_of_them_of_the_class(pictures):
    draws = make_draws(pictures, PairConfig())
    track = torch.full((4000,), 5)  # still 0.1, of kind0
    other = draws.track_of[draws.others(Dice(0), track)]
    assert 5 not in other and 4 not in other  # nor of the same image
    labels = np.array([track.label for track in pictures.tracks])
    siblings = {k for k in range(12) if labels[k] == "kind0"} - {5}
    share = np.isin(other, list(siblings)).mean()
    allowed = 10  # of 12 tracks, two are of the image
    of_others = len(siblings) / allowed
    # A sibling is drawn as itself in one of its five tries, which is tried again.
    own = 0.5 / (len(siblings) + 1)
    wanted = ((0.5 - own) + 0.5 * (10 / 12) * of_others) / ((0.5 - own) + 0.5 * (10 / 12))
    assert share == pytest.approx(wanted, abs=0.03)


def test_a_cache_of_one_image_still_gives_other_objects(pictures):
    weights = np.r_[np.zeros(4), 1.0, 1.0, np.zeros(6)]
    draws = make_draws(pictures, PairConfig(), weights)
    drawn = draws.track_of[draws.others(Dice(0), torch.full((50,), 4))]
    assert set(drawn.tolist()) <= {4, 5}  # what all tries end with
    with pytest.raises(DatasetError, match=r"no track of cache .* is left to draw from"):
        make_draws(pictures, PairConfig(), np.zeros(12))


def test_negatives_of_the_same_picture_leave_the_target_out(pictures):
    config = PairConfig(negative=0.99, same_picture=1.0, search_shift_px=0.0, search_scale=0.0)
    draws = make_draws(pictures, config)
    z = torch.tensor([pictures.tracks[4].first] * 500)

    def small_windows(crop):
        return torch.full((len(crop), 2), 60.0).double(), torch.zeros(len(crop), 2).double()

    other, _ = draws.negatives(Dice(0), z, small_windows)
    assert set(draws.track_of[other].tolist()) == {5}

    def large_windows(crop):
        return torch.full((len(crop), 2), 600.0).double(), torch.zeros(len(crop), 2).double()

    other, _ = draws.negatives(Dice(0), z, large_windows)
    assert {4, 5}.isdisjoint(draws.track_of[other].tolist())


def test_the_nearest_distractor_is_that_of_the_loader(pictures):
    draws, loader = make_draws(pictures, PairConfig()), PairDataset(pictures, PairConfig())
    rng = np.random.default_rng(0)
    crops = rng.integers(len(pictures), size=200)
    boxes = np.c_[rng.uniform(0, 150, (200, 2)), rng.uniform(15, 60, (200, 2))]
    found = draws.nearest_in_window(torch.tensor(crops), torch.tensor(boxes), 208)
    several = 0
    for crop, box, nearest in zip(crops.tolist(), boxes, found.numpy(), strict=True):
        wh = pictures.read(crop)[0].shape[1::-1]
        wanted = loader._same_image.nearest_in_window(crop, wh, box, 208)
        several += wanted is not None
        np.testing.assert_allclose(nearest, np.zeros(4) if wanted is None else wanted, atol=1e-6)
    assert several > 20
