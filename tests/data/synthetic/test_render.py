"""Planar objects in perspective, motion blur and ground truth, against geometry by hand."""

from __future__ import annotations

import numpy as np
import pytest

from siamtrack.data.synthetic.render import (
    Canvas,
    Patch,
    PlanarLayer,
    Track,
    exposure_times,
    ground_truth,
    mask_box,
)
from siamtrack.data.synthetic.textures import Cutout

NO_CAMERA = np.eye(3)


def square(width: int = 60, height: int = 60, value: int = 200) -> Cutout:
    """Opaque rectangle with an empty rim of 2 px."""
    alpha = np.zeros((height, width), np.float32)
    alpha[2:-2, 2:-2] = 1
    return Cutout(np.full((height, width, 3), value, np.uint8), alpha)


def layer(
    cutout: Cutout,
    *,
    center: tuple[float, float] = (100.0, 80.0),
    size: float = 60.0,
    angle: float = 0.0,
    tilt: tuple[float, float] = (0.0, 0.0),
    perspective: float = 0.0,
) -> PlanarLayer:
    track = Track(np.array([center]), np.array([size]), np.array([angle]), np.array([tilt]))
    return PlanarLayer(cutout, track, perspective=perspective)


def patch_of(planar: PlanarLayer) -> Patch:
    patch = planar.render([planar.homography(0, NO_CAMERA)], np.ones(3))
    assert patch is not None
    return patch


def test_object_that_faces_the_camera_is_copied_pixel_by_pixel(rng: np.random.Generator) -> None:
    cutout = square()
    cutout.image_bgr[:] = rng.integers(0, 256, cutout.image_bgr.shape)
    patch = patch_of(layer(cutout))
    x, y = 100 - 30 - patch.x, 80 - 30 - patch.y
    inside = np.s_[y + 2 : y + 58, x + 2 : x + 58]
    assert patch.color[inside] == pytest.approx(cutout.image_bgr[2:-2, 2:-2], abs=0.51)
    assert patch.solid.sum() == 56 * 56
    assert patch.solid[inside].all()


@pytest.mark.parametrize(
    ("size", "side"), [(60.0, 56.0), (30.0, 28.0), (15.0, 14.0), (120.0, 112.0)]
)
def test_size_is_the_side_at_every_level_of_detail(size: float, side: float) -> None:
    patch = patch_of(layer(square(), size=size))
    assert float(patch.alpha.sum()) == pytest.approx(side**2, rel=0.03)
    assert mask_box(patch.solid)[2:] == pytest.approx([side, side], abs=1.01)


@pytest.mark.parametrize("size", [11.0, 30.0, 47.0, 240.0])
def test_object_is_centered_to_a_fraction_of_a_pixel_at_every_size(size: float) -> None:
    patch = patch_of(layer(square(), size=size))
    rows, columns = np.mgrid[: patch.alpha.shape[0], : patch.alpha.shape[1]] + 0.5
    middle = [(patch.alpha * axis).sum() / patch.alpha.sum() for axis in (columns, rows)]
    assert np.array(middle) + np.array([patch.x, patch.y]) == pytest.approx([100, 80], abs=0.05)


def test_size_is_the_root_of_the_area_of_a_long_object() -> None:
    corners = layer(square(80, 20), size=40.0).corners(
        layer(square(80, 20), size=40.0).homography(0, NO_CAMERA)
    )
    assert np.ptp(corners, axis=0) == pytest.approx([80, 20])


def test_rotation_is_clockwise() -> None:
    planar = layer(square(80, 20), size=40.0, angle=np.pi / 2)
    corners = planar.corners(planar.homography(0, NO_CAMERA))
    # The top-left corner goes to the top right.
    assert corners[0] == pytest.approx([100 + 10, 80 - 40])
    assert np.ptp(corners, axis=0) == pytest.approx([20, 80])


def test_tilt_about_the_upright_axis_narrows_by_the_cosine() -> None:
    planar = layer(square(), tilt=(np.radians(60), 0.0))
    corners = planar.corners(planar.homography(0, NO_CAMERA))
    assert np.ptp(corners, axis=0) == pytest.approx([30, 60])


def test_perspective_makes_the_near_edge_longer() -> None:
    planar = layer(square(), tilt=(np.radians(30), 0.0), perspective=0.5)
    left_top, right_top, right_bottom, left_bottom = planar.corners(planar.homography(0, NO_CAMERA))
    # Half the width is 30; the edges lie 30 sin 30 = 15 nearer and farther, at a distance of
    # diagonal / 0.5 = 169.7.
    distance = 60 * np.sqrt(2) / 0.5
    edges = sorted([left_bottom[1] - left_top[1], right_bottom[1] - right_top[1]])
    assert edges == pytest.approx(
        [60 * distance / (distance + 15), 60 * distance / (distance - 15)]
    )


def test_camera_comes_last() -> None:
    camera = np.array([[1, 0, 7], [0, 1, -3], [0, 0, 1.0]])
    planar = layer(square())
    moved = planar.corners(planar.homography(0, camera))
    assert moved - planar.corners(planar.homography(0, NO_CAMERA)) == pytest.approx(
        np.tile([7, -3], (4, 1))
    )


def test_tilt_never_goes_beyond_its_limit() -> None:
    planar = layer(square(), tilt=(np.radians(400), 0.0), perspective=1.0)
    assert np.isfinite(planar.corners(planar.homography(0, NO_CAMERA))).all()
    assert patch_of(planar).solid.any()


def test_pose_is_linear_between_frames_and_constant_beyond_the_ends() -> None:
    track = Track(
        np.array([[0.0, 0], [10, 20]]), np.array([4.0, 6]), np.array([0.0, 1]), np.zeros((2, 2))
    )
    center, size, angle, _ = track.at(0.5)
    assert (*center, size, angle) == pytest.approx((5, 10, 5, 0.5))
    assert track.at(-3)[1] == 4
    assert track.at(9)[1] == 6


def test_blur_is_the_mean_of_its_exposures_and_the_shape_is_the_middle_one() -> None:
    planar = layer(square())
    maps = [
        planar.homography(0, np.array([[1, 0, dx], [0, 1, 0], [0, 0, 1.0]])) for dx in (-10, 0, 10)
    ]
    blurred = planar.render(maps, np.ones(3))
    assert blurred is not None
    canvas = np.zeros(blurred.alpha.shape)
    for one_map in maps:
        one = planar.render([one_map], np.ones(3))
        assert one is not None
        y, x = one.y - blurred.y, one.x - blurred.x
        canvas[y : y + one.alpha.shape[0], x : x + one.alpha.shape[1]] += one.alpha / 3
    assert blurred.alpha == pytest.approx(canvas, abs=1e-5)
    assert mask_box(blurred.solid)[2:] == pytest.approx([56, 56])
    assert mask_box(blurred.solid)[0] + blurred.x == 100 - 28


def test_brightness_scales_colors_but_not_coverage() -> None:
    planar = layer(square(value=100))
    maps = [planar.homography(0, NO_CAMERA)]
    patch = planar.render(maps, np.array([0.5, 1.0, 2.0]))
    assert patch is not None
    assert patch.color.max(axis=(0, 1)) == pytest.approx([50, 100, 200], abs=0.5)
    assert patch.alpha.max() == pytest.approx(1.0)


def test_object_larger_than_any_frame_is_not_rendered() -> None:
    planar = layer(square(), size=9000.0)
    assert planar.render([planar.homography(0, NO_CAMERA)], np.ones(3)) is None


@pytest.mark.parametrize(("travel_px", "count"), [(0.0, 1), (1.0, 1), (5.0, 3), (1000.0, 13)])
def test_exposures_are_centered_on_the_frame(travel_px: float, count: int) -> None:
    times = exposure_times(7, 0.5, travel_px)
    assert len(times) == count
    assert times[count // 2] == pytest.approx(7)
    assert np.mean(times) == pytest.approx(7)
    assert 6.75 <= min(times) <= max(times) <= 7.25


def patch(x: int, y: int, solid: np.ndarray, value: float = 100.0) -> Patch:
    alpha = solid.astype(np.float32)
    return Patch(x, y, np.repeat(alpha[..., None], 3, axis=2) * np.float32(value), alpha, solid)


FULL = np.ones((10, 10), np.bool_)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (0, 0, (0, 10, 0, 10, 0, 0)),
        (-4, 3, (0, 6, 3, 13, 4, 0)),
        (35, 25, (35, 40, 25, 30, 0, 0)),
        (-10, 0, None),
        (40, 0, None),
        (0, 30, None),
    ],
)
def test_patch_is_clipped_to_the_frame(x: int, y: int, expected: tuple[int, ...] | None) -> None:
    windows = patch(x, y, FULL).clip((40, 30))
    if expected is None:
        assert windows is None
        return
    assert windows is not None
    (rows, columns), (patch_rows, patch_columns) = windows
    found = (columns.start, columns.stop, rows.start, rows.stop)
    assert (*found, patch_columns.start, patch_rows.start) == expected
    assert patch_columns.stop - patch_columns.start == columns.stop - columns.start


def test_truth_clips_the_shape_to_the_frame_not_its_rectangle() -> None:
    # An L whose long arm is outside the frame: only its short arm counts.
    shape = np.zeros((10, 10), np.bool_)
    shape[:, :2] = True
    shape[7:9, :] = True
    box, fraction = ground_truth(patch(-2, 0, shape), [], (40, 30))
    assert box == pytest.approx([0, 7, 8, 2])
    assert fraction == pytest.approx(16 / 36)


def test_truth_keeps_the_box_where_something_hides_a_part() -> None:
    box, fraction = ground_truth(patch(5, 5, FULL), [patch(5, 5, FULL[:, :4])], (40, 30))
    assert box == pytest.approx([5, 5, 10, 10])
    assert fraction == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("target", "front"),
    [
        (None, []),
        (patch(50, 0, FULL), []),
        (patch(5, 5, FULL), [patch(0, 0, np.ones((20, 20), np.bool_))]),
        (patch(5, 5, FULL), [patch(5, 5, FULL[:, :6]), patch(9, 5, FULL)]),
        (patch(-5, 0, FULL & (np.arange(10) < 5)), []),
    ],
    ids=["not rendered", "outside", "hidden", "hidden by two", "its rim in the frame"],
)
def test_truth_of_an_invisible_target_is_nan(target: Patch | None, front: list[Patch]) -> None:
    box, fraction = ground_truth(target, front, (40, 30))
    assert np.isnan(box).all()
    assert fraction == 0


def test_box_of_an_empty_mask_is_nan() -> None:
    assert np.isnan(mask_box(np.zeros((4, 4), np.bool_))).all()


def test_canvas_blends_and_darkens_inside_the_frame_only() -> None:
    canvas = Canvas(np.full((30, 40, 3), 50, np.float32))
    half = patch(-5, 0, FULL)
    half.alpha[:] = 0.5
    half.color[:] = 60
    canvas.draw(half)
    assert canvas.pixels[:10, :5] == pytest.approx(np.full((10, 5, 3), 85.0))
    assert canvas.pixels[10:] == pytest.approx(np.full((20, 40, 3), 50.0))
    canvas.draw(patch(100, 100, FULL))
    before = canvas.pixels.copy()
    canvas.draw_shadow(patch(20, 15, FULL), 10.0, 0.5)
    assert (canvas.pixels <= before + 1e-4).all()
    assert canvas.pixels[21, 26].max() < 30
    assert canvas.pixels[0, 0] == pytest.approx(before[0, 0])
    canvas.draw_shadow(patch(500, 15, FULL), 10.0, 0.5)
