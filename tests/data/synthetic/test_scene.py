"""Rendered scenes: ground truth against the pixels, effect of every parameter, random motion."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from siamtrack.data.synthetic import Cutout, SceneConfig, SceneFrame, render_scene, small_scene
from siamtrack.data.synthetic import scene as scene_module
from siamtrack.data.synthetic.scene import bump, plan_scene, smooth_noise, spline_path, wander
from siamtrack.data.synthetic.textures import blob_mask
from siamtrack.errors import ConfigError

RED, BLUE, BLACK = (0, 0, 255), (255, 0, 0), (0, 0, 0)

STILL: dict[str, Any] = {
    "frame_wh": (160, 120),
    "frame_count": 40,
    "target_size": (0.25, 0.35),
    "speed": 0.0,
    "size_change": 0.0,
    "rotation_deg": 0.0,
    "tilt_deg": 0.0,
    "light_change": 0.0,
    "tint_change": 0.0,
    "occlusions": 0,
    "distractors": 0,
    "shutter": 0.0,
    "camera_pan": 0.0,
    "camera_shake": 0.0,
    "shadow": 0.0,
    "noise": 0.0,
}
MOVING = {
    "speed": 1.5,
    "agility_s": 0.3,
    "size_change": 0.5,
    "rotation_deg": 120.0,
    "tilt_deg": 60.0,
    "perspective": 1.0,
    "camera_shake": 0.05,
}


class Painted:
    """The target is red, all other objects are blue, the background is black (or striped)."""

    fingerprint = "painted"

    def __init__(self, *, striped: bool = False, shade: int = 255) -> None:
        self._first = True
        self._striped = striped
        self._shade = shade

    def background(self, rng: np.random.Generator) -> np.ndarray:
        self._first = True  # the last picture that a scene asks for
        image = np.zeros((64, 64, 3), np.uint8)
        if self._striped:
            image[:, ::16, 1] = 255
        return image

    def cutout(self, rng: np.random.Generator) -> Cutout:
        color = RED if self._first else BLUE
        self._first = False
        image = np.full((60, 60, 3), color, np.uint8) // (255 // self._shade)
        return Cutout(image, blob_mask((60, 60), rng))


def scene(seed: int, *, striped: bool = False, **parameters: Any) -> list[SceneFrame]:
    config = SceneConfig(**{**STILL, **parameters})
    return list(render_scene(config, Painted(striped=striped), np.random.default_rng(seed)))


def red_box(frame: SceneFrame) -> np.ndarray:
    """Tight box around the red pixels, from the picture alone."""
    red = frame.image_bgr[..., 2] > 127
    if not red.any():
        return np.full(4, np.nan)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    return np.array(
        [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1], float
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("motion", ["spline", "wander"])
def test_box_is_the_tight_box_of_the_pixels(seed: int, motion: str) -> None:
    for frame in scene(seed, motion=motion, exits=seed % 2, **MOVING):
        assert np.array_equal(frame.box_xywh, red_box(frame), equal_nan=True)


def test_box_is_not_cut_by_occluders() -> None:
    hidden_somewhere = 0
    for seed in range(6):
        frames = scene(seed, occlusions=3, occluder_size=(0.6, 1.2))
        # Nothing moves but what passes in front.
        whole = max(frames, key=lambda frame: frame.visible_fraction).box_xywh
        for frame in frames:
            seen = red_box(frame)
            if frame.visible_fraction == 0:
                assert np.isnan(frame.box_xywh).all()
                assert np.isnan(seen).all()
                continue
            assert np.array_equal(frame.box_xywh, whole)
            hidden_somewhere += frame.visible_fraction < 0.8
            assert (seen[:2] >= whole[:2]).all()
            assert (seen[:2] + seen[2:] <= whole[:2] + whole[2:]).all()
    assert hidden_somewhere > 20


def test_visible_fraction_is_the_share_of_the_pixels() -> None:
    frames = scene(3, occlusions=4)
    whole = max((frame.image_bgr[..., 2] > 127).sum() for frame in frames)
    assert max(frame.visible_fraction for frame in frames) == 1
    assert min(frame.visible_fraction for frame in frames) < 0.7
    for frame in frames:
        seen = (frame.image_bgr[..., 2] > 127).sum()
        # Pixels of the rim that both share may count for neither.
        assert seen / whole == pytest.approx(frame.visible_fraction, abs=0.04)


@pytest.mark.parametrize("seed", range(5))
def test_exits_leave_the_frame_and_come_back(seed: int) -> None:
    frames = scene(seed, exits=2, exit_s=0.2, frame_count=120, **MOVING)
    away = [bool(np.isnan(frame.box_xywh).all()) for frame in frames]
    assert away[0] is False
    assert away[-1] is False
    departures = sum(now and not before for before, now in itertools.pairwise(away))
    assert departures >= 2
    for frame, gone in zip(frames, away, strict=True):
        assert gone == (frame.visible_fraction == 0)
        assert not (gone and (frame.image_bgr[..., 2] > 127).any())


CROWD = {"distractors": 25, "occlusions": 4, "target_size": (0.15, 0.15), "frame_count": 2}


@pytest.mark.parametrize("seed", range(3))
def test_target_is_visible_in_the_first_frame(seed: int) -> None:
    first = scene(seed, **CROWD)[0]
    assert first.visible_fraction >= 0.6
    assert np.isfinite(first.box_xywh).all()


def test_target_is_brought_to_the_front_after_too_many_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scene_module, "_MAX_DRAWS", 1)
    monkeypatch.setattr(scene_module, "_MIN_FIRST_VISIBLE", 1.1)
    assert scene(0, **CROWD)[0].visible_fraction == 1


def test_same_seed_same_scene_other_seed_other_scene() -> None:
    a, b, c = (small_scene(seed, frame_count=6) for seed in (1, 1, 2))
    for first, second in zip(a, b, strict=True):
        assert np.array_equal(first.image_bgr, second.image_bgr)
        assert np.array_equal(first.box_xywh, second.box_xywh)
    assert not np.array_equal(a[0].image_bgr, c[0].image_bgr)


def test_scene_without_effects_stands_still() -> None:
    frames = scene(0, frame_count=8, striped=True)
    assert all(np.array_equal(frame.image_bgr, frames[0].image_bgr) for frame in frames)
    assert all(frame.visible_fraction == 1 for frame in frames)


@pytest.mark.parametrize("seed", range(3))
def test_occluder_can_stay_with_the_target(seed: int) -> None:
    parameters = {**MOVING, "tilt_deg": 0.0, "frame_count": 90, "occlusions": 1}
    hidden = [
        sum(
            frame.visible_fraction < 0.1
            for frame in scene(seed, occlusion_s=stay_s, occluder_size=(3.5, 4.0), **parameters)
        )
        for stay_s in (0.0, 1.0)
    ]
    assert hidden[1] >= 30  # a second at 30 frames per second
    assert hidden[1] > hidden[0]


@pytest.mark.parametrize("seed", range(3))
def test_cuts_show_another_place_without_the_target(seed: int) -> None:
    frames = scene(seed, striped=True, cuts=2, cut_s=0.4, frame_count=120)
    whole = scene(seed, striped=True, frame_count=120)
    away = [bool(np.isnan(frame.box_xywh).all()) for frame in frames]
    departures = sum(now and not before for before, now in itertools.pairwise(away))
    assert departures == 2 and not away[0]
    assert sum(away) == pytest.approx(24, abs=2)
    for frame, other, gone in zip(frames, whole, away, strict=True):
        assert gone == (frame.visible_fraction == 0)
        assert gone != np.array_equal(frame.image_bgr, other.image_bgr)
        assert not (gone and (frame.image_bgr[..., 2] > 127).any())


@pytest.mark.parametrize(
    ("parameters", "striped"),
    [
        ({"speed": 2.0}, False),
        ({"size_change": 0.8}, False),
        ({"rotation_deg": 200.0}, False),
        ({"tilt_deg": 60.0}, False),
        ({"light_change": 0.8}, False),
        ({"tint_change": 0.8}, False),
        ({"occlusions": 2}, False),
        ({"distractors": 2, "speed": 2.0}, False),
        ({"exits": 1}, False),
        ({"camera_pan": 2.0}, True),
        ({"camera_shake": 0.1}, True),
        ({"noise": 30.0}, False),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_parameter_alone_changes_the_frames(parameters: dict[str, Any], striped: bool) -> None:
    frames = scene(4, striped=striped, **parameters)
    assert any(not np.array_equal(frame.image_bgr, frames[0].image_bgr) for frame in frames)


def test_pan_and_shake_never_show_the_end_of_the_background() -> None:
    class Gray(Painted):
        def background(self, rng: np.random.Generator) -> np.ndarray:
            super().background(rng)
            image = np.full((50, 90, 3), 200, np.uint8)
            image[[0, -1], :] = 0
            image[:, [0, -1]] = 0
            return image

    config = SceneConfig(**{**STILL, "camera_pan": 3.0, "camera_shake": 0.1, "frame_count": 60})
    for seed in range(4):
        for frame in render_scene(config, Gray(), np.random.default_rng(seed)):
            # What is redder than gray 200 belongs to the target or its rim.
            assert frame.image_bgr[..., 1][frame.image_bgr[..., 2] <= 202].min() > 190


def test_shake_moves_target_and_background_together() -> None:
    frames = scene(1, striped=True, camera_shake=0.2)
    moves = np.array([frame.box_xywh[:2] for frame in frames])
    assert np.ptp(moves, axis=0).max() > 2


def test_motion_blur_softens_but_leaves_the_box() -> None:
    fast: dict[str, Any] = {"speed": 6.0, "motion": "spline", "agility_s": 0.1}
    for seed in (1, 2, 3):
        sharp, soft = (scene(seed, shutter=shutter, **fast) for shutter in (0.0, 1.0))
        for a, b in zip(sharp, soft, strict=True):
            assert np.array_equal(a.box_xywh, b.box_xywh)
        rims = [
            sum(((f.image_bgr[..., 2] > 20) & (f.image_bgr[..., 2] < 235)).sum() for f in frames)
            for frames in (sharp, soft)
        ]
        assert rims[1] > 2 * rims[0]


def test_panning_blurs_the_background() -> None:
    sharp, soft = (
        scene(2, striped=True, camera_pan=5.0, shutter=shutter) for shutter in (0.0, 1.0)
    )
    assert sum(int(f.image_bgr[..., 1].max()) for f in soft) < sum(
        int(f.image_bgr[..., 1].max()) for f in sharp
    )


def test_shadow_darkens_beside_the_target() -> None:
    class Bright(Painted):
        def background(self, rng: np.random.Generator) -> np.ndarray:
            super().background(rng)
            return np.full((64, 64, 3), 200, np.uint8)

    def render(shadow: float) -> SceneFrame:
        config = SceneConfig(**{**STILL, "shadow": shadow, "frame_count": 1})
        return next(iter(render_scene(config, Bright(), np.random.default_rng(3))))

    plain, dark = render(0.0), render(0.8)
    assert np.array_equal(plain.box_xywh, dark.box_xywh)
    outside = plain.image_bgr[..., 0] == 200
    assert dark.image_bgr[..., 0][outside].min() < 120
    assert (dark.image_bgr[..., 0][~outside] <= plain.image_bgr[..., 0][~outside]).all()


@pytest.mark.parametrize("likeness", [0.0, 1.0])
def test_likeness_blends_distractors_with_the_target(likeness: float) -> None:
    frames = scene(5, distractors=3, distractor_likeness=likeness, frame_count=3)
    blue = max((frame.image_bgr[..., 0] > 127).sum() for frame in frames)
    assert (blue == 0) == (likeness == 1.0)


def test_a_perfect_copy_has_the_shape_of_the_target_too() -> None:
    config = SceneConfig(**{**STILL, "distractors": 3, "distractor_likeness": 1.0})
    plan = plan_scene(config, Painted(), np.random.default_rng(5))
    target = plan.target.layer.cutout
    for other in plan.others:
        assert np.array_equal(other.layer.cutout.alpha, target.alpha)
        assert np.array_equal(other.layer.cutout.image_bgr, target.image_bgr)


def test_sizes_are_in_heights_and_speeds_per_second() -> None:
    for frame_wh in ((160, 120), (320, 240)):
        box = scene(7, frame_wh=frame_wh, target_size=(0.5, 0.5))[0].box_xywh
        # A blob fills its square but for 2 of 60 px on each side.
        assert np.sqrt(box[2] * box[3]) == pytest.approx(0.5 * frame_wh[1] * 56 / 60, rel=0.06)


def test_small_scene_is_easy_and_small() -> None:
    frames = small_scene(3)
    assert len(frames) == 40
    assert frames[0].image_bgr.shape == (120, 160, 3)
    assert frames[0].image_bgr.dtype == np.uint8
    assert min(frame.visible_fraction for frame in frames) > 0.8
    boxes = np.array([frame.box_xywh for frame in frames])
    assert np.abs(np.diff(boxes, axis=0)).max() < 12
    assert small_scene(3, frame_count=2, frame_wh=(64, 48))[0].image_bgr.shape == (48, 64, 3)


def test_small_scene_refuses_unknown_parameters() -> None:
    with pytest.raises(ConfigError, match="did you mean 'frame_count'"):
        small_scene(frame_cuont=3)


# Smooth random motion: statistics against theory, limits, and smoothness

STEP_S = 1 / 30
LOW, HIGH = np.array([20.0, 10.0]), np.array([300.0, 200.0])
PATHS = [wander, spline_path]


def test_smooth_noise_has_zero_mean_and_unit_variance(rng: np.random.Generator) -> None:
    signal = smooth_noise(rng, 200_000, 2, STEP_S, 0.2)
    assert np.abs(signal.mean(axis=0)).max() < 0.06
    assert signal.var(axis=0) == pytest.approx([1, 1], abs=0.06)


def test_smooth_noise_is_stationary_from_the_first_sample(rng: np.random.Generator) -> None:
    starts = np.array([smooth_noise(rng, 1, 1, STEP_S, 0.5)[0, 0] for _ in range(3000)])
    assert starts.var() == pytest.approx(1.0, abs=0.1)


def test_smooth_noise_forgets_as_slowly_as_asked(rng: np.random.Generator) -> None:
    # Correlation of two first-order filters in a row at lag t: (1 + t / tau) exp(-t / tau).
    memory_s, lag = 0.5, 15
    signal = smooth_noise(rng, 300_000, 1, STEP_S, memory_s)[:, 0]
    found = np.corrcoef(signal[:-lag], signal[lag:])[0, 1]
    share = lag * STEP_S / memory_s
    assert found == pytest.approx((1 + share) * np.exp(-share), abs=0.03)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("speed_px_s", [0.0, 60.0, 3000.0])
def test_path_stays_in_its_rectangle(
    rng: np.random.Generator, path: Callable[..., np.ndarray], speed_px_s: float
) -> None:
    for _ in range(5):
        points = path(
            rng, 200, STEP_S, low_xy=LOW, high_xy=HIGH, speed_px_s=speed_px_s, agility_s=0.4
        )
        assert points.shape == (200, 2)
        assert (points >= LOW - 1e-9).all()
        assert (points <= HIGH + 1e-9).all()


@pytest.mark.parametrize("path", PATHS)
def test_speed_zero_stands_still(rng: np.random.Generator, path: Callable[..., np.ndarray]) -> None:
    points = path(rng, 50, STEP_S, low_xy=LOW, high_xy=HIGH, speed_px_s=0.0, agility_s=0.4)
    assert np.ptp(points, axis=0) == pytest.approx([0, 0], abs=1e-9)


@pytest.mark.parametrize("path", PATHS)
def test_faster_is_faster(rng: np.random.Generator, path: Callable[..., np.ndarray]) -> None:
    def typical(speed_px_s: float) -> float:
        steps = [
            np.diff(
                path(
                    rng, 300, STEP_S, low_xy=LOW, high_xy=HIGH, speed_px_s=speed_px_s, agility_s=0.3
                ),
                axis=0,
            )
            for _ in range(8)
        ]
        return float(np.sqrt((np.concatenate(steps) ** 2).sum(axis=1).mean())) / STEP_S

    slow, fast = typical(20.0), typical(200.0)
    assert 8 < slow < 32
    assert 4 * slow < fast < 320


@pytest.mark.parametrize("path", PATHS)
def test_path_has_no_kinks(rng: np.random.Generator, path: Callable[..., np.ndarray]) -> None:
    points = path(rng, 300, STEP_S, low_xy=LOW, high_xy=HIGH, speed_px_s=100.0, agility_s=0.5)
    inside = ((points > LOW + 1) & (points < HIGH - 1)).all(axis=1)[2:]
    jerk = np.abs(np.diff(points, 2, axis=0)).max(axis=1)[inside]
    assert jerk.max() < 2.5  # px per frame and frame, at about 3 px per frame


def test_bump_rises_holds_and_falls() -> None:
    signal = bump(101, center=50, hold=20, ramp=15)
    assert signal[40:61] == pytest.approx(np.ones(21))
    assert signal[[32, 68]] == pytest.approx([0.5, 0.5], abs=0.1)
    assert (signal[:26] == 0).all()
    assert (signal[75:] == 0).all()
    assert (np.diff(signal[:51]) >= 0).all()
    assert signal == pytest.approx(signal[::-1])
