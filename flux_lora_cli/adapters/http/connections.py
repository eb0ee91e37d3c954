"""urllib3 connections with three things added: a deadline for the whole answer, proof of what was never
sent, and no reuse of connections that the server is likely to be closing.

Deadlines are measured on the real monotonic clock: sockets do not wait in simulated time.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import threading
import time
from functools import lru_cache
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import SKIP_HEADER

#: Seconds after which an idle connection is not used again. Servers close idle connections at any time
#: after 5 s (Node's default; gunicorn 2, nginx 75, AWS 60), and a POST that meets the close cannot be told
#: from one that was accepted.
IDLE_SECONDS = 4.0


class Exchange(threading.local):
    """What the current thread's request needs to tell its connection, and to learn from it.

    ``total`` and ``silence`` are seconds; ``connecting`` says that the request failed before its first byte.
    """

    total: float = 30.0
    silence: float = 30.0
    connecting: bool = False

    def begin(self, total: float, silence: float) -> None:
        """Start a request of this thread."""
        self.total, self.silence, self.connecting = total, silence, False


exchange = Exchange()


class _DeadlineReader(socket.SocketIO):
    """Reads a socket; each read waits for what is left of the whole answer's time, at most for the silence allowed."""

    def __init__(self, sock: socket.socket, deadline: float, silence: float) -> None:
        super().__init__(sock, "r")
        self._socket = sock
        self._deadline = deadline
        self._silence = silence
        self._waits = sock.gettimeout()

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long in all")
        wait = min(left, self._silence)
        if wait != self._waits:
            self._socket.settimeout(wait)
            self._waits = wait
        return super().readinto(buffer)


class _DeadlineSocket:
    """What http.client's response wants of a socket: its reading side."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        reader = _DeadlineReader(self._socket, time.monotonic() + exchange.total, exchange.silence)
        # As socket.makefile does: the socket stays open until its readers are closed.
        self._socket._io_refs += 1  # type: ignore[attr-defined]
        return io.BufferedReader(reader)


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(_DeadlineSocket(sock), *args, **kwargs)  # type: ignore[arg-type]  # only makefile is used


#: What a header's name is made of (RFC 9110, token), and what its value is free of.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BREAKS = re.compile(r"[\r\n\0]")


@lru_cache(maxsize=256)
def _header_line(name: str, value: str) -> bytes:
    """One line of a request's head. Most are the same in every request, and checked once.

    Raises:
        ValueError: it would be more than one line, or cannot be sent.
    """
    if not _NAME.fullmatch(name) or _BREAKS.search(value):
        raise ValueError("a header that cannot be sent")
    return f"{name}: {value}".encode("latin-1")


class _Tracked(HTTPConnection):
    """Says, when connecting fails, that nothing of the request had been sent."""

    response_class = _Response
    idle_since: float = 0.0

    def connect(self) -> None:
        try:
            super().connect()
        except BaseException:
            exchange.connecting = True
            raise

    def putheader(self, header: Any, *values: Any) -> None:
        if len(values) == 1 and isinstance(header, str) and isinstance(values[0], str) and values[0] != SKIP_HEADER:
            self._output(_header_line(header, values[0]))  # type: ignore[attr-defined]  # http.client's own
        else:
            super().putheader(header, *values)


class _PlainConnection(_Tracked):
    pass


class _SecureConnection(_Tracked, HTTPSConnection):
    pass


class _Fresh(HTTPConnectionPool):
    """Closes a connection that was idle for too long, instead of using it."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        idle_since = getattr(connection, "idle_since", 0.0)
        if idle_since and time.monotonic() - idle_since > IDLE_SECONDS:
            connection.close()
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)


class PlainPool(_Fresh):
    """Connections to one http origin."""

    ConnectionCls = _PlainConnection


class SecurePool(_Fresh, HTTPSConnectionPool):
    """Connections to one https origin."""

    ConnectionCls = _SecureConnection


POOLS: dict[str, type[urllib3.HTTPConnectionPool]] = {"http": PlainPool, "https": SecurePool}
