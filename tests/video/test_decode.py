"""Frames by number, of image folders and of clips."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Self

import av
import cv2
import numpy as np
import pytest
from av.container import InputContainer

from siamtrack.errors import DatasetError
from siamtrack.utils.images import list_images
from siamtrack.video.decode import ImageFrames, VideoFile

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
        "siamtrack.video.decode.av.open", lambda name: JumpsToTheLastKeyFrame(open_clip(name))
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
    with pytest.raises(DatasetError, match=r"gone\.mp4 cannot be decoded: No such file"):
        len(VideoFile(tmp_path / "gone.mp4"))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DatasetError, match=r"text\.mp4 cannot be decoded"):
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
