"""The stage: metres, views and what hides what, against the geometry of a pinhole camera."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from siamtrack.data.synthetic.render import Patch, box_of
from siamtrack.demo import film as stage_module
from siamtrack.demo.film import (
    CENTRE_PX,
    FOCAL_PX,
    SEMI_AXES_M,
    Balloon,
    Pose,
    Stage,
    View,
    cast_shadow,
    cover_of,
    draw_ribbon,
    put_behind,
    read_picture,
    smear,
)
from siamtrack.errors import DatasetError

FRAME_WH = (480, 270)
WHOLE = np.s_[0:270, 0:480]
STRAIGHT = View(centre_xy=(370.0, 236.0), zoom=0.7, roll=0.0, step_xy=(0.0, 0.0))
SKEW = View(centre_xy=(380.0, 230.0), zoom=0.8, roll=0.1, step_xy=(0.01, -0.004))


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage(FRAME_WH)


def placed_box(patch: Patch) -> np.ndarray:
    """Box of a patch's shape in the frame."""
    return box_of(patch.solid) + np.array([patch.x, patch.y, 0, 0])


def turn(yaw: float, roll: float) -> np.ndarray:
    cy, sy, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(roll), np.sin(roll)
    upright = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]]) @ upright


def test_place_is_where_a_pinhole_camera_sees_it(stage: Stage) -> None:
    point = stage.place(500.0, 300.0, 2.5)
    assert point[2] == 2.5
    seen = FOCAL_PX * point[:2] / point[2] + CENTRE_PX
    assert seen == pytest.approx([500, 300])


def test_view_maps_there_and_back(stage: Stage) -> None:
    view = View((380.0, 230.0), 0.8, 0.1, (0.0, 0.0))
    x, y = view.to_frame(stage.place(450.0, 200.0, 3.0), FRAME_WH)
    back = view.to_photograph(np.float32([[x]]), np.float32([[y]]), FRAME_WH)
    assert np.ravel(back) == pytest.approx([450, 200], abs=1e-3)


def test_middle_of_the_view_is_the_middle_of_the_frame(stage: Stage) -> None:
    assert STRAIGHT.to_frame(stage.place(370.0, 236.0, 2.0), FRAME_WH) == pytest.approx([240, 135])


def test_a_step_of_the_camera_moves_near_things_more(stage: Stage) -> None:
    stepped = View(STRAIGHT.centre_xy, STRAIGHT.zoom, 0.0, (0.01, 0.0))
    moves = [
        stepped.to_frame(point, FRAME_WH)[0] - STRAIGHT.to_frame(point, FRAME_WH)[0]
        for point in (stage.place(300.0, 200.0, 2.0), stage.place(300.0, 200.0, 4.0))
    ]
    # f * step / distance, in frame px.
    assert moves == pytest.approx([-FOCAL_PX * 0.01 / z * 0.7 for z in (2.0, 4.0)])


def test_pixels_of_a_shot_move_as_the_points_do(stage: Stage) -> None:
    # The badge on the engine cover, in the photograph, and its distance there.
    stepped = View(STRAIGHT.centre_xy, STRAIGHT.zoom, 0.0, (0.02, 0.0))
    x, y = 367, 335
    near = 1 / float(stage.shoot(STRAIGHT).nearness(WHOLE)[204, 238])
    point = stage.place(x, y, near)
    before = stage.shoot(STRAIGHT).image.astype(float)
    after = stage.shoot(stepped).image.astype(float)
    old = np.rint(STRAIGHT.to_frame(point, FRAME_WH)).astype(int)
    window = before[old[1] - 8 : old[1] + 9, old[0] - 8 : old[0] + 9]
    errors = {
        dx: np.abs(
            after[old[1] - 8 : old[1] + 9, old[0] + dx - 8 : old[0] + dx + 9] - window
        ).mean()
        for dx in range(-10, 11)
    }
    expected = stepped.to_frame(point, FRAME_WH)[0] - STRAIGHT.to_frame(point, FRAME_WH)[0]
    assert min(errors, key=errors.__getitem__) == pytest.approx(expected, abs=1.0)


def test_what_only_one_camera_saw_is_as_far_as_its_farther_neighbour() -> None:
    nan, inf = np.nan, np.inf
    holes = np.array([[50.0, nan, nan, 9.0], [nan, 9.0, inf, 50.0], [7.0, nan, nan, nan]])
    filled = stage_module._fill_sideways(holes)
    assert filled.tolist() == [[50, 9, 9, 9], [9, 9, 9, 50], [7, 7, 7, 7]]


def test_camera_stands_a_metre_above_a_level_floor(stage: Stage) -> None:
    assert stage.camera_height_m == pytest.approx(1.08, abs=0.03)
    assert np.linalg.norm(stage.down) == pytest.approx(1)
    assert stage.down[1] > 0.95
    spot = stage.drop(stage.place(200.0, 100.0, 2.0))
    assert spot @ stage.down == pytest.approx(stage.camera_height_m)


def test_the_motorcycle_is_an_obstacle_and_the_floor_is_not(stage: Stage) -> None:
    shot = stage.shoot(STRAIGHT)
    nearness, floor = shot.nearness(WHOLE), shot.floor_in(WHOLE)
    tank = tuple(np.rint(STRAIGHT.to_frame(stage.place(420, 200, 2.0), FRAME_WH)).astype(int))
    ground = tuple(np.rint(STRAIGHT.to_frame(stage.place(150, 400, 2.0), FRAME_WH)).astype(int))
    wall = tuple(np.rint(STRAIGHT.to_frame(stage.place(250, 70, 2.0), FRAME_WH)).astype(int))
    assert 1 / nearness[tank[::-1]] == pytest.approx(2.25, abs=0.15)
    assert 1 / nearness[wall[::-1]] > 4
    assert nearness[ground[::-1]] == 0
    assert floor[ground[::-1]] == pytest.approx(1)
    assert floor[tank[::-1]] == floor[wall[::-1]] == 0


@pytest.mark.parametrize("view", [STRAIGHT, SKEW])
@pytest.mark.parametrize("yaw", [0.0, 0.8, 2.0])
def test_outline_is_the_projection_of_the_surface(
    stage: Stage, rng: np.random.Generator, view: View, yaw: float
) -> None:
    pose = Pose(stage.place(300.0, 220.0, 1.7), turn(yaw, 0.3))
    patch = Balloon(stage).render(pose, view)
    points = rng.standard_normal((40_000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    seen = view.to_frame(pose.position + points * SEMI_AXES_M @ pose.axes.T, FRAME_WH)
    low, high = seen.min(axis=0), seen.max(axis=0)
    x, y, w, h = placed_box(patch)
    assert [x, y, x + w, y + h] == pytest.approx([*low, *high], abs=0.6)
    assert patch.colour.max() <= 255
    assert (patch.colour <= 255 * patch.alpha[..., None] + 1e-3).all()


def test_balloon_is_drawn_wherever_it_is(stage: Stage) -> None:
    far_away = Pose(stage.place(-900.0, -900.0, 2.0), turn(0, 0))
    patch = Balloon(stage).render(far_away, STRAIGHT)
    assert patch.solid.any()
    assert patch.x < 0


def test_both_sides_carry_the_face(stage: Stage) -> None:
    balloon = Balloon(stage)
    front, back = (
        balloon.render(Pose(stage.place(370.0, 236.0, 1.7), turn(yaw, 0)), STRAIGHT)
        for yaw in (0.0, np.pi)
    )
    middle = tuple(np.array(front.alpha.shape) // 2)
    assert np.abs(front.colour[middle] - back.colour[middle]).max() < 30


@pytest.mark.parametrize(("distance_m", "hidden"), [(1.6, False), (3.0, True)])
def test_what_is_nearer_hides_the_balloon(stage: Stage, distance_m: float, hidden: bool) -> None:
    shot = stage.shoot(STRAIGHT)
    pose = Pose(stage.place(420.0, 215.0, distance_m), turn(0, 0))
    patch = Balloon(stage).render(pose, STRAIGHT)
    x, y = np.rint(STRAIGHT.to_frame(pose.position, FRAME_WH)).astype(int)
    before = shot.image[y, x].astype(int)
    assert cover_of(shot, WHOLE, pose)[y, x] == (1.0 if hidden else 0.0)
    put_behind(shot, patch, pose)
    assert (np.abs(shot.image[y, x].astype(int) - before).max() < 3) == hidden


def test_shadow_falls_on_the_floor_alone_and_softens_with_height(stage: Stage) -> None:
    darkest = []
    for distance_m, y_px in ((3.2, 300.0), (3.2, 100.0)):
        shot = stage.shoot(STRAIGHT)
        before = shot.image.astype(int)
        cast_shadow(shot, stage, STRAIGHT, Pose(stage.place(60.0, y_px, distance_m), turn(0, 0)))
        change = before - shot.image.astype(int)
        assert change.min() >= 0
        assert change[shot.floor_in(WHOLE) == 0].max() == 0
        darkest.append(change.max())
    assert darkest[0] > 1.5 * darkest[1] > 0


def test_no_shadow_outside_the_frame(stage: Stage) -> None:
    shot = stage.shoot(STRAIGHT)
    before = shot.image.copy()
    cast_shadow(shot, stage, STRAIGHT, Pose(stage.place(-3000.0, 150.0, 2.2), turn(0, 0)))
    assert np.array_equal(before, shot.image)


def test_ribbon_hangs_down_from_the_knot(stage: Stage) -> None:
    pose = Pose(stage.place(300.0, 150.0, 2.0), turn(0, 0))
    patch = draw_ribbon([pose.knot] * 12, stage, STRAIGHT)
    x, y = STRAIGHT.to_frame(pose.knot, FRAME_WH)
    rows = np.flatnonzero((patch.alpha > 0.3).any(axis=1)) + patch.y
    assert rows[0] == pytest.approx(y, abs=4)
    # 0.34 m at 2 m, seen a little from above.
    assert rows[-1] - y == pytest.approx(0.34 * FOCAL_PX / 2.0 * 0.7, rel=0.15)
    assert (np.abs(np.flatnonzero((patch.alpha > 0.3).any(axis=0)) + patch.x - x) < 12).all()


def disc() -> Patch:
    rows, columns = np.mgrid[:41, :41]
    alpha = (np.hypot(rows - 20, columns - 20) < 15).astype(np.float32)
    return Patch(100, 50, np.repeat(alpha[..., None] * 200, 3, axis=2), alpha, alpha > 0.5)


def test_smear_spreads_along_the_way_and_loses_nothing() -> None:
    sharp, blurred = disc(), smear(disc(), np.array([12.0, 0.0]))
    assert blurred.alpha.sum() == pytest.approx(float(sharp.alpha.sum()), rel=1e-4)
    assert blurred.colour.sum() == pytest.approx(float(sharp.colour.sum()), rel=1e-4)
    wide, high = (np.flatnonzero((blurred.alpha > 0.02).any(axis=axis)).size for axis in (0, 1))
    assert wide == pytest.approx(29 + 12, abs=2)
    assert high == pytest.approx(29, abs=1)
    moved = placed_box(blurred)
    assert moved == pytest.approx(placed_box(sharp))


def test_smear_leaves_what_stands_still() -> None:
    patch = disc()
    assert smear(patch, np.array([0.5, 0.5])) is patch


def test_without_scikit_image_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        DatasetError, match=r"needs motorcycle_left\.png .* pip install scikit-image"
    ):
        Stage(FRAME_WH)


def test_damaged_picture_of_scikit_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "chelsea.png").write_bytes(b"not a picture")
    spec = importlib.machinery.ModuleSpec("skimage", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(DatasetError, match="cannot be read as a picture; reinstall scikit-image"):
        read_picture("chelsea.png")
