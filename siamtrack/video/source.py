"""Opening any video source, and delivering its frames.

Sections: `open_source`; `Source`, which delivers every frame in turn; `LiveSource`, which delivers
the newest; `RealTimeReader`, which plays a recording as if it were live; `ArraysReader`, which
reads arrays; `ChainReader`, which reads several recordings as one.
"""

from __future__ import annotations

import logging
import operator
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterable, Sequence, Sized
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, SupportsIndex, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import ConfigError, NotNumberedError, SiamTrackError, VideoError, shown
from siamtrack.types import FloatArray, Image
from siamtrack.utils.config import plain_number
from siamtrack.utils.files import Closing
from siamtrack.utils.images import (
    choose_images,
    is_image,
    is_pattern,
    list_images,
    match_pictures,
)
from siamtrack.utils.levels import Levels, RawImage, ValueRange, check_range
from siamtrack.utils.picture_files import kind_of_picture, read_head
from siamtrack.video.cameras import CameraReader, ImagesReader
from siamtrack.video.decode import ContainerReader, open_container
from siamtrack.video.frames import DEFAULT_FPS, Frame, Reader, SourceInfo
from siamtrack.video.random_access import ClipFrames, NumberedFrames, PictureFrames
from siamtrack.video.reconnect import ReconnectingReader
from siamtrack.video.sound import Sound
from siamtrack.video.times import is_endless

__all__ = ["Frame", "Source", "open_source"]

_log = logging.getLogger(__name__)

SourceName: TypeAlias = SupportsIndex | str | bytes | PathLike[str] | PathLike[bytes]
"""What `open_source` opens: the number of a camera, a path, a pattern or an address."""

STANDARD_INPUT = frozenset({"-", "pipe:", "pipe:0"})
"""Names of standard input; the last two are FFmpeg's."""
_MAX_FACTOR = 1e9
MAX_CAMERA = 2**31 - 1
"""The greatest number that OpenCV takes."""
CLOSE_WAIT_S = 2.0
"""How long closing waits for a read in progress. A dead camera may block one for much longer."""

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_MAYBE_RECORDED = frozenset({"file", "http", "https"})
"""Schemes that may lead to a recording: live only if it has neither a duration nor a size."""


def open_source(
    source: SourceName | Sequence[SourceName] | Iterable[NDArray[Any]],
    *,
    live: bool | None = None,
    timeout_s: float = 10.0,
    fps: float | None = None,
    stream: int | None = None,
    range: tuple[float, float] | None = None,
    reconnect_s: float | None = None,
) -> Source:
    """Open a video: camera, file, folder of pictures, or stream.

    Example:
        >>> with open_source("clip.mp4") as frames:  # doctest: +SKIP
        ...     for frame in frames:
        ...         print(frame.index, frame.time_s, frame.image.shape)

    Args:
        source: number of a camera (0 or "0"), video file, folder of pictures, pattern such as
            "frames/*.jpg" or "frames/%04d.jpg" (pictures are taken in natural order, 2 before 10),
            address of a stream such as "rtsp://...", or "-" for a video on standard input. A path
            that exists comes before a camera of that number. A list of recordings is read as one
            video, a list of pictures in the order given. Or pictures themselves: any iterable of
            arrays, (H, W, 3) BGR or (H, W) gray, as they come from another library; they have 30
            frames per second unless `fps` says otherwise.
        live: True keeps only the newest frame: the caller never lags behind, and recordings are
            played at their own speed. False delivers every frame. None: True for cameras and
            streams, False for files, folders and recordings behind an address.
        timeout_s: bound on connecting to a stream and on waiting for a live frame, in s. Raising
            it tolerates longer pauses; lowering it reports a stall sooner.
        fps: frames per second, instead of the rate and the time stamps of a recording. Without it,
            animated pictures have the delays in their file, others 30. Frames of live sources keep
            the times at which they come.
        stream: which video stream of a file that has several, from 0; None for the main one.
        range: the values that become black and white, such as (29300, 30600) of a thermal camera;
            of video in color they are those of 8 bits. None: 8 bits are kept; deeper pictures have
            the range that their file states, or one found in pictures spread over the clip.
        reconnect_s: when a stream or a camera breaks off, connect again, with growing waits, for up
            to so many s. Frames sent meanwhile are missed, and times go on by the clock. None: it
            is an error.

    Returns:
        Iterator of `Frame` and context manager.

    Raises:
        VideoError: the source is missing, is no video, cannot be read or holds no frame. Iterating
            raises it too when a camera disappears or a stream breaks off or stalls. A damaged or
            truncated file does not raise: its lost frames are counted in `unreadable`.
        ConfigError: an argument that makes no sense.
    """
    timeout_s = _positive("timeout_s", timeout_s, "seconds")
    fps = None if fps is None else _positive("fps", fps, "frames per second")
    live, stream = plain_number(live), plain_number(stream)
    if live is not None and not isinstance(live, bool):
        raise ConfigError(f"live is {shown(live)}; give True, False or None")
    if stream is not None and (type(stream) is not int or not 0 <= stream <= MAX_CAMERA):
        raise ConfigError(f"stream is {shown(stream)}; give the number of a video stream, from 0")
    value_range = None if range is None else check_range(range)
    options = _Options(live, timeout_s, fps, stream, value_range)
    if reconnect_s is not None:
        return _open_reconnecting(cast(SourceName, source), options, reconnect_s)
    if _holds_arrays(source):
        reader: Reader = ArraysReader(cast(Iterable[Any], source), options.fps, value_range)
        reader, is_live = (RealTimeReader(reader) if live else reader), bool(live)
    elif isinstance(source, list | tuple):
        reader, is_live = _open_several(source, options)
    else:
        reader, is_live = _open_one(cast(SourceName, source), options)
    return LiveSource(reader, timeout_s=timeout_s) if is_live else Source(reader)


def _open_reconnecting(source: SourceName, options: _Options, give_up_s: float) -> Source:
    """Open a stream or a camera that is connected again when it breaks off."""
    give_up_s = _positive("reconnect_s", give_up_s, "seconds")
    is_one = not isinstance(source, list | tuple) and not _holds_arrays(source)
    reader, is_live = _open_one(source, options) if is_one else (None, False)
    if reader is None or not is_live:
        if reader is not None:
            reader.close()
        raise ConfigError(
            f"reconnect is given, but {shown(source)} is no stream or camera that never ends; "
            "leave it out"
        )
    reader = ReconnectingReader(reader, lambda: _open_one(source, options)[0], give_up_s=give_up_s)
    # As long as it is being connected again, no frame comes, which is no stall.
    return LiveSource(reader, timeout_s=2 * options.timeout_s + give_up_s)


def _holds_arrays(source: object) -> bool:
    """Whether a source is an iterable of pictures, rather than names of something to open."""
    if isinstance(source, list | tuple):
        return any(isinstance(item, np.ndarray) for item in source)
    is_number = isinstance(source, SupportsIndex) and getattr(source, "ndim", 0) == 0
    return isinstance(source, Iterable) and not (
        isinstance(source, str | bytes | PathLike | dict | Source) or is_number
    )


class _Options(NamedTuple):
    """Arguments of `open_source`."""

    live: bool | None
    timeout_s: float
    fps: float | None
    stream: int | None
    value_range: ValueRange | None


def _positive(name: str, value: object, unit: str) -> float:
    """A time or rate that clocks can count with, as a float."""
    value = plain_number(value)
    if type(value) not in (int, float) or not 1 / _MAX_FACTOR <= cast(float, value) <= _MAX_FACTOR:
        raise ConfigError(
            f"{name} is {shown(value)}; give a positive number of {unit}, up to {_MAX_FACTOR:g}"
        )
    return float(cast(float, value))


def _open_several(sources: Sequence[SourceName], options: _Options) -> tuple[Reader, bool]:
    """Open pictures in the order given, or recordings to be read one after another."""
    if not sources:
        raise ConfigError("the list of sources is empty; give at least one")
    if len(sources) == 1:
        return _open_one(sources[0], options)
    paths = [_path_of(source) for source in sources]
    if all(path is not None and is_image(path) and os.path.isfile(path) for path in paths):
        pictures = list(filter(None, paths))
        reader: Reader = _open_images(pictures, len(paths), f"{len(paths)} pictures", options)
        return (RealTimeReader(reader) if options.live else reader), bool(options.live)
    readers: list[Reader] = []
    try:
        for source in sources:
            reader, is_live = _open_one(source, options._replace(live=None))
            readers.append(reader)
            if is_live:
                raise ConfigError(f"{shown(source)} is live and never ends; give it alone")
    except SiamTrackError:
        for reader in readers:
            reader.close()
        raise
    reader = ChainReader(readers)
    return (RealTimeReader(reader) if options.live else reader), bool(options.live)


def _open_one(source: SourceName, options: _Options) -> tuple[Reader, bool]:
    """Open one source; returns whether it is live, too."""
    path = _path_of(source)
    if path is None:
        try:
            if isinstance(source, bool):
                raise TypeError("a boolean is no number of a camera")
            return _open_camera(operator.index(cast(SupportsIndex, source)), options)
        except TypeError as error:
            raise ConfigError(
                f"source {shown(source)} is a {type(source).__name__}; give the number of a "
                "camera, a path or an address"
            ) from error
    if not isinstance(source, str):
        return _open_path(os.fsdecode(cast(PathLike[str], source)), options)
    # Text with a scheme is an address, a number a camera, everything else a path or a pattern.
    text = source.strip()
    if text in STANDARD_INPUT:
        return _open_standard_input(options)
    if address := _ADDRESS.match(text):
        return _open_address(text, address[1].lower(), options)
    is_number = re.fullmatch(r"-?(0|[1-9]\d*)", text) is not None
    if is_number and not os.path.exists(text):
        return _open_camera(int(text[:20]), options)
    if is_number:
        _log.warning("%s is read, which exists here; camera %s is not", Path(text), text)
    return _open_path(text, options)


def _path_of(source: SourceName) -> Path | None:
    """The path of a source that is text, bytes or a path; None for others.

    Raises:
        VideoError: it can be no name: it holds a null character or half a surrogate pair.
        ConfigError: a path object without a path.
    """
    if not isinstance(source, str | bytes | PathLike):
        return None
    try:
        text = os.fsdecode(source)
        os.fsencode(text)
    except TypeError as error:
        raise ConfigError(f"source {shown(source)} has no path; give a text") from error
    except UnicodeError as error:
        raise VideoError(f"source {shown(source)} is no text ({error}); give another") from error
    if "\0" in text:
        raise VideoError(
            f"the source {shown(source)} holds a null character; give a path, an address or the "
            "number of a camera"
        )
    return Path(os.path.expanduser(text))


def _open_camera(number: int, options: _Options) -> tuple[Reader, bool]:
    if not 0 <= number <= MAX_CAMERA:
        raise VideoError(f"camera {shown(number)} does not exist; cameras are counted from 0")
    if options.value_range is not None:
        raise ConfigError(f"range is given, but the pictures of camera {number} have 8 bits")
    return CameraReader(number, fps=options.fps), options.live is not False


def _open_standard_input(options: _Options) -> tuple[Reader, bool]:
    if os.isatty(0):
        raise VideoError("standard input is a terminal; send a video through a pipe: cmd | ... -")
    name = "standard input"
    # A file that was redirected can be searched, which MP4 needs; a pipe cannot.
    is_file = stat.S_ISREG(os.fstat(0).st_mode) and os.path.exists("/dev/stdin")
    location = "file:/dev/stdin" if is_file else "pipe:0"
    container, stream = open_container(location, name, number=options.stream)
    reader: Reader = ContainerReader(
        container, stream, name, fps=options.fps, value_range=options.value_range
    )
    return (RealTimeReader(reader) if options.live else reader), bool(options.live)


def _open_address(text: str, scheme: str, options: _Options) -> tuple[Reader, bool]:
    """Open a stream, or a recording behind an address; returns whether it is live, too."""
    name = re.sub(r"(?<=://)[^/]+@", "", text)  # without user name and password
    # Shorter buffers of FFmpeg would cost the first frame of a camera behind HTTP.
    low_latency = options.live is not False and scheme not in _MAYBE_RECORDED
    container, stream = open_container(
        text, name, timeout_s=options.timeout_s, low_latency=low_latency, number=options.stream
    )
    live = options.live
    if live is None:
        live = scheme not in _MAYBE_RECORDED or is_endless(container)
    reader = ContainerReader(
        container,
        stream,
        name,
        is_stream=True,
        low_latency=live,
        fps=options.fps,
        value_range=options.value_range,
    )
    return reader, live


def _open_path(text: str, options: _Options) -> tuple[Reader, bool]:
    """Open a file, a folder, a pattern or a device file; returns whether it is live, too."""
    if not text:
        raise VideoError("the source is empty; give a path, an address or the number of a camera")
    path, live = Path(os.path.expanduser(text)), options.live
    reader: Reader
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if not is_pattern(text):
            raise VideoError(
                f"{text} cannot be opened ({error.strerror}); give a video file, a folder or "
                "pattern of pictures, a stream address or the number of a camera"
            ) from error
        found = match_pictures(path)
        reader = _open_images(choose_images(found), len(found), text, options)
    else:
        if stat.S_ISCHR(mode):  # a device file such as /dev/video0
            return CameraReader(text, fps=options.fps), live is not False
        if stat.S_ISDIR(mode):
            images = [path / name for name in list_images(path)]
            reader = _open_images(images, len(list(path.iterdir())), text, options)
        else:
            reader = _open_file(path, text, options)
    return (RealTimeReader(reader) if live else reader), bool(live)


def _open_file(path: Path, text: str, options: _Options) -> Reader:
    """Open a file by its content: pictures, or what FFmpeg reads."""
    head = read_head(path) if path.is_file() else b""
    kind = kind_of_picture(head)
    # FFmpeg plays animated GIFs, and dumps of JPEGs that are not called pictures. It takes all
    # pictures of a GIF of 1987, which says no delays, for one.
    by_ffmpeg: set[str | None] = {None} if head.startswith(b"GIF87a") else {None, "gif"}
    if not is_image(path):
        by_ffmpeg.add("jpeg")
    if kind in by_ffmpeg:
        try:
            # Without the prefix, FFmpeg takes a name with a colon for an address.
            container, stream = open_container(f"file:{path}", text, number=options.stream)
        except VideoError:
            if not is_image(path):
                raise
        else:
            return ContainerReader(
                container, stream, text, fps=options.fps, value_range=options.value_range
            )
    return _open_images([path], 1, text, options)


def _open_images(images: Sequence[Path], found: int, text: str, options: _Options) -> ImagesReader:
    if not images:
        raise VideoError(
            f"no pictures in {text} ({found} other file(s)); give a video file, or a folder "
            "or pattern with png, jpg, bmp, tif or webp pictures"
        )
    name = Path(text).name or text
    return ImagesReader(images, name=name, fps=options.fps, value_range=options.value_range)


class Source(Closing):
    """Frames in order, each read when it is asked for: an iterator and a context manager.

    Frames of a file and of pictures can be read by number, too, whatever was read before:
    `source[57]` is the frame that comes 58th in order, with the same pixels and the same time,
    `source[-1]` the last one, `len(source)` their number. `reversed(source)` reads backwards, and
    `source.numbered` gives all of this apart from the source. Not for several threads at once.

    Attributes:
        name, fps, frame_wh, pixel_aspect: as in `siamtrack.video.frames.SourceInfo`.
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
        self.pixel_aspect = reader.info.pixel_aspect
        self.frame_count = None if self.is_live else reader.info.frame_count
        self.dropped = 0
        self._delivered = 0
        self._closed = False
        self._reported = False
        self._numbered: NumberedFrames | None = None

    @property
    def unreadable(self) -> int:
        """Frames known to exist that could not be read; complete at the end only.

        Reading by number finds damage where it decodes, and not all that is missing at the end.
        """
        return self._reader.unreadable

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        self._check_open()
        delivered = self._next_image()
        if delivered is None:
            self._report_unreadable()
            raise StopIteration
        image, time_s = delivered
        picture = "" if self.is_live else self._reader.picture
        frame = Frame(image, self._delivered, time_s, picture)
        self._delivered += 1
        return frame

    @property
    def numbered(self) -> NumberedFrames:
        """The frames by number; making it indexes the file.

        Raises:
            NotNumberedError: they come in order only: live, from a pipe or an address, or several
                recordings.
            VideoError: the source is closed.
        """
        self._check_open()
        if self._numbered is None:
            self._numbered = self._number_frames()
        return self._numbered

    def into_numbered(self) -> NumberedFrames:
        """Give the source away for its frames by number, which the caller closes.

        It cannot be read from any more, so that a clip needs one decoder instead of two.

        Raises:
            NotNumberedError, VideoError: as `numbered`.
        """
        self._check_open()
        file = self._file_reader
        frames = self._number_frames() if file is None else ClipFrames(file, is_own=True)
        self._closed = True
        if file is None:
            self._release()
        return frames

    @property
    def searchable(self) -> NumberedFrames | None:
        """The frames by number, where reading one does not mean decoding all before it."""
        try:
            return self.numbered if self.numbered.is_searchable else None
        except NotNumberedError:
            return None

    def __len__(self) -> int:
        return len(self.numbered)

    def __getitem__(self, number: SupportsIndex) -> Frame:
        return self.numbered[number]

    def __bool__(self) -> bool:
        return True  # Without this it would depend on the number of frames, which costs time.

    @property
    def _file_reader(self) -> ContainerReader | None:
        reader = self._reader
        return reader if isinstance(reader, ContainerReader) and reader.can_reopen else None

    def _number_frames(self) -> NumberedFrames:
        if self._file_reader is not None:
            return ClipFrames(self._file_reader)
        if isinstance(self._reader, ImagesReader):
            return PictureFrames(self._reader)
        if isinstance(self._reader, ArraysReader) and self._reader.is_sequence:
            return ArrayFrames(self._reader)
        kind = "several recordings" if isinstance(self._reader, ChainReader) else "a stream"
        raise NotNumberedError(
            f"{self.name} is {kind}, whose frames come in order only; save it to a file to read "
            "its frames by number"
        )

    def open_sound(self) -> Sound | None:
        """Open the sound of the recording, apart from its pictures; None where there is none.

        Raises:
            VideoError: there is sound that cannot be read beside the pictures.
        """
        readers = self._reader.waiting if isinstance(self._reader, ChainReader) else [self._reader]
        heard = [r for r in readers if isinstance(r, ContainerReader) and r.has_sound]
        if not heard:
            return None
        if heard != [self._reader] or not heard[0].can_reopen:
            kind = "several recordings" if heard != [self._reader] else "no file"
            raise VideoError(f"{self.name} is {kind}, whose sound cannot be copied")
        return Sound(heard[0])

    def _check_open(self) -> None:
        if self._closed:
            raise VideoError(f"{self.name} is closed; open it again with open_source")

    def close(self) -> None:
        """Release the file, the camera or the connection; may be called again."""
        if not self._closed:
            self._closed = True
            if self._numbered is not None:
                self._numbered.close()
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

    def _number_frames(self) -> NumberedFrames:
        raise NotNumberedError(
            f"{self.name} is live: its frames have no numbers and there is no end; save it to a "
            "file to read its frames by number"
        )

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
        self._reader.interrupt()
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
        self.unreadable, self.picture = self._reader.unreadable, self._reader.picture
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


class ArraysReader(Reader):
    """Deliver pictures that are in memory, or that another program makes one after the other.

    Args:
        pictures: arrays (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) gray, of any real type.
        fps: frames per second; None: 30.
        value_range: the values shown as black and white; None: see `Levels`.

    Attributes:
        is_sequence: they can be read by number.

    Raises:
        ConfigError: an item is no picture.
        VideoError: there is none.
    """

    def __init__(
        self, pictures: Iterable[Any], fps: float | None, value_range: ValueRange | None
    ) -> None:
        if isinstance(pictures, np.ndarray) and pictures.ndim == 3 and pictures.shape[2] in (3, 4):
            raise ConfigError(
                f"the source is one picture of shape {pictures.shape}; give several, as a list"
            )
        self.is_sequence = isinstance(pictures, Sequence | np.ndarray)
        self._pictures, self._iterator = pictures, iter(pictures)
        self._levels = Levels("arrays", given=value_range)
        self._fps, self._count = fps or DEFAULT_FPS, 0
        self.unreadable = 0
        self._first = self._read_next()
        if self._first is None:
            raise VideoError("the source holds no picture; give at least one array (H, W, 3)")
        height, width = self._first[0].shape[:2]
        count = len(pictures) if isinstance(pictures, Sized) else None
        self.info = SourceInfo("arrays", self._fps, (width, height), count)

    @property
    def times_s(self) -> FloatArray:
        """Times of all pictures of a sequence."""
        return np.arange(len(cast(Sequence[Any], self._pictures))) / self._fps

    def read_place(self, place: int) -> tuple[Image, float]:
        """Convert one picture of a sequence; its time in s, too."""
        return self._convert(cast(Sequence[Any], self._pictures)[place], place), place / self._fps

    def _read_next(self) -> tuple[Image, float] | None:
        for picture in self._iterator:
            place, self._count = self._count, self._count + 1
            return self._convert(picture, place), place / self._fps
        return None

    def _convert(self, picture: Any, place: int) -> Image:
        """A picture as (H, W, 3) BGR of 8 bits, which is the caller's own."""
        shape: tuple[int, ...] = getattr(picture, "shape", ())
        is_picture = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
        if not isinstance(picture, np.ndarray) or not is_picture or not picture.size:
            given = f"an array of shape {shape}" if shape else shown(picture)
            raise ConfigError(
                f"picture {place} of the source is {given}; give arrays (H, W, 3) in BGR or (H, W)"
            )
        return self._levels.to_8_bits(RawImage(picture.copy()))

    def close(self) -> None:
        """End the generator that makes the pictures, if it is one."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


class ArrayFrames(NumberedFrames):
    """Pictures in memory by number."""

    is_searchable = True

    def __init__(self, reader: ArraysReader) -> None:
        self.name, self._reader = reader.info.name, reader

    @property
    def times_s(self) -> FloatArray:
        """By the rate."""
        return self._reader.times_s

    def _read(self, number: int) -> Frame:
        image, time_s = self._reader.read_place(number)
        return Frame(image, number, time_s)

    def close(self) -> None:
        """Nothing is open."""


class ChainReader(Reader):
    """Read recordings one after another; each begins one frame after the end of that before.

    Args:
        readers: at least one; each is closed when it is at its end.

    Attributes:
        waiting: readers that are not at their end.
    """

    def __init__(self, readers: Sequence[Reader]) -> None:
        first, counts = readers[0].info, [reader.info.frame_count for reader in readers]
        self.waiting = list(readers)
        self._offset_s = self._last_s = 0.0
        self._done = 0  # unreadable frames of readers that were closed
        self.unreadable = 0
        self.info = SourceInfo(
            f"{first.name} and {len(readers) - 1} more",
            first.fps,
            first.frame_wh,
            None if None in counts else sum(count or 0 for count in counts),
            first.pixel_aspect,
        )

    def _read_next(self) -> tuple[Image, float] | None:
        while self.waiting:
            reader = self.waiting[0]
            delivered = reader.read()
            self.unreadable, self.picture = self._done + reader.unreadable, reader.picture
            if delivered is not None:
                image, time_s = delivered
                self._last_s = self._offset_s + time_s
                return image, self._last_s
            reader.close()
            self._done = self.unreadable
            self._offset_s = self._last_s + 1 / (reader.info.fps or DEFAULT_FPS)
            del self.waiting[0]
        return None

    def close(self) -> None:
        """Close the recordings that are still open."""
        for reader in self.waiting:
            reader.close()
        self.waiting.clear()
