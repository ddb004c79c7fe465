"""The studio's server: routes for the page, and events on a WebSocket.

Reading order: `Studio`, everything that is open; `Connections`, the pages that look at it; then
the routes in the order of `make_application`, and `serve`.

Requests are answered in threads: a clip has a lock of its own, and a commit waits for the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeAlias

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from siamtrack._version import __version__
from siamtrack.data.formats.studio import IMPORT_IOU
from siamtrack.errors import ConfigError, DatasetError, OutputError, SiamTrackError, VideoError
from siamtrack.studio.exchange import (
    Exchange,
    ExportOptions,
    formats_to_json,
    import_file,
)
from siamtrack.studio.frames import (
    QUALITIES,
    BusyError,
    DroppedError,
    Shot,
    ShotCache,
    round_width,
)
from siamtrack.studio.gate import PROTOCOL, BodyTooLargeError, Gate
from siamtrack.studio.jobs import JobQueue
from siamtrack.studio.project import (
    MalformedError,
    RefusedError,
    UnknownNumberError,
)
from siamtrack.studio.session import (
    ClipOpeningError,
    ClipSession,
    ReadOnlyError,
    StaleRevisionError,
    rows_to_bytes,
    rows_to_json,
)
from siamtrack.studio.store import DiskError
from siamtrack.tracking.track import CHECK_THRESHOLD
from siamtrack.utils.files import Closing, TemporaryFolder

PAGE = Path(__file__).parent / "page"
MAX_CONNECTIONS = 8
MAX_MESSAGE_BYTES = 64 << 10
MAX_EVENTS_WAITING = 2000
MAX_DEPTH, MAX_ENTRIES = 12, 100_000
REQUEST_TIMEOUT_S = 10.0
"""Longest time for the head of a request, and for each part of its body."""
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.(html|js|css|svg|png|woff2)")
_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "woff2": "font/woff2",
}


class OtherTabError(SiamTrackError, RuntimeError):
    """Another page may write, and this one only look."""


_ERRORS: tuple[tuple[type[Exception], int, str], ...] = (
    (MalformedError, 400, "bad_request"),
    (UnknownNumberError, 404, "not_found"),
    (StaleRevisionError, 409, "revision"),
    (ClipOpeningError, 409, "opening"),
    (RefusedError, 409, "refused"),
    (DroppedError, 410, "dropped"),
    (BodyTooLargeError, 413, "too_large"),
    (OtherTabError, 423, "other_tab"),
    (ReadOnlyError, 423, "read_only"),
    (BusyError, 503, "busy"),
    (DiskError, 507, "disk"),
    (OutputError, 507, "disk"),
    (ConfigError, 422, "unreadable"),
    (DatasetError, 422, "unreadable"),
    (VideoError, 422, "unreadable"),
    (OSError, 507, "disk"),
)
"""Status and code of each error; the first that fits."""
_GONE = (RuntimeError, WebSocketDisconnect, OSError)
"""What a WebSocket raises whose page is not there any more."""


class Connections:
    """The pages that are open, of which one may write."""

    def __init__(self) -> None:
        self._queues: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.writer: str | None = None

    def start(self) -> None:
        """Take events from now on, in the loop that runs."""
        self._loop = asyncio.get_running_loop()

    def tell(self, event: dict[str, Any]) -> None:
        """Send an event to all pages; from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._spread, event)

    def add(self) -> tuple[str, asyncio.Queue[dict[str, Any]]] | None:
        """A name and events for a new page; None if there are too many."""
        if len(self._queues) >= MAX_CONNECTIONS:
            return None
        name = secrets.token_hex(8)
        self._queues[name] = asyncio.Queue()
        self.writer = self.writer or name
        return name, self._queues[name]

    def remove(self, name: str) -> None:
        """Forget a page."""
        self._queues.pop(name, None)
        if self.writer == name:
            self.writer = None

    def take_over(self, name: str) -> None:
        """Let a page write, and the one that could before only look."""
        before, self.writer = self.writer, name
        for other, writes in ((before, False), (name, True)):
            if other in self._queues and before != name:
                self._queues[other].put_nowait({"type": "role", "writer": writes})

    def check_writer(self, name: str | None) -> None:
        """Raise `OtherTabError` if another page may write."""
        if self.writer is not None and name != self.writer:
            raise OtherTabError("the project is open in another tab; take over to change it here")

    def _spread(self, event: dict[str, Any]) -> None:
        for name, queue in list(self._queues.items()):
            if queue.qsize() >= MAX_EVENTS_WAITING:  # a page that does not read
                self._queues.pop(name)
                queue.put_nowait({"type": "bye", "text": "the page did not keep up; reload it"})
            else:
                queue.put_nowait(event)


class Studio(Closing):
    """Everything that is open.

    Args:
        locations: the clips.
        folders: of their projects.
        setup: arguments of `siamtrack.load`.
        weights: name and hash of the weights.
        fps: frames per second of the clips; None: as they say.
    """

    def __init__(
        self,
        locations: Sequence[str],
        folders: Sequence[Path],
        setup: Mapping[str, Any],
        weights: tuple[str, str],
        fps: float | None = None,
    ) -> None:
        self.setup, self.weights = setup, weights
        self._scratch = TemporaryFolder("siamtrack-studio-")
        self.connections = Connections()
        cache = ShotCache()
        self.clips = [
            ClipSession(number, location, folder, weights[1], cache, self._tell, fps)
            for number, (location, folder) in enumerate(zip(locations, folders, strict=True))
        ]
        self.jobs = JobQueue(setup, self._scratch, self._tell)
        self.exchange = Exchange(self._scratch)
        self._watched: ClipSession | None = None
        self._closing = threading.Event()
        self._opening = threading.Thread(target=self._open, name="studio-open", daemon=True)

    def prepare(self) -> None:
        """Look at all clips and take hold of their projects.

        Raises:
            SiamTrackError: none of them can be used; what is wrong with the first one.
        """
        errors = [error for clip in self.clips if (error := clip.prepare()) is not None]
        if len(errors) == len(self.clips):
            raise errors[0]

    def open_all(self) -> None:
        """Open the clips in a thread, one after another."""
        self._opening.start()

    def _open(self) -> None:
        for clip in self.clips:
            if not clip.error and not self._closing.is_set():
                clip.open()
        for clip in self.clips:
            clip.scan(self._is_busy, self._closing)

    def _is_busy(self) -> bool:
        return self.jobs.is_running or any(clip.is_watched for clip in self.clips)

    def _tell(self, event: dict[str, Any]) -> None:
        if event["type"] == "changed-keys":
            self.jobs.stop_from(self.clips[event["clip"]], event["starts"])
        else:
            self.connections.tell(event)

    def clip(self, number: str) -> ClipSession:
        """A clip by its number in an address."""
        if not number.isdecimal() or int(number[:9]) >= len(self.clips):
            raise UnknownNumberError(f"there is no clip {number[:20]}")
        return self.clips[int(number[:9])]

    def watch(self, clip: ClipSession) -> None:
        """Note which clip is looked at: the one before needs no decoder now."""
        before, self._watched = self._watched, clip
        if before is not None and before is not clip:
            before.rest()

    def close(self) -> None:
        """Stop tracking, write everything, let the projects go."""
        self.connections.tell({"type": "bye", "text": "siamtrack has stopped"})
        self._closing.set()
        self.jobs.close()
        if self._opening.is_alive():
            self._opening.join()
        for clip in self.clips:
            clip.close()
        self._scratch.close()


# --- Requests ------------------------------------------------------------------------------------


_Answer: TypeAlias = Mapping[str, Any] | Response
_Handler: TypeAlias = Callable[[Request, Any], _Answer]
_Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def _studio(request: Request) -> Studio:
    studio: Studio = request.app.state.studio
    return studio


def _clip(request: Request) -> ClipSession:
    return _studio(request).clip(request.path_params["clip"])


async def _failed(request: Request, error: Exception) -> Response:
    """The answer to a request that raised one of `_ERRORS`, or another error of ours."""
    fitting = ((status, code) for kind, status, code in _ERRORS if isinstance(error, kind))
    status, code = next(fitting, (422, "unreadable"))
    content: dict[str, Any] = {"error": {"code": code, "message": " ".join(str(error).split())}}
    if isinstance(error, StaleRevisionError):
        content["revision"] = error.revision
    return JSONResponse(content, status)


def _get(handler: Callable[[Request], _Answer]) -> _Endpoint:
    async def endpoint(request: Request) -> Response:
        return _response(await run_in_threadpool(handler, request))

    return endpoint


def _post(handler: _Handler) -> _Endpoint:
    """An endpoint that changes something: only the page that may write, with a JSON object."""

    async def endpoint(request: Request) -> Response:
        check_writer(request)
        body = b"".join([part async for part in body_parts(request)])
        return _response(await run_in_threadpool(handler, request, parse_body(body)))

    return endpoint


def _response(answer: _Answer) -> Response:
    return answer if isinstance(answer, Response) else JSONResponse(answer)


def check_writer(request: Request) -> None:
    """Raise `OtherTabError` where another page may write."""
    name = request.headers.get("x-siamtrack-connection")
    _studio(request).connections.check_writer(name)


async def body_parts(request: Request) -> AsyncIterator[bytes]:
    """The parts of a body; one that does not come in time is an error."""
    stream = request.stream().__aiter__()
    while True:
        try:
            yield await asyncio.wait_for(anext(stream), REQUEST_TIMEOUT_S)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise MalformedError("the body of the request did not come in time") from error


def parse_body(body: bytes) -> dict[str, Any]:
    """A JSON object, not too deep and not too long.

    Raises:
        MalformedError: it is none.
    """

    def refuse(name: str) -> float:
        raise ValueError(f"{name} is no number")

    try:
        content = json.loads(body, parse_constant=refuse)
    except (RecursionError, UnicodeDecodeError, ValueError) as error:
        raise MalformedError(f"the body is not JSON: {error}") from error
    _check_shape(content)
    if not isinstance(content, dict):
        raise MalformedError("the body is no JSON object")
    return content


def _check_shape(content: Any) -> None:
    waiting, entries = [(content, 1)], 0
    while waiting:
        value, depth = waiting.pop()
        inside = list(value.values()) if isinstance(value, dict) else value
        if isinstance(inside, list):
            entries += len(inside)
            if depth > MAX_DEPTH or entries > MAX_ENTRIES:
                raise MalformedError("the body is nested too deeply or too long")
            waiting += [(one, depth + 1) for one in inside]


def _number(request: Request, name: str, default: int | None = None) -> int:
    text = request.query_params.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"-?\d{1,9}", text):
        raise MalformedError(f"{name} is {text!r}; give a whole number")
    return int(text)


def _optional(request: Request, name: str) -> int | None:
    return _number(request, name) if name in request.query_params else None


def _threshold(request: Request) -> float:
    text = request.query_params.get("threshold", str(CHECK_THRESHOLD))
    if not re.fullmatch(r"[01]|[01]?\.\d{1,9}", text) or float(text) > 1:
        raise MalformedError(f"threshold is {text!r}; give a number from 0 to 1")
    return float(text)


def _revision(body: Mapping[str, Any]) -> int:
    revision = body.get("revision")
    if type(revision) is not int:
        raise MalformedError("give the revision that you know as a whole number")
    return revision


# --- Routes --------------------------------------------------------------------------------------


def _page(request: Request) -> Response:
    name = request.path_params.get("name", "index.html")
    file = PAGE / name
    if not _NAME.fullmatch(name) or not file.is_file():
        return JSONResponse({"error": {"code": "not_found", "message": "no such file"}}, 404)
    return Response(file.read_bytes(), media_type=_TYPES[file.suffix[1:]])


def _session(request: Request) -> _Answer:
    studio = _studio(request)
    labels = [label for clip in studio.clips if clip.is_ready for label in clip.labels()]
    return {
        "version": __version__,
        "weights": studio.weights[0],
        "engine": studio.setup["engine"],
        "options": studio.setup["options"],
        "clips": [clip.summary() for clip in studio.clips],
        "formats": formats_to_json(),
        "labels": list(dict.fromkeys(labels)),
    }


def _snapshot(request: Request) -> _Answer:
    return _clip(request).snapshot()


def _times(request: Request) -> _Answer:
    return {"times_s": _clip(request).times_s()}


def _track(request: Request) -> _Answer:
    target = _number(request, "target")
    revision, rows = _clip(request).rows(
        target, _number(request, "first", 0), _optional(request, "last"), _threshold(request)
    )
    if request.query_params.get("as") != "binary":
        return rows_to_json(target, revision, rows)
    headers = {
        "X-Siamtrack-Revision": str(revision),
        "X-Siamtrack-First": str(rows.first),
        "X-Siamtrack-Last": str(rows.first + len(rows) - 1),
    }
    return Response(rows_to_bytes(rows), media_type="application/octet-stream", headers=headers)


def _candidates(request: Request) -> _Answer:
    target, first = _number(request, "target"), _number(request, "first")
    return _clip(request).candidates(target, first, _number(request, "last"))


def _check(request: Request) -> _Answer:
    return _clip(request).to_check(_threshold(request))


def _operations(request: Request, body: dict[str, Any]) -> _Answer:
    operations = body.get("ops")
    if not isinstance(operations, list):
        raise MalformedError("give the operations as a list, ops")
    return _clip(request).perform(_revision(body), operations)


def _undo(request: Request, body: dict[str, Any]) -> _Answer:
    return _clip(request).undo(_revision(body))


def _redo(request: Request, body: dict[str, Any]) -> _Answer:
    return _clip(request).undo(_revision(body), again=True)


def _relink(request: Request, body: dict[str, Any]) -> _Answer:
    return _clip(request).relink()


def _start_runs(request: Request, body: dict[str, Any]) -> _Answer:
    clip = _clip(request)
    runs = clip.plan(
        body.get("targets"),
        body.get("frame"),
        body.get("direction"),
        body.get("until", "default"),
        body.get("frames"),
        body.get("step"),
    )
    if not runs:
        return {"job": None}
    return {"job": _studio(request).jobs.add(clip, body["direction"], runs)}


def _jobs(request: Request) -> _Answer:
    return {"jobs": _studio(request).jobs.to_json()}


def _stop(request: Request, body: dict[str, Any]) -> _Answer:
    _studio(request).jobs.stop(_job(request))
    return {}


def _move(request: Request, body: dict[str, Any]) -> _Answer:
    position = body.get("position")
    if type(position) is not int:
        raise MalformedError("give the new position as a whole number")
    _studio(request).jobs.move(_job(request), position)
    return {}


def _job(request: Request) -> int:
    text = request.path_params["job"]
    if not re.fullmatch(r"\d{1,9}", text):
        raise UnknownNumberError(f"there is no job {text[:20]!r}")
    return int(text)


def _export(request: Request, body: dict[str, Any]) -> _Answer:
    options = ExportOptions.parse(body.get("format"), body.get("options", {}))
    preview = body.get("preview", False) is True
    return _studio(request).exchange.export(_clip(request), options, preview=preview)


def _exported(request: Request) -> _Answer:
    file = _studio(request).exchange.file(request.path_params["export"])
    return FileResponse(file.path, media_type="application/octet-stream", filename=file.name)


async def _import(request: Request) -> Response:
    check_writer(request)
    query = request.query_params
    try:
        tolerance = float(query.get("thin", IMPORT_IOU))
    except ValueError as error:
        raise MalformedError("thin is no number") from error
    clip, name = _clip(request), query.get("name", "")
    with tempfile.TemporaryDirectory(prefix="siamtrack-import-") as folder:
        upload = Path(folder) / "upload"
        with upload.open("wb") as file:
            async for part in body_parts(request):
                file.write(part)
        answer = await run_in_threadpool(
            import_file, clip, upload, name, query.get("format"), tolerance
        )
    return JSONResponse(answer)


async def _frame(request: Request) -> Response:
    clip, shot = _clip(request), _shot(request)
    _studio(request).watch(clip)
    data = await _wait(request, clip.picture(shot))
    headers = {
        "X-Siamtrack-Frame": str(shot.frame),
        "X-Siamtrack-Size": "{}x{}".format(*clip.frame_wh),
        # Another clip may have this address when the studio is started again.
        "Cache-Control": "private, no-cache",
    }
    kind = "image/png" if shot.lossless else "image/jpeg"
    return Response(data, media_type=kind, headers=headers)


def _shot(request: Request) -> Shot:
    text = request.path_params["frame"]
    if not re.fullmatch(r"\d{1,9}", text):
        raise UnknownNumberError(f"there is no frame {text[:20]!r}")
    width, quality = _optional(request, "w"), _number(request, "q", 85)
    if quality not in QUALITIES or (width is not None and width < 1):
        raise MalformedError(f"give q as one of {QUALITIES}, and w in px")
    region = None
    if "cw" in request.query_params:
        x, y, w, h = (_number(request, name) for name in ("x", "y", "cw", "ch"))
        region = x, y, w, h
    lossless = request.query_params.get("png") == "1"
    return Shot(int(text), width and round_width(width), quality, region, lossless)


async def _wait(request: Request, future: Future[bytes]) -> bytes:
    """Wait for a picture, unless the page does not any more."""

    async def wait_for_the_end() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        future.cancel()

    gone = asyncio.ensure_future(wait_for_the_end())
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError as error:
        if not future.cancelled():  # it is this request that is to end
            raise
        raise DroppedError("nobody waits for the picture any more") from error
    finally:
        gone.cancel()


async def _events(socket_: WebSocket) -> None:
    studio: Studio = socket_.app.state.studio
    added = studio.connections.add()
    if added is None:
        with contextlib.suppress(*_GONE):
            await socket_.close(1013)
        return
    name, queue = added
    sending: asyncio.Future[None] | None = None
    try:
        await socket_.accept(PROTOCOL)
        hello = {
            "type": "hello",
            "connection": name,
            "writer": studio.connections.writer == name,
            "version": __version__,
            "jobs": studio.jobs.to_json(),
        }
        sending = asyncio.ensure_future(_send_events(socket_, hello, queue))
        while not sending.done():
            message = await socket_.receive_text()
            kind = parse_body(message.encode()).get("type")
            if kind == "take_over":
                studio.connections.take_over(name)
            elif kind == "ping":
                queue.put_nowait({"type": "pong"})
            else:
                break
    except (MalformedError, KeyError, *_GONE):
        pass  # closed by the page, or about to be by us
    finally:
        studio.connections.remove(name)
        if sending is not None:
            sending.cancel()
        with contextlib.suppress(*_GONE):
            await socket_.close(1008)


async def _send_events(
    socket_: WebSocket, first: dict[str, Any], queue: asyncio.Queue[dict[str, Any]]
) -> None:
    event = first
    with contextlib.suppress(*_GONE):
        while True:
            await socket_.send_text(json.dumps(event))
            if event["type"] == "bye":
                await socket_.close(1001)
                return
            event = await queue.get()


async def _not_found(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": {"code": "not_found", "message": "no such address"}}, 404)


async def _wrong_method(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": {"code": "method", "message": "not with this method"}}, 405)


def make_application(studio: Studio) -> Starlette:
    """The routes, without the gate."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        studio.connections.start()
        studio.open_all()
        yield

    clip = "/api/clips/{clip}"
    routes = [
        Route("/", _get(_page)),
        Route("/page/{name}", _get(_page)),
        Route("/api/session", _get(_session)),
        Route(clip, _get(_snapshot)),
        Route(f"{clip}/times", _get(_times)),
        Route(f"{clip}/track", _get(_track)),
        Route(f"{clip}/candidates", _get(_candidates)),
        Route(f"{clip}/check", _get(_check)),
        Route(f"{clip}/frames/{{frame}}", _frame),
        Route(f"{clip}/ops", _post(_operations), methods=["POST"]),
        Route(f"{clip}/undo", _post(_undo), methods=["POST"]),
        Route(f"{clip}/redo", _post(_redo), methods=["POST"]),
        Route(f"{clip}/relink", _post(_relink), methods=["POST"]),
        Route(f"{clip}/runs", _post(_start_runs), methods=["POST"]),
        Route(f"{clip}/import", _import, methods=["POST"]),
        Route(f"{clip}/export", _post(_export), methods=["POST"]),
        Route("/api/exports/{export}", _get(_exported)),
        Route("/api/runs", _get(_jobs)),
        Route("/api/runs/{job}/stop", _post(_stop), methods=["POST"]),
        Route("/api/runs/{job}/move", _post(_move), methods=["POST"]),
        WebSocketRoute("/ws", _events),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            404: _not_found,
            405: _wrong_method,
            HTTPException: _not_found,
            SiamTrackError: _failed,
            OSError: _failed,
        },
    )
    app.state.studio = studio
    return app


# --- Serving -------------------------------------------------------------------------------------


class PatientProtocol(H11Protocol):
    """HTTP that does not wait forever for the head of a request."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(REQUEST_TIMEOUT_S, self._give_up)

    def handle_events(self) -> None:
        """Handle what came; once a request is whole, it has all the time it needs."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def on_response_complete(self) -> None:
        """Begin to wait for the next request of the same connection."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self._deadline = self.loop.call_later(REQUEST_TIMEOUT_S, self._give_up)

    def handle_websocket_upgrade(self, event: Any) -> None:
        """A socket has no deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().handle_websocket_upgrade(event)

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def bind(port: int) -> tuple[socket.socket, int | None]:
    """A socket of this machine alone; if the port is taken, the next free one.

    Returns:
        The socket, and the port that was taken or None.
    """
    for offset in range(100 if port else 1):
        # The protocol is named: asyncio sends small answers at once (TCP_NODELAY) only where it is.
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if os.name == "posix":  # elsewhere it would take a port that is in use
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port + offset))
            sock.listen(128)
        except (OSError, OverflowError):
            sock.close()
            continue
        return sock, port if offset else None
    raise ConfigError(f"ports {port} to {port + 99} are all taken; give another one with --port")


class StudioServer(uvicorn.Server):
    """Serves a studio until it is told to end; signals are the caller's."""

    def __init__(self, studio: Studio, sock: socket.socket, token: str) -> None:
        gate = Gate(make_application(studio), sock.getsockname()[1], token)
        config = uvicorn.Config(
            gate,
            http=PatientProtocol,
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        super().__init__(config)
        self._socket = sock

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave signals to the command line."""
        yield

    def serve_until(self, ended: threading.Event) -> None:
        """Serve in this thread until the event is set."""

        async def main() -> None:
            serving = asyncio.ensure_future(self.serve([self._socket]))
            while not ended.is_set() and not serving.done():
                await asyncio.sleep(0.05)
            self.should_exit = True
            await serving

        asyncio.run(main())
