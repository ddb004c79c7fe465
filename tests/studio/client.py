"""A studio that is served in this process, and a client that speaks to it as the page does."""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from websockets.sync.client import connect

from siamtrack.studio.server import Studio, StudioServer, bind

TOKEN = "the-token-of-the-tests"
CLIP_WH = (160, 120)
# Every wait ends with its condition; this only bounds the wait for one that never comes.
PATIENCE_S = 280


def box_in(frame: int) -> list[float]:
    """Where the object of `write_clip` is."""
    return [20.0 + 2 * frame, 40.0 + (frame % 7), 32.0, 24.0]


def write_clip(path: Path, count: int = 40, wh: tuple[int, int] = CLIP_WH) -> Path:
    """A clip with B-frames in which one thing moves to the right."""
    rng = np.random.default_rng(1)
    ground = rng.integers(60, 190, (8, 12, 3), dtype=np.uint8)
    ground = cv2.resize(ground, wh, interpolation=cv2.INTER_CUBIC)
    thing = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    thing = cv2.resize(thing, (32, 24), interpolation=cv2.INTER_NEAREST)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = wh
        stream.pix_fmt, stream.gop_size, stream.thread_count = "yuv420p", 12, 1
        stream.options = {"bf": "2", "preset": "ultrafast", "crf": "20"}
        for frame in range(count):
            image = ground.copy()
            x, y, w, h = map(int, box_in(frame))
            right = min(wh[0], x + w)
            if x < right:
                image[y : y + h, x:right] = thing[:, : right - x]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    return path


class Client:
    """Speaks to a studio on a port of this machine."""

    def __init__(self, port: int, token: str = TOKEN) -> None:
        self.port, self.token = port, token
        self.host = f"127.0.0.1:{port}"

    def ask(
        self, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, content (JSON where it is that) and headers; a body makes it a POST."""
        sent = {"Authorization": f"Bearer {self.token}"}
        if body is not None:
            sent |= {"Origin": f"http://{self.host}", "Content-Type": "application/json"}
            body = body if isinstance(body, bytes) else json.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            method = "GET" if body is None else "POST"
            connection.request(method, path, body, {**sent, **(headers or {})})
            reply = connection.getresponse()
            data = reply.read()
            found = {name.lower(): value for name, value in reply.getheaders()}
            if found.get("content-type") == "application/json":
                return reply.status, json.loads(data), found
            return reply.status, data, found

    def get(self, path: str) -> Any:
        """What is there."""
        status, content, _ = self.ask(path)
        assert status == 200, content
        return content

    def post(self, path: str, body: Any) -> Any:
        """What an operation answers."""
        status, content, _ = self.ask(path, body)
        assert status == 200, content
        return content

    def perform(self, *operations: dict[str, Any], clip: int = 0) -> dict[str, Any]:
        """Perform operations as one step."""
        revision = self.get(f"/api/clips/{clip}")["revision"]
        body = {"revision": revision, "ops": list(operations)}
        done: dict[str, Any] = self.post(f"/api/clips/{clip}/ops", body)
        return done

    def draw(self, frame: int, box: Sequence[float], target: Any = "new") -> int:
        """A box for a target, new by default; returns its number."""
        new = [{"op": "add_target", "label": "thing"}] if target == "new" else []
        key = {"op": "set_key", "target": target, "frame": frame, "box": list(box)}
        return [*self.perform(*new, key)["created"], target][0]

    def wait_until_open(self, clip: int = 0) -> None:
        """Wait until a clip can be used."""
        for _ in range(600):
            if self.get("/api/session")["clips"][clip]["state"] != "opening":
                return
            time.sleep(0.05)
        raise TimeoutError("the clip did not open")

    def wait_until_checked(self, clip: int) -> dict[str, Any]:
        """Wait until the pass over a clip has ended; what is known of it then."""
        for _ in range(2400):
            found: dict[str, Any] = self.get(f"/api/clips/{clip}")["clip"]
            if found["scanned"] == found["frames"]:
                return found
            time.sleep(0.05)
        raise TimeoutError("the clip was not passed")


class Events:
    """What a page gets on its WebSocket."""

    def __init__(self, client: Client) -> None:
        self._open = contextlib.ExitStack()
        self.socket = self._open.enter_context(
            connect(
                f"ws://{client.host}/ws",
                subprotocols=["siamtrack", f"token.{client.token}"],  # type: ignore[list-item]
                origin=f"http://{client.host}",  # type: ignore[arg-type]
            )
        )
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.hello = self.wait_for("hello")

    def _read(self) -> None:
        with contextlib.suppress(Exception):
            for message in self.socket:
                self._queue.put(json.loads(message))
        self._queue.put(None)

    def wait_for(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next event of a kind, with these fields."""
        while (event := self._queue.get(timeout=PATIENCE_S)) is not None:
            if event["type"] == kind and all(event.get(k) == v for k, v in fields.items()):
                return event
        raise ConnectionError("the socket was closed")

    def close(self) -> None:
        """Close the page."""
        self._open.close()
        self._thread.join()


@contextlib.contextmanager
def served(
    clips: Sequence[Path], folder: Path, *, token: str = TOKEN
) -> Iterator[tuple[Client, Studio]]:
    """A studio with some clips, whose projects are in a folder."""
    setup = {"weights": None, "device": "cpu", "engine": "auto", "options": {}}
    folders = [folder / f"project{k}" for k in range(len(clips))]
    locations = [str(clip) for clip in clips]
    with Studio(locations, folders, setup, ("tests", "hash")) as studio:
        studio.prepare()
        sock, _ = bind(0)
        ended = threading.Event()
        server = StudioServer(studio, sock, token)
        thread = threading.Thread(target=server.serve_until, args=(ended,), daemon=True)
        thread.start()
        client = Client(sock.getsockname()[1], token)
        try:
            client.wait_until_open()
            yield client, studio
        finally:
            studio.close()
            ended.set()
            thread.join()
