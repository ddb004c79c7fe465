"""Folders and patterns of pictures."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamtrack.errors import VideoError
from siamtrack.utils.images import natural_key
from siamtrack.video.source import open_source


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def gray(level: int, wh: tuple[int, int] = (30, 20)) -> np.ndarray:
    return np.full((wh[1], wh[0], 3), level, dtype=np.uint8)


def level_of(image: np.ndarray) -> int:
    return round(float(image.mean()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures 1 to 12 without leading zeros, whose gray level is their number, and other files."""
    for k in random.Random(0).sample(range(1, 13), 12):
        save(tmp_path / f"frame{k}.png", gray(10 * k))
    (tmp_path / "groundtruth.txt").write_text("1,2,3,4\n")
    (tmp_path / "._frame1.png").write_bytes(b"shadow")
    return tmp_path


@pytest.mark.parametrize("how", ["folder", "slash", "pattern"])
def test_pictures_come_in_natural_order(folder: Path, how: str) -> None:
    given = {"folder": folder, "slash": f"{folder}/", "pattern": f"{folder}/frame*.png"}[how]
    with open_source(given) as source:
        assert (source.frame_wh, source.frame_count, source.is_live) == ((30, 20), 12, False)
        frames = list(source)
    assert [level_of(f.image) for f in frames] == [10 * k for k in range(1, 13)]
    assert [f.index for f in frames] == list(range(12))
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(12) / 30)


def test_a_pattern_may_span_folders(tmp_path: Path) -> None:
    for k, name in enumerate(["b2/a.png", "b10/a.png", "b10/b.png"]):
        save(tmp_path / name, gray(50 * k))
    with open_source(f"{tmp_path}/**/*.png") as source:
        assert [level_of(f.image) for f in source] == [0, 50, 100]


def test_the_assumed_rate_can_be_given(folder: Path) -> None:
    with open_source(folder, fps=10) as source:
        assert source.fps == 10
        assert [f.time_s for f in source][:3] == [0.0, 0.1, 0.2]


def test_a_single_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    with open_source(save(tmp_path / "a.JPG", gray(80))) as source:
        assert (source.name, source.frame_count) == ("a.JPG", 1)
        assert level_of(next(source).image) == 80


@given(st.lists(st.integers(0, 10**9), unique=True), st.randoms(use_true_random=False))
def test_natural_order_is_numeric(numbers: list[int], shuffle: random.Random) -> None:
    paths = [Path(f"a{n}b.png") for n in sorted(numbers)]
    mixed = paths.copy()
    shuffle.shuffle(mixed)
    assert sorted(mixed, key=natural_key) == paths


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    assert len(sorted(map(Path, names), key=natural_key)) == len(names)


@pytest.mark.parametrize(
    ("name", "stored", "expected_bgr"),
    [
        ("gray.png", np.full((20, 30), 77, np.uint8), (77, 77, 77)),
        ("deep.png", np.full((20, 30), 40000, np.uint16), (156, 156, 156)),
        ("deep.tif", np.full((20, 30, 3), (1000, 30000, 65535), np.uint16), (3, 117, 255)),
        ("clear.png", np.full((20, 30, 4), (10, 20, 30, 0), np.uint8), (10, 20, 30)),
        ("plain.bmp", np.full((20, 30, 3), (10, 20, 30), np.uint8), (10, 20, 30)),
        ("plain.webp", np.full((20, 30, 3), (10, 20, 200), np.uint8), (10, 20, 200)),
    ],
)
def test_every_kind_of_picture_becomes_bgr_of_8_bits(
    tmp_path: Path, name: str, stored: np.ndarray, expected_bgr: tuple[int, int, int]
) -> None:
    with open_source(save(tmp_path / name, stored).parent) as source:
        image = next(source).image
    assert (image.dtype, image.shape) == (np.uint8, (20, 30, 3))
    assert image.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(image.reshape(-1, 3).mean(axis=0), expected_bgr, atol=2)


def test_sizes_may_change_on_the_way(tmp_path: Path) -> None:
    for k, wh in enumerate([(30, 20), (40, 24), (30, 20)]):
        save(tmp_path / f"{k}.png", gray(0, wh))
    with open_source(tmp_path) as source:
        assert source.frame_wh == (30, 20)
        assert [f.image.shape for f in source] == [(20, 30, 3), (24, 40, 3), (20, 30, 3)]


def test_pictures_that_cannot_be_read_are_skipped_and_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "frame1.png").write_bytes(b"")
    (folder / "frame5.png").write_text("not a picture")
    (folder / "frame7.png").unlink()
    (folder / "frame7.png").mkdir()
    with caplog.at_level(logging.WARNING), open_source(folder) as source:
        frames = list(source)
    assert [level_of(f.image) for f in frames] == [20, 30, 40, 60, 80, 90, 100, 110, 120]
    assert [f.index for f in frames] == list(range(9))
    # The gaps stay in time, so that boxes can be matched with other sensors.
    expected_s = np.array([1, 2, 3, 5, 7, 8, 9, 10, 11]) / 30
    np.testing.assert_allclose([f.time_s for f in frames], expected_s)
    assert source.unreadable == 3
    assert "3 frame(s) could not be read, 9 could" in caplog.text


def test_a_picture_that_vanishes_while_reading_is_counted(folder: Path) -> None:
    with open_source(folder) as source:
        next(source)
        (folder / "frame2.png").unlink()
        assert level_of(next(source).image) == 30
        assert source.unreadable == 1


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(VideoError, match=r"no pictures in .* \(1 other file\(s\)\); give"):
        open_source(tmp_path)


def test_a_pattern_without_match_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"no pictures in .*\*\.jpg \(0 other"):
        open_source(f"{tmp_path}/*.jpg")


def test_a_folder_of_broken_pictures_is_refused(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).write_text("not a picture")
    with pytest.raises(VideoError, match=r"none of its 2 picture\(s\) can be read; they must be"):
        open_source(tmp_path)


def test_pictures_of_real_numbers_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "depth.tif", np.full((20, 30), 0.5, dtype=np.float32))
    with pytest.raises(VideoError, match="8 or 16 bits per channel"):
        open_source(tmp_path)
