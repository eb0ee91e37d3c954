"""Downloads: redirects, statuses, ranges, odd addresses."""

from __future__ import annotations

import gzip
import re

import pytest

from flux_lora_cli import errors
from flux_lora_cli.service.client import Client, connect
from flux_lora_cli.service.hosts import fetchable_url, redirect_target
from tests.conftest import KEY
from tests.service.conftest import Start, answer, says, sends_for_ever
from tests.support.fake import Answer, Exchange

DATA = bytes(range(256)) * 800
SIZE = len(DATA)


def fetch(client: Client, url: str, offset: int = 0) -> tuple[int, bytes]:
    with client.download(url, offset) as download:
        return download.offset, b"".join(download.chunks)


@pytest.mark.parametrize(
    ("status", "header", "body", "offset", "expected"),
    [
        *((status, "", DATA, 0, (0, DATA)) for status in ("200 OK", "203 Non-Authoritative", "206 Partial")),
        ("206 Partial", f"Content-Range: bytes 0-{SIZE - 1}/{SIZE}", DATA, 0, (0, DATA)),
        ("206 Partial", f"Content-Range: bytes 100-{SIZE - 1}/{SIZE}", DATA[100:], 100, (100, DATA[100:])),
        ("206 Partial", "Content-Range: bytes 100-199/*", DATA[100:200], 100, (100, DATA[100:200])),
        ("206 Partial", f"Content-Range: bytes 0-{SIZE - 1}/{SIZE}", DATA, 100, (0, DATA)),
        ("200 OK", "", DATA, 100, (0, DATA)),
        *(("200 OK", f"Content-Encoding: {odd}", DATA, 0, (0, DATA)) for odd in ("aws-chunked", "binary")),
        ("200 OK", "Content-Encoding: gzip", gzip.compress(DATA), 0, (0, DATA)),
        ("200 OK", "Content-Encoding: gzip", DATA, 0, (0, DATA)),
    ],
)
def test_where_the_bytes_begin(
    status: str, header: str, body: bytes, offset: int, expected: object, start: Start
) -> None:
    server, client = start(says(answer(body, status, *filter(None, [header]))))
    assert fetch(client, f"{server.base_url}/a.png", offset) == expected
    asked = re.search(rb"\r\nRange: (\S+)", server.raw[0])
    assert (asked and asked[1].decode()) == (f"bytes={offset}-" if offset else None)


@pytest.mark.parametrize(
    ("status", "offset", "expected"),
    [
        *((status, 0, errors.OutputGone) for status in ("404 Not Found", "403 Forbidden", "410 Gone")),
        *((status, 0, errors.RateLimited) for status in ("429 Slow\r\nRetry-After: 7", "425 Early")),
        *((s, 0, errors.Uncertain) for s in ("500 Oops\r\nRetry-After: 7", "503 Busy", "408 Timeout")),
        *((status, 0, errors.BadImage) for status in ("400 Bad", "204 Nothing", "302 Found", "304 Same")),
        *((status, 9, errors.BadImage) for status in ("416 Range", "206 Partial")),
        *(("206 Partial\r\nContent-Range: bytes 5-6/7", offset, errors.BadImage) for offset in (0, 9)),
    ],
)
def test_a_status_in_place_of_an_image(status: str, offset: int, expected: type[Exception], start: Start) -> None:
    server, client = start(says(answer(b"", status)))
    with pytest.raises(errors.FluxLoraError) as caught:
        fetch(client, f"{server.base_url}/a.png", offset)
    assert type(caught.value) is expected
    assert getattr(caught.value, "retry_after", None) == (7 if "Retry-After" in status else None)


def test_an_image_without_end_is_given_up(start: Start) -> None:
    server, client = start(sends_for_ever(b"HTTP/1.1 200 OK\r\n\r\n"))
    with pytest.raises(errors.BadImage, match="larger than 100 MB"):
        fetch(client, f"{server.base_url}/a")


def test_a_download_that_nobody_reads_to_its_end_leaves_no_half_read_connection(start: Start) -> None:
    def script(x: Exchange) -> None:
        created = b'{"id":"t1","status":"created"}'
        x.answer(Answer(200, b"x" * 500_000 if "img" in x.request.path else created))

    server, client = start(script)
    with client.download(f"{server.base_url}/img") as download:
        next(download.chunks)
    assert client.submit("m/x", {}).id == "t1"


def test_five_redirects_are_followed_and_no_sixth(start: Start) -> None:
    def hop(x: Exchange) -> None:
        number = int(x.request.path[1:])
        x.answer(Answer(302, b"x", (f"Location: /{number - 1}",)) if number else Answer(200, b"image"))

    server, client = start(hop)
    assert fetch(client, f"{server.base_url}/5")[1] == b"image"
    with pytest.raises(errors.RefusedUrl, match="redirects more than 5 times"):
        fetch(client, f"{server.base_url}/6")


def test_redirects_are_encoded_and_their_bodies_not_read(start: Start) -> None:
    moved = sends_for_ever("HTTP/1.1 302 Found\r\nLocation: /b ü%2f.png?sig=%2fa\r\n\r\n".encode())

    def script(x: Exchange) -> None:
        (says(answer(b"image")) if x.request.path.startswith("/b") else moved)(x)

    server, client = start(script)
    assert fetch(client, f"{server.base_url}/a")[1] == b"image"
    assert server.raw[1].split(b" ")[1] == b"/b%20%C3%BC%2f.png?sig=%2fa"


@pytest.mark.parametrize(
    "url",
    [
        *("", "x.png", "data:,x", "http://example.com/", "https://", "https://a b/", "https://\x00/", "https://h:x/"),
        *("file:///etc/passwd", "ftp://127.0.0.1/x", "https://user:pass@127.0.0.1/x", "https://[::1"),
        *("javascript:alert(1)", "http://2130706433/", "http://localhost.example.com/"),
    ],
)
def test_addresses_that_are_never_fetched(url: str) -> None:
    with pytest.raises(errors.RefusedUrl):
        fetch(connect(key=KEY, base_url="http://127.0.0.1:1", env={}), url)


def test_plain_http_to_this_machine_is_for_a_service_on_this_machine(start: Start) -> None:
    server, _ = start(says(answer(b"x")))
    with pytest.raises(errors.RefusedUrl, match="not https"):
        fetch(connect(key=KEY, env={}), f"{server.base_url}/a.png")
    assert server.raw == []


#: As the service wrote it, and as it is sent; None for the same.
TARGETS = [
    *(
        (same, None)
        for same in ("/../t/a/../b.png", "//a//b.png", "/100%.png", "/a.png?sig=~%7E", "/a+b.png?s=a+b%2B==")
    ),
    *((same, None) for same in ("/a%2fb%c3%bc.png?X-Sig=ab%2fcd%3D", "/x[1].png?f[]=1&sig=%5b", "/a.png?x=*'()!;v=1")),
    *((same, None) for same in ("/x.png?X-Amz-Credential=AKIA%2fx&sig=a%7eb", "/a.png?Policy=" + "e" * 6000, "/a?")),
    ("/a b.png", "/a%20b.png"),
    ("/bü猫.png", "/b%C3%BC%E7%8C%AB.png"),
    ('/x.png?f="a"&sig=%2f%2b', "/x.png?f=%22a%22&sig=%2f%2b"),
    ("/a.png#page", "/a.png"),
    ("/a\\b.png", "/a%5Cb.png"),
    ("/a^{b|c}`.png", "/a%5E%7Bb%7Cc%7D%60.png"),
    ("/a\nb.png\n", "/a%0Ab.png"),
    ("?x=1", "/?x=1"),
    ("", "/"),
    ("/\ud800", "/%ED%A0%80"),
]


@pytest.mark.parametrize(("written", "sent"), TARGETS)
def test_odd_characters_are_encoded_and_every_other_byte_stays(written: str, sent: str | None, start: Start) -> None:
    server, client = start(says(answer(b"image")))
    assert fetch(client, f"HTTP://{server.base_url[7:]}{written}")[1] == b"image"
    assert server.raw[0].split(b" ")[1].decode() == (written if sent is None else sent)


def test_a_redirect_to_a_whole_address_keeps_its_dots() -> None:
    assert redirect_target("https://a/x/y", "https://b/../c") == "https://b/../c"
    assert redirect_target("https://a/x/y", "z?q") == "https://a/x/z?q"
    assert fetchable_url("HTTPS://münchen.example/ä", allow_loopback=False) == "https://xn--mnchen-3ya.example/%C3%A4"
