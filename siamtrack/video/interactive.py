"""What a person at the window does, as a state machine without a window.

Events go in (`Key`, `Mouse`, `Closed`), commands come out (`AddTarget`, `RedrawTarget`, `Step`,
`Snapshot`, `Quit`), and `mode` says whether the video runs:

- SELECT: the frame stands still until a box has been dragged, in any direction.
- TRACK: the video runs.
- PAUSED: the frame stands still until the space bar, or for one frame with `n`.

A selection goes back to the mode it was begun in; the one at the start goes to TRACK, unless the
space bar has been pressed before.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import InvalidBoxError
from siamtrack.geometry import MIN_SIDE_PX
from siamtrack.types import Box
from siamtrack.video.draw import add_banner, draw_results, draw_selection
from siamtrack.video.run import Targets, given_result

if TYPE_CHECKING:
    from siamtrack.tracking.result import Result
    from siamtrack.video.frames import Frame


logger = logging.getLogger(__name__)


class Mode(StrEnum):
    """What the session waits for; see the module's description."""

    SELECT = "select"
    TRACK = "track"
    PAUSED = "paused"


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
class AddTarget:
    """Follow one more target, from this xywh box on."""

    box: Box


@dataclass(frozen=True, slots=True)
class RedrawTarget:
    """Follow target number `target` from this xywh box on, instead of where it was."""

    target: int
    box: Box


@dataclass(frozen=True, slots=True)
class Step:
    """Go on by one frame."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Save the frame as it is drawn."""


@dataclass(frozen=True, slots=True)
class Quit:
    """Stop here."""


Command: TypeAlias = AddTarget | RedrawTarget | Step | Snapshot | Quit


class Session:
    """State of one interactive run.

    Args:
        frame_wh: frame width and height in px; a drag is clipped to it.
        targets: numbers of the targets there are already; without any, the session begins in
            SELECT.
        min_drag_px: a drag narrower or lower than this is taken for a click and asked for again.
    """

    def __init__(
        self,
        frame_wh: tuple[int, int],
        targets: tuple[int, ...] = (),
        *,
        min_drag_px: float = 4.0,
    ) -> None:
        self.targets = targets
        self.mode = Mode.TRACK if targets else Mode.SELECT
        self.notice = ""
        self._frame_wh = frame_wh
        self._min_drag_px = min_drag_px
        self._resume = Mode.TRACK
        self._redrawing: int | None = None
        self._drag: tuple[Mouse, Mouse] | None = None

    @property
    def selection(self) -> Box | None:
        """The box being dragged, xywh in px inside the frame; None when there is none."""
        if self._drag is None:
            return None
        (x0, x1), (y0, y1) = (
            sorted(min(max(value, 0.0), float(side)) for value in ends)
            for ends, side in zip(
                ((p.x for p in self._drag), (p.y for p in self._drag)), self._frame_wh, strict=True
            )
        )
        return x0, y0, x1 - x0, y1 - y0

    @property
    def previewing(self) -> bool:
        """Nothing has been drawn or held yet, so a camera may go on showing new frames."""
        nothing_yet = not self.targets and self._drag is None
        return self.mode is Mode.SELECT and nothing_yet and self._resume is Mode.TRACK

    @property
    def banner(self) -> str:
        """One line that says what the keys do now, after what went wrong if something did."""
        parts = [self.notice] if self.notice else []
        return " | ".join([*parts, *self._help()])

    def handle(self, event: Event) -> tuple[Command, ...]:
        """Change state by one event.

        Returns:
            What is to be done now, in order; mostly nothing.
        """
        match event:
            case Closed():
                return (Quit(),)
            case Key(name):
                self.notice = ""
                return self._key(name)
            case Mouse():
                return self._mouse(event) if self.mode is Mode.SELECT else ()

    def added(self, target: int) -> None:
        """Note the number that an `AddTarget` was given."""
        self.targets = (*self.targets, target)

    def refused(self, command: AddTarget | RedrawTarget, reason: str) -> None:
        """Ask again for the box of a command that could not be carried out."""
        self._select(command.target if isinstance(command, RedrawTarget) else None)
        self.notice = reason

    def _key(self, name: str) -> tuple[Command, ...]:
        match name:
            case "q":
                return (Quit(),)
            case "esc":
                return self._escape()
            case "s":
                return (Snapshot(),)
            case "a":
                self._select(None)
            case "r":
                # The newest target is the one whose box was just seen to be wrong.
                self._select(self.targets[-1] if self.targets else None)
            case "space":
                self._toggle_pause()
            case "n":
                return self._step()
            case _ if name.isdecimal() and self._redrawing is not None:
                self._redrawing = int(name) if int(name) in self.targets else self._redrawing
        return ()

    def _escape(self) -> tuple[Command, ...]:
        if self.mode is not Mode.SELECT or not self.targets:
            return (Quit(),)
        self._leave_selection()
        return ()

    def _toggle_pause(self) -> None:
        if self.mode is Mode.SELECT:
            self._resume = Mode.TRACK if self._resume is Mode.PAUSED else Mode.PAUSED
        else:
            self.mode = Mode.TRACK if self.mode is Mode.PAUSED else Mode.PAUSED

    def _step(self) -> tuple[Command, ...]:
        if self.mode is Mode.SELECT:
            # With targets, a frame cannot pass before the selection says what they are.
            return () if self.targets or self._drag else (Step(),)
        self.mode = Mode.PAUSED
        return (Step(),)

    def _select(self, redrawing: int | None) -> None:
        if self.mode is not Mode.SELECT:
            self._resume = self.mode
        self.mode, self._redrawing, self._drag = Mode.SELECT, redrawing, None

    def _leave_selection(self) -> None:
        self.mode, self._redrawing, self._drag = self._resume, None, None

    def _mouse(self, event: Mouse) -> tuple[Command, ...]:
        if event.action == "down":
            self._drag, self.notice = (event, event), ""
        elif self._drag is not None:
            self._drag = (self._drag[0], event)
            if event.action == "up":
                return self._finish_drag()
        return ()

    def _finish_drag(self) -> tuple[Command, ...]:
        box, self._drag = self.selection, None
        if box is None or min(box[2:]) < self._min_drag_px:
            self.notice = "That box was empty: hold the left button and drag across the target"
            return ()
        target = self._redrawing
        command = AddTarget(box) if target is None else RedrawTarget(target, box)
        self._leave_selection()
        return (command,)

    def _help(self) -> list[str]:
        if self.mode is not Mode.SELECT:
            space = "Space: go on" if self.mode is Mode.PAUSED else "Space: pause"
            return [space, "n: next frame", "r: redraw", "a: add", "s: snapshot", "q: quit"]
        if self._redrawing is not None:
            others = ["0-9: another target"] if len(self.targets) > 1 else []
            return [f"Drag a box around target {self._redrawing}", *others, "Esc: back", "q: quit"]
        what = "Drag a box around the target"
        if self.targets:
            return ["Drag a box around another target", "Esc: back", "q: quit"]
        space = "run on" if self._resume is Mode.PAUSED else "wait"
        return [what, f"Space: {space} after the box", "n: next frame", "q: quit"]


POLL_S = 0.02
"""How long the window waits for events at a time while the frame stands still."""

MIN_DRAG_PX = 4.0
"""Shown px that a hand may shake while it clicks."""

_SMALLEST_SHORT_SIDE_PX = 480
_LARGEST_WH = (1280, 720)


class Screen(Protocol):
    """What is needed of a window; `siamtrack.video.window.Window` is one."""

    def show(self, image_bgr: NDArray[np.uint8]) -> None:
        """Show a picture."""

    def poll(self, timeout_s: float) -> tuple[Event, ...]:
        """Return what happened, waiting for it at most `timeout_s`."""


@dataclass(frozen=True, slots=True)
class View:
    """How large a frame is shown: `scale` shown px per frame px."""

    scale: float

    @classmethod
    def of(cls, frame_wh: tuple[int, int]) -> View:
        """Enlarge small frames and shrink large ones, so that texts can be read on both."""
        scale = max(1.0, _SMALLEST_SHORT_SIDE_PX / min(frame_wh))
        return cls(min(scale, _LARGEST_WH[0] / frame_wh[0], _LARGEST_WH[1] / frame_wh[1]))

    def picture(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The frame as large as it is shown."""
        height, width = image_bgr.shape[:2]
        size = (max(1, round(width * self.scale)), max(1, round(height * self.scale)))
        how = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(image_bgr, size, interpolation=how), dtype=np.uint8)

    def box(self, box_xywh: Box) -> Box:
        """A frame's box in shown px."""
        x, y, w, h = (value * self.scale for value in box_xywh)
        return x, y, w, h

    def event(self, event: Event) -> Event:
        """An event of the window with its coordinates in frame px."""
        if not isinstance(event, Mouse):
            return event
        return replace(event, x=event.x / self.scale, y=event.y / self.scale)


class Interaction:
    """Visits every frame: shows it, and obeys the person until the video is to go on.

    Args:
        screen: the window.
        tracker: told about boxes that were drawn.
        name: name of the source; snapshots are called after it.
        snapshot_dir: folder for snapshots.
        live: frames come from a camera; they are shown while nothing has been drawn yet, and
            never held back to the video's own pace.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        screen: Screen,
        tracker: Targets,
        *,
        name: str,
        snapshot_dir: Path,
        live: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._screen = screen
        self._tracker = tracker
        self._name = re.sub(r"[^\w.-]+", "_", Path(name).stem).strip("_") or "siamtrack"
        self._snapshot_dir = snapshot_dir
        self._live = live
        self._clock = clock
        self._session: Session | None = None
        # When a frame was let go on, and its time in the video; the pace of playing.
        self._left: tuple[float, float] | None = None

    def visit(
        self, frame: Frame, results: MutableMapping[int, Result], fps: float | None = None
    ) -> bool:
        """Show one frame for as long as the person wants.

        Args:
            frame: the frame.
            results: its results; boxes drawn on the frame are put in.
            fps: frames per second to show.

        Returns:
            Whether to go on; False after quitting.
        """
        height, width = frame.image.shape[:2]
        view = View.of((width, height))
        session = self._session_on((width, height), view)
        due = self._due(frame.time_s)
        picture = view.picture(frame.image)
        while True:
            self._screen.show(_drawn(picture, view, session, results, fps))
            for event in self._wait(session, due):
                commands = session.handle(view.event(event))
                if not (isinstance(event, Mouse) and event.action == "move"):
                    logger.debug("frame %d: %s: %s", frame.index, event, session.mode.name)
                for command in commands:
                    if isinstance(command, Quit | Step):
                        self._left = None
                        return isinstance(command, Step)
                    self._obey(command, session, frame, results)
            if self._may_go_on(session, due):
                self._left = (self._clock(), frame.time_s)
                return True

    def _session_on(self, frame_wh: tuple[int, int], view: View) -> Session:
        if self._session is None:
            self._session = Session(
                frame_wh,
                self._tracker.targets,
                min_drag_px=max(MIN_SIDE_PX, MIN_DRAG_PX / view.scale),
            )
        return self._session

    def _wait(self, session: Session, due: float) -> tuple[Event, ...]:
        """Wait until something happens or the frame may go on."""
        while True:
            left_s = max(due - self._clock(), 0.0) if session.mode is Mode.TRACK else POLL_S
            events = self._screen.poll(min(POLL_S, left_s))
            if events or self._may_go_on(session, due):
                return events

    def _due(self, time_s: float) -> float:
        """The time by the clock at which a frame has been shown long enough."""
        now = self._clock()
        if self._left is None or self._live:
            return now
        left_s, left_time_s = self._left
        return min(left_s + max(time_s - left_time_s, 0.0), now + 1.0)

    def _may_go_on(self, session: Session, due: float) -> bool:
        if session.mode is Mode.TRACK:
            return self._clock() >= due
        return self._live and session.previewing

    def _obey(
        self,
        command: Command,
        session: Session,
        frame: Frame,
        results: MutableMapping[int, Result],
    ) -> None:
        if isinstance(command, Snapshot):
            session.notice = self._snapshot(frame, results)
        elif isinstance(command, AddTarget | RedrawTarget):
            try:
                target = self._place(command, session, frame)
            except InvalidBoxError as error:
                session.refused(command, str(error))
            else:
                results[target] = given_result(command.box, frame.image)

    def _place(self, command: AddTarget | RedrawTarget, session: Session, frame: Frame) -> int:
        if isinstance(command, RedrawTarget):
            self._tracker.reinit(command.target, frame.image, command.box)
            return command.target
        target = self._tracker.add(frame.image, command.box)
        session.added(target)
        return target

    def _snapshot(self, frame: Frame, results: MutableMapping[int, Result]) -> str:
        """Save the drawn frame without overwriting anything; returns what to tell."""
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


def _drawn(
    picture: NDArray[np.uint8],
    view: View,
    session: Session,
    results: Mapping[int, Result],
    fps: float | None,
) -> NDArray[np.uint8]:
    """What the window shows: results, the box being dragged, and what the keys do."""
    shown = {k: replace(result, box=view.box(result.box)) for k, result in results.items()}
    drawn = draw_results(picture, shown, fps=fps)
    selection = session.selection
    if selection is not None:
        drawn = draw_selection(drawn, view.box(selection))
    return add_banner(drawn, session.banner)
