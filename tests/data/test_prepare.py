"""From a folder of clips to a crop cache, as `siamtrack track` and people leave them."""

import logging

import cv2
import numpy as np
import pytest

from siamtrack.data.cache import CacheConfig, prepare
from siamtrack.errors import ConfigError, DatasetError

BOXES = np.array([[40.0 + 2 * i, 30, 20, 16] for i in range(6)])


def write_clip(folder, boxes=BOXES, wh=(160, 120)):
    """Pictures with a bright rectangle where the boxes say, and the boxes beside them."""
    folder.mkdir(parents=True)
    for number, box in enumerate(boxes):
        picture = np.full((wh[1], wh[0], 3), 30, np.uint8)
        if np.isfinite(box).all():
            x, y, w, h = (int(v) for v in box)
            picture[max(y, 0) : y + h, max(x, 0) : x + w] = 220
        cv2.imwrite(str(folder / f"{number:04d}.png"), picture)
    lines = [",".join(f"{v:g}" for v in box) for box in boxes]
    folder.with_suffix(".txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def clips(tmp_path):
    root = tmp_path / "clips"
    write_clip(root / "ball")
    return root


def test_targets_of_a_folder_become_tracks(clips, tmp_path):
    cache = prepare([f"folder:{clips}"], tmp_path / "cache", CacheConfig())
    (track,) = cache.tracks
    assert (track.name, track.set_name, track.image, track.count) == ("ball", "folder", "", 6)
    assert cache.numbers.tolist() == list(range(6))
    picture, box = cache.read(3)
    bright = np.argwhere(picture[:, :, 0] > 125)
    top, left = bright.min(axis=0)
    np.testing.assert_allclose(box[:2], [left, top], atol=1)
    np.testing.assert_allclose(box[2:], [20, 16])


def test_what_track_writes_is_accepted(clips, tmp_path):
    (clips / "ball.txt").unlink()
    rows = [
        f"{i},{i / 25},0,{x:g},{y:g},{w:g},{h:g},0.9,{'lost' if i == 4 else 'tracked'}"
        for i, (x, y, w, h) in enumerate(BOXES)
    ]
    header = "frame,time_s,target,x,y,w,h,score,status"
    (clips / "ball.csv").write_text("\n".join([header, *rows]) + "\n")
    cache = prepare([f"folder:{clips}"], tmp_path / "cache", CacheConfig())
    assert cache.numbers.tolist() == [0, 1, 2, 3, 5]


def test_the_same_cache_is_opened_without_being_made_again(clips, tmp_path):
    out = tmp_path / "cache"
    made = prepare([f"folder:{clips}"], out, CacheConfig())
    before = (out / "crops.bin").stat().st_mtime_ns
    for picture in clips.rglob("*.png"):
        picture.unlink()  # it does not even look at the data set
    again = prepare([f"folder:{clips}"], out, CacheConfig())
    assert again.fingerprint == made.fingerprint
    assert (out / "crops.bin").stat().st_mtime_ns == before


def test_another_data_set_or_configuration_is_refused(clips, tmp_path):
    out = tmp_path / "cache"
    prepare([f"folder:{clips}"], out, CacheConfig())
    with pytest.raises(DatasetError, match="made from something else"):
        prepare([f"folder:{clips}", f"folder:{clips}/ball"], out, CacheConfig())
    with pytest.raises(DatasetError, match=r"was made with .*jpeg_quality=92.*not with .*=50"):
        prepare([f"folder:{clips}"], out, CacheConfig(jpeg_quality=50))


def test_frames_are_spread_evenly_when_there_are_too_many(clips, tmp_path):
    cache = prepare([f"folder:{clips}"], tmp_path / "cache", CacheConfig(max_frames=3))
    assert cache.numbers.tolist() == [0, 2, 5]


def test_unreadable_pictures_are_left_out_and_told(clips, tmp_path, caplog):
    (clips / "ball" / "0001.png").write_bytes(b"not a picture")
    (clips / "ball" / "0004.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        cache = prepare([f"folder:{clips}"], tmp_path / "cache", CacheConfig())
    assert cache.numbers.tolist() == [0, 2, 3, 5]
    assert "ball: 2 of 6 pictures cannot be read and are left out, the first: " in caplog.text
    assert "0001.png" in caplog.text


def test_frames_that_teach_nothing_are_left_out(tmp_path):
    boxes = BOXES.copy()
    boxes[1] = np.nan
    boxes[2, 2:] = [3.0, 3.0]
    boxes[3, :2] = [200.0, 30.0]
    boxes[4, :2] = [-30.0, 30.0]
    write_clip(tmp_path / "clips" / "ball", boxes)
    cache = prepare([f"folder:{tmp_path / 'clips'}"], tmp_path / "cache", CacheConfig())
    assert cache.numbers.tolist() == [0, 5]


def test_without_one_usable_target_there_is_no_cache(tmp_path):
    write_clip(tmp_path / "clips" / "ball", np.full((4, 4), np.nan))
    with pytest.raises(DatasetError, match="no usable track"):
        prepare([f"folder:{tmp_path / 'clips'}"], tmp_path / "cache", CacheConfig())
    assert not (tmp_path / "cache").exists()


def test_data_sets_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="nowhere"):
        prepare([f"folder:{tmp_path}/nowhere"], tmp_path / "cache", CacheConfig())
    with pytest.raises(ConfigError, match="kind of data set"):
        prepare([f"folders:{tmp_path}"], tmp_path / "cache", CacheConfig())
