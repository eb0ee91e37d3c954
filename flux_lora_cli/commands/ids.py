"""Standard input: prompts, and task IDs as ``submit`` and ``status`` print them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from flux_lora_cli.errors import NotFoundError, UsageError
from flux_lora_cli.presets.sources import read_stream
from flux_lora_cli.text import printable

_CHUNK = 65_536
#: Bytes of a list of IDs: a million of them.
_MAX_LIST = 64 << 20
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_NO_LINE = "The command before the | probably failed: see what it said."


def read_bytes() -> bytes:
    """All of standard input; empty where it is closed."""
    return sys.stdin.buffer.read() if sys.stdin is not None else b""


def read_lines(what: str) -> list[str]:
    """The lines of standard input that are not empty.

    Raises:
        NotFoundError: there is none. UsageError: it is not UTF-8.
    """
    lines = _split(_decoded(read_bytes(), "standard input"))
    if not lines:
        raise NotFoundError(f"no {what} came in on standard input", _NO_LINE)
    return lines


def _decoded(data: bytes, place: str) -> str:
    try:
        return _plain(data, place).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{place} is not UTF-8 (byte {error.start + 1})") from None


def _split(text: str) -> list[str]:
    lines = (line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    return [line for line in lines if line]


class TaskIds:
    """Task IDs from standard input, each as soon as its line is there; what follows a tab is left out.

    Attributes:
        seen: IDs so far.
        wrong: texts so far that are not IDs.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.wrong: list[str] = []
        self._ids = self._read()

    def wait_for_first(self) -> Iterator[str]:
        """All IDs, once the first is there. Raises NotFoundError where there is none."""
        first = next(self._ids, None)
        if first is None:
            self.complain()
            raise NotFoundError("no task ID came in on standard input", _NO_LINE)
        return self._chained(first)

    def complain(self) -> None:
        """Raise NotFoundError where something was not an ID."""
        if self.wrong:
            shown = ", ".join(f"'{printable(text[:60])}'" for text in self.wrong[:5])
            more = f" and {len(self.wrong) - 5:,} more" if len(self.wrong) > 5 else ""
            raise NotFoundError(f"not a task ID: {shown}{more}", "Task IDs are what submit prints, one per line.")

    def _chained(self, first: str) -> Iterator[str]:
        yield first
        yield from self._ids

    def _read(self) -> Iterator[str]:
        from flux_lora_cli.service.wire import is_task_id

        for line in _lines():
            text = line.decode("utf-8", "replace").partition("\t")[0].strip()
            if is_task_id(text):
                self.seen.append(text)
                yield text
            elif text:
                self.wrong.append(text)


def _lines() -> Iterator[bytes]:
    """Lines past Python's buffer: a thread that waits inside it when the program ends makes the interpreter abort."""
    if sys.stdin is None:
        return
    number, rest, begun = sys.stdin.fileno(), b"", False
    while chunk := os.read(number, _CHUNK):
        rest += chunk
        if not begun and len(rest) >= 3:
            rest, begun = _plain(rest), True
        *whole, rest = rest.split(b"\n")
        yield from whole
    yield _plain(rest) if not begun else rest


def _plain(data: bytes, place: str = "standard input") -> bytes:
    """Without a byte order mark. Raises UsageError for UTF-16."""
    if data.startswith(_UTF16) or b"\0" in data[:200]:
        raise UsageError(f"{place} is UTF-16, not UTF-8", "In PowerShell, write it with: Out-File -Encoding utf8")
    return data.removeprefix(b"\xef\xbb\xbf")


def read_named_lines(path: str, option: str) -> list[str]:
    """The lines of a file that are not empty.

    Raises:
        NotFoundError: it does not exist, or is empty. UsageError: it cannot be read as UTF-8.
    """
    try:
        data = read_stream(path, _MAX_LIST)
    except FileNotFoundError:
        raise NotFoundError(f"{option}: {printable(path)}: no such file") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{option}: {printable(path)}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > _MAX_LIST:
        raise UsageError(f"{option}: {printable(path)}: larger than {_MAX_LIST:,} bytes")
    lines = _split(_decoded(data, f"{option}: {printable(path)}"))
    if not lines:
        raise NotFoundError(f"{option}: {printable(path)} is empty")
    return lines
