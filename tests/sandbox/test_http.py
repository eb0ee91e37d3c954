"""HTTP as clients speak it, and as they should not; and what a request costs."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.sandbox.conftest import DEV, Caller, FakeClock, Make

ROOT = Path(__file__).parents[2]
HEAD = f"POST {DEV} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer k\r\n"


def _connected(call: Caller) -> socket.socket:
    host, port = call.sandbox.base_url[7:].split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def test_a_connection_is_kept_for_many_requests(call: Caller) -> None:
    connection = http.client.HTTPConnection(call.sandbox.base_url[7:])
    connection.connect()
    number = connection.sock.fileno()
    for _ in range(5):
        connection.request("POST", DEV, b"{}", {"Authorization": "Bearer k"})
        assert json.load(connection.getresponse())["code"] == 200
        assert connection.sock.fileno() == number


def test_a_chunked_body_is_read(call: Caller) -> None:
    connection = http.client.HTTPConnection(call.sandbox.base_url[7:])
    pieces = (piece for piece in (b'{"prompt"', b':"x"}'))
    connection.request("POST", DEV, pieces, {"Authorization": "Bearer k"}, encode_chunked=True)
    assert connection.getresponse().status == 200
    assert call.sandbox.tasks[0].inputs == {"prompt": "x"}


@pytest.mark.parametrize(
    "junk",
    [
        "\x16\x03\x01\x02\x00\x01\r\n\r\n",
        "GET /\r\n\r\n",
        HEAD + "Content-Length: many\r\n\r\n",
        HEAD + "Content-Length: -5\r\n\r\n",
        HEAD + "Content-Length: 99999999999\r\n\r\n",
        HEAD + "Content-Length: 33000000\r\n\r\n",
        HEAD + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + "Transfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        "GET / HTTP/1.1\r\n" + "x: y\r\n" * 20_000,
        f"PUT /uploads/{'0' * 32}/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12345",
    ],
    ids=lambda junk: repr(junk[-40:]),
)
def test_junk_and_bodies_without_bound_are_refused_and_the_next_client_served(call: Caller, junk: str) -> None:
    with _connected(call) as connection:
        try:
            connection.sendall(junk.encode("latin-1"))
            answer = connection.recv(1000)
        except (ConnectionResetError, BrokenPipeError):
            answer = b""
        assert b" 200 " not in answer[:20]
    assert call.submit()["status"] == "created"


def test_the_clock_of_the_service_is_told(make: Make) -> None:
    clock = FakeClock()
    assert make(clock=clock)("GET", "/api/v3/balance").headers["Date"] == "Fri, 15 Jan 2027 08:00:00 GMT"


@pytest.mark.parametrize(
    "options",
    [
        {"service_time": (2, 1)}, {"service_time": -1}, {"rate": 0}, {"concurrency": 0}, {"nsfw_rate": 1.5},
        {"balance": -1}, {"undeclared": "keep"},
    ],
    ids=str,
)  # fmt: skip
def test_an_option_that_is_not_valid_is_refused(make: Make, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a valid"):
        make(**options)


def test_it_stands_alone_and_starts_without_pillow() -> None:
    code = (
        "import sys\n"
        "from flux_lora_cli.sandbox import Sandbox\n"
        "with Sandbox() as sandbox: pass\n"
        "ours = {name for name in sys.modules if name.startswith('flux_lora_cli.')}\n"
        "print(sorted(name for name in ours if 'sandbox' not in name), 'PIL' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() in ("[] False", "['flux_lora_cli._version'] False")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_cleanly_on_a_signal(number: signal.Signals) -> None:
    code = (
        "from flux_lora_cli.sandbox import serve\n"
        "print('ended by', serve(lambda sandbox: print(sandbox.base_url, flush=True), service_time=0))"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert running.stdout is not None
    url = running.stdout.readline().strip()
    connection = http.client.HTTPConnection(url[7:])
    connection.request("GET", "/api/v3/balance", headers={"Authorization": "Bearer k"})
    assert connection.getresponse().status == 200
    began = time.monotonic()
    running.send_signal(number)
    assert running.communicate(timeout=10) == (f"ended by {number.value}\n", "")
    assert running.returncode == 0 and time.monotonic() - began < 2
