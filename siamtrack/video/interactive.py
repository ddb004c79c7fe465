"""Interaction with the user at the window.

Sections: events and commands; `WindowState`, a state machine from events to commands that knows no
window; `InteractiveSession`, which shows every frame in the window and executes the commands.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import cv2
import numpy as np

from siamtrack.errors import InvalidBoxError
from siamtrack.geometry import MIN_SIDE_PX
from siamtrack.types import Box, Image
from siamtrack.video.draw import add_help_bar, draw_results, draw_selection
from siamtrack.video.run import first_frame_result

if TYPE_CHECKING:
    from siamtrack.tracking.multi import MultiTracker
    from siamtrack.tracking.result import Result
    from siamtrack.video.frames import Frame
    from siamtrack.video.window import Window

logger = logging.getLogger(__name__)

POLL_S = 0.02
"""How long the window waits for events at a time while the frame stands still."""

MIN_DRAG_PX = 4.0
"""A drag narrower or lower than this, in px of the screen, counts as a click."""

_SMALLEST_SHORT_SIDE_PX = 480
_LARGEST_WH = (1280, 720)


# Events and commands


@dataclass(frozen=True, slots=True)
class Key:
    """A key was pressed: one lower-case character, "space" or "esc"."""

    name: str


@dataclass(frozen=True, slots=True)
class Mouse:
    """The left button went down or up, or the pointer moved; frame coordinates in px."""

    action: Literal["down", "move", "up"]
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Closed:
    """The window was closed."""


Event: TypeAlias = Key | Mouse | Closed


@dataclass(frozen=True, slots=True)
class StartTarget:
    """Track what is in this xywh box: as target number `target` from now on, or as a new one."""

    box: Box
    target: int | None = None


class Action(Enum):
    """Go on by one frame, save the frame as it is drawn, or end the run."""

    STEP = "step"
    SNAPSHOT = "snapshot"
    QUIT = "quit"


Command: TypeAlias = StartTarget | Action


# State


class Mode(StrEnum):
    """What the window waits for.

    SELECT: the frame stands still until a box has been dragged, in any direction.
    TRACK: the video runs.
    PAUSED: the frame stands still until the space bar, or for one frame with `n`.
    """

    SELECT = "select"
    TRACK = "track"
    PAUSED = "paused"


class WindowState:
    """State of an interactive run.

    A selection returns to the mode it was begun in. The first one leads to TRACK, unless the space
    bar was pressed before.

    Args:
        frame_wh: frame width and height in px; a drag is clipped to it.
        targets: numbers of the existing targets; without any, the state begins in SELECT.
        min_drag_px: a drag narrower or lower than this is ignored and asked for again.
    """

    def __init__(
        self,
        frame_wh: tuple[int, int],
        targets: tuple[int, ...] = (),
        *,
        min_drag_px: float = MIN_DRAG_PX,
    ) -> None:
        self.targets = targets
        self.mode = Mode.TRACK if targets else Mode.SELECT
        self.notice = ""
        self._frame_wh = frame_wh
        self._min_drag_px = min_drag_px
        self._mode_after_selection = Mode.TRACK
        self._redrawing: int | None = None
        self._drag: tuple[Mouse, Mouse] | None = None

    @property
    def selection(self) -> Box | None:
        """The box being dragged, xywh in px inside the frame; None when there is none."""
        if self._drag is None:
            return None
        start, end = self._drag
        width, height = self._frame_wh
        x0, x1 = sorted(min(max(x, 0.0), float(width)) for x in (start.x, end.x))
        y0, y1 = sorted(min(max(y, 0.0), float(height)) for y in (start.y, end.y))
        return x0, y0, x1 - x0, y1 - y0

    @property
    def is_previewing(self) -> bool:
        """Nothing has been drawn or paused yet, so a camera may go on showing new frames."""
        nothing_yet = not self.targets and self._drag is None
        return self.mode is Mode.SELECT and nothing_yet and self._mode_after_selection is Mode.TRACK

    @property
    def help_text(self) -> str:
        """One line: what went wrong, if something did, and what the keys do now."""
        parts = [self.notice] if self.notice else []
        if self.mode is not Mode.SELECT:
            space = "Space: go on" if self.mode is Mode.PAUSED else "Space: pause"
            parts += [space, "n: next frame", "r: redraw", "a: add", "s: snapshot", "q: quit"]
        elif self._redrawing is not None:
            parts.append(f"Drag a box around target {self._redrawing}")
            if len(self.targets) > 1:
                parts.append("0-9: another target")
            parts += ["Esc: back", "q: quit"]
        elif self.targets:
            parts += ["Drag a box around another target", "Esc: back", "q: quit"]
        else:
            space = "run on" if self._mode_after_selection is Mode.PAUSED else "wait"
            parts += ["Drag a box around the target", f"Space: {space} after the box"]
            parts += ["n: next frame", "q: quit"]
        return " | ".join(parts)

    def handle(self, event: Event) -> Command | None:
        """Change state by one event; returns what is to be done now."""
        match event:
            case Closed():
                return Action.QUIT
            case Key(name):
                self.notice = ""
                return self._handle_key(name)
            case Mouse():
                return self._handle_mouse(event) if self.mode is Mode.SELECT else None

    def added(self, target: int) -> None:
        """Note the number that a new target was given."""
        self.targets = (*self.targets, target)

    def refused(self, command: StartTarget, reason: str) -> None:
        """Ask again for the box of a command that could not be executed."""
        self._begin_selection(command.target)
        self.notice = reason

    def _handle_key(self, name: str) -> Command | None:
        match name:
            case "q":
                return Action.QUIT
            case "esc":
                if self.mode is not Mode.SELECT or not self.targets:
                    return Action.QUIT
                self._end_selection()
            case "s":
                return Action.SNAPSHOT
            case "a":
                self._begin_selection(None)
            case "r":
                # Most likely the newest target's box was just seen to be wrong.
                self._begin_selection(self.targets[-1] if self.targets else None)
            case "space" if self.mode is Mode.SELECT:
                will_pause = self._mode_after_selection is not Mode.PAUSED
                self._mode_after_selection = Mode.PAUSED if will_pause else Mode.TRACK
            case "space":
                self.mode = Mode.TRACK if self.mode is Mode.PAUSED else Mode.PAUSED
            case "n" if self.mode is Mode.SELECT:
                # With targets, the selection must be complete before the next frame.
                return None if self.targets or self._drag else Action.STEP
            case "n":
                self.mode = Mode.PAUSED
                return Action.STEP
            case _ if name.isdecimal() and self._redrawing is not None:
                self._redrawing = int(name) if int(name) in self.targets else self._redrawing
        return None

    def _handle_mouse(self, event: Mouse) -> StartTarget | None:
        if event.action == "down":
            self._drag, self.notice = (event, event), ""
            return None
        if self._drag is None:
            return None
        self._drag = (self._drag[0], event)
        if event.action == "move":
            return None
        # The button is up: the drag is complete.
        box, self._drag = self.selection, None
        if box is None or min(box[2:]) < self._min_drag_px:
            self.notice = "That box was empty: hold the left button and drag across the target"
            return None
        command = StartTarget(box, self._redrawing)
        self._end_selection()
        return command

    def _begin_selection(self, redrawing: int | None) -> None:
        if self.mode is not Mode.SELECT:
            self._mode_after_selection = self.mode
        self.mode, self._redrawing, self._drag = Mode.SELECT, redrawing, None

    def _end_selection(self) -> None:
        self.mode, self._redrawing, self._drag = self._mode_after_selection, None, None


# Session


class DisplayScale:
    """How large a frame is shown: `scale` px of the screen per px of the frame."""

    def __init__(self, frame_wh: tuple[int, int]) -> None:
        width, height = frame_wh
        # Enlarge small frames and shrink large ones until texts are readable on both.
        enlarged = max(1.0, _SMALLEST_SHORT_SIDE_PX / min(frame_wh))
        self.scale = min(enlarged, _LARGEST_WH[0] / width, _LARGEST_WH[1] / height)
        self.screen_wh = max(1, round(width * self.scale)), max(1, round(height * self.scale))

    def resize(self, image_bgr: Image) -> Image:
        """Resize a frame to the size it is shown at."""
        how = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(image_bgr, self.screen_wh, interpolation=how), dtype=np.uint8)

    def to_screen(self, box_xywh: Box) -> Box:
        """Convert a box from frame px to screen px."""
        x, y, w, h = (value * self.scale for value in box_xywh)
        return x, y, w, h

    def to_frame(self, event: Event) -> Event:
        """Convert the coordinates of an event from screen px to frame px."""
        if not isinstance(event, Mouse):
            return event
        return replace(event, x=event.x / self.scale, y=event.y / self.scale)


class InteractiveSession:
    """Show every frame and execute the user's commands until the video is to continue.

    Args:
        window: shows the frames and returns the events.
        tracker: starts targets at the boxes that are drawn.
        name: name of the source; snapshots are called after it.
        snapshot_dir: folder for snapshots.
        live: frames come from a camera. They are shown while nothing has been drawn yet, and never
            delayed to the video's own rate.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        window: Window,
        tracker: MultiTracker,
        *,
        name: str,
        snapshot_dir: Path,
        live: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._window = window
        self._tracker = tracker
        self._name = re.sub(r"[^\w.-]+", "_", Path(name).stem).strip("_") or "siamtrack"
        self._snapshot_dir = snapshot_dir
        self._live = live
        self._clock = clock
        self._state: WindowState | None = None
        # When the last frame was released, and its time in the video: the pace of playback.
        self._released: tuple[float, float] | None = None

    def on_frame(self, frame: Frame, results: dict[int, Result], fps: float | None = None) -> bool:
        """Show one frame until the video is to continue; a `siamtrack.video.run.FrameHook`.

        Boxes drawn on the frame are added to `results`. Returns False when the user quits.
        """
        height, width = frame.image.shape[:2]
        scale = DisplayScale((width, height))
        if self._state is None:
            self._state = WindowState(
                (width, height),
                self._tracker.targets,
                min_drag_px=max(MIN_SIDE_PX, MIN_DRAG_PX / scale.scale),
            )
        state = self._state

        # 1. Time at which the running video leaves this frame, by the distance of time stamps.
        due_s = self._clock()
        if self._released is not None and not self._live:
            released_s, released_time_s = self._released
            # A gap in the time stamps must not look like a hang: at most 1 s.
            due_s = min(released_s + max(frame.time_s - released_time_s, 0.0), due_s + 1.0)

        image = scale.resize(frame.image)
        while True:
            # 2. Draw the results, the box being dragged, and what the keys do.
            shown = {k: replace(r, box=scale.to_screen(r.box)) for k, r in results.items()}
            drawn = draw_results(image, shown, fps=fps)
            if state.selection is not None:
                drawn = draw_selection(drawn, scale.to_screen(state.selection))
            self._window.show(add_help_bar(drawn, state.help_text))

            # 3. Execute the user's commands, then draw again.
            for event in self._wait_for_events(state, due_s):
                command = state.handle(scale.to_frame(event))
                if not (isinstance(event, Mouse) and event.action == "move"):
                    logger.debug("frame %d: %s: %s", frame.index, event, state.mode.name)
                if command in (Action.QUIT, Action.STEP):
                    self._released = None
                    return command is Action.STEP
                if command is Action.SNAPSHOT:
                    state.notice = self._save_snapshot(frame, results)
                elif isinstance(command, StartTarget):
                    self._start_target(command, state, frame, results)
            if self._should_continue(state, due_s):
                self._released = (self._clock(), frame.time_s)
                return True

    def _wait_for_events(self, state: WindowState, due_s: float) -> tuple[Event, ...]:
        """Wait for an event, or until the video is to continue."""
        while True:
            left_s = max(due_s - self._clock(), 0.0) if state.mode is Mode.TRACK else POLL_S
            events = self._window.poll(min(POLL_S, left_s))
            if events or self._should_continue(state, due_s):
                return events

    def _should_continue(self, state: WindowState, due_s: float) -> bool:
        if state.mode is Mode.TRACK:
            return self._clock() >= due_s
        return self._live and state.is_previewing

    def _start_target(
        self, command: StartTarget, state: WindowState, frame: Frame, results: dict[int, Result]
    ) -> None:
        target = command.target
        try:
            if target is None:
                target = self._tracker.add(frame.image, command.box)
                state.added(target)
            else:
                self._tracker.reinit(target, frame.image, command.box)
        except InvalidBoxError as error:
            state.refused(command, str(error))
        else:
            results[target] = first_frame_result(command.box, frame.image)

    def _save_snapshot(self, frame: Frame, results: Mapping[int, Result]) -> str:
        """Save the drawn frame without overwriting anything; returns the message to show."""
        stem = f"{self._name}-frame{frame.index:06d}"
        names = (f"{stem}{tail}.png" for tail in ("", *(f"-{k}" for k in range(1, 1000))))
        _, data = cv2.imencode(".png", draw_results(frame.image, results))
        try:
            self._snapshot_dir.mkdir(parents=True, exist_ok=True)
            path = next(p for p in map(self._snapshot_dir.joinpath, names) if not p.exists())
            path.write_bytes(data.tobytes())
        except (OSError, StopIteration) as error:
            logger.warning("snapshot not saved: %s", error)
            return f"Snapshot not saved: {error}"
        logger.info("snapshot saved: %s", path)
        return f"Saved {path}"
