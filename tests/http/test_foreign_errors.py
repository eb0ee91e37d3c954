"""The seam where foreign exceptions become ours knows every one of them."""

from __future__ import annotations

import inspect
import socket
import ssl

import pytest
import requests.exceptions
import urllib3.exceptions

from flux_lora_cli import errors
from flux_lora_cli.adapters.http import faults


def exceptions_of(module: object) -> list[type[BaseException]]:
    return [
        found
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, Exception)
        and not issubclass(found, Warning)
        and found.__module__.split(".")[0] in ("requests", "urllib3")
    ]


MAPPED = {*faults.NEVER_SENT, *faults.UNCERTAIN, *faults.TLS, *faults.INSECURE}


@pytest.mark.parametrize("library", [requests.exceptions, urllib3.exceptions])
def test_every_exception_of_the_libraries_was_decided_on(library: object) -> None:
    unknown = [found for found in exceptions_of(library) if found not in MAPPED]
    assert not unknown, "decide in faults.py whether these can mean that the request arrived"


@pytest.mark.parametrize("found", sorted(MAPPED, key=lambda cls: (cls.__module__, cls.__name__)))
def test_each_of_them_becomes_the_error_that_was_decided(found: type[BaseException]) -> None:
    ours = faults.translate(found.__new__(found), "api.example")
    if found in faults.TLS or found in faults.INSECURE:
        assert type(ours) is errors.InsecureConnection
    elif found in faults.NEVER_SENT:
        assert type(ours) is errors.NeverSent
    else:
        # A base class must not be taken for the harmless case because of its children.
        assert type(ours) is errors.Uncertain


def wrapped(reason: BaseException) -> BaseException:
    """As requests reports it: a ConnectionError around a MaxRetryError around the reason."""
    pool = urllib3.HTTPConnectionPool("api.example")
    return requests.exceptions.ConnectionError(urllib3.exceptions.MaxRetryError(pool, "/", reason))


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (urllib3.exceptions.NewConnectionError(None, "refused"), errors.NeverSent),  # type: ignore[arg-type]
        (urllib3.exceptions.ConnectTimeoutError(None, "late"), errors.NeverSent),
        (urllib3.exceptions.ProtocolError("aborted", ConnectionResetError(104, "reset")), errors.Uncertain),
        (urllib3.exceptions.ReadTimeoutError(None, "/", "late"), errors.Uncertain),  # type: ignore[arg-type]
        (urllib3.exceptions.SSLError(ssl.SSLCertVerificationError("bad")), errors.InsecureConnection),
        (urllib3.exceptions.SSLError(ssl.SSLEOFError("cut")), errors.Uncertain),
        (socket.gaierror(-2, "unknown"), errors.NeverSent),
        (OSError(5, "input/output error"), errors.Uncertain),
    ],
)
def test_the_true_reason_inside_decides(reason: BaseException, expected: type[errors.FluxLoraError]) -> None:
    assert type(faults.translate(wrapped(reason), "api.example")) is expected


def test_what_merely_happened_before_is_no_reason() -> None:
    try:
        try:
            raise ConnectionRefusedError(111, "the first address")
        except OSError:
            raise ConnectionResetError(104, "the second, after sending")  # noqa: B904 - the point of the test
    except OSError as error:
        assert type(faults.translate(error, "api.example")) is errors.Uncertain
