"""HTTP through requests: one try per call, a deadline for the whole of it, bodies in bounded pieces; and the one seam
where exceptions of requests, urllib3, ssl and socket become errors of ours.

The adapter works without a session, which would follow redirects, keep cookies and read ``~/.netrc``.
"""

from __future__ import annotations

import io
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from http.client import HTTPException, HTTPResponse
from itertools import chain
from pathlib import Path
from typing import Any

import requests
import requests.exceptions as r
import urllib3.exceptions as u
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection

from flux_lora_cli.errors import AnswerTooLong, FluxLoraError, InsecureConnection, NeverSent, ProxyFailed, Uncertain
from flux_lora_cli.service.envelope import Answer
from flux_lora_cli.service.hosts import Proxy, proxy_for, show_host, show_url

#: Seconds to connect [FAULTS: retry policy]; bytes read from the network at a time.
CONNECT_SECONDS, PIECE = 10.0, 65536
#: Seconds after which an idle connection is not used again. Servers close theirs at any time after 5 s (Node's default;
#: nginx 75, AWS 60), and a POST that meets the close cannot be told from one that was accepted.
IDLE_SECONDS = 4.0
#: Bytes of an answer with images inline. [CONTRACT: limits]
INLINE_LIMIT = 50_000_000

#: Everything that the layers below raise.
FOREIGN = (requests.RequestException, u.HTTPError, HTTPException, OSError, ValueError, zlib.error)
#: Proof that no byte of the request left. Whatever is not proved may have arrived.
NEVER_SENT = (
    u.NewConnectionError, u.ConnectTimeoutError, u.LocationValueError, r.InvalidURL, r.InvalidSchema, socket.gaierror,
)  # fmt: skip


def translate(
    error: BaseException, host: str, *, connecting: bool = False, proxy: Proxy | None = None
) -> FluxLoraError:
    """The error of ours: can the request have reached the service? ``connecting``: the connection was never made."""
    reasons = list(_reasons(error))

    def is_any(*kinds: type[BaseException]) -> bool:
        return any(isinstance(each, kinds) for each in reasons)

    if is_any(ssl.SSLCertVerificationError):
        other = "the proxy" if proxy is not None and is_any(u.ProxyError, r.ProxyError) else host
        return InsecureConnection(
            f"{other} could not prove that it is {other} (TLS certificate)",
            "Nothing was sent. Check the clock and the network; behind a company proxy, name its certificates in "
            "REQUESTS_CA_BUNDLE.",
        )
    late = is_any(TimeoutError, u.TimeoutError, r.Timeout)
    words = (each.strerror for each in reasons if isinstance(each, OSError) and each.strerror)
    why = next(words, "no answer in time" if late else "it broke off").lower()
    if is_any(ssl.SSLError):
        why = "the encryption (TLS) failed"
    never_sent = connecting or is_any(*NEVER_SENT)
    # Whatever urllib3 says: it blames the proxy even where a request broke off after it had been passed on.
    if proxy is not None and never_sent:
        status = re.search(r"Tunnel connection failed: ([0-9]{3})", " ".join(map(str, reasons)))
        if is_any(ValueError):
            why = "its address is not valid, or of a kind that cannot be used (SOCKS needs the package PySocks)"
        return _proxy_failed(proxy, status[1] if status else why)
    if never_sent:
        hint = "Nothing was sent. Check the network, and the base URL where one is set."
        return NeverSent(f"cannot connect to {host}: {why}", hint)
    if late:
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


def _proxy_failed(proxy: Proxy, why: str) -> ProxyFailed:
    """The error that names the variable, and nothing of the address, which may hold a password."""
    why = "it wants a user name and a password, or other ones (407)" if why == "407" else why
    return ProxyFailed(
        f"the proxy that {proxy.variable} names cannot reach the service: {why}",
        f"Nothing reached the service. Correct or unset {proxy.variable} (http://HOST:PORT; special characters of a "
        "password as %40), or add the host to NO_PROXY.",
    )


# ---- connections --------------------------------------------------------------------------------


class _Call(threading.local):
    """What the current thread's request tells its connection, and learns from it."""

    url = ""
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
        if left < 0.9 * self._silence:  # or the time-out that the request has set is near enough, and costs no call
            self._socket.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: Any = io.BufferedReader(_TimedReads(sock, self.fp.detach()), PIECE)


class _Obedient(HTTPConnection):
    """What makes a connection of any kind obey ``_call``."""

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
        written = "/" + _call.url.split("/", 3)[3] if url.startswith("/") else _call.url
        super().request(method, written, *args, **kwargs)

    def getresponse(self) -> Any:
        response = super().getresponse()
        self.used_at = time.monotonic()
        return response


# ---- calls --------------------------------------------------------------------------------------

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_\\"
#: How gzip and zlib begin.
_PACKED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


class Reply:
    """An answer whose head has come (``answer``); of the body, ``size`` bytes were read by ``pieces`` or ``read``."""

    def __init__(self, response: requests.Response, url: str, clean: Callable[[str], str]) -> None:
        headers = {name.lower(): value for name, value in response.headers.items()}
        self.answer = Answer(response.status_code, headers, b"", show_host(url), datetime.now(UTC), clean)
        self.packed = headers.get("content-encoding", "").strip().lower() in ("gzip", "x-gzip", "deflate")
        self.size, self._ended = 0, False
        self._raw: Any = response.raw

    def pieces(self) -> Iterator[bytes]:
        """The body, unpacked where it is really packed. Raises Uncertain where it breaks off, or takes too long."""
        try:
            for piece in self._unpacked():
                self.size += len(piece)
                yield piece
        except FOREIGN as error:
            raise translate(error, self.answer.host) from None
        self._ended = True

    def read(self, limit: int) -> Answer:
        """The answer with its body; AnswerTooLong over ``limit`` bytes, or INLINE_LIMIT where it reads like base64."""
        body = bytearray()
        for piece in self.pieces():
            body += piece
            if len(body) > limit:
                others = len(piece.translate(None, _BASE64))
                if len(body) > INLINE_LIMIT or others > len(piece) // 64 + 8:
                    raise AnswerTooLong(f"{self.answer.host} sent too long an answer (over {limit // 1024:,} KiB)")
        return replace(self.answer, body=bytes(body))

    def close(self) -> None:
        """Give the connection back; one with an unread rest is closed."""
        (self._raw.release_conn if self._ended else self._raw.close)()

    def _unpacked(self) -> Iterator[bytes]:
        # read1 returns what has come, so that nothing of it is lost where the rest never comes.
        plain = iter(lambda: self._raw.read1(PIECE, decode_content=False), b"")
        first = next(plain, b"")
        if not self.packed or not first.startswith(_PACKED):
            yield first
            yield from plain
            return
        unpacker = zlib.decompressobj(wbits=47)  # gzip or zlib, as its head says
        for piece in chain([first], plain):
            while piece:
                yield unpacker.decompress(piece, PIECE)
                piece = unpacker.unconsumed_tail


class Transport(HTTPAdapter):
    """Sends requests, once each. Safe to use from several threads.

    Args:
        env: names proxies and certificates.
        clean: masks the API key in texts.
    """

    def __init__(
        self, env: Mapping[str, str], clean: Callable[[str], str] = str, log: Callable[[str], None] | None = None
    ) -> None:
        super().__init__(pool_connections=64, pool_maxsize=80)  # as many as the engine has threads
        self._env, self._clean, self._log = env, clean, log

    @contextmanager
    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        total: float = 30.0,
        silence: float = 120.0,
    ) -> Iterator[Reply]:
        """Send once to a URL with a path, in ``total`` seconds and at most ``silence`` between two pieces."""
        proxy, silence, started = proxy_for(url, self._env), min(silence, total), time.monotonic()
        _call.url, _call.connecting, _call.deadline, _call.silence = url, False, started + total, silence
        reply, outcome = None, ""
        try:
            try:
                request = requests.PreparedRequest()
                request.method, request.url = method, url
                request.prepare_headers(headers)
                request.prepare_body(body, None)
                response = self.send(
                    request,
                    stream=True,
                    timeout=(min(CONNECT_SECONDS, total), silence),
                    proxies={"all": proxy.url} if proxy else {},
                )
            except FOREIGN as error:
                raise translate(error, show_host(url), connecting=_call.connecting, proxy=proxy) from None
            reply, outcome = Reply(response, url, self._clean), str(response.status_code)
            if proxy is not None and response.status_code == 407:
                raise _proxy_failed(proxy, "407")
            yield reply
        except FluxLoraError as error:
            outcome = f"{outcome} {error.code}".strip()
            raise
        finally:
            if reply is not None:
                reply.close()
            if self._log is not None:
                took, size = (time.monotonic() - started) * 1000, reply.size if reply else 0
                self._log(self._clean(f"{method} {show_url(url)} {outcome} {took:.0f} ms {size} bytes"))

    # ---- what HTTPAdapter leaves to be overridden ----

    @cached_property
    def _context(self) -> ssl.SSLContext:
        """A verifying context, with the certificates that the environment names, else those of certifi."""
        names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
        name = next((name for name in names if self._env.get(name)), "certifi")
        path = self._env.get(name) or DEFAULT_CA_BUNDLE_PATH
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(**{"capath" if Path(path).is_dir() else "cafile": path})
        except (OSError, ValueError):
            raise InsecureConnection(
                f"{name} names {path}, from which no certificates of authorities can be read",
                f"Nothing was sent. Correct or unset {name}.",
            ) from None
        return context

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if not issubclass(pool.ConnectionCls, _Obedient):
            pool.ConnectionCls = type("_Obedient", (_Obedient, pool.ConnectionCls), {})
        return pool

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        where, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return where, {"ssl_context": self._context} if where["scheme"] == "https" else {}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy.lower().startswith("https:"):
            kwargs.update(ssl_context=self._context, proxy_ssl_context=self._context)
        try:
            return super().proxy_manager_for(proxy, **kwargs)
        except ValueError as error:  # of SOCKS, in a version that there is not
            raise r.InvalidProxyURL(error) from None

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        """The status, the headers and where the body comes from: cookies and encodings are nothing to us."""
        response = requests.Response()
        response.request, response.raw = req, resp
        response.status_code, response.headers = resp.status, resp.headers
        return response

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing: the shared context verifies."""
