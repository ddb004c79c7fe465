"""Tracking in the studio: what comes out, live events, stopping, crashes; the command itself."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import siamtrack
from siamtrack.cli import main
from siamtrack.studio.server import Studio
from siamtrack.utils.workers import WorkerPool
from siamtrack.video.source import open_source
from tests.studio.client import Client, Events, box_in, served, write_clip
from tests.studio.kills import Driver, started

COUNT = 40


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", COUNT)


@pytest.fixture(scope="module")
def studio(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Studio]]:
    with served([clip], tmp_path_factory.mktemp("studio")) as both:
        yield both


@pytest.fixture
def client(studio: tuple[Client, Studio]) -> Client:
    client = studio[0]
    targets = client.get("/api/clips/0")["targets"]
    if targets:
        client.perform(*({"op": "delete_target", "target": t["id"]} for t in targets))
    return client


@contextlib.contextmanager
def page_of(client: Client) -> Iterator[Events]:
    page = Events(client)
    connection = page.hello["connection"]
    asked = client.ask
    client.ask = lambda path, body=None, *, headers=None: asked(  # type: ignore[method-assign]
        path, body, headers={"X-Siamtrack-Connection": connection, **(headers or {})}
    )
    try:
        yield page
    finally:
        del client.ask  # type: ignore[method-assign]
        page.close()


def track(client: Client, page: Events, targets: list[int], frame: int, **options) -> dict:
    """Track and wait for the end; the event that tells it."""
    body = {"targets": targets, "frame": frame, "direction": "forward", **options}
    job = client.post("/api/clips/0/runs", body)["job"]
    return page.wait_for("done", job=job)


def rows_of(client: Client, target: int) -> dict:
    return client.get(f"/api/clips/0/track?target={target}")


def own_boxes(images: list[np.ndarray], box: list[float]) -> list[list[float]]:
    """What the tracker says of a list of pictures."""
    tracker = siamtrack.load(device="cpu")
    tracker.init(images[0], box)
    return [list(tracker.update(image).box) for image in images[1:]]


def test_forward_only_is_what_siamtrack_track_writes(client: Client, clip: Path, tmp_path) -> None:
    boxes = [[20, 40, 32, 24], [90, 10, 30, 30]]
    targets = [client.draw(0, box) for box in boxes]
    with page_of(client) as page:
        body = {"targets": targets, "frame": 0, "direction": "forward", "until": "end"}
        job = client.post("/api/clips/0/runs", body)["job"]
        seen: dict[int, list[int]] = {target: [] for target in targets}
        while True:
            event = page.wait_for("progress", job=job)
            for rows in event["rows"]:
                seen[rows["target"]] += rows["frame"]
            if event["done"] == event["total"]:
                break
        done = page.wait_for("done", job=job)
    assert (done["reason"], done["message"]) == ("end", None)
    every = list(range(1, COUNT))
    assert seen == {target: every for target in targets}
    made = client.post("/api/clips/0/export", {"format": "csv"})
    ours = client.ask(f"/api/exports/{made['export']}")[1].decode()
    out = tmp_path / "out.csv"
    given = [f"--box={','.join(map(str, box))}" for box in boxes]
    arguments = ["track", str(clip), *given, "--csv", str(out), "--no-display", "--device=cpu"]
    # In a process, as the studio does: numpy sums in as many threads as it found at its start.
    subprocess.run([sys.executable, "-m", "siamtrack", *arguments], check=True)
    # The studio's targets of this test have other numbers.
    for number, target in enumerate(targets):
        ours = re.sub(rf"(?m)^(\d+,[\d.]+),{target},", rf"\1,{number},", ours)
    assert ours == out.read_text()


def test_backward_is_forward_on_the_reversed_frames_and_both_are_blended(client, clip) -> None:
    with open_source(clip) as video:
        images = [frame.image for frame in video]
    target = client.draw(0, box_in(0))
    client.draw(30, box_in(30), target)
    keys = client.get("/api/clips/0")["targets"][0]["keys"]
    with page_of(client) as page:
        done = track(client, page, [target], 30, direction="both", until="key")
        [shown] = done["changes"]["targets"]
        runs = [(run["frame"], run["direction"]) for run in shown["runs"]]
        assert runs == [(30, 1), (30, -1)] and done["reason"] == "key"
        backward = own_boxes(images[30::-1], box_in(30))
        rows = rows_of(client, target)
        assert rows["x"][1:30] == [round(box[0], 2) for box in backward[:-1]][::-1]
        assert rows["source"][1:30] == [3] * 29

        # What is there is not tracked again; the other half is, and both are blended.
        again = {"targets": [target], "frame": 30, "direction": "backward", "until": "key"}
        assert client.post("/api/clips/0/runs", again) == {"job": None}
        done = track(client, page, [target], 0, until="default")
        assert done["reason"] == "key"
    rows = rows_of(client, target)
    assert rows["source"][1:30] == [4] * 29 and min(rows["agreement"][1:30]) > 0.5
    assert client.get("/api/clips/0/check")["count"] == 0
    # The drawn boxes are as they were; undo takes the last run away and nothing else.
    snapshot = client.get("/api/clips/0")
    assert snapshot["targets"][0]["keys"] == keys
    assert snapshot["undo"] == f"tracking of target {target}"
    client.post("/api/clips/0/undo", {"revision": snapshot["revision"]})
    assert rows_of(client, target)["source"][1:30] == [3] * 29
    # A box that changes makes its runs stale: shown, never exported.
    client.draw(30, [5, 5, 20, 20], target)
    assert set(rows_of(client, target)["source"][1:30]) == {7}
    counts = client.post("/api/clips/0/export", {"format": "csv", "preview": True})["counts"]
    assert (counts["boxes"], counts["stale"]) == (2, 38)


def test_what_was_tracked_in_another_clip_is_tracked_again(studio, clip, tmp_path: Path) -> None:
    _, here = studio
    mine, until = tmp_path / "mine.mp4", {"until": "frames", "frames": 5}
    write_clip(mine, 20)
    for count in (20, 25):
        write_clip(mine, count)
        with served([mine], tmp_path) as (client, other):
            other.jobs._pool.close()
            other.jobs._pool = here.jobs._pool  # its process has the weights already
            with page_of(client) as page:
                if count == 20:
                    target = client.draw(0, box_in(0))
                else:
                    assert "another file" in client.get("/api/clips/0")["read_only"]
                    client.post("/api/clips/0/relink", {})
                    assert set(rows_of(client, target)["source"][1:6]) == {7}
                track(client, page, [target], 0, **until)
            assert rows_of(client, target)["source"][1:6] == [2] * 5
            other.jobs._pool = WorkerPool("none:none", {}, workers=1, logs=tmp_path)


def test_every_nth_frame_and_so_many_frames(client: Client) -> None:
    target = client.draw(2, box_in(2))
    with page_of(client) as page:
        done = track(client, page, [target], 20, until="frames", frames=11, step=5)
    assert done["reason"] == "frames"
    [run] = done["changes"]["targets"][0]["runs"]
    assert (run["first"], run["last"], run["step"]) == (3, 13, 5)
    rows = rows_of(client, target)
    assert rows["source"] == [0, 0, 1] + [2] * 11 + [0] * (COUNT - 14)
    # Between frames 2 and 7 a straight line.
    x = rows["x"]
    assert x[4] == pytest.approx(x[2] + 0.4 * (x[7] - x[2]), abs=0.02)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"targets": []}, 400),
        ({"targets": "all"}, 400),
        ({"targets": [99]}, 404),
        ({"frame": None}, 400),
        ({"frame": 4000}, 404),
        ({"direction": "up"}, 400),
        ({"until": "never"}, 400),
        ({"until": "frames"}, 400),
        ({"step": 0}, 400),
        ({"step": 10**6}, 400),
    ],
    ids=str,
)
def test_runs_that_cannot_be(client: Client, changes: dict, status: int) -> None:
    target = client.draw(2, box_in(2))
    body = {"targets": [target], "frame": 2, "direction": "forward", **changes}
    assert client.ask("/api/clips/0/runs", body)[0] == status


def test_nothing_to_track_from(client: Client) -> None:
    [target] = client.perform({"op": "add_target"})["created"]
    body = {"targets": [target], "frame": 2, "direction": "forward"}
    assert client.ask("/api/clips/0/runs", body)[0] == 409
    client.perform({"op": "set_key", "target": target, "frame": 5, "outside": True})
    assert client.ask("/api/clips/0/runs", body)[0] == 409
    client.draw(2, box_in(2), target)
    client.perform({"op": "update_target", "target": target, "locked": True})
    assert client.ask("/api/clips/0/runs", body)[0] == 409


@pytest.fixture
def long_clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "long.mp4", 600)


def test_stopping_crashing_and_hanging_keep_the_rows_there_are(studio, long_clip, tmp_path) -> None:
    _, here = studio
    with served([long_clip], tmp_path) as (client, other):
        other.jobs._pool.close()
        other.jobs._pool = here.jobs._pool  # its process has the weights already
        target = client.draw(0, box_in(0))
        with page_of(client) as page:

            def begin() -> int:
                body = {"targets": [target], "frame": 0, "direction": "forward", "until": "end"}
                return client.post("/api/clips/0/runs", body)["job"]

            def rows() -> int:
                return sum(source == 2 for source in rows_of(client, target)["source"])

            def take_back() -> None:
                revision = client.get("/api/clips/0")["revision"]
                client.post("/api/clips/0/undo", {"revision": revision})
                assert rows() == 0

            # 1. Stopped; a second job that waits is taken from the queue.
            job = begin()
            waiting = [begin(), begin()]
            shown = client.get("/api/runs")["jobs"]
            assert [entry["job"] for entry in shown] == [job, *waiting]
            client.post(f"/api/runs/{waiting[1]}/move", {"position": 0})
            assert [e["job"] for e in client.get("/api/runs")["jobs"]] == [job, *waiting[::-1]]
            for number in waiting:
                client.post(f"/api/runs/{number}/stop", {})
            page.wait_for("progress", job=job)
            assert client.ask(f"/api/runs/{job}/move", {"position": 0})[0] == 404
            client.post(f"/api/runs/{job}/stop", {})
            done = page.wait_for("done", job=job)
            assert (done["reason"], done["message"]) == ("stopped", None)
            assert 0 < rows() < 599 and client.get("/api/runs")["jobs"] == []
            assert client.ask(f"/api/runs/{job}/stop", {})[0] == 404
            take_back()

            # 2. The key frame changes while it is tracked from.
            job = begin()
            page.wait_for("progress", job=job)
            client.draw(0, [20, 40, 30, 24], target)
            assert page.wait_for("done", job=job)["reason"] == "stopped"
            client.draw(0, box_in(0), target)
            assert rows() > 0  # it is as it was, so the run is valid again
            for _ in range(3):
                revision = client.get("/api/clips/0")["revision"]
                client.post("/api/clips/0/undo", {"revision": revision})
            assert rows() == 0

            # 3. The process is killed, hangs; the next job starts another one.
            for number, reason in ((signal.SIGKILL, "failed"), (signal.SIGSTOP, "hung")):
                job = begin()
                page.wait_for("progress", job=job)
                os.kill(other.jobs._pool._processes[0]._process.pid, number)
                done = page.wait_for("done", job=job)  # after `HANG_S` at the latest
                assert done["reason"] == reason and "are kept" in done["message"]
                assert 0 < rows() < 599
                take_back()
    assert here.jobs.to_json() == []


# --- The command ---------------------------------------------------------------------------------


def test_killed_in_drags_and_runs_it_has_all_that_it_answered(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 300)
    driver = Driver(clip, 300, tmp_path / "project", seed=3)
    for while_tracking in (False, True):
        driver.live_and_be_killed(while_tracking)
    driver.look_again()
    assert driver.operations > 5 and driver.told > 0


def test_a_taken_port_a_taken_project_and_the_end(clip: Path, tmp_path: Path) -> None:
    project = ["--project", str(tmp_path)]
    with contextlib.ExitStack() as stack:
        # Its port is taken: the next one is, and it says so.
        taken = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = taken.getsockname()[1]
        process, client = stack.enter_context(started(str(clip), *project, "--port", str(port)))
        assert port < client.port < port + 100
        assert process.stderr.readline() == f"siamtrack: port {port} is taken\n"
        target = client.draw(0, [1, 1, 10, 10])
        # A second studio on this project.
        assert main(["studio", str(clip), "--no-browser", *project]) == 3
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    # Ctrl-C while something is tracked says so with its code.
    with started(str(clip), *project) as (process, client):
        body = {"targets": [target], "frame": 0, "direction": "forward"}
        assert client.post("/api/clips/0/runs", body)["job"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def test_what_is_wrong_is_said_before_a_browser_opens(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda address: pytest.fail("a browser was opened"))
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "file").touch()
    project = ["--project", str(tmp_path / "p")]
    for arguments, code, message in (
        ([str(tmp_path / "none.mp4"), *project], 3, "cannot be opened"),
        ([str(tmp_path / "text.mp4"), *project], 3, "cannot be opened"),
        (["0", *project], 3, "camera or a stream"),
        (["rtsp://somewhere/1", *project], 3, "camera or a stream"),
        (["-", *project], 3, "camera or a stream"),
        (["/dev/null", *project], 3, "camera or a stream"),
        ([str(clip), "--project", str(tmp_path / "file")], 3, "--project DIR"),
        ([str(clip), str(clip), *project], 2, "given twice"),
        ([str(clip), "--set", "windw_influence=1", *project], 2, "did you mean"),
        ([str(clip), "--weights", "none", *project], 3, "none"),
    ):
        assert main(["studio", *arguments]) == code
        captured = capsys.readouterr()
        assert captured.out == "" and message in captured.err and captured.err.count("\n") == 1


def test_without_the_extra_it_says_what_to_install(clip: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("siamtrack.cli.studio.find_spec", lambda name: None)
    assert main(["studio", str(clip)]) == 2
    assert "pip install 'siamtrack[studio]'" in capsys.readouterr().err


def test_help_does_not_import_the_server() -> None:
    code = (
        "import sys, siamtrack.cli\n"
        "siamtrack.cli.main(['--help']); siamtrack.cli.main(['studio', '--help'])\n"
        "heavy = ('starlette', 'uvicorn', 'numpy')\n"
        "sys.exit(any(name.partition('.')[0] in heavy for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
