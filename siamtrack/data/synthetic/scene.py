"""Random scenes: what happens in a clip, and its frames with ground truth.

Sections: rendering (`render_scene`, `small_scene`), planning (`plan_scene` draws everything that
is random), and smooth random motion.

All functions are pure: the same generator state gives the same scene. The order of the random
draws is part of that; changing it changes every clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np

from siamtrack.data.synthetic.config import SceneConfig
from siamtrack.data.synthetic.curves import cubic_spline, double_lowpass, gaussian_smooth
from siamtrack.data.synthetic.render import (
    TO_CENTERS,
    TO_CORNERS,
    Canvas,
    Patch,
    PlanarLayer,
    Track,
    exposure_times,
    ground_truth,
    interpolate,
    translation,
)
from siamtrack.data.synthetic.textures import Cutout, NoiseTextures, Textures
from siamtrack.types import BoolArray, Float32Array, FloatArray, Image
from siamtrack.utils.config import build

_MIN_FIRST_VISIBLE = 0.6  # visible fraction of the target in the first frame
_MAX_DRAWS = 20
_NOISE_MARGIN_PX = 64
_LIGHT_MEMORY_S = 1.0
_SHAKE_MEMORY_S = 0.12
_PAN_RANGE = 0.8  # heights; the background is enlarged by as much
_QUIET_START = 0.15  # fraction of the clip before the first occlusion, exit or cut


# Rendering


class SceneFrame(NamedTuple):
    """A frame and the ground truth about its target.

    The target's shape is where its alpha exceeds 1/2 in the middle of the exposure. Its box is the
    tight one around the part inside the frame, hidden or not.
    """

    image_bgr: Image  # uint8 (H, W, 3)
    box_xywh: FloatArray  # (4,) float64 px; nan where nothing of the target is visible
    visible_fraction: float  # of the shape, in [0, 1]; 0 exactly where the box is nan


def render_scene(
    config: SceneConfig, textures: Textures, rng: np.random.Generator
) -> Iterator[SceneFrame]:
    """Render one random scene, `config.frame_count` frames.

    The target is visible in the first frame: scenes that start with it hidden are drawn again.

    Raises:
        DatasetError: the textures have no picture that can be read.
    """
    for _ in range(_MAX_DRAWS):
        plan = plan_scene(config, textures, rng)
        first = _render(config, plan, 0, (0, 0))
        if first.visible_fraction >= _MIN_FIRST_VISIBLE:
            break
    else:
        # Nothing else helped: bring the target to the front.
        plan = replace(plan, others=tuple(replace(o, in_front=False) for o in plan.others))
    offsets = rng.integers(0, _NOISE_MARGIN_PX, (config.frame_count, 2))
    for frame in range(config.frame_count):
        yield _render(config, plan, frame, (int(offsets[frame, 0]), int(offsets[frame, 1])))


def small_scene(seed: int = 0, **parameters: Any) -> list[SceneFrame]:
    """Render a short, easy scene for tests, examples and first experiments.

    One textured object glides over a textured background. Nothing hides it, and it stays in the
    frame. No files are needed.

    Args:
        seed: varies the scene.
        **parameters: fields of `SceneConfig` that differ from 40 easy frames of 160 x 120 px.

    Raises:
        ConfigError: an unknown parameter or a bad value.
    """
    easy: dict[str, Any] = {
        "frame_wh": (160, 120),
        "frame_count": 40,
        "target_size": (0.25, 0.35),
        "size_change": 0.1,
        "rotation_deg": 8.0,
        "tilt_deg": 8.0,
        "light_change": 0.05,
        "occlusions": 0,
        "distractors": 0,
        "camera_pan": 0.1,
        "noise": 2.0,
    }
    config = build(SceneConfig, {**easy, **parameters}, kind="scene parameter")
    return list(render_scene(config, NoiseTextures(), np.random.default_rng(seed)))


def _render(
    config: SceneConfig, plan: ScenePlan, frame: int, noise_xy: tuple[int, int]
) -> SceneFrame:
    """Render one frame; `noise_xy` is the part of the noise that it gets."""
    # 1. Background.
    cut_place = plan.cut_place if plan.cut_frames[frame] else None
    picture, pan_xy = cut_place or (plan.background, plan.pan_xy)
    canvas = Canvas(_render_background(config, picture, pan_xy, plan.cameras, frame))

    # 2. Objects behind the target, the target, objects in front of it. A cut shows none of them.
    target, front = None, list[Patch | None]()
    if cut_place is None:
        for other in plan.others:
            if not other.in_front:
                _draw_object(config, plan, other, frame, canvas)
        target = _draw_object(config, plan, plan.target, frame, canvas)
        front = [_draw_object(config, plan, o, frame, canvas) for o in plan.others if o.in_front]

    # 3. Light and sensor noise.
    width, height = config.frame_wh
    light = cv2.resize(plan.light[frame].astype(np.float32), (width, height))  # (H, W, 3)
    x, y = noise_xy
    pixels = canvas.pixels * light + plan.noise[y : y + height, x : x + width]
    image = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)

    # 4. Ground truth.
    drawn = [patch for patch in front if patch is not None]
    return SceneFrame(image, *ground_truth(target, drawn, config.frame_wh))


def _render_background(
    config: SceneConfig, picture: Image, pan_xy: FloatArray, cameras: FloatArray, frame: int
) -> Float32Array:
    """Background under pan and shake, averaged over the exposure: float32 (H, W, 3)."""
    rows = np.arange(len(pan_xy))

    def placement(at: float) -> FloatArray:
        x, y = (float(np.interp(at, rows, pan_xy[:, axis])) for axis in (0, 1))
        return np.asarray(interpolate(cameras, at) @ translation(-x, -y))

    half = config.shutter / 2
    start, end = placement(frame - half)[:2, 2], placement(frame + half)[:2, 2]
    times = exposure_times(frame, config.shutter, float(np.hypot(*(end - start))))
    total = np.zeros((config.frame_wh[1], config.frame_wh[0], 3), np.float32)
    for time in times:
        matrix = (TO_CENTERS @ placement(time) @ TO_CORNERS)[:2]
        view = cv2.warpAffine(picture, matrix, config.frame_wh, borderMode=cv2.BORDER_REFLECT_101)
        cv2.accumulate(view, total)
    total /= len(times)
    return total


def _draw_object(
    config: SceneConfig, plan: ScenePlan, scene_object: SceneObject, frame: int, canvas: Canvas
) -> Patch | None:
    """Draw an object with its shadow; None if it is outside the frame or cannot be rendered."""
    # 1. Where it is at the start, in the middle and at the end of the exposure.
    layer, half = scene_object.layer, config.shutter / 2
    corners = [
        layer.corners(layer.homography(at, interpolate(plan.cameras, at)))
        for at in (frame - half, float(frame), frame + half)
    ]
    points = np.concatenate(corners)  # (12, 2)
    if not ((points.max(axis=0) > 0).all() and (points.min(axis=0) < config.frame_wh).all()):
        return None

    # 2. Average it over the exposure.
    travel_px = float(np.linalg.norm(corners[2] - corners[0], axis=1).max())
    times = exposure_times(frame, config.shutter, travel_px)
    maps = [layer.homography(at, interpolate(plan.cameras, at)) for at in times]
    patch = layer.render(maps, scene_object.brightness[frame])
    if patch is None:
        return None

    # 3. Its shadow first, which it covers in part.
    if scene_object.shadow > 0:
        canvas.draw_shadow(patch, float(layer.track.size_px[frame]), scene_object.shadow)
    canvas.draw(patch)
    return patch


# Planning


@dataclass(frozen=True, slots=True)
class SceneObject:
    """A moving object."""

    layer: PlanarLayer  # appearance and motion
    brightness: FloatArray  # (N, 3) factor on its colors in every frame
    in_front: bool  # drawn over the target
    shadow: float  # darkness of its shadow in [0, 1]


@dataclass(frozen=True, slots=True)
class ScenePlan:
    """Everything that is decided before rendering N frames."""

    background: Image  # (H, W, 3) BGR in its final scale
    pan_xy: FloatArray  # (N, 2) px, top-left corner of the frame on the background
    cameras: FloatArray  # (N, 3, 3) shake of the camera, applied to everything
    target: SceneObject
    others: tuple[SceneObject, ...]  # occluders and distractors in drawing order
    light: FloatArray  # (N, 2, 2, 3) factors at the corners of the frame
    noise: Float32Array  # (H + 64, W + 64, 3) gray levels; every frame uses another part of it
    cut_place: tuple[Image, FloatArray] | None  # background and pan that cuts show
    cut_frames: BoolArray  # (N,) frames that show it


def plan_scene(config: SceneConfig, textures: Textures, rng: np.random.Generator) -> ScenePlan:
    """Draw a random scene."""
    # 1. Target.
    cutout = textures.cutout(rng)
    size_px = np.exp(rng.uniform(*np.log(config.target_size))) * config.height_px
    track = _add_exits(config, _free_track(config, size_px, rng), rng)
    layer = PlanarLayer(cutout, track, perspective=config.perspective)
    target = SceneObject(layer, _brightness(config, rng), in_front=False, shadow=config.shadow)

    # 2. Distractors and occluders.
    others = [_distractor(config, layer, textures, rng) for _ in range(config.distractors)]
    slots = _time_slots(config.occlusions, config.frame_count, rng)
    others += [_occluder(config, layer, textures, center, rng) for center, _ in slots]

    # 3. Camera, background, noise and light.
    cameras = _camera_shake(config, rng)
    background, pan = _panned_background(config, textures.background(rng), rng)
    width, height = config.frame_wh
    noise_shape = (height + _NOISE_MARGIN_PX, width + _NOISE_MARGIN_PX, 3)
    noise = rng.standard_normal(noise_shape, dtype=np.float32)
    noise *= rng.uniform(0, config.noise)
    light = _light(config, rng)

    # 4. Cuts to another place.
    cut_place = None
    if config.cuts:
        cut_place = _panned_background(config, textures.background(rng), rng)
    cut_frames = np.zeros(config.frame_count, np.bool_)
    for middle, length in _time_slots(config.cuts, config.frame_count, rng):
        half = min(config.cut_s * config.fps, length) / 2
        cut_frames[max(round(middle - half), 1) : round(middle + half)] = True
    return ScenePlan(
        background, pan, cameras, target, tuple(others), light, noise, cut_place, cut_frames
    )


def _free_track(config: SceneConfig, size_px: float, rng: np.random.Generator) -> Track:
    """Motion of an object that mostly stays in the frame."""
    # 1. Path of the center.
    frame = np.array(config.frame_wh, dtype=np.float64)
    margin = np.minimum(0.5 * size_px, 0.5 * frame)
    kind = ("spline", "wander")[int(rng.integers(2))] if config.motion == "mixed" else config.motion
    count, step_s = config.frame_count, 1 / config.fps
    center = (spline_path if kind == "spline" else wander)(
        rng,
        count,
        step_s,
        low_xy=margin,
        high_xy=frame - margin,
        speed_px_s=float(rng.uniform(0, config.speed) * config.height_px),
        agility_s=config.agility_s,
    )

    # 2. Size and pose. The size starts with the given one.
    pose = smooth_noise(rng, count, 4, step_s, config.agility_s)  # angle, log size, yaw, pitch
    pose -= pose[0] * [0, 1, 0, 0]
    spread = rng.uniform(0, [config.rotation_deg, config.size_change, *[config.tilt_deg] * 2])
    size = np.clip(size_px * np.exp(pose[:, 1] * spread[1]), 4.0, 2.0 * config.height_px)
    angle = pose[:, 0] * np.radians(spread[0])
    tilt = pose[:, 2:] * np.radians(spread[2:])
    return Track(center, np.asarray(size, np.float64), np.asarray(angle, np.float64), tilt)


def _add_exits(config: SceneConfig, track: Track, rng: np.random.Generator) -> Track:
    """Lead a track out of the frame and back, `config.exits` times."""
    center = track.center_xy.copy()
    for middle, length in _time_slots(config.exits, config.frame_count, rng):
        hold = min(config.exit_s * config.fps, 0.5 * length)
        ramp = max(1.0, min(max(0.7, config.agility_s) * config.fps, (length - hold) / 2))
        away = bump(config.frame_count, middle, hold, ramp)
        axis = int(rng.integers(2))
        # Twice the side is beyond the reach of any shape and rotation.
        beyond = 2.0 * track.size_px.max()
        outside = float(config.frame_wh[axis]) + beyond if rng.random() < 0.5 else -beyond
        center[:, axis] = (1 - away) * center[:, axis] + away * outside
    return replace(track, center_xy=center)


def _time_slots(number: int, count: int, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Spread events over a clip after its quiet start: middle frame and length of each."""
    start = _QUIET_START * count
    length = (count - start) / max(number, 1)
    return [(start + length * (k + rng.uniform(0.4, 0.6)), 0.8 * length) for k in range(number)]


def _distractor(
    config: SceneConfig, target: PlanarLayer, textures: Textures, rng: np.random.Generator
) -> SceneObject:
    """An object of about the target's size that resembles it as much as the config says."""
    size_px = float(target.track.size_px[0] * rng.uniform(0.8, 1.25))

    # Blend its texture with the target's; take the target's shape with the same probability.
    own, wanted, likeness = textures.cutout(rng), target.cutout, config.distractor_likeness
    size_wh = (wanted.alpha.shape[1], wanted.alpha.shape[0])
    image = np.asarray(cv2.resize(own.image_bgr, size_wh, interpolation=cv2.INTER_AREA))
    blend = likeness * wanted.image_bgr.astype(np.float32) + (1 - likeness) * image
    alpha = wanted.alpha
    if rng.random() >= likeness:
        alpha = np.asarray(cv2.resize(own.alpha, size_wh), dtype=np.float32)
    cutout = Cutout(np.rint(blend).astype(np.uint8), alpha)

    layer = PlanarLayer(cutout, _free_track(config, size_px, rng), perspective=config.perspective)
    in_front = bool(rng.random() < 0.5)
    return SceneObject(layer, _brightness(config, rng), in_front=in_front, shadow=config.shadow)


def _occluder(
    config: SceneConfig,
    target: PlanarLayer,
    textures: Textures,
    crossing: float,
    rng: np.random.Generator,
) -> SceneObject:
    """An object on a straight line that meets the target at frame `crossing` and may stay there."""
    # 1. Size, direction and speed.
    target_px = target.track.at(crossing)[1]
    size_px = float(np.exp(rng.uniform(*np.log(config.occluder_size))) * target_px)
    heading = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(heading), np.sin(heading)])
    aside = np.array([-along[1], along[0]]) * rng.uniform(-0.3, 0.3) * target_px
    speed_px_s = rng.uniform(0.6, 1.6) * config.height_px

    # 2. Path: towards the target, with it for `occlusion_s`, and on.
    count = config.frame_count
    time_s = np.asarray((np.arange(count) - crossing) / config.fps, dtype=np.float64)
    stay_s = np.clip(time_s, -config.occlusion_s / 2, config.occlusion_s / 2)
    where = np.array([target.track.at(crossing + s * config.fps)[0] for s in stay_s])
    center = where + aside + along * speed_px_s * (time_s - stay_s)[:, None]
    angle = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.5) * time_s
    track = Track(center, np.full(count, size_px), angle, np.zeros((count, 2)))
    layer = PlanarLayer(textures.cutout(rng), track, perspective=config.perspective)
    return SceneObject(layer, np.ones((count, 3)), in_front=True, shadow=0.0)


def _brightness(config: SceneConfig, rng: np.random.Generator) -> FloatArray:
    """(N, 3) light on one object alone: a third of the change of the whole frame."""
    spread = rng.uniform(0, config.light_change) / 3
    change = smooth_noise(rng, config.frame_count, 1, 1 / config.fps, _LIGHT_MEMORY_S)
    return np.asarray(np.exp(spread * change) * np.ones(3))


def _light(config: SceneConfig, rng: np.random.Generator) -> FloatArray:
    """(N, 2, 2, 3) light at the corners of the frame."""
    count = config.frame_count
    change = smooth_noise(rng, count, 8, 1 / config.fps, _LIGHT_MEMORY_S)
    spread = rng.uniform(0, config.light_change)
    tint = rng.uniform(0, config.tint_change) * change[:, None, None, 5:8]  # (N, 1, 1, 3)
    whole = spread * change[:, 0, None, None, None]  # (N, 1, 1, 1)
    corners = 0.5 * spread * change[:, 1:5].reshape(count, 2, 2, 1)
    return np.asarray(np.exp(whole + corners + tint))


def _camera_shake(config: SceneConfig, rng: np.random.Generator) -> FloatArray:
    """(N, 3, 3) shift, roll and zoom about the center of the frame."""
    spread = rng.uniform(0, config.camera_shake)
    change = smooth_noise(rng, config.frame_count, 4, 1 / config.fps, _SHAKE_MEMORY_S) * spread
    change = np.clip(change, -3 * config.camera_shake, 3 * config.camera_shake)
    dx, dy = change[:, :2].T * config.height_px
    angle, zoom = 0.5 * change[:, 2], np.exp(0.5 * change[:, 3])
    cx, cy = np.array(config.frame_wh) / 2
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    cameras = np.zeros((config.frame_count, 3, 3))
    cameras[:, 0] = np.stack([cos, -sin, cx - cos * cx + sin * cy + dx], axis=1)
    cameras[:, 1] = np.stack([sin, cos, cy - sin * cx - cos * cy + dy], axis=1)
    cameras[:, 2, 2] = 1
    return cameras


def _panned_background(
    config: SceneConfig, picture: Image, rng: np.random.Generator
) -> tuple[Image, FloatArray]:
    """A picture in the size at which pan and shake never show its border, and the pan."""
    # 1. Pan, (N, 2) px.
    reach = np.full(2, _PAN_RANGE * config.height_px if config.camera_pan > 0 else 0.0)
    pan = wander(
        rng,
        config.frame_count,
        1 / config.fps,
        low_xy=np.zeros(2),
        high_xy=reach,
        speed_px_s=float(rng.uniform(0, config.camera_pan) * config.height_px),
        agility_s=2 * config.agility_s,
    )
    pan -= pan.min(axis=0)

    # 2. Scale the picture to the frame, the pan and a margin for the shake.
    frame = np.array(config.frame_wh)
    margin = np.ceil(6 * config.camera_shake * frame.max()) + 2
    need = frame + pan.max(axis=0) + 2 * margin
    have = np.array([picture.shape[1], picture.shape[0]])
    scale = float((need / have).max())
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = np.maximum(np.ceil(have * scale), np.ceil(need)).astype(int)
    background = cv2.resize(picture, (int(size[0]), int(size[1])), interpolation=how)
    start = rng.uniform(0, 1, 2) * (size - need) + margin
    return np.asarray(background, dtype=np.uint8), pan + start


# Smooth random motion, sampled once per frame


def wander(
    rng: np.random.Generator,
    count: int,
    step_s: float,
    *,
    low_xy: FloatArray,
    high_xy: FloatArray,
    speed_px_s: float,
    agility_s: float,
) -> FloatArray:
    """Path, (count, 2) px, with a random velocity that turns back smoothly at the sides.

    Args:
        rng: source of randomness.
        count: samples, `step_s` apart.
        step_s: seconds.
        low_xy: top-left corner of the rectangle that the path stays in.
        high_xy: its bottom-right corner.
        speed_px_s: root mean square speed.
        agility_s: correlation time of the velocity.
    """
    velocity = smooth_noise(rng, count, 2, step_s, agility_s) * speed_px_s / np.sqrt(2)
    start = rng.uniform(low_xy, high_xy)
    path = start + np.cumsum(velocity, axis=0) * step_s
    span = np.maximum(high_xy - low_xy, 1e-9)
    # A triangle wave folds the unbounded path into the rectangle; smoothing rounds the folds.
    phase = np.mod((path - low_xy) / span, 2.0)
    folded = low_xy + span * np.where(phase > 1, 2 - phase, phase)
    return gaussian_smooth(folded, 0.15 / step_s)


def spline_path(
    rng: np.random.Generator,
    count: int,
    step_s: float,
    *,
    low_xy: FloatArray,
    high_xy: FloatArray,
    speed_px_s: float,
    agility_s: float,
) -> FloatArray:
    """Cubic spline through random points of a rectangle; same arguments as `wander`.

    From one point to the next it takes at least `agility_s`. The spline is clipped to the
    rectangle where it overshoots.
    """
    points = [rng.uniform(low_xy, high_xy)]
    times = [0.0]
    end_s = count * step_s
    while times[-1] < end_s or len(times) < 4:
        points.append(rng.uniform(low_xy, high_xy))
        distance = float(np.hypot(*(points[-1] - points[-2])))
        travel = distance / speed_px_s if speed_px_s > 0 else end_s
        times.append(times[-1] + max(travel, agility_s, step_s))
    if speed_px_s <= 0:
        points = [points[0]] * len(points)
    path = cubic_spline(
        np.array(times), np.array(points, np.float64), step_s * np.arange(count, dtype=np.float64)
    )
    return np.clip(path, low_xy, high_xy)


def smooth_noise(
    rng: np.random.Generator, count: int, dims: int, step_s: float, memory_s: float
) -> FloatArray:
    """Stationary random signals, (count, dims), with zero mean and unit variance.

    An Ornstein-Uhlenbeck process with correlation time `memory_s` that passes its own filter once
    more, which makes the slope continuous.
    """
    decay = float(np.exp(-step_s / memory_s))
    # The filter starts at zero; the warm-up is long enough to forget that.
    warm_up = min(10_000, int(np.ceil(12 * memory_s / step_s)))
    white = rng.standard_normal((count + warm_up, dims))
    # Inverse of the standard deviation of white noise behind two equal first-order filters.
    gain = np.sqrt((1 - decay**2) ** 3 / (1 + decay**2))
    return double_lowpass(white, float(gain), decay)[warm_up:]


def bump(count: int, center: float, hold: float, ramp: float) -> FloatArray:
    """Signal, (count,), that rises smoothly from 0 to 1, stays there and falls again.

    It stays at 1 for `hold` samples about `center`; rise and fall take `ramp` samples each.
    """
    distance = np.abs(np.arange(count) - center) - hold / 2
    x = np.clip(1 - distance / ramp, 0.0, 1.0)
    return x * x * x * (x * (6 * x - 15) + 10)
