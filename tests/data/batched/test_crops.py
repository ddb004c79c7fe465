"""The batched sampling of windows equals the one that cuts a window at a time."""

import cv2
import numpy as np
import pytest
import torch

from siamtrack.crops import crop_window
from siamtrack.data.batched import crops as module
from siamtrack.data.batched.crops import DeviceCrops
from siamtrack.data.batched.dice import Dice
from siamtrack.data.batched.draws import CropDraws
from siamtrack.data.batched.windows import context_sides, cut_windows, draw_turns
from siamtrack.data.cache import CacheConfig, CropCache, TrackFrames, build_cache
from siamtrack.data.pairs import PairConfig, PairDataset, rotate_about_box
from siamtrack.errors import DatasetError, TrainingError
from siamtrack.geometry import context_side

from .conftest import CPU, picture


def to_bgr(pixels):
    return pixels.numpy()[..., ::-1]


def sampled(on_device, cache, number, window, size, *, replicate, fill, **turn):
    """One window, batched; outside the repeated border or a color."""
    origin, wh = np.array(window[:2]), np.array(window[2:])
    pixels, inside = on_device.sample(
        torch.tensor([number]), torch.tensor(origin)[None], torch.tensor(wh / size)[None], size,
        **turn,
    )  # fmt: skip
    if not replicate:
        pixels = torch.lerp(
            torch.tensor(fill[::-1].copy()).float().expand_as(pixels), pixels, inside
        )
    return to_bgr(pixels)[0]


@pytest.mark.parametrize("replicate", [True, False])
@pytest.mark.parametrize("factor", [0.4, 1.3, 2.7, 6.0])
def test_windows_equal_those_of_crop_window(pictures, on_device, rng, factor, replicate):
    """Windows over the edge and inside, enlarged, shrunk, and shrunk beyond one block of pixels."""
    size, border = 48, cv2.BORDER_REPLICATE if replicate else cv2.BORDER_CONSTANT
    for _ in range(12):
        number = int(rng.integers(len(pictures)))
        image, _ = pictures.read(number)
        wh = size * factor * rng.uniform(0.9, 1.1, 2)
        origin = rng.uniform(-0.4, 1.0, 2) * image.shape[1::-1] - 0.2 * wh
        fill = rng.uniform(0, 255, 3)
        window = (*origin, *wh)
        wanted = crop_window(image, window, (size, size), fill_bgr=fill, border=border)
        found = sampled(on_device, pictures, number, window, size, replicate=replicate, fill=fill)
        off = np.abs(found - wanted)
        # The levels' blocks lie elsewhere: a smooth picture shows it by a few gray levels.
        assert off.mean() < (0.6 if factor < 2 else 2.5), (window, off.mean())
        if factor < 2:
            assert off.max() < 8  # at the edge, by 1/32 px of the step to the fill


def test_turned_windows_equal_turning_first_and_cutting_then(pictures, on_device, rng):
    size = 64
    for _ in range(10):
        number = int(rng.integers(len(pictures)))
        image, box = pictures.read(number)
        angle = rng.uniform(-0.7, 0.7)
        turned, _ = rotate_about_box(image, box, angle)
        wh = rng.uniform(60, 110, 2)
        origin = box[:2] + box[2:] / 2 - wh * rng.uniform(0.3, 0.7, 2)
        window, center = (*origin, *wh), box[:2] + box[2:] / 2
        fill = np.array([10.0, 20.0, 30.0])
        wanted = crop_window(turned, window, (size, size), fill_bgr=fill)
        found = sampled(
            on_device, pictures, number, window, size, replicate=False, fill=fill,
            angle=torch.tensor([angle]), pivot_xy=torch.tensor(center)[None],
        )  # fmt: skip
        assert np.abs(found - wanted).mean() < 1.2


def draws_of(cache, on_device, config):
    weights = np.ones(len(cache.tracks))
    return CropDraws(cache, config, weights, on_device.usable, on_device.size_wh)


@pytest.mark.parametrize(
    "config",
    [
        PairConfig(fill_replicate=0.0, fill_photo=0.0),
        PairConfig(fill_replicate=1.0, fill_photo=0.0),
        PairConfig(fill_replicate=0.0, fill_photo=1.0),
    ],
    ids=["mean", "border", "photo"],
)
def test_images_and_boxes_equal_those_of_the_loader(tmp_path, rng, config):
    """The same window with the same filling: one square crop, so that the photograph is it too."""
    track = TrackFrames(
        "still", "", "", "still", [(0, picture(rng, 200, 200), np.array([70.0, 80, 50, 40]))]
    )
    cache = build_cache([track], tmp_path / "one", CacheConfig(reach=9.0), "one")
    image, box = cache.read(0)
    assert image.shape == (200, 200, 3)
    device_crops = DeviceCrops(cache, CPU)
    loader = PairDataset(cache, config)
    for _ in range(8):
        wh, shift = rng.uniform(150, 330, 2), rng.uniform(-0.3, 0.3, 2)
        wanted, wanted_box = loader._cut_window(image, box, (wh, shift), 96, rng)
        found, found_box = cut_windows(
            device_crops, draws_of(cache, device_crops, config), torch.tensor([0]),
            torch.tensor(box)[None], (torch.tensor(wh)[None], torch.tensor(shift)[None]), 96,
            Dice(0),
        )  # fmt: skip
        np.testing.assert_allclose(found_box[0], wanted_box, atol=1e-9)
        assert np.abs(to_bgr(found)[0] - wanted).mean() < 2.0


def test_turned_boxes_equal_those_of_the_loader(pictures, rng):
    boxes = torch.tensor(rng.uniform(10, 60, (50, 4)))
    angle, turned = draw_turns(boxes, PairConfig(rotation=0.8, rotation_deg=40), Dice(0))
    image = np.zeros((100, 100, 3), np.uint8)
    for box, radians, wanted in zip(boxes.numpy(), angle.tolist(), turned.numpy(), strict=True):
        np.testing.assert_allclose(rotate_about_box(image, box, radians)[1], wanted, atol=1e-9)
    assert 0 < int((angle == 0).sum()) < 25
    assert float(angle.abs().max()) <= np.deg2rad(40)


def test_context_sides_are_those_of_the_geometry(rng):
    boxes = rng.uniform(5, 90, (20, 4))
    wanted = context_side(boxes[:, 2], boxes[:, 3])
    np.testing.assert_allclose(context_sides(torch.tensor(boxes)), wanted)


def test_damaged_crops_are_left_out_and_named(pictures, tmp_path, caplog):
    damaged = damage(pictures, tmp_path / "some", [3, 7])
    found = DeviceCrops(damaged, CPU, threads=2)
    assert np.flatnonzero(~found.usable).tolist() == [3, 7]
    assert "crop 3 has changed" in caplog.text and "2 of 32 crops are left out" in caplog.text
    draws = draws_of(damaged, found, PairConfig())
    drawn = torch.cat(
        [*draws.frames(Dice(0), draws.tracks(Dice(1), 2000)), draws.any_crop(Dice(2), 2000),
         draws.others(Dice(3), draws.tracks(Dice(4), 2000))]
    )  # fmt: skip
    assert set(range(32)) - set(drawn.tolist()) == {3, 7}
    with pytest.raises(DatasetError, match=r"no crop of cache .* can be decoded"):
        DeviceCrops(damage(pictures, tmp_path / "all", range(32)), CPU)


def damage(cache, folder, crops):
    folder.mkdir()
    for name in ("index.npz", "tracks.json", "crops.bin"):
        (folder / name).write_bytes((cache.folder / name).read_bytes())
    content = bytearray((folder / "crops.bin").read_bytes())
    for crop in crops:
        content[int(cache.offsets[crop]) + 40] ^= 255
    (folder / "crops.bin").write_bytes(content)
    return CropCache(folder)


def test_a_device_without_memory_is_told_what_to_do(pictures, monkeypatch):
    def full(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore")

    monkeypatch.setattr(module.torch, "empty", full)
    with pytest.raises(
        TrainingError, match=r"32 crops .* GB decoded, and cpu has not as much memory \(CUDA out "
        r"of memory. Tried to allocate 2.00 GiB\); pack fewer with siamtrack pack-cache"
    ):  # fmt: skip
        DeviceCrops(pictures, CPU)
