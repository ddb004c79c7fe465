"""Opening any video source, and delivering its frames.

Sections: `open_source`; `Source`, which delivers every frame in turn; `LiveSource`, which delivers
the newest; `RealTimeReader`, which plays a recording as if it were live.
"""

from __future__ import annotations

import glob
import logging
import re
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Self

from siamtrack.errors import ConfigError, VideoError
from siamtrack.types import Image
from siamtrack.utils.files import Closing
from siamtrack.utils.images import is_image, natural_key
from siamtrack.video.cameras import CameraReader, ImagesReader
from siamtrack.video.decode import ContainerReader, open_container
from siamtrack.video.frames import Frame, Reader

__all__ = ["Frame", "Source", "open_source"]

_log = logging.getLogger(__name__)

CLOSE_WAIT_S = 2.0
"""How long closing waits for a read in progress. A dead camera may block one for much longer."""

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_MAYBE_RECORDED = frozenset({"file", "http", "https"})
"""Schemes that may lead to a recording: live only if it has no duration."""


def open_source(
    source: int | str | Path,
    *,
    live: bool | None = None,
    timeout_s: float = 10.0,
    fps: float | None = None,
) -> Source:
    """Open a video: camera, file, folder of pictures, or stream.

    Example:
        >>> with open_source("clip.mp4") as frames:  # doctest: +SKIP
        ...     for frame in frames:
        ...         print(frame.index, frame.time_s, frame.image.shape)

    Args:
        source: number of a camera (0 or "0"), video file, folder of pictures, pattern such as
            "frames/*.jpg" (pictures are taken in natural order, 2 before 10), or address of a
            stream such as "rtsp://...".
        live: True keeps only the newest frame: the caller never lags behind, and recordings are
            played at their own speed. False delivers every frame. None: True for cameras and
            streams, False for files, folders and recordings behind an address.
        timeout_s: bound on connecting to a stream and on waiting for a live frame, in s. Raising
            it tolerates longer pauses; lowering it reports a stall sooner.
        fps: rate to assume where the source reports none; pictures have 30 by default.

    Returns:
        Iterator of `Frame` and context manager.

    Raises:
        VideoError: the source is missing, is no video, cannot be read or holds no frame. Iterating
            raises it too when a camera disappears or a stream breaks off or stalls. A damaged or
            truncated file does not raise: its lost frames are counted in `unreadable`.
        ConfigError: an argument that makes no sense.
    """
    if timeout_s <= 0:
        raise ConfigError(f"timeout_s is {timeout_s}; give a positive number of seconds")
    if fps is not None and fps <= 0:
        raise ConfigError(f"fps is {fps}; give a positive number of frames per second")
    if isinstance(source, bool) or not isinstance(source, int | str | Path):
        raise ConfigError(
            f"source {source!r} is a {type(source).__name__}; give the number of a camera, a path "
            "or an address"
        )
    # A number is a camera, text with a scheme an address, everything else a path or a pattern.
    text = str(source).strip()
    if re.fullmatch(r"-?\d+", text):
        if int(text) < 0:
            raise VideoError(f"camera {text} does not exist; cameras are counted from 0")
        reader: Reader = CameraReader(int(text), fps=fps)
        live = live is not False
    elif address := _ADDRESS.match(text):
        reader, live = _open_address(text, address[1].lower(), live, timeout_s, fps)
    else:
        reader, live = _open_path(text, live, fps)
    return LiveSource(reader, timeout_s=timeout_s) if live else Source(reader)


def _open_address(
    text: str, scheme: str, live: bool | None, timeout_s: float, fps: float | None
) -> tuple[Reader, bool]:
    """Open a stream, or a recording behind an address; returns whether it is live, too."""
    shown = re.sub(r"(?<=://)[^/]+@", "", text)  # without user name and password
    may_wait = live is False or (live is None and scheme in _MAYBE_RECORDED)
    container, stream = open_container(text, shown, timeout_s=timeout_s, low_latency=not may_wait)
    if live is None:
        live = scheme not in _MAYBE_RECORDED or container.duration is None
    reader = ContainerReader(container, stream, shown, is_stream=True, low_latency=live, fps=fps)
    return reader, live


def _open_path(text: str, live: bool | None, fps: float | None) -> tuple[Reader, bool]:
    """Open a file, a folder, a pattern or a device file; returns whether it is live, too."""
    if not text:
        raise VideoError("the source is empty; give a path, an address or the number of a camera")
    path = Path(text).expanduser()
    reader: Reader
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if not glob.has_magic(text):
            raise VideoError(
                f"{text} cannot be opened ({error.strerror}); give a video file, a folder or "
                "pattern of pictures, a stream address or the number of a camera"
            ) from error
        reader = _open_images([Path(p) for p in glob.glob(str(path), recursive=True)], text, fps)
    else:
        if stat.S_ISCHR(mode):  # a device file such as /dev/video0
            return CameraReader(text, fps=fps), live is not False
        if stat.S_ISDIR(mode):
            reader = _open_images(list(path.iterdir()), text, fps)
        elif is_image(path):
            reader = ImagesReader([path], name=path.name, fps=fps)
        else:
            # Without the prefix, FFmpeg takes a name with a colon for an address.
            container, stream = open_container(f"file:{path}", text)
            reader = ContainerReader(container, stream, text, fps=fps)
    return (RealTimeReader(reader) if live else reader), bool(live)


def _open_images(found: Sequence[Path], text: str, fps: float | None) -> ImagesReader:
    images = sorted(filter(is_image, found), key=natural_key)
    if not images:
        raise VideoError(
            f"no pictures in {text} ({len(found)} other file(s)); give a video file, or a folder "
            "or pattern with png, jpg, bmp, tif or webp pictures"
        )
    return ImagesReader(images, name=Path(text).name or text, fps=fps)


class Source(Closing):
    """Frames in order, each read when it is asked for: an iterator and a context manager.

    Attributes:
        name, fps, frame_wh: as in `siamtrack.video.frames.SourceInfo`.
        frame_count: number of frames; None for everything live and when unknown.
        is_live: frames are read as they come, and only the newest is kept.
        dropped: frames of a live source that were read but replaced by a newer one.
    """

    is_live: ClassVar[bool] = False

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.name = reader.info.name
        self.fps = reader.info.fps
        self.frame_wh = reader.info.frame_wh
        self.frame_count = None if self.is_live else reader.info.frame_count
        self.dropped = 0
        self._delivered = 0
        self._closed = False
        self._reported = False

    @property
    def unreadable(self) -> int:
        """Frames known to exist that could not be read; complete at the end only."""
        return self._reader.unreadable

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        if self._closed:
            raise VideoError(f"{self.name} is closed; open it again with open_source")
        delivered = self._next_image()
        if delivered is None:
            self._report_unreadable()
            raise StopIteration
        image, time_s = delivered
        frame = Frame(image, self._delivered, time_s)
        self._delivered += 1
        return frame

    def close(self) -> None:
        """Release the file, the camera or the connection; may be called again."""
        if not self._closed:
            self._closed = True
            self._release()
            self._report_unreadable()

    def _next_image(self) -> tuple[Image, float] | None:
        return self._reader.read()

    def _release(self) -> None:
        self._reader.close()

    def _report_unreadable(self) -> None:
        if self.unreadable and not self._reported:
            self._reported = True
            _log.warning(
                "%s: %d frame(s) could not be read, %d could",
                self.name,
                self.unreadable,
                self._delivered + self.dropped,
            )


class LiveSource(Source):
    """The newest frame only: a thread reads as fast as frames come, so the caller never lags.

    Args:
        reader: from here on read and closed by the thread alone.
        timeout_s: raising it tolerates longer pauses of the camera or the network; lowering it
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
            target=self._read_all, name=f"siamtrack reads {self.name}", daemon=True
        )
        self._thread.start()

    def _read_all(self) -> None:
        """Read in the thread until the end, a failure or `close`, keeping the newest frame."""
        # Raised by the consumer if the thread ends by an exception that nothing below expects.
        failure: VideoError | None = VideoError(
            f"{self.name}: reading it failed in a way that was not foreseen; open it again"
        )
        try:
            while not self._stopping.is_set() and (newest := self._reader.read()) is not None:
                with self._changed:
                    if self._newest is not None:
                        self.dropped += 1
                    self._newest = newest
                    self._changed.notify()
            failure = None
        except VideoError as error:
            failure = error
        finally:
            self._reader.close()
            with self._changed:
                self._failure, self._ended = failure, True
                self._changed.notify()

    def _next_image(self) -> tuple[Image, float] | None:
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._newest is not None or self._ended, self._timeout_s
            ):
                raise VideoError(
                    f"{self.name} has sent no frame for {self._timeout_s:g} s, after "
                    f"{self._delivered} frame(s); check the camera or the connection, or allow "
                    "longer pauses with timeout_s"
                )
            newest, self._newest = self._newest, None
            # A failure is raised after the last frame before it was delivered.
            if newest is None and self._failure is not None:
                raise self._failure
            return newest

    def _release(self) -> None:
        self._stopping.set()
        self._thread.join(CLOSE_WAIT_S)
        if self._thread.is_alive():
            _log.warning(
                "%s: reader thread did not stop within %g s; it will be killed when the program "
                "exits",
                self.name,
                CLOSE_WAIT_S,
            )


class RealTimeReader(Reader):
    """Play a recording as if it were live: no frame comes before its time, by `clock` in s."""

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
        self.info = reader.info
        self.unreadable = reader.unreadable

    def _read_next(self) -> tuple[Image, float] | None:
        delivered = self._reader.read()
        self.unreadable = self._reader.unreadable
        if delivered is None:
            return None
        _, time_s = delivered
        if self._started_s is None:  # the first picture is due now
            self._started_s = self._clock() - time_s
        wait_s = self._started_s + time_s - self._clock()
        if wait_s > 0:
            self._sleep(wait_s)
        return delivered

    def close(self) -> None:
        """Close the recording."""
        self._reader.close()
