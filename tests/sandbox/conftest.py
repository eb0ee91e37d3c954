"""A sandbox in the test's process, and the plainest of clients to talk to it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from flux_lora_cli.sandbox.server import Sandbox, SandboxOptions

DEV = "/api/v2/wavespeed-ai/flux-dev-lora"
DEV3 = "/api/v3/wavespeed-ai/flux-dev-lora"


class FakeClock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Got:
    """An answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        assert self.status == 200, self.body
        return self.json["data"]


class Caller:
    """Calls one sandbox, each time on a new connection."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def __call__(
        self, method: str, target: str, value: Any = None, key: str | None = "k", headers: dict[str, str] | None = None
    ) -> Got:
        parts = urlsplit(target)
        where = parts.netloc or urlsplit(self.sandbox.base_url).netloc
        connection = http.client.HTTPConnection(where, timeout=20)
        sent = {"Authorization": f"Bearer {key}"} if key is not None else {}
        body = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        try:
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            connection.request(method, path, body, {**sent, **(headers or {})})
            response = connection.getresponse()
            return Got(response.status, response.headers, response.read())
        finally:
            connection.close()

    def submit(self, path: str = DEV, **inputs: Any) -> dict[str, Any]:
        data: dict[str, Any] = self("POST", path, {"prompt": "a cat", "size": "512*512", **inputs}).data
        return data

    def look(self, task: str, version: str = "v2") -> dict[str, Any]:
        data: dict[str, Any] = self("GET", f"/api/{version}/predictions/{task}/result").data
        return data

    def image(self, path: str = DEV, number: int = 0, **inputs: Any) -> bytes:
        task = self.submit(path, **inputs)
        got = self("GET", self.look(task["id"], path.split("/")[2])["outputs"][number], key=None)
        assert got.status == 200
        return got.body


Make = Callable[..., Caller]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make() -> Iterator[Make]:
    """A caller of a new sandbox; tasks take no time and pictures are plain, unless the options say otherwise."""
    started: list[Sandbox] = []

    def build(clock: FakeClock | None = None, **options: Any) -> Caller:
        given = {"service_time": (0.0, 0.0), "pictures": "plain", **options}
        sandbox = Sandbox(SandboxOptions(**given), **({"clock": clock} if clock else {}))
        sandbox.start()
        started.append(sandbox)
        return Caller(sandbox)

    yield build
    for sandbox in started:
        sandbox.stop()


@pytest.fixture
def call(make: Make) -> Caller:
    """A caller of a sandbox without peculiarities."""
    return make()
