"""A log of strace as a list of calls in the order in which they took effect."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

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
