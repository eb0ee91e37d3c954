"""A server that does to the socket exactly what a test says, and a client of it, made together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from flux_lora_cli.service.client import Client, connect
from tests.support.fake import Exchange, Fake, Fault
from tests.support.forks import KEY

Start = Callable[[Fault], tuple[Fake, Client]]


@pytest.fixture
def log() -> list[str]:
    """What the client of ``start`` logged."""
    return []


@pytest.fixture
def start(log: list[str]) -> Iterator[Start]:
    """A maker of servers that follow a script, each with a client."""
    with ExitStack() as stack:

        def start(script: Fault) -> tuple[Fake, Client]:
            server = stack.enter_context(Fake(always=script))
            return server, connect(key=KEY, base_url=server.base_url, env={}, log=log.append)

        yield start


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def says(data: bytes) -> Fault:
    """Send these bytes, and keep the connection."""
    return lambda x: x.connection.sendall(data)


def says_and_ends(data: bytes) -> Fault:
    return lambda x: x.send(data)


def resets(data: bytes = b"") -> Fault:
    return lambda x: (x.send(data), x.reset())


def stalls(data: bytes = b"") -> Fault:
    """Send these bytes, then nothing until the other side goes away."""
    return lambda x: (x.send(data), x.hold())


def sends_for_ever(head: bytes, piece: bytes = b"x" * 1_000_000, pause: float = 0.0) -> Fault:
    """Send this head, then a piece over and over."""

    def script(x: Exchange) -> None:
        x.send(head)
        while True:
            x.send(piece)
            time.sleep(pause)

    return script
