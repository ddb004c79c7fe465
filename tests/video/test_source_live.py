"""Cameras and streams: the newest frame only, and an end to every wait."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue

import av
import cv2
import numpy as np
import pytest

from siamtrack.errors import VideoError
from siamtrack.types import Image
from siamtrack.video import source as delivery
from siamtrack.video.frames import Reader, SourceInfo
from siamtrack.video.source import LiveSource, RealTimeReader, open_source

WAIT_S = 30.0
"""Bound on waits that end at once unless the code is wrong."""


def picture(level: int, shape: tuple[int, ...] = (20, 30, 3)) -> Image:
    return np.full(shape, level, dtype=np.uint8)


def level_of(image: Image) -> int:
    return int(image[0, 0, 0])


class FakeCamera:
    """Stands in for cv2.VideoCapture; the test hands it every answer.

    `asked` counts reads that were begun: when read n + 1 has begun, picture n has been dealt with.
    """

    def __init__(self) -> None:
        self.answers: SimpleQueue[Image | cv2.error | None] = SimpleQueue()
        self.asked = threading.Semaphore(0)
        self.released = threading.Event()
        self.device: int | str | None = None
        self.is_there = True
        self.settings: dict[int, float] = {}

    def __call__(self, device: int | str) -> FakeCamera:
        self.device = device
        return self

    def isOpened(self) -> bool:
        return self.is_there

    def set(self, setting: int, value: float) -> bool:
        self.settings[setting] = value
        return True

    def get(self, setting: int) -> float:
        return 25.0 if setting == cv2.CAP_PROP_FPS else 0.0

    def read(self) -> tuple[bool, Image | None]:
        self.asked.release()
        answer = self.answers.get()
        if isinstance(answer, cv2.error):
            raise answer
        return answer is not None, answer

    def release(self) -> None:
        self.released.set()

    def show(self, *answers: Image | cv2.error | None) -> None:
        for answer in answers:
            self.answers.put(answer)

    def wait_until_asked(self, times: int) -> None:
        for _ in range(times):
            assert self.asked.acquire(timeout=WAIT_S)


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCamera]:
    fake = FakeCamera()
    monkeypatch.setattr(cv2, "VideoCapture", fake)
    yield fake
    fake.show(*[None] * 9)  # let a thread that still reads end


@pytest.mark.parametrize("number", [0, "0", " 2 "])
def test_a_number_opens_that_camera(camera: FakeCamera, number: int | str) -> None:
    camera.show(picture(1))
    with open_source(number) as source:
        assert camera.device == int(number)
        assert source.name == f"camera {int(number)}"
        assert (source.frame_wh, source.fps, source.frame_count) == ((30, 20), 25.0, None)
        assert source.is_live
        assert camera.settings[cv2.CAP_PROP_BUFFERSIZE] == 1
        camera.show(*[None] * 9)
    assert camera.released.wait(WAIT_S)


def test_only_the_newest_frame_is_kept_and_drops_are_counted(camera: FakeCamera) -> None:
    camera.show(picture(1))
    with open_source(0) as source:
        camera.wait_until_asked(2)
        assert level_of(next(source).image) == 1
        camera.show(picture(2), picture(3), picture(4))
        camera.wait_until_asked(3)
        newest = next(source)
        assert (level_of(newest.image), newest.index, source.dropped) == (4, 1, 2)
        camera.show(picture(5))
        assert level_of(next(source).image) == 5
        assert source.dropped == 2
        assert source.unreadable == 0
        camera.show(*[None] * 9)


def test_times_are_those_of_arrival(camera: FakeCamera, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100.0, 100.5, 102.0])
    monkeypatch.setattr("siamtrack.video.cameras.time.monotonic", lambda: next(ticks))
    camera.show(picture(1), picture(2), picture(3))
    with open_source(0, live=False) as source:
        assert not source.is_live
        assert [next(source).time_s for _ in range(3)] == [0.0, 0.5, 2.0]


def test_a_camera_that_disappears_raises_after_its_last_frame(camera: FakeCamera) -> None:
    camera.show(picture(1), picture(2), None, None, None)
    with open_source(0) as source:
        assert camera.released.wait(WAIT_S)  # the thread has seen the end
        assert level_of(next(source).image) == 2
        for _ in range(2):
            with pytest.raises(VideoError, match=r"camera 0 stopped sending.*still plugged in"):
                next(source)


def test_a_failed_read_of_a_camera_is_retried(camera: FakeCamera) -> None:
    stumble = cv2.error("no frame")
    camera.show(None, picture(1), None, stumble, picture(2), *[None] * 3)
    with open_source(0, live=False) as source:
        assert [level_of(next(source).image) for _ in range(2)] == [1, 2]
        assert source.unreadable == 3


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1)])
def test_a_gray_camera_is_converted(camera: FakeCamera, shape: tuple[int, ...]) -> None:
    camera.show(picture(9, shape))
    with open_source(0, live=False) as source:
        assert next(source).image.shape == (20, 30, 3)


def test_a_camera_that_is_not_there(camera: FakeCamera) -> None:
    camera.is_there = False
    with pytest.raises(VideoError, match="camera 3 cannot be opened; check that it is plugged in"):
        open_source(3)
    assert camera.released.is_set()


def test_a_camera_that_sends_nothing(camera: FakeCamera) -> None:
    camera.show(None, None, None)
    with pytest.raises(VideoError, match="camera 0 was opened but sends no picture"):
        open_source(0)
    assert camera.released.is_set()


def test_a_negative_camera_number_is_refused() -> None:
    with pytest.raises(VideoError, match="camera -1 does not exist"):
        open_source(-1)


def test_opencv_prints_nothing_about_a_missing_camera(capfd: pytest.CaptureFixture[str]) -> None:
    level = cv2.utils.logging.getLogLevel()
    with pytest.raises(VideoError, match="camera 987 cannot be opened"):
        open_source(987)
    assert capfd.readouterr().err == ""
    assert cv2.utils.logging.getLogLevel() == level


def test_a_device_file_is_a_camera(camera: FakeCamera) -> None:
    camera.show(picture(1))
    with open_source("/dev/null", live=False) as source:
        assert (camera.device, source.name) == ("/dev/null", "camera /dev/null")


def test_a_camera_that_stalls_raises_after_the_timeout(camera: FakeCamera) -> None:
    camera.show(picture(1))
    with open_source(0, timeout_s=0.05) as source:
        camera.wait_until_asked(2)
        next(source)
        with pytest.raises(VideoError, match=r"no frame for 0.05 s, after 1 frame.*timeout_s"):
            next(source)
        camera.show(picture(2))
        camera.wait_until_asked(1)
        assert level_of(next(source).image) == 2
        camera.show(*[None] * 9)


def test_closing_does_not_wait_for_a_dead_camera(
    camera: FakeCamera, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delivery, "CLOSE_WAIT_S", 0.0)
    camera.show(picture(1))
    source = open_source(0)
    camera.wait_until_asked(2)
    with caplog.at_level(logging.WARNING):
        source.close()
    assert "camera 0: reader thread did not stop within 0 s" in caplog.text


class FakeReader(Reader):
    """Hands out given pictures and times, then the given end."""

    def __init__(
        self, times_s: list[float], end: Callable[[], None] = lambda: None, unreadable: int = 0
    ) -> None:
        self.info = SourceInfo("fake", 10.0, (30, 20), len(times_s))
        self.unreadable, self.picture = unreadable, ""
        self._images = iter([(picture(k), time_s) for k, time_s in enumerate(times_s)])
        self._end = end
        self.closed = threading.Event()

    def _read_next(self) -> tuple[Image, float] | None:
        image = next(self._images, None)
        if image is None:
            self._end()
        return image

    def close(self) -> None:
        self.closed.set()


def test_a_live_source_that_ends_just_ends() -> None:
    reader = FakeReader([0.0, 0.1, 0.2])
    with LiveSource(reader, timeout_s=WAIT_S) as source:
        assert reader.closed.wait(WAIT_S)
        assert [level_of(frame.image) for frame in source] == [2]
        assert source.dropped == 2
        assert source.frame_count is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_is_an_error_and_not_an_end() -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    reader = FakeReader([0.0], fail)
    with LiveSource(reader, timeout_s=WAIT_S) as source:
        assert reader.closed.wait(WAIT_S)
        next(source)
        with pytest.raises(VideoError, match="failed in a way that was not foreseen"):
            next(source)


def test_a_recording_played_live_runs_in_real_time() -> None:
    now_s, slept = [50.0], []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))
        now_s[0] += seconds

    paced = RealTimeReader(FakeReader([0.5, 0.6, 0.9, 1.0]), clock=lambda: now_s[0], sleep=sleep)
    paced.read()
    paced.read()
    now_s[0] += 1.0  # the caller was slow: nothing to wait for
    paced.read()
    paced.read()
    assert slept == [0.1]
    assert paced.read() is None


def test_a_file_can_be_played_live(tmp_path: Path) -> None:
    for k in range(3):
        cv2.imwrite(str(tmp_path / f"{k}.png"), picture(40 * k))
    with open_source(tmp_path, live=True, fps=1000) as source:
        assert source.is_live
        frames = list(source)
    assert level_of(frames[-1].image) == 80
    assert len(frames) + source.dropped == 3


def write_stream(path: Path, frames: int, **options: str) -> bytes:
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.gop_size = 64, 48, 5
        for k in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(8 * k, (48, 64, 3)), format="bgr24")
            frame.pts = k
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


@contextmanager
def serving(data: bytes, *, stalls: bool = False) -> Iterator[str]:
    """Address on this machine that sends `data`, and then ends or falls silent."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/missing"):
                self.send_error(404)
                return
            self.send_response(200)
            if not stalls:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            if stalls:
                over.wait(WAIT_S)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://somebody:secret@127.0.0.1:{server.server_port}"
        finally:
            over.set()
            server.shutdown()
            thread.join(WAIT_S)


def test_a_recording_behind_an_address_is_read_in_full(tmp_path: Path) -> None:
    data = write_stream(tmp_path / "clip.mp4", 20, movflags="faststart")
    with serving(data) as address, open_source(f"{address}/clip.mp4") as source:
        assert not source.is_live
        assert "secret" not in source.name
        assert len(list(source)) == 20


def test_a_bare_stream_behind_an_address_is_a_recording(tmp_path: Path) -> None:
    data = write_stream(tmp_path / "clip.m2v", 20)
    with serving(data) as address, open_source(f"{address}/clip.m2v") as source:
        assert not source.is_live
        times = [frame.time_s for frame in source]
    np.testing.assert_allclose(times, np.arange(20) / 25, atol=1e-6)


def test_a_stream_behind_an_address_is_live(tmp_path: Path) -> None:
    data = write_stream(tmp_path / "clip.ts", 20)
    with serving(data, stalls=True) as address, open_source(address, timeout_s=1) as source:
        assert source.is_live
        assert source.frame_wh == (64, 48)


@pytest.mark.parametrize("live", [True, False])
def test_a_stream_that_stalls_raises_after_what_it_sent(tmp_path: Path, live: bool) -> None:
    data = write_stream(tmp_path / "clip.ts", 20)
    with serving(data, stalls=True) as address:
        with open_source(address, live=live, timeout_s=1) as source:
            frames = []
            with pytest.raises(VideoError, match=r"broke off .*timed out|no frame for") as caught:
                for frame in source:
                    frames.append(frame)
            assert "secret" not in str(caught.value)
        assert frames or source.dropped
        if not live:
            assert len(frames) >= 18


def test_a_stream_that_does_not_exist(tmp_path: Path) -> None:
    with serving(b"") as address:
        with pytest.raises(VideoError, match=r"missing cannot be opened .*404.*address"):
            open_source(f"{address}/missing")


def test_an_address_where_nothing_answers_is_refused() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for address in (f"http://127.0.0.1:{port}/x", f"rtsp://127.0.0.1:{port}/x"):
        with pytest.raises(VideoError, match=r"cannot be opened .*refused.*check the address"):
            open_source(address, timeout_s=5)


def test_an_unknown_kind_of_address() -> None:
    with pytest.raises(VideoError, match="bogus://x cannot be opened as a video"):
        open_source("bogus://x")
