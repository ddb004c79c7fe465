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

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

Box = tuple[float, float, float, float]


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
