"""Video formats that can be written, and what encodes them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import av
import av.codec

from siamtrack.errors import OutputError

_log = logging.getLogger(__name__)

TICKS_PER_S = 60_000
"""Time stamps are rounded to 1/60,000 s: whole ticks for the usual rates, and few enough of them
for MPEG-4."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder and its settings: no frame is held back, so that a kill loses none.

    Attributes:
        name: what FFmpeg calls it.
        options: its settings.
        bits_per_px: bit rate to ask for, per pixel and frame; 0 where the settings say how good
            the pictures shall be.
    """

    name: str
    options: dict[str, str]
    bits_per_px: float = 0.0


_X264 = Encoder("libx264", {"preset": "veryfast", "tune": "zerolatency", "crf": "20"})
_MPEG4 = Encoder("mpeg4", {}, bits_per_px=0.3)
_VP9 = Encoder(
    "libvpx-vp9",
    {"deadline": "realtime", "lag-in-frames": "0", "cpu-used": "8", "row-mt": "1", "crf": "24"},
)


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """A file format that can be played while it grows: every frame goes to the disk on its own.

    Attributes:
        name: what FFmpeg calls it.
        options: its settings.
        encoders: best first.
    """

    name: str
    options: dict[str, str]
    encoders: tuple[Encoder, ...]


# A cluster is readable once it is complete: 1 ms makes one of every frame.
_CLUSTERS = {"cluster_time_limit": "1", "flush_packets": "1"}

FORMATS = {
    # Grows as fragments, any number of which can be played, and ends as an ordinary file.
    ".mp4": VideoFormat(
        "mp4",
        {
            "movflags": "hybrid_fragmented+frag_every_frame",
            "video_track_timescale": str(TICKS_PER_S),
            "flush_packets": "1",
        },
        (_X264, _MPEG4),
    ),
    ".mkv": VideoFormat("matroska", _CLUSTERS, (_X264, _MPEG4)),
    ".webm": VideoFormat("webm", _CLUSTERS, (_VP9,)),
}


def choose_format(path: Path) -> VideoFormat:
    """The format that the suffix asks for.

    Raises:
        OutputError: unknown suffix.
    """
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        suffix = path.suffix or "a file without suffix"
        raise OutputError(
            f"{path}: videos cannot be written as {suffix}; give a name that ends in "
            f"{', '.join(FORMATS)}"
        )
    return found


def choose_encoder(video_format: VideoFormat, path: Path) -> Encoder:
    """The best encoder this installation of PyAV has for a format; warns if it is not the first.

    Raises:
        OutputError: it has none.
    """
    for encoder in video_format.encoders:
        if _is_installed(encoder.name):
            best = video_format.encoders[0]
            if encoder is not best:
                _log.warning(
                    "%s is written with %s, which not every player and browser shows: this PyAV "
                    "has no %s",
                    path,
                    encoder.name,
                    best.name,
                )
            return encoder
    names = " or ".join(encoder.name for encoder in video_format.encoders)
    raise OutputError(f"{path}: this PyAV has no {names}; install PyAV from its wheels (av)")


def _is_installed(name: str) -> bool:
    try:
        return av.codec.Codec(name, "w").is_encoder
    except av.codec.codec.UnknownCodecError:
        return False
