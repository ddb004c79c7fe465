from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from siamtrack.errors import DisplayUnavailableError
from siamtrack.video import window
from siamtrack.video.interactive import Closed, Key, Mouse
from siamtrack.video.window import Window, display_problem, key_name, probe_in_child


def opens() -> None:
    return None


def must_not_be_called() -> None:
    raise AssertionError("a window was opened although the answer was known")


@pytest.fixture
def problem_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str | None]:
    """Ask `display_problem` on another system."""

    def ask(
        probe: Callable[[], str | None],
        *,
        variable: str | None = None,
        platform: str = "linux",
        toolkit: str = "QT",
    ) -> str | None:
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        if variable is not None:
            monkeypatch.setenv(variable, ":0")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "platform", platform)
            patch.setattr(cv2, "currentUIFramework", lambda: toolkit)
            patch.setattr(window, "probe_in_child", probe)
            return display_problem()

    return ask


ProblemOf = Callable[..., str | None]


def test_no_variable_means_no_display(problem_of: ProblemOf) -> None:
    problem = problem_of(must_not_be_called)
    assert problem is not None and "DISPLAY" in problem


@pytest.mark.parametrize("variable", ["DISPLAY", "WAYLAND_DISPLAY"])
def test_a_display_where_a_window_opens_is_fine(problem_of: ProblemOf, variable: str) -> None:
    assert problem_of(opens, variable=variable) is None


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_other_systems_need_no_variable(problem_of: ProblemOf, platform: str) -> None:
    assert problem_of(opens, platform=platform) is None


def test_opencv_without_windows_is_named(problem_of: ProblemOf) -> None:
    problem = problem_of(must_not_be_called, variable="DISPLAY", toolkit="")
    assert problem is not None and "headless" in problem


def test_the_problem_of_the_child_process_is_returned(problem_of: ProblemOf) -> None:
    assert problem_of(lambda: "broken", variable="DISPLAY") == "broken"


def test_a_display_that_does_not_exist_neither_hangs_nor_kills(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The real thing: this OpenCV aborts the process that opens a window on such a display."""
    monkeypatch.setenv("DISPLAY", ":31999")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    problem = probe_in_child()
    if sys.platform == "linux":
        assert problem


def test_a_display_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "PROBE_TIMEOUT_S", 0.0)
    problem = probe_in_child()
    assert problem is not None and "did not answer" in problem


def test_a_probe_that_cannot_start_is_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    problem = probe_in_child()
    assert problem is not None and "could not be tested" in problem


def test_a_probe_that_dies_silently_is_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    died = SimpleNamespace(returncode=-6, stderr=b"")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: died)
    problem = probe_in_child()
    assert problem is not None and "-6" in problem


def test_the_error_tells_how_to_run_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "display_problem", lambda: "nobody there")
    with pytest.raises(DisplayUnavailableError, match=r"nobody there.*--no-display --box") as info:
        window.require_display()
    assert info.value.exit_code == 4
    monkeypatch.setattr(window, "display_problem", lambda: None)
    window.require_display()


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (-1, None),
        (ord("q"), "q"),
        (ord("Q"), "q"),
        (ord("3"), "3"),
        (27, "esc"),
        (32, "space"),
        (0x100000 | ord("n"), "n"),  # GTK with num lock
        (0xFF51, None),  # left arrow on X11; its low byte is "Q"
        (0xFFEB, None),  # the Windows key on X11
        (0x270000, None),  # right arrow on Windows; its third byte is an apostrophe
        (0xF702, None),  # left arrow on macOS
        (13, None),
        (200, None),
    ],
)
def test_key_names(code: int, name: str | None) -> None:
    assert key_name(code) == name


class FakeToolkit:
    """Stands in for OpenCV's windows; keys are queued, the mouse is moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: list[int] = []
        self.visible: float | Exception = 1.0
        self.shown: list[np.ndarray] = []
        self.sizes: list[tuple[int, int]] = []
        self.waits_ms: list[int] = []
        self.mouse: Callable[..., None] = lambda *args: None
        for name in (
            "namedWindow", "setMouseCallback", "imshow", "resizeWindow", "waitKeyEx",
            "getWindowProperty", "destroyWindow",
        ):  # fmt: skip
            monkeypatch.setattr(cv2, name, getattr(self, name))

    def namedWindow(self, title: str, flags: int) -> None:
        self.title = title

    def setMouseCallback(self, title: str, callback: Callable[..., None]) -> None:
        self.mouse = callback

    def imshow(self, title: str, image: np.ndarray) -> None:
        self.shown.append(image)

    def resizeWindow(self, title: str, width: int, height: int) -> None:
        self.sizes.append((width, height))

    def waitKeyEx(self, delay_ms: int) -> int:
        self.waits_ms.append(delay_ms)
        return self.keys.pop(0) if self.keys else -1

    def getWindowProperty(self, title: str, which: int) -> float:
        if isinstance(self.visible, Exception):
            raise self.visible
        return self.visible

    def destroyWindow(self, title: str) -> None:
        if self.visible != 1.0:
            raise cv2.error("no such window")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeToolkit:
    return FakeToolkit(monkeypatch)


def test_events_come_in_order_and_once(fake: FakeToolkit) -> None:
    with Window("w") as shown:
        fake.mouse(cv2.EVENT_LBUTTONDOWN, 3, 4, 0, None)
        fake.mouse(cv2.EVENT_MOUSEMOVE, 5, 6, cv2.EVENT_FLAG_LBUTTON, None)
        fake.mouse(cv2.EVENT_RBUTTONDOWN, 5, 6, 2, None)
        fake.mouse(cv2.EVENT_LBUTTONUP, 7, 8, 0, None)
        fake.keys.append(ord("q"))
        assert shown.poll(0.02) == (
            Mouse("down", 3, 4),
            Mouse("move", 5, 6),
            Mouse("up", 7, 8),
            Key("q"),
        )
        assert shown.poll(0.02) == ()


def test_a_release_without_an_event_ends_the_drag_at_the_last_position(
    fake: FakeToolkit,
) -> None:
    held = cv2.EVENT_FLAG_LBUTTON
    with Window("w") as shown:
        fake.mouse(cv2.EVENT_LBUTTONDOWN, 10, 10, held, None)
        fake.mouse(cv2.EVENT_MOUSEMOVE, 50, 60, held, None)
        fake.mouse(cv2.EVENT_MOUSEMOVE, 200, 200, 0, None)
        fake.mouse(cv2.EVENT_MOUSEMOVE, 210, 200, 0, None)
        assert shown.poll(0.0) == (
            Mouse("down", 10, 10),
            Mouse("move", 50, 60),
            Mouse("up", 50, 60),
            Mouse("move", 200, 200),
            Mouse("move", 210, 200),
        )


def test_poll_never_waits_forever(fake: FakeToolkit) -> None:
    """To OpenCV, 0 ms means until a key is pressed."""
    with Window("w") as shown:
        shown.poll(0.0)
        shown.poll(0.03)
    assert fake.waits_ms[:2] == [1, 30]


def test_the_window_takes_the_size_of_the_picture(fake: FakeToolkit) -> None:
    with Window("w") as shown:
        for size in ((120, 160), (120, 160), (60, 80)):
            shown.show(np.zeros((*size, 3), np.uint8))
    assert fake.sizes == [(160, 120), (80, 60)]
    assert len(fake.shown) == 3


@pytest.mark.parametrize("gone", [0.0, -1.0, cv2.error("no window")])
def test_a_closed_window_is_noticed(fake: FakeToolkit, gone: float | Exception) -> None:
    with Window("w") as shown:
        assert shown.poll(0.0) == ()
        shown.show(np.zeros((60, 80, 3), np.uint8))
        assert shown.poll(0.0) == ()
        fake.visible = gone
        assert shown.poll(0.0) == (Closed(),)


def test_opencv_refusing_is_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(title: str, flags: int) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(cv2, "namedWindow", refuse)
    with pytest.raises(DisplayUnavailableError, match="--no-display --box"):
        Window("w")
