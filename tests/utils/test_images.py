"""Picture files: reading, sizes, natural order."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tifffile

from siamtrack.errors import DatasetError
from siamtrack.utils.images import image_size, list_images, natural_key, read_image


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif"])
def test_pictures_are_read_as_bgr(tmp_path: Path, suffix: str) -> None:
    color = np.zeros((48, 64, 3), np.uint8)
    color[..., 0], color[..., 2] = 200, 30
    cv2.imwrite(str(tmp_path / f"a{suffix}"), color)
    picture = read_image(tmp_path / f"a{suffix}", upright=False)
    assert picture.shape == (48, 64, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_allclose(picture[10, 10], [200, 0, 30], atol=8)


def test_gray_and_transparent_pictures_become_three_channels(tmp_path: Path) -> None:
    PIL.Image.new("L", (5, 3), 77).save(tmp_path / "gray.png")
    PIL.Image.new("RGBA", (5, 3), (10, 20, 30, 0)).save(tmp_path / "alpha.png")
    assert (read_image(tmp_path / "gray.png", upright=False) == 77).all()
    assert read_image(tmp_path / "alpha.png", upright=False)[0, 0].tolist() == [0, 0, 0]


def test_names_with_other_letters_can_be_read(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (5, 3)).save(tmp_path / "Vögel 鳥.png")
    assert read_image(tmp_path / "Vögel 鳥.png", upright=False).shape == (3, 5, 3)


def test_exif_orientation_is_applied_only_when_asked(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg", upright=False).shape == (10, 20, 3)
    assert read_image(tmp_path / "a.jpg", upright=True).shape == (20, 10, 3)
    assert image_size(tmp_path / "a.jpg") == (20, 10)
    assert image_size(tmp_path / "a.jpg", upright=True) == (10, 20)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "lzw.tif", "deep.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_in_every_format(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Against Pillow's `exif_transpose`; as it is stored where that is asked for."""
    ramp = np.add.outer(np.arange(24), np.arange(40)).astype(np.uint8) * 4
    shown = PIL.Image.fromarray(np.dstack([ramp, ramp[::-1], ramp[:, ::-1]]))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    if suffix == "deep.tif":
        shown = PIL.Image.fromarray(ramp.astype(np.uint16) * 257)
    options: dict[str, Any] = {"webp": {"lossless": True}, "jpg": {"quality": 95}}.get(suffix, {})
    if suffix in ("lzw.tif", "deep.tif"):
        options = {"compression": "tiff_lzw"}
    shown.save(path, exif=exif, **options)
    stored = PIL.Image.open(path) if suffix == "jpg" else shown
    tagged = stored.copy()
    tagged.getexif()[0x0112] = orientation
    expected = PIL.ImageOps.exif_transpose(tagged)
    for upright, wanted in ((False, stored), (True, expected)):
        array = np.asarray(wanted)
        array = array // 257 if array.ndim == 2 else array[..., ::-1]
        array = np.repeat(array[..., None], 3, 2) if array.ndim == 2 else array
        read = read_image(path, upright=upright)
        assert read.shape == array.shape
        assert np.abs(read.astype(int) - array).max() <= 1
        assert image_size(path, upright=upright) == wanted.size


def test_the_orientation_of_a_picture_behind_is_not_that_of_a_jpeg(tmp_path: Path) -> None:
    """Phones hang films and depth maps on to their pictures."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    first, second = tmp_path / "a.jpg", tmp_path / "b.jpg"
    PIL.Image.new("RGB", (20, 10)).save(first)
    PIL.Image.new("RGB", (30, 10)).save(second, exif=exif)
    first.write_bytes(first.read_bytes() + second.read_bytes())
    assert read_image(first, upright=True).shape == (10, 20, 3)
    assert image_size(first, upright=True) == (20, 10)


def test_half_a_picture_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    for suffix in ("jpg", "png", "webp"):
        path = tmp_path / f"a.{suffix}"
        cv2.imwrite(str(path), noise)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DatasetError, match=r"a\.\w+ .* cannot be decoded"):
            read_image(path, upright=False)


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=f"{len(content)} bytes"):
        read_image(path, upright=False)
    with pytest.raises(DatasetError, match="cannot be read"):
        image_size(path)


def test_a_header_with_an_excessive_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PIL.Image.new("RGB", (5, 3)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">2I", 2**20, 2**20)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="cannot be decoded"):
        read_image(path, upright=False)
    with pytest.raises(DatasetError, match="cannot be read"):
        image_size(path)


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.jpg cannot be read: No such file"):
        read_image(tmp_path / "gone.jpg", upright=False)


def test_pictures_of_a_folder_are_in_natural_order(tmp_path: Path) -> None:
    for name in ("a10.jpg", "A2.JPG", "a1.png", "notes.txt", "._1.jpg"):
        (tmp_path / name).touch()
    assert list_images(tmp_path) == ("a1.png", "A2.JPG", "a10.jpg")


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (np.full((3, 5), 40000, np.uint16), (156, 156, 156)),
        (np.full((3, 5, 3), (1000, 30000, 65535), np.uint16), (3, 117, 255)),
        (np.full((3, 5, 4), (10, 20, 30, 40), np.uint8), (10, 20, 30, 40)),
        (np.full((3, 5), 77, np.uint8), (77, 77, 77)),
    ],
)
def test_alpha_is_kept_when_asked(tmp_path: Path, stored: np.ndarray, expected: tuple) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), stored)
    image = read_image(tmp_path / "a.png", upright=False, alpha=True)
    assert image.dtype == np.uint8
    assert image.shape[:2] == (3, 5)
    assert tuple(image[1, 1]) == expected


def test_the_size_of_pictures_that_pillow_does_not_know(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 5, 3), np.float32), photometric="rgb")
    assert image_size(tmp_path / "a.tif") == (5, 3)


def test_the_size_of_a_turned_avif_is_that_of_its_pixels(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (20, 10)).save(tmp_path / "a.avif", exif=exif)
    for upright in (False, True):
        height, width = read_image(tmp_path / "a.avif", upright=upright).shape[:2]
        assert image_size(tmp_path / "a.avif", upright=upright) == (width, height) == (10, 20)


@pytest.mark.parametrize("first", [".jpg", ".jpeg"])
def test_masks_of_the_same_names_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, first: str
) -> None:
    for name in ("000", "001", "002"):
        (tmp_path / f"{name}{first}").write_bytes(b"a")
    for name in ("000", "001"):
        (tmp_path / f"{name}.png").write_bytes(b"more")
    assert list_images(tmp_path) == tuple(f"{name}{first}" for name in ("000", "001", "002"))
    assert "2 such pairs: the .png pictures are left out" in caplog.text


def test_pictures_that_share_some_names_are_all_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("0.png", "1.png", "1.bmp", "2.bmp"):
        (tmp_path / name).touch()
    assert len(list_images(tmp_path)) == 4
    assert "1 such pairs: both are read" in caplog.text


@pytest.mark.parametrize(
    ("names", "is_said"),
    [
        (("0", "0_mask", "1", "1_mask"), True),
        (("left_000", "left_001", "right_000", "right_001"), True),
        (("a1", "a2", "b3", "b4"), False),
        (("1", "2", "cover"), False),
    ],
)
def test_two_series_of_pictures_in_a_folder_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: tuple[str, ...], is_said: bool
) -> None:
    for name in names:
        (tmp_path / f"{name}.png").touch()
    assert len(list_images(tmp_path)) == len(names)
    assert ("with the same numbers" in caplog.text) == is_said


def test_gifs_and_pictures_of_other_names_count_where_there_are_no_others(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (5, 3)).save(tmp_path / "10.gif")
    PIL.Image.new("RGB", (5, 3)).save(tmp_path / "2.dat", format="TIFF")
    (tmp_path / "notes.txt").write_text("P5 is a format")
    assert list_images(tmp_path) == ("2.dat", "10.gif")
    PIL.Image.new("RGB", (5, 3)).save(tmp_path / "7.png")
    assert list_images(tmp_path) == ("7.png",)


def test_a_page_that_is_not_there_is_refused(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (5, 3)).save(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=r"has no page 1; it has 1, from 0"):
        read_image(tmp_path / "a.png", upright=False, page=1)


def test_paths_are_ordered_folder_by_folder() -> None:
    paths = [Path("a/2.png"), Path("a/10.png"), Path("a-b/1.png"), Path("B/1.png")]
    assert sorted(reversed(paths), key=natural_key) == paths


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(20)  # what opens it waits for ever
@pytest.mark.parametrize("name", ["001.png", "pipe"])
def test_a_named_pipe_is_no_picture(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    PIL.Image.new("RGB", (5, 3)).save(tmp_path / "000.png")
    assert list_images(tmp_path) == ("000.png",)
    (tmp_path / "000.png").rename(tmp_path / "picture")  # the content decides
    assert list_images(tmp_path) == ("picture",)
