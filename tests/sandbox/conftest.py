"""A sandbox in the test's process, and the plainest of clients to talk to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import requests

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
    headers: Mapping[str, str]
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
        url = target if "://" in target else self.sandbox.base_url + target
        sent = {"Authorization": f"Bearer {key}"} if key is not None else {}
        body = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        answer = requests.request(method, url, data=body, headers={**sent, **headers}, timeout=20)
        return Got(answer.status_code, answer.headers, answer.content)

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
