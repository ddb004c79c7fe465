"""OpenCV's log level, wherever the build at hand keeps it."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from siamtrack.utils.opencv import SILENT, set_log_level


@pytest.mark.parametrize("place", ["utils.logging", "cv2"])
def test_level_is_set_and_the_one_before_returned(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = [3]
    functions: dict[str, Any] = {
        "getLogLevel": lambda: levels[-1],
        "setLogLevel": lambda level: levels.append(level),
    }
    inside = SimpleNamespace(logging=SimpleNamespace(**functions))
    opencv = (
        SimpleNamespace(utils=inside)
        if place == "utils.logging"
        else SimpleNamespace(utils=SimpleNamespace(), **functions)
    )
    monkeypatch.setitem(sys.modules, "cv2", opencv)
    assert set_log_level(SILENT) == 3
    assert set_log_level(3) == SILENT
    assert levels == [3, SILENT, 3]


@pytest.mark.parametrize("opencv", [None, SimpleNamespace()])
def test_without_such_functions_nothing_happens(
    opencv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", opencv)
    assert set_log_level(5) == 5
