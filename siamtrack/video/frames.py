"""What a video consists of: frames, what is known of their source, and the interface of readers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction

from siamtrack.types import Image
from siamtrack.utils.files import Closing

DEFAULT_FPS = 30.0
"""Rate assumed where a source reports none."""
MAX_FPS = 1000.0


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a source.

    Attributes:
        image: uint8 (H, W, 3), BGR, contiguous; the caller may keep it and draw on it.
        index: 0 for the first frame delivered, then 1, 2, ... without gaps.
        time_s: presentation time from the start of the source; never less than the frame before.
        picture: name of the file in a folder of pictures; "" for videos.
    """

    image: Image
    index: int
    time_s: float
    picture: str = ""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source once it is open.

    Attributes:
        name: short name for a title or a message: file name, address without password, "camera 0".
        fps: nominal frames per second; None when unknown.
        frame_wh: width and height of the first frame in px, upright.
        frame_count: number of frames by the container, which may be an estimate; None when unknown.
        pixel_aspect: width of a pixel by its height where it is shown; 1 for square ones.
    """

    name: str
    fps: float | None
    frame_wh: tuple[int, int]
    frame_count: int | None
    pixel_aspect: Fraction = Fraction(1)


class Reader(Closing, ABC):
    """Reads pictures in order, for one thread at a time.

    Constructors read the first picture: opening a source without pictures fails at once.

    Attributes:
        info: what is known of the pictures.
        unreadable: pictures known to exist that could not be read; complete at the end only.
        picture: file name of the last picture read; "" where pictures have none.
    """

    info: SourceInfo
    unreadable: int
    picture: str = ""
    _first: tuple[Image, float] | None = None

    def read(self) -> tuple[Image, float] | None:
        """Return the next picture and its time in s, or None at the end.

        Raises:
            VideoError: nothing more can be read although this is not the end.
        """
        first, self._first = self._first, None
        return self._read_next() if first is None else first

    def interrupt(self) -> None:
        """End a wait that is no read; for another thread than the one that reads."""

    @abstractmethod
    def _read_next(self) -> tuple[Image, float] | None: ...

    @abstractmethod
    def close(self) -> None:
        """Release the file, the camera or the connection; may be called again."""
