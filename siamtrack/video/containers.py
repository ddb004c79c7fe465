"""Opening video files and network streams with FFmpeg, through PyAV."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import av.error

from siamtrack.errors import VideoError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

MAX_FPS = 1000.0


def open_container(
    location: str, shown: str, *, timeout_s: float | None = None, low_latency: bool = False
) -> tuple[InputContainer, VideoStream]:
    """Open a file or an address and make sure that there is video in it.

    Args:
        location: what FFmpeg opens.
        shown: what messages call it.
        timeout_s: bound on connecting and on every read; None waits for ever, as files may.
        low_latency: let FFmpeg hold back as little as possible.

    Returns:
        The container and the video stream in it that matters most.

    Raises:
        VideoError: not found, not reachable or not a video.
    """
    options = {"fflags": "nobuffer"} if low_latency else {}
    if location.startswith("rtsp"):
        # Over UDP, the default, lost packets turn into torn pictures.
        options["rtsp_flags"] = "prefer_tcp"
    try:
        container = av.open(location, "r", options=options, timeout=timeout_s)
    except av.error.FFmpegError as error:
        raise VideoError(
            f"{shown} cannot be opened as a video ({reason(error)}); "
            + (
                "check the address and the connection"
                if timeout_s is not None
                else "it is damaged, unfinished or not a video: see whether a player opens it"
            )
        ) from error
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or not _is_footage(container, stream):
        problem = (
            "holds no video; give a video file, a folder of pictures, a stream address or the "
            "number of a camera"
        )
    elif getattr(stream, "codec_context", None) is None:
        problem = "is coded in a way this machine has no decoder for; convert it to H.264"
    else:
        return container, stream
    container.close()
    raise VideoError(f"{shown} {problem}")


def _is_footage(container: InputContainer, stream: VideoStream) -> bool:
    """False for the cover of a song and for text, which FFmpeg takes for ANSI art."""
    cover = bool(stream.disposition & av.stream.Disposition.attached_pic)
    return not cover and container.format.name != "tty"


def reason(error: av.error.FFmpegError) -> str:
    """Why, in FFmpeg's words where they say it."""
    if isinstance(error, av.error.ExitError):
        return "timed out"
    return error.strerror or type(error).__name__


def seconds(stream: VideoStream, ticks: int | None) -> float | None:
    """Ticks of the stream's time base in s."""
    return None if ticks is None or stream.time_base is None else float(ticks * stream.time_base)


def frame_rate(stream: VideoStream) -> float | None:
    """Frames per second, None where the container tells none or something absurd."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= MAX_FPS:
            return float(rate)
    return None
