"""A header is one line, whatever somebody put into it."""

from __future__ import annotations

import pytest

from flux_lora_cli.adapters.http.connections import _header_line


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
