"""From a reader to the caller: every frame in turn, or always the newest one."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Self

from siamtrack.errors import VideoError
from siamtrack.video.frames import Footage, Frame, Image, Reader

_log = logging.getLogger(__name__)

CLOSE_WAIT_S = 2.0
"""How long closing waits for a read under way. A dead camera may hold one for much longer."""


class _ReaderSource(ABC):
    """What both ways of delivery share; a `siamtrack.video.frames.Source`."""

    is_live: ClassVar[bool]

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._delivered = 0
        self._dropped = 0
        self._closed = False
        self._reported = False

    @property
    def name(self) -> str:
        return self._reader.footage.name

    @property
    def fps(self) -> float | None:
        return self._reader.footage.fps

    @property
    def frame_wh(self) -> tuple[int, int]:
        return self._reader.footage.frame_wh

    @property
    def frame_count(self) -> int | None:
        return None if self.is_live else self._reader.footage.frame_count

    @property
    def dropped(self) -> int:
        return self._dropped

    @property
    def unreadable(self) -> int:
        return self._reader.unreadable

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        if self._closed:
            raise VideoError(f"{self.name} is closed; open it again with open_source")
        shot = self._next_shot()
        if shot is None:
            self._report()
            raise StopIteration
        frame = Frame(shot[0], self._delivered, shot[1])
        self._delivered += 1
        return frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file, the camera or the connection back; may be called again."""
        if not self._closed:
            self._closed = True
            self._release()
            self._report()

    @abstractmethod
    def _next_shot(self) -> tuple[Image, float] | None: ...

    @abstractmethod
    def _release(self) -> None: ...

    def _report(self) -> None:
        if self.unreadable and not self._reported:
            self._reported = True
            _log.warning(
                "%s: %d frame(s) could not be read, %d could",
                self.name,
                self.unreadable,
                self._delivered + self._dropped,
            )


class SequentialSource(_ReaderSource):
    """Every frame in turn, read when it is asked for."""

    is_live = False

    def _next_shot(self) -> tuple[Image, float] | None:
        return self._reader.read()

    def _release(self) -> None:
        self._reader.close()


class LiveSource(_ReaderSource):
    """The newest frame only: a thread reads as fast as frames come, so the caller never lags.

    Args:
        reader: read and closed by the thread alone from here on.
        timeout_s: raising it forgives longer pauses of the camera or the network; lowering it
            reports a stall sooner.
    """

    is_live = True

    def __init__(self, reader: Reader, *, timeout_s: float) -> None:
        super().__init__(reader)
        self._timeout_s = timeout_s
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._newest: tuple[Image, float] | None = None
        self._ended = False
        self._failure: VideoError | None = None
        self._thread = threading.Thread(
            target=self._pump, name=f"siamtrack reads {reader.footage.name}", daemon=True
        )
        self._thread.start()

    def _pump(self) -> None:
        failure: VideoError | None = VideoError(
            f"{self.name}: reading it failed in a way that was not foreseen; open it again"
        )
        try:
            while not self._stopping.is_set() and (shot := self._reader.read()) is not None:
                self._publish(shot)
            failure = None
        except VideoError as error:
            failure = error
        finally:
            self._reader.close()
            with self._changed:
                self._failure, self._ended = failure, True
                self._changed.notify()

    def _publish(self, shot: tuple[Image, float]) -> None:
        with self._changed:
            if self._newest is not None:
                self._dropped += 1
            self._newest = shot
            self._changed.notify()

    def _next_shot(self) -> tuple[Image, float] | None:
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._newest is not None or self._ended, self._timeout_s
            ):
                raise VideoError(
                    f"{self.name} has sent no frame for {self._timeout_s:g} s, after "
                    f"{self._delivered} frame(s); check the camera or the connection, or allow "
                    "longer pauses with timeout_s"
                )
            shot, self._newest = self._newest, None
            if shot is None and self._failure is not None:
                raise self._failure
            return shot

    def _release(self) -> None:
        self._stopping.set()
        self._thread.join(CLOSE_WAIT_S)
        if self._thread.is_alive():
            _log.warning("%s did not let go; the program's end will free it", self.name)


class PacedReader:
    """Plays a recording as if it were live: no frame comes before its time.

    Args:
        reader: the recording.
        clock: seconds that only go up.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._sleep = sleep
        self._started_s: float | None = None

    @property
    def footage(self) -> Footage:
        """That of the recording."""
        return self._reader.footage

    @property
    def unreadable(self) -> int:
        """That of the recording."""
        return self._reader.unreadable

    def read(self) -> tuple[Image, float] | None:
        """Next picture once its time has come; see `Reader.read`."""
        shot = self._reader.read()
        if shot is not None:
            if self._started_s is None:
                self._started_s = self._clock() - shot[1]
            wait_s = self._started_s + shot[1] - self._clock()
            if wait_s > 0:
                self._sleep(wait_s)
        return shot

    def close(self) -> None:
        """Close the recording."""
        self._reader.close()
