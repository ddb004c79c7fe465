"""A studio that is killed in the middle of drags and runs, over HTTP, as often as one likes.

python -m tests.studio.kills 50 [SEED]

A driver draws, moves, deletes, undoes and tracks at random, and the server gets SIGKILL at a random
moment. What was answered before must be there at the next start, and of what was not answered at
most the one operation that was under way.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.studio.client import Client, Events, box_in, write_clip

GONE = (OSError, http.client.HTTPException, ConnectionError)


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """`siamtrack studio` in a process of its own, and a client for the address it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "siamtrack", "studio", "--no-browser", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = process.stdout.readline().strip()
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/#token=([\w-]{43})", address)
        assert found, process.stderr.read()
        client = Client(int(found[1]), found[2])
        client.wait_until_open()
        yield process, client
    finally:
        process.kill()
        process.communicate()


class Driver:
    """Works in a studio, keeps what was answered, and looks whether it is there afterwards.

    Attributes:
        operations: answered so far.
        told: rows of the run under way that the page was told of.
    """

    def __init__(self, clip: Path, frames: int, project: Path, seed: int) -> None:
        self._arguments = (str(clip), "--project", str(project))
        self._frames, self._rng = frames, np.random.default_rng(seed)
        self.operations = self.told = 0
        self._revision = 0
        # By target: boxes by frame, as they were sent; and by run: its first and last frame.
        self._keys: dict[int, dict[int, Any]] = {}
        self._runs: dict[str, tuple[int, int, int]] = {}
        self._sent: dict[str, Any] | None = None  # not answered yet
        self._seen: tuple[int, int] | None = None  # target and last frame that was told of

    def live_and_be_killed(self, while_tracking: bool) -> None:
        """One life of the studio: look, work, be killed."""
        with started(*self._arguments) as (process, client):
            self._look(client)
            page = Events(client)
            name = {"X-Siamtrack-Connection": page.hello["connection"]}
            # After some operations, anywhere within one of the next.
            after, delay_s = int(self._rng.integers(0, 50)), float(self._rng.uniform(0, 0.1))
            killer = threading.Timer(delay_s, process.kill)
            try:
                if while_tracking:
                    self._track(client, page, name)
                for number in range(200):
                    if number == after:
                        killer.start()
                    self._operate(client, name)
                killer.join()
            except GONE:
                pass
            finally:
                killer.cancel()
                process.send_signal(signal.SIGKILL)
                with contextlib.suppress(*GONE):
                    self._hear(page)
                page.close()

    def look_again(self) -> None:
        """Look at what the last life left, and nothing else."""
        with started(*self._arguments) as (_, client):
            self._look(client)

    def _post(self, client: Client, name: dict[str, str], path: str, body: Any) -> Any:
        status, answer, _ = client.ask(path, body, headers=name)
        assert status == 200, answer
        return answer

    def _track(self, client: Client, page: Events, name: dict[str, str]) -> None:
        """Begin to track, and wait for the first rows."""
        operations = [
            {"op": "add_target"},
            {"op": "set_key", "target": "new", "frame": 0, "box": box_in(0)},
        ]
        body = {"revision": self._revision, "ops": operations}
        done = self._post(client, name, "/api/clips/0/ops", body)
        [target] = done["created"]
        self._take(done)
        self._keys[target] = {0: box_in(0)}
        body = {"targets": [target], "frame": 0, "direction": "forward", "until": "end"}
        self._post(client, name, "/api/clips/0/runs", body)
        self._note(page.wait_for("progress"))

    def _note(self, event: dict[str, Any]) -> None:
        [rows] = event["rows"]
        self._seen = rows["target"], rows["frame"][-1]
        self.told = event["done"]

    def _hear(self, page: Events) -> None:
        """All that the page was told before the end."""
        while True:
            self._note(page.wait_for("progress"))

    def _operate(self, client: Client, name: dict[str, str]) -> None:
        rng, path = self._rng, "ops"
        targets = sorted(self._keys)
        kind = rng.choice(["draw", "drag", "drag", "drag", "delete", "outside", "undo", "redo"])
        target = int(rng.choice(targets)) if targets else None
        frame = int(rng.integers(1, self._frames))
        box = [float(v) for v in rng.integers(1, 90, 2)] + [
            float(v) for v in rng.integers(3, 30, 2)
        ]
        body: dict[str, Any] = {"revision": self._revision}
        if kind in ("undo", "redo"):
            if not client.get("/api/clips/0")[kind]:
                return
            path = kind
        elif target is None or kind == "draw":
            kind, target = "draw", None
            key = {"op": "set_key", "target": "new", "frame": frame, "box": box}
            body["ops"] = [{"op": "add_target", "label": "thing"}, key]
        elif kind == "drag" or frame not in self._keys[target]:
            kind = "drag"
            body["ops"] = [{"op": "set_key", "target": target, "frame": frame, "box": box}]
        elif kind == "outside":
            body["ops"] = [{"op": "set_key", "target": target, "frame": frame, "outside": True}]
        else:
            body["ops"] = [{"op": "delete_key", "target": target, "frame": frame}]
        self._sent = {"kind": kind, "target": target, "frame": frame, "box": box}
        status, done, _ = client.ask(f"/api/clips/0/{path}", body, headers=name)
        if status == 409 and done["error"]["code"] == "revision":  # a run came in between
            self._revision, self._sent = done["revision"], None
            return
        assert status == 200, done
        if kind == "draw":
            target = done["created"][0]
            self._keys[target] = {}
        if kind in ("draw", "drag"):
            self._keys[target][frame] = box
        elif kind == "outside":
            self._keys[target][frame] = None
        elif kind == "delete":
            del self._keys[target][frame]
        self._take(done)
        if kind in ("undo", "redo"):  # what it did is the server's to say
            for shown in done["changes"]["targets"]:
                self._keys[shown["id"]] = _keys_of(shown)
            self._seen = None
        self._sent = None
        self.operations += 1

    def _take(self, done: dict[str, Any]) -> None:
        """What an answer says of runs and of targets that are gone."""
        self._revision = done["revision"]
        for number in done["changes"]["deleted"]:
            self._keys.pop(number, None)
        gone = {shown["id"] for shown in done["changes"]["targets"]}
        gone |= set(done["changes"]["deleted"])
        self._runs = {k: run for k, run in self._runs.items() if run[0] not in gone}
        for shown in done["changes"]["targets"]:
            for run in shown["runs"]:
                self._runs[run["id"]] = shown["id"], run["first"], run["last"]

    def _look(self, client: Client) -> None:
        """All that was answered is there."""
        snapshot = client.get("/api/clips/0")
        assert snapshot["revision"] >= self._revision
        found = {shown["id"]: _keys_of(shown) for shown in snapshot["targets"]}
        sent = self._sent
        if sent is not None and found != self._keys:
            self._check_unanswered(found, sent)
        else:
            assert found == self._keys
        runs = {
            run["id"]: (shown["id"], run["first"], run["last"])
            for shown in snapshot["targets"]
            for run in shown["runs"]
        }
        if sent is None or sent["kind"] not in ("undo", "redo"):
            assert runs.items() >= self._runs.items()
            if self._seen is not None and self._seen[0] in found:
                target, last = self._seen
                assert max(run[2] for run in runs.values() if run[0] == target) >= last
        self._keys, self._runs, self._revision = found, runs, snapshot["revision"]
        self._sent = self._seen = None

    def _check_unanswered(self, found: dict[int, dict[int, Any]], sent: dict[str, Any]) -> None:
        """The operation that was under way is there as a whole, and nothing else."""
        kind, target, frame = sent["kind"], sent["target"], sent["frame"]
        if kind in ("undo", "redo"):
            return  # it may be any of the steps before
        wanted = {number: dict(keys) for number, keys in self._keys.items()}
        if kind == "draw":
            [target] = set(found) - set(wanted)
            wanted[target] = {}
        if kind == "delete":
            del wanted[target][frame]
        else:
            wanted[target][frame] = None if kind == "outside" else sent["box"]
        assert found == wanted


def _keys_of(shown: dict[str, Any]) -> dict[int, Any]:
    return {key["frame"]: key["box"] for key in shown["keys"]}


def main() -> None:
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    frames = 600
    with tempfile.TemporaryDirectory() as folder:
        clip = write_clip(Path(folder) / "clip.mp4", frames)
        driver = Driver(clip, frames, Path(folder) / "project", seed)
        for number in range(count):
            begun = time.monotonic()
            driver.live_and_be_killed(while_tracking=number % 2 == 1)
            print(
                f"kill {number + 1}: {driver.operations} operations answered, "
                f"{driver.told} rows told, {time.monotonic() - begun:.1f} s",
                flush=True,
            )
        driver.look_again()
    print(f"{count} kills, {driver.operations} operations answered, all there")


if __name__ == "__main__":
    main()
