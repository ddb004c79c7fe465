"""Pictures of a folder: backgrounds, cut-outs, and what is refused."""

from __future__ import annotations

import logging
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrack.data.synthetic import FolderTextures, NoiseTextures
from siamtrack.data.synthetic.textures import blob_mask, cut_shape
from siamtrack.errors import DatasetError


def picture(rng: np.random.Generator, *shape: int, dtype: type = np.uint8) -> np.ndarray:
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def cutout_png(path: Path, color: tuple[int, int, int] = (10, 20, 230)) -> None:
    """A disc of one color on nothing, 80 x 60."""
    image = np.zeros((60, 80, 4), np.uint8)
    cv2.circle(image, (40, 30), 20, (*color, 255), cv2.FILLED)
    cv2.imwrite(str(path), image)


def save(path: Path, image: np.ndarray) -> None:
    assert cv2.imwrite(str(path), image)


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Two pictures, one in a folder of its own, and a cut-out."""
    (tmp_path / "deeper").mkdir()
    save(tmp_path / "a.jpg", np.full((50, 70, 3), (255, 0, 0), np.uint8))
    save(tmp_path / "deeper" / "B.PNG", np.full((90, 60, 3), (0, 255, 0), np.uint8))
    cutout_png(tmp_path / "disc.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def test_opaque_pictures_are_backgrounds_and_cutouts_are_objects(
    folder: Path, rng: np.random.Generator
) -> None:
    textures = FolderTextures(folder, cutout_share=1.0)
    shapes = {textures.background(rng).shape for _ in range(20)}
    assert shapes == {(50, 70, 3), (90, 60, 3)}
    cutout = textures.cutout(rng)
    # The disc is 41 px wide; 2 px of nothing are kept around it.
    assert cutout.alpha.shape == (45, 45)
    assert cutout.alpha[[0, 1, -1], :].max() == 0
    assert cutout.alpha.sum() == pytest.approx(np.pi * 20**2, rel=0.03)
    assert (cutout.image_bgr[cutout.alpha > 0.5] == (10, 20, 230)).all()


def test_cutout_share_is_the_probability_of_a_cutout(
    folder: Path, rng: np.random.Generator
) -> None:
    never = FolderTextures(folder, cutout_share=0.0)
    assert all(never.cutout(rng).alpha.shape != (45, 45) for _ in range(10))
    sometimes = FolderTextures(folder, cutout_share=0.5)
    found = [sometimes.cutout(rng).alpha.shape == (45, 45) for _ in range(60)]
    assert 15 < sum(found) < 45


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_depth_and_number_of_channels_becomes_bgr(
    tmp_path: Path, rng: np.random.Generator, channels: int, dtype: type
) -> None:
    image = picture(rng, 40, 50, channels, dtype=dtype)
    if channels == 4:
        image[..., 3] = np.iinfo(dtype).max  # opaque: not a cut-out
    save(tmp_path / "p.png", image)
    found = FolderTextures(tmp_path).background(rng)
    assert (found.shape, found.dtype) == ((40, 50, 3), np.uint8)
    expected = image[..., :3] // (1 if dtype == np.uint8 else 257)
    difference = found.astype(int) - np.broadcast_to(expected, (40, 50, 3))
    assert np.abs(difference).max() <= (0 if dtype == np.uint8 else 1)  # rounding


def test_gray_cutout(tmp_path: Path, rng: np.random.Generator) -> None:
    save(tmp_path / "a.png", picture(rng, 40, 40, 3))
    rows = np.full((30, 30, 2), 77, np.uint8)
    rows[..., 1] = 0
    rows[5:25, 5:25, 1] = 255
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 30, 30, 8, 4, 0, 0, 0)),
        (b"IDAT", zlib.compress(raw)),
        (b"IEND", b""),
    )
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    (tmp_path / "gray.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    cutout = FolderTextures(tmp_path, cutout_share=1.0).cutout(rng)
    assert cutout.alpha.shape == (24, 24)
    assert (cutout.image_bgr == 77).all()


def test_large_pictures_are_reduced(tmp_path: Path, rng: np.random.Generator) -> None:
    save(tmp_path / "a.jpg", np.zeros((400, 3200, 3), np.uint8))
    assert FolderTextures(tmp_path).background(rng).shape == (200, 1600, 3)


def test_unreadable_files_are_left_out_with_one_warning_each(
    tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "good.png", picture(rng, 40, 40, 3))
    for name in ("bad.jpg", "bad.png", "short.png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n but not really a picture at all"[:20])
    textures = FolderTextures(tmp_path)
    with caplog.at_level(logging.WARNING):
        for _ in range(40):
            assert textures.background(rng).shape == (40, 40, 3)
    assert sorted(record.args[0].name for record in caplog.records) == [  # type: ignore[index, union-attr]
        "bad.jpg",
        "bad.png",
        "short.png",
    ]


def test_draws_do_not_depend_on_earlier_reads(tmp_path: Path, rng: np.random.Generator) -> None:
    for number in range(4):
        save(tmp_path / f"{number}.png", np.full((40, 40, 3), number, np.uint8))
        (tmp_path / f"bad{number}.png").write_bytes(b"nothing")
    fresh, used = FolderTextures(tmp_path), FolderTextures(tmp_path, cache_size=1)
    for _ in range(30):
        used.background(rng)
    a, b = np.random.default_rng(5), np.random.default_rng(5)
    drawn = [(fresh.background(a)[0, 0, 0], used.background(b)[0, 0, 0]) for _ in range(20)]
    assert all(first == second for first, second in drawn)
    assert len({first for first, _ in drawn}) == 4


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="none is not a folder; give a folder of pictures"):
        FolderTextures(tmp_path / "none")


def test_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DatasetError, match="has 0 cut-outs and no opaque picture"):
        FolderTextures(tmp_path)


def test_folder_of_cutouts_alone(tmp_path: Path) -> None:
    cutout_png(tmp_path / "disc.png")
    with pytest.raises(DatasetError, match="has 1 cut-outs and no opaque picture; backgrounds"):
        FolderTextures(tmp_path)


def test_no_readable_picture(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "a.jpg").write_bytes(b"not a picture")
    (tmp_path / "b.tiff").write_bytes(b"II*\0 neither")
    textures = FolderTextures(tmp_path)
    with pytest.raises(DatasetError, match="none of 2 pictures"):
        textures.background(rng)


def test_fingerprint_follows_the_files(folder: Path, rng: np.random.Generator) -> None:
    before = FolderTextures(folder).fingerprint
    assert FolderTextures(folder).fingerprint == before
    assert FolderTextures(folder, cutout_share=0.1).fingerprint != before
    save(folder / "new.png", picture(rng, 8, 8, 3))
    assert FolderTextures(folder).fingerprint != before


@pytest.mark.parametrize("size_wh", [(40, 40), (120, 30), (17, 64)])
@pytest.mark.parametrize("roughness", [0.0, 0.25, 3.0])
def test_blob_fills_its_rectangle_and_keeps_off_its_border(
    rng: np.random.Generator, size_wh: tuple[int, int], roughness: float
) -> None:
    for _ in range(5):
        mask = blob_mask(size_wh, rng, roughness=roughness)
        assert mask.shape == size_wh[::-1]
        assert mask[[0, -1], :].max() == mask[:, [0, -1]].max() == 0
        solid = mask > 0.5
        rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
        assert (rows[0], columns[0]) <= (5, 5)
        assert rows[-1] >= size_wh[1] - 6
        assert columns[-1] >= size_wh[0] - 6
        if roughness == 0:
            ellipse = np.pi / 4 * (size_wh[0] - 4) * (size_wh[1] - 4)
            assert mask.sum() == pytest.approx(ellipse, rel=0.04)


def test_shapes_are_cut_where_there_is_contrast(rng: np.random.Generator) -> None:
    flat = np.full((200, 200, 3), 128, np.uint8)
    flat[:, 100:] = picture(rng, 200, 100, 3)
    spread = [float(cut_shape(flat, rng).image_bgr.std()) for _ in range(30)]
    assert np.mean(np.array(spread) > 10) > 0.9


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 900, 3), (15, 15, 3)])
def test_shapes_are_cut_out_of_the_smallest_pictures(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> None:
    cutout = cut_shape(picture(rng, *shape), rng)
    assert cutout.alpha.shape == cutout.image_bgr.shape[:2]
    assert cutout.alpha.max() == 1


def test_noise_needs_no_files_and_has_contrast(rng: np.random.Generator) -> None:
    textures = NoiseTextures(64)
    background, cutout = textures.background(rng), textures.cutout(rng)
    assert background.shape == (64, 64, 3)
    assert background.std(axis=(0, 1)).min() > 25
    assert cutout.alpha.max() == 1
    assert textures.fingerprint != NoiseTextures(128).fingerprint
