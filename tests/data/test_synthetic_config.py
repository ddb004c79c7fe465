"""Knobs of a scene: what is accepted, and what every refusal says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from siamtrack.data.synthetic import SceneConfig, read_config
from siamtrack.errors import ConfigError


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"sped": 1.0}, "'sped'; did you mean 'speed'"),
        ({"speed": -1.0}, "speed = -1.0 is out of range"),
        ({"speed": float("nan")}, "speed = nan is out of range"),
        ({"speed": "fast"}, "speed = 'fast' is not a number"),
        ({"shadow": True}, "shadow = True is not a number"),
        ({"shutter": 1.5}, r"give one in \[0.0, 1.0\]"),
        ({"occlusions": 1.5}, "occlusions = 1.5 is not a whole number"),
        ({"frame_count": 0}, "frame_count = 0"),
        ({"frame_count": True}, "frame_count = True is not a number"),
        ({"frame_wh": (641, 360)}, "two even whole numbers"),
        ({"frame_wh": (16, 16)}, "32 or more"),
        ({"frame_wh": 640}, "frame_wh = 640 is not a pair"),
        ({"frame_wh": (1, 2, 3)}, "not a pair"),
        ({"fps": 0}, "fps = 0 is out of range"),
        ({"fps": "30"}, "fps = '30'"),
        ({"target_size": (0.5, 0.2)}, "smallest <= largest"),
        ({"target_size": ("a", "b")}, "target_size"),
        ({"occluder_size": (0, 1)}, "occluder_size"),
        ({"motion": "jump"}, "mixed, spline, wander"),
    ],
)
def test_bad_knob_is_refused_by_name(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SceneConfig.from_mapping(knobs)


def test_file_and_assignments_merge_in_this_order(tmp_path: Path) -> None:
    path = tmp_path / "knobs.toml"
    path.write_text('speed = 2.0\nexits = 1\nmotion = "spline"\nframe_wh = [320, 240]\n')
    config = read_config(path, ["speed=0.5", "target_size = [0.1, 0.2]", "motion=wander"])
    assert (config.speed, config.exits, config.motion) == (0.5, 1, "wander")
    assert (config.frame_wh, config.target_size) == ((320, 240), (0.1, 0.2))
    assert config.height_px == 240


def test_nothing_given_is_the_defaults() -> None:
    assert read_config() == SceneConfig()


@pytest.mark.parametrize("content", [b"speed = ", b"\xff\xfe"])
def test_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "knobs.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"knobs\.toml cannot be read as TOML"):
        read_config(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read"):
        read_config(tmp_path / "none.toml")


def test_assignment_needs_an_equals_sign() -> None:
    with pytest.raises(ConfigError, match="'speed' is not an assignment"):
        read_config(None, ["speed"])
