"""Against sockets that really cut, reset, stall, trickle and lie."""

from __future__ import annotations

import base64
import gzip
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import pytest
from raw_server import RawServer, Script, answer, resets, says, says_and_ends, stalls, trickles

from flux_lora_cli import errors
from flux_lora_cli.adapters.client import Client
from flux_lora_cli.adapters.clock import SystemClock
from flux_lora_cli.adapters.http import Transport, bodies, connections
from flux_lora_cli.domain.wire import Api, HttpRequest

KEY = 'wsk_canary/+="<&é'.encode("ascii", "ignore").decode() + "0123456789"
CREATED = json.dumps({"code": 200, "message": "success", "data": {"id": "t1", "status": "created"}}).encode()
LIMIT = 1_000_000


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def start(log: list[str]) -> Iterator[Callable[[Script], tuple[RawServer, Client]]]:
    servers: list[RawServer] = []

    def start(script: Script) -> tuple[RawServer, Client]:
        server = RawServer(script)
        servers.append(server)
        return server, client_of(server.url, log)

    yield start
    for server in servers:
        server.__exit__()


def client_of(url: str, log: list[str]) -> Client:
    return Client(Transport(url, KEY, SystemClock(), log=log.append), Api(url))


def hasty(request: HttpRequest, silence: float = 0.3, total: float = 0.6) -> HttpRequest:
    return replace(request, read_timeout=silence, total_timeout=total)


def head(length: int, *more: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {length}", *more, "", ""]).encode()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

UNCERTAIN_ROWS = {
    "ends before a byte": says_and_ends(b""),
    "reset before a byte": resets(),
    "ends in the status line": says_and_ends(b"HTTP/1.1 2"),
    "ends in the body": says_and_ends(head(100) + b'{"code":200'),
    "reset in the body": resets(head(100) + b'{"code":200'),
    "ends in a chunk": says_and_ends(CHUNKED + b"10\r\n{}"),
    "ends between chunks": says_and_ends(CHUNKED + b"2\r\n{}\r\n"),
    "broken chunk length": says_and_ends(CHUNKED + b"zz\r\n{}\r\n"),
    "no HTTP at all": says_and_ends(b"SSH-2.0-OpenSSH\r\n"),
    "silent": stalls(),
    "silent in the headers": stalls(b"HTTP/1.1 200 OK\r\n"),
    "silent in the body": stalls(head(100) + b"{"),
    "trickling headers": trickles(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 500),
    "trickling body": trickles(head(500) + b"{" * 500),
    "endless headers": says_and_ends(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000),
    "one endless header": says_and_ends(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000),
    "gzip cut": says(
        answer(gzip.compress(CREATED)[:-12], "200 OK", "Content-Encoding: gzip"),
    ),
}


@pytest.mark.parametrize("row", UNCERTAIN_ROWS)
def test_a_submit_that_broke_off_may_have_arrived_and_is_sent_once(
    row: str, start: Callable[[Script], tuple[RawServer, Client]]
) -> None:
    server, client = start(UNCERTAIN_ROWS[row])
    waits = row.startswith(("silent", "trickling"))
    request = client.api.submit("m/x", {"prompt": "p"})
    began = time.monotonic()
    with pytest.raises(errors.Uncertain) as caught:
        client.transport.send(hasty(request, 0.5, 1.0) if waits else request)
    assert time.monotonic() - began < 10
    assert caught.value.timed_out is waits
    assert len(server.requests) == 1
    assert KEY not in caught.value.message
    assert caught.value.__cause__ is None


def test_headers_that_were_cut_make_no_task(start: Callable[[Script], tuple[RawServer, Client]]) -> None:
    _, client = start(says_and_ends(b"HTTP/1.1 200 OK\r\nContent-Le"))
    with pytest.raises(errors.BadAnswer):
        client.submit("m/x", {})


def test_the_end_of_patience_is_told_from_a_break(start: Callable[[Script], tuple[RawServer, Client]]) -> None:
    _, client = start(stalls())
    with pytest.raises(errors.Uncertain) as caught:
        client.transport.send(hasty(client.api.result("t1")))
    assert caught.value.timed_out


def test_the_whole_may_not_take_longer_than_its_time_however_patient_each_read_is(
    start: Callable[[Script], tuple[RawServer, Client]],
) -> None:
    _, client = start(stalls(head(100) + b"{"))
    began = time.monotonic()
    with pytest.raises(errors.Uncertain):
        client.transport.send(hasty(client.api.result("t1"), silence=30.0, total=0.5))
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[::1]:1", "http://nothing.localhost:1"])
def test_what_was_never_sent_is_told_from_what_may_have_been(url: str, log: list[str]) -> None:
    with pytest.raises(errors.NeverSent) as caught:
        client_of(url, log).submit("m/x", {})
    assert "cannot connect to" in caught.value.message


def test_a_proxy_that_refuses_means_never_sent(monkeypatch: pytest.MonkeyPatch, log: list[str]) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with pytest.raises(errors.NeverSent, match="through the proxy"):
        client_of("https://api.example", log).submit("m/x", {})


def test_a_proxy_gets_the_host_but_not_the_key(
    monkeypatch: pytest.MonkeyPatch, start: Callable[[Script], tuple[RawServer, Client]], log: list[str]
) -> None:
    proxy, _ = start(says_and_ends(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"))
    monkeypatch.setenv("https_proxy", f"http://user:pass@127.0.0.1:{proxy.port}")
    client = client_of("https://api.example", log)
    with pytest.raises(errors.NeverSent):
        client.submit("m/x", {})
    assert proxy.requests[0].startswith(b"CONNECT api.example:443")
    assert b"Proxy-Authorization: Basic" in proxy.requests[0].replace(b"proxy-a", b"Proxy-A")
    assert KEY.encode() not in proxy.requests[0]


def test_loopback_is_asked_directly_whatever_the_proxy(
    monkeypatch: pytest.MonkeyPatch, start: Callable[[Script], tuple[RawServer, Client]]
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    _, client = start(says(answer(CREATED)))
    assert client.submit("m/x", {}).id == "t1"


def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch, log: list[str]) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "api.invalid")
    with pytest.raises(errors.NeverSent) as caught:
        client_of("https://api.invalid", log).submit("m/x", {})
    assert "proxy" not in caught.value.message


BAD_ROWS = {
    "longer than its limit": says(answer(b'{"x":"' + b" " * 2_000_000 + b'"}')),
    "longer than its limit, without a length": says_and_ends(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 2_000_000),
    "a bomb": says(answer(gzip.compress(b" " * 200_000_000, 9), "200 OK", "Content-Encoding: gzip")),
    "a deflated bomb": says(answer(zlib.compress(b" " * 200_000_000, 9), "200 OK", "Content-Encoding: deflate")),
    "base64 without end": says_and_ends(b"HTTP/1.1 200 OK\r\n\r\n" + b"A" * 53_000_000),
    "an unknown packing": says(answer(b"x", "200 OK", "Content-Encoding: br")),
    "no gzip though it says so": says(answer(CREATED, "200 OK", "Content-Encoding: gzip")),
}


@pytest.mark.parametrize("row", BAD_ROWS)
def test_an_answer_built_to_hurt_is_given_up_early(
    row: str, start: Callable[[Script], tuple[RawServer, Client]]
) -> None:
    _, client = start(BAD_ROWS[row])
    with pytest.raises(errors.BadAnswer):
        client.result("t1")


def test_a_bomb_is_unpacked_in_small_steps() -> None:
    class Raw:
        waiting: ClassVar = [gzip.compress(b" " * 50_000_000)]

        def read1(self, _size: int) -> bytes:
            return self.waiting.pop() if self.waiting else b""

    sizes = [len(piece) for piece in bodies.pieces_of(Raw(), "gzip", 1_000_000, "host")]
    assert max(sizes) <= bodies.PIECE
    assert sum(sizes) < 1_000_000 + 2 * bodies.PIECE


def test_packed_answers_are_read_though_not_asked_for(
    start: Callable[[Script], tuple[RawServer, Client]],
) -> None:
    _, client = start(says(answer(gzip.compress(CREATED), "200 OK", "Content-Encoding: gzip")))
    assert client.submit("m/x", {}).id == "t1"


def test_images_inside_an_answer_may_be_larger_than_an_answer(
    start: Callable[[Script], tuple[RawServer, Client]],
) -> None:
    picture = base64.b64encode(b"\xff\xd8" * 2_000_000).decode()
    body = {"code": 200, "data": {"id": "t1", "status": "completed", "outputs": [picture, picture]}}
    _, client = start(says(answer(json.dumps(body).encode())))
    assert client.result("t1").outputs == (picture, picture)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 T", "308 P"])
def test_api_calls_are_not_redirected(status: str, start: Callable[[Script], tuple[RawServer, Client]]) -> None:
    other, _ = start(says(answer(CREATED)))
    server, client = start(says(answer(b"", status, f"Location: http://localhost:{other.port}/x")))
    with pytest.raises(errors.Redirected, match="localhost"):
        client.submit("m/x", {"prompt": "p"})
    assert len(server.requests) == 1
    assert other.requests == []


# ---- where the key goes --------------------------------------------------------------------------


def test_the_key_goes_to_one_origin_only(
    start: Callable[[Script], tuple[RawServer, Client]], own_home: Path, log: list[str]
) -> None:
    (own_home / ".netrc").write_text("machine 127.0.0.1 login u password p\ndefault login u password p\n")
    api, client = start(says(answer(CREATED, "200 OK", "Set-Cookie: a=b; Path=/")))
    other, _ = start(says(answer(b"image", "200 OK", "Set-Cookie: c=d; Path=/")))
    client.submit("m/x", {"prompt": "p"})
    client.submit("m/x", {"prompt": "p"})
    for url in (other.url, other.url.replace("127.0.0.1", "localhost"), api.url):
        assert b"".join(client.download(f"{url}/1.png?sig=secret", LIMIT))
    authorized = [b"Authorization: Bearer " + KEY.encode() in request for request in api.requests]
    assert authorized == [True, True, False]
    for request in [*other.requests, api.requests[2]]:
        assert b"authorization" not in request.lower()
        assert b"cookie" not in request.lower()
        assert KEY.encode() not in request
    assert b"Cookie" not in api.requests[1]
    text = "\n".join(log)
    assert KEY not in text
    assert "secret" not in text
    assert "POST http://127.0.0.1" in text


def test_not_even_a_call_of_the_api_takes_the_key_elsewhere(
    start: Callable[[Script], tuple[RawServer, Client]],
) -> None:
    _, client = start(says(answer(CREATED)))
    other, _ = start(says(answer(CREATED)))
    request = client.api.result("t1")
    for url in (other.url, other.url.replace("127.0.0.1", "localhost")):
        client.transport.send(replace(request, url=url))
    assert len(other.requests) == 2
    assert KEY.encode() not in b"".join(other.requests)


def test_a_task_that_carries_the_key_is_cleaned(start: Callable[[Script], tuple[RawServer, Client]]) -> None:
    url = "https://cdn/x?k=" + quote(KEY, safe="")
    task = {"id": "t1", "status": "failed", "error": f"sent {KEY}", "outputs": [url], "inputs": {"p": KEY}}
    _, client = start(says(answer(json.dumps(task).encode())))
    found = client.result("t1")
    assert found.error == "sent [key]"
    assert found.outputs == ("https://cdn/x?k=[key]",)
    assert KEY not in repr(found)


def test_an_echoed_key_does_not_come_back(start: Callable[[Script], tuple[RawServer, Client]]) -> None:
    def echo(connection: object, request: bytes) -> None:
        encoded = base64.b64encode(b"Bearer " + KEY.encode()).decode()
        said = {"code": 400, "message": f"bad: {KEY} {encoded}"}
        connection.sendall(answer(json.dumps(said).encode(), "400 Bad Request"))  # type: ignore[attr-defined]

    _, client = start(echo)  # type: ignore[arg-type]
    with pytest.raises(errors.Rejected) as caught:
        client.submit("m/x", {})
    assert "[key]" in caught.value.message
    assert KEY not in str(caught.value) + repr(caught.value.args)
    assert base64.b64encode(KEY.encode()).decode()[2:-4] not in caught.value.message


def test_an_escaped_key_does_not_come_back_either(start: Callable[[Script], tuple[RawServer, Client]]) -> None:
    hidden = "".join(f"\\u{ord(c):04x}" for c in KEY).encode()
    body = b'{"id":"t1","status":"failed","error":"' + hidden + b'","outputs":["https://x/' + hidden + b'"]}'
    _, client = start(says(answer(body)))
    assert KEY not in repr(client.result("t1"))


def test_a_url_that_carries_the_key_away_is_refused(
    start: Callable[[Script], tuple[RawServer, Client]],
) -> None:
    server, client = start(says(answer(b"x")))
    for spelled in (quote(KEY), quote(KEY, safe=""), base64.urlsafe_b64encode(b"k:" + KEY.encode()).decode()):
        with pytest.raises(errors.RefusedUrl, match="API key"):
            list(client.download(f"{server.url}/?k={spelled}", LIMIT))
    assert server.requests == []


# ---- downloads ---------------------------------------------------------------------------------


def redirects(target: str, status: str = "302 Found") -> Script:
    return says(answer(b"", status, f"Location: {target}"))


def test_a_download_follows_five_redirects_and_no_sixth(
    start: Callable[[Script], tuple[RawServer, Client]],
) -> None:
    def hop(connection: object, request: bytes) -> None:
        number = int(request.split(b"/")[1].split(b" ")[0])
        data = answer(b"image") if number == 0 else answer(b"", "302 Found", f"Location: /{number - 1}")
        connection.sendall(data)  # type: ignore[attr-defined]

    server, client = start(hop)  # type: ignore[arg-type]
    assert b"".join(client.download(f"{server.url}/5", LIMIT)) == b"image"
    with pytest.raises(errors.RefusedUrl, match="circles"):
        list(client.download(f"{server.url}/6", LIMIT))


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "http://example.com/x.png",
        "ftp://127.0.0.1/x",
        "//user:pass@127.0.0.1/x",
        "https://[::1",
        "javascript:alert(1)",
        "/",
        "http://2130706433/",
        "http://localhost.example.com/",
    ],
)
def test_a_download_is_not_led_astray(target: str, start: Callable[[Script], tuple[RawServer, Client]]) -> None:
    server, client = start(redirects(target))
    with pytest.raises(errors.RefusedUrl):
        list(client.download(f"{server.url}/", LIMIT))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "url", ["", "x.png", "data:,x", "http://example.com/", "https://", "https://a b/", "https://\x00/"]
)
def test_what_is_no_url_to_fetch_is_refused(url: str, log: list[str]) -> None:
    with pytest.raises(errors.RefusedUrl):
        list(client_of("http://127.0.0.1:1", log).download(url, LIMIT))


def test_plain_http_to_this_machine_is_for_a_service_on_this_machine(
    start: Callable[[Script], tuple[RawServer, Client]], log: list[str]
) -> None:
    server, _ = start(says(answer(b"x")))
    with pytest.raises(errors.RefusedUrl):
        list(client_of("https://api.wavespeed.ai", log).download(f"{server.url}/", LIMIT))
    assert server.requests == []


DOWNLOAD_ROWS = [
    (says(answer(b"", "403 Forbidden")), errors.OutputGone),
    (says(answer(b"", "404 Not Found")), errors.OutputGone),
    (says(answer(b"", "410 Gone")), errors.OutputGone),
    (says(answer(b"", "429 Slow", "Retry-After: 3")), errors.RateLimited),
    (says(answer(b"", "500 Oops")), errors.Uncertain),
    (says(answer(b"", "408 Late")), errors.Uncertain),
    (says(answer(b"", "400 Bad")), errors.BadImage),
    (says(answer(b"", "206 Partial")), errors.BadImage),
    (says(answer(b"", "302 Found")), errors.BadImage),
    (says(answer(b"x" * (LIMIT + 1))), errors.BadImage),
    (says(answer(gzip.compress(b"x" * 50_000_000), "200 OK", "Content-Encoding: gzip")), errors.BadImage),
    (says_and_ends(head(100) + b"x"), errors.Uncertain),
    (resets(head(100) + b"x"), errors.Uncertain),
    (says_and_ends(CHUNKED + b"2\r\nab\r\n"), errors.Uncertain),
]


@pytest.mark.parametrize(("script", "expected"), DOWNLOAD_ROWS)
def test_downloads_fail_as_what_they_are(
    script: Script, expected: type[errors.FluxLoraError], start: Callable[[Script], tuple[RawServer, Client]]
) -> None:
    server, client = start(script)
    with pytest.raises(errors.FluxLoraError) as caught:
        list(client.download(f"{server.url}/?sig=secret", LIMIT))
    assert type(caught.value) is expected
    assert "secret" not in caught.value.message
    if expected is errors.RateLimited:
        assert caught.value.retry_after == 3  # type: ignore[attr-defined]


# ---- connections -------------------------------------------------------------------------------


def test_connections_are_reused_by_calls_and_downloads_alike(
    start: Callable[[Script], tuple[RawServer, Client]],
) -> None:
    def script(connection: object, request: bytes) -> None:
        body = b"x" * 300_000 if b"img" in request else CREATED
        connection.sendall(answer(body))  # type: ignore[attr-defined]

    server, client = start(script)  # type: ignore[arg-type]
    for _ in range(5):
        client.submit("m/x", {})
        client.result("t1")
        assert sum(map(len, client.download(f"{server.url}/img", LIMIT))) == 300_000
    assert server.connections == 1
    client.close()


def test_a_connection_that_the_server_closed_is_not_used_for_a_submit(
    start: Callable[[Script], tuple[RawServer, Client]],
) -> None:
    server, client = start(says_and_ends(answer(CREATED)))
    for _ in range(3):
        client.submit("m/x", {})
        time.sleep(0.02)
    assert len(server.requests) == 3


def test_an_idle_connection_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, start: Callable[[Script], tuple[RawServer, Client]]
) -> None:
    server, client = start(says(answer(CREATED)))
    client.submit("m/x", {})
    monkeypatch.setattr(connections, "IDLE_SECONDS", -1.0)
    client.submit("m/x", {})
    assert server.connections == 2


def test_threads_do_not_share_an_answer(start: Callable[[Script], tuple[RawServer, Client]]) -> None:
    def echo(connection: object, request: bytes) -> None:
        task_id = request.split(b"/predictions/")[1].split(b"/")[0].decode()
        body = {"code": 200, "data": {"id": task_id, "status": "created"}}
        connection.sendall(answer(json.dumps(body).encode()))  # type: ignore[attr-defined]

    _, client = start(echo)  # type: ignore[arg-type]
    wrong: list[str] = []

    def look(name: str) -> None:
        names = [f"{name}-{number}" for number in range(25)]
        wrong.extend(each for each in names if client.result(each).id != each)

    threads = [threading.Thread(target=look, args=(f"thread{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_download_that_nobody_reads_to_its_end_leaves_no_half_read_connection(
    start: Callable[[Script], tuple[RawServer, Client]],
) -> None:
    def script(connection: object, request: bytes) -> None:
        connection.sendall(answer(b"x" * 500_000 if b"img" in request else CREATED))  # type: ignore[attr-defined]

    server, client = start(script)  # type: ignore[arg-type]
    pieces = client.download(f"{server.url}/img", LIMIT)
    next(iter(pieces))
    pieces.close()  # type: ignore[attr-defined]
    assert client.submit("m/x", {}).id == "t1"


@pytest.mark.parametrize(
    ("head", "body", "connections"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked", b"3\r\n%s\r\n%x;x=y\r\n%s\r\n0\r\nTrailer: a\r\n\r\n", 1),
        (b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK", None, 1),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive, Close", None, 3),
        (b"HTTP/1.0 200 OK", None, 3),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive", None, 1),
        (b"HTTP/1.1 200", None, 1),
    ],
    ids=["chunked", "informational", "close", "1.0", "1.0 kept", "no reason"],
)
def test_answers_are_read_in_every_form_of_http(
    head: bytes, body: bytes | None, connections: int, start: Callable[[Script], tuple[RawServer, Client]]
) -> None:
    def script(connection: object, request: bytes) -> None:
        if body is None:
            whole = head + b"\r\nContent-Length: %d\r\n\r\n" % len(CREATED) + CREATED
        else:
            whole = head + b"\r\n\r\n" + body % (CREATED[:3], len(CREATED) - 3, CREATED[3:])
        connection.sendall(whole)  # type: ignore[attr-defined]

    server, client = start(script)  # type: ignore[arg-type]
    for _ in range(3):
        assert client.submit("m/x", {}).id == "t1"
    assert server.connections == connections


def test_an_answer_without_a_length_ends_with_its_connection(
    start: Callable[[Script], tuple[RawServer, Client]],
) -> None:
    server, client = start(says_and_ends(b"HTTP/1.1 200 OK\r\n\r\n" + CREATED))
    for _ in range(2):
        assert client.submit("m/x", {}).id == "t1"
    assert server.connections == 2
