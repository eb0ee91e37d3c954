"""The seam where foreign exceptions become ours: every one is caught, and only what is proved was never sent."""

from __future__ import annotations

import inspect
import socket
import ssl
from typing import Any

import pytest
import requests.exceptions
import urllib3.exceptions

from flux_lora_cli import errors
from flux_lora_cli.service import transport
from flux_lora_cli.service.hosts import Proxy


@pytest.mark.parametrize("library", [requests.exceptions, urllib3.exceptions])
def test_every_exception_of_the_libraries_is_caught_and_uncertain_unless_proved_otherwise(library: object) -> None:
    for _, found in inspect.getmembers(library, inspect.isclass):
        if issubclass(found, Exception) and not issubclass(found, Warning):
            never_sent = issubclass(found, transport.NEVER_SENT)
            assert issubclass(found, transport.FOREIGN)
            error = transport.translate(found.__new__(found), "api.example")
            assert type(error) is (errors.NeverSent if never_sent else errors.Uncertain), found


def wrapped(reason: BaseException) -> BaseException:
    """As requests reports it: a ConnectionError around a MaxRetryError around the reason."""
    pool = urllib3.HTTPConnectionPool("api.example")
    return requests.exceptions.ConnectionError(urllib3.exceptions.MaxRetryError(pool, "/", reason))  # type: ignore[arg-type]


UNTRUSTED = urllib3.exceptions.SSLError(ssl.SSLCertVerificationError("bad"))
RESET = urllib3.exceptions.ProtocolError("aborted", ConnectionResetError(104, "reset"))
REASONS: list[tuple[Any, type[errors.FluxLoraError]]] = [
    (urllib3.exceptions.NewConnectionError(None, "refused"), errors.NeverSent),  # type: ignore[arg-type]
    (urllib3.exceptions.ConnectTimeoutError(None, "late"), errors.NeverSent),
    (RESET, errors.Uncertain),
    (urllib3.exceptions.ReadTimeoutError(None, "/", "late"), errors.Uncertain),  # type: ignore[arg-type]
    (UNTRUSTED, errors.InsecureConnection),
    (urllib3.exceptions.SSLError(ssl.SSLEOFError("cut")), errors.Uncertain),
    (socket.gaierror(-2, "unknown"), errors.NeverSent),
    (OSError(5, "input/output error"), errors.Uncertain),
]


@pytest.mark.parametrize(("reason", "expected"), REASONS)
def test_the_true_reason_inside_decides(reason: BaseException, expected: type[errors.FluxLoraError]) -> None:
    assert type(transport.translate(wrapped(reason), "api.example")) is expected


@pytest.mark.parametrize(
    ("reason", "connecting", "expected"),
    [
        (RESET, False, errors.Uncertain),
        (RESET, True, errors.ProxyFailed),
        (UNTRUSTED, True, errors.InsecureConnection),
    ],
)
def test_through_a_proxy_only_what_failed_on_the_way_is_the_proxys(
    reason: Any, connecting: bool, expected: Any
) -> None:
    proxy = Proxy("http://u:p@proxy:1", "HTTPS_PROXY", "proxy:1")
    error = transport.translate(wrapped(reason), "api.example", proxy=proxy, connecting=connecting)
    assert type(error) is expected


def test_what_merely_happened_before_is_no_reason() -> None:
    try:
        try:
            raise ConnectionRefusedError(111, "the first address")
        except OSError:
            raise ConnectionResetError(104, "the second, after sending")  # noqa: B904 - the point of the test
    except OSError as error:
        assert type(transport.translate(error, "api.example")) is errors.Uncertain
