"""Rates and times: bare streams, clocks that start anew, late beginnings, live cameras, streams."""

from __future__ import annotations

import http.server
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from siamtrack.errors import ConfigError, VideoError
from siamtrack.video.frames import Frame
from siamtrack.video.random_access import VideoFile
from siamtrack.video.source import Source, open_source
from siamtrack.video.times import ArrivalTimes, StampTimes

WIDTH, HEIGHT, BLOCK, BITS = 96, 64, 16, 6
COUNT = 24


def numbered(k: int, wh: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """A picture that says in black and white which frame it is."""
    noise = np.random.default_rng(k).integers(90, 166, (wh[1], wh[0], 3), dtype=np.uint8)
    image = cv2.GaussianBlur(noise, (3, 3), 0)
    for bit in range(BITS):
        image[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (k >> bit & 1)
    return image


def number_in(image: np.ndarray) -> int:
    centers = BLOCK // 2 + BLOCK * np.arange(BITS)
    return sum(int(image[BLOCK // 2, x].mean() > 128) << bit for bit, x in enumerate(centers))


def encode(
    path: Path,
    codec: str = "libx264",
    fps: int = 30,
    *,
    count: int = COUNT,
    options: dict[str, str] | None = None,
    wh: tuple[int, int] = (WIDTH, HEIGHT),
    form: str | None = None,
) -> Path:
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height, stream.gop_size = *wh, 12
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for k in range(count):
            frame = av.VideoFrame.from_ndarray(numbered(k, wh), format="bgr24")
            frame.pts, frame.time_base = k, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(
    given: Path,
    path: Path,
    shift_s: float = 0.0,
    change: Callable[[int, av.Packet], None] = lambda k, packet: None,
) -> Path:
    """Copy a clip into another container, its clock ahead by `shift_s`."""
    with (
        av.open(str(given)) as source,
        av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for k, packet in enumerate(p for p in source.demux(video=0) if p.size):
            shift = round(shift_s / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            change(k, packet)
            packet.stream = stream
            target.mux(packet)
    return path


def read(source: object, **options: object) -> tuple[Source, list[Frame]]:
    with open_source(source, **options) as opened:
        return opened, list(opened)


def times_of(frames: Sequence[Frame]) -> list[float]:
    return [frame.time_s for frame in frames]


BARE = [
    ("a.h264", "libx264", 60, {}),
    ("a.hevc", "libx265", 50, {"x265-params": "log-level=none"}),
    ("a.m4v", "mpeg4", 15, {}),
    ("a.m2v", "mpeg2video", 30, {}),
]


@pytest.mark.parametrize(("name", "codec", "fps", "options"), BARE)
def test_a_bare_stream_has_the_rate_in_its_header(
    tmp_path: Path, name: str, codec: str, fps: int, options: dict[str, str]
) -> None:
    path = encode(
        tmp_path / name, codec, fps, options=options, form="m4v" if "m4v" in name else None
    )
    source, frames = read(path)
    assert source.fps == fps
    np.testing.assert_allclose(times_of(frames), np.arange(COUNT) / fps, atol=1e-6)
    assert [number_in(f.image) for f in frames] == list(range(COUNT))
    clip = VideoFile(path)
    assert (len(clip), clip.fps) == (COUNT, fps)
    assert number_in(clip.read(COUNT - 2)) == COUNT - 2


def test_a_rate_that_nothing_states_is_a_guess_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = encode(tmp_path / "a.mjpeg", "mjpeg", 10, form="mjpeg")
    source, frames = read(path)
    assert source.fps == 25
    assert "a.mjpeg states no frame rate; 25 frames per second" in caplog.text
    assert "--fps" in caplog.text
    assert VideoFile(path).fps is None
    caplog.clear()
    source, frames = read(path, fps=10)
    assert (source.fps, frames[-1].time_s) == (10, pytest.approx((COUNT - 1) / 10))
    assert not caplog.text


def test_pictures_state_no_rate_either(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for k in range(2):
        cv2.imwrite(str(tmp_path / f"{k}.png"), numbered(k))
    read(tmp_path)
    assert "states no frame rate; 30 frames per second" in caplog.text
    caplog.clear()
    assert times_of(read(tmp_path, fps=10)[1]) == [0, 0.1]
    assert not caplog.text


@pytest.mark.parametrize("name", ["a.mp4", "a.h264"])
def test_a_rate_that_is_given_replaces_the_one_stated(tmp_path: Path, name: str) -> None:
    source, frames = read(encode(tmp_path / name), fps=120)
    assert source.fps == 120
    np.testing.assert_allclose(times_of(frames), np.arange(COUNT) / 120)
    assert source.frame_count in (COUNT, None)


@pytest.mark.parametrize("value", ["30", float("nan"), float("inf"), True, 0, -1.0])
@pytest.mark.parametrize("name", ["fps", "timeout_s"])
def test_what_is_no_number_is_refused(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name} is .*; give a positive number"):
        open_source(tmp_path, **{name: value})


@pytest.mark.parametrize("order", ["hour-zero", "zero-hour", "hour-zero-hour", "zero-zero"])
def test_a_clock_that_starts_anew_goes_on(tmp_path: Path, order: str) -> None:
    clip = encode(tmp_path / "clip.mp4")
    parts = {
        "zero": remux(clip, tmp_path / "zero.ts").read_bytes(),
        "hour": remux(clip, tmp_path / "hour.ts", 3600).read_bytes(),
    }
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(parts[part] for part in order.split("-")))
    count = COUNT * len(order.split("-"))
    # OpenCV counts the frames as FFmpeg does.
    capture, shown = cv2.VideoCapture(str(joined)), []
    while (picture := capture.read()[1]) is not None:
        shown.append(number_in(picture))
    assert shown == [k % COUNT for k in range(count)]
    source, frames = read(joined)
    assert [number_in(f.image) for f in frames] == shown
    assert source.unreadable == 0
    np.testing.assert_allclose(times_of(frames), np.arange(count) / 30, atol=0.001)
    assert source.frame_count is None or source.frame_count <= count
    assert [number_in(image) for image in VideoFile(joined).iterate(range(count))] == shown


def test_a_pause_in_a_recording_is_kept(tmp_path: Path) -> None:
    def pause(k: int, packet: av.Packet) -> None:
        packet.pts += round(3600 / packet.time_base) * (k > 0)
        packet.dts = packet.pts

    clip = encode(tmp_path / "clip.mp4", options={"bf": "0"}, count=3)
    _, frames = read(remux(clip, tmp_path / "pause.mkv", change=pause))
    assert times_of(frames) == pytest.approx([0, 3600.033, 3600.067], abs=0.001)


@pytest.mark.parametrize("name", ["a.mkv", "a.nut", "a.ts", "a.flv", "a.mp4"])
def test_a_late_first_stamp_is_no_loss(tmp_path: Path, name: str) -> None:
    source, frames = read(remux(encode(tmp_path / "clip.mp4"), tmp_path / name, 5))
    assert (len(frames), source.unreadable) == (COUNT, 0)
    assert source.frame_count == pytest.approx(COUNT, abs=2)
    assert times_of(frames)[-1] == pytest.approx((COUNT - 1) / 30, abs=0.001)


def test_repeated_frames_of_avi_are_not_missing(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.avi", "mpeg4", count=10)
    late = remux(clip, tmp_path / "late.avi", 5)
    source, frames = read(late)
    assert (len(frames), source.unreadable) == (10, 0)
    late.write_bytes(late.read_bytes()[:-3000])  # the index, and the last frames
    source, frames = read(late)
    assert len(frames) + source.unreadable == 10


def test_repeats_at_the_end_of_avi_are_not_missing(tmp_path: Path) -> None:
    """Pictures of 25 a second in a file of 50: every second chunk is empty, the last one too."""
    clip = encode(tmp_path / "clip.avi", "mjpeg", fps=25, count=10)
    doubled = tmp_path / "doubled.avi"
    with av.open(str(clip)) as source, av.open(str(doubled), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.time_base = Fraction(1, 50)
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts = packet.dts = 2 * packet.dts
                packet.duration, packet.time_base, packet.stream = 2, Fraction(1, 50), stream
                target.mux(packet)
    opened, frames = read(doubled)
    assert (len(frames), opened.unreadable) == (10, 0)
    data = doubled.read_bytes()
    header = data.index(b"movi")  # the pictures follow it
    doubled.write_bytes(data[: (header + len(data)) // 2])
    opened, frames = read(doubled)
    assert opened.unreadable > 0


@pytest.mark.parametrize("name", ["clip.avi", "clip.mp4", "clip.mkv"])
def test_tags_may_have_any_bytes(tmp_path: Path, name: str) -> None:
    """Older programs write titles in the encoding of their country."""
    path = tmp_path / name
    with (
        av.open(str(encode(tmp_path / "a.mp4", "mpeg4", count=3))) as source,
        av.open(str(path), "w") as to,
    ):
        to.metadata["title"] = "Koeln"
        stream = to.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                to.mux(packet)
    data = path.read_bytes()
    assert b"Koeln" in data
    path.write_bytes(data.replace(b"Koeln", b"K\xf6ln "))
    source_, frames = read(path)
    assert (len(frames), source_.unreadable, len(VideoFile(path))) == (3, 0, 3)


def test_frames_of_avi_are_shown_in_order(tmp_path: Path) -> None:
    # With B-frames, which have stamps in coding order there.
    _, frames = read(encode(tmp_path / "clip.avi"))
    np.testing.assert_allclose(times_of(frames), np.arange(COUNT) / 30, atol=0.001)
    assert [number_in(f.image) for f in frames] == list(range(COUNT))


def test_other_streams_do_not_count_frames(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for k in range(COUNT):
            frame = av.VideoFrame.from_ndarray(numbered(k), format="bgr24")
            frame.pts = k
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for k in range(20):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
            samples.rate, samples.pts = 8000, k * 8000
            container.mux(sound.encode(samples))
    source, frames = read(path)
    assert (len(frames), source.unreadable) == (COUNT, 0)
    assert source.frame_count in (COUNT, None)


def test_frames_that_share_a_stamp_all_come(tmp_path: Path) -> None:
    def coarse(k: int, packet: av.Packet) -> None:
        packet.time_base, packet.duration = Fraction(1, 10), 1
        packet.pts = packet.dts = k // 3

    clip = encode(tmp_path / "clip.mp4", options={"bf": "0"})
    path = remux(clip, tmp_path / "double.mkv", change=coarse)
    _, frames = read(path)
    np.testing.assert_allclose(times_of(frames), np.arange(COUNT) / 30, atol=0.001)
    in_set = VideoFile(path)
    assert [number_in(i) for i in in_set.iterate(range(COUNT))] == list(range(COUNT))
    assert number_in(in_set.read(13)) == 13


def test_stamps_that_lie_closer_than_the_rate_do_not_restart_the_clock() -> None:
    time_of = StampTimes(10.0, new_clock_s=10.0)
    stamps = [5.0, 5.0, 5.02, 5.2, None, 5.4, 3.0, 3.1, 99.0]
    expected = [0, 0.1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert [time_of(stamp) for stamp in stamps] == pytest.approx(expected)


def test_times_of_arrival_count_from_the_first_frame() -> None:
    ticks = iter([100.0, 100.5, 102.0])
    time_of = ArrivalTimes(lambda: next(ticks))
    assert [time_of(stamp) for stamp in (None, 0.04, 0.08)] == [0.0, 0.5, 2.0]


# A camera behind HTTP


@contextmanager
def camera(parts: Sequence[bytes], *, length: bool = True, end: bytes = b"") -> Iterator[str]:
    """Address that sends JPEG pictures as multipart/x-mixed-replace."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
            self.end_headers()
            for part in parts:
                size = b"Content-Length: %d\r\n" % len(part) if length else b""
                self.wfile.write(b"--part\r\nContent-Type: image/jpeg\r\n" + size + b"\r\n")
                self.wfile.write(part + b"\r\n")
            self.wfile.write(end)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/cam"
        finally:
            server.shutdown()
            thread.join(10)


def jpegs(count: int) -> list[bytes]:
    return [cv2.imencode(".jpg", numbered(k))[1].tobytes() for k in range(count)]


@pytest.mark.parametrize(
    ("length", "end"), [(True, b""), (True, b"--part--\r\n"), (False, b"--part--\r\n")]
)
def test_a_camera_behind_http_may_end(length: bool, end: bytes) -> None:
    with camera(jpegs(8), length=length, end=end) as address:
        source, frames = read(address, live=False)
    assert [number_in(frame.image) for frame in frames] == list(range(8))
    assert source.unreadable == 0
    # By the clock, and not at the 25 frames per second that FFmpeg makes up.
    assert source.fps is None
    assert times_of(frames)[-1] != pytest.approx(7 / 25, abs=1e-6)


def test_a_camera_behind_http_is_live_and_its_first_frame_comes() -> None:
    with camera(jpegs(1)) as address:
        for live in (None, True):
            source, frames = read(address, live=live)
            assert source.is_live
            assert [number_in(frame.image) for frame in frames] == [0]


def test_a_camera_that_ends_within_a_picture_broke_off() -> None:
    *whole, last = jpegs(4)
    with camera(whole, end=b"--part\r\nContent-Length: 9999\r\n\r\n" + last[:300]) as address:
        with pytest.raises(VideoError, match="broke off after 3 frame"):
            read(address, live=False)


# Several video streams


def with_streams(path: Path, *streams: tuple[str, tuple[int, int], int, int]) -> Path:
    """Streams of codec, size, number of frames and disposition."""
    with av.open(str(path), "w") as container:
        made = []
        for codec, wh, count, disposition in streams:
            stream = container.add_stream(codec, rate=30)
            stream.width, stream.height = wh
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.disposition = disposition
            made.append((stream, wh, count))
        for k in range(max(count for _, _, count in made)):
            for stream, wh, count in made:
                if k < count:
                    frame = av.VideoFrame.from_ndarray(numbered(k, wh), format="bgr24")
                    frame.pts, frame.time_base = k, Fraction(1, 30)
                    container.mux(stream.encode(frame))
        for stream, _, _ in made:
            container.mux(stream.encode(None))
    return path


DEFAULT, COVER = 1, 1024
LARGE = (2 * WIDTH, 2 * HEIGHT)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("disposition", [DEFAULT, DEFAULT | COVER])
def test_a_still_is_not_the_film(
    tmp_path: Path, name: str, disposition: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = with_streams(
        tmp_path / name, ("mjpeg", LARGE, 1, disposition), ("libx264", (WIDTH, HEIGHT), 10, 0)
    )
    source, frames = read(path)
    assert (source.frame_wh, len(frames)) == ((WIDTH, HEIGHT), 10)
    assert "several video streams" not in caplog.text
    assert len(VideoFile(path)) == 10


def test_one_of_two_films_is_chosen_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = with_streams(
        tmp_path / "two.mkv",
        ("libx264", LARGE, 10, 0),
        ("libx264", (WIDTH, HEIGHT), 10, DEFAULT),
    )
    with caplog.at_level(logging.WARNING):
        source, _ = read(path)
    assert source.frame_wh == (WIDTH, HEIGHT)
    assert "0 (h264, 192x128), 1 (h264, 96x64); 1 is read (choose with --stream" in caplog.text
    caplog.clear()
    source, frames = read(path, stream=0)
    assert (source.frame_wh, len(frames), caplog.text) == (LARGE, 10, "")


@pytest.mark.parametrize("number", [2, -1, 1.0])
def test_a_stream_that_is_not_there(tmp_path: Path, number: object) -> None:
    with pytest.raises(
        ConfigError, match=r"no video stream 2; it has 1|stream is .*; give the num"
    ):
        read(encode(tmp_path / "a.mp4", count=2), stream=number)
