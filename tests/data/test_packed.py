"""A cache packed into one file: what comes along, how large it is, and damage."""

import pickle
import zipfile

import numpy as np
import pytest

from siamtrack.data.cache import CacheConfig, CropCache, TrackFrames, build_cache
from siamtrack.data.packed import pack_cache, packing_order
from siamtrack.data.pairs import PairConfig, PairDataset, track_weights
from siamtrack.errors import ConfigError, DatasetError, OutputError


@pytest.fixture(scope="module")
def packed(squares, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "all.crops"
    return pack_cache(squares, np.ones(10), out, megabytes=1).path


def test_a_whole_cache_in_one_file_gives_the_same_pairs(squares, packed):
    cache = pickle.loads(pickle.dumps(CropCache(packed)))  # as loader processes get it
    assert len(cache) == len(squares) == 26 and cache.tracks == squares.tracks
    first, second = (
        PairDataset(squares, PairConfig(memory=2)),
        PairDataset(cache, PairConfig(memory=2)),
    )
    for index in range(20):
        for name, value in first[index].items():
            assert np.array_equal(np.asarray(value), np.asarray(second[index][name])), name


def sizes(squares):
    return np.diff(squares.offsets)


@pytest.mark.parametrize("megabytes", [0.03, 0.08, 0.15])
def test_the_file_is_as_large_as_asked_and_no_larger(squares, tmp_path, megabytes):
    path = pack_cache(squares, np.ones(10), tmp_path / "p", megabytes=megabytes).path
    assert megabytes * 1e6 - sizes(squares).max() - 10_000 < path.stat().st_size <= megabytes * 1e6


def clips(count, frames, tmp_path, stills=0):
    image = np.zeros((60, 60, 3), np.uint8)
    rows = [(number, image, np.array([20.0, 20, 20, 20])) for number in range(frames)]
    tracks = [TrackFrames(f"clip{n}", "clips", "", "", rows) for n in range(count)]
    tracks += [
        TrackFrames(f"still{n}", "stills", "", f"image{n // 2}", rows[:1]) for n in range(stills)
    ]
    return build_cache(tracks, tmp_path / "cache", CacheConfig(), "clips")


def test_tracks_get_crops_as_often_as_a_run_draws_from_them(tmp_path):
    cache = clips(4, 64, tmp_path)
    weights = np.array([0.0, 1.0, 2.0, 8.0])
    order, track_of = packing_order(cache, weights)
    assert len(order) == 3 * 64 and 0 not in track_of[order]
    for n in (22, 44, 66):  # of the first 66, 48 are of the last clip
        got = np.bincount(track_of[order[:n]], minlength=4)
        np.testing.assert_allclose(got, n * weights / weights.sum(), atol=1.01)
    # Nothing is left of the last clip then, and the others share what follows.
    assert np.bincount(track_of[order[:130]], minlength=4)[3] == 64


def test_few_frames_of_a_clip_are_spread_over_it(tmp_path):
    order, _ = packing_order(clips(1, 50, tmp_path), np.ones(1))
    for n in (2, 4, 8, 16):
        gaps = np.diff(np.sort(order[:n]), append=50)
        assert gaps.max() <= 64 / n, (n, gaps)


def test_the_objects_of_one_picture_come_together(tmp_path):
    order, _ = packing_order(clips(0, 1, tmp_path, stills=40), np.ones(40))
    assert (order[::2] // 2 == order[1::2] // 2).all()
    assert (np.diff(order[::2]) < 0).any()  # in another order than they lie


def test_sets_without_weight_stay_out_and_sets_are_counted(squares, tmp_path):
    weights = track_weights(squares, PairConfig(set_weights={"stills": 0.0}))
    packed = pack_cache(squares, weights, tmp_path / "p", megabytes=1)
    assert packed.crops == {"clips": 20} and packed.tracks == {"clips": 4}
    assert {track.set_name for track in CropCache(packed.path).tracks} == {"clips"}


def test_lower_quality_packs_more(squares, tmp_path):
    as_stored = pack_cache(squares, np.ones(10), tmp_path / "a", megabytes=0.06)
    lower = pack_cache(squares, np.ones(10), tmp_path / "b", megabytes=0.06, quality=30)
    assert sum(lower.crops.values()) > 1.5 * sum(as_stored.crops.values())
    cache = CropCache(lower.path)
    assert cache.config.jpeg_quality == 30
    assert cache.identity != CropCache(as_stored.path).identity
    crop, number = cache.read(0)[0].astype(float), squares.tracks[0].first
    assert np.abs(crop - squares.read(number)[0]).mean() < 12


def test_a_damaged_crop_is_left_out_with_a_word(squares, tmp_path, caplog):
    folder = tmp_path / "damaged"
    folder.mkdir()
    for name in ("index.npz", "tracks.json", "crops.bin"):
        (folder / name).write_bytes((squares.folder / name).read_bytes())
    content = bytearray((folder / "crops.bin").read_bytes())
    content[int(squares.offsets[20]) + 30] ^= 255
    (folder / "crops.bin").write_bytes(content)
    packed = pack_cache(CropCache(folder), np.ones(10), tmp_path / "p", megabytes=1)
    assert packed.crops == {"clips": 20, "stills": 5}
    assert "crop 20 has changed" in caplog.text and "it is left out" in caplog.text


def test_what_cannot_be_packed_is_refused(squares, packed, tmp_path):
    for changes, error, says in (
        ({"megabytes": 0}, ConfigError, "0 MB is nothing"),
        ({"megabytes": float("nan")}, ConfigError, "nan MB is nothing"),
        ({"quality": 101}, ConfigError, "quality 101 is not between"),
        ({"megabytes": 0.001}, DatasetError, "no crop of cache .* fits into 0.001 MB"),
    ):
        with pytest.raises(error, match=says):
            pack_cache(squares, np.ones(10), tmp_path / "p", **{"megabytes": 1, **changes})
    with pytest.raises(OutputError, match="exists; remove it"):
        pack_cache(squares, np.ones(10), packed, megabytes=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        pack_cache(squares, np.ones(10), tmp_path / "file" / "p", megabytes=1)


def rewritten(packed, out, *, leave_out="", compression=zipfile.ZIP_STORED, change=None):
    with zipfile.ZipFile(packed) as archive, zipfile.ZipFile(out, "w", compression) as other:
        for name in archive.namelist():
            if name != leave_out:
                content = archive.read(name)
                other.writestr(name, change(name, content) if change else content)
    return out


def test_damaged_files_are_refused_by_name(packed, tmp_path):
    text = tmp_path / "text"
    text.write_text("a cache")
    short = tmp_path / "short"
    short.write_bytes(packed.read_bytes()[:-5000])
    files = {
        "not a zip file": text,
        "File is not a zip file": short,
        "index.npz missing": rewritten(packed, tmp_path / "a", leave_out="index.npz"),
        "it is compressed": rewritten(packed, tmp_path / "b", compression=zipfile.ZIP_DEFLATED),
    }
    for says, path in files.items():
        with pytest.raises(DatasetError, match=f"{path} is not a packed crop cache.*{says}"):
            CropCache(path)
    # The directory at the end of the archive is whole, while what it points to is not.
    gap = tmp_path / "gap"
    content = packed.read_bytes()
    start = content.index(b"crops.bin") + 2000
    gap.write_bytes(content[:start] + content[start + 3000 :])
    with pytest.raises(DatasetError, match="gap"):
        CropCache(gap)


def test_files_of_another_version_or_changed_inside_are_refused(packed, tmp_path):
    def older(name, content):
        return content.replace(b'"format": 4', b'"format": 9') if name == "tracks.json" else content

    def shorter(name, content):
        return content[:-10] if name == "crops.bin" else content

    def flipped(name, content):
        return content[:300] + b"?" + content[301:] if name == "index.npz" else content

    for number, (change, says) in enumerate(
        {older: "has format 9, 4 is needed", shorter: "bytes instead of",
         flipped: "its checksum is another one"}.items()
    ):  # fmt: skip
        with pytest.raises(DatasetError, match=says):
            CropCache(rewritten(packed, tmp_path / str(number), change=change))
