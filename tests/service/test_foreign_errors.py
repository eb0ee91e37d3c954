"""The seam where foreign exceptions become ours: every one is caught, and only what is proved was never sent."""

from __future__ import annotations

import inspect
import socket
import ssl
from typing import Any

import pytest
import requests.exceptions as r
import urllib3
import urllib3.exceptions as u

from flux_lora_cli import errors
from flux_lora_cli.service import transport
from flux_lora_cli.service.hosts import Proxy

PROXY = Proxy("http://u:p@proxy:1", "HTTPS_PROXY")
RESET = u.ProtocolError("aborted", ConnectionResetError(104, "reset"))
UNTRUSTED = u.SSLError(ssl.SSLCertVerificationError("bad"))
NOWHERE: Any = None


@pytest.mark.parametrize("library", [r, u])
def test_every_exception_of_the_libraries_is_caught_and_uncertain_unless_proved_otherwise(library: object) -> None:
    for _, found in inspect.getmembers(library, inspect.isclass):
        if issubclass(found, Exception) and not issubclass(found, Warning):
            never_sent = issubclass(found, transport.NEVER_SENT)
            assert issubclass(found, transport.FOREIGN)
            error = transport.translate(found.__new__(found), "api.example")
            assert type(error) is (errors.NeverSent if never_sent else errors.Uncertain), found


@pytest.mark.parametrize(
    ("reason", "how", "expected"),
    [
        *(
            (each, {}, errors.NeverSent)
            for each in (u.NewConnectionError(NOWHERE, "no"), socket.gaierror(-2, "unknown"))
        ),
        (u.ConnectTimeoutError(None, "late"), {}, errors.NeverSent),
        *((each, {}, errors.Uncertain) for each in (RESET, OSError(5, "i/o"), u.SSLError(ssl.SSLEOFError("cut")))),
        (u.ReadTimeoutError(NOWHERE, "/", "late"), {}, errors.Uncertain),
        (UNTRUSTED, {}, errors.InsecureConnection),
        (RESET, {"proxy": PROXY}, errors.Uncertain),  # beyond the proxy
        (RESET, {"proxy": PROXY, "connecting": True}, errors.ProxyFailed),
        (UNTRUSTED, {"proxy": PROXY, "connecting": True}, errors.InsecureConnection),
    ],
)
def test_the_true_reason_inside_decides(reason: Any, how: dict[str, Any], expected: type) -> None:
    pool = urllib3.HTTPConnectionPool("api.example")
    error = r.ConnectionError(u.MaxRetryError(pool, "/", reason))  # as requests reports it
    assert type(transport.translate(error, "api.example", **how)) is expected


def test_what_merely_happened_before_is_no_reason() -> None:
    try:
        try:
            raise ConnectionRefusedError(111, "the first address")
        except OSError:
            raise ConnectionResetError(104, "the second, after sending")  # noqa: B904 - the point of the test
    except OSError as error:
        assert type(transport.translate(error, "api.example")) is errors.Uncertain
