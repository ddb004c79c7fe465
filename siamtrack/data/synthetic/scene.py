"""Smooth random motion, sampled once per frame.

All functions are pure: the same generator state gives the same path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

from siamtrack.data.synthetic.config import SceneConfig
from siamtrack.data.synthetic.render import Canvas, FlatLayer, Patch, Track, exposures, truth_of
from siamtrack.data.synthetic.textures import Cutout, NoiseTextures, Textures
from siamtrack.types import FloatArray, Image


def smooth_noise(
    rng: np.random.Generator, count: int, dims: int, step_s: float, memory_s: float
) -> FloatArray:
    """Stationary random signals with zero mean, unit variance and a continuous slope.

    An Ornstein-Uhlenbeck process passed through its own filter once more, which rounds its
    corners.

    Args:
        rng: source of randomness.
        count: samples.
        dims: independent signals.
        step_s: time between samples in seconds.
        memory_s: correlation time in seconds. Raising it makes the signals slower.

    Returns:
        (count, dims).
    """
    decay = float(np.exp(-step_s / memory_s))
    # Long enough for the start, which is zero, to be forgotten.
    warm_up = min(10_000, int(np.ceil(12 * memory_s / step_s)))
    white = rng.standard_normal((count + warm_up, dims))
    # Variance of white noise behind two equal first-order filters, so that the result has 1.
    gain = np.sqrt((1 - decay**2) ** 3 / (1 + decay**2))
    signal = lfilter([gain], [1.0, -2 * decay, decay**2], white, axis=0)
    return np.asarray(signal[warm_up:], dtype=np.float64)


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
    """Path with a randomly changing velocity that turns back softly at the sides of a rectangle.

    Args:
        rng: source of randomness.
        count: samples.
        step_s: time between samples in seconds.
        low_xy: top-left corner of the rectangle in px.
        high_xy: bottom-right corner, not above or left of `low_xy`.
        speed_px_s: root mean square speed in px per second.
        agility_s: correlation time of the velocity in seconds.

    Returns:
        (count, 2) px inside the rectangle.
    """
    velocity = smooth_noise(rng, count, 2, step_s, agility_s) * speed_px_s / np.sqrt(2)
    start = rng.uniform(low_xy, high_xy)
    path = start + np.cumsum(velocity, axis=0) * step_s
    span = np.maximum(high_xy - low_xy, 1e-9)
    # A triangle wave folds the unbounded path into the rectangle; smoothing rounds the folds.
    phase = np.mod((path - low_xy) / span, 2.0)
    folded = low_xy + span * np.where(phase > 1, 2 - phase, phase)
    return np.asarray(gaussian_filter1d(folded, 0.15 / step_s, axis=0, mode="nearest"))


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

    The points are far enough apart that none is reached before `agility_s` has passed, and the
    spline is clipped to the rectangle where it swings past.
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
    path = CubicSpline(times, np.array(points))(np.arange(count) * step_s)
    return np.clip(path, low_xy, high_xy)


def bump(count: int, centre: float, hold: float, ramp: float) -> FloatArray:
    """Signal that rises smoothly from 0 to 1, stays there and falls again.

    Args:
        count: samples.
        centre: index in the middle of the stay.
        hold: length of the stay in samples.
        ramp: length of the rise, and of the fall, in samples; above 0.

    Returns:
        (count,) in [0, 1].
    """
    distance = np.abs(np.arange(count) - centre) - hold / 2
    x = np.clip(1 - distance / ramp, 0.0, 1.0)
    return x * x * x * (x * (6 * x - 15) + 10)


_LIGHT_MEMORY_S = 1.0
_SHAKE_MEMORY_S = 0.12
_PAN_RANGE = 0.8  # heights; the background is enlarged by as much, so it stays small
_QUIET_START = 0.15  # share of the clip before the first occlusion or exit


@dataclass(frozen=True, slots=True)
class Actor:
    """A layer and how it takes part.

    Attributes:
        layer: its looks and its motion.
        brightness: (count, 3) factor on its colours at every frame.
        in_front: whether it is drawn over the target.
        shadow: darkness of its shadow in [0, 1].
    """

    layer: FlatLayer
    brightness: FloatArray
    in_front: bool
    shadow: float


@dataclass(frozen=True, slots=True)
class ScenePlan:
    """Everything that is decided before rendering.

    Attributes:
        background: uint8 (H, W, 3) BGR, already at its final scale.
        pan_xy: (count, 2) px, where the frame lies on the background.
        cameras: (count, 3, 3) shake of the camera, applied to everything.
        target: the thing with the truth.
        others: occluders and distractors, in drawing order.
        light: (count, 2, 2, 3) factors at the corners of the frame.
        noise: float32 (H + 64, W + 64, 3) in grey levels, a sheet of noise larger than the frame.
        elsewhere: background and pan of the place that is shown during cuts; None without cuts.
        cut: (count,) bool, the frames that show it.
    """

    background: Image
    pan_xy: FloatArray
    cameras: FloatArray
    target: Actor
    others: tuple[Actor, ...]
    light: FloatArray
    noise: NDArray[np.float32]
    elsewhere: tuple[Image, FloatArray] | None
    cut: NDArray[np.bool_]


def plan_scene(config: SceneConfig, textures: Textures, rng: np.random.Generator) -> ScenePlan:
    """Draw a scene: the same generator state gives the same scene."""
    cutout = textures.cutout(rng)
    target = _target(config, cutout, rng)
    others = [_distractor(config, target.layer, textures, rng) for _ in range(config.distractors)]
    slots = _slots(config.occlusions, config.frame_count, rng)
    others += [_occluder(config, target.layer, textures, centre, rng) for centre, _ in slots]
    cameras = _cameras(config, rng)
    background, pan = _background(config, textures.background(rng), rng)
    width, height = config.frame_wh
    noise = rng.standard_normal((height + 64, width + 64, 3), dtype=np.float32)
    noise *= rng.uniform(0, config.noise)
    light = _light(config, rng)
    elsewhere = _background(config, textures.background(rng), rng) if config.cuts else None
    cut = _cuts(config, rng)
    return ScenePlan(background, pan, cameras, target, tuple(others), light, noise, elsewhere, cut)


def _target(config: SceneConfig, cutout: Cutout, rng: np.random.Generator) -> Actor:
    size_px = np.exp(rng.uniform(*np.log(config.target_size))) * config.height_px
    track = _free_track(config, size_px, rng)
    track = _with_exits(config, track, rng)
    layer = FlatLayer(cutout, track, perspective=config.perspective)
    return Actor(layer, _brightness(config, rng), in_front=False, shadow=config.shadow)


def _distractor(
    config: SceneConfig, target: FlatLayer, textures: Textures, rng: np.random.Generator
) -> Actor:
    size_px = float(target.track.size_px[0] * rng.uniform(0.8, 1.25))
    cutout = _alike(target.cutout, textures.cutout(rng), config.distractor_likeness, rng)
    layer = FlatLayer(cutout, _free_track(config, size_px, rng), perspective=config.perspective)
    in_front = bool(rng.random() < 0.5)
    return Actor(layer, _brightness(config, rng), in_front=in_front, shadow=config.shadow)


def _alike(target: Cutout, other: Cutout, likeness: float, rng: np.random.Generator) -> Cutout:
    """Blend the texture of `other` towards the target's; take the target's shape as often."""
    height, width = target.alpha.shape
    image = np.asarray(cv2.resize(other.image_bgr, (width, height), interpolation=cv2.INTER_AREA))
    blend = likeness * target.image_bgr.astype(np.float32) + (1 - likeness) * image
    alpha = target.alpha
    if rng.random() >= likeness:
        alpha = np.asarray(cv2.resize(other.alpha, (width, height)), dtype=np.float32)
    return Cutout(np.rint(blend).astype(np.uint8), alpha)


def _occluder(
    config: SceneConfig,
    target: FlatLayer,
    textures: Textures,
    crossing: float,
    rng: np.random.Generator,
) -> Actor:
    """A thing on a straight line that meets the target at frame `crossing` and may stay with it."""
    target_px = target.track.at(crossing)[1]
    size_px = float(np.exp(rng.uniform(*np.log(config.occluder_size))) * target_px)
    heading = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(heading), np.sin(heading)])
    aside = np.array([-along[1], along[0]]) * rng.uniform(-0.3, 0.3) * target_px
    speed_px_s = rng.uniform(0.6, 1.6) * config.height_px
    count = config.frame_count
    time_s = np.asarray((np.arange(count) - crossing) / config.fps, dtype=np.float64)
    stay_s = np.clip(time_s, -config.occlusion_s / 2, config.occlusion_s / 2)
    where = np.array([target.track.at(crossing + s * config.fps)[0] for s in stay_s])
    centre = where + aside + along * speed_px_s * (time_s - stay_s)[:, None]
    angle = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.5) * time_s
    track = Track(centre, np.full(count, size_px), angle, np.zeros((count, 2)))
    layer = FlatLayer(textures.cutout(rng), track, perspective=config.perspective)
    return Actor(layer, np.ones((count, 3)), in_front=True, shadow=0.0)


def _free_track(config: SceneConfig, size_px: float, rng: np.random.Generator) -> Track:
    """Motion of a thing that stays in the frame by and large."""
    frame = np.array(config.frame_wh, dtype=np.float64)
    margin = np.minimum(0.5 * size_px, 0.5 * frame)
    kinds = {"spline": spline_path, "wander": wander}
    kind = ("spline", "wander")[int(rng.integers(2))] if config.motion == "mixed" else config.motion
    count, step_s = config.frame_count, 1 / config.fps
    centre = kinds[kind](
        rng,
        count,
        step_s,
        low_xy=margin,
        high_xy=frame - margin,
        speed_px_s=float(rng.uniform(0, config.speed) * config.height_px),
        agility_s=config.agility_s,
    )
    pose = smooth_noise(rng, count, 4, step_s, config.agility_s)
    pose -= pose[0] * [0, 1, 0, 0]  # the first size is the given one
    spread = rng.uniform(0, [config.rotation_deg, config.size_change, *[config.tilt_deg] * 2])
    size = np.clip(size_px * np.exp(pose[:, 1] * spread[1]), 4.0, 2.0 * config.height_px)
    angle = pose[:, 0] * np.radians(spread[0])
    tilt = pose[:, 2:] * np.radians(spread[2:])
    return Track(centre, np.asarray(size, np.float64), np.asarray(angle, np.float64), tilt)


def _with_exits(config: SceneConfig, track: Track, rng: np.random.Generator) -> Track:
    """Lead the track out of the frame and back, as often as the config says."""
    centre = track.centre_xy.copy()
    frame = np.array(config.frame_wh, dtype=np.float64)
    for middle, length in _slots(config.exits, config.frame_count, rng):
        hold = min(config.exit_s * config.fps, 0.5 * length)
        ramp = max(1.0, min(max(0.7, config.agility_s) * config.fps, (length - hold) / 2))
        away = bump(config.frame_count, middle, hold, ramp)
        axis = int(rng.integers(2))
        # Twice the side is beyond the reach of any shape and rotation.
        beyond = 2.0 * track.size_px.max()
        outside = frame[axis] + beyond if rng.random() < 0.5 else -beyond
        centre[:, axis] = (1 - away) * centre[:, axis] + away * outside
    return Track(centre, track.size_px, track.angle, track.tilt)


def _cuts(config: SceneConfig, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Frames that show another place."""
    cut = np.zeros(config.frame_count, np.bool_)
    for middle, length in _slots(config.cuts, config.frame_count, rng):
        half = min(config.cut_s * config.fps, length) / 2
        cut[max(round(middle - half), 1) : round(middle + half)] = True
    return cut


def _slots(number: int, count: int, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Spread events over the clip after its quiet start: middle frame and length of each share."""
    start = _QUIET_START * count
    length = (count - start) / max(number, 1)
    return [(start + length * (k + rng.uniform(0.4, 0.6)), 0.8 * length) for k in range(number)]


def _brightness(config: SceneConfig, rng: np.random.Generator) -> FloatArray:
    """Light on one thing alone: a third of the change of the whole frame's."""
    spread = rng.uniform(0, config.light_change) / 3
    change = smooth_noise(rng, config.frame_count, 1, 1 / config.fps, _LIGHT_MEMORY_S)
    return np.asarray(np.exp(spread * change) * np.ones(3))


def _light(config: SceneConfig, rng: np.random.Generator) -> FloatArray:
    count = config.frame_count
    change = smooth_noise(rng, count, 8, 1 / config.fps, _LIGHT_MEMORY_S)
    spread = rng.uniform(0, config.light_change)
    tint = rng.uniform(0, config.tint_change) * change[:, None, None, 5:8]
    whole = spread * change[:, 0, None, None, None]
    corners = 0.5 * spread * change[:, 1:5].reshape(count, 2, 2, 1)
    return np.asarray(np.exp(whole + corners + tint))


def _cameras(config: SceneConfig, rng: np.random.Generator) -> FloatArray:
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


def _background(
    config: SceneConfig, picture: Image, rng: np.random.Generator
) -> tuple[Image, FloatArray]:
    """Enlarge or reduce a picture so that the pan and the shake never show its border."""
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


_LEAST_FIRST_VISIBLE = 0.6
_MOST_DRAWS = 20


class SceneFrame(NamedTuple):
    """A frame and the truth about its target.

    Attributes:
        image_bgr: uint8 (H, W, 3).
        box_xywh: (4,) float64, the tight box in px around the part of the target's shape that
            lies in the frame, whether something hides it or not; nan where nothing of it is to
            be seen. The shape is where its alpha exceeds 1/2 at the middle of the exposure.
        visible_fraction: share of the shape that is in the frame and not hidden, in [0, 1]; 0
            exactly where the box is nan.
    """

    image_bgr: Image
    box_xywh: FloatArray
    visible_fraction: float


def render_scene(
    config: SceneConfig, textures: Textures, rng: np.random.Generator
) -> Iterator[SceneFrame]:
    """Render one random scene.

    The target can be seen in the first frame: scenes that begin with it hidden are drawn anew.

    Args:
        config: how hard the scene is.
        textures: where its pictures come from.
        rng: source of all randomness; equal states give equal scenes.

    Yields:
        `config.frame_count` frames.

    Raises:
        DatasetError: the textures have no picture that can be read.
    """
    for _ in range(_MOST_DRAWS):
        plan = plan_scene(config, textures, rng)
        first = _render(config, plan, 0, (0, 0))
        if first.visible_fraction >= _LEAST_FIRST_VISIBLE:
            break
    else:
        behind = tuple(replace(actor, in_front=False) for actor in plan.others)
        plan = replace(plan, others=behind)
    offsets = rng.integers(0, 64, (config.frame_count, 2))
    for frame in range(config.frame_count):
        yield _render(config, plan, frame, (int(offsets[frame, 0]), int(offsets[frame, 1])))


def small_scene(seed: int = 0, **knobs: Any) -> list[SceneFrame]:
    """Render a short, easy scene out of nothing: for tests, examples and first experiments.

    One textured thing glides over a patterned background, nothing hides it, and it never leaves
    the frame. Takes no files.

    Args:
        seed: which scene.
        **knobs: fields of `SceneConfig` that are to differ, for example `frame_count=10`,
            `occlusions=1` or `exits=1`.

    Returns:
        All frames; 40 of 160 x 120 px unless told otherwise.

    Raises:
        ConfigError: an unknown knob or one out of range.
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
    config = SceneConfig.from_mapping({**easy, **knobs})
    return list(render_scene(config, NoiseTextures(), np.random.default_rng(seed)))


def _render(
    config: SceneConfig, plan: ScenePlan, frame: int, noise_xy: tuple[int, int]
) -> SceneFrame:
    if plan.cut[frame] and plan.elsewhere is not None:
        background, pan_xy = plan.elsewhere
        place = replace(plan, background=background, pan_xy=pan_xy)
        image = _develop(config, plan, frame, _render_background(config, place, frame), noise_xy)
        return SceneFrame(image, np.full(4, np.nan), 0.0)
    canvas = Canvas(_render_background(config, plan, frame))
    for actor in plan.others:
        if not actor.in_front:
            _draw(config, plan, actor, frame, canvas)
    target = _draw(config, plan, plan.target, frame, canvas)
    front = [
        patch
        for actor in plan.others
        if actor.in_front and (patch := _draw(config, plan, actor, frame, canvas)) is not None
    ]
    image = _develop(config, plan, frame, canvas.pixels, noise_xy)
    box, fraction = truth_of(target, front, config.frame_wh)
    return SceneFrame(image, box, fraction)


def _render_background(config: SceneConfig, plan: ScenePlan, frame: int) -> NDArray[np.float32]:
    """Background under pan and shake, averaged over the exposure if it moves much."""

    def placement(at: float) -> FloatArray:
        last = len(plan.pan_xy) - 1
        rows = np.arange(last + 1)
        x, y = (float(np.interp(at, rows, plan.pan_xy[:, axis])) for axis in (0, 1))
        return np.asarray(_camera(plan, at) @ np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1.0]]))

    half = config.shutter / 2
    ends = placement(frame - half)[:2, 2], placement(frame + half)[:2, 2]
    times = exposures(frame, config.shutter, float(np.hypot(*(ends[1] - ends[0]))))
    shift = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    total = np.zeros((config.frame_wh[1], config.frame_wh[0], 3), np.float32)
    for time in times:
        matrix = (np.linalg.inv(shift) @ placement(time) @ shift)[:2]
        picture = cv2.warpAffine(
            plan.background, matrix, config.frame_wh, borderMode=cv2.BORDER_REFLECT_101
        )
        cv2.accumulate(picture, total)
    total /= len(times)
    return total


def _draw(
    config: SceneConfig, plan: ScenePlan, actor: Actor, frame: int, canvas: Canvas
) -> Patch | None:
    """Render an actor on the canvas; None if it is outside the frame or cannot be rendered."""
    layer, half = actor.layer, config.shutter / 2
    corners = [
        layer.rectangle(layer.homography(at, _camera(plan, at)))
        for at in (frame - half, float(frame), frame + half)
    ]
    if not _touches(corners, config.frame_wh):
        return None
    travel = float(np.linalg.norm(corners[2] - corners[0], axis=1).max())
    maps = [
        layer.homography(at, _camera(plan, at)) for at in exposures(frame, config.shutter, travel)
    ]
    patch = layer.render(maps, actor.brightness[frame])
    if patch is None:
        return None
    if actor.shadow > 0:
        canvas.darken(patch, float(layer.track.size_px[frame]), actor.shadow)
    canvas.put(patch)
    return patch


def _touches(corners: list[FloatArray], frame_wh: tuple[int, int]) -> bool:
    points = np.concatenate(corners)
    return bool((points.max(axis=0) > 0).all() and (points.min(axis=0) < frame_wh).all())


def _camera(plan: ScenePlan, at: float) -> FloatArray:
    """Shake at a fractional frame number, linear in between."""
    last = len(plan.cameras) - 1
    at = min(max(at, 0.0), float(last))
    low = int(at)
    rest = at - low
    return np.asarray((1 - rest) * plan.cameras[low] + rest * plan.cameras[min(low + 1, last)])


def _develop(
    config: SceneConfig,
    plan: ScenePlan,
    frame: int,
    pixels: NDArray[np.float32],
    noise_xy: tuple[int, int],
) -> Image:
    """Apply light and noise and round to grey levels."""
    width, height = config.frame_wh
    light = cv2.resize(plan.light[frame].astype(np.float32), (width, height))
    x, y = noise_xy
    pixels = pixels * light + plan.noise[y : y + height, x : x + width]
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
