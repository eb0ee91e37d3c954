"""A server that does to the socket exactly what a test says, on as many connections as come."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from tests.support.fake import read_request, serve

#: What a server does with a request; a ConnectionError of its own ends the connection.
Script = Callable[[socket.socket, bytes], None]


class RawServer:
    """Reads one request after the other and hands each to the script of the moment.

    ``requests`` holds what came, heads and bodies; ``connections`` counts.
    """

    def __init__(self, script: Script, context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.connections = 0
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        serve(self._listener, self._serve)

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self, connection: socket.socket) -> None:
        self.connections += 1
        with suppress(OSError, ValueError):
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as file:
                while request := read_request(file):
                    self.requests.append(request.raw)
                    self.script(connection, request.raw)


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def says(data: bytes) -> Script:
    """Send these bytes, and keep the connection."""
    return lambda connection, _: connection.sendall(data)


def says_and_ends(data: bytes) -> Script:
    """Send these bytes, then close."""

    def script(connection: socket.socket, _: bytes) -> None:
        connection.sendall(data)
        raise ConnectionAbortedError

    return script


def resets(data: bytes = b"") -> Script:
    """Send these bytes, then reset the connection."""

    def script(connection: socket.socket, _: bytes) -> None:
        connection.sendall(data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionAbortedError

    return script


def sends_for_ever(head: bytes) -> Script:
    """Send this head, and a body without end."""

    def script(connection: socket.socket, _: bytes) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"x" * 1_000_000)

    return script


def trickles(data: bytes, pause: float = 0.05) -> Script:
    """Send byte by byte."""

    def script(connection: socket.socket, _: bytes) -> None:
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(pause)

    return script


def stalls(data: bytes = b"") -> Script:
    """Send these bytes, then nothing until the other side goes away."""

    def script(connection: socket.socket, _: bytes) -> None:
        connection.sendall(data)
        connection.recv(1)

    return script
