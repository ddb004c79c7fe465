"""Other objects of one picture: as distractors, and as negatives that do not show the target."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from siamtrack.data.augment import AugmentConfig
from siamtrack.data.cache import CacheConfig, TrackFrames, build_cache
from siamtrack.data.pairs import PairConfig, PairDataset, SameImageObjects, transfer_box

PLAIN = AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0, 0)
CLEAN = PairConfig(negative=0, fill_replicate=0, fill_photo=0, flip=0.5, augment=PLAIN)
RED, GREEN = (0, 0, 200), (0, 200, 0)  # BGR


def two_squares(far):
    """A dark picture with a red and a green square, `far` px from one middle to the other."""
    boxes = [np.array([60.0, 100, 30, 30]), np.array([60.0 + far, 100, 30, 30])]
    picture = np.full((230, 420, 3), 20, np.uint8)
    for (x, y, w, h), color in zip(np.array(boxes, int), (RED, GREEN), strict=True):
        picture[y : y + h, x : x + w] = color
    return picture, boxes


def cache_of(folder, far):
    picture, boxes = two_squares(far)
    sources = [
        TrackFrames(name, "s", "square", "one.png", [(0, picture, box)])
        for name, box in zip("ab", boxes, strict=True)
    ]
    clip = [(i, picture, boxes[0]) for i in range(3)]
    sources.append(TrackFrames("clip", "v", "square", "", clip))
    return build_cache(sources, folder / f"cache{far}", CacheConfig(), "x")


@pytest.fixture
def near(tmp_path):
    return cache_of(tmp_path, 55)


@pytest.fixture
def apart(tmp_path):
    return cache_of(tmp_path, 250)


def color_at(pair, key):
    """RGB in the middle of a box of the search crop."""
    x, y, w, h = (float(v) for v in pair[key])
    return pair["x"][:, round(y + h / 2), round(x + w / 2)].tolist()


def is_near(color, bgr):
    return np.abs(np.array(color) - np.array(bgr[::-1])).max() < 40


def test_others_are_the_other_objects_of_the_image(near):
    objects = SameImageObjects(near)
    assert [objects.others(crop) for crop in range(5)] == [[1], [0], [], [], []]
    assert objects.same_track(2, 4) and not objects.same_track(0, 1)


def test_a_other_objects_box_is_where_the_crop_shows_it(near):
    crop, _ = near.read(0)
    x, y, w, h = SameImageObjects(near).box_in_crop(1, 0)
    shown = crop[round(y) + 3 : round(y + h) - 3, round(x) + 3 : round(x + w) - 3]
    assert shown.size and np.abs(shown.astype(int) - np.array(GREEN)).max() < 40


def test_boxes_are_transferred_by_scale_and_shift():
    source, target = np.array([10.0, 20, 4, 8]), np.array([100.0, 50, 8, 4])
    assert transfer_box(source, source, target).tolist() == target.tolist()
    moved = transfer_box(np.array([12.0, 28.0, 2, 2]), source, target)
    assert moved.tolist() == [104.0, 54.0, 4.0, 1.0]


def test_another_object_in_sight_is_the_distractor(near):
    pairs = PairDataset(near, replace(CLEAN, other_weight=0.0, set_weights={"s": 1.0}), seed=1)
    shown = 0
    for index in range(60):
        pair = pairs[index]
        if pair["has_distractor"]:
            shown += 1
            target, other = (color_at(pair, k) for k in ("x_box", "distractor_box"))
            kinds = {(is_near(c, RED), is_near(c, GREEN)) for c in (target, other)}
            assert kinds == {(True, False), (False, True)}
    assert 15 < shown < 60  # windows are shifted by up to 72 px, so it is often out of sight


def test_objects_far_apart_or_inside_each_other_are_no_distractors(apart, near):
    far = PairDataset(apart, CLEAN)
    assert not any(far[i]["has_distractor"] for i in range(30))
    near.boxes[1] = near.boxes[0] * 0.9
    near.maps[1] = near.maps[0]
    nested = PairDataset(near, CLEAN)
    assert not any(nested[i]["has_distractor"] for i in range(30))


def test_a_pasted_object_is_the_distractor_of_a_clip(near):
    strong = replace(PLAIN, distractor=1.0)
    pairs = PairDataset(near, replace(CLEAN, set_weights={"v": 1.0}, augment=strong))
    with_one = [p for p in (pairs[i] for i in range(60)) if p["has_distractor"]]
    assert len(with_one) > 20
    colors = [color_at(p, "distractor_box") for p in with_one]
    assert any(is_near(c, GREEN) for c in colors)  # the only other thing there is to paste


def test_negatives_of_the_same_image_never_show_the_target(apart, near):
    config = replace(CLEAN, negative=0.999, same_picture=1.0, set_weights={"v": 0.0})
    pairs = PairDataset(apart, config)
    for index in range(40):
        pair = pairs[index]
        assert not pair["positive"]
        z_red = is_near(pair["z"][:, 64, 64].tolist(), RED)
        assert is_near(color_at(pair, "x_box"), GREEN if z_red else RED)
        own = RED if z_red else GREEN
        rgb = pair["x"].int() - torch.tensor(own[::-1])[:, None, None]
        assert (rgb.abs().amax(dim=0) < 60).sum() == 0


def test_without_room_another_negative_is_taken(near):
    boxed_in = replace(CLEAN, same_picture=1.0, search_shift_px=0.0, search_scale=0.0)
    pairs = PairDataset(near, boxed_in)
    track = near.tracks[0]
    for seed in range(10):
        other, _ = pairs._draw_negative(0, track, np.random.default_rng(seed))
        assert other >= 2  # the clip
