"""Whatever comes as an answer: no traceback, no hang, no second charge.

The whole run is in simulated time, so that back-off costs nothing; the sockets and the client are real.
``FLUX_LORA_FUZZ_EXAMPLES`` sets how many answers are tried for each endpoint.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stage import Front, bytes_of

from flux_lora_cli.adapters.client import Client
from flux_lora_cli.adapters.http import Transport
from flux_lora_cli.domain.wire import Api
from flux_lora_cli.errors import ExitCode, FluxLoraError
from flux_lora_cli.sandbox.pictures.plain import plain_png
from flux_lora_cli.sandbox.server import Sandbox, SandboxOptions
from flux_lora_cli.workflow.context import Settings
from tests.support import truth
from tests.support.simulation import Sim, job

EXAMPLES = int(os.environ.get("FLUX_LORA_FUZZ_EXAMPLES") or 12)
THOROUGH = max(EXAMPLES, 200)
#: Real seconds for one run, on a busy machine.
LONGEST = 30.0

TASK = {
    "id": "t1",
    "model": "wavespeed-ai/flux-dev-lora",
    "outputs": ["https://cdn.example/a.png"],
    "urls": {"get": "https://api.example/api/v2/predictions/t1/result"},
    "has_nsfw_contents": [False],
    "status": "completed",
    "created_at": "2026-11-23T03:00:00Z",
    "error": "",
    "executionTime": 2000,
    "timings": {"inference": 2000},
    "inputs": {"prompt": "a cat 1", "seed": 1},
}
#: What the service would have said, and a part of the request line, by endpoint.
ENDPOINTS: dict[str, tuple[str, Any]] = {
    "submit": ("POST /api/v2/wavespeed", {**TASK, "status": "created", "outputs": []}),
    "look": ("GET /api/v2/predictions", TASK),
    "list": ("POST /api/v3/predictions", {"page": 1, "items": [TASK, TASK]}),
    "price": ("POST /api/v3/model", {"price": 0.015, "discounted_price": "0.01", "currency": "USD"}),
    "balance": ("GET /api/v3/balance", {"balance": 12.5}),
    "image": ("GET /outputs", None),
}

#: What a refusal looks like, by its status or by the code in its envelope.
REFUSAL = re.compile(rb'^HTTP/1\.1 (3..|4(?!08)..)|"code": *"?(3..|4(?!08)..)\b')

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**45), 10**45)
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(
        ["t1", "completed", "../x", "\x1b[2J", "::error::x", "data:image/png;base64,", "http://[", "\ud800"]
    )
)
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


@st.composite
def mutated(draw: st.DrawFn, answer: Any) -> bytes:
    """The right answer, with up to three of its parts replaced, left out or doubled."""
    tree = {"root": {"code": 200, "message": "success", "data": copy.deepcopy(answer)}}
    for _ in range(draw(st.integers(1, 3))):
        node: Any = tree
        key: Any = "root"
        while isinstance(node[key], (dict, list)) and node[key] and draw(st.integers(0, 3)):
            node = node[key]
            key = draw(st.sampled_from(sorted(node)) if isinstance(node, dict) else st.integers(0, len(node) - 1))
        if isinstance(node, dict) and key != "root" and draw(st.booleans()):
            del node[key]
        else:
            node[key] = draw(_JSON)
    return json.dumps(tree["root"]).encode("utf-8", "replace")


@st.composite
def framed(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> bytes:
    """A body in an answer of HTTP, most often with the right length."""
    body = draw(bodies)
    status = draw(st.sampled_from([200] * 8 + [100, 201, 204, 206, 301, 400, 401, 402, 404, 418, 429, 500, 503, 999]))
    length = draw(
        st.sampled_from([f"Content-Length: {len(body)}"] * 6 + ["", "Content-Length: 7", "Content-Length: x"])
    )
    extra = draw(
        st.sampled_from(
            ["", "", "Transfer-Encoding: chunked", "Content-Encoding: gzip", "Retry-After: -1", "Retry-After: 1e400"]
        )
        | st.text(st.characters(max_codepoint=255, blacklist_characters="\r\n"), max_size=20)
    )
    lines = [f"HTTP/1.1 {status} X", *filter(None, (length, extra))]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def images() -> st.SearchStrategy[bytes]:
    """An image that was cut, or in which some bytes are others."""
    whole = plain_png({"size": "512*512"}, 1, 1, 0)
    place = st.integers(0, len(whole))
    changed = st.tuples(place, st.binary(max_size=8)).map(lambda t: whole[: t[0]] + t[1] + whole[t[0] + len(t[1]) :])
    return st.just(whole) | place.map(lambda end: whole[:end]) | changed | st.binary(max_size=200)


def answers(endpoint: str) -> st.SearchStrategy[bytes]:
    """Anything that may come as the answer, closer to the right one more often."""
    right = ENDPOINTS[endpoint][1]
    bodies = (
        images() if right is None else mutated(right) | _JSON.map(lambda v: json.dumps(v).encode("utf-8", "replace"))
    )
    return framed(bodies) | framed(bodies) | framed(st.binary(max_size=60)) | st.binary(max_size=120)


class Bench:
    """A service behind a front that lies, and as many folders as there are examples."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._now = time.time()
        self.sandbox = Sandbox(SandboxOptions(service_time=(0.0, 0.0), pictures="plain"), clock=lambda: self._now)
        self.front = Front(self.sandbox.start(), {}, carried=True)

    def close(self) -> None:
        self.front.close()
        self.sandbox.stop()

    def charges(self) -> int:
        return int(self.sandbox.stats()["charged_tasks"])

    def sim(self) -> Sim:
        sim = Sim(self._folder / f"out-{next(self._numbers)}")
        self._now = sim.clock.now().timestamp()
        transport = Transport(self.front.url, "sk-canary-key", sim.clock)
        sim.service = Client(transport, Api(self.front.url))  # type: ignore[assignment]
        return sim

    def play(self, endpoint: str, answer: bytes) -> None:
        """One job with this answer; again with right ones."""
        part, _ = ENDPOINTS[endpoint]
        wrong = {part: bytes_of(answer)}
        if endpoint == "list":
            wrong[ENDPOINTS["submit"][0]] = bytes_of(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n")
        before, sim, started = self.charges(), self.sim(), time.monotonic()
        # A service that refuses does not charge; everything else may be the answer to a task that was accepted.
        self.front.carried = not REFUSAL.search(answer)
        self.front.wrong = wrong
        self._once(sim)
        assert self.charges() - before <= 1
        self.front.wrong = {}
        self._once(sim)
        assert self.charges() - before <= 1
        assert time.monotonic() - started < LONGEST
        shutil.rmtree(sim.folder, ignore_errors=True)

    def _once(self, sim: Sim) -> None:
        settings = Settings(timeout=900.0)
        try:
            result = sim.run([job(1)], settings=settings)
        except FluxLoraError as error:
            assert error.exit_code is not ExitCode.INTERNAL
            assert error.code != "internal"
        else:
            assert result.outcome.exit_code is not ExitCode.INTERNAL
            for record in result.records:
                assert "internal error" not in (record.error or "")
                assert not any("internal error" in (output.error or "") for output in record.outputs)
        if (sim.folder / "manifest.json").exists():
            truth.manifest(sim.folder)
        sim.service.close()  # type: ignore[attr-defined]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    shared = Path("/dev/shm")
    folder = shared / f"flux-lora-fuzz-{os.getpid()}" if shared.is_dir() else tmp_path
    folder.mkdir(exist_ok=True)
    bench = Bench(folder)
    yield bench
    bench.close()
    if folder != tmp_path:
        shutil.rmtree(folder, ignore_errors=True)


def fuzz(bench: Bench, endpoint: str, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.nested_given],
    )
    @given(answers(endpoint))
    def play(answer: bytes) -> None:
        bench.play(endpoint, answer)

    play()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_any_answer_is_survived(endpoint: str, bench: Bench) -> None:
    fuzz(bench, endpoint, EXAMPLES)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_many_answers_are_survived(endpoint: str, bench: Bench) -> None:
    fuzz(bench, endpoint, THOROUGH)
