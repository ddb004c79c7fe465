"""Streams that break off and come back, or do not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrack.errors import ConfigError, VideoError
from siamtrack.types import Image
from siamtrack.video import reconnect
from siamtrack.video.frames import Reader, SourceInfo
from siamtrack.video.reconnect import ReconnectingReader
from siamtrack.video.source import open_source


class Connection(Reader):
    """Delivers some frames, 0.1 s apart, then breaks off or ends."""

    def __init__(self, levels: list[int], clock: Clock, *, ends: bool = False) -> None:
        self.info = SourceInfo("camera", 10.0, (4, 3), None)
        self.unreadable = 0
        self._levels, self._clock, self._ends = iter(enumerate(levels)), clock, ends

    def _read_next(self) -> tuple[Image, float] | None:
        for number, level in self._levels:
            self._clock.now_s += 0.1
            return np.full((3, 4, 3), level, np.uint8), number / 10
        if self._ends:
            return None
        raise VideoError("camera broke off")

    def close(self) -> None:
        pass


class Clock:
    """Time that goes on when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waits_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> bool:
        self.waits_s.append(seconds)
        self.now_s += seconds
        return False


@pytest.mark.parametrize("ends", [False, True])
def test_frames_go_on_after_growing_waits_and_what_was_missed_is_said(
    ends: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    answers: list[Reader | None] = [None, None, Connection([7, 8], clock)]

    def reopen() -> Reader:
        reader = answers.pop(0)
        if reader is None:
            raise VideoError("camera is not there")
        return reader

    reader = ReconnectingReader(
        Connection([1, 2, 3], clock, ends=ends),
        reopen,
        give_up_s=60,
        clock=clock,
        wait=clock.wait,
    )
    got = [reader.read() for _ in range(5)]
    assert [int(image[0, 0, 0]) for image, _ in filter(None, got)] == [1, 2, 3, 7, 8]
    times_s = [time_s for _, time_s in filter(None, got)]
    assert clock.waits_s == [1, 2, 4]
    assert times_s == pytest.approx([0, 0.1, 0.2, 7.3, 7.4])
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("camera has ended" if ends else "camera broke off")
    assert "for up to 60 s" in caplog.messages[0]
    assert "camera is back; 7.1 s are missed, about 71 frame(s)" in caplog.messages[1]
    with pytest.raises(VideoError, match=r"did not come back within 60 s .*greater --reconnect"):
        answers = [None] * 9
        reader.read()
    assert clock.waits_s[3:] == [1, 2, 4, 8, 16]


@contextmanager
def motion_jpeg(levels: list[list[int]]) -> Iterator[str]:
    """A camera behind HTTP that sends one list of pictures to each who connects, then hangs up."""

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = levels.pop(0) if levels else []
            if not sent:
                self.send_error(503)
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
            self.end_headers()
            for level in sent:
                data = cv2.imencode(".jpg", np.full((48, 64, 3), level, np.uint8))[1].tobytes()
                head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def test_a_camera_behind_http_comes_back_and_then_does_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reconnect, "FIRST_WAIT_S", 0.05)
    with motion_jpeg([[50] * 9, [], [200] * 9]) as url:
        levels = set()
        with open_source(url, reconnect_s=0.4) as source:
            assert source.is_live
            with pytest.raises(VideoError, match=r"did not come back within 0\.4 s"):
                for frame in source:
                    levels.add(round(int(frame.image[0, 0, 0]), -1))
        assert levels == {50, 200}
    assert sum("is back" in message for message in caplog.messages) == 1


def test_closing_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "FIRST_WAIT_S", 300.0)
    with motion_jpeg([[50] * 9]) as url:
        source = open_source(url, reconnect_s=600)
        next(source)
        source.close()
        threads = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("siamtrack reads") for name in threads)


def test_what_ends_by_itself_is_not_connected_again(tmp_path: Path, write_clip: object) -> None:
    path = write_clip(tmp_path / "a.mp4")  # type: ignore[operator]
    for source in (path, [path, path]):
        with pytest.raises(ConfigError, match="is no stream or camera that never ends"):
            open_source(source, reconnect_s=5)
    with pytest.raises(ConfigError, match="reconnect_s is 0"):
        open_source(path, reconnect_s=0)
