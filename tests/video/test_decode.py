"""Frames by number, of image folders and of clips."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import av.filter
import cv2
import numpy as np
import pytest
from av.container import InputContainer

from siamtrack.errors import DatasetError
from siamtrack.utils.images import list_images
from siamtrack.utils.levels import Levels
from siamtrack.video.decode import FrameConverter
from siamtrack.video.random_access import ImageFrames, VideoFile
from siamtrack.video.source import open_source
from siamtrack.video.video_writer import VideoSink

Writer = Callable[..., Path]


def gray_of(picture: np.ndarray) -> float:
    return float(picture.mean())


# Pictures


def test_picture_frames(tmp_path: Path, write_pictures: Callable[..., None]) -> None:
    write_pictures(tmp_path, 4)
    frames = ImageFrames(tmp_path, list_images(tmp_path))
    assert len(frames) == 4
    assert gray_of(frames.read(3)) == pytest.approx(30, abs=1)
    assert [gray_of(f) for f in frames.iterate([2, 0])] == pytest.approx([20, 0], abs=1)
    assert frames.key(0) == str(tmp_path / "00000001.jpg")
    for number in (4, -1):
        with pytest.raises(DatasetError, match=f"no frame {number} in .*; it has 4"):
            frames.read(number)


# Clips


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mkv", "libx264"),
        ("a.ts", "libx264"),
        ("a.avi", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.mpg", "mpeg2video"),
        ("a.webm", "libvpx"),
    ],
)
def test_a_frame_of_a_clip_is_the_same_however_it_is_reached(
    tmp_path: Path, write_clip: Writer, name: str, codec: str
) -> None:
    frames = VideoFile(write_clip(tmp_path / name, 20, codec=codec))
    expected = [20 + 10 * n for n in range(20)]
    assert len(frames) == 20
    assert frames.fps == pytest.approx(25)
    in_turn = list(frames.iterate(range(20)))
    assert [gray_of(f) for f in in_turn] == pytest.approx(expected, abs=4.5)
    picked = [19, 3, 3, 4, 11, 0, 12]
    for index, frame in zip(picked, frames.iterate(picked), strict=True):
        assert (frame == in_turn[index]).all()
    assert (frames.read(17) == in_turn[17]).all()
    assert frames.key(4) == f"{tmp_path / name}#4"
    assert frames.path(4) == tmp_path / name


def test_a_seek_beyond_the_frame_decodes_from_the_start(
    tmp_path: Path, write_clip: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    expected = list(VideoFile(path).iterate(range(20)))
    jumps = []

    class JumpsToTheLastKeyFrame:
        def __init__(self, container: InputContainer) -> None:
            self._container = container

        def __getattr__(self, name: str) -> object:
            return getattr(self._container, name)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self._container.close()

        def seek(self, time: int, *, stream: av.VideoStream) -> None:
            jumps.append(time)
            self._container.seek(stream.duration, stream=stream)

    open_clip = av.open
    monkeypatch.setattr(
        "siamtrack.video.decode.av.open",
        lambda *args, **options: JumpsToTheLastKeyFrame(open_clip(*args, **options)),
    )
    assert (VideoFile(path).read(9) == expected[9]).all()
    assert len(jumps) == 1


def test_a_clip_matches_opencv(tmp_path: Path, write_clip: Writer) -> None:
    path = write_clip(tmp_path / "a.mp4", 8)
    capture = cv2.VideoCapture(str(path))
    for frame in VideoFile(path).iterate(range(8)):
        assert (frame == capture.read()[1]).all()


def test_a_clip_held_sideways_comes_out_upright_as_opencv_shows_it(
    tmp_path: Path, write_clip: Writer
) -> None:
    path = write_clip(tmp_path / "a.mp4", 3, ramp=True)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    turned = (0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    data[matrix : matrix + 36] = struct.pack(">9i", *turned)
    path.write_bytes(data)
    shown = cv2.VideoCapture(str(path)).read()[1]
    assert shown.shape == (64, 48, 3)
    assert abs(float(shown[0].mean()) - float(shown[-1].mean())) > 100
    assert (VideoFile(path).read(0) == shown).all()


def test_frames_of_a_clip_are_the_callers_own(tmp_path: Path, write_clip: Writer) -> None:
    frames = VideoFile(write_clip(tmp_path / "a.mp4", 3))
    first, again = frames.iterate([1, 1])
    first[:] = 0
    assert gray_of(again) == pytest.approx(30, abs=3)


def test_a_clip_can_be_pickled(tmp_path: Path, write_clip: Writer) -> None:
    frames = VideoFile(write_clip(tmp_path / "a.mp4", 9))
    assert len(frames) == 9
    assert (pickle.loads(pickle.dumps(frames)).read(5) == frames.read(5)).all()


def test_a_frame_beyond_the_clip_is_refused(tmp_path: Path, write_clip: Writer) -> None:
    frames = VideoFile(write_clip(tmp_path / "a.mp4", 3))
    for number in (3, -1):
        with pytest.raises(DatasetError, match=f"no frame {number} in .*; it has 3"):
            frames.read(number)


def test_clips_that_cannot_be_decoded_are_named(tmp_path: Path, write_clip: Writer) -> None:
    with pytest.raises(DatasetError, match=r"gone\.mp4 cannot be opened .*No such file"):
        len(VideoFile(tmp_path / "gone.mp4"))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DatasetError, match=r"text\.mp4 cannot be opened as a video"):
        VideoFile(tmp_path / "text.mp4").read(0)


def test_a_clip_without_video_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(DatasetError, match="holds no video"):
        len(VideoFile(tmp_path / "a.mp4"))


def test_a_clip_with_a_damaged_stretch_says_which_frame(tmp_path: Path, write_clip: Writer) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    frames = VideoFile(path)
    assert len(frames) == 20
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 900
    data[start : data.index(b"moov")] = bytes(data.index(b"moov") - start)
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"(frame \d+ of )?clip .* cannot be decoded"):
        list(frames.iterate(range(20)))


# As it is shown


def mark(height: int = 48, width: int = 64) -> np.ndarray:
    """A picture that looks different turned and mirrored in every way."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = 200
    image[height // 2 :, width // 2 :] = 100
    return image


def write_frames(path: Path, frames: list[np.ndarray], pixel: str, codec: str, **of: Any) -> Path:
    """Encode frames of any pixel format; `of` are attributes of the codec context."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = of.pop("stored", pixel)
        stream.thread_count = 1
        for name, value in of.items():
            setattr(stream.codec_context, name, value)
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format=pixel)))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("flips", ["", "h", "v", "hv"])
@pytest.mark.parametrize("swaps", [False, True])
def test_the_display_matrix_turns_and_mirrors(tmp_path: Path, flips: str, swaps: bool) -> None:
    path = write_frames(tmp_path / "a.mp4", [mark()] * 2, "bgr24", "libx264", stored="yuv420p")
    a, d = (-1 if "h" in flips else 1), (-1 if "v" in flips else 1)
    # x' = a x + c y, y' = b x + d y; `flips` is what happens after the axes were swapped.
    one = 1 << 16
    values = (0, d * one, 0, a * one, 0) if swaps else (a * one, 0, 0, 0, d * one)
    data = bytearray(path.read_bytes())
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, *values, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    expected = np.swapaxes(mark(), 0, 1) if swaps else mark()
    expected = expected[:: d or 1, :: a or 1]
    with open_source(path) as source:
        shown = [frame.image for frame in source]
        assert source.frame_wh == expected.shape[1::-1]
    assert np.abs(shown[0].astype(int) - expected).mean() < 4
    assert (VideoFile(path).read(1) == shown[1]).all()


def test_the_shape_of_pixels_is_known_and_turns_with_the_picture(tmp_path: Path) -> None:
    path = write_frames(
        tmp_path / "a.mp4",
        [mark()] * 2,
        "bgr24",
        "libx264",
        stored="yuv420p",
        sample_aspect_ratio=Fraction(4, 3),
    )
    with open_source(path) as source:
        assert source.pixel_aspect == Fraction(4, 3)
        with VideoSink(
            tmp_path / "b.mp4", 25, source.frame_wh, pixel_aspect=source.pixel_aspect
        ) as sink:
            for frame in source:
                sink.write(frame.image)
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
    data = bytearray(path.read_bytes())
    turned = (0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, *turned)
    path.write_bytes(data)
    with open_source(path) as source:
        assert source.pixel_aspect == Fraction(3, 4)


def test_gray_video_of_16_bits_gets_the_range_it_uses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ramp = np.linspace(7900, 8150, 64) * np.ones((48, 1))
    frames = [np.roll(ramp, 5 * k, axis=1).astype(np.uint16) for k in range(12)]
    path = write_frames(tmp_path / "a.mkv", frames, "gray16le", "ffv1")
    expected = (frames[3] - 7900.0) * 255 / 250
    with open_source(path) as source:
        shown = [frame.image for frame in source]
    assert len(shown) == 12
    assert np.abs(shown[3][..., 0] - expected).max() < 15
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert (VideoFile(path).read(3) == shown[3]).all()
    with open_source(path, range=(0, 65535)) as source:
        assert next(source).image.max() == 8150 // 256


def test_a_video_that_fades_in_gets_the_range_of_the_whole(tmp_path: Path) -> None:
    ramp = np.linspace(0, 250, 64) * np.ones((48, 1))
    frames = [(7900 + ramp * min(1, k / 12)).astype(np.uint16) for k in range(24)]
    path = write_frames(tmp_path / "a.mkv", frames, "gray16le", "ffv1")
    with open_source(path) as source:
        shown = [frame.image[..., 0] for frame in source]
    assert shown[0].max() < 10
    assert np.abs(shown[20] - ramp * 255 / 250).max() < 15


def test_deep_rgb_video_gets_the_range_it_uses(tmp_path: Path) -> None:
    frame = np.zeros((48, 64, 3), np.uint16)
    frame[..., 0] = np.linspace(100, 1100, 64)
    frame[..., 2] = 600
    path = write_frames(tmp_path / "a.mkv", [frame] * 2, "rgb48le", "ffv1", stored="gbrp16le")
    image = VideoFile(path).read(1)
    expected = np.clip(frame[..., ::-1] * (255 / 1100), 0, 255)
    assert np.abs(image - expected).max() < 12


def test_video_in_color_of_12_bits_gets_the_range_it_uses(tmp_path: Path) -> None:
    ramp = np.linspace(29300, 30600, 64) * np.ones((48, 1))
    frame = np.repeat(ramp[..., None], 3, 2).astype(np.uint16)
    path = write_frames(tmp_path / "a.mkv", [frame] * 2, "rgb48le", "ffv1", stored="yuv444p16le")
    image = VideoFile(path).read(1)
    assert np.abs(image - (frame - 29300.0) * 255 / 1300).max() < 20


def test_interlaced_video_shows_one_moment_per_frame_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = []
    for k in range(5):
        fields = []
        for x in (4 + 6 * k, 7 + 6 * k):  # the second field is half a frame later
            fields.append(np.full((48, 64, 3), 60, np.uint8))
            fields[-1][12:36, x : x + 16] = 220
        fields[0][1::2] = fields[1][1::2]
        frames.append(fields[0])
    path = write_frames(tmp_path / "a.mkv", frames, "bgr24", "ffv1", stored="yuv444p")
    converter = FrameConverter("a", Levels("a"))
    with av.open(str(path)) as container:
        for k, frame in enumerate(container.decode(video=0)):
            image = converter(interlaced(frame))
            expected = np.full((48, 64), 60)
            expected[12:36, 4 + 6 * k : 20 + 6 * k] = 220
            wrong = np.abs(image[..., 1] - expected) > 20
            # Where a bar ends, rows cannot be told to belong to another moment.
            assert not wrong[14:34].any()
    assert caplog.messages == ["a is interlaced; one field of each frame is shown"]


def interlaced(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame, marked as interlaced."""
    graph = av.filter.Graph()
    given = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)
    )
    graph.link_nodes(given, graph.add("setfield", "tff"), graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.vpull()


def test_fine_patterns_stay_as_they_are_in_interlaced_video(
    tmp_path: Path,
) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, ::2] = 200  # columns one pixel wide
    path = write_frames(tmp_path / "a.mkv", [picture], "bgr24", "ffv1", stored="bgr0")
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        image = FrameConverter("a", Levels("a"))(interlaced(frame))
    assert (image == picture).all()


def test_transparent_video_does_not_show_its_hidden_colors(tmp_path: Path) -> None:
    picture = np.full((48, 64, 4), (5, 250, 5, 0), np.uint8)
    picture[:, 32:] = (200, 100, 50, 255)
    path = write_frames(tmp_path / "a.mov", [picture] * 2, "bgra", "png", stored="rgba")
    image = VideoFile(path).read(1)
    assert image[20, 10].tolist() == [0, 0, 0]
    assert image[20, 50].tolist() == [200, 100, 50]
