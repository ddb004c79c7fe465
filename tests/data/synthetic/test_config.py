"""Scene parameters: what is accepted, and what every refusal says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from siamtrack.data.synthetic import SceneConfig, read_config
from siamtrack.errors import ConfigError


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"speed": -1.0}, "speed is -1.0; give a value from 0 to 20"),
        ({"speed": float("nan")}, "speed is nan; give a value from 0 to 20"),
        ({"speed": "fast"}, "speed is 'fast'; give a number"),
        ({"shadow": True}, "shadow is True; give a number"),
        ({"shutter": 1.5}, "shutter is 1.5; give a value from 0 to 1"),
        ({"occlusions": 1.5}, "occlusions is 1.5; give an integer"),
        ({"frame_count": 0}, "frame_count is 0; give a value from 1"),
        ({"frame_count": True}, "frame_count is True; give an integer"),
        ({"frame_wh": (641, 360)}, r"\(641, 360\); give two even integers"),
        ({"frame_wh": (16, 16)}, "32 or more"),
        ({"frame_wh": 640}, "frame_wh is 640; give two numbers"),
        ({"frame_wh": (1, 2, 3)}, "give two numbers"),
        ({"frame_wh": (64.5, 48)}, "frame_wh is 64.5; give an integer"),
        ({"fps": 0}, "fps is 0; give a value from 1"),
        ({"fps": "30"}, "fps is '30'"),
        ({"target_size": (0.5, 0.2)}, "smallest <= largest"),
        ({"target_size": ("a", "b")}, "target_size is 'a'; give a number"),
        ({"occluder_size": (0, 1)}, "occluder_size"),
        ({"motion": "jump"}, "unknown motion 'jump'; use one of mixed, spline, wander"),
    ],
)
def test_bad_parameter_is_refused_by_name(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SceneConfig(**parameters)


def test_file_and_assignments_merge_in_this_order(tmp_path: Path) -> None:
    path = tmp_path / "parameters.toml"
    path.write_text('speed = 2.0\nexits = 1\nmotion = "spline"\nframe_wh = [320, 240]\n')
    config = read_config(path, ["speed=0.5", "target_size = [0.1, 0.2]", "motion=wander"])
    assert (config.speed, config.exits, config.motion) == (0.5, 1, "wander")
    assert (config.frame_wh, config.target_size) == ((320, 240), (0.1, 0.2))
    assert config.height_px == 240


def test_nothing_given_is_the_defaults() -> None:
    assert read_config() == SceneConfig()


def test_unknown_parameter_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown scene parameter 'sped'; did you mean 'speed'"):
        read_config(None, ["sped=1"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"speed = ", r"parameters\.toml is not TOML"), (b"\xff\xfe", "it is not UTF-8 text")],
)
def test_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "parameters.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        read_config(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read scene parameters .*none\.toml"):
        read_config(tmp_path / "none.toml")


def test_assignment_needs_an_equals_sign() -> None:
    with pytest.raises(ConfigError, match="'speed' is not an assignment"):
        read_config(None, ["speed"])
