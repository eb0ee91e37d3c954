"""HTTP: requests read whole and within bounds, answers sent as they say. No rules of the service here."""

from __future__ import annotations

import json
import math
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .store import Fate

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent. All defaults: an empty 200.

    Args:
        length: the Content-Length to claim, where it is not that of ``body``; the connection is closed afterwards.
        delay: seconds before anything is sent.
        silent: nothing is sent: the connection is closed or reset after ``delay`` seconds.
    """

    status: int = 200
    body: bytes = b""
    media_type: str = "application/json"
    headers: Headers = ()
    length: int | None = None
    delay: float = 0.0
    silent: Literal["", "close", "reset"] = ""

    @classmethod
    def data(cls, data: Any) -> Answer:
        """The service's envelope around ``data``."""
        return cls(body=_json({"code": 200, "message": "success", "data": data}))

    @classmethod
    def refusal(cls, status: int, message: str, headers: Headers = ()) -> Answer:
        """A refusal as the service words it: the HTTP status again as ``code``."""
        return cls(status, _json({"code": status, "message": message}), headers=headers)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")  # lone surrogates survive as escapes


class Refusal(Exception):
    """The request is refused, and nothing is charged."""

    def __init__(self, status: int, message: str, headers: Headers = ()) -> None:
        super().__init__(message)
        self.answer = Answer.refusal(status, message, headers)


def wrong(name: str, why: str) -> Refusal:
    """The refusal of one parameter."""
    return Refusal(400, f"invalid parameter {name}: {why}")


@dataclass(slots=True)
class Request:
    """One HTTP request, read to its end.

    ``fate``, set by a fault before the request is carried out, decides how a task is to end.
    """

    method: str
    path: str
    headers: Message = field(default_factory=Message)
    body: bytes = b""
    fate: Fate | None = None
    carry: Callable[[Request], Answer] = lambda request: Answer()
    _carried: Answer | None = None

    def carry_out(self) -> Answer:
        """Does what the request asks for, once, and gives the right answer."""
        if self._carried is None:
            self._carried = self.carry(self)
        return self._carried

    @property
    def origin(self) -> str:
        """Where URLs in the answer lead: the name by which the client called."""
        return f"http://{self.headers.get('Host', '')}"

    def json(self) -> dict[str, Any]:
        """The JSON object of the body. Raises Refusal (400) where it is not one."""
        try:
            value = json.loads(self.body, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise Refusal(400, f"invalid JSON body: {error}") from error
        if not isinstance(value, dict):
            raise Refusal(400, "invalid JSON body: not an object")
        return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class Listener(ThreadingHTTPServer):
    """Listens on this machine alone, one thread per connection.

    Args:
        answer: gives the answer to a request; called from many threads.
        limit: the largest body, in bytes, that a request (without its body yet) may have.
        clock: seconds since the epoch, for the ``Date`` header.
        idle: seconds within which a request must come whole, from the connection or the last answer on.
    """

    daemon_threads = True
    request_queue_size = 256
    max_connections = 1000  # at once, for each has a thread; others wait to be accepted

    def __init__(
        self,
        port: int,
        answer: Callable[[Request], Answer],
        limit: Callable[[Request], int],
        clock: Callable[[], float],
        idle: float = 60.0,
    ) -> None:
        self.answer, self.limit, self.clock, self.idle = answer, limit, clock, idle
        self.stopping = threading.Event()
        self.connections: dict[socket.socket, float] = {}  # when each is to be closed, by the monotonic clock
        super().__init__(("127.0.0.1", port), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True, name="sandbox").start()

    def server_bind(self) -> None:
        """Binds without the reverse DNS look-up of the base class."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection. Raises OSError where there are too many: it is tried again in a moment."""
        if len(self.connections) >= self.max_connections:
            time.sleep(0.02)
            raise OSError("too many connections")
        connection, address = super().get_request()
        self.connections[connection] = time.monotonic() + self.idle
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """The end of a connection."""
        self.connections.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Sends late clients away; called all the time."""
        self._end_connections(before=time.monotonic())

    def stop(self) -> None:
        """Ends all connections at once."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        self.shutdown()
        self.server_close()
        self._end_connections(before=math.inf)

    def _end_connections(self, before: float) -> None:
        for connection, end in self.connections.copy().items():
            if end <= before:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together
    disable_nagle_algorithm = True
    server: Listener

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.idle)

    def log_message(self, *args: Any) -> None:
        """Nothing is logged here."""

    def _serve(self) -> None:
        request = Request(self.command, self.path.partition("?")[0], self.headers)
        try:
            request.body = self._body(self.server.limit(request))
            self.server.connections[self.connection] = math.inf
            answer = self.server.answer(request)
        except Refusal as refusal:
            self.close_connection = True
            answer = refusal.answer
        if self.server.stopping.wait(answer.delay) or answer.silent:
            self.close_connection = True
        self.server.connections[self.connection] = time.monotonic() + self.server.idle
        if answer.silent == "reset":
            self._reset()
        elif not answer.silent:
            self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = _serve  # noqa: N815 - http.server's names

    def _body(self, limit: int) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self._read(self.headers.get("Content-Length", "0"), 10, limit)
        data = b""
        while piece := self._read(self.rfile.readline(100).partition(b";")[0].decode("latin-1"), 16, limit - len(data)):
            data += piece
            self.rfile.readline(10)
        while self.rfile.readline(1000).strip():
            pass  # trailers
        return data

    def _read(self, length: str, base: int, limit: int) -> bytes:
        """As many bytes as the text says, and at most ``limit``. Raises Refusal; ConnectionError where they end."""
        try:
            size = int(length, base)
        except ValueError as error:
            raise Refusal(400, "invalid length of the body") from error
        if not 0 <= size <= limit:
            raise Refusal(413, f"the body is larger than {limit} bytes")
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionError("the body ended early")
        return data

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        self.send_header("Date", formatdate(self.server.clock(), usegmt=True))
        for name, value in {"Content-Type": answer.media_type, **dict(answer.headers)}.items():
            self.send_header(name, value)
        length = len(answer.body) if answer.length is None else answer.length
        self.send_header("Content-Length", str(length))
        if self.close_connection or length != len(answer.body):
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _reset(self) -> None:
        """A reset rather than an orderly end: the socket is closed with a linger time of 0."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
