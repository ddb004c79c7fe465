"""The person at the window: shows a frame, lets the session say what happens, and does it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import InvalidBoxError
from siamtrack.geometry import MIN_SIDE_PX
from siamtrack.video.draw import add_banner, draw_results, draw_selection
from siamtrack.video.runner import Targets, given_result
from siamtrack.video.session import (
    AddTarget,
    Box,
    Command,
    Event,
    Mode,
    Mouse,
    Quit,
    RedrawTarget,
    Session,
    Snapshot,
    Step,
)

if TYPE_CHECKING:
    from siamtrack.tracking.result import Result
    from siamtrack.video.frames import Frame

POLL_S = 0.02
"""How long the window waits for events at a time while the frame stands still."""

MIN_DRAG_PX = 4.0
"""Shown px that a hand may shake while it clicks."""

_SMALLEST_SHORT_SIDE_PX = 480
_LARGEST_WH = (1280, 720)

logger = logging.getLogger(__name__)


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
