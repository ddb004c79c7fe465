"""The window: the only file that uses OpenCV's graphical interface.

Where there is no display, OpenCV's Qt and GTK back ends report no error but abort the whole
process. So a child process opens a window first.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Literal

import cv2

from siamtrack.errors import DisplayUnavailableError
from siamtrack.types import Image
from siamtrack.utils.files import Closing
from siamtrack.video.interactive import Closed, Event, Key, Mouse

PROBE_TIMEOUT_S = 20.0
"""How long a display may take to open a window; one that hangs counts as none."""

_PROBE = "import cv2; cv2.namedWindow('siamtrack', cv2.WINDOW_NORMAL); cv2.destroyAllWindows()"
_KEY_NAMES = {27: "esc", 32: "space"}
_MOUSE_ACTIONS: Mapping[int, Literal["down", "move", "up"]] = {
    cv2.EVENT_LBUTTONDOWN: "down",
    cv2.EVENT_MOUSEMOVE: "move",
    cv2.EVENT_LBUTTONUP: "up",
}

logger = logging.getLogger(__name__)


def display_problem() -> str | None:
    """Say in a few words why no window can be opened; None when one can."""
    if toolkit_name() == "":
        return "this OpenCV was built without windows (opencv-python-headless)"
    needs_server = sys.platform not in ("win32", "darwin")
    if needs_server and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "neither DISPLAY nor WAYLAND_DISPLAY is set"
    return probe_in_child()


def probe_in_child() -> str | None:
    """Open a window in a child process; returns what went wrong, None when it opened."""
    try:
        child = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the display did not answer within {PROBE_TIMEOUT_S:.0f} s"
    except OSError as error:
        return f"the display could not be tested ({error})"
    if child.returncode == 0:
        return None
    said = child.stderr.decode(errors="replace").strip().splitlines()
    return said[0] if said else f"opening a window failed with status {child.returncode}"


def require_display() -> None:
    """Raise `DisplayUnavailableError` if no window can be opened."""
    problem = display_problem()
    if problem is not None:
        raise DisplayUnavailableError(
            f"no window can be opened to draw a box in: {problem}; "
            "run without one with --no-display --box x,y,w,h (0-based pixels of the first frame)"
        )


def toolkit_name() -> str:
    """Name what OpenCV draws windows with, such as "QT"; "" when it was built without any."""
    return str(cv2.currentUIFramework())


class Window(Closing):
    """One window, to be used by the thread that opened it; a context manager that closes it.

    Call `require_display` before: OpenCV mostly aborts the process where it cannot open a window.
    The title is also OpenCV's name for the window and must be unique.

    Raises:
        DisplayUnavailableError: OpenCV refused to open it.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._events: list[Event] = []
        self._shown_wh: tuple[int, int] | None = None
        self._pressed: tuple[float, float] | None = None
        # OpenCV's wheel ships Qt without fonts, and Qt warns about that for every window.
        os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")
        flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
        try:
            cv2.namedWindow(title, flags)
            cv2.setMouseCallback(title, self._on_mouse)
        except cv2.error as error:
            raise DisplayUnavailableError(
                f"OpenCV cannot open a window ({error}); run with --no-display --box x,y,w,h"
            ) from error

    def show(self, image_bgr: Image) -> None:
        """Show a picture in the window, which takes its size; mouse events are in its pixels."""
        height, width = image_bgr.shape[:2]
        if self._shown_wh != (width, height):
            cv2.resizeWindow(self._title, width, height)
            self._shown_wh = (width, height)
        cv2.imshow(self._title, image_bgr)

    def poll(self, timeout_s: float) -> tuple[Event, ...]:
        """Process the window's events and return them in order.

        Waits `timeout_s`, at least 1 ms, or until a key is pressed.
        """
        code = cv2.waitKeyEx(max(1, round(timeout_s * 1000)))
        name = key_name(code)
        if name is not None:
            self._events.append(Key(name))
        if self._shown_wh is not None and not self._visible():
            self._events.append(Closed())
        events, self._events = tuple(self._events), []
        return events

    def close(self) -> None:
        """Close the window; closing it again, or after the user has, does nothing."""
        try:
            cv2.destroyWindow(self._title)
            # Most toolkits remove the window only at the next turn of their event loop.
            cv2.waitKeyEx(1)
        except cv2.error as error:
            logger.debug("window %r was closed before: %s", self._title, error)

    def _visible(self) -> bool:
        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:
            return False

    def _on_mouse(self, event: int, x: int, y: int, flags: int, data: object) -> None:
        action = _MOUSE_ACTIONS.get(event)
        if action is None:
            return
        if action == "move" and self._pressed and not flags & cv2.EVENT_FLAG_LBUTTON:
            # The button was released without an event, as Qt sometimes does.
            self._events.append(Mouse("up", *self._pressed))
            self._pressed = None
        if action == "down" or self._pressed:
            self._pressed = None if action == "up" else (float(x), float(y))
        self._events.append(Mouse(action, float(x), float(y)))


def key_name(code: int) -> str | None:
    """Name a key by the code of `cv2.waitKeyEx`: a lower-case character, "space" or "esc".

    None for no key or one without a character.
    """
    # Arrows, function keys and modifiers have codes above one byte. Cut to one byte, the left arrow
    # would read as `q`. GTK reports num lock and the like in the bits above the sixteenth.
    code = code & 0xFFFF if code >= 0 else -1
    if code in _KEY_NAMES:
        return _KEY_NAMES[code]
    return chr(code).lower() if 32 < code < 127 else None
