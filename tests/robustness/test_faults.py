"""Kill, full disk, two writers, camera loss, threads, fork and spawn."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import pytest

import siamtrack
from siamtrack.cli import main
from siamtrack.errors import SiamTrackError
from siamtrack.tracking.options import BoxHeadOptions
from siamtrack.tracking.result import Result
from siamtrack.tracking.tracker import Tracker
from tests.robustness.common import BOX, scene

BOX_TEXT = ",".join(map(str, BOX))
HEADER = "frame,time_s,target,x,y,w,h,score,status"


def track(clip: Path, *more: object) -> list[str]:
    common = ["track", str(clip), "--box", BOX_TEXT, "--no-display"]
    return [*common, "--engine", "onnx:int8", *map(str, more)]


# A clip without an end: the process tells that it is at work, and is killed then.
ENDLESS = """
import dataclasses, itertools, sys
import siamtrack.video.run as video
from siamtrack.cli import main
run = video.run
def forever(frames, *arguments, **options):
    shown = list(frames)
    def again():
        for index in itertools.count():
            if index == 20:
                print("going", flush=True)
            frame = shown[index % len(shown)]
            yield dataclasses.replace(frame, index=index, time_s=index / 25)
    return run(again(), *arguments, **options)
video.run = forever
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_kill_9_leaves_whole_rows_and_nothing_in_the_way(clip: Path, tmp_path: Path) -> None:
    table, lines, video = (tmp_path / name for name in ("o.csv", "o.jsonl", "o.mp4"))
    arguments = track(clip, "--csv", table, "--json", lines, "--save", video)
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "going\n"
        os.kill(child.pid, signal.SIGKILL)
    rows = table.read_text().splitlines()
    assert rows[0] == HEADER and len(rows) > 10
    assert [row.count(",") for row in rows[:-1]] == [8] * (len(rows) - 1)
    assert lines.read_text().count("\n") > 10
    with siamtrack.open_source(video) as source:
        assert sum(1 for _ in source) >= 1
    assert main(track(clip, "--csv", table, "--json", lines, "--save", video, "--overwrite")) == 0
    assert len(table.read_text().splitlines()) == 13


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("option", ["--csv", "--json", "--save"])
def test_full_disk_is_one_line(
    clip: Path, tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    full = tmp_path / "full.mp4"
    full.symlink_to("/dev/full")
    other = "--json" if option == "--csv" else "--csv"
    code = main(track(clip, option, full, other, tmp_path / "kept", "--overwrite"))
    said = capsys.readouterr().err.splitlines()
    if full.is_symlink():
        assert code == 3 and sum("siamtrack: error:" in line for line in said) == 1, said
    else:  # replaced by a file beside it, which has room
        assert code == 0 and full.stat().st_size > 0


def test_two_writers_of_one_table(clip: Path, tmp_path: Path) -> None:
    """One of them is refused, or the file is whole all the same."""
    table = tmp_path / "o.csv"
    command = [sys.executable, "-m", "siamtrack", *track(clip, "--csv", table)]
    children = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [child.communicate()[1] for child in children]
    codes = sorted(child.returncode for child in children)
    assert codes in ([0, 0], [0, 3]) and not any("Traceback" in text for text in said), said
    rows = table.read_text().splitlines()
    assert rows[0] == HEADER and len(rows) == 13
    assert [int(row.split(",")[0]) for row in rows[1:]] == list(range(12))


# Camera loss


@contextmanager
def camera(*, pictures: int, last: bytes = b"") -> Iterator[str]:
    """An MJPEG camera that hangs up after so many pictures and a piece of another one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for index in range(pictures):
                data = cv2.imencode(".jpg", scene(index))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
            self.wfile.write(last)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/camera.mjpg"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("last", [b"", b"--frame\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\xff"])
def test_a_camera_that_hangs_up_keeps_what_was_tracked(
    tmp_path: Path, last: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "o.csv"
    with camera(pictures=30, last=last) as url:
        code = main([*track(Path("x"), "--csv", table)[:1], url, *track(Path("x"))[2:], "--csv",
                     str(table)])  # fmt: skip
    said = capsys.readouterr().err
    assert code in (0, 3) and "Traceback" not in said
    rows = table.read_text().splitlines()
    assert rows[0] == HEADER and len(rows) >= 2
    assert all(row.count(",") == 8 for row in rows)


def test_a_camera_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with camera(pictures=0) as url, pytest.raises(SiamTrackError):
        with siamtrack.open_source(url) as source:
            next(source)


# Threads and processes


def follow(engine: Any, start: int, count: int = 5) -> list[Result]:
    tracker = Tracker(engine, BoxHeadOptions())
    x, y, w, h = BOX
    results = [tracker.init(scene(0), (x + start, y, w, h))]
    return results + [tracker.update(scene(k)) for k in range(1, count)]


def test_trackers_in_threads_share_an_engine(engine: Any) -> None:
    alone = [follow(engine, start) for start in range(3)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda start: follow(engine, start), range(3)))
    assert together == alone


def in_child(boxes: Any) -> None:
    """Track in a child process, which loads its own tracker."""
    tracker = siamtrack.load("siamtrack-nano", device="cpu", engine="onnx:int8", threads=1)
    boxes.put([result.box for result in follow(tracker.engine, 0, 3)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_tracks(engine: Any, method: str) -> None:
    """Also after the parent has used its engine: a child loads its own."""
    expected = [result.box for result in follow(engine, 0, 3)]
    context: Any = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=in_child, args=(queue,))
    child.start()
    child.join(120)  # three boxes fit into the pipe
    child.kill()  # one that hangs would hold this process's pipes for ever
    assert child.exitcode == 0
    assert queue.get() == expected
