"""Training pairs: reproducible, balanced as asked, and with boxes that are where they say."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from siamtrack.data.augment import AugmentConfig
from siamtrack.data.cache import CropCache
from siamtrack.data.pairs import PairConfig, PairDataset, held_out_tracks, rotate_about_box
from siamtrack.errors import ConfigError, DatasetError
from siamtrack.training.batches import StepSampler, make_loader
from siamtrack.training.distributed import ProcessGroup

PLAIN = AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0, 0)
CLEAN = PairConfig(negative=0, rotation=0, fill_replicate=0, fill_photo=0, augment=PLAIN)


def target_color(picture, box):
    x, y, w, h = (int(v) for v in box)
    middle = picture[:, y + h // 4 : y + 3 * h // 4, x + w // 4 : x + 3 * w // 4]
    return middle.float().mean(dim=(1, 2))


def test_the_target_is_where_the_boxes_say(squares):
    pairs = PairDataset(squares, CLEAN, seed=1)
    for index in range(40):
        pair = pairs[index]
        z, x = (target_color(pair[k], pair[f"{k}_box"]) for k in "zx")
        torch.testing.assert_close(z, x, atol=8, rtol=0)
        assert z.max() > 100  # the background is darker than that


def test_memory_windows_show_the_target_and_change_no_pair(squares):
    plain = PairDataset(squares, CLEAN, seed=1)
    pairs = PairDataset(squares, replace(CLEAN, memory=3), seed=1)
    for index in range(20):
        pair, without = pairs[index], plain[index]
        assert pair["memory"].shape == (3, 3, 256, 256) and without["memory"].shape[0] == 0
        for key in ("z", "x", "z_box", "x_box"):
            assert torch.equal(pair[key], without[key])
        z = target_color(pair["z"], pair["z_box"])
        for window, box in zip(pair["memory"], pair["memory_box"], strict=True):
            torch.testing.assert_close(target_color(window, box), z, atol=8, rtol=0)
    boxes = torch.cat([pairs[index]["memory_box"] for index in range(20)])
    assert len(boxes.unique(dim=0)) == 60
    assert torch.equal(pairs[3]["memory"], pairs[3]["memory"])


def test_windows_are_jittered_as_far_as_asked_and_no_farther(squares):
    pairs = PairDataset(squares, CLEAN, seed=2)
    boxes = torch.stack([pairs[i]["x_box"] for i in range(300)])
    offset = boxes[:, :2] + boxes[:, 2:] / 2 - 128
    assert offset.abs().max() <= 72.5 and offset.abs().max() > 60
    # A square of 30 px in a window of 4 x 30 px, at scales exp(+-0.3).
    side = (boxes[:, 2] * boxes[:, 3]).sqrt()
    assert side.min() > 64 * np.exp(-0.32) and side.max() < 64 * np.exp(0.32)
    z_boxes = torch.stack([pairs[i]["z_box"] for i in range(300)])
    assert (z_boxes[:, :2] + z_boxes[:, 2:] / 2 - 64).abs().max() <= 8.5


def test_search_images_are_rotated_with_the_given_probability(squares):
    upright = PairDataset(squares, CLEAN, seed=2)
    turning = replace(CLEAN, rotation=0.5, rotation_deg=45.0)
    turned = PairDataset(squares, turning, seed=2)
    # A turned square shows its background in the corners of its box.
    full = [_corner_is_target(upright[i]) for i in range(60)]
    tilted = [_corner_is_target(turned[i]) for i in range(60)]
    assert np.mean(full) > 0.9
    assert 0.3 < np.mean(tilted) < 0.8


def _corner_is_target(pair):
    x, y, w, h = pair["x_box"].tolist()
    corners = [(x + a * w, y + b * h) for a in (0.06, 0.94) for b in (0.06, 0.94)]
    inside = [(int(u), int(v)) for u, v in corners if 0 <= u < 256 and 0 <= v < 256]
    want = target_color(pair["z"], pair["z_box"])
    near = [float((pair["x"][:, v, u].float() - want).abs().max()) < 60 for u, v in inside]
    return all(near)


def test_a_pair_is_a_function_of_seed_and_index(squares):
    a, b = (PairDataset(squares, PairConfig(), seed=3) for _ in range(2))
    other = PairDataset(squares, PairConfig(), seed=4)
    for index in (0, 7, 10**9):
        for key in ("z", "x", "z_box", "x_box", "positive", "distractor_box"):
            assert torch.equal(a[index][key], b[index][key])
        assert not torch.equal(a[index]["x"], other[index]["x"])


@pytest.fixture
def opencv_threads():
    """OpenCV's threads at work: a process that is forked now hangs when it asks for them."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    cv2.warpAffine(np.zeros((2000, 2000, 3), np.uint8), np.eye(2, 3), (2000, 2000))
    yield
    cv2.setNumThreads(before)


@pytest.mark.usefixtures("opencv_threads")
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on one core
@pytest.mark.parametrize("workers", [0, 2])
def test_workers_do_not_change_the_batches(squares, workers):
    pairs = PairDataset(squares, PairConfig(), seed=3)
    loader = make_loader(pairs, StepSampler(5, 8, 4, ProcessGroup()), workers=workers)
    batches = list(loader)
    assert [b["index"].tolist() for b in batches] == [
        [20 + 4 * s + i for i in range(4)] for s in range(3)
    ]
    assert torch.equal(batches[1]["x"][2], pairs[26]["x"])


def test_processes_share_a_step_without_overlap():
    whole = list(StepSampler(3, 5, 4, ProcessGroup()))
    parts = [list(StepSampler(3, 5, 2, ProcessGroup(rank, 2))) for rank in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole


def test_negatives_come_as_often_as_asked_and_never_show_the_target(squares):
    pairs = PairDataset(squares, replace(CLEAN, negative=0.5), seed=5)
    drawn = [pairs[i] for i in range(200)]
    negatives = [p for p in drawn if not p["positive"]]
    assert 70 < len(negatives) < 130
    same = 0
    for pair in negatives:
        z, x = (target_color(pair[k], pair[f"{k}_box"]) for k in "zx")
        same += bool((z - x).abs().max() < 8)
    assert same == 0


def test_set_weights_choose_sets(squares):
    only_clips = replace(CLEAN, set_weights={"stills": 0.0})
    firsts = {
        PairDataset(squares, only_clips)._draw_track(np.random.default_rng(i)).set_name
        for i in range(50)
    }
    assert firsts == {"clips"}


def test_video_pairs_respect_the_gap(squares):
    config = replace(CLEAN, max_gap=10, set_weights={"stills": 0.0})
    pairs = PairDataset(squares, config)
    track = squares.tracks[0]
    gaps = set()
    for seed in range(100):
        z, x = pairs._draw_frames(track, np.random.default_rng(seed))
        gaps.add(abs(int(squares.numbers[z] - squares.numbers[x])))
    assert gaps == {0, 10}


def test_held_out_tracks_are_never_trained_on(squares):
    parts = {
        part: PairDataset(squares, CLEAN, part=part, held_out=0.4) for part in ("train", "held_out")
    }
    drawn = {
        part: {data._draw_track(np.random.default_rng(i)).name for i in range(300)}
        for part, data in parts.items()
    }
    assert not drawn["train"] & drawn["held_out"]
    assert drawn["train"] and drawn["held_out"]
    for pair in range(3):  # two objects of one picture stay together
        names = {f"still{2 * pair}", f"still{2 * pair + 1}"}
        assert not (names & drawn["train"] and names & drawn["held_out"])


@pytest.mark.parametrize(
    ("clips", "share", "count"),
    [(3, 0.02, 0), (3, 0.34, 1), (3, 0.99, 2), (1, 0.5, 0), (2, 0.5, 1)],
)
def test_of_few_clips_one_is_held_out_or_none(squares, clips, share, count):
    weights = np.array(
        [track.name in [f"clip{n}" for n in range(clips)] for track in squares.tracks]
    )
    out = held_out_tracks(squares, weights.astype(float), share)
    assert (out & weights).sum() == count


def test_augmented_pairs_stay_images(squares):
    strong = AugmentConfig(0.5, 0.5, 0.5, 1, 1, 1, 1, 1, 1)
    pairs = PairDataset(squares, PairConfig(augment=strong, fill_photo=0.9))
    for index in range(30):
        pair = pairs[index]
        assert pair["x"].shape == (3, 256, 256) and pair["x"].dtype == torch.uint8
        assert pair["z"].shape == (3, 128, 128)
        assert pair["x"].float().std() > 1


def test_bad_weights_are_refused(squares):
    with pytest.raises(ConfigError, match="negative"):
        PairDataset(squares, PairConfig(set_weights={"clips": -1.0}))
    with pytest.raises(ConfigError, match="must be finite"):
        PairDataset(squares, PairConfig(other_weight=float("nan")))
    with pytest.raises(DatasetError, match="left to draw from"):
        PairDataset(squares, PairConfig(other_weight=0.0))


def damaged_copy(squares, folder, crops):
    shutil.copytree(squares.folder, folder)
    data = bytearray((folder / "crops.bin").read_bytes())
    for crop in crops:
        start, stop = squares.offsets[crop], squares.offsets[crop + 1]
        data[start:stop] = bytes(stop - start)
    (folder / "crops.bin").write_bytes(data)
    return CropCache(folder)


def test_a_damaged_image_is_replaced_counted_and_logged(squares, tmp_path, caplog):
    pairs = PairDataset(damaged_copy(squares, tmp_path / "c", range(0, 10)), CLEAN)
    drawn = [pairs[i] for i in range(30)]
    assert sum(p["skipped"] for p in drawn) > 0
    assert "make it again; another pair is taken" in caplog.text


def test_a_cache_of_nothing_but_damaged_images_is_an_error(squares, tmp_path):
    pairs = PairDataset(damaged_copy(squares, tmp_path / "c", range(26)), CLEAN)
    with pytest.raises(DatasetError, match="crops in a row"):
        pairs[0]


# Rotation


def ellipse_picture(box):
    x, y, w, h = box
    ys, xs = np.mgrid[:200, :240] + 0.5
    inside = ((xs - x - w / 2) / (w / 2)) ** 2 + ((ys - y - h / 2) / (h / 2)) ** 2 <= 1
    return np.where(inside[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2)


@pytest.mark.parametrize("degrees", [-75, -40, 0, 15, 45, 90])
def test_the_box_is_that_of_the_turned_ellipse(degrees):
    box = np.array([80.0, 70.0, 70.0, 30.0])
    picture, got = rotate_about_box(ellipse_picture(box), box, np.deg2rad(degrees))
    rows, columns = np.nonzero(picture[..., 0] > 127)
    seen = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    np.testing.assert_allclose(got, seen, atol=1.6)


def test_it_turns_clockwise():
    picture = np.zeros((100, 100, 3), np.uint8)
    cv2.circle(picture, (80, 50), 5, (255, 255, 255), -1)  # to the right of the middle
    turned, _ = rotate_about_box(picture, np.array([40.0, 40.0, 20.0, 20.0]), np.deg2rad(90))
    rows, columns = np.nonzero(turned[..., 0] > 127)
    assert abs(columns.mean() - 50) < 1.5 and abs(rows.mean() - 80) < 1.5  # now below it
