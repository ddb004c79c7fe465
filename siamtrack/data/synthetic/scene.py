"""Render scenes frame by frame, each with the exact box of its target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.data.synthetic.compose import Canvas, truth_of
from siamtrack.data.synthetic.config import SceneConfig
from siamtrack.data.synthetic.layers import Patch, exposures
from siamtrack.data.synthetic.plan import Actor, ScenePlan, plan_scene
from siamtrack.data.synthetic.textures import Image, NoiseTextures, Textures

FloatArray = NDArray[np.float64]

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
