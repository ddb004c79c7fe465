"""Frames by number: the same as in order, in every kind of file and from any direction."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from siamtrack.errors import DatasetError, FrameNumberError, NotNumberedError, VideoError
from siamtrack.video import random_access
from siamtrack.video.frames import Frame
from siamtrack.video.random_access import ClipFrames, VideoFile
from siamtrack.video.source import open_source

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


def same(given: Frame, expected: Frame) -> bool:
    return (
        given.index == expected.index
        and given.time_s == expected.time_s
        and given.picture == expected.picture
        and given.image.tobytes() == expected.image.tobytes()
    )


@pytest.mark.parametrize("name", KINDS)
def test_frames_by_number_are_those_that_come_in_order(tmp_path: Path, name: str) -> None:
    path = KINDS[name](tmp_path / name)
    with open_source(path) as source:
        in_order = [next(source)]
        assert len(in_order) + len([in_order.append(frame) for frame in source]) == len(source)
        assert len(source) > 10
        numbers = np.random.default_rng(3).integers(0, len(source), 20).tolist()
        numbers += [*range(6, min(20, len(source))), *range(len(source) - 1, -1, -1), 0]
        wrong = [number for number in numbers if not same(source[number], in_order[number])]
        assert wrong == []
        if isinstance(source.numbered, ClipFrames):
            counted = {"xvid.avi", "raw.h264"}
            assert source.numbered.index.is_searchable == (name not in counted)


def with_false_key_frames(path: Path) -> Path:
    """A file that calls every frame a key frame, while only the first one is."""
    with av.open(str(write(path.with_stem("true"), "mpeg4", gop=100))) as container:
        stream = container.streams.video[0]
        with av.open(str(path), "w") as copy:
            target = copy.add_stream_from_template(stream)
            for packet in container.demux(stream):
                if packet.size:
                    packet.is_keyframe = True
                    packet.stream = target
                    copy.mux(packet)
    return path


def test_fingerprints_find_key_frames_that_are_none(tmp_path: Path) -> None:
    path = with_false_key_frames(tmp_path / "a.mp4")
    with open_source(path) as source:
        in_order = list(source)
        frames = source.numbered
        assert isinstance(frames, ClipFrames)
        assert len(frames.index.starts) == COUNT
        assert not same(source[14], in_order[14])
        assert list(frames.take_fingerprints()) == [*range(1, COUNT + 1)]
        wrong = [
            n for n in (14, 30, 26, 38, *range(39, -1, -1)) if not same(source[n], in_order[n])
        ]
        assert wrong == []
        assert frames.index.is_searchable
        assert 0 in frames.index.starts
        assert len(frames.index.starts) < COUNT - 10


@pytest.mark.parametrize("with_pass", [False, True])
def test_damage_makes_the_frames_be_counted(tmp_path: Path, with_pass: bool) -> None:
    path = write(tmp_path / "a.mkv", "mpeg4", gop=5)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][20]
        start = packet.pos + 8
    data[start : start + packet.size // 2] = bytes(packet.size // 2)
    path.write_bytes(data)
    with open_source(path) as source:
        frames = source.numbered
        assert isinstance(frames, ClipFrames)
        assert len(frames) == COUNT
        if with_pass:
            list(frames.take_fingerprints())
        else:
            source[22]
        in_order = list(source)
        assert 0 < source.unreadable == COUNT - len(in_order)
        assert len(source) == len(in_order)
        assert all(same(frame, in_order[-1 - k]) for k, frame in enumerate(reversed(source)))
    with open_source(path) as source:
        list(source)
        assert len(source) == len(in_order)  # It knows from reading.


def test_reading_backwards_decodes_a_group_once_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.mp4", gop=10)
    decoded = []
    keep = ClipFrames._keep
    monkeypatch.setattr(
        ClipFrames, "_keep", lambda self, n, frame: (decoded.append(n), keep(self, n, frame))
    )
    frame_bytes = WIDTH * HEIGHT * 3 // 2
    monkeypatch.setattr(random_access, "CACHE_BYTES", 30 * frame_bytes)
    with open_source(path) as source:
        assert [frame.index for frame in reversed(source)] == [*range(COUNT - 1, -1, -1)]
        assert isinstance(source.numbered, ClipFrames)
        assert 10 < source.numbered.kept_bytes <= 30 * frame_bytes
    assert len(decoded) == COUNT


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4")
    with open_source(path) as source:
        assert bool(source)
        assert same(source[-1], source[COUNT - 1])
        with pytest.raises(
            FrameNumberError, match=r"no frame 40 in a\.mp4; it has 40, counted from 0"
        ):
            source[COUNT]
        with pytest.raises(IndexError, match="no frame -41"):
            source[-COUNT - 1]
        with pytest.raises(NotNumberedError, match=r"slice\(2, 5, None\) is no number of a frame"):
            source[2:5]
    with pytest.raises(VideoError, match=r"a\.mp4 is closed"):
        source[0]


def test_sources_that_only_come_in_order_say_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4")
    with open_source(path, live=True) as source, pytest.raises(NotNumberedError, match="is live"):
        source[0]
    with open_source([path, path]) as source:
        with pytest.raises(TypeError, match="several recordings, whose frames come in order only"):
            len(source)
        assert len(list(source)) == 2 * COUNT


def test_a_file_that_was_cut_off_meanwhile_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv")
    with open_source(path) as source:
        assert len(source) == COUNT
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(VideoError, match=r"frame 30 of a\.mkv cannot be decoded"):
            source[30]
    with pytest.raises(DatasetError, match="no frame 30"):
        VideoFile(path).read(30)


def test_a_picture_that_is_gone_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = pictures(tmp_path / "folder")
    with open_source(folder) as source:
        assert len(source) == 12  # that one is damaged shows when it is read
        assert source[5].picture == "5.png"
        assert source[4].picture == "5.png"
        assert len(source) == 11
        (folder / "11.png").unlink()
        with pytest.raises(VideoError, match=r"frame 10 of folder cannot be read: .*11\.png"):
            source[10]
    assert "4.png" in caplog.text
