"""What is wrong with a preset, and where."""

from __future__ import annotations

from dataclasses import dataclass

from ..text import printable

#: So many problems of one file are kept in full; a generated file with one fault a line has as many as lines.
MOST = 1_000


class FileRefused(Exception):
    """A file that a preset names cannot be used; the text says why, without the file's place in the preset."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. ``line`` and ``column`` count from 1; ``key`` is the path of the key (``jobs[2].size``)."""

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        return printable(f"{self.file}:{self.line}:{self.column}: {self.text}")

    @property
    def text(self) -> str:
        """The message with the key's path, without the place."""
        return f"{self.key}: {self.message}" if self.key else self.message


class Problems:
    """The problems found so far, each once, at most MOST for each file."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int, str], Problem] = {}
        self._count: dict[str, int] = {}

    def add(self, file: str, line: int, column: int, key: str, message: str) -> None:
        """Note a problem; the same at the same place is one problem, whatever led to it."""
        seen = self._count.get(file, 0)
        if seen > MOST:
            return
        place = (file, line, column, message)
        if place in self._found:
            return
        self._count[file] = seen + 1
        if seen == MOST:
            key, message = "", f"more than {MOST} problems; the rest is not shown"
        self._found[place] = Problem(file, line, column, key, message)

    def __bool__(self) -> bool:
        return bool(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def of(self, file: str) -> int:
        """How many problems a file has."""
        return self._count.get(file, 0)

    def full(self, file: str) -> bool:
        """Whether no more problems of a file are taken, and looking for them is of no use."""
        return self.of(file) > MOST

    def sorted(self) -> tuple[Problem, ...]:
        """All of them, by file in the order of reading, then by place."""
        order = {file: number for number, file in enumerate(self._count)}
        return tuple(sorted(self._found.values(), key=lambda p: (order[p.file], p.line, p.column)))
