"""Heads: what goes out is one line a header, and what comes in is read as http.client does."""

from __future__ import annotations

import http.client
import io

import pytest
from urllib3.util import parse_url

from flux_lora_cli.adapters.http.connections import _fields, _header_line, _length
from flux_lora_cli.adapters.http.sending import target


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "a\r\nAuthorization: b"),
        ("X-A", "a\nb"),
        ("X-A", "a\rb"),
        ("X-A", "a\0b"),
        ("X-A", "π"),
        ("X A", "a"),
        ("X:A", "a"),
        ("X\r\nA", "a"),
        ("", "a"),
    ],
)
def test_what_is_no_header_is_never_sent(name: str, value: str) -> None:
    with pytest.raises(ValueError):  # UnicodeEncodeError is one, too
        _header_line(name, value)


def test_a_header_goes_out_as_it_is() -> None:
    assert _header_line("X-Client-Name", "Müller & co") == "X-Client-Name: Müller & co".encode("latin-1")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h", "/"),
        ("https://h/", "/"),
        ("https://h?a=b", "/?a=b"),
        ("https://h/a/b.png?X-Sig=1%2F2&c=d#part", "/a/b.png?X-Sig=1%2F2&c=d"),
        ("https://h/a%zz", "/a%25zz"),
        ("https://h/a|b{c}", "/a%7Cb%7Bc%7D"),
        ("https://h/a/../b", "/b"),
        ("https://h/a\r\nX: y", "/a%0D%0AX:%20y"),
    ],
)
def test_a_target_is_sent_as_urllib3_would(url: str, expected: str) -> None:
    assert target(url) == expected == (parse_url(url).request_uri or "/")


def test_the_fields_of_a_head() -> None:
    head = b"Content-Type: image/png\r\nX-A:1\r\nx-a: 2 \r\nX-Folded: a\r\n  b\r\nno colon\r\nX-L: \xfc\r\n\r\nbody"
    stream = io.BytesIO(head)
    assert _fields(stream) == {
        "content-type": "image/png",
        "x-a": "1, 2",
        "x-folded": "a b",
        "no colon": "",
        "x-l": "ü",
    }
    assert stream.read() == b"body"


@pytest.mark.parametrize("head", [b"X: " + b"a" * 70_000 + b"\r\n\r\n", b"X: a\r\n" * 200 + b"\r\n"])
def test_a_head_without_end_is_given_up(head: bytes) -> None:
    with pytest.raises(http.client.HTTPException):
        _fields(io.BytesIO(head))


@pytest.mark.parametrize(
    ("value", "length"), [("", None), ("7", 7), ("7, 7", 7), ("-1", None), ("x", None), ("\u0667", None), ("0", 0)]
)
def test_the_length_of_a_body(value: str, length: int | None) -> None:
    assert _length({"content-length": value}) == length


def test_two_lengths_are_none() -> None:
    with pytest.raises(http.client.HTTPException):
        _length({"content-length": "7, 8"})
