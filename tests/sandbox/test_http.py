"""HTTP as clients should not speak it."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from flux_lora_cli.sandbox.listener import Answer, Listener
from tests.sandbox.conftest import DEV, Caller

ROOT = Path(__file__).parents[2]
HEAD = f"POST {DEV} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer k\r\n"


@pytest.mark.parametrize(
    "junk",
    [
        "\x16\x03\x01\x02\x00\x01\r\n\r\n",
        "GET /\r\n\r\n",
        HEAD + "Content-Length: many\r\n\r\n",
        HEAD + "Content-Length: -5\r\n\r\n",
        HEAD + "Content-Length: 33000000\r\n\r\n",
        HEAD + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + "Transfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        "GET / HTTP/1.1\r\n" + "x: y\r\n" * 20_000,
        f"PUT /uploads/{'0' * 32}/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12345",
    ],
    ids=lambda junk: repr(junk[-40:]),
)
def test_junk_and_bodies_without_bound_are_refused_and_the_next_client_served(call: Caller, junk: str) -> None:
    host, port = call.sandbox.base_url[7:].split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        try:
            connection.sendall(junk.encode("latin-1"))
            answer = connection.recv(1000)
        except (ConnectionResetError, BrokenPipeError):
            answer = b""
        assert b" 200 " not in answer[:20]
    assert call.submit()


@pytest.mark.parametrize("trickle", ["", "x"])
@pytest.mark.parametrize(
    "sent", ["", "GET / HT", HEAD, f"{HEAD}Content-Length: 99\r\n\r\n{{", f"GET {DEV} HTTP/1.1\r\n\r\n"]
)
def test_a_client_whose_request_never_comes_whole_is_sent_away(sent: str, trickle: str) -> None:
    listener = Listener(0, lambda request: Answer(), lambda request: 99, time.time, idle=0.2)
    try:
        with socket.create_connection(("127.0.0.1", listener.server_port), timeout=0.05) as connection:
            connection.sendall(sent.encode())
            for _ in range(60):
                try:
                    connection.sendall(trickle.encode())
                    if not connection.recv(1000):
                        return
                except TimeoutError:
                    continue
                except ConnectionError:
                    return
            raise AssertionError("it is still listened to")
    finally:
        listener.stop()


def test_connections_beyond_the_limit_wait_for_their_turn(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Listener, "max_connections", 2)
    host, port = call.sandbox.base_url[7:].split(":")
    held = [socket.create_connection((host, int(port)), timeout=5) for _ in range(3)]
    for connection in held[:2]:
        connection.sendall(b"x")
    held[2].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    held[2].settimeout(0.3)
    with pytest.raises(TimeoutError):
        held[2].recv(100)
    held.pop(0).close()
    held[1].settimeout(5)
    assert held[1].recv(100).startswith(b"HTTP/1.1 404")
    for connection in held:
        connection.close()
