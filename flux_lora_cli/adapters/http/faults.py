"""The one seam where exceptions of requests, urllib3, ssl and socket become errors of ours.

What matters about each is a single question: can the request have reached the service?
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from http.client import IncompleteRead

import requests.exceptions as r
import urllib3.exceptions as u
from urllib3.util.ssl_match_hostname import CertificateError

from flux_lora_cli.errors import FluxLoraError, InsecureConnection, NeverSent, Uncertain

#: Raised before a byte of the request leaves: the connection does not exist, or the request is no request.
NEVER_SENT: tuple[type[BaseException], ...] = (
    u.NewConnectionError,
    u.NameResolutionError,
    u.ConnectTimeoutError,
    u.EmptyPoolError,
    u.ClosedPoolError,
    u.FullPoolError,
    u.HostChangedError,
    u.LocationValueError,
    u.LocationParseError,
    u.URLSchemeUnknown,
    u.ProxySchemeUnknown,
    u.ProxySchemeUnsupported,
    r.ConnectTimeout,
    r.InvalidProxyURL,
    r.InvalidSchema,
    r.InvalidURL,
    r.MissingSchema,
    r.URLRequired,
    ConnectionRefusedError,
    socket.gaierror,
)

_CONNECT_HINT = "Nothing was sent. Check the network, and the base URL where one is set."

#: The other side could not prove who it is.
INSECURE: tuple[type[BaseException], ...] = (ssl.SSLCertVerificationError, CertificateError)

#: TLS failed, in a way that only what is inside can tell.
TLS: tuple[type[BaseException], ...] = (r.SSLError, u.SSLError)

#: Says nothing about what had been sent by then, or says that something had.
UNCERTAIN: tuple[type[BaseException], ...] = (
    u.HTTPError,
    u.PoolError,
    u.RequestError,
    u.ProxyError,
    u.DecodeError,
    u.ProtocolError,
    u.ConnectionError,
    u.MaxRetryError,
    u.TimeoutStateError,
    u.TimeoutError,
    u.ReadTimeoutError,
    u.UnrewindableBodyError,
    u.ResponseError,
    u.ResponseNotChunked,
    u.BodyNotHttplibCompatible,
    u.IncompleteRead,
    u.InvalidChunkLength,
    u.InvalidHeader,
    u.HeaderParsingError,
    r.RequestException,
    r.InvalidHeader,
    r.InvalidJSONError,
    r.JSONDecodeError,
    r.HTTPError,
    r.ConnectionError,
    r.ProxyError,
    r.Timeout,
    r.ReadTimeout,
    r.TooManyRedirects,
    r.ChunkedEncodingError,
    r.ContentDecodingError,
    r.StreamConsumedError,
    r.RetryError,
    r.UnrewindableBodyError,
)


def translate(error: BaseException, host: str, *, connecting: bool = False) -> FluxLoraError:
    """The error of ours that ``error`` stands for.

    Args:
        host: who was asked; for the message.
        connecting: the connection itself reported that it was never made.
    """
    chain = list(_reasons(error))
    if any(isinstance(e, INSECURE) for e in chain) or _bare_tls(chain):
        return InsecureConnection(
            f"{host} could not prove that it is {host} (TLS certificate)",
            "Nothing was sent. Check the clock and the network; behind a company proxy, name its certificates in "
            "REQUESTS_CA_BUNDLE.",
        )
    if connecting or any(isinstance(e, NEVER_SENT) for e in chain):
        through = " through the proxy" if any(isinstance(e, (u.ProxyError, r.ProxyError)) for e in chain) else ""
        return NeverSent(f"cannot connect to {host}{through}: {_why(chain)}", _CONNECT_HINT)
    if any(isinstance(e, (u.ReadTimeoutError, r.ReadTimeout, TimeoutError)) for e in chain):
        late = Uncertain(f"{host} did not answer in time", "Try again later.")
        late.timed_out = True
        return late
    return Uncertain(f"the connection to {host} broke off: {_why(chain)}", "Try again.")


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """The exception and everything that it wraps or was raised from, outermost first."""
    seen: set[int] = set()
    todo: list[object] = [error]
    while todo:
        current = todo.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        todo += [getattr(current, "reason", None), getattr(current, "original_error", None)]
        # Not __context__: what merely happened before, such as a first address that refused, is no reason.
        todo += [current.__cause__, *current.args]


def _bare_tls(chain: list[BaseException]) -> bool:
    """Whether TLS failed for no reason that ssl gave: what is left is a check of the library's own."""
    return any(isinstance(e, TLS) for e in chain) and not any(isinstance(e, ssl.SSLError) for e in chain)


def _why(chain: list[BaseException]) -> str:
    """The innermost reason in words that need no knowledge of the layers."""
    for error in chain:
        if isinstance(error, (u.NameResolutionError, socket.gaierror)):
            return "the name is not known"
        if isinstance(error, ConnectionRefusedError):
            return "connection refused"
        if isinstance(error, (u.ConnectTimeoutError, r.ConnectTimeout)) and not isinstance(error, u.NewConnectionError):
            return "no answer in time"
        if isinstance(error, ConnectionResetError):
            return "reset by the other side"
        if isinstance(error, ssl.SSLError):
            return "the encryption (TLS) failed"
        if isinstance(error, (IncompleteRead, u.InvalidChunkLength)):
            return "the answer was cut short"
    for error in reversed(chain):
        if isinstance(error, OSError) and error.strerror:
            return error.strerror.lower()
    return "it ended without an answer"
