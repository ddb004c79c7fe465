"""What happens in a scene, drawn at random before the first frame is rendered."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.data.synthetic.config import SceneConfig
from siamtrack.data.synthetic.layers import FlatLayer, Track
from siamtrack.data.synthetic.motion import bump, smooth_noise, spline_path, wander
from siamtrack.data.synthetic.textures import Cutout, Image, Textures

FloatArray = NDArray[np.float64]

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
