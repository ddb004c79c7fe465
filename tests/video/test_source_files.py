"""Video files: order, time stamps, rotation, and every way in which a file can be bad."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from siamtrack.errors import ConfigError, VideoError
from siamtrack.video.decode import open_container
from siamtrack.video.frames import Frame
from siamtrack.video.source import open_source

TICK = Fraction(1, 1000)
WIDTH, HEIGHT = 96, 64
BITS, BLOCK = 6, 16


def numbered(k: int) -> np.ndarray:
    """A picture that says in black and white which frame it is, above noise that takes bytes."""
    image = np.random.default_rng(k).integers(90, 166, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for bit in range(BITS):
        image[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (k >> bit & 1)
    return image


def number_in(image: np.ndarray) -> int:
    """Which frame a picture is; survives lossy coding."""
    centers = BLOCK // 2 + BLOCK * np.arange(BITS)
    return sum(int(image[BLOCK // 2, x].mean() > 128) << bit for bit, x in enumerate(centers))


def write_clip(
    path: Path,
    times_ms: Sequence[int] = tuple(range(0, 1200, 40)),
    *,
    picture: Callable[[int], np.ndarray] = numbered,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    degrees: float | None = None,
    gop: int = 10,
) -> Path:
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        height, width = picture(0).shape[:2]
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = TICK
        stream.gop_size = gop
        if degrees is not None:
            stream.set_display_rotation(degrees)
        for k, time_ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(picture(k), format="bgr24")
            frame.pts, frame.time_base = time_ms, TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def frames_of(path: Path | str, **options: float) -> list[Frame]:
    with open_source(path, **options) as source:
        return list(source)


def cut(path: Path, share: float) -> Path:
    """The first part of a file, as an aborted copy leaves it."""
    data = path.read_bytes()
    short = path.with_stem("cut")
    short.write_bytes(data[: int(len(data) * share)])
    return short


def whole_packets(path: Path) -> int:
    """Packets that can be read in full."""
    with av.open(str(path)) as container:
        return sum(1 for p in container.demux(video=0) if p.size and not p.is_corrupt)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "b:1 #é[0]%d.mp4"])
def test_delivers_every_frame_in_order(tmp_path: Path, name: str) -> None:
    times = range(0, 1200, 40)
    path = write_clip(tmp_path / name, times)
    with open_source(path) as source:
        assert (source.name, source.frame_wh) == (name, (WIDTH, HEIGHT))
        assert source.fps == pytest.approx(25)
        assert source.frame_count == len(times)
        assert not source.is_live
        frames = list(source)
    assert [number_in(frame.image) for frame in frames] == list(range(len(times)))
    assert [frame.index for frame in frames] == list(range(len(times)))
    np.testing.assert_allclose([f.time_s for f in frames], np.array(times) / 1000, atol=1e-3)
    assert (source.unreadable, source.dropped) == (0, 0)


def test_a_name_that_looks_like_an_address_is_still_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "http:clip.mp4", [0, 40])
    monkeypatch.chdir(tmp_path)
    assert len(frames_of("http:clip.mp4")) == 2


def test_frames_are_bgr_contiguous_and_the_callers_own(tmp_path: Path) -> None:
    def orange(_: int) -> np.ndarray:
        return np.full((50, 70, 3), (20, 130, 240), dtype=np.uint8)

    path = write_clip(tmp_path / "color.mp4", picture=orange)
    frames = frames_of(path)
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(frames[0].image.mean(axis=(0, 1)), (20, 130, 240), atol=6)
    kept = frames[1].image.copy()
    frames[0].image[:] = 0
    np.testing.assert_array_equal(frames[1].image, kept)


def test_variable_frame_rate_keeps_its_time_stamps(tmp_path: Path) -> None:
    times_ms = [0, 13, 50, 51, 400, 1000, 1033, 2500]
    frames = frames_of(write_clip(tmp_path / "vfr.mp4", times_ms))
    np.testing.assert_allclose([f.time_s for f in frames], np.array(times_ms) / 1000, atol=1e-9)


def test_time_starts_at_the_first_frame_of_a_recording_that_starts_late(tmp_path: Path) -> None:
    frames = frames_of(write_clip(tmp_path / "late.mkv", [5000, 5040, 5200]))
    np.testing.assert_allclose([f.time_s for f in frames], [0.0, 0.04, 0.2], atol=1e-9)


def test_a_stream_without_time_stamps_gets_those_of_its_rate(tmp_path: Path) -> None:
    frames = frames_of(write_clip(tmp_path / "bare.h264"))
    steps = np.diff([f.time_s for f in frames])
    assert frames[0].time_s == 0
    np.testing.assert_allclose(steps, steps[0])
    assert steps[0] > 0


def test_time_never_goes_back_where_two_recordings_are_joined(tmp_path: Path) -> None:
    one = write_clip(tmp_path / "one.ts", [0, 40, 80, 120])
    (tmp_path / "both.ts").write_bytes(one.read_bytes() * 2)
    frames = frames_of(tmp_path / "both.ts")
    assert len(frames) > 4
    assert (np.diff([f.time_s for f in frames]) > 0).all()
    assert frames[-1].time_s < 1


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_applied_as_opencv_does(tmp_path: Path, degrees: int) -> None:
    def corner(_: int) -> np.ndarray:
        image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
        image[: HEIGHT // 2, : WIDTH // 2] = (0, 0, 255)
        return image

    path = write_clip(tmp_path / "turned.mp4", picture=corner, degrees=degrees)
    expected = cv2.VideoCapture(str(path)).read()[1]
    with open_source(path) as source:
        image = next(source).image
        assert source.frame_wh == (image.shape[1], image.shape[0])
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 3


def test_a_slanted_display_matrix_leaves_the_picture_alone(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "slanted.mp4", degrees=30)
    assert frames_of(path)[0].image.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("name", "options"),
    [("fast.mp4", {"movflags": "faststart"}), ("cut.mkv", {}), ("cut.flv", {})],
)
def test_a_truncated_file_gives_what_there_is_and_counts_the_rest(
    tmp_path: Path, name: str, options: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    path = cut(write_clip(tmp_path / name, options=options), 0.6)
    readable = whole_packets(path)
    assert 0 < readable < 30
    with caplog.at_level(logging.WARNING), open_source(path) as source:
        frames = list(source)
    assert [number_in(f.image) for f in frames] == list(range(len(frames)))
    assert len(frames) == readable
    # A container without a frame count tells its duration only.
    slack = 0 if name.endswith("mp4") else 3
    assert abs(source.unreadable - (30 - readable)) <= slack
    assert f"{source.unreadable} frame(s) could not be read" in caplog.text
    assert caplog.text.count("could not be read") == 1


def test_a_truncated_file_with_sound_is_noticed_too(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    write_with_sound(path, video_s=1.2, sound_s=1.2)
    with open_source(cut(path, 0.5)) as source:
        delivered = len(list(source))
    assert source.unreadable == pytest.approx(30 - delivered, abs=2)


def test_sound_that_outlasts_the_pictures_is_no_loss(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    write_with_sound(path, video_s=1.2, sound_s=4.0)
    with open_source(path) as source:
        assert len(list(source)) == 30
    assert source.unreadable == 0


def write_with_sound(path: Path, *, video_s: float, sound_s: float) -> None:
    rate, chunk = 8000, 800
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.max_b_frames = 0
        sound = container.add_stream("pcm_s16le", rate=rate)
        sound.layout = "mono"
        for k in range(round(video_s * 25)):
            frame = av.VideoFrame.from_ndarray(numbered(k), format="bgr24")
            frame.pts = k
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for k in range(round(sound_s * rate / chunk)):
            silence = np.zeros((1, chunk), dtype=np.int16)
            samples = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
            samples.rate, samples.pts = rate, k * chunk
            container.mux(sound.encode(samples))
        container.mux(sound.encode(None))


def test_corrupt_packets_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", gop=5)
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        hit = [(p.pos, p.size) for p in packets[11:14]]
    data = bytearray(path.read_bytes())
    for position, size in hit:
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)
    with open_source(path) as source:
        frames = list(source)
    assert source.unreadable >= 1
    assert len(frames) + source.unreadable >= 30
    # Groups of five pictures stand alone: only the two that were hit may look wrong.
    for frame in frames:
        number = round(frame.time_s / 0.04)
        assert 10 <= number < 20 or number_in(frame.image) == number
    assert frames[-1].time_s == pytest.approx(29 * 0.04)


def test_frames_hidden_by_an_edit_list_are_not_missing(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mp4", gop=30)
    trimmed = tmp_path / "trimmed.mp4"
    fast = {"movflags": "faststart"}
    with av.open(str(whole)) as given, av.open(str(trimmed), "w", options=fast) as taken:
        stream = taken.add_stream_from_template(given.streams.video[0])
        shift = round(0.4 / given.streams.video[0].time_base)
        for packet in given.demux(video=0):
            if packet.size:
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = stream
                taken.mux(packet)
    with open_source(trimmed) as source:
        numbers = [number_in(f.image) for f in source]
    assert numbers == list(range(10, 30))
    assert source.unreadable == 0
    with open_source(cut(trimmed, 0.8)) as source:
        delivered = len(list(source))
    assert 0 < delivered < 20
    assert source.unreadable == 20 - delivered


def test_frames_lost_to_read_errors_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "clip.mp4", gop=1)

    class Refusing:
        """A container on a disk that gives five more packets between two failures, ten in all."""

        def __init__(self, container: av.container.InputContainer) -> None:
            self._container = container
            self._left = 10

        def __getattr__(self, name: str) -> object:
            return getattr(self._container, name)

        def demux(self) -> Iterator[av.Packet]:
            for packet in islice(self._container.demux(), min(5, self._left)):
                self._left -= 1
                yield packet
            raise av.error.OSError(5, "Input/output error")

    def open_refusing(*given: object, **options: object) -> tuple[object, object]:
        container, stream = open_container(*given, **options)
        return Refusing(container), stream

    monkeypatch.setattr("siamtrack.video.source.open_container", open_refusing)
    with open_source(path) as source:
        assert [number_in(frame.image) for frame in source] == list(range(10))
    assert source.unreadable == 20


def with_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def song_with_cover(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000)
        sound.layout = "mono"
        silence = np.zeros((1, 800), dtype=np.int16)
        samples = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
        samples.rate = 8000
        container.mux(sound.encode(samples))
    return path


def unknown_codec(path: Path) -> Path:
    data = write_clip(path).read_bytes()
    path.write_bytes(data.replace(b"V_MPEG4/ISO/AVC", b"V_SIAM4/ISO/AVC"))
    return path


def only_broken_packets(path: Path) -> Path:
    write_clip(path, [0, 40])
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size in places:
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)
    return path


def no_frames(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.start_encoding()
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: d / "nowhere.mp4", "nowhere.mp4 cannot be opened .*No such file.*give"),
        (lambda d: with_text(d / "x.mp4", ""), "cannot be opened as a video.*player"),
        (lambda d: with_text(d / "x.mp4", "hello\n" * 99), "cannot be opened as a video"),
        (lambda d: with_text(d / "notes.txt", "hello\n" * 99), "notes.txt holds no video; give"),
        (lambda d: song_with_cover(d / "song.wav"), "song.wav holds no video"),
        (lambda d: unknown_codec(d / "odd.mkv"), "odd.mkv .*no decoder.*convert"),
        (lambda d: no_frames(d / "none.mkv"), "none.mkv cannot be opened as a video"),
        (lambda d: only_broken_packets(d / "bad.mp4"), "holds no frame that can be read"),
        (lambda d: cut(write_clip(d / "late.mp4"), 0.6), "damaged, unfinished"),
    ],
    ids=["missing", "empty", "text", "txt", "sound", "codec", "zero", "broken", "unfinished"],
)
def test_what_is_no_video_is_refused_when_opened(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(VideoError, match=message) as caught:
        open_source(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("source", [None, 1.5, True])
def test_a_source_of_the_wrong_type_is_refused(source: object) -> None:
    with pytest.raises(ConfigError, match="give the number of a camera, a path or an address"):
        open_source(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["timeout_s", "fps"])
def test_invalid_options_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option} is 0; give a positive number"):
        open_source("clip.mp4", **{option: 0})


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(VideoError, match="source is empty"):
        open_source(" ")


def test_a_closed_source_says_so(tmp_path: Path) -> None:
    with open_source(write_clip(tmp_path / "clip.mp4")) as source:
        next(source)
    source.close()
    with pytest.raises(VideoError, match=r"clip.mp4 is closed; open it again"):
        next(source)


def test_an_exhausted_source_stays_exhausted(tmp_path: Path) -> None:
    with open_source(write_clip(tmp_path / "clip.mp4", [0, 40])) as source:
        assert len(list(source)) == 2
        assert list(source) == []
