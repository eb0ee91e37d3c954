"""A server that does to the socket exactly what a test says, on as many connections as come."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable

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
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                while request := read_request(connection):
                    self.requests.append(request)
                    self.script(connection, request)
        except OSError:
            pass


def read_request(connection: socket.socket) -> bytes:
    """One request, head and body; nothing where the other side has ended."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += (piece := connection.recv(65536))
        if not piece:
            return b""
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
    while length and len(body) < int(length[1]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


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
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    return script


def resets(data: bytes = b"") -> Script:
    """Send these bytes, then reset the connection."""

    def script(connection: socket.socket, _: bytes) -> None:
        connection.sendall(data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

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
