"""The parameters of a synthetic scene."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from siamtrack.errors import ConfigError
from siamtrack.utils.config import (
    build,
    check_choice,
    check_number,
    check_ranges,
    parse_assignments,
    ranged,
    read_toml,
)

Motion = Literal["mixed", "spline", "wander"]

MAX_TILT_DEG = 70.0
"""Largest tilt of an object; beyond it a plane is hardly more than a line."""


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """How hard a scene is to track, in units that do not depend on the frame size.

    Lengths are in *heights*: 1 is the shorter side of the frame. A parameter described as "up to"
    is an upper bound: every scene draws its own value between 0 and the bound, which gives easy
    and hard clips. 0 disables the effect.

    Attributes:
        frame_wh: width and height in px, both even, which video codecs need. Rendering time grows
            with the area.
        frame_count: frames in the clip.
        fps: frames per second. Raising it makes consecutive frames more alike, because all speeds
            are per second.
        target_size: smallest and largest side of the target in the first frame, in heights (the
            square root of the area of its rectangle). Lower values make small targets.
        motion: path of the target: "spline" visits random points, "wander" has a random velocity
            (Ornstein-Uhlenbeck process), "mixed" chooses one per scene.
        speed: typical speed of the target, up to, in heights per second. Raising it moves the
            target out of the tracker's search window.
        agility_s: correlation time of direction, size and pose in seconds. Lowering it makes the
            motion jerky, raising it makes it smooth.
        size_change: spread of the size over time, up to; 0.3 makes factors between exp(-0.3) and
            exp(0.3) common.
        rotation_deg: spread of the in-plane rotation in degrees, up to. Above about 90 the target
            turns upside down.
        tilt_deg: spread of the out-of-plane rotation in degrees, up to. It changes the aspect
            ratio and adds perspective.
        perspective: strength of the foreshortening: diagonal of the target divided by its distance
            from the camera. 0 is a telephoto lens, 1 a very wide one.
        light_change: spread of the brightness over time, up to, in natural logarithms, for the
            whole frame and for each corner.
        tint_change: the same for each color channel.
        occlusions: number of objects that pass in front of the target.
        occluder_size: smallest and largest side of these objects relative to the target's. Above
            about 1.5 they hide it completely.
        occlusion_s: how long an occluder stays with the target in seconds; 0 lets it pass.
        distractors: number of other moving objects of the target's size.
        distractor_likeness: 0 gives distractors their own texture, 1 copies the target.
        exits: number of times the target leaves the frame and comes back.
        exit_s: duration of each exit in seconds.
        cuts: number of times the clip shows another place without the target.
        cut_s: duration of each cut in seconds.
        shutter: exposure time as a fraction of the frame interval. Raising it lengthens motion
            blur.
        camera_pan: speed of the background behind the target in heights per second, up to.
        camera_shake: spread of the camera jitter in heights, up to; it also rolls and zooms. Shake
            moves target and background together.
        shadow: darkness of the soft shadows under target and distractors.
        noise: standard deviation of the sensor noise in gray levels of 255, up to.

    Raises:
        ConfigError: a parameter is out of range; the message names it.
    """

    frame_wh: tuple[int, int] = (640, 360)
    frame_count: int = ranged(150, 1, 1_000_000)
    fps: float = ranged(30.0, 1, 1000)
    target_size: tuple[float, float] = (0.12, 0.4)
    motion: Motion = "mixed"
    speed: float = ranged(0.7, 0, 20)
    agility_s: float = ranged(0.6, 0.02, 60)
    size_change: float = ranged(0.3, 0, 1.5)
    rotation_deg: float = ranged(40.0, 0, 720)
    tilt_deg: float = ranged(35.0, 0, MAX_TILT_DEG)
    perspective: float = ranged(0.3, 0, 1)
    light_change: float = ranged(0.25, 0, 1.5)
    tint_change: float = ranged(0.05, 0, 1)
    occlusions: int = ranged(1, 0, 100)
    occluder_size: tuple[float, float] = (0.5, 1.3)
    occlusion_s: float = ranged(0.0, 0, 60)
    distractors: int = ranged(2, 0, 100)
    distractor_likeness: float = ranged(0.5, 0, 1)
    exits: int = ranged(0, 0, 20)
    exit_s: float = ranged(0.8, 0, 60)
    cuts: int = ranged(0, 0, 20)
    cut_s: float = ranged(0.8, 0, 60)
    shutter: float = ranged(0.5, 0, 1)
    camera_pan: float = ranged(0.25, 0, 5)
    camera_shake: float = ranged(0.01, 0, 0.2)
    shadow: float = ranged(0.3, 0, 1)
    noise: float = ranged(4.0, 0, 64)

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choice("motion", self.motion, get_args(Motion))
        for name in ("frame_wh", "target_size", "occluder_size"):
            pair: Any = getattr(self, name)
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise ConfigError(f"{name} is {pair!r}; give two numbers")
            for value in pair:
                check_number(name, value, integer=name == "frame_wh")
            object.__setattr__(self, name, tuple(pair))
            if name == "frame_wh" and any(px % 2 or px < 32 for px in pair):
                raise ConfigError(
                    f"frame_wh is {self.frame_wh}; give two even integers of px, 32 or more each"
                )
            if name != "frame_wh" and not 0 < pair[0] <= pair[1] <= 4:
                raise ConfigError(
                    f"{name} is {tuple(pair)}; give a range, 0 < smallest <= largest <= 4"
                )

    @property
    def height_px(self) -> int:
        """The unit of length: the shorter side of the frame, in px."""
        return min(self.frame_wh)


def read_config(path: Path | None = None, assignments: Iterable[str] = ()) -> SceneConfig:
    """Read scene parameters from a TOML file, then from `parameter=value` assignments.

    Raises:
        ConfigError: a file that cannot be read, an unknown parameter, or a bad value.
    """
    values = {} if path is None else read_toml(path, "scene parameters")
    values |= parse_assignments(assignments)
    return build(SceneConfig, values, kind="scene parameter")
