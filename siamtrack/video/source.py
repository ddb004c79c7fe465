"""One way in for every kind of video: `open_source`."""

from __future__ import annotations

import glob
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from siamtrack.errors import ConfigError, VideoError
from siamtrack.video.cameras import CameraReader
from siamtrack.video.containers import open_container
from siamtrack.video.decoding import ContainerReader
from siamtrack.video.delivery import LiveSource, PacedReader, SequentialSource
from siamtrack.video.frames import Frame, Reader, Source
from siamtrack.video.images import ImagesReader, is_picture, natural_key

__all__ = ["Frame", "Source", "open_source"]

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_MAYBE_RECORDED = frozenset({"file", "http", "https"})
"""Schemes behind which there may be a recording: live only if it has no duration."""


def open_source(
    source: int | str | Path,
    *,
    live: bool | None = None,
    timeout_s: float = 10.0,
    fps: float | None = None,
) -> Source:
    """Open a video, whatever it comes from.

    Example:
        >>> with open_source("clip.mp4") as frames:  # doctest: +SKIP
        ...     for frame in frames:
        ...         print(frame.index, frame.time_s, frame.image.shape)

    Args:
        source: number of a camera (0 or "0"), video file, folder of pictures, pattern such as
            "frames/*.jpg" (pictures are taken in natural order, 2 before 10), or address of a
            stream such as "rtsp://...".
        live: True keeps only the newest frame, so that the caller never lags behind; recordings
            are then played at their own speed. False delivers every frame. None: True for cameras
            and streams, False for files, folders and recordings behind an address.
        timeout_s: bound on connecting to a stream and on waiting for a live frame, in s. Raising
            it forgives longer pauses; lowering it reports a stall sooner.
        fps: rate to assume where the source tells none, as pictures do; 30 for these otherwise.

    Returns:
        Iterator of `Frame` and context manager.

    Raises:
        VideoError: the source is missing, is no video, cannot be read or holds no frame. Iterating
            raises it too when a camera disappears or a stream breaks off or stalls; a file that
            ends early or is damaged does not raise, its lost frames are counted in `unreadable`.
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
    text = str(source).strip()
    if re.fullmatch(r"-?\d+", text):
        return _open_camera(text, live, timeout_s, fps)
    if address := _ADDRESS.match(text):
        return _open_address(text, address[1].lower(), live, timeout_s, fps)
    return _open_path(text, live, timeout_s, fps)


def _open_camera(text: str, live: bool | None, timeout_s: float, fps: float | None) -> Source:
    if int(text) < 0:
        raise VideoError(f"camera {text} does not exist; cameras are counted from 0")
    return _deliver(CameraReader(int(text), fps=fps), live is not False, timeout_s)


def _open_address(
    text: str, scheme: str, live: bool | None, timeout_s: float, fps: float | None
) -> Source:
    shown = re.sub(r"(?<=://)[^/]+@", "", text)
    may_wait = live is False or (live is None and scheme in _MAYBE_RECORDED)
    container, stream = open_container(text, shown, timeout_s=timeout_s, low_latency=not may_wait)
    if live is None:
        live = scheme not in _MAYBE_RECORDED or container.duration is None
    reader = ContainerReader(
        container, stream, name=shown, shown=shown, is_stream=True, low_latency=live, fps=fps
    )
    return _deliver(reader, live, timeout_s)


def _open_path(text: str, live: bool | None, timeout_s: float, fps: float | None) -> Source:
    if not text:
        raise VideoError("the source is empty; give a path, an address or the number of a camera")
    path = Path(text).expanduser()
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if not glob.has_magic(text):
            raise VideoError(
                f"{text} cannot be opened ({error.strerror}); give a video file, a folder or "
                "pattern of pictures, a stream address or the number of a camera"
            ) from error
        return _open_pattern(text, live, timeout_s, fps)
    if stat.S_ISCHR(mode):
        return _deliver(CameraReader(text, fps=fps), live is not False, timeout_s)
    reader: Reader
    if stat.S_ISDIR(mode):
        reader = _images(list(path.iterdir()), text, fps)
    elif is_picture(path):
        reader = ImagesReader([path], name=path.name, fps=fps)
    else:
        # Without the prefix a colon in the name would make it an address.
        container, stream = open_container(f"file:{path}", text)
        reader = ContainerReader(container, stream, name=path.name, shown=text, fps=fps)
    return _deliver(PacedReader(reader) if live else reader, bool(live), timeout_s)


def _open_pattern(text: str, live: bool | None, timeout_s: float, fps: float | None) -> Source:
    pattern = str(Path(text).expanduser())
    reader = _images([Path(found) for found in glob.glob(pattern, recursive=True)], text, fps)
    return _deliver(PacedReader(reader) if live else reader, bool(live), timeout_s)


def _images(found: Sequence[Path], text: str, fps: float | None) -> ImagesReader:
    pictures = sorted(filter(is_picture, found), key=natural_key)
    if not pictures:
        raise VideoError(
            f"no pictures in {text} ({len(found)} other file(s)); give a video file, or a folder "
            "or pattern with png, jpg, bmp, tif or webp pictures"
        )
    return ImagesReader(pictures, name=Path(text).name or text, fps=fps)


def _deliver(reader: Reader, live: bool, timeout_s: float) -> Source:
    return LiveSource(reader, timeout_s=timeout_s) if live else SequentialSource(reader)
