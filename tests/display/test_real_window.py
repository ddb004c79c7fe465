from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.display, pytest.mark.timeout(1800)]

TITLE = "siamtrack echo"

# Says "shown" once there is something to see, then every event.
ECHO = """
import dataclasses, json, sys
import numpy as np
from siamtrack.video.interactive import Closed, Key
from siamtrack.video.window import Window, require_display

require_display()
width, height = int(sys.argv[1]), int(sys.argv[2])
image = np.zeros((height, width, 3), np.uint8)
with Window("siamtrack echo") as window:
    window.show(image)
    events = window.poll(0.3)
    print("shown")
    while True:
        for event in events:
            print(json.dumps([type(event).__name__.lower(), *dataclasses.astuple(event)]))
            if event in (Closed(), Key("q")):
                sys.exit(0)
        window.show(image)
        events = window.poll(0.02)
"""


@pytest.fixture
def echo(desk: Any, start: Callable[..., Any]) -> Callable[[int, int], tuple[Any, int]]:
    """Open the echoing window of a given size; returns the program and the window."""

    def run(width: int, height: int) -> tuple[Any, int]:
        program = start("-c", ECHO, str(width), str(height))
        program.read_to("shown")
        return program, desk.find_window(TITLE)

    return run


def mouse_events(lines: list[str]) -> list[tuple[str, float, float]]:
    events = [json.loads(line) for line in lines]
    return [(action, x, y) for kind, action, x, y in events if kind == "mouse"]


def test_keys_are_told_apart(desk: Any, echo: Callable[..., Any]) -> None:
    program, _ = echo(320, 240)
    names = {"r": "r", "A": "a", "space": "space", "n": "n", "3": "3", "Escape": "esc"}
    for key, name in names.items():
        # These say nothing, as the key after them shows.
        desk.do("key", "Left", "Super_L", "Shift_L")
        told = desk.press(program, key, '["key"')
        assert json.loads(told[-1]) == ["key", name]
    desk.press(program, "q", '["key", "q"]')
    assert program.end() == (0, [])


@pytest.mark.parametrize("size", [(320, 240), (1200, 700)])
def test_a_drag_arrives_in_pixels_of_the_picture(
    size: tuple[int, int], desk: Any, echo: Callable[..., Any]
) -> None:
    program, window = echo(*size)
    events = mouse_events(desk.drag(program, window, (40, 30), (200, 150)))
    (down,) = [event for event in events if event[0] == "down"]
    assert down[1:] == pytest.approx((40, 30), abs=1)
    assert events[-1][1:] == pytest.approx((200, 150), abs=1)
    assert "move" in [event[0] for event in events[events.index(down) :]]


def test_a_picture_larger_than_the_window_keeps_its_coordinates(
    desk: Any, echo: Callable[..., Any]
) -> None:
    program, window = echo(640, 480)
    desk.do("windowsize", "--sync", window, 320, 240)
    events = mouse_events(desk.drag(program, window, (40, 30), (200, 150)))
    assert events[-1][1:] == pytest.approx((400, 300), abs=3)


def test_closing_the_window_is_told_and_harmless(desk: Any, echo: Callable[..., Any]) -> None:
    program, window = echo(320, 240)
    desk.ask_to_close(window)
    program.read_to("closed")
    assert program.end() == (0, [])
