"""Video files: what a player finds in them, and what is left when something goes wrong."""

from __future__ import annotations

import logging
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from siamtrack.errors import OutputError
from siamtrack.video import video_writer
from siamtrack.video.video_writer import VideoSink

WH = (96, 64)
SUFFIXES = pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])


def picture(k: int, wh: tuple[int, int] = WH) -> np.ndarray:
    """Smooth colors that move with k."""
    x = np.arange(wh[0]) + 3 * k
    y = np.arange(wh[1])[:, None]
    channels = [(x + 0 * y) * 2 % 256, (y * 3 + 0 * x) % 256, (x + y) % 256]
    return cv2.GaussianBlur(np.stack(channels, axis=-1).astype(np.uint8), (9, 9), 3)


def noise(k: int) -> np.ndarray:
    return np.random.default_rng(k).integers(0, 256, (WH[1], WH[0], 3), dtype=np.uint8)


def decoded(path: Path) -> list[np.ndarray]:
    """All pictures, by another library's route."""
    capture, pictures = cv2.VideoCapture(str(path)), []
    while (answer := capture.read())[0]:
        pictures.append(answer[1])
    return pictures


def times_s(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def boxes_in(path: Path) -> list[str]:
    """Types of the top-level boxes of an mp4 file."""
    data, at, kinds = path.read_bytes(), 0, []
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
        kinds.append(kind.decode())
        at += size
    assert at == len(data)
    return kinds


@SUFFIXES
def test_what_was_written_is_what_a_player_shows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with VideoSink(path, 25, WH) as sink:
        for k in range(12):
            sink.write(picture(k))
        assert (sink.count, sink.path) == (12, path)
    pictures = decoded(path)
    assert len(pictures) == 12
    for k, shown in enumerate(pictures):
        assert shown.shape == (64, 96, 3)
        assert np.abs(shown.astype(int) - picture(k)).mean() < 8
    np.testing.assert_allclose(times_s(path), np.arange(12) / 25, atol=1e-3)


def test_an_mp4_has_the_format_that_browsers_need(tmp_path: Path) -> None:
    path = tmp_path / "out.MP4"
    with VideoSink(path, 29.97, WH) as sink:
        for k in range(40):
            sink.write(picture(k))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.codec_tag, stream.pix_fmt) == ("avc1", "yuv420p")
        assert (stream.width, stream.height, stream.frames) == (96, 64, 40)
        assert float(stream.average_rate) == pytest.approx(29.97, abs=0.01)
        assert float(stream.duration * stream.time_base) == pytest.approx(40 / 29.97, abs=1e-3)
        keys = [p.is_keyframe for p in container.demux(stream) if p.size]
        assert keys[0] and sum(keys) >= 2  # places to jump to
    # An ordinary file: nothing of the fragments it grew by is left to be seen.
    assert set(boxes_in(path)) <= {"ftyp", "free", "mdat", "moov"}


@pytest.mark.parametrize("height", [64, 720])
def test_colors_survive_in_small_and_large_pictures(tmp_path: Path, height: int) -> None:
    path, bgr = tmp_path / "out.mp4", (200, 60, 20)
    with VideoSink(path, 30, (96, height)) as sink:
        sink.write(np.full((height, 96, 3), bgr, dtype=np.uint8))
    np.testing.assert_allclose(decoded(path)[0].mean(axis=(0, 1)), bgr, atol=5)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        labels = (context.colorspace, context.color_primaries, context.color_trc)
        assert labels == (1, 1, 1)


@SUFFIXES
def test_given_time_stamps_are_kept(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    given_s = [0.0, 0.013, 0.5, 0.501, 2.0, 10.0, 10.04]
    with VideoSink(path, 30, WH) as sink:
        for k, time_s in enumerate(given_s):
            sink.write(picture(k), time_s)
    tick_s = 1 / 60_000 if suffix == ".mp4" else 1e-3
    np.testing.assert_allclose(times_s(path), given_s, atol=tick_s)
    assert len(decoded(path)) == len(given_s)


@SUFFIXES
def test_the_video_starts_with_its_first_frame(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with VideoSink(path, 30, WH) as sink:
        for time_s in (7.0, 7.5):
            sink.write(picture(0), time_s)
        sink.write(picture(0))
    np.testing.assert_allclose(times_s(path), [0, 0.5, 0.5 + 1 / 30], atol=1e-3)


def test_times_that_do_not_increase_are_moved_forward(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", 30, WH) as sink:
        for time_s in (0.0, 1.0, 1.0, 0.2, 2.0):
            sink.write(picture(0), time_s)
    np.testing.assert_allclose(times_s(tmp_path / "out.mp4"), [0, 1, 1, 1, 2], atol=1e-4)


@pytest.mark.parametrize("wh", [(95, 63), (96, 63), (1, 1)])
def test_odd_sizes_are_padded_to_even(tmp_path: Path, wh: tuple[int, int]) -> None:
    path = tmp_path / "out.mp4"
    with VideoSink(path, 30, wh) as sink:
        assert sink.frame_wh == wh
        sink.write(picture(0, wh))
        encoded = sink.encoded_wh
    shown = decoded(path)[0]
    assert encoded == (wh[0] + wh[0] % 2, wh[1] + wh[1] % 2) == (shown.shape[1], shown.shape[0])
    assert np.abs(shown[: wh[1], : wh[0]].astype(int) - picture(0, wh)).mean() < 8
    # Repeated, not black: no line at the edge.
    assert np.abs(shown[-1].astype(int) - shown[wh[1] - 1]).mean() < 8


def test_a_slice_of_a_larger_picture_can_be_written(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", 30, WH) as sink:
        sink.write(picture(0, (200, 200))[10:74, 4:196:2])
    expected = picture(0, (200, 200))[10:74, 4:196:2]
    assert np.abs(decoded(tmp_path / "out.mp4")[0].astype(int) - expected).mean() < 8


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((64, 97, 3), np.uint8), "uint8 64 x 97 x 3"),
        (np.zeros((96, 64, 3), np.uint8), "uint8 96 x 64 x 3"),
        (np.zeros((64, 96), np.uint8), "uint8 64 x 96 "),
        (np.zeros((64, 96, 4), np.uint8), "uint8 64 x 96 x 4"),
        (np.zeros((64, 96, 3), np.float32), "float32 64 x 96 x 3"),
        (None, "NoneType"),
    ],
)
def test_a_frame_of_another_kind_is_refused_and_does_no_harm(
    tmp_path: Path, image: np.ndarray, message: str
) -> None:
    with VideoSink(tmp_path / "out.mp4", 30, WH) as sink:
        sink.write(picture(0))
        with pytest.raises(OutputError, match=f"takes uint8 frames of 96x64 px .*not {message}"):
            sink.write(image)
        sink.write(picture(1))
    assert len(decoded(tmp_path / "out.mp4")) == 2


@pytest.mark.parametrize("time_s", [float("nan"), float("inf")])
def test_an_invalid_time_is_refused(tmp_path: Path, time_s: float) -> None:
    with VideoSink(tmp_path / "out.mp4", 30, WH) as sink:
        sink.write(picture(0))
        with pytest.raises(OutputError, match=f"frame at time {time_s}; give seconds"):
            sink.write(picture(0), time_s)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1001])
def test_an_invalid_rate_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(OutputError, match="frames per second; give more than 0, at most 1000"):
        VideoSink(tmp_path / "out.mp4", fps, WH)


def test_a_source_without_a_rate_is_written_at_30(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", None, WH) as sink:
        sink.write(picture(0))
        sink.write(picture(1))
    assert times_s(tmp_path / "out.mp4")[1] == pytest.approx(1 / 30, abs=1e-4)


def test_an_invalid_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="frames of 0x64 px"):
        VideoSink(tmp_path / "out.mp4", 30, (0, 64))


def test_a_size_the_encoder_cannot_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nothing is kept in it; .*try another size or format"):
        with VideoSink(tmp_path / "out.mp4", 30, (20_000, 16)) as sink:
            sink.write(picture(0, (20_000, 16)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.avi", "out", "out.mp4.bak"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"a name that ends in \.mp4, \.mkv, \.webm"):
        VideoSink(tmp_path / name, 30, WH)
    assert list(tmp_path.iterdir()) == []


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    is_installed = video_writer._is_installed
    monkeypatch.setattr(
        video_writer, "_is_installed", lambda name: name not in names and is_installed(name)
    )


def test_encoders_are_looked_up_in_the_installation() -> None:
    assert video_writer._is_installed("mpeg4")
    assert not video_writer._is_installed("no-such-encoder")
    assert not video_writer._is_installed("indeo5")  # a decoder only


def test_without_x264_the_video_is_mpeg4_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without(monkeypatch, "libx264")
    with caplog.at_level(logging.WARNING), VideoSink(tmp_path / "a.mp4", 29.97, WH) as sink:
        for k in range(5):
            sink.write(picture(k))
    assert "mpeg4, which not every player and browser shows" in caplog.text
    pictures = decoded(tmp_path / "a.mp4")
    assert len(pictures) == 5
    assert np.abs(pictures[4].astype(int) - picture(4)).mean() < 8


def test_without_any_encoder_nothing_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "libvpx-vp9")
    with pytest.raises(OutputError, match="has no libvpx-vp9; install"):
        VideoSink(tmp_path / "a.webm", 30, WH)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "new" / "er" / "out.mp4", 30, WH) as sink:
        sink.write(picture(0))
    assert len(decoded(tmp_path / "new" / "er" / "out.mp4")) == 1


@SUFFIXES
def test_an_old_file_is_kept_until_a_new_frame_is_safe(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_text("old")
    with pytest.raises(OutputError, match="exists; choose another name"):
        VideoSink(path, 30, WH)
    with VideoSink(path, 30, WH, overwrite=True) as sink:
        sink.write(picture(0))
        assert path.read_text() == "old"
        sink.write(picture(1))
        assert len(decoded(path)) >= 1
    assert len(decoded(path)) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_single_frame_replaces_an_old_file_too(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_text("old")
    with VideoSink(path, 30, WH, overwrite=True) as sink:
        sink.write(picture(0))
    assert len(decoded(path)) == 1


def test_without_a_frame_there_is_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "old.mp4").write_text("old")
    for name in ("old.mp4", "new.mp4"):
        with caplog.at_level(logging.WARNING):
            VideoSink(tmp_path / name, 30, WH, overwrite=True).close()
        assert f"{name}: no frame was written" in caplog.text
    assert [p.name for p in tmp_path.iterdir()] == ["old.mp4"]
    assert (tmp_path / "old.mp4").read_text() == "old"


@SUFFIXES
def test_an_interrupted_run_leaves_all_its_frames(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with pytest.raises(KeyboardInterrupt), VideoSink(path, 30, WH) as sink:
        for k in range(7):
            sink.write(picture(k))
        raise KeyboardInterrupt
    assert len(decoded(path)) == 7


KILLED = """
import os, signal, sys
import numpy as np
from siamtrack.video.video_writer import VideoSink
sink = VideoSink(sys.argv[1], 30, (96, 64), overwrite=True)
for k in range(40):
    sink.write(np.full((64, 96, 3), 10 + 6 * k, np.uint8), k / 20)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("is_new", [True, False])
@SUFFIXES
def test_a_killed_program_leaves_a_video_that_plays(
    tmp_path: Path, suffix: str, is_new: bool
) -> None:
    path = tmp_path / f"out{suffix}"
    if not is_new:
        path.write_text("old")
    program = [sys.executable, "-c", KILLED, str(path)]
    assert subprocess.run(program, check=False).returncode == -9
    pictures = decoded(path)
    assert len(pictures) >= 39
    assert [round((float(p.mean()) - 8) / 6) for p in pictures] == list(range(len(pictures)))
    np.testing.assert_allclose(times_s(path), np.arange(len(pictures)) / 20, atol=1e-3)
    assert list(tmp_path.iterdir()) == [path]


@SUFFIXES
def test_a_disk_that_fills_up_keeps_what_fits(
    tmp_path: Path, suffix: str, file_size_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / f"out{suffix}"
    with (
        file_size_limit(100_000),
        pytest.raises(OutputError, match=r"frame\(s\) are kept in it; .*run again") as caught,
    ):
        with VideoSink(path, 30, WH) as sink:
            for k in range(1000):
                sink.write(noise(k))
    pictures = decoded(path)
    assert len(pictures) > 3
    assert f"{len(pictures)} frame(s) are kept" in str(caught.value)
    assert sink.count == len(pictures)
    assert "\n" not in str(caught.value)


def test_a_disk_that_is_full_only_when_the_file_is_finished(
    tmp_path: Path, file_size_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "out.mp4"
    sink = VideoSink(path, 30, WH)
    for k in range(20):
        sink.write(noise(k))
    with (
        file_size_limit(path.stat().st_size),
        pytest.raises(OutputError, match=r"19 frame.* are kept in it"),
    ):
        sink.close()
    assert len(decoded(path)) == 19


def test_a_full_disk_from_the_start_leaves_the_old_file(
    tmp_path: Path, file_size_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "out.mp4"
    path.write_text("old")
    with file_size_limit(10), pytest.raises(OutputError, match="nothing is kept in it"):
        with VideoSink(path, 30, WH, overwrite=True) as sink:
            sink.write(picture(0))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_is_written_directly(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.symlink_to("/dev/null")
    with VideoSink(path, 30, WH) as sink:
        sink.write(picture(0))
    assert path.is_char_device()


def test_a_full_disk_is_named_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"No space left on device.*free some space"):
        with VideoSink(path, 30, WH) as sink:
            sink.write(picture(0))


def test_a_file_that_is_not_what_was_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = video_writer._read_back

    def one_less(path: Path) -> tuple[tuple[int, int] | None, int]:
        size, frames = count(path)
        return size, frames - 1

    monkeypatch.setattr(video_writer, "_read_back", one_less)
    with pytest.raises(OutputError, match=r"should hold 2 frame\(s\) .* holds 1 of"):
        with VideoSink(tmp_path / "out.mp4", 30, WH) as sink:
            sink.write(picture(0))
            sink.write(picture(1))


def test_a_missing_file_is_an_error_but_hides_no_other_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "out.mp4"
    with pytest.raises(OutputError, match=r"should hold 2 .* holds 0 of None"):
        with VideoSink(path, 30, WH) as sink:
            sink.write(picture(0))
            sink.write(picture(1))
            path.rename(tmp_path / "elsewhere.mp4")
    with pytest.raises(ValueError, match="the real trouble"), caplog.at_level(logging.WARNING):
        with VideoSink(path, 30, WH) as sink:
            sink.write(picture(0))
            path.rename(tmp_path / "elsewhere.mp4")
            raise ValueError("the real trouble")
    assert "should hold 1" in caplog.text


def test_nothing_is_written_after_closing(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", 30, WH)
    sink.write(picture(0))
    sink.close()
    sink.close()
    with pytest.raises(OutputError, match="closed"):
        sink.write(picture(1))
    assert len(decoded(tmp_path / "out.mp4")) == 1


def test_a_format_that_cannot_say_the_shape_of_pixels_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.mp4", "a.mkv", "a.webm"):
        with VideoSink(tmp_path / name, 30, WH, pixel_aspect=Fraction(4, 3)) as sink:
            sink.write(np.zeros((*WH[::-1], 3), np.uint8))
    (line,) = caplog.messages
    assert "a.webm: players will show its pixels as squares" in line
