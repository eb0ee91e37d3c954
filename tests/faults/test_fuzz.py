"""Whatever comes as an answer, a preset, a manifest or a ledger: no traceback, no hang, no second charge.

``FLUX_LORA_FUZZ_EXAMPLES`` sets how many of each are tried in the slow tests.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.fake import Exchange, png
from tests.support.stage import Stage

#: Examples of each kind: ten kinds of 2,000 make the 20,000 that are promised.
THOROUGH = int(os.environ.get("FLUX_LORA_FUZZ_EXAMPLES") or 2000)
QUICK = 3
#: Real seconds, and megabytes, for one command, on a busy machine.
LONGEST, MOST = 20.0, 300.0

TASK = {"id": "t1", "model": "wavespeed-ai/flux-dev-lora", "status": "completed", "error": "", "executionTime": 2000,
        "outputs": ["https://cdn.example/a.png"], "has_nsfw_contents": [False], "created_at": "2026-11-23T03:00:00Z",
        "urls": {"get": "https://api.example/api/v2/predictions/t1/result"}, "timings": {"inference": 2000},
        "inputs": {"prompt": "a cat 1", "seed": 1}}  # fmt: skip
BILL = {"uuid": "b1", "billing_type": "deduct", "price": 0.015, "created_at": "2026-11-23T03:00:00Z",
        "prediction": {"uuid": "t1", "model_uuid": "x", "status": "completed"}}  # fmt: skip
#: What the service would have said, by endpoint.
ENDPOINTS: dict[str, Any] = {
    "submit": {**TASK, "status": "created", "outputs": []},
    "look": TASK,
    "list": {"page": 1, "items": [TASK, TASK]},
    "price": {"price": 0.015, "discounted_price": "0.01", "currency": "USD"},
    "balance": {"balance": 12.5},
    "image": png("fuzz", 400),
    "bill": {"page": 1, "has_more": False, "items": [BILL, BILL]},
}
#: What a refusal looks like, by its status or by the code in its envelope: nothing is charged.
REFUSAL = re.compile(rb'^HTTP/1\.1 (3..|4(?!08)..)|"code": *"?(3..|4(?!08)..)\b')

_WORDS = ["t1", "completed", "../x", "\x1b[2J", "::error::x", "data:image/png;base64,", "http://[", "\ud800", "${x}",
          "{a|b}", "__w__", "<lora:a/b:1>", "inputs/x.png", "2026-11-23T03:00:00Z", "0.015", "1e400", "~"]  # fmt: skip
_NUMBERS = st.integers() | st.integers(-(10**45), 10**45) | st.floats()
_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | st.text(max_size=30) | st.sampled_from(_WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> Any:
    """A right document, with up to three of its parts replaced or left out."""
    tree = {"root": copy.deepcopy(document)}
    for _ in range(draw(st.integers(1, 3))):
        node: Any = tree
        key: Any = "root"
        while isinstance(node[key], (dict, list)) and node[key] and draw(st.integers(0, 4)):
            node = node[key]
            key = draw(st.sampled_from(sorted(node)) if isinstance(node, dict) else st.integers(0, len(node) - 1))
        if isinstance(node, dict) and key != "root" and draw(st.booleans()):
            del node[key]
        else:
            node[key] = draw(_JSON)
    return tree["root"]


def texts(document: Any) -> st.SearchStrategy[bytes]:
    return mutated(document).map(lambda value: json.dumps(value).encode("utf-8", "replace"))


def altered(data: bytes) -> st.SearchStrategy[bytes]:
    """Bytes that were cut, some of which are others, or quite other ones."""
    place = st.integers(0, len(data))
    spot = st.tuples(place, st.binary(min_size=1, max_size=16))
    changed = spot.map(lambda t: data[: t[0]] + t[1] + data[t[0] + len(t[1]) :])
    return changed | changed | place.map(lambda end: data[:end]) | st.binary(max_size=300)


@st.composite
def framed(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> bytes:
    """A body in an answer of HTTP, most often with the right length."""
    body = draw(bodies)
    status = draw(st.sampled_from([200] * 8 + [100, 201, 204, 206, 301, 400, 401, 402, 404, 418, 429, 500, 503, 999]))
    right = f"Content-Length: {len(body)}"
    length = draw(st.sampled_from([right] * 6 + ["", "Content-Length: 7", "Content-Length: x"]))
    headers = ["", "", "Transfer-Encoding: chunked", "Content-Encoding: gzip", "Retry-After: -1", "Retry-After: 1e400"]
    plain = st.text(st.characters(max_codepoint=255, blacklist_characters="\r\n"), max_size=20)
    lines = [f"HTTP/1.1 {status} X", *filter(None, (length, draw(st.sampled_from(headers) | plain)))]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def answers(endpoint: str) -> st.SearchStrategy[bytes]:
    """Anything that may come as the answer, closer to the right one more often."""
    right = ENDPOINTS[endpoint]
    right = altered(right) if endpoint == "image" else texts({"code": 200, "message": "success", "data": right})
    return framed(right) | framed(right) | st.binary(max_size=120)


def fuzz(strategy: st.SearchStrategy[Any], examples: int, play: Callable[[Any], None]) -> None:
    """Play so many examples; a failing one is shrunk only where there is time for it."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate,) if examples > QUICK else (Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def played(example: Any) -> None:
        play(example)

    played()


def play_answer(stage: Stage, endpoint: str, answer: bytes) -> None:
    """One job with this answer; again with right ones."""
    stage.fake.mend()
    for path in (stage.out, stage.state):
        shutil.rmtree(path, ignore_errors=True)
    before = stage.fake.charged

    def lie(exchange: Exchange) -> None:
        # A service that refuses does not charge; everything else may be the answer to a task that was accepted.
        if endpoint == "submit" and not REFUSAL.search(answer):
            exchange.carried()
        exchange.send(answer)

    stage.fake.on(endpoint, lie)
    if endpoint == "list":
        stage.wrong("submit:503-after")
    if endpoint == "bill":
        stage.wrong("submit:failed:1")
        stage.run("batch jobs.jsonl -o out", timeout=LONGEST)
        stage.run("audit out", timeout=LONGEST, most_megabytes=MOST)
    stage.run("batch jobs.jsonl -o out --timeout 1h --max-cost 1", timeout=LONGEST, most_megabytes=MOST)
    assert stage.fake.charged - before <= 1
    stage.fake.mend()
    stage.run("batch jobs.jsonl -o out --timeout 1h", timeout=LONGEST, most_megabytes=MOST)
    assert stage.fake.charged - before <= 1
    if (stage.out / "manifest.json").exists():
        stage.check_folder()


def play_preset(stage: Stage, data: bytes) -> None:
    (stage.folder / "p.yaml").write_bytes(data)
    ended = stage.run("preset check p.yaml", timeout=LONGEST, most_megabytes=MOST)
    assert ended.code in (0, 10), ended.err


def play_folder(stage: Stage, done: Path, name: str, data: bytes) -> None:
    """A file of the folder is another: nothing is bought again that is shown as bought by what is left."""
    shutil.rmtree(stage.out, ignore_errors=True)
    shutil.copytree(done, stage.out)
    (stage.out / name).write_bytes(data)
    charged = stage.fake.charged
    for command in ("verify out", "gallery out", "batch jobs.jsonl -o out", "replay out cat1 --dry-run"):
        ended = stage.run(command, timeout=LONGEST, most_megabytes=MOST)
        assert ended.code in (0, 2, 3, 6, 7, 8), ended.err
    assert stage.fake.charged == charged


PRESET = {
    "version": 1,
    "name": "p",
    "defaults": {"size": "512*512", "seed": 1},
    "stacks": {"a": [{"path": "owner/name", "scale": 0.9}]},
    "vars": {"x": ["one", "two"]},
    "matrix": {"stack": ["a"], "seed": [1, 2]},
    "jobs": [{"id": "j", "prompt": "${x} {a|b} <lora:owner/b:1>", "repeat": 2, "sample": 3, "skip": False}],
}
_YAML_PIECES = st.sampled_from(
    ["a: ", "- ", "\n", "  ", "&x ", "*x", "<<: ", "{", "}", "[", "]", "|", ">", "'", '"', "#", "!!set ", "? ", "jobs:",
     "prompt: ", "version: 1\n", "${a}", "{a|b}", "__w__", "\t", "\ufeff", "...", "---", "%YAML 1.2\n", "0x", "1e9"]
)  # fmt: skip


def presets() -> st.SearchStrategy[bytes]:
    pieces = st.lists(_YAML_PIECES | st.text(max_size=6), max_size=40).map("".join)
    return texts(PRESET) | texts(PRESET) | pieces.map(lambda text: text.encode("utf-8", "replace"))


@st.composite
def ledgers(draw: st.DrawFn, path: Path, scratch: Path) -> bytes:
    """A ledger whose rows say something else, or that was damaged."""
    if draw(st.booleans()):
        return draw(altered(path.read_bytes()))
    shutil.copy(path, scratch)
    with sqlite3.connect(scratch) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        table = draw(st.sampled_from(tables))
        columns = sorted(row[1] for row in db.execute(f"PRAGMA table_info({table})"))
        value = draw(st.none() | st.integers(-(2**62), 2**62) | st.text(max_size=20) | st.binary(max_size=20))
        try:
            db.execute(f"UPDATE {table} SET {draw(st.sampled_from(columns))} = ?", (value,))
        except (sqlite3.Error, UnicodeEncodeError):
            db.execute(f"DELETE FROM {table}")
    db.close()
    return scratch.read_bytes()


def fuzz_kind(stage: Stage, kind: str, examples: int) -> None:
    if kind in ENDPOINTS:
        return fuzz(answers(kind), examples, lambda answer: play_answer(stage, kind, answer))
    if kind == "preset":
        return fuzz(presets(), examples, lambda data: play_preset(stage, data))
    done = stage.folder / "done"  # of one job done and one failed
    stage.jobs(2)
    stage.wrong("submit:failed:nth=2")
    stage.run("batch jobs.jsonl -o done")
    stage.fake.mend()
    path = done / ("manifest.json" if kind == "manifest" else "ledger.sqlite3")
    if kind == "manifest":
        files = texts(json.loads(path.read_text())) | altered(path.read_bytes())
    else:
        files = ledgers(path, stage.folder / "scratch")
    return fuzz(files, examples, lambda data: play_folder(stage, done, path.name, data))


KINDS = [*ENDPOINTS, "preset", "manifest", "ledger"]
SLOW = [pytest.mark.slow, pytest.mark.timeout(7200)]


@pytest.mark.parametrize("examples", [QUICK, pytest.param(THOROUGH, marks=SLOW)])
@pytest.mark.parametrize("kind", KINDS)
def test_anything_is_survived(stage: Stage, kind: str, examples: int) -> None:
    stage.scale = 400.0  # even an outage of ten minutes ends within seconds
    fuzz_kind(stage, kind, examples)
