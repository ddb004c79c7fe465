"""Writing videos: the formats and encoders, and `VideoSink`.

Every frame goes to the disk on its own. However the program ends, the file can be played up to the
last frame but one.
"""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.codec
import av.error
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from siamtrack.errors import OutputError
from siamtrack.types import Image
from siamtrack.utils.files import Closing, GrowingFile
from siamtrack.video.frames import DEFAULT_FPS, MAX_FPS
from siamtrack.video.sound import Sound

_log = logging.getLogger(__name__)

TICKS_PER_S = 60_000
"""Time stamps are rounded to 1/60,000 s, which divides the usual rates and suits MPEG-4."""
BT709 = 1
"""Number of this color standard in all tags of a video."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """An FFmpeg encoder and its settings, which must not delay frames.

    Attributes:
        bits_per_px: bit rate per pixel and frame; 0 where the options set the quality.
    """

    name: str
    options: dict[str, str]
    bits_per_px: float = 0.0


# "superfast" takes 0.7 of the time of "veryfast", which shares the cores with the tracking; at 21
# its picture is no worse than that one's at 20, in a file a sixth larger.
_X264 = Encoder("libx264", {"preset": "superfast", "tune": "zerolatency", "crf": "21"})
_MPEG4 = Encoder("mpeg4", {}, bits_per_px=0.3)
_VP9 = Encoder(
    "libvpx-vp9",
    {"deadline": "realtime", "lag-in-frames": "0", "cpu-used": "8", "row-mt": "1", "crf": "24"},
)

# A cluster is readable once it is complete: 1 ms makes one of every frame.
_CLUSTERS = {"cluster_time_limit": "1", "flush_packets": "1"}
# Grows as fragments, any number of which can be played, and ends as an ordinary file.
_FRAGMENTS = {
    "movflags": "hybrid_fragmented+frag_every_frame",
    "video_track_timescale": str(TICKS_PER_S),
    "flush_packets": "1",
}

# A fragment for every frame gives sound wrong times (FFmpeg 8); one for every microsecond does not.
_FRAGMENTS_WITH_SOUND = {"movflags": "hybrid_fragmented", "frag_duration": "1"}

FORMATS: dict[str, tuple[str, dict[str, str], tuple[Encoder, ...]]] = {
    ".mp4": ("mp4", _FRAGMENTS, (_X264, _MPEG4)),
    ".mkv": ("matroska", _CLUSTERS, (_X264, _MPEG4)),
    ".webm": ("webm", _CLUSTERS, (_VP9,)),
}
"""By suffix: FFmpeg's name of the format, its settings, and its encoders, best first."""


class VideoSink(Closing):
    """Write frames to mp4 or mkv (H.264) or webm (VP9), each with its own time stamp.

    A file that was there before is replaced when the second frame is written.

    Example:
        >>> with VideoSink("out.mp4", 30.0, (640, 480)) as video:  # doctest: +SKIP
        ...     video.write(image)

    Args:
        path: .mp4, .mkv or .webm; its folder is made. mkv and webm round time stamps to 1 ms.
        fps: nominal rate: the step to a frame without a time stamp, and the distance in frames of
            the places that a player can jump to. None: 30.
        frame_wh: size of every frame in px. An odd side is made even by repeating the last row or
            column, because colors are stored at half the resolution.
        overwrite: replace a file that exists.
        pixel_aspect: width of a pixel by its height, for players.
        sound: copied beside the pictures, from the first one to the last; the sink closes it. What
            the format cannot hold is left out with a warning. From where it ends before the
            pictures, these are on the disk at the end only.

    Raises:
        OutputError: unknown suffix, impossible rate or size, no encoder, or the file exists or
            cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float | None,
        frame_wh: tuple[int, int],
        *,
        overwrite: bool = False,
        pixel_aspect: Fraction = Fraction(1),
        sound: Sound | None = None,
    ) -> None:
        self.path = Path(path)
        self._fps = DEFAULT_FPS if fps is None else float(fps)
        if not 0 < self._fps <= MAX_FPS:
            raise OutputError(f"{path}: {fps} frames per second; give more than 0, at most 1000")
        width, height = map(int, frame_wh)
        if width < 1 or height < 1:
            raise OutputError(f"{path}: frames of {width}x{height} px; give a size in whole pixels")
        self.frame_wh = (width, height)
        self.encoded_wh = (width + width % 2, height + height % 2)
        if self.path.suffix.lower() not in FORMATS:
            raise OutputError(
                f"{path}: videos cannot be written as {self.path.suffix or 'a file without suffix'}"
                f"; give a name that ends in {', '.join(FORMATS)}"
            )
        format_name, options, encoders = FORMATS[self.path.suffix.lower()]
        encoder = _choose_encoder(encoders, self.path)
        if sound is not None and options is _FRAGMENTS:
            options = {**options, **_FRAGMENTS_WITH_SOUND}
        self._pixel_aspect = pixel_aspect
        if pixel_aspect != 1 and format_name == "webm":
            _log.warning(
                "%s: players will show its pixels as squares, while they are %s times as wide as "
                "high; write mp4 or mkv, which can say so",
                path,
                pixel_aspect,
            )
        self.count = 0  # frames written
        self._first_s = 0.0
        self._last_tick = -1
        self._intact_bytes = 0
        self._is_open = True
        self._reformatter = VideoReformatter()
        self._file = GrowingFile(path, overwrite=overwrite)
        self._container = av.open(str(self._file.working), "w", format=format_name, options=options)
        self._stream = self._add_stream(encoder)
        self._sound = sound
        self._sound_stream = None if sound is None else self._add_sound(sound)

    def _add_sound(self, sound: Sound) -> AudioStream | None:
        name = sound.stream.codec_context.name
        if sound.stream.codec_context.codec.canonical_name not in self._container.supported_codecs:
            _log.warning(
                "%s: the sound is left out, because %s files do not hold %s; write .mkv",
                self.path,
                self.path.suffix,
                name,
            )
            return None
        return self._container.add_stream_from_template(sound.stream)

    def _mux_sound(self, end_s: float) -> None:
        """Write the sound up to a time after the first picture, and the packet after it.

        FFmpeg keeps a picture back until it has sound that is later.
        """
        if self._sound is None or self._sound_stream is None:
            return
        if not self.count:
            self._sound.start(self._first_s)
        for packet in self._sound.until(end_s):
            packet.stream = self._sound_stream
            self._container.mux(packet)

    def _add_stream(self, encoder: Encoder) -> VideoStream:
        rate = Fraction(self._fps).limit_denominator(1001)
        width, height = self.encoded_wh
        stream = cast(
            VideoStream,
            self._container.add_stream(encoder.name, rate=rate, options=encoder.options),
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = int(encoder.bits_per_px * width * height * self._fps)
        stream.codec_context.sample_aspect_ratio = self._pixel_aspect
        stream.gop_size = max(1, round(self._fps))
        stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS_PER_S)
        # Without these, players guess by the size of the picture.
        stream.colorspace = stream.color_primaries = stream.color_trc = BT709
        stream.color_range = ColorRange.MPEG
        # The header is left to the first frame: FFmpeg crashes on closing a file without frames.
        return stream

    def write(self, image: Image, time_s: float | None = None) -> None:
        """Write one frame, uint8 (H, W, 3) BGR of size `frame_wh`.

        Args:
            image: the frame.
            time_s: when it is shown; the first frame starts the video, whatever its time. A time
                that is not after the frame before is moved to just after it. None: one step of the
                nominal rate after the frame before.

        Raises:
            OutputError: wrong image or time, or the disk is full or gone; what was written before
                stays and can be played.
        """
        if not self._is_open:
            raise OutputError(f"{self.path} is closed; nothing more can be written to it")
        frame = self._to_video_frame(image)
        frame.pts = tick = self._tick_of(time_s)
        frame.time_base = Fraction(1, TICKS_PER_S)
        try:
            self._mux_sound(tick / TICKS_PER_S)
            self._container.mux(self._stream.encode(frame))
        except (av.error.FFmpegError, OSError) as error:
            raise self._give_up(error) from error
        self._last_tick = tick
        self.count += 1
        self._intact_bytes = self._file.size_bytes()
        if self.count > 1:
            self._file.commit()

    def _to_video_frame(self, image: Image) -> av.VideoFrame:
        """Check a frame, make its sides even and convert it to YUV 4:2:0."""
        width, height = self.frame_wh
        if getattr(image, "dtype", None) != np.uint8 or image.shape != (height, width, 3):
            given = type(image).__name__
            if isinstance(image, np.ndarray):
                sides = " x ".join(map(str, image.shape))
                given = f"{image.dtype} {sides} (height x width x channels)"
            raise OutputError(
                f"{self.path} takes uint8 frames of {width}x{height} px with 3 channels (BGR), "
                f"not {given}; resize or convert them, or write to another file"
            )
        right, bottom = self.encoded_wh[0] - width, self.encoded_wh[1] - height
        if right or bottom:
            image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)  # type: ignore[assignment]
        return self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )

    def _tick_of(self, time_s: float | None) -> int:
        if time_s is None:
            return self._last_tick + round(TICKS_PER_S / self._fps) if self.count else 0
        if not math.isfinite(time_s):
            raise OutputError(f"{self.path}: frame at time {time_s}; give seconds")
        if not self.count:
            self._first_s = time_s
        return max(round((time_s - self._first_s) * TICKS_PER_S), self._last_tick + 1)

    def _give_up(self, error: Exception) -> OutputError:
        """Save what can be saved; returns the error to raise."""
        self._is_open = False
        with suppress(av.error.FFmpegError, OSError):
            self._container.close()
        self._file.cut(self._intact_bytes)
        self.count = _read_back(self._file.working)[1] if self._intact_bytes else 0
        if self.count == 0:
            self._file.discard()
        return self._file.failed(error, self.count)

    def close(self) -> None:
        """Finish the file and check that it opens with the right size and count.

        Without a frame no file is left, and an older one stays. May be called again.

        Raises:
            OutputError: the file could not be finished, or is not what was written.
        """
        try:
            self._finish()
        finally:
            if self._sound is not None:
                self._sound.close()

    def _finish(self) -> None:
        if not self._is_open:
            return
        if self.count == 0:
            self._is_open = False
            with suppress(av.error.FFmpegError, OSError):
                self._container.close()
            self._file.discard()
            _log.warning("%s: no frame was written, so there is no video", self.path)
            return
        try:
            self._mux_sound(self._last_tick / TICKS_PER_S + 1 / self._fps)
            self._container.mux(self._stream.encode(None))
            self._container.close()
        except (av.error.FFmpegError, OSError) as error:
            raise self._give_up(error) from error
        self._is_open = False
        self._file.commit(final=True)
        if not self._file.is_file:
            return
        size, frames = _read_back(self._file.working)
        if size != self.encoded_wh or frames != self.count:
            raise OutputError(
                f"{self.path} should hold {self.count} frame(s) of {self.encoded_wh} px and "
                f"holds {frames} of {size}; check the disk and run again"
            )

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except OutputError as error:
            if kind is None:
                raise
            # The exception that ended the block matters more.
            _log.warning("%s", error)


def _choose_encoder(encoders: tuple[Encoder, ...], path: Path) -> Encoder:
    """Return the best installed encoder; warn if it is not the first."""
    installed = [encoder for encoder in encoders if _is_installed(encoder.name)]
    if not installed:
        names = " or ".join(encoder.name for encoder in encoders)
        raise OutputError(f"{path}: this PyAV has no {names}; install PyAV from its wheels (av)")
    if installed[0] is not encoders[0]:
        _log.warning(
            "%s is written with %s, which not every player and browser shows: this PyAV has no %s",
            path,
            installed[0].name,
            encoders[0].name,
        )
    return installed[0]


def _is_installed(name: str) -> bool:
    try:
        return av.codec.Codec(name, "w").is_encoder
    except av.codec.codec.UnknownCodecError:
        return False


def _read_back(path: Path) -> tuple[tuple[int, int] | None, int]:
    """Return size and number of frames of a video; None and 0 when it does not open."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            frames = sum(1 for packet in container.demux(stream) if packet.size)
            return (stream.width, stream.height), frames
    except (av.error.FFmpegError, IndexError):
        return None, 0
