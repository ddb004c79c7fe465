"""Shot cuts, on scenes drawn by code."""

import cv2
import numpy as np
import pytest

from siamtrack.tracking.cuts import (
    SAME_COLORS,
    color_histogram,
    color_likeness,
    is_cut,
    thumbnail,
)


def texture(seed, size=(240, 480), cells=(8, 14)):
    """A smooth picture with large and small structure, as scenes have."""
    rng = np.random.default_rng(seed)
    height, width = size
    out = np.zeros((*size, 3))
    for factor in (1, 4):
        small = rng.random((cells[0] * factor, cells[1] * factor, 3)).astype(np.float32)
        out += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC) / factor
    return np.clip(out * 140, 0, 255).astype(np.uint8)


SCENE = texture(1, size=(240, 640))


def view(left, width=320):
    return SCENE[:, left : left + width]


def cut_between(before, after):
    return is_cut(thumbnail(before), thumbnail(after))


def test_a_thumbnail_has_mean_0_and_length_1():
    small = thumbnail(view(0))
    assert small.shape == (9, 16, 3) and small.dtype == np.float32
    assert small.mean() == pytest.approx(0, abs=1e-6)
    assert np.linalg.norm(small) == pytest.approx(1, rel=1e-5)


def test_a_thumbnail_shows_the_frame_from_afar():
    """Dark left and bright right, blue above red: in the same places of the thumbnail."""
    frame = np.zeros((180, 320, 3), np.uint8)
    frame[:, 160:, 1] = 200
    frame[:90, :, 0] = frame[90:, :, 2] = 120
    small = thumbnail(frame)
    assert small[:, 8:, 1].min() > small[:, :8, 1].max()
    assert small[:4, :, 0].min() > small[5:, :, 0].max()
    assert small[5:, :, 2].min() > small[:4, :, 2].max()


def test_a_still_camera_makes_no_cut():
    rng = np.random.default_rng(0)
    noisy = np.clip(view(0) + rng.normal(0, 12, view(0).shape), 0, 255).astype(np.uint8)
    assert not cut_between(view(0), view(0))
    assert not cut_between(view(0), noisy)


def test_something_large_that_moves_makes_no_cut():
    frames = [view(0).copy() for _ in range(2)]
    for frame, left in zip(frames, (20, 120), strict=True):
        frame[60:180, left : left + 100] = (20, 30, 240)
    assert not cut_between(*frames)


@pytest.mark.parametrize("step", [4, 16, -16])
def test_a_pan_makes_no_cut(step):
    """Up to a twentieth of the frame's width from frame to frame."""
    assert not cut_between(view(100), view(100 + step))


def test_light_that_goes_dim_makes_no_cut():
    dim = (view(0) * 0.4 + 5).astype(np.uint8)
    assert not cut_between(view(0), dim)


@pytest.mark.parametrize("seed", range(2, 12))
def test_another_scene_is_a_cut(seed):
    other = texture(seed, cells=(6, 9))[:, :320]
    assert cut_between(view(0), other)
    assert cut_between(other, view(0))


def test_the_same_scene_at_another_resolution_is_no_cut():
    large = cv2.resize(view(0), None, fx=6, fy=6, interpolation=cv2.INTER_LINEAR)
    assert not cut_between(view(0), large)


def test_the_first_frame_is_no_cut():
    assert not is_cut(None, thumbnail(view(0)))


@pytest.mark.parametrize("gray", [0, 128, 255])
def test_flat_frames_tell_nothing(gray):
    """A black frame between two shots, or a covered lens: neither into it nor out of it."""
    flat = np.full((240, 320, 3), gray, np.uint8)
    assert not thumbnail(flat).any()
    assert not cut_between(view(0), flat)
    assert not cut_between(flat, view(0))
    assert not cut_between(flat, flat)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3), (9, 16), (37, 65)])
def test_frames_of_any_size_have_a_thumbnail(size, rng):
    frame = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    before = frame.copy()
    small = thumbnail(frame)
    assert small.shape == (9, 16, 3) and np.isfinite(small).all()
    assert not is_cut(small, thumbnail(frame))
    np.testing.assert_array_equal(frame, before)


def test_few_pixels_of_a_large_frame_are_read():
    """The cost does not depend on the resolution: most rows may hold anything."""
    frame = cv2.resize(view(0), (3840, 2160), interpolation=cv2.INTER_LINEAR)
    same = thumbnail(frame)
    rows, columns = (np.ones(n, bool) for n in frame.shape[:2])
    step_y, step_x = 2160 // 36, 3840 // 64
    rows[step_y // 2 :: step_y] = columns[step_x // 2 :: step_x] = False
    frame[rows] = 0
    frame[:, columns] = 0
    np.testing.assert_array_equal(thumbnail(frame), same)


BOX = np.array([40.0, 30.0, 80.0, 60.0])


def likeness(one, other, box=BOX):
    return color_likeness(color_histogram(one, BOX), color_histogram(other, box))


def test_colors_are_the_same_wherever_the_thing_is_and_however_bright():
    frame = view(0)
    frame_and_box = np.zeros_like(frame), BOX + np.array([30, 20, 0, 0])
    frame_and_box[0][50:110, 70:150] = frame[30:90, 40:120]
    assert likeness(frame, frame_and_box[0], frame_and_box[1]) == pytest.approx(1, abs=0.02)
    dim = np.clip(0.75 * frame.astype(float), 0, 255).astype(np.uint8)
    assert likeness(frame, dim) > 0.8


def test_other_colors_are_not_the_same():
    frame = np.full((120, 160, 3), 90, np.uint8)
    frame[30:90, 40:120] = (40, 60, 200)
    assert likeness(frame, frame[..., ::-1].copy()) < 0.1 < SAME_COLORS
    # The border of the box, where the background is, hardly counts.
    changed = frame.copy()
    changed[30:34, 40:120] = changed[86:90, 40:120] = (200, 60, 40)
    assert likeness(frame, changed) > 0.95


def test_a_histogram_counts_each_pixel_by_its_distance_from_the_center():
    """Left half red, right half blue: half of the weight each, in the bins of their Cr and Cb."""
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[:, :32], frame[:, 32:] = (0, 0, 255), (255, 0, 0)
    counts = color_histogram(frame, np.array([0.0, 0.0, 64.0, 64.0]))
    assert counts.shape == (16, 16) and counts.sum() == pytest.approx(1)
    for half, (cr, cb) in ((slice(10, 16), (255, 85)), (slice(0, 10), (107, 255))):  # by BT.601
        part = counts[half]
        assert part.sum() == pytest.approx(0.5, abs=0.01)
        red, blue = min((cr + 8) // 16, 15), min((cb + 8) // 16, 15)  # 128 is in a bin's middle
        near = counts[red - 1 : red + 2, blue - 1 : blue + 2]
        assert near.sum() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("box", [(-500, -500, 9, 9), (310, 230, 400, 300), (0, 0, 1e6, 1e6)])
def test_a_box_outside_the_frame_has_a_histogram(box):
    counts = color_histogram(view(0), np.array(box, float))
    assert np.isfinite(counts).all() and counts.sum() == pytest.approx(1)


@pytest.mark.parametrize("tint", [(-2, 0, -2), (4, 0, 2), (-2, 2, 0)])
def test_a_slight_tint_of_gray_is_no_other_color(tint):
    """Every camera tints gray a little, and 128 is a border between bins of 16."""
    gray = np.full((60, 80, 3), 120, np.uint8)
    tinted = (gray + np.array(tint)).astype(np.uint8)
    box = np.array([10.0, 10.0, 30.0, 30.0])
    likeness = color_likeness(color_histogram(gray, box), color_histogram(tinted, box))
    assert likeness == pytest.approx(1, abs=1e-3)
