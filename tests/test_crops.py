"""The crop function, against a slow reference that integrates over the frame's pixels."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siamtrack.crops import check_frame, crop_square, crop_window, to_network
from siamtrack.errors import InvalidBoxError, InvalidFrameError


def smooth_image(height=120, width=160, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (height // 20, width // 20, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def slow_crop(image, x, y, w, h, size, fill):
    """Average of many bilinear samples inside every output pixel; outside shows the fill."""
    grid = 8
    height, width = image.shape[:2]
    steps = (np.arange(size * grid) + 0.5) / grid
    fx, fy = x + steps * w / size, y + steps * h / size
    u, v = np.clip(fx - 0.5, 0, width - 1), np.clip(fy - 0.5, 0, height - 1)
    u0, v0 = np.minimum(u.astype(int), width - 2), np.minimum(v.astype(int), height - 2)
    a, b = (u - u0)[None, :, None], (v - v0)[:, None, None]
    f = image.astype(float)
    top = f[v0][:, u0] * (1 - a) + f[v0][:, u0 + 1] * a
    bottom = f[v0 + 1][:, u0] * (1 - a) + f[v0 + 1][:, u0 + 1] * a
    samples = top * (1 - b) + bottom * b
    outside = ((fy < 0) | (fy >= height))[:, None] | ((fx < 0) | (fx >= width))[None, :]
    samples[outside] = fill
    return samples.reshape(size, grid, size, grid, 3).mean(axis=(1, 3))


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-60, 170), st.floats(-60, 130), st.floats(20, 200), st.sampled_from([16, 33, 64, 96])
)
def test_crop_is_the_slow_reference(cx, cy, side, size):
    image, fill = smooth_image(), (100.0, 110.0, 120.0)
    got, crop_map = crop_square(image, (cx, cy), side, size, fill_bgr=fill)
    cut = crop_map.scale * size
    check_against_reference(got, slow_crop(image, *crop_map.origin_xy, cut, cut, size, fill))
    blocks = max(1, side / size)  # pixels that are averaged into one
    assert abs(cut - side) <= blocks / 2
    middle = np.array(crop_map.origin_xy) + cut / 2
    assert np.abs(middle - (cx, cy)).max() <= 0.5 + 1e-9


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-60, 170),
    st.floats(-60, 130),
    st.floats(20, 200),
    st.floats(20, 200),
    st.sampled_from([16, 33, 64, 96]),
)
def test_windows_between_pixels_are_the_slow_reference(x, y, w, h, size):
    image, fill = smooth_image(), (100.0, 110.0, 120.0)
    got = crop_window(image, (x, y, w, h), (size, size), fill_bgr=fill)
    check_against_reference(got, slow_crop(image, x, y, w, h, size, fill))


def check_against_reference(got, want):
    error = np.abs(got.astype(float) - want)
    assert np.median(error) < 1.5
    # The rim between picture and fill may be blended differently within a pixel.
    rim = 4 / len(got)
    assert np.mean(error < 8) > 0.97 - rim


@settings(max_examples=12, deadline=None)
@given(
    st.floats(-700, 2500), st.floats(-700, 1800), st.floats(700, 4000), st.sampled_from([96, 208])
)
def test_large_windows_are_the_slow_reference(cx, cy, side, size):
    small, fill = smooth_image(), (100.0, 110.0, 120.0)
    image = cv2.resize(small, (1921, 1443), interpolation=cv2.INTER_CUBIC)
    got, crop_map = crop_square(image, (cx, cy), side, size, fill_bgr=fill)
    cut = crop_map.scale * size
    check_against_reference(got, slow_crop(image, *crop_map.origin_xy, cut, cut, size, fill))
    assert abs(cut - side) <= side / size / 2
    middle = np.array(crop_map.origin_xy) + cut / 2
    assert np.abs(middle - (cx, cy)).max() <= side / size / 2 + 0.5


def test_large_windows_average_at_least_four_pixels():
    rng = np.random.default_rng(0)
    noise = rng.normal(128, 20, (2000, 2000, 3)).clip(0, 255).astype(np.uint8)
    for side in (770, 1500, 1950):
        crop, _ = crop_square(noise, (1000, 1000), side, 208)
        assert crop.std() < 20 / 2 + 0.5


def test_a_dot_lands_where_the_map_says():
    image = np.zeros((200, 300, 3), np.uint8)
    image[120:124, 200:204] = 255
    crop, crop_map = crop_square(image, (190.3, 115.7), 61.0, 128)
    weight = crop[:, :, 0].astype(float)
    xs, ys = np.meshgrid(np.arange(128) + 0.5, np.arange(128) + 0.5)
    center = np.array([(weight * xs).sum(), (weight * ys).sum()]) / weight.sum()
    x, y, w, h = crop_map.to_crop([200, 120, 4, 4])
    np.testing.assert_allclose(center, [x + w / 2, y + h / 2], atol=0.15)


def test_shrinking_averages_instead_of_skipping():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 200
    crop, _ = crop_square(stripes, (128, 128), 256, 32)
    assert np.abs(crop[2:-2, 2:-2].astype(int) - 100).max() <= 3


def test_whole_frame_at_its_own_size_is_itself():
    image = smooth_image()
    np.testing.assert_array_equal(crop_window(image, (0, 0, 160, 120), (160, 120)), image)


def test_outside_shows_the_fill():
    image = smooth_image()
    for center in [(-500, 50), (50, 900)]:
        crop, _ = crop_square(image, center, 60, 32, fill_bgr=(10, 20, 30))
        assert (crop == (10, 20, 30)).all()


@pytest.mark.parametrize("window", [(-21, 10, 20, 20), (10, -21, 20, 20), (65, 10, 20, 20)])
def test_windows_of_whole_pixels_just_outside_show_the_fill(window):
    crop = crop_window(np.full((64, 64, 3), 200, np.uint8), window, (16, 16), fill_bgr=(1, 2, 3))
    assert (crop == (1, 2, 3)).all()


def test_replicated_border_shows_the_edge_even_far_outside():
    image = np.full((20, 20, 3), 77, np.uint8)
    crop = crop_window(image, (-300, -300, 40, 40), (16, 16), border=cv2.BORDER_REPLICATE)
    assert (crop == 77).all()


def test_the_frame_around_the_window_does_not_matter():
    small = smooth_image(64, 64)
    large = np.full((2160, 3840, 3), 255, np.uint8)
    large[1000:1064, 2000:2064] = small
    near, _ = crop_square(large, (2032, 1032), 40, 64)
    alone, _ = crop_square(small, (32, 32), 40, 64)
    np.testing.assert_array_equal(near, alone)


@pytest.mark.parametrize(
    "window", [(0, 0, 0, 5), (0, 0, 5, -1), (np.nan, 0, 5, 5), (0, 0, np.inf, 5)]
)
def test_windows_without_area_are_refused(window):
    with pytest.raises(InvalidBoxError, match="crop window"):
        crop_window(smooth_image(), window, (16, 16))


def test_network_input_is_rgb():
    bgr = np.zeros((4, 4, 3), np.uint8)
    bgr[..., 0], bgr[..., 2] = 11, 33
    batch = to_network([bgr, bgr])
    assert batch.shape == (2, 3, 4, 4)
    assert batch[0, :, 0, 0].tolist() == [33, 0, 11]


def test_gray_and_alpha_frames_are_converted():
    gray = np.full((5, 6), 9, np.uint8)
    assert (check_frame(gray) == 9).all() and check_frame(gray).shape == (5, 6, 3)
    assert check_frame(gray[..., None]).shape == (5, 6, 3)
    bgra = np.dstack([np.full((5, 6), v, np.uint8) for v in (1, 2, 3, 4)])
    assert check_frame(bgra)[0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (None, "NoneType"),
        ("frame.png", "str"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\)"),
        (np.zeros(5, np.uint8), r"shape \(5,\)"),
        (np.zeros((5, 5, 3), np.float32), "float32"),
        (np.zeros((5, 5, 3), np.uint16), "16-bit"),
        (np.zeros((5, 5, 2), np.uint8), "2 channels"),
    ],
)
def test_what_is_not_a_frame_is_refused(frame, says):
    with pytest.raises(InvalidFrameError, match=says):
        check_frame(frame)
