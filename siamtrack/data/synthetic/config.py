"""The knobs of a synthetic scene."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from siamtrack.errors import ConfigError
from siamtrack.utils.config import parse_value

Motion = Literal["mixed", "spline", "wander"]

MAX_TILT_DEG = 70.0
"""A flat thing tilted further than this is a line; nothing tilts beyond it."""


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """How hard a scene is to track, in units that do not depend on the frame size.

    Lengths are in *heights*: 1 is the shorter side of the frame. Knobs called "up to" are upper
    ends: every scene draws its own value between 0 and the knob, so that one setting gives easy
    and hard clips. 0 switches the effect off.

    Attributes:
        frame_wh: frame width and height in px, both even (video codecs need it). Raising it costs
            rendering time in proportion to the area.
        frame_count: frames in the clip.
        fps: frames per second. Raising it makes neighbouring frames more alike, because all
            speeds are per second.
        target_size: smallest and largest side of the target at its first frame, in heights (the
            square root of the area of its bounding rectangle). Lower values make small targets.
        motion: how the target moves: "spline" visits random points smoothly, "wander" changes
            its velocity at random (Ornstein-Uhlenbeck), "mixed" picks one per scene.
        speed: typical speed of the target, up to, in heights per second. Raising it moves the
            target out of a tracker's search window.
        agility_s: time over which direction, size and pose change, in seconds. Lowering it makes
            motion nervous, raising it makes it glide.
        size_change: spread of the size over time, up to; 0.3 means that sizes between exp(-0.3)
            and exp(0.3) times the usual are common.
        rotation_deg: spread of the rotation in the picture plane, up to, in degrees. Beyond about
            90 the target turns upside down.
        tilt_deg: spread of the rotation out of the picture plane, up to, in degrees. It changes
            the aspect of the target and gives it perspective.
        perspective: strength of the foreshortening of a tilted target: its diagonal divided by
            its distance from the camera. 0 is a telephoto lens, 1 a very wide one.
        light_change: spread of brightness over time, up to, in natural logarithms, for the frame
            as a whole and its corners apart.
        tint_change: the same for the colours apart from each other.
        occlusions: how many times something passes in front of the target.
        occluder_size: smallest and largest side of such a thing relative to the target's. Above
            about 1.5 it hides the target completely.
        occlusion_s: how long such a thing stays with the target, in seconds; 0 lets it pass.
        distractors: how many other things of the target's size move about.
        distractor_likeness: 0 gives distractors a texture of their own, 1 makes them copies of
            the target.
        exits: how many times the target leaves the frame and comes back.
        exit_s: how long it is away each time, in seconds.
        cuts: how many times the film shows another place for a while, without the target.
        cut_s: how long it does so each time, in seconds.
        shutter: exposure as a share of the frame interval, in [0, 1]. Raising it lengthens motion
            blur.
        camera_pan: speed of the background behind the target, up to, in heights per second.
        camera_shake: spread of the camera's jitter, up to, in heights; it also rolls and zooms a
            little. Shake moves target and background together.
        shadow: darkness of the soft shadows under target and distractors, in [0, 1].
        noise: standard deviation of the sensor's noise, up to, in grey levels of 255.

    Raises:
        ConfigError: a knob out of range; says which.
    """

    frame_wh: tuple[int, int] = (640, 360)
    frame_count: int = 150
    fps: float = 30.0
    target_size: tuple[float, float] = (0.12, 0.4)
    motion: Motion = "mixed"
    speed: float = 0.7
    agility_s: float = 0.6
    size_change: float = 0.3
    rotation_deg: float = 40.0
    tilt_deg: float = 35.0
    perspective: float = 0.3
    light_change: float = 0.25
    tint_change: float = 0.05
    occlusions: int = 1
    occluder_size: tuple[float, float] = (0.5, 1.3)
    occlusion_s: float = 0.0
    distractors: int = 2
    distractor_likeness: float = 0.5
    exits: int = 0
    exit_s: float = 0.8
    cuts: int = 0
    cut_s: float = 0.8
    shutter: float = 0.5
    camera_pan: float = 0.25
    camera_shake: float = 0.01
    shadow: float = 0.3
    noise: float = 4.0

    def __post_init__(self) -> None:
        """Check every knob; see the class for the ranges."""
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not _is_number(value):
                raise ConfigError(
                    f"{name} = {value!r} is not a number; give one in [{low}, {high}]"
                )
            if name in _INTEGERS and not isinstance(value, int):
                raise ConfigError(f"{name} = {value!r} is not a whole number; give one")
            if not low <= value <= high:
                raise ConfigError(f"{name} = {value} is out of range; give one in [{low}, {high}]")
        for name in ("frame_wh", "target_size", "occluder_size"):
            object.__setattr__(self, name, _pair(name, getattr(self, name)))
        if not all(isinstance(px, int) and px % 2 == 0 and px >= 32 for px in self.frame_wh):
            raise ConfigError(
                f"frame_wh = {self.frame_wh}; give two even whole numbers of px, 32 or more each"
            )
        for name in ("target_size", "occluder_size"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 4:
                raise ConfigError(
                    f"{name} = ({low}, {high}) is not a range; give 0 < smallest <= largest <= 4"
                )
        if self.motion not in get_args(Motion):
            raise ConfigError(
                f"motion = {self.motion!r}; give one of {', '.join(get_args(Motion))}"
            )

    @classmethod
    def from_mapping(cls, knobs: Mapping[str, Any]) -> SceneConfig:
        """Build one from a parsed TOML table or JSON object.

        Raises:
            ConfigError: an unknown knob (the nearest spelling is suggested) or one out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in knobs:
            if name not in known:
                raise ConfigError.unknown("knob of a scene", name, known)
        return cls(**knobs)

    @property
    def height_px(self) -> int:
        """The unit of the lengths above: the shorter side of the frame, in px."""
        return min(self.frame_wh)


def read_config(path: Path | None = None, assignments: Sequence[str] = ()) -> SceneConfig:
    """Read the knobs from a TOML file and from a command line.

    Args:
        path: TOML file of knobs; None for the defaults.
        assignments: `knob=value` with a TOML value, over the file; words need no quotes.

    Raises:
        ConfigError: unreadable file, not an assignment, an unknown knob or one out of range.
    """
    knobs: dict[str, Any] = {}
    if path is not None:
        try:
            knobs = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path} cannot be read as TOML: {error}") from error
    for text in assignments:
        name, equals, literal = text.partition("=")
        if not equals:
            raise ConfigError(f"{text!r} is not an assignment; give knob=value, as in speed=1.5")
        knobs[name.strip()] = parse_value(literal)
    return SceneConfig.from_mapping(knobs)


_RANGES: Mapping[str, tuple[float, float]] = {
    "frame_count": (1, 1_000_000),
    "fps": (1.0, 1000.0),
    "speed": (0.0, 20.0),
    "agility_s": (0.02, 60.0),
    "size_change": (0.0, 1.5),
    "rotation_deg": (0.0, 720.0),
    "tilt_deg": (0.0, MAX_TILT_DEG),
    "perspective": (0.0, 1.0),
    "light_change": (0.0, 1.5),
    "tint_change": (0.0, 1.0),
    "occlusions": (0, 100),
    "occlusion_s": (0.0, 60.0),
    "distractors": (0, 100),
    "distractor_likeness": (0.0, 1.0),
    "exits": (0, 20),
    "exit_s": (0.0, 60.0),
    "cuts": (0, 20),
    "cut_s": (0.0, 60.0),
    "shutter": (0.0, 1.0),
    "camera_pan": (0.0, 5.0),
    "camera_shake": (0.0, 0.2),
    "shadow": (0.0, 1.0),
    "noise": (0.0, 64.0),
}

_INTEGERS = ("frame_count", "occlusions", "distractors", "exits", "cuts")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pair(name: str, value: object) -> tuple[Any, Any]:
    if isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value)):
        return value[0], value[1]
    raise ConfigError(f"{name} = {value!r} is not a pair of numbers; give two")
