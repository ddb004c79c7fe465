"""Small clips of every kind of file in which a seek may go wrong, made by FFmpeg."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT, COUNT = 64, 48, 40


def picture(number: int, dtype: type = np.uint8) -> np.ndarray:
    """Noise that moves, so that no two frames are alike and all depend on those before."""
    noise = np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    image = np.roll(noise, 3 * number, axis=1) // 2
    image[:, : number + 1] = 250
    return image.astype(dtype) if dtype is np.uint8 else image[..., 0].astype(dtype) * 90 + 3000


def write(
    path: Path,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    *,
    gop: int = 12,
    pixel: str = "yuv420p",
    times: Callable[[int], int] = lambda number: number,
    **container_options: Any,
) -> Path:
    """Encode `COUNT` frames; `times` gives their stamps in 1/25 s."""
    with av.open(str(path), "w", **container_options) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel
        stream.gop_size, stream.thread_count = gop, 1
        stream.options = options or {}
        for number in range(COUNT):
            image = picture(number, np.uint16 if "16" in pixel else np.uint8)
            frame = av.VideoFrame.from_ndarray(image, "gray16le" if "16" in pixel else "bgr24")
            frame.pts = times(number)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def x264(**params: object) -> dict[str, str]:
    pairs = {"threads": 1, "scenecut": 0, **params}
    return {"x264-params": ":".join(f"{k.replace('_', '-')}={v}" for k, v in pairs.items())}


def with_edit_list(path: Path) -> Path:
    """Let an MP4 begin at its tenth frame: a media time in its edit list."""
    data = bytearray(write(path, options=x264(bframes=2)).read_bytes())
    at = data.index(b"elst")
    media_time = struct.unpack_from(">i", data, at + 16)[0]
    ticks = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    struct.pack_into(">i", data, at + 16, media_time + 10 * ticks // 25)
    path.write_bytes(data)
    return path


def turned(path: Path) -> Path:
    data = bytearray(write(path).read_bytes())
    turn = (0, 1 << 16, 0, -(1 << 16), 0, 0, HEIGHT << 16, 0, 1 << 30)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, *turn)
    path.write_bytes(data)
    return path


def cut_in_front(path: Path) -> Path:
    """An MPEG-TS that begins between two key frames, as a recorder writes it."""
    data = write(path, "mpeg2video", {"bf": "2", "flags": "-cgop"}).read_bytes()
    path.write_bytes(data[: 3 * 188] + data[len(data) // 5 // 188 * 188 :])
    return path


def with_a_hidden_frame(path: Path) -> Path:
    """VP8 with a frame that is only referred to: its bit `show_frame` is 0."""
    options = {"deadline": "realtime", "cpu-used": "8"}
    with av.open(str(write(path.with_stem("shown"), "libvpx", options))) as container:
        stream = container.streams.video[0]
        with av.open(str(path), "w") as copy:
            target = copy.add_stream_from_template(stream)
            for number, packet in enumerate(p for p in container.demux(stream) if p.size):
                data = bytearray(bytes(packet))
                data[0] &= 0xEF if number == 17 else 0xFF
                hidden = av.Packet(bytes(data))
                hidden.pts, hidden.dts, hidden.time_base = packet.pts, packet.dts, packet.time_base
                hidden.is_keyframe, hidden.stream = packet.is_keyframe, target
                copy.mux(hidden)
    return path


def pictures(path: Path) -> Path:
    path.mkdir()
    for number in range(12):
        with av.open(str(path / f"{number}.png"), "w", format="image2") as container:
            stream: Any = container.add_stream("png", rate=25)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), "bgr24")))
    (path / "4.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    return path


KINDS: dict[str, Callable[[Path], Path]] = {
    "b_frames.mp4": lambda path: write(path, options=x264(bframes=3)),
    "variable_rate.mkv": lambda path: write(
        path, options=x264(bframes=2), times=lambda k: k + k * k // 9
    ),
    "late.mp4": lambda path: write(path, options=x264(bframes=2), times=lambda k: 60 + k),
    "vp9.webm": lambda path: write(path, "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "hidden.webm": with_a_hidden_frame,
    "av1.mkv": lambda path: write(path, "libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}),
    "hevc_open.mkv": lambda path: write(
        path,
        "libx265",
        {"x265-params": "open-gop=1:bframes=3:pools=1:frame-threads=1:log-level=none"},
    ),
    "motion_jpeg.avi": lambda path: write(path, "mjpeg", pixel="yuvj420p"),
    "xvid.avi": lambda path: write(path, "mpeg4", {"bf": "2"}),
    "an_hour_late.ts": lambda path: write(
        path, options=x264(bframes=2), times=lambda k: 90_000 + k
    ),
    "open.ts": lambda path: write(path, "mpeg2video", {"bf": "2", "flags": "-cgop"}),
    "cut.ts": cut_in_front,
    "open.mkv": lambda path: write(path, options=x264(bframes=3, open_gop=1)),
    "intra_refresh.mkv": lambda path: write(path, options=x264(bframes=0, intra_refresh=1)),
    "intra_refresh.ts": lambda path: write(path, options=x264(bframes=0, intra_refresh=1)),
    "edit_list.mp4": with_edit_list,
    "fragments.mp4": lambda path: write(
        path, options={"movflags": "frag_keyframe+empty_moov"}, gop=10
    ),
    "raw.h264": lambda path: write(path, options=x264(bframes=2)),
    "animation.gif": lambda path: write(path, "gif", pixel="rgb8"),
    "deep.mkv": lambda path: write(path, "ffv1", pixel="gray16le", gop=5),
    "turned.mp4": turned,
    "pictures": pictures,
}
