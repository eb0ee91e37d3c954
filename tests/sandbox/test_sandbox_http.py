"""HTTP as clients speak it, and as they should not."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys

import pytest

from tests.sandbox.conftest import DEV, Caller, Make


def _connected(call: Caller) -> socket.socket:
    host, port = call.sandbox.base_url[7:].split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def test_a_connection_is_kept_for_many_requests(call: Caller) -> None:
    connection = http.client.HTTPConnection(call.sandbox.base_url[7:])
    connection.connect()
    socket_number = connection.sock.fileno()
    for _ in range(5):
        connection.request("POST", DEV, b"{}", {"Authorization": "Bearer k"})
        assert json.load(connection.getresponse())["code"] == 200
        assert connection.sock.fileno() == socket_number


def test_requests_may_follow_each_other_without_waiting(call: Caller) -> None:
    one = f"POST {DEV} HTTP/1.1\r\nAuthorization: Bearer k\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    with _connected(call) as connection:
        connection.sendall(one * 2 + one.replace(b"\r\nContent", b"\r\nConnection: close\r\nContent"))
        data = b""
        while more := connection.recv(65536):
            data += more
    assert data.count(b"HTTP/1.1 200 OK") == 3


def test_a_chunked_body_is_read(call: Caller) -> None:
    connection = http.client.HTTPConnection(call.sandbox.base_url[7:])
    pieces = (piece for piece in (b'{"prompt"', b':"x"}'))
    connection.request("POST", DEV, pieces, {"Authorization": "Bearer k"}, encode_chunked=True)
    assert connection.getresponse().status == 200


def test_a_client_that_asks_first_is_told_to_go_on(call: Caller) -> None:
    with _connected(call) as connection:
        connection.sendall(
            f"POST {DEV} HTTP/1.1\r\nAuthorization: Bearer k\r\nExpect: 100-continue\r\n"
            "Content-Length: 2\r\n\r\n".encode()
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"{}")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET /\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000,
    ],
    ids=lambda junk: repr(junk[:40]),
)
def test_junk_is_refused_and_the_next_client_served(call: Caller, junk: bytes) -> None:
    with _connected(call) as connection:
        connection.sendall(junk)
        try:
            answer = connection.recv(1000)
        except ConnectionResetError:
            answer = b""
        assert not answer or answer.startswith(b"HTTP/1.1 400 ")
    assert call.submit()["status"] == "created"


def test_the_clock_is_told(call: Caller) -> None:
    assert call("GET", "/api/v3/balance").headers["Date"].endswith(" GMT")


def test_two_sandboxes_do_not_share_a_port(make: Make) -> None:
    port = int(make().sandbox.base_url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        make(port=port)


def test_the_sandbox_stands_alone_and_starts_without_pillow() -> None:
    code = (
        "import sys\n"
        "from flux_lora_cli.sandbox.server import Sandbox\n"
        "with Sandbox() as sandbox: pass\n"
        "ours = {n for n in sys.modules if n.startswith('flux_lora_cli.')}\n"
        "print(sorted(n for n in ours if not n.startswith('flux_lora_cli.sandbox')), 'PIL' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("[] False", "['flux_lora_cli._version'] False")
