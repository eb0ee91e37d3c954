"""HTTP through requests: one try per call, a deadline for the whole of it, bodies in bounded pieces; and the one seam
where exceptions of requests, urllib3, ssl and socket become errors of ours.
"""

from __future__ import annotations

import io
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from http.client import HTTPException, HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import requests
import requests.exceptions as r
import urllib3.exceptions as u
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection

from flux_lora_cli.errors import AnswerTooLong, FluxLoraError, InsecureConnection, NeverSent, Uncertain
from flux_lora_cli.service.envelope import Answer
from flux_lora_cli.service.hosts import Proxy, proxy_for, show_host

#: Seconds to connect [FAULTS: retry policy]; bytes read from the network at a time.
CONNECT_SECONDS, PIECE = 10.0, 65536
#: Seconds after which an idle connection is not used again. Servers close theirs at any time after 5 s (Node's default;
#: nginx 75, AWS 60), and a POST that meets the close cannot be told from one that was accepted.
IDLE_SECONDS = 4.0

#: Everything that the layers below raise.
FOREIGN = (requests.RequestException, u.HTTPError, HTTPException, OSError, ValueError, zlib.error)
#: Proof that no byte of the request left. Whatever is not proved may have arrived.
NEVER_SENT = (u.NewConnectionError, u.ConnectTimeoutError, r.ConnectTimeout, r.InvalidURL, socket.gaierror)
#: The reason in words that need no knowledge of the layers.
_WHY: Mapping[type[BaseException], str] = {
    socket.gaierror: "the name is not known",
    ConnectionRefusedError: "connection refused",
    ConnectionResetError: "reset by the other side",
    ssl.SSLError: "the encryption (TLS) failed",
    u.IncompleteRead: "the answer was cut short",
    u.ConnectTimeoutError: "no answer in time",
}


def translate(
    error: BaseException, host: str, *, connecting: bool = False, proxy: Proxy | None = None
) -> FluxLoraError:
    """The error of ours: can the request have reached the service? ``connecting``: the connection was never made."""
    reasons = list(_reasons(error))

    def is_any(*kinds: type[BaseException]) -> bool:
        return any(isinstance(each, kinds) for each in reasons)

    if is_any(ssl.SSLCertVerificationError):
        other = proxy.shown if proxy is not None and is_any(u.ProxyError, r.ProxyError) else host
        return InsecureConnection(
            f"{other} could not prove that it is {other} (TLS certificate)",
            "Nothing was sent. Check the clock and the network; behind a company proxy, name its certificates in "
            "REQUESTS_CA_BUNDLE.",
        )
    why = next((words for kind, words in _WHY.items() if is_any(kind)), "it broke off")
    # Whatever urllib3 says: it blames the proxy even where a request broke off after it had been passed on.
    if proxy is not None and connecting:
        status = re.search(r"Tunnel connection failed: ([0-9]{3})", " ".join(map(str, reasons)))
        return proxy.failed(status[1] if status else why)
    if connecting or is_any(*NEVER_SENT):
        hint = "Nothing was sent. Check the network, and the base URL where one is set."
        return NeverSent(f"cannot connect to {host}: {why}", hint)
    if is_any(u.ReadTimeoutError, r.ReadTimeout, TimeoutError):
        return Uncertain(f"{host} did not answer in time", "Try again later.", timed_out=True)
    return Uncertain(f"the connection to {host} ended before the whole answer had come: {why}", "Try again.")


def _reasons(error: object) -> Iterator[BaseException]:
    """The exception and everything that it wraps or was raised from, outermost first."""
    if isinstance(error, BaseException):
        yield error
        # Not __context__: what merely happened before, such as a first address that refused, is no reason.
        for inner in (getattr(error, "reason", None), error.__cause__, *error.args):
            if inner is not error:
                yield from _reasons(inner)


# ---- connections --------------------------------------------------------------------------------


class _Call(threading.local):
    """What the current thread's request tells its connection, and learns from it."""

    url, path = "", ""
    deadline, silence = 0.0, 30.0  # monotonic time; seconds
    connecting = False


_call = _Call()


class _TimedReads(io.RawIOBase):
    """A socket's reading side; each read waits for what is left of the whole call's time, at most."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._socket, self._raw, self._deadline, self._silence = sock, raw, _call.deadline, _call.silence

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long in all")
        self._socket.settimeout(min(left, self._silence))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: Any = io.BufferedReader(_TimedReads(sock, self.fp.detach()), PIECE)


class _Plain(HTTPConnection):
    """A connection that obeys ``_call``."""

    response_class = _Response
    used_at = 0.0

    def connect(self) -> None:
        _call.connecting = True
        super().connect()
        _call.connecting = False

    @property
    def is_connected(self) -> bool:
        return super().is_connected and time.monotonic() - self.used_at < IDLE_SECONDS

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        # As it was written: requests and urllib3 spell it anew.
        super().request(method, _call.path if url.startswith("/") else _call.url, *args, **kwargs)

    def getresponse(self) -> Any:
        response = super().getresponse()
        self.used_at = time.monotonic()
        return response


class _Secure(_Plain, HTTPSConnection):
    pass


class _Adapter(HTTPAdapter):
    """An adapter with these connections, which share one TLS context."""

    def __init__(self, env: Mapping[str, str]) -> None:
        super().__init__(pool_connections=64, pool_maxsize=80)  # as many as the engine has threads
        self._env = env

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return _tls_context(self._env)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        kinds: dict[type, type] = {HTTPConnection: _Plain, HTTPSConnection: _Secure}
        pool.ConnectionCls = kinds.get(pool.ConnectionCls, pool.ConnectionCls)  # SOCKS has its own
        return pool

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        where, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return where, {"ssl_context": self._context} if where["scheme"] == "https" else {}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy.lower().startswith("https:"):
            kwargs.update(ssl_context=self._context, proxy_ssl_context=self._context)
        return super().proxy_manager_for(proxy, **kwargs)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing: the shared context verifies."""


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


def _tls_context(env: Mapping[str, str]) -> ssl.SSLContext:
    """A verifying context, with the certificates that the environment names, else those of certifi."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    name = next((name for name in names if env.get(name)), "certifi")
    path = env.get(name) or DEFAULT_CA_BUNDLE_PATH
    try:
        context.load_verify_locations(**{"capath" if Path(path).is_dir() else "cafile": path})
    except (OSError, ValueError):
        raise InsecureConnection(
            f"{name} names {path}, from which no certificates of authorities can be read",
            f"Nothing was sent. Correct or unset {name}.",
        ) from None
    return context


# ---- calls --------------------------------------------------------------------------------------

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_\\"


class Reply:
    """An answer whose head has come (``answer``). The body is read by ``pieces`` or ``read``; ``close`` in any case.

    Attributes:
        size: bytes of the body that were read.
    """

    def __init__(self, response: requests.Response, url: str, deadline: float) -> None:
        headers = {name.lower(): value for name, value in response.headers.items()}
        self.answer = Answer(response.status_code, headers, b"", show_host(url), datetime.now(UTC))
        self.packed = headers.get("content-encoding", "").strip().lower() in ("gzip", "x-gzip", "deflate")
        self.size, self._deadline, self._ended = 0, deadline, False
        self._raw: Any = response.raw

    def pieces(self) -> Iterator[bytes]:
        """The body, unpacked where it is really packed. Raises Uncertain where it breaks off, or takes too long."""
        try:
            for piece in self._unpacked() if self.packed else self._plain():
                self.size += len(piece)
                yield piece
        except FOREIGN as error:
            raise translate(error, self.answer.host) from None

    def read(self, limit: int, inline_limit: int) -> Answer:
        """The answer with its body: up to ``limit`` bytes, or ``inline_limit`` where it reads like base64.

        Raises:
            AnswerTooLong: it is longer.
        """
        body = bytearray()
        for piece in self.pieces():
            body += piece
            inline = len(piece.translate(None, _BASE64)) <= len(piece) // 64 + 8
            if len(body) > (inline_limit if inline else limit):
                raise AnswerTooLong(f"{self.answer.host} sent too long an answer (over {limit // 1024:,} KiB)")
        return replace(self.answer, body=bytes(body))

    def close(self) -> None:
        """Give the connection back; one with an unread rest is closed."""
        (self._raw.release_conn if self._ended else self._raw.close)()

    def _plain(self) -> Iterator[bytes]:
        # read1 returns what has come, so that a trickle cannot hide inside one long read.
        while piece := self._raw.read1(PIECE, decode_content=False):
            yield piece
            if time.monotonic() > self._deadline:
                raise TimeoutError("the answer took too long in all")
        self._ended = True

    def _unpacked(self) -> Iterator[bytes]:
        """Unpack in bounded steps; what only claims to be packed comes as it is."""
        pieces = self._plain()
        first = next(pieces, b"")
        if first[:2] != b"\x1f\x8b" and not (first[:1] == b"\x78" and int.from_bytes(first[:2]) % 31 == 0):
            yield first
            yield from pieces
            return
        unpacker, rest = zlib.decompressobj(wbits=47), first  # 47: gzip or zlib, as its head says
        while rest or (rest := next(pieces, b"")):
            if piece := unpacker.decompress(rest, PIECE):
                yield piece
            rest = unpacker.unconsumed_tail
        if not unpacker.eof:
            raise zlib.error("cut short")


class Transport:
    """Sends requests, once each. Safe to use from several threads. ``env`` names proxies and certificates."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._session = _Session()
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(env))

    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        total: float = 30.0,
        silence: float = 120.0,
    ) -> Reply:
        """Send once, and return when the head of the answer has come.

        Args:
            url: with a path, and without a fragment.
            total: seconds for everything; ``silence``: for each piece.
        """
        proxy = proxy_for(url, self._env)
        request = requests.PreparedRequest()
        request.prepare_method(method)
        request.prepare_headers(headers)
        request.url = url
        request.prepare_body(body, None)
        silence = min(silence, total)
        _call.url, _call.path, _call.connecting = url, "/" + url.split("/", 3)[3], False
        _call.deadline, _call.silence = time.monotonic() + total, silence
        try:
            response = self._session.send(
                request,
                stream=True,
                timeout=(min(CONNECT_SECONDS, total), silence),
                proxies={"all": proxy.url} if proxy else {},
                allow_redirects=False,
            )
        except FOREIGN as error:
            raise translate(error, show_host(url), connecting=_call.connecting, proxy=proxy) from None
        if proxy is not None and response.status_code == 407:
            response.close()
            raise proxy.failed("407")
        return Reply(response, url, _call.deadline)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._session.close()
