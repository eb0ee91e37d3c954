"""A server may answer before it has read the request."""

from __future__ import annotations

import socket

from flux_lora_cli.adapters.http.connections import _PlainConnection, exchange


def test_the_answer_to_a_body_that_was_not_read_counts() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")
    theirs.shutdown(socket.SHUT_RD)
    connection = _PlainConnection("host")
    connection.sock = ours
    exchange.begin(5.0, 5.0)
    response = connection.exchange("POST", b"POST / HTTP/1.1\r\n\r\n", b"x" * 10_000_000)
    assert (response.status, response.read()) == (413, b"{}")
    response.close()
    connection.close()
    theirs.close()
