"""Values with their places, and what is said about them: problems (refused) and notes (sent all the same)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from flux_lora_cli.presets.job import Where
from flux_lora_cli.text import mask_secrets, printable

#: Problems of one file that are kept; a generated file with one fault per line has as many as lines.
MAX_PROBLEMS = 1_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A file that was read. Paths are absolute, links resolved, "" where there is none."""

    name: str  # as messages show it
    folder: str = ""  # where the names in it begin
    root: str = ""  # the folder of the preset on the command line, which confines what this file may name
    real: str = ""
    sha256: str = ""  # of its bytes, lower-case hex


@dataclass(slots=True, eq=False)
class Node:
    """A value and its place."""

    value: Any  # str, int, float, bool, None; a list of nodes; or a dict of nodes
    source: Source
    line: int
    column: int
    text: str = ""  # a scalar as it was written, without quotes
    style: str = ""  # how: "" plain YAML, ``'`` ``"`` ``|`` ``>``; "cell" (CSV: the column decides the type), "line"
    mark: str = ""  # what that did to it: "comment" (a YAML comment ended it), "space" (``\_`` in double quotes)
    key_at: tuple[int, int] = (1, 1)  # line and column of its key, in a mapping

    @property
    def where(self) -> Where:
        return Where(self.source.name, self.line, self.column)

    @property
    def entries(self) -> dict[str, Node]:
        """The entries of a mapping; none of anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The items of a list; anything else is a list of itself."""
        return self.value if isinstance(self.value, list) else [self]

    def get(self, key: str) -> Node | None:
        return self.entries.get(key)

    def leaves(self) -> Iterator[Node]:
        """The scalars in it, in order."""
        for node in self.entries.values() or self.items:
            yield from [self] if node is self else node.leaves()

    def key(self, key: str) -> Node:
        """The place of a key of this mapping, as a node."""
        node = self.entries[key]
        return Node(key, node.source, *node.key_at, key)

    def plain(self) -> Any:
        """The bare value."""
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return self.value

    def holding(self, value: Any) -> Node:
        """Bare values as nodes, all in this place."""
        text = str(value)
        if isinstance(value, list):
            value = [self.holding(item) for item in value]
        if isinstance(value, dict):
            value = {name: self.holding(item) for name, item in value.items()}
        return Node(value, self.source, self.line, self.column, text, "json", key_at=(self.line, self.column))

    def escape(self, mark: str) -> str:
        """How a literal ``mark`` is written in this scalar."""
        return ("\\\\" if self.style == '"' else "\\") + mark


def repeated(values: Iterable[T]) -> T | None:
    """The first value that is there a second time."""
    seen: set[T] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a preset is refused; or, of a ``kind`` in ``notes.KINDS``, what is valid and probably not meant.

    Line and column count from 1; ``key`` is a path (``jobs[2].size``), or "".
    """

    file: str
    line: int
    column: int
    key: str
    message: str
    kind: str = ""

    def __str__(self) -> str:
        return printable(f"{self.file}:{self.line}:{self.column}: {'note: ' if self.kind else ''}{self.text}")

    @property
    def text(self) -> str:
        """The message with the key's path, without the place."""
        return f"{self.key}: {self.message}" if self.key else self.message


class Problems:
    """The problems and notes of all files, each once, at most MAX_PROBLEMS of each for one file."""

    def __init__(self) -> None:
        # By file, and whether they are notes.
        self._found: dict[tuple[str, bool], dict[tuple[int, int, str], Finding]] = {}

    def add(self, node: Node, key: str, message: str) -> None:
        """Refuse what stands at a node."""
        self.at(node.where, key, message)

    def at(self, where: Where, key: str, message: str, kind: str = "") -> None:
        """Refuse what stands at a place; with a ``kind`` only say it."""
        found = self._found.setdefault((where.file, bool(kind)), {})
        if len(found) == MAX_PROBLEMS:
            key, message = "", f"more than {MAX_PROBLEMS} {'notes' if kind else 'problems'}; the rest is not shown"
        if len(found) <= MAX_PROBLEMS:
            finding = Finding(where.file, where.line or 1, where.column or 1, key, mask_secrets(message), kind)
            found.setdefault((finding.line, finding.column, kind + finding.message), finding)

    def note(self, where: Where, kind: str, message: str) -> None:
        """Say what is sent as it is and probably not meant."""
        self.at(where, "", message, kind)

    def __len__(self) -> int:
        return len(self.sorted())

    def full(self, file: str) -> bool:
        """Whether no more problems of a file are taken, and looking for them is of no use."""
        return len(self._found.get((file, False), ())) > MAX_PROBLEMS

    def sorted(self) -> tuple[Finding, ...]:
        """The problems, by file in the order of reading, then by place."""
        return self._in_order(notes=False)

    def notes(self) -> tuple[Finding, ...]:
        """The notes, in the same order."""
        return self._in_order(notes=True)

    def _in_order(self, *, notes: bool) -> tuple[Finding, ...]:
        files = [found.values() for (_, are_notes), found in self._found.items() if are_notes is notes]
        return tuple(each for found in files for each in sorted(found, key=lambda each: (each.line, each.column)))
