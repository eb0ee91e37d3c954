"""urllib3's pools and connections, with requests written and heads read in a few steps of our own.

Added to them: a deadline for the whole answer, proof of what was never sent, and no reuse of connections that the
server is likely to be closing. Left out: what urllib3 and requests do for callers that we are not (redirects, retries,
cookies, decoding, mail headers), which is most of the CPU of a request. [tests/benchmarks: 3 requests a job]

Deadlines are measured on the real monotonic clock: sockets do not wait in simulated time.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssl_match_hostname import CertificateError

#: Seconds after which an idle connection is not used again. Servers close idle connections at any time
#: after 5 s (Node's default; gunicorn 2, nginx 75, AWS 60), and a POST that meets the close cannot be told
#: from one that was accepted.
IDLE_SECONDS = 4.0
#: Bytes read from the network at a time; larger pieces were not faster, smaller ones cost CPU.
PIECE = 65536
#: Most bytes of a header line, and most lines; as in http.client.
_LINE, _LINES = 65536, 100
#: A socket's time-out is changed where less than this part of it is left: setting it is a system call.
_CLOSE_ENOUGH = 0.98


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
        self._waits = sock.gettimeout() or 0.0

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long in all")
        wait = min(left, self._silence)
        if not wait <= self._waits <= wait / _CLOSE_ENOUGH:
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
        return io.BufferedReader(reader, PIECE)


class _Response(http.client.HTTPResponse):
    """http.client's, but for the head, which it reads with the parser for mail: half of all work of an answer."""

    def __init__(self, sock: socket.socket, method: str) -> None:
        super().__init__(_DeadlineSocket(sock), method=method)  # type: ignore[arg-type]  # only makefile is used

    def begin(self) -> None:
        """Read the head.

        Raises:
            http.client.HTTPException: it is none.
        """
        while True:
            version, self.status, _ = self._read_status()  # type: ignore[attr-defined]  # http.client's own
            if not version.startswith("HTTP/1."):
                raise http.client.UnknownProtocol(version)
            self.version = 10 if version == "HTTP/1.0" else 11
            self.fields = _fields(self.fp)
            if self.status >= 200 or self.status == http.client.SWITCHING_PROTOCOLS:
                break
        self.headers = self.msg = self.fields  # type: ignore[assignment]  # _check_close asks in lower case
        self.chunked = self.fields.get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = None
        self.length = None if self.chunked else _length(self.fields)
        if self.status in (204, 304) or self.status < 200:
            self.length = 0
        closes = self._check_close()  # type: ignore[attr-defined]  # http.client's own
        self.will_close = closes or (not self.chunked and self.length is None)


def _fields(head: Any) -> dict[str, str]:
    """The fields of a head, names in lower case; of one that comes twice, the values joined by a comma (RFC 9110)."""
    fields: dict[str, str] = {}
    last = ""
    for _ in range(_LINES + 1):
        line = head.readline(_LINE + 1)
        if len(line) > _LINE:
            raise http.client.LineTooLong("header line")
        if line in (b"\r\n", b"\n", b""):
            return fields
        text = line.decode("latin-1")
        if text[0] in " \t":  # a line that goes on, as no server should send it any more
            fields[last] = f"{fields.get(last, '')} {text.strip()}"
            continue
        name, _, value = text.partition(":")
        last, value = name.strip().lower(), value.strip()
        fields[last] = f"{fields[last]}, {value}" if last in fields else value
    raise http.client.HTTPException(f"got more than {_LINES} headers")


def _length(fields: Mapping[str, str]) -> int | None:
    lengths = {length.strip() for length in fields.get("content-length", "").split(",")}
    if lengths == {""}:
        return None
    if len(lengths) > 1:
        raise http.client.HTTPException("two lengths of one answer")
    (length,) = lengths
    return int(length) if length.isascii() and length.isdigit() else None


class Answer:
    """An answer whose head has come. Its body is read in pieces; ``close`` in any case.

    Attributes:
        headers: names in lower case.
    """

    def __init__(self, pool: TrackedPool, connection: _Tracked, response: _Response) -> None:
        self._pool: TrackedPool | None = pool
        self._connection = connection
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.fields

    def read1(self, size: int) -> bytes:
        """What has come of the body, at most ``size`` bytes; none at its end.

        Raises:
            http.client.IncompleteRead: the body is cut short.
        """
        piece = self._response.read1(size)
        if not piece:
            if self._response.length:
                raise http.client.IncompleteRead(b"", self._response.length)
            self._release(keep=not self._response.will_close)
        return piece

    def close(self) -> None:
        """Give the connection back; one with an unread rest is closed."""
        self._release(keep=False)

    def _release(self, *, keep: bool) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            self._response.close()
            if not keep:
                self._connection.close()
            pool._put_conn(self._connection)


#: What a header's name is made of (RFC 9110, token), and what its value is free of; and a request's target.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BREAKS = re.compile(r"[\r\n\0]")
_TARGET = re.compile(r"/[\x21-\x7e]*")


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

    idle_since: float = 0.0

    def connect(self) -> None:
        try:
            super().connect()
        except BaseException:
            exchange.connecting = True
            raise

    def exchange(self, method: str, head: bytes, body: bytes) -> _Response:
        """Send a request on this open connection, and read the head of its answer."""
        sock: socket.socket = self.sock
        if sock.gettimeout() != exchange.silence:
            sock.settimeout(exchange.silence)
        try:
            sock.sendall(head + body if len(body) <= PIECE else head)
            if len(body) > PIECE:
                sock.sendall(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # a server may refuse a body and close before it has read it: its answer is what counts
        response = _Response(sock, method)
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        return response


class _PlainConnection(_Tracked):
    pass


class _SecureConnection(_Tracked, HTTPSConnection):
    pass


class TrackedPool(HTTPConnectionPool):
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

    def urlopen(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> Any:  # type: ignore[override]  # ours
        """Send a request once; an ``Answer`` as soon as its head has come. Called by ``requests.adapters.HTTPAdapter``.

        Args:
            url: path and query.
            body: bytes, or None.
            headers: the whole head, but for ``Host``.
            options: ``timeout``, whose time to connect counts (the others are those of ``exchange``); the rest asks
                for nothing that is done here.

        Raises:
            ValueError: a target or header that cannot be sent.
            OSError, urllib3.exceptions.HTTPError, http.client.HTTPException: see ``faults``.
        """
        head = self._head(method, url, headers)
        connection: _Tracked = self._get_conn()
        try:
            if connection.sock is None:
                self._open(connection, options["timeout"].connect_timeout)
            response = connection.exchange(method, head, body or b"")
        except BaseException:
            connection.close()
            self._put_conn(connection)
            raise
        return Answer(self, connection, response)

    def _head(self, method: str, target: str, headers: Mapping[str, str]) -> bytes:
        if not _TARGET.fullmatch(target):
            raise ValueError("a target that cannot be sent")
        lines = [f"{method} {target} HTTP/1.1".encode("ascii"), self._host_line()]
        lines += [_header_line(name, value) for name, value in headers.items()]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _host_line(self) -> bytes:
        host = f"[{self.host.strip('[]')}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme or "http"]
        return _header_line("Host", host if self.port in (None, usual) else f"{host}:{self.port}")

    def _open(self, connection: _Tracked, seconds: float) -> None:
        connection.timeout = seconds
        if self.proxy is not None:
            self._open_through_proxy(connection)
        else:
            connection.connect()

    def _open_through_proxy(self, connection: _Tracked) -> None:
        try:
            self._prepare_proxy(connection)
        except (ssl.SSLError, CertificateError):
            raise
        except (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
            raise urllib3.exceptions.ProxyError("no way through the proxy", error) from error


class PlainPool(TrackedPool):
    """Connections to one http origin."""

    ConnectionCls = _PlainConnection


class SecurePool(TrackedPool, HTTPSConnectionPool):
    """Connections to one https origin."""

    ConnectionCls = _SecureConnection


POOLS: dict[str, type[urllib3.HTTPConnectionPool]] = {"http": PlainPool, "https": SecurePool}
