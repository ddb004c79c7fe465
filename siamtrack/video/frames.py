"""What a video source delivers and offers, wherever its frames come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from siamtrack.types import Image


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a source.

    Attributes:
        image: uint8 (H, W, 3), BGR, contiguous; the caller's to keep and to draw on.
        index: 0 for the first frame delivered, then 1, 2, ... without gaps.
        time_s: presentation time from the start of the source; never less than the frame before.
    """

    image: Image
    index: int
    time_s: float


@dataclass(frozen=True, slots=True)
class Footage:
    """What is known of a source once it is open.

    Attributes:
        name: short name for a title or a message: file name, address without password, "camera 0".
        fps: nominal frames per second; None when the source does not tell.
        frame_wh: width and height of the first frame in px, upright.
        frame_count: frames the source says it has, good for a progress bar: a container may only
            allow an estimate. None when it does not tell.
    """

    name: str
    fps: float | None
    frame_wh: tuple[int, int]
    frame_count: int | None


class Source(Protocol):
    """Frames in order, as an iterator and a context manager that closes it."""

    @property
    def name(self) -> str:
        """See `Footage`, as for the next three."""

    @property
    def fps(self) -> float | None:
        """Nominal frames per second."""

    @property
    def frame_wh(self) -> tuple[int, int]:
        """Width and height of the first frame in px."""

    @property
    def frame_count(self) -> int | None:
        """Frames the source says it has; None for everything live."""

    @property
    def is_live(self) -> bool:
        """Whether frames are read as they come, and only the newest is kept."""

    @property
    def dropped(self) -> int:
        """Frames of a live source that were read but replaced by a newer one."""

    @property
    def unreadable(self) -> int:
        """Frames known to exist that could not be read; complete at the end only."""

    def __iter__(self) -> Iterator[Frame]: ...
    def __next__(self) -> Frame: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def close(self) -> None:
        """Give the file, the camera or the connection back; may be called again."""


class Reader(Protocol):
    """One picture at a time, in order, from one thread at a time.

    A reader has read its first picture by the time it exists, so that opening something that holds
    none fails at once.
    """

    @property
    def footage(self) -> Footage:
        """What is known of the pictures."""

    @property
    def unreadable(self) -> int:
        """See `Source.unreadable`."""

    def read(self) -> tuple[Image, float] | None:
        """Next picture and its time in s, or None at the end.

        Raises:
            VideoError: nothing more can be read although this is not the end.
        """

    def close(self) -> None:
        """Give the file, the camera or the connection back; may be called again."""
