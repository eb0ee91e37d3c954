"""Against sockets that really cut, reset, stall, trickle and lie."""

from __future__ import annotations

import base64
import gzip
import inspect
import json
import socket
import ssl
import subprocess
import sys
import time
import zlib
from typing import Any
from urllib.parse import quote

import pytest
import requests.exceptions as r
import urllib3
import urllib3.exceptions as u

from flux_lora_cli import errors
from flux_lora_cli.service import transport
from flux_lora_cli.service.client import connect
from flux_lora_cli.service.hosts import Proxy
from flux_lora_cli.service.transport import Transport
from tests.conftest import KEY, ROOT
from tests.service.conftest import Start, answer, resets, says, says_and_ends, sends_for_ever, stalls

CREATED = json.dumps({"code": 200, "message": "success", "data": {"id": "t1", "status": "created"}}).encode()
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
UNCERTAIN = {
    "ends before a byte": says_and_ends(b""),
    "reset before a byte": resets(),
    "ends in the status line": says_and_ends(b"HTTP/1.1 2"),
    "ends in the body": says_and_ends(OK + b'{"code":200'),
    "reset in the body": resets(OK + b'{"code":200'),
    "ends in a chunk": says_and_ends(CHUNKED + b"10\r\n{}"),
    "ends between chunks": says_and_ends(CHUNKED + b"2\r\n{}\r\n"),
    "broken chunk length": says_and_ends(CHUNKED + b"zz\r\n{}\r\n"),
    "not HTTP at all": says_and_ends(b"SSH-2.0-OpenSSH\r\n"),
    "endless headers": says_and_ends(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000),
    "one endless header": says_and_ends(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000),
}
LATE = {
    "silent": stalls(),
    "silent in the headers": stalls(b"HTTP/1.1 200 OK\r\n"),
    "silent in the body": stalls(OK + b"{"),
    "trickling headers": sends_for_ever(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.05),
    "trickling body": sends_for_ever(OK, b"{", 0.05),
}


def send(url: str, silence: float, total: float) -> None:
    with Transport({}).open("POST", f"{url}/api/v2/m", {}, b"{}", silence=silence, total=total) as reply:
        reply.read(1_000_000)


@pytest.mark.parametrize("row", UNCERTAIN)
def test_a_request_that_broke_off_may_have_arrived_and_is_sent_once(row: str, start: Start) -> None:
    server, _ = start(UNCERTAIN[row])
    with pytest.raises(errors.Uncertain) as caught:
        send(server.base_url, 10.0, 10.0)
    assert (caught.value.timed_out, caught.value.__cause__, len(server.raw)) == (False, None, 1)


@pytest.mark.parametrize(
    ("row", "silence", "total"),
    [*((row, 10.0, 0.2) for row in LATE), *((row, 0.1, 10.0) for row in LATE if row.startswith("silent"))],
)
def test_neither_a_piece_nor_the_whole_may_take_too_long(row: str, silence: float, total: float, start: Start) -> None:
    server, _ = start(LATE[row])
    began = time.monotonic()
    with pytest.raises(errors.Uncertain) as caught:
        send(server.base_url, silence, total)
    assert caught.value.timed_out and time.monotonic() - began < 8
    assert len(server.raw) < 2


def test_a_large_body_is_sent_whole_and_only_once(start: Start) -> None:
    server, client = start(says(answer(CREATED)))
    client.submit("m/x", {"image": "x" * 2_000_000})
    assert len(server.raw) == 1 and len(server.raw[0]) > 2_000_000
    assert b"transfer-encoding" not in server.raw[0][:1000].lower()


HURTING = {
    "longer than its limit": says(answer(b'{"x":"' + b" " * 2_000_000 + b'"}')),
    "longer than its limit, without a length": says_and_ends(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 2_000_000),
    "a bomb": says(answer(gzip.compress(b" " * 50_000_000, 1), "200 OK", "Content-Encoding: gzip")),
    "a deflated bomb": says(answer(zlib.compress(b" " * 50_000_000, 1), "200 OK", "Content-Encoding: deflate")),
    "base64 without end": says_and_ends(b"HTTP/1.1 200 OK\r\n\r\n" + b"A" * 51_000_000),
}
BROKEN = {
    "an unknown packing": says(answer(b"x", "200 OK", "Content-Encoding: br")),
    "gzip cut": says(answer(gzip.compress(CREATED, mtime=0)[:-12], "200 OK", "Content-Encoding: gzip")),
}


@pytest.mark.parametrize("row", [*HURTING, *BROKEN])
def test_an_answer_built_to_hurt_is_given_up_early(row: str, start: Start) -> None:
    _, client = start((HURTING | BROKEN)[row])
    with pytest.raises(errors.BadAnswer, match="not valid JSON" if row in BROKEN else "too long an answer"):
        client.result("t1")


@pytest.mark.parametrize(
    ("body", "label"),
    [
        *((gzip.compress(CREATED, mtime=0), "gzip"), (zlib.compress(CREATED), "deflate")),
        *((CREATED, label) for label in ("gzip", "none", "UTF-8")),
    ],
)
def test_packed_answers_are_read_and_labels_that_mean_nothing_passed_over(
    body: bytes, label: str, start: Start
) -> None:
    _, client = start(says(answer(body, "200 OK", f"Content-Encoding: {label}")))
    assert client.submit("m/x", {}).id == "t1"


def test_images_inside_an_answer_may_be_larger_than_an_answer(start: Start) -> None:
    picture = base64.b64encode(b"\xff\xd8" * 2_000_000).decode()
    body = {"code": 200, "data": {"id": "t1", "status": "completed", "outputs": [picture, picture]}}
    _, client = start(says(answer(json.dumps(body).encode())))
    assert client.result("t1").outputs == (picture, picture)


WHOLE = b"Content-Length: %d\r\n\r\n" % len(CREATED) + CREATED
PIECES = b"3\r\n%s\r\n%x;x=y\r\n%s\r\n0\r\nTrailer: a\r\n\r\n" % (CREATED[:3], len(CREATED) - 3, CREATED[3:])
#: What is sent, and how many connections three calls take.
FORMS = {
    "chunked": (CHUNKED + PIECES, 1),
    "informational": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n" + WHOLE, 1),
    "close": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + WHOLE, 3),
    "1.0": (b"HTTP/1.0 200 OK\r\n" + WHOLE, 3),
    "no reason": (b"HTTP/1.1 200\r\n" + WHOLE, 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_answers_are_read_in_every_form_of_http(form: str, start: Start) -> None:
    said, connections = FORMS[form]
    server, client = start(says(said))
    assert [client.submit("m/x", {}).id for _ in range(3)] == ["t1"] * 3
    assert server.connections == connections


def test_a_connection_that_was_idle_for_long_is_not_used_for_a_submission(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = start(says(answer(CREATED)))
    client.submit("m/x", {})
    monkeypatch.setattr("flux_lora_cli.service.transport.IDLE_SECONDS", 0.0)
    client.submit("m/x", {})
    assert server.connections == 2


# ---- where the key goes -------------------------------------------------------------------------


def test_ordinary_names_are_not_taken_for_the_key(start: Start) -> None:
    body = b'{"id":"t1","status":"failed","model":"wavespeed-ai/flux-dev-lora","error":"flux dev lora"}'
    server, _ = start(says(answer(body)))
    found = connect(key="wavespeed-flux-dev-lora-77", base_url=server.base_url, env={}).result("t1")
    assert (found.model, found.error) == ("wavespeed-ai/flux-dev-lora", "flux dev lora")


def test_a_key_that_is_a_word_makes_no_address_and_no_catalogue_suspicious(start: Start) -> None:
    server, _ = start(says(answer(b'["the latest"]')))
    client = connect(key="test", base_url=server.base_url, env={})
    with client.download(f"{server.base_url}/test.png") as download:
        assert b"".join(download.chunks)
    assert client.models() == ["the latest"]


def test_a_url_that_carries_the_key_away_is_refused(start: Start) -> None:
    server, client = start(says(answer(b"x")))
    for form in (quote(KEY), quote(KEY, safe=""), base64.urlsafe_b64encode(b"k:" + KEY.encode()).decode()):
        with pytest.raises(errors.RefusedUrl, match="API key"), client.download(f"{server.base_url}/?k={form}"):
            pass
    assert server.raw == []


def test_requests_is_loaded_when_something_is_sent() -> None:
    code = (
        "import sys, flux_lora_cli.service.models\n"
        "from flux_lora_cli.service.client import connect\n"
        "client = connect(key='key', env={}, base_url='http://127.0.0.1:1')\n"
        "client.close()\n"
        "assert not {'requests', 'urllib3', 'ssl'} & sys.modules.keys()\n"
        "try: client.balance()\n"
        "except Exception as error: assert type(error).__name__ == 'NeverSent', error\n"
        "assert 'requests' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# ---- the seam where foreign exceptions become ours -----------------------------------------------

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
