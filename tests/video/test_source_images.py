"""Folders and patterns of pictures."""

from __future__ import annotations

import logging
import random
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from siamtrack.errors import ConfigError, DatasetError, VideoError
from siamtrack.utils.images import natural_key, read_image
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
        ("clear.png", np.full((20, 30, 4), (10, 20, 30, 0), np.uint8), (0, 0, 0)),
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


# Depth: a narrow range of many values becomes 8 bits, the same way in all pictures.


def ramp(low: float, high: float, dtype: type) -> np.ndarray:
    """Values that rise from left to right, (40, 60)."""
    values = np.linspace(low, high, 60) * np.ones((40, 1))
    return (values if np.issubdtype(dtype, np.floating) else np.round(values)).astype(dtype)


def expected_of(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((values.astype(np.float64) - low) * 255 / (high - low), 0, 255)


@pytest.mark.parametrize(
    ("suffix", "dtype", "low", "high"),
    [
        (".png", np.uint16, 0, 1023),
        (".png", np.uint16, 29300, 30600),
        (".tif", np.uint16, 100, 612),
        (".tif", np.int16, -1000, 1000),
        (".tif", np.uint32, 0, 100_000),
        (".tif", np.int32, 2_000_000_000, 2_000_000_500),
        (".tif", np.float32, 0, 1),
        (".tif", np.float64, 293.0, 306.0),
        (".tif", np.float16, 0, 0.01),
        (".jp2", np.uint16, 0, 1023),
    ],
)
def test_deep_pictures_get_the_range_that_the_clip_uses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, dtype: type, low: int, high: int
) -> None:
    pictures = [ramp(low, high, dtype), ramp(high, low, dtype)]
    for k, picture in enumerate(pictures):
        path = tmp_path / f"{k}{suffix}"
        tifffile.imwrite(path, picture) if suffix == ".tif" else save(path, picture)
    with open_source(tmp_path, fps=30) as source:
        images = [frame.image for frame in source]
    for image, picture in zip(images, pictures, strict=True):
        # As much as the filter takes away at the ends, which is two of 60 columns.
        difference = np.abs(image[..., 0] - expected_of(picture, low, high))
        assert difference.max() < 255 * 3 / 60
        assert image.max() == 255
    (line,) = caplog.messages
    assert "are shown as black to white in the whole clip" in line
    assert "--range" in line


def test_hot_dead_and_missing_pixels_do_not_move_the_range(tmp_path: Path) -> None:
    for k in range(4):
        picture = ramp(29300, 30600, np.uint16)
        picture[5 + k, 7], picture[9, 20 + k] = 65535, 0
        picture[30:, :12] = 0  # without data
        save(tmp_path / f"{k}.png", picture)
        floats = ramp(29300, 30600, np.float32)
        floats[30:, :12], floats[3, 3] = np.nan, np.inf
        tifffile.imwrite(tmp_path / f"{k}.tif", floats)
    for pattern in ("*.png", "*.tif"):
        with open_source(f"{tmp_path}/{pattern}") as source:
            images = [frame.image[..., 0] for frame in source]
        for image in images:
            expected = expected_of(ramp(29300, 30600, np.uint16), 29300, 30600)
            # An eighth is left at either end, since these pixels lie there.
            assert np.abs(image - expected)[10:30].max() < 26
            assert (image[32:, :10] == 0).all()


@pytest.mark.parametrize("top", [255, 65535])
def test_8_bits_and_full_16_bits_are_not_stretched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, top: int
) -> None:
    dtype = np.uint8 if top == 255 else np.uint16
    picture = ramp(0, 15, np.uint8) if top == 255 else ramp(0, top, dtype)
    save(tmp_path / "0.png", picture)
    with open_source(tmp_path) as source:
        image = next(source).image
    assert (image[..., 1] == (picture if top == 255 else picture >> 8)).all()
    assert not caplog.messages


def test_signed_bytes_keep_their_order(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "0.tif", ramp(-128, 127, np.int8))
    with open_source(tmp_path) as source:
        image = next(source).image
    assert (image[..., 0] == ramp(-128, 127, np.int8).astype(np.int16) + 128).all()


@pytest.mark.parametrize(
    ("header", "values", "white"),
    [
        (b"P5\n60 40\n1023\n", ramp(0, 1000, np.uint16).astype(">u2"), 1023),
        (b"P5 60 40 # a comment\n 15\n", ramp(0, 15, np.uint8), 15),
        (b"P5\n60 40\n255\n", ramp(0, 15, np.uint8), 255),
        (b"P2\n# text\n60 40\n15\n", ramp(0, 15, np.uint8), 15),
    ],
)
def test_the_range_that_a_pgm_states_is_used(
    tmp_path: Path, header: bytes, values: np.ndarray, white: int
) -> None:
    text = " ".join(map(str, values.ravel())).encode()
    (tmp_path / "0.pgm").write_bytes(header + (text if b"P2" in header else values.tobytes()))
    with open_source(tmp_path) as source:
        image = next(source).image
    np.testing.assert_allclose(image[..., 2], expected_of(values, 0, white), atol=0.51)


def test_a_range_can_be_given(tmp_path: Path) -> None:
    picture = ramp(29300, 30600, np.uint16)
    save(tmp_path / "0.png", picture)
    with open_source(tmp_path, range=(29000, 31000)) as source:
        image = next(source).image
    np.testing.assert_allclose(image[..., 0], expected_of(picture, 29000, 31000), atol=0.51)


@pytest.mark.parametrize("wrong", [(5, 5), (1,), ("a", "b"), (0, float("nan")), 7])
def test_a_range_without_sense_is_refused(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(ConfigError, match="give the value that is black and the one"):
        open_source(tmp_path, range=wrong)
    with pytest.raises(ConfigError, match="camera 0 have 8 bits"):
        open_source(0, range=(0, 1))


def test_pictures_without_real_values_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "0.tif", np.zeros((4, 5), np.complex64))
    with pytest.raises(VideoError, match="8 to 32 bits per channel"):
        open_source(tmp_path)


def test_what_is_transparent_does_not_show_its_hidden_colors(tmp_path: Path) -> None:
    clear = np.full((20, 30, 4), (250, 250, 5, 255), np.uint8)
    clear[:, :10] = (5, 250, 5, 0)
    clear[:, 10:20, 3] = 51
    for suffix in (".png", ".webp"):
        options = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []
        assert cv2.imwrite(str(tmp_path / f"a{suffix}"), clear, options)
        with open_source(tmp_path / f"a{suffix}") as source:
            columns = next(source).image[3, 5::10].tolist()
        assert columns == [[0, 0, 0], [50, 50, 1], [250, 250, 5]]


# Several pictures in one file.


def numbered(count: int) -> list[np.ndarray]:
    return [gray(20 * k + 10) for k in range(count)]


@pytest.mark.parametrize("name", ["a.tif", "a.dat", "lzw.tif", "deflate.tif", "big.btf", "ij.tif"])
def test_every_page_of_a_tiff_is_a_frame(tmp_path: Path, name: str) -> None:
    pictures = [PIL.Image.fromarray(p) for p in numbered(6)]
    stack = np.stack(numbered(6))
    if name == "big.btf":
        tifffile.imwrite(tmp_path / name, stack, bigtiff=True, photometric="rgb")
    elif name == "ij.tif":
        tifffile.imwrite(tmp_path / name, stack[..., 0], imagej=True, metadata={"axes": "TYX"})
    else:
        compression = {"lzw.tif": "tiff_lzw", "deflate.tif": "tiff_adobe_deflate"}.get(name)
        pictures[0].save(
            tmp_path / name,
            format="TIFF",
            save_all=True,
            append_images=pictures[1:],
            compression=compression,
        )
    with open_source(tmp_path / name, fps=10) as source:
        assert source.frame_count == 6
        frames = list(source)
    assert [level_of(f.image) for f in frames] == [10, 30, 50, 70, 90, 110]
    assert [f.time_s for f in frames] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_pages_written_one_by_one_count_and_thumbnails_do_not(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for picture in numbered(4):
            writer.write(picture, photometric="rgb")
            writer.write(picture[::2, ::2].copy(), photometric="rgb", subfiletype=1)
    with open_source(tmp_path / "a.tif") as source:
        assert [level_of(f.image) for f in source] == [10, 30, 50, 70]


def test_channels_of_a_stack_make_one_picture(tmp_path: Path) -> None:
    stack = np.zeros((3, 2, 20, 30), np.uint8)
    stack[:, 0], stack[:, 1] = 200, 100
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TCYX"})
    with open_source(tmp_path / "a.tif") as source:
        assert [f.image[0, 0].tolist() for f in source] == [[0, 100, 200]] * 3


def test_a_stack_that_is_no_film_is_refused(tmp_path: Path) -> None:
    stack = np.zeros((3, 4, 20, 30), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(VideoError, match=r"a\.tif is a stack of T=3 x Z=4 pictures"):
        open_source(tmp_path / "a.tif")
    save(tmp_path / "b.png", gray(0))
    with pytest.raises(VideoError, match=r"a\.tif is a stack of T=3 x Z=4 pictures"):
        open_source(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".avif", ".gif"])
def test_animations_have_the_times_of_their_delays(tmp_path: Path, suffix: str) -> None:
    first, *rest = [PIL.Image.fromarray(p) for p in numbered(4)]
    first.save(
        tmp_path / f"a{suffix}",
        save_all=True,
        append_images=rest,
        duration=[40, 200, 40, 200],
        loop=0,
    )
    with open_source(tmp_path / f"a{suffix}") as source:
        assert source.frame_count in (4, None)
        frames = list(source)
    assert [level_of(f.image) for f in frames] == pytest.approx([10, 30, 50, 70], abs=2)
    assert [f.time_s for f in frames] == pytest.approx([0.0, 0.04, 0.24, 0.28])


def test_a_gif_without_delays_is_read_as_a_whole(tmp_path: Path) -> None:
    first, *rest = [PIL.Image.fromarray(p) for p in numbered(4)]
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest)
    assert (tmp_path / "a.gif").read_bytes().startswith(b"GIF87a")
    with open_source(tmp_path / "a.gif") as source:
        frames = list(source)
    assert [level_of(f.image) for f in frames] == pytest.approx([10, 30, 50, 70], abs=2)
    assert [f.time_s for f in frames] == pytest.approx([0, 1 / 30, 2 / 30, 3 / 30])


@pytest.mark.parametrize("orientation", [2, 6])
def test_a_film_of_jpegs_with_exif_data_is_upright(tmp_path: Path, orientation: int) -> None:
    """EXIF data comes with the frame, as a kind that PyAV has no name for."""
    ramp = np.add.outer(np.arange(24), 2 * np.arange(40)).astype(np.uint8)
    shown = PIL.Image.fromarray(np.dstack([ramp, ramp, ramp]))
    turn = PIL.Image.Transpose
    stored = shown.transpose({2: turn.FLIP_LEFT_RIGHT, 6: turn.ROTATE_90}[orientation])
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    with (tmp_path / "a.mjpeg").open("wb") as film:
        for _ in range(3):
            stored.save(film, "JPEG", exif=exif, quality=95)
    with open_source(tmp_path / "a.mjpeg", fps=10) as source:
        assert source.frame_wh == (40, 24)
        for frame in source:
            assert np.abs(frame.image.astype(int) - np.asarray(shown)).max() < 8
        assert frame.index == 2


@pytest.mark.parametrize("suffix", [".ppm", ".jpg", ".png", ".bmp"])
def test_pictures_one_after_the_other_in_a_file_are_all_read(tmp_path: Path, suffix: str) -> None:
    pieces = [cv2.imencode(suffix, picture)[1].tobytes() for picture in numbered(5)]
    (tmp_path / f"a{suffix}").write_bytes(b"".join(pieces))
    with open_source(tmp_path / f"a{suffix}") as source:
        assert [level_of(f.image) for f in source] == pytest.approx([10, 30, 50, 70, 90], abs=1)


def test_what_phones_hang_on_to_a_jpeg_is_no_frame(tmp_path: Path) -> None:
    whole, half = (cv2.imencode(".jpg", gray(80, wh))[1].tobytes() for wh in [(30, 20), (15, 10)])
    (tmp_path / "depth.jpg").write_bytes(whole + half)
    parts = b"\xff\xe2" + struct.pack(">H", 6) + b"MPF\0"
    (tmp_path / "stereo.jpg").write_bytes(whole[:2] + parts + whole[2:] + whole)
    for name in ("depth.jpg", "stereo.jpg"):
        with open_source(tmp_path / name) as source:
            assert source.frame_count == 1


def test_stacks_in_a_folder_are_read_in_their_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for k, picture in enumerate(numbered(2)):
        save(tmp_path / f"{k}.tif", picture)
    tifffile.imwrite(tmp_path / "2.tif", np.stack(numbered(5)[2:]), photometric="rgb")
    with open_source(tmp_path, fps=30) as source:
        assert source.frame_count == 5
        assert [level_of(f.image) for f in source] == [10, 30, 50, 70, 90]
    assert not caplog.messages
    stream = cv2.imencode(".jpg", gray(0))[1].tobytes() * 3
    (tmp_path / "3.jpg").write_bytes(stream)
    with open_source(tmp_path) as source:
        assert len(list(source)) == 6
    assert "3.jpg holds 3 pictures, of which the first is read" in caplog.text


def test_a_video_that_is_called_a_picture_is_played(
    tmp_path: Path, write_clip: Callable[..., Path]
) -> None:
    write_clip(tmp_path / "a.mp4", 7).rename(tmp_path / "a.png")
    with open_source(tmp_path / "a.png") as source:
        assert len(list(source)) == 7


def test_a_folder_of_gifs_is_read(tmp_path: Path) -> None:
    for k, picture in enumerate(numbered(3)):
        PIL.Image.fromarray(picture).save(tmp_path / f"{k}.gif")
    with open_source(tmp_path) as source:
        assert [level_of(f.image) for f in source] == [10, 30, 50]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_pictures_are_turned_as_their_exif_orientation_says(
    tmp_path: Path, orientation: int
) -> None:
    picture = ramp(0, 4000, np.uint16) + np.arange(40, dtype=np.uint16)[:, None]
    tifffile.imwrite(tmp_path / "0.tif", picture, extratags=[(274, 3, 1, orientation, True)])
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(picture).save(tmp_path / "0.png", exif=exif)
    stored = PIL.Image.fromarray((picture / 16).astype(np.uint8))
    stored.getexif()[0x0112] = orientation
    upright = np.asarray(PIL.ImageOps.exif_transpose(stored), np.float64)
    for name in ("0.tif", "0.png"):
        with open_source(tmp_path / name, range=(0, 4095)) as source:
            image = next(source).image[..., 0]
        np.testing.assert_allclose(image, upright, atol=1)


def test_half_a_stack_is_counted_and_not_filled_up(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 4000, (6, 20, 30), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", noise)
    data = (tmp_path / "a.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        whole = file.pages[3].dataoffsets[0]
    (tmp_path / "a.tif").write_bytes(data[: whole + 40])
    with open_source(tmp_path / "a.tif") as source:
        list(source)
        assert (source._delivered, source.unreadable) == (3, 3)


def test_a_stack_without_its_last_pages_is_counted(tmp_path: Path) -> None:
    first, *rest = [PIL.Image.fromarray(p) for p in numbered(6)]
    first.save(tmp_path / "a.tif", save_all=True, append_images=rest)
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: len(data) // 2])
    with open_source(tmp_path / "a.tif") as source:
        assert [level_of(f.image) for f in source] == [10, 30, 50]
        assert source.unreadable == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tif", b"II*\0\xff\xff\xff\x0f"),
        ("a.tif", b"II*\0"),
        ("a.gif", b"GIF89a"),
        ("a.pgm", b"P5\n60 40\n"),
        ("a.pgm", b"P5\n60 40\n70000\n" + bytes(9000)),
        ("a.pgm", b"P2\n60 40\n255\n1 2 3"),
        ("a.pgm", b"P2\n2 1\n255\none two"),
        ("a.webp", b"RIFF\xff\0\0\0WEBPVP8X" + bytes(4) + b"\2" + bytes(30)),
        ("a.avif", b"\0\0\0\x20ftypavif\0\0\0\0irot" + bytes(30)),
        ("a.jp2", b"\xff\x4f\xff\x51"),
    ],
)
def test_damaged_files_of_every_kind_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=rf"{name} .*cannot be decoded"):
        read_image(tmp_path / name, upright=True)
    with pytest.raises(VideoError, match=rf"{name}"):
        open_source(tmp_path / name)
