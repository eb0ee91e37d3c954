"""Task ids from standard input: what ``submit`` prints, and what ``status`` prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

_CHUNK = 65_536


def read_ids() -> Iterator[str]:
    """One id a line, as the lines come in: a pipe's writer may still be at work.

    Behind a tab may stand what ``status`` says of the task. Empty lines are left out.
    """
    for line in _lines():
        task_id = line.decode("utf-8", "replace").partition("\t")[0].strip()
        if task_id:
            yield task_id


def _lines() -> Iterator[bytes]:
    """Lines past Python's buffer: a thread that waits inside it when the program ends makes the interpreter abort."""
    if sys.stdin is None:
        return
    number, rest = sys.stdin.fileno(), b""
    while chunk := os.read(number, _CHUNK):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    yield rest
