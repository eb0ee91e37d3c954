"""What reaches the disk, and when: kill -9 keeps the page cache, so only the calls themselves tell."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.money.conftest import Money
from tests.support import truth
from tests.support.system_calls import OPTIONS, Call, read_log

_FLUSHES = ("fsync", "fdatasync")


@pytest.fixture
def strace() -> str:
    return require_tool("strace")


def first(calls: list[Call], *parts: bytes, path: str = "", after: int = -1) -> Call:
    """The first write that holds all parts."""
    for call in calls:
        if call.began > after and call.data and path in call.path and all(part in call.data for part in parts):
            return call
    raise AssertionError(f"never written: {parts}")


def flushed(calls: list[Call], written: Call) -> int:
    """Where the log first shows a write to be on disk."""
    for call in calls:
        if call.name in _FLUSHES and call.path == written.path and call.began > written.ended:
            return call.ended
    raise AssertionError(f"never flushed: {written.path}")


def post(calls: list[Call], prompt: bytes) -> Call:
    """The first byte of the submit that carries a prompt."""
    for call in calls:
        if call.data.startswith(b"POST /api/v2/wavespeed-ai/") and prompt in call.data:
            return call
    raise AssertionError(f"never submitted: {prompt!r}")


def in_state(calls: list[Call], key: str, state: str, *parts: bytes) -> Call:
    """The first write of a row in a state to the ledger's log."""
    for call in calls:
        if call.path.endswith("ledger.sqlite3-wal"):
            for position in (b"", *(bytes([n]) for n in range(2, 16))):
                if key.encode() + position + state.encode() in call.data and all(part in call.data for part in parts):
                    return call
    raise AssertionError(f"{key} was never {state}")


def test_every_step_is_on_disk_before_the_next_begins(money: Callable[..., Money], strace: str) -> None:
    one = money(3)
    log = one.place / "strace.log"
    done = one.run(before=[strace, *OPTIONS, "-o", str(log)])
    assert done.code == 0, done.err
    calls = read_log(log)
    entries = truth.manifest(one.folder)["jobs"]
    assert len(entries) == 3
    for entry in entries:
        order = []
        key, task = entry["fingerprint"], entry["task"]["id"].encode()
        # 1. The intent, before the first byte of the POST.
        order.append(flushed(calls, in_state(calls, key, "submitting")))
        order.append(post(calls, json.dumps(entry["request"]["input"]["prompt"]).encode()).began)
        # 2. The id, before the first look.
        order.append(flushed(calls, in_state(calls, key, "submitted", task)))
        order.append(first(calls, b"GET /api/v2/predictions/" + task, path="socket").began)
        # 3. The image: flushed, then named, the name flushed, and only then called saved.
        (output,) = entry["outputs"]
        final = one.folder / output["file"]
        named = next(c for c in calls if c.name.startswith("rename") and c.data.decode() == str(final))
        temporary = Path(named.path)
        pixels = first(calls, b"IEND", path=temporary.name)
        order.append(flushed(calls, pixels))
        # What it will be called is in the ledger before it is called so: a kill in between is mended by its hash.
        intended = first(calls, json.dumps(output["file"]).encode(), b'"writing"', path="ledger.sqlite3-wal")
        assert flushed(calls, intended) < named.began
        order.append(named.began)
        folder = next(c for c in calls if c.name in _FLUSHES and c.path == str(one.folder) and c.began > named.ended)
        order.append(folder.ended)
        saved = first(calls, b'"file":' + json.dumps(output["file"]).encode(), path="ledger.sqlite3-wal")
        order.append(saved.began)
        # Only then its path is printed.
        printed = first(calls, output["file"].encode(), path="pipe", after=saved.began)
        assert flushed(calls, saved) < printed.began
        assert order == sorted(order), entry["id"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("call", "stride"),
    [("fsync", 1), ("fdatasync", 1), ("rename", 1), ("renameat2", 1), ("pwrite64", 7), ("write", 4), ("sendto", 1)],
)
def test_a_kill_at_every_call(money: Callable[..., Money], strace: str, call: str, stride: int) -> None:
    # strace counts for each thread by itself, and the first to get there ends the process.
    number, untouched = 1, False
    while not untouched:
        one = money(3)
        inject = (
            "-f",
            "-qq",
            "-e",
            f"trace={call}",
            "-e",
            f"inject={call}:signal=KILL:when={number}",
            "-o",
            "/dev/null",
        )
        died = one.run(before=[strace, *inject])
        untouched = died.code == 0
        assert untouched or died.code in (-signal.SIGKILL, 128 + signal.SIGKILL), (number, died.err)
        assert one.charged <= 3
        one.finish()
        one.sandbox.stop()
        number += stride
    assert number > stride + 1
