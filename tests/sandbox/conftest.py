"""A sandbox in the test's process, and the plainest of clients to talk to it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from flux_lora_cli.sandbox import Sandbox

MODEL = "wavespeed-ai/flux-dev-lora"
DEV = f"/api/v2/{MODEL}"
DEV3 = f"/api/v3/{MODEL}"


class FakeClock:
    """A clock that tests move."""

    now = 1_800_000_000.0

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

    def __call__(self, method: str, target: str, value: Any = None, key: str | None = "k", **headers: str) -> Got:
        parts = urlsplit(target)
        connection = http.client.HTTPConnection(parts.netloc or self.sandbox.base_url[7:], timeout=20)
        sent = {"Authorization": f"Bearer {key}"} if key is not None else {}
        body = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        try:
            names = {name.replace("_", "-"): text for name, text in headers.items()}
            connection.request(method, parts._replace(scheme="", netloc="").geturl(), body, {**sent, **names})
            response = connection.getresponse()
            return Got(response.status, response.headers, response.read())
        finally:
            connection.close()

    def post(self, path: str, **value: Any) -> Any:
        return self("POST", path, value).data

    def submit(self, path: str = DEV, **inputs: Any) -> str:
        """The task's ID."""
        return str(self.post(path, **{"prompt": "a cat", "size": "512*512", **inputs})["id"])

    def result(self, task: str, version: str = "v2") -> dict[str, Any]:
        data: dict[str, Any] = self("GET", f"/api/{version}/predictions/{task}/result").data
        return data

    def image(self, path: str = DEV, **inputs: Any) -> bytes:
        task = self.submit(path, **inputs)
        return self("GET", self.result(task, path.split("/")[2])["outputs"][0], key=None).body

    def listed(self, **wanted: Any) -> list[str]:
        return [item["id"] for item in self.post("/api/v3/predictions", **wanted)["items"]]

    def bill(self, **wanted: Any) -> list[tuple[str, str, float]]:
        items = self.post("/api/v3/billings/search", **wanted)["items"]
        return [(item["prediction"]["uuid"], item["billing_type"], item["price"]) for item in items]


Make = Callable[..., Caller]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make() -> Iterator[Make]:
    """A caller of a new sandbox; tasks take no time, unless the options say otherwise."""
    with ExitStack() as stack:
        yield lambda **options: Caller(stack.enter_context(Sandbox(**{"service_time": 0, **options})))


@pytest.fixture
def call(make: Make) -> Caller:
    """A caller of a sandbox without peculiarities."""
    return make()
