"""What reaches the disk, and when: kill -9 keeps the page cache, so only the calls themselves tell."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import MakeStage, require_tool
from tests.money.conftest import BATCH
from tests.support import truth

CALLS = "pwrite64,write,fsync,fdatasync,sendto,rename,renameat,renameat2,link,linkat"
#: Everything as hex: no escapes to be guessed, and paths of descriptors.
OPTIONS = ("-f", "-qq", "-y", "-xx", "-s", "70000", "-e", f"trace={CALLS}")

_BEGIN = re.compile(r"^(\d+)\s+(\w+)\((.*)$")
_RESUMED = re.compile(r"^(\d+)\s+<\.\.\. (\w+) resumed>(.*)$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_PATH = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*|[^>]*)>")


@dataclass
class Call:
    """One call that succeeded.

    Attributes:
        began, ended: places in the log; between the two, other threads' calls happened.
        path: what its descriptor stands for, or the first name.
        data: what it wrote, or the second name.
    """

    name: str
    path: str
    data: bytes
    began: int
    ended: int = -1


def read_log(log: Path) -> list[Call]:
    """The calls, in the order of their beginnings; those that failed left out."""
    calls: list[Call] = []
    unfinished: dict[str, Call] = {}
    for place, line in enumerate(log.read_text(encoding="ascii").splitlines()):
        if match := _RESUMED.match(line):
            call = unfinished.pop(match[1], None)
            if call is not None and " = -1 " not in match[3]:
                call.ended = place
        elif match := _BEGIN.match(line):
            call = _call(match[2], match[3], place)
            calls.append(call)
            if "<unfinished ...>" in line:
                unfinished[match[1]] = call
            elif " = -1 " not in line:
                call.ended = place
    return [call for call in calls if call.ended >= 0]


def _call(name: str, rest: str, place: int) -> Call:
    strings = [_bytes(text) for text in _STRING.findall(rest)]
    if name.startswith(("rename", "link")):
        return Call(name, strings[0].decode(), strings[1], place)
    path = _PATH.match(rest)
    return Call(name, _bytes(path[1]).decode() if path else "", strings[0] if strings else b"", place)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", "")) if text.startswith("\\x") else text.encode()


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


def test_every_step_is_on_disk_before_the_next_begins(stages: MakeStage, strace: str) -> None:
    stage = stages(1)
    log = stage.folder / "strace.log"
    stage.run(BATCH, before=[strace, *OPTIONS, "-o", str(log)], code=0)
    calls = read_log(log)
    (job,) = truth.manifest(stage.out)["jobs"]
    task, (output,) = job["task"]["id"].encode(), job["outputs"]
    ledger, image = str(stage.out / "ledger.sqlite3"), output["file"].encode()
    order = []
    # 1. The intent (and the drawn seed), before the first byte of the POST.
    intent = first(calls, b"submitting", str(job["request"]["input"]["seed"]).encode(), path=ledger)
    order.append(flushed(calls, intent))
    order.append(first(calls, b"POST /api/v2/wavespeed-ai/").began)
    # 2. The ID, before the first poll.
    order.append(flushed(calls, first(calls, task, path=ledger)))
    order.append(first(calls, b"GET /api/v2/predictions/" + task).began)
    # 3. The image: flushed, its name recorded, named, the name flushed, and only then called saved.
    named = next(c for c in calls if c.name.startswith(("rename", "link")) and c.data.endswith(image))
    temporary = Path(named.path)
    order.append(flushed(calls, first(calls, b"IEND", path=temporary.name)))
    order.append(flushed(calls, first(calls, image, path=ledger)))
    order.append(named.began)
    # SQLite flushes the folder, too, with fdatasync; that is not promised.
    folder = next(c for c in calls if c.name == "fsync" and c.path == str(stage.out) and c.began > named.ended)
    order.append(folder.ended)
    saved = next(c for c in calls if ledger in c.path and re.search(rb'"saved_at": ?"2', c.data))
    order.append(saved.began)
    # 4. Only then its path is printed.
    order.append(first(calls, image, path="pipe", after=flushed(calls, saved)).began)
    assert order == sorted(order)


def killed_at(stages: MakeStage, strace: str, call: str, number: int) -> bool:
    """Kill a run of three jobs at its N-th call of a kind, finish it; whether the run got that far."""
    stage = stages(3)
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}", "-o", "/dev/null"]
    ended = stage.run(BATCH, before=[strace, "-f", "-qq", *inject])
    died = ended.code in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert (died or ended.code == 0) and stage.fake.charged <= 3, ended.err
    stage.finish(3)
    stage.close()
    return died


@pytest.mark.parametrize("number", [2, 6])
def test_a_kill_at_some_flushes(stages: MakeStage, strace: str, number: int) -> None:
    # strace counts for each thread by itself, and the first to get there ends the process.
    killed_at(stages, strace, "fsync", number)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("call", "stride"),
    [
        ("fsync", 1),
        ("fdatasync", 1),
        ("rename,renameat,renameat2,link,linkat", 1),
        ("unlink", 2),
        ("pwrite64", 7),
        ("write", 4),
        ("sendto", 1),
    ],
)
def test_a_kill_at_every_call(stages: MakeStage, strace: str, call: str, stride: int) -> None:
    number = 1
    while killed_at(stages, strace, call, number):
        number += stride
