"""HTTP/1.1 over sockets: one thread a connection, connections kept, requests read whole.

Not http.server: its parser costs four times as much as everything else that a
submit needs, and a fault has to reach under HTTP, to the socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from .messages import Reply, Request

_HEAD_BYTES: Final = 64 * 1024
_BODY_BYTES: Final = 256 * 1024 * 1024
_READ_BYTES: Final = 256 * 1024
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


class BadRequestError(Exception):
    """What arrived is not HTTP."""


class Wire:
    """One connection: requests in, replies out, and the means to misbehave."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self.socket = connection
        self._stopping = stopping
        self._buffer = b""

    def read_request(self) -> Request | None:
        """The next request; None at the end of the connection.

        Raises:
            BadRequestError: it is none, or too large.
        """
        head = self._head()
        if head is None:
            return None
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise BadRequestError(lines[0][:100])
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if words[2] == "HTTP/1.0":
            headers.setdefault("connection", "close")
        path, _, query = words[1].partition("?")
        if headers.get("expect", "").lower() == "100-continue":
            self.send_bytes(b"HTTP/1.1 100 Continue\r\n\r\n")
        return Request(words[0], path, query, headers, self._body(headers))

    def send(self, reply: Reply, head_only: bool = False) -> None:
        """A whole reply."""
        head = head_of(reply, len(reply.body))
        if head_only:
            self.send_bytes(head)
        elif len(reply.body) < _HEAD_BYTES:
            self.send_bytes(head + reply.body)
        else:
            self.send_bytes(head)
            self.send_bytes(reply.body)

    def send_bytes(self, data: bytes) -> None:
        """Bytes as they are."""
        self.socket.sendall(data)

    def reset(self) -> None:
        """Ends the connection with RST."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.close()

    def close(self) -> None:
        """Ends the connection with FIN."""
        with contextlib.suppress(OSError):
            self.socket.close()

    def pause(self, seconds: float) -> bool:
        """Waits; true when the server is being stopped."""
        return self._stopping.wait(seconds)

    def _head(self) -> bytes | None:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _HEAD_BYTES:
                raise BadRequestError("the header is too large")
            more = self.socket.recv(_READ_BYTES)
            if not more:
                return None
            self._buffer = (self._buffer + more).lstrip(b"\r\n") if not self._buffer else self._buffer + more
        head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        return head

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunks()
        try:
            length = int(headers.get("content-length") or 0)
        except ValueError as error:
            raise BadRequestError("Content-Length is not a number") from error
        return self._exactly(length) if length else b""

    def _exactly(self, length: int) -> bytes:
        if not 0 <= length <= _BODY_BYTES:
            raise BadRequestError("the body is too large")
        parts, have = [self._buffer], len(self._buffer)
        while have < length:
            more = self.socket.recv(_READ_BYTES)
            if not more:
                raise BadRequestError("the body is cut")
            parts.append(more)
            have += len(more)
        whole = b"".join(parts)
        self._buffer = whole[length:]
        return whole[:length]

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            more = self.socket.recv(_READ_BYTES)
            if not more or len(self._buffer) > _HEAD_BYTES:
                raise BadRequestError("a chunk is cut")
            self._buffer += more
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _chunks(self) -> bytes:
        parts: list[bytes] = []
        have = 0
        try:
            while length := int(self._line().split(b";")[0], 16):
                have += length
                if have > _BODY_BYTES:
                    raise BadRequestError("the body is too large")
                parts.append(self._exactly(length))
                self._line()
        except ValueError as error:
            raise BadRequestError("a chunk has no length") from error
        while self._line():
            pass
        return b"".join(parts)


_date: tuple[int, str] = (0, "")


def _http_date() -> str:
    """The Date header, formatted once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True))
    return _date[1]


def head_of(reply: Reply, length: int | None) -> bytes:
    """Status line and headers; no Content-Length, and the connection closed, where ``length`` is None."""
    lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Unknown')}", f"Date: {_http_date()}"]
    if reply.media_type:
        lines.append(f"Content-Type: {reply.media_type}")
    lines.append("Connection: close" if length is None else f"Content-Length: {length}")
    lines += [f"{name}: {value}" for name, value in reply.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Listener:
    """Accepts connections and hands each request to ``serve``, which says whether to go on."""

    def __init__(self, host: str, port: int, serve: Callable[[Wire, Request], bool]) -> None:
        self._serve = serve
        self._stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._listening = _bound(host, port)
        self.address: tuple[str, int] = self._listening.getsockname()[:2]

    def start(self) -> None:
        """Begins to accept, in a thread of its own."""
        threading.Thread(target=self._accept, args=(self._listening,), name="sandbox", daemon=True).start()

    def stop(self) -> None:
        """Refuses new connections and ends the open ones."""
        self._stopping.set()
        self._shut()

    def refuse_for(self, seconds: float) -> None:
        """The port is closed for a while: new connections are refused, as by a host without a server."""
        self._shut()
        threading.Thread(target=self._reopen, args=(seconds,), name="sandbox-reopen", daemon=True).start()

    def _reopen(self, seconds: float) -> None:
        if not self._stopping.wait(seconds):
            self._listening = _bound(*self.address)
            self._accept(self._listening)

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            # Wakes the thread in accept(); closing alone does not.
            self._listening.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._listening.close()
        with self._guard:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listening: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._guard:
                self._open.add(connection)
            threading.Thread(target=self._follow, args=(connection,), daemon=True).start()

    def _follow(self, connection: socket.socket) -> None:
        wire = Wire(connection, self._stopping)
        try:
            while not self._stopping.is_set():
                request = wire.read_request()
                if request is None or not self._serve(wire, request):
                    break
                if request.headers.get("connection", "").lower() == "close":
                    break
        except BadRequestError as error:
            with contextlib.suppress(OSError):
                wire.send(Reply(400, str(error).encode("utf-8", "replace"), "text/plain"))
        except OSError:
            pass  # the client went away
        finally:
            with self._guard:
                self._open.discard(connection)
            wire.close()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(1024)
    except OSError:
        listening.close()
        raise
    return listening
