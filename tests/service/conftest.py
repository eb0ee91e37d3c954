"""A raw server and a client of it, made together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flux_lora_cli.service.client import Client, connect
from tests.conftest import KEY
from tests.service.raw_server import RawServer, Script

Start = Callable[[Script], tuple[RawServer, Client]]


@pytest.fixture
def log() -> list[str]:
    """What the client of ``start`` logged."""
    return []


@pytest.fixture
def start(log: list[str]) -> Iterator[Start]:
    """A maker of servers that follow a script, each with a client."""
    servers: list[RawServer] = []

    def start(script: Script) -> tuple[RawServer, Client]:
        servers.append(RawServer(script))
        return servers[-1], connect(key=KEY, base_url=servers[-1].url, env={}, log=log.append)

    yield start
    for server in servers:
        server.__exit__()
