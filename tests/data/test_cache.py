"""The crop cache: what goes in comes out, and a stale or unfinished one is refused."""

import json
import logging
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrack.data.cache import (
    CacheConfig,
    CropCache,
    TrackFrames,
    build_cache,
    crop_surroundings,
    prepare,
)
from siamtrack.errors import ConfigError, DatasetError
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
    with pytest.raises(DatasetError, match="made from other data sets or settings"):
        CropCache(squares.folder, ["circles"])


def test_a_cache_of_another_format_is_refused(squares, tmp_path):
    for name in ("crops.bin", "index.npz", "tracks.json"):
        (tmp_path / name).write_bytes((squares.folder / name).read_bytes())
    meta = json.loads((tmp_path / "tracks.json").read_text())
    (tmp_path / "tracks.json").write_text(json.dumps(meta | {"format": 1}))
    with pytest.raises(DatasetError, match="has format 1"):
        CropCache(tmp_path)


# From data sets

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
    (clips / "notes.md").write_text("unrelated")
    again = prepare([f"folder:{clips}"], out, CacheConfig())
    assert again.fingerprint == made.fingerprint
    assert prepare([f"folder:{clips}/."], out, CacheConfig()).identity == made.identity
    assert (out / "crops.bin").stat().st_mtime_ns == before


def test_another_data_set_or_configuration_is_refused(clips, tmp_path):
    out = tmp_path / "cache"
    prepare([f"folder:{clips}"], out, CacheConfig())
    with pytest.raises(DatasetError, match="made from other data sets or settings"):
        prepare([f"folder:{clips}", f"folder:{clips}/ball"], out, CacheConfig())
    with pytest.raises(DatasetError, match=r"was made with .*jpeg_quality=92.*not with .*=50"):
        prepare([f"folder:{clips}"], out, CacheConfig(jpeg_quality=50))


def correct_a_box(clips):
    boxes = clips / "ball.txt"
    boxes.write_text(boxes.read_text().replace("40,30,20,16", "41,30,20,16"))


def replace_a_picture(clips):
    (clips / "ball" / "0002.png").write_bytes((clips / "ball" / "0003.png").read_bytes() + b" ")


def touch_a_picture(clips):
    os.utime(clips / "ball" / "0002.png", (1, 1))


def rename_a_clip(clips):
    (clips / "ball").rename(clips / "cube")
    (clips / "ball.txt").rename(clips / "cube.txt")


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (correct_a_box, "1 sequences then, 1 now"),
        (replace_a_picture, "1 sequences then, 1 now"),
        (touch_a_picture, "1 sequences then, 1 now"),
        (rename_a_clip, "1 sequences then, 1 now"),
        (lambda clips: write_clip(clips / "cube"), "1 sequences then, 2 now"),
    ],
)
def test_a_cache_of_clips_that_changed_is_refused(clips, tmp_path, change, counts):
    prepare([f"folder:{clips}"], tmp_path / "cache", CacheConfig())
    change(clips)
    with pytest.raises(DatasetError, match=rf"boxes of folder:.* have changed since \({counts}\)"):
        prepare([f"folder:{clips}"], tmp_path / "cache", CacheConfig())


def test_a_partial_cache_is_not_taken_for_a_whole_one(clips, tmp_path):
    specs, out = [f"folder:{clips}"], tmp_path / "cache"
    prepare(specs, out, CacheConfig(), partial=True)
    with pytest.raises(DatasetError, match="it was made with --partial"):
        prepare(specs, out, CacheConfig())
    assert len(prepare(specs, out, CacheConfig(), partial=True)) == 6


def test_a_cache_of_an_older_version_is_opened_but_not_trusted_to_be_up_to_date(clips, tmp_path):
    out, specs = tmp_path / "cache", [f"folder:{clips}"]
    prepare(specs, out, CacheConfig())
    with np.load(out / "index.npz") as index:
        arrays = {name: index[name] for name in ("offsets", "boxes", "numbers", "maps")}
    np.savez(out / "index.npz", **arrays)
    meta = json.loads((out / "tracks.json").read_text())
    del meta["index_sha256"], meta["checksum"]
    (out / "tracks.json").write_text(json.dumps(meta | {"format": 3, "made_from": specs}))
    assert len(CropCache(out)) == 6 and CropCache(out).read(5)[0].ndim == 3
    with pytest.raises(DatasetError, match="an older version made it"):
        prepare(specs, out, CacheConfig())


# Damage


@pytest.fixture
def copied(squares, tmp_path):
    return Path(shutil.copytree(squares.folder, tmp_path / "copy"))


def cut(name, share):
    def change(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return change


def write(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def flip(name, share):
    def change(folder):
        data = bytearray((folder / name).read_bytes())
        data[int(len(data) * share)] ^= 0x10
        (folder / name).write_bytes(data)

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (cut("index.npz", 0.5), "index.npz"),
        (write("index.npz", b""), "index.npz"),
        (flip("index.npz", 0.3), "index.npz"),
        (flip("index.npz", 0.7), "index.npz"),
        (cut("crops.bin", 0.5), "crops.bin"),
        (write("crops.bin", b""), "crops.bin"),
        (flip("crops.bin", 0.5), "crops.bin"),
        (cut("tracks.json", 0.5), "tracks.json"),
        (write("tracks.json", b"[]"), "tracks.json"),
        (write("tracks.json", b"\xff\xfe"), "tracks.json"),
        (write("tracks.json", b"[" * 100_000), "tracks.json"),
        (flip("tracks.json", 0.4), "tracks.json"),
        (flip("tracks.json", 0.9), "tracks.json"),
    ],
)
def test_damage_is_noticed_and_its_file_is_named(copied, change, named):
    change(copied)
    with pytest.raises(DatasetError, match=rf"{named} of a crop cache is damaged"):
        cache = CropCache(copied)
        for crop in range(len(cache)):
            cache.read(crop)


def as_older(folder, *, meta=None, **changes):
    """Rewrite a cache in the format without checksums, with some values changed."""
    with np.load(folder / "index.npz") as index:
        arrays = {name: index[name] for name in ("offsets", "boxes", "numbers", "maps")}
    np.savez(folder / "index.npz", **{k: changes.get(k, lambda a: a)(v) for k, v in arrays.items()})
    values = json.loads((folder / "tracks.json").read_text()) | {"format": 3}
    (meta or (lambda v: v))(values)
    (folder / "tracks.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"meta": lambda v: v.pop("config")}, "config"),
        ({"meta": lambda v: v["config"].update(x=1)}, "unknown key"),
        ({"meta": lambda v: v.update(tracks=[])}, "lists no tracks"),
        ({"meta": lambda v: v["tracks"].append(["a"])}, "is not a track"),
        ({"meta": lambda v: v["tracks"][0].__setitem__(5, 10**6)}, "that index.npz lacks"),
        ({"meta": lambda v: v["tracks"][0].__setitem__(4, -1)}, "that index.npz lacks"),
        ({"offsets": lambda a: a * 1000}, "bytes instead of"),
        ({"offsets": lambda a: a[:5]}, r"boxes has float32 \(26, 4\)"),
        ({"offsets": lambda a: a[::-1].copy()}, "do not ascend"),
        ({"offsets": lambda a: a[None]}, "offsets has int64"),
        ({"boxes": lambda a: a * np.nan}, "boxes are not finite"),
        ({"boxes": lambda a: a * -1}, "boxes are not finite and positive"),
        ({"boxes": lambda a: a[:, :2]}, "boxes has float32"),
        ({"maps": lambda a: a.astype(object)}, "index.npz"),
        ({"numbers": lambda a: a.astype(float)}, "numbers has float64"),
    ],
)
def test_values_that_do_not_fit_are_refused_without_checksums_too(copied, changes, says):
    as_older(copied, **changes)
    with pytest.raises(DatasetError, match=f"is damaged.*{says}|{says}.*is damaged"):
        CropCache(copied)


def test_an_index_that_would_unpack_to_more_than_its_file_is_refused_unread(copied, monkeypatch):
    with np.load(copied / "index.npz") as index:
        arrays = {**index, "offsets": np.zeros(2_000_000, np.int64)}
    np.savez_compressed(copied / "index.npz", **arrays)
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(DatasetError, match="it is compressed"):
        CropCache(copied)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="max_frames is 0"):
        CacheConfig(max_frames=0)


# Frames


def test_frames_are_spread_evenly_when_there_are_too_many(clips, tmp_path):
    cache = prepare([f"folder:{clips}"], tmp_path / "cache", CacheConfig(max_frames=3))
    assert cache.numbers.tolist() == [0, 2, 5]


def test_unreadable_pictures_are_left_out_and_reported(clips, tmp_path, caplog):
    (clips / "ball" / "0001.png").write_bytes(b"not a picture")
    (clips / "ball" / "0004.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        cache = prepare([f"folder:{clips}"], tmp_path / "cache", CacheConfig())
    assert cache.numbers.tolist() == [0, 2, 3, 5]
    assert "ball: 2 of 6 pictures cannot be read and are left out, the first: " in caplog.text
    assert "0001.png" in caplog.text


def test_frames_without_a_usable_target_are_left_out(tmp_path):
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
