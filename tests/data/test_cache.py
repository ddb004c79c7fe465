"""The crop cache: what goes in comes out, and a stale or unfinished one is refused."""

import json

import numpy as np
import pytest

from siamtrack.data.cache import CacheConfig, CropCache, TrackFrames, build_cache, crop_surroundings
from siamtrack.errors import DatasetError
from siamtrack.geometry import context_side


def scene(box, size=(400, 500)):
    image = np.full((*size, 3), 50, np.uint8)
    x, y, w, h = (int(v) for v in box)
    image[y : y + h, x : x + w] = 200
    return image


def test_a_crop_keeps_the_target_where_its_box_says():
    box = np.array([200.0, 150.0, 60.0, 40.0])
    crop, crop_box, _ = crop_surroundings(scene(box), box, CacheConfig())
    bright = np.argwhere(crop[:, :, 0] > 125)
    top, left = bright.min(axis=0)
    bottom, right = bright.max(axis=0) + 1
    np.testing.assert_allclose([left, top, right - left, bottom - top], crop_box, atol=1)


def test_small_targets_are_not_enlarged_and_large_ones_shrink():
    config = CacheConfig(reach=3.5, px_per_exemplar=128)
    small = np.array([200.0, 200.0, 10.0, 10.0])
    assert crop_surroundings(scene(small), small, config)[1][2:].tolist() == [10, 10]
    large = np.array([100.0, 100.0, 200.0, 200.0])
    crop_box = crop_surroundings(scene(large), large, config)[1]
    assert context_side(*crop_box[2:]) == pytest.approx(128, rel=0.02)


@pytest.mark.parametrize("side", [10.0, 200.0])
def test_the_map_of_a_crop_leads_back_to_the_picture(side):
    box = np.array([120.0, 90.0, side, side * 0.7])
    config = CacheConfig()
    _, crop_box, (x, y, scale_x, scale_y) = crop_surroundings(scene(box), box, config)
    back = [x + crop_box[0] * scale_x, y + crop_box[1] * scale_y]
    back += [crop_box[2] * scale_x, crop_box[3] * scale_y]
    np.testing.assert_allclose(back, box)


def test_nothing_outside_the_picture_is_stored():
    box = np.array([0.0, 0.0, 60.0, 60.0])
    crop, crop_box, _ = crop_surroundings(scene(box), box, CacheConfig())
    assert crop.shape[0] < 3.5 * 120 * 128 / 120
    np.testing.assert_allclose(crop_box[:2], 0, atol=0.5)


def test_tracks_and_pictures_come_back(squares):
    assert [t.count for t in squares.tracks] == [5] * 4 + [1] * 6
    assert len(squares) == 26
    for track in squares.tracks:
        picture, box = squares.read(track.first)
        x, y, w, h = np.rint(box).astype(int)
        inside = picture[y + 4 : y + h - 4, x + 4 : x + w - 4].astype(int)
        assert np.ptp(inside.reshape(-1, 3), axis=0).max() < 25  # one color, up to JPEG
    assert squares.numbers[:5].tolist() == [0, 10, 20, 30, 40]


def test_an_unfinished_cache_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="not a finished crop cache"):
        CropCache(tmp_path)


def broken_sources():
    yield TrackFrames("a", "s", "", "", [(0, scene((5, 5, 9, 9)), np.array([5.0, 5, 9, 9]))])
    raise RuntimeError("the disk went away")


def test_an_interrupted_build_leaves_no_cache(tmp_path):
    with pytest.raises(RuntimeError, match="went away"):
        build_cache(broken_sources(), tmp_path / "cache", CacheConfig(), "x")
    assert list(tmp_path.iterdir()) == []


def test_a_cache_without_tracks_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no usable track"):
        build_cache([], tmp_path / "cache", CacheConfig(), "x")


def test_an_existing_folder_is_not_overwritten(squares):
    with pytest.raises(DatasetError, match="exists"):
        build_cache([], squares.folder, CacheConfig(), "x")


def test_a_stale_cache_is_refused(squares):
    assert len(CropCache(squares.folder, ["squares"])) == len(squares)
    with pytest.raises(DatasetError, match="made from something else"):
        CropCache(squares.folder, ["circles"])


def test_a_cache_of_another_format_is_refused(squares, tmp_path):
    for name in ("crops.bin", "index.npz", "tracks.json"):
        (tmp_path / name).write_bytes((squares.folder / name).read_bytes())
    meta = json.loads((tmp_path / "tracks.json").read_text())
    (tmp_path / "tracks.json").write_text(json.dumps(meta | {"format": 1}))
    with pytest.raises(DatasetError, match="has format 1"):
        CropCache(tmp_path)
