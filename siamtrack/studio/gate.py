"""Who may ask the studio's server: everything is refused that is not the studio's own page.

Any page in the same browser can send requests to a server on this machine, and other programs can,
too. So, before anything else looks at a request:

1. Host must be an address of this server: no name that an attacker lets point here.
2. GET, HEAD and POST only.
3. Origin, where there is one, must be this server; POST and WebSockets must have one.
4. A token, new at every start, in a header or subprotocol. It is in no URL that is sent, and in no
   cookie: cookies are shared by all servers of this machine.
5. Bodies have a limit, whatever their length says.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

from siamtrack.errors import SiamTrackError

MAX_BODY_BYTES = 1 << 20
MAX_IMPORT_BYTES = 256 << 20
METHODS = ("GET", "HEAD", "POST")
PROTOCOL = "siamtrack"
"""Subprotocol of the WebSocket; a second one holds the token."""
_TOKEN_PREFIX = "token."

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Of every reply."""

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class BodyTooLargeError(SiamTrackError, ValueError):
    """A body grew beyond its limit while it was read."""


class Gate:
    """An ASGI application that lets requests through to another one, or refuses them.

    Args:
        application: behind the gate.
        port: of this server.
        token: that requests must have.
    """

    def __init__(self, application: Application, port: int, token: str) -> None:
        self._application, self._token = application, token.encode()
        self._hosts = {f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost", "[::1]")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        headers = _headers_of(scope)
        refusal = self._refuse(scope, headers)
        if scope["type"] == "websocket":
            if refusal is not None:
                await send({"type": "websocket.close", "code": 1008})  # which is a 403
                return
            await self._application(scope, receive, send)
            return
        if refusal is not None:
            await _reply(send, *refusal)
            return
        limit = MAX_IMPORT_BYTES if scope["path"].endswith("/import") else MAX_BODY_BYTES
        await self._pass(scope, receive, send, limit)

    def _refuse(
        self, scope: Scope, headers: Mapping[bytes, list[bytes]]
    ) -> tuple[int, str, str] | None:
        """Status, code and message for a request that is not let through."""
        host, is_socket = headers.get(b"host", []), scope["type"] == "websocket"
        if len(host) != 1 or host[0].lower() not in self._hosts:
            return 421, "host", "this server answers to its own address only"
        if not is_socket and scope["method"] not in METHODS:
            return 405, "method", f"use one of {', '.join(METHODS)}"
        origin = headers.get(b"origin", [])
        if (origin or is_socket or scope["method"] == "POST") and origin != [b"http://" + host[0]]:
            return 403, "origin", "only the page of the studio may ask"
        path = scope["path"]
        if not is_socket and not path.startswith("/api/"):
            return None  # the page itself, which holds no secret
        if not self._has_token(headers, is_socket):
            return 401, "token", "open the address that the terminal shows"
        length = headers.get(b"content-length", [b"0"])
        limit = MAX_IMPORT_BYTES if path.endswith("/import") else MAX_BODY_BYTES
        if len(length) != 1 or not length[0].isdigit() or int(length[0][:20]) > limit:
            return 413, "too_large", f"a body may have {limit} bytes"
        return None

    def _has_token(self, headers: Mapping[bytes, list[bytes]], is_socket: bool) -> bool:
        if not is_socket:
            kind, _, given = b"".join(headers.get(b"authorization", [])).partition(b" ")
            return kind.lower() == b"bearer" and hmac.compare_digest(given, self._token)
        protocols = b",".join(headers.get(b"sec-websocket-protocol", [])).split(b",")
        names = [name.strip() for name in protocols]
        wanted = _TOKEN_PREFIX.encode() + self._token
        return names[:1] == [PROTOCOL.encode()] and any(
            hmac.compare_digest(name, wanted) for name in names[1:]
        )

    async def _pass(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        """Let a request through, count its body, and add `HEADERS` to the reply."""
        received = 0

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise BodyTooLargeError(f"a body may have {limit} bytes")
            return message

        async def start(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                added = {**HEADERS, "cache-control": "no-store"}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.encode(), value.encode())
                        for name, value in added.items()
                        if name.encode() not in given
                    ),
                ]
            await send(message)

        await self._application(scope, count, start)


def _headers_of(scope: Scope) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


async def _reply(send: Send, status: int, code: str, message: str) -> None:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    headers = {
        **HEADERS,
        "content-type": "application/json",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "connection": "close",  # what is left of the body is not read
    }
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
