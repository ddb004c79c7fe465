"""Attacks on the studio's server: from other pages, other names, and with malicious bodies."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from siamtrack.studio import server as server_module
from tests.studio.client import TOKEN, Client, Events, served, write_clip

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("gate")
    with served([write_clip(folder / "clip.mp4", 10)], folder) as (client, _):
        yield client


def send(client: Client, head: str, body: bytes = b"") -> tuple[int, str]:
    """Send bytes as they are; returns the status and what follows."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as sock:
        sock.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            sock.sendall(body)
        reply = b""
        with contextlib.suppress(ConnectionError):
            while data := sock.recv(65536):
                reply += data
    return int(reply.split()[1]) if reply else 0, reply.decode(errors="replace")


GOOD = f"Authorization: Bearer {TOKEN}\nConnection: close"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /api/session HTTP/1.1\nHost: {host}\n{good}", 200),
        ("HEAD /page/index.html HTTP/1.1\nHost: localhost:{port}\nConnection: close", 200),
        # A name that somebody lets point to this machine.
        ("GET /api/session HTTP/1.1\nHost: evil.example\n{good}", 421),
        ("GET / HTTP/1.1\nHost: evil.example:{port}\nConnection: close", 421),
        ("GET /api/session HTTP/1.1\nHost: 127.0.0.1:1\n{good}", 421),
        ("GET /api/session HTTP/1.1\nHost: 127.0.0.1\n{good}", 421),
        ("GET /api/session HTTP/1.1\nHost: localhost.:{port}\n{good}", 421),
        ("GET /api/session HTTP/1.1\nHost: {host}.\n{good}", 421),
        ("GET /api/session HTTP/1.1\nHost: {host}\nHost: evil.example\n{good}", 400),
        ("GET /api/session HTTP/1.1\n{good}", 400),
        # Without the token, or with it in a place that is sent to others.
        ("GET /api/session HTTP/1.1\nHost: {host}\nConnection: close", 401),
        ("GET /api/session HTTP/1.1\nHost: {host}\nAuthorization: Bearer {token}x", 401),
        ("GET /api/session HTTP/1.1\nHost: {host}\nAuthorization: Basic {token}", 401),
        ("GET /api/session?token={token} HTTP/1.1\nHost: {host}\nConnection: close", 401),
        ("GET /api/session HTTP/1.1\nHost: {host}\nCookie: token={token}", 401),
        # Other pages in the same browser.
        ("POST /api/clips/0/ops HTTP/1.1\nHost: {host}\n{good}\nContent-Length: 0", 403),
        ("POST /api/clips/0/ops HTTP/1.1\nHost: {host}\nOrigin: null\n{good}", 403),
        ("POST /api/clips/0/ops HTTP/1.1\nHost: {host}\nOrigin: http://127.0.0.1:1\n{good}", 403),
        ("POST /api/clips/0/ops HTTP/1.1\nHost: {host}\nOrigin: https://{host}\n{good}", 403),
        ("GET /api/session HTTP/1.1\nHost: {host}\nOrigin: http://evil.example\n{good}", 403),
        ("GET / HTTP/1.1\nHost: {host}\nOrigin: http://evil.example\nConnection: close", 403),
        # Methods, addresses.
        ("PUT /api/clips/0/ops HTTP/1.1\nHost: {host}\nOrigin: http://{host}\n{good}", 405),
        ("OPTIONS /api/session HTTP/1.1\nHost: {host}\nOrigin: http://{host}\n{good}", 405),
        ("POST /api/session HTTP/1.1\nHost: {host}\nOrigin: http://{host}\n{good}", 405),
        ("GET /page/../server.py HTTP/1.1\nHost: {host}\nConnection: close", 404),
        ("GET /page/%2e%2e/server.py HTTP/1.1\nHost: {host}\nConnection: close", 404),
        ("GET /page/..%2fserver.py HTTP/1.1\nHost: {host}\nConnection: close", 404),
        ("GET /page//etc/passwd HTTP/1.1\nHost: {host}\nConnection: close", 404),
        ("GET /api/clips/../session HTTP/1.1\nHost: {host}\n{good}", 404),
        ("GET /api/exports/..%2f..%2fclip.mp4 HTTP/1.1\nHost: {host}\n{good}", 404),
        ("GET /api/clips/99999999999999999999 HTTP/1.1\nHost: {host}\n{good}", 404),
        ("GET /api/clips/0/frames/-1 HTTP/1.1\nHost: {host}\n{good}", 404),
        ("GET /api/clips/0/frames/10 HTTP/1.1\nHost: {host}\n{good}", 404),
        ("GET /api/clips/0/frames/1?w=1e9 HTTP/1.1\nHost: {host}\n{good}", 400),
        ("GET /api/clips/0/frames/1?q=1000 HTTP/1.1\nHost: {host}\n{good}", 400),
        ("GET /api/clips/0/frames/1?x=0&y=0&cw=0&ch=9 HTTP/1.1\nHost: {host}\n{good}", 409),
        ("GET /api/clips/0/check?threshold=nan HTTP/1.1\nHost: {host}\n{good}", 400),
        ("GET /api/clips/0/track?target=0 HTTP/1.1\nHost: {host}\n{good}", 404),
        ("GET /api/nothing HTTP/1.1\nHost: {host}\n{good}", 404),
        # Bodies that are too long by what they say.
        (
            "POST /api/clips/0/ops HTTP/1.1\nHost: {host}\nOrigin: http://{host}\n{good}\n"
            "Content-Length: 1048577",
            413,
        ),
        (
            "POST /api/clips/0/import?name=a HTTP/1.1\nHost: {host}\nOrigin: http://{host}\n{good}"
            "\nContent-Length: 268435457",
            413,
        ),
    ],
)
def test_every_request_gets_what_it_deserves(client: Client, head: str, status: int) -> None:
    filled = head.format(host=client.host, port=client.port, token=TOKEN, good=GOOD)
    found, reply = send(client, filled)
    assert found == status, reply
    if status != 400 or "bad_request" in reply:  # h11 refuses some before us
        lines = reply.lower()
        assert "default-src 'none'" in lines and "x-content-type-options: nosniff" in lines
        assert "access-control" not in lines and "set-cookie" not in lines


def test_a_body_that_grows_beyond_its_limit_is_refused(client: Client) -> None:
    head = (
        f"POST /api/clips/0/ops HTTP/1.1\nHost: {client.host}\nOrigin: http://{client.host}\n"
        f"{GOOD}\nTransfer-Encoding: chunked"
    )
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    assert send(client, head, 17 * chunk)[0] == 413


@pytest.mark.parametrize("sent", ["", "GET /api/session HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_come_ends_the_connection(client, sent, monkeypatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_TIMEOUT_S", 0.2)
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as sock:
        sock.sendall(sent.encode())
        assert sock.recv(1000) == b""


def test_a_body_that_does_not_come_is_refused(client: Client, monkeypatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_TIMEOUT_S", 0.2)
    head = (
        f"POST /api/clips/0/ops HTTP/1.1\nHost: {client.host}\nOrigin: http://{client.host}\n"
        f"{GOOD}\nContent-Length: 100"
    )
    status, reply = send(client, head, b'{"revision"')
    assert status == 400 and "did not come in time" in reply


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"ops": [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]], "revision": 0}',
        b'{"revision": 0, "ops": [' + b"0," * 100_001 + b"0]}",
        b'{"revision": NaN, "ops": []}',
        b'{"revision": ' + b"9" * 5000 + b', "ops": []}',
        b'{"revision": 0}',
        b'{"revision": 0.0, "ops": []}',
        b'{"revision": 0, "ops": [{"op": "add_target", "name": "a\\u0000"}]}',
    ],
    ids=lambda body: body[:20].decode(errors="replace"),
)
def test_bodies_that_are_no_request(client: Client, body: bytes) -> None:
    status, content, _ = client.ask("/api/clips/0/ops", body)
    assert (status, content["error"]["code"]) == (400, "bad_request")
    assert client.get("/api/clips/0")["revision"] == 0


def shake_hands(client: Client, origin: str | None, protocols: list[str], host: str = "") -> int:
    """Status of the answer to a WebSocket's request."""
    headers = {"Host": host} if host else {}
    try:
        with connect(
            f"ws://{client.host}/ws",
            subprotocols=protocols,
            origin=origin,
            additional_headers=headers,
        ):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def test_a_socket_needs_origin_token_and_host(client: Client) -> None:
    own, token = f"http://{client.host}", f"token.{TOKEN}"
    assert shake_hands(client, own, ["siamtrack", token]) == 101
    assert shake_hands(client, None, ["siamtrack", token]) == 403
    assert shake_hands(client, "http://evil.example", ["siamtrack", token]) == 403
    assert shake_hands(client, "null", ["siamtrack", token]) == 403
    assert shake_hands(client, own, ["siamtrack"]) == 403
    assert shake_hands(client, own, ["siamtrack", f"{token}x"]) == 403
    assert shake_hands(client, own, [token, "siamtrack"]) == 403
    assert shake_hands(client, own, ["other", token]) == 403


def test_a_socket_of_another_name_is_refused(client: Client) -> None:
    head = (
        "GET /ws HTTP/1.1\nHost: evil.example\nOrigin: http://evil.example\nUpgrade: websocket\n"
        "Connection: Upgrade\nSec-WebSocket-Version: 13\n"
        f"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\n"
        f"Sec-WebSocket-Protocol: siamtrack, token.{TOKEN}"
    )
    assert send(client, head)[0] == 403


def test_sockets_are_few_and_their_messages_small(client: Client) -> None:
    with contextlib.ExitStack() as stack:
        pages = []
        for _ in range(server_module.MAX_CONNECTIONS):
            pages.append(Events(client))
            stack.callback(pages[-1].close)
        assert shake_hands(client, f"http://{client.host}", ["siamtrack", f"token.{TOKEN}"]) == 403
        for page, message in zip(pages, ['{"type": 1}', "x", "x" * 70_000], strict=False):
            page.socket.send(message)
            with pytest.raises(ConnectionError):
                page.wait_for("never")


def test_a_page_that_vanishes_is_no_error(client: Client, caplog) -> None:
    for _ in range(5):
        page = Events(client)
        sock = page.socket.socket
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RD)
        sock.close()  # no goodbye: the connection is reset
    with contextlib.closing(Events(client)) as page:
        page.socket.send('{"type": "ping"}')
        page.wait_for("pong")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_one_page_writes_and_another_may_take_over(client: Client) -> None:
    first, second = Events(client), Events(client)
    try:
        assert first.hello["writer"] and not second.hello["writer"]
        body = {"revision": 0, "ops": []}
        asked = []
        for page in (first, second):
            name = {"X-Siamtrack-Connection": page.hello["connection"]}
            asked.append(client.ask("/api/clips/0/ops", body, headers=name)[0])
        assert asked == [200, 423] and client.ask("/api/clips/0/undo", body)[0] == 423
        status, content, _ = client.ask("/api/clips/0/import?name=a.csv", b"x")
        assert (status, content["error"]["code"]) == (423, "other_tab")
        second.socket.send('{"type": "take_over"}')
        assert first.wait_for("role")["writer"] is False
        assert second.wait_for("role")["writer"] is True
        name = {"X-Siamtrack-Connection": second.hello["connection"]}
        assert client.ask("/api/clips/0/ops", body, headers=name)[0] == 200
        first.socket.send('{"type": "ping"}')
        first.wait_for("pong")
    finally:
        first.close()
        second.close()


def test_many_requests_at_once_are_all_answered(client: Client) -> None:
    def ask(number: int) -> list[int]:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
        statuses = []
        with contextlib.closing(connection):
            for k in range(20):
                connection.request(
                    "GET", f"/api/clips/0/frames/{k % 10}?w={number}", headers=BEARER
                )
                reply = connection.getresponse()
                reply.read()
                statuses.append(reply.status)
        return statuses

    with ThreadPoolExecutor(50) as pool:
        statuses = [status for part in pool.map(ask, range(600, 650)) for status in part]
    assert len(statuses) == 1000 and set(statuses) <= {200, 503} and statuses.count(200) > 500
    assert client.get("/api/session")["clips"][0]["state"] == "ready"
